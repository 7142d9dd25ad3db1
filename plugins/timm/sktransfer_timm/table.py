"""Table of all networks with their stages, written by `python -m sktransfer_timm.table`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from itertools import groupby
from typing import Any

import timm
import torch

from sktransfer.backbones import BackboneSpec
from sktransfer.exceptions import PluginError
from sktransfer_timm import TABLE, specs_of
from sktransfer_timm.cut import cut
from sktransfer_timm.load import preprocess
from sktransfer_timm.verify import verify

__all__ = ["main", "row_of", "spec_of"]

# SPDX identifiers of timm's licences. Other licences have none and keep timm's name.
_SPDX = {
    "apache-2.0": "Apache-2.0",
    "bsd-3-clause": "BSD-3-Clause",
    "cc-by-4.0": "CC-BY-4.0",
    "cc-by-nc-4.0": "CC-BY-NC-4.0",
    "mit": "MIT",
}


def row_of(name: str) -> tuple[type, int, dict[str, Any]]:
    """Return a network's class, number of parameters and row, from a run on the "meta" device.

    Parameters
    ----------
    name : str
        Name of the network, without a tag.

    Raises
    ------
    PluginError
        If it cannot be divided into stages, or the preprocessing of none of its weights is supported.
    """
    with torch.device("meta"):
        network = timm.create_model(name).eval()
    parts = cut(network)
    configs = dict(timm.models.get_arch_pretrained_cfgs(name))
    default = network.pretrained_cfg.get("tag") or ""
    ordered = sorted(configs or {name: None}, key=lambda full: full.partition(".")[2] != default)
    weights: dict[str, Any] = {}
    alone: dict[str, Any] = {}
    refused: PluginError | None = None
    for full in ordered:
        config = configs.get(full)
        known = network.pretrained_cfg if config is None else config.to_dict()
        try:
            preprocess(known)
        except PluginError as error:
            refused = error
            continue
        hub, licence = _hub(known, full), known.get("license") or "unknown"
        rest = [list(known["input_size"][1:]), _SPDX.get(licence, licence), hub]
        if hub:
            weights[full.partition(".")[2]] = rest
        alone = alone or {"": rest}
    if not alone and refused is not None:
        raise refused
    weights = weights or alone
    size = sum(parameter.numel() for parameter in network.parameters())
    row = {"stages": _short(parts.stages, parts.widths), "n_parameters": size, "weights": weights}
    return type(network), size, row


def _hub(config: Mapping[str, Any], full: str) -> str:
    """Return the hub id with * for the full name, or "" if the weights are not on a hub."""
    hub = config.get("hf_hub_id") or ""
    hub += full if hub.endswith("/") else ""
    return hub.replace(full, "*")


def _short(stages: Iterable[tuple[str, object]], widths: Iterable[int]) -> list[list[Any]]:
    """Return [name, width] per stage, or [name with {}, first, count, width] per run of blocks of equal width."""
    rows = []
    for (name, _), width in zip(stages, widths):
        head, _, number = name.rpartition(".")
        rows.append((f"{head}.{{}}", width, int(number), name) if number.isdigit() else (name, width, -1, name))
    # In a run, number minus position is constant.
    marked = [(row[0], row[1], row[2] - place if row[2] >= 0 else -place - 1, row) for place, row in enumerate(rows)]
    short: list[list[Any]] = []
    for (pattern, width, _), group in groupby(marked, key=lambda one: one[:3]):
        run = [row for *_, row in group]
        short.append([run[0][3], width] if len(run) == 1 else [pattern, run[0][2], len(run), width])
    return short


def spec_of(name: str) -> BackboneSpec | None:
    """Return the spec of a network that the table lacks, or None if timm has no such network or tag.

    Parameters
    ----------
    name : str
        Name for `timm.create_model`.

    Raises
    ------
    PluginError
        If it cannot be divided into stages.
    """
    architecture, _, tag = name.partition(".")
    if not timm.models.is_model(architecture):
        return None
    specs = list(specs_of(architecture, row_of(architecture)[2]))
    wanted = f"timm/{name}"
    return next((spec for spec in specs if not tag or spec.name == wanted), None)


def main() -> None:
    """Write the table, print the reason for each omitted network, and verify one network per class."""
    rows: dict[str, dict[str, Any]] = {}
    classes: dict[type, list[tuple[int, str]]] = {}
    for name in timm.list_models():
        try:
            kind, size, rows[name] = row_of(name)
        except Exception as error:  # some networks of timm need another library or input size
            print(f"{name}: {type(error).__name__}: {error}", file=sys.stderr)
            continue
        classes.setdefault(kind, []).append((size, name))
    for kind, networks in classes.items():
        _, smallest = min(networks)
        try:
            network = timm.create_model(smallest).eval()
            verify(network, cut(network))
        except Exception as error:
            print(f"all {len(networks)} of {kind.__name__}: {type(error).__name__}: {error}", file=sys.stderr)
            for _, name in networks:
                del rows[name]
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(rows[name])}" for name in sorted(rows))
    TABLE.write_text(f'{{"timm": {json.dumps(timm.__version__)}, "models": {{\n{lines}\n}}}}\n', encoding="utf-8")
    print(f"{len(rows)} networks, {sum(len(row['weights']) for row in rows.values())} specs")


if __name__ == "__main__":
    main()
