"""Multi-task learning: several tasks in the same domain, together.

    Y = pd.DataFrame({"digit": few, "is_even": many, "is_large": many})  # None where a label is missing
    tuner = MultiTaskFineTuner("tiny/cnn").fit(X, Y)
    tuner.task("digit").predict(X_new)

Few images have the label of interest, the digit. For all images it is known whether the digit is even, and whether it
is larger than 4, labels that are easier to get. One network learns the three tasks. The accuracy is that of the digit.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from _show import digits, read_arguments, report

from sktransfer import FineTuneClassifier, MultiTaskFineTuner

SETTINGS = {"freeze_depth": "block3", "lr": 1e-3, "max_epochs": 5}
KNOWN = 0.1  # share of the images whose digit is known


def main() -> None:
    """Print the table and save the picture."""
    args = read_arguments(__doc__, n=300, tests=600, draws=2)
    X, y = digits()
    names = ("digit alone", "other tasks first, then the digit", "three tasks together")
    rows: dict[str, list[float]] = {name: [] for name in names}
    for seed in range(args.draws):
        order = np.random.default_rng(seed).permutation(len(y))
        some, tested = order[: args.n], order[args.n :][: args.tests]
        few = some[: int(KNOWN * args.n)]
        is_known = np.arange(args.n) < len(few)
        digit = np.where(is_known, y[some].astype(object), None)
        Y = pd.DataFrame({"digit": digit, "is_even": y[some] % 2, "is_large": (y[some] > 4).astype(int)})
        options = {**SETTINGS, "random_state": seed}
        alone = FineTuneClassifier("tiny/cnn", **options).fit(X[few], y[few])
        others = MultiTaskFineTuner("tiny/cnn", **options).fit(X[some], Y[["is_even", "is_large"]])
        then = FineTuneClassifier(others.backbone_, **options).fit(X[few], y[few])
        together = MultiTaskFineTuner("tiny/cnn", **options).fit(X[some], Y).task("digit")
        for scores, model in zip(rows.values(), (alone, then, together)):
            scores.append(float(np.mean(model.predict(X[tested]) == y[tested])))
    title = f"{len(few)} digits with all labels, {args.n - len(few)} with two cheap ones"
    report(title, rows, args.out / "path_multi_task_learning.png")


if __name__ == "__main__":
    main()
