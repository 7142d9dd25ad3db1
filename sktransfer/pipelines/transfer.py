"""A pipeline for images, texts or a table, built from the data."""

from __future__ import annotations

import numbers
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import narwhals as nw
import numpy as np
from sklearn.base import BaseEstimator, is_classifier, is_regressor
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.multiclass import OneVsRestClassifier
from sklearn.multioutput import MultiOutputClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.utils.multiclass import type_of_target
from sklearn.utils.validation import check_consistent_length

from sktransfer.backbones.spec import MODALITIES
from sktransfer.engine.choice_targets import ChoiceTargets
from sktransfer.exceptions import DroppedColumnWarning, InvalidCellWarning, InvalidParameterError, warn
from sktransfer.featurizers.image import ImageFeaturizer
from sktransfer.featurizers.text import TextFeaturizer
from sktransfer.pipelines.cells import DEFAULT_BACKBONES, recognize_samples
from sktransfer.pipelines.dates import DateFeatures
from sktransfer.pipelines.numbers import NumberFeatures
from sktransfer.pipelines.table import Column, read_columns
from sktransfer.samples.columns import as_series, is_frame, is_missing, quoted

if TYPE_CHECKING:
    from sktransfer.backbones.backbone import Backbone

__all__ = ["linear_classifier", "make_columns", "make_transfer_pipeline", "modality_of"]

_ESTIMATORS = ("auto", "classifier", "regressor")
_GROUPS = {"category": "categories", "number": "numbers", "date": "dates"}
_MOST_CATEGORIES = 50  # per column


def make_transfer_pipeline(
    X: Any,
    y: Any = None,
    *,
    estimator: Any = "auto",
    kinds: str | Mapping[str, str] | None = None,
    image_backbone: str | Backbone = DEFAULT_BACKBONES["image"],
    text_backbone: str | Backbone = DEFAULT_BACKBONES["text"],
) -> Pipeline:
    """Build a pipeline for images, for texts, or for a table with columns of both.

    Images and texts become features of pretrained networks, and a linear model predicts y from them. The pipeline is
    not fitted. It consists of scikit-learn's objects, so its steps can be read, changed and searched.

    Parameters
    ----------
    X : list, Series, array or DataFrame of n_samples
        Images or texts of any kind that `ImageFeaturizer` and `TextFeaturizer` take, or a table of pandas or polars.
        `describe_columns` tells the kinds of the columns of a table. Only a sample of the rows decides.
    y : array-like of shape (n_samples,) or (n_samples, n_outputs), default=None
        Labels or numbers. It is only used to choose between a classifier and a regressor.
    estimator : {"auto", "classifier", "regressor"}, estimator or None, default="auto"
        Model at the end. "classifier" is a `LogisticRegression`, "regressor" a `Ridge`, and "auto" chooses by y. Whole
        numbers are labels, unless they have more than 20 values with fewer than 5 samples each. None
        makes a pipeline that ends with the features.
    kinds : mapping of str to str, "image" or "text", default=None
        Column name -> "image", "text", "category", "number", "date" or "drop", instead of the kind that is recognized.
        For an X that is not a table, "image" or "text".
    image_backbone : str or Backbone, default="tiny/cnn"
        Network for images. `recommend_backbones` lists others.
    text_backbone : str or Backbone, default="tiny/bert"
        Network for texts.

    Returns
    -------
    pipeline : Pipeline
        For images the steps are "image" and "model", for texts "text" and "model". For a table they are "columns", a
        `ColumnTransformer`, and "model". Its transformers are "image_<column>" and "text_<column>" for each column of
        images and of texts, and "categories", "numbers" and "dates" for all columns of these kinds.

    Raises
    ------
    InvalidParameterError
        If a parameter is not allowed, y is a column of X, or no column of X can be used.
    InvalidSampleError
        If cells of a column are of several types, only some are paths of images, or no path exists.
    ValueError
        If X cannot be used as a whole.

    Warns
    -----
    DroppedColumnWarning
        If columns are left out, unless `kinds` says so.
    InvalidCellWarning
        If a column of numbers or dates has texts that are none, unless `kinds` names its kind. The fitted pipeline
        issues it as well, with the columns and the first row of each.

    See Also
    --------
    describe_columns : Tells the kind of each column, and why.
    FineTuneClassifier : Trains the networks as well.

    Notes
    -----
    Each block of features has the scale at which the linear model needs no other strength than 1: images and texts by
    `layer="auto"`, for numbers or for classes as the model takes them, numbers and dates by `StandardScaler`. So many
    features of an image do not outweigh a few numbers. A search may vary the strength, as "model__C" of a classifier or
    "model__alpha" of a regressor.

    A row of a table may lack values. Missing numbers and dates are replaced by the mean of the training rows, and if
    training rows lack them, a further feature tells where. Texts that are no numbers or dates, such as "?", count as
    missing in these columns. A missing text is read as an empty one, and a missing
    category is one of its own. A missing image gets the mean features of the training images. So does an image that
    cannot be read, with an `InvalidSampleWarning` that lists the rows. Categories with a single training row, and those
    beyond the 50 most frequent of a column, share one feature. Unknown categories have this feature, or none if there
    is no such category. In an X that is not a table, a missing sample raises an error.

    Examples
    --------
    >>> from sktransfer import make_transfer_pipeline
    >>> texts = ["a moving, funny film", "two hours of nothing", "a film to love", "a dull plot, badly told"] * 3
    >>> labels = ["up", "down", "up", "down"] * 3
    >>> make_transfer_pipeline(texts, labels).fit(texts, labels).predict(["a film that I love"]).tolist()
    ['up']

    A table:

    >>> import pandas as pd
    >>> table = pd.DataFrame({"review": texts, "stars": [5, 1, 4, None] * 3, "shop": ["a", "b", "a", "c"] * 3})
    >>> pipeline = make_transfer_pipeline(table, labels)
    >>> [name for name, *_ in pipeline["columns"].transformers]
    ['text_review', 'categories', 'numbers']
    >>> pipeline.fit(table, labels).predict(table[:2]).tolist()
    ['up', 'down']
    """
    columns = _checked_columns(X, y, kinds) if is_frame(X) else []
    kind = "" if columns else modality_of(X, kinds)
    model = _make_model(X, y, estimator)
    target = _target_of(model)
    featurizers: dict[str, Callable[..., Any]] = {
        "image": partial(ImageFeaturizer, image_backbone, layer="auto", target=target),
        "text": partial(TextFeaturizer, text_backbone, layer="auto", target=target),
    }
    steps = [("columns", make_columns(columns, featurizers)) if columns else (kind, featurizers[kind]())]
    return Pipeline(steps if model is None else [*steps, ("model", model)])


def _make_model(X: Any, y: Any, estimator: Any) -> Any:
    if isinstance(estimator, str) and estimator in _ESTIMATORS:
        if isinstance(y, str):
            raise InvalidParameterError(
                f"y={y!r} is a str; pass the values: X.drop(columns={y!r}) as X, X[{y!r}] as y in pandas"
            )
        if y is not None:
            check_consistent_length(X, y)
        if estimator == "auto":
            if y is None:
                raise InvalidParameterError(
                    "y=None leaves open what is predicted: pass y, or estimator='classifier' or 'regressor', or "
                    "estimator=None for features alone"
                )
            estimator = "regressor" if ChoiceTargets.of(y, remedy="").n_classes is None else "classifier"
        return Ridge() if estimator == "regressor" else linear_classifier(y)
    if estimator is None or hasattr(estimator, "fit"):
        if isinstance(estimator, type):
            raise InvalidParameterError(
                f"estimator={estimator.__name__} is a class; pass an object, {estimator.__name__}()"
            )
        return estimator
    raise InvalidParameterError(f"estimator={quoted(estimator, 60)} must be one of {_ESTIMATORS}, an estimator or None")


def _target_of(model: Any) -> str:
    """Return what y holds for the model at the end, by which the features are scaled."""
    if not hasattr(model, "__sklearn_tags__"):
        return "auto"
    return "numbers" if is_regressor(model) else "classes" if is_classifier(model) else "auto"


def linear_classifier(y: Any) -> BaseEstimator:
    """Return a logistic regression for labels of one or several columns.

    Parameters
    ----------
    y : array-like of shape (n_samples,) or (n_samples, n_outputs), or None
        Labels; None for those of one column.
    """
    model = LogisticRegression(max_iter=1000)
    kind = "binary" if y is None else type_of_target(y)
    if kind == "multilabel-indicator":
        return OneVsRestClassifier(model)
    return MultiOutputClassifier(model) if kind == "multiclass-multioutput" else model


def _checked_columns(X: Any, y: Any, kinds: Any) -> list[Column]:
    """Return the columns that are used."""
    columns = read_columns(X, kinds)
    refuse_target(X, y, [column.name for column in columns if column.kind != "drop"])
    dropped = [column for column in columns if column.kind == "drop" and not column.is_given]
    reasons = "; ".join(f"{column.name!r} ({column.reason})" for column in dropped)
    used = [column for column in columns if column.kind != "drop"]
    if not used:
        raise InvalidParameterError(
            f"no column of X can be used: {reasons or 'all are dropped by kinds'}. Name the kind of a column to use "
            f"it, as in kinds={{{columns[0].name!r}: 'text'}}"
        )
    if dropped:
        advice = ", ".join(column.advice for column in dropped if column.advice)
        use = f"To use them: {advice}. " if advice else ""
        warn(
            f"Columns of X that are left out: {reasons}. {use}The kind 'drop', as in kinds={{{dropped[0].name!r}: "
            "'drop'}, leaves a column out without this warning",
            DroppedColumnWarning,
        )
    strays = "; ".join(f"{column.name!r} ({column.strays})" for column in used if column.strays)
    if strays:
        first = next(column for column in used if column.strays)
        warn(
            f"Columns of X with cells that count as missing: {strays}. Put None there, or name another kind, as in "
            f"kinds={{{first.name!r}: 'category'}}; kinds={{{first.name!r}: {first.kind!r}}} states that this is right",
            InvalidCellWarning,
        )
    return used


def refuse_target(X: Any, y: Any, names: Sequence[str]) -> None:
    """Raise an error if y is a column of X.

    Parameters
    ----------
    X : DataFrame of shape (n_samples, n_columns)
        Table of pandas or polars.
    y : array-like of shape (n_samples,)
        Targets. Of a series, the column of its name is compared, and else every column.
    names : sequence of str
        Columns that are used.

    Raises
    ------
    InvalidParameterError
        If y equals a column.
    """
    series = as_series(y)
    if series is None and np.ndim(y) != 1:
        return
    values = list(y) if series is None else series.to_list()
    columns = names if series is None or series.name in (None, "") else [name for name in names if name == series.name]
    for name in columns if len(values) == len(X) else ():
        column = nw.from_native(X, eager_only=True)[name].to_list()
        if all(one is other or _are_equal(one, other) for one, other in zip(column, values)):
            raise InvalidParameterError(
                f"y is the column {name!r} of X, from which it would be predicted: pass X.drop(columns={name!r}) in "
                f"pandas, X.drop({name!r}) in polars"
            )


def _are_equal(one: Any, other: Any) -> bool:
    if is_missing(one) or is_missing(other):
        return is_missing(one) and is_missing(other)
    return isinstance(one, (str, numbers.Real, np.generic)) and bool(np.all(one == other))


def make_columns(columns: list[Column], featurizers: Mapping[str, Callable[..., Any]]) -> ColumnTransformer:
    """Return a transformer of the columns of a table, by their kinds.

    Parameters
    ----------
    columns : list of Column
        Columns that are used.
    featurizers : mapping of str to callable
        Functions that return a transformer of a column of images, and of one of texts. They receive `on_error` and
        `missing` as keywords.
    """
    transformers: list[tuple[str, Any, list[str]]] = []
    for column in columns:
        if column.kind in MODALITIES:
            transformers.append((_step_name(column, transformers), _block(column.kind, featurizers), [column.name]))
    for kind, name in _GROUPS.items():
        names = [column.name for column in columns if column.kind == kind]
        if names:
            transformers.append((name, _block(kind, featurizers), names))
    return ColumnTransformer(transformers)


def _step_name(column: Column, before: list[tuple[str, Any, list[str]]]) -> str:
    """Return the name of a column's transformer, which has no double underscore because parameters are named by it."""
    name = f"{column.kind}_{column.name}"
    while "__" in name:
        name = name.replace("__", "_")
    taken = {other for other, *_ in before}
    name = name.rstrip("_")
    return name if name not in taken else next(f"{name}{i}" for i in range(2, 1000) if f"{name}{i}" not in taken)


def _block(kind: str, featurizers: Mapping[str, Callable[..., Any]]) -> Any:
    """Return the transformer of the columns of a kind."""
    if kind == "image":
        return make_pipeline(featurizers[kind](on_error="warn", missing="nan"), SimpleImputer())
    if kind == "text":
        return featurizers[kind](missing="empty")
    if kind == "category":
        return OneHotEncoder(
            handle_unknown="infrequent_if_exist",
            min_frequency=2,
            max_categories=_MOST_CATEGORIES,
            sparse_output=False,
        )
    features = DateFeatures(on_error="warn") if kind == "date" else NumberFeatures(on_error="warn")
    return make_pipeline(features, SimpleImputer(add_indicator=True), StandardScaler())


def modality_of(X: Any, kinds: Any) -> str:
    """Return the modality of an X that is not a table.

    Parameters
    ----------
    X : list, Series or array of n_samples
        Images or texts.
    kinds : {"image", "text"} or None
        The modality, or None to recognize it.
    """
    if kinds is None:
        return recognize_samples(X, "kinds")
    if kinds not in MODALITIES:
        raise InvalidParameterError(
            f"kinds={quoted(kinds, 60)} must be one of {MODALITIES} for an X of type {type(X).__name__}; a dict names "
            "the columns of a DataFrame"
        )
    return str(kinds)
