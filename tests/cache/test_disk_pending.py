from __future__ import annotations

import threading

import pytest

from sktransfer.cache import disk_store as disk_pending
from sktransfer.cache.disk_store import N_BYTES, SECONDS, Pending
from sktransfer.cache.types import CacheNamespace

COLUMN = CacheNamespace(bytes(16), "tiny/cnn", "stem", "average", "float32")


@pytest.fixture
def now(monkeypatch):
    """A clock to turn."""
    now = [100.0]
    monkeypatch.setattr(disk_pending.time, "monotonic", lambda: now[0])
    return now


def test_what_waits_is_found_until_it_is_written():
    pending = Pending(threading.Lock())
    pending.add(COLUMN, [(b"a", b"1"), (b"b", b"22")])
    assert (pending.find(b"a"), pending.find(b"c"), pending.n_bytes) == (b"1", None, 3)
    assert pending.take() == [(COLUMN, b"a", b"1"), (COLUMN, b"b", b"22")]
    pending.add(COLUMN, [(b"c", b"333")])
    assert [pending.find(key) for key in (b"a", b"b", b"c")] == [b"1", b"22", b"333"]
    pending.done()
    assert [pending.find(key) for key in (b"a", b"b", b"c")] == [None, None, b"333"]
    assert pending.n_bytes == 3


def test_of_two_under_one_key_the_first_waits():
    pending = Pending(threading.Lock())
    pending.add(COLUMN, [(b"a", b"1"), (b"a", b"22")])
    pending.add(COLUMN, [(b"a", b"333")])
    assert pending.take() == [(COLUMN, b"a", b"1")]


def test_it_is_time_after_a_while_from_the_first_on(now):
    pending = Pending(threading.Lock())
    assert not pending.add(COLUMN, [(b"a", b"1")])
    now[0] += SECONDS / 2
    assert not pending.add(COLUMN, [(b"b", b"1")])
    now[0] += SECONDS / 2
    assert pending.add(COLUMN, [(b"c", b"1")])
    pending.take()
    now[0] += 10
    assert not pending.add(COLUMN, [(b"d", b"1")])


def test_it_is_time_when_much_waits(now):
    pending, half = Pending(threading.Lock()), bytes(N_BYTES // 2)
    assert not pending.add(COLUMN, [(b"a", half)])
    assert pending.add(COLUMN, [(b"b", half)])


def test_clear_forgets_what_waits_and_what_is_being_written():
    pending = Pending(threading.Lock())
    pending.add(COLUMN, [(b"a", b"1")])
    pending.take()
    pending.add(COLUMN, [(b"b", b"1")])
    pending.clear()
    assert (pending.find(b"a"), pending.find(b"b"), pending.take(), pending.n_bytes) == (None, None, [], 0)
