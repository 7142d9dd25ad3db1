"""Movie reviews: which layer of a sentence encoder suits, and what fine-tuning adds.

    SKTRANSFER_TEST_DATA=... python benchmarks/movie_reviews.py [--quick]

Part 1: frozen layers and logistic regression, 5-fold. Part 2: fine-tuning against 2,000 test sentences; the depth is
chosen on a hold-out of the training part.
"""

from __future__ import annotations

import argparse

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_score, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks.common import Report, movie_reviews, sentence_encoder
from sktransfer import FineTuneClassifier, TextFeaturizer

DEPTHS = [0, 4, "all"]
LAYERS = [0, 2, 4, 5, 6, "all"]


def frozen_layers(report: Report, X: np.ndarray, y: np.ndarray, encoder: str) -> None:
    """Report each layer's 5-fold accuracy behind a logistic regression."""
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    for layer in LAYERS:
        probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
        features = TextFeaturizer(encoder, layer=layer).fit_transform(X)  # frozen: folds change nothing in it
        report.row(f"frozen, layer {layer}, 5-fold", [cross_val_score(probe, features, y, cv=folds).mean()])


def fine_tuned(report: Report, X: np.ndarray, y: np.ndarray, encoder: str, seeds: int) -> None:
    """Report fine-tuning at the depth that a hold-out of the training part prefers."""
    X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=2000, stratify=y, random_state=0)
    best = {}
    for layer in (4, 6):
        frozen = make_pipeline(
            TextFeaturizer(encoder, layer=layer), StandardScaler(), LogisticRegression(max_iter=1000)
        )
        best[layer] = frozen.fit(X_train, y_train).score(X_test, y_test)
        report.row(f"frozen, layer {layer}, 2,000 test sentences", [best[layer]])
    tuner = FineTuneClassifier(encoder, max_epochs=2, lr=1e-4, head_lr=1e-3)
    X_fit, X_hold, y_fit, y_hold = train_test_split(
        X_train, y_train, train_size=3000, test_size=1500, stratify=y_train, random_state=1
    )
    held = {}
    for depth in DEPTHS:
        tuner.set_params(freeze_depth=depth, random_state=0)
        held[depth] = tuner.fit(X_fit, y_fit).score(X_hold, y_hold)
        report.row(f"hold-out of the training part, freeze_depth={depth}", [held[depth]])
    chosen = max(held, key=held.__getitem__)
    scores = []
    for seed in range(seeds):
        tuner.set_params(freeze_depth=chosen, random_state=seed)
        scores.append(tuner.fit(X_train, y_train).score(X_test, y_test))
        report.row(f"fine-tuned, freeze_depth={chosen}, seed {seed}", [scores[-1]])
    gain = np.mean(scores) - max(best.values())
    report.row(f"fine-tuned, freeze_depth={chosen}, {seeds} seeds", scores, points_above_frozen=round(100 * gain, 1))


def main() -> None:
    """Print both parts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="7,000 sentences and one seed")
    args = parser.parse_args()
    X, y = movie_reviews()
    if args.quick:
        X, _, y, _ = train_test_split(X, y, train_size=7000, stratify=y, random_state=0)
    encoder = sentence_encoder()
    report = Report(f"MR, {len(X)} sentences, all-MiniLM-L6-v2, accuracy", "movie_reviews")
    frozen_layers(report, X, y, encoder)
    fine_tuned(report, X, y, encoder, 1 if args.quick else 3)
    report.write()


if __name__ == "__main__":
    main()
