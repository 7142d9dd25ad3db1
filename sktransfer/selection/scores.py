"""Table of transferability scores by name, including those of plugins."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sktransfer.backbones.plugins import hook_results, reason
from sktransfer.backbones.registry import registry
from sktransfer.exceptions import InvalidParameterError, PluginError, did_you_mean
from sktransfer.selection.feature_scores import h_score, knn, logme
from sktransfer.selection.head_scores import leep, nce
from sktransfer.selection.validation import TARGET_TYPES

__all__ = ["BUILT_IN", "Score", "plugin_scores", "resolve_scores"]

_TARGETS = {target_type: target for target, target_type in TARGET_TYPES.items()}


@dataclass(frozen=True, kw_only=True)
class Score:
    """A transferability score. Larger is better.

    Parameters
    ----------
    name : str
        Column of the ranking. The name of a plugin's score begins with the plugin's entry point, as in "acme/gbc".
    function : callable
        Called as `function(values, y, target=...)` with an array (n_samples, n), the targets, and one of the words in
        `targets`. Returns a float.
    targets : tuple of {"classes", "numbers", "multilabel"}, default=("classes",)
        Targets for which the score is defined.
    takes : {"features", "probabilities"}, default="features"
        Input of the function: features of a layer, or probabilities of the backbone's own head.

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

    def supports(self, target_type: str) -> bool:
        """Return whether the score is defined for a type of targets.

        Parameters
        ----------
        target_type : {"multiclass", "continuous", "multilabel-indicator"}
            Type of the targets.
        """
        return _TARGETS[target_type] in self.targets

    def __call__(self, values: np.ndarray, y: np.ndarray, target_type: str) -> float:
        """Return the score."""
        return float(self.function(values, y, target=_TARGETS[target_type]))


def _of_labels(function: Callable[[Any, Any], float]) -> Callable[..., float]:
    return lambda values, y, target: function(values, y)


BUILT_IN = {
    score.name: score
    for score in (
        Score(name="h_score", function=_of_labels(h_score)),
        Score(name="logme", function=logme, targets=tuple(TARGET_TYPES)),
        Score(name="knn", function=knn, targets=tuple(TARGET_TYPES)),
        Score(name="leep", function=_of_labels(leep), takes="probabilities"),
        Score(name="nce", function=_of_labels(nce), takes="probabilities"),
    )
}


def resolve_scores(metrics: Sequence[str] | str, target_type: str) -> list[Score]:
    """Return the scores of the given names.

    Parameters
    ----------
    metrics : sequence of str, or str
        Names of scores.
    target_type : {"multiclass", "continuous", "multilabel-indicator"}
        Type of the targets.

    Raises
    ------
    InvalidParameterError
        If a name is unknown or repeated, there are no names, or none of the scores is defined for these targets.
    """
    names = [metrics] if isinstance(metrics, str) else list(metrics)
    if not names or len(set(names)) < len(names):
        raise InvalidParameterError(f"metrics={metrics!r} must name at least one score, and each once")
    known = dict(BUILT_IN)
    failures: list[str] = []
    if not set(names) <= set(known):  # plugins are imported only if one of their scores may be meant
        third_party, failures = plugin_scores()
        known |= third_party
    for name in names:
        if name not in known:
            failed = f" Plugins whose scores could not be loaded: {'; '.join(failures)}" if failures else ""
            raise InvalidParameterError(
                f"metrics={metrics!r}: there is no score {name!r}; choose from {sorted(known)}."
                + did_you_mean(str(name), known)
                + failed
            )
    scores = [known[name] for name in names]
    if not any(score.supports(target_type) for score in scores):
        defined = sorted(name for name, score in known.items() if score.supports(target_type))
        raise InvalidParameterError(
            f"metrics={metrics!r}: none is defined for y that holds {target_type} targets; choose from {defined}"
        )
    return scores


def plugin_scores() -> tuple[dict[str, Score], list[str]]:
    """Return the scores of plugins by name, and one message per plugin that failed."""
    scores: dict[str, Score] = {}
    failures: list[str] = []
    for plugin in registry().plugins:
        if plugin.status != "loaded":
            continue
        try:
            for score in _load_scores(plugin.name, plugin.module):
                scores[score.name] = score
        except Exception as error:  # a broken plugin must not hide the scores of the others
            failures.append(f"{plugin.label}: {reason(error)}")
    return scores, failures


def _load_scores(name: str, module: str) -> list[Score]:
    scores = hook_results(name, module, "sktransfer_transferability_scores")
    for score in scores:
        if not isinstance(score, Score):
            raise PluginError(f"{name!r} must give Score objects, not {type(score).__name__}")
        if not score.name.startswith(f"{name}/"):
            raise PluginError(
                f"{score.name!r} lacks the prefix '{name}/': names of scores begin with the entry point's"
            )
    return scores
