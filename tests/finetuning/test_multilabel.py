"""One of several classes, or any of several labels."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_matrix
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.utils.class_weight import compute_sample_weight

from sktransfer import FineTuneClassifier, ImageFeaturizer, load, save
from sktransfer.exceptions import InvalidParameterError
from sktransfer.tasks.base import relative_weights
from sktransfer.tasks.head_init import linear_input
from sktransfer.testing.samples import make_samples

IMAGES, LABELS = make_samples("image", 24)
BRIGHT = LABELS == "good"
EVEN = np.arange(24) % 4 < 2
Y = np.stack([BRIGHT, ~BRIGHT, EVEN], 1).astype(int)


def quick(**parameters):
    return FineTuneClassifier(**{"max_epochs": 2, "random_state": 0, "freeze_depth": "all", **parameters})


@pytest.mark.parametrize("head_init", ["probe", "class_means", "random"])
def test_predict_proba_of_several_labels(head_init):
    clf = quick(layer=-1, head_init=head_init, max_epochs=20, lr=1e-2).fit(IMAGES, Y)
    assert clf.classes_.tolist() == [0, 1, 2]
    probabilities, decision, predicted = clf.predict_proba(IMAGES), clf.decision_function(IMAGES), clf.predict(IMAGES)
    assert probabilities.shape == decision.shape == predicted.shape == (24, 3)
    np.testing.assert_allclose(probabilities, 1 / (1 + np.exp(-decision)), atol=1e-6)
    np.testing.assert_array_equal(predicted, probabilities > 0.5)
    np.testing.assert_array_equal(predicted[:, :2], Y[:, :2])
    assert predicted.dtype == np.int64


def test_fit_probes_each_label_as_if_it_were_alone_at_the_strength_of_all():
    whole = quick(max_epochs=0, layer=-1).fit(IMAGES, Y)
    features = ImageFeaturizer(layer=-1).fit_transform(IMAGES)
    scaled = (features - features.mean(0)) / np.sqrt(features.var(0).sum())
    for place, column in enumerate(Y.T):
        alone = LogisticRegression(C=whole.strength_, tol=1e-6, max_iter=1000).fit(scaled, column)
        np.testing.assert_allclose(whole.predict_proba(IMAGES)[:, place], alone.predict_proba(scaled)[:, 1], atol=1e-3)


def test_fit_learns_labels_that_hold_always_or_never():
    y = np.stack([BRIGHT, np.ones(24), np.zeros(24)], 1).astype(int)
    for head_init in ("probe", "class_means"):
        probabilities = quick(max_epochs=0, head_init=head_init).fit(IMAGES, y).predict_proba(IMAGES)
        assert np.isfinite(probabilities).all()
    clf = quick(max_epochs=0).fit(IMAGES, y)
    np.testing.assert_array_equal(clf.predict(IMAGES), y)
    np.testing.assert_allclose(clf.predict_proba(IMAGES)[:, 1], 25 / 26, atol=1e-4)


def test_fit_takes_sparse_labels_folds_and_early_stopping():
    dense, sparse = quick().fit(IMAGES, Y), quick().fit(IMAGES, csr_matrix(Y))
    np.testing.assert_array_equal(dense.predict_proba(IMAGES), sparse.predict_proba(IMAGES))
    assert np.isfinite(cross_val_score(quick(), IMAGES, Y, cv=2, error_score="raise")).all()
    stopped = quick(early_stopping=True, label_smoothing=0.1, freeze_depth=-1).fit(IMAGES, Y)
    assert stopped.history_["valid_loss"].notna().all()
    assert stopped.score(IMAGES, Y) >= 0


@pytest.mark.parametrize(
    ("class_weight", "match"),
    [
        ({0: 1, 1: 5}, r"must be None, 'balanced' or a list of 3 dicts.* if y is an indicator matrix"),
        ([{1: 5}], r"class_weight holds 1 dicts, and y has 3 labels, \[0, 1, 2\]"),
        ([{}, {2: 1}, {}], r"class_weight of label 1 is \{2: 1\}; it must hold finite numbers"),
        ([{}, {}, {1: -1}], "class_weight of label 2"),
        ([{0: 0, 1: 0}] * 3, "zero weight"),
    ],
)
def test_class_weight_is_rejected_if_it_does_not_fit_several_labels(class_weight, match):
    with pytest.raises(InvalidParameterError, match=match):
        quick(class_weight=class_weight).fit(IMAGES, Y)


def test_class_weight_of_several_labels_weighs_the_probe_of_each_label():
    rare = np.stack([BRIGHT, np.arange(24) % 6 == 0], 1).astype(int)
    weight = np.linspace(1, 2, 24)
    for given in ("balanced", [{0: 1, 1: 3}, {0: 2, 1: 0.5}]):
        clf = quick(max_epochs=0, layer=-1, class_weight=given).fit(IMAGES, rare, sample_weight=weight)
        read = linear_input(clf.net_.module_.heads["y"], ImageFeaturizer(layer=-1).fit_transform(IMAGES))
        C = clf.strength_ / read.shape[1]  # of a mean variance of 1
        for place, column in enumerate(rare.T):
            one = given if given == "balanced" else given[place]
            weights = relative_weights(weight * compute_sample_weight(one, column))
            probe = LogisticRegression(C=C, tol=1e-6, max_iter=1000).fit(read, column, weights)
            expected = probe.predict_proba(read)[:, 1]
            np.testing.assert_allclose(clf.predict_proba(IMAGES)[:, place], expected, atol=1e-3)


def test_class_weight_of_several_labels_weighs_the_loss():
    given = [{0: 1.0, 1: 1e3}, {0: 1e3, 1: 1e3}, {0: 0.0, 1: 0.0}]
    losses = []
    for factor in (1.0, 1e-3):
        weights = [{value: factor * one for value, one in weight.items()} for weight in given]
        clf = quick(max_epochs=1, lr=1e-9, class_weight=weights, head_init="random").fit(IMAGES, Y)
        losses.append(clf.history_["train_loss"].item())
    positive = clf.predict_proba(IMAGES)  # of the initial head, up to the rate
    entropies = -np.log(np.where(Y, positive, 1 - positive))  # (24, 3)
    factors = np.stack([np.where(Y[:, place], one[1], one[0]) for place, one in enumerate(given)], 1)  # (24, 3)
    assert losses == pytest.approx([(factors * entropies).sum() / factors.sum()] * 2, rel=1e-4)


def test_class_weight_of_several_labels_needs_losses_per_label():
    def per_row(outputs, targets):
        return (outputs - targets).abs().sum(1)

    with pytest.raises(InvalidParameterError, match="return one per row and label"):
        quick(class_weight="balanced", criterion=per_row).fit(IMAGES, Y)


def test_label_names_are_those_of_the_columns(tmp_path):
    frame = pd.DataFrame(Y, columns=["bright", "dark", "even"])
    clf = quick(class_weight="balanced").fit(IMAGES, frame)
    assert clf.label_names_.tolist() == ["bright", "dark", "even"]
    np.testing.assert_array_equal(clf.predict(IMAGES), quick(class_weight="balanced").fit(IMAGES, Y).predict(IMAGES))
    save(clf, tmp_path / "model")
    loaded = load(tmp_path / "model")
    assert loaded.label_names_.tolist() == ["bright", "dark", "even"]
    assert not hasattr(clf.set_params(class_weight=None).fit(IMAGES, Y), "label_names_")


def test_label_names_are_checked_and_named_in_errors():
    frame = pd.DataFrame(Y, columns=["bright", "dark", "even"])
    clf = quick().partial_fit(IMAGES, frame, classes=list(frame))
    with pytest.raises(ValueError, match=r"y has the columns \['even', .*, and the first y had \['bright', "):
        clf.partial_fit(IMAGES, frame[["even", "dark", "bright"]])
    with pytest.raises(ValueError, match=r"column 'bright' of y holds \[1, 2\]; an indicator matrix holds 0 and 1"):
        quick().fit(IMAGES, frame + 1)


def test_predict_proba_can_be_calibrated():
    clf = quick().fit(IMAGES[:12], LABELS[:12])
    calibrated = CalibratedClassifierCV(FrozenEstimator(clf), method="temperature").fit(IMAGES[12:], LABELS[12:])
    np.testing.assert_allclose(calibrated.predict_proba(IMAGES).sum(1), 1, atol=1e-5)


@pytest.mark.process
@pytest.mark.parametrize("n_jobs", [2])
def test_fit_in_a_grid_search_over_six_parameters(n_jobs):
    grid = {
        "lr_schedule": ["linear", "slanted_triangular"],
        "layer_lr_decay": [2.6],
        "unfreezing": ["none", "gradual"],
        "l2_sp": [0.1],
        "label_smoothing": [0.1],
        "head_init": ["class_means"],
    }
    search = GridSearchCV(quick(freeze_depth=-1), grid, cv=2, n_jobs=n_jobs, error_score="raise")
    assert len(search.fit(np.stack(IMAGES), LABELS).cv_results_["params"]) == 4


@pytest.mark.parametrize("layer", ["auto", ["block1", "block3"]], ids=str)
@pytest.mark.parametrize("labels", [False, True], ids=["classes", "labels"])
def test_sample_weight_equals_repeated_rows_for_the_head_init(labels, layer):
    rng = np.random.default_rng(0)
    X = list(rng.uniform(size=(30, 8, 8)).astype(np.float32))
    y = rng.integers(0, 2, (30, 3)) if labels else rng.integers(0, 3, 30)
    repeats = rng.integers(1, 4, 30)
    rows = np.repeat(np.arange(30), repeats)
    for kind in ("probe", "class_means"):
        clf = quick(max_epochs=0, layer=layer, head_init=kind)
        weighted = clf.fit(X, y, sample_weight=repeats).predict_proba(X)
        repeated = clf.fit([X[row] for row in rows], y[rows]).predict_proba(X)
        np.testing.assert_allclose(weighted, repeated, atol=1e-5 if kind == "class_means" else 1e-3)


@pytest.mark.parametrize("labels", [False, True])
def test_sample_weight_equals_repeated_rows_for_the_training(labels):
    rng = np.random.default_rng(0)
    X, repeats = list(rng.uniform(size=(20, 8, 8)).astype(np.float32)), rng.integers(1, 4, 20)
    y = rng.integers(0, 2, (20, 3)) if labels else rng.integers(0, 3, 20)
    rows = np.repeat(np.arange(20), repeats)
    options = {"max_epochs": 4, "batch_size": 1000, "freeze_depth": 4, "layer_lr_decay": 2.6, "l2_sp": 0.1}
    weighted = quick(**options, label_smoothing=0.1).fit(X, y, sample_weight=repeats).predict_proba(X)
    repeated = quick(**options, label_smoothing=0.1).fit([X[row] for row in rows], y[rows]).predict_proba(X)
    np.testing.assert_allclose(weighted, repeated, atol=1e-3)


@pytest.mark.parametrize("low", [-1, 2])
def test_fit_rejects_label_matrices_with_other_values_than_0_and_1(low):
    with pytest.raises(ValueError, match=r"y holds \[.*\]; an indicator matrix holds 0 and 1: give"):
        quick(max_epochs=0).fit(IMAGES, np.where(Y > 0, 1, low))


@pytest.mark.parametrize(
    "y",
    [
        [["a", "b"], ["a"]],
        [["a", "b"], ["b", "c"]],
        [("a", "b"), ("a",)],
        [{"a", "b"}, {"a"}],
        [["a"], []],
        [[0, 2], [1]],
        pd.Series([["a", "b"], ["b", "c"]]),
        pd.Series([[0, 1], [1]]),
        np.array([["a", "b"], ["b", "c"]]),
        np.array([["a", "b"], ["c"]], dtype=object),
    ],
    ids=lambda y: f"{type(y).__name__} of {type(next(iter(y))).__name__}",
)
def test_fit_suggests_multilabel_binarizer_for_lists_of_labels(y):
    y = pd.concat([y] * 12) if isinstance(y, pd.Series) else np.concatenate([y] * 12) if hasattr(y, "ndim") else y * 12
    with pytest.raises(ValueError, match=r"y\[0\] is .*MultiLabelBinarizer"):
        quick(max_epochs=0).fit(IMAGES, y)


def test_partial_fit_suggests_multilabel_binarizer_for_lists_of_labels():
    clf = quick().partial_fit(IMAGES, Y, classes=range(3))
    with pytest.raises(ValueError, match=r"y\[0\] is .*MultiLabelBinarizer"):
        clf.partial_fit(IMAGES, [["a", "b"], ["a"]] * 12)


def test_fit_says_that_several_columns_of_classes_need_several_classifiers():
    with pytest.raises(ValueError, match=r"y should be a 1d array, got .* \(24, 2\) .*fit a classifier per column"):
        quick().fit(IMAGES, np.stack([np.arange(24) % 3, np.arange(24) % 2], 1))


def test_partial_fit_takes_equal_classes_with_each_call():
    clf = quick(freeze_depth="all")
    names = [f"label {one}" for one in range(Y.shape[1])]
    for _ in range(2):
        clf.partial_fit(IMAGES, Y, classes=names)
    with pytest.raises(ValueError, match="not those of the first call"):
        clf.partial_fit(IMAGES, Y, classes=names[1:])
