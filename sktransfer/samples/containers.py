"""Containers of samples other than lists and arrays: sequences, data sets of other libraries, and cells of images."""

from __future__ import annotations

import os
from collections import UserString
from collections.abc import Mapping, Sequence, Set
from typing import Any

import numpy as np
from PIL import Image
from scipy.sparse import issparse

from sktransfer.samples.columns import column_names, is_frame, is_tensor, quoted

__all__ = ["as_list", "column_of", "image_of_cell", "item_hint"]

# Collections whose rows are on the workers of a cluster, by the package of their class: the methods that return all
# rows here, and the one of those that `featurize` reads part by part.
_DISTRIBUTED = {
    "dask": (("compute",), "map_partitions"),
    "pyspark": (("toPandas", "to_pandas", "collect"), "mapInPandas"),
    "ray": (("to_pandas",), "map_batches"),
}
_SINGLE = (str, bytes, bytearray, memoryview, UserString, os.PathLike, Image.Image)


def as_list(X: Any, noun: str) -> Any:
    """Return a list of the samples of a sequence or of a data set, and lists, arrays, Series and frames unchanged.

    Images of a column of Hugging Face's datasets are returned as encoded bytes or paths, and are decoded when needed.

    Parameters
    ----------
    X : object
        Input of an estimator.
    noun : {"image", "text"}
        Name of a sample in messages.

    Raises
    ------
    ValueError
        If the samples in X have no order, can be read only once, are one of several columns, or are on the workers of a
        cluster. The message gives the expression that converts X.

    Examples
    --------
    >>> from collections import deque
    >>> from sktransfer.samples.containers import as_list
    >>> as_list(deque(["a", "b"]), "text")
    ['a', 'b']
    >>> as_list({"title": ["a", "b"], "label": [0, 1]}, "text")
    Traceback (most recent call last):
        ...
    ValueError: X is a dict; texts come as a list, Series, one-column DataFrame or array: pass X['title'] (its keys \
are 'title', 'label')
    """
    if isinstance(X, (list, tuple, *_SINGLE)) or issparse(X):
        return X
    if type(X).__module__.partition(".")[0] in _DISTRIBUTED and not _is_dask_array(X):
        raise ValueError(_distributed_advice(X, noun))
    if isinstance(X, Mapping) or _is_structured(X):
        raise ValueError(_advice(X, noun))
    if _is_hugging_face(X):
        if not hasattr(X, "column_name") and hasattr(X, "__len__") and len(X.column_names) == 1:
            X = X[X.column_names[0]]
        if hasattr(X, "column_name"):
            return list(_undecoded(X))
    if isinstance(X, Sequence):
        return list(X)
    is_iterable = hasattr(X, "__iter__") or hasattr(X, "__getitem__")
    if hasattr(X, "__array__") or is_tensor(X) or hasattr(X, "collect") or is_frame(X) or not is_iterable:
        return X
    if isinstance(_first(X), (Mapping, tuple, type(None))):
        raise ValueError(_advice(X, noun))
    return [X[row] for row in range(len(X))]


def _is_dask_array(X: Any) -> bool:
    return hasattr(type(X), "__array__") and hasattr(type(X), "chunks")  # as numpy's functions do, reading computes it


def _distributed_advice(X: Any, noun: str) -> str:
    """Return the error for a collection whose rows are not in this process."""
    package = type(X).__module__.partition(".")[0]
    names, by_part = _DISTRIBUTED[package]
    collect = next((name for name in names if hasattr(type(X), name)), names[0])
    library = {"dask": "Dask", "pyspark": "Spark", "ray": "Ray"}[package]
    parts = ", or, if they do not fit into memory, use sktransfer.featurize(X, featurizer, out)"
    return (
        f"X is a {type(X).__name__} of {library}, and its {noun}s are not in the memory of this process: pass "
        f"X.{collect}(){parts if hasattr(type(X), by_part) else ''}"
    )


def _is_hugging_face(X: Any) -> bool:
    has_columns = hasattr(X, "column_names") or hasattr(X, "column_name")  # a user's module may have the same name
    return has_columns and type(X).__module__.partition(".")[0] == "datasets"


def _first(X: Any) -> Any:
    """Return the first row of an object whose rows can be chosen by position, else None."""
    if not hasattr(X, "__len__") or not hasattr(X, "__getitem__") or not len(X):
        return None
    try:
        return X[0]
    except (AttributeError, LookupError, TypeError, ValueError):  # groups of pandas, and other objects with keys
        return None


def _undecoded(column: Any) -> Any:
    """Return a column of Hugging Face's datasets that gives encoded images, if it would decode them unchanged."""
    source, feature = column.source, column.features
    is_image = type(feature).__name__ == "Image" and feature.decode and feature.mode is None
    if not is_image or not hasattr(source, "cast_column") or source.format["type"] is not None:
        return column
    return source.cast_column(column.column_name, type(feature)(decode=False))[column.column_name]


def _advice(X: Any, noun: str) -> str:
    """Return the error for an X that does not hold samples in order, with the expression that converts it."""
    expression, note = _conversion(X, noun)
    names = f" ({note})" if note else ""
    return (
        f"X is a {type(X).__name__}; {noun}s come as a list, Series, one-column DataFrame or array: pass "
        f"{expression}{names}"
    )


def _conversion(X: Any, noun: str) -> tuple[str, str]:
    """Return the expression that converts X, and a note on it."""
    if isinstance(X, Mapping):
        return _of_mapping(X, noun), f"its keys are {', '.join(quoted(name, 40) for name in list(X)[:10])}"
    if _is_structured(X):
        return f"X[{_choose(_fields(X), noun)!r}]", f"its fields are {quoted(X.dtype.names)}"
    if isinstance(X, Set) and not hasattr(X, "mapping"):  # a view of a dict has an order
        return "list(X)", "and y in the order of this list, because a set has none"
    if hasattr(X, "read"):
        return ("X.read().splitlines()" if noun == "text" else "[X.read()]"), "the content of the file"
    if hasattr(X, "batch_size") and hasattr(X, "dataset"):
        return "X.dataset", "one sample per row instead of batches"
    names = getattr(X, "column_names", None)
    note = f"its columns are {quoted(names)}" if names else ""
    if hasattr(X, "__len__") and hasattr(X, "__getitem__"):
        return _of_rows(X, noun), note
    if _is_hugging_face(X):
        return f"[row[{_choose(next(iter(X), {}), noun)!r}] for row in X]", note
    return "list(X)", ""


def _is_structured(X: Any) -> bool:
    return isinstance(X, np.ndarray) and X.dtype.names is not None


def _fields(X: Any) -> dict[str, Any]:
    return {name: X[name].ravel()[0] if X.size else None for name in X.dtype.names}


def _of_mapping(X: Mapping[Any, Any], noun: str) -> str:
    """Return the expression for the samples in a dict: a column, a split of a data set, all values, or all keys."""
    values = list(X.values()) if not hasattr(X, "files") else []  # numpy.load of several arrays reads lazily
    if _is_hugging_face(X) and values:
        return f"X[{next(iter(X))!r}][{_choose(values[0][0], noun)!r}]"
    if hasattr(X, "files"):
        return f"X[{next(iter(X))!r}]"
    columns = {name: value for name, value in X.items() if _is_column(value)}
    if columns:
        return f"X[{_choose({name: next(iter(value), None) for name, value in columns.items()}, noun)!r}]"
    return "list(X.values())" if values and all(_is_sample(value, noun) for value in values) else "list(X)"


def _of_rows(X: Any, noun: str) -> str:
    """Return the expression for the samples of a data set whose rows hold several values."""
    first = _first(X)
    if isinstance(first, Mapping):
        name = _choose(first, noun)
        return f"X[{name!r}]" if _is_hugging_face(X) else f"[X[row][{name!r}] for row in range(len(X))]"
    if isinstance(first, tuple):
        return f"[X[row][{_choose(dict(enumerate(first)), noun)}] for row in range(len(X))]"
    return "list(X)"


def _choose(row: Mapping[Any, Any], noun: str) -> Any:
    """Return the name of the first value of a row that is a sample, or else of the first value."""
    return next((name for name, value in row.items() if _is_sample(value, noun)), next(iter(row), None))


def _is_column(value: Any) -> bool:
    return hasattr(value, "__len__") and hasattr(value, "__getitem__") and not isinstance(value, (Mapping, *_SINGLE))


def _is_sample(value: Any, noun: str) -> bool:
    if noun == "text":
        return isinstance(value, str)
    if isinstance(image_of_cell(value), _SINGLE):
        return True
    return getattr(value, "ndim", 0) in (2, 3)


def image_of_cell(item: Any) -> Any:
    """Return the image of a cell {"bytes", "path"} of Hugging Face's datasets, and other objects unchanged.

    Parameters
    ----------
    item : object
        Element of X.

    Returns
    -------
    item : object
        The bytes, or the path if there are no bytes; None if there is neither.

    Examples
    --------
    >>> from sktransfer.samples.containers import image_of_cell
    >>> image_of_cell({"bytes": None, "path": "cat.jpg"}), image_of_cell("cat.jpg")
    ('cat.jpg', 'cat.jpg')
    """
    if isinstance(item, str) or not isinstance(item, Mapping) or not item or not item.keys() <= {"bytes", "path"}:
        return item
    return item.get("path") if item.get("bytes") is None else item["bytes"]


def column_of(X: Any) -> str:
    """Return the expression for the samples of X, for hints: X itself, or the only column of a frame or an array.

    Parameters
    ----------
    X : object
        Input of an estimator.

    Examples
    --------
    >>> import pandas as pd
    >>> from sktransfer.samples.containers import column_of
    >>> column_of(["a"]), column_of(pd.DataFrame({"text": ["a"]}))
    ('X', "X['text']")
    """
    if is_frame(X) and X.shape[1] == 1:
        return f"X[{column_names(X)[0]!r}]"
    return "X[:, 0]" if isinstance(X, np.ndarray) and X.ndim == 2 else "X"


def item_hint(item: Any, noun: str, column: str = "X") -> str:
    """Return how to convert all samples, if one of them is a container of a sample or can be converted. Else return "".

    Parameters
    ----------
    item : object
        Element of X that is not a sample.
    noun : {"image", "text"}
        Name of a sample.
    column : str, default="X"
        Result of `column_of`.

    Examples
    --------
    >>> from sktransfer.samples.containers import item_hint
    >>> item_hint(("cat.jpg", 0), "image"), item_hint({"text": "a", "label": 1}, "text")
    ('pass [x[0] for x in X]', "pass [x['text'] for x in X]")
    """
    verb, expression = "pass", ""
    if isinstance(item, Mapping) and item:
        expression = f"x[{_choose(item, noun)!r}]"
    elif hasattr(item, "read"):
        expression = "x.read()"
    elif isinstance(item, (list, tuple)) and noun == "text" and item and all(isinstance(one, str) for one in item):
        verb, expression = "join its parts,", "x if isinstance(x, str) else ' '.join(x)"
    elif isinstance(item, (list, tuple)) and any(_is_sample(one, noun) for one in item):
        expression = f"x[{_choose(dict(enumerate(item)), noun)}]"
    elif isinstance(item, (list, tuple)) and noun == "image":
        expression = "np.asarray(x, dtype=np.uint8)"
    elif isinstance(item, (bytes, bytearray)):
        verb, expression = "decode it,", "x if isinstance(x, str) else x.decode('utf-8')"
    elif noun == "text":
        verb, expression = "turn the values into text,", "str(x)"
    return f"{verb} [{expression} for x in {column}]" if expression else ""
