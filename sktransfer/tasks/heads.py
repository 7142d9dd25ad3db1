"""Heads on pooled features, and fitted heads to start from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from sktransfer._validation import require_field
from sktransfer.backbones.backbone import Backbone
from sktransfer.backbones.generators import private_draws
from sktransfer.engine.layer_choice import LayerChoice
from sktransfer.engine.layers import LayerOutput
from sktransfer.exceptions import InvalidParameterError, LoadError
from sktransfer.tasks.base import Task

__all__ = ["FeatureHead", "Head", "ScalarMix", "block_widths", "divide_head"]

_KINDS = ("multiclass", "multilabel-indicator", "continuous", "tags", "multiclass-per-pixel")


class ScalarMix(nn.Module):
    """Mix layers by softmax weights and a common scale: ELMo's scalar mix [1]_.

    Parameters
    ----------
    n_layers : int
        Number of layers. They start with equal weights.

    References
    ----------
    .. [1] M. Peters et al., "Deep Contextualized Word Representations", NAACL 2018, equation 1.

    Examples
    --------
    >>> import torch
    >>> from sktransfer.tasks.heads import ScalarMix
    >>> mix = ScalarMix(2)
    >>> mix(torch.tensor([[1.0, 2.0, 3.0, 6.0]])).tolist()  # layers [1, 2] and [3, 6], concatenated
    [[2.0, 4.0]]
    """

    def __init__(self, n_layers: int) -> None:
        super().__init__()
        self.scores = nn.Parameter(torch.zeros(n_layers))
        self.gamma = nn.Parameter(torch.ones(()))

    @property
    def weights(self) -> Tensor:
        """Weight of each layer, (n_layers,), summing to one."""
        return self.scores.softmax(0)

    def forward(self, features: Tensor) -> Tensor:
        """Return the mix (..., n_features) of concatenated layers (..., n_layers * n_features)."""
        layers = features.reshape(*features.shape[:-1], len(self.scores), -1)  # (..., n_layers, n_features)
        mixed: Tensor = self.gamma * torch.einsum("l,...lf->...f", self.weights, layers)  # (..., n_features)
        return mixed


class FeatureHead(nn.Module):
    """Linear head on standardized features, of samples or of tokens.

    It takes features as the backbone gives them. Its parts do not: `mix` and `linear` read standardized features.

    Parameters
    ----------
    n_features : int
        Width of the features.
    n_outputs : int or None
        Width of the output. None for no linear layer: the output is the standardized features.
    n_mixed : int, default=None
        Number of layers of equal width to mix by learned weights. None if the features are not mixed.

    Examples
    --------
    >>> import torch
    >>> from sktransfer.tasks.heads import FeatureHead
    >>> FeatureHead(4, 3)(torch.zeros(2, 4)).shape
    torch.Size([2, 3])
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, n_features: int, n_outputs: int | None, n_mixed: int | None = None) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(n_features))
        self.register_buffer("scale", torch.ones(n_features))
        self.mix = None if n_mixed is None else ScalarMix(n_mixed)
        width = n_features // (n_mixed or 1)
        self.linear: Any = nn.Identity() if n_outputs is None else nn.Linear(width, n_outputs)
        self.n_outputs = width if n_outputs is None else n_outputs
        self.blocks: tuple[int, ...] = ()

    def divide(self, blocks: Sequence[int]) -> None:
        """Divide the features into those of several towers. Zeros of a tower then stand for the mean.

        Parameters
        ----------
        blocks : sequence of int
            Number of features of each tower.
        """
        self.blocks = tuple(blocks)
        self.register_buffer("widths", torch.tensor(self.blocks))  # (n_towers,), saved with the weights

    def forward(self, features: Tensor) -> Tensor:
        """Return outputs (..., n_outputs) for features (..., n_features) as the backbone gives them."""
        outputs: Tensor = self.linear(self.linear_input(features))  # (..., n_outputs)
        return outputs

    def linear_input(self, features: Tensor) -> Tensor:
        """Return standardized features, mixed if layers are mixed: (..., n_features / n_mixed)."""
        standardized = (features - self.mean) / self.scale  # (..., n_features)
        if self.blocks:
            parts = zip(*(torch.split(one, list(self.blocks), -1) for one in (features, standardized)), strict=True)
            # Without a sample, the features of a tower are zeros.
            present = [torch.where(own.any(-1, keepdim=True), one, 0.0) for own, one in parts]  # (..., width) each
            standardized = torch.cat(present, -1)  # (..., n_features)
        return standardized if self.mix is None else self.mix(standardized)  # (..., n_features / n_mixed)


def block_widths(backbone: Backbone, layer_widths: Mapping[LayerOutput, int]) -> list[int]:
    """Return the number of features of each tower, or none if the backbone is not joined.

    Parameters
    ----------
    backbone : Backbone
        Backbone.
    layer_widths : mapping of LayerOutput to int
        Number of features of each layer that heads read.
    """
    if None in backbone.towers:
        return []
    return [sum(width for layer, width in layer_widths.items() if layer.tower == name) for name in backbone.towers]


def divide_head(head: nn.Module, blocks: Sequence[int]) -> None:
    """Divide the features of a head into those of several towers, if there are several.

    Parameters
    ----------
    head : nn.Module
        Head, changed in place.
    blocks : sequence of int
        Result of `block_widths`.
    """
    if blocks and isinstance(head, FeatureHead):
        head.divide(blocks)


class Head:
    """Head of a fitted estimator, for `head=` of another one. Called with features, it returns outputs.

    It holds a copy of the weights and the meaning of the outputs. It is immutable, and `clone` returns the same object.

    Parameters
    ----------
    head : FeatureHead
        Fitted head, copied.
    task : Task
        Fitted task of that head.
    choice : LayerChoice, default=None
        Layers that the head reads, if `layer="auto"` has chosen them.

    Attributes
    ----------
    task : {"multiclass", "multilabel-indicator", "continuous", "tags", "multiclass-per-pixel"}
        Kind of the target.
    classes : ndarray of shape (n_outputs,) or None
        Labels of the outputs; None for regression.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sktransfer import FineTuneClassifier, ImageFeaturizer
    >>> X, y = load_digits(return_X_y=True)
    >>> source = FineTuneClassifier(layer=-1, freeze_depth="all", max_epochs=0).fit(X[:50] / 16, y[:50])
    >>> source.head_
    Head(task='multiclass', n_features=512, n_outputs=10)
    >>> features = ImageFeaturizer(source.backbone_, layer=-1).fit_transform(X[:50] / 16)
    >>> bool(abs(source.head_(features) - source.decision_function(X[:50] / 16)).max() < 1e-4)
    True
    >>> target = FineTuneClassifier(source.backbone_, layer=-1, head=source.head_, max_epochs=1, random_state=0)
    >>> target.fit(X[:100] / 16, y[:100]).classes_.tolist() == source.classes_.tolist()
    True
    """

    def __init__(self, head: FeatureHead, task: Task, choice: LayerChoice | None = None) -> None:
        self.task, self.classes, self.choice = task.kind, task.classes, choice
        self._state = {name: value.cpu().clone() for name, value in head.state_dict().items()}
        n_outputs = len(self._state["linear.bias"])
        self._shift = torch.as_tensor(np.broadcast_to(task.shift, n_outputs).copy(), dtype=torch.float64)
        self._spread = torch.as_tensor(np.broadcast_to(task.spread, n_outputs).copy(), dtype=torch.float64)

    def __call__(self, features: Any) -> np.ndarray:
        """Return outputs (n_samples, n_outputs), float64: logits, or numbers in the units of y.

        For two classes the decision function is the difference of the two logits.

        Parameters
        ----------
        features : array-like of shape (n_samples, n_features)
            Features as the backbone gives them, of several layers in ascending order: those of a featurizer with the
            `backbone_`, the `layer` and the `pooling` of the fitted estimator. With `layer="auto"`, those of the layers
            of `layer_`, in its order and as the backbone gives them, not as a featurizer scales them.

        Raises
        ------
        ValueError
            If the features have another width.
        """
        read = torch.as_tensor(np.asarray(features), dtype=torch.float32)  # (n_samples, n_features)
        n_outputs, width = self._state["linear.weight"].shape
        n_features = len(self._state["mean"])
        if read.ndim != 2 or read.shape[1] != n_features:
            raise ValueError(f"features have shape {tuple(read.shape)}, and {self!r} takes (n_samples, {n_features})")
        with torch.no_grad(), private_draws():
            head = FeatureHead(n_features, n_outputs, n_features // width if "mix.scores" in self._state else None)
            if "widths" in self._state:
                head.divide(self._state["widths"].tolist())
            head.load_state_dict(self._state)
            outputs: np.ndarray = (head(read).double() * self._spread + self._shift).numpy()  # (n_samples, n_outputs)
        return outputs

    def start(self, head: FeatureHead, task: Task) -> None:
        """Write the weights into a new head, in the units of its task.

        Parameters
        ----------
        head : FeatureHead
            New head, changed in place.
        task : Task
            Task of the new head.

        Raises
        ------
        InvalidParameterError
            If the task, the classes or the width of the features differ.
        """
        self._check(head, task)
        spread = torch.as_tensor(task.spread)
        state = dict(self._state)
        raw = self._state["linear.bias"] * self._spread + self._shift  # (n_outputs,), in the units of the targets
        state["linear.bias"] = (raw - torch.as_tensor(task.shift)) / spread  # (n_outputs,)
        state["linear.weight"] = state["linear.weight"] * (self._spread / spread)[:, None]  # (n_outputs, n_features)
        head.load_state_dict(state)

    def _check(self, head: FeatureHead, task: Task) -> None:
        if task.kind != self.task:
            raise InvalidParameterError(f"head={self!r} was fitted for {self.task}; y is {task.kind}")
        if self.classes is not None and not np.array_equal(self.classes, np.asarray(task.classes)):
            raise InvalidParameterError(
                f"head={self!r} was fitted for classes {_short(self.classes)}, and y holds {_short(task.classes)}; "
                "only a head for the same classes can be continued: omit head and warm_start to make a new one"
            )
        own = head.state_dict()
        if own.keys() != self._state.keys() or any(own[name].shape != v.shape for name, v in self._state.items()):
            raise InvalidParameterError(
                f"head={self!r} does not fit: here a head sees {head.linear.in_features} features and gives "
                f"{head.linear.out_features} outputs; backbone, layer and pooling must be those that it was fitted on"
            )

    def to_state(self) -> dict[str, Any]:
        """Return the attributes as plain values, arrays and tensors, for saving."""
        units = {"shift": self._shift, "spread": self._spread}
        state = {"task": self.task, "classes": self.classes, "state": self._state, "units": units}
        return state if self.choice is None else {**state, "choice": self.choice}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Self:
        """Return the head that `to_state` described.

        Parameters
        ----------
        state : dict
            Result of `to_state`.

        Raises
        ------
        LoadError
            If the parts do not fit each other.
        """
        task = require_field(state, "task", str, _KINDS)
        classes = require_field(state, "classes", (np.ndarray, type(None)))
        weights, units = require_field(state, "state", dict), require_field(state, "units", dict)
        if not {"mean", "scale", "linear.weight", "linear.bias"} <= weights.keys():
            raise LoadError(f"a head has only {sorted(weights)}")
        n_outputs = len(weights["linear.bias"])
        shift, spread = require_field(units, "shift", Tensor), require_field(units, "spread", Tensor)
        fits = weights["linear.weight"].shape[:1] == shift.shape == spread.shape == (n_outputs,)
        fits = fits and shift.dtype == spread.dtype == torch.float64
        fits = fits and int(weights.get("widths", torch.tensor([len(weights["mean"])])).sum()) == len(weights["mean"])
        if not fits or (classes is not None and len(classes) != n_outputs):
            raise LoadError(f"a head has {n_outputs} outputs, units {tuple(shift.shape)} and classes {classes}")
        choice = require_field({"choice": state.get("choice")}, "choice", (LayerChoice, type(None)))
        if choice is not None and choice.mean.shape != weights["mean"].shape:
            raise LoadError(f"a head reads {len(weights['mean'])} features, and its layers give {len(choice.mean)}")
        head = cls.__new__(cls)
        head.task, head.classes, head.choice = task, classes, choice
        head._state, head._shift, head._spread = weights, shift, spread
        return head

    def __sklearn_clone__(self) -> Head:
        return self

    def __repr__(self) -> str:
        n_outputs, n_features = self._state["linear.weight"].shape
        return f"Head(task={self.task!r}, n_features={n_features}, n_outputs={n_outputs})"


def _short(classes: Any) -> str:
    listed = list(np.asarray(classes).tolist())
    return str(listed) if len(listed) <= 10 else f"{str(listed[:10])[:-1]}, ...] ({len(listed)} in all)"
