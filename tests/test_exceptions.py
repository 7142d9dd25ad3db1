from __future__ import annotations

import pickle
import subprocess
import sys

import pytest

from sktransfer import exceptions
from sktransfer.exceptions import (
    BackboneNotFoundError,
    DisagreementWarning,
    FlatImageWarning,
    InvalidParameterError,
    InvalidSample,
    InvalidSampleError,
    InvalidSampleWarning,
    PluginError,
    SktransferError,
    SktransferWarning,
    StoreError,
    StoreWarning,
    TruncatedTextWarning,
    UnknownWordsWarning,
    WeightsError,
    did_you_mean,
    short_path,
)


@pytest.mark.parametrize(
    ("ours", "built_in"),
    [
        (BackboneNotFoundError, LookupError),
        (WeightsError, OSError),
        (InvalidParameterError, ValueError),
        (InvalidSampleError, ValueError),
        (PluginError, RuntimeError),
        (StoreError, OSError),
    ],
)
def test_errors_derive_from_sktransfer_error_and_a_built_in(ours, built_in):
    assert issubclass(ours, SktransferError)
    assert issubclass(ours, built_in)


@pytest.mark.parametrize(
    "warning", [DisagreementWarning, FlatImageWarning, StoreWarning, TruncatedTextWarning, UnknownWordsWarning]
)
def test_warnings_derive_from_sktransfer_warning(warning):
    assert issubclass(warning, SktransferWarning)
    assert issubclass(warning, UserWarning)


def test_all_lists_every_class_once():
    classes = {
        name for name, value in vars(exceptions).items() if getattr(value, "__module__", "") == exceptions.__name__
    }
    classes -= {"did_you_mean", "short_path"}
    assert classes == set(exceptions.__all__)
    assert len(exceptions.__all__) == len(set(exceptions.__all__))


def test_invalid_sample_error_names_its_row():
    error = InvalidSampleError(3, "no such file")
    assert str(error) == "row 3: no such file"
    assert (error.row, error.message) == (3, "no such file")


@pytest.mark.parametrize(
    "error",
    [
        InvalidSampleError(3, "no such file"),
        WeightsError("not here"),
        PluginError("broken"),
        BackboneNotFoundError("x"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_errors_survive_pickling(error):
    back = pickle.loads(pickle.dumps(error))
    assert type(back) is type(error)
    assert str(back) == str(error)
    assert vars(back) == vars(error)


def test_did_you_mean_suggests_near_names_nearest_first():
    assert did_you_mean("resnet5", ["resnet50", "vgg11"]) == " Did you mean 'resnet50'?"
    assert did_you_mean("blok1", iter(["block1", "block2"])) == " Did you mean 'block1' or 'block2'?"
    assert did_you_mean("resnet5", ["vgg11"]) == ""
    assert did_you_mean("abc1", ["abc2", "abc3", "abc4", "abc5"], n=2).count(" or ") == 1


@pytest.mark.process
def test_exceptions_module_imports_nothing_else():
    code = "import sys, sktransfer.exceptions; print([m for m in sys.modules if m.startswith('sktransfer')])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "['sktransfer._version', 'sktransfer', 'sktransfer.exceptions']"


def test_invalid_sample_warning_lists_ten_counts_the_rest_and_pickles():
    failures = [InvalidSample(row, None if row else "a b.png", "is broken") for row in range(12)]
    warning = InvalidSampleWarning(failures, 50)
    lines = str(warning).splitlines()
    assert lines[:3] == ["12 of 50 images cannot be used; their rows are NaN:", "  row 0: 'a b.png' is broken"] + [
        "  row 1: is broken"
    ]
    assert lines[-1].startswith("  and 2 more. ")
    assert len(lines) == 12
    back = pickle.loads(pickle.dumps(warning))
    assert (back.failures, back.n_samples, str(back)) == (tuple(failures), 50, str(warning))


def test_short_path_keeps_beginning_and_end():
    assert short_path("a\nb.png") == r"'a\nb.png'"
    short = short_path("/data/" + "x" * 500 + "/cat.png")
    assert (len(short), short.startswith("'/data/xx"), short.endswith("xx/cat.png'")) == (200, True, True)
