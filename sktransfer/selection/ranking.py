"""Rankings of backbones and their layers by transferability scores."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy.stats import weightedtau
from sklearn.base import BaseEstimator
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_consistent_length

from sktransfer._validation import is_real
from sktransfer.backbones.backbone import Backbone
from sktransfer.cache.types import Cache
from sktransfer.engine.forward import LayerOutput
from sktransfer.engine.leave_one_out import scale_towers, scaled_towers
from sktransfer.exceptions import DisagreementWarning, InvalidParameterError, warn
from sktransfer.samples.base import Samples
from sktransfer.samples.validation import check_samples
from sktransfer.selection.candidates import (
    Candidates,
    RunSettings,
    resolve_candidate_layers,
    resolve_candidates,
    run_backbone,
)
from sktransfer.selection.probing import Probe, make_probe
from sktransfer.selection.scores import Score, resolve_scores
from sktransfer.selection.validation import resolve_target_type

if TYPE_CHECKING:
    import torch

__all__ = ["ScoredLayer", "rank_backbones", "score_layers"]

MIN_AGREEMENT = 0.5  # weighted Kendall tau with the probe, below which a score is unreliable on the samples
MIN_ROWS = 3  # fewer rows have no order to compare


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
    cache: Cache = "memory",
    random_state: Any = None,
    verbose: int = 0,
) -> pd.DataFrame:
    """Rank backbones and their layers by how well their features suit the targets, without training.

    Each backbone runs once over each sample, for all layers and scores.

    Parameters
    ----------
    candidates : list of str or Backbone, or dict of str to these
        Names or loaded backbones, all of one modality or joined of the same columns. A dict gives the names shown, as
        in `{"from scratch": load_backbone("tiny/cnn", weights="random")}`.
    X : array-like, Series, one-column DataFrame or list of n_samples
        Images or texts. Rows of several columns for joined backbones.
    y : array-like of shape (n_samples,) or (n_samples, n_targets)
        Labels, numbers, or columns of 0 and 1 for several labels per sample.
    layers : "all", "last" or list of int and str, default="all"
        Stages by index or name, as in the parameter `layer` of `ImageFeaturizer`.
    metrics : sequence of str, default=("h_score", "logme", "knn")
        Scores. Rows are sorted by the first. "leep" and "nce" judge the backbone's own head. A score is NaN if it is
        not defined: `h_score` for numbers, `leep` without a head or below the last layer.
    probe : bool or estimator, default=False
        Whether to cross-validate a linear model on each layer as well, which takes longer and is more reliable. An
        estimator replaces the linear model.
    target : {"auto", "classes", "numbers", "multilabel"}, default="auto"
        Meaning of y. "auto" reads whole numbers as classes, and columns of 0 and 1 as several labels per sample.
    subsample : int or float, default=None
        Number or fraction of the samples to use, stratified by class. None uses all.
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
    precision : {"float32", "bfloat16", "float16", "auto", "int8"}, default="float32"
        As in `ImageFeaturizer`.
    cache : "memory", path, URL, list or None, default="memory"
        Store for the features of each layer, from which later estimators read them, such as an `ImageFeaturizer` of
        the best layer.
    random_state : int, RandomState or None, default=None
        Seed of the subsample and the folds.
    verbose : int, default=0
        1 shows one progress bar per backbone.

    Returns
    -------
    ranking : DataFrame
        One row per layer, sorted by the first score, best first. A joined backbone has a row per layer of each tower,
        and one for the highest layers of all towers together, scaled as `JoinedFeaturizer` does. Columns are
        backbone, layer, the scores, `probe_mean` and `probe_std` over folds if there is a probe, `seconds` (duration of
        the backbone's pass, for all its layers) and `bytes` (memory of the stages up to the layer). The index counts
        candidates and layers in order, so `sort_index()` undoes the sorting. `attrs["n_samples"]` is the number of
        samples used. With a probe, `attrs["agreement"]` holds each score's weighted Kendall tau with the probe.

    Raises
    ------
    InvalidParameterError
        If a parameter is not allowed.
    InvalidSampleError
        If a sample cannot be used.

    Warns
    -----
    DisagreementWarning
        If a score ranks the rows differently than the probe does (weighted Kendall tau below 0.5), and the row with
        the best score loses more of the probe's score than its standard deviation over folds.

    Notes
    -----
    Scores rank layers and backbones on the same samples. They do not predict accuracy, and studies disagree on which
    is best [1]_. The H-score rises with the number of features, even of random ones. LogME and kNN are safer among
    backbones of different width. If there are enough labels, use the probe.

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
    backbones = resolve_candidates(candidates)
    takes = next(iter(backbones.values())).takes
    samples = check_samples(BaseEstimator(), X, takes, image_shape=image_shape, reset=True)
    target_type, targets = resolve_target_type(y, target), np.asarray(y)
    check_consistent_length(samples, targets)
    rng = check_random_state(random_state)
    rows = _draw_subsample(subsample, targets, target_type, rng)
    layers_by_name = {name: resolve_candidate_layers(backbone, layers, pooling) for name, backbone in backbones.items()}
    scores = resolve_scores(metrics, target_type)
    cross_validate = make_probe(probe, cv, target_type, rng)
    settings = RunSettings.from_parameters(device, precision, batch_size, cache, verbose)
    scored_layers = score_layers(
        backbones, layers_by_name, samples.take(rows), targets[rows], target_type, scores, settings
    )
    ranking = pd.DataFrame([_make_row(scored, cross_validate, targets[rows]) for scored in scored_layers])
    ranking.attrs["n_samples"] = len(rows)
    if cross_validate is not None:
        ranking.attrs["agreement"] = _check_agreement(ranking, scores)
    return ranking.sort_values(scores[0].name, ascending=False, kind="stable")


@dataclass(frozen=True)
class ScoredLayer:
    """Features and scores of one layer of one backbone, or of one layer of each tower.

    Parameters
    ----------
    name : str
        Name of the backbone in the ranking.
    backbone : Backbone
        The backbone.
    layers : tuple of LayerOutput
        The layer and its pooling, or those of all towers.
    features : ndarray of shape (n_samples, n_features), float32
        Pooled output of the layer.
    scores : dict of str to float
        Scores by name, NaN if not defined.
    seconds : float
        Duration of the backbone's forward pass.
    """

    name: str
    backbone: Backbone
    layers: tuple[LayerOutput, ...]
    features: np.ndarray
    scores: dict[str, float]
    seconds: float

    @property
    def stage_name(self) -> str:
        """Name of the layer's stage, or of the stages of all towers."""
        return "+".join(layer.stage_name(self.backbone) for layer in self.layers)

    @property
    def n_bytes(self) -> int:
        """Memory of the stages up to the layer. Shared weights count once."""
        parts = [self.backbone.towers[layer.tower].stages[: layer.stop] for layer in self.layers]
        tensors = {one.data_ptr(): one for stages in parts for one in [*stages.parameters(), *stages.buffers()]}
        return sum(tensor.nbytes for tensor in tensors.values())


def score_layers(
    backbones: dict[str, Backbone],
    layers: dict[str, list[LayerOutput]],
    samples: Samples,
    y: np.ndarray,
    target_type: str,
    scores: Sequence[Score],
    settings: RunSettings,
) -> Iterator[ScoredLayer]:
    """Yield each layer of each backbone with its scores, from one forward pass per backbone.

    Features of a backbone are released before the next one runs.

    Parameters
    ----------
    backbones : dict of str to Backbone
        Backbones by name.
    layers : dict of str to list of LayerOutput
        Layers by name of the backbone.
    samples : Samples
        Validated samples.
    y : ndarray of shape (n_samples,) or (n_samples, n_targets)
        Targets.
    target_type : {"multiclass", "continuous", "multilabel-indicator"}
        Type of the targets.
    scores : sequence of Score
        Scores to compute.
    settings : RunSettings
        Device, precision, batch size and store.
    """
    with_head = any(score.takes == "probabilities" for score in scores)
    for name, backbone in backbones.items():
        outputs = run_backbone(backbone, samples, layers[name], settings, name=name, with_head=with_head)
        single = [((layer,), features) for layer, features in zip(layers[name], outputs.features, strict=True)]
        for of_row, features in [*single, *_of_all_towers(backbone, layers[name], outputs.features)]:
            is_last = of_row[0].stop == len(backbone.stages)
            values = {"features": features, "probabilities": outputs.probabilities if is_last else None}
            by_name = {score.name: _compute(score, values[score.takes], y, target_type) for score in scores}
            yield ScoredLayer(name, backbone, of_row, features, by_name, outputs.seconds)


def _of_all_towers(
    backbone: Backbone, layers: Sequence[LayerOutput], features: Sequence[np.ndarray]
) -> list[tuple[tuple[LayerOutput, ...], np.ndarray]]:
    """Return the highest layers of all towers of a joined backbone, with their features; an empty list for others."""
    if None in backbone.towers:
        return []
    highest = {layer.tower: index for index, layer in enumerate(layers)}
    for index, layer in enumerate(layers):
        if layer.stop > layers[highest[layer.tower]].stop:
            highest[layer.tower] = index
    parts = [features[index] for index in highest.values()]
    joined, widths = np.concatenate(parts, axis=1), [one.shape[1] for one in parts]  # (n_samples, n_features)
    scaling = scale_towers(joined, widths, np.ones(len(joined)))
    return [(tuple(layers[index] for index in highest.values()), scaled_towers(joined, widths, scaling))]


def _compute(score: Score, values: np.ndarray | None, y: np.ndarray, target_type: str) -> float:
    return float("nan") if values is None or not score.supports(target_type) else score(values, y, target_type)


def _make_row(scored: ScoredLayer, cross_validate: Probe | None, y: np.ndarray) -> dict[str, Any]:
    row: dict[str, Any] = {"backbone": scored.name, "layer": scored.stage_name, **scored.scores}
    if cross_validate is not None:
        accuracies = cross_validate(scored.features, y)  # (n_folds,)
        row |= {"probe_mean": accuracies.mean(), "probe_std": accuracies.std()}
    return row | {"seconds": scored.seconds, "bytes": scored.n_bytes}


def _draw_subsample(subsample: float | None, y: np.ndarray, target_type: str, rng: np.random.RandomState) -> np.ndarray:
    """Return the rows to use, in order."""
    n = len(y)
    if subsample is None:
        return np.arange(n)
    is_fraction = isinstance(subsample, float)
    if not is_real(subsample) or not (0 < subsample <= 1 if is_fraction else subsample >= 2):
        raise InvalidParameterError(f"subsample={subsample!r} must be None, an int of at least 2, or a float in (0, 1]")
    if subsample >= (1 if is_fraction else n):
        return np.arange(n)
    labels = y if target_type == "multiclass" else None
    try:
        rows, _ = train_test_split(np.arange(n), train_size=subsample, stratify=labels, random_state=rng)
    except ValueError as error:
        raise InvalidParameterError(f"subsample={subsample!r} cannot be drawn from {n} samples: {error}") from error
    return np.sort(rows)


def _check_agreement(ranking: pd.DataFrame, scores: Sequence[Score]) -> dict[str, float]:
    """Return each score's weighted Kendall tau with the probe, and warn if a score disagrees with it."""
    agreement = {}
    for score in scores:
        rows = ranking[ranking[score.name].notna() & ranking["probe_mean"].notna()]
        if len(rows) < MIN_ROWS:
            continue
        agreement[score.name] = float(weightedtau(rows[score.name], rows["probe_mean"]).statistic)
        chosen, best = rows.loc[rows[score.name].idxmax()], rows.loc[rows["probe_mean"].idxmax()]
        # Differences within the probe's noise have no order to agree with: the choice must lose more than that.
        loses = best["probe_mean"] - chosen["probe_mean"] > max(best["probe_std"], chosen["probe_std"])
        if loses and not agreement[score.name] >= MIN_AGREEMENT:
            warn(
                f"{score.name} ranks these {len(rows)} rows differently than the probe does (weighted Kendall tau "
                f"{agreement[score.name]:.2f}): it chooses {chosen['backbone']}, {chosen['layer']}, with a probe score "
                f"of {chosen['probe_mean']:.3f}; the probe's best is {best['backbone']}, {best['layer']} with "
                f"{best['probe_mean']:.3f}. Trust the probe here.",
                DisagreementWarning,
            )
    return agreement
