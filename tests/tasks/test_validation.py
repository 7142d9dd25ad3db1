"""Targets and weights that are no numbers: the message names the row, and following its hint leads to a working y."""

from __future__ import annotations

import datetime
import decimal
import re

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from scipy.sparse import csr_array
from sklearn.exceptions import DataConversionWarning
from sklearn.linear_model import Ridge

from sktransfer import (
    BestBackbone,
    FineTuneClassifier,
    FineTuneRegressor,
    ImageFeaturizer,
    NearestClassMean,
    ZeroShotClassifier,
    rank_backbones,
)
from sktransfer.tasks.classification import check_labels, classification_task
from sktransfer.tasks.continuous import Continuous
from sktransfer.tasks.validation import as_labels, check_numbers, check_weight
from sktransfer.testing.samples import make_samples

DATES = pd.date_range("2020", periods=3)
DAY = datetime.date(2020, 1, 1)
# Each holds 18262, 18263, 18264 days since 1970.
DATED = {
    "datetime64": DATES.to_numpy(),
    "datetime64[D]": DATES.to_numpy().astype("M8[D]"),
    "Series": pd.Series(DATES),
    "with time zone": pd.Series(DATES.tz_localize("UTC")),
    "DatetimeIndex": DATES,
    "list of Timestamp": list(DATES),
    "object array": np.array(list(DATES), dtype=object),
    "list of date": [one.date() for one in DATES],
    "list of datetime": [one.to_pydatetime() for one in DATES],
    "Period": pd.Series(DATES.to_period("D")),
    "polars": pl.Series([one.date() for one in DATES]),
    "polars datetime": pl.Series([one.to_pydatetime() for one in DATES]),
}
# Bad targets, the start of the message, and the targets that its hint gives.
HINTS = {
    **{name: (y, r"y holds dates\.", [18262.0, 18263.0, 18264.0]) for name, y in DATED.items()},
    "timedelta64": (np.array([1, 2], "m8[D]"), r"y holds durations\.", [1.0, 2.0]),
    "timedelta Series": (pd.Series(pd.to_timedelta([1, 2], "D")), r"y holds durations\.", [1.0, 2.0]),
    "list of timedelta": ([datetime.timedelta(1), datetime.timedelta(2)], r"y holds durations\.", [1.0, 2.0]),
    "strings": (["1", "2.5"], "y holds strings such as '1'", [1.0, 2.5]),
    "numpy strings": (np.array(["1", "2.5"]), "y holds strings such as '1'", [1.0, 2.5]),
    "bytes": (np.array([b"1", b"2.5"]), "y holds strings such as b'1'", [1.0, 2.5]),
    "mixed": (pd.Series([1, "2.5"], dtype=object), r"y holds strings such as '2\.5'.*the first is y\[1\]", [1.0, 2.5]),
    "polars strings": (pl.Series(["1", "2.5"]), "y holds strings", [1.0, 2.5]),
    "complex": ([1 + 1j, 2.5], "y holds complex numbers", [1.0, 2.5]),
    "dict": ({"a": 1, "b": 2.5}, "y is a dict", [1.0, 2.5]),
    "dict view": ({1: "a", 2.5: "b"}.keys(), "y is a dict_keys", [1.0, 2.5]),
    "iterator": (iter([1, 2.5]), "y is a list_iterator", [1.0, 2.5]),
    "sparse": (csr_array(np.array([[1.0], [2.5]])), "y is a sparse matrix", [[1.0], [2.5]]),
}


def code_in(message):
    """Return the expression that a message recommends."""
    return re.search(r"(?:numbers, |pass )(.*?)(?:; the first is.*|, or both.*)?$", message).group(1)


@pytest.mark.parametrize("case", HINTS)
def test_check_numbers_gives_a_hint_that_works(case):
    y, start, expected = HINTS[case]
    with pytest.raises(ValueError, match=f"^{start}") as caught:
        Continuous().check(y)
    repaired = eval(code_in(str(caught.value)), {"pd": pd, "np": np, "y": y})
    np.testing.assert_array_equal(Continuous().check(repaired), expected)


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (np.array(["2020", "NaT"], "M8[D]"), "y holds dates"),
        (["a", "b"], "y holds strings such as 'a', which are not numbers: a classifier learns labels"),
        ({1.0, 2.0}, "y is a set.*has no order"),
        ("12", "y is a str"),
        (3.0, "y is a single float"),
        ([[1.0], [1.0, 2.0]], r"y\[0\] is \[1\.0\]: a regressor takes one number per sample"),
        (np.zeros(2, dtype=[("a", int)]), "y has dtype"),
        ([10**400, 1], "y cannot be converted"),
        ([1.0, np.inf], r"y\[1\] is inf, which is infinite or too large"),
        ([1e300, 1.0], r"y\[0\] is 1e\+300"),
        (pd.Series([1.0, -np.inf], ["a", "b"]), r"y\.iloc\[1\] \(index label 'b'\) is -inf"),
        (pd.Series([1, pd.NA], ["a", "b"], dtype="Int64"), r"y\.iloc\[1\] \(index label 'b'\) is (nan|<NA>): 1 of 2"),
        (pd.DataFrame({"a": [1.0, 2.0], "b": DATES[:2]}, [5, 6]), r"y holds dates.*y\.iloc\[0\] \(index label 5\)"),
        ([None, None], r"y\[0\] is None: 2 of 2 samples have no target"),
        (pl.Series([1.0, None]), r"y\[1\] is nan: 1 of 2 samples has no target"),
    ],
)
def test_check_numbers_refuses_what_is_no_number(y, message):
    with pytest.raises(ValueError, match=message):
        Continuous().check(y)


@pytest.mark.parametrize(
    "y",
    [
        [1, 2],
        np.array([1, 2], np.float16),
        pd.Series([1, 2], dtype="Int64"),
        pd.Series([1, 2], dtype="category"),
        pd.Series([1, 2], dtype=object),
        pl.Series([1, 2]),
        torch.tensor([1.0, 2.0], requires_grad=True),
        [decimal.Decimal(1), decimal.Decimal(2)],
        {"a": 1, "b": 2}.values(),
    ],
    ids=lambda y: type(y).__name__,
)
def test_check_numbers_accepts_real_numbers_of_any_type(y):
    if type(y).__name__ == "dict_values":
        y = list(y)
    np.testing.assert_array_equal(check_numbers(y, "y", "target"), [1.0, 2.0])


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        (np.array(["2020", "2021"], "M8[D]"), "sample_weight holds dates"),
        (["1", "2"], "sample_weight holds strings"),
        ("balanced", "sample_weight is a str"),
        ({0: 1.0, 1: 2.0}, "sample_weight is a dict"),
        ([1.0, np.nan], r"sample_weight\[1\] is nan: 1 of 2 samples has no weight"),
        ([1.0, np.inf], r"sample_weight\[1\] is inf"),
        ([1.0, -2.0], r"Negative values in data passed to `sample_weight`: sample_weight\[1\] is -2\.0"),
        (pd.Series([1.0, -2.0], [5, 6]), r"sample_weight\.iloc\[1\] \(index label 6\) is -2\.0"),
        ([1.0, 2.0, 3.0], r"sample_weight\.shape == \(3,\), expected \(2,\)"),
        ([[1.0], [2.0]], "Sample weights must be 1D"),
    ],
    ids=str,
)
def test_check_weight_refuses_what_is_no_weight(weight, message):
    with pytest.raises(ValueError, match=message):
        check_weight(weight, 2)


def test_check_weight_accepts_none_a_number_and_bools():
    assert check_weight(None, 2).tolist() == [1.0, 1.0]
    assert check_weight(3, 2).tolist() == [3.0, 3.0]
    assert check_weight([True, False], 2).tolist() == [1.0, 0.0]
    assert check_weight(pd.Series([1, 2], dtype="Int64"), 2).tolist() == [1.0, 2.0]


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (list(DATES[:2]), "Unknown label type: y holds objects of type Timestamp; labels are str, int or bool"),
        ([DAY, DAY], "objects of type date"),
        (pd.Series([1.5, "x"], dtype=object), "objects of type float and str; .* all of one type"),
        ({"a": 1}.values(), "y is a dict_values"),
        ({0, 1}, "y is a set"),
        (np.zeros(2, dtype=[("a", int), ("b", float)]), r"select one field, y\['a'\]"),
        (np.array(["2020", "NaT"], "M8[D]"), r"y\[1\] is .*: 1 of 2 samples has no label"),
        (pd.Series(["a", pd.NA], ["x", "y"]), r"y\.iloc\[1\] \(index label 'y'\)"),
        (pd.Series([0.0, np.nan], ["x", "y"]), r"Input y contains NaN\. y\.iloc\[1\] \(index label 'y'\)"),
        ([0.5, 1.5], "Unknown label type: continuous"),
        (np.array([0, 1], dtype=object), r"objects of type int; .* pass y\.astype\(int\)"),
        (pd.Series([True, False], dtype=object), r"objects of type bool; .* pass y\.astype\(bool\)"),
    ],
)
def test_check_labels_refuses_what_is_no_label(y, message):
    with pytest.raises(ValueError, match=message):
        check_labels(y)
    if "pass [str" in message:
        assert len(check_labels([str(label) for label in y])) == 2
    if "y\\.astype" in message:
        assert len(check_labels(y.astype(type(y[0])))) == 2


@pytest.mark.parametrize(
    ("y", "classes"),
    [
        (pd.Series([1, 2], dtype="Int64"), [1, 2]),
        (pd.Series([True, False], dtype="boolean"), [False, True]),
        (pd.Series(["a", "c"], dtype=pd.CategoricalDtype(["a", "b", "c"])), ["a", "c"]),
        (pl.Series(["a", "b"], dtype=pl.Categorical), ["a", "b"]),
        (torch.tensor([1.0, 2.0], requires_grad=True), [1.0, 2.0]),
    ],
    ids=["Int64", "boolean", "unused category", "polars", "tensor"],
)
def test_classes_have_the_type_of_the_labels(y, classes):
    task = classification_task(y)
    task.encode(task.check(y), np.ones(2))
    assert task.classes.tolist() == classes
    assert [type(label) for label in task.classes.tolist()] == [type(label) for label in classes]


def test_estimators_refuse_dates_as_targets_and_weights():
    images, labels = make_samples("image", 12)
    dates = pd.date_range("2020", periods=12)
    regressor = FineTuneRegressor(max_epochs=0)
    features = ImageFeaturizer().fit_transform(images)
    for fit in (
        lambda: regressor.fit(images, dates),
        lambda: BestBackbone(["tiny/cnn"], estimator=Ridge()).fit(images, dates),
        lambda: rank_backbones(["tiny/cnn"], images, dates),
        lambda: NearestClassMean().fit(features, labels, sample_weight=dates),
        lambda: regressor.fit(images, np.arange(12.0), sample_weight=dates),
        lambda: rank_backbones(["tiny/cnn"], images, list(dates)),
    ):
        with pytest.raises(ValueError, match=r"^(y|sample_weight) holds dates"):
            fit()


def test_a_column_of_labels_warns_at_the_line_of_the_user():
    images, labels = make_samples("image", 12)
    column = np.reshape(labels, (-1, 1))
    with pytest.warns(
        DataConversionWarning, match="A column-vector y was passed when a 1d array was expected"
    ) as caught:
        FineTuneClassifier(max_epochs=0).fit(images, column)
    assert [warning.filename for warning in caught] == [__file__]
    with pytest.raises(ValueError, match=r"y should be a 1d array, got an array of shape \(2, 2\)"):
        as_labels([["a", "b"], ["c", "d"]])


def test_zero_shot_classifier_names_a_missing_label():
    with pytest.raises(ValueError, match=r"y\[1\] is None: 1 of 2 samples has no label"):
        ZeroShotClassifier("tiny/bert", labels=None).fit(["a", "b"], ["x", None])
