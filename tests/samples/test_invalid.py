from __future__ import annotations

import pytest

from sktransfer.exceptions import InvalidSample, InvalidSampleError
from sktransfer.samples.base import collect_invalid, to_invalid_sample


def test_collect_invalid_stores_the_message_or_raises():
    invalid: dict[int, str] = {}
    with collect_invalid(invalid):
        raise InvalidSampleError(3, "too large")
    assert invalid == {3: "too large"}
    with pytest.raises(InvalidSampleError), collect_invalid(None):
        raise InvalidSampleError(3, "too large")


def test_collect_invalid_ignores_other_errors():
    with pytest.raises(KeyError), collect_invalid({}):
        raise KeyError


def test_to_invalid_sample_omits_the_path_from_the_reason():
    error = InvalidSampleError(3, "'a b.png' has 0 bytes")
    assert to_invalid_sample(error, "a b.png") == InvalidSample(3, "a b.png", "has 0 bytes")
    assert to_invalid_sample(error, None) == InvalidSample(3, None, "'a b.png' has 0 bytes")
    assert str(to_invalid_sample(error, "a b.png")) == "row 3: 'a b.png' has 0 bytes"
