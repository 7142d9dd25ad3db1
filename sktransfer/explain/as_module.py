"""`as_module`: a fitted estimator as one module of torch."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from sklearn.base import clone
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from sktransfer._validation import check_option
from sktransfer.backbones.backbone import Backbone
from sktransfer.backbones.pooling import pool
from sktransfer.engine.inputs import PreprocessedSamples
from sktransfer.exceptions import InvalidParameterError
from sktransfer.explain import own_estimators, sklearn_steps
from sktransfer.explain.conversion import Conversion, Source, converter_of
from sktransfer.samples.validation import check_samples

if TYPE_CHECKING:
    from sktransfer.samples.base import Samples

__all__ = ["OUTPUTS", "EstimatorModule", "as_module", "convert"]

OUTPUTS = ("auto", "features", "logits", "predictions", "probabilities")
_CONVERTERS = sklearn_steps.CONVERTERS | own_estimators.CONVERTERS
_REFUSED = sklearn_steps.REFUSED | own_estimators.REFUSED


class EstimatorModule(nn.Module):
    """A fitted estimator as a module, from preprocessed samples to its output. `as_module` makes it.

    It holds copies of the weights in float32, in evaluation mode, with gradients switched on.

    Attributes
    ----------
    stages : nn.ModuleList
        Stages of the backbone up to the highest one that is read.
    stage_names : tuple of str
        Their names.
    body : nn.Sequential
        Modules from features to the output.
    backbone : Backbone
        Backbone that the stages were copied from.
    layers : tuple of LayerOutput
        Layer outputs that are read.
    output : {"features", "logits", "predictions", "probabilities"}
        Kind of the output.
    classes_ : ndarray of shape (n_outputs,) or None
        Classes of the output's columns. None for features and numbers.
    """

    def __init__(self, source: Source, body: Sequence[nn.Module], output: str, classes: np.ndarray | None) -> None:
        super().__init__()
        self.backbone: Backbone = source.backbone
        stop = max(layer.stop for layer in source.layers)
        # One call of deepcopy for all stages: parameters that they share stay shared.
        self.stages: nn.ModuleList = copy.deepcopy(nn.ModuleList(source.backbone.stages[:stop])).float()
        self.stage_names = source.backbone.stage_names[:stop]
        self.head = source.head
        self.layers, self.output, self.classes_ = source.layers, output, classes
        self.body = nn.Sequential(*body)
        self.requires_grad_(True).eval()
        self._reader = _reader(source.estimator)

    def forward(self, values: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the output (n, n_outputs).

        Parameters
        ----------
        values : Tensor
            Images (n, 3, height, width), or token ids (n, tokens).
        mask : Tensor of shape (n, tokens), default=None
            True, or not 0, for real tokens. None for images, and for texts without padding.

        Raises
        ------
        InvalidParameterError
            If the values are not a tensor of samples.
        """
        n_axes = 4 if self.backbone.modality == "image" else 2
        if not isinstance(values, Tensor) or values.ndim != n_axes:
            given = f"a tensor of shape {tuple(values.shape)}" if isinstance(values, Tensor) else type(values).__name__
            star = "" if n_axes == 4 else "*"
            raise InvalidParameterError(
                f"the module takes a batch of preprocessed {self.backbone.modality}s, not {given}: "
                f"module({star}module.preprocess(X))"
            )
        if self.backbone.modality == "text":
            mask = torch.ones_like(values, dtype=torch.bool) if mask is None else mask.bool()
        read: list[Tensor | None] = [None] * len(self.layers)
        for stop, stage in enumerate(self.stages, start=1):
            values = stage(values, mask)
            for index, layer in enumerate(self.layers):
                if layer.stop == stop and layer.pooling is not None:
                    read[index] = pool(values, mask, layer.pooling, prefix_tokens=self.backbone.prefix_tokens)
        features = values if self.head is not None else torch.cat([one for one in read if one is not None], 1)
        if self.head is not None:
            features = self.head(features, mask)  # (n, n_categories)
        output: Tensor = self.body(features)  # (n, n_outputs)
        return output

    def preprocess(self, X: Any) -> Tensor | tuple[Tensor, Tensor]:
        """Return samples as `forward` takes them, all as one batch.

        Parameters
        ----------
        X : array-like, Series, one-column DataFrame or list of n_samples
            Images or texts that the estimator accepts.

        Returns
        -------
        values : Tensor of shape (n_samples, 3, height, width), or (Tensor, Tensor)
            Of texts, token ids and mask, (n_samples, tokens) each: `module(*module.preprocess(texts))`.

        Raises
        ------
        InvalidSampleError
            If a sample cannot be used.
        InvalidParameterError
            If images have different sizes.
        """
        inputs = PreprocessedSamples(self.samples(X), self.backbone.preprocess)
        tensors = inputs.tensors(range(len(inputs)))
        inputs.warn_of_unread()
        values, mask = inputs.batching.collate(tensors, self.backbone.preprocess.pad_value)
        return values if mask is None else (values, mask)

    def samples(self, X: Any) -> Samples:
        """Return X as validated samples.

        Parameters
        ----------
        X : array-like, Series, one-column DataFrame or list of n_samples
            Images or texts that the estimator accepts.

        Raises
        ------
        InvalidSampleError
            If a sample cannot be used.
        """
        shape = getattr(self._reader, "image_shape", None)
        return check_samples(self._reader, X, self.backbone.modality, image_shape=shape, reset=False)


def _reader(estimator: Any) -> Any:
    """Return the estimator without its weights, which checks samples as the fitted one does."""
    reader = clone(estimator)
    for name in ("n_features_in_", "feature_names_in_"):
        if name in vars(estimator):
            setattr(reader, name, vars(estimator)[name])
    return reader


def as_module(estimator: Any, *, output: str = "auto") -> EstimatorModule:
    """Return a fitted estimator as one module of torch, from preprocessed samples to its output.

    The module contains the stages of the backbone, the pooling, the scaling and the head. For a pipeline it contains
    the steps of scikit-learn as layers. It is an ordinary module: libraries that explain, trace, export or quantize
    networks take it.

    Parameters
    ----------
    estimator : estimator
        Fitted estimator of sktransfer, or a pipeline of a featurizer, scalers, projections or selections of features,
        and a linear model or a perceptron. It may be wrapped in a search, in `FrozenEstimator` or in
        `CalibratedClassifierCV`.
    output : {"auto", "features", "logits", "predictions", "probabilities"}, default="auto"
        Output of the module. "auto" is that of `predict_proba` if the estimator has it, else of `decision_function`,
        `predict` or `transform`.

    Returns
    -------
    module : EstimatorModule
        Module in evaluation mode on the CPU, in float32. `module.preprocess(X)` returns its input, and
        `module.classes_` the classes of its columns. The output is (n, n_outputs), also for a single number. Logits
        have one column per class. For two classes their difference is the decision function.

    Raises
    ------
    InvalidParameterError
        If a step has no module, the estimator reads no images or texts, or it has no such output.
    NotFittedError
        If the estimator is not fitted.

    See Also
    --------
    export_onnx : Write the module as an ONNX file.

    Notes
    -----
    The weights are copied, so that training the module changes neither the estimator nor its backbone. The difference
    from the estimator's predictions is that of rounding, and of its `precision` if that is not "float32".

    Examples
    --------
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from sktransfer import TextFeaturizer, as_module
    >>> texts = ["a moving, funny film", "two hours of nothing", "I loved every minute", "dull from start to end"]
    >>> clf = make_pipeline(TextFeaturizer("tiny/bert"), StandardScaler(), LogisticRegression())
    >>> module = as_module(clf.fit(texts, ["up", "down", "up", "down"]))
    >>> probabilities = module(*module.preprocess(texts)).detach().numpy()
    >>> module.classes_.tolist(), bool(abs(probabilities - clf.predict_proba(texts)).max() < 1e-5)
    (['down', 'up'], True)
    """
    check_option("output", output, OUTPUTS)
    converted = convert(estimator)
    if converted.source is None:
        raise InvalidParameterError(
            f"{type(estimator).__name__} reads features, and a module begins with a network: convert the pipeline that "
            "begins with the featurizer"
        )
    layers, kind = list(converted.layers), _resolve_output(converted, output, estimator)
    if kind == "probabilities":
        assert converted.link is not None
        layers.append(converted.link)
    return EstimatorModule(converted.source, layers, kind, converted.classes)


def convert(estimator: Any) -> Conversion:
    """Return the conversion of a fitted estimator or step.

    Parameters
    ----------
    estimator : estimator
        Fitted estimator.

    Raises
    ------
    InvalidParameterError
        If it has no module.
    NotFittedError
        If it is not fitted.
    """
    converter = converter_of(estimator, _CONVERTERS, _REFUSED)
    check_is_fitted(estimator)
    return converter(estimator, convert)


def _resolve_output(converted: Conversion, output: str, estimator: Any) -> str:
    """Return the kind of output, "auto" resolved."""
    has_link = converted.link is not None
    available = [converted.gives, *(["probabilities"] if has_link else [])]
    if output == "auto":
        return available[-1]
    if output not in available:
        hint = ""
        if output == "probabilities" and converted.gives == "logits":
            hint = ". CalibratedClassifierCV(FrozenEstimator(pipeline)) adds predict_proba"
        raise InvalidParameterError(
            f"output={output!r} is none of {type(estimator).__name__}, which gives {' and '.join(available)}{hint}"
        )
    return output
