import warnings

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.exceptions import DataConversionWarning

from sktransfer.domains.sample_domain import read_domains
from sktransfer.exceptions import TargetWarning


@pytest.mark.parametrize(
    "y",
    [
        [0, 1, None, None],
        np.array([0, 1, np.nan, np.nan]),
        ["a", "b", None, np.nan],
        pd.Series(["a", "b", None, None], index=list("wxyz")),
        pd.Series(["a", "b", None, None], dtype="category"),
        pd.array([True, False, None, None], dtype="boolean"),
        pl.Series(["a", "b", None, None]),
        np.array([[0, 1], [1, 1], [np.nan, np.nan], [np.nan, np.nan]]),
        [[0, 1], [1, 1], None, None],
    ],
    ids=["list", "array", "strings", "series", "categorical", "boolean", "polars", "indicators", "lists"],
)
def test_read_domains_takes_samples_without_a_label_as_the_target(y):
    before = repr(y)
    domains = read_domains(y)
    assert domains.is_target.tolist() == [False, False, True, True]
    assert domains.known.tolist() == domains.is_source.tolist() == [True, True, False, False]
    assert domains.ids.tolist() == [-1, 1]
    assert np.asarray(domains.labels).tolist() == np.asarray(y, dtype=object)[:2].tolist()
    assert repr(y) == before


def test_read_domains_warns_of_a_column_vector():
    with pytest.warns(DataConversionWarning, match="column-vector y"):
        domains = read_domains(pd.DataFrame({"mood": ["a", "b", None, None]}))
    assert domains.labels.tolist() == ["a", "b"]


def test_read_domains_keeps_the_names_of_indicators():
    y = pd.DataFrame({"cat": [0, 1, np.nan, np.nan], "dog": [1, 1, np.nan, np.nan]})
    assert list(read_domains(y).labels.columns) == ["cat", "dog"]


def test_read_domains_reads_the_sign_of_sample_domain():
    y = np.array(["a", "b", "a", "-", "-"], dtype=object)
    y[3:] = None
    domains = read_domains(y, pd.Series([2, 1, 2, -5, -1]))
    assert domains.sign.tolist() == [1, 1, 1, -1, -1]
    assert domains.ids.tolist() == [-5, -1, 1, 2]
    assert domains.labels.tolist() == ["a", "b", "a"]


def test_read_domains_takes_source_samples_without_a_label():
    domains = read_domains(["a", "b", None, None, None], [1, 1, 1, -1, -1])
    assert domains.is_source.tolist() == [True, True, True, False, False]
    assert domains.known.tolist() == [True, True, False, False, False]


def test_read_domains_does_not_use_target_labels():
    y = np.array([0, 1, 0, 1])
    with pytest.warns(
        TargetWarning, match="2 samples of target domains have labels in y, which are not used"
    ) as caught:
        domains = read_domains(y, [1, 1, -1, -1])
    assert len(caught) == 1
    assert domains.labels.tolist() == [0, 1]
    domains.labels[:] = 7
    assert y.tolist() == [0, 1, 0, 1]


def test_read_domains_warns_of_labels_that_only_the_target_has():
    with pytest.warns(TargetWarning, match="that are therefore never predicted: 'bird', 'cat'"):
        read_domains(["dog", "fish", "cat", "bird"], [1, 1, -1, -1])


def test_read_domains_takes_labels_masked_by_minus_one():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_domains([0, 1, -1, -1], [1, 1, -1, -1]).labels.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("y", "domain", "message"),
    [
        ([0, 1, 0], None, "the target domain has no sample of 3, .* samples whose y is None or NaN are the target"),
        ([0, 1, -1], None, "A label of -1 is a label: replace it by NaN"),
        (["a", "b", ""], None, "A label of '' is a label: replace it by None"),
        (np.array(["a", "b", "nan"]), None, "A label of 'nan' is a label: replace it by None"),
        ([0, 1, None], None, "the target domain has one sample only of 3"),
        ([None, None, 1], None, "the source domain has one sample only of 3, .* samples with a label are the source"),
        ([0, 1, 0], [1, 2, 3], "the target domain has no sample of 3, .* Give negative values"),
        ([0, 1, 0], [-1, -2, -3], "the source domain has no sample of 3, .* Give positive values"),
        ([0, 1, None, None], [1, 1, -1], "sample_domain has 3 values, and y has 4 rows"),
        ([0, 1, None, None], [1, 0, -1, -1], r"sample_domain\[1\] is 0, and 0 is ambiguous"),
        ([0, 1, None, None], pd.Series([1, 0, -1, -1], list("wxyz")), r"index label 'x'.* is 0"),
        ([0, 1, None, None], [1, 0.5, -1, -1], r"sample_domain\[1\] is 0.5, and a domain is an integer"),
        ([0, 1, None, None], [1, None, -1, -1], r"sample_domain\[1\] is None"),
        ([0, 1, None, None], [True, True, False, False], r"np.where\(mask, -1, 1\)"),
        ([0, 1, None, None], ["s", "s", "t", "t"], "sample_domain holds strings such as 's'"),
        ([["a"], ["a", "b"], ["c"], ["c"]], [1, 1, -1, -1], "several labels per sample are an indicator matrix"),
        ([None, None, 0, 1], [1, 1, -1, -1], r"no sample of the source domains \[1\] has a label"),
    ],
)
def test_read_domains_refuses(y, domain, message):
    with pytest.raises(ValueError, match=message):
        read_domains(y, domain)
