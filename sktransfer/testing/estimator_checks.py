"""Conformance checks for estimators of images and texts.

scikit-learn yields no check for estimators whose X is not two-dimensional. These checks are about X, and each states
how to fix a failure. `rows_as_texts` lets scikit-learn's own checks run on estimators of texts, for all else.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.base import BaseEstimator, clone, is_classifier, is_regressor
from sklearn.compose import ColumnTransformer
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import check_no_attributes_set_in_init, check_parameters_default_constructible

from sktransfer.exceptions import InvalidSampleError
from sktransfer.testing.samples import make_samples

__all__ = ["check_transfer_estimator", "parametrize_with_transfer_checks", "yield_transfer_checks"]

Check = Callable[[Any, list[Any], np.ndarray], None]
ATOL = 1e-5


def _target(estimator: Any, y: np.ndarray) -> np.ndarray:
    return (y == "good").astype(float) if is_regressor(estimator) else y


def _outputs(estimator: Any, X: Any) -> np.ndarray:
    """Return the most precise output of a fitted estimator: features, probabilities or predictions."""
    for method in ("transform", "predict_proba", "predict"):
        if hasattr(estimator, method):
            outputs = getattr(estimator, method)(X)
            if isinstance(outputs, list):  # probabilities of several tasks
                return np.concatenate([one for one in outputs if one is not None], axis=1)  # (n_samples, n_classes)
            return np.asarray(outputs)
    raise AssertionError("the estimator has neither transform nor predict")


def _fitted(estimator: Any, X: Any, y: np.ndarray) -> Any:
    return clone(estimator).fit(X, _target(estimator, y))


def _assert_close(actual: np.ndarray, expected: np.ndarray, message: str) -> None:
    scale = max(1.0, float(np.abs(expected).max()))
    np.testing.assert_allclose(actual, expected, rtol=0, atol=ATOL * scale, err_msg=message)


def check_constructor(estimator: Any, X: list[Any], y: np.ndarray) -> None:
    """Check that `__init__` only stores its arguments.

    To fix: move all work into `fit`.
    """
    name = type(estimator).__name__
    check_no_attributes_set_in_init(name, clone(estimator))
    check_parameters_default_constructible(name, estimator)
    assert clone(estimator).get_params(deep=False).keys() == estimator.get_params(deep=False).keys()


def check_unfitted(estimator: Any, X: list[Any], y: np.ndarray) -> None:
    """Check that an unfitted estimator raises NotFittedError.

    To fix: call `check_is_fitted` first, or set the tag `requires_fit=False`.
    """
    if not estimator.__sklearn_tags__().requires_fit:
        return
    try:
        _outputs(clone(estimator), X)
    except NotFittedError:
        return
    raise AssertionError("no NotFittedError before fit")


def check_fit_returns_self(estimator: Any, X: list[Any], y: np.ndarray) -> None:
    """Check that `fit` returns the estimator and does not change its parameters.

    To fix: write results to attributes that end in an underscore.
    """
    unfitted = clone(estimator)
    before = dict(unfitted.get_params(deep=False))
    assert unfitted.fit(X, _target(estimator, y)) is unfitted
    after = unfitted.get_params(deep=False)
    assert all(after[name] is value for name, value in before.items()), "fit changed a parameter"


def check_fit_twice(estimator: Any, X: list[Any], y: np.ndarray) -> None:
    """Check that a second `fit` does not depend on the first.

    To fix: set every fitted attribute anew in `fit`.
    """
    once = _fitted(estimator, X, y)
    first = _outputs(once, X)
    twice = clone(estimator).fit(X[::-1], _target(estimator, y[::-1]))
    _assert_close(
        _outputs(twice.fit(X, _target(estimator, y)), X), first, "a second fit gives other results than the first"
    )


def check_containers(estimator: Any, X: list[Any], y: np.ndarray) -> None:
    """Check that a list, an object array, a Series and a one-column DataFrame of samples give equal results.

    To fix: validate X by `sktransfer.samples.validation.check_samples`.
    """
    array = np.empty(len(X), dtype=object)
    array[:] = X
    expected = _outputs(_fitted(estimator, X, y), X)
    for container in (array, array[:, None], pd.Series(array, index=range(5, 5 + len(X))), pd.DataFrame({"x": array})):
        outputs = _outputs(_fitted(estimator, container, y), container)
        _assert_close(outputs, expected, f"{type(container).__name__} differs from list")


def check_columns(estimator: Any, X: list[Any], y: np.ndarray) -> None:
    """Check that samples in two columns are an error in `fit`, `partial_fit`, and on a fitted estimator.

    To fix: validate X by `sktransfer.samples.validation.check_samples` in each method.
    """
    wide = np.empty((len(X), 2), dtype=object)
    for row, sample in enumerate(X):
        wide[row, 0] = wide[row, 1] = sample
    fitted = _fitted(estimator, X, y)
    calls = {"fit": partial(_fitted, estimator, wide, y), "a fitted estimator": partial(_outputs, fitted, wide)}
    if hasattr(estimator, "partial_fit"):
        calls["partial_fit"] = partial(fitted.partial_fit, wide, _target(estimator, y))
    for name, call in calls.items():
        try:
            call()
        except ValueError:
            continue
        raise AssertionError(f"{name} takes samples in two columns without a ValueError")


def check_rows_are_independent(estimator: Any, X: list[Any], y: np.ndarray) -> None:
    """Check that the output for a sample depends neither on its row nor on other samples.

    To fix: use eval mode, and mask padding.
    """
    fitted = _fitted(estimator, X, y)
    expected = _outputs(fitted, X)
    order = np.random.default_rng(0).permutation(len(X))
    _assert_close(_outputs(fitted, [X[i] for i in order]), expected[order], "another order gives other results")
    alone = np.concatenate([_outputs(fitted, [x]) for x in X])
    _assert_close(alone, expected, "a sample alone gives other results than in a batch")


def check_missing(estimator: Any, X: list[Any], y: np.ndarray) -> None:
    """Check that a missing sample is an error that names its row.

    To fix: validate X before other work.
    """
    for missing in (None, float("nan"), pd.NA):
        broken = [*X[:3], missing, *X[4:]]
        for call in (partial(_fitted, estimator, broken, y), partial(_outputs, _fitted(estimator, X, y), broken)):
            assert _row_of_error(call) == 3, f"{missing!r} in row 3 is not an error that names row 3"


def _row_of_error(call: Callable[[], Any]) -> int | None:
    try:
        call()
    except InvalidSampleError as error:
        return error.row
    return None


def check_empty(estimator: Any, X: list[Any], y: np.ndarray) -> None:
    """Check that `fit` without samples is an error.

    To fix: validate the number of samples first.
    """
    try:
        clone(estimator).fit([], [])
    except ValueError:
        return
    raise AssertionError("fit without samples raises no ValueError")


def check_lengths(estimator: Any, X: list[Any], y: np.ndarray) -> None:
    """Check that X and y of different lengths are an error.

    To fix: call `check_consistent_length` in `fit`.
    """
    try:
        clone(estimator).fit(X, _target(estimator, y)[:-1])
    except ValueError:
        return
    raise AssertionError("fit with X and y of different lengths raises no ValueError")


def check_pickle(estimator: Any, X: list[Any], y: np.ndarray) -> None:
    """Check that a fitted estimator gives the same results after pickling.

    To fix: keep open files, locks and lambdas out of its attributes.
    """
    fitted = _fitted(estimator, X, y)
    expected = _outputs(fitted, X)
    _assert_close(_outputs(pickle.loads(pickle.dumps(fitted)), X), expected, "pickling changes results")


def check_clone(estimator: Any, X: list[Any], y: np.ndarray) -> None:
    """Check that a clone of a fitted estimator is unfitted.

    To fix: store fitted state only in attributes that end in an underscore, not in parameters.
    """
    fresh = clone(_fitted(estimator, X, y))
    assert not [name for name in vars(fresh) if name.endswith("_") and not name.startswith("_")]
    check_unfitted(fresh, X, y)


def check_frozen(estimator: Any, X: list[Any], y: np.ndarray) -> None:
    """Check that `FrozenEstimator` keeps a fitted estimator through `clone` and `fit`.

    To fix: keep all state that predictions need in the estimator.
    """
    fitted = _fitted(estimator, X, y)
    frozen = clone(FrozenEstimator(fitted)).fit(X, y)
    _assert_close(_outputs(frozen, X), _outputs(fitted, X), "a frozen estimator gives other results")


def check_global_state(estimator: Any, X: list[Any], y: np.ndarray) -> None:
    """Check that random states, the default dtype, threads and grad mode of the process stay unchanged.

    To fix: use your own generators and context managers.
    """
    torch_state, numpy_state = torch.get_rng_state(), repr(np.random.get_state())  # noqa: NPY002
    settings: Any = torch.get_default_dtype(), torch.get_num_threads(), torch.is_grad_enabled()
    _outputs(_fitted(estimator, X, y), X)
    assert torch.equal(torch_state, torch.get_rng_state()), "torch's random state changed"
    assert numpy_state == repr(np.random.get_state()), "numpy's random state changed"  # noqa: NPY002
    assert settings == (torch.get_default_dtype(), torch.get_num_threads(), torch.is_grad_enabled())


def check_repr(estimator: Any, X: list[Any], y: np.ndarray) -> None:
    """Check that notebooks can show the estimator, fitted or not.

    To fix: keep `repr` and `_repr_html_` working.
    """
    for displayed in (clone(estimator), _fitted(estimator, X, y)):
        assert type(estimator).__name__ in repr(displayed)
        assert type(estimator).__name__ in displayed._repr_html_()


def check_features(estimator: Any, X: list[Any], y: np.ndarray) -> None:
    """Check that features are a finite float32 array with names, or a DataFrame with `set_output`.

    To fix: cast to float32, and define `get_feature_names_out`.
    """
    transformer = clone(estimator)
    features = transformer.fit_transform(X, y)
    assert features.dtype == np.float32
    assert features.ndim == 2
    assert np.isfinite(features).all()
    _assert_close(transformer.transform(X), features, "fit_transform and transform differ")
    names = transformer.get_feature_names_out()
    assert len(names) == len(set(names)) == features.shape[1]
    frame = clone(estimator).set_output(transform="pandas").fit_transform(pd.Series(X, index=range(1, len(X) + 1)), y)
    assert list(frame.columns) == list(names)
    assert list(frame.index) == list(range(1, len(X) + 1))


def check_column_transformer(estimator: Any, X: list[Any], y: np.ndarray) -> None:
    """Check that a column of samples and columns of numbers work in a `ColumnTransformer`, a `Pipeline` and folds.

    To fix: accept a one-column DataFrame of objects.
    """
    frame = pd.DataFrame({"n": np.arange(len(X), dtype=float)})
    frame["x"] = pd.Series(X, dtype=object)
    columns = ColumnTransformer([("samples", clone(estimator), ["x"]), ("numbers", "passthrough", ["n"])])
    pipeline = make_pipeline(columns, LogisticRegression())
    scores = cross_val_score(pipeline, frame, y, cv=2, error_score="raise")
    assert np.isfinite(scores).all()


def check_labels(estimator: Any, X: list[Any], y: np.ndarray) -> None:
    """Check that predictions are labels of the given type, and probabilities have the order of `classes_`.

    To fix: encode labels in `fit` and decode them in `predict`.
    """
    for labels in (y, (y == "good"), (y == "good").astype(int) + 7, y.astype(object)):
        fitted = clone(estimator).fit(X, labels)
        assert list(fitted.classes_) == sorted(set(labels.tolist()))
        assert set(fitted.predict(X).tolist()) <= set(labels.tolist())
        probabilities = fitted.predict_proba(X)
        assert probabilities.shape == (len(X), 2)
        np.testing.assert_allclose(probabilities.sum(1), 1, atol=1e-5)
        assert np.array_equal(fitted.classes_[probabilities.argmax(1)], fitted.predict(X))


def check_one_class(estimator: Any, X: list[Any], y: np.ndarray) -> None:
    """Check that `fit` on a single class is an error.

    To fix: count the classes in `fit`.
    """
    try:
        clone(estimator).fit(X, np.full(len(X), "same"))
    except ValueError:
        return
    raise AssertionError("fit on a single class raises no ValueError")


def check_sample_weight(estimator: Any, X: list[Any], y: np.ndarray) -> None:
    """Check that equal weights change nothing, and samples of weight zero have no effect.

    To fix: multiply losses by the weights, and drop samples of weight zero.
    """
    target = _target(estimator, y)
    plain = _outputs(clone(estimator).fit(X, target), X)
    ones = _outputs(clone(estimator).fit(X, target, sample_weight=np.ones(len(X))), X)
    _assert_close(ones, plain, "weights of one change the result")
    weight = np.where(np.arange(len(X)) < len(X) // 2, 1.0, 0.0)
    half = _outputs(clone(estimator).fit(X[: len(X) // 2], target[: len(X) // 2]), X)
    zeros = _outputs(clone(estimator).fit(X, target, sample_weight=weight), X)
    _assert_close(zeros, half, "samples of weight zero have an effect")


def yield_transfer_checks(estimator: Any) -> Iterator[Check]:
    """Yield the checks that apply to an estimator, by its methods and type.

    Parameters
    ----------
    estimator : estimator
        Unfitted estimator.
    """
    yield from (check_constructor, check_unfitted, check_fit_returns_self, check_fit_twice, check_containers)
    yield from (check_columns, check_rows_are_independent, check_missing, check_empty, check_pickle, check_clone)
    yield from (check_frozen, check_global_state, check_repr)
    if hasattr(estimator, "transform"):
        yield from (check_features, check_column_transformer)
    if is_classifier(estimator):
        yield from (check_labels, check_one_class)
    if is_classifier(estimator) or is_regressor(estimator):
        yield from (check_lengths, check_sample_weight)


def _modality(estimator: Any) -> str:
    return "image" if estimator.__sklearn_tags__().input_tags.two_d_array else "text"


def check_transfer_estimator(
    estimator: BaseEstimator, *, expected_failed_checks: Mapping[str, str] | None = None
) -> list[dict[str, Any]]:
    """Run all checks that apply to an estimator of images or texts.

    scikit-learn's own checks are not among them. Run them with `parametrize_with_checks` or `check_estimator` as well:
    on estimators of images as they are, because these take rows of numbers, and on those of texts by `rows_as_texts`.

    Parameters
    ----------
    estimator : estimator
        Unfitted estimator, with its `random_state` set if it has one.
    expected_failed_checks : mapping of str to str, default=None
        Reason per check that is known to fail.

    Returns
    -------
    results : list of dict
        One dict per check, with `check_name`, `status` ("passed" or "xfail") and `reason`.

    Raises
    ------
    AssertionError
        If a check fails unexpectedly, or passes although it is expected to fail.

    See Also
    --------
    rows_as_texts : An estimator of texts for scikit-learn's checks.

    Examples
    --------
    >>> from sktransfer import ImageFeaturizer
    >>> from sktransfer.testing import check_transfer_estimator
    >>> results = check_transfer_estimator(ImageFeaturizer("tiny/cnn"))
    >>> {result["status"] for result in results}
    {'passed'}
    """
    expected = dict(expected_failed_checks or {})
    results: list[dict[str, Any]] = []
    X, y = make_samples(_modality(estimator))
    for check in yield_transfer_checks(estimator):
        name, reason = check.__name__, expected.get(check.__name__)
        try:
            check(estimator, list(X), y.copy())
        except AssertionError:
            if reason is None:
                raise
            results.append({"check_name": name, "status": "xfail", "reason": reason})
            continue
        assert reason is None, (
            f"{name} passes, but is expected to fail ({reason}): remove it from expected_failed_checks"
        )
        results.append({"check_name": name, "status": "passed", "reason": None})
    return results


def parametrize_with_transfer_checks(
    estimators: Sequence[BaseEstimator],
    *,
    expected_failed_checks: Callable[[Any], Mapping[str, str]] = lambda estimator: {},
) -> Any:
    """Make a pytest test run once for each estimator and check.

    Parameters
    ----------
    estimators : sequence of estimators
        Unfitted estimators.
    expected_failed_checks : callable, default=no failures
        Called with an estimator. Returns the reason per check that is known to fail. If such a check passes, the test
        fails.

    Returns
    -------
    decorator : pytest mark
        For a test function with arguments `estimator` and `check` that calls `check(estimator)`.

    Examples
    --------
    >>> from sktransfer import ImageFeaturizer
    >>> from sktransfer.testing import parametrize_with_transfer_checks
    >>> @parametrize_with_transfer_checks([ImageFeaturizer("tiny/cnn")])
    ... def test_estimators(estimator, check):
    ...     check(estimator)
    """
    import pytest

    def cases() -> Iterable[Any]:
        for estimator in estimators:
            reasons = expected_failed_checks(estimator)
            X, y = make_samples(_modality(estimator))
            for check in yield_transfer_checks(estimator):
                reason = reasons.get(check.__name__)
                marks = [pytest.mark.xfail(reason=reason, strict=True)] if reason else []
                call = partial(_call, check, X, y)
                yield pytest.param(estimator, call, marks=marks, id=f"{type(estimator).__name__}-{check.__name__}")

    return pytest.mark.parametrize(("estimator", "check"), list(cases()))


def _call(check: Check, X: list[Any], y: np.ndarray, estimator: Any) -> None:
    check(estimator, list(X), y.copy())
