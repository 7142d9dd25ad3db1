"""Load a backbone by name: once a process, shared by all who use it, and found again when it is unpickled."""

from __future__ import annotations

import importlib
import os
import threading
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from sktransfer.backbones.plugins import reason
from sktransfer.backbones.registry import registry
from sktransfer.backbones.spec import BackboneSpec
from sktransfer.exceptions import InvalidParameterError, PluginError, SktransferError, WeightsError

if TYPE_CHECKING:
    from sktransfer.backbones.backbone import Backbone

__all__ = ["build_backbone", "load_backbone", "restore_backbone"]

_KEPT = 4  # loaded backbones that stay in memory when no estimator holds them: a grid search drops its candidates
_lock = threading.RLock()
_loaded: WeakValueDictionary[tuple[Any, ...], Backbone] = WeakValueDictionary()  # all that anyone holds
_recent: OrderedDict[tuple[Any, ...], Backbone] = OrderedDict()


def load_backbone(
    name: str | Backbone,
    *,
    weights: str | os.PathLike[str] = "pretrained",
    preprocess: Any = "auto",
    max_length: int | None = None,
    seed: int = 0,
) -> Backbone:
    """Load a backbone: once a process, shared by all who use it.

    Parameters
    ----------
    name : str or Backbone
        `provider/model`. A `Backbone` keeps its own weights.
    weights : {"pretrained", "random"} or path, default="pretrained"
        A local file is read as safetensors, or as a state dict that `torch.load(weights_only=True)` takes.
    preprocess : "auto", ImageTransform or dict, default="auto"
        For images. "auto" takes what the weights' file says of itself (`preprocess` in its metadata), else what the
        spec says. A dict changes single settings: `{"resize": 256, "crop": (224, 224)}`.
    max_length : int, default=None
        For texts: tokens that are read; None for as many as the model takes.
    seed : int, default=0
        Draws the weights where they are random.

    Returns
    -------
    backbone : Backbone

    Raises
    ------
    BackboneNotFoundError
        If there is none of that name.
    WeightsError
        If the weights cannot be found, fetched or trusted.
    PluginError
        If the plugin that offers it fails.
    InvalidParameterError
        If a parameter is not allowed.

    Examples
    --------
    >>> from sktransfer import load_backbone
    >>> load_backbone("tiny/cnn").modality
    'image'
    """
    from sktransfer.backbones.backbone import Backbone

    if not isinstance(name, (str, Backbone)):
        hint = " Pass its backbone_ attribute once it is fitted." if hasattr(name, "fit") else ""
        raise InvalidParameterError(f"backbone={name!r} must be a name or a Backbone, not {type(name).__name__}.{hint}")
    if isinstance(name, Backbone) and weights != "pretrained":
        raise InvalidParameterError(f"weights={weights!r}: {name!r} has its weights; leave weights='pretrained'")
    backbone = name if isinstance(name, Backbone) else _shared(name, weights, seed)
    changed: Any = backbone.preprocess
    if not (isinstance(preprocess, str) and preprocess == "auto"):
        if not hasattr(changed, "updated"):
            why = "takes no images" if backbone.modality != "image" else "has a preprocessing without settings"
            raise InvalidParameterError(f"preprocess={preprocess!r}: {backbone.name} {why}; leave it 'auto'")
        changed = changed.updated(preprocess)
    if max_length is not None:
        if not hasattr(changed, "with_max_length"):
            raise InvalidParameterError(f"max_length={max_length!r}: {backbone.name} takes no texts; leave it None")
        changed = changed.with_max_length(max_length)
    return backbone if changed is backbone.preprocess else backbone.with_preprocess(changed)


def _shared(name: str, weights: str | os.PathLike[str], seed: int) -> Backbone:
    from sktransfer.weights.reading import locate

    spec = registry().find(name)
    path = locate(spec, weights)  # without the lock: nobody waits for the download of another backbone
    _fetch_tokenizer(spec, path)
    with _lock:  # it guards torch's random state too, which is set where weights are drawn
        # A file that is written anew under the same name is another file: size and time tell. So do a spec's settings,
        # which an open family reads from a file each time.
        key = (repr(spec), None if path is None else _state(path), seed if path is None else None)
        backbone = _loaded.get(key)
        if backbone is None:
            backbone = _loaded[key] = _load(spec, path, weights, seed)
        _recent[key] = backbone
        _recent.move_to_end(key)
        while len(_recent) > _KEPT:
            _recent.popitem(last=False)
        return backbone


def _fetch_tokenizer(spec: BackboneSpec, path: Path | None) -> None:
    """Fetch what a loader needs of a hub beside weights that are random, or in a file: the lock is not held yet."""
    from sktransfer.weights.hub import hub_tokenizer

    if spec.modality == "text" and spec.weights and (path is None or path.is_file()):
        scheme, _, model = spec.weights.location.partition(":")
        if scheme == "hub":
            with suppress(SktransferError):  # a loader that has no use for it goes on; others say what is missing
                hub_tokenizer(model, spec.name)


def _state(path: Path) -> tuple[Any, ...]:
    """Return what changes when a file, or one in a folder, is written anew."""
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    stats = [(file.name, file.stat()) for file in files if file.exists()]  # an editor's lock is a link to nowhere
    return str(path.resolve()), *((name, stat.st_size, stat.st_mtime_ns) for name, stat in stats)


def _load(spec: BackboneSpec, path: Any, weights: str | os.PathLike[str], seed: int) -> Backbone:
    import torch

    from sktransfer.backbones.backbone import Backbone
    from sktransfer.backbones.preprocess import ImageTransform
    from sktransfer.weights.reading import read_metadata

    metadata = read_metadata(path)
    with torch.random.fork_rng(devices=[]):  # drawing weights leaves the caller's random state as it was
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed the GPUs' generators as well
        backbone = build_backbone(spec, path)
    if not isinstance(backbone, Backbone):
        raise PluginError(f"{spec.name}: {spec.loader} must return a Backbone, not {type(backbone).__name__}")
    if isinstance(backbone.preprocess, ImageTransform) and isinstance(metadata.get("preprocess"), dict):
        try:
            backbone.preprocess = ImageTransform().updated(metadata["preprocess"])
        except InvalidParameterError as error:
            raise WeightsError(f"{path}: its metadata is not to be used: {error}") from error
    if backbone.head is not None and isinstance(metadata.get("categories"), list):
        backbone.categories = tuple(metadata["categories"])
    backbone.pretrained = path is not None
    # The path in full: whoever unpickles may stand in another folder.
    given = str(weights) if weights in ("pretrained", "random") else str(path.resolve())
    backbone.origin = (restore_backbone, (spec.name, given, seed, backbone.fingerprint(), backbone.preprocess.key))
    return backbone


def build_backbone(spec: BackboneSpec, path: Path | None) -> object:
    """Run a plugin's loader. What breaks in it, or in a library that it imports, is told as the plugin's failure."""
    module, _, function = spec.loader.partition(":")
    try:
        return getattr(importlib.import_module(module), function)(spec, path)
    except (SktransferError, MemoryError):
        raise
    except (Exception, SystemExit) as error:
        plugin = registry().plugin(spec.provider)
        who = spec.provider if plugin is None else plugin.label
        package = spec.provider if plugin is None else plugin.distribution or plugin.module
        raise PluginError(
            f"{spec.name}: its loader {spec.loader!r}, from the plugin {who}, failed: {reason(error)}. If a library "
            f"that it imports is missing or broken, `pip install --upgrade --force-reinstall {package}` repairs it; "
            f"else tell the authors of {package}."
        ) from error


def restore_backbone(name: str, weights: str, seed: int, fingerprint: str, preprocess: str) -> Backbone:
    """Load a backbone that was pickled by name, and make sure that it is still the same."""
    backbone = load_backbone(name, weights=weights, seed=seed)
    now, then = (backbone.fingerprint(), backbone.preprocess.key), (fingerprint, preprocess)
    if now != then:
        what, found, expected = next(
            (w, a, b) for w, a, b in zip(("fingerprint", "preprocessing"), now, then) if a != b
        )
        raise PluginError(
            f"{name} (weights={weights!r}) is not what it was when this was pickled: its {what} is {found}, expected "
            f"{expected}. Install the same versions, or fit again."
        )
    return backbone
