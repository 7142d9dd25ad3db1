"""Grey 16-bit images: choose the layer and the pooling of a backbone trained on colour photos.

    python examples/grey_images.py

The script generates images that resemble chest X-rays: clear, with a small round spot, or with a haze over one lung. It
writes them as 16-bit PNG files, which `ImageFeaturizer` reads without rounding to 8 bits. A grid search over layer and
pooling finds the features that transfer. The script prints test accuracy and saves the grid as a picture and a map of
the images.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import numpy as np
from matplotlib import pyplot as plt
from PIL import Image
from scipy.ndimage import gaussian_filter
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold, train_test_split
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from sktransfer import FeatureMapDisplay, ImageFeaturizer, load_image_folder

SIDE, KINDS, LABELLED = 64, ("clear", "haze", "spot"), 120
LAYERS = ["stem", "block1", "block2", "block3", "block4", "block5", "top"]
POOLINGS = ["average", "max", "grid2"]


def chest(kind: str, rng: np.random.Generator) -> np.ndarray:
    """Return an image (64, 64) of uint16: a bright body, two dark lungs, ribs, noise, and a spot or haze."""
    y, x = np.mgrid[-1 : 1 : SIDE * 1j, -1 : 1 : SIDE * 1j] + rng.normal(0, 0.03, (2, 1, 1))  # positions vary
    lungs = [((x - side * 0.42) / 0.33) ** 2 + (y / 0.7) ** 2 < 1 for side in (-1, 1)]
    image = 0.75 - 0.35 * gaussian_filter(np.float64(lungs[0] | lungs[1]), 2)
    image += 0.05 * np.sin(18 * y + 2 * x**2 + rng.uniform(0, 6)) + rng.normal(0, 0.05)
    lung = lungs[rng.integers(2)]
    if kind == "spot":
        row, column = rng.choice(np.argwhere(gaussian_filter(np.float64(lung), 2) > 0.95))
        image += 0.35 * np.exp(-((np.mgrid[:SIDE, :SIDE] - np.array([[[row]], [[column]]])) ** 2).sum(0) / 6)
    elif kind == "haze":
        image += lung * 1.2 * np.abs(gaussian_filter(rng.normal(0, 1, (SIDE, SIDE)), 2))
    image += rng.normal(0, 0.03, (SIDE, SIDE))
    return np.uint16(np.clip(image, 0, 1) * 65535)


def write_images(folder: Path, n: int) -> None:
    """Write n images of each kind, one folder per kind."""
    rng = np.random.default_rng(0)
    for kind in KINDS:
        (folder / kind).mkdir()
        for i in range(n):
            Image.fromarray(chest(kind, rng)).save(folder / kind / f"{i:03d}.png")


def pixels(paths: np.ndarray) -> np.ndarray:
    """Return the images as rows of pixels, the baseline without a network."""
    return np.stack([np.asarray(Image.open(path)).ravel() / 65535 for path in paths])


def on_features(weights: str) -> Pipeline:
    """Return a linear classifier on the features of `tiny/cnn`."""
    return make_pipeline(
        ImageFeaturizer("tiny/cnn", weights=weights), StandardScaler(), LogisticRegression(C=0.1, max_iter=1000)
    )


def run(paths: np.ndarray, labels: np.ndarray, draws: int) -> tuple[dict[str, list[float]], list[GridSearchCV]]:
    """Return test accuracies per table row, and the searches on pretrained features."""
    grid = {"imagefeaturizer__layer": LAYERS, "imagefeaturizer__pooling": POOLINGS}
    rows: dict[str, list[float]] = {
        "raw pixels": [],
        "tiny/cnn, untrained, layer and pooling searched": [],
        "tiny/cnn, pretrained, its last layer": [],
        "tiny/cnn, pretrained, layer and pooling searched": [],
    }
    searches = []
    for draw in range(draws):
        X, X_test, y, y_test = train_test_split(paths, labels, train_size=LABELLED, stratify=labels, random_state=draw)
        folds = StratifiedKFold(5, shuffle=True, random_state=draw)
        raw = make_pipeline(FunctionTransformer(pixels), StandardScaler(), LogisticRegression(C=0.1, max_iter=1000))
        random = GridSearchCV(on_features("random"), grid, cv=folds)
        searches.append(GridSearchCV(on_features("pretrained"), grid, cv=folds))
        last = on_features("pretrained").set_params(imagefeaturizer__layer=-1)
        for scores, model in zip(rows.values(), (raw, random, last, searches[-1])):
            scores.append(model.fit(X, y).score(X_test, y_test))
    return rows, searches


def picture(scores: np.ndarray, paths: np.ndarray, labels: np.ndarray) -> plt.Figure:
    """Draw an image of each kind, and accuracy of shape (layers, poolings)."""
    figure = plt.figure(figsize=(8, 4.6), layout="constrained")
    images, grid = figure.subfigures(1, 2, width_ratios=[1, 3])
    for axes, kind in zip(images.subplots(3, 1), KINDS):
        axes.imshow(np.asarray(Image.open(paths[labels == kind][0])), cmap="gray", vmin=0, vmax=65535)
        axes.set_title(kind, fontsize=10)
        axes.axis("off")
    axes = grid.subplots()
    drawn = axes.imshow(scores, cmap="cividis", aspect="auto")
    for place, score in np.ndenumerate(scores):
        dark = score < (scores.min() + scores.max()) / 2
        axes.text(*place[::-1], f"{score:.2f}", ha="center", va="center", color="white" if dark else "black")
    axes.set_xticks(range(len(POOLINGS)), POOLINGS)
    axes.set_yticks(range(len(LAYERS)), LAYERS)
    axes.set_xlabel("pooling")
    axes.set_ylabel("layer")
    grid.colorbar(drawn, label="cross-validated accuracy")
    return figure


def main() -> None:
    """Print the table and save the pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=200, help="images of each kind")
    parser.add_argument("--draws", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("demo"))
    args = parser.parse_args()
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        write_images(Path(folder), args.n)
        paths, labels = load_image_folder(folder)
        rows, searches = run(paths, labels, args.draws)
        print(f"{LABELLED} labelled images, accuracy on {len(paths) - LABELLED} others, over {args.draws} draws\n")
        for name, scores in rows.items():
            print(f"  {name:50s} {np.mean(scores):.3f} ± {np.std(scores):.3f}")
        chosen = [" ".join(search.best_params_.values()) for search in searches]
        print(f"\nchosen on the labelled images: {'; '.join(chosen)}")

        args.out.mkdir(parents=True, exist_ok=True)
        # The grid iterates over layers in the outer loop and over poolings in the inner loop.
        grid = np.mean([search.cv_results_["mean_test_score"] for search in searches], axis=0)  # (candidates,)
        grid = grid.reshape(len(LAYERS), len(POOLINGS))  # (layers, poolings)
        picture(grid, paths, labels).savefig(args.out / "grey_images.png", dpi=90)
        half = slice(None, None, 2)
        display = FeatureMapDisplay.from_estimator(
            searches[0].best_estimator_[0], paths[half], labels[half], n_shown=30
        )
        display.figure_.savefig(args.out / "grey_images_map.png", dpi=80)
        plt.close("all")
    print(f"pictures: {args.out}/grey_images.png, grey_images_map.png\n{time.perf_counter() - started:.0f} seconds")


if __name__ == "__main__":
    main()
