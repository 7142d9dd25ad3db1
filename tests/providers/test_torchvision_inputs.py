"""What some of torchvision's networks do to images first."""

from __future__ import annotations

import pytest
import torch
from torchvision import models

from sktransfer.exceptions import InvalidParameterError
from sktransfer.providers.torchvision_stages import TransformInput, cut


def test_transforminput_converts_the_normalization():
    pixels = torch.rand(2, 3, 4, 5)
    mean, std = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1), torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    torch.testing.assert_close(TransformInput()((pixels - mean) / std), (pixels - 0.5) / 0.5)


@pytest.mark.parametrize(("name", "side"), [("vit_b_32", 192), ("maxvit_t", 448)])
def test_cut_network_names_the_size_it_takes(name, side):
    with torch.device("meta"):
        parts = cut(models.get_model(name, weights=None))
        images = torch.empty(1, 3, side, side)
    with pytest.raises(InvalidParameterError, match=rf"224x224 pixels, not {side}x{side}.*preprocess='auto'"):
        parts.stages[0][1](images)
