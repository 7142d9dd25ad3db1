"""Samples for checks."""

from __future__ import annotations

import numpy as np
import pytest

from sktransfer.testing.samples import make_samples


@pytest.mark.parametrize("modality", ["image", "text"])
def test_make_samples_returns_distinct_samples_the_same_each_time(modality):
    X, y = make_samples(modality, 12)
    again, _ = make_samples(modality, 12)
    assert all(np.array_equal(one, other) for one, other in zip(X, again))
    assert len({str(np.asarray(x).tolist()) for x in X}) == 12
    assert sorted(set(y)) == ["bad", "good"]


def test_make_samples_returns_texts_of_different_length():
    X, _ = make_samples("text", 10)
    assert len({len(text.split()) for text in X}) > 3
