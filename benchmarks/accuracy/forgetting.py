"""Catastrophic forgetting: loss on a first task after training a second one, with and without L2-SP.

    [SIZE=full] python -m benchmarks.accuracy.forgetting [--seeds 3]

The network first learns scikit-learn's digits upright. Training then continues (`warm_start`) with AdamW on digits
rotated by 90 degrees. The result is the test accuracy on both kinds of digits, mean and standard deviation over draws.
The backbone is `tiny/cnn` with trained stages "block2" to "block4". The head has a very small learning rate in the
second task, because L2-SP does not apply to it. The data come with scikit-learn. An interrupted run resumes.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.datasets import load_digits

from benchmarks.common import RESULTS, Report, sized
from benchmarks.remembered import Remembered
from sktransfer import FineTuneClassifier

STRENGTHS = [0.0, 0.1, 0.3, 1.0, 3.0]
BASE: dict[str, Any] = {"layer": "block4", "pooling": "grid2", "freeze_depth": 2, "precision": "bfloat16"}
BASE |= {"lr": 1e-3, "optimizer": "adamw", "max_epochs": 5, "warm_start": True}


def measure(l2_sp: float | None, n: int, seed: int) -> list[float]:
    """Return test accuracy on both tasks. With `l2_sp=None`, only the first task is trained."""
    X, y = load_digits(return_X_y=True)
    rows = np.random.default_rng(seed).permutation(len(X))
    upright, y = X[rows].reshape(-1, 8, 8) / 16, y[rows]
    turned = np.rot90(upright, axes=(1, 2))
    first, second, test = slice(0, n), slice(n, 2 * n), slice(2 * n, 2 * n + 500)
    clf = FineTuneClassifier(**BASE, random_state=seed).fit(upright[first], y[first])
    if l2_sp is not None:
        clf.set_params(l2_sp=l2_sp, head_lr=1e-5).fit(turned[second], y[second])
    return [float(clf.score(images[test], y[test])) for images in (upright, turned)]


def draw(table: dict[str, list[list[float]]], path: Path) -> None:
    """Draw the accuracy on one task against the other, one point per strength."""
    from matplotlib.figure import Figure  # pyplot would start a window system

    figure = Figure(figsize=(5.6, 4.4), layout="constrained")
    axes = figure.subplots()
    means = {what: 100 * np.mean(scores, 0) for what, scores in table.items()}
    after = np.array([mean for what, mean in means.items() if what != "first task alone"])
    axes.plot(after[:, 1], after[:, 0], "-", color="#0072B2", linewidth=1)
    for what, (first, second) in means.items():
        deviations = 100 * np.std(table[what], 0)
        colour = "#D55E00" if what == "first task alone" else "#0072B2"
        axes.errorbar(second, first, xerr=deviations[1], yerr=deviations[0], fmt="o", color=colour, alpha=0.8)
        axes.annotate(what, (second, first), textcoords="offset points", xytext=(14, 4), fontsize=8)
    axes.margins(0.2)
    axes.set_xlabel("second task, test accuracy (%)")
    axes.set_ylabel("first task, test accuracy (%)")
    axes.grid(alpha=0.25)
    figure.savefig(path, dpi=130)


def main() -> None:
    """Print, write and draw the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=sized(3, 10))
    args = parser.parse_args()
    n = sized(250, 400)
    report = Report(f"Forgetting: digits upright, then turned, {n} each, {args.seeds} draws", "forgetting")
    known = Remembered("forgetting")
    table: dict[str, list[list[float]]] = {}
    for l2_sp in (None, *STRENGTHS):
        what = "first task alone" if l2_sp is None else f"l2_sp={l2_sp:g}"
        table[what] = [
            known({**BASE, "l2_sp": l2_sp, "n": n, "seed": seed}, lambda: measure(l2_sp, n, seed))  # noqa: B023
            for seed in range(args.seeds)
        ]
        second = np.mean(table[what], 0)[1]
        report.row(f"{what}: first task", [one[0] for one in table[what]], second_task=round(float(second), 4))
    report.write()
    draw(table, RESULTS / "forgetting.png")


if __name__ == "__main__":
    main()
