"""A classifier that needs no labelled samples: classes are described in words."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.preprocessing import normalize
from sklearn.utils import Tags, column_or_1d
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_consistent_length, check_is_fitted

from sktransfer._utils import all_or_nothing, progress
from sktransfer.backbones.backbone import Backbone
from sktransfer.backbones.loading import load_backbone
from sktransfer.backbones.registry import modality_of
from sktransfer.cache.resolve import resolve_store
from sktransfer.classifiers.cosine import SCALE, CosineClassifier, check_scale, mean_direction
from sktransfer.classifiers.descriptions import classes_of, texts_of
from sktransfer.classifiers.known_labels import check_known
from sktransfer.engine.compute import resolve_compute
from sktransfer.engine.forward import forward
from sktransfer.engine.inputs import PreprocessedSamples, concat_features
from sktransfer.engine.layers import resolve_layers
from sktransfer.exceptions import InvalidParameterError
from sktransfer.html import BackboneHTML
from sktransfer.samples.base import Samples
from sktransfer.samples.texts import check_texts
from sktransfer.samples.validation import check_samples, set_input_tags

if TYPE_CHECKING:
    import torch

    from sktransfer.backbones.preprocess import ImageTransform

__all__ = ["ZeroShotClassifier"]


class ZeroShotClassifier(BackboneHTML, CosineClassifier, BaseEstimator):
    """Give texts or images the class whose description is nearest, by the cosine of their features.

    Nothing is trained. Where `labels` says what the classes are, `predict` needs no `fit`; else `fit` learns from y
    what they are called, and from nothing else.

    Parameters
    ----------
    backbone : str or Backbone, default="tiny/bert"
        An encoder of sentences; or of images, where it shares a space with one of texts, as CLIP's do
        (`pip install sktransfer-clip`: `"clip/<hub id or local folder>"`). Its modality decides what X holds.
    labels : dict or list, default=None
        Class -> its description, or several, of which the mean is taken: `{"sports": "a text about sports"}`. A list
        names classes that describe themselves. None takes the classes that `fit` finds in y, likewise.
    template : str or list of str, default="{}"
        What each description is put into, at "{}": "a photo of a {}". Of several, the mean is taken.
    text_backbone : str or Backbone, default=None
        What descriptions go through; None for `backbone`, or for the encoder of texts that belongs to one of images.
    weights : {"pretrained", "random"} or path, default="pretrained"
        As in `TextFeaturizer`; of both encoders, where they are named.
    preprocess : "auto", ImageTransform or dict, default="auto"
        As in `ImageFeaturizer`.
    image_shape : tuple of int, default=None
        As in `ImageFeaturizer`.
    max_length : int, default=None
        As in `TextFeaturizer`, for the texts in X.
    pooling : str, default="auto"
        As in `TextFeaturizer` and `ImageFeaturizer`.
    scale : float or "auto", default="auto"
        What cosines are multiplied by before the softmax: the greater, the surer the probabilities; what is predicted
        does not depend on it. "auto" is what the network was trained with where it says so (CLIP), else 20.
    batch_size : int or "auto", default="auto"
        As in `TextFeaturizer` and `ImageFeaturizer`.
    device : str or torch.device, default="auto"
        Where the stages run: "auto" is a GPU where there is one.
    precision : {"float32", "bfloat16", "float16", "auto"}, default="float32"
        In which the stages compute.
    cache : "memory", path or None, default="memory"
        Keeps the features of samples and descriptions, as `TextFeaturizer` does.
    verbose : int, default=0
        1 shows a progress bar.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The classes, sorted. It is there before `fit` where `labels` is given.
    backbone_ : Backbone
        What samples go through, shared and never changed. It is there before `fit`.
    text_backbone_ : Backbone
        What descriptions go through. It is there before `fit`.
    n_features_in_ : int
        Number of columns, where `fit` has seen an X that has any.

    See Also
    --------
    NearestClassMean : The same by a few samples in place of descriptions.
    PretrainedClassifier : A network's own head, for the classes that it was trained on.

    Notes
    -----
    Features are of length 1 in any case, for the cosine is what is compared; so are the mean of several descriptions'
    features, and each of these before it is taken [1]_.

    References
    ----------
    .. [1] A. Radford et al., "Learning Transferable Visual Models From Natural Language Supervision", ICML 2021.

    Examples
    --------
    >>> from sktransfer import ZeroShotClassifier
    >>> labels = {"sports": "a football match and its goals", "food": "a meal to cook and eat"}
    >>> clf = ZeroShotClassifier("tiny/bert", labels)
    >>> clf.predict(["The team scored twice and won the cup.", "Fry the onions in butter."]).tolist()
    ['sports', 'food']
    """

    def __init__(
        self,
        backbone: str | Backbone = "tiny/bert",
        labels: Mapping[Any, str | Sequence[str]] | Sequence[Any] | None = None,
        *,
        template: str | Sequence[str] = "{}",
        text_backbone: str | Backbone | None = None,
        weights: str | os.PathLike[str] = "pretrained",
        preprocess: str | ImageTransform | Mapping[str, Any] = "auto",
        image_shape: tuple[int, ...] | None = None,
        max_length: int | None = None,
        pooling: str = "auto",
        scale: float | str = "auto",
        batch_size: int | str = "auto",
        device: str | torch.device = "auto",
        precision: str = "float32",
        cache: str | os.PathLike[str] | None = "memory",
        verbose: int = 0,
    ) -> None:
        self.backbone = backbone
        self.labels = labels
        self.template = template
        self.text_backbone = text_backbone
        self.weights = weights
        self.preprocess = preprocess
        self.image_shape = image_shape
        self.max_length = max_length
        self.pooling = pooling
        self.scale = scale
        self.batch_size = batch_size
        self.device = device
        self.precision = precision
        self.cache = cache
        self.verbose = verbose

    @property
    def backbone_(self) -> Backbone:
        """What samples go through: loading it again costs nothing, for there is one a process."""
        return load_backbone(
            self.backbone, weights=self.weights, preprocess=self.preprocess, max_length=self.max_length
        )

    @property
    def text_backbone_(self) -> Backbone:
        """What descriptions go through."""
        backbone = self.backbone_
        named = self.text_backbone
        if named is None and backbone.modality == "text":
            return backbone
        if named is None:
            if backbone.shared_space is None:
                raise InvalidParameterError(
                    f"{backbone.name} takes images, and knows of no encoder of texts in the same space; take one that "
                    "does ('clip/<hub id or local folder>', pip install sktransfer-clip), or name it: text_backbone="
                )
            named = backbone.shared_space.texts
        found = load_backbone(named, weights="pretrained" if isinstance(named, Backbone) else self.weights)
        if found.modality != "text":
            raise InvalidParameterError(f"text_backbone={named!r} takes {found.modality}s; descriptions are texts")
        return found

    @property
    def classes_(self) -> np.ndarray:
        """The classes, sorted."""
        return classes_of(self._known())

    def __sklearn_is_fitted__(self) -> bool:
        return self.labels is not None or hasattr(self, "_found")

    @all_or_nothing
    def fit(self, X: Any, y: Any = None) -> Self:
        """Check that samples can be used, and that labels are classes; nothing is trained.

        Parameters
        ----------
        X : array-like, Series, one-column DataFrame or list of n_samples
            Texts or images.
        y : array-like of shape (n_samples,), default=None
            Classes; not needed where `labels` is given.

        Returns
        -------
        self : object

        Raises
        ------
        InvalidParameterError
            If a label is no class, or a parameter is not allowed.
        InvalidSampleError
            If a sample cannot be used.
        ValueError
            If y does not fit X, or holds one class only where it has to say what the classes are.
        """
        backbone, samples = self.backbone_, self._check(X, reset=True)
        check_consistent_length(samples, y)
        if self.labels is None:
            self._found = self._learnt(y)
        elif y is not None:
            self._labels(y)
        self._scale(backbone)
        self._class_vectors(backbone)
        return self

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return the share of samples whose nearest description is that of their label.

        Parameters
        ----------
        X : array-like, Series, one-column DataFrame or list of n_samples
            Texts or images.
        y : array-like of shape (n_samples,)
            Classes.
        sample_weight : array-like of shape (n_samples,), default=None
            How much each sample counts.

        Raises
        ------
        InvalidParameterError
            If a label is no class.
        """
        return float(super().score(X, self._labels(y), sample_weight=sample_weight))

    def _scores(self, X: Any) -> np.ndarray:
        check_is_fitted(self)
        backbone = self.backbone_
        of_classes = self._class_vectors(backbone)  # (n_classes, n_features)
        vectors = self._vectors(backbone, self._check(X, reset=False), self.pooling, self.verbose)
        if vectors.shape[1] != of_classes.shape[1]:
            raise InvalidParameterError(
                f"{backbone.name} gives {vectors.shape[1]} numbers a sample, and {self.text_backbone_.name} "
                f"{of_classes.shape[1]} a description: these are not two encoders into one space"
            )
        scores: np.ndarray = self._scale(backbone) * (vectors @ of_classes.T)  # (n_samples, n_classes)
        return scores

    def _class_vectors(self, backbone: Backbone) -> np.ndarray:
        """Return the mean of what each class's descriptions give, of length 1: (n_classes, n_features)."""
        texts = texts_of(self._known(), self.template)
        encoder = self.text_backbone_
        pooling = self.pooling if backbone.modality == "text" else "auto"
        vectors = self._vectors(encoder, check_texts([text for of_class in texts for text in of_class]), pooling, 0)
        ends = np.cumsum([len(of_class) for of_class in texts])
        return np.stack([mean_direction(part) for part in np.split(vectors, ends[:-1])])  # (n_classes, n_features)

    def _vectors(self, backbone: Backbone, samples: Samples, pooling: str, verbose: int) -> np.ndarray:
        """Return the last stage's features of samples, of length 1: (n_samples, n_features)."""
        inputs = PreprocessedSamples(samples, backbone.preprocess)
        compute = resolve_compute(self.device, self.precision, self.batch_size)
        taps = resolve_layers(backbone, -1, pooling)
        found: dict[int, np.ndarray] = {}
        with progress(len(samples), type(self).__name__, backbone.modality, verbose) as bar:
            for rows, outputs in forward(backbone, inputs, taps, compute=compute, store=resolve_store(self.cache)):
                found.update(zip(rows, concat_features(outputs).numpy()))
                bar.update(len(rows))
        inputs.warn_of_truncated()
        vectors = np.stack([found[row] for row in range(len(samples))])  # (n_samples, n_features)
        unit: np.ndarray = normalize(vectors, copy=False)
        return unit

    def _scale(self, backbone: Backbone) -> float:
        if isinstance(self.scale, str) and self.scale == "auto":
            return SCALE if backbone.shared_space is None else backbone.shared_space.scale
        return check_scale(self.scale)

    def _check(self, X: Any, *, reset: bool) -> Samples:
        return check_samples(self, X, self.backbone_.modality, image_shape=self.image_shape, reset=reset)

    def _known(self) -> Any:
        if self.labels is not None:
            return self.labels
        check_is_fitted(self)
        return self._found

    def _learnt(self, y: Any) -> np.ndarray:
        if y is None:
            raise ValueError(
                "This ZeroShotClassifier estimator requires y to be passed, but the target y is None: labels=None "
                "takes from it what the classes are called; name them in labels, and no y is needed."
            )
        labels = column_or_1d(y, warn=True)
        check_classification_targets(labels)
        classes: np.ndarray = np.unique(labels)
        if len(classes) < 2:
            raise ValueError(
                f"y holds one class only, {classes.tolist()}; a classifier needs two or more to tell apart"
            )
        return classes

    def _labels(self, y: Any) -> np.ndarray:
        return check_known(y, self.classes_, of="classes of `labels`", way=".")

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.requires_fit = self.labels is None
        set_input_tags(tags, modality_of(self.backbone) or "text")
        return tags

    def _embedded_params(self) -> dict[str, Any]:
        """Return the parameters for a file with embedded weights: backbones instead of their names."""
        params = {"backbone": load_backbone(self.backbone, weights=self.weights), "weights": "pretrained"}
        two_towers = self.text_backbone_ is not self.backbone_
        return params | ({"text_backbone": self.text_backbone_} if two_towers else {})
