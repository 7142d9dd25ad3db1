"""The backbones of timm. Listing them reads a table, and imports neither torch nor timm.

The table (`models.json`) is written by `python -m sktransfer_timm.table`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from sktransfer.backbones import BackboneSpec, WeightsSource, hookimpl

TABLE = Path(__file__).with_name("models.json")


@hookimpl
def sktransfer_backbones() -> list[BackboneSpec]:
    """Return the specs of the table: one for each set of weights, and for each network that has none."""
    return [spec for name, row in _table().items() for spec in specs_of(name, row)]


@hookimpl
def sktransfer_find_backbone(name: str) -> BackboneSpec | None:
    """Return the spec of a network that is not listed under this name.

    Parameters
    ----------
    name : str
        As in `timm.create_model`. A name without the tag of weights stands for timm's default ones. A network that is
        not in the table (of a later timm, or one's own with `timm.models.register_model`) is built without weights, on
        the "meta" device, and cut.

    Raises
    ------
    PluginError
        If timm has it, and it cannot be cut into stages.
    """
    row = _table().get(name)
    if row is not None:  # the first weights of a row are timm's default
        return next(specs_of(name, row))
    from sktransfer_timm.table import spec_of

    return spec_of(name)


@cache
def _table() -> dict[str, dict[str, Any]]:
    table: dict[str, dict[str, Any]] = json.loads(TABLE.read_text(encoding="utf-8"))["models"]
    return table


def specs_of(name: str, row: Mapping[str, Any]) -> Iterator[BackboneSpec]:
    """Yield the specs of one network: of each of its weights, timm's default first; of itself where it has none.

    Parameters
    ----------
    name : str
        The network's, without a tag.
    row : mapping
        `stages` (a list of [name, width]; [name with {}, first number, how many, width] for a run of equal blocks) and
        `weights` (tag -> input size, licence, hub id). The tag "" is that of a network without weights.
    """
    stages: dict[str, int] = {}
    for stage, *numbers in row["stages"]:
        if len(numbers) == 1:
            stages[stage] = numbers[0]
        else:
            first, count, width = numbers
            stages |= {stage.format(index): width for index in range(first, first + count)}
    for tag, (size, licence, hub) in row["weights"].items():
        full = f"{name}.{tag}" if tag else name
        yield BackboneSpec(
            name=f"timm/{full}",
            loader="sktransfer_timm.load:load",
            modality="image",
            stages=stages,
            input_size=tuple(size),
            weights=WeightsSource(location=f"hub:{hub.replace('*', full)}") if hub else None,
            licence=licence,
        )
