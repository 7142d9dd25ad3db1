"""Classes of pixels: targets, loss, pixels of a probe, predictions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import log_softmax
from torch.nn import functional

from sktransfer.tasks import pixels
from sktransfer.tasks.pixels import MapHead, PixelClasses

MASKS = np.array([[[2, 2, 5, -1], [2, -1, 5, 9]], [[-1] * 4, [9] * 4]])  # (2, 2, 4)


def encoded(**parameters):
    task = PixelClasses(**parameters)
    return task, task.encode(MASKS, np.array([1.0, 3.0]))


def test_encode_gives_indices_and_weighs_known_pixels():
    task, targets = encoded()
    assert task.classes.tolist() == [2, 5, 9]
    assert targets.values.tolist() == [[[0, 0, 1, -1], [0, -1, 1, 2]], [[-1] * 4, [2] * 4]]
    assert targets.weight.tolist() == [6.0, 12.0]
    later = task.encode(np.where(MASKS == 5, 2, MASKS), np.ones(2))
    assert later.values.max() == 2
    with pytest.raises(ValueError, match=r"masks hold \[1\], which are not among the classes of the training"):
        task.encode(np.ones_like(MASKS), np.ones(2))


def test_class_weight_weighs_pixels():
    task, targets = encoded(class_weight="balanced")
    np.testing.assert_allclose(task.factors, 10 / (3 * np.array([3, 2, 5])))
    np.testing.assert_allclose(
        targets.weight, [3 * task.factors[0] + 2 * task.factors[1] + task.factors[2], 3 * 4 * task.factors[2]]
    )
    assert encoded(class_weight={2: 4.0})[0].factors.tolist() == [4.0, 1.0, 1.0]


@pytest.mark.parametrize("class_weight", [None, "balanced"])
def test_loss_is_the_mean_cross_entropy_of_known_pixels(class_weight):
    task, targets = encoded(class_weight=class_weight)
    logits = np.random.default_rng(0).normal(size=(2, 3, 2, 4)).astype(np.float32)
    loss = task.loss(torch.from_numpy(logits), torch.from_numpy(targets.values), torch.zeros(0))
    log_probabilities = log_softmax(logits.astype(float), axis=1)
    for row, codes in enumerate(targets.values):
        places = np.argwhere(codes >= 0)
        factors = np.ones(3) if task.factors is None else task.factors
        weights = [factors[codes[y, x]] for y, x in places]
        losses = [-log_probabilities[row, codes[y, x], y, x] for y, x in places]
        assert float(loss[row]) == pytest.approx(np.average(losses, weights=weights), rel=1e-5)


def test_loss_of_unknown_pixels_is_zero_and_has_no_gradient():
    task, _ = encoded()
    outputs = torch.randn(1, 3, 2, 4, requires_grad=True)
    loss = task.loss(outputs, torch.full((1, 2, 4), -1, dtype=torch.int16), torch.zeros(0))
    loss.sum().backward()
    assert loss.item() == 0
    assert not outputs.grad.any()


def test_loss_interpolates_outputs_to_pixels():
    task, targets = encoded()
    coarse = torch.randn(2, 3, 1, 2)
    fine = functional.interpolate(coarse, (2, 4), mode="bilinear")
    values = torch.from_numpy(targets.values)
    torch.testing.assert_close(task.loss(coarse, values, coarse), task.loss(fine, values, fine))


def test_vectors_are_the_interpolated_maps_at_known_pixels():
    task, targets = encoded()
    maps = torch.randn(5, 1, 2)  # (n_features, height, width)
    fine = functional.interpolate(maps[None], (2, 4), mode="bilinear")[0]  # (n_features, 2, 4)
    vectors, codes, weight = task.vectors(maps, targets.values[0], 6.0)
    known = targets.values[0] >= 0
    torch.testing.assert_close(vectors, fine[:, known].T)
    np.testing.assert_array_equal(codes, targets.values[0][known])
    np.testing.assert_allclose(weight, np.ones(6))


def test_vectors_are_drawn_evenly_from_classes(monkeypatch):
    monkeypatch.setattr(pixels, "MOST_PIXELS", 400)
    mask = np.zeros((1, 100, 100), int)
    mask[:, :10] = 1
    mask[:, 0, :20] = 2
    task = PixelClasses()
    targets = task.encode(mask, np.ones(1))
    vectors, codes, weight = task.vectors(torch.zeros(3, 50, 50), targets.values[0], float(targets.weight[0]))
    n = np.bincount(codes)
    assert n[2] == 20  # a class with few pixels gives all of them, and the others share the rest
    assert np.abs(n[:2] - 190).max() < 50
    assert len(vectors) == n.sum()
    np.testing.assert_allclose(np.bincount(codes, weight), [9000, 980, 20], rtol=0.2)


def test_head_equals_a_linear_layer_at_each_position():
    head = MapHead(4, 3)
    head.mean.copy_(torch.arange(4.0))
    maps = torch.randn(2, 4, 3, 5)
    expected = torch.stack([head.linear(maps[0, :, y, x] - head.mean) for y in range(3) for x in range(5)])
    torch.testing.assert_close(head(maps)[0].flatten(1).T, expected)
    assert MapHead(8, 3, n_mixed=2)(torch.randn(2, 8, 3, 5)).shape == (2, 3, 3, 5)


def test_scored_gives_known_pixels():
    task, targets = encoded()
    outputs = np.random.default_rng(0).normal(size=(2, 3, 1, 2)).astype(np.float32)
    logits, codes = task.scored(outputs, targets.values)
    assert logits.shape == (10, 3)
    assert codes.tolist() == [0, 0, 1, 0, 1, 2, 2, 2, 2, 2]
    assert task.score(codes, task.output_predictions(np.eye(3)[codes])) == 1.0


def test_decode_and_decode_proba():
    task, _ = encoded()
    outputs = np.zeros((1, 3, 2, 2), np.float32)
    outputs[0, 1] = 2
    assert (task.decode(outputs) == 5).all()
    np.testing.assert_allclose(task.decode_proba(outputs).sum(-1), 1, rtol=1e-6)
    assert task.decode_proba(outputs).shape == (1, 2, 2, 3)
