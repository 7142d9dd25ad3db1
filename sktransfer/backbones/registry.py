"""Find plugins, keep each one's failure away from the others, and load a backbone once a process."""

from __future__ import annotations

import importlib
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatchcase
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

import pluggy

from sktransfer.backbones import hooks
from sktransfer.backbones.spec import BackboneSpec
from sktransfer.config import config_context
from sktransfer.exceptions import (
    BackboneNotFoundError,
    InvalidParameterError,
    PluginError,
    SktransferError,
    WeightsError,
    did_you_mean,
)

if TYPE_CHECKING:
    import pandas as pd

    from sktransfer.backbones.backbone import Backbone

__all__ = ["Registry", "list_backbones", "load_backbone", "modality_of", "registry"]

BUILT_IN = tuple(
    EntryPoint(name, f"sktransfer.backbones.{module}", hooks.GROUP)
    for name, module in (("tiny", "tiny"), ("torchvision", "torchvision"), ("hf", "huggingface"))
)
_KEPT = 4  # loaded backbones that stay in memory when no estimator holds them: a grid search drops its candidates


class Registry:
    """What backbones there are, and which plugins could not say.

    Parameters
    ----------
    found : callable, default=None
        Gives the entry points of third parties; None for those that are installed.
    environ : mapping, default=os.environ
        Read for `SKTRANSFER_PLUGINS` (which third parties to load, by entry-point name; unset: all; empty: none) and
        `SKTRANSFER_STRICT` (set: a plugin's failure is raised).

    Attributes
    ----------
    specs : dict of str to BackboneSpec
        The backbones that are listed.
    sources : dict of str to str
        Plugin name -> module, for those that could be loaded.
    failures : dict of str to BaseException
        `name = module` -> why it could not be loaded.
    """

    def __init__(
        self, found: Callable[[], Iterable[EntryPoint]] | None = None, environ: Mapping[str, str] = os.environ
    ) -> None:
        self.specs: dict[str, BackboneSpec] = {}
        self.sources: dict[str, str] = {}
        self.failures: dict[str, BaseException] = {}
        self._finders: dict[str, Callable[..., list[BackboneSpec | None]]] = {}
        third = entry_points(group=hooks.GROUP) if found is None else found()
        allowed = environ.get("SKTRANSFER_PLUGINS")
        names = None if allowed is None else {name.strip() for name in allowed.split(",")}
        unique = {(entry.name, entry.value): entry for entry in third}  # one install can be seen twice on sys.path
        for entry in (*BUILT_IN, *(unique[key] for key in sorted(unique))):
            if entry not in BUILT_IN and names is not None and entry.name not in names:
                continue
            try:
                self._add(entry)
            # RuntimeError of a broken library, OSError of a missing one, a module that calls sys.exit: anything
            except (Exception, SystemExit) as error:
                if environ.get("SKTRANSFER_STRICT"):
                    raise
                self.failures[f"{entry.name} = {entry.value}"] = error

    def _add(self, entry: EntryPoint) -> None:
        taken = {built_in.name: built_in.value for built_in in BUILT_IN if built_in != entry} | self.sources
        if entry.name in taken:
            raise PluginError(f"{entry.name!r} is taken by {taken[entry.name]}; rename the entry point of one")
        manager = pluggy.PluginManager(hooks.GROUP)  # one a plugin: a failure leaves nothing behind
        manager.add_hookspecs(hooks)
        plugin = entry.load()
        manager.register(plugin, name=entry.name)
        manager.check_pending()
        if not manager.get_hookcallers(plugin):
            raise PluginError(f"{entry.value} has no function marked with @hookimpl, so it offers nothing")
        specs = [spec for batch in manager.hook.sktransfer_backbones() for spec in batch]  # generators run in here
        for spec in specs:
            self._check(spec, entry.name)
        if len({spec.name for spec in specs}) < len(specs):
            raise PluginError(f"{entry.name!r} declares a name twice")
        self.specs |= {spec.name: spec for spec in specs}
        self.sources[entry.name] = entry.value
        self._finders[entry.name] = manager.hook.sktransfer_find_backbone

    @staticmethod
    def _check(spec: object, provider: str) -> None:
        if not isinstance(spec, BackboneSpec):
            raise PluginError(f"{provider!r} must give BackboneSpec objects, not {type(spec).__name__}")
        if spec.provider != provider:
            raise PluginError(f"{spec.name!r} lacks the prefix '{provider}/', the name of its entry point")

    def find(self, name: str) -> BackboneSpec:
        """Return the spec of a backbone.

        Parameters
        ----------
        name : str
            `provider/model`; `model` alone where only one provider lists it.

        Raises
        ------
        BackboneNotFoundError
            If there is none of that name, or several.
        """
        if name in self.specs:
            return self.specs[name]
        provider, _, model = name.partition("/")
        if provider in self._finders and model:
            for spec in self._ask(provider, model):
                self._check(spec, provider)
                return spec
        bare = [full for full in self.specs if full.partition("/")[2] == name]
        if len(bare) == 1:
            return self.specs[bare[0]]
        if bare:
            raise BackboneNotFoundError(f"backbone={name!r} is listed by several providers; say which: {bare}")
        raise BackboneNotFoundError(self._not_found(name, provider))

    def _ask(self, provider: str, model: str) -> list[BackboneSpec]:
        try:
            return [spec for spec in self._finders[provider](name=model) if spec is not None]
        except (SktransferError, OSError):
            raise
        except Exception as error:
            raise PluginError(
                f"the plugin {provider!r} failed on {model!r}: {type(error).__name__}: {error}"
            ) from error

    def _not_found(self, name: str, provider: str) -> str:
        short = {full.partition("/")[2]: full for full in self.specs}
        hint = did_you_mean(name, self.specs) or did_you_mean(name, short)
        message = f"there is no backbone {name!r}.{hint} list_backbones() shows all of {sorted(self.sources)}; "
        message += "'hf/<hub id or local folder>' takes models of transformers."
        failed = "; ".join(
            f"{source}: {type(error).__name__}: {error}"
            for source, error in self.failures.items()
            if provider not in self._finders or source.startswith(f"{provider} = ")  # of the same name: a clash
        )
        return message + (f" Plugins that could not be loaded: {failed}" if failed else "")


_lock = threading.RLock()
_registry: Registry | None = None
_loaded: WeakValueDictionary[tuple[Any, ...], Backbone] = WeakValueDictionary()  # all that anyone holds
_recent: OrderedDict[tuple[Any, ...], Backbone] = OrderedDict()


def registry() -> Registry:
    """Return the registry of this process, made on first use."""
    global _registry
    with _lock:
        if _registry is None:
            _registry = Registry()
        return _registry


def list_backbones(modality: str | None = None, pattern: str | None = None) -> pd.DataFrame:
    """List the backbones that plugins declare, without loading any.

    Open families (`hf/<hub id or folder>`) are not listed: their members are found by name.

    Parameters
    ----------
    modality : {"image", "text"}, default=None
        What the samples are; None for all.
    pattern : str, default=None
        Which names, as in `"torchvision/resnet*"`; None for all.

    Returns
    -------
    backbones : DataFrame
        One row a backbone: name, modality, n_stages, width (of the last stage), input_size, licence.

    Raises
    ------
    InvalidParameterError
        If there is no such modality.

    Examples
    --------
    >>> from sktransfer import list_backbones
    >>> list_backbones(pattern="tiny/c*")["n_stages"].tolist()
    [7]
    """
    import pandas as pd

    from sktransfer.backbones.spec import MODALITIES

    if modality is not None and modality not in MODALITIES:
        raise InvalidParameterError(f"modality={modality!r} must be one of {MODALITIES}, or None for all")
    rows = [
        {
            "name": spec.name,
            "modality": spec.modality,
            "n_stages": len(spec.stages),
            "width": list(spec.stages.values())[-1],
            "input_size": spec.input_size,
            "licence": spec.licence,
        }
        for spec in registry().specs.values()
        if (modality is None or spec.modality == modality) and (pattern is None or fnmatchcase(spec.name, pattern))
    ]
    return pd.DataFrame(rows, columns=["name", "modality", "n_stages", "width", "input_size", "licence"])


def modality_of(backbone: str | Backbone) -> str | None:
    """Return "image" or "text" without loading or fetching anything; None where that takes more than looking."""
    if not isinstance(backbone, str):
        return getattr(backbone, "modality", None)
    try:
        with config_context(download="never"):
            return registry().find(backbone).modality
    except (SktransferError, OSError):
        return None


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
    >>> load_backbone("tiny/cnn").stage_names[-1]
    'block6'
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
            raise InvalidParameterError(f"preprocess={preprocess!r}: {backbone.name} takes no images; leave it 'auto'")
        changed = changed.updated(preprocess)
    if max_length is not None:
        if not hasattr(changed, "with_max_length"):
            raise InvalidParameterError(f"max_length={max_length!r}: {backbone.name} takes no texts; leave it None")
        changed = changed.with_max_length(max_length)
    return backbone if changed is backbone.preprocess else backbone.with_preprocess(changed)


def _shared(name: str, weights: str | os.PathLike[str], seed: int) -> Backbone:
    from sktransfer.backbones.weights import locate

    spec = registry().find(name)
    with _lock:
        path = locate(spec, weights)
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


def _state(path: Path) -> tuple[Any, ...]:
    """Return what changes when a file, or one in a folder, is written anew."""
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    stats = [(file.name, file.stat()) for file in files if file.exists()]  # an editor's lock is a link to nowhere
    return str(path.resolve()), *((name, stat.st_size, stat.st_mtime_ns) for name, stat in stats)


def _load(spec: BackboneSpec, path: Any, weights: str | os.PathLike[str], seed: int) -> Backbone:
    import torch

    from sktransfer.backbones.backbone import Backbone
    from sktransfer.backbones.preprocess import ImageTransform
    from sktransfer.backbones.weights import read_metadata

    metadata = read_metadata(path)
    function = _loader(spec)
    with torch.random.fork_rng(devices=[]):  # drawing weights leaves the caller's random state as it was
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed the GPUs' generators as well
        backbone = function(spec, path)
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
    backbone.origin = (_restore, (spec.name, given, seed, backbone.fingerprint(), backbone.preprocess.key))
    return backbone


def _loader(spec: BackboneSpec) -> Callable[[BackboneSpec, Path | None], object]:
    module, _, function = spec.loader.partition(":")
    try:
        found: Callable[[BackboneSpec, Path | None], object] = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise PluginError(f"{spec.name}: its loader {spec.loader!r} cannot be imported: {error}") from error
    return found


def _restore(name: str, weights: str, seed: int, fingerprint: str, preprocess: str) -> Backbone:
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
