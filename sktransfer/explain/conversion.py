"""Conversions of fitted estimators and their steps, and the table that they are looked up in."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from sklearn.base import ClassifierMixin, RegressorMixin, TransformerMixin
from torch import nn

from sktransfer._validation import require_estimator
from sktransfer.backbones.backbone import Backbone
from sktransfer.engine.layers import LayerOutput
from sktransfer.exceptions import InvalidParameterError

__all__ = ["Conversion", "Convert", "Converter", "Source", "converter_of", "join", "shared_source"]


@dataclass(frozen=True)
class Source:
    """Beginning of an estimator: a backbone and the layers that are read.

    Parameters
    ----------
    backbone : Backbone
        Backbone.
    layers : tuple of LayerOutput
        Layer outputs that are read, concatenated. The values of one layer if a head reads them.
    estimator : estimator
        Estimator that checks X.
    head : nn.Module, default=None
        The network's own head, called as `head(values, mask)`. None if the layers are pooled.
    """

    backbone: Backbone
    layers: tuple[LayerOutput, ...]
    estimator: Any
    head: nn.Module | None = None

    @property
    def key(self) -> tuple[Any, ...]:
        """Value that is equal for sources that give equal features."""
        stop = max(layer.stop for layer in self.layers)
        head = None if self.head is None else self.backbone.properties()["head"]
        return self.backbone.fingerprint(stop), self.backbone.preprocess.key, self.layers, head


@dataclass(frozen=True)
class Conversion:
    """A fitted estimator, or a step of one, as parts of a module.

    Parameters
    ----------
    layers : tuple of nn.Module
        Modules from features, or from the input of the step, to `gives`.
    gives : {"features", "logits", "predictions"}
        Result of the layers. For two classes, the difference of the logits is the decision function.
    source : Source, default=None
        Beginning of the estimator. None for a step that reads features.
    classes : ndarray, default=None
        Labels of the logits. None without logits.
    link : nn.Module, default=None
        From logits to probabilities. None for estimators without `predict_proba`.
    """

    layers: tuple[nn.Module, ...]
    gives: str
    source: Source | None = None
    classes: np.ndarray | None = None
    link: nn.Module | None = None


Convert = Callable[[Any], Conversion]
Converter = Callable[[Any, Convert], Conversion]


def converter_of(estimator: Any, table: Mapping[type, Converter], refused: Mapping[type, str]) -> Converter:
    """Return the converter of an estimator.

    A subclass has no converter by its base class, because it may compute something else.

    Parameters
    ----------
    estimator : estimator
        Estimator.
    table : mapping of type to callable
        Converters by class.
    refused : mapping of type to str
        Reasons and remedies of classes that cannot have a converter.

    Raises
    ------
    InvalidParameterError
        If the class has no converter.
    """
    kind = type(estimator)
    if kind in table:
        return table[kind]
    if kind in refused:
        raise InvalidParameterError(f"{kind.__name__} has no module, because {refused[kind]}")
    require_estimator(estimator)
    before = "convert the steps before it, as_module(pipeline[:-1])" if hasattr(estimator, "predict") else "omit it"
    raise InvalidParameterError(
        f"{kind.__name__} has no module. {_similar(estimator, table)}, or {before}. sktransfer.save and joblib keep "
        "every step"
    )


def _similar(estimator: Any, table: Mapping[type, Converter]) -> str:
    """Return which estimators of the same kind have a module."""
    kind = _kind(type(estimator))
    names = sorted(one.__name__ for one in table if _kind(one) is kind and one.__module__.startswith("sklearn."))
    if kind is None or not names:
        return "Use an estimator of sktransfer, or a pipeline that begins with a featurizer"
    return f"Of its kind, {', '.join(names)} have one: use one of them"


def _kind(estimator: type) -> type | None:
    kinds = (ClassifierMixin, RegressorMixin, TransformerMixin)
    return next((kind for kind in kinds if issubclass(estimator, kind)), None)


def join(first: Conversion, second: Conversion, step: Any) -> Conversion:
    """Return the conversion of two steps, one after the other.

    Parameters
    ----------
    first, second : Conversion
        Steps.
    step : estimator
        The second step, for messages.

    Raises
    ------
    InvalidParameterError
        If the first step gives no features, or the second one reads samples.
    """
    if second.source is not None:
        raise InvalidParameterError(
            f"{type(step).__name__} reads images or texts, and a step before it changes them: a module begins with the "
            "network, so leave the steps before it out"
        )
    if first.gives != "features":
        raise InvalidParameterError(f"{type(step).__name__} follows a step that gives {first.gives}, not features")
    return replace(second, layers=first.layers + second.layers, source=first.source)


def shared_source(conversions: Sequence[Conversion], whose: str) -> Source | None:
    """Return the source of several conversions, which must be the same.

    Parameters
    ----------
    conversions : sequence of Conversion
        Conversions, at least one.
    whose : str
        Name of the estimators, for the message.

    Raises
    ------
    InvalidParameterError
        If their features differ.
    """
    first, *others = (one.source for one in conversions)
    for other in others:
        if (first is None) != (other is None) or (first and other and first.key != other.key):
            raise InvalidParameterError(
                f"{whose} have networks or layers that differ, so that one pass cannot serve all of them: use "
                "ensemble=False, or calibrate FrozenEstimator(pipeline)"
            )
    return first
