"""Registry of the kinds of objects that a file may hold in addition to those of skops. Other kinds are not loaded.

To have a new class saved, give it `to_state()` and `from_state(state)`, and add it to `STATES`. `to_state` returns a
dict of None, bool, int, float, str, lists, tuples, dicts, numpy arrays, tensors, and objects of the kinds listed here.
`from_state` checks such a dict, which may be forged, and raises `LoadError` for what does not fit.
"""

from __future__ import annotations

from pathlib import PurePath
from typing import Any

import numpy as np
from torch import nn

from sktransfer.exceptions import SaveError
from sktransfer.persistence import backbones, sklearn_values, values, words
from sktransfer.persistence.context import Codec, Decode, import_class
from sktransfer.persistence.estimators import adapter_codec, callback_codec, estimator_codec

__all__ = ["CALLBACKS", "CODECS", "DECODERS", "ESTIMATORS", "STATES", "find_codec"]

# Tables of kind -> "module:Class". Classes come from these tables, never from a file.
STATES = {
    "CORAL": "sktransfer.domains.distances:CORAL",
    "ContrastiveTension": "sktransfer.objectives.tension:ContrastiveTension",
    "DANN": "sktransfer.domains.adversarial:DANN",
    "Head": "sktransfer.tasks.heads:Head",
    "Denoising": "sktransfer.objectives.denoising:Denoising",
    "DropoutViews": "sktransfer.objectives.views:DropoutViews",
    "HeadStrength": "sktransfer.engine.head_strength:HeadStrength",
    "ImageTransform": "sktransfer.backbones.preprocess:ImageTransform",
    "LayerChoice": "sktransfer.engine.choose_layers:LayerChoice",
    "LayerOutput": "sktransfer.engine.layers:LayerOutput",
    "MaskedPatches": "sktransfer.objectives.patches:MaskedPatches",
    "MCC": "sktransfer.domains.distances:MCC",
    "MMD": "sktransfer.domains.distances:MMD",
    "MaskedTokens": "sktransfer.objectives.masked:MaskedTokens",
    "NextTokens": "sktransfer.objectives.causal:NextTokens",
    "SiameseViews": "sktransfer.objectives.siamese:SiameseViews",
    "StageDenoising": "sktransfer.objectives.reconstruction:StageDenoising",
    "Subwords": "sktransfer.words.subwords:Subwords",
    "TaskSchema": "sktransfer.targets.table:TaskSchema",
    "Tokens": "sktransfer.backbones.tokens:Tokens",
    "Weights": "sktransfer.words.pooling:Weights",
}
ESTIMATORS = {
    "BestBackbone": "sktransfer.selection.best:BestBackbone",
    "ContrastiveFineTuner": "sktransfer.finetuning.contrastive:ContrastiveFineTuner",
    "DateFeatures": "sktransfer.pipelines.dates:DateFeatures",
    "DomainAdaptationClassifier": "sktransfer.finetuning.domain_adaptation:DomainAdaptationClassifier",
    "FineTuneClassifier": "sktransfer.finetuning.classifier:FineTuneClassifier",
    "FineTuneRegressor": "sktransfer.finetuning.regressor:FineTuneRegressor",
    "FineTuneSegmenter": "sktransfer.finetuning.segmenter:FineTuneSegmenter",
    "FineTuneTagger": "sktransfer.finetuning.tagger:FineTuneTagger",
    "ImageFeaturizer": "sktransfer.featurizers.image:ImageFeaturizer",
    "JoinedFeaturizer": "sktransfer.featurizers.joined:JoinedFeaturizer",
    "MultiTaskFineTuner": "sktransfer.finetuning.multitask:MultiTaskFineTuner",
    "NearestClassMean": "sktransfer.classifiers.nearest_mean:NearestClassMean",
    "NumberFeatures": "sktransfer.pipelines.numbers:NumberFeatures",
    "PretrainedClassifier": "sktransfer.classifiers.pretrained:PretrainedClassifier",
    "SelfSupervisedTuner": "sktransfer.finetuning.self_supervised:SelfSupervisedTuner",
    "TextFeaturizer": "sktransfer.featurizers.text:TextFeaturizer",
    "TokenFeaturizer": "sktransfer.featurizers.tokens:TokenFeaturizer",
    "WordEmbedder": "sktransfer.featurizers.words:WordEmbedder",
    "ZeroShotClassifier": "sktransfer.classifiers.zero_shot:ZeroShotClassifier",
}
# Callbacks of skorch that read or write files are left out on purpose.
CALLBACKS = {
    "EMA": "sktransfer.callbacks.averaging:EMA",
    "MicroBatches": "sktransfer.callbacks.micro_batches:MicroBatches",
    "Mixup": "sktransfer.callbacks.mixup:Mixup",
    "SWA": "sktransfer.callbacks.averaging:SWA",
    "WiSEFT": "sktransfer.callbacks.averaging:WiSEFT",
    "EarlyStopping": "skorch.callbacks:EarlyStopping",
    "EpochScoring": "skorch.callbacks:EpochScoring",
    "EpochTimer": "skorch.callbacks:EpochTimer",
    "GradientNormClipping": "skorch.callbacks:GradientNormClipping",
    "LRScheduler": "skorch.callbacks:LRScheduler",
}
ADAPTERS = {
    "IA3Config": "peft:IA3Config",
    "LoHaConfig": "peft:LoHaConfig",
    "LoKrConfig": "peft:LoKrConfig",
    "LoraConfig": "peft:LoraConfig",
    "OFTConfig": "peft:OFTConfig",
}


def _state_codec(kind: str, path: str) -> Codec:
    return Codec(
        kind,
        path,
        lambda obj, context: obj.to_state(),  # type: ignore[no-any-return]
        lambda data, context: import_class(path).from_state(data),
    )


CODECS = (
    *(_state_codec(*item) for item in STATES.items()),
    *(estimator_codec(*item) for item in ESTIMATORS.items()),
    *(callback_codec(*item) for item in CALLBACKS.items()),
    *(adapter_codec(*item) for item in ADAPTERS.items()),
    *backbones.CODECS,
    *sklearn_values.CODECS,
    *values.CODECS,
    *words.CODECS,
)
DECODERS: dict[str, Decode] = {codec.kind: codec.decode for codec in CODECS} | values.PACKED
_BY_CLASS_NAME = {codec.path.partition(":")[2]: codec for codec in CODECS if codec.path}


def find_codec(obj: Any) -> Codec | None:
    """Return the codec of an object, or None if skops writes it. A subclass does not use the codec of its base.

    Raises
    ------
    SaveError
        If skops would write the object in a form that is not loaded.
    """
    cls = type(obj)
    codec = _BY_CLASS_NAME.get(cls.__name__)
    package = cls.__module__.partition(".")[0]  # compared first, so that no other package is imported
    if codec is not None and codec.path.startswith((f"{package}.", f"{package}:")) and import_class(codec.path) is cls:
        return codec
    if isinstance(obj, PurePath):
        return values.PATH
    if values.is_optimizer(obj):
        return values.OPTIMIZER
    if isinstance(obj, (nn.Module, np.random.BitGenerator)):
        raise SaveError(f"a {cls.__module__}.{cls.__qualname__} cannot be saved without pickle")
    return None
