from __future__ import annotations

import concurrent.futures.thread
import inspect
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from sklearn.dummy import DummyClassifier
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

import sktransfer
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
    warn,
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
    classes = {name for name in classes if isinstance(getattr(exceptions, name), type)}
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
    assert lines[:3] == [
        "12 of 50 images cannot be used, so their features are missing:",
        "  row 0: 'a b.png' is broken",
        "  row 1: is broken",
    ]
    assert lines[-1].startswith("  and 2 more. ")
    assert len(lines) == 12
    back = pickle.loads(pickle.dumps(warning))
    assert (back.failures, back.n_samples, str(back)) == (tuple(failures), 50, str(warning))


def test_short_path_keeps_beginning_and_end():
    assert short_path("a\nb.png") == r"'a\nb.png'"
    short = short_path("/data/" + "x" * 500 + "/cat.png")
    assert (len(short), short.startswith("'/data/xx"), short.endswith("xx/cat.png'")) == (200, True, True)


def line_of(text):
    """Return the file and the number of the first line of this module that contains a text."""
    lines = inspect.getsource(sys.modules[__name__]).splitlines()
    return __file__, next(i for i, line in enumerate(lines, 1) if text in line)


def test_warn_points_to_the_caller_and_takes_a_text_or_a_warning():
    with pytest.warns(SktransferWarning) as caught:
        warn("a text")  # the line of a text
    assert (caught[0].filename, caught[0].lineno) == line_of("the line of a text")
    assert (caught[0].category, str(caught[0].message)) == (SktransferWarning, "a text")
    with pytest.warns(StoreWarning, match="of a class"):
        warn("of a class", StoreWarning)
    with pytest.warns(InvalidSampleWarning) as caught:
        warn(InvalidSampleWarning([InvalidSample(3, None, "x")], 4))
    assert caught[0].message.failures == (InvalidSample(3, None, "x"),)


def test_warn_points_to_the_users_line_through_libraries():
    images = sktransfer.ImageFeaturizer("tiny/cnn", image_shape=(1, 64))
    with pytest.warns(sktransfer.exceptions.FlatImageWarning) as caught:
        cross_val_score(make_pipeline(images, DummyClassifier()), np.full((4, 64), 2.0), [0, 1, 0, 1], cv=2)
    assert {(one.filename, one.lineno) for one in caught} == {line_of("2.0), [0, 1, 0, 1], cv=2)")}
    with pytest.warns(SktransferWarning) as caught:
        FunctionTransformer(lambda X: warn(f"{len(X)} rows") or X).fit_transform([[0.0]])
    assert (caught[0].filename, caught[0].lineno) == line_of("FunctionTransformer(lambda")


def test_warn_without_a_users_frame_points_to_its_caller():
    with ThreadPoolExecutor() as pool, pytest.warns(SktransferWarning) as caught:
        pool.submit(warn, "from a thread").result()
    assert caught[0].filename == concurrent.futures.thread.__file__


@pytest.mark.process
def test_warn_is_printed_once_per_line_and_can_be_silenced_by_class():
    code = """
from warnings import filterwarnings
from sktransfer.exceptions import StoreWarning, warn
for _ in range(3):
    warn("a store", StoreWarning)
filterwarnings("ignore", category=StoreWarning)
warn("silent", StoreWarning)
"""
    done = subprocess.run([sys.executable, "-"], input=code, capture_output=True, text=True, check=True)
    assert done.stderr.splitlines()[0] == "<stdin>:5: StoreWarning: a store"
    assert "silent" not in done.stderr
    assert done.stderr.count("a store") == 1
