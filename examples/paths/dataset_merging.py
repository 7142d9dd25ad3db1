"""Data-set merging: the same task in the same domain, together.

    X, y = merge_tasks({"a": (X_a, y_a), "b": (X_b, y_b)}, task="digit")
    tuner = MultiTaskFineTuner("tiny/cnn").fit(X, y)
    tuner.task("digit").predict(X_new)

Two data sets of digits were labelled with different lists of classes: one knows 0 to 6, the other 3 to 9. The merged
network has one head with all ten. The loss of an image is over the classes that its data set knows. The accuracy is
that on digits of all ten classes.
"""

from __future__ import annotations

import numpy as np
from _show import digits, read_arguments, report

from sktransfer import FineTuneClassifier, MultiTaskFineTuner, merge_tasks

SETTINGS = {"freeze_depth": "block3", "max_epochs": 5}


def main() -> None:
    """Print the table and save the picture."""
    args = read_arguments(__doc__, n=200, tests=900)
    X, y = digits()
    rows: dict[str, list[float]] = {"0 to 6 alone": [], "3 to 9 alone": [], "merged": []}
    for seed in range(args.draws):
        order = np.random.default_rng(seed).permutation(len(y))
        half, tested = order[: len(y) // 2], order[len(y) // 2 :][: args.tests]
        low = half[y[half] < 7][: args.n]
        high = np.setdiff1d(half[y[half] > 2], low)[: args.n]
        options = {**SETTINGS, "random_state": seed}
        for name, some in zip(rows, (low, high)):
            rows[name].append(
                FineTuneClassifier("tiny/cnn", **options).fit(X[some], y[some]).score(X[tested], y[tested])
            )
        merged = merge_tasks({"a": (X[low], y[low]), "b": (X[high], y[high])}, task="digit")
        tuner = MultiTaskFineTuner("tiny/cnn", **options).fit(*merged)
        rows["merged"].append(tuner.task("digit").score(X[tested], y[tested]))
    title = f"Two data sets of {args.n} digits"
    report(title, rows, args.out / "path_dataset_merging.png")


if __name__ == "__main__":
    main()
