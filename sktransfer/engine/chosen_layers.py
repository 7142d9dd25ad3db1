"""Fitted attributes of estimators that take `layer="auto"`."""

from __future__ import annotations

import pandas as pd
from sklearn.utils.validation import check_is_fitted

from sktransfer.backbones.backbone import Backbone
from sktransfer.engine.choose_layers import LayerChoice

__all__ = ["ChosenLayers"]


class ChosenLayers:
    """Mixin with the attributes of the choice that `fit` has stored in `_choice`."""

    backbone_: Backbone
    _choice: LayerChoice | None = None  # only if layer="auto"

    @property
    def layer_(self) -> pd.Series:
        """Weight of each layer that `layer="auto"` has chosen, by stage and pooling, summing to one."""
        return self._chosen("layer_").table(self.backbone_)

    @property
    def strength_(self) -> float:
        """Strength of a linear model, or of the probe of a tuner, that `layer="auto"` has found."""
        return float(self._chosen("strength_").strength)

    @property
    def report_(self) -> str:
        """What `layer="auto"` has chosen, and by which errors."""
        return self._chosen("report_").report(self.backbone_)

    def _chosen(self, name: str) -> LayerChoice:
        check_is_fitted(self)
        if self._choice is None:
            raise AttributeError(f"{name} is only there with layer='auto', and this {type(self).__name__} has another")
        return self._choice
