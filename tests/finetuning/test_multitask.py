"""Several tasks on one trunk: predictions, scores, tasks as estimators, and parameters by task."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pandas as pd
import polars as pl
import pytest
import sklearn
import torch
from sklearn.base import clone, is_classifier, is_regressor
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import accuracy_score, r2_score
from sklearn.model_selection import GridSearchCV, KFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from skorch.callbacks import EpochScoring

from sktransfer import (
    EMA,
    Checkpoint,
    FineTuneClassifier,
    FineTuneRegressor,
    ImageFeaturizer,
    Mixup,
    MultiTaskFineTuner,
    clear_cache,
    find_lr,
    load,
    load_backbone,
    save,
)
from sktransfer.exceptions import InvalidParameterError, LoadError
from sktransfer.testing.samples import make_samples
from tests.helpers.forged_files import forge, json_node, node_data
from tests.helpers.small_bert import small_bert

BERT = "hf/" + small_bert()
N = 24
IMAGES, MOODS = make_samples("image", N)
TEXTS, _ = make_samples("text", N)
RNG = np.random.default_rng(0)
KNOWN = np.arange(N) % 3 > 0
STARS = RNG.normal(5, 3, N)
Y = pd.DataFrame(
    {
        "mood": MOODS,
        "type": pd.Series(np.arange(N) // 8).astype("Int64").where(KNOWN),
        "stars": pd.Series(STARS).where(np.arange(N) % 4 > 0),
        "tags": [["old"], ["old", "new"], None] * 8,
    }
).set_index(pd.RangeIndex(100, 100 + N))
NAMES = ["mood", "type", "stars", "tags"]


def tuner(backbone="tiny/cnn", **parameters):
    options = {"max_epochs": 2, "batch_size": 8, "layer": -1, "random_state": 0, **parameters}
    return MultiTaskFineTuner(backbone, **options)


@pytest.fixture(scope="module")
def fitted():
    return tuner(freeze_depth=-1).fit(IMAGES, Y)


def test_fitted_attributes(fitted):
    assert fitted.tasks_ == list(fitted.heads_) == list(fitted.task_weights_) == NAMES
    assert [None if one is None else one.tolist() for one in fitted.classes_] == [
        ["bad", "good"],
        [0, 1, 2],
        None,
        ["new", "old"],
    ]
    assert [head.task for head in fitted.heads_.values()] == [
        "multiclass",
        "multiclass",
        "continuous",
        "multilabel-indicator",
    ]
    assert fitted.n_iter_ == len(fitted.history_) == 2
    assert {f"train_loss_{name}" for name in NAMES} <= set(fitted.history_)
    assert not is_classifier(fitted)
    assert not is_regressor(fitted)


def test_predict_is_in_the_container_and_the_types_of_y(fitted):
    X = pd.Series(list(IMAGES), index=pd.Index(range(7, 7 + N)))
    predicted = fitted.predict(X)
    assert list(predicted) == NAMES
    assert predicted.index.equals(X.index)
    assert str(predicted["type"].dtype) == "Int64"
    assert predicted["stars"].dtype == np.float64
    assert set(map(tuple, predicted["tags"])) <= {(), ("new",), ("old",), ("new", "old")}
    assert predicted["mood"].isin(MOODS).all()


@pytest.mark.parametrize("make", [pl.DataFrame, dict, lambda frame: frame.to_numpy()])
def test_predict_returns_other_containers(make):
    given = make({"mood": MOODS, "stars": STARS.tolist()} if make is pl.DataFrame else Y[["mood", "stars"]])
    predicted = tuner(max_epochs=0, freeze_depth="all", tasks={} if make is not pl.DataFrame else "auto")
    if isinstance(given, np.ndarray):
        predicted = predicted.set_params(tasks={"y1": "continuous"})
    predicted = predicted.fit(IMAGES, given).predict(IMAGES)
    assert type(predicted) is type(given)
    if isinstance(given, np.ndarray):
        assert predicted.shape == (N, 2)
        assert accuracy_score(MOODS, predicted[:, 0].astype(str)) > 0.8
    else:
        assert list(predicted if isinstance(given, dict) else predicted.columns) == ["mood", "stars"]


def test_predict_proba_and_decision_function_are_lists_in_the_order_of_tasks(fitted):
    probabilities, logits = fitted.predict_proba(IMAGES), fitted.decision_function(IMAGES)
    assert [None if one is None else one.shape for one in probabilities] == [(N, 2), (N, 3), None, (N, 2)]
    assert [None if one is None else one.shape for one in logits] == [(N,), (N, 3), None, (N, 2)]
    np.testing.assert_allclose(probabilities[1].sum(1), 1, atol=1e-6)
    np.testing.assert_array_equal(fitted.classes_[1][probabilities[1].argmax(1)], fitted.predict(IMAGES)["type"])


def test_predict_proba_needs_a_task_with_classes():
    assert hasattr(tuner(), "predict_proba")
    numbers = tuner(max_epochs=0, freeze_depth="all").fit(IMAGES, {"stars": STARS})
    assert not hasattr(numbers, "predict_proba")
    assert not hasattr(numbers, "decision_function")


def test_predict_runs_the_network_once_for_all_tasks():
    backbone = load_backbone("tiny/cnn", weights="random", seed=7)
    seen = []
    hook = backbone.stages[-1].register_forward_hook(lambda module, args, out: seen.append(len(out)))
    fits = tuner(backbone, freeze_depth="all", max_epochs=3).fit(IMAGES, Y)
    assert sum(seen) == N
    fits.predict(IMAGES)
    assert sum(seen) == N  # from the cache
    clear_cache()
    fits.predict(IMAGES)
    hook.remove()
    assert sum(seen) == 2 * N


def test_scores_are_of_the_rows_whose_target_is_known(fitted):
    scores, predicted = fitted.scores(IMAGES, Y), fitted.predict(IMAGES)
    known = {name: Y[name].notna().to_numpy() for name in NAMES}
    assert scores["mood"] == accuracy_score(Y["mood"], predicted["mood"])
    assert scores["type"] == (Y["type"][known["type"]].to_numpy() == predicted["type"][known["type"]].to_numpy()).mean()
    assert scores["stars"] == r2_score(Y["stars"][known["stars"]], predicted["stars"][known["stars"]])
    same = [sorted(a) == sorted(b) for a, b, is_known in zip(Y["tags"], predicted["tags"], known["tags"]) if is_known]
    assert scores["tags"] == np.mean(same)
    assert fitted.score(IMAGES, Y) == scores.mean()


def test_scores_take_weights_per_row_and_per_task(fitted):
    weight = RNG.uniform(size=N)
    weighted = fitted.scores(IMAGES, Y, sample_weight={"mood": weight})
    expected = accuracy_score(MOODS, fitted.predict(IMAGES)["mood"], sample_weight=weight)
    assert weighted["mood"] == pytest.approx(expected)
    pair = np.isin(np.arange(N), [1, 2]) * 1.0
    assert fitted.scores(IMAGES, Y, sample_weight=pair)["mood"] in (0.0, 0.5, 1.0)


def test_score_leaves_out_tasks_without_a_known_target(fitted):
    partly = Y.assign(type=pd.NA, tags=None)
    assert fitted.scores(IMAGES, partly).isna().tolist() == [False, True, False, True]
    assert fitted.score(IMAGES, partly) == fitted.scores(IMAGES, Y)[["mood", "stars"]].mean()
    with pytest.raises(ValueError, match="no known target of positive weight"):
        fitted.score(IMAGES, Y.assign(**dict.fromkeys(NAMES)))


def test_scores_of_some_tasks(fitted):
    some, whole = fitted.scores(IMAGES, {"stars": STARS}), fitted.scores(IMAGES, Y.assign(stars=STARS))
    assert some.isna().tolist() == [True, True, False, True]
    assert some["stars"] == fitted.score(IMAGES, {"stars": STARS}) == whole["stars"]


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda frame: frame[["mood"]].assign(more=1), r"lacks .* has \['more'\] more"),
        (lambda frame: frame.assign(more=1), r"has \['more'\] more.*; drop the column \['more'\]$"),
        (lambda frame: frame[:5], "X has 24 samples, and y has 5 rows"),
    ],
)
def test_scores_refuse_another_y(fitted, change, match):
    with pytest.raises(ValueError, match=match):
        fitted.scores(IMAGES, change(Y))


@pytest.mark.parametrize("name", NAMES)
def test_task_shares_the_network_and_predicts_as_the_tuner(fitted, name):
    part = fitted.task(name)
    assert type(part) is (FineTuneRegressor if name == "stars" else FineTuneClassifier)
    assert part.backbone_ is fitted.backbone_
    own = part.net_.module_.state_dict()
    theirs = fitted.net_.module_.state_dict()
    assert all(
        value.data_ptr() == theirs[key.replace("heads.y.", f"heads.{name}.")].data_ptr() for key, value in own.items()
    )
    if name == "tags":
        assert part.label_names_.tolist() == ["new", "old"]
        expected = np.array([["new" in one, "old" in one] for one in fitted.predict(IMAGES)["tags"]])
    else:
        expected = fitted.predict(IMAGES)[name].to_numpy()
    np.testing.assert_array_equal(part.predict(IMAGES), expected)
    restored = pickle.loads(pickle.dumps(part))
    np.testing.assert_array_equal(restored.predict(IMAGES), part.predict(IMAGES))
    assert "FineTune" in part._repr_html_()


def test_task_refuses_other_names(fitted):
    with pytest.raises(InvalidParameterError, match=r"no task of this estimator.*Did you mean 'mood'"):
        fitted.task("moods")


def test_task_works_with_scikit_learn(fitted, tmp_path):
    part = fitted.task("mood")
    calibrated = CalibratedClassifierCV(FrozenEstimator(part)).fit(IMAGES, MOODS)
    assert calibrated.predict_proba(IMAGES).shape == (N, 2)
    save(part, tmp_path / "part.skt")
    np.testing.assert_array_equal(load(tmp_path / "part.skt").predict_proba(IMAGES), part.predict_proba(IMAGES))
    new = FineTuneClassifier("tiny/cnn", max_epochs=2, batch_size=8, layer=-1, freeze_depth=-1, random_state=0)
    again = clone(part).fit(IMAGES, MOODS)
    assert part.get_params() == new.get_params()
    np.testing.assert_array_equal(again.predict_proba(IMAGES), new.fit(IMAGES, MOODS).predict_proba(IMAGES))
    head = FineTuneClassifier(part.backbone_, head=part.head_, layer=-1, max_epochs=0, freeze_depth="all")
    np.testing.assert_allclose(head.fit(IMAGES, MOODS).predict_proba(IMAGES), part.predict_proba(IMAGES), atol=1e-5)


def test_task_can_be_trained_further_without_changing_the_tuner(fitted):
    before = fitted.predict_proba(IMAGES)[0]
    part = fitted.task("mood").partial_fit(IMAGES, MOODS)
    assert len(part.history_) == 3
    assert np.abs(part.predict_proba(IMAGES) - before).max() > 0
    np.testing.assert_array_equal(fitted.predict_proba(IMAGES)[0], before)


def test_backbone_serves_featurizers_and_the_next_estimator(fitted):
    assert ImageFeaturizer(fitted.backbone_, layer=-1).fit_transform(IMAGES).shape == (N, 512)
    init = FineTuneClassifier(fitted.backbone_, max_epochs=1, layer=-1, random_state=0).fit(IMAGES, MOODS)
    joint = tuner(fitted.backbone_, max_epochs=1).fit(IMAGES, Y)
    assert init.score(IMAGES, MOODS) > 0.9
    assert joint.tasks_ == NAMES


def test_warm_start_continues_heads_and_makes_new_ones():
    warm = tuner(warm_start=True, lr=1e-3).fit(IMAGES, Y[["mood", "stars"]])
    before = warm.predict_proba(IMAGES)[0]
    warm.set_params(max_epochs=0).fit(IMAGES, Y[["mood", "type"]])
    assert warm.tasks_ == ["mood", "type"]
    np.testing.assert_allclose(warm.predict_proba(IMAGES)[0], before, atol=1e-5)


@pytest.mark.parametrize("layer", [-1, "auto"])
def test_head_continues_some_tasks(layer):
    source = tuner(layer=layer, lr=1e-3).fit(IMAGES, Y[["mood", "stars"]])
    options = {"layer": layer, "max_epochs": 0}
    target = tuner(source.backbone_, head={"stars": source.heads_["stars"]}, **options).fit(
        IMAGES, Y[["mood", "type", "stars"]]
    )
    np.testing.assert_allclose(target.predict(IMAGES)["stars"], source.predict(IMAGES)["stars"], rtol=1e-3, atol=1e-2)


def test_partial_fit_takes_calls_that_lack_classes_and_targets():
    classes = {"mood": ["bad", "good"], "type": [0, 1, 2]}
    options = {"lr": 1e-3, "freeze_depth": -1}
    first = tuner(**options).partial_fit(IMAGES[:12], Y[:12], classes=classes)
    assert [None if one is None else len(one) for one in first.classes_] == [2, 3, None, 2]
    first.partial_fit(IMAGES[12:], Y[12:].assign(type=pd.NA, stars=np.nan), classes=classes)
    assert first.n_iter_ == len(first.history_) == 2
    with pytest.raises(ValueError, match="not those of the first call"):
        first.partial_fit(IMAGES, Y, classes={"mood": ["bad"]})
    with pytest.raises(ValueError, match="needs classes"):
        tuner().partial_fit(IMAGES, Y)
    with pytest.raises(ValueError, match="and not 'type'"):
        tuner().partial_fit(IMAGES, Y, classes={"mood": ["bad", "good"]})


def test_partial_fit_of_one_task_equals_the_classifier():
    joint, single = tuner(lr=1e-3), FineTuneClassifier("tiny/cnn", layer=-1, batch_size=8, random_state=0, lr=1e-3)
    for rows in (slice(12), slice(12, N)):
        joint.partial_fit(IMAGES[rows], Y[["mood"]][rows], classes={"mood": ["bad", "good"]})
        single.partial_fit(IMAGES[rows], MOODS[rows], classes=["bad", "good"])
    np.testing.assert_array_equal(joint.predict_proba(IMAGES)[0], single.predict_proba(IMAGES))


def test_early_stopping_uses_the_loss_of_all_tasks():
    stopped = tuner(early_stopping=True, validation_fraction=0.25, max_epochs=3).fit(IMAGES, Y)
    row = stopped.history_.iloc[0]
    assert {"valid_loss_mood", "valid_loss_stars", "valid_acc_mood", "valid_r2_stars"} <= set(stopped.history_)
    assert row["valid_loss"] > max(row[f"valid_loss_{name}"] for name in NAMES)


def test_validation_data_are_of_the_same_columns():
    options = {"X_val": IMAGES[:8], "y_val": Y[:8][NAMES[::-1]]}
    history = tuner().fit(IMAGES, Y, **options, sample_weight_val={"mood": np.ones(8)}).history_
    assert history["valid_loss"].notna().all()
    with pytest.raises(ValueError, match=r"validation data \(X_val, y_val, .*lacks \['tags'\]"):
        tuner().fit(IMAGES, Y, X_val=IMAGES[:8], y_val=Y[:8].drop(columns="tags"))
    with pytest.raises(ValueError, match="y_val is not: pass the targets of X_val"):
        tuner().fit(IMAGES, Y, X_val=IMAGES)


@pytest.mark.parametrize("form", ["rows", "matrix", "frame", "dict"])
def test_sample_weight_per_row_or_per_row_and_task(form):
    weight = RNG.uniform(0.5, 2, N)
    both = np.stack([weight, np.ones(N)], 1)
    given = {
        "rows": weight,
        "matrix": both,
        "frame": pd.DataFrame(both, columns=["mood", "stars"]),
        "dict": {"mood": weight},
    }[form]
    options = {"freeze_depth": "all", "max_epochs": 0}
    found = tuner(**options).fit(IMAGES, {"mood": MOODS, "stars": STARS}, sample_weight=given)
    alone = FineTuneClassifier("tiny/cnn", layer=-1, **options).fit(IMAGES, MOODS, sample_weight=weight)
    np.testing.assert_allclose(found.predict_proba(IMAGES)[0], alone.predict_proba(IMAGES), atol=1e-6)
    of_stars = weight if form == "rows" else None
    numbers = FineTuneRegressor("tiny/cnn", layer=-1, **options).fit(IMAGES, STARS, sample_weight=of_stars)
    np.testing.assert_allclose(found.predict(IMAGES)["stars"], numbers.predict(IMAGES), rtol=1e-5)


def test_sample_weight_of_zero_in_all_known_rows_names_the_task():
    with pytest.raises(ValueError, match=r"y\['type'\]: no target has a weight.*; leave the column out"):
        tuner().fit(IMAGES, Y, sample_weight={"type": ~KNOWN * 1.0})
    with pytest.raises(ValueError, match=r"y\['stars'\]: no target has a weight"):
        tuner().fit(IMAGES, Y, sample_weight={"stars": np.zeros(N)})
    with pytest.raises(ValueError, match="all weights are zero"):
        tuner().fit(IMAGES, Y, sample_weight=np.zeros(N))


def test_sample_weight_is_missing_where_the_target_is(fitted):
    weight = RNG.uniform(0.5, 2, N)
    gaps = {"type": np.where(KNOWN, weight, np.nan)}
    zeros = {"type": np.where(KNOWN, weight, 0)}
    options = {"freeze_depth": "all", "max_epochs": 0}
    some, other = (tuner(**options).fit(IMAGES, Y, sample_weight=one) for one in (gaps, zeros))
    np.testing.assert_array_equal(some.predict_proba(IMAGES)[1], other.predict_proba(IMAGES)[1])
    pd.testing.assert_series_equal(fitted.scores(IMAGES, Y, gaps), fitted.scores(IMAGES, Y, zeros))
    with pytest.raises(ValueError, match=r"the task 'type': sample_weight\[1\] is nan, and the target of this row is"):
        tuner().fit(IMAGES, Y, sample_weight={"type": np.where(KNOWN, np.nan, 1)})


def test_class_weight_and_criterion_are_by_task():
    options = {"freeze_depth": "all", "max_epochs": 0}
    weighted = tuner(class_weight={"mood": {"good": 5.0}}, **options).fit(IMAGES, Y)
    alone = FineTuneClassifier("tiny/cnn", layer=-1, class_weight={"good": 5.0}, **options).fit(IMAGES, MOODS)
    np.testing.assert_allclose(weighted.predict_proba(IMAGES)[0], alone.predict_proba(IMAGES), atol=1e-6)
    assert weighted.task("mood").class_weight == {"good": 5.0}
    assert weighted.task("type").class_weight is None
    huber = tuner(criterion={"stars": torch.nn.HuberLoss}).fit(IMAGES, Y)
    assert huber.task("stars").criterion is torch.nn.HuberLoss
    losses = [one.history_["train_loss_stars"].iloc[0] for one in (huber, tuner().fit(IMAGES, Y))]
    assert losses[0] != losses[1]


@pytest.mark.parametrize(
    ("parameters", "match"),
    [
        ({"class_weight": {"moods": "balanced"}}, "class_weight has the key 'moods'.*Did you mean 'mood'"),
        ({"class_weight": {0: 1.0, 1: 2.0}}, "its keys are names of tasks"),
        ({"criterion": torch.nn.HuberLoss}, "must be None, or a dict of losses by task"),
        ({"criterion": {"stars": 5}}, r"criterion\['stars'\]=5 must be None, a function"),
        ({"head": 5}, "head=5 must be 'linear', or a dict of heads by task"),
        ({"head_init": "class_means"}, r"needs classes, and y\['stars'\] holds numbers"),
        ({"class_weight": {"stars": "balanced"}}, r"class_weight\['stars'\]='balanced' weighs classes, and the task"),
        ({"callbacks": [EpochScoring("accuracy", on_train=True)]}, r"4 tasks, .*'valid_acc_mood'"),
        ({"tasks": {"stars": "ordinal"}}, "ordinal"),
        ({"tasks": {"star": "continuous"}}, "star"),
        ({"task_weights": {"star": 1.0}}, "names the task 'star', which is not there"),
        ({"task_weights": dict.fromkeys(NAMES, 0.0)}, "gives all tasks weight 0"),
        ({"task_sampling": "random"}, "task_sampling='random'"),
    ],
)
def test_parameters_refuse_other_values(parameters, match):
    with pytest.raises(InvalidParameterError, match=match):
        tuner(**parameters).fit(IMAGES, Y)


@pytest.mark.parametrize("parameter", ["class_weight", "label_smoothing"])
def test_parameters_of_classes_need_classes(parameter):
    value = {"class_weight": "balanced", "label_smoothing": 0.1}[parameter]
    with pytest.raises(InvalidParameterError, match=rf"{parameter}=.* is for tasks with classes.*\['stars'\]"):
        tuner(**{parameter: value}).fit(IMAGES, {"stars": STARS})


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda frame: frame.assign(mood=None), r"y\['mood'\] has no known target"),
        (lambda frame: frame.assign(mood="good"), r"y\['mood'\] holds one class only"),
        (lambda frame: None, "requires y to be passed"),
        (lambda frame: frame[:20], "inconsistent numbers of samples"),
    ],
)
def test_fit_refuses_y_that_cannot_be_learned(change, match):
    with pytest.raises(ValueError, match=match):
        tuner().fit(IMAGES, change(Y))


def test_layer_auto_averages_the_layers_of_tasks():
    options = {"layer": "auto", "freeze_depth": "all", "max_epochs": 0}
    joint = tuner(**options).fit(IMAGES, {"mood": MOODS, "stars": STARS})
    single = FineTuneClassifier("tiny/cnn", **options).fit(IMAGES, MOODS)
    numbers = FineTuneRegressor("tiny/cnn", **options).fit(IMAGES, STARS)
    mean = pd.concat([single.layer_, numbers.layer_], axis=1).fillna(0).mean(axis=1)
    kept = mean[mean >= 0.01]
    pd.testing.assert_series_equal(
        joint.layer_.sort_index(), (kept / kept.sum()).sort_index().rename("weight"), check_index_type=False
    )
    assert joint.strength_ == {name: joint.task(name).strength_ for name in ("mood", "stars")}
    lines = joint.report_.splitlines()
    assert [line.partition(":")[0] for line in lines] == ["layers", "mood", "stars"]
    assert "alpha" in lines[2]
    assert joint.task("stars").report_.startswith(lines[0])
    assert not hasattr(tuner(max_epochs=0).fit(IMAGES, Y), "layer_")


def test_layer_mix_has_weights_per_task():
    mixed = tuner(BERT, layer="mix").fit(TEXTS, Y)
    assert mixed.layer_weights_.shape == (4, 4)
    np.testing.assert_allclose(mixed.layer_weights_.sum(), 1, rtol=1e-5)
    assert not hasattr(tuner(max_epochs=0).fit(IMAGES, Y), "layer_weights_")


def test_lr_find_and_find_lr():
    found = tuner(lr="find", max_epochs=1).fit(IMAGES, Y)
    assert 1e-7 < found.lr_ < 1
    assert list(found.lr_curve_) == ["lr", "loss", "change", "smoothed"]
    assert find_lr(tuner(), IMAGES, Y, n_steps=5).lr > 0


@pytest.mark.parametrize("callbacks", [[EMA(0.5)], [Mixup(0.2)]])
def test_callbacks_take_several_tasks(callbacks):
    assert np.isfinite(tuner(callbacks=callbacks).fit(IMAGES, Y).history_["train_loss"]).all()


def test_checkpoint_resumes_a_joint_training(tmp_path):
    class Interrupt(Checkpoint):
        def write(self, net):
            super().write(net)
            raise KeyboardInterrupt

    options = {"lr": 1e-3, "max_epochs": 2, "random_state": None}
    with pytest.raises(KeyboardInterrupt):
        tuner(callbacks=[Interrupt(tmp_path)], **options).fit(IMAGES, Y)
    seed = int(next(tmp_path.glob("*.seed")).read_text())
    resumed = tuner(callbacks=[Checkpoint(tmp_path)], **options).fit(IMAGES, Y)
    assert not list(tmp_path.iterdir())
    assert resumed._seed == seed
    assert len(resumed.history_) == 2


@pytest.mark.parametrize(("name", "value"), [("tasks_", '["mood"]'), ("heads_", "null"), ("_schema", "5")])
def test_load_refuses_parts_that_do_not_fit_the_tasks(fitted, tmp_path, name, value):
    save(fitted, tmp_path / "one")

    def change(schema):
        node_data(schema, "MultiTaskFineTuner")[0]["attributes"]["content"][name] = json_node(json.loads(value))

    forge(tmp_path / "one", schema=change)
    with pytest.raises(LoadError, match=name if value != '["mood"]' else "its tasks are"):
        load(tmp_path / "one")


def test_grid_search_over_task_weights_in_a_pipeline():
    grid = {"multitaskfinetuner__task_weights": ["equal", {"stars": 0.1}], "multitaskfinetuner__freeze_depth": ["all"]}
    pipeline = make_pipeline(FunctionTransformer(), tuner(max_epochs=1))
    search = GridSearchCV(pipeline, grid, cv=KFold(2, shuffle=True, random_state=0), error_score="raise")
    assert np.isfinite(search.fit(np.stack(IMAGES), Y).cv_results_["mean_test_score"]).all()
    assert search.predict(np.stack(IMAGES)).columns.tolist() == NAMES
    scores = cross_val_score(
        tuner(max_epochs=0, freeze_depth="all"), np.stack(IMAGES), Y[["mood", "type"]].to_numpy(), cv=2
    )
    assert scores.shape == (2,)


def test_metadata_routing_passes_weights_per_row_and_task():
    columns, options = ["mood", "stars"], {"max_epochs": 0, "freeze_depth": "all"}
    weight = np.stack([RNG.uniform(0.5, 2, N), np.ones(N)], 1)
    folds = KFold(2)
    with sklearn.config_context(enable_metadata_routing=True):
        routed = tuner(**options).set_fit_request(sample_weight=True).set_score_request(sample_weight=False)
        scores = cross_val_score(
            routed, np.stack(IMAGES), Y[columns].fillna(0), cv=folds, params={"sample_weight": weight}
        )
    expected = []
    for train, test in folds.split(IMAGES):
        given = [np.stack(IMAGES)[train], Y[columns].fillna(0).iloc[train]]
        fit = tuner(**options).fit(*given, sample_weight=weight[train])
        expected.append(fit.score(np.stack(IMAGES)[test], Y[columns].fillna(0).iloc[test]))
    np.testing.assert_allclose(scores, expected)
