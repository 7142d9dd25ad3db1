"""Backbones of timm. Listing them reads a table, and imports neither torch nor timm.

`python -m sktransfer_timm.table` writes the table to `models.json`.
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
    """Return the specs of the table, one per set of weights and one per network without weights."""
    return [spec for name, row in _table().items() for spec in specs_of(name, row)]


@hookimpl
def sktransfer_find_backbone(name: str) -> BackboneSpec | None:
    """Return the spec of a network that is not listed under its name.

    Parameters
    ----------
    name : str
        Name for `timm.create_model`. A name without a tag stands for timm's default weights. A network that is not in
        the table (of a later timm, or registered by `timm.models.register_model`) is built without weights, on the
        "meta" device, and divided into stages.

    Raises
    ------
    PluginError
        If timm has the network, but it cannot be divided into stages.
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
    """Yield the specs of a network, one per set of weights, with timm's default first.

    Parameters
    ----------
    name : str
        Name of the network, without a tag.
    row : mapping
        `stages` (a list of [name, width], or [name with {}, first number, count, width] for a run of equal blocks),
        `n_parameters` and `weights` (tag -> input size, licence, hub id). A network without weights has the tag "".
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
            n_parameters=row["n_parameters"],
        )
