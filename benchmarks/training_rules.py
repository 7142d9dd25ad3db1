"""Gain of training over a good probe, and whether rows that are held back can tell it.

Each cell trains the tuner on a draw of a small task, at one rate, number of epochs and freezing depth, from the probe
of `layer="auto"`. It is done twice: on all rows of the draw, and on four fifths of them, with the loss and the score of
the other fifth before and after the training. The tables show

- the gain of training over the probe (`freeze_depth="all"`, `max_epochs=0`) on the test samples, by setting
- the gain of rules that keep the probe unless training helps the rows that were held back

The result of each cell is stored in `results/training_rules.jsonl` when it is measured, so an interrupted run resumes.
"""

from __future__ import annotations

import argparse
import functools
import time
import warnings
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.defaults import draw, networks, take
from benchmarks.remembered import Remembered
from benchmarks.small_tasks import SMALL_TASKS, SmallTask
from sktransfer import FineTuneClassifier, FineTuneRegressor

KEYS = ["task", "size", "draw"]
IMAGES = ("digits", "cifar10", "typeface", "membrane", "orientation", "mnist", "angle", "share")
TEXTS = ("film", "genre", "goods", "docstrings", "nouns", "root")
FIRST = ("digits", "cifar10", "typeface", "orientation", "film", "genre", "angle", "nouns")
# Groups of cells in the order of their usefulness: tasks, sizes, freezing depths, rates, epochs.
PLAN: list[tuple[tuple[str, ...], tuple[int, ...], tuple[Any, ...], tuple[float, ...], tuple[int, ...]]] = [
    (("orientation", "typeface", "cifar10", "digits"), (300,), (0.5,), (3e-4,), (10,)),
    (("film", "genre", "nouns", "angle"), (300,), (-1,), (1e-4, 1e-3), (10,)),
    (("orientation", "typeface"), (300,), (0.5,), (1e-3,), (10, 30)),
    (("angle", "film", "genre"), (300,), (0.5,), (3e-4,), (10,)),
    (("orientation", "typeface", "cifar10"), (1000,), (-1, 0.5), (3e-4,), (10,)),
    (("film", "genre", "angle", "nouns"), (1000,), (-1,), (1e-4, 3e-4), (10,)),
    (FIRST, (100, 300), (-1,), (1e-4, 1e-3), (10,)),
    (FIRST, (300,), (0.5,), (1e-4, 3e-4), (10,)),
    (FIRST, (100, 300), (-1,), (3e-4,), (10, 30)),
    (("membrane", "mnist", "share", "goods", "docstrings", "root"), (100, 300), (-1,), (1e-4, 1e-3), (10,)),
    (("digits", "cifar10", "typeface", "film"), (300,), (0,), (1e-4, 3e-4), (10,)),
    (FIRST, (30,), (-1,), (1e-4, 1e-3), (10,)),
]


def hold_back(y: np.ndarray, seed: int, *, stratify: bool) -> np.ndarray:
    """Return whether each row is held back (n_samples,): every fifth one in an order that keeps classes even."""
    order = np.random.default_rng(seed).permutation(len(y))
    if stratify:
        order = order[np.argsort(y[order], kind="stable")]
    held = np.zeros(len(y), dtype=bool)
    held[order[2::5]] = True
    return held


def fit(task: SmallTask, size: int, seed: int, **parameters: Any) -> dict[str, Any]:
    """Return scores on the test samples of both fits, and the course of the rows that are held back."""
    network = next(iter(networks(task)))  # the shipped one
    X, y, X_test, y_test = draw(task, size, seed)
    held = hold_back(y, seed, stratify=not task.is_regression)
    make: Any = FineTuneRegressor if task.is_regression else FineTuneClassifier
    tuner = make(**networks(task)[network], layer="auto", random_state=seed, **parameters)
    started = time.perf_counter()
    result: dict[str, Any] = {"score": tuner.fit(X, y).score(X_test, y_test)}
    result["seconds"] = time.perf_counter() - started
    rows, others = np.flatnonzero(~held), np.flatnonzero(held)
    if not task.is_regression and len(np.unique(y[rows])) < len(np.unique(y)):
        others = others[np.isin(y[others], y[rows])]  # a class of one sample
    X_held, y_held = take(X, others), y[others]
    tuner.fit(take(X, rows), y[rows], X_val=X_held, y_val=y_held)
    result["part_score"] = tuner.score(X_test, y_test)
    if task.is_regression:
        losses = (tuner.predict(X_held) - y_held) ** 2 / y[rows].var()  # (n_held,)
        hits = losses
    else:
        proba = tuner.predict_proba(X_held)  # (n_held, n_classes)
        index = np.searchsorted(tuner.classes_, y_held)
        losses = -np.log(np.maximum(proba[np.arange(len(index)), index], 1e-12))
        hits = (proba.argmax(1) == index).astype(float)
    result["losses"], result["hits"] = losses.round(5).tolist(), hits.round(5).tolist()
    if len(tuner.history_):
        result["course"] = tuner.history_["valid_loss"].round(5).tolist()
    return result


def measure(args: argparse.Namespace) -> pd.DataFrame:
    """Return the results, one row per cell."""
    remembered, rows = Remembered("training_rules"), []
    tasks = {task.name: task for task in SMALL_TASKS}
    for names, sizes, depths, rates, epochs in PLAN[: args.groups]:
        for name in names:
            for size in sizes:
                for seed in range(args.draws):
                    cells = [{"freeze_depth": "all", "max_epochs": 0}]
                    cells += [
                        {"freeze_depth": depth, "lr": rate, "max_epochs": n}
                        for depth in depths
                        for rate in rates
                        for n in epochs
                    ]
                    for cell in cells:
                        key = {"task": name, "size": size, "draw": seed, **cell}
                        if args.table:
                            found = remembered.known(key)
                            if found is None:
                                continue
                            rows.append({**key, **found})
                            continue
                        result = remembered(key, functools.partial(fit, tasks[name], size, seed, **cell))
                        rows.append({**key, **result})
                        print(key, round(result["score"], 3), f"{result['seconds']:.1f} s", flush=True)
    return pd.DataFrame(rows)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=2)
    parser.add_argument("--groups", type=int, default=len(PLAN), help="number of groups of cells to measure")
    parser.add_argument("--table", action="store_true", help="only print the tables of the stored results")
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    results = measure(args)
    print(results)


if __name__ == "__main__":
    main()
