"""Weights, shares and aggregators of several tasks: checks and arithmetic."""

from __future__ import annotations

import builtins

import numpy as np
import pytest
import torch
from sklearn.base import clone

from sktransfer.exceptions import InvalidParameterError
from sktransfer.tasks.weighting import (
    aggregator_identity,
    check_aggregator,
    check_task_sampling,
    check_task_weights,
    counts_of,
    require_names,
    shares_of,
    uncertainty_loss,
    weighted_sum,
    weights_of,
)

torchjd = pytest.importorskip("torchjd.aggregation")


@pytest.mark.parametrize(
    ("value", "match"),
    [
        ("even", r"task_weights='even' must be one of \('equal', 'uncertainty'\)"),
        (None, "task_weights=None"),
        (2.0, r"task_weights=2.0"),
        ([1, 2], r"task_weights=\[1, 2\] must be one of .*, or a dict of numbers by the name of a task"),
        ({"a": -1}, r"task_weights\['a'\]=-1 must be a number of at least 0"),
        ({"a": float("nan")}, r"task_weights\['a'\]=nan"),
        ({"a": float("inf")}, r"task_weights\['a'\]=inf"),
        ({"a": "1"}, r"task_weights\['a'\]='1'"),
        ({"a": True}, r"task_weights\['a'\]=True"),
        ({1: 1.0}, "must have names of tasks as keys, and not 1"),
    ],
)
def test_check_task_weights_names_invalid_and_allowed_values(value, match):
    with pytest.raises(InvalidParameterError, match=match):
        check_task_weights("task_weights", value)


@pytest.mark.parametrize(
    ("value", "match"),
    [
        ("jiont", r"task_sampling='jiont' must be one of .* Did you mean 'joint'"),
        ([1, 2], r"task_sampling=\[1, 2\] must be one of .*, or a dict of numbers by the name of a task"),
        ({"a": -0.5}, r"task_sampling\['a'\]=-0.5"),
        ({"a": 0, "b": 0.0}, "has no share greater than 0"),
        ({}, "has no share greater than 0"),
    ],
)
def test_check_task_sampling_names_invalid_and_allowed_values(value, match):
    with pytest.raises(InvalidParameterError, match=match):
        check_task_sampling("task_sampling", value)


def test_weights_of_are_1_unless_they_are_given():
    assert weights_of("equal", ["a", "b"]) == weights_of("uncertainty", ["a", "b"]) == {"a": 1.0, "b": 1.0}
    assert weights_of(check_task_weights("task_weights", {"b": 0}), ["a", "b"]) == {"a": 1.0, "b": 0.0}
    with pytest.raises(InvalidParameterError, match="gives all tasks weight 0"):
        weights_of({"a": 0.0, "b": 0.0}, ["a", "b"])


def test_require_names_proposes_similar_ones():
    with pytest.raises(InvalidParameterError, match=r"names the task 'topics', .*\['topic'\]\. Did you mean 'topic'"):
        require_names("task_weights", {"topics": 1.0}, ["topic"])


def test_shares_of_ignore_sources_without_rows():
    assert shares_of("uniform", {"a": 9, "b": 1, "c": 0}) == {"a": 0.5, "b": 0.5}
    assert shares_of("proportional", {"a": 9, "b": 1}) == {"a": 0.9, "b": 0.1}
    assert shares_of({"a": 3, "b": 1}, {"a": 1, "b": 100}) == {"a": 0.75, "b": 0.25}
    assert shares_of({"a": 0, "b": 1}, {"a": 1, "b": 0}) == {}


def test_counts_of_sum_to_the_draws():
    rng = np.random.default_rng(0)
    for n_draws in (3, 10, 101):
        parts = rng.dirichlet([0.3] * 3)
        counts = counts_of(dict(zip("abc", parts)), n_draws)
        assert sum(counts.values()) == n_draws
        assert min(counts.values()) >= 1
    assert sum(counts_of(dict.fromkeys("abc", 1 / 3), 2).values()) == 2


def test_weighted_sum_multiplies_by_weights():
    losses = {"a": torch.tensor(2.0), "b": torch.tensor(3.0)}
    assert weighted_sum(losses, {"b": 0.5}).item() == 3.5


def test_uncertainty_loss_is_lowest_at_the_log_of_the_loss():
    """Of a squared error L at s = log L, and of a cross entropy L at s = log 2L."""
    losses, shares = {"number": torch.tensor(4.0), "label": torch.tensor(0.7)}, dict.fromkeys(("number", "label"), 1.0)
    variances = {name: torch.zeros((), requires_grad=True) for name in losses}
    optimizer = torch.optim.SGD(variances.values(), lr=0.5)
    for _ in range(200):
        optimizer.zero_grad()
        uncertainty_loss(losses, shares, variances, {"number": 0.5, "label": 1.0}).backward()
        optimizer.step()
    assert variances["number"].item() == pytest.approx(np.log(4.0), abs=1e-3)
    assert variances["label"].item() == pytest.approx(np.log(1.4), abs=1e-3)


def test_uncertainty_loss_of_a_task_without_known_targets_has_no_gradient():
    variance = torch.zeros((), requires_grad=True)
    uncertainty_loss({"a": torch.tensor(0.0)}, {"a": torch.tensor(0.0)}, {"a": variance}, {"a": 1.0}).backward()
    assert variance.grad.item() == 0


def test_check_aggregator_takes_objects_of_torchjd():
    for aggregator in (None, torchjd.UPGrad(), torchjd.MGDA()):
        assert check_aggregator("aggregator", aggregator) is aggregator
    for wrong in ("upgrad", torchjd.UPGradWeighting(), torch.nn.Identity()):
        with pytest.raises(InvalidParameterError, match=r"must be None or an aggregator of TorchJD, such as torchjd"):
            check_aggregator("aggregator", wrong)
    with pytest.raises(InvalidParameterError, match=r"give an instance, UPGrad\(\)"):
        check_aggregator("aggregator", torchjd.UPGrad)


def test_check_aggregator_names_the_extra_without_torchjd(monkeypatch):
    found = builtins.__import__

    def missing(name, *args, **kwargs):
        if name.startswith("torchjd"):
            raise ImportError(name)
        return found(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(InvalidParameterError, match="the extra torchjd: pip install 'torchjd"):
        check_aggregator("aggregator", object())


def test_aggregator_identity_tells_settings_apart():
    preferences = [torch.tensor([0.3, 0.7]), torch.tensor([0.3, 0.70001])]
    one, other = (aggregator_identity(torchjd.UPGrad(preference)) for preference in preferences)
    assert str(one) != str(other) or any(
        not torch.equal(a, b)
        for (_, first), (_, second) in zip(one[1:], other[1:])
        for a, b in zip(first.values(), second.values())
        if isinstance(a, torch.Tensor)
    )
    assert aggregator_identity(None) == []
    assert repr(clone(torchjd.MGDA(epsilon=0.1), safe=False)) == "MGDA(epsilon=0.1, max_iters=100)"
