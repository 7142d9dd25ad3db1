"""SelfSupervisedTuner: adaptation of a backbone to texts without labels."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.semi_supervised import SelfTrainingClassifier
from skorch.callbacks import Callback, EarlyStopping
from torch import nn

from sktransfer import (
    Denoising,
    DropoutViews,
    FineTuneClassifier,
    MaskedTokens,
    Mixup,
    NextTokens,
    SelfSupervisedTuner,
    TextFeaturizer,
    fill_mask,
    load,
    load_backbone,
    perplexity,
    save,
)
from sktransfer.exceptions import (
    FreezingWarning,
    InvalidParameterError,
    InvalidSampleError,
    NewHeadWarning,
    ShortTextWarning,
)
from sktransfer.objectives.registry import choose_objective
from sktransfer.testing.samples import make_samples
from tests.helpers import huggingface_folders as hub
from tests.helpers.small_bert import small_bert

BERT = "hf/" + small_bert()  # with dropout, without a mask token and a language-model head
TEXTS, MOODS = make_samples("text", 24)
QUICK = [text for text in hub.TEXTS if " " in text]  # six texts of several words
WITH_HEADS = {"mlm": "masked", "causal": "causal"}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Networks with a masked head, a causal one, and none."""
    made = {}
    for name, case, head in (
        ("masked", "bert", "ForMaskedLM"),
        ("causal", "gpt2", "ForCausalLM"),
        ("none", "bert", ""),
    ):
        folder = tmp_path_factory.mktemp(name)
        hub.make_folder(case, folder, head)
        hub.save_tokenizer(folder, special=name != "causal", mask=name != "causal")
        made[name] = f"hf/{folder}"
    return made


class Trained(Callback):
    """Which stages get gradients in each epoch."""

    def on_train_begin(self, net, **kwargs):
        self.trained_ = []

    def on_grad_computed(self, net, **kwargs):
        if len(self.trained_) < len(net.history):
            stages = net.module_.stages
            self.trained_.append([any(p.grad is not None for p in stage.parameters()) for stage in stages])


def tuner(backbone=BERT, objective="simcse", **params):
    params = {"max_epochs": 1, "lr": 1e-3, "batch_size": 8, "random_state": 0, **params}
    return SelfSupervisedTuner(backbone, objective=objective, **params)


def state(backbone):
    return {name: value.clone() for name, value in backbone.stages.state_dict().items()}


@pytest.mark.parametrize("layer", ["auto", 2, [1, -1]])
def test_objective_none_equals_the_frozen_featurizer(layer):
    own, frozen = tuner(objective="none", layer=layer), TextFeaturizer(BERT, layer=layer)
    assert np.array_equal(own.fit_transform(TEXTS, MOODS), frozen.fit_transform(TEXTS, MOODS))
    assert np.array_equal(own.transform(TEXTS), frozen.transform(TEXTS))
    assert own.objective_ is None
    assert own.n_iter_ == len(own.history_) == 0
    assert own.backbone_.fingerprint() == load_backbone(BERT).fingerprint()


@pytest.mark.parametrize("objective", ["mlm", "causal", "tsdae", "simcse", "contrastive_tension"])
def test_fit_lowers_the_loss_and_gives_a_backbone(objective, folders):
    source = load_backbone(folders[WITH_HEADS.get(objective, "masked")])
    before = state(source)
    own = tuner(source, objective, max_epochs=10).fit(QUICK * 4)
    losses = own.history_["train_loss"]
    assert losses.iloc[-1] < 0.9 * losses.iloc[0]
    assert np.isfinite(own.history_["valid_loss"]).all()
    assert all(torch.equal(value, before[name]) for name, value in state(source).items())
    after = state(own.backbone_)
    assert [not torch.equal(after[name], before[name]) for name in after].count(True) > 0.8 * len(after)
    assert not any(isinstance(value, np.ndarray) for value in vars(own.objective_).values())
    features = TextFeaturizer(own.backbone_).fit_transform(QUICK)
    assert np.array_equal(own.transform(QUICK), features)
    if objective in WITH_HEADS:
        assert any(p is max(own.backbone_.stages[0].parameters(), key=len) for p in own.backbone_.lm_head.parameters())


def test_backbone_goes_into_other_estimators(folders):
    own = tuner(folders["masked"], "mlm").fit(QUICK)
    assert len(fill_mask(own.backbone_, "a <mask> dog", top=2)) == 2
    causal = tuner(folders["causal"], "causal", max_epochs=5)
    assert perplexity(causal.fit(QUICK).backbone_, QUICK, per="corpus") < perplexity(
        folders["causal"], QUICK, per="corpus"
    )
    clf = FineTuneClassifier(own.backbone_, max_epochs=1, random_state=0).fit(QUICK, [0, 1] * 3)
    assert clf.backbone_.lm_head is not None


def test_auto_chooses_by_the_head(folders):
    found = {name: tuner(folder, "auto", max_epochs=0).fit(QUICK).objective_ for name, folder in folders.items()}
    assert [type(one) for one in found.values()] == [DropoutViews, NextTokens, DropoutViews]
    assert type(tuner("tiny/bert", "auto", freeze_depth=-1, max_epochs=0).fit(QUICK).objective_) is DropoutViews


def test_auto_hides_tokens_if_views_are_given_or_the_trained_stages_have_no_dropout(folders, monkeypatch):
    fitted = tuner(folders["masked"], "auto", max_epochs=0, freeze_depth=1, views=2).fit(QUICK)
    assert type(fitted.objective_) is MaskedTokens
    backbone = load_backbone(folders["masked"])
    for module in backbone.stages.modules():
        if isinstance(module, nn.Dropout):
            monkeypatch.setattr(module, "p", 0.0)
    assert type(choose_objective("auto", backbone)) is MaskedTokens


@pytest.mark.parametrize("objective", ["simcse", "contrastive_tension"])
@pytest.mark.parametrize(("unfreezing", "n_epochs"), [("gradual", 2), ("chain_thaw", 3)])
def test_unfreezing_without_a_head_begins_with_a_stage(objective, unfreezing, n_epochs, recwarn):
    parameters = {"objective": objective, "unfreezing": unfreezing, "freeze_depth": -2}
    one = tuner(**parameters, max_epochs=1, callbacks=[("trained", Trained())]).fit(QUICK)
    assert one.history_["train_loss"].notna().all()
    whole = tuner(**parameters, max_epochs=n_epochs, callbacks=[("trained", Trained())]).fit(QUICK)
    plan = {"gradual": [[False, True], [True, True]], "chain_thaw": [[True, False], [False, True], [True, True]]}
    assert dict(whole.net_.callbacks_)["trained"].trained_ == plan[unfreezing]
    assert [str(one.message) for one in recwarn if issubclass(one.category, FreezingWarning)] == [
        f"unfreezing={unfreezing!r} of 2 stages takes {n_epochs} epochs, and max_epochs=1: all stages are trained from "
        f"the start. Set max_epochs to {n_epochs} or more, or freeze_depth so that fewer stages are trained"
    ]


def test_mlm_draws_a_head_if_there_is_none(folders, tmp_path):
    with pytest.warns(NewHeadWarning, match="has no masked language-model head in its weights, so a new one is drawn"):
        own = tuner(folders["none"], MaskedTokens(0.4), max_epochs=20, lr=3e-4).fit(QUICK * 4)
    assert own.history_["train_loss"].iloc[-1] < 0.9 * own.history_["train_loss"].iloc[0]
    expected = fill_mask(own.backbone_, "a <mask> dog")
    save(own, tmp_path / "own.skt")
    loaded = load(tmp_path / "own.skt")
    pd.testing.assert_frame_equal(fill_mask(loaded.backbone_, "a <mask> dog"), expected)
    assert np.array_equal(loaded.transform(QUICK), own.transform(QUICK))
    assert repr(loaded.objective_) == "MaskedTokens(probability=0.4)"


@pytest.mark.parametrize("objective", ["simcse", "contrastive_tension", "causal"])
@pytest.mark.parametrize("freeze_depth", [1, -1])
def test_freeze_depth_keeps_frozen_stages(objective, freeze_depth, folders):
    source = load_backbone(folders[WITH_HEADS.get(objective, "none")])
    own = tuner(source, objective, freeze_depth=freeze_depth).fit(QUICK)
    n = own.freeze_depth_
    assert n == (1 if freeze_depth == 1 else len(source.stages) - 1)
    assert own.stages_["trained"].tolist() == [False] * n + [True] * (len(source.stages) - n)
    assert own.backbone_.fingerprint(n) == source.fingerprint(n)
    assert own.backbone_.fingerprint() != source.fingerprint()


@pytest.mark.parametrize("objective", ["mlm", "tsdae"])
def test_freeze_depth_is_refused_if_texts_change(objective, folders):
    with pytest.raises(InvalidParameterError, match=r"freeze_depth=2 freezes 2 of the stages.*set freeze_depth=0"):
        tuner(folders["masked"], objective, freeze_depth=2).fit(QUICK)


@pytest.mark.parametrize("objective", ["mlm", "tsdae", "simcse", "contrastive_tension"])
def test_random_state_repeats_and_cache_changes_nothing(objective, folders):
    def features(**params):
        return tuner(folders["masked"], objective, **params).fit(QUICK).transform(QUICK)

    assert np.array_equal(features(), features())
    assert np.array_equal(features(), features(cache=None))
    assert not np.array_equal(features(), features(random_state=1))
    own = tuner(folders["masked"], objective)
    assert np.array_equal(own.fit(QUICK).transform(QUICK), own.fit(QUICK).transform(QUICK))


def test_grid_search_over_objective_and_freeze_depth():
    grid = [{"selfsupervisedtuner__objective": ["none", "simcse"], "selfsupervisedtuner__freeze_depth": [1, 2]}]
    pipeline = make_pipeline(tuner(), LogisticRegression(max_iter=1000))
    search = GridSearchCV(pipeline, grid, cv=2).fit(TEXTS, MOODS)
    scores = search.cv_results_["mean_test_score"]
    assert np.isfinite(scores).all()
    assert scores[0] == scores[2]  # "none" does not depend on freeze_depth
    assert search.predict(TEXTS).tolist() != []


def test_fit_does_not_let_labels_reach_the_backbone():
    without, other = tuner().fit(TEXTS), tuner().fit(TEXTS, MOODS)
    assert without.backbone_.fingerprint() == other.backbone_.fingerprint()
    assert not hasattr(without, "layer_")
    assert other.layer_.sum() == pytest.approx(1)
    assert "layer" in other.report_
    assert other.strength_ > 0
    assert not hasattr(other, "layer_weights_")


def test_samples_without_a_label_feed_the_training():
    y = np.array([1, 0, 2] * 2 + [-1] * (len(TEXTS) - 6))
    own = tuner().fit(TEXTS, y)
    assert own.backbone_.fingerprint() == tuner().fit(TEXTS).backbone_.fingerprint()
    frozen = TextFeaturizer(own.backbone_).fit(TEXTS[:6], y[:6])
    pd.testing.assert_series_equal(own.layer_, frozen.layer_)
    of_names = tuner().fit(TEXTS, [["x", "y", "z", None][one] for one in y])
    pd.testing.assert_series_equal(own.layer_, of_names.layer_)
    assert np.array_equal(tuner().fit_transform(TEXTS, y), own.transform(TEXTS))
    pipeline = make_pipeline(tuner(), SelfTrainingClassifier(LogisticRegression(max_iter=1000), threshold=0.4))
    assert set(pipeline.fit(TEXTS, y).predict(TEXTS)) <= {0, 1, 2}


def test_two_classes_of_which_one_is_minus_one_are_both_known():
    y = np.array([-1, 1] * (len(TEXTS) // 2))
    pd.testing.assert_series_equal(
        tuner(objective="none").fit(TEXTS, y).layer_, TextFeaturizer(BERT).fit(TEXTS, y).layer_
    )


def test_get_feature_names_out_and_set_output():
    frame = tuner(layer=2).set_output(transform="pandas").fit_transform(pd.Series(TEXTS, name="text").to_frame())
    assert frame.columns[:2].tolist() == ["selfsupervisedtuner0", "selfsupervisedtuner1"]
    several = tuner(objective="none", layer=[1, 2]).fit(TEXTS)
    assert several.get_feature_names_out()[0] == "selfsupervisedtuner_layer1_0"


def test_history_has_the_loss_of_the_same_held_out_texts(folders):
    own = tuner(folders["masked"], "mlm", validation_fraction=0.5, max_epochs=3, lr=1e-12).fit(QUICK)
    assert np.ptp(own.history_["valid_loss"]) < 1e-4  # the same tokens are hidden in each epoch
    assert np.ptp(own.history_["train_loss"]) > 1e-3


def test_early_stopping_and_callbacks_see_the_held_out_loss(folders):
    own = tuner(folders["masked"], "mlm", early_stopping=True, patience=1, max_epochs=30, lr=1e-12).fit(QUICK)
    assert own.n_iter_ < 30
    stops = tuner(
        folders["masked"], "mlm", callbacks=[EarlyStopping("valid_loss", patience=1)], max_epochs=30, lr=1e-12
    )
    assert stops.fit(QUICK).n_iter_ < 30
    with pytest.raises(InvalidParameterError, match="Mixup mixes the targets"):
        tuner(callbacks=[Mixup()]).fit(TEXTS)


def test_short_texts_are_left_out_with_a_warning(folders):
    texts = pd.Series([*QUICK, "", "fox"], index=list("abcdefgh"))
    with pytest.warns(ShortTextWarning, match=r"2 of 8 texts have fewer than 2 tokens.*row 6.*'g'"):
        own = tuner(folders["masked"], "mlm").fit(texts)
    assert np.isfinite(own.transform(texts)).all()
    whole = tuner(folders["masked"], "mlm").fit(QUICK)
    assert own.backbone_.fingerprint() == whole.backbone_.fingerprint()
    with pytest.raises(ValueError, match=r"objective='mlm' needs 2 texts with 2 tokens or more.*X has n_samples=0"):
        tuner(folders["masked"], "mlm").fit(["", "fox"])


@pytest.mark.parametrize(("objective", "n"), [("simcse", 3), ("contrastive_tension", 3), ("mlm", 2)])
def test_fit_of_few_texts(objective, n, folders):
    with pytest.raises(ValueError, match=f"needs {n} texts.*n_samples={n - 1}.*objective='none'"):
        tuner(folders["masked"], objective).fit(QUICK[: n - 1])
    assert np.isfinite(tuner(folders["masked"], objective).fit(QUICK[:n]).history_).all(axis=None)


def test_collapse_warns():
    with pytest.warns(ConvergenceWarning, match="the features have collapsed"):
        tuner(objective=_Collapsing(), max_epochs=40, lr=0.01, precision="float32").fit(TEXTS)


class _Collapsing(DropoutViews):
    """All texts are drawn to one vector."""

    def loss(self, outputs, targets, features):
        n = len(features) // 2
        return ((features - 3.0) ** 2).mean(1)[:n]


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"objective": "mln"}, "objective='mln' must be one of ('auto', 'none', 'mlm'"),
        ({"objective": 3}, "objective=3 must be one of"),
        ({"backbone": "tiny/cnn"}, "is for texts, and tiny/cnn takes images"),
        ({"objective": "causal"}, "each token reads those after it as well"),
        ({"objective": "mlm"}, "names no mask token"),
        ({"objective": Denoising(2)}, "rate=2"),
        ({"backbone": "hf/" + small_bert(0.0)}, "have none; set objective='mlm'"),
        ({"freeze_depth": "all"}, "leaves nothing to train"),
        ({"freeze_depth": "auto"}, "freeze_depth='auto' keeps the initial head"),
        ({"validation_fraction": 0}, "validation_fraction=0"),
        ({"normalize": "yes"}, "normalize='yes'"),
        ({"layer": "layer9"}, "layer='layer9' is not a stage"),
    ],
)
@pytest.mark.filterwarnings("ignore::sktransfer.exceptions.NewHeadWarning")
def test_parameters_are_checked(params, message):
    with pytest.raises(InvalidParameterError, match=re.escape(message)):
        tuner(**params).fit(TEXTS)


def test_missing_text_is_named():
    with pytest.raises(InvalidSampleError, match="row 1"):
        tuner().fit([TEXTS[0], None, *TEXTS])


def test_clone_keeps_the_objective():
    own = clone(tuner(objective=Denoising(0.4)))
    assert repr(own.objective) == "Denoising(rate=0.4)"
    assert not hasattr(own, "backbone_")
