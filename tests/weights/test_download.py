"""Faults of networks, servers and disks: what each comes to, and that no part is ever taken for the whole."""

from __future__ import annotations

import fcntl
import hashlib
import io
import os
import re
import resource
import socket
import struct
import termios
import threading
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
import torch
from safetensors.torch import save

from sktransfer.weights import download as downloads
from sktransfer.weights.download import FetchError, fetch
from tests.helpers.misbehaving_server import (
    breaks_off,
    claims_length,
    drips,
    hangs_up,
    in_chunks,
    is_silent,
    says,
    serving,
    stalls,
    well,
    without_ranges,
)

CONTENT = save({"a": torch.arange(3000.0)})
SHA256 = hashlib.sha256(CONTENT).hexdigest()
N = len(CONTENT)
pytest_plugins = ["tests.helpers.download_fixtures"]
pytestmark = pytest.mark.usefixtures("no_proxies")


@pytest.fixture(autouse=True)
def short_times(monkeypatch):
    monkeypatch.setattr(downloads, "PAUSE_SECONDS", 0.01)
    sleep = time.sleep
    monkeypatch.setattr(time, "sleep", lambda seconds: sleep(min(seconds, 0.05)))


@pytest.fixture
def stalls_are_short(monkeypatch):
    """Notice a stall soon: for tests of stalls alone, for a busy machine may take as long for anything."""
    monkeypatch.setattr(downloads, "STALL_SECONDS", 0.7)


@pytest.fixture
def server():
    with serving(CONTENT) as made:
        yield made


@pytest.fixture
def path(tmp_path):
    return tmp_path / "folder" / "w.safetensors"


def names(path):
    """Return what lies in the folder beside the file and its lock."""
    return sorted(one.name for one in path.parent.iterdir() if one.name not in (path.name, f"{path.name}.lock"))


def kinds(behaviours):
    """Return the names of behaviours, for the tests' own."""
    return " ".join(one.__qualname__.partition(".")[0] for one in behaviours)


def refused(server, path, **options):
    """Fetch, make sure that it fails and that no file is there, and return why."""
    with pytest.raises(FetchError) as caught:
        fetch(f"{server.url}/w", path, **options)
    assert not path.exists()
    return str(caught.value)


@pytest.mark.parametrize("sha256", [SHA256, SHA256[:8].upper(), ""])
def test_fetch_downloads_once_and_leaves_nothing_else(sha256, server, path):
    told = []
    for _ in range(2):
        fetch(f"{server.url}/w", path, sha256=sha256, notify=told.append)
    assert path.read_bytes() == CONTENT
    assert [one.name for one in path.parent.iterdir()] == [path.name]
    assert server.asked == [("GET", "/w", None)]
    assert told == ["fetching"]


# What passes: the file comes, all the same.


@pytest.mark.parametrize(
    ("script", "ranges"),
    [
        ([breaks_off(100)], [None, "bytes=100-"]),
        ([breaks_off(100), breaks_off(50), breaks_off(0)], [None, "bytes=100-", "bytes=150-", "bytes=150-"]),
        ([breaks_off(0)], [None, None]),
        ([hangs_up, hangs_up], [None, None, None]),
        ([breaks_off(100), without_ranges], [None, "bytes=100-"]),
        ([breaks_off(100), without_ranges, well], [None, "bytes=100-"]),
        ([says(429)], [None, None]),
        ([says(429, Retry_After="0")], [None, None]),
        ([says(500), says(502), says(503), says(504)], [None] * 5),
        ([breaks_off(100), says(503)], [None, "bytes=100-", "bytes=100-"]),
        ([drips(0, 5000)], [None]),
        ([in_chunks(CONTENT[:100], CONTENT[100:])], [None]),
        ([in_chunks(CONTENT[:100], end=False)], [None, "bytes=100-"]),
        ([says(302, Location="/other")], [None, None]),
        ([says(206, CONTENT)], [None, None]),
    ],
    ids=lambda value: kinds(value) if callable(value[0]) else "",
)
@pytest.mark.parametrize("sha256", [SHA256, ""], ids=["hash", "no hash"])
def test_fetch_overcomes_temporary_faults(script, ranges, sha256, server, path):
    server.script.extend(script)
    fetch(f"{server.url}/w", path, sha256=sha256)
    assert path.read_bytes() == CONTENT
    assert server.ranges == ranges
    assert names(path) == []


def test_fetch_waits_as_long_as_retry_after_says(server, path, monkeypatch):
    waits = []
    monkeypatch.setattr(time, "sleep", waits.append)
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=40), usegmt=True)
    server.script.extend([says(429, Retry_After="7"), says(503, Retry_After=soon), says(503, Retry_After="soon")])
    fetch(f"{server.url}/w", path)
    assert waits[0] == 7
    assert 30 < waits[1] <= 40
    assert waits[2] == 0.04  # the third pause of its own: they double


def test_fetch_accepts_a_slow_server(server, path, stalls_are_short):
    server.content = save({"a": torch.zeros(2)})
    server.script.append(drips(0.1, 10))  # longer than the limit in all
    fetch(f"{server.url}/w", path)
    assert path.read_bytes() == server.content
    assert len(server.asked) == 1


# What does not pass: the error says why, and no file is there.


@pytest.mark.parametrize(
    ("script", "says_what", "n_asked"),
    [
        ([hangs_up] * 5, r"the connection broke .*, after 5 attempts", 5),
        ([breaks_off(0)] * 5, rf"closed after 0 of {N} bytes, after 5 attempts$", 5),
        ([breaks_off(1)] * 5, rf"closed after 5 of {N} bytes, after 5 attempts; 5 bytes are kept", 5),
        ([says(404)], r"^the server answered 404 Not Found$", 1),
        ([says(401)], "answered 401", 1),
        ([says(403)], "answered 403", 1),
        ([says(410)], "answered 410", 1),
        ([says(429)] * 5, "answered 429 Too Many Requests, after 5 attempts", 5),
        ([says(500)] * 5, "answered 500 .*, after 5 attempts", 5),
        ([says(503, Retry_After="3600")], "answered 503 .*, and asks to wait 3600 seconds; try again then", 1),
        ([says(302, Location="/w")] * 20, "redirect", None),
        ([says(200, b"<html>log in</html>", Content_Type="text/html; charset=utf-8")], "sent a web page", 1),
        ([says(200, CONTENT, Content_Encoding="gzip")], "encoded as gzip", 1),
        ([says(200)], "an empty file", 1),
        ([claims_length(None)], "does not say how long the file is", 1),
        ([claims_length(N + 10)] * 5, rf"closed after {N} of {N + 10} bytes", None),
        ([claims_length(N - 10)], "not a complete safetensors file", 1),
        ([says(200, b"x" * 500)], "not a complete safetensors file", 1),
    ],
    ids=lambda value: kinds(value[:2]) if isinstance(value, list) else None,
)
def test_fetch_reports_permanent_faults(script, says_what, n_asked, server, path):
    server.script.extend(script)
    assert re.search(says_what, refused(server, path))
    assert n_asked in (None, len(server.asked))


@pytest.mark.parametrize(
    ("script", "says_what"),
    [
        ([is_silent], r"accepted the request, but did not answer for 0\.7 seconds"),
        ([stalls(0)], r"^no byte arrived for 0\.7 seconds$"),
        ([stalls(100), stalls(0)], r"^no byte arrived for 0\.7 seconds; 100 bytes are kept"),
    ],
    ids=["no answer", "no byte", "no byte twice"],
)
def test_fetch_reports_a_stall_within_the_time_limit(script, says_what, server, path, stalls_are_short):
    server.script.extend(script)
    start = time.monotonic()
    assert re.search(says_what, refused(server, path))
    assert time.monotonic() - start < 0.7 * len(script) + 5
    assert len(server.asked) == len(script)


def test_fetch_tries_another_connection_after_a_stall(server, path, stalls_are_short):
    server.script.append(stalls(100))
    fetch(f"{server.url}/w", path)
    assert path.read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=100-"]


@pytest.mark.parametrize("behaviour", [says(200, CONTENT[:-1] + b"x"), claims_length(N - 10), says(200, b"x" * 500)])
def test_fetch_refuses_a_file_with_another_sha256(behaviour, server, path):
    server.script.append(behaviour)
    message = refused(server, path, sha256=SHA256)
    assert "the downloaded file is not the expected one: its sha256 is " in message
    assert f"expected {SHA256}" in message
    assert names(path) == []


def test_fetch_accepts_an_unknown_length_with_a_known_sha256(server, path):
    server.script.append(claims_length(None))
    fetch(f"{server.url}/w", path, sha256=SHA256)
    assert path.read_bytes() == CONTENT


def test_fetch_reports_a_refused_connection_at_once(path):
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    start = time.monotonic()
    with pytest.raises(FetchError, match=r"127\.0\.0\.1:\d+ cannot be reached .*refused"):
        fetch(f"http://127.0.0.1:{port}/w", path)
    assert time.monotonic() - start < 1


def test_fetch_reports_an_unknown_host_at_once(path):
    with pytest.raises(FetchError, match=r"nowhere\.invalid cannot be reached"):
        fetch("http://nowhere.invalid/w", path)


def test_fetch_reports_a_reply_that_is_not_http(path):
    with socket.create_server(("127.0.0.1", 0)) as one:

        def answer():
            connection, _ = one.accept()
            connection.recv(4096)
            connection.sendall(b"what?\r\n\r\n")
            connection.close()

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(FetchError, match="reply is not valid HTTP"):
            fetch(f"http://127.0.0.1:{one.getsockname()[1]}/w", path)
        thread.join()


# What was fetched before.


@pytest.fixture
def begun(server, path):
    """Leave the first 100 bytes of an earlier download."""
    server.script.extend([breaks_off(100), says(404)])
    message = refused(server, path)
    assert "100 bytes are kept, and the next attempt resumes from there" in message
    assert len(names(path)) == 1
    server.asked.clear()
    server.sent = 0
    return server


@pytest.mark.parametrize("sha256", [SHA256, ""], ids=["hash", "no hash"])
def test_fetch_resumes_a_partial_download(sha256, begun, path):
    fetch(f"{begun.url}/w", path, sha256=sha256)
    assert path.read_bytes() == CONTENT
    assert begun.ranges == ["bytes=100-"]
    assert begun.sent == N - 100
    assert names(path) == []


def test_fetch_restarts_when_the_server_does_not_support_ranges(begun, path):
    begun.usual = without_ranges
    fetch(f"{begun.url}/w", path)
    assert path.read_bytes() == CONTENT


def test_fetch_restarts_when_the_file_has_changed(server, tmp_path):
    """Its name does not tell how to check it: the server's word alone shows that the parts belong to two files."""
    server.script.extend([breaks_off(100), says(404)])
    path = tmp_path / "w.pth"
    refused(server, path)
    server.content, server.etag = bytes(range(200)), "another"
    fetch(f"{server.url}/w", path)
    assert path.read_bytes() == server.content
    assert server.ranges == [None, "bytes=100-", "bytes=100-", None]


def test_fetch_restarts_when_the_file_has_become_shorter(begun, path):
    begun.content, begun.etag = save({"b": torch.zeros(1)})[:90], "another"
    fetch(f"{begun.url}/w", path, sha256=hashlib.sha256(begun.content).hexdigest())
    assert path.read_bytes() == begun.content
    assert begun.ranges == ["bytes=100-", None]


def test_fetch_does_not_append_a_reply_for_another_range(server, tmp_path):
    server.script.extend([breaks_off(100), says(206, CONTENT[50:], Content_Range=f"bytes 50-{N - 1}/{N}")])
    path = tmp_path / "w.pth"
    fetch(f"{server.url}/w", path)
    assert path.read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=100-", None]


def test_fetch_leaves_parts_of_other_files_and_other_files_alone(server, tmp_path):
    path = tmp_path / "w[1].safetensors"  # with a glob pattern in its name
    others = [tmp_path / f"w1.safetensors.{'a' * 16}.part", tmp_path / f"{path.name}.notes.part"]
    for other in others:
        other.write_text("mine")
    fetch(f"{server.url}/w", path)
    assert server.ranges == [None]
    assert [other.read_text() for other in others] == ["mine", "mine"]


def test_fetch_deletes_parts_of_older_contents(begun, path):
    for mark in ("0" * 16, "f" * 16):
        (path.parent / f"{path.name}.{mark}.part").write_bytes(b"older")
    fetch(f"{begun.url}/w", path)
    assert path.read_bytes() == CONTENT
    assert names(path) == []


def test_fetch_does_not_trust_a_damaged_part(begun, path):
    (part,) = (path.parent / name for name in names(path))
    part.write_bytes(b"\0" * 100)  # as after a power cut
    fetch(f"{begun.url}/w", path, sha256=SHA256)
    assert path.read_bytes() == CONTENT
    assert begun.ranges == ["bytes=100-", None]


@pytest.mark.parametrize("etag", [None, 'W/"weak"'])
def test_fetch_keeps_no_part_without_a_strong_validator(etag, server, path, monkeypatch):
    server.etag = None
    headers = {} if etag is None else {"ETag": etag}
    server.script.extend([breaks_off(100, **headers), says(404)])
    refused(server, path)
    assert names(path) == []
    assert server.ranges == [None, None]


def test_fetch_resumes_by_last_modified_without_an_etag(server, path):
    server.etag = None
    dated = {"Last_Modified": "Mon, 02 Mar 2026 10:00:00 GMT"}
    server.script.extend([breaks_off(100, **dated), breaks_off(N, **dated)])
    fetch(f"{server.url}/w", path)
    assert server.ranges == [None, "bytes=100-"]
    assert path.read_bytes() == CONTENT


# Disks.


def test_fetch_checks_the_free_space_before_writing(server, path):
    server.script.append(claims_length(10**18))
    assert "bytes of free space, and the rest of the file takes 1000000000000000000" in refused(server, path)
    assert server.script == type(server.script)()
    assert names(path) == []


def test_fetch_reports_a_full_disk_and_deletes_the_part(server, path):
    """A limit on the size of files stands for the full disk: both refuse a write half-way through."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, limits[1]))
    try:
        message = refused(server, path, sha256=SHA256)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert f"{path.parent} is full (File too large); free some space" in message
    assert names(path) == []
    fetch(f"{server.url}/w", path, sha256=SHA256)
    assert path.read_bytes() == CONTENT


def test_append_writes_the_whole_chunk_despite_short_writes(path):
    class Reluctant(io.RawIOBase):
        taken = b""

        def write(self, content):
            self.taken += bytes(content[:1])
            return 1

    file = Reluctant()
    downloads._append(file, b"abcdef")
    assert file.taken == b"abcdef"


def test_fetch_reports_a_folder_that_cannot_be_written_to(server, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError, match="file"):
        fetch(f"{server.url}/w", tmp_path / "file" / "w")
    assert server.asked == []


def test_fetch_shows_no_progress_bar_without_a_terminal(server, path, capsys):
    fetch(f"{server.url}/w", path)
    assert capsys.readouterr().err == ""


def test_fetch_shows_a_progress_bar_in_a_terminal(server, path, monkeypatch):
    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    with os.fdopen(theirs, "w") as terminal:
        monkeypatch.setattr("sys.stderr", terminal)
        fetch(f"{server.url}/w", path)
    assert b"w.safetensors" in os.read(ours, 10_000)
    os.close(ours)
