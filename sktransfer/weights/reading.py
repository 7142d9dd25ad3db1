"""Read tensors and metadata from weight files, without pickle, and copy them into a network."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sktransfer.exceptions import LoadError, WeightsError

__all__ = ["fill", "read_metadata", "read_state"]


def read_metadata(path: Path | None) -> dict[str, Any]:
    """Return the metadata of a safetensors file with its JSON values parsed, or an empty dict for other files.

    Raises
    ------
    WeightsError
        If the file cannot be read.
    """
    if path is None or path.suffix != ".safetensors":
        return {}
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            raw = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path}: not a readable safetensors file ({error})") from error
    metadata: dict[str, Any] = {}
    for name, text in raw.items():
        try:
            metadata[name] = json.loads(text)
        except json.JSONDecodeError:
            metadata[name] = text
    return metadata


def read_state(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file, or of a state dict that `torch.load(weights_only=True)` reads.

    Parameters
    ----------
    path : Path
        File of weights.

    Returns
    -------
    state : dict of str to Tensor
        Tensors by name, on the CPU.

    Raises
    ------
    WeightsError
        If the file cannot be read, or contains anything but tensors.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        state = (
            load_file(path)
            if path.suffix == ".safetensors"
            else torch.load(path, weights_only=True, map_location="cpu")
        )
    except (SafetensorError, OSError, RuntimeError, ValueError, EOFError, ImportError, KeyError) as error:
        raise WeightsError(f"{path}: cannot be read as weights ({type(error).__name__}: {error})") from error
    except Exception as error:  # such as pickle.UnpicklingError, whose message explains how to run the code
        raise WeightsError(
            f"{path}: contains more than tensors, and is not opened because it could run code. Save the tensors: "
            "safetensors.torch.save_file(model.state_dict(), 'weights.safetensors')"
        ) from error
    if not isinstance(state, dict) or not all(isinstance(k, str) and isinstance(v, Tensor) for k, v in state.items()):
        raise WeightsError(f"{path}: is not a state dict (a dict from names to tensors)")
    return state


def fill(module: nn.Module, path: Path | None, *, head: str = "", rename: Callable[[str], str | None] = str) -> bool:
    """Copy weights from a file into a network, converting float16 to float32.

    Parameters
    ----------
    module : nn.Module
        Network with the parameter names of its source library.
    path : Path or None
        File of weights. None leaves the network unchanged.
    head : str, default=""
        Prefix of the head's names. The file may lack all of them, or have another number of classes.
    rename : callable, default=str
        Maps a name in the file to the network's own, or to None for a tensor that the network does not use.

    Returns
    -------
    complete : bool
        False if the file lacks the head.

    Raises
    ------
    WeightsError
        If the file cannot be read or does not fit.
    """
    if path is None:
        return True
    renamed = {rename(name): tensor for name, tensor in read_state(path).items()}
    state, own = {name: tensor for name, tensor in renamed.items() if name is not None}, module.state_dict()
    missing = [name for name in own if name not in state and not name.endswith("num_batches_tracked")]
    unexpected = [name for name in state if name not in own]
    misshapen = [name for name in state if name in own and state[name].shape != own[name].shape]
    wrong = [name for name in (*missing, *unexpected, *misshapen) if not (head and name.startswith(head))]
    if wrong:
        raise WeightsError(
            f"{path} does not fit the network: {len(missing)} tensors missing, {len(unexpected)} unexpected, "
            f"{len(misshapen)} of another shape, the first of them {wrong[0]!r}"
        )
    for name, tensor in state.items():
        if name in own and name not in misshapen:
            own[name].copy_(tensor)  # load_state_dict would need version metadata, which safetensors files lack
    return not (head and any(name.startswith(head) for name in (*missing, *misshapen)))


@torch.no_grad()
def copy_state(own: Mapping[str, Tensor], state: Mapping[str, Any], name: str) -> None:
    """Copy saved tensors into a network that must have exactly these names, shapes and dtypes.

    Parameters
    ----------
    own : mapping of str to Tensor
        `state_dict()` of the network, whose tensors are written to.
    state : mapping of str to Tensor
        Tensors read from a file, by the same names.
    name : str
        Name of the network, for messages.

    Raises
    ------
    LoadError
        If names, shapes or dtypes differ. Nothing is written then.
    """
    missing, unexpected = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys(), key=str)
    if missing or unexpected:
        raise LoadError(f"the weights of {name} lack {missing[:3]} and hold unexpected {unexpected[:3]}")
    for key, value in own.items():
        saved = state[key]
        if not isinstance(saved, Tensor):
            raise LoadError(f"the weights of {name}: {key} is of type {type(saved).__name__}, not Tensor")
        if value.shape != saved.shape or value.dtype != saved.dtype:
            raise LoadError(
                f"the weights of {name}: {key} is {tuple(saved.shape)} of {saved.dtype}, and must be "
                f"{tuple(value.shape)} of {value.dtype}"
            )
    for key, value in own.items():
        value.copy_(state[key])
