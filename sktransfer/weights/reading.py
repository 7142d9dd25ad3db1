"""Read tensors and metadata from weight files, without pickle, and copy them into a network."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sktransfer.exceptions import LoadError, WeightsError

__all__ = ["compared_names", "fill", "find_prefix", "n_parameters", "read_metadata", "read_state", "without_prefix"]

_STATES = ("state_dict", "model_state_dict", "model")  # usual entries of a checkpoint that hold the weights


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

    The state dict may be an entry of a checkpoint, beside an optimizer's state or the number of an epoch.

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
    return _unwrapped(state, path)


def _unwrapped(content: Any, path: Path) -> dict[str, Tensor]:
    """Return the state dict that a file consists of, or that one of its entries is."""
    if _is_state(content):
        return content  # type: ignore[no-any-return]
    entries = content if isinstance(content, dict) else {}
    states = [name for name, value in entries.items() if _is_state(value) and value]
    chosen = next((name for name in _STATES if name in states), states[0] if len(states) == 1 else None)
    if chosen is None:
        held = f"; its entries are {_listed(map(str, entries))}" if entries else f", but a {type(content).__name__}"
        raise WeightsError(
            f"{path}: is not a state dict (a dict from names to tensors), nor a checkpoint with one as {_STATES}"
            f"{held}. Save the weights alone: torch.save(model.state_dict(), path)"
        )
    state: dict[str, Tensor] = entries[chosen]
    return state


def _is_state(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(k, str) and isinstance(v, Tensor) for k, v in value.items())


def _listed(names: Iterable[str], most: int = 3) -> str:
    """Return the first names, in quotes."""
    first = list(islice(names, most + 1))
    return ", ".join(map(repr, first[:most])) + (", ..." if len(first) > most else "")


def compared_names(state: Iterable[str], own: Iterable[str]) -> str:
    """Return the first names that a network has and those that a file has, for messages.

    Parameters
    ----------
    state, own : iterable of str
        Names in the file, and in the network.

    Examples
    --------
    >>> from sktransfer.weights.reading import compared_names
    >>> compared_names(["net.conv.weight"], ["conv1.weight", "fc.weight"])
    "The network has 'conv1.weight', 'fc.weight'; the file has 'net.conv.weight'"
    """
    return f"The network has {_listed(own)}; the file has {_listed(state)}"


def find_prefix(
    state: Iterable[str],
    own: Iterable[str],
    *,
    optional: tuple[str, ...] = (),
    rename: Callable[[str], str | None] = str,
) -> str:
    """Return the prefix that a wrapper has put before the names of a network.

    Such prefixes are `module.` of DataParallel, `_orig_mod.` of torch.compile, and `model.` or `backbone.` of a module
    that holds the network among others, as in a checkpoint of Lightning.

    Parameters
    ----------
    state, own : iterable of str
        Names in the file, and in the network.
    optional : tuple of str, default=()
        Prefixes of names in the network that the file may lack, such as those of the head.
    rename : callable, default=str
        Maps a name without the prefix to the network's own, or to None for a tensor that the network does not use.

    Returns
    -------
    prefix : str
        "" if the names have none, or if the file lacks a name of the network with any prefix.

    Raises
    ------
    WeightsError
        If several prefixes are possible.

    Examples
    --------
    >>> from sktransfer.weights.reading import find_prefix
    >>> find_prefix(["backbone.conv.weight", "head.weight"], ["conv.weight", "fc.weight"], optional=("fc.",))
    'backbone.'
    """
    needed = {name for name in own if not name.startswith(optional) and not name.endswith("num_batches_tracked")}
    found: Counter[str] = Counter()
    for name in state:
        parts = name.split(".")
        for n in range(len(parts)):
            if rename(".".join(parts[n:])) in needed:
                found["".join(f"{part}." for part in parts[:n])] += 1
    complete = [prefix for prefix, count in found.items() if count >= len(needed)]
    if not complete or "" in complete:
        return ""
    if len(complete) > 1:
        raise WeightsError(
            f"the names of the network occur with the prefixes {_listed(complete)}; save a file with one of them only"
        )
    return complete[0]


def without_prefix(
    state: Mapping[str, Tensor],
    own: Iterable[str],
    *,
    optional: tuple[str, ...] = (),
    rename: Callable[[str], str | None] = str,
) -> dict[str, Tensor]:
    """Return a state without the prefix of a wrapper, and without the tensors that have no such prefix.

    Parameters
    ----------
    state : mapping of str to Tensor
        Tensors by name.
    own, optional, rename
        As `find_prefix` takes them.

    Raises
    ------
    WeightsError
        If several prefixes are possible.

    Examples
    --------
    >>> import torch
    >>> from sktransfer.weights.reading import without_prefix
    >>> state = {"backbone.conv.weight": torch.zeros(1), "head.weight": torch.zeros(1)}
    >>> list(without_prefix(state, ["conv.weight", "fc.weight"], optional=("fc.",)))
    ['conv.weight']
    """
    prefix = find_prefix(state, own, optional=optional, rename=rename)
    return {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}


def fill(module: nn.Module, path: Path | None, *, head: str = "", rename: Callable[[str], str | None] = str) -> bool:
    """Copy weights from a file into a network, converting float16 to float32.

    The file may hold a checkpoint, as `read_state` reads it, and names with a prefix, as `without_prefix` removes it.

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
    own, content = module.state_dict(), read_state(path)
    try:
        content = without_prefix(content, own, optional=(head,) if head else (), rename=rename)
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}") from error
    renamed = {rename(name): tensor for name, tensor in content.items()}
    state = {name: tensor for name, tensor in renamed.items() if name is not None}
    missing = [name for name in own if name not in state and not name.endswith("num_batches_tracked")]
    unexpected = [name for name in state if name not in own]
    misshapen = [name for name in state if name in own and state[name].shape != own[name].shape]
    wrong = [name for name in (*missing, *unexpected, *misshapen) if not (head and name.startswith(head))]
    if wrong:
        raise WeightsError(
            f"{path} does not fit the network: {len(missing)} tensors missing, {len(unexpected)} unexpected, "
            f"{len(misshapen)} of another shape, the first of them {wrong[0]!r}. {compared_names(content, own)}"
        )
    for name, tensor in state.items():
        if name in own and name not in misshapen:
            own[name].copy_(tensor)  # load_state_dict would need version metadata, which safetensors files lack
    return not (head and any(name.startswith(head) for name in (*missing, *misshapen)))


def n_parameters(path: Path) -> int:
    """Return the number of parameters in a file of weights, without the statistics of BatchNorm.

    Parameters
    ----------
    path : Path
        File of weights.

    Raises
    ------
    WeightsError
        If the file cannot be read.
    """
    statistics = ("running_mean", "running_var", "num_batches_tracked")
    return sum(tensor.numel() for name, tensor in read_state(path).items() if not name.endswith(statistics))


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
