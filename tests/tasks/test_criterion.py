"""Losses of the user, for classes, labels and numbers."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone
from torch import nn
from torch.nn import functional

from sktransfer import Checkpoint, FineTuneClassifier, FineTuneRegressor, find_lr, load, save
from sktransfer.exceptions import InvalidParameterError, SaveError
from sktransfer.tasks.criterion import Criterion
from sktransfer.testing.samples import make_samples

IMAGES, LABELS = make_samples("image", 24)
SEVERAL = np.stack([LABELS == "good", np.arange(24) % 2 == 0], 1).astype(int)
NUMBERS = np.array([image.mean() for image in IMAGES], dtype=np.float64)


def focal_loss(outputs, targets, gamma=2.0):
    losses = functional.cross_entropy(outputs, targets, reduction="none")
    return (1 - (-losses).exp()) ** gamma * losses


class Focal(nn.Module):
    def __init__(self, gamma=2.0):
        super().__init__()
        self.gamma = gamma

    def forward(self, outputs, targets):
        return focal_loss(outputs, targets, self.gamma)


def cross_entropy(outputs, targets):
    return functional.cross_entropy(outputs, targets, reduction="none")


def quick(estimator=FineTuneClassifier, **parameters):
    options = {"layer": "block2", "freeze_depth": "all", "max_epochs": 2, "batch_size": 8, "random_state": 0}
    return estimator(**{**options, **parameters})


@pytest.mark.parametrize(
    ("estimator", "y", "criterion"),
    [
        (FineTuneClassifier, LABELS, nn.CrossEntropyLoss),
        (FineTuneClassifier, LABELS, cross_entropy),
        (FineTuneClassifier, SEVERAL, nn.BCEWithLogitsLoss(reduction="none")),
        (FineTuneRegressor, NUMBERS, nn.MSELoss),
        (FineTuneRegressor, np.stack([NUMBERS, -NUMBERS], 1), nn.MSELoss(reduction="none")),
    ],
)
def test_criterion_of_the_default_loss_changes_nothing(estimator, y, criterion):
    weight = np.linspace(1, 2, 24)
    expected = quick(estimator).fit(IMAGES, y, sample_weight=weight)
    given = quick(estimator, criterion=criterion).fit(IMAGES, y, sample_weight=weight)
    np.testing.assert_allclose(given.history_["train_loss"], expected.history_["train_loss"], rtol=1e-6)


def test_criterion_focal_loss_is_optimized():
    parameters = {"lr": 1e-2, "max_epochs": 30, "head_init": "random"}
    plain, focal = (quick(criterion=one, **parameters).fit(IMAGES, LABELS) for one in (None, Focal(5.0)))
    assert focal.score(IMAGES, LABELS) == 1
    features = torch.from_numpy(plain.decision_function(IMAGES)), torch.from_numpy(focal.decision_function(IMAGES))
    certain = [one.abs().mean() for one in features]
    assert certain[1] < 0.8 * certain[0]  # easy samples count less, so that outputs stay small
    by_function = quick(criterion=focal_loss, **parameters).fit(IMAGES, LABELS)
    by_module = quick(criterion=Focal(2.0), **parameters).fit(IMAGES, LABELS)
    np.testing.assert_array_equal(by_function.predict_proba(IMAGES), by_module.predict_proba(IMAGES))


def test_criterion_huber_ignores_an_outlier():
    y = NUMBERS.copy()
    y[0] += 20
    parameters = {"lr": 1e-2, "max_epochs": 150, "lr_schedule": "constant", "head_init": "random"}
    squared, huber = (
        quick(FineTuneRegressor, criterion=one, **parameters).fit(IMAGES, y).predict(IMAGES)
        for one in (None, nn.HuberLoss(reduction="none", delta=0.05))
    )
    assert abs(huber[0] - y[0]) > 1.4 * abs(squared[0] - y[0])  # the squared loss bends towards the outlier


def test_criterion_of_a_regressor_sees_standardized_outputs_and_targets():
    residuals = (quick(FineTuneRegressor, max_epochs=0).fit(IMAGES, NUMBERS).predict(IMAGES) - NUMBERS) / NUMBERS.std()
    expected = functional.huber_loss(torch.from_numpy(residuals), torch.zeros(24, dtype=torch.float64), delta=0.1)
    given = quick(FineTuneRegressor, criterion=nn.HuberLoss(reduction="none", delta=0.1), max_epochs=1, lr=1e-9)
    assert given.fit(IMAGES, NUMBERS).history_["train_loss"].item() == pytest.approx(float(expected), rel=1e-3)


def mean(outputs, targets):
    return functional.cross_entropy(outputs, targets)


def detached(outputs, targets):
    return cross_entropy(outputs.detach(), targets)


def infinite(outputs, targets):
    return (cross_entropy(outputs, targets) - cross_entropy(outputs, targets)).log()


@pytest.mark.parametrize(
    ("criterion", "match"),
    [
        (
            mean,
            r"returned shape \(\) for outputs of shape \(8, 2\) and targets of shape \(8,\); it must return one loss",
        ),
        (lambda outputs, targets: 1.0, "returned type float for outputs"),
        (detached, "returned losses without a gradient"),
        (infinite, r"returned -inf for outputs \[.*\] and target \d of the first batch"),
    ],
)
def test_criterion_is_checked_in_the_first_batch(criterion, match):
    with pytest.raises(InvalidParameterError, match=match):
        quick(criterion=criterion).fit(IMAGES, LABELS)


def test_criterion_that_needs_arguments_is_refused_as_a_class():
    class Ordinal(nn.Module):
        def __init__(self, n_classes):
            super().__init__()

    with pytest.raises(InvalidParameterError, match=r"cannot be made without arguments .*; give an instance"):
        quick(criterion=Ordinal).fit(IMAGES, LABELS)


def test_criterion_survives_clone_and_pickle_and_is_not_changed():
    given = Focal(1.5)
    clf = quick(criterion=given, callbacks=None).fit(IMAGES, LABELS)
    assert clf.criterion is given
    assert clone(clf).criterion.gamma == 1.5
    back = pickle.loads(pickle.dumps(clf))
    np.testing.assert_array_equal(back.predict_proba(IMAGES), clf.predict_proba(IMAGES))
    np.testing.assert_array_equal(back.fit(IMAGES, LABELS).predict_proba(IMAGES), clf.predict_proba(IMAGES))
    assert back.partial_fit(IMAGES, LABELS).n_iter_ == 3


@pytest.mark.parametrize("criterion", [focal_loss, Focal(), nn.MultiMarginLoss])
def test_save_refuses_a_criterion_and_saves_without(criterion, tmp_path):
    clf = quick(criterion=criterion).fit(IMAGES, LABELS)
    with pytest.raises(
        SaveError, match=r"cannot be saved. Predicting does not need it: .*set_params\(criterion=None\)"
    ):
        save(clf, tmp_path / "model")
    save(clf.set_params(criterion=None), tmp_path / "model")
    loaded = load(tmp_path / "model")
    np.testing.assert_array_equal(loaded.predict_proba(IMAGES), clf.predict_proba(IMAGES))


def test_find_lr_takes_a_criterion():
    assert find_lr(quick(criterion=Focal(), freeze_depth="block1", lr=1e-3), IMAGES, LABELS, highest=0.1).lr > 0


def test_criterion_is_part_of_the_name_of_a_checkpoint(tmp_path):
    for criterion in (Focal(1.0), Focal(2.0), focal_loss, cross_entropy, Focal(1.0)):
        quick(criterion=criterion, callbacks=[Checkpoint(tmp_path, keep=True)]).fit(IMAGES, LABELS)
    assert len(list(tmp_path.iterdir())) == 4


def test_identity_of_functions_depends_on_their_code():
    one, other = (Criterion(eval(f"lambda outputs, targets: outputs * {factor}")).identity() for factor in (1.5, 2.5))
    assert one != other


def test_criterion_that_does_not_take_class_indices_is_named():
    says = r"criterion=.*BCEWithLogitsLoss.* raised ValueError: .* targets of shape \(\d+,\); .*one_hot\(targets, 2\)"
    with pytest.raises(InvalidParameterError, match=says):
        FineTuneClassifier(max_epochs=1, criterion=nn.BCEWithLogitsLoss).fit(IMAGES, LABELS)

    def loss(outputs, targets):
        indicators = functional.one_hot(targets, 2).float()
        return functional.binary_cross_entropy_with_logits(outputs, indicators, reduction="none")

    FineTuneClassifier(max_epochs=1, criterion=loss).fit(IMAGES, LABELS)
