"""Stages: what a backbone is a list of, and a walk through them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor, nn

from sktransfer.backbones.pooling import pool

__all__ = ["ImageStage", "PooledHead", "SharedSpace", "run_stages"]


class ImageStage(nn.Module):
    """Modules run one after the other on values alone, for images have no mask.

    Parameters
    ----------
    *modules : nn.Module
        What a pretrained network does between two cuts.
    """

    def __init__(self, *modules: nn.Module) -> None:
        super().__init__()
        self.body = nn.Sequential(*modules)

    def forward(self, values: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the values behind the last module."""
        out: Tensor = self.body(values)
        return out


class PooledHead(nn.Module):
    """A network's own head that works on a pooled last stage.

    Parameters
    ----------
    layers : nn.Module
        From pooled values (n, n_features) to logits (n, n_categories).
    pooling : str
        How the last stage is pooled.
    prefix_tokens : int, default=0
        As in `pool`.
    """

    def __init__(self, layers: nn.Module, pooling: str, prefix_tokens: int = 0) -> None:
        super().__init__()
        self.layers, self.pooling, self.prefix_tokens = layers, pooling, prefix_tokens

    def forward(self, values: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return logits (n, n_categories)."""
        logits: Tensor = self.layers(pool(values, mask, self.pooling, prefix_tokens=self.prefix_tokens))
        return logits


def run_stages(stages: nn.ModuleList, values: Tensor, mask: Tensor | None) -> Iterator[Tensor]:
    """Yield what each stage gives, in order.

    Parameters
    ----------
    stages : nn.ModuleList
        A backbone's own, or a copy of them.
    values : Tensor
        What the first of them takes.
    mask : Tensor of shape (n, tokens) or None
        True where a token is real; None for images.
    """
    for stage in stages:
        values = stage(values, mask)
        yield values


@dataclass(frozen=True)
class SharedSpace:
    """A space of vectors in which the samples of a backbone are compared with texts, by the cosine.

    A network of two towers is two backbones, each a list of stages like any other; this is all that joins them.

    Parameters
    ----------
    texts : str
        Name of the backbone that puts texts there.
    scale : float
        What the network multiplies cosines by before a softmax.

    Examples
    --------
    >>> from sktransfer.backbones import SharedSpace
    >>> SharedSpace(texts="clip/openai/clip-vit-base-patch32#text", scale=100.0).scale
    100.0
    """

    texts: str
    scale: float
