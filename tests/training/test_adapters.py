"""Adapters on the stages above the cut."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from peft import LoraConfig, PromptTuningConfig
from sklearn.base import clone

from sktransfer import FineTuneClassifier, TextFeaturizer, load_backbone
from sktransfer.exceptions import InvalidParameterError
from sktransfer.testing.samples import make_samples
from sktransfer.training.adapters import add_adapters, merge_adapters
from sktransfer.training.network import trainable_stages
from tests.helpers.small_bert import small_bert

TEXTS, LABELS = make_samples("text", 12)
IMAGES, _ = make_samples("image", 12)
BERT = "hf/" + small_bert()
LORA = LoraConfig(r=2, lora_alpha=8, target_modules="all-linear", lora_dropout=0.1)
CONVOLUTIONS = LoraConfig(r=2, target_modules=["conv1", "conv2"])


def quick(backbone=BERT, adapter=LORA, **parameters):
    options = {"max_epochs": 3, "lr": 1e-2, "freeze_depth": 2, "random_state": 0, **parameters}
    return FineTuneClassifier(backbone, adapter=adapter, **options)


@pytest.mark.parametrize(
    ("backbone", "X", "adapter"), [(BERT, TEXTS, LORA), ("tiny/cnn", IMAGES, CONVOLUTIONS)], ids=["bert", "cnn"]
)
def test_adapter_is_trained_and_merged_into_the_weights(backbone, X, adapter):
    clf = quick(backbone, adapter).fit(X, LABELS)
    source = load_backbone(backbone)
    before, after = ([stage.state_dict() for stage in one.stages] for one in (source, clf.backbone_))
    assert [one.keys() for one in after] == [one.keys() for one in before]  # nothing of the adapters is left
    changed = [any(not b[name].equal(a[name]) for name in b) for b, a in zip(before, after)]
    assert changed[:2] == [False, False]
    assert any(changed[2:])
    for b, a in zip(before[2:], after[2:]):  # a difference of low rank, and norms and biases as they were
        for name in b:
            difference = (a[name] - b[name]).float()
            if difference.ndim > 1:
                values = torch.linalg.svdvals(difference.flatten(1))
                assert (values[2:] <= 1e-4 * values[0] + 1e-6).all()
            else:
                assert not difference.any()
    n_all = sum(p.numel() for p in source.stages[2:].parameters())
    assert 0 < clf.stages_["n_trained"].sum() < 0.5 * n_all


def test_adapter_gives_equal_predictions_after_training_pickle_and_clone():
    clf = quick(layer=-1).fit(TEXTS, LABELS)
    features = TextFeaturizer(clf.backbone_, layer=-1).fit_transform(TEXTS)
    logits = clf.net_.module_.heads["y"](torch.from_numpy(features)).detach().softmax(1).numpy()
    np.testing.assert_allclose(clf.predict_proba(TEXTS), logits, atol=1e-5)
    again = pickle.loads(pickle.dumps(clf)).predict_proba(TEXTS)
    np.testing.assert_array_equal(again, clf.predict_proba(TEXTS))
    same = clone(clf).fit(TEXTS, LABELS).predict_proba(TEXTS)
    np.testing.assert_array_equal(same, clf.predict_proba(TEXTS))
    assert clone(clf).adapter.target_modules == LORA.target_modules == "all-linear"  # peft writes into its own copy


def test_merge_adapters_keeps_outputs():
    backbone = load_backbone(BERT)
    stages = trainable_stages(backbone, 2)
    add_adapters(stages, LoraConfig(r=2, target_modules="all-linear", init_lora_weights=False))
    stages.eval()
    mask = torch.ones(3, 5, dtype=torch.bool)

    def run():
        with torch.no_grad():
            return stages[1](stages[0](values, mask), mask)

    values = torch.randn(3, 5, next(p for p in backbone.stages[1].parameters() if p.ndim == 1).shape[0])
    before = run()
    merge_adapters(stages)
    torch.testing.assert_close(run(), before, atol=1e-4, rtol=1e-4)
    assert not any("lora" in name for name, _ in stages.named_modules())


def test_adapter_search_runs_the_frozen_stages_once_per_sample():
    backbone = load_backbone("tiny/cnn", weights="random", seed=778)
    seen = []
    hook = backbone.stages[0].register_forward_hook(lambda module, args, out: seen.append(len(out)))
    for r in (1, 2):
        quick(backbone, LoraConfig(r=r, target_modules=["conv1"]), freeze_depth=3, lr=1e-3).fit(IMAGES, LABELS)
    hook.remove()
    assert sum(seen) <= 2 * len(IMAGES)


def test_adapter_with_unfreezing_gradual():
    clf = quick(unfreezing="gradual", layer_lr_decay=2.0, lr=1e-2).fit(TEXTS, LABELS)
    assert list(clf.stages_["lr"].dropna()) == pytest.approx([5e-3, 1e-2])


@pytest.mark.parametrize(
    ("adapter", "match"),
    [
        ("lora", "must be None or a configuration of peft"),
        (PromptTuningConfig(num_virtual_tokens=2), "must be None or a configuration of peft"),
        (LoraConfig(target_modules=["nowhere"]), "cannot be added to the trained stages"),
    ],
)
def test_adapter_rejects_invalid_values(adapter, match):
    with pytest.raises(InvalidParameterError, match=match):
        quick(adapter=adapter).fit(TEXTS, LABELS)


def test_adapter_rejects_l2_sp_and_freeze_depth_all():
    with pytest.raises(InvalidParameterError, match="l2_sp"):
        quick(l2_sp=0.1).fit(TEXTS, LABELS)
    with pytest.raises(InvalidParameterError, match="goes on trained stages, and none is trained"):
        quick(freeze_depth="all").fit(TEXTS, LABELS)
