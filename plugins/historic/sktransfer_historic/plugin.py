"""Provider `historic/awd_lstm/<folder>` and `historic/elmo/<folder>`. Imports nothing heavy."""

from __future__ import annotations

from pathlib import Path

from sktransfer.backbones import BackboneSpec, hookimpl, local_path
from sktransfer.exceptions import BackboneNotFoundError
from sktransfer_historic.specs import awd_lstm_spec, elmo_spec

__all__ = ["sktransfer_backbones", "sktransfer_find_backbone"]

PROVIDER, KINDS = "historic", ("awd_lstm", "elmo")
_DROPOUT, _DEFAULT = "#dropout=", 0.5  # suffix of a name, and its number if there is none


@hookimpl
def sktransfer_backbones() -> list[BackboneSpec]:
    """Return no specs, because the members of an open family are found by name."""
    return []


@hookimpl
def sktransfer_find_backbone(name: str) -> BackboneSpec | None:
    """Return the spec of a folder of weights.

    Parameters
    ----------
    name : str
        `awd_lstm/<folder>` or `elmo/<folder>`. The suffix `#dropout=0.3` of the former is the factor of all rates of
        dropout, 0.5 without it.

    Raises
    ------
    BackboneNotFoundError
        If there is no such folder, or the suffix is not a number from 0.
    WeightsError
        If the folder lacks a file, or has one that cannot be read.
    """
    kind, _, place = name.partition("/")
    if kind not in KINDS:
        return None
    if not place:
        raise BackboneNotFoundError(
            f"'{PROVIDER}/{kind}' names no folder; give the folder of its weights, '{PROVIDER}/{kind}/<folder>'"
        )
    if kind == "elmo":
        folder = _folder(place, name)
        return elmo_spec(f"{PROVIDER}/{kind}/{folder}", folder)
    place, mark, number = place.partition(_DROPOUT)
    dropout = _factor(number, name) if mark else _DEFAULT
    folder = _folder(place, name)
    return awd_lstm_spec(f"{PROVIDER}/{kind}/{folder}{mark}{number}", folder, dropout)


def _factor(number: str, name: str) -> float:
    try:
        factor = float(number)
    except ValueError:
        factor = -1.0
    if not 0 <= factor <= 2:
        raise BackboneNotFoundError(
            f"'{PROVIDER}/{name}': {_DROPOUT}{number} must be a number from 0 to 2, such as {_DROPOUT}{_DEFAULT}"
        )
    return factor


def _folder(place: str, name: str) -> Path:
    folder = local_path(place)
    if not folder.is_dir():
        raise BackboneNotFoundError(
            f"'{PROVIDER}/{name}' names a folder that does not exist; give one with weights and "
            f"{'options' if name.startswith('elmo') else 'vocabulary'}"
        )
    return folder.resolve()  # unpickling may happen in another working directory
