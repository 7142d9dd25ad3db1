"""Alignments by statistics of a batch: covariances, kernel means, and confusion of predicted classes."""

from __future__ import annotations

import torch
from torch import Tensor

from sktransfer._validation import check_bool, check_float, check_int
from sktransfer.domains.base import Alignment

__all__ = ["CORAL", "MCC", "MMD", "class_confusion", "coral_distance", "mmd_distance"]

_SMALLEST = 1e-6


def coral_distance(features: Tensor, source: Tensor, target: Tensor, *, means: bool) -> Tensor:
    """Return the squared distance of the covariances of two domains [1]_, and of their means.

    The distance of the covariances is divided by four times the squared width, that of the means by four times the
    width. Both are estimated from pairs of different samples. A pair of a sample with itself would add the spread of
    the features to the distance, so that the training would make them shrink. Covariances (width, width) are not
    computed, because the products of the rows suffice.

    Parameters
    ----------
    features : Tensor of shape (n, n_features)
        Features of both domains.
    source, target : Tensor of shape (n,)
        Share of each row in each domain.
    means : bool
        Whether the distance of the means is added.

    Returns
    -------
    distance : Tensor of shape ()
        At least 0.

    References
    ----------
    .. [1] B. Sun, K. Saenko, "Deep CORAL: Correlation Alignment for Deep Domain Adaptation", ECCV Workshops 2016.

    Examples
    --------
    >>> import torch
    >>> from sktransfer.domains.distances import coral_distance
    >>> half = torch.tensor([0.5, 0.5, 0.0, 0.0])
    >>> rows = torch.tensor([[1.0], [-1.0], [2.0], [-2.0]])  # of the variances 2 and 8
    >>> round(coral_distance(rows, half, half.flip(0), means=False).item(), 3)
    9.0
    """
    width = features.shape[1]
    rows = torch.zeros_like(features)  # (n, n_features), centred, so that their mean square is the unbiased variance
    for share in (source, target):
        centred = features - share[None] @ features  # (n, n_features)
        rows = rows + (share > 0)[:, None] * centred / (1 - (share**2).sum()).clamp_min(_SMALLEST).sqrt()
    distance = _squared_distance((rows @ rows.T) ** 2, source, target) / (4 * width**2)
    if means:
        distance = distance + _squared_distance(features @ features.T, source, target) / (4 * width)
    return distance.clamp_min(0)


def _squared_distance(kernel: Tensor, source: Tensor, target: Tensor) -> Tensor:
    """Return the squared distance () of the means of two domains under a kernel (n, n), by pairs of different rows."""
    within = [
        (share @ (kernel @ share) - (share**2) @ kernel.diagonal()) / (1 - (share**2).sum()).clamp_min(_SMALLEST)
        for share in (source, target)
    ]
    return within[0] + within[1] - 2 * source @ (kernel @ target)


def mmd_distance(features: Tensor, source: Tensor, target: Tensor, n_kernels: int) -> Tensor:
    """Return the squared maximum mean discrepancy of two domains, under a mean of Gaussian kernels [1]_.

    It is estimated from pairs of different samples, as the distances of `coral_distance` are, so that it may be less
    than 0. The bandwidths of the kernels, multiples of the mean squared distance of two rows, are powers of 2 around 1.

    Parameters
    ----------
    features : Tensor of shape (n, n_features)
        Features of both domains.
    source, target : Tensor of shape (n,)
        Share of each row in each domain.
    n_kernels : int
        Number of kernels.

    Returns
    -------
    distance : Tensor of shape ()

    References
    ----------
    .. [1] M. Long et al., "Learning Transferable Features with Deep Adaptation Networks", ICML 2015.

    Examples
    --------
    >>> import torch
    >>> from sktransfer.domains.distances import mmd_distance
    >>> half = torch.tensor([0.5, 0.5, 0.0, 0.0])
    >>> round(mmd_distance(torch.tensor([[0.0], [0.0], [1.0], [1.0]]), half, half.flip(0), 1).item(), 3)
    1.554
    """
    squares = (features**2).sum(1)  # (n,)
    distances = (squares[:, None] + squares - 2 * features @ features.T).clamp_min(0)  # (n, n)
    n = len(features)
    mean = (distances.sum() / max(1, n * (n - 1))).detach().clamp_min(_SMALLEST)
    powers = [index - (n_kernels - 1) / 2 for index in range(n_kernels)]
    kernel = torch.stack([torch.exp(-distances / (mean * 2.0**power)) for power in powers]).mean(0)  # (n, n)
    return _squared_distance(kernel, source, target)


def class_confusion(logits: Tensor, share: Tensor, temperature: float) -> Tensor:
    """Return the minimum class confusion loss [1]_: how often pairs of classes are probable in the same rows.

    Parameters
    ----------
    logits : Tensor of shape (n, n_classes)
        Outputs of a classifier.
    share : Tensor of shape (n,)
        Share of each row.
    temperature : float
        Divisor of the logits.

    Returns
    -------
    confusion : Tensor of shape ()

    References
    ----------
    .. [1] Y. Jin et al., "Minimum Class Confusion for Versatile Domain Adaptation", ECCV 2020.

    Examples
    --------
    >>> import torch
    >>> from sktransfer.domains.distances import class_confusion
    >>> logits, half = torch.tensor([[9.0, 0.0], [0.0, 9.0]]), torch.tensor([0.5, 0.5])
    >>> round(class_confusion(logits, half, 1.0).item(), 3), round(class_confusion(0 * logits, half, 1.0).item(), 3)
    (0.0, 0.5)
    """
    scaled = logits / temperature  # (n, n_classes)
    probabilities, logs = scaled.softmax(1), scaled.log_softmax(1)  # (n, n_classes) each
    certainty = 1 + torch.exp((probabilities * logs).sum(1))  # (n,), 1 plus exp of the negative entropy
    weight = (share * certainty).detach()  # (n,)
    pairs = (probabilities * weight[:, None]).T @ probabilities  # (n_classes, n_classes)
    ratios = pairs / pairs.sum(1, keepdim=True).clamp_min(torch.finfo(pairs.dtype).tiny)  # (n_classes, n_classes)
    return (ratios.sum() - ratios.trace()) / len(ratios)


class CORAL(Alignment):
    """Align the covariances of two domains, deep CORAL [1]_, and their means, for `DomainAdaptationClassifier`.

    Parameters
    ----------
    means : bool, default=True
        Whether the means of the features are aligned as well. False is the loss as published, which leaves a shift of
        all samples of a domain as it is.

    References
    ----------
    .. [1] B. Sun, K. Saenko, "Deep CORAL: Correlation Alignment for Deep Domain Adaptation", ECCV Workshops 2016.

    Examples
    --------
    >>> from sktransfer import CORAL, DomainAdaptationClassifier
    >>> DomainAdaptationClassifier("tiny/cnn", alignment=CORAL(means=False)).alignment
    CORAL(means=False)
    """

    def __init__(self, means: bool = True) -> None:
        self.means = means

    def check_parameters(self) -> None:
        """Raise if `means` is not allowed."""
        check_bool("means", self.means)

    def distance(self, outputs: Tensor, source: Tensor, target: Tensor) -> Tensor:
        """Return the squared distance of the covariances, and of the means ()."""
        return coral_distance(outputs, source, target, means=self.means)


class MMD(Alignment):
    """Align two domains by the maximum mean discrepancy of their features [1]_, for `DomainAdaptationClassifier`.

    Parameters
    ----------
    n_kernels : int, default=5
        Number of Gaussian kernels, whose bandwidths are powers of 2 around the mean squared distance of two samples.

    References
    ----------
    .. [1] M. Long et al., "Learning Transferable Features with Deep Adaptation Networks", ICML 2015.

    Examples
    --------
    >>> from sktransfer import MMD, DomainAdaptationClassifier
    >>> DomainAdaptationClassifier("tiny/cnn", alignment=MMD(n_kernels=3)).alignment
    MMD(n_kernels=3)
    """

    def __init__(self, n_kernels: int = 5) -> None:
        self.n_kernels = n_kernels

    def check_parameters(self) -> None:
        """Raise if the number of kernels is not allowed."""
        check_int("n_kernels", self.n_kernels, 1)

    def distance(self, outputs: Tensor, source: Tensor, target: Tensor) -> Tensor:
        """Return the squared discrepancy ()."""
        return mmd_distance(outputs, source, target, self.n_kernels)


class MCC(Alignment):
    """Make the predictions of the target tell classes apart: minimum class confusion [1]_.

    It reads the outputs of the classifier, and thus also trains its head. It is for `DomainAdaptationClassifier`.

    Parameters
    ----------
    temperature : float, default=2.5
        Divisor of the logits, greater than 0.

    References
    ----------
    .. [1] Y. Jin et al., "Minimum Class Confusion for Versatile Domain Adaptation", ECCV 2020.

    Examples
    --------
    >>> from sktransfer import MCC, DomainAdaptationClassifier
    >>> DomainAdaptationClassifier("tiny/cnn", alignment=MCC(temperature=2.0)).alignment
    MCC(temperature=2.0)
    """

    output_of = "y"
    moves_features = False
    needs_classes = True

    def __init__(self, temperature: float = 2.5) -> None:
        self.temperature = temperature

    def check_parameters(self) -> None:
        """Raise if the temperature is not allowed."""
        check_float("temperature", self.temperature, exclude_minimum=True)

    def make_head(self, n_features: int, n_mixed: int | None = None) -> None:
        """Return None: the head is that of the classes."""

    def distance(self, outputs: Tensor, source: Tensor, target: Tensor) -> Tensor:
        """Return the class confusion of the target ()."""
        return class_confusion(outputs, target, self.temperature)
