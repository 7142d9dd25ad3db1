"""Fitted attributes of estimators that choose layers or the strength of a linear model."""

from __future__ import annotations

import pandas as pd
from sklearn.utils.validation import check_is_fitted

from sktransfer.backbones.backbone import Backbone
from sktransfer.engine.choose_layers import LayerChoice
from sktransfer.engine.head_strength import HeadStrength

__all__ = ["ChosenLayers"]


class ChosenLayers:
    """Mixin with the attributes of what `fit` has chosen."""

    backbone_: Backbone
    _choice: LayerChoice | None = None  # only if layer="auto"
    _strength: HeadStrength | None = None  # of the probe of a tuner

    @property
    def layer_(self) -> pd.Series:
        """Weight of each layer that `layer="auto"` has chosen, by stage and pooling, summing to one."""
        check_is_fitted(self)
        if self._choice is None:
            raise AttributeError(f"layer_ is only there with layer='auto', and this {type(self).__name__} has another")
        return self._choice.table(self.backbone_)

    @property
    def strength_(self) -> float:
        """Strength of a linear model on features of total variance 1: C, or alpha for numbers."""
        return self._found("strength_").value

    @property
    def report_(self) -> str:
        """What was chosen, and by which errors, in a few lines."""
        found = self._found("report_")
        return found.report() if self._choice is None else self._choice.report(self.backbone_)

    def _found(self, name: str) -> HeadStrength:
        check_is_fitted(self)
        found = self._strength if self._choice is None else self._choice.head
        if found is None:
            where = "layer='auto', or with a probe: head='linear' and head_init='probe'"
            where = where if hasattr(self, "head_init") else "layer='auto'"
            raise AttributeError(f"{name} is only there with {where}; this {type(self).__name__} has found no strength")
        return found
