"""Zero-shot classification by class descriptions."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.preprocessing import normalize
from sklearn.utils import Tags
from sklearn.utils.validation import check_consistent_length, check_is_fitted

from sktransfer._parameters import Parameter, with_parameters
from sktransfer._utils import all_or_nothing, progress
from sktransfer.backbones.backbone import Backbone
from sktransfer.backbones.loading import load_backbone
from sktransfer.backbones.registry import modality_of
from sktransfer.cache.resolve import resolve_store
from sktransfer.cache.types import Cache
from sktransfer.classifiers.cosine import SCALE, CosineClassifier, check_scale, mean_direction
from sktransfer.classifiers.descriptions import check_known_labels, class_names, class_texts
from sktransfer.classifiers.kept import KeptBackbones
from sktransfer.engine.compute import resolve_compute
from sktransfer.engine.forward import forward
from sktransfer.engine.inputs import PreprocessedSamples, concat_features
from sktransfer.engine.layers import resolve_layers
from sktransfer.engine.parameters import (
    BACKBONE,
    COMPUTE,
    IMAGE_SHAPE,
    MAX_LENGTH,
    POOLING,
    PREPROCESS,
    VERBOSE,
    WEIGHTS,
)
from sktransfer.exceptions import InvalidParameterError
from sktransfer.html import BackboneHTML
from sktransfer.samples.base import Samples
from sktransfer.samples.texts import check_texts
from sktransfer.samples.validation import check_samples, set_input_tags
from sktransfer.tasks.classification import check_labels
from sktransfer.towers.joined import refuse_joined

if TYPE_CHECKING:
    import torch

    from sktransfer.backbones.preprocess import ImageTransform

__all__ = ["ZeroShotClassifier"]


@with_parameters(
    BACKBONE.replace(
        default="tiny/bert",
        description="""A sentence encoder, or an image encoder that shares its feature space with a text encoder, such
        as CLIP (`pip install ./plugins/clip` in sktransfer's repository, then `"clip/<hub id or local folder>"`). Its
        modality decides whether X holds texts or images.""",
    ),
    Parameter(
        "labels",
        None,
        "dict or list",
        """Mapping from class to its description, for example `{"sports": "a text about sports"}`, or to several
        descriptions, whose features are averaged. A list names classes that describe themselves. None takes the class
        names that `fit` finds in y, which also describe themselves.""",
    ),
    Parameter(
        "template",
        "{}",
        "str or list of str",
        """Text that each description is inserted into at "{}", for example "a photo of a {}". The features of several
        templates are averaged.""",
    ),
    Parameter(
        "text_backbone",
        None,
        "str or Backbone",
        """Encoder of the descriptions. None uses `backbone` if it encodes texts, or else the text encoder that belongs
        to the image encoder.""",
    ),
    WEIGHTS.replace(description=f"{WEIGHTS.description} Applies to each of the two encoders that is given by name."),
    PREPROCESS,
    IMAGE_SHAPE,
    MAX_LENGTH.replace(description=f"{MAX_LENGTH.description} Applies to the texts in X."),
    POOLING,
    Parameter(
        "scale",
        "auto",
        'float or "auto"',
        """Factor of the cosines before the softmax. Higher values give more confident probabilities and do not change
        predictions. "auto" is the factor that the network was trained with if its weights state one (CLIP), else
        20.""",
    ),
    COMPUTE,
    VERBOSE,
    n_positional=2,
)
class ZeroShotClassifier(KeptBackbones, BackboneHTML, CosineClassifier, BaseEstimator):
    """Predict the class whose description has the highest cosine similarity with a text or an image.

    There is no training. If `labels` names the classes, `predict` needs no `fit`. Otherwise `fit` takes the class names
    from y and uses nothing else of it.

    Parameters
    ----------
    {parameters}

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The classes, sorted. Available before `fit` if `labels` is given.
    backbone_ : Backbone
        Encoder of the samples, which is shared and never changed. Available before `fit`, which keeps it.
    text_backbone_ : Backbone
        Encoder of the descriptions. Available before `fit`, which keeps it.
    n_features_in_ : int
        Number of columns of the X passed to `fit`, if it has columns.

    See Also
    --------
    NearestClassMean : Uses a few samples per class instead of descriptions.
    PretrainedClassifier : Uses the pretrained head, with the classes of its training data.

    Notes
    -----
    All features are scaled to length 1, because classes are compared by cosine similarity. The features of several
    descriptions are scaled before they are averaged, and so is their mean [1]_.

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

    backbone: str | Backbone
    labels: Mapping[Any, str | Sequence[str]] | Sequence[Any] | None
    template: str | Sequence[str]
    text_backbone: str | Backbone | None
    weights: str | os.PathLike[str]
    preprocess: str | ImageTransform | Mapping[str, Any]
    image_shape: tuple[int, ...] | None
    max_length: int | None
    pooling: str
    scale: float | str
    batch_size: int | str
    device: str | torch.device
    precision: str
    cache: Cache
    verbose: int

    @property
    def backbone_(self) -> Backbone:
        """Encoder of the samples. Repeated access is cheap, because loaded backbones are shared within a process."""
        return load_backbone(self._own_source(), preprocess=self.preprocess, max_length=self.max_length)

    @property
    def text_backbone_(self) -> Backbone:
        """Encoder of the descriptions."""
        encoder = self._text_source(self._own_source())
        return self.backbone_ if encoder is None else encoder

    def _own_source(self) -> Backbone:
        source = self._source("_backbone", lambda: load_backbone(self.backbone, weights=self.weights))
        refuse_joined(source, type(self).__name__, "give the backbone of one column, and that column as X")
        return source

    def _text_source(self, source: Backbone) -> Backbone | None:
        """Return the encoder of the descriptions, or None if it is that of the samples."""
        if self.text_backbone is None and source.modality == "text":
            return None
        return self._source("_text_backbone", lambda: self._load_encoder(source))

    def _sources(self) -> dict[str, Backbone]:
        source = self._own_source()
        encoder = self._text_source(source)
        return {"_backbone": source} | ({} if encoder is None else {"_text_backbone": encoder})

    def _load_encoder(self, backbone: Backbone) -> Backbone:
        name = self.text_backbone
        if name is None:
            if backbone.shared_space is None:
                raise InvalidParameterError(
                    f"{backbone.name} takes images and has no text encoder in the same space; use a backbone that has "
                    "one ('clip/<hub id or local folder>', after pip install ./plugins/clip in sktransfer's "
                    "repository), or pass the encoder of texts of this space as text_backbone"
                )
            name = backbone.shared_space.texts
        encoder = load_backbone(name, weights="pretrained" if isinstance(name, Backbone) else self.weights)
        if encoder.modality != "text":
            raise InvalidParameterError(f"text_backbone={name!r} takes {encoder.modality}s; descriptions are texts")
        return encoder

    @property
    def classes_(self) -> np.ndarray:
        """The classes, sorted."""
        return class_names(self._known_labels())

    def __sklearn_is_fitted__(self) -> bool:
        return self.labels is not None or hasattr(self, "_learned_classes")

    @all_or_nothing
    def fit(self, X: Any, y: Any = None) -> Self:
        """Validate samples, labels and parameters, without training.

        Parameters
        ----------
        X : array-like, Series, one-column DataFrame or list of n_samples
            Texts or images.
        y : array-like of shape (n_samples,), default=None
            Class labels. Optional if `labels` is given.

        Returns
        -------
        self : object

        Raises
        ------
        InvalidParameterError
            If a label is not a class, or a parameter is not allowed.
        InvalidSampleError
            If a sample cannot be used.
        ValueError
            If y has not one label per sample, or if `labels` is None and y is None or holds one class only.
        """
        self._forget()
        backbone, samples = self.backbone_, self._check(X, reset=True)
        check_consistent_length(samples, y)
        if self.labels is None:
            self._learned_classes = self._learn_classes(y)
        elif y is not None:
            self._check_labels(y)
        self._scale(backbone)
        self._class_vectors(backbone)
        self._keep()
        return self

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return the fraction of samples whose predicted class is their label.

        Parameters
        ----------
        X : array-like, Series, one-column DataFrame or list of n_samples
            Texts or images.
        y : array-like of shape (n_samples,)
            Class labels.
        sample_weight : array-like of shape (n_samples,), default=None
            Weight of each sample.

        Raises
        ------
        InvalidParameterError
            If a label is not a class.
        """
        return float(super().score(X, self._check_labels(y), sample_weight=sample_weight))

    def _scores(self, X: Any) -> np.ndarray:
        check_is_fitted(self)
        backbone = self.backbone_
        class_vectors = self._class_vectors(backbone)  # (n_classes, n_features)
        vectors = self._vectors(backbone, self._check(X, reset=False), self.pooling, self.verbose)
        if vectors.shape[1] != class_vectors.shape[1]:
            raise InvalidParameterError(
                f"{backbone.name} gives {vectors.shape[1]} numbers per sample, and {self.text_backbone_.name} "
                f"{class_vectors.shape[1]} per description; use two encoders that share a feature space"
            )
        scores: np.ndarray = self._scale(backbone) * (vectors @ class_vectors.T)  # (n_samples, n_classes)
        return scores

    def _class_vectors(self, backbone: Backbone) -> np.ndarray:
        """Return the mean feature vector of each class's descriptions, of length 1 (n_classes, n_features)."""
        texts = class_texts(self._known_labels(), self.template)
        encoder = self.text_backbone_
        pooling = self.pooling if backbone.modality == "text" else "auto"
        vectors = self._vectors(encoder, check_texts(list(chain.from_iterable(texts))), pooling, 0)
        ends = np.cumsum(list(map(len, texts)))
        return np.stack([mean_direction(part) for part in np.split(vectors, ends[:-1])])  # (n_classes, n_features)

    def _vectors(self, backbone: Backbone, samples: Samples, pooling: str, verbose: int) -> np.ndarray:
        """Return the features of samples at the last stage, of length 1 (n_samples, n_features)."""
        inputs = PreprocessedSamples(samples, backbone.preprocess)
        compute = resolve_compute(self.device, self.precision, self.batch_size)
        layers = resolve_layers(backbone, -1, pooling)
        by_row: dict[int, np.ndarray] = {}
        with progress(len(samples), self, backbone.modality, verbose) as bar:
            for rows, outputs in forward(backbone, inputs, layers, compute=compute, store=resolve_store(self.cache)):
                by_row.update(zip(rows, concat_features(outputs).numpy()))
                bar.update(len(rows))
        inputs.warn_of_unread()
        vectors = np.stack([by_row[row] for row in range(len(samples))])  # (n_samples, n_features)
        unit: np.ndarray = normalize(vectors, copy=False)
        return unit

    def _scale(self, backbone: Backbone) -> float:
        if isinstance(self.scale, str) and self.scale == "auto":
            return SCALE if backbone.shared_space is None else backbone.shared_space.scale
        return check_scale(self.scale)

    def _check(self, X: Any, *, reset: bool) -> Samples:
        return check_samples(self, X, self.backbone_.modality, image_shape=self.image_shape, reset=reset)

    def _known_labels(self) -> Any:
        if self.labels is not None:
            return self.labels
        check_is_fitted(self)
        return self._learned_classes

    def _learn_classes(self, y: Any) -> np.ndarray:
        if y is None:
            raise ValueError(
                "This ZeroShotClassifier estimator requires y to be passed, but the target y is None: labels=None "
                "takes the class names from y. Pass y, or name the classes in labels."
            )
        classes: np.ndarray = np.unique(check_labels(y))
        if len(classes) < 2:
            raise ValueError(f"y holds one class only, {classes.tolist()}; pass samples of at least two classes")
        return classes

    def _check_labels(self, y: Any) -> np.ndarray:
        return check_known_labels(y, self.classes_, kind="classes of `labels`", hint=".")

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.requires_fit = self.labels is None
        set_input_tags(tags, modality_of(self.backbone) or "text")
        return tags

    def _embedded_params(self) -> dict[str, Any]:
        """Return the parameters for a file with embedded weights: backbones instead of their names."""
        sources = self._sources()
        names = {"backbone": sources["_backbone"], "weights": "pretrained"}
        return names | ({"text_backbone": sources["_text_backbone"]} if "_text_backbone" in sources else {})
