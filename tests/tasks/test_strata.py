"""Folds and held-out parts of several tasks."""

from __future__ import annotations

import numpy as np
import pytest

from sktransfer.exceptions import ValidationWarning
from sktransfer.targets.table import read_tasks
from sktransfer.tasks.base import Targets
from sktransfer.tasks.classification import Multiclass, MultilabelIndicator
from sktransfer.tasks.continuous import Continuous
from sktransfer.tasks.strata import assign_folds, hold_out_tasks


def strata_of(**columns):
    found = {}
    for name, column in read_tasks(columns).columns.items():
        task = column.make_task()
        found[name] = task.strata(task.encode_known(column.check(task), column.known, np.ones(len(column.known))))
    return found


def random_strata(seed):
    rng = np.random.RandomState(seed)
    n = rng.randint(40, 200)
    columns = []
    for _ in range(3):
        n_classes = rng.randint(2, 6)
        y = rng.choice(n_classes, n, p=rng.dirichlet(np.ones(n_classes)))
        known = rng.uniform(size=n) < rng.choice([0.2, 0.5, 1.0])
        columns.append((y[:, None] == np.arange(n_classes)) & known[:, None])
    return np.concatenate(columns, axis=1)


@pytest.mark.parametrize("shuffle", [True, False])
def test_assign_folds_keeps_the_ratio_of_each_stratum(shuffle):
    for seed in range(20):
        members = random_strata(seed)
        fold = assign_folds(members, np.full(5, 0.2), np.random.RandomState(seed) if shuffle else None)
        counts = np.stack([np.bincount(fold[stratum], minlength=5) for stratum in members.T])  # (n_strata, n_folds)
        assert counts[members.sum(0) >= 5].min() > 0
        assert np.ptp(counts, axis=1).max() <= 4
        assert np.ptp(np.bincount(fold, minlength=5)) <= 6


def test_assign_folds_of_unequal_shares():
    members = np.eye(3, dtype=bool)[np.random.RandomState(0).choice(3, 300)]
    fold = assign_folds(members, np.array([0.8, 0.2]), np.random.RandomState(0))
    for stratum in members.T:
        assert abs((fold[stratum] == 1).mean() - 0.2) < 0.01


def test_assign_folds_does_not_split_groups():
    members = random_strata(3)
    groups = np.random.RandomState(0).choice(30, len(members))
    fold = assign_folds(members, np.full(3, 1 / 3), np.random.RandomState(0), groups)
    assert all(len(np.unique(fold[groups == group])) == 1 for group in np.unique(groups))
    assert np.bincount(fold, minlength=3).min() > 0.2 * len(members)


def test_assign_folds_depends_on_the_seed_alone():
    members = random_strata(1)
    one, same, other = (assign_folds(members, np.full(5, 0.2), np.random.RandomState(seed)) for seed in (0, 0, 1))
    assert one.tolist() == same.tolist() != other.tolist()


def test_strata_of_each_kind():
    found = strata_of(topic=["a", None, "b", "a"], tags=[["x"], [], ["x", "y"], None], stars=[0.5, 1.5, None, 2.5])
    assert found["topic"].tolist() == [[True, False], [False, False], [False, True], [True, False]]
    assert found["tags"].tolist() == [[True, False, False], [False, False, True], [True, True, False], [False] * 3]
    assert found["stars"].sum(1).tolist() == [1, 1, 0, 1]


def test_strata_of_numbers_are_their_fifths():
    numbers = np.random.RandomState(0).permutation(100).reshape(50, 2) + 0.5
    assert strata_of(xy=numbers)["xy"].sum(0).tolist() == [10] * 10
    assert strata_of(flat=[0.5] * 10)["flat"].sum(0).tolist() == [10, 0, 0, 0, 0]


@pytest.mark.parametrize("task", [Multiclass(classes=np.arange(2)), Continuous(), MultilabelIndicator()])
def test_strata_of_no_known_target(task):
    values = {"multiclass": np.array([0, 1]), "continuous": np.array([0.5, 1]), "multilabel-indicator": np.eye(2)}
    targets = task.encode_known(values[task.kind], np.ones(2, bool), np.ones(2))
    assert not task.strata(Targets(targets.values, np.zeros(2))).any()


@pytest.mark.parametrize("fraction", [0.1, 0.3, 0.7])
def test_hold_out_tasks_keeps_all_strata_for_the_training(fraction):
    for seed in range(20):
        members = random_strata(seed)
        members = members[:, members.sum(0) > 1]  # a class of one row stays in the training part
        strata = {"a": members[:, :2], "b": members[:, 2:]}
        train, valid = hold_out_tasks(strata, None, fraction, seed)
        assert sorted([*train, *valid]) == list(range(len(members)))
        assert members[train].any(0).tolist() == members.any(0).tolist()
        assert all(of_task[valid].any() for of_task in strata.values())
        assert abs(len(valid) / len(members) - fraction) < 0.05


def test_hold_out_tasks_has_a_rare_task_in_both_parts():
    strata = {"topic": np.eye(2, dtype=bool)[[0, 1] * 50], "rare": np.isin(np.arange(100), [3, 4])[:, None]}
    train, valid = hold_out_tasks(strata, None, 0.1, 0)
    assert len(np.intersect1d(train, [3, 4])) == len(np.intersect1d(valid, [3, 4])) == 1


def test_hold_out_tasks_warns_of_a_task_that_one_row_knows():
    strata = {"topic": np.eye(2, dtype=bool)[[0, 1] * 10], "rare": (np.arange(20) == 3)[:, None]}
    with pytest.warns(ValidationWarning, match="split of early_stopping has no target of the task 'rare'"):
        train, _ = hold_out_tasks(strata, None, 0.2, 0)
    assert 3 in train


def test_hold_out_tasks_does_not_split_groups():
    members = random_strata(3)
    groups = np.random.RandomState(0).choice(30, len(members))
    train, valid = hold_out_tasks({"a": members}, groups, 0.2, 0)
    assert not set(groups[train]) & set(groups[valid])
    assert members[train].any(0).tolist() == members.any(0).tolist()


@pytest.mark.parametrize("groups", [None, np.array([0, 0, 0])])
def test_hold_out_tasks_errors(groups):
    strata = {"a": np.eye(3, dtype=bool)} if groups is None else {"a": np.eye(2, dtype=bool)[[0, 0, 1]]}
    with pytest.raises(ValueError, match=r"early_stopping sets aside 0\.3 of 3 samples, which is not possible here"):
        hold_out_tasks(strata, groups, 0.3, 0)
