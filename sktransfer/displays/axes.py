"""Axes, colour-blind safe colours and label helpers for all displays."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from sktransfer.backbones.backbone import Backbone
from sktransfer.exceptions import InvalidParameterError

__all__ = ["COLOURS", "MARKERS", "check_ranking", "labels_of", "resolve_axes", "shorten_name", "style_axes"]

# The palette of Okabe and Ito without yellow, which is too pale for lines. Each colour has its own marker.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000", "#999999")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")


def resolve_axes(ax: Any, size: tuple[float, float] = (6.0, 4.0)) -> Any:
    """Return `ax`, or the axes of a new figure whose layout makes room for the labels.

    Parameters
    ----------
    ax : Axes or None
        Axes to draw on.
    size : (float, float), default=(6.0, 4.0)
        Width and height of a new figure, in inches.

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    """
    try:
        from matplotlib import pyplot as plt
    except ImportError as error:
        raise ImportError("displays need matplotlib: pip install 'matplotlib>=3.11'") from error
    if ax is None:
        _, ax = plt.subplots(figsize=size, layout="constrained")
    return ax


def require_ranking(estimator: Any) -> Any:
    """Return the ranking of a fitted `BestBackbone`.

    Parameters
    ----------
    estimator : BestBackbone
        Estimator as given.

    Raises
    ------
    InvalidParameterError
        If it is another estimator.
    NotFittedError
        If it is not fitted.
    """
    from sktransfer.selection.best import BestBackbone

    if not isinstance(estimator, BestBackbone):
        raise InvalidParameterError(
            f"{type(estimator).__name__} ranks no backbones; pass a fitted BestBackbone, or a result of rank_backbones "
            "to from_ranking"
        )
    check_is_fitted(estimator)
    return estimator.ranking_


def style_axes(ax: Any, *, grid: str = "both") -> None:
    """Hide the upper and right spines, and add a pale grid below the data.

    Parameters
    ----------
    ax : Axes
        Axes to style.
    grid : {"both", "x", "y"}, default="both"
        Direction of the grid.
    """
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(axis=grid, alpha=0.25)
    ax.set_axisbelow(True)


def shorten_name(name: str, length: int = 32) -> str:
    """Shorten a backbone's name for a label. Of a local folder, the last two parts remain.

    Parameters
    ----------
    name : str
        Name of the backbone.
    length : int, default=32
        Maximum number of characters.

    Examples
    --------
    >>> from sktransfer.displays.axes import shorten_name
    >>> shorten_name("hf//home/me/models/my-bert"), shorten_name("tiny/cnn")
    ('hf/…/models/my-bert', 'tiny/cnn')
    """
    provider, _, rest = name.partition("/")
    parts = [part for part in rest.split("/") if part]
    if len(parts) > 2:
        name = f"{provider}/…/{'/'.join(parts[-2:])}"
    return _cut(name, length)


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length // 2 - 1]}…{text[-length // 2 :]}"


def labels_of(values: Iterable[Any], length: int = 32) -> list[str]:
    """Return a short label for each value of a parameter, in one line. Different values have different labels.

    Parameters
    ----------
    values : iterable
        Values of any type: numbers, strings, None, tuples, backbones, functions, estimators.
    length : int, default=32
        Maximum number of characters, before a number that tells equal labels apart.

    Examples
    --------
    >>> from sktransfer.displays.axes import labels_of
    >>> labels_of([1, 1.0, "all", "1", None, (0, -1), len])
    ['1', '1.0', 'all', "'1'", 'None', '(0, -1)', 'len']
    """
    labels: list[str] = []
    for value in values:
        label = _label_of(value, length)
        n_equal = sum(one == label or one.startswith(f"{label} #") for one in labels)
        labels.append(f"{label} #{n_equal + 1}" if n_equal else label)
    return labels


def _label_of(value: Any, length: int) -> str:
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, Backbone):
        return shorten_name(value.name, length)
    if isinstance(value, str):
        return repr(value) if _reads_as_value(value) else _cut(" ".join(value.split()), length)
    if isinstance(value, float):
        label = f"{value:.6g}"
        return label if any(mark in label for mark in ".en") else f"{label}.0"  # 1.0 is not 1
    if isinstance(value, (tuple, list)):
        parts = ", ".join(_label_of(one, length) for one in value)
        return _cut(f"({parts})" if isinstance(value, tuple) else f"[{parts}]", length)
    if callable(value) and hasattr(value, "__name__"):
        return _cut(value.__name__, length)
    text = repr(value)
    return type(value).__name__ if "\n" in text and len(text) > length else _cut(" ".join(text.split()), length)


def _reads_as_value(text: str) -> bool:
    """Return whether a string without quotes would be taken for another value."""
    with suppress(ValueError):
        float(text)
        return True
    return text in ("", "None", "True", "False")


def check_ranking(ranking: Any, display: str) -> None:
    """Raise an error if an object is not a ranking.

    Parameters
    ----------
    ranking : object
        Object to check.
    display : str
        Class name of the display that raises the error.

    Raises
    ------
    InvalidParameterError
        If it lacks the columns "backbone" or "layer".
    """
    missing = [column for column in ("backbone", "layer") if column not in getattr(ranking, "columns", ())]
    if missing:
        raise InvalidParameterError(
            f"{display} takes a DataFrame as rank_backbones returns it; the columns {missing} are missing"
        )
