"""What `tiny/cnn` is worth: frozen features against raw pixels, HOG and the same network untrained.

    SKTRANSFER_TEST_DATA=... python -m benchmarks.tiny_images

Layer, pooling and regularisation are chosen by cross-validation on each training part; the test part is seen once.
"""

from __future__ import annotations

import io
import lzma
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from PIL import Image
from skimage.feature import hog
from sklearn.base import BaseEstimator, clone
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold, train_test_split
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from benchmarks.common import Report, data_folder
from sktransfer import ImageFeaturizer, load_image_folder

SEEDS = 5
Split = tuple[Any, Any, np.ndarray, np.ndarray]
Draw = Callable[[int], Split]


def cifar10(seed: int) -> Split:
    """Return 10,000 and 2,000 photos of 12,000, drawn anew for each seed; seed 0 is the data set's own split."""
    with lzma.open(data_folder() / "images" / "cifar10_12k.npz.xz") as file:
        archive = dict(np.load(io.BytesIO(file.read()), allow_pickle=False))
    data, offsets, y = archive["data"], archive["off"], archive["y"]
    jpegs = [data[start:stop].tobytes() for start, stop in pairwise(offsets)]
    X = np.stack([np.asarray(Image.open(io.BytesIO(jpeg)).convert("RGB")) for jpeg in jpegs])
    if seed == 0:
        train, test = archive["split"] == 0, archive["split"] == 1
        return X[train], X[test], y[train], y[test]
    return train_test_split(X, y, test_size=2000, stratify=y, random_state=seed)


def digits(seed: int) -> Split:
    """Return ten digits a class to train on, the rest to test on."""
    X, y = load_digits(return_X_y=True)
    return train_test_split(X.reshape(-1, 8, 8) / 16, y, train_size=100, stratify=y, random_state=seed)


def mnist_to_usps(seed: int) -> Split:
    """Return 1,000 digits of MNIST drawn for each seed, and the 2,007 test digits of USPS, another hand and scanner."""
    source, target = (np.load(data_folder() / "images" / name) for name in ("mnist_10k.npz", "usps.npz"))
    X, y = source["data"][source["split"] == 0], source["y"][source["split"] == 0]
    rows = np.random.default_rng(seed).permutation(len(X))[:1000]
    X_test = np.stack([np.asarray(Image.fromarray(image).resize((28, 28))) for image in target["data"]])
    return X[rows], X_test[target["split"] == 1], y[rows], target["y"][target["split"] == 1]


def hymenoptera(seed: int) -> Split:
    """Return ants and bees at 32x32, the data set's own split: large photos, which are not what `tiny/cnn` is for."""
    parts = [load_image_folder(data_folder() / "images" / "hymenoptera" / part) for part in ("train", "val")]
    pixels = [[np.asarray(Image.open(path).convert("RGB").resize((32, 32))) for path in X] for X, _ in parts]
    return np.stack(pixels[0]), np.stack(pixels[1]), parts[0][1], parts[1][1]


def flat(images: np.ndarray) -> np.ndarray:
    """Return raw pixels, (n, height * width * channels)."""
    return images.reshape(len(images), -1).astype(np.float32)


def histograms(images: np.ndarray) -> np.ndarray:
    """Return histograms of oriented gradients (Dalal and Triggs, 2005), eight cells a side where there are pixels."""
    cell, axis = max(2, images.shape[1] // 8), -1 if images.ndim == 4 else None
    return np.stack([hog(image, pixels_per_cell=(cell, cell), channel_axis=axis) for image in images])


def classifier(features: BaseEstimator) -> Pipeline:
    """Return logistic regression on standardised features."""
    return Pipeline([("features", features), ("scale", StandardScaler()), ("clf", LogisticRegression(max_iter=400))])


def compare(report: Report, what: str, draw: Draw, C: Sequence[float], layers: list[Any], poolings: list[str]) -> None:
    """Report the test accuracy of each kind of features."""
    kinds: dict[str, tuple[BaseEstimator, dict[str, list[Any]]]] = {
        "raw pixels": (FunctionTransformer(flat), {}),
        "HOG": (FunctionTransformer(histograms), {}),
        **{
            f"tiny/cnn, {weights} weights": (
                ImageFeaturizer("tiny/cnn", weights=weights),
                {"features__layer": layers, "features__pooling": poolings},
            )
            for weights in ("random", "pretrained")
        },
    }
    for kind, (features, grid) in kinds.items():
        scores, chosen = [], []
        for seed in range(SEEDS if draw is not hymenoptera else 1):
            X, X_test, y, y_test = draw(seed)
            for pooling in poolings if grid else ():  # one pass stores what all layers give, for the search to find
                clone(features).set_params(layer=layers, pooling=pooling).fit_transform(np.concatenate([X, X_test]))
            folds = StratifiedKFold(3, shuffle=True, random_state=seed)
            search = GridSearchCV(classifier(features), {**grid, "clf__C": list(C)}, cv=folds).fit(X, y)
            scores.append(search.score(X_test, y_test))
            chosen.append(" ".join(str(value) for value in search.best_params_.values()))
        report.row(f"{what}: {kind}", scores, chosen=chosen)


def main() -> None:
    """Print the four comparisons."""
    report = Report("tiny/cnn frozen + logistic regression: test accuracy", "tiny_images")
    compare(report, "digits, 10 labels a class", digits, [0.1, 1.0], [1, 2, 3, 4], ["grid2", "grid3"])
    compare(report, "MNIST, 1,000 labels, to USPS", mnist_to_usps, [0.001, 0.01], [2, 3, 4], ["grid2", "grid3"])
    compare(report, "hymenoptera at 32x32", hymenoptera, [0.001, 0.01], [4, 5, 6], ["average", "grid2"])
    compare(report, "CIFAR-10, 10,000 labels", cifar10, [0.003], [5, 6], ["average", "grid2"])
    report.write()


if __name__ == "__main__":
    main()
