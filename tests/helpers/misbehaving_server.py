"""Local file server with scripted faults: stalls, broken connections, wrong headers, error statuses."""

from __future__ import annotations

import hashlib
import ssl
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

PEM = Path(__file__).with_name("localhost.pem")  # key and certificate for 127.0.0.1


class Server(ThreadingHTTPServer):
    """Server of one content at every path.

    `script` holds the behaviours for the next requests, and `usual` is the behaviour after them. `asked` lists the
    requests with method, path and requested range. `sent` counts bytes of content.
    """

    daemon_threads = True
    block_on_close = False

    def __init__(self, content: bytes, usual: Behaviour, handler: type[Handler]) -> None:
        super().__init__(("127.0.0.1", 0), handler)
        self.content, self.usual = content, usual
        self.script: deque[Behaviour] = deque()
        self.asked: list[tuple[str, str, str | None]] = []
        self.sent = 0
        self.over = threading.Event()
        self.etag: str | None = hashlib.md5(content).hexdigest()
        self.scheme = "http"

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.server_port}"

    @property
    def ranges(self) -> list[str | None]:
        return [asked for _, _, asked in self.asked]

    def handle_error(self, *_: object) -> None:
        """Ignore clients that close the connection."""


class Handler(BaseHTTPRequestHandler):
    server: Server

    @property
    def content(self) -> bytes:
        return self.server.content

    @property
    def etag(self) -> str | None:
        return self.server.etag

    def log_message(self, *_: object) -> None: ...

    def do_GET(self) -> None:
        server = self.server
        server.asked.append((self.command, self.path, self.headers["Range"]))
        behaviour = server.script.popleft() if server.script else server.usual
        behaviour(self)

    do_HEAD = do_CONNECT = do_GET

    def head(self, status: int, length: int | None, **headers: str) -> None:
        self.send_response(status)
        if length is not None:
            self.send_header("Content-Length", str(length))
        if self.etag is not None:
            self.send_header("ETag", f'"{self.etag}"')
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()

    def body(self, content: bytes) -> None:
        self.wfile.write(content)
        self.server.sent += len(content)

    def start(self, **headers: str) -> bytes:
        """Send the headers for the requested range and return its content."""
        content, asked = self.content, self.headers["Range"]
        if asked is None:
            self.head(200, len(content), **headers)
            return content
        first = int(asked.removeprefix("bytes=").rstrip("-"))
        if first >= len(content):
            self.head(416, 0, Content_Range=f"bytes */{len(content)}")
            return b""
        place = f"bytes {first}-{len(content) - 1}/{len(content)}"
        self.head(206, len(content) - first, **({"Content_Range": place} | headers))
        return content[first:]


Behaviour = Callable[[Any], None]


def well(handler: Handler) -> None:
    """Send the requested content."""
    handler.body(handler.start())


def without_ranges(handler: Handler) -> None:
    """Send the whole content for any range."""
    handler.head(200, len(handler.content))
    handler.body(handler.content)


def breaks_off(after: int, **headers: str) -> Behaviour:
    """Close the connection after some bytes."""

    def answer(handler: Handler) -> None:
        handler.body(handler.start(**headers)[:after])

    return answer


def stalls(after: int) -> Behaviour:
    """Send some bytes and then stall until the test ends."""

    def answer(handler: Handler) -> None:
        handler.body(handler.start()[:after])
        handler.wfile.flush()
        handler.server.over.wait()

    return answer


def is_silent(handler: Handler) -> None:
    """Accept the request and send no response."""
    handler.server.over.wait()


def hangs_up(handler: Handler) -> None:
    """Accept the request and close the connection."""


def drips(pause: float, size: int = 1) -> Behaviour:
    """Send a few bytes at a time."""

    def answer(handler: Handler) -> None:
        content = handler.start()
        for start in range(0, len(content), size):
            handler.body(content[start : start + size])
            handler.wfile.flush()
            if handler.server.over.wait(pause):
                return

    return answer


def says(status: int, content: bytes = b"", **headers: str) -> Behaviour:
    """Answer with a status and some content."""

    def answer(handler: Handler) -> None:
        handler.head(status, len(content), **headers)
        handler.body(content)

    return answer


def claims_length(length: int | None, content: bytes | None = None) -> Behaviour:
    """Send a wrong Content-Length, or none."""

    def answer(handler: Handler) -> None:
        handler.head(200, length)
        with suppress(OSError):  # the client closes the connection after the declared length
            handler.body(handler.content if content is None else content)

    return answer


def in_chunks(*chunks: bytes, end: bool = True) -> Behaviour:
    """Send chunks with their lengths, and a final chunk of length 0."""

    def answer(handler: Handler) -> None:
        handler.protocol_version = "HTTP/1.1"
        handler.head(200, None, Transfer_Encoding="chunked", Connection="close")
        for chunk in [*chunks, *([b""] if end else [])]:
            handler.wfile.write(b"%x\r\n%b\r\n" % (len(chunk), chunk))
        handler.close_connection = True

    return answer


@contextmanager
def serving(content: bytes, usual: Behaviour = well, encrypted: bool = False) -> Iterator[Server]:
    """Run a server during a test."""
    server = Server(content, usual, Handler)
    if encrypted:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(PEM)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        server.scheme = "https"
    with running(server):
        yield server


@contextmanager
def running(server: Server) -> Iterator[None]:
    """Serve in a thread and stop all handlers at the end."""
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.over.set()
        server.shutdown()
        server.server_close()
        thread.join()
