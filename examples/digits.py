"""Ten labelled digits per class: raw pixels, frozen features and fine-tuning.

    python examples/digits.py

The script prints test accuracy over five draws and saves a picture of accuracy against freezing depth. Cross-validation
on the hundred training images chooses layer, pooling and freezing depth. The test images are used once, at the end.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import numpy as np
from matplotlib import pyplot as plt
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold, train_test_split
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from sktransfer import FineTuneClassifier, FreezeDepthDisplay, ImageFeaturizer

GRID = {
    "imagefeaturizer__layer": ["block1", "block2", "block3", "block4", "block5"],
    "imagefeaturizer__pooling": ["average", "grid2", "grid3"],
}
DEPTHS = [0, 0.5, -1, "all"]


def on_features(weights: str) -> Pipeline:
    """Return a linear classifier on the features of `tiny/cnn`."""
    return make_pipeline(
        ImageFeaturizer("tiny/cnn", weights=weights), StandardScaler(), LogisticRegression(max_iter=1000)
    )


def run(seeds: int) -> tuple[dict[str, list[float]], list[str], np.ndarray]:
    """Return test accuracies per table row, the chosen parameters, and cross-validated accuracy (seeds, depths)."""
    X, y = load_digits(return_X_y=True)
    X = X / 16  # pixels are counts from 0 to 16
    rows: dict[str, list[float]] = {
        "raw pixels + logistic regression": [],
        "tiny/cnn, random weights, frozen": [],
        "tiny/cnn, pretrained, frozen": [],
        "tiny/cnn, fine-tuned, depth searched": [],
    }
    chosen, curves = [], []
    for seed in range(seeds):
        X_train, X_test, y_train, y_test = train_test_split(X, y, train_size=100, stratify=y, random_state=seed)
        folds = StratifiedKFold(3, shuffle=True, random_state=seed)
        raw = LogisticRegression(max_iter=1000).fit(X_train, y_train)
        # With a hundred labels, accuracy is too coarse to select by. The log-likelihood of held-out labels is finer.
        selection = {"cv": folds, "scoring": "neg_log_loss"}
        random = GridSearchCV(on_features("random"), GRID, **selection).fit(X_train, y_train)
        frozen = GridSearchCV(on_features("pretrained"), GRID, **selection).fit(X_train, y_train)
        best = {name.rpartition("__")[2]: value for name, value in frozen.best_params_.items()}
        tuner = FineTuneClassifier("tiny/cnn", **best, random_state=seed)
        depth = GridSearchCV(tuner, {"freeze_depth": DEPTHS}, cv=folds).fit(X_train, y_train)
        for scores, model in zip(rows.values(), (raw, random, frozen, depth)):
            scores.append(np.mean(model.predict(X_test) == y_test))
        chosen.append(
            f"draw {seed}: {best['layer']}, {best['pooling']}, freeze_depth={depth.best_params_['freeze_depth']}"
        )
        curves.append(depth.cv_results_["mean_test_score"])
    return rows, chosen, np.array(curves)


def main() -> None:
    """Print the table and save the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("demo"))
    args = parser.parse_args()
    started = time.perf_counter()
    rows, chosen, curves = run(args.seeds)
    print(f"digits, 10 labels per class, test accuracy over {args.seeds} draws\n")
    for name, scores in rows.items():
        print(f"  {name:40s} {np.mean(scores):.3f} ± {np.std(scores):.3f}")
    print("\nchosen by cross-validation on the training part:", *chosen, sep="\n  ")

    args.out.mkdir(parents=True, exist_ok=True)
    score_name = "accuracy, cross-validated on 100 digits"
    display = FreezeDepthDisplay(DEPTHS, curves.mean(0), curves.std(0), score_name).plot()
    display.ax_.set_title("How deep to freeze tiny/cnn")
    display.figure_.savefig(args.out / "digits.png", dpi=100)
    plt.close("all")
    print(f"\npicture: {args.out}/digits.png\n{time.perf_counter() - started:.0f} seconds")


if __name__ == "__main__":
    main()
