"""Converters of the transformers and models of scikit-learn, and of its wrappers.

A converter is called with a fitted estimator and the function that converts another one. To add a class, write a
function that returns a `Conversion`, and add it to `CONVERTERS`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn import calibration, decomposition, feature_selection, linear_model, model_selection, preprocessing, svm
from sklearn.compose import ColumnTransformer
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.frozen import FrozenEstimator
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import FeatureUnion, Pipeline
from torch import nn

from sktransfer.exceptions import InvalidParameterError
from sktransfer.explain.conversion import Conversion, Convert, Converter, join, shared_source
from sktransfer.explain.layers import (
    Affine,
    Bounded,
    CalibratedMean,
    Exponential,
    LogProbabilities,
    OneVersusRest,
    SelectedColumns,
    Standardized,
    TwoColumns,
    UnitNorm,
    linear,
)

__all__ = ["CONVERTERS", "REFUSED"]


def _features(*layers: nn.Module) -> Conversion:
    return Conversion(layers, "features")


def _standard_scaler(step: preprocessing.StandardScaler, convert: Convert) -> Conversion:
    shift = 0.0 if step.mean_ is None or not step.with_mean else step.mean_
    return _features(Standardized(shift, 1.0 if step.scale_ is None else step.scale_))


def _min_max_scaler(step: preprocessing.MinMaxScaler, convert: Convert) -> Conversion:
    scaled = Affine(step.scale_, step.min_)
    return _features(scaled, Bounded(*step.feature_range)) if step.clip else _features(scaled)


def _max_abs_scaler(step: preprocessing.MaxAbsScaler, convert: Convert) -> Conversion:
    scaled = Standardized(0.0, step.scale_)
    return _features(scaled, Bounded(-1, 1)) if step.clip else _features(scaled)


def _robust_scaler(step: preprocessing.RobustScaler, convert: Convert) -> Conversion:
    shift = step.center_ if step.with_centering else 0.0
    return _features(Standardized(shift, step.scale_ if step.with_scaling else 1.0))


def _normalizer(step: preprocessing.Normalizer, convert: Convert) -> Conversion:
    return _features(UnitNorm(step.norm))


def _pca(step: decomposition.PCA, convert: Convert) -> Conversion:
    weight = step.components_.astype(np.float64)  # (n_components, n_features)
    if step.whiten:
        scale = np.sqrt(step.explained_variance_)
        weight = weight / np.maximum(scale, np.finfo(scale.dtype).eps)[:, None]  # (n_components, n_features)
    return _features(Standardized(step.mean_), linear(weight, 0.0))


def _truncated_svd(step: decomposition.TruncatedSVD, convert: Convert) -> Conversion:
    return _features(linear(step.components_, 0.0))


def _selector(step: Any, convert: Convert) -> Conversion:
    return _features(SelectedColumns(step.get_support(indices=True)))


def _two_columns(weight: np.ndarray, bias: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return weight (n_classes, n_features) and bias (n_classes,) of a linear classifier that may have one row."""
    if len(weight) > 1:
        return weight, bias
    return np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2


def _linear_logits(step: Any) -> tuple[nn.Linear, np.ndarray]:
    weight = np.atleast_2d(step.coef_)  # (n_classes, n_features), or (1, n_features) for two classes
    bias = np.broadcast_to(step.intercept_, len(weight))  # (n_classes,)
    return linear(*_two_columns(weight, bias)), step.classes_


def _softmax_classifier(step: Any, convert: Convert) -> Conversion:
    layer, classes = _linear_logits(step)
    return Conversion((layer,), "logits", None, classes, nn.Softmax(1))


def _decision_classifier(step: Any, convert: Convert) -> Conversion:
    layer, classes = _linear_logits(step)
    return Conversion((layer,), "logits", None, classes)


def _sgd_classifier(step: linear_model.SGDClassifier, convert: Convert) -> Conversion:
    layer, classes = _linear_logits(step)
    links = {"log_loss": "sigmoid", "modified_huber": "clip"}
    link = OneVersusRest(links[step.loss], len(classes) == 2) if step.loss in links else None
    return Conversion((layer,), "logits", None, classes, link)


def _linear_regressor(step: Any, convert: Convert) -> Conversion:
    weight = np.atleast_2d(step.coef_)  # (n_outputs, n_features)
    return Conversion((linear(weight, step.intercept_),), "predictions")


_ACTIVATIONS = {"identity": nn.Identity, "logistic": nn.Sigmoid, "relu": nn.ReLU, "tanh": nn.Tanh}


def _perceptron_layers(step: Any) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for weight, bias in zip(step.coefs_, step.intercepts_, strict=True):
        layers += [linear(weight.T, bias), _ACTIVATIONS[step.activation]()]
    return layers[:-1]  # the output has another activation


def _mlp_classifier(step: MLPClassifier, convert: Convert) -> Conversion:
    layers = _perceptron_layers(step)
    if step._label_binarizer.y_type_.startswith("multilabel"):
        return Conversion(tuple(layers), "logits", None, step.classes_, nn.Sigmoid())
    if step.n_outputs_ == 1:
        layers.append(TwoColumns())
    return Conversion(tuple(layers), "logits", None, step.classes_, nn.Softmax(1))


def _mlp_regressor(step: MLPRegressor, convert: Convert) -> Conversion:
    last = [Exponential()] if step.out_activation_ == "exp" else []
    return Conversion((*_perceptron_layers(step), *last), "predictions")


def _pipeline(pipeline: Pipeline, convert: Convert) -> Conversion:
    steps = [step for _, step in pipeline.steps if step is not None and step != "passthrough"]
    if not steps:
        raise InvalidParameterError("the pipeline has no steps, so there is nothing to convert")
    joined = convert(steps[0])
    for step in steps[1:]:
        joined = join(joined, convert(step), step)
    return joined


def _search(search: Any, convert: Convert) -> Conversion:
    if not hasattr(search, "best_estimator_"):
        raise InvalidParameterError(
            f"{type(search).__name__} has no best_estimator_: fit it with refit=True, or convert a fitted estimator"
        )
    return convert(search.best_estimator_)


def _frozen(wrapper: FrozenEstimator, convert: Convert) -> Conversion:
    return convert(wrapper.estimator)


def _calibrated(classifier: calibration.CalibratedClassifierCV, convert: Convert) -> Conversion:
    members = classifier.calibrated_classifiers_
    converted = [convert(member.estimator) for member in members]
    source = shared_source(converted, f"the {len(members)} classifiers of CalibratedClassifierCV")
    calibrated = [
        nn.Sequential(*one.layers, *_calibrators(member, one)) for one, member in zip(converted, members, strict=True)
    ]
    layers = (CalibratedMean(calibrated), LogProbabilities())
    return Conversion(layers, "logits", source, classifier.classes_, nn.Softmax(1))


def _calibrators(member: Any, converted: Conversion) -> list[nn.Module]:
    """Return the modules from the logits of a calibrated classifier to its probabilities."""
    is_binary = len(member.classes) == 2
    if len(member.estimator.classes_) != len(member.classes):
        raise InvalidParameterError(
            "a classifier of CalibratedClassifierCV was fitted to fewer classes than there are: use fewer folds, or "
            "ensemble=False"
        )
    has_decision = hasattr(member.estimator, "decision_function")
    if not has_decision and member.method != "temperature":
        raise InvalidParameterError(
            f"CalibratedClassifierCV(method={member.method!r}) calibrates the probabilities of "
            f"{type(member.estimator).__name__}, which has no module: use method='temperature'"
        )
    if member.method == "temperature":
        beta = float(member.calibrators[0].beta_)
        # Of decision values d of two classes, scikit-learn takes the logits -d and d. Logits here are half of them.
        factor = 2 * beta if is_binary and has_decision else beta
        return [Affine(factor), nn.Softmax(1)]
    if member.method != "sigmoid":
        raise InvalidParameterError(
            f"CalibratedClassifierCV(method={member.method!r}) has no module, because its steps would turn rounding "
            "into other probabilities: use method='sigmoid' or 'temperature'"
        )
    slopes = np.array([one.a_ for one in member.calibrators])  # (n_classes,), or (1,) for two classes
    offsets = np.array([one.b_ for one in member.calibrators])  # (n_classes,), or (1,)
    if is_binary:  # the probability of the second class is that of the logit -(a d + b) of the decision value d
        return [Affine(-slopes, offsets * [0.5, -0.5]), nn.Softmax(1)]
    return [Affine(-slopes, -offsets), OneVersusRest("sigmoid", False)]


_LINEAR_REGRESSORS = (
    linear_model.ARDRegression,
    linear_model.BayesianRidge,
    linear_model.ElasticNet,
    linear_model.ElasticNetCV,
    linear_model.HuberRegressor,
    linear_model.Lasso,
    linear_model.LassoCV,
    linear_model.LinearRegression,
    linear_model.Ridge,
    linear_model.RidgeCV,
    linear_model.SGDRegressor,
    svm.LinearSVR,
)
_SELECTORS = (
    feature_selection.SelectFdr,
    feature_selection.SelectFpr,
    feature_selection.SelectFromModel,
    feature_selection.SelectFwe,
    feature_selection.SelectKBest,
    feature_selection.SelectPercentile,
    feature_selection.VarianceThreshold,
)
CONVERTERS: dict[type, Converter] = {
    Pipeline: _pipeline,
    FrozenEstimator: _frozen,
    model_selection.GridSearchCV: _search,
    model_selection.RandomizedSearchCV: _search,
    calibration.CalibratedClassifierCV: _calibrated,
    preprocessing.StandardScaler: _standard_scaler,
    preprocessing.MinMaxScaler: _min_max_scaler,
    preprocessing.MaxAbsScaler: _max_abs_scaler,
    preprocessing.RobustScaler: _robust_scaler,
    preprocessing.Normalizer: _normalizer,
    decomposition.PCA: _pca,
    decomposition.IncrementalPCA: _pca,
    decomposition.TruncatedSVD: _truncated_svd,
    linear_model.LogisticRegression: _softmax_classifier,
    linear_model.LogisticRegressionCV: _softmax_classifier,
    LinearDiscriminantAnalysis: _softmax_classifier,
    svm.LinearSVC: _decision_classifier,
    linear_model.Perceptron: _decision_classifier,
    linear_model.RidgeClassifier: _decision_classifier,
    linear_model.RidgeClassifierCV: _decision_classifier,
    linear_model.SGDClassifier: _sgd_classifier,
    MLPClassifier: _mlp_classifier,
    MLPRegressor: _mlp_regressor,
    **dict.fromkeys(_LINEAR_REGRESSORS, _linear_regressor),
    **dict.fromkeys(_SELECTORS, _selector),
}
_COLUMNS = (
    "it joins several inputs. Fit a pipeline on one column of texts or images itself, as in "
    "make_transfer_pipeline(df['photo'], y), and convert that"
)
REFUSED = {ColumnTransformer: _COLUMNS, FeatureUnion: _COLUMNS}
