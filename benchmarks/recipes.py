"""ULMFiT's ablation in small: what each recipe of fine-tuning adds where labels are few.

    SKTRANSFER_TEST_DATA=... [SIZE=full] python -m benchmarks.recipes [--seeds 3] [--labels 100 500]

MR's sentences, `tiny/bert`; accuracy on test sentences that no recipe was fitted to, mean and standard deviation over
draws of the labelled sentences. The rows are those of table 7 of Howard and Ruder (2018), with what came later: a probe
first, and L2-SP. All recipes have the same epochs, the same batches and the same highest rates. The rate is the one of
three (3e-4, 1e-3, 3e-3) that did best for "full" on two draws of 100 labels and the first 500 test sentences, which can
but flatter "full"; for the others nothing was chosen.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import RESULTS, Report, movie_reviews, sized
from sktransfer import FineTuneClassifier

BASE: dict[str, Any] = {
    "freeze_depth": 0,
    "head_init": "random",
    "lr_schedule": "constant",
    "lr": 3e-4,
    "batch_size": 16,
    "max_epochs": 8,
}
DISCRIMINATIVE = {"layer_lr_decay": 2.6}
TRIANGLE = {"lr_schedule": "slanted_triangular"}
GRADUAL = {"unfreezing": "gradual"}
RECIPES: dict[str, dict[str, Any]] = {
    "full": {},  # first: the others are compared with it
    "from scratch": {"weights": "random"},
    "last": {"freeze_depth": "all"},
    "full + discriminative": DISCRIMINATIVE,
    "full + slanted triangular": TRIANGLE,
    "gradual": GRADUAL,
    "gradual + discriminative": {**GRADUAL, **DISCRIMINATIVE},
    "gradual + slanted triangular": {**GRADUAL, **TRIANGLE},
    "all three": {**GRADUAL, **DISCRIMINATIVE, **TRIANGLE},
    "chain-thaw": {"unfreezing": "chain_thaw"},
    "probe alone": {"freeze_depth": "all", "head_init": "probe", "max_epochs": 0},
    "probe, then full": {"head_init": "probe", "lr_schedule": "linear"},
    "probe, then full + L2-SP": {"head_init": "probe", "lr_schedule": "linear", "l2_sp": 1.0},
}


def draw_samples(n_labels: int, n_test: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return labelled sentences, as many of each class, and test sentences, which are the same for each seed."""
    X, y = movie_reviews()
    _, first = np.unique(X.astype(str), return_index=True)  # a sentence that occurs twice must not stand on both sides
    order = np.random.default_rng(0).permutation(first)
    test, pool = order[:n_test], np.random.default_rng(1000 + seed).permutation(order[n_test:])
    train = np.concatenate([pool[y[pool] == label][: n_labels // 2] for label in np.unique(y)])
    return X[train], y[train], X[test], y[test]


def score(recipe: dict[str, Any], data: tuple[np.ndarray, ...], seed: int) -> float:
    """Return the accuracy of one recipe on one draw."""
    X, y, X_test, y_test = data
    tuner = FineTuneClassifier("tiny/bert", **{**BASE, **recipe}, random_state=seed)
    return float(tuner.fit(X, y).score(X_test, y_test))


def draw(table: dict[int, dict[str, list[float]]], path: Path) -> None:
    """Draw a point a recipe, with its deviation, one panel a number of labels."""
    from matplotlib.figure import Figure  # not pyplot: it would start a window system

    figure = Figure(figsize=(5.5 * len(table), 0.8 + 0.32 * len(RECIPES)), layout="constrained")
    panels = np.atleast_1d(figure.subplots(1, len(table), sharey=True))
    for axes, (n_labels, rows) in zip(panels, table.items()):
        names = list(rows)
        means = [100 * float(np.mean(rows[name])) for name in names]
        deviations = [100 * float(np.std(rows[name])) for name in names]
        axes.errorbar(means, names, xerr=deviations, fmt="o", color="#4c78a8", linewidth=1.4)
        axes.axvline(means[names.index("full")], color="black", linewidth=0.8, linestyle=":")
        axes.set_title(f"MR, {n_labels} labels, tiny/bert: accuracy (%)", fontsize=9)
        axes.tick_params(labelsize=8)
    panels[0].invert_yaxis()
    figure.savefig(path, dpi=130)


def main() -> None:
    """Print the table, write it, and draw it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=sized(3, 5))
    parser.add_argument("--labels", type=int, nargs="+", default=[100, 500])
    args = parser.parse_args()
    n_test = sized(1000, 2000)
    report = Report(f"ULMFiT's ablation: MR, tiny/bert, {args.seeds} draws, {n_test} test sentences", "recipes")
    table: dict[int, dict[str, list[float]]] = {}
    for n_labels in args.labels:
        draws = [draw_samples(n_labels, n_test, seed) for seed in range(args.seeds)]
        table[n_labels] = {}
        for name, recipe in RECIPES.items():
            scores = [score(recipe, data, seed) for seed, data in enumerate(draws)]
            table[n_labels][name] = scores
            report.row(f"{n_labels} labels, {name}", scores, gain=round(gain(table[n_labels], name), 2))
    report.write()
    draw(table, RESULTS / "recipes.png")


def gain(rows: dict[str, list[float]], name: str) -> float:
    """Return how many points a recipe gains on training all stages at once, on the same draws."""
    return 100 * float(np.mean(np.subtract(rows[name], rows["full"])))


if __name__ == "__main__":
    main()
