"""`check_runtime` and its pytest decorator: conformance checks for authors of runtimes."""

from __future__ import annotations

import functools
import pickle
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sktransfer.backbones.backbone import Backbone
from sktransfer.backbones.loading import load_backbone
from sktransfer.cache.resolve import clear_cache
from sktransfer.config import config_context
from sktransfer.exceptions import InvalidParameterError
from sktransfer.featurizers.image import ImageFeaturizer
from sktransfer.featurizers.text import TextFeaturizer
from sktransfer.finetuning.classifier import FineTuneClassifier
from sktransfer.runtimes.resolve import TORCH, find_runtime
from sktransfer.testing.samples import make_samples

__all__ = ["RUNTIME_CHECKS", "check_runtime", "parametrize_with_runtime_checks"]

TOLERANCE = 1e-5  # of the largest value
LEAST_COSINE = 0.9  # between features in int8 and in float32

Check = Callable[["RuntimeSubject"], None]


class RuntimeSubject:
    """A runtime under test, and backbones that keep its compiled stages from one check to the next.

    Parameters
    ----------
    name : str
        Name of the runtime.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.backbones = {"image": _first_stages("tiny/cnn"), "text": _first_stages("tiny/bert")}

    def features(self, modality: str, *, runtime: str | None = None, n_samples: int = 12, **params: Any) -> np.ndarray:
        """Return features of a few samples, computed by the runtime unless another is given."""
        X, _ = make_samples(modality, n_samples)
        kind: Any = TextFeaturizer if modality == "text" else ImageFeaturizer
        featurizer = kind(self.backbones[modality], **{"cache": None, "device": "cpu", **params})
        with config_context(runtime=self.name if runtime is None else runtime):
            found: np.ndarray = featurizer.fit_transform(X)
        return found

    def assert_close(self, found: np.ndarray, expected: np.ndarray, what: str, fix: str) -> None:
        """Compare features, up to a tolerance relative to the largest."""
        difference = float(np.abs(found - expected).max()) / float(np.abs(expected).max())
        assert difference <= TOLERANCE, (
            f"{what} differ by {difference:.2g} of the largest value, at most {TOLERANCE:g} is allowed. {fix}"
        )


def _first_stages(name: str) -> Backbone:
    """Return a backbone of the first two stages of another, which are converted sooner than all."""
    whole = load_backbone(name)
    stages = list(zip(whole.stage_names, whole.stages, strict=True))[:2]
    return Backbone.from_modules(stages, modality=whole.modality, preprocess=whole.preprocess)


def check_precisions(subject: RuntimeSubject) -> None:
    """Check that the runtime is found by its name, computes float32, and states a version."""
    runtime = find_runtime(subject.name, "float32", on_cpu=True)
    assert runtime is not None
    unknown = set(runtime.precisions) - {"float32", "bfloat16", "int8"}
    assert not unknown, f"precisions has {sorted(unknown)}; allowed are 'float32', 'bfloat16' and 'int8'"
    assert isinstance(runtime.version(), str), "version() must return a string"
    assert runtime.version(), "version() must not be empty, because cached values depend on it"


def check_values(subject: RuntimeSubject) -> None:
    """Check that features of intermediate and last layers equal those of torch, also of padded texts."""
    for modality in subject.backbones:
        several: dict[str, Any] = {"layer": [0, 1], "pooling": "max"}
        for params in ({}, several):
            found, expected = (subject.features(modality, runtime=one, **params) for one in (None, "torch"))
            fix = "Set the precision of the library to float32, and pass the mask."
            subject.assert_close(found, expected, f"features of {modality}s and those of torch", fix)


def check_batches(subject: RuntimeSubject) -> None:
    """Check that features do not depend on the size of the batch or on the lengths in it."""
    for modality in subject.backbones:
        alone, together = (subject.features(modality, batch_size=size) for size in (1, 12))
        subject.assert_close(alone, together, "features of single samples and of a batch", "Keep axes of size n free.")


def check_threads(subject: RuntimeSubject) -> None:
    """Check that threads which call one compiled stage at once get their own outputs."""
    before = torch.get_num_threads()
    expected = subject.features("image", n_samples=40, batch_size=1)
    torch.set_num_threads(2)
    try:
        found = subject.features("image", n_samples=40, batch_size=1)
    finally:
        torch.set_num_threads(before)
    subject.assert_close(found, expected, "features computed in two threads and in one", "Copy the output of a call.")


def check_runtime_cache(subject: RuntimeSubject) -> None:
    """Check that cached features and passes that resume from cached values equal those without a cache."""
    for modality in subject.backbones:
        clear_cache()
        expected = subject.features(modality)
        subject.features(modality, layer=0, cache="memory")
        resumed = subject.features(modality, cache="memory")
        subject.assert_close(resumed, expected, "features after a resumed pass and without a cache", "")
        again = subject.features(modality, cache="memory")
        assert np.array_equal(again, resumed), "cached features must be those that the pass returned"
        cached, computed = (subject.features(modality, runtime="torch", cache=one) for one in ("memory", None))
        assert np.array_equal(cached, computed), "torch must not read values that the runtime has cached"
    clear_cache()


def check_frozen(subject: RuntimeSubject) -> None:
    """Check that a training keeps frozen stages bit for bit, and that equal seeds give equal results."""
    X, y = make_samples("image", 12)
    backbone = subject.backbones["image"]
    before = {name: value.clone() for name, value in backbone.stages.state_dict().items()}
    with config_context(runtime=subject.name):
        make = FineTuneClassifier(backbone, freeze_depth=-1, max_epochs=2, lr=1e-3, random_state=0, device="cpu")
        first, second = (make.fit(X, y).predict_proba(X) for _ in range(2))
    assert np.array_equal(first, second), "two trainings with one seed differ"
    after = backbone.stages.state_dict()
    changed = [name for name, value in before.items() if not torch.equal(value, after[name])]
    assert not changed, f"frozen tensors were changed: {changed}"


def check_runtime_pickle(subject: RuntimeSubject) -> None:
    """Check that a fitted estimator is pickled without compiled stages, and computes the same."""
    X, _ = make_samples("text", 6)
    with config_context(runtime=subject.name):
        featurizer = TextFeaturizer(subject.backbones["text"], cache=None, device="cpu").fit(X)
        expected = featurizer.transform(X)
        found = pickle.loads(pickle.dumps(featurizer)).transform(X)
    subject.assert_close(found, expected, "features before and after pickling", "")


def check_files(subject: RuntimeSubject) -> None:
    """Check that models in a folder are used again, and that damaged ones are replaced."""
    expected = subject.features("image", layer=0)
    with tempfile.TemporaryDirectory() as folder, config_context(runtime_cache=folder):
        for damage in (False, False, True):
            subject.backbones["image"].copies.clear()
            if damage:
                for file in _files(folder):
                    Path(file).write_bytes(b"damaged")
            before = _files(folder)
            found = subject.features("image", layer=0)
            subject.assert_close(found, expected, "features of a model in a folder", "Write weights in float32.")
            assert _files(folder), "write() must write a file"
            assert damage or not before or _files(folder) == before, "read() must read what write() has written"


def check_int8(subject: RuntimeSubject) -> None:
    """Check that features in int8 point where those in float32 do, and do not depend on the cache."""
    runtime = find_runtime(subject.name, "float32", on_cpu=True)
    assert runtime is not None
    if "int8" not in runtime.precisions:
        return
    expected = subject.features("image")
    found = subject.features("image", precision="int8")
    cosine = (found * expected).sum(1) / np.linalg.norm(found, axis=1) / np.linalg.norm(expected, axis=1)
    assert cosine.min() >= LEAST_COSINE, f"a cosine between int8 and float32 is {cosine.min():.3f}"
    assert not np.allclose(found, expected, rtol=1e-6), "features in int8 equal those in float32"
    subject.features("image", precision="int8", layer=0, cache="memory")
    resumed = subject.features("image", precision="int8", cache="memory")
    clear_cache()
    subject.assert_close(resumed, found, "features in int8 with and without a cache", "")


def _files(folder: str) -> Mapping[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in sorted(Path(folder).rglob("*")) if path.is_file()}


RUNTIME_CHECKS: tuple[Check, ...] = (
    check_precisions,
    check_values,
    check_batches,
    check_threads,
    check_runtime_cache,
    check_frozen,
    check_runtime_pickle,
    check_int8,
    check_files,
)


def check_runtime(name: str) -> None:
    """Run all checks of a runtime.

    Parameters
    ----------
    name : str
        Name of an installed runtime.

    Raises
    ------
    AssertionError
        If a check fails. The message says what to do.
    InvalidParameterError
        If there is no such runtime.

    Examples
    --------
    >>> from sktransfer.testing import check_runtime
    >>> check_runtime("torch")
    Traceback (most recent call last):
    sktransfer.exceptions.InvalidParameterError: name='torch' is the library that runtimes are compared with
    """
    subject = _subject(name)
    for check in RUNTIME_CHECKS:
        check(subject)


def parametrize_with_runtime_checks(name: str) -> Callable[[Any], Any]:
    """Decorate a test function with the parameter `check`, a function without arguments, for each check.

    Parameters
    ----------
    name : str
        Name of an installed runtime.
    """
    import pytest

    subject = functools.cache(_subject)  # made when the first check runs
    checks = [pytest.param(functools.partial(_run, one, subject, name), id=one.__name__) for one in RUNTIME_CHECKS]
    return pytest.mark.parametrize("check", checks)


def _run(check: Check, subject: Callable[[str], RuntimeSubject], name: str) -> None:
    check(subject(name))


def _subject(name: str) -> RuntimeSubject:
    if name == TORCH:
        raise InvalidParameterError(f"name={name!r} is the library that runtimes are compared with")
    return RuntimeSubject(name)
