"""Fitted attributes of estimators that choose layers or the strength of a linear model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
from sklearn.utils.validation import check_is_fitted

from sktransfer.backbones.backbone import Backbone
from sktransfer.engine.head_strength import HeadStrength
from sktransfer.engine.layer_choice import LayerChoice
from sktransfer.engine.layers import is_auto

__all__ = ["ChosenLayers", "ChosenLayersByTask"]


class ChosenLayers:
    """Mixin with the attributes of the choice that `fit` makes."""

    backbone_: Backbone
    layer: Any
    _choice: LayerChoice | None = None  # only if layer="auto"
    _strength: HeadStrength | None = None  # of the probe of a tuner

    @property
    def layer_(self) -> pd.Series:
        """Weight of each layer that `layer="auto"` has chosen, by stage and pooling, summing to one."""
        check_is_fitted(self)
        if self._choice is None:
            raise AttributeError(f"layer_ is only there with layer='auto' and y; {self._why_none()}")
        return self._choice.table(self.backbone_)

    @property
    def strength_(self) -> float:
        """Strength of a linear model on features of total variance 1: C, or alpha for numbers."""
        return self._found("strength_").value

    @property
    def report_(self) -> str:
        """The choice and the errors that decided it, in a few lines."""
        check_is_fitted(self)
        if self._choice is None and self._strength is None:
            return self._why_none()
        found = self._found("report_")
        return found.report() if self._choice is None else self._choice.report(self.backbone_)

    def _found(self, name: str) -> HeadStrength:
        check_is_fitted(self)
        found = self._strength if self._choice is None else self._choice.head
        if found is None:
            raise AttributeError(f"{name} is only there if a strength was found; {self._why_none()}")
        return found

    def _why_none(self) -> str:
        """Return why nothing was chosen."""
        if is_auto(self.layer):
            return "layer='auto' is the last layer, as the network gives it, because fit was called without y"
        if getattr(self, "head_init", None) == "probe" and hasattr(self, "C"):
            return f"layer={self.layer!r} is fixed, and so is the strength of the probe, C={self.C}"
        if hasattr(self, "head_init") and self._strength is None:
            return f"layer={self.layer!r} is fixed, and the head did not start as a probe"
        return f"layer={self.layer!r} is fixed"


class ChosenLayersByTask:
    """Mixin with the attributes of what `fit` has chosen for several tasks."""

    backbone_: Backbone
    layer: Any
    _choices: Mapping[str, LayerChoice] = {}  # only if layer="auto"
    _depth_report: str | None = None  # only if freeze_depth="auto"
    _strengths: Mapping[str, HeadStrength] = {}  # of the probes

    @property
    def layer_(self) -> pd.Series:
        """Weight of each layer that `layer="auto"` has chosen, by stage and pooling, summing to one."""
        check_is_fitted(self)
        if not self._choices:
            raise AttributeError(f"layer_ is only there with layer='auto'; layer={self.layer!r} is fixed")
        return next(iter(self._choices.values())).table(self.backbone_)

    @property
    def strength_(self) -> dict[str, float]:
        """Strength of the probe of each task on features of total variance 1: C, or alpha for numbers."""
        check_is_fitted(self)
        return {name: one.value for name, one in self._found().items()}

    @property
    def report_(self) -> str:
        """What was chosen, and by which errors, in a line per task."""
        check_is_fitted(self)
        choice = next(iter(self._choices.values()), None)
        layers = f"layer={self.layer!r} is fixed" if choice is None else choice.report_layers(self.backbone_)
        lines = [layers, *(f"{name}: {one.report()}" for name, one in self._found().items()), self._depth_report]
        return "\n".join(line for line in lines if line)

    def _found(self) -> dict[str, HeadStrength]:
        return {**self._strengths, **{name: one.head for name, one in self._choices.items()}}
