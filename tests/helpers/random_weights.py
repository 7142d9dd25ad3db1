"""Weights and images that make a comparison of two networks mean something."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

_NORMS = (nn.BatchNorm2d, nn.LayerNorm)
_MATRICES = (nn.Conv2d, nn.Linear)


def distinct_images(n: int, side: int, seed: int = 0) -> Tensor:
    """Return images (n, 3, side, side) that differ in their coarse parts too, which averaging would leave of noise."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(n, 3, 5, 5, generator=generator)
    images = nn.functional.interpolate(coarse, (side, side), mode="bilinear")  # (n, 3, side, side)
    return images + 0.3 * torch.randn(n, 3, side, side, generator=generator)


@torch.no_grad()
def make_weights_matter(model: nn.Module, batch: Tensor, seed: int = 0) -> None:
    """Redraw all weights, and set the statistics of batch norms from a batch.

    As they are initialised, many networks give outputs of 0 or 1e-14, whatever goes in: zeros in heads, layer scales
    of 1e-6, class tokens of 0, norms that have never seen a batch.
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
        # Behind a batch norm, a rectifier that lets most through: else rounding errors double every few layers.
        parameter.normal_(0.7 if isinstance(module, nn.BatchNorm2d) else 0, 0.1, generator=generator)
    elif isinstance(module, _NORMS):
        parameter.uniform_(0.5, 1, generator=generator)
    elif isinstance(module, _MATRICES) and getattr(module, "groups", 1) == 1:
        # Without the mean that rectifiers leave, which all images share; of the rest they leave (1 - 1 / pi) / 2.
        parameter.normal_(0, (2 / (1 - 1 / math.pi) / parameter[0].numel()) ** 0.5, generator=generator)
        parameter -= parameter.flatten(1).mean(1).view(-1, *[1] * (parameter.ndim - 1))
    elif isinstance(module, _MATRICES):
        parameter.normal_(0, (2 / parameter[0].numel()) ** 0.5, generator=generator)
    elif isinstance(module, nn.MultiheadAttention):
        parameter.normal_(0, parameter.shape[1] ** -0.5, generator=generator)
    else:  # layer scales, tokens, positions
        parameter.normal_(0, 0.5, generator=generator)
