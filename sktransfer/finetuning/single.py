"""Base class of the fine-tuning estimators that learn one task."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Self

import numpy as np
import pandas as pd
import torch
from sklearn.utils.validation import check_is_fitted

from sktransfer.backbones.backbone import Backbone
from sktransfer.engine.chosen_layers import ChosenLayers
from sktransfer.engine.head_strength import HeadStrength
from sktransfer.engine.layer_choice import LayerChoice
from sktransfer.finetuning.base import FineTuneBase
from sktransfer.tasks.base import Task
from sktransfer.tasks.given import GivenTargets
from sktransfer.tasks.heads import FeatureHead, Head
from sktransfer.tasks.validation import check_weight
from sktransfer.training.net import FineTuneNet
from sktransfer.training.trainer import net_of_task

__all__ = ["TASK", "GivenY", "SingleTaskTuner"]

TASK = "y"  # name of the only task


@dataclasses.dataclass(frozen=True)
class GivenY:
    """Targets of one task as given, of the rows that have one."""

    values: Any
    known: np.ndarray | None = None  # (n_samples,), None if all rows have one

    def check(self, task: Task) -> np.ndarray:
        """Return the targets as a task has validated them."""
        return task.check(self.values)

    def named(self) -> AbstractContextManager[Any]:
        """Return a context that changes no error."""
        return nullcontext()


class SingleTaskTuner(ChosenLayers, FineTuneBase):
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
    def report_(self) -> str:
        """What was chosen, and by which errors, in a few lines."""
        if self._depth_report is None:
            return super().report_
        is_probed = self._choice is not None or self._strength is not None
        return f"{super().report_}\n{self._depth_report}" if is_probed else self._depth_report

    @property
    def layer_weights_(self) -> pd.Series:
        """Weight of each stage if `layer="mix"`, summing to one."""
        return self._mix_weights(TASK)

    @property
    def _task(self) -> Task:
        return self._tasks[TASK]

    @property
    def _feature_head(self) -> FeatureHead:
        heads = self.net_.module_.heads
        if TASK not in heads:
            raise AttributeError(f"the task of {type(self).__name__} has no head")
        head: FeatureHead = heads[TASK]
        return head

    def _adopt(self, attributes: Mapping[str, Any], net: FineTuneNet, name: str, head: Head) -> Self:
        """Become the fitted estimator of one task of a joint training. The network is shared.

        Parameters
        ----------
        attributes : mapping of str to object
            Fitted attributes of the training that all tasks share.
        net : FineTuneNet
            Trained net of all tasks.
        name : str
            Name of the task there.
        head : Head
            Fitted head of the task.
        """
        self.__dict__.update(attributes)
        self.net_ = net_of_task(net, name, TASK)
        self._tasks = self.net_.tasks
        self._store_heads({TASK: head})
        self._store_classes()
        return self

    def _store_classes(self) -> None:
        """Store the attributes about classes that the fitted task has. The default stores none."""

    def _outputs(self, X: Any) -> np.ndarray:
        """Return the output of the head (n_samples, n_outputs), float32."""
        return self._outputs_by_task(X)[TASK]

    @torch.no_grad()
    def _head_inputs(self, X: Any) -> np.ndarray:
        """Return what the linear layer of the head reads (n_samples, n_features), float32: standardized features."""
        check_is_fitted(self)
        head = self._feature_head
        width = len(head.mean) // (1 if head.mix is None else len(head.mix.scores))
        return self._of_features(X, {TASK: (width, head.linear_input)})[TASK]

    def _read_targets(
        self, y: Any, *, first: bool, classes: Mapping[str, np.ndarray] | None = None
    ) -> Mapping[str, GivenTargets]:
        return {TASK: GivenY(y)}

    def _read_weights(
        self, sample_weight: Any, n_samples: int, given: Mapping[str, GivenTargets]
    ) -> Mapping[str, np.ndarray]:
        return {TASK: check_weight(sample_weight, n_samples)}

    def _make_tasks(
        self, given: Mapping[str, GivenTargets], classes: Mapping[str, np.ndarray] | None, backbone: Backbone
    ) -> Mapping[str, Task]:
        return {TASK: self._make_task(given[TASK].values, None if classes is None else classes[TASK])}

    def _store_heads(self, heads: dict[str, Head]) -> None:
        if TASK in heads:
            self.head_ = heads[TASK]

    def _stored_heads(self) -> Mapping[str, Head]:
        return {TASK: self.head_} if hasattr(self, "head_") else {}

    def _store_choices(self, choices: Mapping[str, LayerChoice] | None) -> None:
        self._choice = None if choices is None else choices[TASK]

    def _stored_choices(self) -> Mapping[str, LayerChoice]:
        return {} if self._choice is None else {TASK: self._choice}

    def _store_strengths(self, strengths: Mapping[str, HeadStrength]) -> None:
        self._strength = strengths.get(TASK)
