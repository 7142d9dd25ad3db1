"""What the featurizers of images and of texts have in common."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Sequence
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.callback import CallbackSupportMixin, with_callbacks
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted

from sktransfer._utils import all_or_nothing, progress
from sktransfer.backbones.backbone import Backbone
from sktransfer.backbones.pooling import cheap_poolings
from sktransfer.cache.resolve import resolve_store
from sktransfer.engine.compute import Compute, resolve_compute
from sktransfer.engine.forward import LayerOutput, Outputs, forward
from sktransfer.engine.inputs import PreprocessedSamples, concat_features
from sktransfer.engine.layers import resolve_layers
from sktransfer.exceptions import InvalidParameterError, InvalidSample, InvalidSampleWarning
from sktransfer.html import BackboneHTML
from sktransfer.samples.base import Samples
from sktransfer.samples.images import check_images
from sktransfer.samples.validation import check_samples, set_input_tags

__all__ = ["Featurizer"]

_ON_ERROR = ("raise", "warn", "nan")
_BLANK = (224, 224, 3)


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
    on_error: str = "raise"  # texts are there or are not: only image featurizers have the parameter

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
        self._n_features_out = self._width(self._inputs(self._fit(X)))
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
        return self._features(self._check(X, reset=False), width=self._n_features_out)

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
        features = self._features(self._fit(X), context=context)
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
        resolve_layers(backbone, self.layer, self.pooling)
        self._compute()
        resolve_store(self.cache)
        self.backbone_ = backbone
        return samples

    def _compute(self) -> Compute:
        return resolve_compute(self.device, self.precision, self.batch_size)

    def _check(self, X: Any, *, reset: bool) -> Samples:
        if self.on_error not in _ON_ERROR:
            raise InvalidParameterError(f"on_error={self.on_error!r} must be one of {_ON_ERROR}")
        shape, defer = getattr(self, "image_shape", None), self.on_error != "raise"
        return check_samples(self, X, self._modality, image_shape=shape, reset=reset, defer=defer)

    def _inputs(self, samples: Samples) -> PreprocessedSamples:
        return PreprocessedSamples(samples, self.backbone_.preprocess, leave_out=self.on_error != "raise")

    def _width(self, inputs: PreprocessedSamples) -> int:
        """Return the number of features, as the first sample tells it that can be read, else a blank image does.

        The store has what the sample gives, and an error here says whether stage and pooling go together.
        """
        for row in range(len(inputs)):
            for rows, outputs in self._forward(inputs, rows=[row]):
                if rows:
                    return sum(tap[0].numel() for tap in outputs)
        return self._blank_width()

    def _blank_width(self) -> int:
        return self._width(self._inputs(check_images(np.zeros((1, *_BLANK), np.uint8))))

    def _taps(self) -> list[LayerOutput]:
        return resolve_layers(self.backbone_, self.layer, self.pooling)

    def _spares(self) -> list[LayerOutput]:
        """Return what a search over layers may ask for next: vectors of the stages below, values to go on from."""
        *_, top = sorted(self._taps(), key=lambda tap: tap.stop)
        below = range(1, top.stop) if top.pooling in cheap_poolings() else ()
        above = [LayerOutput(top.stop)] if top.stop < len(self.backbone_.stages) else []
        return [LayerOutput(stop, top.pooling) for stop in below] + above

    def _forward(self, inputs: PreprocessedSamples, rows: Sequence[int] | None = None) -> Iterator[Outputs]:
        return forward(
            self.backbone_,
            inputs,
            self._taps(),
            rows=rows,
            compute=self._compute(),
            store=resolve_store(self.cache),
            prefetch=self._spares(),
        )

    def _features(self, samples: Samples, *, width: int | None = None, context: Any = None) -> np.ndarray:
        inputs = self._inputs(samples)
        features: np.ndarray | None = None
        is_given = np.zeros(len(samples), dtype=bool)
        with progress(len(samples), type(self).__name__, self._modality, self.verbose) as bar:
            for rows, outputs in self._forward(inputs):
                if not rows:
                    continue
                values = concat_features(outputs).numpy()  # (n, n_features)
                if features is None:
                    features = np.empty((len(samples), values.shape[1]), np.float32)
                features[rows], is_given[rows] = values, True
                bar.update(len(rows))
                if context is not None:
                    task = context.subcontext(task_name="batch")
                    task.call_on_fit_task_begin(estimator=self)
                    task.call_on_fit_task_end(estimator=self)
            bar.update(int((~is_given).sum()))
        inputs.warn_of_truncated()
        if features is None:
            features = np.empty((len(samples), width or self._blank_width()), np.float32)
        features[~is_given] = np.nan
        if self.on_error == "warn":
            _warn_of_left_out(inputs, np.flatnonzero(~is_given).tolist())
        return self._finish(features)

    def _finish(self, features: np.ndarray) -> np.ndarray:
        return features

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.requires_fit = True
        tags.transformer_tags.preserves_dtype = []  # features are float32, whatever comes in
        set_input_tags(tags, self._modality)
        return tags


def _warn_of_left_out(inputs: PreprocessedSamples, rows: list[int]) -> None:
    if not rows:
        return
    inputs.readable([row for row in rows if row not in inputs.left_out])  # of equal samples, only one was tried
    mended = "could not be read when it was its turn, and now it can: ask for it again"
    left_out = [inputs.left_out.get(row, InvalidSample(row, inputs.samples.path(row), mended)) for row in rows]
    warnings.warn(InvalidSampleWarning(left_out, len(inputs)), stacklevel=2)
