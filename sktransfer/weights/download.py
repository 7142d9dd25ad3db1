"""Download a file by HTTP: resumable, verified, atomic."""

from __future__ import annotations

import email.utils
import errno
import hashlib
import http.client
import os
import re
import shutil
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from io import RawIOBase
from pathlib import Path
from typing import IO, Any, TypeVar
from urllib.parse import urlsplit

from filelock import FileLock, Timeout

__all__ = ["FetchError", "fetch", "opener", "within"]

CONNECT_SECONDS = 10.0  # limit for name look-up, every address, proxy tunnel and TLS together
STALL_SECONDS = 30.0  # longest wait for a byte
ATTEMPTS = 5
PAUSE_SECONDS = 1.0  # pause before the second attempt, doubled before each further one
LONGEST_PAUSE_SECONDS = 60.0  # longest pause accepted from a server
WAIT_NOTICE_SECONDS = 1.0  # wait for another process before `notify("waiting")`
_CHUNK = 1 << 20
_TRANSIENT = (408, 429, 500, 502, 503, 504)  # HTTP status codes worth another attempt
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NO_VALIDATOR = "0" * 16  # in the name of a partial file if the server sends no validator, so it cannot be resumed

_T = TypeVar("_T")


class FetchError(OSError):
    """Error of a download, with the reason as its message."""


class _TransientError(FetchError):
    """Failure worth another attempt after `pause` seconds, or after the default pause if None."""

    def __init__(self, message: str, pause: float | None = None) -> None:
        super().__init__(message)
        self.pause = pause


def fetch(url: str, path: Path, *, sha256: str = "", notify: Callable[[str], None] = lambda _: None) -> None:
    """Download a file, unless another process or thread does so first.

    Parameters
    ----------
    url : str
        `http://` or `https://`. Proxies are taken from the environment.
    path : Path
        Target. It exists only once the file is complete and verified.
    sha256 : str, default=""
        Hash of the file in hex, or its first digits. "" checks only the length that the server declares.
    notify : callable, default=nothing
        Called with "fetching" before the first request, and with "waiting" if another process is downloading the file.

    Raises
    ------
    OSError
        If the file cannot be downloaded or written. A partial download is kept if it can be resumed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with _locked(path, notify):
        if path.is_file():  # downloaded by another process in the meantime
            return
        notify("fetching")
        try:
            _download(url, path, sha256).replace(path)
            _drop_parts(path)
        except FetchError as error:
            part = _resumable(path)
            if part is None:
                raise
            raise FetchError(
                f"{error}; {_size(part)} bytes are kept, and the next attempt resumes from there"
            ) from error
        finally:
            kept = _resumable(path)
            for part in _parts(path):
                if part != kept:
                    part.unlink(missing_ok=True)


@contextmanager
def _locked(path: Path, notify: Callable[[str], None]) -> Iterator[None]:
    """Hold the lock of a file. A file system without locks goes without."""
    lock = FileLock(f"{path}.lock")
    with suppress(NotImplementedError):
        try:
            lock.acquire(timeout=WAIT_NOTICE_SECONDS)
        except Timeout:
            notify("waiting")
            lock.acquire()
    try:
        yield
    finally:
        lock.release()
        if path.is_file():  # waiting processes will find the file and no longer need the lock
            with suppress(OSError):
                Path(lock.lock_file).unlink()


def _part(path: Path, validator: str | None) -> Path:
    """Return the partial file for a content, identified by the server's ETag or date."""
    digest = hashlib.sha256(validator.encode()).hexdigest()[:16] if validator else _NO_VALIDATOR
    return path.with_name(f"{path.name}.{digest}.part")


def _parts(path: Path) -> list[Path]:
    pattern = re.compile(re.escape(path.name) + r"\.[0-9a-f]{16}\.part")
    return sorted(file for file in path.parent.iterdir() if pattern.fullmatch(file.name))


def _size(part: Path) -> int:
    return part.stat().st_size


def _resumable(path: Path) -> Path | None:
    """Return the partial file to resume, or None."""
    known = (part for part in _parts(path) if part != _part(path, None))
    return next((part for part in known if _size(part) > 0), None)


def _drop_parts(path: Path) -> None:
    for part in _parts(path):
        part.unlink(missing_ok=True)


def _download(url: str, path: Path, sha256: str) -> Path:
    """Return the complete, verified partial file, after several attempts if necessary."""
    for attempt in range(ATTEMPTS):
        resumed = _resumable(path) is not None
        try:
            part = _receive(url, path, has_hash=bool(sha256))
            _verify(part, path, sha256, resumed)
            return part
        except _TransientError as error:
            if attempt == ATTEMPTS - 1:
                raise FetchError(f"{error}, after {ATTEMPTS} attempts") from error
            time.sleep(PAUSE_SECONDS * 2**attempt if error.pause is None else error.pause)
    raise AssertionError("unreachable")


def _receive(url: str, path: Path, has_hash: bool) -> Path:
    """Request the missing bytes, append them to the partial file and return it."""
    from sktransfer._version import __version__

    old = _resumable(path)
    have = 0 if old is None else _size(old)
    headers = {"User-Agent": f"sktransfer/{__version__}", "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    with _open(urllib.request.Request(url, headers=headers), path) as response:
        _check_headers(response)
        part = _part(path, _validator(response))
        if response.status != 206:  # first request, or a server without ranges
            _drop_parts(path)
            have = 0
        elif part != old or not response.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            raise _changed(path)
        length = response.headers.get("Content-Length", "")
        missing = int(length) if length.isdecimal() else None
        if missing is None and not has_hash and response.headers.get("Transfer-Encoding", "").lower() != "chunked":
            raise FetchError("the server does not say how long the file is, so a truncated file would go unnoticed")
        _write(response, part, path, have, missing)
    return part


def _changed(path: Path) -> _TransientError:
    """Return the error for a partial download of an older content, after dropping it."""
    _drop_parts(path)
    return _TransientError("the file has changed on the server during the download", 0)


def _open(request: urllib.request.Request, path: Path) -> http.client.HTTPResponse:
    try:
        response: http.client.HTTPResponse = opener().open(request, timeout=STALL_SECONDS)
    except urllib.error.HTTPError as error:
        with error:  # it holds the connection open
            if error.code == 416:  # the partial file is longer than the file on the server
                raise _changed(path) from None
            raise _refusal(error) from None
    except urllib.error.URLError as error:
        if isinstance(error.reason, (ConnectionResetError, BrokenPipeError)):
            raise _TransientError(f"the connection broke ({error.reason})") from error
        raise FetchError(f"{request.host} cannot be reached ({error.reason})") from error
    except TimeoutError as error:
        raise FetchError(
            f"the server accepted the request, but did not answer for {STALL_SECONDS:g} seconds"
        ) from error
    except (ConnectionResetError, BrokenPipeError) as error:
        raise _TransientError(f"the connection broke ({error})") from error
    except http.client.HTTPException as error:
        raise FetchError(f"the server's reply is not valid HTTP ({type(error).__name__}: {error})") from error
    return response


def _refusal(error: urllib.error.HTTPError) -> FetchError:
    message = f"the server answered {error.code} {error.reason}"
    if error.code not in _TRANSIENT:
        return FetchError(message)
    pause = _retry_after(error.headers.get("Retry-After"))
    if pause is not None and pause > LONGEST_PAUSE_SECONDS:
        return FetchError(f"{message}, and asks to wait {pause:.0f} seconds; try again then")
    return _TransientError(message, pause)


def _retry_after(text: str | None) -> float | None:
    """Return the seconds to wait from a Retry-After header, which holds seconds or a date."""
    if text is None:
        return None
    if text.strip().isdecimal():
        return float(text)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    except ValueError:
        return None


def _validator(response: http.client.HTTPResponse) -> str | None:
    """Return the header that changes with every byte of the file, or None."""
    etag = response.headers.get("ETag")
    return etag if etag and not etag.startswith("W/") else response.headers.get("Last-Modified")


def _check_headers(response: http.client.HTTPResponse) -> None:
    if response.headers.get_content_type() == "text/html" and "Content-Type" in response.headers:
        raise FetchError("the server sent a web page instead of the file: does the network require a login?")
    encoding = response.headers.get("Content-Encoding", "identity")
    if encoding.lower() != "identity":
        raise FetchError(f"the server sent the file encoded as {encoding}, despite Accept-Encoding: identity")


def _write(response: http.client.HTTPResponse, part: Path, path: Path, have: int, missing: int | None) -> None:
    from tqdm import tqdm

    free = shutil.disk_usage(path.parent).free
    if missing is not None and missing > free:
        raise FetchError(f"{path.parent} has {free} bytes of free space, and the rest of the file takes {missing}")
    total = None if missing is None else have + missing
    bar_options = {"desc": path.name, "unit": "B", "unit_scale": True, "file": sys.stderr}
    with part.open("ab", buffering=0) as file, tqdm(total=total, initial=have, disable=None, **bar_options) as bar:
        received = 0
        while chunk := _next_chunk(response, received):
            try:
                _append(file, chunk)
            except OSError as error:
                if error.errno in _FULL:  # a kept part would leave no room for others
                    part.unlink()
                    raise FetchError(f"{path.parent} is full ({os.strerror(error.errno)}); free some space") from error
                raise
            received += len(chunk)
            bar.update(len(chunk))
        os.fsync(file.fileno())
    if missing is not None and received < missing:
        raise _TransientError(f"the connection was closed after {have + received} of {total} bytes")
    if have + received == 0:
        raise FetchError("the server sent an empty file")
    if _size(part) != have + received:  # two processes on a file system without locks
        raise _changed(path)


def _next_chunk(response: http.client.HTTPResponse, received: int) -> bytes:
    """Return the bytes that have arrived, or none at the end."""
    try:
        return response.read1(_CHUNK)
    except TimeoutError as error:
        message = f"no byte arrived for {STALL_SECONDS:g} seconds"
        # A connection lost to a change of network reports nothing. A new connection may work.
        raise (_TransientError(message, 0) if received else FetchError(message)) from error
    except (OSError, http.client.HTTPException) as error:
        raise _TransientError(f"the connection broke ({type(error).__name__}: {error})") from error


def _append(file: RawIOBase, chunk: bytes) -> None:
    rest = memoryview(chunk)
    while rest:  # an unbuffered file may take less than all
        rest = rest[file.write(rest) :]


def _verify(part: Path, path: Path, sha256: str, resumed: bool) -> None:
    """Raise if the partial file is not the complete, expected file."""
    if sha256:
        with part.open("rb") as file:
            actual = hashlib.file_digest(file, "sha256").hexdigest()
        fault = "" if actual.startswith(sha256.lower()) else f"its sha256 is {actual}, expected {sha256}"
    else:
        fault = _safetensors_fault(part) if path.suffix == ".safetensors" else ""
    if not fault:
        return
    part.unlink()
    message = f"the downloaded file is not the expected one: {fault}"
    # The bytes of the earlier download may be the damaged ones, so a resumed file gets another attempt.
    raise _TransientError(message, 0) if resumed else FetchError(message)


def _safetensors_fault(part: Path) -> str:
    """Return the fault of a safetensors file, whose header declares its length, or ""."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(part, framework="numpy"):
            return ""
    except SafetensorError as error:
        return f"it is not a complete safetensors file ({error})"


def within(seconds: float, call: Callable[[], _T], late: Callable[[], object] | None = None) -> _T:
    """Run a call in a thread and wait for it at most `seconds`.

    A socket's own timeout applies to each address of a host separately, and not to the look-up of its name. With a
    firewall that drops packets, a host of twelve addresses takes two minutes.

    Parameters
    ----------
    seconds : float
        Longest wait.
    call : callable
        Call to run. It continues in its thread after the timeout.
    late : callable, default=None
        Run if the call ends after the timeout, to close the resources that it opened.

    Raises
    ------
    TimeoutError
        If the call takes longer. Exceptions of the call are raised unchanged.

    Examples
    --------
    >>> from sktransfer.weights.download import within
    >>> within(5, lambda: 1 + 1)
    2
    """
    future: Future[_T] = Future()

    def run() -> None:
        try:
            future.set_result(call())
        except BaseException as error:  # any kind belongs to the caller
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    try:
        return future.result(seconds)
    except BaseException:
        if late is not None and not future.done():  # timeout or Ctrl-C
            future.add_done_callback(lambda _: late())
        raise


def opener() -> urllib.request.OpenerDirector:
    """Return a urllib opener with a total connect timeout, which refuses redirects from HTTPS to HTTP.

    Proxies are read from the environment at each call. The `timeout` of the opener's `open` is the longest wait for a
    byte. `CONNECT_SECONDS` limits connecting.
    """
    return urllib.request.build_opener(_Handler, _Redirects)


def _connect(connection: http.client.HTTPConnection, connect: Callable[[], None]) -> None:
    stall, connection.timeout = connection.timeout, CONNECT_SECONDS
    try:
        within(CONNECT_SECONDS, connect, connection.close)
    except TimeoutError as error:
        raise TimeoutError(f"no connection within {CONNECT_SECONDS:g} seconds") from error
    connection.timeout = stall
    connection.sock.settimeout(stall)


class _Http(http.client.HTTPConnection):
    def connect(self) -> None:
        _connect(self, super().connect)


class _Https(http.client.HTTPSConnection):
    def connect(self) -> None:
        _connect(self, super().connect)


class _Handler(urllib.request.HTTPHandler, urllib.request.HTTPSHandler):
    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_Http, req)

    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_Https, req)


class _Redirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        scheme = urlsplit(newurl).scheme.lower()
        if scheme != "https" and (scheme, req.type) != ("http", "http"):
            raise urllib.error.HTTPError(
                req.full_url, code, f"it redirects to {newurl}, which is not encrypted", headers, fp
            )
        return super().redirect_request(req, fp, code, msg, headers, newurl)
