"""Modality transfer: another task in another domain, one after the other.

    features = ImageFeaturizer("tiny/cnn")  # trained on photos
    clf = make_pipeline(features, LogisticRegression())
    clf.fit(images, y)

The network knows objects on colour photos. Here it reads two other kinds of data: bitmaps of handwritten digits, and a
medical table, whose 30 measurements of a tumour are drawn as 30 grey squares. Random weights of the same network show
which part of the result comes from photos, and a linear model of the bare numbers whether a network is needed at all.
"""

from __future__ import annotations

import numpy as np
from _show import digits, read_arguments, report
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler, quantile_transform

from sktransfer import ImageFeaturizer


def drawn_table() -> tuple[np.ndarray, np.ndarray]:
    """Return rows of 30 numbers as images (n, 30, 36) of 5 x 6 squares, and whether the tumour is benign."""
    X, y = load_breast_cancer(return_X_y=True)
    ranks = quantile_transform(X, n_quantiles=100)  # (n, 30), in [0, 1]
    return ranks.reshape(-1, 5, 6).repeat(6, axis=1).repeat(6, axis=2), y  # (n, 30, 36)


def main() -> None:
    """Print the table and save the picture."""
    args = read_arguments(__doc__, n=100, tests=400)
    rows: dict[str, list[float]] = {}
    for kind, (images, y) in {"digits": digits(), "table": drawn_table()}.items():
        for seed in range(args.draws):
            X, X_test, y_train, y_test = train_test_split(
                images, y, train_size=args.n, test_size=args.tests, stratify=y, random_state=seed
            )
            for name in ("no network", "random weights", "pretrained on photos"):
                flat, flat_test = X.reshape(len(X), -1), X_test.reshape(len(X_test), -1)
                steps = [StandardScaler(), LogisticRegression(max_iter=1000)]
                if name == "no network":
                    model = make_pipeline(*steps).fit(flat, y_train)
                    rows.setdefault(f"{kind}, {name}", []).append(model.score(flat_test, y_test))
                    continue
                weights = "random" if name == "random weights" else "pretrained"
                model = make_pipeline(ImageFeaturizer("tiny/cnn", layer="block4", weights=weights), *steps)
                rows.setdefault(f"{kind}, {name}", []).append(model.fit(X, y_train).score(X_test, y_test))
    title = f"{args.n} labelled digits, and {args.n} labelled rows of a table"
    report(title, rows, args.out / "path_modality_transfer.png")


if __name__ == "__main__":
    main()
