"""An estimator that chooses its backbone and layer among candidates, inside each fold."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, MetaEstimatorMixin, clone, is_classifier, is_regressor
from sklearn.linear_model import LogisticRegression
from sklearn.utils import Tags, column_or_1d, get_tags
from sklearn.utils.metadata_routing import MetadataRouter, MethodMapping, process_routing
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import assert_all_finite, check_consistent_length, check_is_fitted

from sktransfer._utils import all_or_nothing
from sktransfer.backbones.backbone import Backbone
from sktransfer.backbones.registry import modality_of
from sktransfer.engine.forward import LayerOutput
from sktransfer.exceptions import InvalidParameterError
from sktransfer.html import BackboneHTML
from sktransfer.samples.validation import check_samples, set_input_tags
from sktransfer.selection.arrays import kind_of
from sktransfer.selection.candidates import Candidates, Run, layer_taps, named, run_once
from sktransfer.selection.ranking import Scored, score_layers
from sktransfer.selection.scores import resolve_scores

if TYPE_CHECKING:
    import torch

__all__ = ["BestBackbone"]


def _estimator_has(method: str) -> Callable[[BestBackbone], bool]:
    def check(self: BestBackbone) -> bool:
        getattr(self.estimator_ if hasattr(self, "estimator_") else self._unfitted(), method)
        return True

    return check


class BestBackbone(BackboneHTML, MetaEstimatorMixin, BaseEstimator):
    """Choose backbone and layer by a transferability score, and fit an estimator on its features.

    The choice is made in `fit`, on the samples given there alone: cross-validation of this estimator is honest about
    what choosing costs, where cross-validation of the winner of a ranking is not.

    Parameters
    ----------
    candidates : list of str or Backbone, or dict of str to these, default=("tiny/cnn",)
        As in `rank_backbones`.
    metric : str, default="logme"
        The score that chooses: "h_score", "logme", "knn" or a plugin's; of numbers "logme" or "knn".
    estimator : estimator, default=None
        What is fitted on the features; None for logistic regression. Whether it is a classifier or a regressor
        makes this one so.
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
    precision : {"float32", "bfloat16", "float16", "auto"}, default="float32"
        As in `ImageFeaturizer`.
    cache : "memory", path or None, default="memory"
        As in `ImageFeaturizer`: with it, folds run no backbone twice over a sample.
    verbose : int, default=0
        1 shows a progress bar a backbone.

    Attributes
    ----------
    best_backbone_ : str
        The name of the backbone chosen.
    best_layer_ : str
        The name of its stage.
    best_score_ : float
        Its score on the samples given to `fit`.
    backbone_ : Backbone
        The backbone chosen.
    estimator_ : estimator
        Fitted on its features.
    ranking_ : DataFrame
        Every layer with its score: backbone, layer, score, seconds, bytes; the best on top.
    n_features_in_ : int
        Number of columns, where X has any.

    See Also
    --------
    rank_backbones : The scores, without choosing.

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
        cache: str | os.PathLike[str] | None = "memory",
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
            For the estimator's `fit`. Where `sample_weight` is zero the sample is left out; the choice sees no more of
            weights than that.

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
        estimator = self._unfitted()
        params = process_routing(self, "fit", **fit_params).estimator.fit if _routes() else fit_params
        backbones = named(self.candidates)
        modality = next(iter(backbones.values())).modality
        samples = check_samples(self, X, modality, image_shape=self.image_shape, reset=True)
        targets, kind = _checked_targets(y, estimator)
        check_consistent_length(samples, targets)
        rows = _rows_that_weigh(params.get("sample_weight"), len(targets))
        if len(rows) < len(targets):
            samples, targets = samples.take(rows), targets[rows]
            if kind == "classes" and len(np.unique(targets)) < 2:
                raise ValueError("sample_weight leaves no two classes to tell apart: the others' weights are all zero")
            params = {**params, "sample_weight": np.asarray(params["sample_weight"])[rows]}
        (score,) = resolve_scores([self.metric] if isinstance(self.metric, str) else self.metric, kind)
        if score.takes != "features":
            raise InvalidParameterError(
                f"metric={self.metric!r} judges heads, and says nothing of layers: use 'h_score'"
            )
        taps = {name: layer_taps(backbone, self.layers, self.pooling) for name, backbone in backbones.items()}
        table, best = [], None
        for scored in score_layers(backbones, taps, samples, targets, kind, [score], self._run()):
            value = scored.scores[score.name]
            table.append((scored.name, scored.layer, value, scored.seconds, scored.n_bytes))
            if best is None or value > best.scores[score.name]:
                best = scored
        assert best is not None  # there is a candidate, and a layer of it
        self._keep(best, score.name, table)
        self.estimator_ = clone(estimator).fit(self._typed(best.features), targets, **params)
        return self

    def _keep(self, best: Scored, metric: str, rows: list[tuple[Any, ...]]) -> None:
        self.best_backbone_, self.best_layer_, self.best_score_ = best.name, best.layer, best.scores[metric]
        self.backbone_, self._tap = best.backbone, best.tap
        table = pd.DataFrame(rows, columns=["backbone", "layer", metric, "seconds", "bytes"])
        self.ranking_ = table.sort_values(metric, ascending=False, kind="stable")

    @available_if(_estimator_has("predict"))  # type: ignore[untyped-decorator]
    def predict(self, X: Any) -> np.ndarray:
        """Return what the estimator predicts.

        Parameters
        ----------
        X : array-like, Series, one-column DataFrame or list of n_samples
            Images or texts.
        """
        return self._ask("predict", X)

    @available_if(_estimator_has("predict_proba"))  # type: ignore[untyped-decorator]
    def predict_proba(self, X: Any) -> np.ndarray:
        """Return the estimator's probabilities.

        Parameters
        ----------
        X : array-like, Series, one-column DataFrame or list of n_samples
            Images or texts.
        """
        return self._ask("predict_proba", X)

    @available_if(_estimator_has("decision_function"))  # type: ignore[untyped-decorator]
    def decision_function(self, X: Any) -> np.ndarray:
        """Return the estimator's decision function.

        Parameters
        ----------
        X : array-like, Series, one-column DataFrame or list of n_samples
            Images or texts.
        """
        return self._ask("decision_function", X)

    @available_if(_estimator_has("score"))  # type: ignore[untyped-decorator]
    def score(self, X: Any, y: Any, **score_params: Any) -> float:
        """Return the estimator's own score.

        Parameters
        ----------
        X : array-like, Series, one-column DataFrame or list of n_samples
            Images or texts.
        y : array-like of shape (n_samples,) or (n_samples, n_targets)
            Targets.
        **score_params
            For the estimator's `score`, as `sample_weight`.
        """
        params = process_routing(self, "score", **score_params).estimator.score if _routes() else score_params
        return float(self.estimator_.score(self._features(X), y, **params))

    @property
    def classes_(self) -> np.ndarray:
        """The estimator's classes."""
        check_is_fitted(self)
        classes: np.ndarray = self.estimator_.classes_
        return classes

    def get_metadata_routing(self) -> MetadataRouter:
        """Return that `fit` and `score` hand on what the estimator asks for."""
        mapping = MethodMapping().add(caller="fit", callee="fit").add(caller="score", callee="score")
        return MetadataRouter(owner=self).add(estimator=self._unfitted(), method_mapping=mapping)

    def _unfitted(self) -> Any:
        return LogisticRegression(max_iter=1000) if self.estimator is None else self.estimator

    def _run(self) -> Run:
        return Run.of(self.device, self.precision, self.batch_size, self.cache, self.verbose)

    def _features(self, X: Any) -> np.ndarray:
        check_is_fitted(self)
        samples = check_samples(self, X, self.backbone_.modality, image_shape=self.image_shape, reset=False)
        tap: LayerOutput = self._tap
        return self._typed(run_once(self.backbone_, samples, [tap], self._run(), name=self.best_backbone_).features[0])

    def _typed(self, features: np.ndarray) -> np.ndarray:
        return features.astype(np.float64) if is_regressor(self) else features  # targets far from 0 keep their digits

    def _ask(self, method: str, X: Any) -> np.ndarray:
        check_is_fitted(self)
        answer: np.ndarray = getattr(self.estimator_, method)(self._features(X))
        return answer

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        of = get_tags(self._unfitted())
        tags.estimator_type, tags.target_tags = of.estimator_type, of.target_tags
        tags.classifier_tags, tags.regressor_tags = of.classifier_tags, of.regressor_tags
        set_input_tags(tags, _modality(self.candidates))
        return tags


def _routes() -> bool:
    from sklearn import get_config

    return bool(get_config()["enable_metadata_routing"])


def _rows_that_weigh(sample_weight: Any, n_samples: int) -> np.ndarray:
    return np.arange(n_samples) if sample_weight is None else np.flatnonzero(np.asarray(sample_weight))


def _checked_targets(y: Any, estimator: Any) -> tuple[np.ndarray, str]:
    """Return targets, and their kind: whole numbers are numbers where the estimator is a regressor."""
    targets = np.asarray(y)
    if targets.ndim == 2 and targets.shape[1] == 1:
        targets = column_or_1d(targets, warn=True)  # (n_samples,)
    assert_all_finite(targets, input_name="y")
    if is_classifier(estimator):
        check_classification_targets(targets)
        return targets, "classes" if targets.ndim == 1 else "multilabel"
    if is_regressor(estimator):
        return targets.astype(np.float64), "numbers"
    return targets, kind_of(targets)


def _modality(candidates: Any) -> str:
    first: Any = next(iter(candidates.values() if hasattr(candidates, "values") else candidates), None)
    return (modality_of(first) if isinstance(first, (str, Backbone)) else None) or "image"
