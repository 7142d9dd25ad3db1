"""Segmentation: one of several classes per pixel, of which some may be unknown."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
import torch
from scipy.special import softmax
from sklearn.utils.class_weight import compute_class_weight
from torch import Tensor
from torch.nn import functional

from sktransfer.engine.choice_targets import ChoiceTargets
from sktransfer.engine.head_strength import HeadStrength
from sktransfer.engine.layer_choice import LayerChoice
from sktransfer.exceptions import InvalidParameterError
from sktransfer.pixels.maps import to_pixels
from sktransfer.pixels.masks import UNKNOWN, mean_iou
from sktransfer.tasks.base import Targets, Task, relative_weights
from sktransfer.tasks.head_init import linear_head, linear_input, standardize, write_linear
from sktransfer.tasks.heads import FeatureHead

__all__ = ["MapHead", "PixelClasses"]

MOST_PIXELS = 10_000  # that a probe is fitted to


class MapHead(FeatureHead):
    """Linear head at each position of a map: a convolution of 1 x 1 pixels on standardized features.

    Examples
    --------
    >>> import torch
    >>> from sktransfer.tasks.pixels import MapHead
    >>> MapHead(4, 3)(torch.zeros(2, 4, 8, 6)).shape
    torch.Size([2, 3, 8, 6])
    """

    def forward(self, features: Tensor) -> Tensor:
        """Return outputs (n, n_outputs, height, width) for maps (n, n_features, height, width)."""
        n, _, height, width = features.shape
        rows = features.permute(0, 2, 3, 1).flatten(0, 2)  # (n * height * width, n_features)
        outputs = super().forward(rows).reshape(n, height, width, -1)  # (n, height, width, n_outputs)
        return outputs.permute(0, 3, 1, 2)  # (n, n_outputs, height, width)


class PixelClasses(Task):
    """One of two or more classes per pixel.

    The loss of a tile is the mean over its known pixels. Its weight is that of the image times the number of these
    pixels, so that the loss of a batch is a mean over pixels.

    Parameters
    ----------
    class_weight : dict or "balanced", default=None
        Weight of each class.
    label_smoothing : float, default=0.0
        Share of each target that is spread evenly over the classes.
    C : float, default=1.0
        Inverse strength of the penalty of a probe, relative to that of the choice of layers if there is one.
    seed : int, default=0
        Seed of the choice of the pixels that a probe is fitted to.
    """

    kind = "multiclass-per-pixel"
    reads = "maps"
    score_name = "iou"
    scored_unit = "pixel"

    def __init__(self, class_weight: Any = None, label_smoothing: float = 0.0, C: float = 1.0, seed: int = 0) -> None:
        self.class_weight, self.label_smoothing, self.C, self.seed = class_weight, label_smoothing, C, seed
        self.factors: np.ndarray | None = None  # weight of each class
        self.shares: np.ndarray | None = None  # share of the pixels of each class that a probe is fitted to

    def check(self, y: Any) -> np.ndarray:
        """Return masks of tiles (n_tiles, height, width), int."""
        return np.asarray(y)

    def encode(self, y: np.ndarray, weight: np.ndarray) -> Targets:
        """Return class indices (n_tiles, height, width), -1 for unknown, and the weight of each tile's known pixels."""
        counts = _counts(y)
        classes = np.array(sorted(counts)) if self.classes is None else self.classes
        if len(classes) < 2:
            raise ValueError(
                f"the known pixels of all masks are of one class, {int(classes[0])}; a segmentation needs two or more"
            )
        unexpected = sorted(set(counts) - set(classes.tolist()))
        if unexpected:
            raise ValueError(
                f"masks hold {unexpected}, which are not among the classes of the training, {classes.tolist()}"
            )
        if self.classes is None:
            n = np.array([counts[value] for value in classes.tolist()])  # (n_classes,)
            self.classes, self.factors, self.shares = classes, _factors(self.class_weight, classes, n), _shares(n)
        table = np.full(int(classes[-1]) + 2, UNKNOWN, np.int16)  # by class; the last one is that of -1
        table[classes] = np.arange(len(classes))
        codes = table[y]  # (n_tiles, height, width)
        known = (codes != UNKNOWN).reshape(len(y), -1)  # (n_tiles, n_pixels)
        size = known.sum(1).astype(float)  # (n_tiles,)
        if self.factors is not None:
            size = np.array([self.factors[of_tile[of_tile != UNKNOWN]].sum() for of_tile in codes])
        return Targets(codes, weight * size)

    def unknown(self, n_samples: int) -> Targets:
        """Raise, because a segmentation is the only task of its estimator."""
        raise ValueError("all pixels of all masks are unknown (-1), so there is nothing to learn")

    def make_head(self, n_features: int, n_mixed: int | None = None) -> MapHead:
        """Return a linear head with one output per class at each position."""
        assert self.classes is not None
        return MapHead(n_features, len(self.classes), n_mixed)

    def vectors(self, values: Tensor, target: Any, weight: float) -> tuple[Tensor, np.ndarray, np.ndarray]:
        """Return the vectors at some known pixels of a tile, equally many of each class if there are.

        Each pixel weighs as many as it stands for.
        """
        assert self.shares is not None
        codes = np.asarray(target)  # (height, width)
        rng = np.random.default_rng([self.seed, zlib.crc32(codes.tobytes())])
        drawn = (codes != UNKNOWN) & (rng.random(codes.shape) < self.shares[codes])  # (height, width)
        rows, columns = np.nonzero(drawn)  # (n_pixels,) each
        places = [(2 * one + 1) / size - 1 for one, size in zip((columns, rows), codes.shape[::-1])]
        grid = torch.from_numpy(np.stack(places, 1)).float()[None, None]  # (1, 1, n_pixels, 2), -1 and 1 at the borders
        read = functional.grid_sample(values[None].float(), grid, padding_mode="border", align_corners=False)
        known = codes[drawn]  # (n_pixels,)
        factors = np.ones(len(self.shares)) if self.factors is None else self.factors
        total = factors[codes[codes != UNKNOWN]].sum()
        return read[0, :, 0].T, known.astype(np.int64), weight / total * (factors / self.shares)[known]

    def init_head(
        self, head: Any, features: np.ndarray, targets: Targets, how: str, choice: LayerChoice | None = None
    ) -> HeadStrength | None:
        """Write a logistic regression of pixels, or the means of the classes, into a head."""
        weight = relative_weights(targets.weight)  # (n_pixels,)
        standardize(head, features, weight, choice)
        if how == "random":
            return None
        read = linear_input(head, features)  # (n_pixels, width)
        strength = None if choice is None or how != "probe" else choice.head
        C = self.C if choice is None else self.C * choice.head.of_variance(choice.variance)
        write_linear(head, *linear_head(read, targets.values, weight, head.n_outputs, how, C))
        return strength

    def choice_targets(self, targets: Targets) -> ChoiceTargets:
        """Return one-hot labels of the classes of pixels that there are."""
        return ChoiceTargets.of_classes(targets.values)

    def loss(self, outputs: Tensor | None, targets: Tensor, features: Tensor) -> Tensor:
        """Return the mean cross entropy over the known pixels of each tile (n,), of outputs interpolated to pixels."""
        assert outputs is not None
        logits = to_pixels(outputs, (targets.shape[1], targets.shape[2]))  # (n, n_classes, height, width)
        factors = None if self.factors is None else torch.as_tensor(self.factors, dtype=logits.dtype).to(logits.device)
        codes = targets.long()  # (n, height, width)
        losses = functional.cross_entropy(
            logits, codes, factors, ignore_index=UNKNOWN, reduction="none", label_smoothing=self.label_smoothing
        )  # (n, height, width)
        known = codes != UNKNOWN
        total = known.sum((1, 2)) if factors is None else (factors[codes.clamp(min=0)] * known).sum((1, 2))  # (n,)
        return losses.sum((1, 2)) / total.clamp(min=torch.finfo(torch.float32).tiny)  # (n,)

    def decode(self, outputs: np.ndarray) -> np.ndarray:
        """Return the most probable class per pixel (n, height, width), of outputs (n, n_classes, height, width)."""
        assert self.classes is not None
        labels: np.ndarray = self.classes[outputs.argmax(1)]
        return labels

    def decode_proba(self, outputs: np.ndarray) -> np.ndarray:
        """Return probabilities (n, height, width, n_classes), of outputs (n, n_classes, height, width)."""
        return np.asarray(softmax(np.moveaxis(outputs, 1, -1), axis=-1))

    def scored(self, outputs: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the outputs (n_known, n_classes) and the classes (n_known,) of the known pixels of some tiles."""
        known = targets != UNKNOWN  # (n, height, width)
        logits = to_pixels(torch.from_numpy(outputs), targets.shape[1:]).numpy()  # (n, n_classes, height, width)
        return np.moveaxis(logits, 1, -1)[known], targets[known]

    def output_predictions(self, outputs: np.ndarray) -> np.ndarray:
        """Return class indices (n_known,) of outputs (n_known, n_classes)."""
        return np.asarray(outputs.argmax(1))

    def score(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> float:
        """Return the mean intersection over union of the classes of pixels (n_known,)."""
        return mean_iou([np.asarray(y_true)], [np.asarray(y_pred)], np.ones(1))


def _counts(masks: np.ndarray) -> dict[int, int]:
    """Return the number of pixels of each class."""
    counts = np.bincount(masks.ravel() + 1)[1:]  # by class
    return {int(value): int(counts[value]) for value in np.flatnonzero(counts)}


def _factors(class_weight: Any, classes: np.ndarray, n: np.ndarray) -> np.ndarray | None:
    """Return the factor of each class (n_classes,), of which n pixels are known; None if all are 1."""
    if class_weight is None:
        return None
    if isinstance(class_weight, str) and class_weight == "balanced":
        factors = n.sum() / (len(n) * n)
    else:
        factors = compute_class_weight(class_weight, classes=classes, y=classes)
    if not (np.isfinite(factors).all() and (factors >= 0).all() and factors.any()):
        raise InvalidParameterError(
            f"class_weight={class_weight!r} must hold finite numbers of at least 0, not all of them 0"
        )
    return np.asarray(factors, dtype=float)


def _shares(n: np.ndarray) -> np.ndarray:
    """Return the share of the pixels of each class that are drawn (n_classes,): as many of each, if there are."""
    quota, left, room = np.zeros(len(n)), len(n), float(MOST_PIXELS)
    for index in np.argsort(n):  # what rare classes leave is for the others
        quota[index] = min(n[index], room / left)
        left, room = left - 1, room - quota[index]
    return np.asarray(quota / n)
