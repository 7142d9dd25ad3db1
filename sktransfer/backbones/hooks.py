"""The questions that sktransfer asks a plugin. Imports neither torch nor numpy."""

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
    """Return the specs on offer. No heavy import, no file, no network: this runs whenever backbones are listed."""
    raise NotImplementedError  # a specification: pluggy reads its signature, nobody calls it


@hookspec
def sktransfer_find_backbone(name: str) -> BackboneSpec | None:  # type: ignore[empty-body]
    """Return the spec of a backbone out of an open family (a hub, a folder), or None if there is none of that name.

    `name` comes without the provider's prefix. A small file may be read, or fetched where `download` allows it.
    """


@hookspec
def sktransfer_transferability_scores() -> Iterable[object]:
    """Return `sktransfer.selection.scores.Score` objects, imported inside: this runs when a score of a plugin is named.

    Their names begin with the name of the entry point.
    """
    raise NotImplementedError
