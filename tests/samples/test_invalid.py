from __future__ import annotations

import pytest

from sktransfer.exceptions import InvalidSample, InvalidSampleError
from sktransfer.samples.base import collect_invalid, to_invalid_sample


def test_an_error_is_noted_where_there_is_something_to_note_it_in():
    invalid: dict[int, str] = {}
    with collect_invalid(invalid):
        raise InvalidSampleError(3, "too large")
    assert invalid == {3: "too large"}
    with pytest.raises(InvalidSampleError), collect_invalid(None):
        raise InvalidSampleError(3, "too large")


def test_other_errors_are_never_noted():
    with pytest.raises(KeyError), collect_invalid({}):
        raise KeyError


def test_the_path_is_left_out_of_the_reason():
    error = InvalidSampleError(3, "'a b.png' has 0 bytes")
    assert to_invalid_sample(error, "a b.png") == InvalidSample(3, "a b.png", "has 0 bytes")
    assert to_invalid_sample(error, None) == InvalidSample(3, None, "'a b.png' has 0 bytes")
    assert str(to_invalid_sample(error, "a b.png")) == "row 3: 'a b.png' has 0 bytes"
