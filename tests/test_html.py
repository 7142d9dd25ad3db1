"""HTML of estimators in notebooks."""

from __future__ import annotations

import pandas as pd
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import estimator_html_repr
from torch import nn

from sktransfer import Backbone, FineTuneClassifier, ImageFeaturizer, PretrainedClassifier, load_backbone
from sktransfer.html import backbone_html
from sktransfer.testing.samples import make_samples

X, y = make_samples("image", 12)


def test_backbone_html_lists_stages_with_state_and_number_of_parameters():
    clf = FineTuneClassifier(freeze_depth=5, max_epochs=0).fit(X, y)
    html = clf._repr_mimebundle_()["text/html"]
    stages = load_backbone("tiny/cnn").stages
    frozen = sum(p.numel() for p in stages[:5].parameters())
    trained = sum(p.numel() for p in stages[5:].parameters()) + sum(p.numel() for p in clf.net_.module_.parameters())
    trained -= sum(p.numel() for p in clf.net_.module_.stages.parameters())
    assert html.count("&#10052; frozen") == 5
    assert f"{trained:,} parameters trained, {frozen:,} frozen; device=auto" in html
    assert "block5" in html
    assert clf._repr_html_().count("&#10052; frozen") == 5
    assert (
        backbone_html(FineTuneClassifier(load_backbone("tiny/cnn"), freeze_depth=0)) == ""
    )  # not fitted, so no stage is frozen


def meta_estimators():
    """Return meta-estimators that hold a fitted estimator with frozen stages, by kind."""
    columns = pd.DataFrame({"image": list(X), "n": range(len(X))})
    image = ImageFeaturizer(layer=["block1", "block4"])
    columns_of_images_and_numbers = ColumnTransformer([("image", image, ["image"]), ("n", StandardScaler(), ["n"])])
    search = GridSearchCV(FineTuneClassifier(max_epochs=0), {"freeze_depth": [5]}, cv=2)
    return {
        "pipeline": make_pipeline(image, LogisticRegression()).fit(X, y),
        "columns": make_pipeline(columns_of_images_and_numbers, LogisticRegression()).fit(columns, y),
        "search": search.fit(X, y),
        "frozen": FrozenEstimator(FineTuneClassifier(freeze_depth=5, max_epochs=0).fit(X, y)),
    }


@pytest.mark.parametrize("kind_and_estimator", meta_estimators().items(), ids=lambda pair: pair[0])
def test_estimator_html_repr_of_meta_estimators_shows_stages(kind_and_estimator):
    html = estimator_html_repr(kind_and_estimator[1])
    assert html.count("&#10052; frozen") == (7 if kind_and_estimator[0] in ("pipeline", "columns") else 5)
    assert html.count("<details") == html.count("</details>")


@pytest.mark.parametrize("name", ["tiny/cnn", "torchvision/resnet50"])
def test_repr_html_of_pretrained_classifier_loads_nothing(name, monkeypatch):
    monkeypatch.setattr("sktransfer.classifiers.pretrained.load_backbone", None)
    clf = PretrainedClassifier(name)
    assert name in clf._repr_html_()
    assert name in estimator_html_repr(clf)


@pytest.mark.parametrize("fit", [False, True])
def test_repr_html_of_a_featurizer_shows_frozen_stages_and_loads_nothing(fit):
    featurizer = ImageFeaturizer("torchvision/resnet50") if not fit else ImageFeaturizer().fit(X)
    html = featurizer._repr_html_()
    assert html.count("&#10052; frozen") == (7 if fit else 0)
    assert backbone_html(PretrainedClassifier("torchvision/resnet50")) == ""
    assert "ImageFeaturizer" in make_pipeline(featurizer, LogisticRegression())._repr_html_()


def test_backbone_html_escapes_names_and_counts_shared_weights_once():
    stage = nn.Conv2d(3, 3, 1)
    backbone = Backbone.from_modules([("<b>one</b>", stage), ("same", stage)], name="own/<script>")
    featurizer = ImageFeaturizer(backbone).fit(X)
    html = backbone_html(featurizer)
    assert "<script>" not in html
    assert "<b>" not in html
    assert "own/<script>" not in estimator_html_repr(make_pipeline(featurizer))
    assert "0 parameters trained, 12 frozen" in html
    assert len(html) < 2000


def test_backbone_html_tells_what_was_chosen():
    html = backbone_html(ImageFeaturizer().fit(X, y))
    assert "<div>layers: " in html
    assert "leave-one-out error" in html
    assert "<div>layer=-1 is fixed</div>" in backbone_html(ImageFeaturizer(layer=-1).fit(X))
    assert "<div>" not in backbone_html(ImageFeaturizer(load_backbone("tiny/cnn")))  # not fitted
