"""Downloads of the same file by several processes and threads, and interrupted downloads."""

from __future__ import annotations

import hashlib
import signal
import subprocess
import sys
import threading
import time

import pytest

from sktransfer.weights import download as downloads
from sktransfer.weights.download import fetch
from tests.helpers.misbehaving_server import drips, serving, stalls, well

CONTENT = bytes(range(256)) * 40
SHA256 = hashlib.sha256(CONTENT).hexdigest()
pytest_plugins = ["tests.helpers.download_fixtures"]
pytestmark = pytest.mark.usefixtures("no_proxies")
PROGRAM = """
import signal
import sys
from pathlib import Path
from sktransfer.weights import download as downloads
signal.signal(signal.SIGINT, signal.default_int_handler)  # may be ignored in the background
downloads.fetch(sys.argv[1], Path(sys.argv[2]), sha256=sys.argv[3], notify=lambda what: print(what, flush=True))
"""


def process(server, path, sha256=SHA256):
    command = [sys.executable, "-c", PROGRAM, f"{server.url}/w", str(path), sha256]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for(condition, seconds=30.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.fixture
def slow():
    with serving(CONTENT, drips(0.05, 512)) as server:  # a second in all
        yield server


@pytest.fixture
def path(tmp_path):
    return tmp_path / "w.bin"


def left(path):
    return sorted(one.name for one in path.parent.iterdir() if not one.name.endswith(".lock"))


@pytest.mark.process
@pytest.mark.parametrize("sha256", [SHA256, ""], ids=["hash", "no hash"])
def test_fetch_of_two_processes_downloads_once(sha256, slow, path):
    both = [process(slow, path, sha256) for _ in range(2)]
    said = [one.communicate() for one in both]
    assert [one.returncode for one in both] == [0, 0], said
    assert path.read_bytes() == CONTENT
    assert len(slow.asked) == 1
    assert slow.sent == len(CONTENT)
    assert left(path) == [path.name]


def test_fetch_notifies_of_waiting(slow, path):
    slow.usual = drips(0.1, 512)
    told = []
    first = threading.Thread(target=fetch, args=(f"{slow.url}/w", path))
    first.start()
    wait_for(lambda: slow.asked)
    fetch(f"{slow.url}/w", path, notify=told.append)
    first.join()
    assert told == ["waiting"]
    assert len(slow.asked) == 1


def test_fetch_of_several_threads_downloads_once(slow, path):
    errors = []

    def ask():
        try:
            fetch(f"{slow.url}/w", path, sha256=SHA256)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=ask) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert len(slow.asked) == 1


@pytest.mark.process
def test_fetch_resumes_after_ctrl_c(path):
    with serving(CONTENT, stalls(3000)) as server:
        one = process(server, path)
        wait_for(
            lambda: server.sent == 3000 and any(part.stat().st_size == 3000 for part in path.parent.glob("*.part"))
        )
        one.send_signal(signal.SIGINT)
        _, said = one.communicate()
        assert "KeyboardInterrupt" in said
        assert not path.exists()
        server.usual = well
        fetch(f"{server.url}/w", path, sha256=SHA256)
        assert server.ranges == [None, "bytes=3000-"]
    assert path.read_bytes() == CONTENT
    assert left(path) == [path.name]


@pytest.mark.process
def test_fetch_resumes_the_download_of_a_killed_process(path):
    with serving(CONTENT, stalls(3000)) as server:
        one = process(server, path)
        wait_for(
            lambda: server.sent == 3000 and any(part.stat().st_size == 3000 for part in path.parent.glob("*.part"))
        )
        one.kill()
        one.communicate()
        server.usual = well
        fetch(f"{server.url}/w", path, sha256=SHA256)
        assert server.ranges == [None, "bytes=3000-"]
    assert path.read_bytes() == CONTENT


@pytest.mark.process
def test_fetch_continues_when_the_downloading_process_fails(path):
    with serving(CONTENT, well) as server:
        server.script.append(stalls(0))
        other = process(server, path)
        wait_for(lambda: server.asked)
        other.kill()
        other.communicate()
        fetch(f"{server.url}/w", path, sha256=SHA256)
    assert path.read_bytes() == CONTENT


def test_fetch_works_on_a_file_system_without_locks(path, monkeypatch):
    class Unsupported(downloads.FileLock):
        def _acquire(self):
            raise NotImplementedError("FileSystem does not appear to support flock; use SoftFileLock instead")

    monkeypatch.setattr(downloads, "FileLock", Unsupported)
    with serving(CONTENT) as server:
        fetch(f"{server.url}/w", path, sha256=SHA256)
    assert path.read_bytes() == CONTENT
