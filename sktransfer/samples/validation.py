"""The one door through which X comes into every estimator."""

from __future__ import annotations

from typing import Any

from sklearn.utils import Tags
from sklearn.utils.validation import validate_data

from sktransfer.samples.base import Samples
from sktransfer.samples.images import check_images, is_flat
from sktransfer.samples.texts import check_texts

__all__ = ["check_samples", "remember_columns", "set_input_tags"]


def check_samples(
    estimator: Any,
    X: Any,
    modality: str,
    *,
    image_shape: tuple[int, ...] | None = None,
    reset: bool,
    defer: bool = False,
) -> Samples:
    """Validate X as samples of a modality, and let the estimator remember columns as scikit-learn wants it.

    Parameters
    ----------
    estimator : estimator
        Gets `n_features_in_` and `feature_names_in_` where X has columns.
    X : array-like, DataFrame, Series or list
        Images or texts of any kind that `check_images` or `check_texts` takes.
    modality : {"image", "text"}
        Which of the two.
    image_shape : tuple of int, default=None
        What flat rows of pixels stand for.
    reset : bool
        True in `fit`: remember; False elsewhere: compare.
    defer : bool, default=False
        Let images that cannot be used raise when they are loaded or hashed, and not at once.

    Returns
    -------
    samples : Samples

    Raises
    ------
    InvalidSampleError
        If a sample cannot be used, unless `defer`.
    ValueError
        If X as a whole cannot.
    """
    if modality == "image" and is_flat(X):
        table = validate_data(estimator, X, reset=reset, ensure_all_finite=not defer)
        return check_images(table, image_shape=image_shape, defer=defer)
    remember_columns(estimator, X, reset=reset)
    return check_texts(X) if modality == "text" else check_images(X, image_shape=image_shape, defer=defer)


def remember_columns(estimator: Any, X: Any, *, reset: bool) -> None:
    """Let an estimator remember the columns of X in `fit`, and compare them elsewhere, where X has columns.

    Parameters
    ----------
    estimator : estimator
        Gets `n_features_in_` and `feature_names_in_`.
    X : anything
        What the caller gave.
    reset : bool
        True in `fit`: remember; False elsewhere: compare.

    Raises
    ------
    ValueError
        If the columns are not those of `fit`.
    """
    if hasattr(X, "columns"):
        validate_data(estimator, X, reset=reset, skip_check_array=True)
    elif reset:  # lists and Series have no columns to remember, nor may those of an earlier fit stay
        for attribute in ("n_features_in_", "feature_names_in_"):
            estimator.__dict__.pop(attribute, None)


def set_input_tags(tags: Tags, modality: str) -> None:
    """Tell scikit-learn what an estimator of this modality takes.

    Images may come as flat rows, so that scikit-learn's checks, which know no other samples, apply to them.
    """
    is_text = modality == "text"
    tags.input_tags.one_d_array = tags.input_tags.string = is_text
    tags.input_tags.two_d_array = tags.input_tags.three_d_array = not is_text
