"""Fine-tuning for segmentation: a class per pixel."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, Self

import numpy as np
import torch
from sklearn.callback import with_callbacks
from sklearn.utils.validation import check_is_fitted

from sktransfer._parameters import Parameter, with_parameters
from sktransfer._utils import all_or_nothing
from sktransfer._validation import check_float, check_int
from sktransfer.backbones.backbone import Backbone
from sktransfer.cache.resolve import resolve_store
from sktransfer.engine.compute import Compute, check_finite_outputs, resolve_compute
from sktransfer.engine.forward import forward
from sktransfer.engine.inference import prepare_head
from sktransfer.engine.inputs import PreprocessedSamples
from sktransfer.engine.layers import is_auto
from sktransfer.exceptions import ValidationWarning, warn
from sktransfer.finetuning import parameters as shared
from sktransfer.finetuning.arguments import FitArguments, check_groups
from sktransfer.finetuning.single import TASK, SingleTaskTuner
from sktransfer.pixels.maps import read_at_own_size, to_pixels
from sktransfer.pixels.masks import UNKNOWN, check_masks, check_sizes, mean_iou, refuse_all_unknown, warn_of_255
from sktransfer.pixels.tiles import Grid, Tile, Tiles, image_sizes, tile_shape, tiles_of
from sktransfer.samples.arrays import CHANNELS
from sktransfer.samples.base import Samples
from sktransfer.samples.columns import is_frame
from sktransfer.samples.images import ImageSamples
from sktransfer.samples.labels import row_labels
from sktransfer.samples.validation import check_samples
from sktransfer.tasks.base import Task
from sktransfer.tasks.pixels import PixelClasses
from sktransfer.tasks.validation import check_weight
from sktransfer.training.network import join
from sktransfer.training.run import FitRun, PreviousFit

__all__ = ["FineTuneSegmenter"]

_MOST_PIXELS = 512 * 512  # of a tile, by default
_INPUT = {one.name: one for one in shared.INPUT if one.name not in ("max_length", "pooling")}


@with_parameters(
    _INPUT.values(),
    _INPUT["backbone"].replace(
        default="tiny/cnn",
        description="""A name or a loaded backbone of images, such as `seg.backbone_` of a fitted estimator.
        `list_backbones()` lists the names, and `"hf/<hub id or local folder>"` loads models of transformers.""",
    ),
    _INPUT["preprocess"].replace(
        description="""Preprocessing of images. "auto" takes the settings stored in the weights file, else those of the
        backbone. Images keep their size in any case, so `resize` and `crop` are refused. A dict changes single
        settings, such as `{"mean": ..., "std": ...}`, or `{"background": (0, 0, 0)}` for transparent pixels.""",
    ),
    Parameter(
        "layer",
        ("block1", "block2", "block3", "block4"),
        "int, str or list of these",
        """Stages whose maps the head reads: an index (-1 is the last stage), a name, a list or "all". Maps of several
        stages are brought to the finest of their grids and concatenated. Stages above the highest of them are dropped.
        The defaults are stages of `tiny/cnn`. Name those of another backbone. "auto" weighs all stages by how well they
        predict the classes of up to 10,000 known pixels (`layer_`). It takes them for independent samples, and pixels
        of an image are not, so compare it with named stages.
        "mix" adds all stages up by learned weights (`layer_weights_`) [2]_, if their maps are of equal width.""",
    ),
    Parameter(
        "freeze_depth",
        "all",
        "int, float or str",
        """Number of frozen stages, counted from the input. "all" freezes all of them, so that the head alone is fitted.
        An int is a Python slice, `stages[:freeze_depth]`: 0 trains all stages, -1 the last one. A float f in [0, 1]
        freezes floor(f * n). A name freezes up to and with that stage. "auto" trains as -1 does, but only if this
        lowers the loss of a fifth of the tiles, held back in a trial (`freeze_depth_`, `report_`).""",
    ),
    Parameter(
        "max_pixels",
        "auto",
        'int or "auto"',
        """Largest number of pixels that the network reads at once. Larger images are divided into tiles that overlap.
        "auto" is 512 * 512.""",
    ),
    shared.HEAD,
    shared.HEAD[1].replace(
        description="""Initialization of a new head: "probe" fits a logistic regression to the pretrained features [1]_
        of up to 10,000 known pixels, as many of each class as there are. "class_means" predicts the nearest class mean,
        "random" draws the weights.""",
    ),
    Parameter(
        "C",
        1.0,
        "float",
        """Inverse strength of the penalty of the probe, as that of `LogisticRegression`. With `layer="auto"`, a factor
        of the strength that is chosen with the layers (`strength_`).""",
    ),
    shared.TRAINING,
    shared.TRAINING[0].replace(
        default="auto",
        description="""Number of passes over the tiles. 0 keeps the initial head. "auto" is 0 if all stages are frozen
        and the head is a new probe. Otherwise it makes 10 passes, or fewer if they take more than 1,000 steps, but at
        least 3 (`n_iter_`).""",
    ),
    shared.TRAINING[1].replace(default=8, description="Tiles per step."),
    shared.HEAD_LR,
    shared.SCHEDULE,
    shared.UNFREEZING,
    shared.RECIPE,
    shared.CLASSIFICATION[0],
    shared.CLASSIFICATION[1].replace(
        type='dict or "balanced"',
        description='Weight of the pixels of each class, as in scikit-learn. "balanced" weighs rare classes more.',
    ),
    shared.CHANGES[0],
    shared.VALIDATION,
    shared.VALIDATION[1].replace(description="Share of the images in the validation split."),
    shared.END,
    shared.CALLBACKS_WITHOUT_SCORES,
)
class FineTuneSegmenter(SingleTaskTuner):
    """Give each pixel of an image a class, with a pretrained network that is frozen or fine-tuned.

    A few scribbles are enough: pixels of a mask that are -1 are unknown, and nothing is learned from them. By default,
    the network is frozen, and a logistic regression reads the maps of some of its stages at each pixel.

    Parameters
    ----------
    {parameters}

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Classes of the known pixels, sorted.
    backbone_ : Backbone
        Fine-tuned backbone, which reads images at their own size.
    head_ : Head
        Fitted head, to continue from.
    net_ : skorch.NeuralNet
        Trained net, with its `history`. `net_.module_.heads["y"]` is the head as a module of torch.
    freeze_depth_ : int
        Number of frozen stages.
    history_ : DataFrame
        One row per epoch: losses, highest learning rate at its end, seconds, and what callbacks record.
    layer_ : Series
        Only if `layer="auto"`: weight of each layer, by stage, summing to one.
    strength_ : float
        Only if `layer="auto"`: C of a logistic regression on features of total variance 1, as found by leave-one-out
        errors.
    layer_weights_ : Series
        Weight of each stage if `layer="mix"`, summing to one.
    lr_ : float
        Learning rate that `lr` stood for.
    n_iter_ : int
        Number of epochs.
    report_ : str
        The choice of layers if `layer="auto"`, and if `freeze_depth="auto"` why stages are trained or frozen.
    stages_ : DataFrame
        One row per stage: whether it was trained, its rate, and its number of trained parameters.
    n_features_in_ : int
        Number of columns of X, if it has columns.

    See Also
    --------
    FineTuneClassifier : A class per image.
    MaskDisplay : Masks over images.

    Notes
    -----
    Images are neither resized nor cropped, and each mask is predicted at the size of its image. A network for images of
    one size, such as most vision transformers, reads tiles of that size.

    An image with more than `max_pixels` pixels is divided into tiles that overlap by at least 64 pixels. Each pixel is
    predicted by the tile whose border is farthest from it. The result is that of the whole image for pixels whose
    receptive field lies in their tile. The stages of `tiny/cnn` up to "block4" read 22 pixels to each side, so it
    holds for all pixels there. Networks with a wider receptive field read less context near the border of a tile.

    Outputs of the head are interpolated to pixels, and the loss is the mean cross entropy over the known pixels, each
    weighted by the weight of its image. Masks are never resized.

    Objects are not detected or counted. For boxes, use the detection models of torchvision.

    References
    ----------
    .. [1] A. Kumar et al., "Fine-Tuning can Distort Pretrained Features and Underperform Out-of-Distribution",
       ICLR 2022.
    .. [2] M. Peters et al., "Deep Contextualized Word Representations", NAACL 2018.
    .. [3] J. Howard, S. Ruder, "Universal Language Model Fine-tuning for Text Classification", ACL 2018.
    .. [4] X. Li et al., "Explicit Inductive Bias for Transfer Learning with Convolutional Networks", ICML 2018.
    .. [5] B. Hariharan et al., "Hypercolumns for Object Segmentation and Fine-grained Localization", CVPR 2015.

    Examples
    --------
    >>> import numpy as np
    >>> from sktransfer import FineTuneSegmenter
    >>> rng = np.random.default_rng(0)
    >>> images, masks = rng.random((5, 40, 48)) / 2, np.zeros((5, 40, 48), int)
    >>> images[:, 10:30, 20:40] += 0.5  # a bright square on noise
    >>> masks[:, 10:30, 20:40] = 1
    >>> scribbles = np.where(rng.random(masks.shape) < 0.1, masks, -1)  # a tenth of the pixels is known
    >>> segmenter = FineTuneSegmenter(random_state=0).fit(images[:4], scribbles[:4])
    >>> segmenter.predict(images[4:]).shape, segmenter.score(images[4:], masks[4:]) > 0.9
    ((1, 40, 48), True)
    """

    _target = "it holds one mask per image"
    _grid: tuple[Any, ...]  # fields of `Grid`

    C: float
    class_weight: Any
    classes_: np.ndarray
    head_init: str
    label_smoothing: float
    max_pixels: Any
    # Flips and shifts would change images and not their masks. Maps are not pooled.
    augment = max_length = None
    pooling = "auto"

    # As in scikit-learn's splitters: groups that a search gets for its folds need no request.
    __metadata_request__fit: ClassVar[dict[str, bool]] = {"groups": True}

    @all_or_nothing
    @with_callbacks  # type: ignore[untyped-decorator]
    def fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        groups: Any = None,
        *,
        X_val: Any = None,
        y_val: Any = None,
        sample_weight_val: Any = None,
    ) -> Self:
        """Fit the head to the known pixels, and train the stages above the freezing boundary.

        Parameters
        ----------
        X : array-like, Series, one-column DataFrame or list of n_samples
            Images, of any sizes.
        y : array-like of shape (n_samples, height, width), or sequence of n_samples
            Masks of the sizes of their images: arrays of ints, or paths of grey or palette images. -1 is an unknown
            pixel.
        sample_weight : array-like of shape (n_samples,), default=None
            Weight of each image. Only ratios of weights matter. Images with zero weight are dropped.
        groups : array-like of shape (n_samples,), default=None
            Group of each image. The validation split of `early_stopping` does not separate groups. With metadata
            routing, `groups` of a search are also passed here, unless `set_fit_request(groups=False)` is called.
        X_val : array-like, Series, one-column DataFrame or list of n_val, default=None
            Validation images. `history_` has their loss, and `early_stopping` uses them instead of a split of X.
        y_val : array-like or sequence of n_val, default=None
            Masks of the validation images.
        sample_weight_val : array-like of shape (n_val,), default=None
            Weight of each validation image.

        Returns
        -------
        self : object
            Fitted estimator.

        Raises
        ------
        InvalidParameterError
            If a parameter is not allowed.
        InvalidSampleError
            If a sample cannot be used.
        NotFiniteError
            If the training diverges: a loss or a weight is infinite or NaN.
        ValueError
            If a mask does not fit its image, or fewer than two classes are known.

        Warns
        -----
        ConvergenceWarning
            If the training loss is far higher at the end than at the start.
        TargetWarning
            If 255 seems to mark unknown pixels.
        """
        check_float("C", self.C, exclude_minimum=True)
        self._tile_pixels()
        validation = {"X_val": X_val, "y_val": y_val, "sample_weight_val": sample_weight_val}
        return self._fit(FitArguments(X, y, sample_weight, groups, **validation))

    def predict(self, X: Any) -> Any:
        """Return the most probable class of each pixel.

        Parameters
        ----------
        X : array-like, Series, one-column DataFrame or list of n_samples
            Images, of any sizes.

        Returns
        -------
        masks : list of ndarray of shape (height, width)
            Masks of the sizes of the images. One array (n_samples, height, width) if X is one array.

        Raises
        ------
        InvalidSampleError
            If a sample cannot be used.
        NotFiniteError
            If an output of the network is infinite or NaN.
        """
        task = self._pixels
        return _as_given(X, self._of_images(X, lambda outputs: task.decode(outputs[None])[0]))

    def predict_proba(self, X: Any) -> Any:
        """Return the probability of each class at each pixel, in the order of `classes_`.

        Parameters
        ----------
        X : array-like, Series, one-column DataFrame or list of n_samples
            Images, of any sizes.

        Returns
        -------
        probabilities : list of ndarray of shape (height, width, n_classes), float32
            Probabilities. One array (n_samples, height, width, n_classes) if X is one array.

        Raises
        ------
        InvalidSampleError
            If a sample cannot be used.
        NotFiniteError
            If an output of the network is infinite or NaN.
        """
        task = self._pixels
        return _as_given(X, self._of_images(X, lambda outputs: task.decode_proba(outputs[None])[0]))

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return the mean intersection over union of the classes, over the known pixels of all images.

        Classes that neither the masks nor the predictions have are left out.

        Parameters
        ----------
        X : array-like, Series, one-column DataFrame or list of n_samples
            Images, of any sizes.
        y : array-like of shape (n_samples, height, width), or sequence of n_samples
            Masks, as in `fit`.
        sample_weight : array-like of shape (n_samples,), default=None
            Weight of each image.

        Raises
        ------
        InvalidSampleError
            If a sample cannot be used.
        ValueError
            If a mask does not fit its image, or no pixel is known.

        Warns
        -----
        ValidationWarning
            If masks hold classes that the training did not have, which are never predicted.
        """
        masks, predicted = check_masks(y), list(self.predict(X))
        check_sizes(masks, [one.shape for one in predicted], row_labels(X))
        new = sorted(
            {value for mask in masks for value in np.unique(mask).tolist()} - {UNKNOWN, *self.classes_.tolist()}
        )
        if new:
            warn(
                f"masks hold classes that the training did not have, {new}: their intersection over union is 0. The "
                f"classes of the training are {self.classes_.tolist()}",
                ValidationWarning,
            )
        return mean_iou(masks, predicted, check_weight(sample_weight, len(masks)))

    @property
    def _pixels(self) -> PixelClasses:
        check_is_fitted(self)
        task = self._task
        assert isinstance(task, PixelClasses)
        return task

    def _tile_pixels(self) -> int:
        """Return the largest number of pixels of a tile."""
        return _MOST_PIXELS if is_auto(self.max_pixels) else check_int("max_pixels", self.max_pixels, 1, ", or 'auto'")

    def _load_backbone(self, seed: int, previous: PreviousFit | None, X: Any) -> Backbone:
        backbone, grid = read_at_own_size(super()._load_backbone(seed, previous, X), self.preprocess, self.layer)
        self._grid = dataclasses.astuple(grid)
        return backbone

    def _images(self, X: Any, backbone: Backbone, *, reset: bool) -> ImageSamples:
        if isinstance(X, np.ndarray) and X.ndim == 3 and X.shape[2] not in CHANNELS:
            X = X[..., None]  # three grey images are no colour image here: masks tell how many there are
        is_table = getattr(X, "ndim", 0) == 2 and not is_frame(X) and X.shape[1] > 1
        if is_table and not reset and self.image_shape is None and not hasattr(self, "n_features_in_"):
            raise ValueError(
                f"X is an array of shape {tuple(X.shape)}, and the training had images, not flat rows of pixels: pass "
                "X[None] for one grey image, or set image_shape for flat rows"
            )
        images: Any = check_samples(self, X, "image", image_shape=self.image_shape, reset=reset)
        return images.with_background(backbone.preprocess.background)  # type: ignore[attr-defined, no-any-return]

    def _read_rows(self, arguments: FitArguments, backbone: Backbone, *, reset: bool) -> tuple[Samples, FitArguments]:
        """Return tiles of one shape as samples, and their masks, weights and groups."""
        images = self._images(arguments.X, backbone, reset=reset)
        masks, sizes, grid = check_masks(arguments.y), image_sizes(images), Grid(*self._grid)
        check_sizes(masks, sizes, images.labels)
        refuse_all_unknown(masks)
        if reset:
            warn_of_255(masks)
        weight = check_weight(arguments.sample_weight, len(images))  # (n_images,)
        given = check_groups(arguments.groups, len(images))
        groups = np.arange(len(images)) if given is None else given  # tiles of an image are never separated
        shape = tile_shape(tuple(map(max, zip(*sizes))), grid, self._tile_pixels())
        tiles = [tile for row, size in enumerate(sizes) for tile in tiles_of(row, size, shape, grid)]
        samples, of_tile = Tiles(images, tiles), np.array([tile.image for tile in tiles])  # (n_tiles,)
        by_tile = {"y": samples.cut(masks), "sample_weight": weight[of_tile], "groups": groups[of_tile]}
        return samples, dataclasses.replace(arguments, **by_tile)

    def _run(self, *arguments: Any) -> FitRun:
        run = super()._run(*arguments)
        is_frozen = run.trunk.boundary == len(run.trunk.backbone.stages)
        starts_anew = run.previous is None and run.settings.head is None and run.settings.head_init != "random"
        if not (run.settings.finds_epochs and is_frozen and starts_anew):
            return run
        return dataclasses.replace(run, settings=dataclasses.replace(run.settings, finds_epochs=False, max_epochs=0))

    def _make_task(self, y: Any, classes: np.ndarray | None) -> Task:
        return PixelClasses(self.class_weight, self.label_smoothing, float(self.C), self._seed)

    def _encode(self, *arguments: Any) -> Any:
        encoded = super()._encode(*arguments)
        self._store_classes()
        return encoded

    def _store_classes(self) -> None:
        assert self._task.classes is not None
        self.classes_ = self._task.classes

    def _of_images(self, X: Any, finish: Callable[[np.ndarray], np.ndarray]) -> list[np.ndarray]:
        """Return a function of the outputs (n_classes, height, width) of each image."""
        images = self._images(X, self.backbone_, reset=False)
        grid, compute = Grid(*self._grid), resolve_compute(self.device, self.precision)
        sizes = image_sizes(images)
        shapes = [tile_shape(size, grid, self._tile_pixels()) for size in sizes]
        tiles = [tile for row, size in enumerate(sizes) for tile in tiles_of(row, size, shapes[row], grid)]
        n_left, whole = Counter(tile.image for tile in tiles), {}
        finished: dict[int, np.ndarray] = {}
        is_finite = np.ones((len(images), 1))  # NaN for an image whose outputs are not
        for tile, outputs in self._of_tiles(Tiles(images, tiles), compute):
            row = tile.image
            if row not in whole:
                whole[row] = np.empty((len(outputs), *sizes[row]), np.float32)  # (n_classes, height, width)
            whole[row][:, *tile.in_image()] = outputs[:, *tile.in_tile()]
            n_left[row] -= 1
            if not n_left[row]:
                complete = whole.pop(row)
                is_finite[row] = 1.0 if np.isfinite(complete).all() else np.nan
                finished[row] = finish(complete)
        check_finite_outputs(is_finite, compute)
        return [finished[row] for row in range(len(images))]

    @torch.no_grad()
    def _of_tiles(self, tiles: Tiles, compute: Compute) -> Iterator[tuple[Tile, np.ndarray]]:
        """Yield each tile with the outputs of the head at its pixels (n_classes, height, width)."""
        inputs = PreprocessedSamples(tiles, self.backbone_.preprocess)
        head, store = prepare_head(self.net_.module_.heads[TASK]), resolve_store(self.cache)
        by_shape: dict[tuple[int, int], list[int]] = {}  # tiles of a batch have one shape
        for row, tile in enumerate(tiles.tiles):
            by_shape.setdefault(tile.shape, []).append(row)
        options: dict[str, Any] = {"compute": compute, "store": store, "cacheable_stages": self.freeze_depth_}
        for shape, of_shape in by_shape.items():
            for rows, values in forward(self.backbone_, inputs, self._layers["maps"], rows=of_shape, **options):
                stacked = [torch.stack(list(one)).float() for one in values]  # (n, channels, height, width) each
                maps = join("maps", stacked, self.backbone_.prefix_tokens)
                for row, outputs in zip(rows, to_pixels(head(maps), shape).numpy()):
                    yield tiles.tiles[row], outputs
        inputs.warn_of_unread()


def _as_given(X: Any, results: list[np.ndarray]) -> Any:
    """Return the results of images as one array if the images are one, else as a list."""
    is_array = len(getattr(X, "shape", ())) > 1 and not is_frame(X) and X.dtype != object
    return np.stack(results) if is_array else results  # (n_samples, height, width, ...)
