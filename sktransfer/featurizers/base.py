"""What the featurizers of images and of texts have in common."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.callback import CallbackSupportMixin, with_callbacks
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted

from sktransfer.backbones.backbone import Backbone
from sktransfer.engine.batching import Inputs, side_by_side
from sktransfer.engine.compute import Compute, resolve_compute
from sktransfer.engine.forward import Outputs, Tap, forward
from sktransfer.engine.progress import progress
from sktransfer.engine.store import resolve_store
from sktransfer.engine.taps import taps_for
from sktransfer.exceptions import InvalidParameterError
from sktransfer.html import BackboneHTML
from sktransfer.rollback import all_or_nothing
from sktransfer.samples.base import Samples
from sktransfer.samples.validation import check_samples, set_input_tags

__all__ = ["Featurizer"]

_OF_ANY_STAGE = ("average", "max", "mean", "mean+max")  # poolings that small vectors come from, whatever the stage


class Featurizer(BackboneHTML, CallbackSupportMixin, ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """A frozen backbone as a transformer; subclasses name their modality and their parameters."""

    _modality: str
    backbone: str | Backbone
    weights: Any
    layer: int | str | Sequence[int | str]
    pooling: str
    batch_size: int | str
    device: Any
    precision: str
    cache: str | os.PathLike[str] | None
    verbose: int

    def fit(self, X: Any, y: Any = None) -> Self:
        """Load the backbone and look at the samples; nothing is trained.

        Parameters
        ----------
        X : array-like, Series, one-column DataFrame or list of n_samples
            The samples.
        y : ignored
            There so that the featurizer can stand in a `Pipeline`.

        Returns
        -------
        self : object

        Raises
        ------
        InvalidParameterError
            If a parameter is not allowed.
        InvalidSampleError
            If a sample cannot be used.
        """
        samples = self._fit(X)
        # The first sample tells the width, and whether stage and pooling go together; the store has what it gives.
        (_, outputs), *_ = self._forward(Inputs(samples, self.backbone_.preprocess), rows=[0])
        self._n_features_out = sum(tap[0].numel() for tap in outputs)
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Return the features of samples.

        Parameters
        ----------
        X : array-like, Series, one-column DataFrame or list of n_samples
            The samples.

        Returns
        -------
        features : ndarray of shape (n_samples, n_features), float32

        Raises
        ------
        InvalidSampleError
            If a sample cannot be used.
        """
        check_is_fitted(self)
        return self._features(self._check(X, reset=False))

    @all_or_nothing
    @with_callbacks  # type: ignore[untyped-decorator]
    def fit_transform(self, X: Any, y: Any = None) -> np.ndarray:
        """Fit and return the features of the same samples, validating them once.

        Parameters
        ----------
        X : array-like, Series, one-column DataFrame or list of n_samples
            The samples.
        y : ignored
            There so that the featurizer can stand in a `Pipeline`.

        Returns
        -------
        features : ndarray of shape (n_samples, n_features), float32

        Raises
        ------
        InvalidParameterError
            If a parameter is not allowed.
        InvalidSampleError
            If a sample cannot be used.
        """
        context = self._init_callback_context(max_subtasks=None)
        context.call_on_fit_task_begin(estimator=self, X=X, y=y)
        features = self._features(self._fit(X), context)
        self._n_features_out = features.shape[1]
        context.call_on_fit_task_end(estimator=self, X=X, y=y)
        return features

    def _load(self) -> Backbone:
        raise NotImplementedError

    def _fit(self, X: Any) -> Samples:
        samples = self._check(X, reset=True)
        backbone = self._load()
        if backbone.modality != self._modality:
            raise InvalidParameterError(
                f"backbone={self.backbone!r} takes {backbone.modality}s, "
                f"{type(self).__name__} featurizes {self._modality}s"
            )
        taps_for(backbone, self.layer, self.pooling)
        self._compute()
        resolve_store(self.cache)
        self.backbone_ = backbone
        return samples

    def _compute(self) -> Compute:
        return resolve_compute(self.device, self.precision, self.batch_size)

    def _check(self, X: Any, *, reset: bool) -> Samples:
        return check_samples(self, X, self._modality, image_shape=getattr(self, "image_shape", None), reset=reset)

    def _taps(self) -> list[Tap]:
        return taps_for(self.backbone_, self.layer, self.pooling)

    def _spares(self) -> list[Tap]:
        """Return what a search over layers may ask for next: vectors of the stages below, values to go on from."""
        *_, top = sorted(self._taps(), key=lambda tap: tap.stop)
        below = range(1, top.stop) if top.pooling in _OF_ANY_STAGE else ()
        above = [Tap(top.stop)] if top.stop < len(self.backbone_.stages) else []
        return [Tap(stop, top.pooling) for stop in below] + above

    def _forward(self, inputs: Inputs, rows: Sequence[int] | None = None) -> Iterator[Outputs]:
        return forward(
            self.backbone_,
            inputs,
            self._taps(),
            rows=rows,
            compute=self._compute(),
            store=resolve_store(self.cache),
            spares=self._spares(),
        )

    def _features(self, samples: Samples, context: Any = None) -> np.ndarray:
        inputs = Inputs(samples, self.backbone_.preprocess)
        features: np.ndarray | None = None
        with progress(len(samples), type(self).__name__, self._modality, self.verbose) as bar:
            for rows, outputs in self._forward(inputs):
                values = side_by_side(outputs).numpy()  # (n, n_features)
                if features is None:
                    features = np.empty((len(samples), values.shape[1]), np.float32)
                features[rows] = values
                bar.update(len(rows))
                if context is not None:
                    task = context.subcontext(task_name="batch")
                    task.call_on_fit_task_begin(estimator=self)
                    task.call_on_fit_task_end(estimator=self)
        inputs.warn_of_truncated()
        assert features is not None  # validation lets no empty X through
        return self._finish(features)

    def _finish(self, features: np.ndarray) -> np.ndarray:
        return features

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.requires_fit = True
        tags.transformer_tags.preserves_dtype = []  # features are float32, whatever comes in
        set_input_tags(tags, self._modality)
        return tags
