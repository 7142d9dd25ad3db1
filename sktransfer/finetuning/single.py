"""Base class of the fine-tuning estimators that learn one task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from sktransfer.finetuning.base import FineTuneBase
from sktransfer.tasks.base import GivenTargets, Task
from sktransfer.tasks.heads import FeatureHead, Head
from sktransfer.tasks.validation import check_weight

__all__ = ["TASK", "SingleTaskTuner"]

TASK = "y"  # name of the only task


class SingleTaskTuner(FineTuneBase):
    """Train the stages of a backbone above a freezing boundary, and the head of one task.

    A subclass lists its parameters and returns its task from `_make_task`.
    """

    head_: Head

    def _make_task(self, y: Any, classes: np.ndarray | None) -> Task:
        """Return a new task.

        Parameters
        ----------
        y : array-like
            Targets as given to `fit`.
        classes : ndarray or None
            All classes, as the first call of `partial_fit` names them.
        """
        raise NotImplementedError

    @property
    def layer_weights_(self) -> pd.Series:
        """Weight of each stage if `layer="mix"`, summing to one."""
        return self._mix_weights(TASK)

    @property
    def _task(self) -> Task:
        return self._tasks[TASK]

    @property
    def _feature_head(self) -> FeatureHead:
        head: FeatureHead = self.net_.module_.heads[TASK]
        return head

    def _outputs(self, X: Any) -> np.ndarray:
        """Return the output of the head (n_samples, n_outputs), float32."""
        return self._outputs_by_task(X)[TASK]

    def _read_targets(self, y: Any, *, first: bool) -> Mapping[str, GivenTargets]:
        return {TASK: GivenTargets(y)}

    def _read_weights(self, sample_weight: Any, n_samples: int) -> Mapping[str, np.ndarray]:
        return {TASK: check_weight(sample_weight, n_samples)}

    def _make_tasks(
        self, given: Mapping[str, GivenTargets], classes: Mapping[str, np.ndarray] | None
    ) -> Mapping[str, Task]:
        return {TASK: self._make_task(given[TASK].values, None if classes is None else classes[TASK])}

    def _store_heads(self, heads: dict[str, Head]) -> None:
        if TASK in heads:
            self.head_ = heads[TASK]

    def _stored_heads(self) -> Mapping[str, Head]:
        return {TASK: self.head_} if hasattr(self, "head_") else {}
