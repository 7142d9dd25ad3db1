"""Alignments by name, and their weights."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from sktransfer._validation import check_float
from sktransfer.domains.adversarial import DANN
from sktransfer.domains.base import Alignment
from sktransfer.domains.distances import CORAL, MCC, MMD
from sktransfer.exceptions import InvalidParameterError, did_you_mean

__all__ = ["ALIGNMENTS", "STATISTICS", "Alignments", "choose_alignments"]

ALIGNMENTS: dict[str, type[Alignment]] = {"coral": CORAL, "mmd": MMD, "dann": DANN, "mcc": MCC}
STATISTICS, NONE, AUTO = "adabn", "none", "auto"


@dataclasses.dataclass(frozen=True)
class Alignments:
    """The alignments that a training uses.

    Parameters
    ----------
    losses : dict of str to Alignment
        Alignments of positive weight, by name.
    weights : dict of str to float
        Weight of the loss of each of them.
    takes_statistics : bool
        Whether BatchNorm takes statistics of the target.
    """

    losses: dict[str, Alignment]
    weights: dict[str, float]
    takes_statistics: bool


def choose_alignments(alignment: Any, weight: Any) -> Alignments:
    """Return the alignments that the parameters of an estimator stand for.

    Parameters
    ----------
    alignment : str, Alignment or sequence of these
        "none", "adabn", names of `ALIGNMENTS`, or objects.
    weight : float or mapping of str to float
        Weight of the losses, or of each of them by name.

    Raises
    ------
    InvalidParameterError
        If there is no such alignment, one of them occurs twice, or a weight is not allowed.

    Examples
    --------
    >>> from sktransfer.domains.registry import choose_alignments
    >>> choose_alignments(["coral", "mcc"], {"mcc": 0.5}).weights
    {'coral': 1.0, 'mcc': 0.5}
    >>> choose_alignments("adabn", 1.0)
    Alignments(losses={}, weights={}, takes_statistics=True)
    """
    given = list(alignment) if isinstance(alignment, (list, tuple)) else [alignment]
    found: dict[str, Alignment | None] = {}
    if not given or (len(given) > 1 and any(isinstance(one, str) and one in (NONE, AUTO) for one in given)):
        raise InvalidParameterError(
            f"alignment={alignment!r} must be {AUTO!r} or {NONE!r} alone, or a list of other alignments: {_allowed()}"
        )
    for one in given:
        name, made = _named(one)
        if name in found:
            raise InvalidParameterError(f"alignment={alignment!r} has {name!r} twice; give it once")
        found[name] = made
    losses = {name: made for name, made in found.items() if made is not None}
    weights = _weights(weight, losses)
    used = {name: made for name, made in losses.items() if weights[name] > 0}
    return Alignments(used, {name: weights[name] for name in used}, STATISTICS in found)


def _named(one: Any) -> tuple[str, Alignment | None]:
    """Return the name of an alignment, and the alignment for one training; None if it has no loss."""
    if isinstance(one, Alignment):
        by_class = {cls: name for name, cls in ALIGNMENTS.items()}
        return by_class.get(type(one), type(one).__name__.lower()), one.for_fit()
    names = (NONE, STATISTICS, *ALIGNMENTS)
    if not isinstance(one, str) or one not in names:
        made = f" Give an instance, {one.__name__}()." if isinstance(one, type) else ""
        hint = did_you_mean(one, (AUTO, *names)) if isinstance(one, str) else made
        raise InvalidParameterError(f"alignment={one!r} must be {_allowed()}.{hint}")
    return one, ALIGNMENTS[one]().for_fit() if one in ALIGNMENTS else None


def _allowed() -> str:
    return f"one of {(AUTO, NONE, STATISTICS, *ALIGNMENTS)}, an object such as DANN(hidden=64), or a list of these"


def _weights(weight: Any, losses: Mapping[str, Alignment]) -> dict[str, float]:
    """Return the weight of each loss."""
    if not isinstance(weight, Mapping):
        hint = "; a dict gives weights by the name of an alignment"
        return dict.fromkeys(losses, check_float("alignment_weight", weight, hint=hint))
    for name in weight:
        if name not in losses:
            near = did_you_mean(name, list(losses)) if isinstance(name, str) else ""
            known = f"the alignments with a loss are {list(losses)}." if losses else "no alignment here has a loss: "
            remedy = near if losses else f"give alignment={name!r} by name, because 'auto' may be {STATISTICS!r}"
            raise InvalidParameterError(f"alignment_weight names {name!r}, and {known}{remedy}")
    return {name: check_float(f"alignment_weight[{name!r}]", weight.get(name, 1.0)) for name in losses}
