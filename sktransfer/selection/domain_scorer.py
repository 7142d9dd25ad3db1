"""Scorers for a choice between models without labels of the target domain."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import clone, is_classifier
from sklearn.metrics._scorer import _BaseScorer
from sklearn.utils import _safe_indexing
from sklearn.utils.metadata_routing import MetadataRequest, get_routing_for_object
from sklearn.utils.validation import _num_samples, has_fit_parameter

from sktransfer._validation import check_float, check_int, check_option
from sktransfer.domains.sample_domain import read_signs
from sktransfer.exceptions import InvalidParameterError, TargetWarning, did_you_mean
from sktransfer.selection.domain_features import domain_arguments, innermost, read_features
from sktransfer.selection.domain_scores import (
    deep_embedded_validation,
    density_ratio,
    importance_weighted_accuracy,
    information_maximization,
    matrix_norm,
    prediction_entropy,
    soft_neighborhood_density,
)

__all__ = ["make_domain_scorer"]

_LEAST = 1e-12  # probability that stands for 0, so that its logarithm is finite


@dataclasses.dataclass(frozen=True)
class _Part:
    """Samples to score, with the responses of an estimator to all of them.

    Parameters
    ----------
    estimator : classifier
        Fitted estimator.
    X : array-like of n_samples
        Samples.
    y : array-like of shape (n_samples,)
        Labels as given, of which some may be missing.
    labels : ndarray of shape (n_source,)
        Labels of the source samples.
    source, target : ndarray of int
        Rows of source samples with a label, and of target samples.
    sample_domain : ndarray of shape (n_samples,)
        Domain of each sample.
    response : ndarray of shape (n_samples,) or (n_samples, n_classes)
        Predictions, probabilities or logits.
    are_logits : bool
        Whether the response is logits.
    """

    estimator: Any
    X: Any
    y: Any
    labels: np.ndarray
    source: np.ndarray
    target: np.ndarray
    sample_domain: np.ndarray
    response: np.ndarray
    are_logits: bool

    def density_ratio(self, domain_classifier: Any, n_splits: int) -> np.ndarray:
        """Return the ratio of the densities of target and source at each source sample, (n_source,)."""
        features = read_features(self.estimator, self.X, self.sample_domain)  # (n_samples, n_features)
        return density_ratio(features[self.source], features[self.target], domain_classifier, n_splits)


def _im(part: _Part) -> float:
    return information_maximization(part.response[part.target])


def _entropy(part: _Part) -> float:
    return prediction_entropy(part.response[part.target])


def _snd(part: _Part, temperature: float) -> float:
    return soft_neighborhood_density(part.response[part.target], temperature)


def _mano(part: _Part, p: float, threshold: float) -> float:
    return matrix_norm(part.response[part.target], p, threshold, are_logits=part.are_logits)


def _importance(part: _Part, domain_classifier: Any, n_splits: int) -> float:
    is_right = np.asarray(part.response[part.source] == part.labels)  # (n_source,)
    return importance_weighted_accuracy(is_right, part.density_ratio(domain_classifier, n_splits))


def _dev(part: _Part, domain_classifier: Any, n_splits: int) -> float:
    column = pd.Index(innermost(part.estimator).classes_).get_indexer(
        part.labels
    )  # (n_source,), -1 for a class without a column
    proba = part.response[part.source, column]  # (n_source,)
    losses = -np.log(np.clip(np.where(column < 0, 0, proba), _LEAST, None))  # (n_source,)
    return deep_embedded_validation(losses, part.density_ratio(domain_classifier, n_splits))


def _circular(part: _Part) -> float:
    predicted = part.response[part.target]  # (n_target,)
    if len(np.unique(predicted)) == 1:  # the way back would predict it everywhere
        return float(np.mean(part.labels == predicted[0]))
    way_back = clone(part.estimator)
    if get_routing_for_object(way_back).consumes("fit", ["sample_domain"]):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", TargetWarning)  # of labels that mark the new target
            way_back.fit(part.X, _reversed(part), sample_domain=-part.sample_domain)
    elif has_fit_parameter(innermost(way_back), "sample_domain"):
        way_back.fit(part.X, _reversed(part))
    else:  # an estimator that learns from labels only
        way_back.fit(_safe_indexing(part.X, part.target), predicted)
    return float(np.mean(way_back.predict(_safe_indexing(part.X, part.source)) == part.labels))


def _reversed(part: _Part) -> np.ndarray:
    """Return predictions as labels of target samples. Others have what target samples had: a mark of no label."""
    given = np.asarray(part.y)
    y = np.empty(len(given), dtype=np.result_type(given, part.response) if given.dtype.kind != "O" else object)
    y[:] = given[part.target[0]]
    y[part.target] = part.response[part.target]
    return y


def _check_n_splits(name: str, value: Any) -> int:
    return check_int(name, value, 2)


def _check_positive(name: str, value: Any) -> float:
    return check_float(name, value, exclude_minimum=True)


def _check_classifier(name: str, value: Any) -> Any:
    if isinstance(value, type) or not (value is None or (hasattr(value, "fit") and hasattr(value, "predict_proba"))):
        hint = f". Give an instance, {value.__name__}()" if isinstance(value, type) else ""
        raise InvalidParameterError(f"{name}={value!r} must be a classifier with predict_proba, or None{hint}")
    return value


@dataclasses.dataclass(frozen=True)
class _Rule:
    """Computation of one score.

    Parameters
    ----------
    function : callable
        Function of a `_Part` and the parameters.
    sign : {1, -1}
        1 if a higher value is better.
    response : str or tuple of str
        Method of the estimator whose values are read, or several of which the first is taken that there is.
    parameters : mapping of str to (object, callable)
        Default and check of each parameter.
    needs_source : bool
        Whether labelled source samples are read.
    """

    function: Callable[..., float]
    sign: int
    response: str | tuple[str, ...]
    parameters: Mapping[str, tuple[Any, Callable[[str, Any], Any]]] = dataclasses.field(default_factory=dict)
    needs_source: bool = False


_RATIO = {"domain_classifier": (None, _check_classifier), "n_splits": (5, _check_n_splits)}
_NORM = {"p": (4.0, _check_positive), "threshold": (5.0, check_float)}
_RULES = {
    "im": _Rule(_im, 1, "predict_proba"),
    "snd": _Rule(_snd, 1, "predict_proba", {"temperature": (0.05, _check_positive)}),
    "dev": _Rule(_dev, -1, "predict_proba", _RATIO, needs_source=True),
    "importance": _Rule(_importance, 1, "predict", _RATIO, needs_source=True),
    "entropy": _Rule(_entropy, -1, "predict_proba"),
    "circular": _Rule(_circular, 1, "predict", needs_source=True),
    "mano": _Rule(_mano, 1, ("decision_function", "predict_proba"), _NORM),
}


def make_domain_scorer(name: str, **parameters: Any) -> DomainScorer:
    """Return a scorer of classifiers in a domain without labels, for scikit-learn's `scoring`.

    Target samples are those of a negative `sample_domain`, as in `DomainAdaptationClassifier`. Without `sample_domain`,
    they are the samples whose y is missing, None or NaN. If y is None, all samples are target samples. Labels of target
    samples are never read.

    Parameters
    ----------
    name : {"im", "snd", "dev", "importance", "entropy", "circular", "mano"}
        Score. A higher value is always better, so "entropy" and "dev" are negated.

        - "im": information maximization, the entropy of the mean probabilities minus the mean entropy [1]_
        - "snd": soft neighborhood density, the entropy of similarities between target samples [2]_
        - "dev": deep embedded validation, the log loss on source samples, weighted by their resemblance to target
          samples, with a control variate [3]_
        - "importance": the accuracy on source samples with the same weights [4]_
        - "entropy": the mean entropy of the probabilities [5]_
        - "circular": a copy learns the labels that are predicted for the target samples. Its accuracy on source samples
          is the score [6]_
        - "mano": the norm of normalized logits, or of the probabilities if there is no `decision_function` [7]_
    **parameters : object
        Parameters of the score.

        - `temperature` of "snd": float, default=0.05
        - `domain_classifier` of "dev" and "importance": classifier with `predict_proba` that tells the domains apart.
          The default, None, is a logistic regression whose C has the smallest cross-validated loss
        - `n_splits` of "dev" and "importance": int, default=5. Number of folds of this classifier
        - `p` and `threshold` of "mano": float, default=4 and 5. Order of the norm, and cross-entropy to the uniform
          distribution above which logits count as calibrated

    Returns
    -------
    scorer : callable
        Scorer `scorer(estimator, X, y=None, sample_domain=None)`. With metadata routing, it requests `sample_domain`.

    Raises
    ------
    InvalidParameterError
        If there is no such score, or it has no such parameter.

    See Also
    --------
    task_scorer : Scorer of one task of a `MultiTaskFineTuner`.

    Notes
    -----
    "dev" and "importance" compare features of both domains. Those of a fine-tuned estimator are what its head reads.
    Those of a pipeline of other steps are what the last step reads, and those of another classifier are X, an array of
    numbers. The classifier of the domains predicts samples that it was not fitted on. A ratio of two estimated
    densities, as in [4]_, is close to 0 for nearly all samples in hundreds of dimensions.

    "dev", "importance" and "circular" judge labelled source samples, so score samples that the estimator was not fitted
    on, as a search does.

    "circular" fits once more, so that a search takes twice as long. An estimator whose `fit` takes `sample_domain` gets
    the source samples as its target. Others learn from the target samples only.

    References
    ----------
    .. [1] K. Musgrave et al., "Benchmarking Validation Methods for Unsupervised Domain Adaptation",
       arXiv:2208.07360, 2022.
    .. [2] K. Saito et al., "Tune it the Right Way: Unsupervised Validation of Domain Adaptation via Soft Neighborhood
       Density", ICCV 2021.
    .. [3] K. You et al., "Towards Accurate Model Selection in Deep Unsupervised Domain Adaptation", ICML 2019.
    .. [4] M. Sugiyama et al., "Covariate Shift Adaptation by Importance Weighted Cross Validation", JMLR 2007.
    .. [5] P. Morerio et al., "Minimal-Entropy Correlation Alignment for Unsupervised Deep Domain Adaptation", ICLR
       2018.
    .. [6] L. Bruzzone and M. Marconcini, "Domain Adaptation Problems: A DASVM Classification Technique and a Circular
       Validation Strategy", IEEE TPAMI, 2010.
    .. [7] R. Xie et al., "MaNo: Exploiting Matrix Norm for Unsupervised Accuracy Estimation Under Distribution Shifts",
       NeurIPS 2024.

    Examples
    --------
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.pipeline import make_pipeline
    >>> from sktransfer import TextFeaturizer, make_domain_scorer
    >>> films, goods = ["a fine film", "a dull film", "great", "awful"], ["a fine pan", "a dull knife"]
    >>> clf = make_pipeline(TextFeaturizer("tiny/bert"), LogisticRegression()).fit(films, ["+", "-", "+", "-"])
    >>> scorer = make_domain_scorer("im")
    >>> scorer
    make_domain_scorer('im')
    >>> mixed = scorer(clf, films + goods, ["+", "-", "+", "-", None, None])
    >>> bool(mixed == scorer(clf, goods))
    True
    >>> make_domain_scorer("snd", temperature=0.1)
    make_domain_scorer('snd', temperature=0.1)
    """
    rule = _RULES[check_option("name", name, tuple(_RULES))]
    checked = {}
    for key, value in parameters.items():
        if key not in rule.parameters:
            allowed = f"has {', '.join(rule.parameters)}" if rule.parameters else "has no parameters"
            raise InvalidParameterError(
                f"make_domain_scorer({name!r}) has no parameter {key!r}: it {allowed}."
                f"{did_you_mean(key, rule.parameters)}"
            )
        checked[key] = rule.parameters[key][1](key, value)
    return DomainScorer(name, checked)


class DomainScorer(_BaseScorer):  # scikit-learn shares predictions between scorers of this class only
    """Scorer of classifiers in a domain without labels. `make_domain_scorer` makes it.

    Parameters
    ----------
    name : str
        Name of the score.
    parameters : dict
        Its parameters that differ from the default.
    """

    def __init__(self, name: str, parameters: dict[str, Any]) -> None:
        self.name = name
        super().__init__(_RULES[name].function, _RULES[name].sign, parameters, _RULES[name].response)
        self._metadata_request = MetadataRequest(owner=self)
        self._metadata_request.score.add_request(param="sample_domain", alias=True)

    def __call__(self, estimator: Any, X: Any, y_true: Any = None, sample_domain: Any = None) -> float:
        """Return the score of a fitted classifier.

        Parameters
        ----------
        estimator : classifier
            Fitted classifier, pipeline or search.
        X : array-like of n_samples
            Samples of both domains, or of the target domain.
        y_true : array-like of shape (n_samples,), default=None
            Labels. Those of target samples are not read, and may be missing. None if there are none.
        sample_domain : array-like of shape (n_samples,), default=None
            Domain of each sample: a positive integer for a source domain, a negative one for a target domain. None if
            the samples without a label are the target.

        Raises
        ------
        AttributeError
            If the classifier has no method that the score reads.
        ValueError
            If samples of a domain are missing, or the features of a classifier cannot be read.
        """
        return self._score(_respond, estimator, X, y_true, sample_domain=sample_domain)

    def _score(self, method_caller: Any, estimator: Any, X: Any, y_true: Any, sample_domain: Any = None) -> float:
        rule = _RULES[self.name]
        estimator = getattr(estimator, "best_estimator_", estimator)
        method = self._find_method(estimator)
        n_samples = _num_samples(X)
        y = np.full(n_samples, None, dtype=object) if y_true is None else y_true
        sign, _, labels, known = read_signs(y, sample_domain)
        if len(sign) != n_samples:
            raise ValueError(f"y has {len(sign)} rows, and X has {n_samples}")
        domain = sign if sample_domain is None else np.asarray(sample_domain)
        taken = domain_arguments(estimator, method, domain)
        response = getattr(estimator, method)(X, **taken) if taken else method_caller(estimator, method, X)
        part = _Part(
            estimator,
            X,
            y,
            labels=labels[(sign > 0)[known]],
            source=np.flatnonzero((sign > 0) & known),
            target=np.flatnonzero(sign < 0),
            sample_domain=domain,
            response=_as_table(method, response),
            are_logits=method == "decision_function",
        )
        self._check_rows(part, rule, given=sample_domain is not None)
        options = {name: self._kwargs.get(name, default) for name, (default, _) in rule.parameters.items()}
        return float(self._sign * self._score_func(part, **options))

    def _find_method(self, estimator: Any) -> str:
        """Return the method of an estimator whose values are read."""
        last = innermost(estimator)
        kind = type(last).__name__
        if not is_classifier(last):
            raise ValueError(f"{self!r} scores classifiers, and {kind} is none")
        methods = (self._response_method,) if isinstance(self._response_method, str) else self._response_method
        found = [method for method in methods if hasattr(estimator, method)]
        if not found:
            raise AttributeError(
                f"{self!r} reads {' or '.join(methods)}, and {kind} has none: wrap it in CalibratedClassifierCV, "
                "or take make_domain_scorer('circular'), which reads predict"
            )
        return found[0]

    def _check_rows(self, part: _Part, rule: _Rule, *, given: bool) -> None:
        """Raise if samples of a domain are missing, or their labels are not of the type of the classes."""
        fewest = 2 if self.name in ("snd", "dev", "importance") else 1
        n_samples, some = len(part.response), "sample" if fewest == 1 else "samples"
        remedy = "MultiTaskKFold keeps both domains in each fold"
        if len(part.target) < fewest:
            found = f"{self!r} needs {fewest} target {some} or more, and {len(part.target)} of {n_samples} rows are"
            routed = (
                ""
                if given
                else (
                    " No sample_domain was passed: a search passes it to scorers with metadata routing only, the "
                    "setting enable_metadata_routing of scikit-learn. Without it, set the labels of the target to None "
                    "or NaN"
                )
            )
            raise ValueError(
                f"{found}: a negative sample_domain or a missing y marks them, and {remedy}{routed and '.'}{routed}"
            )
        if not rule.needs_source:
            return
        if len(part.source) < fewest:
            raise ValueError(
                f"{self!r} needs {fewest} source {some} with a label or more, and {len(part.source)} of {n_samples} "
                f"rows are: {remedy}. 'im', 'snd', 'entropy' and 'mano' need none"
            )
        classes = getattr(innermost(part.estimator), "classes_", part.labels)
        texts, text_classes = (
            {isinstance(one, str) for one in np.asarray(values).tolist()} for values in (part.labels, classes)
        )
        if not texts & text_classes:
            shown = [repr(np.asarray(values).tolist()[0]) for values in (part.labels, classes)]
            raise ValueError(
                f"{self!r} compares labels such as {shown[0]} with classes such as {shown[1]}, and a text "
                "never equals a number: pass y with labels of the type that the classifier was fitted on"
            )

    def __repr__(self) -> str:
        options = "".join(f", {name}={value!r}" for name, value in self._kwargs.items())
        return f"make_domain_scorer({self.name!r}{options})"


def _respond(estimator: Any, method: str, X: Any) -> Any:
    return getattr(estimator, method)(X)


def _as_table(method: str, values: Any) -> np.ndarray:
    """Return a response with one column per class, (n_samples, n_classes), unless it is the predictions."""
    response = np.asarray(values)
    if method == "predict" and response.ndim == 1:
        return response
    if response.ndim == 1:  # of the second of two classes
        zero = 1 - response if method == "predict_proba" else np.zeros_like(response)
        return np.stack([zero, response], axis=1)  # (n_samples, 2)
    is_one_label = method != "predict" and response.ndim == 2
    if not is_one_label or (method == "predict_proba" and not np.allclose(response.sum(axis=1), 1, atol=1e-3)):
        raise ValueError("domain scorers judge one label per sample, and this classifier predicts several")
    return response
