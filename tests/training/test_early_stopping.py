"""What is set aside, when a training ends, and with which weights."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.model_selection import GridSearchCV
from skorch.callbacks import Callback, EarlyStopping, EpochScoring

from sktransfer import FineTuneClassifier, FineTuneRegressor, MultiTaskFineTuner, merge_tasks
from sktransfer.exceptions import ValidationWarning
from sktransfer.testing.samples import make_samples
from sktransfer.training.epochs.held_out import BestWeights, hold_out

IMAGES, LABELS = make_samples("image", 40)
RNG = np.random.default_rng(0)


def quick(**parameters):
    options = {"max_epochs": 3, "random_state": 0, "early_stopping": True, "validation_fraction": 0.25, **parameters}
    return FineTuneClassifier(**options)


def test_hold_out_is_stratified_and_depends_on_the_seed():
    y = np.array([0] * 80 + [1] * 20)
    train, valid = hold_out(y, None, 0.2, 0, stratify=True)
    assert sorted([*train, *valid]) == list(range(100))
    assert np.bincount(y[valid]).tolist() == [16, 4]
    assert np.array_equal(valid, hold_out(y, None, 0.2, 0, stratify=True)[1])
    assert not np.array_equal(valid, hold_out(y, None, 0.2, 1, stratify=True)[1])


@pytest.mark.parametrize("stratify", [True, False])
def test_hold_out_keeps_groups_together(stratify):
    y, groups = np.arange(100) % 2, np.arange(100) // 5
    train, valid = hold_out(y, groups, 0.2, 0, stratify=stratify)
    assert not set(groups[train]) & set(groups[valid])
    assert sorted([*train, *valid]) == list(range(100))
    assert 15 <= len(valid) <= 25


@pytest.mark.parametrize(
    ("y", "groups", "fraction", "match"),
    [
        ([0] * 9 + [1] * 9, [0] * 9 + [1] * 9, 0.5, "each class is in one sample or one group only"),
        ([0, 1], None, 0.1, "not possible here"),
    ],
)
@pytest.mark.filterwarnings("ignore::sktransfer.exceptions.ValidationWarning")
def test_hold_out_error_suggests_early_stopping_false(y, groups, fraction, match):
    with pytest.raises(ValueError, match=match) as caught:
        hold_out(np.array(y), groups if groups is None else np.array(groups), fraction, 0, stratify=True)
    assert "early_stopping=False" in str(caught.value)


def test_hold_out_keeps_a_class_of_one_sample_or_group_in_training_and_names_its_label():
    y = np.array([0] * 20 + [1] * 20 + [2])
    classes = np.array(["cat", "dog", "emu"])
    with pytest.warns(ValidationWarning, match=r"y has one sample of the class 'emu'. They stay in the training part"):
        train, valid = hold_out(y, None, 0.25, 0, stratify=True, classes=classes)
    assert np.bincount(y[valid]).tolist() == [5, 5]
    assert np.bincount(y[train]).tolist() == [15, 15, 1]
    groups = np.array([*np.arange(40) % 8, 0])
    groups[-3:] = 8  # two dogs and the emu
    with pytest.warns(ValidationWarning, match="samples of one group only of the class 'emu'"):
        train, valid = hold_out(y, groups, 0.25, 0, stratify=True, classes=classes)
    assert not set(groups[train]) & set(groups[valid])
    assert set(y[train]) == {0, 1, 2}
    assert set(y[valid]) == {0, 1}


@pytest.mark.parametrize("fraction", [0.1, 0.9])
def test_hold_out_with_more_classes_than_samples_to_set_aside_keeps_each_class_in_training(fraction):
    y = np.arange(40) % 20
    with pytest.warns(ValidationWarning, match="both parts cannot have all 20 classes"):
        train, valid = hold_out(y, None, fraction, 0, stratify=True)
    assert set(y[train]) == set(range(20))
    assert len(valid) == (4 if fraction == 0.1 else 20)
    assert sorted([*train, *valid]) == list(range(40))


def test_hold_out_sets_few_groups_aside():
    y, groups = np.arange(40) % 2, np.arange(40) // 10  # 4 groups, and folds of a tenth
    train, valid = hold_out(y, groups, 0.1, 0, stratify=True)
    assert (len(train), len(valid)) == (30, 10)
    with pytest.warns(ValidationWarning, match="group only of the class 1"):
        assert hold_out(np.array([0, 1, 0]), np.array([0, 0, 1]), 0.1, 0, stratify=True)[1].tolist() == [2]


def test_early_stopping_with_a_class_of_one_sample_does_not_end_a_search():
    y = LABELS.astype(object)
    y[3] = "rare"
    with pytest.warns(UserWarning, match="class 'rare'|least populated class"):
        search = GridSearchCV(quick(max_epochs=1), {"freeze_depth": [-1, "all"]}, cv=2).fit(IMAGES, y)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert "rare" in search.best_estimator_.classes_


def losses(clf, X, y):
    probabilities = clf.predict_proba(X)
    return -np.log(probabilities[np.arange(len(y)), np.searchsorted(clf.classes_, y)])


def set_aside(clf, y):
    """Return the rows that a fit with random_state=0 has set aside."""
    seed = int(np.random.RandomState(0).randint(np.iinfo(np.int32).max, size=1)[-1])
    return hold_out(np.searchsorted(clf.classes_, y), None, 0.25, seed, stratify=True)


def test_early_stopping_restores_the_best_weights():
    wrong = np.where(LABELS == "good", "bad", "good")
    y = np.where(np.arange(40) % 5, LABELS, wrong)  # helps until the wrong labels are learned by heart
    clf = quick(max_epochs=30, lr=1e-3, patience=2, lr_schedule="constant", head_init="random", layer=-1).fit(IMAGES, y)
    valid_loss = clf.history_["valid_loss"]
    assert clf.n_iter_ == len(valid_loss) < 30
    assert 1 < valid_loss.idxmin() == clf.n_iter_ - 2
    _, valid = set_aside(clf, y)
    X_valid = [IMAGES[row] for row in valid]
    assert losses(clf, X_valid, y[valid]).mean() == pytest.approx(valid_loss.min(), rel=1e-3)
    assert valid_loss.iloc[-1] > valid_loss.min() * 1.01


def test_early_stopping_restores_the_start_if_training_only_hurts():
    y = RNG.permutation(LABELS)  # nothing to learn
    clf = quick(max_epochs=30, lr=1e-2, lr_schedule="constant", patience=2, layer=-1).fit(IMAGES, y)
    assert clf.n_iter_ == 2
    _, valid = set_aside(clf, y)
    start = quick(max_epochs=0, layer=-1).fit(IMAGES, y)
    found = losses(start, [IMAGES[row] for row in valid], y[valid]).mean()
    assert found < clf.history_["valid_loss"].min()
    np.testing.assert_array_equal(clf.predict_proba(IMAGES), start.predict_proba(IMAGES))


def test_early_stopping_compares_the_start_by_weighted_loss():
    weight = RNG.uniform(0.1, 5, 40)
    seen = []

    class Spy(Callback):
        def on_train_begin(self, net, X=None, **kwargs):
            (best,) = (callback for _, callback in net.callbacks_ if isinstance(callback, BestWeights))
            seen.append(best.start_loss_)

    clf = quick(max_epochs=0, batch_size=7, callbacks=[Spy()]).fit(IMAGES, LABELS, sample_weight=weight)
    _, valid = set_aside(clf, LABELS)
    found = losses(clf, [IMAGES[row] for row in valid], LABELS[valid])
    assert seen == [pytest.approx(np.average(found, weights=weight[valid]), rel=1e-3)]


def test_valid_loss_is_weighted_by_sample_weight():
    weight = RNG.uniform(0.1, 5, 40)
    clf = quick(max_epochs=1, batch_size=7).fit(IMAGES, LABELS, sample_weight=weight)
    _, valid = set_aside(clf, LABELS)
    found = losses(clf, [IMAGES[row] for row in valid], LABELS[valid])
    assert clf.history_["valid_loss"].iloc[0] == pytest.approx(np.average(found, weights=weight[valid]), rel=1e-3)
    assert clf.history_["valid_loss"].iloc[0] != pytest.approx(found.mean(), rel=1e-3)


def test_early_stopping_hides_held_out_samples_from_the_probe():
    plain = quick(max_epochs=0)
    train, _ = set_aside(plain.fit(IMAGES, LABELS), LABELS)
    alone = quick(max_epochs=0, early_stopping=False).fit([IMAGES[row] for row in train], LABELS[train])
    np.testing.assert_allclose(alone.predict_proba(IMAGES), plain.predict_proba(IMAGES), atol=1e-4)


def test_groups_define_the_split_without_rows_of_weight_zero():
    groups = np.arange(40) // 4
    seen = []

    class Spy(Callback):
        def on_train_begin(self, net, X=None, **kwargs):
            kept = groups[groups != 3]  # the groups of the rows that have a weight
            _, valid = net.get_split_datasets(X, None)
            seen.append((kept[X.rows], kept[valid.rows]))

    weight = np.where(groups == 3, 0.0, 1.0)
    quick(max_epochs=0, callbacks=[Spy()]).fit(IMAGES, LABELS, sample_weight=weight, groups=groups)
    ((train, valid),) = seen
    assert not set(train) & set(valid)
    assert set(train) | set(valid) == set(range(10)) - {3}


@pytest.mark.filterwarnings("ignore:the training loss was:sklearn.exceptions.ConvergenceWarning")
def test_patience_does_not_count_epochs_with_stages_not_yet_unfrozen():
    y = RNG.permutation(LABELS)
    options = {"lr": 1e-2, "head_lr": 1.0, "patience": 1, "max_epochs": 6, "freeze_depth": -2}
    waiting = quick(unfreezing="gradual", **options).fit(IMAGES, y)
    assert waiting.n_iter_ >= 3
    assert quick(**options).fit(IMAGES, y).n_iter_ == 1


def test_early_stopping_of_a_regressor():
    y = np.linspace(0, 1, 40)
    reg = FineTuneRegressor(early_stopping=True, max_epochs=2, random_state=0).fit(IMAGES, y, groups=np.arange(40) // 4)
    assert reg.history_["valid_loss"].notna().all()


def test_random_state_determines_the_result_with_early_stopping():
    one, other = (quick().fit(IMAGES, LABELS).predict_proba(IMAGES) for _ in range(2))
    np.testing.assert_array_equal(one, other)


@pytest.mark.filterwarnings("ignore:the training loss was:sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("own", [True, False])
def test_early_stopping_notifies_all_callbacks_of_the_last_epoch(own):
    scoring = EpochScoring("accuracy", on_train=True, lower_is_better=False)
    stop = [] if own else [EarlyStopping("valid_loss", patience=1, threshold=0.0)]
    options = {"patience": 1 if own else 30, "max_epochs": 40}
    clf = quick(callbacks=[*stop, scoring], lr=0.1, **options).fit(IMAGES, LABELS)
    assert clf.n_iter_ < 40
    assert clf.history_[["lr", "accuracy"]].notna().all(axis=None)


def held_out(tuner, X, Y):
    """Return the rows that `early_stopping` sets aside, by the known targets of each task in the validation data."""
    counts = {}

    class Count(Callback):
        def on_train_begin(self, net, X=None, y=None, **kwargs):
            valid = net.train_split(X, y)[1]
            counts.update({name: int((weight > 0).sum()) for name, weight in valid.weights.items()})

    tuner.set_params(callbacks=[Count()]).fit(X, Y)
    return counts


def test_early_stopping_of_several_tasks_holds_out_rows_of_each():
    Y = {"topic": LABELS, "rare": [None] * 36 + ["a", "b", "a", "b"], "stars": [0.5, 1.5] + [None] * 38}
    tuner = MultiTaskFineTuner(freeze_depth="all", max_epochs=1, early_stopping=True, validation_fraction=0.25)
    counts = held_out(tuner.set_params(random_state=0), IMAGES, Y)
    assert counts["rare"] in (1, 2)
    assert counts["stars"] == 1
    assert 9 <= counts["topic"] <= 11


def test_early_stopping_of_merged_data_sets_holds_out_rows_of_each():
    labels = ["film", "book"] * 15, ["song", "film"] * 5
    X, Y = merge_tasks({"a": (IMAGES[:30], labels[0]), "b": (IMAGES[30:], labels[1])}, task="kind")
    sources = []

    class Sources(Callback):
        def on_train_begin(self, net, X=None, y=None, **kwargs):
            sources.extend(net.train_split(X, y)[1].targets["kind"].tolist())

    tuner = MultiTaskFineTuner(freeze_depth="all", max_epochs=1, early_stopping=True, callbacks=[Sources()])
    tuner.set_params(validation_fraction=0.2, random_state=0).fit(X, Y)
    assert {tuple(pair) for pair in sources} == {(0, 0), (1, 0), (1, 1), (2, 1)}  # class and data set
