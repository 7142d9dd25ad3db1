"""New processes for backbone checks: results, refused connections and failures."""

from __future__ import annotations

import pickle
import socket

import numpy as np
import pytest

from sktransfer.testing.backbone_process import imported_by_listing, in_fresh_process, no_network, run_job
from tests.helpers.mutants import image_twin


@pytest.mark.process
def test_in_fresh_process_returns_fingerprints_and_stages():
    backbone = image_twin()
    result = in_fresh_process(pickle.dumps(backbone), ["random"], [np.zeros((16, 16, 3), np.float32)])
    assert result["asked"] == []
    assert result["fingerprints"] == [backbone.fingerprint()]
    assert [stage[0].shape for stage in result["stages"]] == [(6, 6, 6), (6, 6, 6), (5, 3, 3)]


@pytest.mark.process
def test_in_fresh_process_reports_a_process_that_dies():
    class Dies:
        def __reduce__(self):
            return __import__("os")._exit, (3,)

    result = in_fresh_process("tiny/cnn", ["random"], [Dies()])
    assert "the process ended with 3" in result["error"]


def test_run_job_writes_its_result_to_a_file(tmp_path):
    job, answer = tmp_path / "job", tmp_path / "answer"
    job.write_bytes(pickle.dumps(("tiny/cnn", ["random", "pretrained"], [np.zeros((16, 16, 3), np.float32)])))
    run_job(str(job), str(answer))
    result = pickle.loads(answer.read_bytes())
    assert len(set(result["fingerprints"])) == 2
    assert "error" not in result


def test_run_job_writes_the_traceback_of_an_error(tmp_path):
    job, answer = tmp_path / "job", tmp_path / "answer"
    job.write_bytes(pickle.dumps(("nobody/has this", ["random"], [])))
    run_job(str(job), str(answer))
    assert "BackboneNotFoundError" in pickle.loads(answer.read_bytes())["error"]


def test_no_network_refuses_connections_and_lists_addresses():
    originals = socket.socket.connect, socket.getaddrinfo
    with no_network() as asked:
        with pytest.raises(OSError, match="no network in this check"):
            socket.create_connection(("example.invalid", 80))
        with socket.socket() as one, pytest.raises(OSError, match="no network"):
            one.connect(("127.0.0.1", 9))
    assert asked == ["example.invalid", "('127.0.0.1', 9)"]
    assert (socket.socket.connect, socket.getaddrinfo) == originals


@pytest.mark.process
def test_imported_by_listing_of_an_unknown_backbone_is_a_failure():
    with pytest.raises(AssertionError, match="cannot be found in a new process"):
        imported_by_listing("nobody/has this")


@pytest.mark.process
def test_imported_by_listing_of_a_built_in_backbone_is_empty():
    assert imported_by_listing("tiny/cnn") == []
