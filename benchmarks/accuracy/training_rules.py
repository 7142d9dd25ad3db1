"""Gain of training over the probe that it starts from, and whether rows that are held back can tell.

Each cell trains the tuner on a draw of a small task, at one rate, number of epochs and freezing depth, from the probe
of `layer="auto"`. Some cells train a second time, on four fifths of the rows, and compare the loss of the other fifth
before and after, as `freeze_depth="auto"` does. The table has the gain on the test samples over the probe
(`freeze_depth="all"`, `max_epochs=0`), what the second training loses by its fewer rows, and the gain if a training
counts only where the held-back rows allow it.

The result of each cell is stored in `results/training_rules.jsonl` when it is measured, so an interrupted run resumes.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import json
import time
import warnings
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.accuracy.defaults import draw, networks, take
from benchmarks.accuracy.small_tasks import SMALL_TASKS, SmallTask
from benchmarks.common import RESULTS, sized
from benchmarks.remembered import Remembered
from sktransfer import FineTuneClassifier, FineTuneRegressor
from sktransfer.training.epochs.held_out import DepthTrial, hold_back

NAME = "training_rules"
KEYS = ["task", "size", "draw"]
FIRST = ("digits", "cifar10", "typeface", "orientation", "film", "genre", "angle", "nouns")
# Groups of cells in the order of their usefulness: tasks, sizes, freezing depths, rates, epochs.
PLAN: list[tuple[tuple[str, ...], tuple[int, ...], tuple[Any, ...], tuple[float, ...], tuple[int, ...]]] = [
    (FIRST, (300,), (-1,), (1e-4, 1e-3), (10,)),
    (("cifar10", "typeface", "angle", "digits"), (300,), (-1,), (1e-4,), (3, 30)),
    (FIRST, (100,), (-1,), (1e-4, 1e-3), (10,)),
    (("orientation", "typeface", "angle", "genre"), (300,), (0.5,), (1e-4,), (10,)),
    (("cifar10", "typeface", "angle", "genre"), (1000,), (-1,), (1e-4,), (3, 10)),
]


def fit(task: SmallTask, size: int, seed: int, **parameters: Any) -> dict[str, Any]:
    """Return the score on the test samples of both fits, and the losses of the rows that are held back."""
    network = next(iter(networks(task)))  # the shipped one
    X, y, X_test, y_test = draw(task, size, seed)
    make: Any = FineTuneRegressor if task.is_regression else FineTuneClassifier
    tuner = make(**networks(task)[network], layer="auto", random_state=seed, **parameters)
    started = time.perf_counter()
    result: dict[str, Any] = {"score": tuner.fit(X, y).score(X_test, y_test)}
    result["seconds"] = time.perf_counter() - started
    if size > 300 or parameters["max_epochs"] not in (0, 10):
        return result
    rows, others = hold_back(y if task.is_regression else np.unique(y, return_inverse=True)[1], None, seed)
    if not task.is_regression and len(np.unique(y[rows])) < len(np.unique(y)):
        others = others[np.isin(y[others], y[rows])]  # a class of one sample
    X_held, y_held = take(X, others), y[others]
    tuner.fit(take(X, rows), y[rows], X_val=X_held, y_val=y_held)
    result["part_score"] = tuner.score(X_test, y_test)
    if task.is_regression:
        losses = (tuner.predict(X_held) - y_held) ** 2 / y[rows].var()  # (n_held,)
    else:
        proba = tuner.predict_proba(X_held)  # (n_held, n_classes)
        index = np.searchsorted(tuner.classes_, y_held)
        losses = -np.log(np.maximum(proba[np.arange(len(index)), index], 1e-12))
    return {**result, "losses": losses.round(5).tolist()}


def measure(draws: int) -> None:
    """Measure and store all cells."""
    remembered = Remembered(NAME)
    tasks = {task.name: task for task in SMALL_TASKS}
    for names, sizes, depths, rates, epochs in PLAN:
        for name, size, seed in itertools.product(names, sizes, range(draws)):
            cells: list[dict[str, Any]] = [{"freeze_depth": "all", "max_epochs": 0}]
            for depth, rate, n_epochs in itertools.product(depths, rates, epochs):
                cells.append({"freeze_depth": depth, "lr": rate, "max_epochs": n_epochs})
            for cell in cells:
                key = {"task": name, "size": size, "draw": seed, **cell}
                result = remembered(key, functools.partial(fit, tasks[name], size, seed, **cell))
                print(key, f"{result['score']:.3f}", f"{result['seconds']:.1f} s", flush=True)


def stored() -> pd.DataFrame:
    """Return the stored trainings, with the gain over the probe of the same draw in points, and whether to train."""
    lines = [json.loads(line) for line in (RESULTS / f"{NAME}.jsonl").read_text().splitlines()]
    cells = [{**json.loads(key), **result} for key, result in lines]
    probes = {tuple(cell[key] for key in KEYS): cell for cell in cells if not cell["max_epochs"]}
    rows = []
    for cell in cells:
        if cell["max_epochs"]:
            probe = probes[tuple(cell[key] for key in KEYS)]
            row = {key: cell[key] for key in (*KEYS, "freeze_depth", "lr", "max_epochs")}
            row |= {"gain": 100 * (cell["score"] - probe["score"]), "time": cell["seconds"] / probe["seconds"]}
            if "losses" in cell:
                before, after = np.array(probe["losses"]), np.array(cell["losses"])
                trial = DepthTrial.of(before, after, np.ones(len(before)))
                row |= {"held_back": 100 * (cell["part_score"] - cell["score"]), "helps": trial.helps}
                row |= {"with_trial": row["gain"] if trial.helps else 0.0}
            rows.append(row)
    return pd.DataFrame(rows)


def report(results: pd.DataFrame) -> None:
    """Print gains by setting: their mean, the worst, and those of a training that a trial has to allow."""
    settings = results.groupby(["freeze_depth", "lr", "max_epochs", "size"])
    table = settings["gain"].agg(["count", "mean", "min", "max"])
    table["fewer rows"] = settings["held_back"].mean()
    table["allowed"] = settings["helps"].sum()
    table["mean with trial"], table["min with trial"] = settings["with_trial"].mean(), settings["with_trial"].min()
    print("\nGain over the probe in points of accuracy or R²")
    print(table.round(2).to_string())


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=sized(1, 5))
    parser.add_argument("--stored", action="store_true", help="only print the table of what is stored")
    args = parser.parse_args()
    if not args.stored:
        warnings.filterwarnings("ignore")
        measure(args.draws)
    report(stored())


if __name__ == "__main__":
    main()
