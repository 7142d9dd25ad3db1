"""Connections that do not wait for ever, and follow no redirect that gives up encryption: what urllib leaves open."""

from __future__ import annotations

import http.client
import threading
import urllib.request
from collections.abc import Callable
from concurrent.futures import Future
from typing import IO, Any, TypeVar
from urllib.error import HTTPError
from urllib.parse import urlsplit

__all__ = ["opener", "within"]

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
    >>> from sktransfer.backbones.connections import within
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
