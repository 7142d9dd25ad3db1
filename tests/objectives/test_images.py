"""Objectives of images against their definitions."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sktransfer import MaskedPatches, SiameseViews, StageDenoising, load_backbone
from sktransfer.exceptions import InvalidParameterError
from sktransfer.objectives.siamese import random_views

IMAGES = torch.randn(3, 3, 8, 6, generator=torch.Generator().manual_seed(0))


def seeded(n=0):
    return torch.random.manual_seed(n)


def test_siamese_loss_is_the_negative_cosine_of_the_other_view():
    predicted, projected = torch.randn(2, 6, 5, generator=torch.Generator().manual_seed(1)).requires_grad_()
    losses = SiameseViews().loss(torch.cat([predicted, projected], 1), torch.zeros(3), torch.zeros(6, 4))
    one, two = predicted.detach().numpy(), projected.detach().numpy()
    for row in range(3):
        pairs = ((one[row], two[row + 3]), (one[row + 3], two[row]))
        cosines = [a @ b / np.linalg.norm(a) / np.linalg.norm(b) for a, b in pairs]
        assert losses[row].item() == pytest.approx(-np.mean(cosines), rel=1e-5)


def test_siamese_loss_has_no_gradient_to_the_projection():
    outputs = torch.randn(6, 10).requires_grad_()
    SiameseViews().loss(outputs, torch.zeros(3), torch.zeros(6, 4)).sum().backward()
    assert outputs.grad[:, :5].abs().sum() > 0
    assert outputs.grad[:, 5:].abs().sum() == 0


def test_random_views_have_the_shape_and_differ():
    seeded()
    first, second = (random_views(IMAGES, 0.3, True) for _ in range(2))
    assert first.shape == IMAGES.shape
    assert not torch.equal(first, second)
    assert torch.isfinite(first).all()


@pytest.mark.parametrize("mirror", [True, False])
def test_mirror_turns_half_of_the_views(mirror):
    seeded()
    ramp = torch.linspace(-1, 1, 16).expand(200, 3, 16, 16)
    views = random_views(ramp, 1.0, mirror)
    turned = (views[:, :, :, -1] < views[:, :, :, 0]).flatten(1).all(1).float().mean()
    assert (0.35 < turned < 0.65) if mirror else (turned == 0)


def test_prepare_of_stage_denoising_adds_noise_in_units_of_the_input():
    seeded()
    values = 7 * torch.randn(50, 4, 6, 6)
    arguments, targets = StageDenoising(noise=0.5).prepare({"values": values}, torch.zeros(50))
    assert torch.equal(targets, values)
    assert (arguments["values"] - values).std().item() == pytest.approx(3.5, rel=0.05)


def test_loss_of_stage_denoising_is_one_for_the_mean():
    values = IMAGES + 5
    losses = StageDenoising().loss(values.mean().expand_as(values), values, torch.zeros(3))
    assert losses.mean().item() == pytest.approx(1, rel=0.02)
    assert StageDenoising().loss(values, values, torch.zeros(3)).tolist() == [0, 0, 0]


@pytest.mark.parametrize(("shape", "grid"), [((4, 8, 6), (4, 3)), ((5, 4), (2, 2))], ids=["map", "sequence"])
def test_decoder_restores_the_shape_of_the_input(shape, grid):
    objective = StageDenoising()
    objective.set_input_shape(shape)
    targets = torch.randn(2, *shape)
    assert objective.make_head(7)(torch.randn(2, 7, *grid), targets).shape == targets.shape


def test_prepare_of_masked_patches_hides_other_patches_of_each_image():
    seeded()
    objective = MaskedPatches(rate=0.75).for_backbone(load_backbone("tiny/cnn"))
    objective.n_prefix = 1
    objective.set_input_shape((17, 4))
    values = torch.randn(20, 17, 4)
    arguments, targets = objective.prepare({"values": values}, torch.zeros(20))
    hidden = targets[:, :, -1].bool()
    assert torch.equal(targets[:, :, :-1], values)
    assert arguments["values"].shape == (20, 5, 4)
    assert hidden.sum(1).tolist() == [12] * 20
    assert not hidden[:, 0].any()
    assert torch.equal(arguments["values"].flatten(0, 1), values[~hidden])
    assert len(torch.unique(hidden, dim=0)) > 10


def test_loss_of_masked_patches_reads_hidden_ones_alone():
    values = torch.randn(4, 6, 3, generator=torch.Generator().manual_seed(2))
    hidden = torch.tensor([[0, 1, 0, 1, 1, 0]] * 4).float()
    outputs = torch.where(hidden[:, :, None] > 0, values + 2, 100.0)
    losses = MaskedPatches().loss(outputs, torch.cat([values, hidden[:, :, None]], 2), torch.zeros(4))
    expected = 4 / values.numpy().var(0).mean()
    np.testing.assert_allclose(losses, np.full(4, expected), rtol=1e-5)


def test_head_of_masked_patches_tells_positions_apart():
    seeded()
    objective = MaskedPatches(rate=0.5).for_backbone(load_backbone("tiny/cnn"))
    objective.set_input_shape((6, 3))
    head = objective.make_head(64).eval()
    _, targets = objective.prepare({"values": torch.randn(2, 6, 3)}, torch.zeros(2))
    restored = head(torch.randn(2, 3, 64), targets)
    assert restored.shape == (2, 6, 3)
    assert not torch.allclose(*restored[0, targets[0, :, -1] > 0][:2])


@pytest.mark.parametrize(
    ("objective", "message"),
    [
        (SiameseViews(smallest=0), "smallest=0"),
        (SiameseViews(smallest=1.5), "smallest=1.5 must be at most 1"),
        (SiameseViews(mirror="yes"), "mirror='yes'"),
        (SiameseViews(width=1), "width=1"),
        (StageDenoising(noise=-1), "noise=-1"),
        (MaskedPatches(rate=1.0), "rate=1.0"),
    ],
)
def test_parameters_are_checked(objective, message):
    with pytest.raises(InvalidParameterError, match=message):
        objective.for_backbone(load_backbone("tiny/cnn"))


@pytest.mark.parametrize(
    ("rate", "shape", "message"),
    [(0.75, (3, 8, 8), "set freeze_depth=1"), (0.9, (3, 8), "leaves 0 of 3 patches"), (0.1, (3, 8), "leaves 3 of 3")],
)
def test_masked_patches_need_a_sequence_of_enough_patches(rate, shape, message):
    objective = MaskedPatches(rate).for_backbone(load_backbone("tiny/cnn"))
    with pytest.raises(InvalidParameterError, match=message):
        objective.set_input_shape(shape)
