"""The layers that a choice took, and the divisors of their features."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
import pandas as pd

from sktransfer._validation import require_field
from sktransfer.backbones.backbone import Backbone
from sktransfer.engine.head_strength import HeadStrength
from sktransfer.engine.layers import LayerOutput
from sktransfer.exceptions import LoadError

__all__ = ["LayerChoice"]


@dataclass(frozen=True)
class LayerChoice:
    """Layers that `layer="auto"` keeps, how to scale them, and the strength of a head on them.

    Parameters
    ----------
    layers : tuple of LayerOutput
        Layers in ascending order.
    widths : tuple of int
        Number of features of each layer.
    weights : ndarray of shape (n_layers,)
        Share of each layer in the variance of the features, summing to one.
    mean : ndarray of shape (n_features,)
        Mean of the features.
    scales : ndarray of shape (n_layers,)
        Root of the mean squared length of each layer's features around their mean.
    head : HeadStrength
        Strength of a linear model on the features, and its leave-one-out error.
    last_error : float, default=0.0
        Leave-one-out error of the last stage alone, as a share of the variance of the targets.
    alone : mapping of str to float, default={}
        Leave-one-out error of the layers of each tower of a joined backbone without the others.

    Examples
    --------
    >>> import numpy as np
    >>> from sktransfer.engine.layer_choice import LayerChoice
    >>> from sktransfer.engine.layers import LayerOutput
    >>> from sktransfer.engine.head_strength import HeadStrength
    >>> layers, head = (LayerOutput(1, "mean"),), HeadStrength(9.0, False)
    >>> one = LayerChoice(layers, (2,), np.ones(1), np.zeros(2), np.array([2.0]), head)
    >>> one.scaled(np.array([[2.0, 4.0]], dtype=np.float32)).tolist()
    [[3.0, 6.0]]
    """

    layers: tuple[LayerOutput, ...]
    widths: tuple[int, ...]
    weights: np.ndarray
    mean: np.ndarray
    scales: np.ndarray
    head: HeadStrength
    last_error: float = 0.0
    alone: Mapping[str, float] = field(default_factory=dict)

    @property
    def variance(self) -> float:
        """Total variance of what a trained head reads.

        A step of Adam changes all weights of a head by the same amount. At this variance it moves the outputs as much
        as that of a head on the last layer alone, at a mean variance of 1, would.
        """
        of_last: dict[str | None, int] = {}  # width of the first pooling of the last layer, by tower
        for tower in dict.fromkeys(layer.tower for layer in self.layers):
            last = max(layer.stop for layer in self.layers if layer.tower == tower)
            of_last[tower] = self.widths[
                next(i for i, layer in enumerate(self.layers) if layer.tower == tower and layer.stop == last)
            ]
        return sum(of_last.values()) ** 2 / sum(self.widths)

    def divisors(self, total: float) -> np.ndarray:
        """Return the divisor of each centred feature (n_features,) for a total variance.

        Parameters
        ----------
        total : float
            Total variance.
        """
        return np.repeat(self.scales / np.sqrt(self.weights * total), self.widths)  # (n_features,)

    def scaled(self, features: np.ndarray) -> np.ndarray:
        """Return features on which a linear model needs no other strength than 1, changed in place.

        Parameters
        ----------
        features : ndarray of shape (n_samples, n_features), float32
            Features of the layers, concatenated.
        """
        absent = self._absent(features)
        features -= self.mean.astype(np.float32)
        features /= self.feature_divisors.astype(np.float32)
        for rows, columns in absent:
            features[rows, columns] = 0.0
        return features

    def _absent(self, features: np.ndarray) -> list[tuple[np.ndarray, slice]]:
        """Return the rows without a sample in the column of a tower, and the features of the tower, per tower."""
        found: list[tuple[np.ndarray, slice]] = []
        start = 0
        for name, layers in itertools.groupby(zip(self.layers, self.widths, strict=True), lambda one: one[0].tower):
            stop = start + sum(width for _, width in layers)
            if name is not None:
                found.append(((features[:, start:stop] == 0).all(axis=1), slice(start, stop)))
            start = stop
        return found

    @property
    def feature_divisors(self) -> np.ndarray:
        """Divisor of each centred feature (n_features,) that `scaled` uses."""
        return self.divisors(1 / self.head.value if self.head.is_alpha else self.head.value)

    def table(self, backbone: Backbone) -> pd.Series:
        """Return the weight of each layer, by stage and pooling, or by stage if layers are not pooled.

        Parameters
        ----------
        backbone : Backbone
            Backbone of the layers.
        """
        stages = [layer.stage_name(backbone) for layer in self.layers]
        poolings = [layer.pooling for layer in self.layers]
        if None in poolings:
            return pd.Series(self.weights, index=pd.Index(stages, name="layer"), name="weight")
        index = pd.MultiIndex.from_arrays([stages, poolings], names=["layer", "pooling"])
        return pd.Series(self.weights, index=index, name="weight")

    def report(self, backbone: Backbone) -> str:
        """Return the choice and the errors that decided it, in a few lines.

        Parameters
        ----------
        backbone : Backbone
            Backbone of the layers.
        """
        why = "weighed by depth, because the targets do not tell them apart"
        if self.head.n_samples:
            why = f"weighed by how well they predict the targets of {self.head.n_samples} samples"
            alone = f", and {self.last_error:.2f} with the last layer alone"
            if self.alone:
                alone = "".join(f", {error:.2f} with {name!r} alone" for name, error in self.alone.items())
        strength = f"{self.head.report()}{alone if self.head.n_samples else ''}"
        return f"{self.report_layers(backbone)}\n{why}\n{strength}"

    def report_layers(self, backbone: Backbone) -> str:
        """Return the layers and their weights.

        Parameters
        ----------
        backbone : Backbone
            Backbone of the layers.
        """
        named = [
            f"{name if isinstance(name, str) else '{} ({})'.format(*name)} {weight:.0%}"
            for name, weight in self.table(backbone).items()
        ]
        return f"layers: {', '.join(named)}"

    def to_state(self) -> dict[str, Any]:
        """Return the fields as plain values and arrays."""
        alone = {"alone": dict(self.alone)} if self.alone else {}
        return {
            **alone,
            "layers": list(self.layers),
            "widths": [int(width) for width in self.widths],
            "weights": self.weights,
            "mean": self.mean,
            "scales": self.scales,
            "head": self.head,
            "last_error": float(self.last_error),
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """Return the choice of a state.

        Raises
        ------
        LoadError
            If a field is missing or of another type, or the fields do not fit each other.
        """
        layers, widths = require_field(state, "layers", list), require_field(state, "widths", list)
        weights, mean, scales = (require_field(state, name, np.ndarray) for name in ("weights", "mean", "scales"))
        head, last_error = require_field(state, "head", HeadStrength), require_field(state, "last_error", float)
        fits = (
            len(layers) > 0
            and all(isinstance(layer, LayerOutput) for layer in layers)
            and all(type(width) is int and width > 0 for width in widths)
            and weights.shape == scales.shape == (len(layers),) == (len(widths),)
            and mean.shape == (sum(widths),)
            and all(array.dtype == np.float64 and np.isfinite(array).all() for array in (weights, mean, scales))
            and bool((weights > 0).all() and (scales > 0).all())
        )
        if not fits:
            raise LoadError(f"a choice of layers has {len(layers)} layers and widths {widths}")
        alone = require_field({"alone": state.get("alone", {})}, "alone", dict)
        if not all(type(name) is str and type(error) is float for name, error in alone.items()):
            raise LoadError(f"the errors of towers alone are {alone!r}")
        return cls(tuple(layers), tuple(widths), weights, mean, scales, head, last_error, alone)
