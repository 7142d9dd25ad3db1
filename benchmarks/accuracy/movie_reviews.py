"""Movie reviews: the best layer of a sentence encoder, and the gain of fine-tuning.

    SKTRANSFER_TEST_DATA=... python benchmarks/accuracy/movie_reviews.py [--quick]

Part 1: frozen layers and logistic regression, 5-fold. Part 2: fine-tuning, tested on 2,000 sentences. A hold-out of the
training part chooses the freezing depth.
"""

from __future__ import annotations

import argparse

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_score, train_test_split
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks.common import Report, movie_reviews, sentence_encoder
from sktransfer import FineTuneClassifier, TextFeaturizer

DEPTHS = [0, 4, "all"]


def probe(layer: str) -> Pipeline:
    """Return the classifier of frozen features, with stronger regularisation for all seven layers at once."""
    return make_pipeline(StandardScaler(), LogisticRegression(C=0.001 if layer == "all" else 1.0, max_iter=1000))


def by_layer(X: np.ndarray, encoder: str) -> dict[str, np.ndarray]:
    """Return the features of each stage, and of all, from one pass."""
    featurizer = TextFeaturizer(encoder, layer="all", cache=None, verbose=1)
    everything = featurizer.fit_transform(X)
    n = len(featurizer.backbone_.stages)
    return {**dict(zip(map(str, range(n)), np.split(everything, n, axis=1))), "all": everything}


def frozen_layers(report: Report, features: dict[str, np.ndarray], y: np.ndarray) -> None:
    """Report the 5-fold accuracy of a logistic regression on each layer."""
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    for layer, values in features.items():
        report.row(f"frozen, layer {layer}, 5-fold", [cross_val_score(probe(layer), values, y, cv=folds).mean()])


def fine_tuned(
    report: Report, X: np.ndarray, y: np.ndarray, features: dict[str, np.ndarray], encoder: str, seeds: int
) -> None:
    """Report fine-tuning at the depth that is best on a hold-out of the training part."""
    train, test = train_test_split(np.arange(len(X)), test_size=2000, stratify=y, random_state=0)
    best = 0.0
    for layer in features:
        score = probe(layer).fit(features[layer][train], y[train]).score(features[layer][test], y[test])
        best = best if layer == "all" else max(best, score)
        report.row(f"frozen, layer {layer}, 2,000 test sentences", [score])
    tuner = FineTuneClassifier(encoder, layer=-1, head_init="random", max_epochs=2, lr=1e-4, head_lr=1e-3)
    fit, hold = train_test_split(train, train_size=3000, test_size=1500, stratify=y[train], random_state=1)
    held = {}
    for depth in DEPTHS:
        tuner.set_params(freeze_depth=depth, random_state=0)
        held[depth] = tuner.fit(X[fit], y[fit]).score(X[hold], y[hold])
        report.row(f"hold-out of the training part, freeze_depth={depth}", [held[depth]])
    chosen = max(held, key=held.__getitem__)
    scores = []
    for seed in range(seeds):
        tuner.set_params(freeze_depth=chosen, random_state=seed)
        scores.append(tuner.fit(X[train], y[train]).score(X[test], y[test]))
        report.row(f"fine-tuned, freeze_depth={chosen}, seed {seed}", [scores[-1]])
    gain = round(100 * (np.mean(scores) - best), 1)
    report.row(f"fine-tuned, freeze_depth={chosen}, {seeds} seeds", scores, points_above_best_single_layer=gain)


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
    features = by_layer(X, encoder)
    frozen_layers(report, features, y)
    fine_tuned(report, X, y, features, encoder, 1 if args.quick else 3)
    report.write()


if __name__ == "__main__":
    main()
