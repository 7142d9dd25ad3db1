"""What an earlier fit has left, where the next goes on from it."""

from __future__ import annotations

import dataclasses
from typing import Any

import pandas as pd

from sktransfer.backbones.backbone import Backbone
from sktransfer.exceptions import InvalidParameterError
from sktransfer.training.heads import Head
from sktransfer.training.net import FineTuneNet

__all__ = ["Earlier"]


@dataclasses.dataclass(frozen=True)
class Earlier:
    """An earlier fit.

    Parameters
    ----------
    backbone : Backbone
        As it was trained.
    head : Head
        As it was trained.
    net : FineTuneNet or None
        Whose optimizer is gone on with; None for a new one.
    history : DataFrame
        Its epochs.
    seed : int
        That it drew random weights from.
    """

    backbone: Backbone
    head: Head
    net: FineTuneNet | None
    history: pd.DataFrame
    seed: int

    def check(self, backbone: Backbone, estimator: Any) -> None:
        """Raise unless it can be gone on from with what an estimator's parameters ask for now.

        Parameters
        ----------
        backbone : Backbone
            What they ask for, its stages those that are kept.
        estimator : FineTuneBase
            Has the parameters.

        Raises
        ------
        InvalidParameterError
            If stages, weights or preprocessing are others.
        """
        before = self.backbone
        if before.stage_names != backbone.stage_names:
            raise InvalidParameterError(
                f"the fit that is to be gone on from has stages {before.stage_names}, and backbone and layer now ask "
                f"for {backbone.stage_names}; set them as they were, or warm_start=False"
            )
        if before.pretrained != backbone.pretrained or before.preprocess.key != backbone.preprocess.key:
            raise InvalidParameterError(
                "the fit that is to be gone on from had other weights or another preprocessing than "
                f"backbone={estimator.backbone!r}, weights={estimator.weights!r}, preprocess={estimator.preprocess!r} "
                f"and max_length={estimator.max_length!r} ask for now; set them as they were, or warm_start=False"
            )
