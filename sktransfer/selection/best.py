"""Estimator that chooses its backbone and layer during `fit`, and so inside each fold of a cross-validation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, MetaEstimatorMixin, clone, is_classifier, is_regressor
from sklearn.linear_model import LogisticRegression
from sklearn.utils import Tags, get_tags
from sklearn.utils.metadata_routing import MetadataRouter, MethodMapping, process_routing
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import assert_all_finite, check_consistent_length, check_is_fitted

from sktransfer._utils import all_or_nothing
from sktransfer.backbones.backbone import Backbone
from sktransfer.backbones.registry import modality_of
from sktransfer.cache.types import Cache
from sktransfer.engine.forward import LayerOutput
from sktransfer.exceptions import InvalidParameterError
from sktransfer.finetuning.plain_state import PlainState
from sktransfer.html import BackboneHTML
from sktransfer.samples.labels import row_labels
from sktransfer.samples.validation import check_samples, set_input_tags
from sktransfer.selection.candidates import (
    Candidates,
    RunSettings,
    resolve_candidate_layers,
    resolve_candidates,
    run_backbone,
)
from sktransfer.selection.ranking import ScoredLayer, score_layers
from sktransfer.selection.scores import resolve_scores
from sktransfer.selection.validation import resolve_target_type
from sktransfer.tasks.validation import as_array, as_labels, check_none_missing, check_numbers, check_weight
from sktransfer.towers.joined import refuse_joined

if TYPE_CHECKING:
    import torch

__all__ = ["BestBackbone"]


def _estimator_has(method: str) -> Callable[[BestBackbone], bool]:
    def check(self: BestBackbone) -> bool:
        getattr(self.estimator_ if hasattr(self, "estimator_") else self._estimator(), method)
        return True

    return check


class BestBackbone(PlainState, BackboneHTML, MetaEstimatorMixin, BaseEstimator):
    """Choose backbone and layer by a transferability score, and fit an estimator on the layer's features.

    The choice is made in `fit` and uses only the samples given there. Cross-validation of this estimator therefore
    includes the effect of choosing, unlike cross-validation of the winner of a ranking.

    Parameters
    ----------
    candidates : list of str or Backbone, or dict of str to these, default=("tiny/cnn",)
        As in `rank_backbones`.
    metric : str, default="logme"
        Score that chooses: "h_score", "logme", "knn" or a plugin's. For numbers "logme" or "knn".
    estimator : estimator, default=None
        Estimator fitted on the features, None for logistic regression. It decides whether this estimator is a
        classifier or a regressor.
    layers : "all", "last" or list of int and str, default="all"
        As in `rank_backbones`.
    pooling : str, default="auto"
        As in `ImageFeaturizer` and `TextFeaturizer`.
    image_shape : tuple of int, default=None
        As in `ImageFeaturizer`.
    batch_size : int or "auto", default="auto"
        As in `ImageFeaturizer`.
    device : str or torch.device, default="auto"
        As in `ImageFeaturizer`.
    precision : {"float32", "bfloat16", "float16", "auto", "int8"}, default="float32"
        As in `ImageFeaturizer`.
    cache : "memory", path, URL, list or None, default="memory"
        As in `ImageFeaturizer`. With a cache, folds share the backbone's outputs for a sample.
    verbose : int, default=0
        1 shows one progress bar per backbone.

    Attributes
    ----------
    best_backbone_ : str
        Name of the chosen backbone.
    best_layer_ : str
        Name of the chosen stage.
    best_score_ : float
        Score of the chosen layer on the samples given to `fit`.
    backbone_ : Backbone
        The chosen backbone.
    estimator_ : estimator
        The estimator fitted on the layer's features.
    ranking_ : DataFrame
        One row per layer, best first, with columns backbone, layer, the score, seconds and bytes.
    n_features_in_ : int
        Number of columns, if X has columns.

    See Also
    --------
    rank_backbones : Compute the scores without choosing.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sktransfer import BestBackbone
    >>> X, y = load_digits(return_X_y=True)
    >>> clf = BestBackbone(["tiny/cnn"], metric="logme").fit(X[:200] / 16, y[:200])
    >>> clf.score(X[200:400] / 16, y[200:400]) > 0.7
    True
    """

    def __init__(
        self,
        candidates: Candidates = ("tiny/cnn",),
        *,
        metric: str = "logme",
        estimator: Any = None,
        layers: str | Sequence[int | str] = "all",
        pooling: str = "auto",
        image_shape: tuple[int, ...] | None = None,
        batch_size: int | str = "auto",
        device: str | torch.device = "auto",
        precision: str = "float32",
        cache: Cache = "memory",
        verbose: int = 0,
    ) -> None:
        self.candidates = candidates
        self.metric = metric
        self.estimator = estimator
        self.layers = layers
        self.pooling = pooling
        self.image_shape = image_shape
        self.batch_size = batch_size
        self.device = device
        self.precision = precision
        self.cache = cache
        self.verbose = verbose

    @all_or_nothing
    def fit(self, X: Any, y: Any, **fit_params: Any) -> Self:
        """Choose a backbone and a layer, and fit the estimator on its features.

        Parameters
        ----------
        X : array-like, Series, one-column DataFrame or list of n_samples
            Images or texts.
        y : array-like of shape (n_samples,) or (n_samples, n_targets)
            Targets, as the estimator takes them.
        **fit_params
            Parameters of the estimator's `fit`. Samples whose `sample_weight` is zero are dropped. The choice ignores
            other weights.

        Returns
        -------
        self : object

        Raises
        ------
        InvalidParameterError
            If a parameter is not allowed, or the metric is not defined for such targets.
        InvalidSampleError
            If a sample cannot be used.
        """
        if y is None:
            raise ValueError("This BestBackbone estimator requires y to be passed, but the target y is None.")
        estimator = self._estimator()
        params = process_routing(self, "fit", **fit_params).estimator.fit if _is_routing_enabled() else fit_params
        backbones = resolve_candidates(self.candidates)
        for backbone in backbones.values():
            instead = "compare joined backbones by rank_backbones, and use JoinedFeaturizer for their features"
            refuse_joined(backbone, "BestBackbone", instead)
        modality = next(iter(backbones.values())).modality
        samples = check_samples(self, X, modality, image_shape=self.image_shape, reset=True)
        targets, target_type = _check_targets(y, estimator)
        check_consistent_length(samples, targets)
        rows = _rows_with_weight(params.get("sample_weight"), len(targets))
        if len(rows) < len(targets):
            samples, targets = samples.take(rows), targets[rows]
            if target_type == "multiclass" and len(np.unique(targets)) < 2:
                raise ValueError(
                    "sample_weight leaves samples of fewer than two classes: all samples of the other classes have "
                    "weight 0"
                )
            params = {**params, "sample_weight": np.asarray(params["sample_weight"])[rows]}
        (score,) = resolve_scores([self.metric] if isinstance(self.metric, str) else self.metric, target_type)
        if score.takes != "features":
            raise InvalidParameterError(
                f"metric={self.metric!r} judges heads and cannot choose a layer: use a score of features, such as "
                "'h_score'"
            )
        layers = {
            name: resolve_candidate_layers(backbone, self.layers, self.pooling) for name, backbone in backbones.items()
        }
        table, best = [], None
        for scored in score_layers(backbones, layers, samples, targets, target_type, [score], self._run_settings()):
            value = scored.scores[score.name]
            table.append((scored.name, scored.stage_name, value, scored.seconds, scored.n_bytes))
            if best is None or value > best.scores[score.name]:
                best = scored
        assert best is not None  # there is at least one candidate, and it has a layer
        self._store_choice(best, score.name, table)
        self.estimator_ = clone(estimator).fit(self._cast(best.features), targets, **params)
        return self

    def _store_choice(self, best: ScoredLayer, metric: str, rows: list[tuple[Any, ...]]) -> None:
        self.best_backbone_, self.best_layer_, self.best_score_ = best.name, best.stage_name, best.scores[metric]
        self.backbone_, self._layer = best.backbone, best.layers[0]
        ranking = pd.DataFrame(rows, columns=["backbone", "layer", metric, "seconds", "bytes"])
        self.ranking_ = ranking.sort_values(metric, ascending=False, kind="stable")

    @available_if(_estimator_has("predict"))  # type: ignore[untyped-decorator]
    def predict(self, X: Any) -> np.ndarray:
        """Return the predictions of the estimator.

        Parameters
        ----------
        X : array-like, Series, one-column DataFrame or list of n_samples
            Images or texts.
        """
        return self._call("predict", X)

    @available_if(_estimator_has("predict_proba"))  # type: ignore[untyped-decorator]
    def predict_proba(self, X: Any) -> np.ndarray:
        """Return the probabilities of the estimator.

        Parameters
        ----------
        X : array-like, Series, one-column DataFrame or list of n_samples
            Images or texts.
        """
        return self._call("predict_proba", X)

    @available_if(_estimator_has("decision_function"))  # type: ignore[untyped-decorator]
    def decision_function(self, X: Any) -> np.ndarray:
        """Return the decision function of the estimator.

        Parameters
        ----------
        X : array-like, Series, one-column DataFrame or list of n_samples
            Images or texts.
        """
        return self._call("decision_function", X)

    @available_if(_estimator_has("score"))  # type: ignore[untyped-decorator]
    def score(self, X: Any, y: Any, **score_params: Any) -> float:
        """Return the score of the estimator.

        Parameters
        ----------
        X : array-like, Series, one-column DataFrame or list of n_samples
            Images or texts.
        y : array-like of shape (n_samples,) or (n_samples, n_targets)
            Targets.
        **score_params
            Parameters of the estimator's `score`, such as `sample_weight`.
        """
        params = (
            process_routing(self, "score", **score_params).estimator.score if _is_routing_enabled() else score_params
        )
        return float(self.estimator_.score(self._features(X), y, **params))

    @property
    def classes_(self) -> np.ndarray:
        """Classes of the estimator."""
        check_is_fitted(self)
        classes: np.ndarray = self.estimator_.classes_
        return classes

    def get_metadata_routing(self) -> MetadataRouter:
        """Return a router that passes the metadata of `fit` and `score` to the estimator."""
        mapping = MethodMapping().add(caller="fit", callee="fit").add(caller="score", callee="score")
        return MetadataRouter(owner=self).add(estimator=self._estimator(), method_mapping=mapping)

    def _estimator(self) -> Any:
        """Return the unfitted estimator."""
        return LogisticRegression(max_iter=1000) if self.estimator is None else self.estimator

    def _run_settings(self) -> RunSettings:
        return RunSettings.from_parameters(self.device, self.precision, self.batch_size, self.cache, self.verbose)

    def _features(self, X: Any) -> np.ndarray:
        check_is_fitted(self)
        samples = check_samples(self, X, self.backbone_.modality, image_shape=self.image_shape, reset=False)
        layer: LayerOutput = self._layer
        outputs = run_backbone(self.backbone_, samples, [layer], self._run_settings(), name=self.best_backbone_)
        return self._cast(outputs.features[0])

    def _cast(self, features: np.ndarray) -> np.ndarray:
        """Return features in float64 for regressors: targets far from 0 lose digits in float32."""
        return features.astype(np.float64) if is_regressor(self) else features

    def _call(self, method: str, X: Any) -> np.ndarray:
        check_is_fitted(self)
        result: np.ndarray = getattr(self.estimator_, method)(self._features(X))
        return result

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        inner = get_tags(self._estimator())
        tags.estimator_type, tags.target_tags = inner.estimator_type, inner.target_tags
        tags.classifier_tags, tags.regressor_tags = inner.classifier_tags, inner.regressor_tags
        set_input_tags(tags, _modality(self.candidates))
        return tags


def _is_routing_enabled() -> bool:
    from sklearn import get_config

    return bool(get_config()["enable_metadata_routing"])


def _rows_with_weight(sample_weight: Any, n_samples: int) -> np.ndarray:
    return np.flatnonzero(check_weight(sample_weight, n_samples))


def _check_targets(y: Any, estimator: Any) -> tuple[np.ndarray, str]:
    """Return targets and their type. A regressor makes whole numbers continuous."""
    targets = check_numbers(y, "y", "target") if is_regressor(estimator) else as_array(y, "y")
    if targets.ndim == 2 and targets.shape[1] == 1:
        targets = as_labels(targets)  # (n_samples,)
    check_none_missing(targets, "y", "target", labels=row_labels(y))
    assert_all_finite(targets, input_name="y")
    if is_classifier(estimator):
        check_classification_targets(targets)
        return targets, "multiclass" if targets.ndim == 1 else "multilabel-indicator"
    if is_regressor(estimator):
        return targets, "continuous"
    return targets, resolve_target_type(targets)


def _modality(candidates: Any) -> str:
    first: Any = next(iter(candidates.values() if hasattr(candidates, "values") else candidates), None)
    return (modality_of(first) if isinstance(first, (str, Backbone)) else None) or "image"
