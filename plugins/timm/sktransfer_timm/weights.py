"""Fill a network of timm from a file: tensors alone are read, and timm says how an original's names become its own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor

from sktransfer.backbones import read_state
from sktransfer.exceptions import WeightsError

__all__ = ["fill", "weights_file"]

_USUAL = "model.safetensors"


def weights_file(path: Path, usual: str | None) -> Path:
    """Return the file of weights in a folder; a file is itself.

    Parameters
    ----------
    path : Path
        A file, or a folder as it comes from a hub.
    usual : str or None
        The file's name, where timm knows it.

    Raises
    ------
    WeightsError
        If there is none, or several that none of these names tells apart.
    """
    if not path.is_dir():
        return path
    found = sorted(file.name for file in path.glob("*.safetensors"))
    for name in (usual, _USUAL, *(found if len(found) == 1 else [])):
        if name in found:
            return path / str(name)
    raise WeightsError(f"{path}: looked for {_USUAL}, this folder holds {found or 'no safetensors file'}")


@torch.no_grad()
def fill(network: Any, name: str, path: Path | None) -> bool:
    """Copy weights into a network.

    Parameters
    ----------
    network : nn.Module
        A network of timm.
    name : str
        What `timm.create_model` calls it.
    path : Path or None
        A file or a folder; None leaves the network as it is.

    Returns
    -------
    whole : bool
        False if the file lacks the classifier, or has one of another number of classes.

    Raises
    ------
    WeightsError
        If the file cannot be read or does not fit.
    """
    if path is None:
        return True
    config = network.pretrained_cfg
    file = weights_file(path, config.get("hf_hub_filename"))
    state = read_state(file)
    own: dict[str, Tensor] = network.state_dict()
    wrong = _misfits(state, own)
    heads = _classifier(config)
    if all(one.startswith(heads) for one in wrong) and not (wrong and config.get("label_offset")):
        _copy({one: tensor for one, tensor in state.items() if one not in wrong}, own)
        return not wrong
    _copy(_converted(name, file, state, wrong[0]), own)
    return True


def _misfits(state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> list[str]:
    """Return the tensors that are missing, unknown or of another shape."""
    missing = [one for one in own if one not in state and not one.endswith("num_batches_tracked")]
    return missing + [one for one in state if one not in own or state[one].shape != own[one].shape]


def _classifier(config: Mapping[str, Any]) -> tuple[str, ...]:
    names = config.get("classifier") or ()
    return tuple(f"{one}." for one in ((names,) if isinstance(names, str) else names))


def _copy(state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> None:
    for name, tensor in state.items():
        own[name].copy_(tensor)


def _converted(name: str, file: Path, state: dict[str, Tensor], wrong: str) -> dict[str, Tensor]:
    """Return a network's tensors once timm has filled it from a state of other names, as weights' authors give them."""
    try:
        filled = timm.create_model(name, pretrained=True, pretrained_cfg_overlay={"state_dict": dict(state)})
    except Exception as error:  # timm has a conversion for each family, and each fails in a way of its own
        raise WeightsError(
            f"{file} does not fit timm's {name}: {wrong!r} is missing, unknown or of another shape, and timm cannot "
            f"convert it ({type(error).__name__}: {error})"
        ) from error
    converted: dict[str, Tensor] = filled.state_dict()
    return converted
