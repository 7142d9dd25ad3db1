from __future__ import annotations

import torch
from torch import nn

from sktransfer.backbones.stages import ImageStage, PooledHead, run_stages


def test_pooledhead_pools_as_given():
    values = torch.arange(16.0).view(1, 4, 4)  # one image, class token and three patches
    layers = nn.Identity()
    assert PooledHead(layers, "class_token", 1)(values).tolist() == [[0, 1, 2, 3]]
    assert PooledHead(layers, "average", 1)(values).tolist() == [[8, 9, 10, 11]]


def test_imagestage_runs_its_modules_and_ignores_the_mask():
    stage = ImageStage(nn.Flatten(), nn.ReLU())
    assert stage(torch.tensor([[[-1.0, 2.0]]]), torch.ones(1)).tolist() == [[0, 2]]


def test_run_stages_passes_each_output_to_the_next_stage():
    stages = nn.ModuleList([ImageStage(nn.Hardtanh(0, 5)), ImageStage(nn.Flatten(0))])
    values = list(run_stages(stages, torch.tensor([[-1.0, 9.0]]), None))
    assert [one.tolist() for one in values] == [[[0, 5]], [0, 5]]
