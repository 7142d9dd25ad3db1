"""A pretrained network's own head as a classifier: nothing is trained."""

from __future__ import annotations

import os
from collections.abc import Mapping
from numbers import Integral
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.metrics import accuracy_score
from sklearn.utils import Tags
from sklearn.utils.validation import check_consistent_length

from sktransfer._utils import progress
from sktransfer.backbones.backbone import Backbone
from sktransfer.backbones.loading import load_backbone
from sktransfer.backbones.registry import modality_of
from sktransfer.cache.resolve import resolve_store
from sktransfer.classifiers.known_labels import check_known
from sktransfer.classifiers.pretrained_head import PretrainedHead, check_has_categories
from sktransfer.engine.compute import resolve_compute
from sktransfer.engine.inputs import PreprocessedSamples
from sktransfer.exceptions import InvalidParameterError, SktransferError
from sktransfer.html import BackboneHTML
from sktransfer.samples.validation import check_samples, set_input_tags

if TYPE_CHECKING:
    import torch

    from sktransfer.backbones.preprocess import ImageTransform

__all__ = ["PretrainedClassifier"]


class PretrainedClassifier(BackboneHTML, ClassifierMixin, BaseEstimator):
    """Classify images or texts by a pretrained network as it is: its own head, into the categories that it knows.

    Nothing is trained, so `predict` needs no `fit`.

    Parameters
    ----------
    backbone : str or Backbone, default="tiny/cnn"
        A name (`list_backbones()` shows them; `"hf/<hub id or local folder>"` takes models of transformers) or a
        loaded backbone, with a head and names for its categories. Its modality decides whether X holds images or texts.
    weights : {"pretrained", "random"} or path, default="pretrained"
        As in `ImageFeaturizer`. A file must hold the head.
    preprocess : "auto", ImageTransform or dict, default="auto"
        As in `ImageFeaturizer`.
    image_shape : tuple of int, default=None
        As in `ImageFeaturizer`.
    max_length : int, default=None
        As in `TextFeaturizer`.
    batch_size : int or "auto", default="auto"
        As in `ImageFeaturizer` and `TextFeaturizer`.
    device : str or torch.device, default="auto"
        Where the stages run: "auto" is a GPU where there is one.
    precision : {"float32", "bfloat16", "float16", "auto"}, default="float32"
        In which the stages compute; the head computes in float32.
    cache : "memory", path or None, default="memory"
        Keeps the vector that the head looks at, by sample content, as `ImageFeaturizer` does. A head that looks at more
        than one vector a sample (DINOv2's) is run without.
    verbose : int, default=0
        1 shows a progress bar.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,), str
        The categories, sorted, each once. It is there before `fit`.
    backbone_ : Backbone
        The network, shared and never changed. It is there before `fit`.
    n_features_in_ : int
        Number of columns, where `fit` has seen an X that has any.

    See Also
    --------
    FineTuneClassifier : Learns categories of your own.

    Notes
    -----
    Where two outputs of the head bear one name, their probabilities are added: the name is what is predicted.

    Probabilities are the softmax of the head's outputs: a head for several labels a sample is not meant.

    `CalibratedClassifierCV(FrozenEstimator(clf))` calibrates where y holds every category of the head; scikit-learn
    cannot calibrate some of the classes of an estimator.

    Examples
    --------
    >>> from sklearn.datasets import load_sample_image
    >>> from sktransfer import PretrainedClassifier
    >>> clf = PretrainedClassifier("tiny/cnn")
    >>> len(clf.classes_)
    200
    >>> clf.decode([load_sample_image("flower.jpg")], top=2).columns.tolist()
    ['row', 'rank', 'category', 'probability']
    """

    def __init__(
        self,
        backbone: str | Backbone = "tiny/cnn",
        *,
        weights: str | os.PathLike[str] = "pretrained",
        preprocess: str | ImageTransform | Mapping[str, Any] = "auto",
        image_shape: tuple[int, ...] | None = None,
        max_length: int | None = None,
        batch_size: int | str = "auto",
        device: str | torch.device = "auto",
        precision: str = "float32",
        cache: str | os.PathLike[str] | None = "memory",
        verbose: int = 0,
    ) -> None:
        self.backbone = backbone
        self.weights = weights
        self.preprocess = preprocess
        self.image_shape = image_shape
        self.max_length = max_length
        self.batch_size = batch_size
        self.device = device
        self.precision = precision
        self.cache = cache
        self.verbose = verbose

    @property
    def backbone_(self) -> Backbone:
        """The network: loading it again costs nothing, for there is one a process."""
        return check_has_categories(
            load_backbone(self.backbone, weights=self.weights, preprocess=self.preprocess, max_length=self.max_length)
        )

    @property
    def classes_(self) -> np.ndarray:
        """The categories, sorted, each once."""
        try:
            return self._classes()
        except SktransferError as error:  # `hasattr`, which notebooks ask of what they show, lets no other kind pass
            raise AttributeError(f"classes_ cannot be told: {error}") from error

    def _classes(self) -> np.ndarray:
        return np.unique(np.array(self.backbone_.categories, dtype=str))

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def fit(self, X: Any, y: Any) -> Self:
        """Check that samples can be used, and that labels are categories; nothing is trained.

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
            If a label is no category, or a parameter is not allowed.
        InvalidSampleError
            If a sample cannot be used.
        """
        if y is None:
            raise ValueError("This PretrainedClassifier estimator requires y to be passed, but the target y is None.")
        samples = check_samples(self, X, self.backbone_.modality, image_shape=self.image_shape, reset=True)
        labels = self._labels(y)
        check_consistent_length(samples, labels)
        resolve_compute(self.device, self.precision, self.batch_size)
        resolve_store(self.cache)
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
        """
        backbone = self.backbone_
        head = PretrainedHead(backbone)
        samples = check_samples(self, X, backbone.modality, image_shape=self.image_shape, reset=False)
        inputs = PreprocessedSamples(samples, backbone.preprocess)
        compute = resolve_compute(self.device, self.precision, self.batch_size)
        classes, columns = np.unique(np.array(backbone.categories, dtype=str), return_inverse=True)
        probabilities = np.zeros((len(samples), len(classes)), np.float32)
        with progress(len(samples), type(self).__name__, backbone.modality, self.verbose) as bar:
            for rows, found in head.run(inputs, compute, resolve_store(self.cache)):
                np.add.at(
                    probabilities, np.ix_(np.asarray(rows), columns), found
                )  # several categories may bear one name
                bar.update(len(rows))
        inputs.warn_of_truncated()
        return probabilities

    def predict(self, X: Any) -> np.ndarray:
        """Return the name of the most probable category of each sample, (n_samples,).

        Parameters
        ----------
        X : array-like, Series, one-column DataFrame or list of n_samples
            Images or texts.

        Raises
        ------
        InvalidSampleError
            If a sample cannot be used.
        """
        names: np.ndarray = self._classes()[self.predict_proba(X).argmax(1)]
        return names

    def decode(self, X: Any, top: int = 5) -> pd.DataFrame:
        """Return the most probable categories of each sample, to be read.

        Parameters
        ----------
        X : array-like, Series, one-column DataFrame or list of n_samples
            Images or texts.
        top : int, default=5
            How many a sample.

        Returns
        -------
        table : DataFrame
            Columns row (in X, from 0), rank (from 1), category, probability.

        Raises
        ------
        InvalidParameterError
            If there are fewer categories than `top`.
        InvalidSampleError
            If a sample cannot be used.
        """
        classes = self._classes()
        if isinstance(top, bool) or not isinstance(top, Integral) or not 1 <= top <= len(classes):
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
        """Return the share of samples whose most probable category is their label.

        Parameters
        ----------
        X : array-like, Series, one-column DataFrame or list of n_samples
            Images or texts.
        y : array-like of shape (n_samples,), str
            Names of categories.
        sample_weight : array-like of shape (n_samples,), default=None
            How much each sample counts.

        Raises
        ------
        InvalidParameterError
            If a label is no category.
        """
        return float(accuracy_score(self._labels(y), self.predict(X), sample_weight=sample_weight))

    def _labels(self, y: Any) -> np.ndarray:
        """Return labels as names of categories."""
        labels = check_known(
            y,
            self._classes(),
            of=f"categories of {self.backbone_.name}",
            way="; for labels of your own, FineTuneClassifier learns them.",
        )
        named: np.ndarray = labels.astype(str)
        return named

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.requires_fit = False
        set_input_tags(tags, modality_of(self.backbone) or "image")
        return tags

    def _embedded_params(self) -> dict[str, Any]:
        """Return the parameters for a file with embedded weights: the backbone instead of its name."""
        return {"backbone": load_backbone(self.backbone, weights=self.weights), "weights": "pretrained"}
