from __future__ import annotations

import torch

from sktransfer import load_backbone
from sktransfer.runtimes.examples import example_batch


def test_example_batch_of_texts_has_short_and_long_ones_and_is_fixed():
    backbone = load_backbone("tiny/bert")
    values, mask = example_batch(backbone, 2)
    assert values.shape == mask.shape
    assert mask.sum(1).min() < 16
    assert mask.sum(1).max() > 40
    assert torch.equal(values, example_batch(backbone, 2)[0])


def test_example_batch_of_images_has_different_crops():
    values, mask = example_batch(load_backbone("tiny/cnn"), 6)
    assert mask is None
    assert len(torch.unique(values, dim=0)) == 6
