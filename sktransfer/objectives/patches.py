"""Masked patches: reconstruct hidden patches of an image from the others."""

from __future__ import annotations

from typing import Any, Self

import torch
from torch import Tensor, nn

from sktransfer._validation import check_fraction
from sktransfer.backbones.backbone import Backbone
from sktransfer.exceptions import InvalidParameterError
from sktransfer.objectives.base import ImageObjective
from sktransfer.objectives.heads import n_attention_heads

__all__ = ["MaskedPatches"]

_LEAST_VARIANCE = 1e-6


class MaskedPatches(ImageObjective):
    """Reconstruct hidden patches of an image: a masked autoencoder [1]_, for vision transformers.

    The trained stages read the other patches alone. A decoder of one layer reconstructs the hidden patches as the
    lowest trained stage would have read them. The stage that cuts an image into patches is therefore frozen, as by
    `freeze_depth=1`. The loss is the squared error divided by the variance over the images. The decoder is thrown away
    after the training.

    Parameters
    ----------
    rate : float, default=0.75
        Share of the patches that are hidden, greater than 0 and less than 1.

    See Also
    --------
    SelfSupervisedTuner : Trains a backbone by it.

    References
    ----------
    .. [1] K. He et al., "Masked Autoencoders Are Scalable Vision Learners", CVPR 2022.

    Examples
    --------
    >>> from sktransfer import MaskedPatches, SelfSupervisedTuner
    >>> SelfSupervisedTuner("torchvision/vit_b_16", objective=MaskedPatches(rate=0.5), freeze_depth=1).objective
    MaskedPatches(rate=0.5)
    """

    kind, reads = "masked-patches", "tokens"
    head_reads_targets = True
    n_prefix: int
    shape: tuple[int, int]

    def __init__(self, rate: float = 0.75) -> None:
        self.rate = rate

    def check_parameters(self) -> None:
        """Raise if a parameter is not allowed."""
        check_fraction("rate", self.rate)

    def for_backbone(self, backbone: Backbone) -> Self:
        """Return a copy that knows the number of tokens before the patches.

        Parameters
        ----------
        backbone : Backbone
            Backbone of images.

        Raises
        ------
        InvalidParameterError
            If a parameter is not allowed.
        """
        bound = super().for_backbone(backbone)
        bound.n_prefix = backbone.prefix_tokens
        return bound

    def set_input_shape(self, shape: tuple[int, ...]) -> None:
        """Take the shape of a sample at the freezing boundary.

        Parameters
        ----------
        shape : tuple of int
            Tokens and channels.

        Raises
        ------
        InvalidParameterError
            If it is no sequence, or one of too few patches.
        """
        if len(shape) != 2:
            raise InvalidParameterError(
                f"objective={self!r} hides patches of a sequence (patches, channels), and the first trained stage "
                f"reads values of shape {shape}; set freeze_depth=1 for a vision transformer, or objective='denoise' "
                "for another network"
            )
        n_patches = shape[0] - self.n_prefix
        if not 1 <= self._n_visible(n_patches) < n_patches:
            raise InvalidParameterError(
                f"objective={self!r} leaves {self._n_visible(n_patches)} of {n_patches} patches; hide at least one and "
                "leave at least one, by another rate or larger images"
            )
        self.shape = (shape[0], shape[1])

    def _n_visible(self, n_patches: int) -> int:
        return round((1 - self.rate) * n_patches)

    def make_head(self, n_features: int, n_mixed: int | None = None) -> nn.Module:
        """Return a new decoder."""
        return _Decoder(n_features, *self.shape)

    def prepare(self, arguments: dict[str, Any], targets: Tensor) -> tuple[dict[str, Any], Tensor]:
        """Return the visible patches (n, n_visible, channels), and all, with a channel that is 1 if they are hidden."""
        values = arguments["values"]  # (n, n_tokens, channels)
        n, n_tokens, width = values.shape
        draw = torch.rand(n, n_tokens, device=values.device)
        draw[:, : self.n_prefix] = -1  # never hidden
        n_visible = self.n_prefix + self._n_visible(n_tokens - self.n_prefix)
        visible = draw.argsort(1)[:, :n_visible].sort(1).values  # (n, n_visible), in the order of the sequence
        hidden = torch.ones_like(draw).scatter(1, visible, 0.0)  # (n, n_tokens)
        read = values.gather(1, visible[:, :, None].expand(-1, -1, width))  # (n, n_visible, channels)
        return {**arguments, "values": read}, torch.cat([values, hidden[:, :, None]], 2)

    def loss(self, outputs: Tensor | None, targets: Tensor, features: Tensor) -> Tensor:
        """Return the mean squared error over the hidden patches of each image (n,), in variances over the images."""
        assert outputs is not None
        values, hidden = targets[:, :, :-1], targets[:, :, -1]  # (n, n_tokens, channels), (n, n_tokens)
        errors = (outputs - values).square().mean(2)  # (n, n_tokens)
        errors = (errors * hidden).sum(1) / hidden.sum(1)  # (n,)
        return errors / values.var(0, correction=0).mean().clamp(min=_LEAST_VARIANCE)  # (n,)


class _Decoder(nn.Module):
    """One layer of a transformer that sees the visible patches and the positions of the hidden ones.

    Parameters
    ----------
    n_features : int
        Width of the visible patches after the trained stages.
    n_tokens, n_channels : int
        Shape of the sequence to reconstruct.
    """

    def __init__(self, n_features: int, n_tokens: int, n_channels: int) -> None:
        super().__init__()
        n_heads = n_attention_heads(n_features)
        self.hidden = nn.Parameter(torch.zeros(n_features))
        self.positions = nn.Parameter(0.02 * torch.randn(n_tokens, n_features))
        self.norm = nn.LayerNorm(n_features)
        options = {"activation": "gelu", "batch_first": True}
        self.layer = nn.TransformerEncoderLayer(n_features, n_heads, 2 * n_features, **options)  # type: ignore[arg-type]
        self.leave = nn.Linear(n_features, n_channels)

    def forward(self, features: Tensor, targets: Tensor) -> Tensor:
        """Return reconstructions (n, n_tokens, n_channels) of visible patches (n, n_visible, n_features)."""
        visible = targets[:, :, -1] == 0  # (n, n_tokens)
        whole = self.hidden.expand(*visible.shape, -1).to(features.dtype)  # (n, n_tokens, n_features)
        whole = whole.masked_scatter(visible[:, :, None], features) + self.positions
        restored: Tensor = self.leave(self.layer(self.norm(whole)))  # (n, n_tokens, n_channels)
        return restored
