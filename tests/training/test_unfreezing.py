"""Stages that wait are frozen until their turn, bit by bit."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from sklearn.model_selection import GridSearchCV
from skorch.callbacks import Callback

from sktransfer import FineTuneClassifier
from sktransfer.exceptions import FreezingWarning
from sktransfer.testing.samples import make_samples
from sktransfer.training.epochs.unfreezing import UNFREEZING, n_phases, phase, warn_of_few_epochs
from tests.helpers.small_bert import small_bert

IMAGES, LABELS = make_samples("image", 12)
TEXTS, _ = make_samples("text", 12)
BERT = "hf/" + small_bert()


class Watch(Callback):
    """What each part is before training and after each epoch, and whether it trains in it."""

    def on_train_begin(self, net, **kwargs):
        self.states, self.modes = [self.state(net)], []

    def on_batch_begin(self, net, training, **kwargs):
        pass

    def on_grad_computed(self, net, **kwargs):
        parts = [*net.module_.stages, net.module_.heads["y"]]
        mode = [any(p.grad is not None for p in part.parameters()) for part in parts]
        assert [stage.training for stage in net.module_.stages] == mode[:-1]
        if len(self.modes) < len(net.history):
            self.modes.append(mode)
        assert self.modes[-1] == mode

    def on_epoch_end(self, net, **kwargs):
        self.states.append(self.state(net))

    def state(self, net):
        parts = [*net.module_.stages, net.module_.heads["y"]]
        return [{name: value.clone() for name, value in part.state_dict().items()} for part in parts]

    def changes(self):
        return [
            [any(not before[name].equal(after[name]) for name in before) for before, after in zip(*pair)]
            for pair in zip(self.states, self.states[1:])
        ]


def watched(backbone="tiny/cnn", X=IMAGES, **parameters):
    watch = Watch()
    options = {"max_epochs": 5, "lr": 1e-3, "random_state": 0, "lr_schedule": "constant", **parameters}
    clf = FineTuneClassifier(backbone, callbacks=[("watch", watch)], **options).fit(X, LABELS)
    return clf, dict(clf.net_.callbacks_)["watch"]


@pytest.mark.parametrize(("backbone", "X"), [("tiny/cnn", IMAGES), (BERT, TEXTS)], ids=["images", "texts"])
def test_unfreezing_gradual_unfreezes_one_stage_per_epoch_from_the_top(backbone, X):
    _, watch = watched(backbone, X, unfreezing="gradual", freeze_depth=-3, max_epochs=4, weight_decay=0.1)
    expected = [[False, False, False, True], [False, False, True, True], [False, True, True, True], [True] * 4]
    assert watch.modes == expected
    assert watch.changes() == expected  # what waits is bit-equal, weight decay or not


def test_unfreezing_chain_thaw_trains_each_part_alone_and_then_all():
    clf, watch = watched(unfreezing="chain_thaw", freeze_depth=-2, max_epochs=5, weight_decay=0.1, l2_sp=0.1)
    expected = [[False, False, True], [True, False, False], [False, True, False], [True] * 3, [True] * 3]
    assert watch.modes == expected
    assert watch.changes() == expected
    assert not clf.net_.module_.not_yet_unfrozen


@pytest.mark.parametrize("unfreezing", ["gradual", "chain_thaw"])
def test_unfreezing_freezes_batch_norm_statistics_of_random_weights(unfreezing):
    _, watch = watched(unfreezing=unfreezing, freeze_depth=-2, max_epochs=4, weights="random")
    assert watch.changes()[0] == [False, False, True]


def test_phase_of_all_later_epochs_trains_all_stages():
    for unfreezing in UNFREEZING:
        last = n_phases(unfreezing, 4) - 1
        assert phase(unfreezing, 4, last) == phase(unfreezing, 4, last + 7) == ({0, 1, 2, 3}, True)
        assert last == 0 or phase(unfreezing, 4, last - 1) != phase(unfreezing, 4, last)
    assert phase("gradual", 0, 0) == phase("chain_thaw", 0, 0) == (set(), True)


@pytest.mark.parametrize(("unfreezing", "least"), [("gradual", 4), ("chain_thaw", 5)])
def test_unfreezing_with_too_few_epochs_warns_and_trains_all_stages_in_the_last(unfreezing, least, recwarn):
    for max_epochs in (0, least, least + 1):
        warn_of_few_epochs(unfreezing, 3, max_epochs)
    assert not recwarn.list
    with pytest.warns(FreezingWarning, match=f"takes {least} epochs, and max_epochs=2: several stages"):
        _, watch = watched(unfreezing=unfreezing, freeze_depth=-3, max_epochs=2)
    assert watch.modes == [[False, False, False, True], [True] * 4]
    assert watch.changes() == watch.modes
    with pytest.warns(FreezingWarning, match="max_epochs=1: all stages are trained from the start"):
        assert watched(unfreezing=unfreezing, freeze_depth=-3, max_epochs=1)[1].modes == [[True] * 4]


@pytest.mark.parametrize("n_stages", [1, 2, 5, 12])
@pytest.mark.parametrize("unfreezing", UNFREEZING)
def test_phase_with_max_epochs_trains_each_stage_in_order(unfreezing, n_stages):
    takes = n_phases(unfreezing, n_stages)
    for max_epochs in range(1, takes + 2):
        plan = [phase(unfreezing, n_stages, epoch, max_epochs) for epoch in range(max_epochs)]
        assert plan[-1] == (set(range(n_stages)), True)
        assert len({(tuple(stages), head) for stages, head in plan}) == n_phases(unfreezing, n_stages, max_epochs)
        if max_epochs >= takes:
            assert plan == [phase(unfreezing, n_stages, epoch) for epoch in range(max_epochs)]
        elif unfreezing == "gradual":
            assert all(before < after for (before, _), (after, _) in pairwise(plan))
        elif max_epochs > 2:  # chain_thaw: each stage once between the head and the end
            alone = [sorted(stages) for stages, head in plan if not head]
            assert [stage for stages in alone for stage in stages] == list(range(n_stages))


@pytest.mark.parametrize("unfreezing", UNFREEZING[1:])
def test_phase_without_a_head_trains_stages_in_each_epoch(unfreezing):
    takes = n_phases(unfreezing, 3, has_head=False)
    assert takes == n_phases(unfreezing, 3) - 1
    whole = [phase(unfreezing, 3, epoch) for epoch in range(takes + 1)]
    assert [phase(unfreezing, 3, epoch, has_head=False) for epoch in range(takes)] == whole[1:]
    for max_epochs in range(1, takes + 1):
        plan = [phase(unfreezing, 3, epoch, max_epochs, has_head=False) for epoch in range(max_epochs)]
        assert all(stages for stages, _ in plan)
        assert plan[-1] == ({0, 1, 2}, True)


def test_unfreezing_in_a_search_over_max_epochs_has_a_score_for_each_candidate():
    tuner = FineTuneClassifier(freeze_depth=0, unfreezing="gradual", random_state=0)
    with pytest.warns(FreezingWarning):
        search = GridSearchCV(tuner, {"max_epochs": [1, 2]}, cv=2).fit(IMAGES, LABELS)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


def test_random_state_determines_the_result_with_unfreezing():
    for unfreezing in UNFREEZING:
        options = {"unfreezing": unfreezing, "freeze_depth": -1, "max_epochs": 3, "head_init": "random"}
        one, other = (watched(BERT, TEXTS, **options)[0].predict_proba(TEXTS) for _ in range(2))
        np.testing.assert_array_equal(one, other)
