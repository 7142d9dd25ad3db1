"""Labels that are no class are an error, with a hint."""

from __future__ import annotations

import numpy as np
import pytest

from sktransfer.classifiers.known_labels import check_known
from sktransfer.exceptions import InvalidParameterError


def test_known_labels_come_back():
    assert check_known([2, 1, 2], np.array([1, 2]), of="numbers", way=".").tolist() == [2, 1, 2]


@pytest.mark.parametrize(
    ("label", "hint"),
    [
        ("Ant", r"Did you mean 'ant'\?"),
        ("annt", r"Did you mean 'ant'\?"),
        ("zebra", r"`classes_` has all of them: so\."),
    ],
)
def test_others_are_an_error_with_a_hint_at_near_ones(label, hint):
    with pytest.raises(InvalidParameterError, match=rf"y holds '{label}', which is none of the 2 kinds\. ?.*{hint}"):
        check_known(["bee", label], np.array(["ant", "bee"]), of="kinds", way=": so.")
