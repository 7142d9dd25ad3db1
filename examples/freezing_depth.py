"""Choose the learning rate and the freezing depth, and inspect the training.

    python examples/freezing_depth.py

`find_lr` proposes a learning rate. A grid search tries every freezing depth of the lower five stages of `tiny/cnn`,
with 40 and with 150 labelled digits. The best depth is then trained with early stopping on a validation split. The
script saves a picture of each step.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

from matplotlib import pyplot as plt
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV, StratifiedKFold, train_test_split

from sktransfer import FineTuneClassifier, FreezeDepthDisplay, LearningRateDisplay, TrainingHistoryDisplay, find_lr

DEPTHS = [0, 1, 2, 3, 4, "all"]  # 0 trains all five stages; frozen stages run once per image, for all folds and epochs


def main() -> None:
    """Print the results and save the pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--labels", type=int, nargs=2, default=[40, 150], help="smaller and larger number of labels")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("demo"))
    args = parser.parse_args()
    started = time.perf_counter()
    args.out.mkdir(parents=True, exist_ok=True)

    X, y = load_digits(return_X_y=True)
    X = X / 16  # pixels are counts from 0 to 16
    X, X_test, y, y_test = train_test_split(X, y, train_size=args.labels[1], stratify=y, random_state=0)
    few, _, y_few, _ = train_test_split(X, y, train_size=args.labels[0], stratify=y, random_state=0)
    tuner = FineTuneClassifier(
        "tiny/cnn", layer="block4", freeze_depth=0, max_epochs=args.epochs, batch_size=16, random_state=0
    )

    # One short training whose learning rate rises at each step. A good rate lies well below the one that diverges.
    result = find_lr(tuner, X, y)
    LearningRateDisplay.from_finder(result).figure_.savefig(args.out / "learning_rate.png", dpi=100)
    tuner.set_params(lr=result.lr)
    print(f"find_lr proposes {result.lr:.1e}\n\naccuracy on {len(X_test)} test digits")

    axes, folds = None, StratifiedKFold(2, shuffle=True, random_state=0)
    for images, labels, colour in ((few, y_few, "#D55E00"), (X, y, "#0072B2")):
        search = GridSearchCV(tuner, {"freeze_depth": DEPTHS}, cv=folds).fit(images, labels)
        depth, results = search.best_params_["freeze_depth"], search.cv_results_
        print(f"  {len(labels)} labels: {search.score(X_test, y_test):.3f} at freeze_depth={depth!r}")
        display = FreezeDepthDisplay(
            DEPTHS, results["mean_test_score"], results["std_test_score"], "cross-validated accuracy"
        ).plot(axes, name=f"{len(labels)} labels", color=colour)
        axes = display.ax_
    display.figure_.savefig(args.out / "freezing_depth.png", dpi=100)

    # A quarter of the images is the validation split. Training stops when its loss no longer falls, and the weights of
    # the best epoch are kept.
    tuner.set_params(freeze_depth=depth, max_epochs=3 * args.epochs, early_stopping=True, validation_fraction=0.25)
    best = tuner.fit(X, y)
    print(f"  with early stopping, {len(best.history_)} epochs: {best.score(X_test, y_test):.3f}")
    TrainingHistoryDisplay.from_estimator(best).figure_.savefig(args.out / "training_history.png", dpi=100)
    plt.close("all")
    print(f"\npictures: {args.out}/learning_rate.png, freezing_depth.png, training_history.png")
    print(f"{time.perf_counter() - started:.0f} seconds")


if __name__ == "__main__":
    main()
