"""A fitted head, to start another from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sktransfer._validation import require_field
from sktransfer.exceptions import InvalidParameterError, LoadError
from sktransfer.training.network import FineTuneNetwork

__all__ = ["Head"]


class Head:
    """The head of a fitted estimator, for use as `head=`: its weights, and what its outputs stand for.

    It does not change; `clone` gives back the same object.

    Parameters
    ----------
    network : FineTuneNetwork
        Whose head it is; copied.
    task : {"classes", "labels", "numbers"}
        One of several classes, any of several labels, or regression.
    classes : ndarray of shape (n_outputs,), default=None
        What the outputs stand for.
    shift, spread : ndarray of shape (n_outputs,), default=0 and 1
        Outputs times `spread` plus `shift` are in the units of the targets.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sktransfer import FineTuneClassifier
    >>> X, y = load_digits(return_X_y=True)
    >>> source = FineTuneClassifier(freeze_depth="all", max_epochs=0).fit(X[:50] / 16, y[:50])
    >>> source.head_
    Head(task='classes', n_features=512, n_outputs=10)
    >>> target = FineTuneClassifier(source.backbone_, head=source.head_, max_epochs=1, random_state=0)
    >>> target.fit(X[:100] / 16, y[:100]).classes_.tolist() == source.classes_.tolist()
    True
    """

    def __init__(
        self,
        network: FineTuneNetwork,
        task: str,
        classes: np.ndarray | None = None,
        shift: Any = 0.0,
        spread: Any = 1.0,
    ) -> None:
        self.task, self.classes = task, classes
        state = network.state_dict()
        self._state = {name: value.cpu().clone() for name, value in state.items() if not name.startswith("stages.")}
        n_outputs = len(self._state["head.bias"])
        self._shift = torch.as_tensor(np.broadcast_to(shift, n_outputs).copy(), dtype=torch.float64)  # (n_outputs,)
        self._spread = torch.as_tensor(np.broadcast_to(spread, n_outputs).copy(), dtype=torch.float64)  # (n_outputs,)

    def start(
        self,
        network: FineTuneNetwork,
        task: str,
        classes: np.ndarray | None = None,
        shift: Any = 0.0,
        spread: Any = 1.0,
    ) -> None:
        """Write this head into a network that is about to be trained.

        Parameters
        ----------
        network : FineTuneNetwork
            Whose head starts from this one.
        task, classes, shift, spread
            What that network's outputs stand for, as in the constructor.

        Raises
        ------
        InvalidParameterError
            If it was fitted for another task, other classes or features of another width.
        """
        self._check(network, task, classes)
        spread = torch.as_tensor(spread)
        state = dict(self._state)
        raw = self._state["head.bias"] * self._spread + self._shift  # (n_outputs,), in the units of the targets
        state["head.bias"] = (raw - torch.as_tensor(shift)) / spread  # (n_outputs,)
        state["head.weight"] = self._state["head.weight"] * (self._spread / spread)[:, None]  # (n_outputs, n_features)
        network.load_state_dict(state, strict=False)

    def _check(self, network: FineTuneNetwork, task: str, classes: np.ndarray | None) -> None:
        if task != self.task:
            raise InvalidParameterError(f"head={self!r} was fitted for {self.task}; y holds {task}")
        if self.classes is not None and not np.array_equal(self.classes, np.asarray(classes)):
            raise InvalidParameterError(
                f"head={self!r} was fitted for classes {_short(self.classes)}, and y holds {_short(classes)}; only a "
                "head for the same classes can be gone on from: leave it out, or warm_start, and a new one is made"
            )
        own = network.state_dict()
        if any(name not in own or own[name].shape != value.shape for name, value in self._state.items()):
            raise InvalidParameterError(
                f"head={self!r} does not fit: here a head sees {network.head.in_features} features and gives "
                f"{network.head.out_features} outputs; backbone, layer and pooling must be those that it was fitted on"
            )

    def __sklearn_clone__(self) -> Head:
        return self

    def __repr__(self) -> str:
        n_outputs, n_features = self._state["head.weight"].shape
        return f"Head(task={self.task!r}, n_features={n_features}, n_outputs={n_outputs})"

    def to_state(self) -> dict[str, Any]:
        """Return the task, the classes, the weights and the units of the outputs."""
        return {
            "task": self.task,
            "classes": self.classes,
            "weights": dict(self._state),
            "units": {"shift": self._shift, "spread": self._spread},
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Head:
        """Return the head of a state.

        Raises
        ------
        LoadError
            If a field is missing, or weights, units and classes do not fit each other.
        """
        head = cls.__new__(cls)
        head.task = require_field(state, "task", str, ("classes", "labels", "numbers"))
        head.classes = require_field(state, "classes", (np.ndarray, type(None)))
        weights, units = require_field(state, "weights", dict), require_field(state, "units", dict)
        if not {"mean", "scale", "head.weight", "head.bias"} <= weights.keys():
            raise LoadError(f"a head has only the weights {sorted(weights)}")
        shift, spread = require_field(units, "shift", Tensor), require_field(units, "spread", Tensor)
        n_outputs = len(weights["head.bias"])
        fits = weights["head.weight"].shape[:1] == shift.shape == spread.shape == (n_outputs,)
        fits = fits and shift.dtype == spread.dtype == torch.float64
        if not fits or (head.classes is not None and len(head.classes) != n_outputs):
            raise LoadError(f"a head of {n_outputs} outputs has {tuple(shift.shape)} units and classes {head.classes}")
        head._state, head._shift, head._spread = weights, shift, spread
        return head


def _short(classes: Any) -> str:
    listed = list(np.asarray(classes).tolist())
    return str(listed) if len(listed) <= 10 else f"{str(listed[:10])[:-1]}, ...] ({len(listed)} in all)"
