"""Base class of the featurizers that run a backbone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.callback import CallbackSupportMixin, with_callbacks
from sklearn.utils import Tags
from sklearn.utils.validation import check_consistent_length, check_is_fitted

from sktransfer._utils import all_or_nothing, progress
from sktransfer._validation import check_option
from sktransfer.backbones.backbone import Backbone
from sktransfer.backbones.pooling import cheap_poolings
from sktransfer.cache.policy import prefetch_for_layers
from sktransfer.cache.resolve import resolve_store
from sktransfer.cache.types import Cache
from sktransfer.engine.choice_targets import ChoiceTargets
from sktransfer.engine.choose_layers import (
    CandidateOutputs,
    candidate_layers,
    choice_rows,
    choose_layers,
    collect_candidates,
)
from sktransfer.engine.chosen_layers import ChosenLayers
from sktransfer.engine.compute import Compute, check_finite_outputs, resolve_compute
from sktransfer.engine.forward import LayerOutput, Outputs, forward
from sktransfer.engine.inputs import PreprocessedSamples, concat_features, preprocessed
from sktransfer.engine.layers import is_auto, resolve_layers
from sktransfer.exceptions import InvalidParameterError, InvalidSample, InvalidSampleWarning, warn
from sktransfer.html import BackboneHTML
from sktransfer.samples.base import Rows
from sktransfer.samples.images import check_images
from sktransfer.samples.validation import check_samples, set_input_tags

__all__ = ["Featurizer"]

_TARGETS = ("auto", "classes", "numbers")
_ON_ERROR = ("raise", "warn", "nan")
_BLANK = (224, 224, 3)  # shape of the image that counts features if no sample is readable


class Featurizer(
    ChosenLayers,
    BackboneHTML,
    CallbackSupportMixin,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    BaseEstimator,
):
    """A frozen backbone as a transformer. Subclasses declare their modality and their parameters."""

    _modality: str
    backbone: str | Backbone
    weights: Any
    layer: int | str | Sequence[int | str]
    target: str
    pooling: str | None
    batch_size: int | str
    device: Any
    precision: str
    cache: Cache
    verbose: int
    on_error: str = "raise"  # a parameter of image featurizers only, because texts need no decoding
    missing: str
    _missing_options: tuple[str, str]  # the default, and the one that allows missing samples
    _candidates: list[LayerOutput]

    @all_or_nothing
    def fit(self, X: Any, y: Any = None) -> Self:
        """Load the backbone, validate the samples and choose layers if `layer="auto"`, without training.

        Parameters
        ----------
        X : array-like, Series, one-column DataFrame or list of n_samples
            The samples.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs), default=None
            Labels or numbers that `layer="auto"` chooses by. Otherwise ignored.

        Returns
        -------
        self : object

        Raises
        ------
        InvalidParameterError
            If a parameter is not allowed.
        InvalidSampleError
            If a sample cannot be used.
        ValueError
            If `layer="auto"` and y does not fit X, or no sample can be read.
        """
        inputs = self._inputs(self._fit(X))
        if is_auto(self.layer) and y is not None:
            self._choose(inputs, y)
            inputs.warn_of_unread()
        else:
            self._set_widths(self._count_features(inputs))
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
        if not hasattr(self, "backbone_"):
            check_is_fitted(self)  # which collects all tags first
        return self._features(self._inputs(self._check(X, reset=False)), self._widths)[0]

    @all_or_nothing
    @with_callbacks  # type: ignore[untyped-decorator]
    def fit_transform(self, X: Any, y: Any = None) -> np.ndarray:
        """Fit and return the features of the same samples, which are validated once.

        Parameters
        ----------
        X : array-like, Series, one-column DataFrame or list of n_samples
            The samples.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs), default=None
            Labels or numbers that `layer="auto"` chooses by. Otherwise ignored.

        Returns
        -------
        features : ndarray of shape (n_samples, n_features), float32

        Raises
        ------
        InvalidParameterError
            If a parameter is not allowed.
        InvalidSampleError
            If a sample cannot be used.
        ValueError
            If `layer="auto"` and y does not fit X, or no sample can be read.
        """
        context = self._init_callback_context(max_subtasks=None)
        context.call_on_fit_task_begin(estimator=self, X=X, y=y)
        inputs = self._inputs(self._fit(X))
        known = self._choose(inputs, y, context) if is_auto(self.layer) and y is not None else None
        features, widths = self._features(inputs, known=known, context=context)
        self._set_widths(widths)
        context.call_on_fit_task_end(estimator=self, X=X, y=y)
        return features

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Return the names of the features.

        Parameters
        ----------
        input_features : ignored
            Present because scikit-learn passes it.

        Returns
        -------
        names : ndarray of str, object
            The class name in lower case and a number for one layer, such as "imagefeaturizer0". With several layers,
            the name of the stage as well: "imagefeaturizer_block4_0". With layers chosen by y, the name of the stage
            and the pooling: "imagefeaturizer_block4_grid2_0".
        """
        names: np.ndarray = super().get_feature_names_out(input_features)
        prefix, n_named, named = type(self).__name__.lower(), Counter[str](), []
        if self._choice is not None:
            for name, width in zip(self.layer_.index, self._widths, strict=True):
                layer = name if isinstance(name, str) else "_".join(name)
                named += [f"{prefix}_{layer}_{i}" for i in range(width)]
            return np.asarray(named, dtype=object)
        if len(self._widths) == 1:
            return names
        for one, width in zip(self._layers(), self._widths, strict=True):
            stage = one.stage_name(self.backbone_)
            named += [f"{prefix}_{stage}_{n_named[stage] + i}" for i in range(width)]
            n_named[stage] += width  # a stage may be named twice
        return np.asarray(named, dtype=object)

    def _set_widths(self, widths: list[int]) -> None:
        self._widths, self._n_features_out = widths, sum(widths)

    def _load(self) -> Backbone:
        raise NotImplementedError

    def _fit(self, X: Any) -> Rows:
        if isinstance(self.backbone, Backbone):
            self._check_modality(self.backbone)
        samples = self._check(X, reset=True)
        backbone = self._load()
        self._check_modality(backbone)
        resolve_layers(backbone, -1 if is_auto(self.layer) else self.layer, self.pooling)
        check_option("target", self.target, _TARGETS)
        self._compute()
        resolve_store(self.cache)
        self.backbone_, self._choice = backbone, None
        return samples

    def _check_modality(self, backbone: Backbone) -> None:
        if backbone.modality != self._modality:
            joined = "" if None in backbone.towers else "; use JoinedFeaturizer"
            raise InvalidParameterError(
                f"backbone={self.backbone!r} takes {backbone.modality}s, "
                f"{type(self).__name__} featurizes {self._modality}s{joined}"
            )

    def _choose(self, inputs: PreprocessedSamples, y: Any, context: Any = None) -> CandidateOutputs:
        """Choose layers, and return the outputs of all of them for the rows that they were chosen by."""
        targets = ChoiceTargets.of(y, self.target)
        check_consistent_length(range(len(inputs)), targets.values)
        rows = choice_rows(len(inputs))
        self._candidates = candidate_layers(self.backbone_, inputs, self.pooling, self._compute())
        with progress(len(rows), self, self._modality, self.verbose) as bar:

            def on_batch(n_rows: int) -> None:
                bar.update(n_rows)
                self._report_batch(context)

            outputs = collect_candidates(
                self.backbone_,
                inputs,
                self._candidates,
                rows,
                compute=self._compute(),
                store=resolve_store(self.cache),
                on_batch=on_batch,
            )
        if not outputs.rows:
            raise ValueError(
                f"layer='auto' weighs layers by their features, and none of {len(rows)} {self._modality}s could be "
                "read: find_bad_images(X) tells why; set layer to a stage to get rows of NaN"
            )
        self._choice = choose_layers(outputs, targets.take(outputs.rows))
        self._set_widths(list(self._choice.widths))
        return outputs

    def _report_batch(self, context: Any) -> None:
        """Tell callbacks of scikit-learn of a batch."""
        if context is not None:
            task = context.subcontext(task_name="batch")
            task.call_on_fit_task_begin(estimator=self)
            task.call_on_fit_task_end(estimator=self)

    def _compute(self) -> Compute:
        backbone = getattr(self, "backbone_", None)
        return resolve_compute(self.device, self.precision, self.batch_size, backbone)

    def _check(self, X: Any, *, reset: bool) -> Rows:
        if self.on_error not in _ON_ERROR:
            raise InvalidParameterError(f"on_error={self.on_error!r} must be one of {_ON_ERROR}")
        missing = check_option("missing", self.missing, self._missing_options)
        shape, defer = getattr(self, "image_shape", None), self.on_error != "raise"
        return check_samples(self, X, self._modality, image_shape=shape, reset=reset, defer=defer, missing=missing)

    def _inputs(self, samples: Rows) -> PreprocessedSamples:
        leave_out = self.on_error != "raise" or samples.absent
        inputs: PreprocessedSamples = preprocessed(samples, self.backbone_.preprocess, leave_out=leave_out)
        return inputs

    def _count_features(self, inputs: PreprocessedSamples) -> list[int]:
        """Return the number of features of each layer, from the first readable sample or else from a blank image.

        The output for the sample is cached. An error here reports that stage and pooling do not fit together.
        """
        for row in range(len(inputs)):
            for rows, outputs in self._forward(inputs, rows=[row]):
                if rows:
                    return [output[0].shape[-1] for output in outputs]
        return self._count_features_of_blank()

    def _count_features_of_blank(self) -> list[int]:
        return self._count_features(self._inputs(check_images(np.zeros((1, *_BLANK), np.uint8))))

    def _layers(self) -> list[LayerOutput]:
        if self._choice is not None:
            return list(self._choice.layers)
        return resolve_layers(self.backbone_, -1 if is_auto(self.layer) else self.layer, self.pooling)

    def _prefetch(self) -> list[LayerOutput]:
        """Return the layers that a search may need next.

        They are the vectors of the stages below and the values of the top stage, or all layers that another fold may
        choose.
        """
        if self._choice is not None:
            return self._candidates
        found: list[LayerOutput] = []
        for name, tower in self.backbone_.towers.items():
            *_, top = sorted((one for one in self._layers() if one.tower == name), key=lambda layer: layer.stop)
            cheap = top.pooling in cheap_poolings()
            outputs = prefetch_for_layers(top.stop, top.pooling, len(tower.stages), cheap=cheap)
            found += [LayerOutput(*output, name) for output in outputs]
        return found

    def _forward(
        self, inputs: PreprocessedSamples, rows: Sequence[int] | None = None, compute: Compute | None = None
    ) -> Iterator[Outputs]:
        store = resolve_store(self.cache)
        return forward(
            self.backbone_,
            inputs,
            self._layers(),
            rows=rows,
            compute=compute or self._compute(),
            store=store,
            prefetch=() if store is None else self._prefetch(),
        )

    def _outputs(
        self, inputs: PreprocessedSamples, known: CandidateOutputs | None, compute: Compute
    ) -> Iterator[Outputs]:
        """Yield the outputs for all rows. Those for rows that layers were chosen by are known."""
        if known is None:
            return self._forward(inputs, compute=compute)
        rest = np.setdiff1d(np.arange(len(inputs)), [*known.rows, *inputs.left_out]).tolist()
        return chain([(known.rows, known.of(self._layers()))], self._forward(inputs, rest, compute) if rest else ())

    def _features(
        self,
        inputs: PreprocessedSamples,
        widths: list[int] | None = None,
        *,
        known: CandidateOutputs | None = None,
        context: Any = None,
    ) -> tuple[np.ndarray, list[int]]:
        """Return the features, and the number of features of each layer."""
        n_samples, compute = len(inputs), self._compute()
        features: np.ndarray | None = None
        is_readable = np.zeros(n_samples, dtype=bool)
        with progress(n_samples, self, self._modality, self.verbose) as bar:
            for rows, outputs in self._outputs(inputs, known, compute):
                if not rows:
                    continue
                values = concat_features(outputs).numpy()  # (n, n_features)
                if features is None:
                    widths = [output[0].numel() for output in outputs]
                    features = np.empty((n_samples, values.shape[1]), np.float32)
                features[rows], is_readable[rows] = values, True
                bar.update(len(rows))
                if known is None or rows is not known.rows:
                    self._report_batch(context)
            unreadable = np.flatnonzero(~is_readable)
            bar.update(len(unreadable))
        inputs.warn_of_unread()
        widths = widths or self._count_features_of_blank()
        if features is None:
            features = np.empty((n_samples, sum(widths)), np.float32)
        if len(unreadable):
            features[unreadable] = 0
        check_finite_outputs(features, compute)
        if len(unreadable):
            features[unreadable] = np.nan
        if self.on_error == "warn":
            _warn_of_unreadable(inputs, unreadable.tolist())
        return self._postprocess(features, widths), widths

    def _postprocess(self, features: np.ndarray, widths: Sequence[int]) -> np.ndarray:
        return features if self._choice is None else self._choice.scaled(features)

    def _scales_to_unit_length(self) -> bool:
        """Return whether the features of each sample are scaled to length 1."""
        return False

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.requires_fit = True
        tags.transformer_tags.preserves_dtype = []  # features are float32 for every input dtype
        set_input_tags(tags, self._modality)
        # Rows of NaN, as of missing images, give rows of NaN, and missing texts those of an empty text.
        tags.input_tags.allow_nan = self.on_error != "raise" or self.missing == self._missing_options[1]
        return tags


def _warn_of_unreadable(inputs: PreprocessedSamples, rows: list[int]) -> None:
    if not rows:
        return
    inputs.readable([row for row in rows if row not in inputs.left_out])  # only one of several equal samples was read
    readable = "could not be read during this call but can be read now; call transform again"
    samples = inputs.samples
    failures = [
        inputs.left_out.get(row, InvalidSample(row, samples.path(row), readable, samples.label(row))) for row in rows
    ]
    unreadable = [failure for failure in failures if failure.row not in samples.absent]
    if unreadable:
        warn(InvalidSampleWarning(unreadable, len(inputs)))
