"""Task adaptation: another task in the same domain, one after the other.

    source = FineTuneClassifier("tiny/cnn").fit(X_source, y_source)
    features = ImageFeaturizer(source.backbone_)
    clf = make_pipeline(features, LogisticRegression()).fit(X, y)

The images are digits somewhere in a larger field. The source task is to tell the digits 0 to 4 apart, with many labels.
The target task has other classes, 5 to 9, and few labels. Its images look alike, so that the features of the source
task serve it.
"""

from __future__ import annotations

import numpy as np
from _show import digits, read_arguments, report
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sktransfer import FineTuneClassifier, ImageFeaturizer

LABELS, N_TEST = 8, 400  # labels per class of the target task


def digits_in_fields(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return digits at random places of fields (n, 16, 16), and their labels."""
    images, labels = digits()
    fields = np.zeros((len(images), 16, 16))
    for field, image, (top, left) in zip(fields, images, rng.integers(9, size=(len(images), 2))):
        field[top : top + 8, left : left + 8] = image
    return fields, labels


def main() -> None:
    """Print the table and save the picture."""
    args = read_arguments(__doc__, n=400)
    rows: dict[str, list[float]] = {"no network": [], "pretrained network": [], "network of the source task": []}
    for seed in range(args.draws):
        rng = np.random.default_rng(seed)
        X, y = digits_in_fields(rng)
        order = rng.permutation(len(y))
        low, high = order[y[order] < 5][: args.n], order[y[order] >= 5]
        few = np.concatenate([high[y[high] == label][:LABELS] for label in range(5, 10)])
        tested = np.setdiff1d(high, few)[:N_TEST]
        source = FineTuneClassifier("tiny/cnn", freeze_depth="block2", lr=1e-3, max_epochs=6, random_state=seed)
        source.fit(X[low], y[low])
        for name, backbone in zip(rows, (None, "tiny/cnn", source.backbone_)):
            steps = [] if backbone is None else [ImageFeaturizer(backbone, layer="block5")]
            samples = X.reshape(len(X), -1) if backbone is None else X
            model = make_pipeline(*steps, StandardScaler(), LogisticRegression(max_iter=1000))
            rows[name].append(model.fit(samples[few], y[few]).score(samples[tested], y[tested]))
    title = f"Digits 5 to 9 from {LABELS} labels each, after {args.n} labels of 0 to 4"
    report(title, rows, args.out / "path_task_adaptation.png")


if __name__ == "__main__":
    main()
