from __future__ import annotations

import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
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
    assert clf._repr_html_().endswith("</details>")


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
    html = backbone_html(ImageFeaturizer(backbone))
    assert "<script>" not in html
    assert "<b>" not in html
    assert "0 parameters trained, 12 frozen" in html
    assert len(html) < 2000
