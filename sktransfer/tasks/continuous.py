"""Regression with one or several outputs."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.metrics import r2_score
from sklearn.utils import check_array
from torch import Tensor
from torch.nn import functional

from sktransfer.engine.choice_targets import ChoiceTargets
from sktransfer.engine.head_strength import HeadStrength
from sktransfer.engine.layer_choice import LayerChoice
from sktransfer.tasks.base import NOTHING_KNOWN, Targets, Task
from sktransfer.tasks.criterion import Criterion
from sktransfer.tasks.head_init import linear_input, probe_strength, ridge_probe, standardize, write_linear
from sktransfer.tasks.heads import FeatureHead
from sktransfer.tasks.labels import refuse_label_lists
from sktransfer.tasks.validation import check_numbers

__all__ = ["Continuous"]

_FIFTHS = 5  # strata of a number


class Continuous(Task):
    """One or several numbers per sample, standardized for the training.

    Parameters
    ----------
    criterion : Criterion, default=None
        Loss of outputs and standardized targets; None for the squared error.

    Examples
    --------
    >>> import numpy as np
    >>> from sktransfer.tasks.continuous import Continuous
    >>> task = Continuous()
    >>> targets = task.encode(task.check([1.0, 3.0]), np.ones(2))
    >>> targets.values.tolist(), task.decode(targets.values).tolist()
    ([[-1.0], [1.0]], [1.0, 3.0])
    """

    kind = "continuous"
    score_name = "r2"
    fewest_scored = 2

    def __init__(self, criterion: Criterion | None = None) -> None:
        if criterion is not None:
            self.criterion = criterion
        self.ndim = 0  # of y; 0 before the first call of encode

    @property
    def is_squared_error(self) -> bool:  # type: ignore[override]
        """Whether the loss is the squared error, and not that of a criterion."""
        return self.criterion is None

    def check(self, y: Any) -> np.ndarray:
        """Return numbers (n_samples,) or (n_samples, n_outputs), float64."""
        refuse_label_lists(y, "a regressor takes one number per sample, or a matrix with a row of numbers per sample")
        checked: np.ndarray = check_array(check_numbers(y, "y", "target"), ensure_2d=False, input_name="y")
        return checked

    def encode(self, y: np.ndarray, weight: np.ndarray) -> Targets:
        """Return standardized targets (n_samples, n_outputs), float32; the first call sets mean and deviation."""
        columns = y.reshape(len(y), -1)  # (n_samples, n_outputs)
        if not self.ndim:
            self.ndim = y.ndim
            self.shift = np.average(columns, axis=0, weights=weight)  # (n_outputs,)
            deviation = np.sqrt(np.average((columns - self.shift) ** 2, axis=0, weights=weight))  # (n_outputs,)
            self.spread = np.where(deviation > 0, deviation, 1.0)  # (n_outputs,)
        elif columns.shape[1] != len(self.shift) or y.ndim != self.ndim:
            raise ValueError(f"y has shape {y.shape}, and the first call's had {len(self.shift)} outputs")
        return Targets(((columns - self.shift) / self.spread).astype(np.float32), weight)

    def unknown(self, n_samples: int) -> Targets:
        """Return the mean, of zero weight (n_samples, n_outputs)."""
        if not self.ndim:
            raise ValueError(NOTHING_KNOWN)
        return Targets(np.zeros((n_samples, len(self.shift)), np.float32), np.zeros(n_samples))

    def make_head(self, n_features: int, n_mixed: int | None = None) -> FeatureHead:
        """Return a linear head with one output per target."""
        return FeatureHead(n_features, len(self.shift), n_mixed)

    def init_head(
        self, head: Any, features: np.ndarray, targets: Targets, how: str, choice: LayerChoice | None = None
    ) -> HeadStrength | None:
        """Write a ridge regression into a head."""
        standardize(head, features, targets.weight, choice)
        if how == "random":
            return None
        read = linear_input(head, features)  # (n_samples, width)
        strength, alpha = probe_strength(read, self.choice_targets(targets), targets.weight, choice)
        write_linear(head, *ridge_probe(read, targets.values, targets.weight, alpha))
        return strength

    def strata(self, targets: Targets) -> np.ndarray:
        """Return the fifth that each output of each row is in, (n_samples, 5 * n_outputs), or less for few rows."""
        known = targets.weight > 0  # (n_samples,)
        n_parts = max(1, min(_FIFTHS, int(known.sum()) // 2))  # of two rows at least: a single one is not held out
        members = []
        for output in targets.values.T:
            of_known = output[known] if known.any() else output[:1]
            edges = np.unique(np.quantile(of_known, np.arange(1, n_parts) / n_parts))  # (n_edges,)
            part = np.searchsorted(edges, output, side="left")  # (n_samples,)
            members.append((part[:, None] == np.arange(_FIFTHS)) & known[:, None])
        return np.concatenate(members, axis=1)

    def choice_targets(self, targets: Targets) -> ChoiceTargets:
        """Return the standardized numbers."""
        return ChoiceTargets(targets.values.astype(np.float64), None)

    def loss(self, outputs: Tensor | None, targets: Tensor, features: Tensor) -> Tensor:
        """Return the mean squared error of each row's outputs, or the loss of the criterion, (n,)."""
        assert outputs is not None
        if self.criterion is not None:
            return self.criterion.rows(outputs, targets)
        return functional.mse_loss(outputs, targets, reduction="none").mean(1)  # (n,)

    def decode(self, outputs: np.ndarray) -> np.ndarray:
        """Return numbers in the units of y, (n_samples,) or (n_samples, n_outputs) as y was; float64."""
        numbers: np.ndarray = outputs.astype(np.float64) * self.spread + self.shift  # (n_samples, n_outputs)
        return numbers[:, 0] if self.ndim == 1 else numbers

    def score(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> float:
        """Return R²."""
        return float(r2_score(y_true, y_pred, sample_weight=sample_weight))
