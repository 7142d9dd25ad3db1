"""One plugin: where it is installed, what it declares, and why it could not where it could not."""

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

__all__ = ["Finder", "Plugin", "allowed", "check_spec", "declared", "installed", "origin", "reason"]

Finder = Callable[..., list[BackboneSpec | None]]
_HOOKS = ("sktransfer_backbones", "sktransfer_find_backbone", "sktransfer_transferability_scores")


@dataclass(frozen=True, kw_only=True)
class Plugin:
    """What became of one plugin.

    Parameters
    ----------
    name : str
        Of its entry point: the prefix of its backbones.
    module : str
        What the entry point names.
    distribution, version : str, default=""
        What was installed to get it; "" where that is not known.
    status : {"loaded", "failed", "not allowed"}
        Whether its backbones are on offer. "not allowed": `SKTRANSFER_PLUGINS` leaves it out, so it was not imported.
    seconds : float, default=0.0
        What importing it and asking for its backbones took.
    n_backbones : int, default=0
        How many it lists.
    open_family : bool, default=False
        Whether it finds more by name.
    error : str, default=""
        Why it failed, in one line.
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
        """The entry point, and the distribution that it comes from."""
        return f"{self.name} = {self.module}" + (f" of {self.source}" if self.distribution else "")

    @property
    def source(self) -> str:
        """The distribution with its version; the module where that is not known."""
        return f"{self.distribution} {self.version}".rstrip() or self.module


def origin(distribution: Distribution | None) -> tuple[str, str]:
    """Return name and version of a distribution; "" for what its metadata do not tell."""
    try:
        metadata = None if distribution is None else distribution.metadata
    except Exception:  # a folder without its METADATA, or one that is not text
        metadata = None
    if metadata is None:
        return "", ""
    known = set(metadata)  # asking for what is not there is deprecated
    name, version = (str(metadata[key]) if key in known else "" for key in ("Name", "Version"))
    return name, version


def reason(error: BaseException) -> str:
    """Return what went wrong, in one line; an error of our own says it without its type."""
    try:
        text = " ".join(str(error).split())
    except Exception:  # the author's own error class may be broken as well
        text = "(its message cannot be shown)"
    return text if type(error) is PluginError else f"{type(error).__name__}: {text}".rstrip(": ")


def installed() -> tuple[list[EntryPoint], list[Plugin]]:
    """Return the entry points of the plugins that are installed, and those whose distribution cannot be read."""
    try:
        return list(entry_points(group=hooks.GROUP)), []
    except Exception:  # one damaged entry_points.txt, of whatever distribution, fails the whole question
        return _one_by_one()


def _one_by_one() -> tuple[list[EntryPoint], list[Plugin]]:
    entries: list[EntryPoint] = []
    failed: list[Plugin] = []
    seen: set[str] = set()
    for distribution in distributions():
        name, version = origin(distribution)
        if name and _normalized(name) in seen:
            continue  # one earlier on the path hides it
        seen.add(_normalized(name))
        try:
            entries += distribution.entry_points.select(group=hooks.GROUP)
        except Exception as error:
            text = "its entry_points.txt cannot be read (each line must have the form `name = module`)"
            known = Plugin(name="?", module="?", distribution=name, version=version, status="failed")
            if _concerns_us(distribution):
                failed.append(replace(known, error=f"{text}: {reason(error)}"))
    return entries, failed


def _concerns_us(distribution: Distribution) -> bool:
    try:
        return f"[{hooks.GROUP}]" in (distribution.read_text("entry_points.txt") or "")
    except Exception:  # not even text: it may be one of ours
        return True


def allowed(entry: EntryPoint, environ: Mapping[str, str]) -> bool:
    """Return whether `SKTRANSFER_PLUGINS` lets a third party in, named by entry point or by distribution."""
    listed = environ.get("SKTRANSFER_PLUGINS")
    if listed is None:
        return True
    names = {_normalized(name) for name in listed.split(",")} - {""}
    return _normalized(entry.name) in names or _normalized(origin(entry.dist)[0]) in names


def _normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name.strip()).lower()  # as pip compares the names of distributions


def declared(entry: EntryPoint) -> tuple[list[BackboneSpec], Finder | None]:
    """Import a plugin and ask it for its backbones.

    Parameters
    ----------
    entry : EntryPoint
        Names the plugin's module.

    Returns
    -------
    specs : list of BackboneSpec
        What it lists: all of it is valid.
    finder : callable or None
        Called as `finder(name=...)`: gives at most one spec of an open family; None if it has none.

    Raises
    ------
    PluginError
        If it breaks the contract. Whatever its code raises comes through as well.
    """
    if not entry.pattern.match(entry.value):
        raise PluginError(f"its entry point names {entry.value!r}, which cannot be the name of a module")
    plugin: Any = entry.load()
    if not isinstance(plugin, ModuleType):
        raise PluginError(f"{entry.value} must be a module, not {type(plugin).__name__}")
    manager = pluggy.PluginManager(hooks.GROUP)  # one a plugin: a failure leaves nothing behind
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
        raise PluginError(f"{entry.name!r} declares more than one backbone of the name {twice[0]!r}")
    finder = manager.hook.sktransfer_find_backbone
    return specs, finder if finder.get_hookimpls() else None


def _check_hooks(manager: pluggy.PluginManager, plugin: ModuleType) -> None:
    try:
        manager.check_pending()
    except pluggy.PluginValidationError as error:
        raise PluginError(f"{error}; the hooks are {', '.join(_HOOKS)}") from error
    own = {name: function for name, function in vars(plugin).items() if isfunction(function)}
    unmarked = [name for name, function in own.items() if not hasattr(function, f"{hooks.GROUP}_impl")]
    for name in _HOOKS:
        if name in unmarked:
            raise PluginError(f"{plugin.__name__}.{name} is not marked with @hookimpl, so it would never be called")
    if not manager.get_hookcallers(plugin):
        near = next((hint for hint in (did_you_mean(name, _HOOKS, n=1) for name in unmarked) if hint), "")
        raise PluginError(f"{plugin.__name__} has no function marked with @hookimpl, so it offers nothing.{near}")


def _listed(batch: object) -> Iterable[object]:
    if isinstance(batch, (str, BackboneSpec)) or not isinstance(batch, Iterable):
        raise PluginError(f"sktransfer_backbones must return a list of BackboneSpec, not {type(batch).__name__}")
    return batch  # a generator runs, and may fail, in the caller's loop


def check_spec(spec: object, provider: str) -> BackboneSpec:
    """Return a spec that a plugin gave, where it is one and bears the plugin's name.

    Parameters
    ----------
    spec : object
        What the plugin gave.
    provider : str
        The name of the plugin's entry point.

    Raises
    ------
    PluginError
        If it is no `BackboneSpec`, or bears another prefix.
    """
    if not isinstance(spec, BackboneSpec):
        raise PluginError(f"{provider!r} must give BackboneSpec objects, not {type(spec).__name__}")
    if spec.provider != provider:
        raise PluginError(
            f"{spec.name!r} lacks the prefix '{provider}/': names of backbones begin with the name of the entry point"
        )
    return spec
