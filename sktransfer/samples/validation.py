"""Validation of X for all estimators, with scikit-learn's feature names and tags."""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import narwhals as nw
import numpy as np
from sklearn.utils import Tags
from sklearn.utils.validation import validate_data

from sktransfer.samples.base import Rows
from sktransfer.samples.columns import column_names, is_frame
from sktransfer.samples.containers import as_list
from sktransfer.samples.flat import refuse_other_columns
from sktransfer.samples.images import check_images, is_flat
from sktransfer.samples.labels import labelled_rows, row_labels
from sktransfer.samples.texts import check_texts

__all__ = ["check_samples", "holds_samples", "remember_columns", "set_input_tags"]


def check_samples(
    estimator: Any,
    X: Any,
    modality: Any,
    *,
    image_shape: tuple[int, ...] | None = None,
    reset: bool,
    defer: bool = False,
    missing: str | None = None,
) -> Rows:
    """Validate X as samples of a modality, and store or compare its columns as scikit-learn does.

    Parameters
    ----------
    estimator : estimator
        Estimator that receives `n_features_in_` and `feature_names_in_` if X has columns.
    X : array-like, DataFrame, Series or list
        Images or texts of any kind that `check_images` or `check_texts` accepts.
    modality : {"image", "text"} or Columns
        Modality of the samples, or the columns of rows: `takes` of the backbone that reads them.
    image_shape : tuple of int, default=None
        Shape of images given as flat rows of pixels.
    reset : bool
        True in `fit`, to store the columns; False elsewhere, to compare with them.
    defer : bool, default=False
        Whether images that cannot be used raise an error when they are loaded or hashed, not immediately.
    missing : str, default=None
        Treatment of missing samples, as in `check_images` or `check_texts`. None for their default.

    Returns
    -------
    samples : Rows

    Raises
    ------
    InvalidSampleError
        If a sample cannot be used, unless `defer`.
    ValueError
        If X as a whole cannot be used.
    """
    labels = row_labels(X)
    with labelled_rows(labels):
        if not isinstance(modality, str):
            samples: Rows = modality.check(estimator, X, image_shape=image_shape, reset=reset)
            samples.labels = labels
            return samples
        X = as_list(X, modality)
        if modality == "text":
            samples = _check_texts(estimator, X, reset, missing or "raise")
        else:
            samples = _check_images(estimator, X, image_shape, reset, defer, missing or "on_error")
    samples.labels = labels
    return samples


def _check_images(
    estimator: Any, X: Any, image_shape: tuple[int, ...] | None, reset: bool, defer: bool, missing: str
) -> Rows:
    if is_flat(X):
        refuse_other_columns(X)  # check_array would only name the first value that is not a number
        height, *width = getattr(X, "shape", (0,))
        if not reset and not hasattr(estimator, "n_features_in_") and width == [height]:
            raise ValueError(
                f"X has shape {(height, height)}, which is one image or flat rows of pixels, and the estimator was not "
                "fitted on flat rows: pass X[None] for one image"
            )
        X = validate_data(estimator, X, reset=reset, ensure_all_finite=not defer)
    else:
        if reset:
            _refuse_channels_first(X)
        remember_columns(estimator, X, reset=reset)
    return check_images(X, image_shape=image_shape, defer=defer, missing=missing)


def _refuse_channels_first(X: Any) -> None:
    """Raise an error in `fit` if a float array may be one colour image. A later batch may have three grey images."""
    if isinstance(X, np.ndarray) and X.ndim == 3 and len(X) == 3 and X.dtype.kind == "f":
        raise ValueError(
            f"X is an array of shape {X.shape}: one colour image with its channels first, or 3 grey images? Pass "
            "np.moveaxis(X, 0, -1)[None] for the one image, X[..., None] for the grey ones"
        )


def _check_texts(estimator: Any, X: Any, reset: bool, missing: str) -> Rows:
    remember_columns(estimator, X, reset=reset)
    return check_texts(X, missing)


def holds_samples(y: Any, takes: Any) -> bool:
    """Return whether targets look like samples, as if X and y were swapped.

    Parameters
    ----------
    y : object
        Targets as given to `fit`.
    takes : {"image", "text"} or Columns
        Modality of the samples, or the columns of rows. A data frame with these columns looks like rows.

    Examples
    --------
    >>> from sktransfer.samples.validation import holds_samples
    >>> holds_samples(["a fine film", "a film of no charm"], "text"), holds_samples(["good", "bad"], "text")
    (True, False)
    """
    if not isinstance(takes, str):
        return is_frame(y) and set(takes.modalities) <= set(column_names(y))
    if is_frame(y):
        if len(column_names(y)) != 1:
            return False
        y = nw.from_native(y, eager_only=True).to_dict(as_series=False).popitem()[1]
    shape = getattr(y, "shape", None)
    if not isinstance(y, (list, tuple)) and (shape is None or not 1 <= len(shape) <= 4 or not shape[0]):
        return False
    first = list(itertools.islice(iter(y), 20)) if shape is None or len(shape) == 1 else [y[0]]
    if takes == "text":
        return bool(first) and all(isinstance(one, str) for one in first) and _n_words(first) > 2 * len(first)
    return takes == "image" and any(_is_image(one) for one in first[:1])


def _n_words(texts: Sequence[str]) -> int:
    return sum(len(text.split()) for text in texts)


def _is_image(sample: Any) -> bool:
    if isinstance(sample, (str, os.PathLike)):
        return Path(sample).is_file()
    return hasattr(sample, "convert") or len(getattr(sample, "shape", ())) in (2, 3)


def remember_columns(estimator: Any, X: Any, *, reset: bool) -> None:
    """Store the columns of X in `fit`, and compare with them elsewhere, if X has columns.

    Parameters
    ----------
    estimator : estimator
        Estimator that receives `n_features_in_` and `feature_names_in_`.
    X : object
        Input of the estimator.
    reset : bool
        True in `fit`, to store the columns; False elsewhere, to compare with them.

    Raises
    ------
    ValueError
        If the columns are not those of `fit`.
    """
    if hasattr(X, "columns"):
        validate_data(estimator, X, reset=reset, skip_check_array=True)
    elif reset:  # lists and Series have no columns, and those of an earlier fit must be removed
        for attribute in ("n_features_in_", "feature_names_in_"):
            estimator.__dict__.pop(attribute, None)


def set_input_tags(tags: Tags, modality: str) -> None:
    """Set scikit-learn's input tags for an estimator of a modality.

    Images have the tag of 2-D arrays, because flat rows are images and scikit-learn's checks pass no other samples.
    """
    is_text = modality == "text"
    tags.input_tags.one_d_array = tags.input_tags.string = is_text
    tags.input_tags.two_d_array = tags.input_tags.three_d_array = not is_text
