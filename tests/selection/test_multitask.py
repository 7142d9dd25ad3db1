"""Folds and scorers of several tasks."""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn import config_context
from sklearn.base import clone
from sklearn.exceptions import UnsetMetadataPassedError
from sklearn.metrics import f1_score, make_scorer, r2_score
from sklearn.model_selection import GridSearchCV, check_cv, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from sktransfer import FineTuneClassifier, MultiTaskFineTuner, MultiTaskKFold, merge_tasks, task_scorer
from sktransfer.exceptions import InvalidParameterError, ValidationWarning
from sktransfer.testing.samples import make_samples

RNG = np.random.RandomState(0)
N = 60
Y = pd.DataFrame(
    {
        "topic": RNG.choice(["a", "b", "c"], N, p=[0.6, 0.3, 0.1]),
        "tone": np.where(RNG.uniform(size=N) < 0.4, RNG.choice(["up", "down"], N), None),
        "stars": np.where(RNG.uniform(size=N) < 0.5, RNG.normal(size=N), np.nan),
        "tags": [["x"] if row % 4 else None for row in range(N)],
    }
)
Y["tags"] = [tags if tags is None or row % 3 else ["x", "y"] for row, tags in enumerate(Y.tags)]


@pytest.mark.parametrize("shuffle", [True, False])
def test_multi_task_k_fold_keeps_each_task_and_class_in_each_fold(shuffle):
    splitter = MultiTaskKFold(5, shuffle=shuffle, random_state=0 if shuffle else None)
    tests = []
    for train, test in splitter.split(np.zeros(N), Y):
        assert sorted([*train, *test]) == list(range(N))
        tests += test.tolist()
        part = Y.iloc[test]
        assert set(part.topic) == {"a", "b", "c"}
        assert set(part.tone.dropna()) == {"up", "down"}
        assert part.stars.notna().sum() >= 3
        assert {tag for tags in part.tags.dropna() for tag in tags} == {"x", "y"}
    assert sorted(tests) == list(range(N))


@pytest.mark.parametrize(
    "form",
    [
        lambda: pl.from_pandas(Y[["topic", "tone", "stars"]]),
        lambda: {name: Y[name] for name in Y},
        lambda: Y[["topic", "tone"]].to_numpy(),
        lambda: Y.set_index(pd.MultiIndex.from_product([["p", "q"], range(N // 2)], names=["merged_source", "row"])),
        lambda: Y.topic,
    ],
    ids=["polars", "dict", "array", "merged", "series"],
)
def test_multi_task_k_fold_takes_the_forms_of_y(form):
    folds = list(MultiTaskKFold(3, random_state=0).split(None, form()))
    assert sorted(row for _, test in folds for row in test.tolist()) == list(range(N))
    assert all(19 <= len(test) <= 21 for _, test in folds)


def test_multi_task_k_fold_stratifies_numbers():
    stars = pd.DataFrame({"stars": np.sort(np.random.RandomState(0).normal(size=100))})
    for _, test in MultiTaskKFold(5, random_state=0).split(None, stars):
        assert np.histogram(test, [0, 20, 40, 60, 80, 100])[0].tolist() == [4] * 5


def test_multi_task_k_fold_keeps_the_classes_of_each_source():
    index = pd.MultiIndex.from_product([["p", "q"], range(20)], names=["merged_source", "row"])
    kind = pd.DataFrame({"kind": ["a", "b"] * 10 + ["b"] * 15 + ["c"] * 5}, index)
    for _, test in MultiTaskKFold(5, random_state=0).split(None, kind):
        pairs = {(source, label) for (source, _), label in kind.iloc[test].kind.items()}
        assert pairs == {("p", "a"), ("p", "b"), ("q", "b"), ("q", "c")}


def test_multi_task_k_fold_groups():
    groups = np.arange(N) // 3
    for train, test in MultiTaskKFold(4, random_state=0).split(None, Y, groups):
        assert not set(groups[train]) & set(groups[test])


def test_multi_task_k_fold_random_state():
    def tests(**options):
        return [test.tolist() for _, test in MultiTaskKFold(5, **options).split(None, Y)]

    assert tests(random_state=0) == tests(random_state=0) != tests(random_state=1)
    assert tests(shuffle=False) == tests(shuffle=False)


def test_multi_task_k_fold_tasks_gives_kinds():
    prices = pd.DataFrame({"price": np.arange(100)})
    with pytest.warns(ValidationWarning, match="100 whole numbers"):
        list(MultiTaskKFold().split(None, prices))
    folds = list(MultiTaskKFold(tasks={"price": "continuous"}, random_state=0).split(None, prices))
    assert [len(test) for _, test in folds] == [20] * 5


def test_multi_task_k_fold_is_a_splitter_of_scikit_learn():
    splitter = MultiTaskKFold(3, random_state=0)
    assert splitter.get_n_splits() == 3
    assert check_cv(splitter) is splitter
    assert repr(splitter) == "MultiTaskKFold(n_splits=3, random_state=0, shuffle=True, tasks='auto')"
    assert splitter.get_metadata_routing().split.requests == {"groups": True}
    assert clone(splitter, safe=False).n_splits == 3


def test_multi_task_k_fold_warns_of_a_rare_task():
    rare = Y.assign(rare=["r"] + ["s"] * 2 + [None] * (N - 3))
    with pytest.warns(ValidationWarning, match="the task 'rare' cannot be in each of 5 folds: 3 rows know 'rare'"):
        list(MultiTaskKFold(5, random_state=0).split(None, rare))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_splits": 1}, "n_splits=1 must be an int of at least 2"),
        ({"shuffle": 1}, "shuffle=1"),
        ({"shuffle": False, "random_state": 0}, "random_state=0 has no effect with shuffle=False"),
    ],
)
def test_multi_task_k_fold_parameters(options, message):
    with pytest.raises(InvalidParameterError, match=message):
        MultiTaskKFold(**options)


def test_multi_task_k_fold_errors():
    with pytest.raises(ValueError, match="n_splits=5 is greater than the number of samples, 2"):
        list(MultiTaskKFold().split(None, {"a": [1, 2]}))
    with pytest.raises(ValueError, match="n_splits=5 is greater than the number of groups, 2"):
        list(MultiTaskKFold().split(None, Y, np.arange(N) % 2))
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        list(MultiTaskKFold().split(np.zeros(3), Y))
    with pytest.raises(ValueError, match="y is None"):
        list(MultiTaskKFold().split(np.zeros(3)))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [((3,), "task=3 must be the name"), (("a", 3), "scoring=3 must be"), (("a", "f1macro"), "scoring='f1macro': ")],
)
def test_task_scorer_parameters(arguments, message):
    with pytest.raises(InvalidParameterError, match=message):
        task_scorer(*arguments)


X, _ = make_samples("image", N)


@pytest.fixture(scope="module")
def tuner():
    return MultiTaskFineTuner("tiny/cnn", freeze_depth="all", max_epochs=1, random_state=0).fit(X, Y)


def rows_of(name):
    return np.flatnonzero(Y[name].notna())


@pytest.mark.parametrize("weighted", [False, True])
def test_task_scorer_scores_the_known_rows(tuner, weighted):
    weight = np.random.RandomState(1).uniform(size=N) if weighted else None
    predicted = tuner.predict(X)
    for name, scorer, metric in (
        ("tone", task_scorer("tone", "f1_macro"), lambda *args, **kw: f1_score(*args, average="macro", **kw)),
        ("stars", task_scorer("stars", make_scorer(r2_score)), r2_score),
    ):
        rows = rows_of(name)
        options = {} if weight is None else {"sample_weight": weight[rows]}
        expected = metric(Y[name].iloc[rows], predicted[name].iloc[rows], **options)
        assert scorer(tuner, X, Y, sample_weight=weight) == pytest.approx(expected)
    for name, score in tuner.scores(X, Y, weight).items():
        assert task_scorer(name)(tuner, X, Y, sample_weight=weight) == pytest.approx(score)


def test_task_scorer_takes_probabilities_and_collections(tuner):
    assert 0 <= task_scorer("tone", "roc_auc")(tuner, X, Y) <= 1
    assert task_scorer("tone", "neg_log_loss")(tuner, X, Y) < 0
    assert task_scorer("tags", "f1_micro")(tuner, X, Y) > 0


def test_task_scorer_weights_per_task(tuner):
    weight = np.random.RandomState(1).uniform(size=N)
    scorer = task_scorer("tone", "accuracy")
    assert scorer(tuner, X, Y, {"tone": weight}) == scorer(tuner, X, Y, weight)
    assert scorer(tuner, X, Y, {"topic": weight}) == scorer(tuner, X, Y)


def test_task_scorer_in_searches_and_pipelines():
    scoring = {"tone": task_scorer("tone", "f1_macro"), "stars": task_scorer("stars", "r2")}
    pipeline = make_pipeline(FunctionTransformer(), MultiTaskFineTuner("tiny/cnn", freeze_depth="all", max_epochs=1))
    grid = {"multitaskfinetuner__task_weights": ["equal", {"tone": 2.0}]}
    options = {"cv": MultiTaskKFold(2, random_state=0), "scoring": scoring, "refit": "tone", "error_score": "raise"}
    search = GridSearchCV(pipeline, grid, **options).fit(np.stack(X), Y)
    assert np.isfinite(search.cv_results_["mean_test_stars"]).all()
    assert scoring["tone"](search, np.stack(X), Y) == scoring["tone"](search.best_estimator_, np.stack(X), Y)


def test_task_scorer_of_merged_data_sets():
    half = N // 2
    labels = ["film", "book"] * 15, ["film", "song", "film"] * 10
    merged = merge_tasks({"a": (X[:half], labels[0]), "b": (X[half:], labels[1])}, task="kind")
    tuner = MultiTaskFineTuner("tiny/cnn", freeze_depth="all", max_epochs=1, random_state=0)
    options = {"cv": MultiTaskKFold(3, random_state=0), "scoring": {"kind": task_scorer("kind", "f1_macro")}}
    result = cross_validate(tuner, *merged, **options, error_score="raise", return_estimator=True)
    assert (result["test_kind"] > 0).all()
    for fitted in result["estimator"]:
        assert fitted._tasks["kind"].knows.tolist() == [[True, True, False], [False, True, True]]


def test_task_scorer_requests_metadata():
    weight = np.random.RandomState(1).uniform(size=N)
    tuner = MultiTaskFineTuner("tiny/cnn", freeze_depth="all", max_epochs=1, random_state=0)
    options = {"cv": MultiTaskKFold(2, random_state=0), "error_score": "raise", "params": {"sample_weight": weight}}
    scorer = task_scorer("tone", "accuracy")
    with config_context(enable_metadata_routing=True):
        tuner = tuner.set_fit_request(sample_weight=False)
        asks = scorer.set_score_request(sample_weight=True)
        weighted = cross_validate(tuner, X, Y, scoring={"s": asks}, **options)["test_s"]
        refuses = scorer.set_score_request(sample_weight=False)
        scores = cross_validate(tuner, X, Y, scoring={"s": refuses, "w": asks}, **options)
        with pytest.raises(UnsetMetadataPassedError, match=r"task_scorer\('tone', 'accuracy'\)\.score"):
            cross_validate(tuner, X, Y, scoring={"s": scorer}, **options)
    assert scores["test_w"].tolist() == weighted.tolist() != scores["test_s"].tolist()


def test_task_scorer_is_pickled(tuner):
    scorer = task_scorer("tone", "accuracy").set_score_request(sample_weight=True)
    again = pickle.loads(pickle.dumps(scorer))
    assert again(tuner, X, Y) == scorer(tuner, X, Y)
    assert again.get_metadata_routing().score.requests == {"sample_weight": True}


def test_task_scorer_errors(tuner):
    with pytest.raises(ValueError, match=r"there is no task 'tones'; the tasks are .* Did you mean 'tone'"):
        task_scorer("tones")(tuner, X, Y)
    with pytest.raises(ValueError, match="scores a fitted MultiTaskFineTuner, and not a FineTuneClassifier"):
        task_scorer("tone")(FineTuneClassifier(), X, Y)
    with pytest.raises(ValueError, match="no row has a known target of the task 'tone'"):
        task_scorer("tone")(tuner, X, Y.assign(tone=None))
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        task_scorer("tone")(tuner, X[:5], Y)
