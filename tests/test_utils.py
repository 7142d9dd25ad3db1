from __future__ import annotations

import inspect
import io
import multiprocessing
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from sktransfer import EMA, BestBackbone, FineTuneClassifier, FineTuneRegressor, ImageFeaturizer, load_vectors
from sktransfer._utils import all_or_nothing, in_process, local_path, progress, title_of
from sktransfer.backbones.registry import registry
from sktransfer.exceptions import BackboneNotFoundError, WeightsError
from tests.helpers.toys import image_backbone

X = np.random.default_rng(0).random((12, 8, 8, 3)).astype(np.float32)
Y = np.arange(12) % 2
BACKBONE = image_backbone()


class Model:
    @all_or_nothing
    def fit(self, X, error=None):
        """Fit."""
        self.n_ = len(X)
        if error is not None:
            raise error
        self.whole_ = True
        return self


@pytest.mark.parametrize("error", [ValueError("bad"), KeyboardInterrupt(), SystemExit(3)])
def test_all_or_nothing_restores_attributes(error):
    model = Model()
    with pytest.raises(type(error)):
        model.fit([1], error)
    assert vars(model) == {}
    model.fit([1, 2])
    with pytest.raises(type(error)):
        model.fit([1], error)
    assert vars(model) == {"n_": 2, "whole_": True}


def test_all_or_nothing_keeps_name_signature_and_docstring():
    assert (Model.fit.__name__, Model.fit.__doc__) == ("fit", "Fit.")
    assert list(inspect.signature(Model.fit).parameters) == ["self", "X", "error"]


class _Stops:
    """Samples that interrupt the fit."""

    def __array__(self, *args, **kwargs):
        raise KeyboardInterrupt


@pytest.mark.parametrize(
    "estimator",
    [
        ImageFeaturizer(BACKBONE),
        FineTuneClassifier(BACKBONE, max_epochs=1, random_state=0),
        FineTuneRegressor(BACKBONE, max_epochs=1, random_state=0),
        BestBackbone({"toy": BACKBONE}, estimator=LogisticRegression()),
    ],
    ids=lambda estimator: type(estimator).__name__,
)
def test_failed_fit_leaves_estimators_as_before(estimator):
    estimator.fit(X, Y)
    act = estimator.predict if hasattr(estimator, "predict") else estimator.transform
    before, attributes = act(X), dict(vars(estimator))
    with pytest.raises(ValueError, match="row 3"):
        estimator.fit([*X[:3], X[3] * np.nan, *X[4:]], Y)
    with pytest.raises(KeyboardInterrupt):
        estimator.fit(_Stops(), Y)
    assert vars(estimator) == attributes
    np.testing.assert_array_equal(act(X), before)


def test_local_path_expands_known_users(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert local_path("~/model") == tmp_path / "model"
    assert local_path("~no such user/model") == Path("~no such user/model")
    assert local_path("~no\0name/model") == Path("~no\0name/model")
    assert local_path(Path("plain")) == Path("plain")


def test_local_path_of_an_unknown_user_is_a_missing_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BackboneNotFoundError):
        registry().find("hf/~nosuchuser/model")
    with pytest.raises(BackboneNotFoundError):
        registry().find("hf/~no\0name")
    with pytest.raises(WeightsError, match="no such file"):
        FineTuneClassifier(weights="~nosuchuser/weights.safetensors").fit([[0.0] * 64] * 4, [0, 1, 0, 1])
    with pytest.raises(WeightsError, match="~nosuchuser"):
        load_vectors("~nosuchuser/vectors.bin")
    ImageFeaturizer(cache="~nosuchuser").fit_transform([[0.0] * 64])
    assert (tmp_path / "~nosuchuser").is_dir()


@pytest.mark.parametrize("verbose", [0, 1, 2])
def test_progress_shows_a_bar_on_stderr_if_verbose(verbose, capsys):
    with progress(10, "Featurizer", "image", verbose) as bar:
        bar.update(4)
        bar.update(6)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert bool(verbose) == ("Featurizer" in shown.err and "10/10" in shown.err and "image" in shown.err)
    assert verbose or not shown.err


def test_progress_is_a_bar_on_a_terminal(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setattr("sys.stderr", Terminal())
    with progress(10, ImageFeaturizer(layer=2), "image", 1) as bar:
        bar.update(10)
    assert "\rImageFeaturizer(layer=2): 100%" in sys.stderr.getvalue()


def test_progress_without_a_terminal_is_lines_that_are_flushed(monkeypatch):
    class File(io.StringIO):
        flushed = ""

        def flush(self):
            self.flushed = self.getvalue()

    monkeypatch.setattr("sys.stderr", File())
    monkeypatch.setattr("sktransfer._utils._LINE_SECONDS", 0.0)
    with progress(10, ImageFeaturizer(layer=2), "image", 1) as bar:
        bar.update(4)
        assert sys.stderr.flushed.startswith("ImageFeaturizer(layer=2): 4/10 images, ")
        bar.update(6)
    assert [line.split(",")[0].split(": ")[1] for line in sys.stderr.flushed.splitlines()] == [
        "4/10 images",
        "10/10 images",
    ]
    assert "\r" not in sys.stderr.flushed


def test_title_of_shows_what_was_set_in_one_line():
    assert title_of(FineTuneClassifier(freeze_depth=1.0, callbacks=[EMA(0.5)])) == (
        "FineTuneClassifier(callbacks=[EMA], freeze_depth=1.0)"
    )
    network = torch.nn.Sequential(*[torch.nn.Linear(2, 2)] * 9)
    title = title_of(ImageFeaturizer(network))
    assert len(title) <= 120
    assert title.endswith("…)")


@pytest.mark.process
def test_in_process_names_the_process_of_a_worker():
    assert in_process("a line") == "a line"
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert re.fullmatch(r"\[process \d+\] a line", pool.apply(in_process, ("a line",)))
