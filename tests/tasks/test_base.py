"""Missing targets and groups: the error names the first row."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from sktransfer import ContrastiveFineTuner, FineTuneClassifier
from sktransfer.tasks.validation import check_none_missing
from sktransfer.testing.samples import make_samples

IMAGES, LABELS = make_samples("image", 12)


def without(values, rows, missing):
    found = np.array(values, dtype=object)
    found[rows] = missing
    return found


@pytest.mark.parametrize("missing", [None, np.nan, pd.NA])
def test_check_none_missing_names_the_first_row_and_the_count(missing):
    with pytest.raises(ValueError, match=r"y\[2\] is .*: 2 of 12 samples have no label; leave such samples out"):
        check_none_missing(without(LABELS, [2, 7], missing), "y", "label")
    check_none_missing(without(LABELS, [], missing), "y", "label")
    with pytest.raises(ValueError, match=r"groups\[1\] is .*nan"):
        check_none_missing(np.array([1.0, np.nan]), "groups", "group")
    with pytest.raises(ValueError, match="Input y contains NaN"):  # of numbers scikit-learn says so in its own words
        FineTuneClassifier(max_epochs=0).fit(IMAGES, np.where(np.arange(12) == 3, np.nan, 1.0))


@pytest.mark.parametrize("estimator", [FineTuneClassifier(max_epochs=0), ContrastiveFineTuner(max_epochs=0)])
@pytest.mark.parametrize(
    ("wrap", "row"),
    [
        (list, r"y\[11\]"),
        (np.asarray, r"y\[11\]"),
        (pd.Series, r"y\[11\]"),
        (lambda y: pd.Series(y, index=np.arange(12) + 5), r"y\.iloc\[11\] \(index label 16\)"),
    ],
)
def test_fit_names_the_row_of_a_missing_label(estimator, wrap, row):
    with pytest.raises(ValueError, match=rf"^{row} is (None|nan): 1 of 12 samples has no label"):
        estimator.fit(IMAGES, wrap(without(LABELS, 11, None)))


def test_groups_error_names_the_row_of_a_missing_group():
    for groups in (without(["a", "b"] * 6, 3, None), pd.Series(np.where(np.arange(12) == 3, np.nan, 1.0))):
        with pytest.raises(ValueError, match=r"groups\[3\] is .*: 1 of 12 samples has no group"):
            FineTuneClassifier(max_epochs=1, early_stopping=True).fit(IMAGES, LABELS, groups=groups)
