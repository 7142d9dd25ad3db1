"""Local path of a backbone's weights, downloaded and verified if necessary."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

from sktransfer._utils import local_path
from sktransfer.config import get_config
from sktransfer.exceptions import InvalidParameterError, WeightsError, warn
from sktransfer.weights.download import fetch
from sktransfer.weights.hub import cached_folder, fetch_folder, hub_cache, is_offline, missing_file, split_revision
from sktransfer.weights.source import WeightsSource

__all__ = ["locate"]


class _Spec(Protocol):
    """Fields of a `BackboneSpec` that concern its weights."""

    @property
    def name(self) -> str: ...

    @property
    def modality(self) -> str: ...

    @property
    def weights(self) -> WeightsSource | None: ...


def locate(spec: _Spec, weights: str | os.PathLike[str]) -> Path | None:
    """Return the local file or folder of a backbone's weights, downloaded first if necessary and allowed.

    Parameters
    ----------
    spec : BackboneSpec
        Spec of the backbone.
    weights : str or path
        "pretrained", "random", or a local file.

    Returns
    -------
    path : Path or None
        None for random weights.

    Raises
    ------
    WeightsError
        If the weights are missing and may not or cannot be downloaded, or their hash differs from the spec's.
    InvalidParameterError
        If the backbone has no pretrained weights, or `weights` has another type.
    """
    if not isinstance(weights, (str, os.PathLike)):
        from sktransfer.samples.columns import quoted

        raise InvalidParameterError(
            f"weights={quoted(weights, 60)} must be 'pretrained', 'random', or the path of a local file, not "
            f"{type(weights).__name__}"
        )
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


def _file(spec: _Spec, source: WeightsSource) -> Path:
    path = Path(source.location.removeprefix("file:"))
    if not path.exists():
        raise WeightsError(f"{spec.name}: looked for {path}, which does not exist")
    return path


def _package(spec: _Spec, source: WeightsSource) -> Path:
    module, _, file = source.location.removeprefix("package:").partition("/")
    package = importlib.util.find_spec(module)
    if package is None or not package.submodule_search_locations:
        raise WeightsError(f"{spec.name}: its weights are in the package {module!r}, which is not installed")
    path = Path(package.submodule_search_locations[0], file)
    if not path.is_file():
        raise WeightsError(f"{spec.name}: looked for {path}, which does not exist: install {module!r} again")
    return path


def _url(spec: _Spec, source: WeightsSource) -> Path:
    path = _download_path(source.location)
    if path.is_file():
        return path
    _check_allowed(spec, source, path)

    def notify(event: str) -> None:
        if event == "fetching":
            _announce(spec, source, path)
        else:
            _warn(f"{spec.name}: another process is downloading {source.location}; waiting for it")

    try:
        fetch(source.location, path, sha256=source.sha256, notify=notify)
    except (OSError, ValueError) as error:
        raise WeightsError(_not_fetched(spec, source, path, error)) from error
    return path


def _download_path(url: str) -> Path:
    """Return the path that a URL is downloaded to."""
    *_, file = url.partition("?")[0].rpartition("/")
    if url.startswith("https://download.pytorch.org/"):
        folder = _torch_folder() / "checkpoints"  # torchvision's own folder, shared with its downloads
    else:  # other servers reuse file names such as model.safetensors
        folder = _torch_folder() / "sktransfer" / hashlib.sha256(url.encode()).hexdigest()[:16]
    return folder / (file or "weights")


def _torch_folder() -> Path:
    """Return `torch.hub.get_dir()`, without importing torch."""
    if "torch" in sys.modules:  # the folder may have been set there
        import torch

        return Path(torch.hub.get_dir())
    cache = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    return Path(os.environ.get("TORCH_HOME", Path(cache, "torch"))).expanduser() / "hub"


def is_here(source: WeightsSource) -> bool:
    """Return whether weights are on this machine, without downloading or reading them.

    Parameters
    ----------
    source : WeightsSource
        Source of the weights.

    Examples
    --------
    >>> from sktransfer.backbones import find_spec
    >>> from sktransfer.weights.locate import is_here
    >>> is_here(find_spec("tiny/cnn").weights)
    True
    """
    scheme, _, place = source.location.partition(":")
    if scheme == "hub":
        repository, revision = split_revision(place)
        home = hub_cache() / f"models--{repository.replace('/', '--')}"
        named = home / "refs" / (revision or "main")
        commit = named.read_text().strip() if named.is_file() else revision or "*"
        return any((home / "snapshots").glob(f"{commit}/*.safetensors"))
    if scheme == "package":
        module, _, file = place.partition("/")
        try:
            package = importlib.util.find_spec(module)
        except ImportError:  # the package that holds the module is absent
            return False
        folders = None if package is None else package.submodule_search_locations
        return any(Path(folder, file).is_file() for folder in folders or ())
    return Path(place).exists() if scheme == "file" else _download_path(source.location).is_file()


def _hub(spec: _Spec, source: WeightsSource) -> Path:
    model, revision = split_revision(source.location.removeprefix("hub:"))
    folder = cached_folder(model, revision)
    missing = missing_file(folder, tokenizer=spec.modality == "text")
    if folder is not None and not missing:
        return folder
    where = hub_cache() / f"models--{model.replace('/', '--')}" if folder is None else folder / missing
    _check_allowed(spec, source, where)
    _announce(spec, source, where)
    try:
        return fetch_folder(model, revision)
    except (OSError, ValueError) as error:
        raise WeightsError(_not_fetched(spec, source, where, error)) from error


_SCHEMES: Mapping[str, Callable[[_Spec, WeightsSource], Path]] = {
    "file": _file,
    "package": _package,
    "https": _url,
    "http": _url,
    "hub": _hub,
}


def _size(source: WeightsSource) -> str:
    return f" ({source.size / 1e6:.0f} MB)" if source.size else ""


def _check_allowed(spec: _Spec, source: WeightsSource, path: Path) -> None:
    why = ""
    if get_config()["download"] == "never":
        why = "set_config(download='never') forbids downloading"
    elif is_offline(source.location):
        why = "HF_HUB_OFFLINE (or TRANSFORMERS_OFFLINE), which is set, forbids downloading"
    if why:
        raise WeightsError(
            f"{spec.name}: looked for {path}, which does not exist, and {why} {source.location}{_size(source)}. Put "
            "the file there, pass weights=<path of a local file>, or allow downloads."
        )


def _announce(spec: _Spec, source: WeightsSource, path: Path) -> None:
    _warn(f"{spec.name}: downloading {source.location}{_size(source)} into {path.parent}")


def _warn(message: str) -> None:
    warn(message)


def _not_fetched(spec: _Spec, source: WeightsSource, path: Path, error: Exception) -> str:
    return (
        f"{spec.name}: looked for {path}, which does not exist, and downloading {source.location} failed ({error}). "
        "Without a network, put the file there or pass weights=<path of a local file>; 'tiny/cnn' needs no network."
    )


@functools.lru_cache(maxsize=64)  # runs at each `fit`, so a file is hashed again only if its size or time changed
def _verify(path: Path, sha256: str, name: str, size: int, time: int) -> None:
    with path.open("rb") as file:
        actual = hashlib.file_digest(file, "sha256").hexdigest()
    if not actual.startswith(sha256.lower()):
        raise WeightsError(
            f"{name}: {path} is not the file that the spec names: its sha256 is {actual}, expected {sha256}. "
            "Delete it to download it again, or pass it as weights=<path> if you trust it."
        )
