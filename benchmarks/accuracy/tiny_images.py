"""Accuracy of frozen `tiny/cnn` features, compared with raw pixels, HOG and the untrained network.

    SKTRANSFER_TEST_DATA=... python -m benchmarks.accuracy.tiny_images

Cross-validation on each training part chooses layer, pooling and regularisation. The test part is used once.
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
from sklearn.model_selection import GridSearchCV, ParameterGrid, RepeatedStratifiedKFold, train_test_split
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from benchmarks.common import Report, data_folder
from sktransfer import ImageFeaturizer, load_image_folder

SEEDS = 5
Split = tuple[Any, Any, np.ndarray, np.ndarray]
Draw = Callable[[int], Split]


def cifar10(seed: int) -> Split:
    """Return 10,000 and 2,000 photos of 12,000, drawn per seed. Seed 0 is the split of the data set."""
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
    """Return ten training digits per class, and the rest for the test."""
    X, y = load_digits(return_X_y=True)
    return train_test_split(X.reshape(-1, 8, 8) / 16, y, train_size=100, stratify=y, random_state=seed)


def mnist_to_usps(seed: int) -> Split:
    """Return 1,000 digits of MNIST drawn for each seed, and the 2,007 test digits of USPS, from another scanner."""
    source, target = (np.load(data_folder() / "images" / name) for name in ("mnist_10k.npz", "usps.npz"))
    X, y = source["data"][source["split"] == 0], source["y"][source["split"] == 0]
    rows = np.random.default_rng(seed).permutation(len(X))[:1000]
    X_test = np.stack([np.asarray(Image.fromarray(image).resize((28, 28))) for image in target["data"]])
    return X[rows], X_test[target["split"] == 1], y[rows], target["y"][target["split"] == 1]


def hymenoptera(seed: int) -> Split:
    """Return ants and bees at 32x32 in the split of the data set. Large photos are not the domain of `tiny/cnn`."""
    parts = [load_image_folder(data_folder() / "images" / "hymenoptera" / part) for part in ("train", "val")]
    pixels = [[np.asarray(Image.open(path).convert("RGB").resize((32, 32))) for path in X] for X, _ in parts]
    return np.stack(pixels[0]), np.stack(pixels[1]), parts[0][1], parts[1][1]


def flat(images: np.ndarray) -> np.ndarray:
    """Return raw pixels in [0, 1], (n, height * width * channels)."""
    return images.reshape(len(images), -1).astype(np.float32) / (255 if images.dtype == np.uint8 else 1)


def histograms(images: np.ndarray) -> np.ndarray:
    """Return histograms of oriented gradients (Dalal and Triggs, 2005), with up to eight cells per side."""
    cell, axis = max(2, images.shape[1] // 8), -1 if images.ndim == 4 else None
    return np.stack([hog(image, pixels_per_cell=(cell, cell), channel_axis=axis) for image in images])


def fitted(features: BaseEstimator, grid: dict[str, list[Any]], X: Any, y: np.ndarray, seed: int) -> Pipeline:
    """Return the best pipeline of a grid by held-out likelihood, because accuracy is too coarse with few labels."""
    # Pixels at the margin are nearly constant, and scaling would make their rare values huge.
    scale = "passthrough" if isinstance(features, FunctionTransformer) and features.func is flat else StandardScaler()
    pipeline = Pipeline([("features", features), ("scale", scale), ("clf", LogisticRegression(max_iter=400))])
    candidates = list(ParameterGrid(grid))
    if len(candidates) == 1:
        return pipeline.set_params(**candidates[0]).fit(X, y)
    splits, repeats = (5, 2) if len(X) < 1000 else (3, 1)
    folds = RepeatedStratifiedKFold(n_splits=splits, n_repeats=repeats, random_state=seed)
    return GridSearchCV(pipeline, grid, cv=folds, scoring="neg_log_loss").fit(X, y).best_estimator_


def compare(
    report: Report,
    what: str,
    draw: Draw,
    layers: list[Any],
    poolings: list[str],
    C: Sequence[float],
    pixels_C: Sequence[float],
) -> None:
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
            for pooling in poolings if grid else ():  # one pass caches all layers for the search
                clone(features).set_params(layer=layers, pooling=pooling).fit_transform(np.concatenate([X, X_test]))
            # Pixels in [0, 1] are smaller than standardised features and need weaker regularisation.
            best = fitted(features, {**grid, "clf__C": list(pixels_C if kind == "raw pixels" else C)}, X, y, seed)
            scores.append(float((best.predict(X_test) == y_test).mean()))
            chosen.append(" ".join(str(best.get_params()[name]) for name in ("clf__C", *grid)))
        report.row(f"{what}: {kind}", scores, chosen=chosen)


def main() -> None:
    """Print the four comparisons."""
    report = Report("tiny/cnn frozen + logistic regression: test accuracy", "tiny_images")
    few, grids = "digits, 10 labels per class", ["grid2", "grid3"]
    compare(report, few, digits, [1, 2, 3, 4], grids, C=[1.0], pixels_C=[0.1, 1.0, 10.0])
    compare(report, "MNIST, 1,000 labels, to USPS", mnist_to_usps, [2, 3, 4], grids, C=[0.01, 0.1], pixels_C=[0.1, 1.0])
    compare(
        report, "hymenoptera at 32x32", hymenoptera, [4, 5, 6], ["average", "grid2"], C=[0.003], pixels_C=[0.01, 0.1]
    )
    compare(report, "CIFAR-10, 10,000 labels", cifar10, [5, 6], ["grid2"], C=[0.003], pixels_C=[0.03])
    report.write()


if __name__ == "__main__":
    main()
