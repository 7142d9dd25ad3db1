"""Which types of scikit-learn are loaded beside those that skops trusts by itself, and why."""

from __future__ import annotations

import functools

__all__ = ["further_types"]

# Plain Python objects that hold parameters, arrays and estimators. What is compiled and takes its state as raw memory
# (trees of scikit-learn, above all) is left out: forged numbers would make it read where it must not.
_PLAIN = (
    "numpy.dtype",
    "sklearn.calibration._CalibratedClassifier",
    "sklearn.calibration._SigmoidCalibration",
    "sklearn.metrics._scorer._CurveScorer",
    "sklearn.metrics._scorer._MultimetricScorer",
    "sklearn.metrics._scorer._PassthroughScorer",
    "sklearn.metrics._scorer._Scorer",
    "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
    "sklearn.neural_network._stochastic_optimizers.SGDOptimizer",
    "sklearn.utils._bunch.Bunch",
)
_SPLITTERS = (
    "GroupKFold",
    "GroupShuffleSplit",
    "KFold",
    "LeaveOneGroupOut",
    "LeaveOneOut",
    "LeavePGroupsOut",
    "LeavePOut",
    "PredefinedSplit",
    "RepeatedKFold",
    "RepeatedStratifiedKFold",
    "ShuffleSplit",
    "StratifiedGroupKFold",
    "StratifiedKFold",
    "StratifiedShuffleSplit",
    "TimeSeriesSplit",
    "_CVIterableWrapper",
)


@functools.cache
def further_types() -> tuple[str, ...]:
    """Return the names of plain types of scikit-learn, of its splitters, and of the functions behind its scorers."""
    from sklearn.metrics import get_scorer, get_scorer_names

    functions = {get_scorer(name)._score_func for name in get_scorer_names()}
    metrics = sorted(f"{function.__module__}.{function.__name__}" for function in functions)
    return (*_PLAIN, *(f"sklearn.model_selection._split.{name}" for name in _SPLITTERS), *metrics)
