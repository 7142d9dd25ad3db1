"""Task adaptation: another task in the same domain, one after the other.

    source = FineTuneClassifier("tiny/cnn").fit(X_source, y_source)
    features = ImageFeaturizer(source.backbone_)
    clf = make_pipeline(features, LogisticRegression()).fit(X, y)

A network has learned which digit an image shows. The new task is whether the digit is even, with few labels. The images
are from the same scanner, so that the features of the source task serve it.
"""

from __future__ import annotations

import numpy as np
from _show import digits, read_arguments, report
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sktransfer import FineTuneClassifier, ImageFeaturizer

LABELS = 30  # of the new task


def main() -> None:
    """Print the table and save the picture."""
    args = read_arguments(__doc__, n=300, tests=400, draws=2)
    X, y = digits()
    rows: dict[str, list[float]] = {"no network": [], "pretrained network": [], "network of the source task": []}
    for seed in range(args.draws):
        order = np.random.default_rng(seed).permutation(len(y))
        of_source, few, tested = np.split(order[: args.n + LABELS + args.tests], [args.n, args.n + LABELS])
        source = FineTuneClassifier("tiny/cnn", freeze_depth="block3", lr=1e-3, max_epochs=5, random_state=seed)
        source.fit(X[of_source], y[of_source])
        for name, backbone in zip(rows, (None, "tiny/cnn", source.backbone_)):
            steps = [] if backbone is None else [ImageFeaturizer(backbone, layer="block5")]
            samples = X.reshape(len(X), -1) if backbone is None else X
            model = make_pipeline(*steps, StandardScaler(), LogisticRegression(max_iter=1000))
            model.fit(samples[few], y[few] % 2)
            rows[name].append(model.score(samples[tested], y[tested] % 2))
    title = f"Even or odd from {LABELS} labels, after {args.n} labels of the digits"
    report(title, rows, args.out / "path_task_adaptation.png")


if __name__ == "__main__":
    main()
