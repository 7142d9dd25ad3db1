"""The cache policy: what is cached, and what is prefetched."""

from __future__ import annotations

import pytest

from sktransfer.cache.policy import (
    cache_namespace,
    fits,
    is_cacheable,
    is_small,
    prefetch_for_depths,
    prefetch_for_layers,
    resume_stops,
    select_prefetch,
    stored_dtype,
)


def test_is_cacheable_up_to_the_frozen_stages_and_never_for_cheap_inputs():
    assert [is_cacheable(stop, 2) for stop in range(4)] == [True, True, True, False]
    assert [is_cacheable(stop, 2, cheap_input=True) for stop in range(4)] == [False, True, True, False]


@pytest.mark.parametrize("cheap_input", [False, True])
@pytest.mark.parametrize("cacheable_stages", [0, 2, 9])
@pytest.mark.parametrize("lowest_missing", [-1, 0, 3])
def test_resume_stops_are_the_cacheable_stops_below_the_missing_output(lowest_missing, cacheable_stages, cheap_input):
    stops = [
        stop
        for stop in range(9, -1, -1)
        if stop <= lowest_missing and is_cacheable(stop, cacheable_stages, cheap_input=cheap_input)
    ]
    assert list(resume_stops(lowest_missing, cacheable_stages, cheap_input=cheap_input)) == stops


def test_prefetch_for_layers_has_lower_vectors_only_if_they_are_small():
    assert prefetch_for_layers(3, "mean", 5, cheap=True) == [(1, "mean"), (2, "mean"), (3, None)]
    assert prefetch_for_layers(3, "flatten", 5, cheap=False) == [(3, None)]
    assert prefetch_for_layers(5, "mean", 5, cheap=True) == [(stop, "mean") for stop in range(1, 5)]


def test_prefetch_for_depths_has_the_highest_stage_first():
    assert prefetch_for_depths(4) == [(3, None), (2, None), (1, None)]
    assert prefetch_for_depths(1) == []


@pytest.mark.parametrize(
    ("room", "selected"), [(None, ["high", "low"]), (140, ["high", "low"]), (139, ["high"]), (80, ["high"]), (79, [])]
)
def test_select_prefetch_fills_half_of_the_room_in_order(room, selected):
    assert select_prefetch(["high", "low"], {"high": 30, "low": 30}, requested_size=20, room=room) == selected


def test_fits_is_strict_and_is_small_means_pooled():
    assert fits(9, 10)
    assert not fits(10, 10)
    assert is_small("average")
    assert not is_small(None)


def test_stored_dtype_shortens_float32_alone():
    assert stored_dtype("float32", "auto") == "float32"
    assert stored_dtype("float32", "bfloat16") == "bfloat16"
    assert stored_dtype("float16", "bfloat16") == "float16"


def test_cache_namespace_differs_by_everything_but_the_names_for_people():
    fields = {
        "fingerprint": "f",
        "preprocess": "p",
        "pooling": "mean",
        "prefix_tokens": 0,
        "precision": "cpu",
        "dtype": "float32",
        "backbone": "toy",
        "stage": "stem",
    }
    plain = cache_namespace(**fields)
    for name, value in fields.items():
        changed = cache_namespace(**{**fields, name: 1 if value == 0 else f"{value} other"})
        assert (changed.digest == plain.digest) == (name in ("backbone", "stage")), name
