"""What a user says of classes: names, descriptions, templates that descriptions are put into."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sktransfer.exceptions import InvalidParameterError

__all__ = ["classes_of", "texts_of"]

_GAP = "{}"


def classes_of(labels: Any) -> np.ndarray:
    """Return the classes that `labels` names, sorted.

    Parameters
    ----------
    labels : mapping or sequence
        Class -> what is said of it; or the classes alone.

    Raises
    ------
    InvalidParameterError
        If it is neither, or names fewer than two classes, or one twice.

    Examples
    --------
    >>> from sktransfer.classifiers.descriptions import classes_of
    >>> classes_of({"sports": "a text about sports", "politics": "a text about politics"}).tolist()
    ['politics', 'sports']
    """
    allowed = "a dict {class: description} or a list of classes"
    if isinstance(labels, str) or not isinstance(labels, (Mapping, Sequence, np.ndarray)):
        raise InvalidParameterError(f"labels={labels!r} must be {allowed}")
    names = list(labels)
    classes: np.ndarray = np.unique(np.array(names))
    if len(classes) < 2 or len(classes) != len(names):
        raise InvalidParameterError(f"labels={labels!r} must name two classes or more, each once: {allowed}")
    return classes


def texts_of(labels: Any, template: str | Sequence[str]) -> list[list[str]]:
    """Return the texts that stand for each class, in the order of `classes_of(labels)`.

    Parameters
    ----------
    labels : mapping or sequence
        Class -> its description, or a list of several; or the classes alone, which then describe themselves.
    template : str or sequence of str
        Holds "{}", which descriptions take the place of; of several, each gives a text a description.

    Raises
    ------
    InvalidParameterError
        If there is no description of a class, or a template has no place for one.

    Examples
    --------
    >>> from sktransfer.classifiers.descriptions import texts_of
    >>> texts_of({"cat": ["cat", "kitten"], "dog": "dog"}, "a photo of a {}")
    [['a photo of a cat', 'a photo of a kitten'], ['a photo of a dog']]
    """
    templates = [template] if isinstance(template, str) else template
    if not isinstance(templates, (list, tuple)) or not templates or not all(map(_has_gap, templates)):
        raise InvalidParameterError(
            f"template={template!r} must be a text that holds {_GAP!r}, where the description is put, or a list of such"
        )
    said = labels if isinstance(labels, Mapping) else {label: str(label) for label in labels}
    return [
        [one.replace(_GAP, text) for text in _checked(label, said[label]) for one in templates]
        for label in classes_of(labels).tolist()
    ]


def _has_gap(template: Any) -> bool:
    return isinstance(template, str) and _GAP in template


def _checked(label: Any, said: Any) -> list[str]:
    texts = [said] if isinstance(said, str) else said
    if not isinstance(texts, (list, tuple)) or not texts or not all(isinstance(t, str) and t.strip() for t in texts):
        raise InvalidParameterError(f"labels: {label!r} is described by {said!r}; give a text, or a list of texts")
    return list(texts)
