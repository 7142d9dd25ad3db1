from __future__ import annotations

import pytest

from sktransfer.exceptions import InvalidSample, InvalidSampleError
from sktransfer.samples.base import described, noting


def test_an_error_is_noted_where_there_is_something_to_note_it_in():
    invalid: dict[int, str] = {}
    with noting(invalid):
        raise InvalidSampleError(3, "too large")
    assert invalid == {3: "too large"}
    with pytest.raises(InvalidSampleError), noting(None):
        raise InvalidSampleError(3, "too large")


def test_other_errors_are_never_noted():
    with pytest.raises(KeyError), noting({}):
        raise KeyError


def test_the_path_is_left_out_of_the_reason():
    error = InvalidSampleError(3, "'a b.png' has 0 bytes")
    assert described(error, "a b.png") == InvalidSample(3, "a b.png", "has 0 bytes")
    assert described(error, None) == InvalidSample(3, None, "'a b.png' has 0 bytes")
    assert str(described(error, "a b.png")) == "row 3: 'a b.png' has 0 bytes"
