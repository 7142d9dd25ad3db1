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


def test_stages_are_shown_with_those_frozen_marked_and_what_they_count():
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
    assert backbone_html(FineTuneClassifier(load_backbone("tiny/cnn"), freeze_depth=0)) == ""  # nothing is frozen yet


def inside():
    """Estimators that hold a fitted one whose five lower stages are frozen, by how scikit-learn draws them."""
    columns = pd.DataFrame({"image": list(X), "n": range(len(X))})
    image = ImageFeaturizer(layer=["block1", "block4"])
    beside = ColumnTransformer([("image", image, ["image"]), ("n", StandardScaler(), ["n"])])
    search = GridSearchCV(FineTuneClassifier(max_epochs=0), {"freeze_depth": [5]}, cv=2)
    return {
        "pipeline": make_pipeline(image, LogisticRegression()).fit(X, y),
        "columns": make_pipeline(beside, LogisticRegression()).fit(columns, y),
        "search": search.fit(X, y),
        "frozen": FrozenEstimator(FineTuneClassifier(freeze_depth=5, max_epochs=0).fit(X, y)),
    }


@pytest.mark.parametrize("outside", inside().items(), ids=lambda pair: pair[0])
def test_the_stages_are_shown_inside_what_holds_the_estimator_too(outside):
    html = estimator_html_repr(outside[1])
    assert html.count("&#10052; frozen") == (7 if outside[0] in ("pipeline", "columns") else 5)
    assert html.count("<details") == html.count("</details>")


@pytest.mark.parametrize("name", ["tiny/cnn", "torchvision/resnet50"])
def test_an_estimator_that_needs_no_fit_loads_nothing_to_be_shown(name, monkeypatch):
    monkeypatch.setattr("sktransfer.classifiers.pretrained.load_backbone", None)
    clf = PretrainedClassifier(name)
    assert name in clf._repr_html_()
    assert name in estimator_html_repr(clf)


@pytest.mark.parametrize("fit", [False, True])
def test_a_featurizer_is_all_frozen_and_nothing_is_loaded_to_show_it(fit):
    featurizer = ImageFeaturizer("torchvision/resnet50") if not fit else ImageFeaturizer().fit(X)
    html = featurizer._repr_html_()
    assert html.count("&#10052; frozen") == (7 if fit else 0)
    assert backbone_html(PretrainedClassifier("torchvision/resnet50")) == ""
    assert "ImageFeaturizer" in make_pipeline(featurizer, LogisticRegression())._repr_html_()


def test_names_are_escaped_and_shared_weights_counted_once():
    stage = nn.Conv2d(3, 3, 1)
    backbone = Backbone.from_modules([("<b>one</b>", stage), ("same", stage)], name="own/<script>")
    featurizer = ImageFeaturizer(backbone).fit(X)
    html = backbone_html(featurizer)
    assert "<script>" not in html
    assert "<b>" not in html
    assert "own/<script>" not in estimator_html_repr(make_pipeline(featurizer))
    assert "0 parameters trained, 12 frozen" in html
    assert len(html) < 2000
