"""Load one plugin, or record why it failed."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from importlib.metadata import Distribution, EntryPoint, distributions, entry_points
from inspect import isfunction
from types import ModuleType
from typing import Any

import pluggy

from sktransfer.backbones import hooks
from sktransfer.backbones.spec import BackboneSpec
from sktransfer.exceptions import PluginError, did_you_mean

__all__ = [
    "Finder",
    "Plugin",
    "check_spec",
    "hook_results",
    "installed_plugins",
    "is_allowed",
    "load_plugin",
    "origin",
    "reason",
]

Finder = Callable[..., list[BackboneSpec | None]]
_HOOKS = (
    "sktransfer_backbones",
    "sktransfer_find_backbone",
    "sktransfer_runtimes",
    "sktransfer_transferability_scores",
)


@dataclass(frozen=True, kw_only=True)
class Plugin:
    """Status of one plugin.

    Parameters
    ----------
    name : str
        Name of its entry point, which is the prefix of its backbones.
    module : str
        Module that the entry point names.
    distribution, version : str, default=""
        Installed distribution and its version, or "" if unknown.
    status : {"loaded", "failed", "not allowed"}
        Whether its backbones are available. A plugin that `SKTRANSFER_PLUGINS` leaves out is "not allowed", and is not
        imported.
    seconds : float, default=0.0
        Time for importing it and calling its hooks.
    n_backbones : int, default=0
        Number of backbones that it lists.
    open_family : bool, default=False
        Whether it finds further backbones by name.
    error : str, default=""
        Reason of the failure, in one line.
    """

    name: str
    module: str
    distribution: str = ""
    version: str = ""
    status: str
    seconds: float = 0.0
    n_backbones: int = 0
    open_family: bool = False
    error: str = ""

    @property
    def label(self) -> str:
        """Entry point and distribution."""
        return f"{self.name} = {self.module}" + (f" of {self.source}" if self.distribution else "")

    @property
    def source(self) -> str:
        """Distribution and version, or the module if they are unknown."""
        return f"{self.distribution} {self.version}".rstrip() or self.module


def origin(distribution: Distribution | None) -> tuple[str, str]:
    """Return name and version of a distribution, each "" if its metadata lack it.

    Parameters
    ----------
    distribution : Distribution or None
        Distribution of an entry point.
    """
    try:
        metadata = None if distribution is None else distribution.metadata
    except Exception:  # a missing METADATA file, or one that is not text
        metadata = None
    if metadata is None:
        return "", ""
    known = set(metadata)  # requesting a missing key is deprecated
    name, version = (str(metadata[key]) if key in known else "" for key in ("Name", "Version"))
    return name, version


def reason(error: BaseException) -> str:
    """Return an error's type and message in one line, without the type for a `PluginError`.

    Parameters
    ----------
    error : BaseException
        Error of a plugin or its libraries.
    """
    try:
        text = " ".join(str(error).split())
    except Exception:  # the error class itself may be broken
        text = "(its message cannot be shown)"
    return text if type(error) is PluginError else f"{type(error).__name__}: {text}".rstrip(": ")


def installed_plugins() -> tuple[list[EntryPoint], list[Plugin]]:
    """Return the entry points of the installed plugins, and the plugins whose distribution cannot be read."""
    try:
        return list(entry_points(group=hooks.GROUP)), []
    except Exception:  # one damaged entry_points.txt of any distribution makes the call fail
        return _read_one_by_one()


def _read_one_by_one() -> tuple[list[EntryPoint], list[Plugin]]:
    entries: list[EntryPoint] = []
    failed: list[Plugin] = []
    seen: set[str] = set()
    for distribution in distributions():
        name, version = origin(distribution)
        if name and _normalized(name) in seen:
            continue  # an earlier one on the path hides it
        seen.add(_normalized(name))
        try:
            entries += distribution.entry_points.select(group=hooks.GROUP)
        except Exception as error:
            text = "its entry_points.txt cannot be read (each line must have the form `name = module`)"
            plugin = Plugin(name="?", module="?", distribution=name, version=version, status="failed")
            if _may_be_plugin(distribution):
                failed.append(replace(plugin, error=f"{text}: {reason(error)}"))
    return entries, failed


def _may_be_plugin(distribution: Distribution) -> bool:
    try:
        return f"[{hooks.GROUP}]" in (distribution.read_text("entry_points.txt") or "")
    except Exception:  # not even text, so it may be a plugin
        return True


def is_allowed(entry: EntryPoint, environ: Mapping[str, str]) -> bool:
    """Return whether `SKTRANSFER_PLUGINS` names a plugin, by its entry point or by its distribution.

    Parameters
    ----------
    entry : EntryPoint
        Entry point of a third party.
    environ : mapping
        Environment variables. If the variable is unset, all plugins are allowed.
    """
    listed = environ.get("SKTRANSFER_PLUGINS")
    if listed is None:
        return True
    names = {_normalized(name) for name in listed.split(",")} - {""}
    return _normalized(entry.name) in names or _normalized(origin(entry.dist)[0]) in names


def _normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name.strip()).lower()  # pip compares names of distributions this way


def load_plugin(entry: EntryPoint) -> tuple[list[BackboneSpec], Finder | None]:
    """Import a plugin and return its backbones.

    Parameters
    ----------
    entry : EntryPoint
        Names the plugin's module.

    Returns
    -------
    specs : list of BackboneSpec
        Valid specs of the listed backbones.
    finder : callable or None
        Called as `finder(name=...)`, returns at most one spec of an open family. None without an open family.

    Raises
    ------
    PluginError
        If it breaks the contract. Exceptions of its code are raised unchanged.
    """
    if not entry.pattern.match(entry.value):
        raise PluginError(f"its entry point names {entry.value!r}, which cannot be the name of a module")
    plugin: Any = entry.load()
    if not isinstance(plugin, ModuleType):
        raise PluginError(f"{entry.value} must be a module, not {type(plugin).__name__}")
    manager = pluggy.PluginManager(hooks.GROUP)  # one manager per plugin, so that a failure leaves no trace
    manager.add_hookspecs(hooks)
    manager.register(plugin, name=entry.name)
    _check_hooks(manager, plugin)
    batches = manager.hook.sktransfer_backbones()
    if not batches and manager.hook.sktransfer_backbones.get_hookimpls():
        raise PluginError(f"sktransfer_backbones of {entry.value} returned None; it must return BackboneSpec objects")
    specs = [check_spec(spec, entry.name) for batch in batches for spec in _listed(batch)]
    names = [spec.name for spec in specs]
    twice = sorted({name for name in names if names.count(name) > 1}) if len(set(names)) < len(names) else []
    if twice:
        raise PluginError(f"{entry.name!r} declares several backbones of the name {twice[0]!r}")
    finder = manager.hook.sktransfer_find_backbone
    finds = bool(finder.get_hookimpls())
    summary = next((spec.name for spec in specs if spec.summary and not finds), None)
    if summary is not None:
        raise PluginError(f"{summary!r} is a summary, and {entry.value} has no sktransfer_find_backbone to complete it")
    return specs, finder if finds else None


def hook_results(name: str, module: str, hook: str) -> list[Any]:
    """Return the objects that a hook of a loaded plugin lists, none if it lacks the hook.

    Parameters
    ----------
    name, module : str
        Name and module of the plugin's entry point.
    hook : str
        Name of a hook without arguments.
    """
    manager = pluggy.PluginManager(hooks.GROUP)  # one per plugin, as for its backbones
    manager.add_hookspecs(hooks)
    manager.register(EntryPoint(name, module, hooks.GROUP).load(), name=name)
    return [one for batch in getattr(manager.hook, hook)() for one in batch]


def _check_hooks(manager: pluggy.PluginManager, plugin: ModuleType) -> None:
    try:
        manager.check_pending()
    except pluggy.PluginValidationError as error:
        raise PluginError(f"{error}; the hooks are {', '.join(_HOOKS)}") from error
    own = {name: function for name, function in vars(plugin).items() if isfunction(function)}
    unmarked = [name for name, function in own.items() if not hasattr(function, f"{hooks.GROUP}_impl")]
    for name in _HOOKS:
        if name in unmarked:
            raise PluginError(f"{plugin.__name__}.{name} is not marked with @hookimpl, so it would not be called")
    if not manager.get_hookcallers(plugin):
        near = next((hint for hint in (did_you_mean(name, _HOOKS, n=1) for name in unmarked) if hint), "")
        raise PluginError(f"{plugin.__name__} has no function marked with @hookimpl, so it offers no backbone.{near}")


def _listed(batch: object) -> Iterable[object]:
    if isinstance(batch, (str, BackboneSpec)) or not isinstance(batch, Iterable):
        raise PluginError(f"sktransfer_backbones must return a list of BackboneSpec, not {type(batch).__name__}")
    return batch  # a generator runs, and may fail, in the caller's loop


def check_spec(spec: object, provider: str) -> BackboneSpec:
    """Return a spec of a plugin after checking its type and its prefix.

    Parameters
    ----------
    spec : object
        Return value of a hook.
    provider : str
        Name of the plugin's entry point.

    Raises
    ------
    PluginError
        If it is not a `BackboneSpec`, or has another prefix.
    """
    if not isinstance(spec, BackboneSpec):
        raise PluginError(f"{provider!r} must return BackboneSpec objects, not {type(spec).__name__}")
    if spec.provider != provider:
        raise PluginError(
            f"{spec.name!r} lacks the prefix '{provider}/': names of backbones begin with the name of the entry point"
        )
    return spec
