"""Choice of layers: weights, scales and strength, and the pass that it takes."""

from __future__ import annotations

import dataclasses
import re

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression, Ridge

from sktransfer.backbones.preprocess import ImageTransform
from sktransfer.cache.memory import MemoryStore
from sktransfer.engine.choice_targets import ChoiceTargets
from sktransfer.engine.choose_layers import (
    CandidateOutputs,
    candidate_layers,
    choice_rows,
    choose_layers,
    collect_candidates,
)
from sktransfer.engine.compute import Compute
from sktransfer.engine.inputs import PreprocessedSamples
from sktransfer.engine.layer_choice import LayerChoice
from sktransfer.engine.layers import LayerOutput
from sktransfer.exceptions import LoadError
from tests.helpers import toys

CPU = Compute(torch.device("cpu"))
AVERAGES = [LayerOutput(stop, "average") for stop in (1, 2, 3)]
GRIDS = [LayerOutput(stop, "grid2") for stop in (1, 2, 3)]


def outputs(n=80, layers=AVERAGES, signal=1, seed=0):
    """Return random features, of which those of one layer tell the labels, on very different scales."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 3
    features = [rng.normal(size=(n, 6)).astype(np.float32) for _ in layers]
    features[signal][np.arange(n), y] += 4
    features = [one * 10.0**i + 5 for i, one in enumerate(features)]
    return CandidateOutputs(list(layers), list(range(n)), [one.astype(np.float32) for one in features]), y


def test_choose_layers_by_targets():
    made, y = outputs()
    choice = choose_layers(made, ChoiceTargets.of(y))
    assert choice.layers == (AVERAGES[1], AVERAGES[2])
    np.testing.assert_allclose(choice.weights, [0.95, 0.05])
    assert not choice.head.is_alpha


def test_report():
    made, y = outputs()
    told = choose_layers(made, ChoiceTargets.of(y)).report(toys.image_backbone())
    layers, why, strength = told.splitlines()
    assert layers == "layers: middle (average) 95%, top (average) 5%"
    assert why == "weighed by how well they predict the targets of 80 samples"
    assert re.fullmatch(
        r"C=\S+ on features of total variance 1, leave-one-out error 0\.\d\d of the variance of the targets, "
        r"and [01]\.\d\d with the last layer alone",
        strength,
    )
    assert choose_layers(made, ChoiceTargets.of(["a"] * 80)).report(toys.image_backbone()).splitlines() == [
        "layers: stem (average) 11%, middle (average) 22%, top (average) 67%",
        "weighed by depth, because the targets do not tell them apart",
        "C=30 on features of total variance 1",
    ]


@pytest.mark.parametrize(("y", "strength"), [(["a"] * 80, 30), ([2.5] * 80, 1 / 30)], ids=["labels", "numbers"])
def test_choose_layers_of_equal_targets_weighs_by_depth(y, strength):
    made, _ = outputs(layers=[*AVERAGES, *GRIDS])
    choice = choose_layers(made, ChoiceTargets.of(y))
    assert list(choice.layers) == AVERAGES
    np.testing.assert_allclose(choice.weights, np.array([1, 2, 2 * 3]) / 9)
    assert choice.head.value == pytest.approx(strength)  # C, or alpha
    scaled = choice.scaled(np.concatenate(made.features[:3], axis=1))
    np.testing.assert_allclose([block.var(0).sum() for block in np.split(scaled, 3, axis=1)], 30 * choice.weights, 1e-4)
    np.testing.assert_allclose(scaled.mean(0), 0, atol=1e-4)


def test_choose_layers_of_two_samples_weighs_by_depth():
    made, _ = outputs(2)
    assert list(choose_layers(made, ChoiceTargets.of([0, 1])).layers) == AVERAGES


def test_choose_layers_grid_only_if_it_helps():
    made, y = outputs(layers=[*AVERAGES, *GRIDS], signal=1)
    assert {one.pooling for one in choose_layers(made, ChoiceTargets.of(y)).layers} == {"average"}
    made, y = outputs(layers=[*AVERAGES, *GRIDS], signal=4)
    choice = choose_layers(made, ChoiceTargets.of(y))
    assert GRIDS[1] in choice.layers
    assert [one.stop for one in choice.layers] == sorted(one.stop for one in choice.layers)


def test_choose_layers_numbers():
    made, y = outputs()
    numbers = y + np.random.default_rng(1).normal(size=len(y))
    choice = choose_layers(made, ChoiceTargets.of(numbers))
    assert choice.head.is_alpha
    features = np.concatenate([made.features[made.layers.index(one)] for one in choice.layers], axis=1)
    one = (features - choice.mean) / choice.divisors(1.0)
    expected = Ridge(alpha=choice.head.value).fit(one, numbers).predict(one)
    scaled = choice.scaled(features.copy())
    np.testing.assert_allclose(Ridge().fit(scaled, numbers).predict(scaled), expected, rtol=1e-4, atol=1e-5)


def test_choose_layers_strength_is_the_c_of_unit_variance():
    made, y = outputs()
    choice = choose_layers(made, ChoiceTargets.of(y))
    features = np.concatenate(made.features[1:], axis=1)
    one = (features - choice.mean) / choice.divisors(1.0)
    np.testing.assert_allclose((one**2).sum(1).mean(), 1, rtol=1e-5)
    expected = LogisticRegression(C=choice.head.value, tol=1e-8).fit(one, y).predict_proba(one)
    scaled = choice.scaled(features.copy())
    np.testing.assert_allclose(LogisticRegression(tol=1e-8).fit(scaled, y).predict_proba(scaled), expected, atol=1e-4)


def test_choose_layers_sample_weight():
    made, y = outputs()
    targets = ChoiceTargets.of(y)
    weight = np.where(np.arange(80) < 40, 2.0, 1e-12)
    half = CandidateOutputs(made.layers, made.rows[:40], [one[:40] for one in made.features])
    one, other = choose_layers(made, targets, weight), choose_layers(half, targets.take(np.arange(40)))
    np.testing.assert_allclose(one.mean, other.mean, rtol=1e-6)
    assert one.layers == other.layers


def test_choose_layers_leaves_out_rows_that_are_not_finite():
    made, y = outputs()
    made.features[0][7] = np.inf
    made.features[2][9] = np.nan
    choice = choose_layers(made, ChoiceTargets.of(y))
    assert np.isfinite(choice.mean).all()
    with pytest.raises(ValueError, match="infinite or NaN"):
        choose_layers(CandidateOutputs(AVERAGES[:1], [0], [np.full((1, 3), np.nan, np.float32)]), ChoiceTargets.of([0]))


def test_choose_layers_of_constant_features():
    made = CandidateOutputs(AVERAGES, [0, 1, 2, 3], [np.ones((4, 2), np.float32) for _ in AVERAGES])
    choice = choose_layers(made, ChoiceTargets.of([0, 1, 0, 1]))
    assert np.isfinite(choice.scaled(np.ones((1, 2 * len(choice.layers)), np.float32))).all()


def test_candidate_layers():
    images = PreprocessedSamples(toys.images(2), toys.image_backbone().preprocess)
    assert candidate_layers(toys.image_backbone(), images, "auto", CPU) == AVERAGES + GRIDS
    assert candidate_layers(toys.image_backbone(), images, "max", CPU) == [LayerOutput(i, "max") for i in (1, 2, 3)]
    texts = PreprocessedSamples(toys.Listed(toys.TEXTS), toys.text_backbone().preprocess)
    assert candidate_layers(toys.text_backbone(), texts, "auto", CPU) == [LayerOutput(i, "mean") for i in (1, 2, 3)]


def test_candidate_layers_runs_a_sample_once_per_backbone():
    backbone = toys.image_backbone(seed=3)
    seen = []
    hook = backbone.stages[0].register_forward_hook(lambda module, args, out: seen.append(len(out)))
    images = PreprocessedSamples(toys.images(2), backbone.preprocess)
    assert candidate_layers(backbone, images, "auto", CPU) == candidate_layers(backbone, images, "auto", CPU)
    assert seen == [1]  # all images are resized to one size
    images = PreprocessedSamples(toys.images(2), ImageTransform())
    other = toys.image_backbone(seed=4)
    other.stages[0].register_forward_hook(lambda module, args, out: seen.append(len(out)))
    assert candidate_layers(other, images, "auto", CPU) == candidate_layers(other, images, "auto", CPU)
    hook.remove()
    assert seen == [1, 1, 1]


def test_collect_candidates_is_one_pass_that_the_cache_serves_again():
    backbone, samples = toys.image_backbone(), toys.images(20)
    inputs = PreprocessedSamples(samples, backbone.preprocess)
    runs = []
    hook = backbone.stages[0].register_forward_hook(lambda module, args, out: runs.append(len(out)))
    store = MemoryStore(10**8)
    made = collect_candidates(backbone, inputs, AVERAGES + GRIDS, [3, 5, 9], compute=CPU, store=store)
    again = collect_candidates(backbone, inputs, AVERAGES + GRIDS, [3, 5, 9], compute=CPU, store=store)
    hook.remove()
    assert sum(runs) == 3
    assert made.rows == [3, 5, 9]
    assert made.features[0].shape == (3, 4)
    assert made.features[3].shape == (3, 16)
    for one, other in zip(made.features, again.features, strict=True):
        np.testing.assert_array_equal(one, other)


def test_choice_rows():
    assert choice_rows(1) == [0]
    rows = choice_rows(2500)
    assert len(set(rows)) == 1000
    assert (rows[0], rows[-1]) == (0, 2499)


def test_to_state_from_state():
    made, y = outputs()
    choice = choose_layers(made, ChoiceTargets.of(y))
    restored = LayerChoice.from_state(choice.to_state())
    for field in dataclasses.fields(choice):
        np.testing.assert_array_equal(getattr(restored, field.name), getattr(choice, field.name))


@pytest.mark.parametrize(
    "change",
    [
        {"layers": []},
        {"widths": [5]},
        {"weights": np.array([0.0])},
        {"scales": np.array([np.nan])},
        {"mean": np.zeros(3)},
        {"head": 30.0},
        {"last_error": "small"},
        {"weights": [1.0]},
    ],
    ids=str,
)
def test_from_state_refuses(change):
    made, y = outputs()
    with pytest.raises(LoadError):
        LayerChoice.from_state({**choose_layers(made, ChoiceTargets.of(y)).to_state(), **change})
