"""Which backbones there are: what plugins offer, and which of them failed without harm to the others."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, fields
from fnmatch import fnmatchcase
from importlib.metadata import EntryPoint
from typing import TYPE_CHECKING, Any

from sktransfer.backbones import hooks
from sktransfer.backbones.plugins import Finder, Plugin, allowed, check_spec, declared, installed, origin, reason
from sktransfer.backbones.spec import MODALITIES, BackboneSpec
from sktransfer.config import config_context
from sktransfer.exceptions import (
    BackboneNotFoundError,
    InvalidParameterError,
    PluginError,
    SktransferError,
    did_you_mean,
)

if TYPE_CHECKING:
    import pandas as pd

    from sktransfer.backbones.backbone import Backbone

__all__ = ["COLUMNS", "Registry", "backbone_rows", "list_backbones", "list_plugins", "modality_of", "registry"]

BUILT_IN = tuple(
    EntryPoint(name, f"sktransfer.providers.{module}", hooks.GROUP)
    for name, module in (("tiny", "tiny"), ("torchvision", "torchvision"), ("hf", "huggingface"))
)
COLUMNS = ("name", "modality", "n_stages", "width", "input_size", "licence")


class Registry:
    """What backbones there are, and which plugins could not say.

    Parameters
    ----------
    found : callable, default=None
        Gives the entry points of third parties; None for those that are installed.
    environ : mapping, default=os.environ
        Read for `SKTRANSFER_PLUGINS` (which third parties to load, by the names of their entry points or distributions;
        unset: all; empty: none) and `SKTRANSFER_STRICT` (set, and not to 0: a plugin's failure is raised).

    Attributes
    ----------
    specs : dict of str to BackboneSpec
        The backbones that are listed.
    plugins : list of Plugin
        What became of each plugin: the built-in ones, then third parties by name.

    Raises
    ------
    PluginError
        If a plugin fails where `SKTRANSFER_STRICT` says so.
    """

    def __init__(
        self, found: Callable[[], Iterable[EntryPoint]] | None = None, environ: Mapping[str, str] = os.environ
    ) -> None:
        self.specs: dict[str, BackboneSpec] = {}
        self.plugins: list[Plugin] = []
        self._finders: dict[str, Finder] = {}
        self._strict = environ.get("SKTRANSFER_STRICT", "") not in ("", "0")
        for entry in BUILT_IN:
            self._add(entry)
        entries, unreadable = installed() if found is None else (list(found()), [])
        for plugin in unreadable:
            self._keep(plugin)
        unique = {(entry.name, entry.value): entry for entry in reversed(entries)}  # an install may be seen twice
        third = [unique[key] for key in sorted(unique)]
        wanted = [entry for entry in third if allowed(entry, environ)]
        for entry in third:
            if entry in wanted:
                self._add(entry, [other for other in (*BUILT_IN, *wanted) if other.name == entry.name])
            else:
                self._keep(_record(entry, "not allowed"))

    @property
    def sources(self) -> dict[str, str]:
        """Plugin name -> module, for those that are loaded."""
        return {plugin.name: plugin.module for plugin in self.plugins if plugin.status == "loaded"}

    @property
    def failures(self) -> dict[str, str]:
        """`name = module` -> why it could not be loaded."""
        return {f"{one.name} = {one.module}": one.error for one in self.plugins if one.status == "failed"}

    def _add(self, entry: EntryPoint, namesakes: list[EntryPoint] | None = None) -> None:
        start = time.perf_counter()
        try:
            if namesakes and len(namesakes) > 1:
                raise PluginError(_clash(entry, namesakes))
            specs, finder = declared(entry)
        except KeyboardInterrupt:
            raise
        # RuntimeError of a broken library, OSError of a missing one, a module that calls sys.exit, a panic of Rust code
        # (which is no Exception): anything.
        except BaseException as error:
            seconds = time.perf_counter() - start
            self._keep(_record(entry, "failed", seconds=seconds, error=reason(error)), error)
            return
        seconds = time.perf_counter() - start
        self.specs |= {spec.name: spec for spec in specs}
        if finder is not None:
            self._finders[entry.name] = finder
        counted: dict[str, Any] = {"n_backbones": len(specs), "open_family": finder is not None}
        self._keep(_record(entry, "loaded", seconds=seconds, **counted))

    def _keep(self, plugin: Plugin, error: BaseException | None = None) -> None:
        if plugin.status == "failed" and self._strict:
            raise PluginError(f"the plugin {plugin.label} could not be loaded: {plugin.error}") from error
        self.plugins.append(plugin)

    def plugin(self, provider: str) -> Plugin | None:
        """Return the plugin that is loaded under a name; None if there is none."""
        return next((one for one in self.plugins if one.name == provider and one.status == "loaded"), None)

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
        PluginError
            If the plugin that is asked for it fails.
        """
        if name in self.specs:
            return self.specs[name]
        provider, _, model = name.partition("/")
        if provider in self._finders and model:
            for spec in self._ask(provider, model):
                return spec
        bare = [full for full in self.specs if full.partition("/")[2] == name]
        if len(bare) == 1:
            return self.specs[bare[0]]
        if bare:
            raise BackboneNotFoundError(f"backbone={name!r} is listed by several providers; say which: {bare}")
        raise BackboneNotFoundError(self._not_found(name, provider))

    def _ask(self, provider: str, model: str) -> list[BackboneSpec]:
        try:
            found = [spec for spec in self._finders[provider](name=model) if spec is not None]
            return [check_spec(spec, provider) for spec in found]
        except SktransferError:
            raise
        except (Exception, SystemExit) as error:
            plugin = self.plugin(provider)
            label = provider if plugin is None else plugin.label
            raise PluginError(f"the plugin {label} failed when asked for {model!r}: {reason(error)}") from error

    def _not_found(self, name: str, provider: str) -> str:
        short = {full.partition("/")[2]: full for full in self.specs}
        hint = did_you_mean(name, self.specs) or did_you_mean(name, short)
        message = f"there is no backbone {name!r}.{hint} list_backbones() shows all of {sorted(self.sources)}; "
        message += "'hf/<hub id or local folder>' takes models of transformers."
        failed = [plugin for plugin in self.plugins if plugin.status == "failed"]
        concerned = [plugin for plugin in failed if plugin.name == provider]
        if not concerned and self.plugin(provider) is None:
            concerned = failed
        if concerned:
            told = "; ".join(f"{plugin.label}: {plugin.error}" for plugin in concerned)
            message += f" Plugins that could not be loaded: {told}"
        for plugin in self.plugins:
            if plugin.name == provider and plugin.status == "not allowed":
                message += f" {plugin.label} is installed, but SKTRANSFER_PLUGINS leaves it out."
        return message


def _is_built_in(entry: EntryPoint) -> bool:
    return any(entry is one for one in BUILT_IN)  # equal to one is also a plugin that claims our module


def _record(entry: EntryPoint, status: str, **known: Any) -> Plugin:
    from sktransfer._version import __version__

    name, version = ("sktransfer", __version__) if _is_built_in(entry) else origin(entry.dist)
    return Plugin(name=entry.name, module=entry.value, distribution=name, version=version, status=status, **known)


def _clash(entry: EntryPoint, namesakes: list[EntryPoint]) -> str:
    """Say who else wants a name. None of several third parties gets it: the order of names must not choose weights."""
    others = [_record(other, "") for other in namesakes if other is not entry]
    if any(map(_is_built_in, namesakes)):
        return f"{entry.name!r} is taken by {others[0].module} of {others[0].source}; rename the plugin's entry point"
    claimed = " and by ".join(f"{one.module} of {one.source}" for one in [_record(entry, ""), *others])
    return (
        f"{entry.name!r} is claimed by {claimed}, so none of them is loaded: uninstall all but one, or name the "
        "distribution to keep in SKTRANSFER_PLUGINS"
    )


_lock = threading.RLock()
_registry: Registry | None = None


def registry() -> Registry:
    """Return the registry of this process, made on first use."""
    global _registry
    with _lock:
        if _registry is None:
            _registry = Registry()
        return _registry


def backbone_rows(modality: str | None = None, pattern: str | None = None) -> list[dict[str, Any]]:
    """Return what `list_backbones` shows, one dict of `COLUMNS` a backbone.

    Parameters
    ----------
    modality, pattern : str, default=None
        As in `list_backbones`.

    Raises
    ------
    InvalidParameterError
        If there is no such modality.
    """
    if modality is not None and modality not in MODALITIES:
        raise InvalidParameterError(f"modality={modality!r} must be one of {MODALITIES}, or None for all")
    return [
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
    >>> list_backbones(pattern="torchvision/resnet18")["width"].tolist()
    [512]
    """
    import pandas as pd

    return pd.DataFrame(backbone_rows(modality, pattern), columns=list(COLUMNS))


def list_plugins() -> pd.DataFrame:
    """List the plugins that are installed, those that failed among them, without loading any backbone.

    Returns
    -------
    plugins : DataFrame
        One row a plugin: name (the prefix of its backbones), module, distribution, version, status ("loaded", "failed"
        or "not allowed" by `SKTRANSFER_PLUGINS`), seconds (that importing it took), n_backbones, open_family (whether
        it finds more by name), error (why it failed).

    Examples
    --------
    >>> from sktransfer import list_plugins
    >>> plugins = list_plugins().set_index("name")
    >>> plugins.loc["hf", ["module", "status"]].tolist()
    ['sktransfer.providers.huggingface', 'loaded']
    """
    import pandas as pd

    rows = [asdict(plugin) for plugin in registry().plugins]
    return pd.DataFrame(rows, columns=[field.name for field in fields(Plugin)])


def modality_of(backbone: str | Backbone) -> str | None:
    """Return "image" or "text" without loading or fetching anything; None where that takes more than looking."""
    if not isinstance(backbone, str):
        return getattr(backbone, "modality", None)
    try:
        with config_context(download="never"):
            return registry().find(backbone).modality
    except (SktransferError, OSError):
        return None
