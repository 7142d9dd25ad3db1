from __future__ import annotations

import torch

from sktransfer.backbones.generators import fork_rng
from sktransfer.engine.rng import derive_seed, seed_torch


def test_derive_seed_differs_by_each_number_and_its_position():
    seeds = [derive_seed(a, b, c) for a in range(4) for b in range(4) for c in range(4)]
    assert len(set(seeds)) == 64
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_seed_torch_makes_draws_reproducible():
    with torch.random.fork_rng(devices=[]):
        drawn = []
        for seed in (1, 2**62, 1):
            seed_torch(seed, torch.device("cpu"))
            drawn.append(torch.rand(3))
    assert torch.equal(drawn[0], drawn[2])
    assert not torch.equal(drawn[0], drawn[1])


def test_seed_torch_and_fork_rng_reach_the_generator_of_mps(monkeypatch):
    generator, mps = torch.Generator(), torch.device("mps", 0)
    monkeypatch.setattr(torch._C, "_has_mps", True)
    monkeypatch.setattr(torch.mps, "_get_default_mps_generator", lambda: generator)
    with fork_rng():
        seed_torch(1, mps)
        first = torch.rand(3, generator=generator)
        with fork_rng(mps):
            torch.rand(3, generator=generator)
        second = torch.rand(3, generator=generator)
        seed_torch(1, mps)
        again = torch.rand(3, generator=generator)
        assert torch.equal(again, first)
        assert torch.equal(torch.rand(3, generator=generator), second)
