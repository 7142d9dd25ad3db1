from __future__ import annotations

import signal
import socket
import sys
import tempfile
from pathlib import Path

import pytest

LOCAL = ("localhost", "127.0.0.1", "::1", "0.0.0.0", "", None)


class NetworkIsOff(OSError):
    """A test has asked for the network."""


def _host(address):
    return address[0] if isinstance(address, tuple) else ""  # the address of a Unix socket is a path


@pytest.fixture(autouse=True, scope="session")
def _no_network():
    """Let sockets reach nothing but this machine: tests say the same with and without a network."""
    connect, connect_ex, getaddrinfo = socket.socket.connect, socket.socket.connect_ex, socket.getaddrinfo

    def check(host):
        host = host.decode() if isinstance(host, bytes) else host
        if host not in LOCAL:
            raise NetworkIsOff(f"tests have no network, and {host!r} was asked for")

    def guarded_connect(self, address):
        check(_host(address))
        return connect(self, address)

    def guarded_connect_ex(self, address):
        check(_host(address))
        return connect_ex(self, address)

    def guarded_getaddrinfo(host, *args, **kwargs):
        check(host)
        return getaddrinfo(host, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", guarded_connect)
        patch.setattr(socket.socket, "connect_ex", guarded_connect_ex)
        patch.setattr(socket, "getaddrinfo", guarded_getaddrinfo)
        yield


@pytest.fixture(autouse=True, scope="session")
def _interruptible():
    """Have Ctrl-C raised, as in a terminal: a shell that starts the tests in the background has it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(autouse=True, scope="module")
def _empty_store():
    """Begin with an empty store: what the tests of another file left there would decide what is kept."""
    if "sktransfer.cache.memory" in sys.modules:
        sys.modules["sktransfer.cache.memory"].process_store.clear()


def pytest_make_parametrize_id(config, val, argname):
    """Name what lies in a temporary folder by its last part: the folder is another one in each process of the tests."""
    if isinstance(val, (str, Path)) and tempfile.gettempdir() in str(val):
        return Path(str(val)).name
    return None
