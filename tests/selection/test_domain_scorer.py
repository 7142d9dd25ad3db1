"""Scorers of classifiers in a domain without labels."""

from __future__ import annotations

import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn import config_context
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.cluster import KMeans
from sklearn.datasets import load_iris
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.metrics import accuracy_score
from sklearn.model_selection import GridSearchCV, KFold, cross_validate
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from sktransfer import (
    DomainAdaptationClassifier,
    FineTuneClassifier,
    MultiTaskKFold,
    TextFeaturizer,
    make_domain_scorer,
)
from sktransfer.exceptions import InvalidParameterError
from sktransfer.selection.domain_features import read_features
from sktransfer.selection.domain_scores import (
    deep_embedded_validation,
    density_ratio,
    importance_weighted_accuracy,
    information_maximization,
    matrix_norm,
    prediction_entropy,
    soft_neighborhood_density,
)
from sktransfer.testing.samples import make_samples

NAMES = ["im", "snd", "dev", "importance", "entropy", "circular", "mano"]
QUICK = {"domain_classifier": LogisticRegression(), "n_splits": 2}  # for several folds
X, Y = load_iris(return_X_y=True)
ORDER = np.random.default_rng(0).permutation(150)[:90]
X, NUMBERS = X[ORDER], Y[ORDER]
LABELS = np.array(["setosa", "versicolor", "virginica"])[NUMBERS]
IS_TARGET = np.arange(90) % 3 == 0
X = X + np.where(IS_TARGET, 0.5, 0.0)[:, None]  # the target is shifted
DOMAIN = np.where(IS_TARGET, -1, 1)
MASKED = np.where(IS_TARGET, None, LABELS)
SOURCE, TARGET = np.flatnonzero(~IS_TARGET), np.flatnonzero(IS_TARGET)
FOLDS = KFold(3)


class CenteredDomains(ClassifierMixin, BaseEstimator):
    """Logistic regression on features whose mean is 0 in both domains. Predicts target samples."""

    def __init__(self, C=1.0):
        self.C = C

    def fit(self, X, y, sample_domain=None):
        y, X = np.asarray(y, dtype=object), np.asarray(X)
        target = pd.isna(y) if sample_domain is None else np.asarray(sample_domain) < 0
        self.target_mean_ = X[target].mean(0)
        self.seen_ = pd.Series(y[~target]).value_counts().sort_index().to_dict()
        self.model_ = LogisticRegression(C=self.C).fit(X[~target] - X[~target].mean(0), y[~target].tolist())
        self.classes_ = self.model_.classes_
        return self

    def predict(self, X):
        return self.model_.predict(np.asarray(X) - self.target_mean_)

    def predict_proba(self, X):
        return self.model_.predict_proba(np.asarray(X) - self.target_mean_)


@pytest.fixture(scope="module")
def clf():
    return make_pipeline(StandardScaler(), LogisticRegression()).fit(X[SOURCE], LABELS[SOURCE])


def quick(name):
    """Return a scorer that compares domains by few fits."""
    return make_domain_scorer(name, **(QUICK if name in ("dev", "importance") else {}))


def by_hand(name, clf, X=X):
    """Return the score of a classifier of the three classes, from its own methods."""
    source, target = [X[row] for row in SOURCE], [X[row] for row in TARGET]
    if name in ("dev", "importance"):
        features = read_features(clf, X, DOMAIN)
        ratio = density_ratio(features[SOURCE], features[TARGET])
    if name == "dev":
        proba = clf.predict_proba(source)
        losses = [-np.log(row[list(clf.classes_).index(label)]) for row, label in zip(proba, LABELS[SOURCE])]
        return -deep_embedded_validation(np.array(losses), ratio)
    if name == "importance":
        return importance_weighted_accuracy(clf.predict(source) == LABELS[SOURCE], ratio)
    if name == "circular":
        way_back = clone(clf).fit(target, clf.predict(target))
        return accuracy_score(LABELS[SOURCE], way_back.predict(source))
    if name == "mano":
        return matrix_norm(clf.decision_function(target))
    functions = {"im": information_maximization, "snd": soft_neighborhood_density}
    value = functions.get(name, prediction_entropy)(clf.predict_proba(target))
    return -value if name == "entropy" else value


@pytest.mark.parametrize("name", NAMES)
def test_make_domain_scorer_of_numbers(name, clf):
    scorer = make_domain_scorer(name)
    expected = pytest.approx(by_hand(name, clf), rel=1e-9)
    assert scorer(clf, X, MASKED) == expected
    assert scorer(clf, X, LABELS, sample_domain=DOMAIN) == expected
    assert scorer(clf, pd.DataFrame(X).to_numpy(), pd.Series(MASKED), sample_domain=pd.Series(DOMAIN * 3)) == expected


@pytest.mark.parametrize("name", NAMES)
def test_make_domain_scorer_reads_no_label_of_the_target(name, clf):
    shuffled = LABELS.copy()
    shuffled[TARGET] = np.random.default_rng(1).permutation(shuffled[TARGET])
    before = shuffled.copy()
    scorer = quick(name)
    assert scorer(clf, X, shuffled, sample_domain=DOMAIN) == scorer(clf, X, LABELS, sample_domain=DOMAIN)
    assert np.array_equal(shuffled, before)


WORDS = {"setosa": "a good film", "versicolor": "a dull book", "virginica": "an old knife"}
TEXTS = [f"{WORDS[label]} {row}" for row, label in enumerate(LABELS)]


@pytest.mark.parametrize("name", NAMES)
def test_make_domain_scorer_of_texts_and_string_labels_in_a_pipeline(name):
    clf = make_pipeline(TextFeaturizer("tiny/bert", layer=1), LogisticRegression())
    clf.fit([TEXTS[row] for row in SOURCE], LABELS[SOURCE])
    expected = pytest.approx(by_hand(name, clf, np.array(TEXTS, dtype=object)), rel=1e-5)  # features are float32
    assert make_domain_scorer(name)(clf, TEXTS, MASKED.tolist()) == expected


@pytest.mark.parametrize("name", NAMES)
def test_make_domain_scorer_of_images_and_a_fine_tuned_network(name):
    images, y = np.array(make_samples("image", 24)[0]), np.arange(24) % 2
    clf = FineTuneClassifier("tiny/cnn", layer=-1, max_epochs=0, freeze_depth="all", random_state=0)
    clf.fit(images[:12], y[:12])
    masked = np.where(np.arange(24) < 12, y, np.nan)
    score = make_domain_scorer(name)(clf, images, masked)
    proba = clf.predict_proba(images)
    if name == "importance":
        features = clf._head_inputs(images)
        ratio = density_ratio(features[:12], features[12:])
        assert score == pytest.approx(importance_weighted_accuracy(clf.predict(images[:12]) == y[:12], ratio))
    elif name == "mano":  # two classes: the norm of the probabilities
        assert score == pytest.approx(matrix_norm(proba[12:], are_logits=False), rel=1e-6)
    elif name == "im":
        assert score == pytest.approx(information_maximization(proba[12:]), rel=1e-6)
    assert np.isfinite(score)


@pytest.mark.parametrize("name", ["im", "snd", "entropy", "mano"])
def test_make_domain_scorer_without_y_scores_all_samples(name, clf):
    scorer = make_domain_scorer(name)
    assert scorer(clf, X[TARGET]) == pytest.approx(scorer(clf, X, MASKED), rel=1e-12)
    assert scorer(clf, X, sample_domain=DOMAIN) == pytest.approx(scorer(clf, X, MASKED), rel=1e-12)


@pytest.mark.parametrize(
    ("name", "options", "default"),
    [
        ("snd", {"temperature": 1.0}, {"temperature": 0.05}),
        ("mano", {"p": 2}, {"p": 4}),
        ("mano", {"threshold": 0}, {"threshold": 5}),
        ("dev", {"domain_classifier": KNeighborsClassifier()}, {"domain_classifier": None}),
        ("importance", {"n_splits": 2}, {"n_splits": 5}),
    ],
    ids=str,
)
def test_make_domain_scorer_parameters_change_the_score(name, options, default, clf):
    changed, same, plain = (make_domain_scorer(name, **one)(clf, X, MASKED) for one in (options, default, {}))
    assert changed != plain == same


def test_make_domain_scorer_mano_reads_probabilities_of_a_classifier_without_logits():
    forest = RandomForestClassifier(5, random_state=0).fit(X[SOURCE], LABELS[SOURCE])
    expected = matrix_norm(forest.predict_proba(X[TARGET]), are_logits=False)
    assert make_domain_scorer("mano")(forest, X, MASKED) == pytest.approx(expected)
    lda = LinearDiscriminantAnalysis().fit(X[SOURCE], NUMBERS[SOURCE] > 0)  # one column of decision values
    expected = matrix_norm(lda.predict_proba(X[TARGET]), are_logits=False)
    assert make_domain_scorer("mano")(lda, X, MASKED) == pytest.approx(expected)


def test_make_domain_scorer_dev_of_a_class_that_the_training_lacked():
    few = SOURCE[LABELS[SOURCE] != "setosa"]
    clf = LogisticRegression().fit(X[few], LABELS[few])
    assert make_domain_scorer("dev")(clf, X, MASKED) < -5  # such samples have the loss -log 1e-12


@pytest.mark.parametrize("routing", [False, True])
@pytest.mark.parametrize("values", ["strings", "numbers"])
def test_make_domain_scorer_circular_swaps_the_domains_of_an_adapted_classifier(routing, values):
    labels = LABELS if values == "strings" else NUMBERS.astype(float)
    missing = None if values == "strings" else np.nan
    masked = np.array([missing if one else label for one, label in zip(IS_TARGET, labels)])
    with config_context(enable_metadata_routing=routing):
        clf = CenteredDomains().fit(X, masked)
        if routing:
            clf.set_fit_request(sample_domain=True)
        score = make_domain_scorer("circular")(clf, X, masked, sample_domain=DOMAIN)
    way_back = CenteredDomains().fit(np.r_[X[TARGET], X[SOURCE]], [*clf.predict(X[TARGET]), *[missing] * len(SOURCE)])
    assert score == pytest.approx(np.mean(way_back.predict(X[SOURCE]) == labels[SOURCE]), rel=1e-12)
    assert 0.5 < score < 1


def test_make_domain_scorer_circular_of_integers_with_known_target_labels():
    with config_context(enable_metadata_routing=True):
        clf = CenteredDomains().set_fit_request(sample_domain=True).fit(X, NUMBERS, sample_domain=DOMAIN)
        score = make_domain_scorer("circular")(clf, X, NUMBERS, sample_domain=DOMAIN)
    way_back = CenteredDomains().fit(X, np.where(IS_TARGET, clf.predict(X), 0), sample_domain=-DOMAIN)
    assert score == np.mean(way_back.predict(X[SOURCE]) == NUMBERS[SOURCE])


def test_make_domain_scorer_circular_of_one_predicted_class_is_its_share_of_the_source():
    clf = DummyClassifier(strategy="constant", constant="setosa").fit(X[SOURCE], LABELS[SOURCE])
    assert make_domain_scorer("circular")(clf, X, MASKED) == np.mean(LABELS[SOURCE] == "setosa")


@pytest.mark.parametrize("name", NAMES)
def test_make_domain_scorer_in_a_search_over_rows_without_labels(name):
    grid = {"C": [0.01, 1.0, 100.0]}
    search = GridSearchCV(CenteredDomains(), grid, scoring=quick(name), cv=FOLDS).fit(X, MASKED)
    for fold, (train, test) in enumerate(FOLDS.split(X)):
        alone = CenteredDomains(C=0.01).fit(X[train], MASKED[train])
        expected = quick(name)(alone, X[test], MASKED[test])
        assert search.cv_results_[f"split{fold}_test_score"][0] == pytest.approx(expected, rel=1e-9)
    assert search.best_params_["C"] in grid["C"]
    assert quick(name)(search, X, MASKED) == quick(name)(search.best_estimator_, X, MASKED)


def test_make_domain_scorer_with_folds_of_multi_task_k_fold_that_keep_both_domains():
    order = np.argsort(IS_TARGET, kind="stable")  # the domains one after the other: KFold would part them
    folds, scoring = MultiTaskKFold(3, random_state=0), make_domain_scorer("circular")
    scores = cross_validate(CenteredDomains(), X[order], MASKED[order], scoring=scoring, cv=folds)
    assert np.isfinite(scores["test_score"]).all()
    with pytest.raises(ValueError, match="needs 1 target sample or more, and 0 of 18 rows are"):
        cross_validate(CenteredDomains(), X[order], MASKED[order], scoring=scoring, cv=KFold(5), error_score="raise")


def test_make_domain_scorer_requests_sample_domain_with_metadata_routing():
    scoring = {name: quick(name) for name in NAMES}
    without = cross_validate(CenteredDomains(), X, MASKED, scoring=scoring, cv=FOLDS)
    with config_context(enable_metadata_routing=True):
        clf = CenteredDomains().set_fit_request(sample_domain=True)
        routed = cross_validate(clf, X, LABELS, scoring=scoring, cv=FOLDS, params={"sample_domain": DOMAIN})
        renamed = make_domain_scorer("im").set_score_request(sample_domain="domain")
        pipeline = make_pipeline(StandardScaler(), clf.set_fit_request(sample_domain="domain"))
        search = GridSearchCV(pipeline, {"centereddomains__C": [1.0]}, scoring=renamed, cv=FOLDS)
        search.fit(X, LABELS, domain=DOMAIN)
    for name in NAMES:
        np.testing.assert_allclose(routed[f"test_{name}"], without[f"test_{name}"], rtol=1e-12, err_msg=name)
    assert np.isfinite(search.best_score_)


def test_make_domain_scorer_shares_predictions_of_several_scorers(monkeypatch):
    calls = []
    original = CenteredDomains.predict_proba
    monkeypatch.setattr(CenteredDomains, "predict_proba", lambda self, X: calls.append(len(X)) or original(self, X))
    scoring = {name: quick(name) for name in ("im", "snd", "entropy", "mano", "dev")}
    cross_validate(CenteredDomains(), X, MASKED, scoring=scoring, cv=FOLDS)
    assert calls == [30, 30, 30]


@pytest.mark.parametrize("name", NAMES)
def test_make_domain_scorer_can_be_pickled_and_copied(name, clf):
    scorer = quick(name)
    again = pickle.loads(pickle.dumps(scorer))
    copied = clone(GridSearchCV(CenteredDomains(), {}, scoring=scorer)).scoring
    assert repr(again) == repr(copied) == repr(scorer)
    assert again(clf, X, MASKED) == scorer(clf, X, MASKED)
    assert scorer._sign == (-1 if name in ("dev", "entropy") else 1)


def test_make_domain_scorer_repr_shows_its_parameters():
    assert repr(make_domain_scorer("mano", p=2)) == "make_domain_scorer('mano', p=2.0)"


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("imm", {}, r"name='imm' must be one of \('im', .*Did you mean 'im'"),
        (None, {}, "name=None must be one of"),
        ("im", {"temperature": 1}, r"make_domain_scorer\('im'\) has no parameter 'temperature': it has no parameters"),
        ("snd", {"temprature": 1}, r"no parameter 'temprature': it has temperature. Did you mean 'temperature'\?"),
        ("snd", {"temperature": 0}, "temperature=0 must be a number greater than 0"),
        ("mano", {"p": -1}, "p=-1 must be a number greater than 0"),
        ("dev", {"n_splits": 1}, "n_splits=1 must be an int of at least 2"),
        ("dev", {"domain_classifier": LogisticRegression}, r"or None\. Give an instance, LogisticRegression\(\)"),
        ("importance", {"domain_classifier": LinearSVC()}, "must be a classifier with predict_proba, or None"),
    ],
)
def test_make_domain_scorer_refuses_parameters(name, options, message):
    with pytest.raises(InvalidParameterError, match=message):
        make_domain_scorer(name, **options)


def test_make_domain_scorer_refuses_estimators_that_it_cannot_judge(clf):
    with pytest.raises(AttributeError, match=r"'im'\) reads predict_proba, and LinearSVC has none: wrap it in Cal"):
        make_domain_scorer("im")(make_pipeline(LinearSVC()).fit(X, LABELS), X, MASKED)
    with pytest.raises(ValueError, match=r"scores classifiers, and LinearRegression is none"):
        make_domain_scorer("importance")(LinearRegression().fit(X, NUMBERS), X, MASKED)
    with pytest.raises(ValueError, match=r"scores classifiers, and KMeans is none"):
        make_domain_scorer("im")(KMeans(2).fit(X), X, MASKED)
    several = KNeighborsClassifier().fit(X, np.c_[NUMBERS > 0, NUMBERS > 1].astype(int))
    with pytest.raises(ValueError, match="one label per sample, and this classifier predicts several"):
        make_domain_scorer("circular")(several, X, MASKED)


@pytest.mark.parametrize("name", NAMES)
def test_make_domain_scorer_names_missing_domains(name, clf):
    with pytest.raises(
        ValueError, match=r"needs [12] target samples? or more, and 0 of 90 rows are: a negative sample"
    ):
        make_domain_scorer(name)(clf, X, LABELS)
    if name in ("dev", "importance", "circular"):
        with pytest.raises(ValueError, match=r"needs [12] source samples? with a label or more, and 0 of 90 rows are"):
            make_domain_scorer(name)(clf, X)


@pytest.mark.parametrize("name", ["dev", "importance", "circular"])
def test_make_domain_scorer_refuses_numbers_as_labels_of_texts(name, clf):
    with pytest.raises(ValueError, match=r"compares labels such as . with classes such as 'setosa', and a text never"):
        make_domain_scorer(name)(clf, X, NUMBERS, DOMAIN)


def test_make_domain_scorer_says_that_a_search_passes_sample_domain_with_metadata_routing(clf):
    with pytest.raises(ValueError, match=r"No sample_domain was passed: a search passes it to scorers with metadata"):
        make_domain_scorer("im")(clf, X, LABELS)
    with pytest.raises(ValueError, match=r"needs 1 target sample or more, and 0 of 90 rows .* in each fold$"):
        make_domain_scorer("im")(clf, X, LABELS, np.ones(90, int))


def test_make_domain_scorer_circular_does_not_warn_of_its_own_marks():
    X, y = make_samples("text", 12)
    y, domain = y.astype(object), np.repeat([1, -1], 6)
    clf = DomainAdaptationClassifier("tiny/bert", layer=-1, max_epochs=0, random_state=0, alignment="none")
    clf.fit(X, np.where(domain > 0, y, None), sample_domain=domain)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert 0 <= make_domain_scorer("circular")(clf, X, y, domain) <= 1


def test_make_domain_scorer_refuses_domains_that_do_not_fit(clf):
    scorer = make_domain_scorer("im")
    with pytest.raises(ValueError, match="y has 3 rows, and X has 90"):
        scorer(clf, X, [None, None, "setosa"])
    with pytest.raises(ValueError, match="sample_domain has 2 values, and y has 90 rows"):
        scorer(clf, X, LABELS, sample_domain=[1, -1])
    with pytest.raises(ValueError, match=r"sample_domain\[0\] is 0, and 0 is ambiguous"):
        scorer(clf, X, LABELS, sample_domain=np.zeros(90, int))
