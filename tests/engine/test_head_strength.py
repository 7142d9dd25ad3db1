"""Strengths of linear heads: by leave-one-out, scale-free, the same for weights and for repeated rows."""

from __future__ import annotations

import numpy as np
import pytest

from sktransfer.engine.choice_targets import ChoiceTargets
from sktransfer.engine.head_strength import LARGEST_C, LEAST_C, PLAIN_C, HeadStrength, logistic_strength
from sktransfer.engine.leave_one_out import STRENGTHS
from sktransfer.exceptions import LoadError


def test_logistic_strength_range():
    found = [logistic_strength(strength, 2, 60) for strength in (1e9, 0.04, 1e-9)]
    assert found == pytest.approx([2 * LEAST_C / 60, 200.0, 2 * LARGEST_C])
    assert logistic_strength(1.0, 10, 60_000) == pytest.approx(1 / 0.09, rel=0.01)


@pytest.mark.parametrize("kind", ["labels", "indicators", "numbers"])
@pytest.mark.parametrize("shape", [(60, 4), (15, 40)], ids=["n > d", "n < d"])
def test_find_of_whole_weights_is_that_of_repeated_rows(kind, shape):
    rng = np.random.default_rng(1)
    features = rng.normal(size=shape)
    numbers = features[:, :2] + rng.normal(size=(len(features), 2))
    targets = {
        "labels": ChoiceTargets.of_classes((numbers[:, 0] > 0).astype(int)),
        "indicators": ChoiceTargets((numbers > 0).astype(float), 2),
        "numbers": ChoiceTargets(numbers, None),
    }[kind]
    repeats = rng.integers(1, 4, len(features))
    rows = rng.permutation(np.repeat(np.arange(len(features)), repeats))
    weighted = HeadStrength.find(features, targets, repeats.astype(float))
    repeated = HeadStrength.find(features[rows], targets.take(rows), np.ones(len(rows)))
    scaled = HeadStrength.find(features, targets, 1e-3 * repeats)
    assert weighted.n_samples == len(features)
    for other in (repeated, scaled):
        assert other.value == pytest.approx(weighted.value)
        assert other.error == pytest.approx(weighted.error, rel=1e-6)
    assert HeadStrength.find(1e4 * features - 7, targets, repeats).value == pytest.approx(weighted.value)


def test_find_of_noise_is_firm_and_of_a_rule_is_loose():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(100, 20))
    noise, rule = rng.normal(size=(100, 1)), features[:, :1]
    strengths = [HeadStrength.find(features, ChoiceTargets.of_numbers(y), np.ones(100)).value for y in (rule, noise)]
    assert strengths == [STRENGTHS[0], STRENGTHS[-1]]
    values = [
        HeadStrength.find(features, ChoiceTargets.of_classes(y[:, 0] > 0), np.ones(100)).value for y in (rule, noise)
    ]
    assert values[0] > values[1] == 1.6 * LEAST_C / 100


@pytest.mark.parametrize(
    ("targets", "expected"),
    [
        (ChoiceTargets.of_classes(np.array([0, 1])), HeadStrength(PLAIN_C, False)),
        (ChoiceTargets.of_classes(np.array([1, 1, 1, 1])), HeadStrength(PLAIN_C, False)),
        (ChoiceTargets.of_numbers(np.ones((4, 1))), HeadStrength(1 / PLAIN_C, True)),
    ],
    ids=["two samples", "one class", "equal numbers"],
)
def test_find_without_targets_that_differ(targets, expected):
    n = len(targets.values)
    assert HeadStrength.find(np.arange(3.0 * n).reshape(n, 3), targets, np.ones(n)) == expected


def test_find_of_constant_features_and_of_classes_of_one_sample():
    targets = ChoiceTargets.of_classes(np.arange(6) % 2)
    assert HeadStrength.find(np.ones((6, 2)), targets, np.ones(6)).value == PLAIN_C  # all samples are equal
    each = HeadStrength.find(
        np.random.default_rng(0).normal(size=(6, 4)), ChoiceTargets.of_classes(np.arange(6)), np.ones(6)
    )
    assert 11 * LEAST_C / 6 <= each.value <= 11 * LARGEST_C


def test_head_strength_of_variance():
    assert HeadStrength(6.0, False).of_variance(3.0) == 2.0
    assert HeadStrength(6.0, True).of_variance(3.0) == 18.0


def test_head_strength_report():
    assert HeadStrength(6.0, True).report() == "alpha=6 on features of total variance 1"
    assert (
        HeadStrength(6.0, False, 9, 0.123).report().endswith("leave-one-out error 0.12 of the variance of the targets")
    )


@pytest.mark.parametrize(
    "change",
    [{"value": 0.0}, {"value": float("inf")}, {"is_alpha": "no"}, {"error": "small"}, {"n_samples": 1.0}],
    ids=str,
)
def test_head_strength_state(change):
    strength = HeadStrength(6.0, False, 9, 0.5)
    assert HeadStrength.from_state(strength.to_state()) == strength
    with pytest.raises(LoadError):
        HeadStrength.from_state({**strength.to_state(), **change})
