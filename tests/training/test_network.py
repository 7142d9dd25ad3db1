"""Which parameters are trained, and where the head looks."""

from __future__ import annotations

import torch
from torch import nn

from sktransfer.backbones.backbone import Backbone
from sktransfer.backbones.preprocess import ImageTransform
from sktransfer.backbones.stages import ImageStage
from sktransfer.engine.layers import LayerOutput
from sktransfer.tasks.heads import FeatureHead
from sktransfer.training.network import FineTuneNetwork, split_layers, trainable_stages


def backbone_with_shared_layer():
    shared = nn.Conv2d(3, 3, 1)
    stages = [(f"s{i}", ImageStage(shared, nn.BatchNorm2d(3))) for i in range(3)]
    return Backbone(name="toy", modality="image", stages=stages, preprocess=ImageTransform(), pooling="average")


def network(stages, boundary, n_features, **options):
    """Return a network with one head, which reads the averages of the last of three stages."""
    layers = {"features": [LayerOutput(3, "average")]}
    heads = nn.ModuleDict({"y": FeatureHead(n_features, 2)})
    options = {"widths": {"features": n_features}, **options}
    return FineTuneNetwork(stages, layers, boundary, heads, {"y": "features"}, **options)


def test_trainable_stages_freezes_a_shared_parameter_with_its_first_stage():
    backbone = backbone_with_shared_layer()
    all_trained = trainable_stages(backbone, 0)
    assert all(p.requires_grad for p in all_trained.parameters())
    assert all_trained[0].body[0] is all_trained[2].body[0]  # still one layer in the copy
    upper = trainable_stages(backbone, 1)
    assert not upper[0].body[0].weight.requires_grad
    assert upper[0].body[1].weight.requires_grad
    assert not any(p.requires_grad for p in backbone.stages.parameters())


def test_split_layers_at_the_freezing_boundary():
    frozen, trained = split_layers([LayerOutput(1, "average"), LayerOutput(3, "average"), LayerOutput(4, "average")], 3)
    assert frozen == [LayerOutput(1, "average"), LayerOutput(3, "average")]
    assert trained == [LayerOutput(4, "average")]


def test_keep_statistics_keeps_batch_norm_statistics():
    for keep in (True, False):
        stages = trainable_stages(backbone_with_shared_layer(), 1)
        network(stages, 1, 3, keep_statistics=keep).train()(values=torch.rand(4, 3, 5, 5))
        moved = stages[0].body[1].running_mean.abs().max() > 0
        assert bool(moved) != keep


def test_forward_gives_the_head_standardized_frozen_and_trained_features():
    stages = trainable_stages(backbone_with_shared_layer(), 2)
    whole = network(stages, 2, 5).eval()
    head = whole.heads["y"]
    with torch.no_grad():
        head.mean.fill_(1.0)
        head.scale.fill_(2.0)
    fixed, values = torch.rand(4, 2), torch.rand(4, 3, 5, 5)
    pooled = stages[0](values).mean((2, 3))
    features = torch.cat([fixed, pooled], 1)  # (4, 5)
    outputs, inputs = whole(fixed=fixed, values=values)
    torch.testing.assert_close(outputs, {"y": head.linear((features - 1) / 2)})
    torch.testing.assert_close(inputs, {"features": features})
