"""Backbones of classifiers that need no `fit`: kept by `fit`, and part of files and pickles also without it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from sktransfer.exceptions import SktransferError

if TYPE_CHECKING:
    from sktransfer.backbones.backbone import Backbone

__all__ = ["KeptBackbones"]

_NAMING = ("backbone", "text_backbone", "weights")  # parameters that name what is kept
_KEPT = ("_backbone", "_text_backbone")


class KeptBackbones:
    """Mixin that keeps backbones as they were loaded, before `preprocess` and `max_length`.

    A fitted classifier keeps them although their files change or are deleted. Files and pickles refer to them by name
    and hash, so that other weights are refused. A parameter that names a backbone takes effect at once: setting one
    drops what is kept.
    """

    def _sources(self) -> dict[str, Backbone]:
        """Return the backbones that predictions use, by the attributes that keep them."""
        raise NotImplementedError

    def _source(self, attribute: str, load: Callable[[], Backbone]) -> Backbone:
        """Return a kept backbone, or load it."""
        kept: Backbone | None = vars(self).get(attribute)
        return load() if kept is None else kept

    def _forget(self) -> None:
        for attribute in _KEPT:
            vars(self).pop(attribute, None)

    def _keep(self) -> None:
        vars(self).update(self._sources())

    def _attributes_to_save(self) -> dict[str, Backbone]:
        """Return attributes that files and pickles hold in addition, or {} if the classifier cannot predict here."""
        if not self.__sklearn_is_fitted__():  # type: ignore[attr-defined]
            return {}
        try:
            return self._sources()
        except SktransferError:  # a parameter is not valid, or the weights are not on this machine
            return {}

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if name in _NAMING:
            self._forget()

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = super().__getstate__()  # type: ignore[assignment]
        return state | self._attributes_to_save()
