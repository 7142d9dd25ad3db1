"""Task adaptation: another task in the same domain, one after the other.

    source = FineTuneClassifier("tiny/cnn").fit(X_source, y_source)
    features = ImageFeaturizer(source.backbone_)
    clf = make_pipeline(features, LogisticRegression()).fit(X, y)

The source task is to tell the digits 0 to 4 apart, with many labels. The target task has other classes, 5 to 9, and few
labels. The images of both are from the same scanner, so that the features of the source task serve the target task.
"""

from __future__ import annotations

import numpy as np
from _show import digits, read_arguments, report
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from sktransfer import FineTuneClassifier, ImageFeaturizer

LABELS = 5  # per class of the target task


def main() -> None:
    """Print the table and save the picture."""
    args = read_arguments(__doc__, n=400)
    X, y = digits()
    rows: dict[str, list[float]] = {
        "raw pixels": [],
        "pretrained network": [],
        "network of the source task": [],
    }
    for seed in range(args.draws):
        rng = np.random.default_rng(seed)
        order = rng.permutation(len(y))
        low, high = order[y[order] < 5][: args.n], order[y[order] >= 5]
        few = np.concatenate([high[y[high] == label][:LABELS] for label in range(5, 10)])
        tested = np.setdiff1d(high, few)
        source = FineTuneClassifier("tiny/cnn", freeze_depth=0, max_epochs=8, random_state=seed).fit(X[low], y[low])
        for name, backbone in zip(rows, (None, "tiny/cnn", source.backbone_)):
            steps = [] if backbone is None else [ImageFeaturizer(backbone, layer="block4")]
            samples = X.reshape(len(X), -1) if backbone is None else X
            model = make_pipeline(*steps, LogisticRegression(max_iter=1000)).fit(samples[few], y[few])
            rows[name].append(model.score(samples[tested], y[tested]))
    title = f"Digits 5 to 9 from {LABELS} labels each, after {args.n} labels of 0 to 4"
    report(title, rows, args.out / "path_task_adaptation.png")


if __name__ == "__main__":
    main()
