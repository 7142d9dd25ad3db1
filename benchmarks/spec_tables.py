"""Write the shipped tables of networks, or check them.

    python benchmarks/spec_tables.py            # writes sktransfer/providers/{torchvision,huggingface}_models.json
    python benchmarks/spec_tables.py --check    # compares without writing, and fails if they differ

Torchvision states all facts of its networks. Those of transformers are stated by the table itself, except the numbers
of parameters, which follow from their settings. The networks are built on the meta device, without memory for tensors,
and stages run on shapes. This takes seconds.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torchvision import models

from sktransfer.providers.huggingface import TABLE as ENCODERS
from sktransfer.providers.huggingface import make_spec
from sktransfer.providers.huggingface_load import build_transformers_model
from sktransfer.providers.torchvision import TABLE, preprocess
from sktransfer.providers.torchvision_stages import Cut, build, cut

OTHER_LICENCES = {"https://github.com/facebookresearch/SWAG/blob/main/LICENSE": "CC-BY-NC-4.0"}


class Unallocated(TorchFunctionMode):
    """Create uninitialised tensors on the meta device. Computations, such as RegNet's widths, stay real."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call `func`, with `torch.empty` on the meta device."""
        where = {"device": "meta"} if func is torch.empty else {}
        return func(*args, **{**(kwargs or {}), **where})


def unallocated(name: str) -> Cut:
    """Return the parts of a network on the meta device."""
    with Unallocated():
        model = build(name, models.get_model_weights(name).DEFAULT)
    return cut(model.to("meta").eval())


@torch.no_grad()
def widths(parts: Cut, size: tuple[int, int]) -> dict[str, int]:
    """Return the number of output channels per stage."""
    values = torch.empty(1, 3, *size, device="meta")
    found = {}
    for name, stage in parts.stages:
        values = stage.to("meta")(values)
        found[name] = values.shape[2 if values.ndim == 3 else 1]
    if parts.head(values).shape != (1, 1000):
        raise RuntimeError(f"{type(parts.model).__name__}: the head gives {tuple(parts.head(values).shape)}")
    return found


def row(name: str) -> dict[str, Any]:
    """Return the table entry of a network."""
    weights = models.get_model_weights(name).DEFAULT
    size = preprocess(weights).crop
    found = re.search(r"-([0-9a-f]{8,})\.pth$", weights.url)
    if size is None or found is None:
        raise RuntimeError(f"{name}: {weights.url} has no hash in its name, or the weights have no size of crop")
    licence, parts = weights.meta.get("license"), unallocated(name)
    return {
        "stages": widths(parts, size),
        "input_size": size,
        "weights": weights.name,
        "url": weights.url,
        "sha256": found[1],
        "size": round(weights.meta["_file_size"] * 2**20),  # torchvision rounds to 0.001 MiB
        "licence": "BSD-3-Clause" if licence is None else OTHER_LICENCES[licence],
        "n_parameters": sum(parameter.numel() for parameter in parts.model.parameters()),
        "accuracy": round(weights.meta["_metrics"]["ImageNet-1K"]["acc@1"] / 100, 5),
    }


def encoder_row(name: str, stated: dict[str, Any]) -> dict[str, Any]:
    """Return the table entry of a text encoder, with its numbers of parameters."""
    with torch.device("meta"):
        model, _ = build_transformers_model(make_spec(f"hf/{name}", stated["config"], None, f"hub:{name}"), None)
    tokens: torch.Tensor = model.get_input_embeddings().weight  # (vocabulary, channels)
    n_parameters = sum(parameter.numel() for parameter in model.parameters())
    return {**stated, "n_parameters": n_parameters, "n_embedding_parameters": tokens.numel()}


def differences(table: dict[str, Any], rows: dict[str, Any]) -> list[str]:
    """Return the networks that differ from the table or are missing in it."""
    return [name for name, one in rows.items() if table.get(name) != json.loads(json.dumps(one))]


def read(path: Path) -> dict[str, Any]:
    """Return a table by name."""
    table: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return table


def main() -> None:
    """Write or compare the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare with the file, write nothing")
    check = parser.parse_args().check
    networks = {name: row(name) for name in models.list_models(module=models)}
    encoders = {name: encoder_row(name, stated) for name, stated in read(ENCODERS).items()}
    for path, rows in ((TABLE, networks), (ENCODERS, encoders)):
        if not check:
            lines = [f"{json.dumps(name)}: {json.dumps(one)}" for name, one in rows.items()]
            path.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
        wrong = differences(read(path), rows) + sorted(set(read(path)) - set(rows))
        if wrong:
            sys.exit(f"{path} differs from the installed libraries in {wrong}; run without --check")
        print(f"{path}: {len(rows)} networks")


if __name__ == "__main__":
    main()
