"""Overhead of small calls over the bare network, per call and per row, with a budget for each.

    SKTRANSFER_TEST_DATA=... python -m benchmarks.speed.overhead [backbone ...]

- one sample: `transform([x])` without a cache, over its network;
- thousand: `transform` of many samples without a cache, over the network on the same batches;
- search: 50 clones that are fitted and transform samples whose outputs are cached, so that no network runs. A search
  does this for each candidate and fold. The first fit is left out.

The network is the copies of the stages that the featurizer runs, with the pooling, on tensors that are read before.
Reading, which is tokenizing or decoding, is a row of its own and part of the overhead. Times are processor times of one
thread, in alternating rounds.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from sklearn.base import clone

from benchmarks.common import Report, sized, some_reviews
from benchmarks.speed.timing import threads
from sktransfer import ImageFeaturizer, TextFeaturizer, clear_cache
from sktransfer.backbones.pooling import pool
from sktransfer.backbones.stages import run_stages
from sktransfer.engine.compute import resolve_compute
from sktransfer.engine.inference import prepare_for_inference
from sktransfer.engine.inputs import PreprocessedSamples
from sktransfer.samples.images import check_images
from sktransfer.samples.texts import check_texts

ROUNDS, CLONES = 7, 50
# By backbone, in microseconds: a call with one sample, a row of a thousand, a clone of a search, a cached row.
BUDGETS = {"tiny/bert": (900.0, 250.0, 3000.0, 40.0), "tiny/cnn": (1200.0, 400.0, 3000.0, 40.0)}


def samples(name: str, n: int) -> Sequence[Any]:
    """Return n short texts, or n small images as one array."""
    if name == "tiny/bert":
        return list(some_reviews(n)[0])
    return np.random.default_rng(0).integers(0, 256, (n, 32, 32, 3), np.uint8)


class Network:
    """The stages as the featurizer runs them, on batches that are read and stacked before."""

    def __init__(self, featurizer: Any, X: Sequence[Any]) -> None:
        self.backbone, self.compute = featurizer.backbone_, resolve_compute("cpu")
        self.check = check_texts if self.backbone.modality == "text" else check_images
        inputs = self.inputs(X)
        tensors = inputs.tensors(range(len(X)))
        costs = inputs.batching.batch_costs(self.backbone.preprocess, tensors)
        parts = self.compute.batches(costs, inputs.batching.cost_unit)
        collate = inputs.batching.collate
        self.batches = [collate([tensors[row] for row in rows], self.backbone.preprocess.pad_value) for rows in parts]
        self.single = [collate([tensor], self.backbone.preprocess.pad_value) for tensor in tensors[:64]]

    def inputs(self, X: Sequence[Any]) -> PreprocessedSamples:
        """Return samples that are read when they are asked for."""
        return PreprocessedSamples(self.check(X), self.backbone.preprocess)

    @torch.inference_mode()
    def __call__(self, batches: Sequence[tuple[torch.Tensor, torch.Tensor | None]]) -> list[np.ndarray]:
        """Return the features of some batches."""
        features = []
        stages = prepare_for_inference(self.backbone, self.compute)
        for values, mask in batches:
            if values.ndim == 4 and stages.channels_last:
                values = values.contiguous(memory_format=torch.channels_last)
            *_, last = run_stages(stages, values, mask)
            pooled = pool(last, mask, self.backbone.pooling, prefix_tokens=self.backbone.prefix_tokens)
            features.append(pooled.numpy())  # (n, n_features)
        return features


def in_rounds(programs: dict[str, Callable[[], Any]], rounds: int) -> dict[str, np.ndarray]:
    """Return the processor microseconds of each program, (rounds,)."""
    taken: dict[str, list[float]] = {name: [] for name in programs}
    for number in range(-1, rounds):  # the first round warms up
        for name in list(programs)[:: 1 if number % 2 == 0 else -1]:
            started = time.thread_time()
            programs[name]()
            if number >= 0:
                taken[name].append((time.thread_time() - started) * 1e6)
    return {name: np.array(values) for name, values in taken.items()}


def measure(report: Report, name: str, n: int, n_single: int, n_cached: int, rounds: int) -> None:
    """Report the three kinds of calls for one backbone."""
    X = samples(name, n)
    kind: Any = TextFeaturizer if name == "tiny/bert" else ImageFeaturizer
    once = kind(name, layer=-1, cache=None).fit(X[:1])
    network = Network(once, X)
    of_call, of_row, of_clone, of_cached = BUDGETS[name]

    taken = in_rounds(
        {
            "transform": lambda: [once.transform(X[row : row + 1]) for row in range(n_single)],
            "network": lambda: network(network.single[:n_single]),
            "reading": lambda: [network.inputs(X[row : row + 1]).tensors([0]) for row in range(n_single)],
        },
        rounds,
    )
    over_network(report, f"{name}, one sample: us per call", taken, n_single, of_call)
    taken = in_rounds(
        {
            "transform": lambda: once.transform(X),
            "network": lambda: network(network.batches),
            "reading": lambda: network.inputs(X).tensors(range(n)),
        },
        rounds,
    )
    over_network(report, f"{name}, {n} samples: us per row", taken, n, of_row)

    clear_cache()
    cached = kind(name, layer=-1).fit(X)
    cached.transform(X)
    taken = in_rounds(
        {
            "one row": lambda: [clone(cached).fit(X[:1]).transform(X[:1]) for _ in range(CLONES)],
            "all rows": lambda: [clone(cached).fit(X[:1]).transform(X[:n_cached]) for _ in range(CLONES)],
        },
        rounds,
    )
    row = (taken["all rows"] - taken["one row"]) / (CLONES * (n_cached - 1))
    judge(report, f"{name}, search: us per clone", taken["one row"] / CLONES, of_clone)
    judge(report, f"{name}, search: us per cached row", row, of_cached)
    clear_cache()


def over_network(report: Report, what: str, taken: dict[str, np.ndarray], n: int, budget: float) -> None:
    """Add the overhead of `transform` over the network, and its budget."""
    each = {name: float(np.median(values)) / n for name, values in taken.items()}
    more = (taken["transform"] - taken["network"]) / n
    judge(report, what, more, budget, network=each["network"], reading=each["reading"])


def judge(report: Report, what: str, found: np.ndarray, budget: float, **more: float) -> None:
    """Add a row of microseconds, and its budget."""
    kept = "kept" if np.median(found) <= budget else "EXCEEDED"
    report.row(what, [float(np.median(found))], budget=budget, verdict=kept, **more)


def main() -> None:
    """Print the overheads and their budgets."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("backbones", nargs="*", default=list(BUDGETS), help=f"any of {', '.join(BUDGETS)}")
    chosen = parser.parse_args().backbones
    report = Report("overhead of small calls over the bare network, one thread", "overhead")
    with threads(1):
        for name in chosen:
            measure(report, name, sized(300, 1000), sized(30, 64), sized(100, 400), sized(3, ROUNDS))
    report.write()


if __name__ == "__main__":
    main()
