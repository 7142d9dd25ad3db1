"""A fresh process: what it finds, what it refuses, and what it says of a failure."""

from __future__ import annotations

import pickle
import socket

import numpy as np
import pytest

from sktransfer.testing.backbone_process import imported_by_listing, in_fresh_process, no_network, run_job
from tests.helpers.mutants import image_twin


@pytest.mark.process
def test_a_backbone_gives_its_values_in_a_fresh_process():
    backbone = image_twin()
    found = in_fresh_process(pickle.dumps(backbone), ["random"], [np.zeros((16, 16, 3), np.float32)])
    assert found["asked"] == []
    assert found["fingerprints"] == [backbone.fingerprint()]
    assert [stage[0].shape for stage in found["stages"]] == [(6, 6, 6), (6, 6, 6), (5, 3, 3)]


@pytest.mark.process
def test_a_process_that_fails_shows_its_traceback():
    found = in_fresh_process("nobody/has this", ["random"], [])
    assert "BackboneNotFoundError" in found["error"]


@pytest.mark.process
def test_a_process_that_dies_says_so():
    class Dies:
        def __reduce__(self):
            return __import__("os")._exit, (3,)

    found = in_fresh_process("tiny/cnn", ["random"], [Dies()])
    assert "the process ended with 3" in found["error"]


def test_a_job_is_done_with_its_answer_in_a_file(tmp_path):
    job, answer = tmp_path / "job", tmp_path / "answer"
    job.write_bytes(pickle.dumps(("tiny/cnn", ["random", "pretrained"], [np.zeros((16, 16, 3), np.float32)])))
    run_job(str(job), str(answer))
    found = pickle.loads(answer.read_bytes())
    assert len(set(found["fingerprints"])) == 2
    assert "error" not in found


def test_the_network_is_refused_and_what_was_asked_for_is_told():
    kept = socket.socket.connect, socket.getaddrinfo
    with no_network() as asked:
        with pytest.raises(OSError, match="no network in this check"):
            socket.create_connection(("example.invalid", 80))
        with socket.socket() as one, pytest.raises(OSError, match="no network"):
            one.connect(("127.0.0.1", 9))
    assert asked == ["example.invalid", "('127.0.0.1', 9)"]
    assert (socket.socket.connect, socket.getaddrinfo) == kept


@pytest.mark.process
def test_listing_what_is_not_there_is_a_failure():
    with pytest.raises(AssertionError, match="cannot be found in a fresh process"):
        imported_by_listing("nobody/has this")


@pytest.mark.process
def test_listing_the_houses_own_imports_nothing_heavy():
    assert imported_by_listing("tiny/cnn") == []
