"""Going on from an earlier fit: what must not have changed in between."""

from __future__ import annotations

import pytest
from peft import LoraConfig

from sktransfer import FineTuneClassifier, load_backbone
from sktransfer.exceptions import InvalidParameterError
from sktransfer.testing.samples import make_samples
from tests.helpers.small_bert import small_bert

TEXTS, LABELS = make_samples("text", 12)
BERT = "hf/" + small_bert()


def fitted(**options):
    options = {"max_epochs": 1, "random_state": 0, **options}
    return FineTuneClassifier(BERT, **options).fit(TEXTS, LABELS)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"max_length": 20}, "max_length=20 ask for now; restore them, or set warm_start=False"),
        ({"weights": "random"}, "other weights .*weights='random'"),
        ({"layer": 1}, r"has stages \(.*\), and backbone and layer now ask for \('embeddings', "),
    ],
)
def test_warm_start_and_partial_fit_reject_changed_parameters(change, match):
    clf = fitted(warm_start=True)
    before = clf.predict_proba(TEXTS)
    with pytest.raises(InvalidParameterError, match=match):
        clf.set_params(**change).fit(TEXTS, LABELS)
    assert (clf.predict_proba(TEXTS) == before).all()
    clf.set_params(warm_start=False).fit(TEXTS, LABELS)
    with pytest.raises(InvalidParameterError, match=match):
        fitted().set_params(**change).partial_fit(TEXTS, LABELS)


def test_warm_start_takes_an_equal_backbone_under_another_name():
    clf = fitted(warm_start=True)
    clf.set_params(backbone=load_backbone(BERT), freeze_depth=0).fit(TEXTS, LABELS)
    assert clf.freeze_depth_ == 0


def test_warm_start_with_other_classes_suggests_a_new_head():
    with pytest.raises(InvalidParameterError, match="omit head and warm_start to make a new one"):
        fitted(warm_start=True).fit(TEXTS, ["up", "down"] * 6)


def test_partial_fit_draws_new_adapters_without_optimizer_state():
    steps = []
    clf = FineTuneClassifier(BERT, adapter=LoraConfig(r=2, target_modules="all-linear"), random_state=0)
    for _ in range(2):
        clf.partial_fit(TEXTS, LABELS, classes=["bad", "good"])
        steps.append({float(state["step"]) for state in clf.net_.optimizer_.state.values()})
    assert steps == [{1.0}, {1.0}]
