"""Random weights and images for meaningful comparisons of two networks."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

_NORMS = (nn.BatchNorm2d, nn.LayerNorm)
_MATRICES = (nn.Conv2d, nn.Linear)


def distinct_images(n: int, side: int, seed: int = 0) -> Tensor:
    """Return images (n, 3, side, side) that also differ at low frequencies, which survive averaging."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(n, 3, 5, 5, generator=generator)
    images = nn.functional.interpolate(coarse, (side, side), mode="bilinear")  # (n, 3, side, side)
    return images + 0.3 * torch.randn(n, 3, side, side, generator=generator)


@torch.no_grad()
def make_weights_matter(model: nn.Module, batch: Tensor, seed: int = 0) -> None:
    """Redraw all weights, and set the statistics of batch norms from a batch.

    With their initial weights, many networks give outputs of 0 or 1e-14 for any input, because of zeros in heads, layer
    scales of 1e-6, class tokens of 0, and norms without statistics.
    """
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            _redraw(parameter, module, name, generator)
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    model.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the plain mean over batches
        norm.train()
    model(batch)
    for norm, momentum in zip(norms, momenta):
        norm.momentum = momentum
    model.eval()


def _redraw(parameter: Tensor, module: nn.Module, name: str, generator: torch.Generator) -> None:
    if name.endswith("bias"):
        # After a batch norm, a positive bias lets most values pass the rectifier. Else rounding errors double by layer.
        parameter.normal_(0.7 if isinstance(module, nn.BatchNorm2d) else 0, 0.1, generator=generator)
    elif isinstance(module, _NORMS):
        parameter.uniform_(0.5, 1, generator=generator)
    elif isinstance(module, _MATRICES) and getattr(module, "groups", 1) == 1:
        # Remove the mean that rectifiers add to all images. They keep (1 - 1 / pi) / 2 of the variance.
        parameter.normal_(0, (2 / (1 - 1 / math.pi) / parameter[0].numel()) ** 0.5, generator=generator)
        parameter -= parameter.flatten(1).mean(1).view(-1, *[1] * (parameter.ndim - 1))
    elif isinstance(module, _MATRICES):
        parameter.normal_(0, (2 / parameter[0].numel()) ** 0.5, generator=generator)
    elif isinstance(module, nn.MultiheadAttention):
        parameter.normal_(0, parameter.shape[1] ** -0.5, generator=generator)
    else:  # layer scales, tokens, positions
        parameter.normal_(0, 0.5, generator=generator)
