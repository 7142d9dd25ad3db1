"""Fetch one file by HTTP: gone on with where it broke off, checked, and there as a whole or not at all."""

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
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from io import RawIOBase
from pathlib import Path
from typing import IO, Any, TypeVar
from urllib.error import HTTPError
from urllib.parse import urlsplit

from filelock import FileLock, Timeout

__all__ = ["FetchError", "Part", "claim", "fetch", "mark_of", "opener", "within"]

STALL_SECONDS = 30.0  # the longest wait for a byte
ATTEMPTS = 5
PAUSE_SECONDS = 1.0  # before the second attempt; it doubles each time
LONGEST_PAUSE_SECONDS = 60.0  # that a server may ask for
WAIT_NOTICE_SECONDS = 1.0  # how long another process may hold the file before this is told
_CHUNK = 1 << 20
_PASSING = (408, 429, 500, 502, 503, 504)  # answers that may be another one soon
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class FetchError(OSError):
    """A file cannot be fetched; the text says why."""


class _Passing(FetchError):
    """A failure that may be gone at the next attempt; `pause` is how long the server asks to wait for it."""

    def __init__(self, message: str, pause: float | None = None) -> None:
        super().__init__(message)
        self.pause = pause


def fetch(url: str, path: Path, *, sha256: str = "", notify: Callable[[str], None] = lambda _: None) -> None:
    """Fetch a file, unless another process or thread does so first.

    Parameters
    ----------
    url : str
        `http://` or `https://`; proxies are taken from the environment.
    path : Path
        Where it shall be. Nothing is there until it is whole and checked.
    sha256 : str, default=""
        The hash of the file in hex, or its first digits; "" where it is not known. The length that the server says is
        checked in any case.
    notify : callable, default=nothing
        Called with "fetching" before anything is asked for, with "waiting" where another process is at it.

    Raises
    ------
    OSError
        If it cannot be fetched or written. What has come of it is kept where the server can go on from there.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with _alone(path, notify):
        if path.is_file():  # fetched by another, meanwhile
            return
        notify("fetching")
        part = claim(path)
        try:
            _try_often(url, part, sha256)
            part.finish()
        except FetchError as error:
            if not part.resumable:
                raise
            raise FetchError(f"{error}; {part.size} bytes are kept, and the next try goes on from there") from error
        finally:
            part.release()


@contextmanager
def _alone(path: Path, notify: Callable[[str], None]) -> Iterator[None]:
    """Hold the lock of a file. Where the file system has none, go without: no two ever write to the same part."""
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
        if path.is_file():  # whoever still waits finds it, so that the lock is of no use any more
            with suppress(OSError):
                Path(lock.lock_file).unlink()


def _try_often(url: str, part: Part, sha256: str) -> None:
    for attempt in range(ATTEMPTS):
        had = part.size
        try:
            _receive(url, part, sure=bool(sha256))
            return _check(part, sha256, had > 0)
        except _Passing as error:
            if attempt == ATTEMPTS - 1:
                raise FetchError(f"{error}, after {ATTEMPTS} attempts") from error
            time.sleep(PAUSE_SECONDS * 2**attempt if error.pause is None else error.pause)
    raise AssertionError("unreachable")


def _receive(url: str, part: Part, sure: bool) -> None:
    """Ask for what is missing, and add what comes to the part."""
    from sktransfer._version import __version__

    have = part.size if part.resumable else 0
    headers = {"User-Agent": f"sktransfer/{__version__}", "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    with _answer(urllib.request.Request(url, headers=headers), part) as response:
        _refuse_what_is_no_file(response)
        mark = mark_of(_validator(response))
        if response.status != 206:  # nothing was here, or the server does not go on but begins anew
            part.begin(mark)
        elif mark != part.mark or not response.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            part.drop()
            raise _Passing("the file has changed on the server while it was fetched", 0)
        length = response.headers.get("Content-Length", "")
        missing = int(length) if length.isdecimal() else None
        if missing is None and not sure and response.headers.get("Transfer-Encoding", "").lower() != "chunked":
            raise FetchError("the server does not say how long the file is, so a part could be taken for the whole")
        _write(response, part, missing)


def _answer(request: urllib.request.Request, part: Part) -> http.client.HTTPResponse:
    try:
        response: http.client.HTTPResponse = opener().open(request, timeout=STALL_SECONDS)
    except urllib.error.HTTPError as error:
        with error:  # it holds the connection open
            if error.code == 416:  # the part is longer than the file now is
                part.drop()
                raise _Passing("the file has changed on the server while it was fetched", 0) from None
            raise _refusal(error) from None
    except urllib.error.URLError as error:
        if isinstance(error.reason, (ConnectionResetError, BrokenPipeError)):
            raise _Passing(f"the connection broke ({error.reason})") from error
        raise FetchError(f"{request.host} cannot be reached ({error.reason})") from error
    except TimeoutError as error:
        raise FetchError(f"the server took the request, and no answer came for {STALL_SECONDS:g} seconds") from error
    except (ConnectionResetError, BrokenPipeError) as error:
        raise _Passing(f"the connection broke ({error})") from error
    except http.client.HTTPException as error:
        raise FetchError(f"what answers there speaks no HTTP ({type(error).__name__}: {error})") from error
    return response


def _refusal(error: urllib.error.HTTPError) -> FetchError:
    said = f"the server answered {error.code} {error.reason}"
    if error.code not in _PASSING:
        return FetchError(said)
    pause = _retry_after(error.headers.get("Retry-After"))
    if pause is not None and pause > LONGEST_PAUSE_SECONDS:
        return FetchError(f"{said}, and asks to wait {pause:.0f} seconds; try again then")
    return _Passing(said, pause)


def _retry_after(text: str | None) -> float | None:
    """Return the seconds that a header asks to wait; it gives them, or a date."""
    if text is None:
        return None
    if text.strip().isdecimal():
        return float(text)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    except ValueError:
        return None


def _validator(response: http.client.HTTPResponse) -> str | None:
    """Return what a server says that changes with each byte of the file; None where it says nothing of the kind."""
    etag = response.headers.get("ETag")
    return etag if etag and not etag.startswith("W/") else response.headers.get("Last-Modified")


def _refuse_what_is_no_file(response: http.client.HTTPResponse) -> None:
    if response.headers.get_content_type() == "text/html" and "Content-Type" in response.headers:
        raise FetchError("the server sent a web page instead of the file: does the network ask to log in?")
    encoding = response.headers.get("Content-Encoding", "identity")
    if encoding.lower() != "identity":
        raise FetchError(f"the server sent the file encoded as {encoding}, which it was asked not to")


def _write(response: http.client.HTTPResponse, part: Part, missing: int | None) -> None:
    from tqdm import tqdm

    start, folder = part.size, part.file.parent
    free = shutil.disk_usage(folder).free
    if missing is not None and missing > free:
        raise FetchError(f"{folder} has {free} bytes of free space, and the rest of the file takes {missing}")
    total = None if missing is None else start + missing
    shown = {"desc": part.target.name, "unit": "B", "unit_scale": True, "file": sys.stderr}
    with part.file.open("ab", buffering=0) as file, tqdm(total=total, initial=start, disable=None, **shown) as bar:
        came = 0
        while chunk := _next(response, came):
            _append(file, chunk, part)
            came += len(chunk)
            bar.update(len(chunk))
        os.fsync(file.fileno())
    if missing is not None and came < missing:
        raise _Passing(f"the connection was closed after {start + came} of {total} bytes")
    if start + came == 0:
        raise FetchError("the server sent an empty file")


def _next(response: http.client.HTTPResponse, came: int) -> bytes:
    """Return the bytes that have come, at the end none."""
    try:
        return response.read1(_CHUNK)
    except TimeoutError as error:
        stalled = f"no byte came for {STALL_SECONDS:g} seconds"
        # A connection that has died under a changing network is not told so: another one may do.
        raise (_Passing(stalled, 0) if came else FetchError(stalled)) from error
    except (OSError, http.client.HTTPException) as error:
        raise _Passing(f"the connection broke ({type(error).__name__}: {error})") from error


def _append(file: RawIOBase, chunk: bytes, part: Part) -> None:
    rest = memoryview(chunk)
    try:
        while rest:
            rest = rest[file.write(rest) :]
    except OSError as error:
        if error.errno in _FULL:  # what is kept would leave a full disk to all others
            part.drop()
            raise FetchError(f"{part.file.parent} took no more ({os.strerror(error.errno)}); make room") from error
        raise


def _check(part: Part, sha256: str, resumed: bool) -> None:
    """Make sure that the part is the whole, and the right one."""
    if sha256:
        with part.file.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        wrong = "" if found.startswith(sha256.lower()) else f"its sha256 is {found}, expected {sha256}"
    else:
        wrong = _is_no_safetensors(part) if part.target.suffix == ".safetensors" else ""
    if not wrong:
        return
    part.drop()
    if resumed:  # the bytes that were here may be the wrong ones
        raise _Passing(f"what came is not the file: {wrong}", 0)
    raise FetchError(f"what came is not the file: {wrong}")


def _is_no_safetensors(part: Part) -> str:
    """Return what is wrong with a file whose header says how long it is; nothing where it holds what it says."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(part.file, framework="numpy"):
            return ""
    except SafetensorError as error:
        return f"it is no whole safetensors file ({error})"


CONNECT_SECONDS = 10.0

_T = TypeVar("_T")


def within(seconds: float, call: Callable[[], _T], late: Callable[[], object] | None = None) -> _T:
    """Run a call in a thread, and wait for it no longer than that.

    A socket's own time limit holds for each address of a host, and for none of the look-up of its name: behind a
    firewall that drops packets, a host of twelve addresses takes two minutes.

    Parameters
    ----------
    seconds : float
        How long to wait.
    call : callable
        What to run; it goes on in its thread when nobody waits any more.
    late : callable, default=None
        Run once the call has ended after all, to close what it has opened.

    Raises
    ------
    TimeoutError
        If it takes longer. What the call raises is raised as it is.

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
        except BaseException as error:  # whatever it is, it belongs to the caller
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    try:
        return future.result(seconds)
    except BaseException:
        if late is not None and not future.done():  # the time is up, or Ctrl-C
            future.add_done_callback(lambda _: late())
        raise


def opener() -> urllib.request.OpenerDirector:
    """Return what opens addresses, through the proxies that the environment names at this moment.

    The `timeout` that its `open` takes is the longest wait for a byte; connecting has a limit of its own.
    """
    return urllib.request.build_opener(_HttpHandler, _HttpsHandler, _Redirects)


def _connect(connection: http.client.HTTPConnection, connect: Callable[[], None]) -> None:
    """Limit what connecting takes over all: the look-up of the name, every address, a proxy's tunnel, TLS."""
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


class _HttpHandler(urllib.request.HTTPHandler):
    def http_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_Http, request)


class _HttpsHandler(urllib.request.HTTPSHandler):
    def https_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_Https, request)


class _Redirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        scheme = urlsplit(newurl).scheme.lower()
        if scheme != "https" and (scheme, req.type) != ("http", "http"):
            raise HTTPError(req.full_url, code, f"it redirects to {newurl}, which is not encrypted", headers, fp)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


# A part in use is written to every few seconds, or its process gives up. One of this age was left by a process that had
# no time to give its part back.
ABANDONED_SECONDS = 300.0
_UNKNOWN = "0" * 16  # the mark of a content that the server tells apart from no other


def mark_of(validator: str | None) -> str:
    """Return what stands in a part's name for a server's word (ETag, or the date) for the content."""
    return hashlib.sha256(validator.encode()).hexdigest()[:16] if validator else _UNKNOWN


@dataclass
class Part:
    """The part of a file that is here.

    Parameters
    ----------
    target : Path
        The file to be.
    mark : str, default="0000000000000000"
        What it is a part of.
    """

    target: Path
    mark: str = _UNKNOWN
    _owner: str = field(default_factory=lambda: uuid.uuid4().hex[:8])

    @property
    def file(self) -> Path:
        """Where it is, as long as it is claimed."""
        return self.target.with_name(f"{self.target.name}.{self.mark}.{self._owner}.part")

    @property
    def size(self) -> int:
        """How many bytes are here."""
        return self.file.stat().st_size if self.file.is_file() else 0

    @property
    def resumable(self) -> bool:
        """Whether another try can go on from here."""
        return self.mark != _UNKNOWN and self.size > 0

    def begin(self, mark: str) -> None:
        """Begin anew, with an empty part of another content."""
        self.drop()
        self.mark = mark
        self.file.touch()

    def drop(self) -> None:
        """Delete it."""
        self.file.unlink(missing_ok=True)

    def release(self) -> None:
        """Leave it to whoever comes next, or delete it where nobody could go on with it."""
        with suppress(OSError):  # nothing depends on it: an abandoned part is found all the same, later
            if self.resumable:
                self.file.replace(self.target.with_name(f"{self.target.name}.{self.mark}.part"))
            else:
                self.drop()

    def finish(self) -> None:
        """Make it the whole file, in one step, and delete what others have left."""
        self.file.replace(self.target)
        for other in _left(self.target):
            with suppress(OSError):
                other.unlink()


def claim(target: Path) -> Part:
    """Return the part that is left of a file, for this caller alone; an empty one where there is none.

    Parameters
    ----------
    target : Path
        The file to be.
    """
    for file in _left(target):
        part = Part(target, mark=file.name.removeprefix(f"{target.name}.").partition(".")[0])
        with suppress(OSError):  # another was faster
            os.utime(file)  # first: else it would look abandoned under its new name
            file.rename(part.file)
            return part
    return Part(target)


def _left(target: Path) -> list[Path]:
    """Return the parts that nobody holds."""
    pattern = re.compile(re.escape(target.name) + r"\.[0-9a-f]{16}(\.[0-9a-f]{8})?\.part")
    found = [(file, pattern.fullmatch(file.name)) for file in target.parent.iterdir()]
    return [file for file, name in found if name and (name[1] is None or _is_abandoned(file))]


def _is_abandoned(file: Path) -> bool:
    try:
        return time.time() - file.stat().st_mtime > ABANDONED_SECONDS
    except OSError:  # gone meanwhile
        return False
