"""Find weights on this machine or fetch them, make sure that they are the right ones, read them without pickle."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import json
import os
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sktransfer._utils import local_path
from sktransfer.backbones.spec import BackboneSpec, WeightsSource
from sktransfer.config import get_config
from sktransfer.exceptions import InvalidParameterError, LoadError, SktransferWarning, WeightsError
from sktransfer.weights.download import fetch
from sktransfer.weights.hub import hub_cache, is_offline

__all__ = ["copy_state", "fill", "locate", "read_metadata", "read_state"]


def locate(spec: BackboneSpec, weights: str | os.PathLike[str]) -> Path | None:
    """Return the local file or folder of a backbone's weights, fetched first where that is allowed.

    Parameters
    ----------
    spec : BackboneSpec
        Whose weights.
    weights : str or path
        "pretrained", "random", or a local file.

    Returns
    -------
    path : Path or None
        None for random weights.

    Raises
    ------
    WeightsError
        If the weights are not here and may not or cannot be fetched, or are not the ones that the spec names.
    InvalidParameterError
        If the backbone has no pretrained weights, or `weights` is nothing of the above.
    """
    if not isinstance(weights, (str, os.PathLike)):
        raise InvalidParameterError(f"weights={weights!r} must be 'pretrained', 'random', or the path of a local file")
    if weights == "random":
        return None
    if weights != "pretrained":
        path = local_path(weights)
        if not path.exists():
            raise WeightsError(
                f"weights={str(weights)!r}: there is no such file. Give the path of a safetensors file (or of a state "
                "dict saved by torch.save), 'pretrained', or 'random'."
            )
        return path
    if spec.weights is None:
        raise InvalidParameterError(
            f"weights='pretrained': {spec.name} has none; use weights='random' or the path of a local file"
        )
    scheme = spec.weights.location.partition(":")[0]
    path = _SCHEMES[scheme](spec, spec.weights)
    if spec.weights.sha256 and path.is_file():
        stat = path.stat()
        _verify(path, spec.weights.sha256, spec.name, stat.st_size, stat.st_mtime_ns)
    return path


def _file(spec: BackboneSpec, source: WeightsSource) -> Path:
    path = Path(source.location.removeprefix("file:"))
    if not path.exists():
        raise WeightsError(f"{spec.name}: looked for {path}, which does not exist")
    return path


def _package(spec: BackboneSpec, source: WeightsSource) -> Path:
    module, _, file = source.location.removeprefix("package:").partition("/")
    found = importlib.util.find_spec(module)
    if found is None or not found.submodule_search_locations:
        raise WeightsError(f"{spec.name}: its weights are in the package {module!r}, which is not installed")
    path = Path(found.submodule_search_locations[0], file)
    if not path.is_file():
        raise WeightsError(f"{spec.name}: looked for {path}, which does not exist: install {module!r} again")
    return path


def _url(spec: BackboneSpec, source: WeightsSource) -> Path:
    *_, file = source.location.partition("?")[0].rpartition("/")
    if source.location.startswith("https://download.pytorch.org/"):
        folder = Path(torch.hub.get_dir(), "checkpoints")  # torchvision's own place: what it has fetched is found here
    else:  # elsewhere many files have the same name, model.safetensors say
        folder = Path(torch.hub.get_dir(), "sktransfer", hashlib.sha256(source.location.encode()).hexdigest()[:16])
    path = folder / (file or "weights")
    if path.is_file():
        return path
    _check_allowed(spec, source, path)

    def notify(what: str) -> None:
        if what == "fetching":
            _announce(spec, source, path)
        else:
            _warn(f"{spec.name}: another process is fetching {source.location}; waiting for it")

    try:
        fetch(source.location, path, sha256=source.sha256, notify=notify)
    except (OSError, ValueError) as error:
        raise WeightsError(_not_fetched(spec, source, path, error)) from error
    return path


def _hub(spec: BackboneSpec, source: WeightsSource) -> Path:
    from sktransfer.weights.hub import cached_folder, fetch_folder, lacking, split_revision

    model, revision = split_revision(source.location.removeprefix("hub:"))
    folder = cached_folder(model, revision)
    lacks = lacking(folder, tokenizer=spec.modality == "text")
    if folder is not None and not lacks:
        return folder
    where = hub_cache() / f"models--{model.replace('/', '--')}" if folder is None else folder / lacks
    _check_allowed(spec, source, where)
    _announce(spec, source, where)
    try:
        return fetch_folder(model, revision)
    except (OSError, ValueError) as error:
        raise WeightsError(_not_fetched(spec, source, where, error)) from error


_SCHEMES: Mapping[str, Callable[[BackboneSpec, WeightsSource], Path]] = {
    "file": _file,
    "package": _package,
    "https": _url,
    "http": _url,
    "hub": _hub,
}


def _size(source: WeightsSource) -> str:
    return f" ({source.size / 1e6:.0f} MB)" if source.size else ""


def _check_allowed(spec: BackboneSpec, source: WeightsSource, path: Path) -> None:
    why = ""
    if get_config()["download"] == "never":
        why = "set_config(download='never') forbids fetching"
    elif is_offline(source.location):
        why = "HF_HUB_OFFLINE (or TRANSFORMERS_OFFLINE), which is set, forbids fetching"
    if why:
        raise WeightsError(
            f"{spec.name}: looked for {path}, which is not there, and {why} {source.location}{_size(source)}. Put the "
            "file there, pass weights=<path of a local file>, or allow downloads."
        )


def _announce(spec: BackboneSpec, source: WeightsSource, path: Path) -> None:
    _warn(f"{spec.name}: fetching {source.location}{_size(source)} into {path.parent}")


def _warn(message: str) -> None:
    warnings.warn(message, SktransferWarning, stacklevel=5)


def _not_fetched(spec: BackboneSpec, source: WeightsSource, path: Path, error: Exception) -> str:
    return (
        f"{spec.name}: looked for {path}, which is not there, and fetching {source.location} failed ({error}). Without "
        "a network, put the file there or pass weights=<path of a local file>; 'tiny/cnn' needs no network."
    )


@functools.lru_cache(maxsize=64)  # this runs at each `fit`; a file is read again where its size or time is another
def _verify(path: Path, sha256: str, name: str, size: int, time: int) -> None:
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if not found.startswith(sha256.lower()):
        raise WeightsError(
            f"{name}: {path} is not the file that the spec names: its sha256 is {found}, expected {sha256}. "
            "Delete it to fetch it again, or pass it as weights=<path> if you trust it."
        )


def read_metadata(path: Path | None) -> dict[str, Any]:
    """Return what a safetensors file says of itself, JSON values parsed; nothing for other files.

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
    """Return the tensors of a safetensors file, or of a state dict that `torch.load(weights_only=True)` takes.

    Raises
    ------
    WeightsError
        If the file cannot be read, or holds anything but tensors.
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
    except Exception as error:  # pickle.UnpicklingError among others; what torch says of it is how to run the code
        raise WeightsError(
            f"{path}: is no file of tensors alone, and is not opened, for it could run code. Save the tensors: "
            "safetensors.torch.save_file(model.state_dict(), 'weights.safetensors')"
        ) from error
    if not isinstance(state, dict) or not all(isinstance(k, str) and isinstance(v, Tensor) for k, v in state.items()):
        raise WeightsError(f"{path}: is no state dict (a dict from names to tensors)")
    return state


def fill(module: nn.Module, path: Path | None, *, head: str = "", rename: Callable[[str], str | None] = str) -> bool:
    """Copy weights into a network, float16 becoming float32 on the way.

    Parameters
    ----------
    module : nn.Module
        The network in its source library's own names.
    path : Path or None
        The weights' file; None leaves the network as it is.
    head : str, default=""
        Prefix of the head's names: the file may lack all of these or have another number of classes.
    rename : callable, default=str
        From a name in the file to the network's own, or to None for a tensor that the network has no use for.

    Returns
    -------
    whole : bool
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
    strange = [name for name in state if name not in own]
    misshapen = [name for name in state if name in own and state[name].shape != own[name].shape]
    wrong = [name for name in (*missing, *strange, *misshapen) if not (head and name.startswith(head))]
    if wrong:
        raise WeightsError(
            f"{path} does not fit the network: {len(missing)} tensors missing, {len(strange)} unknown, "
            f"{len(misshapen)} of another shape, the first of them {wrong[0]!r}"
        )
    for name, tensor in state.items():
        if name in own and name not in misshapen:
            own[name].copy_(tensor)  # not load_state_dict: some ask for a version, which a safetensors file has not
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
