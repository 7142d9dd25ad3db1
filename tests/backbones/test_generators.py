from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn

from sktransfer import load_backbone
from sktransfer.backbones import loading
from sktransfer.backbones.generators import fork_rng, private_draws


def drawn():
    made = nn.TransformerEncoderLayer(8, 2)  # by most functions of nn.init
    nn.init.trunc_normal_(made.linear1.weight)
    tensors = [*made.parameters(), torch.rand(2), torch.randn(3), torch.randperm(5), torch.randint(4, 9, (3,))]
    return [one.detach().clone() for one in tensors]


def enter_and_leave():
    with fork_rng():
        pass


def draw_privately():
    with private_draws(3):
        return drawn()


def in_thread(function):
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(function).result(timeout=60)


def test_private_draws_do_not_wait_for_fork_rng_nor_change_what_it_draws():
    alone = draw_privately()
    with fork_rng():
        before = torch.get_rng_state()
        meanwhile = in_thread(draw_privately)
        assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(one, other) for one, other in zip(alone, meanwhile, strict=True))


def test_private_draws_leave_tensors_without_memory_alone():
    def make():
        with private_draws(), torch.device("meta"):
            return nn.Linear(2, 3).weight, torch.randn(2)

    with fork_rng():
        assert [one.device.type for one in in_thread(make)] == ["meta", "meta"]


def test_fork_rng_keeps_other_threads_out_until_its_end():
    entered = threading.Event()

    def enter():
        with fork_rng():
            entered.set()

    with ThreadPoolExecutor(1) as pool:
        with fork_rng(), fork_rng():  # again in the same thread
            waiting = pool.submit(enter)
            assert not entered.wait(0.05)
        waiting.result(timeout=60)


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
@pytest.mark.parametrize("context", [fork_rng, private_draws])
def test_fork_rng_and_private_draws_end_with_an_error(context, error):
    def fail():
        torch.rand(1)
        raise error

    before = torch.get_rng_state()
    with pytest.raises(error), context():
        fail()
    assert torch.equal(before, torch.get_rng_state())
    in_thread(enter_and_leave)  # waits without end if the lock is still held


@pytest.mark.process
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_fork_rng_does_not_wait_in_a_forked_process():
    entered, leave = threading.Event(), threading.Event()

    def hold():
        with fork_rng():
            entered.set()
            leave.wait(60)

    with ThreadPoolExecutor(1) as pool:
        held = pool.submit(hold)
        assert entered.wait(60)
        child = os.fork()
        if child == 0:
            threading.Timer(30, os._exit, [1]).start()  # if it waits
            with fork_rng():
                os._exit(0)
        leave.set()
        held.result(timeout=60)
    assert os.waitpid(child, 0)[1] == 0


@pytest.mark.parametrize("name", ["tiny/cnn", "tiny/bert"])
def test_load_backbone_with_weights_does_not_wait_for_fork_rng(name, monkeypatch):
    expected = load_backbone(name).fingerprint()
    monkeypatch.setattr(loading, "_loaded", {})
    with fork_rng():
        before = torch.get_rng_state()
        assert in_thread(lambda: load_backbone(name).fingerprint()) == expected
        assert torch.equal(before, torch.get_rng_state())
