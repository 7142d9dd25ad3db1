"""Converters of the estimators of sktransfer."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
from torch import nn

from sktransfer.backbones.backbone import Backbone
from sktransfer.classifiers.nearest_mean import NearestClassMean
from sktransfer.classifiers.pretrained import PretrainedClassifier
from sktransfer.classifiers.zero_shot import ZeroShotClassifier
from sktransfer.engine.layers import LayerOutput, resolve_layers
from sktransfer.exceptions import InvalidParameterError
from sktransfer.explain.conversion import Conversion, Convert, Converter, Source, join
from sktransfer.explain.layers import Affine, MergedColumns, SelectedColumns, Standardized, UnitNorm, linear
from sktransfer.featurizers.image import ImageFeaturizer
from sktransfer.featurizers.joined import JoinedFeaturizer
from sktransfer.featurizers.text import TextFeaturizer
from sktransfer.featurizers.tokens import TokenFeaturizer
from sktransfer.featurizers.words import WordEmbedder
from sktransfer.finetuning.classifier import ClassifyingTuner, FineTuneClassifier
from sktransfer.finetuning.contrastive import ContrastiveFineTuner
from sktransfer.finetuning.domain_adaptation import DomainAdaptationClassifier
from sktransfer.finetuning.multitask import MultiTaskFineTuner
from sktransfer.finetuning.regressor import FineTuneRegressor
from sktransfer.finetuning.segmenter import FineTuneSegmenter
from sktransfer.finetuning.self_supervised import SelfSupervisedTuner
from sktransfer.finetuning.tagger import FineTuneTagger
from sktransfer.selection.best import BestBackbone

__all__ = ["CONVERTERS", "REFUSED"]

_LINKS: dict[str, nn.Module] = {"multiclass": nn.Softmax(1), "multilabel-indicator": nn.Sigmoid()}


def _one_tower(backbone: Backbone) -> Backbone:
    """Return a backbone that is not joined."""
    if None not in backbone.towers:
        raise InvalidParameterError(f"{backbone.name} cannot be converted: {TOWERS}")
    return backbone


def _featurizer(estimator: Any, convert: Convert) -> Conversion:
    source = Source(estimator.backbone_, tuple(estimator._layers()), estimator)
    choice, layers = estimator._choice, list[nn.Module]()
    if choice is not None:
        layers.append(Standardized(choice.mean, choice.feature_divisors))
    elif estimator._scales_to_unit_length():
        layers.append(UnitNorm())
    return Conversion(tuple(layers), "features", source)


def _tuner_source(estimator: Any) -> tuple[Source, nn.Module]:
    return (
        Source(_one_tower(estimator.backbone_), tuple(estimator._layers["features"]), estimator),
        copy.deepcopy(estimator._feature_head),
    )


def _fine_tune_classifier(estimator: ClassifyingTuner, convert: Convert) -> Conversion:
    source, head = _tuner_source(estimator)
    return Conversion((head,), "logits", source, estimator.classes_, _LINKS[estimator._task.kind])


def _fine_tune_regressor(estimator: FineTuneRegressor, convert: Convert) -> Conversion:
    source, head = _tuner_source(estimator)
    task = estimator._task
    return Conversion((head, Affine(task.spread, task.shift)), "predictions", source)


def _contrastive(estimator: ContrastiveFineTuner, convert: Convert) -> Conversion:
    source, head = _tuner_source(estimator)
    return Conversion((head, UnitNorm()) if estimator.normalize else (head,), "features", source)


def _pretrained(estimator: PretrainedClassifier, convert: Convert) -> Conversion:
    backbone = estimator.backbone_
    head = copy.deepcopy(backbone.head)
    source = Source(backbone, (LayerOutput(len(backbone.stages)),), estimator, head)
    classes, of_category = np.unique(np.array(backbone.categories, dtype=str), return_inverse=True)
    is_unique = len(classes) == len(of_category)
    merged = SelectedColumns(of_category.argsort()) if is_unique else MergedColumns(of_category)
    return Conversion((merged,), "logits", source, classes, nn.Softmax(1))


def _zero_shot(estimator: ZeroShotClassifier, convert: Convert) -> Conversion:
    backbone = estimator.backbone_
    source = Source(backbone, tuple(resolve_layers(backbone, -1, estimator.pooling)), estimator)
    weight = estimator._scale(backbone) * estimator._class_vectors(backbone)  # (n_classes, n_features)
    return Conversion((UnitNorm(), linear(weight, 0.0)), "logits", source, estimator.classes_, nn.Softmax(1))


def _nearest_class_mean(estimator: NearestClassMean, convert: Convert) -> Conversion:
    weight = estimator.scale * estimator.means_  # (n_classes, n_features)
    return Conversion((UnitNorm(), linear(weight, 0.0)), "logits", None, estimator.classes_, nn.Softmax(1))


def _best_backbone(estimator: BestBackbone, convert: Convert) -> Conversion:
    source = Source(estimator.backbone_, (estimator._layer,), estimator)
    return join(Conversion((), "features", source), convert(estimator.estimator_), estimator.estimator_)


def _self_supervised(estimator: SelfSupervisedTuner, convert: Convert) -> Conversion:
    return convert(estimator.featurizer_)


CONVERTERS: dict[type, Converter] = {
    BestBackbone: _best_backbone,
    ContrastiveFineTuner: _contrastive,
    DomainAdaptationClassifier: _fine_tune_classifier,
    FineTuneClassifier: _fine_tune_classifier,
    FineTuneRegressor: _fine_tune_regressor,
    ImageFeaturizer: _featurizer,
    NearestClassMean: _nearest_class_mean,
    PretrainedClassifier: _pretrained,
    SelfSupervisedTuner: _self_supervised,
    TextFeaturizer: _featurizer,
    ZeroShotClassifier: _zero_shot,
}
TOWERS = (
    "it reads rows of several columns, and a module reads one tensor. Convert the networks of the columns, "
    "as_module(ImageFeaturizer(estimator.backbone_.towers['image'], layer=-1).fit(images)), and concatenate what they "
    "give"
)
REFUSED = {
    FineTuneSegmenter: "it has an output per pixel, and a module has one per image. Use its backbone_ and head_",
    FineTuneTagger: "it has an output per word, and a module has one per text. tagger.head_ gives logits of words from "
    "the features of TokenFeaturizer(tagger.backbone_, layer=layer, subword=tagger.subword), where layer is "
    "tagger.layer, or list(tagger.layer_.index) if that is 'auto'",
    JoinedFeaturizer: TOWERS,
    MultiTaskFineTuner: "it has an output per task. Convert the estimator of a task, as_module(tuner.task(name))",
    TokenFeaturizer: "it gives features per word of sentences, and a module reads whole texts. Convert a layer of its "
    "network, as_module(TextFeaturizer(featurizer.backbone_, layer=-1).fit(texts))",
    WordEmbedder: "it looks up words in a table. Use TextFeaturizer, or write the vectors for other libraries by "
    "embedding_.to_word2vec(path)",
}
