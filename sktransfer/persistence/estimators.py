"""Our estimators: their parameters, and what `fit` has left in them."""

from __future__ import annotations

import importlib
import inspect
import os
from collections.abc import Mapping
from typing import Any

from sklearn.base import BaseEstimator

from sktransfer.backbones.backbone import Backbone
from sktransfer.backbones.loading import load_backbone
from sktransfer.exceptions import LoadError, SaveError
from sktransfer.finetuning.base import FineTuneBase
from sktransfer.persistence.callbacks import LEFT_OUT
from sktransfer.persistence.fine_tuned import encode_net, make_net
from sktransfer.persistence.parts import Codec, Loading, Part, Saving, entry
from sktransfer.persistence.values import DICT
from sktransfer.training.heads import Head
from sktransfer.words.vectors import WordVectors

__all__ = ["CODECS", "ESTIMATORS", "find_estimator"]

ESTIMATORS = {
    "BestBackbone": "sktransfer.selection.best",
    "ContrastiveFineTuner": "sktransfer.finetuning.contrastive",
    "FineTuneClassifier": "sktransfer.finetuning.classifier",
    "FineTuneRegressor": "sktransfer.finetuning.regressor",
    "ImageFeaturizer": "sktransfer.featurizers.image",
    "NearestClassMean": "sktransfer.classifiers.nearest_mean",
    "PretrainedClassifier": "sktransfer.classifiers.pretrained",
    "TextFeaturizer": "sktransfer.featurizers.text",
    "WordEmbedder": "sktransfer.featurizers.words",
    "ZeroShotClassifier": "sktransfer.classifiers.zero_shot",
}
_TYPES: dict[str, type | tuple[type, ...]] = {
    "backbone_": Backbone,
    "callbacks": (list, tuple, type(None)),
    "embedding_": WordVectors,
    "freeze_depth_": int,
    "head_": Head,
    "n_features_in_": int,
}


def _class(name: str) -> Any:
    return getattr(importlib.import_module(ESTIMATORS[name]), name)


def _encode(estimator: BaseEstimator, saving: Saving) -> dict[str, Any]:
    name = type(estimator).__name__
    attributes = {key: value for key, value in vars(estimator).items() if key not in ("net_", "_skl_callbacks")}
    if "cache" in attributes and attributes["cache"] not in ("memory", None):
        attributes["cache"] = "memory"  # a folder of this machine
    callbacks = attributes.get("callbacks")
    if callbacks is not None:
        attributes["callbacks"] = [one for one in callbacks if type(one).__name__ not in LEFT_OUT]
    if saving.embed and name in ("PretrainedClassifier", "ZeroShotClassifier"):
        attributes |= _loaded(estimator)
    for key, value in attributes.items():
        _check_attribute(type(estimator), key, SaveError)
        attributes[key] = _kept(name, key, value, saving)
    data: dict[str, Any] = {"attributes": attributes}
    if isinstance(estimator, FineTuneBase) and "net_" in vars(estimator):
        data["net"] = encode_net(estimator, saving)
    return data


def _loaded(estimator: Any) -> dict[str, Any]:
    """Return the parameters of an estimator that loads its backbone whenever it is asked: the backbone for its name."""
    changed = {"backbone": load_backbone(estimator.backbone, weights=estimator.weights), "weights": "pretrained"}
    named = "text_backbone" in vars(estimator) and estimator.text_backbone_ is not estimator.backbone_
    return changed | ({"text_backbone": estimator.text_backbone_} if named else {})


def _kept(name: str, key: str, value: Any, saving: Saving) -> Any:
    """Return an attribute in a form that is written as it is."""
    from torch import nn

    if isinstance(value, nn.Module):
        raise SaveError(
            f"{name} has {key}={type(value).__name__}(...), a module that no file without code can describe. Where "
            f"predicting does not need it: estimator.set_params({key}=None)"
        )
    if type(value) is dict and not all(type(one) is str for one in value):  # JSON has no other keys
        return Part(DICT.kind, DICT.encode(value, saving))
    return value


def _check_attribute(cls: type, name: str, error: type[Exception]) -> None:
    """Raise where an attribute would hide a method or a property of its class."""
    static = inspect.getattr_static(cls, name, None)
    hides = callable(static) or hasattr(static, "__get__") or name.startswith("__")
    if hides or not name.isidentifier():
        raise error(f"{cls.__name__} cannot have an attribute {name!r}")


def _decode(name: str, data: dict[str, Any], loading: Loading) -> BaseEstimator:
    cls = _class(name)
    attributes: Mapping[str, Any] = entry(data, "attributes", dict)
    for key in attributes:
        _check_attribute(cls, key, LoadError)
        if key in _TYPES:
            entry(attributes, key, _TYPES[key])
    if "cache" in attributes:
        entry(attributes, "cache", (str, type(None)), ("memory", None))
    estimator: BaseEstimator = cls.__new__(cls)
    # An older sktransfer may have had fewer parameters.
    parameters = inspect.signature(cls.__init__).parameters.values()
    defaults = {one.name: one.default for one in parameters if one.default is not inspect.Parameter.empty}
    vars(estimator).update({**defaults, **attributes})
    _check_path(vars(estimator).get("weights"))
    if isinstance(estimator, FineTuneBase) and "net" in data:
        estimator.net_ = make_net(estimator, entry(data, "net", dict), loading)
    return estimator


def _check_path(weights: Any) -> None:
    if not isinstance(weights, (str, os.PathLike, type(None))):
        raise LoadError(f"weights={weights!r} is neither a name nor a path")


def _codec(name: str) -> Codec:
    return Codec(name, _encode, lambda data, loading: _decode(name, data, loading))


_BY_NAME = {name: _codec(name) for name in ESTIMATORS}
CODECS = tuple(_BY_NAME.values())


def find_estimator(obj: Any) -> Codec | None:
    """Return the codec of one of our estimators; None for all else, subclasses of them too."""
    kind = type(obj)
    is_ours = ESTIMATORS.get(kind.__name__) == kind.__module__
    return _BY_NAME[kind.__name__] if is_ours else None
