"""New processes that are forked: their state at the beginning, their results and failures."""

from __future__ import annotations

import json.tool  # noqa: F401  loaded in one of the tests
import os
import signal
import sys

import pytest

from sktransfer.testing import processes
from sktransfer.testing.processes import call
from tests.helpers.elsewhere import run_code

pytestmark = pytest.mark.process


def test_call_returns_the_output_and_the_status(tmp_path):
    code = "import os, sys; print(os.getcwd(), sys.argv[1:], os.environ['A']); sys.exit('more')"
    done = run_code(code, "one", environment={"A": "b"}, folder=tmp_path, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (1, f"{tmp_path} ['one'] b\n", "more\n")
    assert "A" not in os.environ


def test_call_begins_without_state():
    modules, text = run_code("import sys; print(*sys.modules); print(hash('a'))").stdout.splitlines()
    assert not [name for name in modules.split() if name.startswith("sktransfer")]
    assert int(text) != hash("a") or "PYTHONHASHSEED" in os.environ


@pytest.fixture
def light(monkeypatch):
    """Begin with a forking process that loads little."""
    monkeypatch.setattr(processes, "_servers", {})
    monkeypatch.setattr(processes, "LIBRARIES", ("json.tool", "wave"))
    monkeypatch.delitem(sys.modules, "wave", raising=False)
    yield
    processes._end()


def test_call_loads_no_library_that_this_process_has_not_loaded(light):
    done = run_code("import sys; print('json.tool' in sys.modules, 'wave' in sys.modules, 'torch' in sys.modules)")
    assert done.stdout == "True False False\n"


def test_call_shows_the_traceback_of_an_error():
    done = call("sktransfer.testing.processes:nothing")
    assert done.returncode == 1
    assert b"AttributeError: module 'sktransfer.testing.processes' has no attribute 'nothing'" in done.stderr


def test_call_returns_the_signal_that_ended_the_process():
    done = run_code(f"import os; os.kill(os.getpid(), {int(signal.SIGKILL)})", check=False)
    assert done.returncode == -signal.SIGKILL
    assert run_code("print('another')").stdout == "another\n"


def test_call_starts_the_forking_process_anew_if_it_has_ended(light):
    run_code("")
    server = processes._servers[os.getpid()]
    server.kill()
    server.wait()
    assert run_code("print('anew')").stdout == "anew\n"


def test_call_starts_a_process_for_each_call_where_none_can_be_forked(monkeypatch, light):
    monkeypatch.delattr(os, "fork")
    done = run_code("import sys; print('json.tool' in sys.modules); sys.exit(3)", check=False)
    assert (done.returncode, done.stdout, processes._servers) == (3, "False\n", {})
