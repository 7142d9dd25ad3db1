"""Time limits of connecting, proxies, redirects and certificates, each against a server on this machine."""

from __future__ import annotations

import socket
import ssl
import threading
import time
import urllib.error
from contextlib import ExitStack

import pytest

from sktransfer.weights import download as connections
from sktransfer.weights.download import opener, within
from tests.helpers.misbehaving_server import PEM, is_silent, says, serving, stalls

pytest_plugins = ["tests.helpers.download_fixtures"]
pytestmark = pytest.mark.usefixtures("no_proxies")


def get(url, timeout=5.0):
    with opener().open(url, timeout=timeout) as response:
        return response.read()


def test_within_returns_the_result_or_raises_the_error_of_the_call():
    def fail():
        raise KeyError("a")

    assert within(5, lambda: 3) == 3
    with pytest.raises(KeyError, match="a"):
        within(5, fail)


def test_within_leaves_a_late_call_and_calls_late_when_it_ends():
    go_on, late = threading.Event(), threading.Event()
    with pytest.raises(TimeoutError):
        within(0.05, lambda: go_on.wait(10), late.set)
    assert not late.is_set()
    go_on.set()
    assert late.wait(10)


def test_within_passes_on_a_timeouterror_of_the_call_itself():
    def fail():
        raise TimeoutError("its own")

    late = []
    with pytest.raises(TimeoutError, match="its own"):
        within(5, fail, lambda: late.append(1))
    assert late == []


def test_connect_seconds_limits_connecting_to_a_silent_host(monkeypatch):
    monkeypatch.setattr(connections, "CONNECT_SECONDS", 0.3)
    with socket.socket() as deaf, ExitStack() as stack:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        for _ in range(3):  # its queue is full: it answers nobody else
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(deaf.getsockname())
        start = time.monotonic()
        with pytest.raises(urllib.error.URLError, match=r"no connection within 0\.3 seconds"):
            get(f"http://127.0.0.1:{deaf.getsockname()[1]}/", timeout=60)
        assert time.monotonic() - start < 5


def test_connect_seconds_includes_the_name_lookup(monkeypatch):
    monkeypatch.setattr(connections, "CONNECT_SECONDS", 0.3)
    lookup = socket.getaddrinfo

    def slow(*args, **options):
        time.sleep(1.5)
        return lookup(*args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", slow)  # a name server that takes its time
    with serving(b"a") as server:
        start = time.monotonic()
        with pytest.raises(urllib.error.URLError, match="no connection within"):
            get(server.url)
        assert time.monotonic() - start < 1.4
        time.sleep(1.5)  # the look-up ends, connects, and what it opens is closed: a warning would be an error


@pytest.mark.parametrize("behaviour", [is_silent, stalls(1)])
def test_opener_timeout_limits_the_wait_for_each_byte(behaviour, monkeypatch):
    monkeypatch.setattr(connections, "CONNECT_SECONDS", 60)
    with serving(b"content", behaviour) as server:
        start = time.monotonic()
        with pytest.raises(TimeoutError):
            get(server.url, timeout=0.2)
        assert 0.15 < time.monotonic() - start < 5


def test_opener_uses_http_proxy(monkeypatch):
    with serving(b"through the proxy") as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        assert get("http://weights.example/w") == b"through the proxy"
        assert proxy.asked == [("GET", "http://weights.example/w", None)]


def test_opener_uses_a_tunnel_of_https_proxy(monkeypatch):
    with serving(b"", says(403)) as proxy:
        monkeypatch.setenv("https_proxy", proxy.url)
        with pytest.raises(urllib.error.URLError, match="Tunnel connection failed: 403"):
            get("https://weights.example/w")
        assert [asked[:2] for asked in proxy.asked] == [("CONNECT", "weights.example:443")]


def test_opener_obeys_no_proxy(monkeypatch):
    with serving(b"direct") as server, serving(b"through the proxy") as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        assert get(server.url) == b"direct"
        assert proxy.asked == []


def test_opener_follows_redirects():
    with serving(b"here") as target, serving(b"") as server:
        server.script.append(says(302, Location=f"{target.url}/other"))
        assert get(f"{server.url}/w") == b"here"
        assert target.asked == [("GET", "/other", None)]


def test_opener_refuses_an_untrusted_certificate():
    with serving(b"a", encrypted=True) as server, pytest.raises(urllib.error.URLError) as caught:
        get(server.url)
    assert isinstance(caught.value.reason, ssl.SSLCertVerificationError)


@pytest.fixture
def trusted(monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(PEM))


def test_opener_reads_from_an_https_server(trusted):
    with serving(b"secret", encrypted=True) as server:
        assert get(server.url) == b"secret"
        server.script.append(says(302, Location=f"{server.url}/other"))
        assert get(server.url) == b"secret"


def test_opener_timeout_holds_for_https(trusted):
    with serving(b"secret", stalls(1), encrypted=True) as server, pytest.raises(TimeoutError):
        get(server.url, timeout=0.2)


@pytest.mark.parametrize("elsewhere", ["http://127.0.0.1:9/w", "ftp://127.0.0.1:9/w", "file:///etc/passwd"])
def test_opener_refuses_a_redirect_that_leaves_https(elsewhere, trusted):
    with serving(b"", says(302, Location=elsewhere), encrypted=True) as server:
        with pytest.raises(urllib.error.HTTPError, match=r"redirect|is not allowed") as caught:
            get(server.url)
        caught.value.close()


@pytest.mark.parametrize("elsewhere", ["ftp://127.0.0.1:9/w", "file:///etc/passwd"])
def test_opener_refuses_a_redirect_to_another_scheme(elsewhere):
    with serving(b"", says(302, Location=elsewhere)) as server:
        with pytest.raises(urllib.error.HTTPError) as caught:
            get(server.url)
        caught.value.close()
