"""Registry of all backbones and plugins, in which a failing plugin does not affect the others."""

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
from sktransfer.backbones.naming import name_hint
from sktransfer.backbones.plugins import (
    Finder,
    Plugin,
    check_spec,
    installed_plugins,
    is_allowed,
    load_plugin,
    origin,
    reason,
)
from sktransfer.backbones.spec import MODALITIES, BackboneSpec
from sktransfer.config import config_context
from sktransfer.exceptions import (
    BackboneNotFoundError,
    InvalidParameterError,
    PluginError,
    SktransferError,
)

if TYPE_CHECKING:
    import pandas as pd

    from sktransfer.backbones.backbone import Backbone
    from sktransfer.weights.source import WeightsSource

__all__ = [
    "COLUMNS",
    "Registry",
    "backbone_rows",
    "find_spec",
    "list_backbones",
    "list_plugins",
    "modality_of",
    "registry",
]

BUILT_IN = tuple(
    EntryPoint(name, f"sktransfer.providers.{module}", hooks.GROUP)
    for name, module in (("tiny", "tiny"), ("torchvision", "torchvision"), ("hf", "huggingface"))
)
COLUMNS = (
    "name",
    "modality",
    "n_stages",
    "width",
    "input_size",
    "n_parameters",
    "bytes",
    "accuracy",
    "benchmark",
    "language",
    "available",
    "licence",
)


class Registry:
    """Backbones of all plugins, and the status of each plugin.

    A plugin is imported when one of its backbones, or a list of all, is asked for.

    Parameters
    ----------
    entry_points : callable, default=None
        Returns the entry points of third parties. None for the installed ones.
    environ : mapping, default=os.environ
        Read for `SKTRANSFER_PLUGINS` and `SKTRANSFER_STRICT`. The former names the third parties to load, by entry
        point or distribution (all if unset, none if empty). If the latter is set to anything but 0, a plugin's failure
        is raised.

    Raises
    ------
    PluginError
        If a plugin fails and `SKTRANSFER_STRICT` is set.
    """

    def __init__(
        self, entry_points: Callable[[], Iterable[EntryPoint]] | None = None, environ: Mapping[str, str] = os.environ
    ) -> None:
        self._specs: dict[str, BackboneSpec] = {}
        self._plugins: dict[int, Plugin] = {}  # by position
        self._finders: dict[str, Finder] = {}
        self._lock = threading.RLock()
        self._strict = environ.get("SKTRANSFER_STRICT", "") not in ("", "0")
        entries, unreadable = installed_plugins() if entry_points is None else (list(entry_points()), [])
        unique = {(entry.name, entry.value): entry for entry in reversed(entries)}  # may be listed twice
        third = [unique[key] for key in sorted(unique)]
        self._wanted = [*BUILT_IN, *(entry for entry in third if is_allowed(entry, environ))]
        self._waiting: dict[int, EntryPoint] = dict(enumerate(BUILT_IN))
        for position, plugin in enumerate(unreadable, len(BUILT_IN)):
            self._record(position, plugin)
        for position, entry in enumerate(third, len(BUILT_IN) + len(unreadable)):
            if entry in self._wanted:
                self._waiting[position] = entry
            else:
                self._record(position, _plugin(entry, "not allowed"))
        if self._strict:
            self.import_plugins()

    @property
    def specs(self) -> dict[str, BackboneSpec]:
        """Specs of the listed backbones by name."""
        self.import_plugins()
        return self._specs

    @property
    def plugins(self) -> list[Plugin]:
        """Status of each plugin: the built-in ones, then third parties by name."""
        self.import_plugins()
        return [self._plugins[position] for position in sorted(self._plugins)]

    @property
    def sources(self) -> dict[str, str]:
        """Modules of the loaded plugins by plugin name."""
        return {plugin.name: plugin.module for plugin in self.plugins if plugin.status == "loaded"}

    @property
    def providers(self) -> list[str]:
        """Names of the loaded plugins that have backbones, sorted. Others have runtimes or scores."""
        return sorted(
            plugin.name
            for plugin in self.plugins
            if plugin.status == "loaded" and (plugin.n_backbones or plugin.open_family)
        )

    @property
    def failures(self) -> dict[str, str]:
        """Errors of the failed plugins by `name = module`."""
        return {
            f"{plugin.name} = {plugin.module}": plugin.error for plugin in self.plugins if plugin.status == "failed"
        }

    def import_plugins(self, provider: str | None = None) -> None:
        """Import plugins that were not imported yet.

        Parameters
        ----------
        provider : str, default=None
            Prefix of their backbones. None for all plugins.
        """
        if not self._waiting:
            return
        with self._lock:
            for position, entry in sorted(self._waiting.items()):
                if provider in (None, entry.name) and position in self._waiting:
                    self._add(position, entry)
                    self._waiting.pop(position, None)  # a module that asks for backbones has imported others meanwhile

    def _add(self, position: int, entry: EntryPoint) -> None:
        start = time.perf_counter()
        namesakes = [other for other in self._wanted if other.name == entry.name]
        try:
            if len(namesakes) > 1 and not _is_built_in(entry):
                raise PluginError(_clash(entry, namesakes))
            specs, finder = load_plugin(entry)
        except KeyboardInterrupt:
            raise
        # Anything may be raised: RuntimeError by a broken library, OSError by a missing one, SystemExit by a module, or
        # a panic of Rust code, which is not an Exception.
        except BaseException as error:
            seconds = time.perf_counter() - start
            self._record(position, _plugin(entry, "failed", seconds=seconds, error=reason(error)), error)
            return
        seconds = time.perf_counter() - start
        self._specs |= {spec.name: spec for spec in specs}
        if finder is not None:
            self._finders[entry.name] = finder
        counted: dict[str, Any] = {"n_backbones": len(specs), "open_family": finder is not None}
        self._record(position, _plugin(entry, "loaded", seconds=seconds, **counted))

    def _record(self, position: int, plugin: Plugin, error: BaseException | None = None) -> None:
        if plugin.status == "failed" and self._strict:
            raise PluginError(f"the plugin {plugin.label} could not be loaded: {plugin.error}") from error
        self._plugins[position] = plugin

    def plugin(self, provider: str) -> Plugin | None:
        """Return the loaded plugin of a name, or None.

        Parameters
        ----------
        provider : str
            Prefix of its backbones.
        """
        self.import_plugins(provider)
        named = [plugin for plugin in self._plugins.copy().values() if plugin.name == provider]
        return next((plugin for plugin in named if plugin.status == "loaded"), None)

    def listed(self, name: str) -> BackboneSpec | None:
        """Return the spec under which `provider/model` is listed, or None.

        Parameters
        ----------
        name : str
            Name with its prefix.
        """
        self.import_plugins(name.partition("/")[0])
        return self._specs.get(name)

    def find(self, name: str) -> BackboneSpec:
        """Return the spec of a backbone.

        Parameters
        ----------
        name : str
            `provider/model`, or `model` alone if only one provider lists it.

        Raises
        ------
        BackboneNotFoundError
            If there is no backbone of that name, or several.
        PluginError
            If the provider's plugin fails.
        """
        listed = self.listed(name)
        if listed is not None and not listed.summary:
            return listed
        provider, _, model = name.partition("/")
        if provider in self._finders and model:
            for spec in self._find_in_family(provider, model):
                return spec
        bare = [full for full, spec in self.specs.items() if full.partition("/")[2] == name and not spec.summary]
        if len(bare) == 1:
            return self.specs[bare[0]]
        if bare:
            raise BackboneNotFoundError(f"backbone={name!r} is listed by several providers; choose one of {bare}")
        raise BackboneNotFoundError(self._not_found(name, provider))

    def _find_in_family(self, provider: str, model: str) -> list[BackboneSpec]:
        try:
            return [check_spec(spec, provider) for spec in self._finders[provider](name=model) if spec is not None]
        except SktransferError:
            raise
        except (Exception, SystemExit) as error:
            plugin = self.plugin(provider)
            label = provider if plugin is None else plugin.label
            raise PluginError(f"the plugin {label} failed when asked for {model!r}: {reason(error)}") from error

    def _not_found(self, name: str, provider: str) -> str:
        hint = name_hint(name, self.specs, self.providers)
        message = f"there is no backbone {name!r}.{hint} list_backbones() shows all of {self.providers}"
        message += "." if "'hf/" in hint else "; 'hf/<hub id or local folder>' takes models of transformers."
        failed = [plugin for plugin in self.plugins if plugin.status == "failed"]
        relevant = [plugin for plugin in failed if plugin.name == provider]
        if not relevant and self.plugin(provider) is None:
            relevant = failed
        if relevant:
            errors = "; ".join(f"{plugin.label}: {plugin.error}" for plugin in relevant)
            message += f" Plugins that could not be loaded: {errors}"
        for plugin in self.plugins:
            if plugin.name == provider and plugin.status == "not allowed":
                message += f" {plugin.label} is installed, but SKTRANSFER_PLUGINS leaves it out."
        return message


def _is_built_in(entry: EntryPoint) -> bool:
    return any(entry is own for own in BUILT_IN)  # a plugin that claims a module of ours compares equal


def _plugin(entry: EntryPoint, status: str, **known: Any) -> Plugin:
    from sktransfer._version import __version__

    name, version = ("sktransfer", __version__) if _is_built_in(entry) else origin(entry.dist)
    return Plugin(name=entry.name, module=entry.value, distribution=name, version=version, status=status, **known)


def _clash(entry: EntryPoint, namesakes: list[EntryPoint]) -> str:
    """Return the error for a name claimed twice. None of the claimants is loaded, so that order never decides."""
    others = [_plugin(other, "") for other in namesakes if other is not entry]
    if any(map(_is_built_in, namesakes)):
        return f"{entry.name!r} is taken by {others[0].module} of {others[0].source}; rename the plugin's entry point"
    claimed = " and by ".join(f"{plugin.module} of {plugin.source}" for plugin in [_plugin(entry, ""), *others])
    return (
        f"{entry.name!r} is claimed by {claimed}, so none of them is loaded: uninstall all but one, or name the "
        "distribution to keep in SKTRANSFER_PLUGINS"
    )


_lock = threading.RLock()
_registry: Registry | None = None


def registry() -> Registry:
    """Return the registry of this process, created on first use."""
    global _registry
    with _lock:
        if _registry is None:
            _registry = Registry()
        return _registry


def find_spec(name: str) -> BackboneSpec:
    """Return the spec of a backbone of any provider.

    Parameters
    ----------
    name : str
        `provider/model`, or `model` alone if only one provider lists it.

    Returns
    -------
    spec : BackboneSpec

    Raises
    ------
    BackboneNotFoundError
        If there is no backbone of that name, or several.
    PluginError
        If the provider's plugin fails.

    Examples
    --------
    >>> from sktransfer.backbones import find_spec
    >>> find_spec("tiny/cnn").modality
    'image'
    """
    return registry().find(name)


def backbone_rows(modality: str | None = None, pattern: str | None = None) -> list[dict[str, Any]]:
    """Return the rows of `list_backbones`, one dict with the keys `COLUMNS` per backbone.

    Parameters
    ----------
    modality, pattern : str, default=None
        Parameters of `list_backbones`.

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
            "n_parameters": spec.n_parameters,
            "bytes": None if spec.weights is None else spec.weights.size,
            "accuracy": spec.accuracy,
            "benchmark": spec.benchmark,
            "language": spec.language,
            "available": _available(spec.weights),
            "licence": spec.licence,
        }
        for spec in registry().specs.values()
        if (modality is None or spec.modality == modality) and (pattern is None or fnmatchcase(spec.name, pattern))
    ]


def _available(source: WeightsSource | None) -> str:
    from sktransfer.weights.locate import is_here

    if source is None:
        return "none"
    return "here" if is_here(source) else "fetch"


def list_backbones(modality: str | None = None, pattern: str | None = None) -> pd.DataFrame:
    """List the backbones of all plugins, without loading any.

    Of open families, such as `hf/<hub id or folder>`, common members are listed at most. Others are found by name.

    Parameters
    ----------
    modality : {"image", "text"}, default=None
        Kind of samples. None for all.
    pattern : str, default=None
        Shell pattern of names, such as `"torchvision/resnet*"`. None for all.

    Returns
    -------
    backbones : DataFrame
        One row per backbone: name, modality, n_stages, width (of the last stage), input_size, n_parameters (the head
        included), bytes (of the weights), accuracy (from 0 to 1, as published) and the benchmark that it was measured
        on, language, available ("here", "fetch" if the weights would be downloaded, "none" if there are none), licence.
        Facts that a provider does not state are missing values.

    Raises
    ------
    InvalidParameterError
        If there is no such modality.

    Notes
    -----
    Five to start with: `tiny/cnn` and `tiny/bert`, which need no download; `torchvision/mobilenet_v3_large` for photos
    on a small processor; `torchvision/convnext_tiny` for photos on a larger one; and the sentence encoder
    `hf/sentence-transformers/all-MiniLM-L6-v2` for English texts.

    The accuracy of images is top-1 on the validation images of ImageNet-1k. That of texts is the mean over the 12
    English classification tasks of MTEB [1]_, each by a logistic regression on few labels. Accuracies of different
    benchmarks cannot be compared.

    References
    ----------
    .. [1] N. Muennighoff, N. Tazi, L. Magne and N. Reimers, "MTEB: Massive Text Embedding Benchmark", EACL 2023.

    Examples
    --------
    >>> from sktransfer import list_backbones
    >>> list_backbones(pattern="torchvision/resnet18")["width"].tolist()
    [512]
    >>> images = list_backbones("image", "torchvision/*")
    >>> images[images["n_parameters"] < 10e6].nlargest(2, "accuracy")["name"].tolist()
    ['torchvision/efficientnet_b2', 'torchvision/efficientnet_b1']
    """
    import pandas as pd

    table = pd.DataFrame(backbone_rows(modality, pattern), columns=list(COLUMNS))
    return table.astype({"n_parameters": "Int64", "bytes": "Int64", "accuracy": "float64"})


def list_plugins() -> pd.DataFrame:
    """List the installed plugins, including those that failed, without loading any backbone.

    Returns
    -------
    plugins : DataFrame
        One row per plugin: name (the prefix of its backbones), module, distribution, version, status ("loaded",
        "failed" or "not allowed" by `SKTRANSFER_PLUGINS`), seconds (import time), n_backbones, open_family (whether it
        finds further backbones by name), error (reason of the failure).

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
    """Return the modality of a backbone without loading or downloading anything, or None if that is impossible.

    Parameters
    ----------
    backbone : str or Backbone
        Name of a backbone, or a backbone.
    """
    if not isinstance(backbone, str):
        return getattr(backbone, "modality", None)
    listed = registry().listed(backbone)
    if listed is not None:
        return listed.modality
    try:
        with config_context(download="never"):
            return registry().find(backbone).modality
    except (SktransferError, OSError):
        return None
