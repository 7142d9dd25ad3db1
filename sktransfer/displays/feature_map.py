"""Scatter plot of features in two dimensions, with some of the samples."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from PIL import Image
from sklearn.base import BaseEstimator, clone
from sklearn.decomposition import PCA

from sktransfer.displays.axes import COLOURS, MARKERS, resolve_axes, style_axes
from sktransfer.exceptions import InvalidParameterError
from sktransfer.samples.validation import check_samples
from sktransfer.towers.joined import refuse_joined

__all__ = ["FeatureMapDisplay"]

_THUMBNAIL = 34  # longer side in pixels, each drawn as one point
_TEXT_LENGTH = 28  # characters of a text that are shown
_LETTER = (3.8, 12.8)  # width of a letter, and height of a framed line, in points


class FeatureMapDisplay:
    """Scatter plot of samples by their features, coloured by class, with thumbnails or texts of some samples.

    Parameters
    ----------
    places : ndarray of shape (n_samples, 2)
        Coordinates of the samples.
    y : array-like of shape (n_samples,), default=None
        Labels. With more than eight classes, all but the seven largest share one colour.
    shown : dict of int to (PIL image or str), default=None
        Thumbnails or texts by row.
    axis_names : (str, str), default=("", "")
        Labels of the axes.

    Attributes
    ----------
    ax_ : Axes
        Axes of the plot.
    figure_ : Figure
        Figure of the axes.

    Examples
    --------
    >>> import numpy as np
    >>> from sktransfer.displays.feature_map import FeatureMapDisplay
    >>> display = FeatureMapDisplay(np.eye(2), ["a", "b"], {0: "a text"}).plot()
    >>> len(display.ax_.texts)
    1
    """

    def __init__(
        self, places: Any, y: Any = None, shown: dict[int, Any] | None = None, axis_names: tuple[str, str] = ("", "")
    ) -> None:
        self.places = np.asarray(places, dtype=float)
        self.y = None if y is None else np.asarray(y)
        self.shown, self.axis_names = dict(shown or {}), axis_names

    @classmethod
    def from_estimator(
        cls, estimator: Any, X: Any, y: Any = None, *, reducer: Any = None, n_shown: int = 16, ax: Any = None
    ) -> Self:
        """Draw the features of samples.

        Parameters
        ----------
        estimator : ImageFeaturizer or TextFeaturizer
            Featurizer. A clone is fitted, unless it is wrapped in `FrozenEstimator`.
        X : array-like, Series, one-column DataFrame or list of n_samples
            Images or texts.
        y : array-like of shape (n_samples,), default=None
            Labels.
        reducer : transformer, default=None
            Reduces features to two dimensions, such as `umap.UMAP()`. None is the first two principal components.
        n_shown : int, default=16
            Maximum number of samples shown. They are far from each other and do not overlap.
        ax : Axes, default=None
            Axes to draw on. None creates a figure.

        Raises
        ------
        InvalidParameterError
            If the reducer does not return two dimensions.
        """
        if not hasattr(estimator, "fit_transform"):
            raise InvalidParameterError(
                f"{type(estimator).__name__} gives no features; pass an ImageFeaturizer or TextFeaturizer"
            )
        fitted = clone(estimator)
        features = np.asarray(fitted.fit_transform(X))
        refuse_joined(fitted.backbone_, cls.__name__, "draw the featurizer of one column")
        if len(features) < 2:
            raise InvalidParameterError(f"X has {len(features)} sample; a map needs two or more")
        reducer = PCA(2, random_state=0) if reducer is None else clone(reducer)
        places = np.asarray(reducer.fit_transform(features))
        if places.ndim != 2 or places.shape[1] != 2:
            raise InvalidParameterError(f"reducer={reducer!r} gives {places.shape}; it must give (n_samples, 2)")
        names = ("", "")
        if isinstance(reducer, PCA):
            first, second = 100 * reducer.explained_variance_ratio_
            names = (f"first component ({first:.0f} % of variance)", f"second component ({second:.0f} %)")
        modality = fitted.backbone_.modality
        shape = getattr(estimator, "image_shape", None)
        samples = check_samples(BaseEstimator(), X, modality, image_shape=shape, reset=True)
        shown = {row: _make_thumbnail(samples.load(row)) for row in _farthest_points(places, n_shown)}
        return cls(places, y, shown, names).plot(ax=ax)

    def plot(self, ax: Any = None) -> Self:
        """Draw the plot.

        Parameters
        ----------
        ax : Axes, default=None
            Axes to draw on. None creates a figure.
        """
        self.ax_ = resolve_axes(ax, (7.0, 5.5))
        self.figure_ = self.ax_.figure
        colours = self._draw_points()
        for row in self._select_without_overlap():
            self._draw_sample(row, self.shown[row], colours[row])
        self.ax_.margins(0.12)
        self.ax_.set_xlabel(self.axis_names[0])
        self.ax_.set_ylabel(self.axis_names[1])
        self.ax_.set_xticks([])
        self.ax_.set_yticks([])
        style_axes(self.ax_)
        return self

    def _draw_points(self) -> list[str]:
        """Draw the points with one colour and marker per class, and return the colour of each row."""
        n = len(self.places)
        if self.y is None:
            self.ax_.scatter(*self.places.T, s=18, color=COLOURS[0])
            return [COLOURS[0]] * n
        y = self.y
        try:
            classes, counts = np.unique(y, return_counts=True)
        except TypeError:  # labels of several types, None among them, have no order
            y = y.astype(str)
            classes, counts = np.unique(y, return_counts=True)
        kept = classes if len(classes) <= 8 else np.sort(classes[np.argsort(-counts, kind="stable")[:7]])
        colours = [COLOURS[7]] * n
        for k, label in enumerate(kept):
            rows = np.flatnonzero(y == label)
            colour, name = COLOURS[k], str(label)
            name = f" {name}" if name.startswith("_") else name  # matplotlib hides labels that begin with "_"
            self.ax_.scatter(*self.places[rows].T, s=22, color=colour, marker=MARKERS[k], label=name, alpha=0.8)
            for row in rows:
                colours[row] = colour
        rest = ~np.isin(y, kept)
        if rest.any():
            others = f"{len(classes) - len(kept)} others"
            self.ax_.scatter(*self.places[rest].T, s=22, color=COLOURS[7], marker=MARKERS[7], label=others, alpha=0.8)
        self.ax_.legend(frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
        return colours

    def _select_without_overlap(self) -> list[int]:
        """Return the rows whose samples are drawn, the first of those that would overlap."""
        span = np.where(np.ptp(self.places, axis=0) > 0, np.ptp(self.places, axis=0), 1) * 1.24  # with margins
        box = self.ax_.get_window_extent()
        points = np.array([box.width, box.height]) * 72 / self.figure_.dpi
        kept: list[int] = []
        taken: list[tuple[float, float, float, float]] = []  # left, right, bottom, top, in points
        for row, sample in self.shown.items():
            (x, y), (width, height) = self.places[row] / span * points, _size(sample)
            left = x - width / 2
            if isinstance(sample, str):
                left = x if self._is_right_of_point(row) else x - width
            bottom = y - height / 2
            if any(left < b and a < left + width and bottom < d and c < bottom + height for a, b, c, d in taken):
                continue
            taken.append((left, left + width, bottom, bottom + height))
            kept.append(row)
        return kept

    def _is_right_of_point(self, row: int) -> bool:
        """Return whether a text is drawn right of its point. Texts point to the middle, so that none is cut off."""
        return bool(self.places[row, 0] < (self.places[:, 0].max() + self.places[:, 0].min()) / 2)

    def _draw_sample(self, row: int, sample: Any, colour: str) -> None:
        from matplotlib.offsetbox import AnnotationBbox, OffsetImage

        if isinstance(sample, str):
            side = 1 if self._is_right_of_point(row) else -1
            self.ax_.annotate(
                sample,
                self.places[row],
                xytext=(5 * side, 4),
                textcoords="offset points",
                ha="left" if side > 0 else "right",
                fontsize=7.5,
                color="black",
                bbox={"facecolor": "white", "edgecolor": colour, "linewidth": 0.6, "alpha": 0.8, "pad": 1.2},
            )
            return
        box = OffsetImage(np.asarray(sample), zoom=1.0)
        frame = {"edgecolor": colour, "linewidth": 1.6, "boxstyle": "square,pad=0.05"}
        self.ax_.add_artist(AnnotationBbox(box, self.places[row], pad=0.05, bboxprops=frame))


def _size(sample: Any) -> tuple[float, float]:
    """Return width and height of a drawn sample in points. Frames of thumbnails may touch and are not included."""
    if isinstance(sample, str):
        return len(sample) * _LETTER[0] + 8, _LETTER[1]
    width, height = sample.size
    return width, height


def _make_thumbnail(sample: Any) -> Any:
    """Return a thumbnail of an image, or the beginning of a text."""
    if isinstance(sample, str):
        text = " ".join(sample.split())
        return text if len(text) <= _TEXT_LENGTH else text[: _TEXT_LENGTH - 1].rstrip() + "…"
    if isinstance(sample, np.ndarray):
        sample = Image.fromarray(np.uint8(np.clip(sample, 0, 1) * 255))
    scale = _THUMBNAIL / max(sample.size)
    return sample.resize([max(1, round(side * scale)) for side in sample.size], Image.Resampling.BILINEAR)


def _farthest_points(places: np.ndarray, n: int) -> list[int]:
    """Return at most n rows by farthest-point sampling, the outermost first."""
    if n <= 0 or not len(places):
        return []
    spread = places.std(0)
    scaled = (places - places.mean(0)) / np.maximum(
        spread, max(1e-4 * spread.max(), 1e-12)
    )  # a direction of rounding noise is not stretched
    chosen = [int((scaled**2).sum(1).argmax())]
    distance = ((scaled - scaled[chosen[0]]) ** 2).sum(
        1
    )  # squared distance of each row to the nearest chosen row, (n_samples,)
    while len(chosen) < min(n, len(places)) and distance.max() > 1e-6:  # duplicates are shown once
        chosen.append(int(distance.argmax()))
        distance = np.minimum(distance, ((scaled - scaled[chosen[-1]]) ** 2).sum(1))
    return chosen
