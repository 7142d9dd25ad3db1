"""Reconstruction of noisy images, stage by stage."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from sktransfer._validation import check_float
from sktransfer.exceptions import InvalidParameterError
from sktransfer.objectives.base import ImageObjective

__all__ = ["StageDenoising"]

_LEAST_VARIANCE = 1e-6  # of an input that does not vary


class StageDenoising(ImageObjective):
    """Reconstruct the input of each stage from a noisy copy of it: stacked denoising autoencoders [1]_.

    The stages are trained one after the other from below, `max_epochs` each. A stage reads the output of the stages
    below it, with noise, and a decoder of two convolutions reconstructs that output without noise. The stages below are
    frozen meanwhile, and run once. The decoders are thrown away after the training. The loss is the squared error
    divided by the variance of the input, 1 for a decoder that gives the mean.

    Parameters
    ----------
    noise : float, default=0.5
        Standard deviation of the noise, in standard deviations of the input of the stage. At least 0.

    See Also
    --------
    SelfSupervisedTuner : Trains a backbone by it.

    References
    ----------
    .. [1] P. Vincent et al., "Stacked Denoising Autoencoders: Learning Useful Representations in a Deep Network with a
       Local Denoising Criterion", JMLR 11, 2010.

    Examples
    --------
    >>> from sktransfer import SelfSupervisedTuner, StageDenoising
    >>> SelfSupervisedTuner("tiny/cnn", objective=StageDenoising(noise=1.0)).objective
    StageDenoising(noise=1.0)
    """

    kind, reads = "stage-denoising", "maps"
    stagewise = head_reads_targets = True
    n_channels: int

    def __init__(self, noise: float = 0.5) -> None:
        self.noise = noise

    def check_parameters(self) -> None:
        """Raise if a parameter is not allowed."""
        check_float("noise", self.noise)

    def set_input_shape(self, shape: tuple[int, ...]) -> None:
        """Take the shape of a sample at the freezing boundary.

        Parameters
        ----------
        shape : tuple of int
            Channels, height and width of a map, or patches and channels of a sequence.

        Raises
        ------
        InvalidParameterError
            If it is neither.
        """
        if len(shape) not in (2, 3):
            raise InvalidParameterError(
                f"objective={self!r} reconstructs maps (channels, height, width) or sequences (patches, channels), and "
                f"a stage reads values of shape {shape}; set freeze_depth higher, or objective='simsiam'"
            )
        self.n_channels = shape[0] if len(shape) == 3 else shape[1]

    def make_head(self, n_features: int, n_mixed: int | None = None) -> nn.Module:
        """Return a new decoder."""
        return _Decoder(n_features, self.n_channels)

    def prepare(self, arguments: dict[str, Any], targets: Tensor) -> tuple[dict[str, Any], Tensor]:
        """Return noisy input of the stage, and the input (n, ...)."""
        values = arguments["values"]  # (n, ...)
        return {**arguments, "values": values + self.noise * values.std() * torch.randn_like(values)}, values

    def loss(self, outputs: Tensor | None, targets: Tensor, features: Tensor) -> Tensor:
        """Return the squared error of each sample (n,), in variances of the input."""
        assert outputs is not None
        errors = (outputs - targets).square().flatten(1).mean(1)  # (n,)
        return errors / targets.var().clamp(min=_LEAST_VARIANCE)  # (n,)


class _Decoder(nn.Module):
    """Two convolutions from the map of a stage to that of its input.

    Parameters
    ----------
    n_features : int
        Channels of the map.
    n_channels : int
        Channels of the input.
    """

    def __init__(self, n_features: int, n_channels: int) -> None:
        super().__init__()
        width = max(16, min(n_features, 4 * n_channels))
        self.enter = nn.Conv2d(n_features, width, 3, padding=1)
        self.leave = nn.Conv2d(width, n_channels, 3, padding=1)

    def forward(self, features: Tensor, targets: Tensor) -> Tensor:
        """Return a reconstruction of targets (n, ...) from maps (n, n_features, height, width)."""
        is_map = targets.ndim == 4
        size = tuple(targets.shape[2:]) if is_map else tuple(features.shape[2:])
        wide = functional.relu(self.enter(features))  # (n, width, height, width)
        wide = functional.interpolate(wide, size, mode="bilinear")  # (n, width, *size)
        restored: Tensor = self.leave(wide)  # (n, n_channels, *size)
        if is_map:
            return restored
        patches = restored.flatten(2).transpose(1, 2)  # (n, patches, n_channels)
        n_prefix = targets.shape[1] - patches.shape[1]
        return torch.cat([targets[:, :n_prefix], patches], 1)  # (n, tokens, n_channels): prefix tokens have no place
