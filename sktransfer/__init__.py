"""Transfer learning for scikit-learn users.

Names are loaded on first use: `import sktransfer` pulls in neither torch nor scikit-learn.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from sktransfer._version import __version__ as __version__

# The names are listed twice: `_HOME` is read at run time, the TYPE_CHECKING block by type checkers. `attach_stub` of
# lazy_loader would need one list, but it rejects names from outside the package (sktransfer.backbones exports some of
# sktransfer.weights), omits `__version__` from `dir()`, and imports torch if EAGER_IMPORT is set. A test compares the
# two lists.
_HOME = {
    "Backbone": "sktransfer.backbones.backbone",
    "BackboneRankingDisplay": "sktransfer.displays.backbone_ranking",
    "BackboneSpec": "sktransfer.backbones.spec",
    "BestBackbone": "sktransfer.selection.best",
    "CORAL": "sktransfer.domains.distances",
    "Checkpoint": "sktransfer.callbacks.checkpoint",
    "ClassMapDisplay": "sktransfer.displays.class_map",
    "ContrastiveFineTuner": "sktransfer.finetuning.contrastive",
    "ContrastiveTension": "sktransfer.objectives.tension",
    "DANN": "sktransfer.domains.adversarial",
    "DateFeatures": "sktransfer.pipelines.dates",
    "Denoising": "sktransfer.objectives.denoising",
    "DomainAdaptationClassifier": "sktransfer.finetuning.domain_adaptation",
    "DropoutViews": "sktransfer.objectives.views",
    "EMA": "sktransfer.callbacks.averaging",
    "FeatureMapDisplay": "sktransfer.displays.feature_map",
    "FineTuneClassifier": "sktransfer.finetuning.classifier",
    "FineTuneRegressor": "sktransfer.finetuning.regressor",
    "FineTuneSegmenter": "sktransfer.finetuning.segmenter",
    "FineTuneTagger": "sktransfer.finetuning.tagger",
    "FreezeDepthDisplay": "sktransfer.displays.freeze_depth",
    "Head": "sktransfer.tasks.heads",
    "ImageFeaturizer": "sktransfer.featurizers.image",
    "JoinedBackbone": "sktransfer.towers.joined",
    "JoinedFeaturizer": "sktransfer.featurizers.joined",
    "LayerScoreDisplay": "sktransfer.displays.layer_score",
    "LearningRateDisplay": "sktransfer.displays.learning_rate",
    "LearningRates": "sktransfer.training.lr_finder",
    "MCC": "sktransfer.domains.distances",
    "MMD": "sktransfer.domains.distances",
    "MaskDisplay": "sktransfer.displays.mask",
    "MaskedPatches": "sktransfer.objectives.patches",
    "MaskedTokens": "sktransfer.objectives.masked",
    "MicroBatches": "sktransfer.callbacks.micro_batches",
    "Mixup": "sktransfer.callbacks.mixup",
    "MultiTaskFineTuner": "sktransfer.finetuning.multitask",
    "MultiTaskKFold": "sktransfer.selection.multitask",
    "NearestClassMean": "sktransfer.classifiers.nearest_mean",
    "NextTokens": "sktransfer.objectives.causal",
    "NumberFeatures": "sktransfer.pipelines.numbers",
    "PretrainedClassifier": "sktransfer.classifiers.pretrained",
    "SWA": "sktransfer.callbacks.averaging",
    "SelfSupervisedTuner": "sktransfer.finetuning.self_supervised",
    "SiameseViews": "sktransfer.objectives.siamese",
    "StageDenoising": "sktransfer.objectives.reconstruction",
    "StoredFeatures": "sktransfer.streaming.features",
    "TagsDisplay": "sktransfer.displays.tags",
    "TextFeaturizer": "sktransfer.featurizers.text",
    "TokenAttributionDisplay": "sktransfer.displays.token_attribution",
    "TokenFeaturizer": "sktransfer.featurizers.tokens",
    "TrainingHistoryDisplay": "sktransfer.displays.training_history",
    "WiSEFT": "sktransfer.callbacks.averaging",
    "WordEmbedder": "sktransfer.featurizers.words",
    "ZeroShotClassifier": "sktransfer.classifiers.zero_shot",
    "as_module": "sktransfer.explain.as_module",
    "cache_info": "sktransfer.cache.resolve",
    "clear_cache": "sktransfer.cache.resolve",
    "compare_with_baseline": "sktransfer.selection.baseline",
    "config_context": "sktransfer.config",
    "convert_scheme": "sktransfer.tagging.schemes",
    "describe_columns": "sktransfer.pipelines.table",
    "export_onnx": "sktransfer.explain.onnx",
    "featurize": "sktransfer.streaming.api",
    "fill_mask": "sktransfer.language.fill_mask",
    "find_bad_images": "sktransfer.samples.bad_images",
    "find_invalid_tags": "sktransfer.tagging.schemes",
    "find_lr": "sktransfer.finetuning.find_lr",
    "find_spans": "sktransfer.tagging.schemes",
    "get_config": "sktransfer.config",
    "hookimpl": "sktransfer.backbones.hooks",
    "list_backbones": "sktransfer.backbones.registry",
    "list_plugins": "sktransfer.backbones.registry",
    "load": "sktransfer.persistence.api",
    "load_backbone": "sktransfer.backbones.loading",
    "load_conll": "sktransfer.tagging.conll",
    "load_features": "sktransfer.streaming.features",
    "load_image_folder": "sktransfer.samples.folders",
    "load_vectors": "sktransfer.words.loading",
    "make_domain_scorer": "sktransfer.selection.domain_scorer",
    "make_transfer_pipeline": "sktransfer.pipelines.transfer",
    "merge_tasks": "sktransfer.targets.merging",
    "model_card": "sktransfer.persistence.model_card",
    "perplexity": "sktransfer.language.perplexity",
    "pseudo_perplexity": "sktransfer.language.perplexity",
    "rank_backbones": "sktransfer.selection.ranking",
    "recommend_backbones": "sktransfer.selection.recommending",
    "save": "sktransfer.persistence.api",
    "save_conll": "sktransfer.tagging.conll",
    "set_config": "sktransfer.config",
    "span_f1_score": "sktransfer.tagging.metrics",
    "span_precision_score": "sktransfer.tagging.metrics",
    "span_recall_score": "sktransfer.tagging.metrics",
    "span_report": "sktransfer.tagging.metrics",
    "stack_words": "sktransfer.sentences.values",
    "tag_accuracy_score": "sktransfer.tagging.metrics",
    "task_scorer": "sktransfer.selection.multitask",
}
__all__ = sorted(_HOME)

if TYPE_CHECKING:
    from sktransfer.backbones.backbone import Backbone as Backbone
    from sktransfer.backbones.hooks import hookimpl as hookimpl
    from sktransfer.backbones.loading import load_backbone as load_backbone
    from sktransfer.backbones.registry import list_backbones as list_backbones
    from sktransfer.backbones.registry import list_plugins as list_plugins
    from sktransfer.backbones.spec import BackboneSpec as BackboneSpec
    from sktransfer.cache.resolve import cache_info as cache_info
    from sktransfer.cache.resolve import clear_cache as clear_cache
    from sktransfer.callbacks.averaging import EMA as EMA
    from sktransfer.callbacks.averaging import SWA as SWA
    from sktransfer.callbacks.averaging import WiSEFT as WiSEFT
    from sktransfer.callbacks.checkpoint import Checkpoint as Checkpoint
    from sktransfer.callbacks.micro_batches import MicroBatches as MicroBatches
    from sktransfer.callbacks.mixup import Mixup as Mixup
    from sktransfer.classifiers.nearest_mean import NearestClassMean as NearestClassMean
    from sktransfer.classifiers.pretrained import PretrainedClassifier as PretrainedClassifier
    from sktransfer.classifiers.zero_shot import ZeroShotClassifier as ZeroShotClassifier
    from sktransfer.config import config_context as config_context
    from sktransfer.config import get_config as get_config
    from sktransfer.config import set_config as set_config
    from sktransfer.displays.backbone_ranking import BackboneRankingDisplay as BackboneRankingDisplay
    from sktransfer.displays.class_map import ClassMapDisplay as ClassMapDisplay
    from sktransfer.displays.feature_map import FeatureMapDisplay as FeatureMapDisplay
    from sktransfer.displays.freeze_depth import FreezeDepthDisplay as FreezeDepthDisplay
    from sktransfer.displays.layer_score import LayerScoreDisplay as LayerScoreDisplay
    from sktransfer.displays.learning_rate import LearningRateDisplay as LearningRateDisplay
    from sktransfer.displays.mask import MaskDisplay as MaskDisplay
    from sktransfer.displays.tags import TagsDisplay as TagsDisplay
    from sktransfer.displays.token_attribution import TokenAttributionDisplay as TokenAttributionDisplay
    from sktransfer.displays.training_history import TrainingHistoryDisplay as TrainingHistoryDisplay
    from sktransfer.domains.adversarial import DANN as DANN
    from sktransfer.domains.distances import CORAL as CORAL
    from sktransfer.domains.distances import MCC as MCC
    from sktransfer.domains.distances import MMD as MMD
    from sktransfer.explain.as_module import as_module as as_module
    from sktransfer.explain.onnx import export_onnx as export_onnx
    from sktransfer.featurizers.image import ImageFeaturizer as ImageFeaturizer
    from sktransfer.featurizers.joined import JoinedFeaturizer as JoinedFeaturizer
    from sktransfer.featurizers.text import TextFeaturizer as TextFeaturizer
    from sktransfer.featurizers.tokens import TokenFeaturizer as TokenFeaturizer
    from sktransfer.featurizers.words import WordEmbedder as WordEmbedder
    from sktransfer.finetuning.classifier import FineTuneClassifier as FineTuneClassifier
    from sktransfer.finetuning.contrastive import ContrastiveFineTuner as ContrastiveFineTuner
    from sktransfer.finetuning.domain_adaptation import DomainAdaptationClassifier as DomainAdaptationClassifier
    from sktransfer.finetuning.find_lr import find_lr as find_lr
    from sktransfer.finetuning.multitask import MultiTaskFineTuner as MultiTaskFineTuner
    from sktransfer.finetuning.regressor import FineTuneRegressor as FineTuneRegressor
    from sktransfer.finetuning.segmenter import FineTuneSegmenter as FineTuneSegmenter
    from sktransfer.finetuning.self_supervised import SelfSupervisedTuner as SelfSupervisedTuner
    from sktransfer.finetuning.tagger import FineTuneTagger as FineTuneTagger
    from sktransfer.language.fill_mask import fill_mask as fill_mask
    from sktransfer.language.perplexity import perplexity as perplexity
    from sktransfer.language.perplexity import pseudo_perplexity as pseudo_perplexity
    from sktransfer.objectives.causal import NextTokens as NextTokens
    from sktransfer.objectives.denoising import Denoising as Denoising
    from sktransfer.objectives.masked import MaskedTokens as MaskedTokens
    from sktransfer.objectives.patches import MaskedPatches as MaskedPatches
    from sktransfer.objectives.reconstruction import StageDenoising as StageDenoising
    from sktransfer.objectives.siamese import SiameseViews as SiameseViews
    from sktransfer.objectives.tension import ContrastiveTension as ContrastiveTension
    from sktransfer.objectives.views import DropoutViews as DropoutViews
    from sktransfer.persistence.api import load as load
    from sktransfer.persistence.api import save as save
    from sktransfer.persistence.model_card import model_card as model_card
    from sktransfer.pipelines.dates import DateFeatures as DateFeatures
    from sktransfer.pipelines.numbers import NumberFeatures as NumberFeatures
    from sktransfer.pipelines.table import describe_columns as describe_columns
    from sktransfer.pipelines.transfer import make_transfer_pipeline as make_transfer_pipeline
    from sktransfer.samples.bad_images import find_bad_images as find_bad_images
    from sktransfer.samples.folders import load_image_folder as load_image_folder
    from sktransfer.selection.baseline import compare_with_baseline as compare_with_baseline
    from sktransfer.selection.best import BestBackbone as BestBackbone
    from sktransfer.selection.domain_scorer import make_domain_scorer as make_domain_scorer
    from sktransfer.selection.multitask import MultiTaskKFold as MultiTaskKFold
    from sktransfer.selection.multitask import task_scorer as task_scorer
    from sktransfer.selection.ranking import rank_backbones as rank_backbones
    from sktransfer.selection.recommending import recommend_backbones as recommend_backbones
    from sktransfer.sentences.values import stack_words as stack_words
    from sktransfer.streaming.api import featurize as featurize
    from sktransfer.streaming.features import StoredFeatures as StoredFeatures
    from sktransfer.streaming.features import load_features as load_features
    from sktransfer.tagging.conll import load_conll as load_conll
    from sktransfer.tagging.conll import save_conll as save_conll
    from sktransfer.tagging.metrics import span_f1_score as span_f1_score
    from sktransfer.tagging.metrics import span_precision_score as span_precision_score
    from sktransfer.tagging.metrics import span_recall_score as span_recall_score
    from sktransfer.tagging.metrics import span_report as span_report
    from sktransfer.tagging.metrics import tag_accuracy_score as tag_accuracy_score
    from sktransfer.tagging.schemes import convert_scheme as convert_scheme
    from sktransfer.tagging.schemes import find_invalid_tags as find_invalid_tags
    from sktransfer.tagging.schemes import find_spans as find_spans
    from sktransfer.targets.merging import merge_tasks as merge_tasks
    from sktransfer.tasks.heads import Head as Head
    from sktransfer.towers.joined import JoinedBackbone as JoinedBackbone
    from sktransfer.training.lr_finder import LearningRates as LearningRates
    from sktransfer.words.loading import load_vectors as load_vectors


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'sktransfer' has no attribute {name!r}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
