from __future__ import annotations

import random

import pytest

from sktransfer.cache.memory import Patience


def see(patience, *rounds):
    for keys in rounds:
        for key in keys:
            patience.see(key)


def test_samples_that_never_return_leave_no_patience():
    patience = Patience()
    see(patience, range(1000))
    assert (patience.asks, patience.clock) == (0, 1000)


@pytest.mark.parametrize("n", [10, 300, 5000])
def test_rounds_leave_patience_for_two_of_them(n):
    patience = Patience()
    see(patience, *[range(n)] * (2 + 1000 // n))
    assert patience.asks == pytest.approx(2 * n, rel=0.01)


def test_shuffled_rounds_too():
    patience, order = Patience(), random.Random(0)
    see(patience, *[order.sample(range(500), 500) for _ in range(6)])
    assert 400 < patience.asks < 1600  # what comes late in a round has waited longer


def test_a_new_data_set_ends_it_soon():
    patience = Patience()
    see(patience, *[range(1000)] * 3, range(1000, 1050))
    assert patience.asks < 0.01 * 2000


def test_a_new_data_set_ends_it_soon_where_only_every_eighth_sample_is_remembered_too(monkeypatch):
    monkeypatch.setattr(Patience, "REMEMBERED", 150)
    patience = Patience()
    see(patience, *[range(1000)] * 3)
    assert patience._every == 8
    see(patience, range(1000, 1050))
    assert patience.asks < 0.01 * 2000


def test_a_tenth_of_new_samples_does_not_end_it():
    patience, new = Patience(), iter(range(10**6, 10**7))
    for _ in range(5):
        for key in range(900):
            patience.see(key)
            if key % 9 == 8:
                patience.see(next(new))
    assert patience.asks > 1000


def test_what_is_remembered_is_bounded_and_the_interval_still_seen(monkeypatch):
    monkeypatch.setattr(Patience, "REMEMBERED", 100)
    patience = Patience()
    see(patience, *[range(2000)] * 3)
    assert len(patience._last) <= 100
    assert patience.asks == pytest.approx(4000, rel=0.1)
