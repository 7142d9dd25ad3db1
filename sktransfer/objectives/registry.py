"""Objectives by name."""

from __future__ import annotations

from typing import Any

from sktransfer._validation import check_int
from sktransfer.backbones.backbone import Backbone
from sktransfer.exceptions import InvalidParameterError, did_you_mean
from sktransfer.objectives.base import Objective
from sktransfer.objectives.causal import NextTokens
from sktransfer.objectives.denoising import Denoising
from sktransfer.objectives.masked import MaskedTokens
from sktransfer.objectives.patches import MaskedPatches
from sktransfer.objectives.reconstruction import StageDenoising
from sktransfer.objectives.siamese import SiameseViews
from sktransfer.objectives.tension import ContrastiveTension
from sktransfer.objectives.views import DropoutViews, has_dropout
from sktransfer.towers.joined import refuse_joined

__all__ = ["OBJECTIVES", "check_views", "choose_objective"]

OBJECTIVES: dict[str, type[Objective]] = {
    "mlm": MaskedTokens,
    "causal": NextTokens,
    "tsdae": Denoising,
    "simcse": DropoutViews,
    "contrastive_tension": ContrastiveTension,
    "denoise": StageDenoising,
    "simsiam": SiameseViews,
    "mae": MaskedPatches,
}


def choose_objective(objective: Any, backbone: Backbone, freeze_depth: Any = 0, views: Any = None) -> Objective | None:
    """Return the objective that a parameter stands for, or None for none.

    Parameters
    ----------
    objective : str or Objective
        Name of an objective, "auto" or "none", or an objective.
    backbone : Backbone
        Backbone, by which "auto" chooses.
    freeze_depth : int, float or str, default=0
        Frozen stages. "auto" is no objective of dropout if the others have none.
    views : int, default=None
        Number of fixed noisy copies of each sample, with which stages can be frozen.

    Raises
    ------
    InvalidParameterError
        If there is no such objective, or it is for another kind of samples.
    """
    refuse_joined(backbone, "SelfSupervisedTuner", "adapt the backbone of one column, and join it afterwards")
    modality = backbone.modality
    if isinstance(objective, Objective):
        if objective.modality != modality:
            others = [name for name, kind in OBJECTIVES.items() if kind.modality == modality]
            raise InvalidParameterError(
                f"objective={objective!r} is for {objective.modality}s, and {backbone.name} takes {modality}s; set "
                f"objective to 'auto', 'none' or one of {others}"
            )
        return objective
    names = ("auto", "none", *OBJECTIVES)
    if not isinstance(objective, str) or objective not in names:
        hint = did_you_mean(objective, names) if isinstance(objective, str) else ""
        raise InvalidParameterError(
            f"objective={objective!r} must be one of {names}, or an objective such as MaskedTokens(0.3).{hint}"
        )
    if objective == "none":
        return None
    if objective == "auto":
        if modality == "image":
            raise InvalidParameterError(
                "objective='auto' is for texts, because no objective of images has raised the accuracy of a pretrained "
                "network where it was measured. Set objective='simsiam', 'denoise' or 'mae', at a low rate such as "
                "lr=1e-5, and compare with 'none'"
            )
        kind = None if backbone.lm_head is None else backbone.lm_head.kind
        trained = backbone.stages[backbone.n_frozen(freeze_depth) :]
        is_masked = kind == "masked" and (views is not None or not has_dropout(trained))
        objective = "causal" if kind == "causal" else "mlm" if is_masked else "simcse"
    return choose_objective(OBJECTIVES[objective](), backbone)


def check_views(views: Any, objective: Objective | None) -> None:
    """Raise unless a number of fixed noisy copies is allowed.

    Parameters
    ----------
    views : int or None
        Number of copies; None for new noise in each epoch.
    objective : Objective or None
        Objective of the training; None without a training.

    Raises
    ------
    InvalidParameterError
        If it is not.
    """
    if views is None:
        return
    if objective is not None and not objective.changes_input:
        names = tuple(name for name, kind in OBJECTIVES.items() if kind.changes_input)
        raise InvalidParameterError(
            f"views={views!r} fixes noisy copies of the {objective.modality}s, and objective={objective!r} does not "
            "change what the first stage reads, so that frozen stages run once for each of them anyway; set views to "
            f"None, or objective to one of {names}"
        )
    least = 1 if objective is None else objective.copies_per_step
    hint = ", the copies that a step compares" if least > 1 else "; None for new noise in each epoch"
    check_int("views", views, least, hint)
