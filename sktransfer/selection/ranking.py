"""Rank backbones, and each of their layers, by how well their features suit some labels."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy.stats import weightedtau
from sklearn.base import BaseEstimator
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_consistent_length

from sktransfer.backbones.backbone import Backbone
from sktransfer.engine.forward import LayerOutput
from sktransfer.exceptions import DisagreementWarning, InvalidParameterError
from sktransfer.samples.base import Samples
from sktransfer.samples.validation import check_samples
from sktransfer.selection.arrays import kind_of
from sktransfer.selection.candidates import Candidates, Run, layer_taps, named, run_once
from sktransfer.selection.probing import Probe, make_probe
from sktransfer.selection.scores import Score, resolve_scores

if TYPE_CHECKING:
    import torch

__all__ = ["Scored", "rank_backbones", "score_layers"]

AGREEMENT = 0.5  # weighted Kendall tau with the probe below which a score is not to be relied upon here
_FEW = 3  # fewer rows than that have no order to speak of


def rank_backbones(
    candidates: Candidates,
    X: Any,
    y: Any,
    *,
    layers: str | Sequence[int | str] = "all",
    metrics: Sequence[str] | str = ("h_score", "logme", "knn"),
    probe: Any = False,
    target: str = "auto",
    subsample: float | None = None,
    cv: Any = 3,
    pooling: str = "auto",
    image_shape: tuple[int, ...] | None = None,
    batch_size: int | str = "auto",
    device: str | torch.device = "auto",
    precision: str = "float32",
    cache: str | os.PathLike[str] | None = "memory",
    random_state: Any = None,
    verbose: int = 0,
) -> pd.DataFrame:
    """Rank backbones and their layers by how well their features suit the targets; nothing is trained for it.

    Each backbone sees each sample once, whatever number of layers and scores is asked for.

    Parameters
    ----------
    candidates : list of str or Backbone, or dict of str to these
        Names or loaded backbones, all of one modality. A dict gives them names of its own: `{"from scratch":
        load_backbone("tiny/cnn", weights="random")}`.
    X : array-like, Series, one-column DataFrame or list of n_samples
        Images or texts.
    y : array-like of shape (n_samples,) or (n_samples, n_targets)
        Labels, numbers, or columns of 0 and 1 for several labels a sample.
    layers : "all", "last" or list of int and str, default="all"
        Which stages, as `layer` of `ImageFeaturizer` names them.
    metrics : sequence of str, default=("h_score", "logme", "knn")
        The scores; "leep" and "nce" judge the backbone's own head. The rows are sorted by the first. A score that is
        not defined (`h_score` of numbers, `leep` without a head or below the last layer) is NaN.
    probe : bool or estimator, default=False
        Whether a linear model is cross-validated on each layer as well, which takes longer and says more; an
        estimator takes its place.
    target : {"auto", "classes", "numbers", "multilabel"}, default="auto"
        What y holds: "auto" takes whole numbers for classes, and columns of 0 and 1 for several labels a sample.
    subsample : int or float, default=None
        How many of the samples are looked at, or which share, drawn with each class's share kept; None for all.
    cv : int or splitter, default=3
        Folds of the probe.
    pooling : str, default="auto"
        As in `ImageFeaturizer` and `TextFeaturizer`.
    image_shape : tuple of int, default=None
        As in `ImageFeaturizer`.
    batch_size : int or "auto", default="auto"
        As in `ImageFeaturizer`.
    device : str or torch.device, default="auto"
        As in `ImageFeaturizer`.
    precision : {"float32", "bfloat16", "float16", "auto"}, default="float32"
        As in `ImageFeaturizer`.
    cache : "memory", path or None, default="memory"
        Keeps the features of each layer for whoever asks next, as an `ImageFeaturizer` of the layer that is chosen.
    random_state : int, RandomState or None, default=None
        Draws the subsample and the folds.
    verbose : int, default=0
        1 shows a progress bar a backbone.

    Returns
    -------
    ranking : DataFrame
        One row a layer, the best by the first score on top: backbone, layer, the scores, with a probe `probe_mean` and
        `probe_std` over folds, `seconds` (that the backbone's pass took, for all of its layers) and `bytes` (of the
        stages up to the layer). The index counts candidates and layers in order, so that `sort_index()` undoes the
        sorting. With a probe, `attrs["agreement"]` holds each score's weighted Kendall tau with it.

    Raises
    ------
    InvalidParameterError
        If a parameter is not allowed.
    InvalidSampleError
        If a sample cannot be used.

    Warns
    -----
    DisagreementWarning
        If a score ranks the rows otherwise than the probe does (weighted Kendall tau below 0.5), and the row that it
        chooses costs more of the probe's score than that varies over folds.

    Notes
    -----
    Scores compare layers and backbones on the same samples; they foretell no accuracy, and studies disagree on which
    is best [1]_. H-score in particular rises with the number of features, even of random ones: among backbones of
    different width LogME and kNN are the safer guides. With enough labels to spare, ask the probe.

    References
    ----------
    .. [1] S. Ibrahim et al., "Newer is not always better: Rethinking transferability metrics, their peculiarities,
       stability and performance", ECML PKDD 2022.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sktransfer import rank_backbones
    >>> X, y = load_digits(return_X_y=True)
    >>> ranking = rank_backbones(["tiny/cnn"], X[:200] / 16, y[:200], metrics=["knn", "logme"])
    >>> ranking["layer"].iloc[0] in ("block3", "block4", "block5")
    True
    """
    backbones = named(candidates)
    modality = next(iter(backbones.values())).modality
    samples = check_samples(BaseEstimator(), X, modality, image_shape=image_shape, reset=True)
    kind, targets = kind_of(y, target), np.asarray(y)
    check_consistent_length(samples, targets)
    rng = check_random_state(random_state)
    rows = _subsample(subsample, targets, kind, rng)
    taps = {name: layer_taps(backbone, layers, pooling) for name, backbone in backbones.items()}
    scores = resolve_scores(metrics, kind)
    judge = make_probe(probe, cv, kind, rng)
    run = Run.of(device, precision, batch_size, cache, verbose)
    found = [
        _row(scored, scores, judge, targets[rows])
        for scored in score_layers(backbones, taps, samples.take(rows), targets[rows], kind, scores, run)
    ]
    table = pd.DataFrame(found)
    if judge is not None:
        table.attrs["agreement"] = _agreement(table, scores)
    return table.sort_values(scores[0].name, ascending=False, kind="stable")


@dataclass(frozen=True)
class Scored:
    """One layer of one backbone, and what it is worth.

    Parameters
    ----------
    name : str
        The backbone's, as the ranking shows it.
    backbone : Backbone
        Itself.
    tap : LayerOutput
        The layer, and how it is pooled.
    features : ndarray of shape (n_samples, n_features), float32
        What it gives.
    scores : dict of str to float
        Score by name; NaN where it is not defined.
    seconds : float
        What the backbone's pass took.
    """

    name: str
    backbone: Backbone
    tap: LayerOutput
    features: np.ndarray
    scores: dict[str, float]
    seconds: float

    @property
    def layer(self) -> str:
        """The stage's name."""
        return self.backbone.stage_names[self.tap.stop - 1]

    @property
    def n_bytes(self) -> int:
        """What the stages up to the layer take, weights that several share counted once."""
        stages = self.backbone.stages[: self.tap.stop]
        tensors = {tensor.data_ptr(): tensor for tensor in [*stages.parameters(), *stages.buffers()]}
        return sum(tensor.nbytes for tensor in tensors.values())


def score_layers(
    backbones: dict[str, Backbone],
    taps: dict[str, list[LayerOutput]],
    samples: Samples,
    y: np.ndarray,
    kind: str,
    scores: Sequence[Score],
    run: Run,
) -> Iterator[Scored]:
    """Yield each layer of each backbone with its scores; one pass a backbone, whose features go with it.

    Parameters
    ----------
    backbones : dict of str to Backbone
        By name.
    taps : dict of str to list of LayerOutput
        The layers of each.
    samples : Samples
        Validated.
    y : ndarray
        Targets.
    kind : {"classes", "numbers", "multilabel"}
        What they are.
    scores : sequence of Score
        Which scores.
    run : Run
        Where and how the backbones run.
    """
    with_head = any(score.takes == "probabilities" for score in scores)
    for name, backbone in backbones.items():
        one = run_once(backbone, samples, taps[name], run, name=name, with_head=with_head)
        for tap, features in zip(taps[name], one.features):
            is_last = tap.stop == len(backbone.stages)
            values = {"features": features, "probabilities": one.probabilities if is_last else None}
            found = {score.name: _score(score, values[score.takes], y, kind) for score in scores}
            yield Scored(name, backbone, tap, features, found, one.seconds)


def _score(score: Score, values: np.ndarray | None, y: np.ndarray, kind: str) -> float:
    return float("nan") if values is None or kind not in score.targets else score(values, y, kind)


def _row(scored: Scored, scores: Sequence[Score], judge: Probe | None, y: np.ndarray) -> dict[str, Any]:
    row: dict[str, Any] = {"backbone": scored.name, "layer": scored.layer}
    row |= {score.name: scored.scores[score.name] for score in scores}
    if judge is not None:
        accuracies = judge(scored.features, y)
        row |= {"probe_mean": accuracies.mean(), "probe_std": accuracies.std()}
    return row | {"seconds": scored.seconds, "bytes": scored.n_bytes}


def _subsample(asked: float | None, y: np.ndarray, kind: str, rng: np.random.RandomState) -> np.ndarray:
    n = len(y)
    if asked is None:
        return np.arange(n)
    share = isinstance(asked, float)
    if isinstance(asked, bool) or not isinstance(asked, Real) or not (0 < asked <= 1 if share else asked >= 2):
        raise InvalidParameterError(f"subsample={asked!r} must be None, an int of at least 2, or a float in (0, 1]")
    if asked >= (1 if share else n):
        return np.arange(n)
    try:
        rows, _ = train_test_split(
            np.arange(n), train_size=asked, stratify=y if kind == "classes" else None, random_state=rng
        )
    except ValueError as error:
        raise InvalidParameterError(f"subsample={asked!r} cannot be drawn from {n} samples: {error}") from error
    return np.sort(rows)


def _agreement(table: pd.DataFrame, scores: Sequence[Score]) -> dict[str, float]:
    """Return each score's weighted Kendall tau with the probe, and warn where they disagree."""
    found = {}
    for score in scores:
        rows = table[table[score.name].notna() & table["probe_mean"].notna()]
        if len(rows) < _FEW:
            continue
        found[score.name] = float(weightedtau(rows[score.name], rows["probe_mean"]).statistic)
        chosen, best = rows.loc[rows[score.name].idxmax()], rows.loc[rows["probe_mean"].idxmax()]
        # Rows that the probe cannot tell apart have no order to agree with: the choice must cost more than its noise.
        costs = best["probe_mean"] - chosen["probe_mean"] > max(best["probe_std"], chosen["probe_std"])
        if costs and not found[score.name] >= AGREEMENT:
            warnings.warn(
                f"{score.name} ranks these {len(rows)} rows otherwise than the probe does (weighted Kendall tau "
                f"{found[score.name]:.2f}): it chooses {chosen['backbone']}, {chosen['layer']}, with which the probe "
                f"reaches {chosen['probe_mean']:.3f}; the probe's best is {best['backbone']}, {best['layer']} with "
                f"{best['probe_mean']:.3f}. Go by the probe here.",
                DisagreementWarning,
                stacklevel=3,
            )
    return found
