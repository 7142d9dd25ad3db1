from __future__ import annotations

import gc
import signal
import socket
import sys
import tempfile
from pathlib import Path

import pytest

# Checks of sktransfer.testing that start a process.
PROCESS_CHECKS = ("check_offline", "check_reload", "check_light_listing")
LOCAL = ("localhost", "127.0.0.1", "::1", "0.0.0.0", "", None)


class NetworkIsOff(OSError):
    """A test tried to reach the network."""


def _host(address):
    return address[0] if isinstance(address, tuple) else ""  # The address of a Unix socket is a path.


@pytest.fixture(autouse=True, scope="session")
def _no_network():
    """Restrict sockets to this machine, so that tests give the same result with and without a network."""
    connect, connect_ex, getaddrinfo = socket.socket.connect, socket.socket.connect_ex, socket.getaddrinfo

    def check(host):
        host = host.decode() if isinstance(host, bytes) else host
        if host not in LOCAL:
            raise NetworkIsOff(f"tests have no network access, but {host!r} was requested")

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
    """Raise KeyboardInterrupt on SIGINT. A shell that runs the tests in the background ignores the signal."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(autouse=True, scope="module")
def _empty_store():
    """Clear the store, because entries of earlier test modules would change which entries are cached."""
    if "sktransfer.cache.memory" in sys.modules:
        sys.modules["sktransfer.cache.memory"].process_store.clear()


@pytest.fixture
def gpu():
    """Provide CUDA devices: a `Simulation` with two of them on a machine without a GPU, else None."""
    import torch

    from sktransfer.backbones import loading
    from tests.helpers.simulated_cuda import CAN_SIMULATE, simulated_cuda

    def forget_copies():
        for backbone in list(loading._loaded.values()):  # shared by all tests of the process
            backbone.copies.clear()
        gc.collect()

    if torch.cuda.is_available():
        yield None
        return
    if not CAN_SIMULATE:
        pytest.skip("this version of torch is too old to simulate a GPU")
    with simulated_cuda() as simulation:
        yield simulation
        forget_copies()


def pytest_make_parametrize_id(config, val, argname):
    """Name a path in a temporary folder by its last part, because pytest-xdist needs equal ids in all workers."""
    if isinstance(val, (str, Path)) and tempfile.gettempdir() in str(val):
        return Path(str(val)).name
    return None


def pytest_collection_finish():
    """Keep the tests and modules out of garbage collections, each of which would look at millions of objects."""
    gc.collect()
    gc.freeze()


def pytest_collection_modifyitems(items):
    """Mark the checks of sktransfer.testing that start a process, and put those that use joblib's processes first.

    These tests share the processes, which end after a pause.
    """
    for item in items:
        callspec = getattr(item, "callspec", None)
        if callspec is not None and any(check in callspec.id for check in PROCESS_CHECKS):
            item.add_marker("process")
    items.sort(key=lambda item: item.get_closest_marker("loky") is None)
