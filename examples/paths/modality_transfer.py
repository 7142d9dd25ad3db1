"""Modality transfer: another task in another domain, one after the other.

    images = as_images(table)  # any numbers become pictures
    clf = make_pipeline(ImageFeaturizer("tiny/cnn"), LogisticRegression())
    clf.fit(images[train], y[train])

The network was trained on photos. Here it reads a medical table: 30 measurements of a tumour are drawn as 30 grey
squares, and the task is to tell benign from malignant ones. Random weights of the same network show how much of the
result is due to photos, and a linear model of the numbers how much a drawing loses. Spectrograms of sounds are read in
the same way.
"""

from __future__ import annotations

import numpy as np
from _show import read_arguments, report
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, QuantileTransformer, StandardScaler

from sktransfer import ImageFeaturizer


def as_images(table: np.ndarray) -> np.ndarray:
    """Return rows of 30 numbers in [0, 1] as images (n, 30, 36) of 5 x 6 squares."""
    return table.reshape(-1, 5, 6).repeat(6, axis=1).repeat(6, axis=2)


def main() -> None:
    """Print the table and save the picture."""
    args = read_arguments(__doc__, n=40, draws=5)
    X, y = load_breast_cancer(return_X_y=True)
    rows: dict[str, list[float]] = {}
    for seed in range(args.draws):
        X_train, X_test, y_train, y_test = train_test_split(X, y, train_size=args.n, stratify=y, random_state=seed)
        draw = [QuantileTransformer(n_quantiles=20), FunctionTransformer(as_images)]
        last = [StandardScaler(), LogisticRegression(max_iter=1000)]
        models = {
            "numbers, without a network": make_pipeline(*last),
            "drawn, network with random weights": make_pipeline(*draw, ImageFeaturizer(weights="random"), *last),
            "drawn, network pretrained on photos": make_pipeline(*draw, ImageFeaturizer("tiny/cnn"), *last),
        }
        for name, model in models.items():
            rows.setdefault(name, []).append(model.fit(X_train, y_train).score(X_test, y_test))
    title = f"Breast cancer, {args.n} labelled rows of a table"
    report(title, rows, args.out / "path_modality_transfer.png")


if __name__ == "__main__":
    main()
