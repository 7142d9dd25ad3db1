"""Pretrained heads of backbones as classifiers, without training."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pandas as pd
import torch
from scipy.special import softmax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.metrics import accuracy_score
from sklearn.utils import Tags
from sklearn.utils.validation import check_consistent_length
from torch import Tensor

from sktransfer._parameters import with_parameters
from sktransfer._utils import all_or_nothing, progress
from sktransfer._validation import is_int
from sktransfer.backbones.backbone import Backbone
from sktransfer.backbones.loading import load_backbone
from sktransfer.backbones.registry import modality_of
from sktransfer.backbones.stages import PooledHead
from sktransfer.cache.policy import is_small
from sktransfer.cache.resolve import resolve_store
from sktransfer.cache.types import Cache, Store
from sktransfer.classifiers.descriptions import check_known_labels
from sktransfer.classifiers.kept import KeptBackbones
from sktransfer.engine.compute import Compute, check_finite_outputs, resolve_compute
from sktransfer.engine.forward import LayerOutput, forward
from sktransfer.engine.inference import prepare_head
from sktransfer.engine.inputs import PreprocessedSamples, collate, concat_features
from sktransfer.engine.parameters import (
    BACKBONE,
    BATCH_SIZE,
    CACHE,
    DEVICE,
    IMAGE_SHAPE,
    MAX_LENGTH,
    PRECISION,
    PREPROCESS,
    VERBOSE,
    WEIGHTS,
)
from sktransfer.exceptions import InvalidParameterError, SktransferError
from sktransfer.html import BackboneHTML
from sktransfer.providers.huggingface_text import FirstTokenHead
from sktransfer.samples.validation import check_samples, set_input_tags

if TYPE_CHECKING:
    from sktransfer.backbones.preprocess import ImageTransform

__all__ = ["PretrainedClassifier", "PretrainedHead", "check_has_categories"]


def check_has_categories(backbone: Backbone, weights: str | os.PathLike[str] = "pretrained") -> Backbone:
    """Return the backbone after checking that it has a head with at least two named categories.

    Parameters
    ----------
    backbone : Backbone
        Backbone to check.
    weights : str or path, default="pretrained"
        Weights that it was loaded with, for messages.

    Raises
    ------
    InvalidParameterError
        If it has no head, no categories, or only one.
    """
    advice = "train one on your labels with FineTuneClassifier, or a classifier of scikit-learn on its features"
    if backbone.head is None and weights in ("pretrained", "random"):
        raise InvalidParameterError(f"{backbone.name} has no head of its own: {advice}")
    if backbone.head is None:
        raise InvalidParameterError(
            f"weights={str(weights)!r} holds no head for {backbone.name}, or one with another number of outputs, which "
            f"is left out: {advice}. To use a head of your own, give Backbone.from_modules(stages, head=..., "
            "categories=[...]) as backbone"
        )
    if not backbone.categories:
        raise InvalidParameterError(
            f"{backbone.name} has a head, but its weights do not name its categories: {advice}; or name them in the "
            "`categories` of the file's safetensors metadata (a JSON list), or of Backbone.from_modules"
        )
    if len(backbone.categories) == 1:
        raise InvalidParameterError(
            f"{backbone.name} has a head with one output, {backbone.categories[0]!r}, and classification "
            f"needs at least two: {advice}"
        )
    return backbone


class PretrainedHead:
    """A backbone's head and the layer output that it reads.

    A head that reads one pooled vector receives that vector, which is cached. Only a head that reads more receives the
    values of the last stage, which are up to hundreds of times as large and are not cached.

    Parameters
    ----------
    backbone : Backbone
        Backbone with a head and categories.

    Attributes
    ----------
    layer : LayerOutput
        Layer output that the head reads.
    """

    def __init__(self, backbone: Backbone) -> None:
        self.backbone = check_has_categories(backbone)
        n, head = len(backbone.stages), backbone.head
        self._head: Callable[..., Tensor] = head  # type: ignore[assignment]
        self.layer = LayerOutput(n)
        if isinstance(head, PooledHead) and head.prefix_tokens in (0, backbone.prefix_tokens):
            self.layer, self._head = LayerOutput(n, head.pooling), prepare_head(head.layers)
        elif isinstance(head, FirstTokenHead):
            self.layer = LayerOutput(n, "class_token")
            body = prepare_head(head.body)
            self._head = lambda vectors: body(vectors[:, None])  # (n, 1, channels) -> (n, n_categories)

    @property
    def is_small(self) -> bool:
        """Whether the head reads one vector per sample, which is small enough to cache."""
        return is_small(self.layer.pooling)

    def probabilities(self, outputs: Sequence[Tensor] | Tensor) -> np.ndarray:
        """Return the probability of each category, in the backbone's order.

        Parameters
        ----------
        outputs : sequence of Tensor, or Tensor of shape (n_samples, ...)
            Output of `layer` per sample.

        Returns
        -------
        probabilities : ndarray of shape (n_samples, n_categories), float32
        """
        arguments: tuple[Tensor | None, ...]
        with torch.inference_mode():
            if self.is_small:
                values = concat_features([outputs])  # (n, n_features)
                arguments = (values.float(),)
            else:
                values, mask = collate(list(outputs), self.backbone.modality)
                arguments = (values.float(), mask)
            try:
                logits = self._head(*arguments)  # (n, n_categories)
            except RuntimeError as error:
                raise InvalidParameterError(
                    f"the head of {self.backbone.name} does not take values of shape (n, "
                    f"{', '.join(map(str, values.shape[1:]))}), which its last stage gives ({str(error)[:80]})"
                ) from error
        if logits.ndim != 2 or logits.shape[1] != len(self.backbone.categories):
            raise InvalidParameterError(
                f"the head of {self.backbone.name} gives {tuple(logits.shape)[1:]} numbers per sample "
                f"for {len(self.backbone.categories)} categories"
            )
        probabilities: np.ndarray = softmax(logits.numpy(), axis=1)  # (n, n_categories)
        return probabilities

    def run(
        self, inputs: PreprocessedSamples, compute: Compute, store: Store | None
    ) -> Iterator[tuple[list[int], np.ndarray]]:
        """Yield rows and the probabilities of their categories, batch by batch.

        Parameters
        ----------
        inputs : PreprocessedSamples
            The samples.
        compute : Compute
            Device, precision and batch size of the stages. The head runs on the CPU.
        store : Store or None
            Cache of pooled vectors. Values of whole stages are never cached.
        """
        store = store if self.is_small else None
        for rows, (outputs,) in forward(self.backbone, inputs, [self.layer], compute=compute, store=store):
            yield rows, self.probabilities(outputs)


@with_parameters(
    BACKBONE.replace(
        description="""A name or a loaded backbone, with a head and names of its categories. `list_backbones()` lists
        the names, and `"hf/<hub id or local folder>"` loads models of transformers. The modality of the backbone
        decides whether X holds images or texts."""
    ),
    WEIGHTS.replace(description=f"{WEIGHTS.description} A file must include the head."),
    PREPROCESS,
    IMAGE_SHAPE,
    MAX_LENGTH,
    BATCH_SIZE,
    DEVICE.replace(description=f"{DEVICE.description} The head runs on the CPU."),
    PRECISION.replace(
        description="""Precision of the stages. "auto" is bfloat16 if the processor or the GPU computes it natively,
        else float32. The head computes in float32."""
    ),
    CACHE.replace(
        description=f"""{CACHE.description} The cache holds the one vector per sample that the head reads. Nothing is
        cached for a head that reads more than one vector per sample, such as DINOv2's."""
    ),
    VERBOSE,
)
class PretrainedClassifier(KeptBackbones, BackboneHTML, ClassifierMixin, BaseEstimator):
    """Classify images or texts with the pretrained head of a network, into the categories it was trained on.

    There is no training, so `predict` needs no `fit`.

    Parameters
    ----------
    {parameters}

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,), str
        The categories, sorted and unique. Available before `fit`.
    backbone_ : Backbone
        The network, which is shared and never changed. Available before `fit`, which keeps it.
    n_features_in_ : int
        Number of columns of the X passed to `fit`, if it has columns.

    See Also
    --------
    FineTuneClassifier : Trains on categories of your own.

    Notes
    -----
    If two outputs of the head have the same name, their probabilities are added, because the name is the prediction.

    Probabilities are the softmax of the head's outputs, so multi-label heads are not supported.

    `CalibratedClassifierCV(FrozenEstimator(clf))` calibrates if y holds every category of the head, because
    scikit-learn cannot calibrate a subset of an estimator's classes.

    Examples
    --------
    >>> from sklearn.datasets import load_sample_image
    >>> from sktransfer import PretrainedClassifier
    >>> clf = PretrainedClassifier("tiny/cnn")
    >>> len(clf.classes_)
    200
    >>> clf.decode([load_sample_image("flower.jpg")[150:278, 300:428]], top=2).columns.tolist()
    ['row', 'rank', 'category', 'probability']
    """

    backbone: str | Backbone
    weights: str | os.PathLike[str]
    preprocess: str | ImageTransform | Mapping[str, Any]
    image_shape: tuple[int, ...] | None
    max_length: int | None
    batch_size: int | str
    device: str | torch.device
    precision: str
    cache: Cache
    verbose: int

    @property
    def backbone_(self) -> Backbone:
        """The network. Repeated access is cheap, because loaded backbones are shared within a process."""
        return check_has_categories(
            load_backbone(self._sources()["_backbone"], preprocess=self.preprocess, max_length=self.max_length),
            self.weights,
        )

    def _sources(self) -> dict[str, Backbone]:
        return {"_backbone": self._source("_backbone", lambda: load_backbone(self.backbone, weights=self.weights))}

    @property
    def classes_(self) -> np.ndarray:
        """The categories, sorted and unique."""
        try:
            return self._classes()
        except SktransferError as error:  # notebooks call `hasattr`, which catches no other type
            raise AttributeError(f"classes_ is not available: {error}") from error

    def _classes(self) -> np.ndarray:
        return np.unique(np.array(self.backbone_.categories, dtype=str))

    def __sklearn_is_fitted__(self) -> bool:
        return True

    @all_or_nothing
    def fit(self, X: Any, y: Any) -> Self:
        """Validate samples, labels and parameters, without training.

        Parameters
        ----------
        X : array-like, Series, one-column DataFrame or list of n_samples
            Images or texts.
        y : array-like of shape (n_samples,), str
            Names of categories.

        Returns
        -------
        self : object

        Raises
        ------
        InvalidParameterError
            If a label is not a category, or a parameter is not allowed.
        InvalidSampleError
            If a sample cannot be used.
        ValueError
            If y is None or has not one label per sample.
        """
        if y is None:
            raise ValueError("This PretrainedClassifier estimator requires y to be passed, but the target y is None.")
        self._forget()
        samples = check_samples(self, X, self.backbone_.modality, image_shape=self.image_shape, reset=True)
        labels = self._labels(y)
        check_consistent_length(samples, labels)
        resolve_compute(self.device, self.precision, self.batch_size)
        resolve_store(self.cache)
        self._keep()
        return self

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return the probability of each category (n_samples, n_classes), in the order of `classes_`.

        Parameters
        ----------
        X : array-like, Series, one-column DataFrame or list of n_samples
            Images or texts.

        Raises
        ------
        InvalidParameterError
            If the backbone has no head or no categories, or a parameter is not allowed.
        InvalidSampleError
            If a sample cannot be used.
        NotFiniteError
            If a probability is NaN.
        """
        backbone = self.backbone_
        head = PretrainedHead(backbone)
        samples = check_samples(self, X, backbone.modality, image_shape=self.image_shape, reset=False)
        inputs = PreprocessedSamples(samples, backbone.preprocess)
        compute = resolve_compute(self.device, self.precision, self.batch_size)
        classes, columns = np.unique(np.array(backbone.categories, dtype=str), return_inverse=True)
        probabilities = np.zeros((len(samples), len(classes)), np.float32)
        with progress(len(samples), self, backbone.modality, self.verbose) as bar:
            for rows, of_categories in head.run(inputs, compute, resolve_store(self.cache)):
                # several categories may share a name: (n, n_categories) is added up to (n, n_classes)
                np.add.at(probabilities, np.ix_(np.asarray(rows), columns), of_categories)
                bar.update(len(rows))
        inputs.warn_of_unread()
        return check_finite_outputs(probabilities, compute)

    def predict(self, X: Any) -> np.ndarray:
        """Return the name of the most probable category of each sample (n_samples,).

        Parameters
        ----------
        X : array-like, Series, one-column DataFrame or list of n_samples
            Images or texts.

        Raises
        ------
        InvalidSampleError
            If a sample cannot be used.
        NotFiniteError
            If a probability is NaN.
        """
        names: np.ndarray = self._classes()[self.predict_proba(X).argmax(1)]
        return names

    def decode(self, X: Any, top: int = 5) -> pd.DataFrame:
        """Return a table of the most probable categories of each sample.

        Parameters
        ----------
        X : array-like, Series, one-column DataFrame or list of n_samples
            Images or texts.
        top : int, default=5
            Number of categories per sample.

        Returns
        -------
        table : DataFrame
            Columns "row" (index in X, from 0), "rank" (from 1), "category" and "probability".

        Raises
        ------
        InvalidParameterError
            If `top` is not an int from 1 to the number of categories.
        InvalidSampleError
            If a sample cannot be used.
        NotFiniteError
            If a probability is NaN.
        """
        classes = self._classes()
        if not is_int(top) or not 1 <= top <= len(classes):
            raise InvalidParameterError(
                f"top={top!r} must be an int from 1 to {len(classes)}, the number of categories"
            )
        probabilities = self.predict_proba(X)
        best = np.argsort(-probabilities, axis=1, kind="stable")[:, : int(top)]  # (n_samples, top)
        return pd.DataFrame(
            {
                "row": np.repeat(np.arange(len(best)), top),
                "rank": np.tile(np.arange(1, top + 1), len(best)),
                "category": classes[best].ravel(),  # (n_samples * top,)
                "probability": np.take_along_axis(probabilities, best, axis=1).ravel(),  # (n_samples * top,)
            }
        )

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return the fraction of samples whose most probable category is their label.

        Parameters
        ----------
        X : array-like, Series, one-column DataFrame or list of n_samples
            Images or texts.
        y : array-like of shape (n_samples,), str
            Names of categories.
        sample_weight : array-like of shape (n_samples,), default=None
            Weight of each sample.

        Raises
        ------
        InvalidParameterError
            If a label is not a category.
        """
        return float(accuracy_score(self._labels(y), self.predict(X), sample_weight=sample_weight))

    def _labels(self, y: Any) -> np.ndarray:
        """Return labels as strings after checking that they are categories."""
        labels = check_known_labels(
            y,
            self._classes(),
            kind=f"categories of {self.backbone_.name}",
            hint="; train FineTuneClassifier for labels of your own.",
        )
        names: np.ndarray = labels.astype(str)
        return names

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.requires_fit = False
        set_input_tags(tags, modality_of(self.backbone) or "image")
        return tags

    def _embedded_params(self) -> dict[str, Any]:
        """Return the parameters for a file with embedded weights: the backbone instead of its name."""
        return {"backbone": self._sources()["_backbone"], "weights": "pretrained"}
