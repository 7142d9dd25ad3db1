"""Recommendation of backbones to start with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator

from sktransfer._validation import check_int, check_option
from sktransfer.backbones.loading import load_backbone
from sktransfer.backbones.registry import find_spec, registry
from sktransfer.backbones.spec import MODALITIES, BackboneSpec
from sktransfer.config import config_context, get_config
from sktransfer.engine.choice_targets import ChoiceTargets
from sktransfer.exceptions import InvalidParameterError, SktransferError, WeightsError
from sktransfer.pipelines.cells import recognize_samples
from sktransfer.pipelines.table import read_columns
from sktransfer.samples.columns import is_frame, quoted
from sktransfer.samples.validation import check_samples
from sktransfer.selection.candidates import RunSettings, resolve_candidate_layers, run_backbone
from sktransfer.selection.ranking import rank_backbones
from sktransfer.weights.hub import hub_cache
from sktransfer.weights.locate import is_here, locate

__all__ = ["recommend_backbones"]

SCORE = "logme"  # comparable between backbones of different width
_TIMED = 64  # samples that the speed is measured on without y
_COLUMNS = ["name", "modality", "score", "layer", "samples_per_second", "n_parameters", "bytes", "input_size"]
_COLUMNS += ["accuracy", "benchmark", "language", "licence", "available", "reason"]
_LANGUAGES = {"en": "reads English", "multilingual": "reads many languages"}


@dataclass(frozen=True)
class Budget:
    """Limits of the size of a network.

    Parameters
    ----------
    n_parameters : int
        Largest number of parameters, without those of the table of token embeddings, which is only read.
    side : int
        Largest side of the images that it reads, in pixels.
    """

    n_parameters: int
    side: int

    def allows(self, candidate: _Candidate) -> bool:
        """Return whether a candidate is within the limits. Unknown sizes are not."""
        size = candidate.spec.input_size or ()
        is_small = candidate.spec.modality == "text" or max(size, default=0) <= self.side
        return candidate.n_weights is not None and candidate.n_weights <= self.n_parameters and is_small


BUDGETS = {"laptop": Budget(30_000_000, 256), "gpu": Budget(400_000_000, 512)}


@dataclass
class _Candidate:
    """A backbone, its facts and measurements."""

    spec: BackboneSpec
    is_here: bool
    n_bytes: int | None
    score: float = float("nan")
    layer: str | None = None
    speed: float = float("nan")
    remark: str = ""

    @property
    def n_parameters(self) -> int | None:
        """Number of parameters. If the provider does not state it, that of float32 weights of this size."""
        known = self.spec.n_parameters
        return self.n_bytes // 4 if known is None and self.n_bytes is not None else known

    @property
    def n_weights(self) -> int | None:
        """Number of parameters that a sample is computed with."""
        n_parameters = self.n_parameters
        return None if n_parameters is None else n_parameters - (self.spec.n_embedding_parameters or 0)

    def reason(self) -> str:
        """Return in words what speaks for and against it."""
        parts = [self.remark] if self.remark else []
        if self.spec.accuracy is not None:
            parts.append(f"published accuracy {self.spec.accuracy:.1%} on {self.spec.benchmark}")
        elif not parts:
            parts.append("no published accuracy is known here")
        if self.spec.language is not None:
            parts.append(_LANGUAGES.get(self.spec.language, f"reads {self.spec.language!r}"))
        if self.is_here:
            parts.append("its weights are here")
        else:
            size = "" if self.n_bytes is None else f", {self.n_bytes / 1e6:.0f} MB"
            parts.append(f"its weights would be downloaded{size}")
        if "NC" in self.spec.licence.split("-") or "non-commercial" in self.spec.licence:
            parts.append("its licence excludes commercial use")
        return "; ".join(parts)

    def row(self) -> tuple[Any, ...]:
        spec = self.spec
        facts = (self.n_parameters, self.n_bytes, spec.input_size, spec.accuracy, spec.benchmark, spec.language)
        ends = (spec.licence, "here" if self.is_here else "fetch", self.reason())
        return (spec.name, spec.modality, self.score, self.layer, self.speed, *facts, *ends)


def recommend_backbones(
    X: Any = None,
    y: Any = None,
    *,
    modality: str | None = None,
    budget: str | None = "laptop",
    candidates: Sequence[str] | None = None,
    n_best: int = 10,
    subsample: float | None = 500,
    device: Any = "auto",
    random_state: Any = None,
) -> pd.DataFrame:
    """Recommend backbones to start with, best first, without downloading anything.

    Parameters
    ----------
    X : array-like, Series, one-column DataFrame or list of n_samples, default=None
        Images or texts. They tell the modality, and the speed is measured on them.
    y : array-like of shape (n_samples,) or (n_samples, n_outputs), default=None
        Labels or numbers. With X and y, `rank_backbones` ranks the backbones whose weights are here.
    modality : {"image", "text"}, default=None
        Kind of samples. None recognizes it from X, or takes both. Flat rows of pixels need "image".
    budget : {"laptop", "gpu"} or None, default="laptop"
        Size of the networks. "laptop" allows 30 million parameters and images of 256 pixels, "gpu" 400 million and 512
        pixels. None sets no limit. The table of token embeddings does not count, because a text reads few of its rows.
    candidates : list of str, default=None
        Names of backbones. None for those of `list_backbones` and the models of transformers in the cache of the hub.
    n_best : int, default=10
        Number of rows per modality. Further backbones are listed if their weights are here.
    subsample : int or float, default=500
        Number or fraction of the samples that backbones are ranked on. None uses all.
    device : str or torch.device, default="auto"
        As in `ImageFeaturizer`.
    random_state : int, RandomState or None, default=None
        Seed of the subsample.

    Returns
    -------
    backbones : DataFrame
        One row per backbone: name, modality, score (LogME of its best layer) and layer, samples_per_second (all layers,
        on this machine), n_parameters (from the size of the weights if the provider does not state it), bytes,
        input_size, accuracy (as published) and the benchmark that it was measured on, language, licence, available
        ("here", or "fetch" if the weights would be downloaded), reason. Facts that are not known or not measured are
        missing values.

    Raises
    ------
    InvalidParameterError
        If a parameter is not allowed, candidates are of another modality than X, or there is no candidate.
    BackboneNotFoundError
        If a candidate does not exist.
    InvalidSampleError
        If a sample cannot be used.

    See Also
    --------
    list_backbones : Lists all backbones with their facts.
    rank_backbones : Ranks layers and backbones on the data, also with a probe.

    Notes
    -----
    Images come before texts. Among those of a modality, ranked backbones come first, by the score of their best layer.
    The others follow by published accuracy, which tells how well they recognize photos of ImageNet or classify English
    texts (see `list_backbones`). Backbones without one come last, those whose weights are here before others. If
    `set_config(download="never")` is set, backbones whose weights are not here are last in any case.

    For texts of other languages than English, choose a network whose language is "multilingual". Models of E5 were
    trained on texts that begin with `"query: "`. Models of transformers that are neither listed nor in the cache of the
    hub are unknown here. Once `load_backbone("hf/<hub id>")` has downloaded one, it is recommended like the others.

    A score ranks backbones on the same samples. It does not predict accuracy. Compare the first two or three by
    cross-validation, or by `rank_backbones(..., probe=True)`.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sktransfer import recommend_backbones
    >>> recommend_backbones(modality="image", candidates=["torchvision/resnet18", "tiny/cnn"])["name"].tolist()
    ['torchvision/resnet18', 'tiny/cnn']
    >>> X, y = load_digits(return_X_y=True)
    >>> best = recommend_backbones(X[:100] / 16, y[:100], modality="image", candidates=["tiny/cnn"]).iloc[0]
    >>> best["name"], best["licence"]
    ('tiny/cnn', 'non-commercial research (trained on ImageNet images)')
    """
    if budget is not None:
        check_option("budget", budget, tuple(BUDGETS))
    check_int("n_best", n_best, 1)
    if y is not None and X is None:
        raise InvalidParameterError("y is given without X: pass X as well, to rank backbones on the data")
    if modality is not None:
        check_option("modality", modality, MODALITIES)
    if is_frame(X) and X.shape[1] > 1:
        raise _table_error(X)
    if modality is None and X is not None:
        modality = recognize_samples(X, "modality")
    found = _within(_candidates(candidates, modality), budget)
    if X is not None and modality is not None:
        usable = _load_all(found)
        options = {"device": device, "precision": "float32", "batch_size": "auto", "cache": None, "verbose": 0}
        if y is None:
            _time(usable, X, modality, options)
        else:
            _rank(usable, X, y, {**options, "subsample": subsample, "random_state": random_state})
    found.sort(key=_order)
    listed = [
        one
        for kind in MODALITIES
        for place, one in enumerate(one for one in found if one.spec.modality == kind)
        if place < n_best or one.is_here
    ]
    table = pd.DataFrame([one.row() for one in listed], columns=_COLUMNS)
    return table.astype({"n_parameters": "Int64", "bytes": "Int64", "accuracy": "float64"})


def _table_error(X: Any) -> InvalidParameterError:
    """Return the error for a table of several columns, with the columns to pass."""
    columns = [column.name for column in read_columns(X) if column.kind in MODALITIES]
    if not columns:
        return InvalidParameterError(
            f"X has {X.shape[1]} columns, and none of them holds images or texts, which backbones are for"
        )
    which = " or ".join(f"X[{name!r}]" for name in columns[:3])
    return InvalidParameterError(
        f"X has {X.shape[1]} columns, and a backbone reads a single one: pass {which} as X, with the same y"
    )


def _order(candidate: _Candidate) -> tuple[Any, ...]:
    """Return the key that sorts the best candidate first."""
    accuracy = candidate.spec.accuracy
    needs_download = not candidate.is_here and get_config()["download"] == "never"
    is_ranked = not np.isnan(candidate.score)
    facts = (accuracy is None, -(accuracy or 0.0), not candidate.is_here, candidate.n_parameters or 0)
    return (not is_ranked, -candidate.score if is_ranked else 0.0, needs_download, *facts, candidate.spec.name)


def _candidates(names: Sequence[str] | None, modality: str | None) -> list[_Candidate]:
    """Return the candidates with pretrained weights."""
    if names is None:
        specs = [*registry().specs.values(), *_cached_models()]
        specs = [spec for spec in specs if modality is None or spec.modality == modality]
    else:
        if isinstance(names, str) or not all(isinstance(name, str) for name in names):
            raise InvalidParameterError(f"candidates={quoted(names, 80)} must be a list of names of backbones, or None")
        with config_context(download="never"):
            specs = [_find(name) for name in dict.fromkeys(names)]
        modalities = {spec.name: spec.modality for spec in specs}
        if modality is not None and set(modalities.values()) - {modality}:
            raise InvalidParameterError(f"candidates must take {modality}s, as the samples are: {modalities}")
    return [_Candidate(spec, is_here(spec.weights), _n_bytes(spec)) for spec in specs if spec.weights is not None]


def _find(name: str) -> BackboneSpec:
    try:
        return registry().listed(name) or find_spec(name)
    except WeightsError as error:
        raise InvalidParameterError(
            f"candidates: {name!r} is not on this machine, and nothing is downloaded to recommend it; "
            f"load_backbone({name!r}) fetches it"
        ) from error


def _cached_models() -> Iterator[BackboneSpec]:
    """Yield the specs of the other models of transformers in the cache of the hub, as far as they are supported."""
    for folder in sorted(hub_cache().glob("models--*--*")):
        name = f"hf/{folder.name.removeprefix('models--').replace('--', '/')}"
        if name not in registry().specs:
            with config_context(download="never"), suppress(SktransferError):
                yield find_spec(name)


def _n_bytes(spec: BackboneSpec) -> int | None:
    """Return the size of the weights, as the spec states it or as the files have it."""
    assert spec.weights is not None
    if spec.weights.size is not None or not is_here(spec.weights):
        return spec.weights.size
    with config_context(download="never"), suppress(SktransferError):
        path = locate(spec, "pretrained")
        if path is not None:
            files = path.glob("*.safetensors") if path.is_dir() else [path]
            return sum(file.stat().st_size for file in files)
    return None


def _within(candidates: list[_Candidate], budget: str | None) -> list[_Candidate]:
    """Return the candidates within a budget, of which there must be one."""
    limits = None if budget is None else BUDGETS[budget]
    kept = [one for one in candidates if limits is None or limits.allows(one)]
    if not kept and not candidates:
        raise InvalidParameterError(
            "there is no backbone with pretrained weights among the candidates; list_backbones() shows all"
        )
    if not kept and limits is not None:
        sizes = {one.spec.name: one.n_weights for one in candidates[:5]}
        raise InvalidParameterError(
            f"budget={budget!r} allows {limits.n_parameters:,} parameters and images of {limits.side} pixels, and no "
            f"candidate is within it (parameters: {sizes}): pass budget='gpu', or None for no limit"
        )
    return kept


def _load_all(candidates: list[_Candidate]) -> list[_Candidate]:
    """Return the candidates whose weights are here, except those that cannot be loaded."""
    usable = []
    for one in candidates:
        if one.is_here:
            try:
                with config_context(download="never"):
                    load_backbone(one.spec.name)
            except SktransferError as error:
                one.remark = f"could not be loaded ({' '.join(str(error).split())[:120]})"
            else:
                usable.append(one)
    return usable


def _time(candidates: list[_Candidate], X: Any, modality: str, options: dict[str, Any]) -> None:
    """Measure the speed of candidates on the first samples."""
    samples = check_samples(BaseEstimator(), X, modality, reset=True)
    samples = samples.take(range(min(len(samples), _TIMED)))
    settings = RunSettings.from_parameters(**options)
    for one in candidates:
        backbone = load_backbone(one.spec.name)
        outputs = run_backbone(backbone, samples, resolve_candidate_layers(backbone, "all"), settings)
        one.speed = len(samples) / outputs.seconds


def _rank(candidates: list[_Candidate], X: Any, y: Any, options: dict[str, Any]) -> None:
    """Rank candidates on the data."""
    if not candidates:
        return
    numbers = ChoiceTargets.of(y, remedy="").n_classes is None
    names = {one.spec.name: one.spec.name for one in candidates}
    ranking = rank_backbones(
        names, X, y, layers="all", metrics=[SCORE], target="numbers" if numbers else "auto", **options
    )
    best = ranking.drop_duplicates("backbone").set_index("backbone")
    n_samples = ranking.attrs["n_samples"]
    for place, name in enumerate(best.index, start=1):
        one = next(one for one in candidates if one.spec.name == name)
        one.score, one.layer = float(best.at[name, SCORE]), str(best.at[name, "layer"])
        one.speed = n_samples / float(best.at[name, "seconds"])
        rank = f"rank {place} of {len(best)}" if len(best) > 1 else "measured"  # one alone has no rank
        one.remark = f"{rank} on {n_samples} samples, by its layer {one.layer}"
