"""Comparison of an estimator with tf-idf or raw pixels."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext, suppress
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image
from sklearn import config_context
from sklearn.base import BaseEstimator, clone, is_regressor
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import Ridge
from sklearn.model_selection import check_cv, cross_val_score
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_consistent_length

from sktransfer._validation import is_int
from sktransfer.exceptions import InvalidParameterError, InvalidSampleError
from sktransfer.finetuning.multitask import MultiTaskFineTuner
from sktransfer.pipelines.table import read_columns
from sktransfer.pipelines.transfer import linear_classifier, make_columns, modality_of, refuse_target
from sktransfer.samples.columns import column_names, is_frame, is_tensor
from sktransfer.samples.labels import row_labels
from sktransfer.samples.validation import check_samples
from sktransfer.selection.probing import shuffled_folds
from sktransfer.tasks.validation import check_none_missing

__all__ = ["compare_with_baseline"]

_SIZE = (32, 32)
_NAMES = {"text": "tf-idf", "image": "raw pixels"}


def compare_with_baseline(
    estimator: Any,
    X: Any,
    y: Any,
    *,
    kinds: str | Mapping[str, str] | None = None,
    cv: Any = 5,
    scoring: Any = None,
    n_jobs: Any = None,
    random_state: Any = None,
) -> pd.DataFrame:
    """Cross-validate an estimator and a linear model on tf-idf or raw pixels, on the same folds.

    A pretrained network does not help every task. With many labelled texts whose words alone tell the classes, tf-idf
    may be more accurate, at a fraction of the cost.

    Parameters
    ----------
    estimator : estimator
        Classifier or regressor of images, texts or tables, such as a pipeline with a featurizer. It is cloned.
    X : list, Series, array or DataFrame of n_samples
        Images or texts, or a table with a column of them.
    y : array-like of shape (n_samples,) or (n_samples, n_outputs)
        Labels or numbers.
    kinds : mapping of str to str, "image" or "text", default=None
        Kinds of the columns that the baseline reads, as in `make_transfer_pipeline`. None to recognize them.
    cv : int or splitter, default=5
        Folds. An int shuffles the samples, and stratifies labels.
    scoring : str or callable, default=None
        Scorer of scikit-learn. None for accuracy, or R² of numbers.
    n_jobs : int, default=None
        Number of folds in parallel.
    random_state : int, RandomState or None, default=None
        Seed of the folds.

    Returns
    -------
    comparison : DataFrame
        Rows "estimator" and "baseline" with the columns "mean" and "std" of the scores, and "fold0", "fold1" and so
        on. `attrs["report"]` says in a sentence which of them is ahead, and by how much.

    Raises
    ------
    InvalidParameterError
        If X holds neither images nor texts, or has several columns and is no table of pandas or polars, or y is one of
        them, or the estimator learns several tasks.
    ValueError
        If X and y have different lengths, a label is missing, or an estimator cannot be fitted.

    See Also
    --------
    rank_backbones : Compares backbones and layers.
    recommend_backbones : Lists networks to start with.

    Notes
    -----
    The baseline is a `LogisticRegression`, or a `Ridge` if the estimator is a regressor, on `TfidfVectorizer` with
    `sublinear_tf=True`, or on the pixels of images of 32 x 32. For a table, each column of texts or images is read in
    this way, and the other columns as by `make_transfer_pipeline`.

    Examples
    --------
    >>> from sktransfer import FineTuneClassifier, compare_with_baseline
    >>> texts = ["a moving, funny film", "two hours of nothing", "a film to love", "a dull plot, badly told"] * 3
    >>> labels = ["up", "down", "up", "down"] * 3
    >>> frozen = FineTuneClassifier(freeze_depth="all", max_epochs=0)
    >>> comparison = compare_with_baseline(frozen, texts, labels, cv=2, random_state=0)
    >>> comparison["mean"].to_dict()
    {'estimator': 1.0, 'baseline': 1.0}
    >>> comparison.attrs["report"]
    'estimator and tf-idf are equal within the noise of 2 folds: 1.000 and 1.000'

    A table:

    >>> import pandas as pd
    >>> from sktransfer import make_transfer_pipeline
    >>> table = pd.DataFrame({"review": texts, "stars": [5, 1, 4, 2] * 3})
    >>> model = make_transfer_pipeline(table, labels)
    >>> compare_with_baseline(model, table, labels, cv=2, random_state=0).attrs["report"]
    'estimator and tf-idf with the other columns are equal within the noise of 2 folds: 1.000 and 1.000'
    """
    shape: tuple[int, ...] = getattr(X, "shape", ())
    is_table = is_frame(X) and shape[1] > 1
    if len(shape) == 2 and shape[1] > 1 and not is_table and not is_tensor(X):
        raise InvalidParameterError(
            f"X has {shape[1]} columns without names. Pass a table of pandas or polars, one column of texts or images "
            "with an estimator of it, or flat images as X.reshape(-1, height, width)"
        )
    last = estimator.steps[-1][1] if isinstance(estimator, Pipeline) else estimator
    if isinstance(last, MultiTaskFineTuner):
        raise InvalidParameterError(
            "MultiTaskFineTuner has a score for each task, and a comparison needs one. Compare one task at a time, as "
            "FineTuneClassifier or FineTuneRegressor learns y[task]"
        )
    targets = np.asarray(y)
    check_consistent_length(X, targets)
    check_none_missing(targets, "y", "label", labels=row_labels(y))
    if is_table:
        refuse_target(X, y, column_names(X))
    regresses = is_regressor(estimator)
    head = Ridge() if regresses else linear_classifier(targets)
    name, steps, plain = _read_table(X, kinds) if is_table else _read_samples(X, kinds)
    folds = list(_splitter(cv, targets, random_state, regresses=regresses).split(np.zeros(len(targets)), targets))
    validate = partial(cross_val_score, y=y, cv=folds, scoring=scoring, n_jobs=n_jobs, error_score="raise")
    ours = validate(clone(estimator), X)
    with config_context(transform_output="default"):  # counts of words are sparse, which data frames cannot hold
        theirs = validate(make_pipeline(*steps, head), plain)
    names = [f"fold{fold}" for fold in range(len(folds))]
    scores = pd.DataFrame([ours, theirs], index=["estimator", "baseline"], columns=names)
    comparison = pd.concat([scores.agg(["mean", "std"], axis=1), scores], axis=1)
    comparison.attrs["report"] = _report(scores, name)
    return comparison


def _read_table(X: Any, kinds: Any) -> tuple[str, list[Any], Any]:
    """Return the name of the baseline of a table, its first steps, and the table."""
    columns = [column for column in read_columns(X, kinds) if column.kind != "drop"]
    names = [_NAMES[kind] for kind in ("text", "image") if any(column.kind == kind for column in columns)]
    if not names:
        raise InvalidParameterError(
            f"X has {len(columns)} columns to use, and none of texts or images. Name the kind of a column, as in "
            f"kinds={{{column_names(X)[0]!r}: 'text'}}, or pass flat images as X.to_numpy().reshape(-1, height, width)"
        )
    others = " with the other columns" if any(column.kind not in _NAMES for column in columns) else ""
    features = make_columns(columns, {"image": _pixels_of_column, "text": _counts_of_column})
    return " and ".join(names) + others, [features], X


def _pixels_of_column(**_: Any) -> FunctionTransformer:
    """Return a transformer of a column of images, with NaN for one that is missing or cannot be read."""
    return FunctionTransformer(partial(_pixels, leave_gaps=True))


def _counts_of_column(**_: Any) -> Pipeline:
    """Return a transformer of a column of texts, of which a missing one is empty."""
    return make_pipeline(FunctionTransformer(partial(_texts, missing="empty")), _counts())


def _read_samples(X: Any, kinds: Any) -> tuple[str, list[Any], Any]:
    """Return the name of the baseline of texts or images, its first steps, and what it reads."""
    modality = modality_of(X, kinds)
    if modality == "image":
        return _NAMES[modality], [], _pixels(X)  # decoded once, not in each fold
    return _NAMES[modality], [_counts()], _texts(X)


def _counts() -> TfidfVectorizer:
    return TfidfVectorizer(sublinear_tf=True)


def _splitter(cv: Any, y: np.ndarray, random_state: Any, *, regresses: bool) -> Any:
    if not is_int(cv):
        return check_cv(cv, y, classifier=not regresses)
    return shuffled_folds(cv, check_random_state(random_state), stratify=not regresses and y.ndim == 1)


def _texts(X: Any, *, missing: str = "raise") -> list[str]:
    samples = check_samples(BaseEstimator(), X, "text", reset=True, missing=missing)
    return [samples.load(row) for row in range(len(samples))]


def _pixels(X: Any, *, leave_gaps: bool = False) -> np.ndarray:
    """Return the pixels of images of 32 x 32, from 0 to 1, (n_samples, 3072), with NaN in gaps if they are left."""
    missing = "nan" if leave_gaps else "on_error"
    samples = check_samples(BaseEstimator(), X, "image", reset=True, defer=leave_gaps, missing=missing)
    pixels = np.full((len(samples), _SIZE[0] * _SIZE[1] * 3), np.nan)  # (n_samples, 3072)
    for row in range(len(samples)):
        with suppress(InvalidSampleError) if leave_gaps else nullcontext():
            pixels[row] = _small(samples.load(row)).ravel()
    return pixels


def _small(image: Any) -> np.ndarray:
    """Return an image of 32 x 32 pixels, (32, 32, 3)."""
    if isinstance(image, Image.Image):
        return np.asarray(image.convert("RGB").resize(_SIZE), dtype=np.float64) / 255
    channels = np.asarray(image, dtype=np.float32)  # (height, width, 3)
    resized = [Image.fromarray(channels[:, :, channel]).resize(_SIZE) for channel in range(channels.shape[2])]
    return np.stack([np.asarray(one, dtype=np.float64) for one in resized], axis=2)  # (32, 32, 3)


def _report(scores: pd.DataFrame, name: str) -> str:
    """Return which of both is ahead, and by how many points in standard errors of the paired difference."""
    differences = scores.loc["estimator"] - scores.loc["baseline"]  # (n_folds,)
    mean, error = float(differences.mean()), float(differences.std() / np.sqrt(len(differences)))
    both = f"{scores.loc['estimator'].mean():.3f} and {scores.loc['baseline'].mean():.3f}"
    if abs(mean) <= max(error, 1e-9):
        return f"estimator and {name} are equal within the noise of {len(differences)} folds: {both}"
    ahead, other = ("estimator", name) if mean > 0 else (name, "estimator")
    return f"{ahead} is ahead of {other} by {abs(mean):.3f} ± {error:.3f}: {both}"
