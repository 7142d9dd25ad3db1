"""Parallel training: other tasks in other domains, together.

    X, y = merge_tasks({"digit": (X_digits, y_digits), "photo": (X_patches, y_patches)})
    tuner = MultiTaskFineTuner("tiny/cnn").fit(X, y)
    tuner.task("photo").predict(X_new)

One network serves two unrelated tasks: ten digits, and which of two photos a patch is cut from. It
needs half the memory of two networks. The question is how much accuracy this costs.
"""

from __future__ import annotations

import numpy as np
from _show import digits, read_arguments, report
from sklearn.datasets import load_sample_images
from sklearn.feature_extraction.image import extract_patches_2d

from sktransfer import FineTuneClassifier, MultiTaskFineTuner, merge_tasks

SETTINGS = {"freeze_depth": "block2", "max_epochs": 5}


def patches(n: int, seed: int) -> tuple[list[np.ndarray], np.ndarray]:
    """Return patches of 16 x 16 pixels of the two photos of scikit-learn, and the photo of each."""
    of_photos = [
        extract_patches_2d(photo, (16, 16), max_patches=n, random_state=seed) for photo in load_sample_images().images
    ]
    return [patch for pair in zip(*of_photos) for patch in pair], np.tile(["temple", "flower"], n)


def main() -> None:
    """Print the table and save the picture."""
    args = read_arguments(__doc__, n=150, tests=500, draws=2)
    X, y = digits()
    rows: dict[str, list[float]] = {
        f"{task}, {way}": [] for task in ("digit", "photo") for way in ("alone", "together")
    }
    for seed in range(args.draws):
        order = np.random.default_rng(seed).permutation(len(y))
        some, tested = order[: args.n], order[args.n : args.n + args.tests]
        photos, sources = patches(args.n // 2 + args.tests // 2, seed)
        n = args.n // 2 * 2
        train = {"digit": (list(X[some]), y[some]), "photo": (photos[:n], sources[:n])}
        test = {"digit": (list(X[tested]), y[tested]), "photo": (photos[n:], sources[n:])}
        options = {**SETTINGS, "random_state": seed}
        together = MultiTaskFineTuner("tiny/cnn", **options).fit(*merge_tasks(train))
        for task in train:
            alone = FineTuneClassifier("tiny/cnn", **options).fit(*train[task])
            rows[f"{task}, alone"].append(alone.score(*test[task]))
            rows[f"{task}, together"].append(together.task(task).score(*test[task]))
    title = f"{args.n} digits and {n} patches of photos"
    report(title, rows, args.out / "path_parallel_training.png")


if __name__ == "__main__":
    main()
