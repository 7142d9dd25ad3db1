"""Choose a backbone and a layer: compare scores that need no training with a linear probe.

    python examples/choose_a_backbone.py

The script ranks every layer of `tiny/cnn`, pretrained and untrained, on 300 digits. It compares the layer that each
score chooses with the accuracy of a cross-validated linear model, the probe. Then `BestBackbone` chooses inside each
fold. The script saves two pictures.
"""

from __future__ import annotations

import argparse
import time
import warnings
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

from matplotlib import pyplot as plt
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sktransfer import BackboneRankingDisplay, BestBackbone, LayerScoreDisplay, load_backbone, rank_backbones
from sktransfer.exceptions import DisagreementWarning


def main() -> None:
    """Print the ranking and save the pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=300)
    parser.add_argument("--out", type=Path, default=Path("demo"))
    args = parser.parse_args()
    started = time.perf_counter()

    X, y = load_digits(return_X_y=True)
    X, y = X[: args.n] / 16, y[: args.n]  # pixels are counts from 0 to 16
    candidates = {"pretrained": load_backbone("tiny/cnn"), "untrained": load_backbone("tiny/cnn", weights="random")}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DisagreementWarning)  # the table below shows the disagreement
        ranking = rank_backbones(candidates, X, y, metrics=["logme", "knn", "h_score"], probe=True, random_state=0)
    print(ranking.drop(columns=["seconds", "bytes"]).head(6).round(3).to_string(index=False))
    best = ranking["probe_mean"].max()
    for metric, tau in ranking.attrs["agreement"].items():
        chosen = ranking.loc[ranking[metric].idxmax()]
        print(
            f"{metric:8s} chooses {chosen['backbone']}, {chosen['layer']}: its probe reaches "
            f"{chosen['probe_mean']:.3f}, the best layer {best:.3f}; weighted Kendall tau {tau:.2f}"
        )
    linear = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000))
    folds = StratifiedKFold(3, shuffle=True, random_state=0)
    for metric in ("logme", "knn"):
        scores = cross_val_score(BestBackbone(candidates, metric=metric, estimator=linear), X, y, cv=folds)
        print(f"BestBackbone by {metric}, chosen inside each of three folds: accuracy {scores.mean():.3f}")

    args.out.mkdir(parents=True, exist_ok=True)
    BackboneRankingDisplay.from_ranking(ranking).figure_.savefig(args.out / "choose_a_backbone.png", dpi=100)
    LayerScoreDisplay.from_ranking(ranking, backbone="pretrained").figure_.savefig(args.out / "layers.png", dpi=100)
    plt.close("all")
    print(f"pictures: {args.out}/choose_a_backbone.png, layers.png\n{time.perf_counter() - started:.0f} seconds")


if __name__ == "__main__":
    main()
