"""What holds for each recipe of fine-tuning, whatever it does: it learns, it repeats, and what is frozen is frozen."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from peft import LoraConfig
from skorch.callbacks import GradientNormClipping

from sktransfer import EMA, SWA, FineTuneClassifier, MicroBatches, Mixup, WiSEFT, load_backbone
from sktransfer.testing.samples import make_samples
from tests.helpers.small_bert import small_bert

BERT = "hf/" + small_bert()
TEXTS, LABELS = make_samples("text", 24)
IMAGES, _ = make_samples("image", 24)
RECIPES = {
    "plain": {},
    "random head": {"head_init": "random", "layer": -1},
    "class means": {"head_init": "class_means"},
    "random weights": {"weights": "random", "head_init": "random"},
    "gradual": {"unfreezing": "gradual"},
    "chain-thaw": {"unfreezing": "chain_thaw"},
    "ULMFiT": {"unfreezing": "gradual", "layer_lr_decay": 2.6, "lr_schedule": "slanted_triangular"},
    "one cycle": {"lr_schedule": "one_cycle"},
    "cosine": {"lr_schedule": "cosine"},
    "L2-SP": {"l2_sp": 0.1},
    "smoothed labels": {"label_smoothing": 0.1},
    "multi-margin loss": {"criterion": torch.nn.MultiMarginLoss},
    "SGD": {"optimizer": "sgd", "lr": 1e-2, "max_epochs": 15},
    "early stopping": {"early_stopping": True, "validation_fraction": 0.25},
    "EMA": {"callbacks": [EMA(0.5)]},
    "SWA": {"callbacks": [SWA(0.5)]},
    "WiSE-FT": {"callbacks": [WiSEFT(0.5)]},
    "mixup": {"callbacks": [Mixup(0.2)], "max_epochs": 15},
    "clipped, in parts": {"callbacks": [GradientNormClipping(1.0), MicroBatches(4)]},
    "all layers mixed": {"layer": "mix"},
    "adapter": {"adapter": LoraConfig(r=2, target_modules="all-linear")},
    "words left out": {"augment": "word_dropout", "max_epochs": 15},
}


def fitted(recipe, backbone=BERT, X=TEXTS, **changes):
    options = {"freeze_depth": 2, "max_epochs": 6, "batch_size": 8, "lr": 2e-3, "random_state": 0}
    return FineTuneClassifier(backbone, **{**options, **recipe, **changes}).fit(X, LABELS)


def states(backbone):
    return [{name: value.clone() for name, value in stage.state_dict().items()} for stage in backbone.stages]


def same(one, other):
    return all(one[name].equal(other[name]) for name in one)


def start_of(recipe):
    """The stages before training."""
    seed = int(np.random.RandomState(0).randint(np.iinfo(np.int32).max))
    return states(load_backbone(BERT, weights=recipe.get("weights", "pretrained"), seed=seed))


def frozen(before, clf):
    return [same(*pair) for pair in zip(before, states(clf.backbone_))]


@pytest.mark.parametrize("name", RECIPES)
def test_precision_bfloat16_learns_with_float32_weights(name):
    before = start_of(RECIPES[name])
    clf = fitted(RECIPES[name], precision="bfloat16")
    assert clf.score(TEXTS, LABELS) > 0.9
    assert frozen(before, clf) == [True, True, False, False]
    values = [value for one in states(clf.backbone_) for value in one.values()]
    assert {value.dtype for value in values if value.is_floating_point()} == {torch.float32}


@pytest.mark.parametrize("name", RECIPES)
def test_random_state_gives_equal_bits_and_frozen_stages_stay_bit_equal(name):
    before = start_of(RECIPES[name])
    one, other = (fitted(RECIPES[name], max_epochs=4) for _ in range(2))
    np.testing.assert_array_equal(one.predict_proba(TEXTS), other.predict_proba(TEXTS))
    assert frozen(before, one) == [True, True, False, False]
    assert not any(module.training for stage in one.backbone_.stages for module in stage.modules())


@pytest.mark.parametrize("name", ["ULMFiT", "mixup", "EMA", "L2-SP"])
def test_freeze_depth_keeps_image_stages_and_batch_norm_bit_equal(name):
    before = states(load_backbone("tiny/cnn"))
    clf = fitted(RECIPES[name], "tiny/cnn", IMAGES, freeze_depth=-1, max_epochs=2)
    assert frozen(before, clf) == [True] * 6 + [False]
