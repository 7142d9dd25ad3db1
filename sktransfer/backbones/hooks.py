"""Hooks that a plugin may implement. Imports neither torch nor numpy."""

from __future__ import annotations

from collections.abc import Iterable

import pluggy

from sktransfer.backbones.spec import BackboneSpec

__all__ = ["GROUP", "hookimpl", "hookspec"]

GROUP = "sktransfer"  # the entry-point group, and pluggy's project name
hookspec = pluggy.HookspecMarker(GROUP)
hookimpl = pluggy.HookimplMarker(GROUP)


@hookspec
def sktransfer_backbones() -> Iterable[BackboneSpec]:
    """Return the specs of the plugin's backbones.

    It runs whenever backbones are listed, so it uses no heavy import and no network.
    """
    raise NotImplementedError  # a specification, of which pluggy reads only the signature


@hookspec
def sktransfer_find_backbone(name: str) -> BackboneSpec | None:  # type: ignore[empty-body]
    """Return the spec of a member of an open family (a hub, a folder), or None if there is none of that name.

    `name` lacks the provider's prefix. A small file may be read, or downloaded if the setting `download` allows it.
    """


@hookspec
def sktransfer_transferability_scores() -> Iterable[object]:
    """Return `sktransfer.selection.scores.Score` objects, imported inside the function.

    It runs when a score of a plugin is requested. The names of scores begin with the name of the entry point.
    """
    raise NotImplementedError


@hookspec
def sktransfer_runtimes() -> Iterable[object]:
    """Return `sktransfer.backbones.Runtime` objects, imported inside the function.

    It runs when the setting `runtime` is not "torch". The name of a runtime is that of the entry point. The library of
    the runtime is imported by the methods of the object.
    """
    raise NotImplementedError
