"""The backbones in sktransfer's estimators, and before its checks of backbones."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from st_folders import open_model, small_model

from sktransfer import FineTuneClassifier, TextFeaturizer, load_backbone
from sktransfer.testing import parametrize_with_backbone_checks
from sktransfer.testing.backbone_subject import Subject
from sktransfer.testing.checks_forward import check_reference
from tests.helpers.huggingface_folders import minilm_folder

NAME = f"sentence-transformers/{small_model()}"
GOOD, BAD = ("good", "clever", "very good"), ("bad", "stupid", "very bad")
X = [f"{start} {word} film {end}" for start in ("a", "the") for end in ("", "and plot") for word in (*GOOD, *BAD)]
Y = np.array([any(word in text for word in GOOD) for text in X])


def minilm() -> str:
    return str(minilm_folder())


@parametrize_with_backbone_checks([NAME, f"sentence-transformers/{minilm()}"])
def test_backbone_checks(backbone_name, check):
    check()


@pytest.mark.parametrize("folder", [small_model, minilm])
def test_check_reference_passes_with_the_forward_of_the_model(folder):
    model = open_model(folder())

    def own(ids, mask):
        return model({"input_ids": ids, "attention_mask": mask.long()})["sentence_embedding"]

    check_reference(Subject(f"sentence-transformers/{folder()}", reference=own))


@pytest.mark.parametrize("depth", [2, -1])
def test_freeze_depth_trains_only_the_stages_above_it(depth):
    before = load_backbone(NAME)
    settings = {"max_epochs": 20, "batch_size": 8, "lr": 3e-3, "random_state": 0}
    classifier = FineTuneClassifier(NAME, freeze_depth=depth, **settings).fit(X, Y)
    assert classifier.score(X, Y) > 0.8
    losses = classifier.net_.history[:, "train_loss"]
    assert losses[-1] < 0.9 * losses[0]
    n_frozen = classifier.freeze_depth_
    assert n_frozen == (2 if depth == 2 else 4)
    for index, (old, new) in enumerate(zip(before.stages, classifier.backbone_.stages)):
        changed = [not torch.equal(a, b) for a, b in zip(old.parameters(), new.parameters())]
        assert any(changed) == (index >= n_frozen)
    assert classifier.predict(["a clever plot", "a stupid plot"]).shape == (2,)


def test_freeze_depth_of_minus_1_works_without_weights_after_the_pooling():
    classifier = FineTuneClassifier(
        f"sentence-transformers/{minilm()}", freeze_depth=-1, max_epochs=1, random_state=0
    ).fit(X[:8], Y[:8])
    assert classifier.predict_proba(X[:2]).shape == (2, 2)


def test_layer_and_backbone_can_be_searched_by_grid_search():
    pipeline = make_pipeline(TextFeaturizer(NAME), LogisticRegression())
    grid = {
        "textfeaturizer__layer": ["embeddings", "layer3", "sentence", "all", [2, -1]],
        "textfeaturizer__backbone": [NAME, f"{NAME}#query"],
    }
    search = GridSearchCV(pipeline, grid, cv=2, error_score="raise").fit(X, Y)
    widths = {32, 24, 32 * 4 + 24, 32 + 24}
    seen = {TextFeaturizer(NAME, layer=layer).fit_transform(X[:2]).shape[1] for layer in grid["textfeaturizer__layer"]}
    assert seen == widths
    assert len(search.cv_results_["params"]) == 10


def test_layer_list_works_frozen_and_trained():
    classifier = FineTuneClassifier(NAME, layer=["layer1", "sentence"], freeze_depth=3, max_epochs=1, random_state=0)
    assert classifier.fit(X, Y).predict(X[:3]).shape == (3,)
    frozen = FineTuneClassifier(NAME, layer=["layer1", "sentence"], freeze_depth="all", max_epochs=1, random_state=0)
    assert frozen.fit(X, Y).predict(X[:3]).shape == (3,)
