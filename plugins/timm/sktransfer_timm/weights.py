"""Copy weights into a network of timm, with timm's conversion of the parameter names of other authors."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor

from sktransfer.backbones import compared_names, read_state, without_prefix
from sktransfer.exceptions import WeightsError

__all__ = ["fill", "weights_file"]

_USUAL = "model.safetensors"


def weights_file(path: Path, usual: str | None) -> Path:
    """Return the file of weights in a folder.

    Parameters
    ----------
    path : Path
        A folder, as from a hub, or a file, which is returned unchanged.
    usual : str or None
        Usual name of the file, if timm knows it.

    Raises
    ------
    WeightsError
        If there is no such file, or several files without a usual name.
    """
    if not path.is_dir():
        return path
    names = sorted(file.name for file in path.glob("*.safetensors"))
    for name in (usual, _USUAL, *(names if len(names) == 1 else [])):
        if name in names:
            return path / str(name)
    raise WeightsError(f"{path}: looked for {_USUAL}, this folder contains {names or 'no safetensors file'}")


@torch.no_grad()
def fill(network: Any, name: str, path: Path | None) -> bool:
    """Copy weights into a network.

    Parameters
    ----------
    network : nn.Module
        Network of timm.
    name : str
        Name for `timm.create_model`.
    path : Path or None
        File or folder of weights. None leaves the network unchanged.

    Returns
    -------
    complete : bool
        False if the file lacks the classifier, or has one with another number of classes.

    Raises
    ------
    WeightsError
        If the file cannot be read or does not fit.
    """
    if path is None:
        return True
    config = network.pretrained_cfg
    file = weights_file(path, config.get("hf_hub_filename"))
    own: dict[str, Tensor] = network.state_dict()
    heads = _classifier(config)
    state = without_prefix(read_state(file), own, optional=heads)
    wrong = _misfits(state, own)
    if all(one.startswith(heads) for one in wrong) and not (wrong and config.get("label_offset")):
        _copy({one: tensor for one, tensor in state.items() if one not in wrong}, own)
        return not wrong
    _copy(_converted(name, file, state, wrong[0], own), own)
    return True


def _misfits(state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> list[str]:
    """Return the names of tensors that are missing, unexpected or of another shape."""
    missing = [one for one in own if one not in state and not one.endswith("num_batches_tracked")]
    return missing + [one for one in state if one not in own or state[one].shape != own[one].shape]


def _classifier(config: Mapping[str, Any]) -> tuple[str, ...]:
    names = config.get("classifier") or ()
    return tuple(f"{one}." for one in ((names,) if isinstance(names, str) else names))


def _copy(state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> None:
    for name, tensor in state.items():
        own[name].copy_(tensor)


def _converted(
    name: str, file: Path, state: dict[str, Tensor], wrong: str, own: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Return the tensors after timm has converted a state with the names of other authors."""
    try:
        filled = timm.create_model(name, pretrained=True, pretrained_cfg_overlay={"state_dict": dict(state)})
    except Exception as error:  # the conversions of timm raise various errors
        raise WeightsError(
            f"{file} does not fit timm's {name}: {wrong!r} is missing, unexpected or of another shape, and timm cannot "
            f"convert it ({type(error).__name__}: {error}). {compared_names(state, own)}"
        ) from error
    converted: dict[str, Tensor] = filled.state_dict()
    return converted
