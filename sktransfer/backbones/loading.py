"""Load a backbone by name, once per process and shared by all its users."""

from __future__ import annotations

import importlib
import os
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from sktransfer.backbones.naming import object_hint
from sktransfer.backbones.plugins import reason
from sktransfer.backbones.registry import registry
from sktransfer.backbones.spec import BackboneSpec
from sktransfer.exceptions import (
    InvalidParameterError,
    PluginError,
    SktransferError,
    SktransferWarning,
    WeightsError,
)

if TYPE_CHECKING:
    from sktransfer.backbones.backbone import Backbone

__all__ = ["build_backbone", "load_backbone", "restore_backbone"]

_KEPT = 4  # loaded backbones kept in memory without users, because a grid search drops its candidates
_lock = threading.RLock()
_loaded: WeakValueDictionary[tuple[Any, ...], Backbone] = WeakValueDictionary()  # all backbones in use
_recent: OrderedDict[tuple[Any, ...], Backbone] = OrderedDict()


def load_backbone(
    name: str | Backbone,
    *,
    weights: str | os.PathLike[str] = "pretrained",
    preprocess: Any = "auto",
    max_length: int | None = None,
    seed: int = 0,
) -> Backbone:
    """Load a backbone, once per process and shared by all its users.

    Parameters
    ----------
    name : str or Backbone
        `provider/model`. A `Backbone` keeps its own weights.
    weights : {"pretrained", "random"} or path, default="pretrained"
        A local file is read as safetensors, or as a state dict that `torch.load(weights_only=True)` reads.
    preprocess : "auto", ImageTransform or dict, default="auto"
        Preprocessing of images. "auto" takes it from the metadata of the weights' file (entry `preprocess`), or else
        from the loader. A dict changes single settings: `{"resize": 256, "crop": (224, 224)}`.
    max_length : int, default=None
        Number of tokens to which texts are truncated. None for the model's limit.
    seed : int, default=0
        Seed of random weights.

    Returns
    -------
    backbone : Backbone

    Raises
    ------
    BackboneNotFoundError
        If there is no backbone of that name.
    WeightsError
        If the weights cannot be found or downloaded, or their hash is wrong.
    PluginError
        If the plugin that offers it fails.
    InvalidParameterError
        If a parameter is not valid.

    Examples
    --------
    >>> from sktransfer import load_backbone
    >>> load_backbone("tiny/cnn").modality
    'image'
    """
    from sktransfer.backbones.backbone import Backbone
    from sktransfer.samples.columns import quoted

    if not isinstance(name, (str, Backbone)):
        raise InvalidParameterError(
            f"backbone={quoted(name, 60)} must be a name or a Backbone, not {type(name).__name__}."
            f"{_way_to_a_name(name)}"
        )
    if isinstance(name, Backbone) and not (isinstance(weights, str) and weights == "pretrained"):
        raise InvalidParameterError(
            f"weights={quoted(weights, 60)}: {name!r} has its own weights; leave weights='pretrained'"
        )
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


def _way_to_a_name(given: Any) -> str:
    """Return what to do with an object that is no backbone."""
    from torch import Tensor, nn

    if hint := object_hint(given):
        return hint
    if isinstance(given, nn.Module):
        return (
            " Make a backbone of the module's parts: Backbone.from_modules(list(network.named_children())), with "
            "preprocess={'mean': ..., 'std': ...} if it was trained on normalised images."
        )
    if isinstance(given, (list, tuple)) and any(isinstance(item, (nn.Module, tuple)) for item in given):
        return " Make a backbone of modules by Backbone.from_modules(modules)."
    if isinstance(given, Mapping) and any(isinstance(value, Tensor) for value in given.values()):
        return (
            " It holds weights: save them (torch.save(weights, path)) and name the network that they belong to, as in "
            "backbone='torchvision/resnet18', weights=path."
        )
    if isinstance(given, Mapping):
        return " Join the backbones of several columns by Backbone.join({'text': ..., 'image': ...})."
    return " Pass its backbone_ attribute once it is fitted." if hasattr(given, "fit") else ""


def _shared(name: str, weights: str | os.PathLike[str], seed: int) -> Backbone:
    from sktransfer.weights.locate import locate

    spec = registry().find(name)
    path = locate(spec, weights)  # without the lock, so that a download does not block other backbones
    _fetch_tokenizer(spec, path)
    with _lock:
        # Size and time reveal a file that was rewritten under the same name. The spec reveals changed settings, which
        # an open family reads from a file each time.
        key = (repr(spec), None if path is None else _file_state(path), seed if path is None else None)
        backbone = _known(key)
    if backbone is None:
        with _drawing(path, seed), _lock:  # in this order, because trainings load backbones
            backbone = _known(key)
            if backbone is None:
                backbone = _loaded[key] = _load(spec, path, weights, seed)
    with _lock:
        _recent[key] = backbone
        _recent.move_to_end(key)
        while len(_recent) > _KEPT:
            _recent.popitem(last=False)
        return backbone


def _known(key: tuple[Any, ...]) -> Backbone | None:
    """Return a loaded backbone whose weights were not changed in place."""
    backbone = _loaded.get(key)
    return None if backbone is None or backbone.forget_if_changed() or backbone.origin is None else backbone


@contextmanager
def _drawing(path: Path | None, seed: int) -> Iterator[None]:
    """Keep the caller's random state. Only random weights wait for a training in another thread."""
    import torch

    from sktransfer.backbones.generators import fork_rng, private_draws

    if path is not None:
        with private_draws(seed):
            yield
        return
    with fork_rng():
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would also seed the generators of GPUs
        yield


def _fetch_tokenizer(spec: BackboneSpec, path: Path | None) -> None:
    """Download the tokenizer for random weights and single files, while the lock is not held."""
    from sktransfer.weights.hub import hub_tokenizer

    if spec.modality == "text" and spec.weights and (path is None or path.is_file()):
        scheme, _, model = spec.weights.location.partition(":")
        if scheme == "hub":
            with suppress(SktransferError):  # a loader that needs the tokenizer reports that it is missing
                hub_tokenizer(model, spec.name)


def _file_state(path: Path) -> tuple[Any, ...]:
    """Return names, sizes and times, which change when a file, or one in a folder, is rewritten."""
    files = sorted([*path.iterdir(), *path.glob("*/*.json")]) if path.is_dir() else [path]
    stats = [(str(file), file.stat()) for file in files if file.exists()]  # an editor's lock is a dangling link
    return str(path.resolve()), *((name, stat.st_size, stat.st_mtime_ns) for name, stat in stats)


def _load(spec: BackboneSpec, path: Any, weights: str | os.PathLike[str], seed: int) -> Backbone:
    from sktransfer.backbones.preprocess import ImageTransform
    from sktransfer.weights.reading import read_metadata

    metadata = read_metadata(path)
    backbone = build_backbone(spec, path)
    if isinstance(backbone.preprocess, ImageTransform) and isinstance(metadata.get("preprocess"), dict):
        try:
            backbone.preprocess = ImageTransform().updated(metadata["preprocess"])
        except InvalidParameterError as error:
            raise WeightsError(f"{path}: its metadata is not valid: {error}") from error
    if backbone.head is not None and isinstance(metadata.get("categories"), list):
        backbone.categories = tuple(metadata["categories"])
    backbone.pretrained = path is not None
    # An absolute path, because unpickling may happen in another working directory.
    given = str(weights) if weights in ("pretrained", "random") else str(path.resolve())
    identity = (backbone.fingerprint(), backbone.preprocess.key, backbone.properties())
    backbone.origin = (restore_backbone, (spec.name, given, seed, *identity))
    return backbone


def build_backbone(spec: BackboneSpec, path: Path | None) -> Backbone:
    """Build a backbone by running the loader of its spec.

    Parameters
    ----------
    spec : BackboneSpec
        Spec of the backbone.
    path : Path or None
        Local file or folder of the weights, or None for random weights.

    Returns
    -------
    backbone : Backbone
        A new object, which no other caller shares.

    Raises
    ------
    PluginError
        If the loader, or a library that it imports, fails, or if it returns anything but a `Backbone`.
    """
    from sktransfer.backbones.backbone import Backbone

    module, _, function = spec.loader.partition(":")
    try:
        backbone = getattr(importlib.import_module(module), function)(spec, path)
    except WeightsError as error:
        raise WeightsError(f"{error}{_network_of(spec, path)}") from error
    except (SktransferError, SktransferWarning, MemoryError):
        raise
    except (Exception, SystemExit) as error:
        plugin = registry().plugin(spec.provider)
        label = spec.provider if plugin is None else plugin.label
        package = spec.provider if plugin is None else plugin.distribution or plugin.module
        raise PluginError(
            f"{spec.name}: its loader {spec.loader!r}, from the plugin {label}, failed: {reason(error)}. If a library "
            f"that it imports is missing or broken, `pip install --upgrade --force-reinstall {package}` repairs it, "
            f"or the same with the folder that it was installed from; else report it to the authors of {package}."
        ) from error
    if not isinstance(backbone, Backbone):
        raise PluginError(f"{spec.name}: {spec.loader} must return a Backbone, not {type(backbone).__name__}")
    if not hasattr(backbone.preprocess, "key"):
        raise PluginError(
            f"{spec.name}: {spec.loader} returns a Backbone whose preprocess is {backbone.preprocess!r}; it must be an "
            "ImageTransform, Tokens, or another object with a key"
        )
    return backbone


def _network_of(spec: BackboneSpec, path: Path | None) -> str:
    """Return a hint at the networks of the same provider that have as many parameters as a file."""
    from sktransfer.weights.reading import n_parameters

    if path is None or not path.is_file():
        return ""
    with suppress(SktransferError):
        n = n_parameters(path)
        fitting = [
            other.name
            for other in registry().specs.values()
            if other.provider == spec.provider and other.n_parameters == n and other.name != spec.name
        ]
        if fitting:
            names = " and ".join(map(repr, fitting))
            return f"; the file has {n:,} parameters, as many as {names}, so load it by that name"
    return ""


def restore_backbone(
    name: str, weights: str, seed: int, fingerprint: str, preprocess: str, properties: Mapping[str, str]
) -> Backbone:
    """Load a backbone that was pickled by name, and check that it is still the same.

    Weights that were named by a path are also looked for in the `weights_path` of `set_config`.

    Parameters
    ----------
    name, weights, seed
        Arguments of `load_backbone`.
    fingerprint, preprocess : str
        Fingerprint and key of the preprocessing when it was pickled.
    properties : mapping of str to str
        Its `properties()` then.

    Raises
    ------
    PluginError
        If the fingerprint, the preprocessing or a property has changed.
    WeightsError
        If weights that were named by a path are not found, or are others.
    """
    from sktransfer.weights.moved import advice, is_path, iter_names

    errors: list[SktransferError] = []
    for now, place in iter_names(name, weights):
        try:
            return _restore(now, place, seed, fingerprint, preprocess, properties)
        except SktransferError as error:
            errors.append(error)
    if not is_path(name, weights):
        raise errors[0]
    kind = PluginError if isinstance(errors[0], PluginError) else WeightsError
    saved = name if weights == "pretrained" else f"{name} (weights={weights!r})"
    raise kind(advice(saved, fingerprint, errors)) from errors[0]


def _restore(
    name: str, weights: str, seed: int, fingerprint: str, preprocess: str, properties: Mapping[str, str]
) -> Backbone:
    backbone = load_backbone(name, weights=weights, seed=seed)
    # Properties say more about a difference than the key of the preprocessing, which includes the length.
    actual = {"fingerprint": backbone.fingerprint(), **backbone.properties(), "preprocessing": backbone.preprocess.key}
    expected = {"fingerprint": fingerprint, **properties, "preprocessing": preprocess}
    for label in (*actual, *(expected.keys() - actual.keys())):
        if actual.get(label) != expected.get(label):
            raise PluginError(
                f"{name} (weights={weights!r}) has changed since it was pickled: its {label} is {actual.get(label)}, "
                f"expected {expected.get(label)}. Install the same versions, or fit again."
            )
    return backbone
