"""Predict with a pretrained network without training, and calibrate its probabilities.

    python examples/ready_model.py                                # two sample photos of scikit-learn
    SKTRANSFER_TEST_DATA=<folder> python examples/ready_model.py  # photos as well, see README.md

`PretrainedClassifier` uses the head of the pretrained network. It predicts the categories of the pretraining data and
needs no `fit`. The script saves two photos with their five likeliest categories. With the data folder, it uses photos
of ants and bees. It prints how often "ant" or "bee" is among the five likeliest categories, and how well the network
separates the two without any label. It also prints the confidence of `tiny/cnn` on photos without colour, before and
after calibration. Without the data folder, `tiny/cnn` predicts the categories of the two photos only.
"""

from __future__ import annotations

import argparse
import io
import lzma
import os
import time
import warnings
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from PIL import Image
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_sample_images
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import train_test_split

from sktransfer import PretrainedClassifier, load_backbone, load_image_folder
from sktransfer.exceptions import ReducedImageWarning


def insects(clf: PretrainedClassifier, folder: Path) -> None:
    """Print how well ImageNet's categories describe photos of ants and bees, without any training on them."""
    parts = [load_image_folder(folder / "images" / "hymenoptera" / part) for part in ("train", "val")]
    X, y = (np.concatenate(both) for both in zip(*parts))
    words = np.where(y == "ants", "ant", "bee")
    decoded = clf.decode(X, top=5)
    named = (decoded["category"].to_numpy().reshape(-1, 5) == words[:, None]).any(1)  # (photos,)
    print(f"{len(X)} photos: exactly 'ant' or 'bee' is among the five likeliest of 1000 for {named.mean():.2f} of them")
    ant, bee = (clf.predict_proba(X)[:, clf.classes_ == word].ravel() for word in ("ant", "bee"))  # (photos,) each
    print(f"the likelier of the two is right for {np.mean((ant > bee) == (y == 'ants')):.2f}\n")


def grey_photos(folder: Path, n: int) -> tuple[list[Image.Image], np.ndarray]:
    """Return n grey photos of 32 x 32 pixels that `tiny/cnn` was not trained on, and their labels."""
    with lzma.open(folder / "images" / "tiny_imagenet32.npz.xz") as file:
        table = np.load(io.BytesIO(file.read()))
    held_out = np.flatnonzero(table["split"] == 1)
    rows = np.random.default_rng(0).permutation(held_out)[:n]
    data, ends = table["data"].tobytes(), table["off"]
    photos = [Image.open(io.BytesIO(data[ends[row] : ends[row + 1]])).convert("L") for row in rows]
    return photos, np.array(load_backbone("tiny/cnn").categories)[table["y"][rows]]


def calibrated(folder: Path, n: int) -> dict[str, pd.DataFrame]:
    """Return confidence and correctness of `tiny/cnn` per grey photo, before and after calibration."""
    clf = PretrainedClassifier("tiny/cnn")
    X, y = grey_photos(folder, n)
    X, X_test, y, y_test = train_test_split(X, y, test_size=0.5, stratify=y, random_state=0)
    # Only one number is fitted, the temperature. The network and its predicted categories do not change.
    scaled = CalibratedClassifierCV(FrozenEstimator(clf), method="temperature", cv=2).fit(X, y)
    print(f"tiny/cnn on {len(X_test)} grey photos of its {len(clf.classes_)} categories, learned from colour photos")
    tables = {}
    for name, model in (("uncalibrated", clf), ("calibrated", scaled)):
        proba = model.predict_proba(X_test)  # (photos, categories)
        right = clf.classes_[proba.argmax(1)] == y_test
        tables[name] = pd.DataFrame({"confidence": proba.max(1), "correct": right})
        loss = -np.log(proba[np.arange(len(y_test)), np.searchsorted(clf.classes_, y_test)]).mean()
        print(
            f"  {name:12s}  mean confidence {proba.max(1).mean():.3f}, accuracy {right.mean():.3f}, log loss {loss:.3f}"
        )
    return tables


def picture(clf: PretrainedClassifier, photos: list[np.ndarray], tables: dict[str, pd.DataFrame]) -> plt.Figure:
    """Draw photos with their likeliest categories, and accuracy against confidence."""
    figure = plt.figure(figsize=(10 if tables else 6.5, 4.5), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=[3, 2]) if tables else (figure, None)
    decoded = clf.decode(photos, top=5)
    for row, (image, bars) in enumerate(left.subplots(2, 2, width_ratios=[2, 3])):
        image.imshow(photos[row])
        image.axis("off")
        best = decoded[decoded["row"] == row].iloc[::-1]
        bars.barh(best["category"], best["probability"], color="#0072B2")
        bars.set_xlim(0, 1)
        bars.spines[["top", "right"]].set_visible(False)
    bars.set_xlabel("probability")
    if right is not None:
        axes = right.subplots()
        axes.plot([0, 1], [0, 1], color="0.6", linestyle=":")
        for (name, table), colour, marker in zip(tables.items(), ("#D55E00", "#0072B2"), "so"):
            deciles = table.groupby(pd.qcut(table["confidence"], 10), observed=True)[["confidence", "correct"]].mean()
            axes.plot(deciles["confidence"], deciles["correct"], color=colour, marker=marker, label=name)
        axes.set_title("tiny/cnn on grey photos")
        axes.set_xlabel("mean confidence, per decile of the photos")
        axes.set_ylabel("accuracy")
        axes.legend(frameon=False)
    return figure


def main() -> None:
    """Print the results and save the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--n", type=int, default=3000, help="number of grey photos, half of them for calibration and half for the test"
    )
    parser.add_argument("--out", type=Path, default=Path("demo"))
    args = parser.parse_args()
    started = time.perf_counter()
    if folder := os.environ.get("SKTRANSFER_TEST_DATA"):
        weights = Path(folder, "weights", "mobilenet_v2_imagenet1k.safetensors")
        clf = PretrainedClassifier("torchvision/mobilenet_v2", weights=weights)
        insects(clf, Path(folder))
        tables = calibrated(Path(folder), args.n)
    else:
        print("SKTRANSFER_TEST_DATA is not set: tiny/cnn classifies scikit-learn's two sample photos only\n")
        warnings.simplefilter("ignore", ReducedImageWarning)  # tiny/cnn reads 32 x 32 pixels
        clf, tables = PretrainedClassifier("tiny/cnn"), {}
    photos = load_sample_images().images
    print("\nscikit-learn's two sample photos:")
    print(clf.decode(photos, top=3).round(3).to_string(index=False), "\n")

    args.out.mkdir(parents=True, exist_ok=True)
    picture(clf, photos, tables).savefig(args.out / "ready_model.png", dpi=75)
    plt.close("all")
    print(f"picture: {args.out}/ready_model.png\n{time.perf_counter() - started:.0f} seconds")


if __name__ == "__main__":
    main()
