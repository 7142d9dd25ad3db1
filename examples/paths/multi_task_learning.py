"""Multi-task learning: several tasks in the same domain, together.

    Y = pd.DataFrame({"digit": few, "guess": many})  # None where a label is missing
    tuner = MultiTaskFineTuner("tiny/cnn").fit(X, Y)
    tuner.task("digit").predict(X_new)

An expert has labelled few images. For all images there is the guess of a hasty reader, a third of which is wrong. What
the expert says and what the reader guesses are two tasks, which one network learns. The accuracy is that of the digit.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from _show import digits, read_arguments, report

from sktransfer import FineTuneClassifier, MultiTaskFineTuner

SETTINGS = {"freeze_depth": "block3", "max_epochs": 5}
KNOWN, WRONG = 0.1, 1 / 3  # share of the images that the expert has labelled, and of wrong guesses


def main() -> None:
    """Print the table and save the picture."""
    args = read_arguments(__doc__, n=300)
    X, y = digits()
    names = ("labels of the expert alone", "guesses alone", "both tasks together")
    rows: dict[str, list[float]] = {name: [] for name in names}
    for seed in range(args.draws):
        rng = np.random.default_rng(seed)
        order = rng.permutation(len(y))
        some, tested = order[: args.n], order[args.n :]
        few = some[: int(KNOWN * args.n)]
        guess = np.where(rng.uniform(size=args.n) < WRONG, rng.integers(10, size=args.n), y[some])
        is_known = np.arange(args.n) < len(few)
        Y = pd.DataFrame({"digit": np.where(is_known, y[some].astype(object), None), "guess": guess})
        options = {**SETTINGS, "random_state": seed}
        alone = FineTuneClassifier("tiny/cnn", **options).fit(X[few], y[few])
        guessed = FineTuneClassifier("tiny/cnn", **options).fit(X[some], guess)
        together = MultiTaskFineTuner("tiny/cnn", **options).fit(X[some], Y).task("digit")
        for scores, model in zip(rows.values(), (alone, guessed, together)):
            scores.append(float(np.mean(model.predict(X[tested]) == y[tested])))
    title = f"{len(few)} of {args.n} digits labelled, all of them guessed"
    report(title, rows, args.out / "path_multi_task_learning.png")


if __name__ == "__main__":
    main()
