"""Modules for the steps of scikit-learn, from vectors to vectors."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sktransfer.backbones.generators import private_draws

__all__ = [
    "Affine",
    "Bounded",
    "CalibratedMean",
    "Exponential",
    "LogProbabilities",
    "MergedColumns",
    "OneVersusRest",
    "SelectedColumns",
    "Standardized",
    "TwoColumns",
    "UnitNorm",
    "linear",
]


def linear(weight: Any, bias: Any) -> nn.Linear:
    """Return a linear layer with given weights.

    Parameters
    ----------
    weight : array-like of shape (n_outputs, n_features)
        Weights.
    bias : float or array-like of shape (n_outputs,)
        Bias.

    Examples
    --------
    >>> from sktransfer.explain.layers import linear
    >>> linear([[1.0, 2.0]], 0.5)
    Linear(in_features=2, out_features=1, bias=True)
    """
    rows = _tensor(weight)  # (n_outputs, n_features)
    with private_draws():  # the weights are replaced
        layer = nn.Linear(rows.shape[1], rows.shape[0])
    layer.weight = nn.Parameter(rows)
    layer.bias = nn.Parameter(_tensor(bias).expand(len(rows)).clone())  # (n_outputs,)
    return layer


def _tensor(values: Any) -> Tensor:
    return torch.from_numpy(np.array(values, dtype=np.float32))


class Affine(nn.Module):
    """Scale and shift of each feature, `values * factor + offset`.

    Parameters
    ----------
    factor, offset : float or array-like of shape (n_features,)
        Numbers per feature.
    """

    factor: Tensor
    offset: Tensor

    def __init__(self, factor: Any, offset: Any = 0.0) -> None:
        super().__init__()
        self.register_buffer("factor", _tensor(factor))
        self.register_buffer("offset", _tensor(offset))

    def forward(self, values: Tensor) -> Tensor:
        """Return values of the same shape."""
        return values * self.factor + self.offset


class Standardized(nn.Module):
    """Features minus their mean, divided by their scale.

    Parameters
    ----------
    mean, scale : float or array-like of shape (n_features,)
        Numbers per feature.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, mean: Any = 0.0, scale: Any = 1.0) -> None:
        super().__init__()
        self.register_buffer("mean", _tensor(mean))
        self.register_buffer("scale", _tensor(scale))

    def forward(self, values: Tensor) -> Tensor:
        """Return values of the same shape."""
        return (values - self.mean) / self.scale


class Bounded(nn.Module):
    """Values clipped to a range.

    Parameters
    ----------
    low, high : float
        Bounds.
    """

    def __init__(self, low: float, high: float) -> None:
        super().__init__()
        self.low, self.high = float(low), float(high)

    def forward(self, values: Tensor) -> Tensor:
        """Return values of the same shape."""
        return values.clamp(self.low, self.high)


class SelectedColumns(nn.Module):
    """Some of the features.

    Parameters
    ----------
    columns : array-like of shape (n_selected,), int
        Their indices.
    """

    columns: Tensor

    def __init__(self, columns: Any) -> None:
        super().__init__()
        self.register_buffer("columns", torch.from_numpy(np.array(columns, dtype=np.int64)))

    def forward(self, values: Tensor) -> Tensor:
        """Return selected features (n, n_selected)."""
        return values.index_select(1, self.columns)  # (n, n_selected)


class Exponential(nn.Module):
    """Exponential function, the last activation of a Poisson regression."""

    def forward(self, values: Tensor) -> Tensor:
        """Return values of the same shape."""
        return values.exp()


class UnitNorm(nn.Module):
    """Rows divided by their norm, except rows of zeros.

    Parameters
    ----------
    norm : {"l1", "l2", "max"}, default="l2"
        Norm.
    """

    def __init__(self, norm: str = "l2") -> None:
        super().__init__()
        self.order = {"l1": 1.0, "l2": 2.0, "max": float("inf")}[norm]

    def forward(self, values: Tensor) -> Tensor:
        """Return values of the same shape."""
        if self.order == 2:
            norms = values.square().sum(1, keepdim=True).sqrt()  # (n, 1)
        elif self.order == 1:
            norms = values.abs().sum(1, keepdim=True)  # (n, 1)
        else:
            norms = values.abs().amax(1, keepdim=True)  # (n, 1)
        return values / torch.where(norms > 0, norms, 1.0)


class TwoColumns(nn.Module):
    """Logits of two classes from the logit of the second one. Their difference is the given logit."""

    def forward(self, values: Tensor) -> Tensor:
        """Return logits (n, 2) for logits (n, 1)."""
        return torch.cat([-values / 2, values / 2], 1)  # (n, 2)


class MergedColumns(nn.Module):
    """Logits of classes from logits of categories, of which several may belong to one class.

    The probability of a class is the sum of those of its categories.

    Parameters
    ----------
    classes : array-like of shape (n_categories,), int
        Class of each category.
    """

    members: Tensor

    def __init__(self, classes: Any) -> None:
        super().__init__()
        of_class = np.asarray(classes)[:, None] == np.arange(np.max(classes) + 1)  # (n_categories, n_classes)
        self.register_buffer("members", _tensor(of_class))

    def forward(self, values: Tensor) -> Tensor:
        """Return logits (n, n_classes) for logits (n, n_categories)."""
        highest = values.amax(1, keepdim=True)  # (n, 1)
        sums = (values - highest).exp() @ self.members  # (n, n_classes)
        return sums.clamp_min(torch.finfo(values.dtype).tiny).log() + highest


class OneVersusRest(nn.Module):
    """Probabilities of a classifier that has one binary classifier per class, scaled to a sum of one.

    Parameters
    ----------
    link : {"sigmoid", "clip"}
        Probability of one class: the logistic function of its decision value, or the decision value clipped to [-1, 1]
        and mapped to [0, 1].
    is_binary : bool
        Whether there are two classes, whose logits are plus and minus half of one decision value.
    """

    def __init__(self, link: str, is_binary: bool) -> None:
        super().__init__()
        self.link, self.is_binary = link, is_binary

    def forward(self, values: Tensor) -> Tensor:
        """Return probabilities (n, n_classes)."""
        decision = 2 * values if self.is_binary else values  # (n, n_classes)
        separate = decision.sigmoid() if self.link == "sigmoid" else (decision.clamp(-1, 1) + 1) / 2
        total = separate.sum(1, keepdim=True)  # (n, 1)
        uniform = torch.full_like(separate, 1 / separate.shape[1])
        return torch.where(total > 0, separate / torch.where(total > 0, total, 1.0), uniform)


class LogProbabilities(nn.Module):
    """Logits whose softmax are given probabilities."""

    def forward(self, values: Tensor) -> Tensor:
        """Return logits of the shape of the probabilities."""
        return values.clamp_min(torch.finfo(values.dtype).tiny).log()


class CalibratedMean(nn.Module):
    """Mean probability of calibrated classifiers that read the same features.

    Parameters
    ----------
    members : sequence of nn.Module
        From features (n, n_features) to calibrated probabilities (n, n_classes).
    """

    def __init__(self, members: Any) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, values: Tensor) -> Tensor:
        """Return probabilities (n, n_classes)."""
        return torch.stack([member(values) for member in self.members]).mean(0)  # (n, n_classes)
