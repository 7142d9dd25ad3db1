"""Images with the positions that speak for or against a class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np

from sktransfer._validation import check_int
from sktransfer.displays.axes import COLOURS, resolve_axes

__all__ = ["ClassMapDisplay"]

_GAP = 0.08  # between images, as a share of their side
_TITLE = 0.3  # height of a title, as a share of the side of an image
_OPACITY = 0.8  # of the strongest position
_FOR, _AGAINST = COLOURS[1], COLOURS[0]


class ClassMapDisplay:
    """Images as a network reads them, and below each, in grey, the positions that speak for or against a class.

    Each cell of a map is one position of the layer. Orange speaks for the class, and blue against it. The strongest
    position of each image has full colour.

    Parameters
    ----------
    maps : array-like of shape (n_samples, height, width)
        Evidence at each position.
    images : array-like of shape (n_samples, height, width, 3)
        Images in [0, 1].
    targets : sequence of n_samples, default=None
        Class that each map is about, or the index of one of several numbers, for the titles.
    layer : str, default=""
        Name of the stage or stages, for the title.
    is_exact : bool, default=False
        Whether a map adds up to the output of the network, up to a constant.
    is_class : bool, default=True
        True for maps of classes, and False for maps of predicted numbers.

    Attributes
    ----------
    ax_ : Axes
        Axes of the plot.
    figure_ : Figure
        Figure of the axes.

    See Also
    --------
    TokenAttributionDisplay : Words of texts.

    Notes
    -----
    A map shows what the output was computed from, not whether it is right. Compare it with the map of a network with
    random weights, `weights="random"`. If both are the same, the map shows edges, and nothing that was learned [1]_.

    References
    ----------
    .. [1] J. Adebayo et al., "Sanity Checks for Saliency Maps", NeurIPS 2018.

    Examples
    --------
    >>> import numpy as np
    >>> from sktransfer import ClassMapDisplay
    >>> display = ClassMapDisplay(np.eye(4)[None], np.zeros((1, 32, 32, 3)), ["left"]).plot()
    >>> len(display.ax_.images)  # the image, the image again, and the map over it
    3
    """

    def __init__(
        self,
        maps: Any,
        images: Any,
        targets: Sequence[Any] | None = None,
        layer: str = "",
        is_exact: bool = False,
        is_class: bool = True,
    ) -> None:
        self.maps, self.images = np.asarray(maps, dtype=float), np.asarray(images, dtype=float)
        self.targets = None if targets is None else list(targets)
        self.layer, self.is_exact, self.is_class = layer, is_exact, is_class

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        *,
        target: Any = None,
        layer: int | str | None = None,
        n_columns: int = 6,
        ax: Any = None,
    ) -> Self:
        """Draw where the evidence for a class lies.

        If a linear head reads averages of the maps of some layers, the output is a sum over positions, and the map
        holds the summands. This is the class activation map [2]_. Maps of several layers are added up on the finest
        grid, so that each counts as much as in the decision. Elsewhere the map is an approximation. It is the product
        of values and gradients, or Grad-CAM [3]_ for a given `layer` of maps.

        Parameters
        ----------
        estimator : estimator
            Fitted classifier or regressor of images that `as_module` takes.
        X : array-like, Series, one-column DataFrame or list of n_samples
            Images.
        target : label or array-like of n_samples, default=None
            Class of all images, or one per image. None for the predicted class.
        layer : int or str, default=None
            Stage whose positions are shown. None for all stages that the head reads, added up. A lower one has a
            finer grid.
        n_columns : int, default=6
            Images per row.
        ax : Axes, default=None
            Axes to draw on. None creates a figure.

        Raises
        ------
        ImportError
            If captum or matplotlib is not installed.
        InvalidParameterError
            If the estimator has no class to explain, or the layer has no positions.

        References
        ----------
        .. [2] B. Zhou et al., "Learning Deep Features for Discriminative Localization", CVPR 2016.
        .. [3] R. Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization",
           ICCV 2017.
        """
        from sktransfer.explain.attribution import class_maps

        found = class_maps(estimator, X, target=target, layer=layer)
        display = cls(found.maps, found.images, found.targets, found.layer, found.is_exact, found.is_class)
        return display.plot(ax=ax, n_columns=n_columns)

    def plot(self, ax: Any = None, *, n_columns: int = 6) -> Self:
        """Draw the plot.

        Parameters
        ----------
        ax : Axes, default=None
            Axes to draw on. None creates a figure.
        n_columns : int, default=6
            Images per row.
        """
        n_wide = min(check_int("n_columns", n_columns, minimum=1), len(self.images))
        n_high = -(-len(self.images) // n_wide)
        ratio = self.images.shape[1] / self.images.shape[2]  # height of an image, in widths
        step_x, step_y = 1 + _GAP, 2 * ratio + 2 * _GAP + _TITLE
        size = 1.5 if n_wide > 2 else 2.2  # inches per image
        self.ax_ = resolve_axes(ax, (size * step_x * n_wide, size * step_y * n_high + 0.4))
        self.figure_ = self.ax_.figure
        for row, image in enumerate(self.images):
            left, top = step_x * (row % n_wide), -step_y * (row // n_wide)
            places = [top - _TITLE - offset for offset in (0.0, ratio + _GAP)]
            grey = np.repeat(image.mean(2, keepdims=True), 3, axis=2)  # (height, width, 3): the map alone has colours
            for pixels, place in ((image, places[0]), (grey, places[1]), (self._overlay(row), places[1])):
                self.ax_.imshow(pixels, extent=(left, left + 1, place - ratio, place), interpolation="nearest")
            if self.targets is not None:
                self.ax_.text(left + 0.5, top - 0.75 * _TITLE, self._name(row), ha="center", fontsize=9)
        self.ax_.set_xlim(-_GAP, step_x * n_wide)
        self.ax_.set_ylim(_GAP - step_y * n_high, 0)
        self.ax_.set_aspect("equal")
        self.ax_.axis("off")
        self.ax_.set_title(self._title(), fontsize=9)
        return self

    def _title(self) -> str:
        height, width = self.maps.shape[1:]
        kind = ", adds up to the output" if self.is_exact else ""
        where = f"{self.layer}, {height}x{width}{kind}" if self.layer else f"{height}x{width}{kind}"
        colours = (
            "orange for the class, blue against it" if self.is_class else "orange raises the prediction, blue lowers it"
        )
        return f"{colours} ({where})"

    def _name(self, row: int) -> str:
        assert self.targets is not None
        return f"{self.targets[row]}" if self.is_class else f"prediction {self.targets[row]}"

    def _overlay(self, row: int) -> np.ndarray:
        """Return the map of an image as colours with opacities (height, width, 4)."""
        from matplotlib.colors import to_rgb

        evidence = self.maps[row]  # (height, width)
        strongest = np.abs(evidence).max()
        opacity = _OPACITY * np.abs(evidence) / (strongest if strongest > 0 else 1.0)  # (height, width)
        colour = np.where(evidence[..., None] > 0, to_rgb(_FOR), to_rgb(_AGAINST))  # (height, width, 3)
        return np.concatenate([colour, opacity[..., None]], axis=2)
