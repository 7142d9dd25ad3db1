"""Which scores there are by name: those shipped, and those that plugins add."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from typing import Any

import numpy as np
import pluggy

from sktransfer.backbones import hooks
from sktransfer.backbones.plugins import reason
from sktransfer.backbones.registry import registry
from sktransfer.exceptions import InvalidParameterError, PluginError, did_you_mean
from sktransfer.selection.arrays import KINDS
from sktransfer.selection.transferability import h_score, knn, leep, logme, nce

__all__ = ["Score", "resolve_scores"]


@dataclass(frozen=True, kw_only=True)
class Score:
    """A score by name; larger is better.

    Parameters
    ----------
    name : str
        The column that it fills. A plugin's begins with the name of its entry point: "acme/gbc".
    function : callable
        Called as `function(values, y, target=...)`: an array (n_samples, n), the targets, and which kind they are of;
        returns a float.
    targets : tuple of {"classes", "numbers", "multilabel"}, default=("classes",)
        What it is defined for.
    takes : {"features", "probabilities"}, default="features"
        What it scores: each layer's features, or the probabilities of the backbone's own head.

    Examples
    --------
    >>> from sktransfer.selection.scores import Score
    >>> Score(name="acme/width", function=lambda features, y, target: features.shape[1])  # doctest: +ELLIPSIS
    Score(name='acme/width', ...)
    """

    name: str
    function: Callable[..., float]
    targets: tuple[str, ...] = ("classes",)
    takes: str = "features"

    def __call__(self, values: np.ndarray, y: np.ndarray, target: str) -> float:
        """Return the score."""
        return float(self.function(values, y, target=target))


def _of_labels(function: Callable[[Any, Any], float]) -> Callable[..., float]:
    return lambda values, y, target: function(values, y)


BUILT_IN = {
    score.name: score
    for score in (
        Score(name="h_score", function=_of_labels(h_score)),
        Score(name="logme", function=logme, targets=KINDS),
        Score(name="knn", function=knn, targets=KINDS),
        Score(name="leep", function=_of_labels(leep), takes="probabilities"),
        Score(name="nce", function=_of_labels(nce), takes="probabilities"),
    )
}


def resolve_scores(metrics: Sequence[str] | str, target: str) -> list[Score]:
    """Return the scores that names stand for.

    Parameters
    ----------
    metrics : sequence of str, or str
        The names.
    target : {"classes", "numbers", "multilabel"}
        What the targets are.

    Raises
    ------
    InvalidParameterError
        If there is no score of a name, a name comes twice, or none of them is defined for such targets.
    """
    names = [metrics] if isinstance(metrics, str) else list(metrics)
    if not names or len(set(names)) < len(names):
        raise InvalidParameterError(f"metrics={metrics!r} must name at least one score, and each once")
    known = dict(BUILT_IN)
    failed: list[str] = []
    if not set(names) <= set(known):  # plugins are asked only where they are needed
        offered, failed = plugin_scores()
        known |= offered
    for name in names:
        if name not in known:
            told = f" Plugins that could not say: {'; '.join(failed)}" if failed else ""
            raise InvalidParameterError(
                f"metrics={metrics!r}: there is no score {name!r}; choose from {sorted(known)}."
                + did_you_mean(str(name), known)
                + told
            )
    found = [known[name] for name in names]
    if not any(target in score.targets for score in found):
        able = sorted(name for name, score in known.items() if target in score.targets)
        raise InvalidParameterError(f"metrics={metrics!r}: none is defined where y holds {target}; {able} are")
    return found


def plugin_scores() -> tuple[dict[str, Score], list[str]]:
    """Return the scores of third parties by name, and what went wrong with those that failed."""
    found: dict[str, Score] = {}
    failed: list[str] = []
    for plugin in registry().plugins:
        if plugin.status != "loaded":
            continue
        try:
            for score in _asked(plugin.name, plugin.module):
                found[score.name] = score
        except Exception as error:  # one that is broken must not take the others' scores away
            failed.append(f"{plugin.label}: {reason(error)}")
    return found, failed


def _asked(name: str, module: str) -> list[Score]:
    manager = pluggy.PluginManager(hooks.GROUP)  # one a plugin, as for its backbones
    manager.add_hookspecs(hooks)
    manager.register(EntryPoint(name, module, hooks.GROUP).load(), name=name)
    scores = [score for batch in manager.hook.sktransfer_transferability_scores() for score in batch]
    for score in scores:
        if not isinstance(score, Score):
            raise PluginError(f"{name!r} must give Score objects, not {type(score).__name__}")
        if not score.name.startswith(f"{name}/"):
            raise PluginError(
                f"{score.name!r} lacks the prefix '{name}/': names of scores begin with the entry point's"
            )
    return scores
