"""Measurement of a backbone on the processor at hand, for `sktransfer tune`."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from sktransfer._validation import check_float
from sktransfer.backbones.backbone import Backbone
from sktransfer.backbones.batching import batching_of
from sktransfer.backbones.loading import load_backbone
from sktransfer.engine.compute import PRECISIONS, Compute
from sktransfer.engine.forward import forward
from sktransfer.engine.inputs import PreprocessedSamples
from sktransfer.engine.layers import LayerOutput
from sktransfer.engine.workers import MOST
from sktransfer.exceptions import InvalidParameterError, SktransferError, warn
from sktransfer.machine.processor import processor, this_processor
from sktransfer.machine.tuned import Choice, Record, check_writable, read_records, structure_of, write
from sktransfer.samples.images import check_images
from sktransfer.samples.texts import check_texts

__all__ = ["describe_records", "tune"]

_SCALES = (0.5, 1.0, 2.0, 4.0)  # sizes of batches that are tried, relative to the default
_WORTH = 1.03  # times as fast as the default, below which the default stays: less is within the noise
_PASSES = 80  # that share the time; a pass has as many samples as fit
_FEW, _MANY = 16, 2048  # samples of a pass
_BUSY = 0.6  # share of the threads' time below which other programs have taken the rest
_WORDS = "a film about the sea and its people that nobody saw in a year of great plays but few of them good"
_MEDIAN_WORDS, _MOST_WORDS = 20, 250


def tune(name: str, *, seconds: float = 20.0) -> Record:
    """Measure how a backbone runs fastest on this processor, and keep the result in the user's cache folder.

    Sizes of automatic batches and numbers of workers are tried in turn, in each precision that the processor does not
    emulate. From the next call on, `batch_size="auto"` follows the result. Outputs stay the same.

    Parameters
    ----------
    name : str
        Name of the backbone.
    seconds : float, default=20.0
        Time for the measurement.

    Raises
    ------
    InvalidParameterError
        If the backbone is not given by name, or `seconds` is not positive.
    StoreError
        If the result cannot be written.
    """
    check_float("seconds", seconds, exclude_minimum=True)
    backbone = load_backbone(name)
    if None not in backbone.towers:
        raise InvalidParameterError(f"{backbone.name!r} joins several networks. Tune each of them by its name")
    check_writable()
    here = this_processor()
    dtypes = {key: dtype for key, dtype in PRECISIONS.items() if here.multiplies(dtype)}
    inputs = _samples(backbone, seconds / _PASSES)
    found = {key: _choose(backbone, inputs, dtype, seconds / len(dtypes)) for key, dtype in dtypes.items()}
    # Lower precisions lose digits, so they come first only if that is worth it.
    order = sorted(found, key=lambda key: -found[key].per_second * (_WORTH if key == "float32" else 1))
    record = Record(
        backbone=backbone.name,
        structure=structure_of(backbone),
        machine=processor(torch.device("cpu")),
        n_threads=torch.get_num_threads(),
        measured=time.strftime("%Y-%m-%d %H:%M"),
        choices={key: found[key] for key in order},
    )
    write(record)
    return record


def describe_records() -> list[dict[str, str]]:
    """Return one row per record with backbone, date, fastest precision, gain, and whether it is used."""
    rows = []
    for path, record in read_records().items():
        if not isinstance(record, Record):
            rows.append({"backbone": f"({path.name})", "measured": "", "fastest": "", "gain": "", "used": str(record)})
            continue
        fastest, choice = next(iter(record.choices.items()), ("", None))
        rows.append(
            {
                "backbone": record.backbone,
                "measured": record.measured,
                "fastest": fastest,
                "gain": "" if choice is None else f"{choice.gain:.2f}",
                "used": _use(record),
            }
        )
    return rows


def _use(record: Record) -> str:
    reason = record.stale()
    if not reason:
        try:
            reason = record.stale(structure_of(load_backbone(record.backbone, weights="random")))
        except SktransferError as error:
            reason = f"the backbone cannot be loaded: {' '.join(str(error).split())}"
    return f"ignored: {reason}" if reason else "yes"


def _samples(backbone: Backbone, seconds: float) -> PreprocessedSamples:
    """Return samples that one pass in float32 takes some seconds for."""
    n, compute = _FEW, Compute(torch.device("cpu"))
    while True:
        inputs = PreprocessedSamples(_draw(backbone, n), backbone.preprocess)
        _run(backbone, inputs, compute)  # the first pass of a network prepares it
        taken = _run(backbone, inputs, compute)[0]
        if taken >= seconds / 2 or n >= _MANY:
            return inputs
        n = min(_MANY, max(2 * n, math.ceil(n * min(8.0, seconds / max(taken, 1e-4)))))


def _draw(backbone: Backbone, n: int) -> Any:
    rng = np.random.default_rng(0)
    if backbone.modality == "text":
        words = _WORDS.split()
        lengths = np.exp(rng.normal(np.log(_MEDIAN_WORDS), 0.7, n)).astype(int).clip(1, _MOST_WORDS)  # (n,)
        return check_texts([f"{' '.join(rng.choice(words, length))} {row}" for row, length in enumerate(lengths)])
    (pixels,) = batching_of(backbone.preprocess).batch_costs(backbone.preprocess, [None])
    side = math.isqrt(pixels)
    return check_images(rng.integers(0, 256, (n, side, side, 3), np.uint8))


def _run(backbone: Backbone, inputs: PreprocessedSamples, compute: Compute) -> tuple[float, float]:
    """Return the seconds of a pass, and those of the processor."""
    started, used = time.perf_counter(), time.process_time()
    for _ in forward(backbone, inputs, [LayerOutput(len(backbone.stages), backbone.pooling)], compute=compute):
        pass
    return time.perf_counter() - started, time.process_time() - used


def _choose(backbone: Backbone, inputs: PreprocessedSamples, dtype: torch.dtype, seconds: float) -> Choice:
    """Return the fastest size of batches and number of workers, of those that are tried.

    Sizes are compared by the time of the processor, which other programs hardly change. Fewer workers, of which each
    has several threads, must be faster by the clock in each round.
    """
    device, n_workers = torch.device("cpu"), min(MOST, torch.get_num_threads())
    default = Compute(device, dtype).budget(inputs.batching.cost_unit)
    tried = [Choice(round(default * scale), n_workers) for scale in _SCALES]
    tried += [Choice(budget, 1) for budget in (default, default * n_workers) if n_workers > 1]
    programs = [Compute(device, dtype, tuned=choice) for choice in tried]
    taken = _in_turn(lambda one: _run(backbone, inputs, one), programs, seconds)  # (rounds, programs, 2)
    usual = tried.index(Choice(default, n_workers))
    gains = taken[:, [usual]] / taken  # (rounds, programs, 2)
    n = len(_SCALES)
    gain = np.append(np.median(gains[:, :n, 1], axis=0), gains[:, n:, 0].min(axis=0))  # (programs,)
    best = int(gain.argmax()) if gain.max() >= _WORTH else usual
    wall, used = np.median(taken[:, usual], axis=0).tolist()
    if used / wall / n_workers < _BUSY:
        warn(
            f"in {str(dtype).removeprefix('torch.')}, {used / wall:.1f} of {n_workers} threads were at work, because "
            "other programs ran too. Tune again when they have ended"
        )
    rate = len(inputs) / float(np.median(taken[:, best, 0]))
    return Choice(tried[best].budget, tried[best].workers, round(rate, 1), round(float(gain[best]), 2))


def _in_turn(run: Callable[[Compute], tuple[float, float]], programs: Sequence[Compute], seconds: float) -> np.ndarray:
    """Return the times of each program in some rounds, (rounds, programs, 2), after a pass that warms up."""
    ends, rounds = time.perf_counter() + seconds, list[list[tuple[float, float]]]()
    run(programs[0])
    while not rounds or time.perf_counter() + sum(wall for wall, _ in rounds[-1]) < ends:
        places = range(len(programs))[:: -1 if len(rounds) % 2 else 1]
        taken = {place: run(programs[place]) for place in places}
        rounds.append([taken[place] for place in range(len(programs))])
    return np.array(rounds)
