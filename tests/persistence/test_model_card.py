"""Model cards: facts of estimators and backbones, scores, and how to load."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import make_column_transformer
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

from sktransfer import (
    Backbone,
    FineTuneClassifier,
    FineTuneTagger,
    ImageFeaturizer,
    MultiTaskFineTuner,
    PretrainedClassifier,
    TextFeaturizer,
    make_transfer_pipeline,
    model_card,
)
from sktransfer.exceptions import InvalidParameterError
from sktransfer.testing.samples import make_samples

IMAGES, LABELS = make_samples("image", 24)
TEXTS, MOODS = make_samples("text", 12)


@pytest.fixture(scope="module")
def tuner():
    return FineTuneClassifier("tiny/cnn", layer=-1, freeze_depth=-1, max_epochs=1, lr=1e-3, random_state=0).fit(
        IMAGES, LABELS
    )


def rows(card, section):
    table = card.select(section).table
    return list(zip(*table.values()))


def test_model_card_of_a_tuner(tuner):
    card = model_card(tuner, IMAGES, LABELS, description="For tests.", data="24 made-up images.", file="photos.skt")
    assert card.select("FineTuneClassifier").content == "For tests."
    assert card.select("Data").content == "24 made-up images."
    assert "- classes: bad, good" in card.select("Model").content
    facts = card.select("Backbone 1").content
    for fact in ("name: tiny/cnn", "licence: non-commercial research", "frozen stages: 6 of 7", "learning rate: 0.001"):
        assert f"- {fact}" in facts
    assert f"- fingerprint: {tuner.backbone_.fingerprint()}" in facts
    stages = rows(card, "Stages of backbone 1")
    assert [row[0] for row in stages] == list(tuner.backbone_.stage_names)
    assert [row[1] for row in stages] == ["frozen"] * 6 + ["trained"]
    assert stages[-1][2:] == ("99,328", "average")
    scores = dict(rows(card, "Scores"))
    assert scores["accuracy"] == f"{tuner.score(IMAGES, LABELS):.4f}"
    assert list(scores) == ["accuracy", "balanced accuracy", "F1, macro", "log loss"]
    assert "Of 24 samples, 12 good, 12 bad." in card.render()
    assert "load('photos.skt')" in card.select("How to load").content


def test_model_card_of_a_regressor_and_of_labels():
    y = np.linspace(0, 1, 24)
    regressor = make_pipeline(ImageFeaturizer("tiny/cnn"), Ridge()).fit(IMAGES, y)
    card = model_card(regressor, IMAGES, y)
    assert dict(rows(card, "Scores"))["R²"] == f"{regressor.score(IMAGES, y):.4f}"
    assert "- steps: ImageFeaturizer, Ridge" in card.select("Model").content
    assert card.select("Data").content == "Not stated."
    labels = np.stack([np.arange(24) % 2, np.arange(24) // 12], 1)
    clf = FineTuneClassifier("tiny/cnn", freeze_depth="all", max_epochs=0).fit(IMAGES, labels)
    assert dict(rows(model_card(clf, IMAGES, labels), "Scores"))["exact matches"] == f"{clf.score(IMAGES, labels):.4f}"


def test_model_card_lists_each_fitted_backbone_once():
    table = pd.DataFrame({"a": TEXTS, "b": TEXTS[::-1]})
    both = make_column_transformer((TextFeaturizer("tiny/bert", layer=0), "a"), (TextFeaturizer("tiny/bert"), "b"))
    grid = GridSearchCV(make_pipeline(both, PCA(2), LogisticRegression()), {"pca__n_components": [2]}, cv=2)
    card = model_card(grid.fit(table, MOODS))
    sections = card.render().splitlines()
    assert [line for line in sections if line.startswith("# Backbone")] == ["# Backbone 1", "# Backbone 2"]
    assert [bool(row[3]) for row in rows(card, "Stages of backbone 1")].index(True) == 0


def test_model_card_of_estimators_that_need_no_fit_and_of_own_modules():
    from torch import nn

    assert "- name: tiny/cnn" in model_card(PretrainedClassifier("tiny/cnn")).select("Backbone 1").content
    own = Backbone.from_modules([("stem", nn.Conv2d(3, 4, 3))], input_size=(8, 8))
    fitted = ImageFeaturizer(own).fit(IMAGES)
    assert "- licence: unknown" in model_card(fitted).select("Backbone 1").content
    assert "estimator.transform(samples)" in model_card(fitted).select("How to load").content


def test_model_card_of_a_tagger_has_its_score():
    words, tags = [["Anna", "sleeps"], ["they", "saw", "Rome"]] * 4, [["B-PER", "O"], ["O", "O", "B-LOC"]] * 4
    tagger = FineTuneTagger("tiny/bert", freeze_depth="all", max_epochs=0, random_state=0).fit(words, tags)
    card = model_card(tagger, words, tags)
    assert rows(card, "Scores") == [("score", f"{tagger.score(words, tags):.4f}")]
    assert card.select("Scores").content == "Of 8 samples."


def test_model_card_of_several_tasks():
    y = pd.DataFrame({"mood": MOODS, "length": [len(text) / 7 for text in TEXTS]})
    tuner = MultiTaskFineTuner("tiny/bert", freeze_depth="all", max_epochs=0, random_state=0).fit(TEXTS, y)
    card = model_card(tuner, TEXTS, y)
    scores = {f"score of {task}": f"{score:.4f}" for task, score in tuner.scores(TEXTS, y).items()}
    assert dict(rows(card, "Scores")) == scores
    assert list(dict(rows(model_card(tuner, TEXTS, y[["mood"]]), "Scores"))) == ["score of mood"]
    assert card.select("Model").content.endswith("- tasks: mood, length\n- classes of mood: bad, good")


def test_model_card_scores_labels_that_are_new_without_log_loss(tuner):
    with pytest.warns(UserWarning, match="classes not in y_true"):
        scores = dict(rows(model_card(tuner, IMAGES, ["new"] * 24), "Scores"))
    assert scores == {"accuracy": "0.0000", "balanced accuracy": "0.0000", "F1, macro": "0.0000"}


def test_model_card_separates_the_lines_of_a_report():
    clf = make_pipeline(TextFeaturizer("tiny/bert"), LogisticRegression()).fit(TEXTS, MOODS)
    report = "; ".join(" ".join(line.split()) for line in clf[0].report_.splitlines())
    assert len(clf[0].report_.splitlines()) > 1
    assert model_card(clf).select("Backbone 1").content.endswith(f"- report: {report}")


def test_model_card_shortens_parameters():
    table = pd.DataFrame({"review": TEXTS, "stars": range(len(TEXTS))})
    card = model_card(make_transfer_pipeline(table, MOODS).fit(table, MOODS))
    parameters = dict(rows(card, "Parameters"))
    assert parameters["columns__text_review__backbone"] == "'tiny/bert'"
    assert parameters["steps"].startswith("[('columns', ColumnTransformer(")
    assert max(map(len, card.render().splitlines())) < 300


def test_model_card_of_numbers_that_are_whole_counts_no_classes():
    y = np.arange(24.0)
    card = model_card(make_pipeline(ImageFeaturizer("tiny/cnn", layer=1), Ridge()).fit(IMAGES, y), IMAGES, y)
    assert card.select("Scores").content == "Of 24 samples."


def test_model_card_refuses_what_it_cannot_describe(tuner):
    with pytest.raises(NotFittedError):
        model_card(FineTuneClassifier("tiny/cnn"))
    with pytest.raises(InvalidParameterError, match="y is None: scores need samples and targets"):
        model_card(tuner, IMAGES)
    with pytest.raises(InvalidParameterError, match="ImageFeaturizer has neither predict nor score"):
        model_card(ImageFeaturizer("tiny/cnn").fit(IMAGES), IMAGES, LABELS)
    with pytest.raises(InvalidParameterError, match=r"'moods\.skt' is a path.*sktransfer\.load\('moods\.skt'\)"):
        model_card("moods.skt")
    with pytest.raises(InvalidParameterError, match=r"data=\['Four reviews\.'\] must be a str"):
        model_card(tuner, data=["Four reviews."])
