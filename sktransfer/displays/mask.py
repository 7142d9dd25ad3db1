"""Images with masks over them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np

from sktransfer._validation import check_float, check_int
from sktransfer.displays.axes import COLOURS, resolve_axes
from sktransfer.exceptions import InvalidParameterError
from sktransfer.pixels.masks import check_masks, check_sizes
from sktransfer.samples.labels import row_labels

__all__ = ["MaskDisplay"]

_GAP = 0.06  # between pictures, in units of their side
_TITLE = 0.16  # height of a title in these units
_UNKNOWN = -1


class MaskDisplay:
    """Images with masks over them: one column per image, and one row for each kind of mask.

    Each class has a colour. Unknown pixels (-1) show the image.

    Parameters
    ----------
    images : sequence of n_samples ndarray of shape (height, width, 3) or (height, width)
        Images in [0, 1].
    masks : mapping of str to sequence of n_samples ndarray of shape (height, width)
        Masks of ints by the name of their row, such as "mask" and "prediction".
    classes : array-like of shape (n_classes,), default=None
        Classes in the order of the colours. None for those of the masks.

    Raises
    ------
    ValueError
        If masks are not in a mapping, or a mask does not fit its image.

    Attributes
    ----------
    ax_ : Axes
        Axes of the plot.
    figure_ : Figure
        Figure of the axes.

    See Also
    --------
    FineTuneSegmenter : Predicts masks.

    Examples
    --------
    >>> import numpy as np
    >>> from sktransfer import MaskDisplay
    >>> images, mask = np.zeros((2, 8, 8, 3)), np.eye(8, dtype=int)
    >>> display = MaskDisplay(images, {"mask": [mask, 1 - mask]}).plot()
    >>> len(display.ax_.images), display.classes.tolist()  # two images, and each again with its mask
    (6, [0, 1])
    """

    def __init__(self, images: Any, masks: Any, classes: Any = None) -> None:
        if not isinstance(masks, Mapping) or not masks:
            raise ValueError(
                f"masks is {'empty' if isinstance(masks, Mapping) else f'a {type(masks).__name__}'}, and must be a "
                "dict of masks by the name of their row, such as {'mask': masks}"
            )
        self.images = [_colour_image(np.asarray(image, dtype=float)) for image in images]
        self.masks = {name: [np.asarray(mask) for mask in some] for name, some in masks.items()}
        for name, some in self.masks.items():
            check_sizes(some, [image.shape[:2] for image in self.images], name=f"masks[{name!r}]")
        found = [np.unique(mask) for some in self.masks.values() for mask in some]
        known = np.setdiff1d(np.concatenate(found), [_UNKNOWN]) if classes is None else np.asarray(classes)
        self.classes: np.ndarray = known  # (n_classes,)

    @classmethod
    def from_estimator(
        cls, estimator: Any, X: Any, y: Any = None, *, opacity: float = 0.5, n_columns: int = 6, ax: Any = None
    ) -> Self:
        """Draw predicted masks over images, below the given masks if there are any.

        Parameters
        ----------
        estimator : FineTuneSegmenter
            Fitted estimator.
        X : array-like, Series, one-column DataFrame or list of n_samples
            Images.
        y : array-like of shape (n_samples, height, width), or sequence of n_samples, default=None
            Masks, as in `fit`. Their unknown pixels are transparent.
        opacity : float, default=0.5
            Opacity of the masks, greater than 0 and at most 1.
        n_columns : int, default=6
            Largest number of images that are drawn, the first ones of X.
        ax : Axes, default=None
            Axes to draw on. None creates a figure.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        InvalidParameterError
            If a parameter is not allowed.
        ValueError
            If a mask does not fit its image.
        """
        from sktransfer.samples.images import check_images

        predicted = list(estimator.predict(X))
        if any(np.ndim(one) != 2 for one in predicted):
            raise InvalidParameterError(f"{type(estimator).__name__} predicts no masks; pass a FineTuneSegmenter")
        given = {} if y is None else {"mask": check_masks(y)}
        for some in given.values():
            check_sizes(some, [one.shape for one in predicted], row_labels(X))
        samples = check_images(X, image_shape=estimator.image_shape)
        images = [_values(samples.load(row)) for row in range(min(len(samples), n_columns))]
        masks = {name: some[: len(images)] for name, some in {**given, "prediction": predicted}.items()}
        display = cls(images, masks, estimator.classes_)
        return display.plot(ax=ax, opacity=opacity, n_columns=n_columns)

    def plot(self, ax: Any = None, *, opacity: float = 0.5, n_columns: int = 6) -> Self:
        """Draw the plot.

        Parameters
        ----------
        ax : Axes, default=None
            Axes to draw on. None creates a figure.
        opacity : float, default=0.5
            Opacity of the masks, greater than 0 and at most 1.
        n_columns : int, default=6
            Largest number of images that are drawn, the first ones.
        """
        opacity = check_float("opacity", opacity, 0.0, 1.0, exclude_minimum=True)
        n = min(check_int("n_columns", n_columns, minimum=1), len(self.images))
        ratio = max(image.shape[0] / image.shape[1] for image in self.images[:n])  # of the highest image, in widths
        rows: dict[str, Sequence[np.ndarray] | None] = {"image": None, **self.masks}
        height = ratio + _TITLE
        size = 1.8 if n > 2 else 2.6  # inches per image
        self.ax_ = resolve_axes(ax, (size * n * (1 + _GAP), size * len(rows) * height + 0.5))
        from matplotlib.patches import Patch  # after the message of `resolve_axes`, if matplotlib is not installed

        self.figure_ = self.ax_.figure
        for place, (name, masks) in enumerate(rows.items()):
            top = -place * height - _TITLE
            self.ax_.text(0, top + _TITLE / 4, name, fontsize=9)
            for column, image in enumerate(self.images[:n]):
                left, bottom = column * (1 + _GAP), top - image.shape[0] / image.shape[1]
                pixels = [image] if masks is None else [image, self._colours(masks[column], opacity)]
                for one in pixels:
                    self.ax_.imshow(one, extent=(left, left + 1, bottom, top), interpolation="nearest")
        self.ax_.set_xlim(-_GAP, n * (1 + _GAP))
        self.ax_.set_ylim(-len(rows) * height - _GAP, 0)
        self.ax_.set_aspect("equal")
        self.ax_.axis("off")
        legend = [Patch(color=_colour(index), label=str(label)) for index, label in enumerate(self.classes.tolist())]
        self.ax_.legend(handles=legend, loc="upper center", bbox_to_anchor=(0.5, 0), ncols=8, frameon=False, fontsize=8)
        return self

    def _colours(self, mask: np.ndarray, opacity: float) -> np.ndarray:
        """Return a mask as colours with opacities (height, width, 4)."""
        from matplotlib.colors import to_rgb

        colours = np.zeros((*mask.shape, 4))  # (height, width, 4)
        for index, label in enumerate(self.classes.tolist()):
            colours[mask == label] = (*to_rgb(_colour(index)), opacity)
        return colours


def _colour(index: int) -> str:
    return COLOURS[index % len(COLOURS)]


def _colour_image(image: np.ndarray) -> np.ndarray:
    return np.stack([image] * 3, -1) if image.ndim == 2 else image  # (height, width, 3)


def _values(image: Any) -> np.ndarray:
    """Return a validated image (height, width, 3) in [0, 1]."""
    pixels = np.asarray(image)
    return pixels / 255 if pixels.dtype == np.uint8 else np.clip(pixels, 0, 1)
