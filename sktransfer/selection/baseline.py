"""Comparison of an estimator with tf-idf or raw pixels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from PIL import Image
from sklearn.base import BaseEstimator, clone, is_regressor
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import Ridge
from sklearn.model_selection import check_cv, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_consistent_length

from sktransfer._validation import is_int
from sktransfer.exceptions import InvalidParameterError
from sktransfer.pipelines.cells import recognize_samples
from sktransfer.pipelines.transfer import linear_classifier
from sktransfer.samples.base import Rows
from sktransfer.samples.columns import is_tensor
from sktransfer.samples.validation import check_samples
from sktransfer.selection.probing import shuffled_folds

__all__ = ["compare_with_baseline"]

_SIZE = (32, 32)


def compare_with_baseline(
    estimator: Any, X: Any, y: Any, *, cv: Any = 5, scoring: Any = None, n_jobs: Any = None, random_state: Any = None
) -> pd.DataFrame:
    """Cross-validate an estimator beside a linear model on tf-idf or raw pixels, on the same folds.

    A pretrained network does not help every task. With many labelled texts whose words alone tell the classes, tf-idf
    may be more accurate, at a fraction of the cost.

    Parameters
    ----------
    estimator : estimator
        Classifier or regressor of images or texts, such as a pipeline with a featurizer. It is cloned.
    X : list, Series, array or one-column DataFrame of n_samples
        Images or texts.
    y : array-like of shape (n_samples,) or (n_samples, n_outputs)
        Labels or numbers.
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
        If X holds neither images nor texts, or has several columns.
    ValueError
        If X and y have different lengths, or an estimator cannot be fitted.

    See Also
    --------
    rank_backbones : Compares backbones and layers.
    recommend_backbones : Lists networks to start with.

    Notes
    -----
    The baseline is a `LogisticRegression`, or a `Ridge` if the estimator is a regressor, on `TfidfVectorizer` with
    `sublinear_tf=True`, or on the pixels of images of 32 x 32.

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
    """
    shape: tuple[int, ...] = getattr(X, "shape", ())
    if len(shape) == 2 and shape[1] > 1 and not is_tensor(X):
        raise InvalidParameterError(
            f"X has {shape[1]} columns, and the baseline reads one column of texts, or images. Pass a column, "
            "such as X['text'], with an estimator of it, or flat images as X.reshape(-1, height, width)"
        )
    modality = recognize_samples(X, None)
    samples = check_samples(BaseEstimator(), X, modality, reset=True)
    targets = np.asarray(y)
    check_consistent_length(range(len(samples)), targets)
    regresses = is_regressor(estimator)
    folds = list(_splitter(cv, targets, random_state, regresses=regresses).split(np.zeros(len(targets)), targets))
    plain = _texts(samples) if modality == "text" else _pixels(samples)
    scores = pd.DataFrame(
        [
            cross_val_score(one, data, y, cv=folds, scoring=scoring, n_jobs=n_jobs, error_score="raise")
            for one, data in ((clone(estimator), X), (_baseline(modality, targets, regresses=regresses), plain))
        ],
        index=["estimator", "baseline"],
        columns=[f"fold{fold}" for fold in range(len(folds))],
    )
    comparison = pd.concat([scores.agg(["mean", "std"], axis=1), scores], axis=1)
    comparison.attrs["report"] = _report(scores, "tf-idf" if modality == "text" else "raw pixels")
    return comparison


def _splitter(cv: Any, y: np.ndarray, random_state: Any, *, regresses: bool) -> Any:
    if not is_int(cv):
        return check_cv(cv, y, classifier=not regresses)
    return shuffled_folds(cv, check_random_state(random_state), stratify=not regresses and y.ndim == 1)


def _texts(samples: Rows) -> list[str]:
    return [samples.load(row) for row in range(len(samples))]


def _pixels(samples: Rows) -> np.ndarray:
    """Return the pixels of images of 32 x 32, from 0 to 1, (n_samples, 3072)."""
    images = [_small(samples.load(row)) for row in range(len(samples))]
    return np.stack([image.ravel() for image in images])  # (n_samples, 3072)


def _small(image: Any) -> np.ndarray:
    """Return an image of 32 x 32 pixels, (32, 32, 3)."""
    if isinstance(image, Image.Image):
        return np.asarray(image.convert("RGB").resize(_SIZE), dtype=np.float64) / 255
    channels = np.asarray(image, dtype=np.float32)  # (height, width, 3)
    resized = [Image.fromarray(channels[:, :, channel]).resize(_SIZE) for channel in range(channels.shape[2])]
    return np.stack([np.asarray(one, dtype=np.float64) for one in resized], axis=2)  # (32, 32, 3)


def _baseline(modality: str, y: np.ndarray, *, regresses: bool) -> Any:
    head = Ridge() if regresses else linear_classifier(y)
    return make_pipeline(TfidfVectorizer(sublinear_tf=True), head) if modality == "text" else head


def _report(scores: pd.DataFrame, name: str) -> str:
    """Return which of both is ahead, and by how many points in standard errors of the paired difference."""
    differences = scores.loc["estimator"] - scores.loc["baseline"]  # (n_folds,)
    mean, error = float(differences.mean()), float(differences.std() / np.sqrt(len(differences)))
    both = f"{scores.loc['estimator'].mean():.3f} and {scores.loc['baseline'].mean():.3f}"
    if abs(mean) <= max(error, 1e-9):
        return f"estimator and {name} are equal within the noise of {len(differences)} folds: {both}"
    ahead, other = ("estimator", name) if mean > 0 else (name, "estimator")
    return f"{ahead} is ahead of {other} by {abs(mean):.3f} ± {error:.3f}: {both}"
