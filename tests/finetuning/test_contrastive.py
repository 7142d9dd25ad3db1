"""The fine-tuner of pairs: what it leaves frozen, what it brings together, and that it is a transformer like others."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.sparse import csr_matrix
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from torch import nn

from sktransfer import Backbone, ContrastiveFineTuner, FineTuneClassifier, TextFeaturizer
from sktransfer.callbacks.averaging import EMA
from sktransfer.exceptions import InvalidParameterError, InvalidSampleError
from sktransfer.testing.samples import make_samples
from tests.helpers.toys import image_backbone, text_backbone

TEXTS, LABELS = make_samples("text", 16)
IMAGES, KINDS = make_samples("image", 16)


def gap(features, y):
    """Return by how much the mean cosine of two samples of a class is greater than that of two of others."""
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    cosines, same = unit @ unit.T, y[:, None] == y
    return cosines[same].mean() - cosines[~same].mean()


@pytest.mark.parametrize("loss", ["cosine", "supcon"])
@pytest.mark.parametrize(("backbone", "X", "y"), [("tiny/bert", TEXTS, LABELS), ("tiny/cnn", IMAGES, KINDS)])
def test_fit_transform_brings_samples_of_a_class_together(backbone, X, y, loss):
    before = ContrastiveFineTuner(backbone, max_epochs=0).fit_transform(X, y)
    tuner = ContrastiveFineTuner(backbone, freeze_depth=2, loss=loss, lr=1e-3, max_epochs=8, random_state=0)
    after = tuner.fit_transform(X, y)
    assert gap(after, y) > gap(before, y) + 0.5
    assert tuner.history_["train_loss"].iloc[-1] < tuner.history_["train_loss"].iloc[0]


def test_max_epochs_0_gives_the_features_of_the_backbone():
    tuner = ContrastiveFineTuner("tiny/bert", layer=2, freeze_depth=1, max_epochs=0)
    found = tuner.fit_transform(TEXTS, LABELS)
    expected = TextFeaturizer("tiny/bert", layer=2, normalize=True).fit_transform(TEXTS)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    raw = tuner.set_params(normalize=False).fit_transform(TEXTS, LABELS)
    np.testing.assert_allclose(raw, TextFeaturizer("tiny/bert", layer=2).fit_transform(TEXTS), atol=1e-5)
    assert tuner.get_feature_names_out()[0] == "contrastivefinetuner0"


@pytest.mark.parametrize("cache", ["memory", None])
def test_freeze_depth_keeps_frozen_stages_and_the_given_backbone(cache):
    backbone = image_backbone()
    before = [value.clone() for value in backbone.stages.state_dict().values()]
    tuner = ContrastiveFineTuner(backbone, freeze_depth=1, lr=0.01, max_epochs=3, cache=cache, random_state=0)
    tuner.fit(IMAGES, KINDS)
    assert all(torch.equal(*pair) for pair in zip(before, backbone.stages.state_dict().values()))
    assert tuner.backbone_.stages[0] is backbone.stages[0]
    assert not torch.equal(tuner.backbone_.stages[1].body[0][1].weight, backbone.stages[1].body[0][1].weight)
    assert tuner.stages_["trained"].tolist() == [False, True, True]


def test_random_state_determines_the_result_with_or_without_cache():
    def features(seed, **changes):
        tuner = ContrastiveFineTuner(
            "tiny/bert", freeze_depth=2, batch_size=8, max_epochs=2, random_state=seed, **changes
        )
        return tuner.fit_transform(TEXTS, LABELS)

    one = features(0)
    np.testing.assert_array_equal(features(0), one)
    np.testing.assert_allclose(features(0, cache=None), one, atol=1e-5)
    assert not np.array_equal(features(1), one)


def test_get_iterator_gives_batches_of_pairs():
    y = np.array(["rare"] * 2 + ["often"] * 14)
    tuner = ContrastiveFineTuner("tiny/bert", freeze_depth=3, batch_size=4, max_epochs=1, random_state=0)
    tuner.fit(TEXTS, y)
    steps = tuner.net_.history[0]["batches"]
    assert [step["train_batch_size"] for step in steps] == [4.0] * 4
    batches = tuner.net_.get_iterator(dataset_of(tuner, y), training=True)
    seen = [targets["y"][0].tolist() for _, targets in batches]
    assert all(sorted(targets) == [0, 0, 1, 1] for targets in seen)


def dataset_of(tuner, y):
    from sktransfer.engine.compute import resolve_compute
    from sktransfer.engine.inputs import PreprocessedSamples
    from sktransfer.samples.texts import check_texts
    from sktransfer.tasks.base import Targets
    from sktransfer.training.data import FrozenPrefixDataset

    inputs = PreprocessedSamples(check_texts(TEXTS), tuner.backbone_.preprocess)
    n = len(tuner.backbone_.stages)
    return FrozenPrefixDataset(
        tuner.backbone_,
        inputs,
        3,
        n,
        {},
        rows=range(16),
        targets={"y": Targets(np.unique(y, return_inverse=True)[1], np.ones(16))},
        compute=resolve_compute("cpu"),
        store=None,
    )


def test_freeze_depth_in_a_grid_search_over_a_pipeline():
    pipeline = make_pipeline(ContrastiveFineTuner("tiny/bert", max_epochs=2, random_state=0), LogisticRegression())
    search = GridSearchCV(pipeline, {"contrastivefinetuner__freeze_depth": [2, -1]}, cv=2, error_score="raise")
    assert search.fit(TEXTS, LABELS).score(TEXTS, LABELS) > 0.8
    tuned = search.best_estimator_[0].backbone_
    assert FineTuneClassifier(tuned, max_epochs=0, freeze_depth="all").fit(TEXTS, LABELS).score(TEXTS, LABELS) > 0.8


@pytest.mark.parametrize(
    "changes",
    [
        {"layer": "mix"},
        {"layer": [1, 3], "pooling": "max"},
        {"l2_sp": 1.0, "layer_lr_decay": 2.6, "lr_schedule": "cosine"},
        {"augment": "word_dropout"},
        {"precision": "bfloat16"},
        {"callbacks": [EMA(0.5)]},
    ],
    ids=lambda changes: "+".join(changes),
)
def test_fit_transform_takes_the_options_of_fine_tuning(changes):
    settings = {"freeze_depth": 2, "max_epochs": 3, "lr": 1e-3, "random_state": 0}
    tuner = ContrastiveFineTuner("tiny/bert", **{**settings, **changes})
    features = tuner.fit_transform(TEXTS, LABELS)
    assert features.dtype == np.float32
    assert np.isfinite(features).all()
    assert not np.array_equal(features, ContrastiveFineTuner("tiny/bert", **settings).fit_transform(TEXTS, LABELS))
    if "layer" in changes and changes["layer"] == "mix":
        assert tuner.layer_weights_.sum() == pytest.approx(1)


def test_adapter_is_trained_and_merged():
    peft = pytest.importorskip("peft")
    config = peft.LoraConfig(r=2, target_modules="all-linear")
    tuner = ContrastiveFineTuner("tiny/bert", freeze_depth=3, adapter=config, lr=1e-2, max_epochs=2, random_state=0)
    features = tuner.fit_transform(TEXTS, LABELS)
    assert not [name for name, _ in tuner.backbone_.stages.named_parameters() if "lora" in name]
    assert gap(features, LABELS) > gap(TextFeaturizer("tiny/bert").fit_transform(TEXTS), LABELS)


def test_fit_rejects_y_without_pairs():
    with pytest.raises(ValueError, match="one class only, 'same'; there are no pairs to tell apart"):
        ContrastiveFineTuner("tiny/bert").fit(TEXTS, ["same"] * 16)
    with pytest.raises(ValueError, match="y holds 16 classes of one sample each"):
        ContrastiveFineTuner("tiny/bert").fit(TEXTS, np.arange(16))
    with pytest.raises(ValueError, match="requires y to be passed, but the target y is None"):
        ContrastiveFineTuner("tiny/bert").fit(TEXTS, None)


@pytest.mark.parametrize(
    ("y", "match"),
    [
        (None, "requires y to be passed.*: it holds one label per sample"),
        (np.linspace(0, 1, 8), "Unknown label type: continuous.*y holds one label per sample.*KBinsDiscretizer"),
        (np.eye(8, 2), r"y has shape \(8, 2\): y holds one label per sample"),
        (csr_matrix(np.eye(8, 2)), r"y has shape \(8, 2\): y holds one label per sample"),
        ([["a", "b"], ["a"]] * 4, r"y\[0\] is \['a', 'b'\]: y holds one label per sample"),
        ([(0, 1), (2, 3)] * 4, r"y has shape \(8, 2\): y holds one label per sample"),
    ],
    ids=["None", "numbers", "indicators", "sparse", "lists", "pairs"],
)
def test_fit_says_that_y_holds_one_label_per_sample(y, match):
    with pytest.raises(ValueError, match=match):
        ContrastiveFineTuner("tiny/cnn").fit(np.zeros((8, 64)) + 0.5, y)


def test_fit_says_that_x_holds_no_pairs():
    with pytest.raises(InvalidSampleError, match=r"row 0: \('a', 'b'\) is a pair: X holds single samples"):
        ContrastiveFineTuner("tiny/bert").fit([("a", "b"), ("c", "d")], [0, 1])


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"loss": "triplet"}, r"loss='triplet' must be one of \('cosine', 'supcon'\)"),
        ({"batch_size": 3}, "batch_size=3 must be an int of at least 4"),
        ({"batch_size": "all"}, "batch_size='all' must be an int"),
        ({"freeze_depth": "all"}, "freeze_depth='all' leaves nothing to train of toy/words"),
    ],
)
def test_fit_names_invalid_parameters_and_allowed_values(changes, match):
    with pytest.raises(InvalidParameterError, match=match):
        ContrastiveFineTuner(text_backbone(), **changes).fit(["a", "bb", "ccc", "d e"], [0, 0, 1, 1])


def test_freeze_depth_rejects_trained_stages_without_weights():
    backbone = Backbone.from_modules([("stem", nn.Conv2d(3, 4, 3)), ("top", nn.ReLU())], input_size=(8, 8))
    with pytest.raises(InvalidParameterError, match="those above the freezing boundary, 1, have no weights"):
        ContrastiveFineTuner(backbone).fit(IMAGES, KINDS)


def test_fit_that_fails_leaves_the_estimator_unchanged():
    tuner = ContrastiveFineTuner("tiny/bert", max_epochs=1, random_state=0).fit(TEXTS, LABELS)
    before = tuner.transform(TEXTS)
    with pytest.raises(ValueError, match="one class only"):
        tuner.fit(TEXTS, ["same"] * 16)
    np.testing.assert_array_equal(tuner.transform(TEXTS), before)


def test_fit_names_a_missing_label():
    with pytest.raises(ValueError, match=r"y\[3\] is None: 1 of 4 samples has no label; leave such samples out$"):
        ContrastiveFineTuner("tiny/bert").fit(["one", "two", "three", "four"], ["a", "a", "b", None])
