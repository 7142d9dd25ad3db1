"""Strength of a linear head, found by closed-form leave-one-out errors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from sktransfer._validation import require_field
from sktransfer.engine.choice_targets import ChoiceTargets
from sktransfer.engine.leave_one_out import HEAD_SAMPLES, least_errors, merge_equal, spaced_rows
from sktransfer.exceptions import LoadError

__all__ = ["FEWEST", "HeadStrength", "logistic_strength"]

# Found by measurement: a ridge regression of few samples is firmer than a logistic regression should be.
FEW_SAMPLES, LEAST_C, LARGEST_C = 60.0, 100.0, 1000.0
PLAIN_C = 30.0  # if targets do not differ
FEWEST = 3  # samples that a leave-one-out error can tell something from


@dataclass(frozen=True)
class HeadStrength:
    """Strength of a linear head, for features of total variance 1 and samples of mean weight 1.

    Parameters
    ----------
    value : float
        C of a logistic regression, or alpha of a ridge regression.
    is_alpha : bool
        Whether the value is the alpha of a ridge regression.
    n_samples : int, default=0
        Number of different samples that decided; 0 if the targets did not.
    error : float, default=0.0
        Leave-one-out error of a ridge regression, as a share of the variance of the targets.

    Examples
    --------
    >>> import numpy as np
    >>> from sktransfer.engine.choice_targets import ChoiceTargets
    >>> from sktransfer.engine.head_strength import HeadStrength
    >>> features = np.random.default_rng(0).normal(size=(50, 2))
    >>> found = HeadStrength.find(features, ChoiceTargets.of_numbers(features[:, :1]), np.ones(50))
    >>> print(found.report())
    alpha=0.0001 on features of total variance 1, leave-one-out error 0.00 of the variance of the targets
    """

    value: float
    is_alpha: bool
    n_samples: int = 0
    error: float = 0.0

    @classmethod
    def find(cls, features: np.ndarray, targets: ChoiceTargets, sample_weight: np.ndarray) -> Self:
        """Return the strength of least leave-one-out error.

        At most 1,000 evenly spaced samples are used. Samples of equal features count as one, so that a whole weight is
        the same as that many equal samples.

        Parameters
        ----------
        features : ndarray of shape (n_samples, n_features)
            Features of any scale.
        targets : ChoiceTargets
            Targets of the samples.
        sample_weight : ndarray of shape (n_samples,)
            Positive weight of each sample. Only ratios matter.
        """
        (features,), values, weight = merge_equal([features], targets.values, sample_weight)
        if targets.are_equal or len(weight) < FEWEST:
            return cls.plain(targets)
        rows = spaced_rows(len(weight), HEAD_SAMPLES)
        strength, errors = least_errors([features], [1.0], values, weight, rows)
        error = float(errors @ weight[rows] / weight[rows].sum())
        return cls.of_ridge(strength, targets, len(rows), error)

    @classmethod
    def plain(cls, targets: ChoiceTargets) -> Self:
        """Return the strength for targets that tell nothing.

        Parameters
        ----------
        targets : ChoiceTargets
            Targets, of which only the kind matters.
        """
        is_alpha = targets.n_classes is None
        return cls(1 / PLAIN_C if is_alpha else PLAIN_C, is_alpha)

    @classmethod
    def of_ridge(cls, strength: float, targets: ChoiceTargets, n_samples: int, error: float) -> Self:
        """Return the strength of a head from that of a ridge regression of its encoded targets.

        Parameters
        ----------
        strength : float
            Strength of the ridge regression, for features of mean squared length 1.
        targets : ChoiceTargets
            Its targets.
        n_samples : int
            Number of samples that decided.
        error : float
            Leave-one-out error.
        """
        n_classes = targets.n_classes
        value = strength if n_classes is None else logistic_strength(strength, n_classes, n_samples)
        return cls(value, n_classes is None, n_samples, error)

    def of_variance(self, variance: float) -> float:
        """Return the strength for features of another total variance.

        Parameters
        ----------
        variance : float
            Total variance of the features.
        """
        return self.value * variance if self.is_alpha else self.value / variance

    def report(self) -> str:
        """Return the strength, and the error that it has."""
        found = f"{'alpha' if self.is_alpha else 'C'}={self.value:.3g} on features of total variance 1"
        if not self.n_samples:
            return found
        return f"{found}, leave-one-out error {self.error:.2f} of the variance of the targets"

    def to_state(self) -> dict[str, Any]:
        """Return the fields as plain values."""
        return {
            "value": float(self.value),
            "is_alpha": bool(self.is_alpha),
            "n_samples": int(self.n_samples),
            "error": float(self.error),
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """Return the strength of a state.

        Raises
        ------
        LoadError
            If a field is missing or of another type, or the value is not positive.
        """
        value, is_alpha = require_field(state, "value", float), require_field(state, "is_alpha", bool)
        n_samples, error = require_field(state, "n_samples", int), require_field(state, "error", float)
        if not (np.isfinite(value) and value > 0):
            raise LoadError(f"the strength of a head is {value}")
        return cls(value, is_alpha, n_samples, error)


def logistic_strength(strength: float, n_classes: int, n_samples: int) -> float:
    """Return the C of a logistic regression that penalises as a ridge regression of one-hot labels does.

    At equal probabilities the logistic loss has (n_classes - 1) / n_classes² times the curvature of the squared loss.
    C is kept between 100 / n_samples and 1000, and multiplied by 1 + 60 / n_samples. These figures were found by
    measurement.

    Parameters
    ----------
    strength : float
        Strength of the ridge regression, for features of mean squared length 1.
    n_classes : int
        Number of classes, 2 for each label of an indicator matrix.
    n_samples : int
        Number of samples that decided.

    Examples
    --------
    >>> from sktransfer.engine.head_strength import logistic_strength
    >>> logistic_strength(1.0, 2, 60), logistic_strength(1.0, 2, 600)
    (8.0, 4.4)
    """
    curvature = (n_classes - 1) / n_classes**2
    return (1 + FEW_SAMPLES / n_samples) * float(np.clip(1 / (strength * curvature), LEAST_C / n_samples, LARGEST_C))
