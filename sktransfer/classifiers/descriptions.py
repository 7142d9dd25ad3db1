"""Class names, class descriptions, and the check of labels against known classes."""

from __future__ import annotations

import numbers
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sktransfer.exceptions import InvalidParameterError, did_you_mean
from sktransfer.tasks.validation import as_labels

__all__ = ["check_known_labels", "class_names", "class_texts"]

_PLACEHOLDER = "{}"


def class_names(labels: Any) -> np.ndarray:
    """Return the classes that `labels` names, sorted.

    Parameters
    ----------
    labels : mapping or sequence
        Mapping from class to description, or the classes alone.

    Raises
    ------
    InvalidParameterError
        If it is neither, names fewer than two classes, or names a class twice.

    Examples
    --------
    >>> from sktransfer.classifiers.descriptions import class_names
    >>> class_names({"sports": "a text about sports", "politics": "a text about politics"}).tolist()
    ['politics', 'sports']
    """
    allowed = "a dict {class: description} or a list of classes"
    if isinstance(labels, str) or not isinstance(labels, (Mapping, Sequence, np.ndarray)):
        raise InvalidParameterError(f"labels={labels!r} must be {allowed}")
    names = list(labels)
    array = np.array(names) if all(isinstance(name, (str, numbers.Real, np.bool_)) for name in names) else None
    if array is None or array.tolist() != names:  # NumPy turns 1 and "a" into strings
        raise InvalidParameterError(f"labels={labels!r} must name classes of one type, all strings or all numbers")
    classes: np.ndarray = np.unique(array)
    if len(classes) < 2 or len(classes) != len(names):
        raise InvalidParameterError(f"labels={labels!r} must name two classes or more, each once: {allowed}")
    return classes


def class_texts(labels: Any, template: str | Sequence[str]) -> list[list[str]]:
    """Return the texts that describe each class, in the order of `class_names(labels)`.

    Parameters
    ----------
    labels : mapping or sequence
        Mapping from class to its description or a list of descriptions, or the classes alone. A class without a
        description is described by its name.
    template : str or sequence of str
        Text with the placeholder "{}" for the description. Each of several templates gives one text per description.

    Raises
    ------
    InvalidParameterError
        If a class has no description, or a template has no placeholder.

    Examples
    --------
    >>> from sktransfer.classifiers.descriptions import class_texts
    >>> class_texts({"cat": ["cat", "kitten"], "dog": "dog"}, "a photo of a {}")
    [['a photo of a cat', 'a photo of a kitten'], ['a photo of a dog']]
    """
    templates = [template] if isinstance(template, str) else template
    if not isinstance(templates, (list, tuple)) or not templates or not all(map(_has_placeholder, templates)):
        raise InvalidParameterError(
            f"template={template!r} must be a text that holds {_PLACEHOLDER!r}, which the description replaces, or a "
            "list of such texts"
        )
    descriptions = labels if isinstance(labels, Mapping) else {label: str(label) for label in labels}
    return [
        [
            one.replace(_PLACEHOLDER, text)
            for text in _check_descriptions(label, descriptions[label])
            for one in templates
        ]
        for label in class_names(labels).tolist()
    ]


def _has_placeholder(template: Any) -> bool:
    return isinstance(template, str) and _PLACEHOLDER in template


def _check_descriptions(label: Any, descriptions: Any) -> list[str]:
    texts = [descriptions] if isinstance(descriptions, str) else descriptions
    if not isinstance(texts, (list, tuple)) or not texts or not all(isinstance(t, str) and t.strip() for t in texts):
        raise InvalidParameterError(
            f"labels: {label!r} is described by {descriptions!r}; give a text, or a list of texts"
        )
    return list(texts)


def check_known_labels(y: Any, classes: np.ndarray, *, kind: str, hint: str) -> np.ndarray:
    """Return labels as an array. An unknown label is an error, because it would count as a mistake in every sample.

    Parameters
    ----------
    y : array-like of shape (n_samples,)
        Labels.
    classes : ndarray of shape (n_classes,)
        Allowed labels.
    kind : str
        Name of the classes in the error message, such as "categories of tiny/cnn".
    hint : str
        End of the error message: what to do about an unknown label.

    Raises
    ------
    InvalidParameterError
        If a label is not a class.

    Examples
    --------
    >>> import numpy as np
    >>> from sktransfer.classifiers.descriptions import check_known_labels
    >>> check_known_labels(["b"], np.array(["a", "b"]), kind="letters", hint="")
    array(['b'], dtype='<U1')
    """
    labels: np.ndarray = as_labels(y)
    known = set(classes.tolist())
    for label in dict.fromkeys(labels.tolist()):
        if label not in known:
            similar = _other_type(label, classes) or _similar(str(label), classes)
            raise InvalidParameterError(
                f"y holds {label!r}, which is none of the {len(classes)} {kind}.{similar} `classes_` lists them all"
                f"{hint}"
            )
    return labels


def _other_type(label: Any, classes: np.ndarray) -> str:
    """Return a hint at a class that differs in its type only, such as 1 and "1"."""
    same = next((name for name in classes.tolist() if str(name) == str(label)), None)
    if same is None:
        return ""
    given, known = type(label).__name__, type(same).__name__
    convert = f" Convert them, [{known}(label) for label in y]." if known in ("int", "float", "str") else ""
    return f" {label!r} is of type {given}, and the class {same!r} of type {known}.{convert}"


def _similar(label: str, classes: np.ndarray) -> str:
    """Return a hint at a class that differs in case only, or else at classes of similar spelling."""
    names = list(map(str, classes.tolist()))
    by_case = {name.casefold(): name for name in names}
    if label.casefold() in by_case:
        return f" Did you mean {by_case[label.casefold()]!r}?"
    return did_you_mean(label, names)
