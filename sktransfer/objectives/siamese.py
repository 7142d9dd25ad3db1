"""Siamese views: two changed copies of an image are near each other."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from sktransfer._validation import check_bool, check_float, check_int
from sktransfer.exceptions import InvalidParameterError
from sktransfer.objectives.base import ImageObjective

__all__ = ["SiameseViews", "random_views"]

_STRENGTH = 0.4  # largest change of brightness and contrast
_GREY = 0.2  # share of the views without colour


class SiameseViews(ImageObjective):
    """Predict the features of a changed copy of an image from those of another copy: SimSiam [1]_.

    The copies are random parts of the image, of another brightness, contrast and colour, of which half are mirrored. A
    predictor learns to map the projected features of a copy to those of the other one, to which no gradient flows. The
    loss is the negative cosine, from -1 to 1. Projector and predictor are thrown away after the training.

    Parameters
    ----------
    smallest : float, default=0.3
        Least share of the image's area that a copy shows, greater than 0 and at most 1.
    mirror : bool, default=True
        Whether half of the copies are mirrored. False suits digits, letters and other images with a right side.
    width : int, default=256
        Width of the projected features.

    See Also
    --------
    SelfSupervisedTuner : Trains a backbone by it.

    References
    ----------
    .. [1] X. Chen and K. He, "Exploring Simple Siamese Representation Learning", CVPR 2021.

    Examples
    --------
    >>> from sktransfer import SelfSupervisedTuner, SiameseViews
    >>> SelfSupervisedTuner("tiny/cnn", objective=SiameseViews(mirror=False)).objective
    SiameseViews(smallest=0.3, mirror=False, width=256)
    """

    kind = "siamese-views"
    changes_input = pairwise = True  # the BatchNorm of the projector compares the images of a batch
    copies_per_step = 2

    def __init__(self, smallest: float = 0.3, mirror: bool = True, width: int = 256) -> None:
        self.smallest, self.mirror, self.width = smallest, mirror, width

    def check_parameters(self) -> None:
        """Raise if a parameter is not allowed."""
        check_float("smallest", self.smallest, exclude_minimum=True)
        if self.smallest > 1:
            raise InvalidParameterError(f"smallest={self.smallest!r} must be at most 1, the area of the whole image")
        check_bool("mirror", self.mirror)
        check_int("width", self.width, minimum=2)

    def make_head(self, n_features: int, n_mixed: int | None = None) -> nn.Module:
        """Return a new projector and predictor."""
        return _Siamese(n_features, self.width)

    def corrupt(
        self, arguments: dict[str, Tensor], targets: Tensor, generator: torch.Generator | None = None
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Return a view of each image (n, channels, height, width)."""
        views = random_views(arguments["values"], self.smallest, self.mirror, generator)
        return {**arguments, "values": views}, targets

    def prepare(self, arguments: dict[str, Tensor], targets: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """Return two views of each image, (2 n, channels, height, width), unless the images are views already."""
        if self.has_copies:
            return arguments, targets
        views = [self.corrupt(arguments, targets)[0]["values"] for _ in range(self.copies_per_step)]
        return {**arguments, "values": torch.cat(views)}, targets

    def loss(self, outputs: Tensor | None, targets: Tensor, features: Tensor) -> Tensor:
        """Return the negative cosine of the prediction of each view (2 n,), or its mean for each image (n,)."""
        assert outputs is not None
        predicted, projected = outputs.chunk(2, dim=1)  # (2 n, width) each
        other = torch.cat(projected.detach().chunk(2)[::-1])  # (2 n, width): the projection of the other view
        losses = -functional.cosine_similarity(predicted, other)  # (2 n,)
        return losses.reshape(-1, len(targets)).mean(0)  # (n,), or (2 n,) if each view has a target


class _Siamese(nn.Module):
    """Projector and predictor of SimSiam.

    Parameters
    ----------
    n_features : int
        Width of the features.
    width : int
        Width of the projection.
    """

    def __init__(self, n_features: int, width: int) -> None:
        super().__init__()
        narrow = max(1, width // 4)
        self.project = nn.Sequential(
            nn.Linear(n_features, width, bias=False),
            nn.BatchNorm1d(width),
            nn.ReLU(),
            nn.Linear(width, width, bias=False),
            nn.BatchNorm1d(width, affine=False),
        )
        self.predict = nn.Sequential(
            nn.Linear(width, narrow, bias=False), nn.BatchNorm1d(narrow), nn.ReLU(), nn.Linear(narrow, width)
        )

    def forward(self, features: Tensor) -> Tensor:
        """Return predictions and projections of features (n, n_features), side by side (n, 2 width)."""
        projected = self.project(features)  # (n, width)
        return torch.cat([self.predict(projected), projected], 1)  # (n, 2 width)


def random_views(values: Tensor, smallest: float, mirror: bool, generator: torch.Generator | None = None) -> Tensor:
    """Return a random part of each image, of another brightness, contrast and colour, at the size of the image.

    Parameters
    ----------
    values : Tensor of shape (n, channels, height, width)
        Images after preprocessing, of about unit variance.
    smallest : float
        Least share of the area.
    mirror : bool
        Whether half of the views are mirrored.
    generator : torch.Generator, default=None
        Generator of the changes. None for the global one of torch.

    Returns
    -------
    views : Tensor of shape (n, channels, height, width)
    """
    n, device = len(values), values.device

    def draw(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(n, 1, 1, 1, device=device, generator=generator)  # (n, 1, 1, 1)

    side = draw(smallest, 1).sqrt()
    ratio = draw(-0.28, 0.28).exp()  # of width to height, up to 4 : 3
    width, height = (side * ratio.sqrt()).clamp(max=1), (side / ratio.sqrt()).clamp(max=1)
    centre_x, centre_y = (1 - width) * draw(-1, 1), (1 - height) * draw(-1, 1)
    if mirror:
        width = width * draw(-1, 1).sign()
    zero = torch.zeros_like(width)
    rows = [torch.cat(one, 3) for one in ((width, zero, centre_x), (zero, height, centre_y))]  # (n, 1, 1, 3) each
    affine = torch.cat(rows, 2).squeeze(1)  # (n, 2, 3)
    grid = functional.affine_grid(affine, list(values.shape), align_corners=False)  # (n, height, width, 2)
    views = functional.grid_sample(values, grid, padding_mode="reflection", align_corners=False)
    mean = views.mean((1, 2, 3), keepdim=True)  # (n, 1, 1, 1)
    views = (views - mean) * draw(1 - _STRENGTH, 1 + _STRENGTH) + mean + draw(-_STRENGTH, _STRENGTH)
    grey = views.mean(1, keepdim=True)  # (n, 1, height, width)
    return torch.where(draw(0, 1) < _GREY, grey, views)  # (n, channels, height, width)
