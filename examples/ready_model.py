"""A pretrained network as it is: what it sees, and how sure it may be.

    SKTRANSFER_TEST_DATA=<folder> python examples/ready_model.py

`PretrainedClassifier` has the network's own head: it names what it was trained on, and needs no `fit`. Saves two photos
with the five likeliest categories of each. With the folder, prints how many photos of ants and bees have exactly that
word among the five, how well the network tells the two apart without a single label, and how sure `tiny/cnn` is of
photos that have lost their colour, before and after calibration. Without it, `tiny/cnn` names the two photos, and that
is all.
"""

from __future__ import annotations

import argparse
import io
import lzma
import os
import time
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


def insects(clf: PretrainedClassifier, folder: Path) -> None:
    """Print what ImageNet's categories say of photos of ants and bees, which were never used to train anything here."""
    parts = [load_image_folder(folder / "images" / "hymenoptera" / part) for part in ("train", "val")]
    X, y = (np.concatenate(both) for both in zip(*parts))
    words = np.where(y == "ants", "ant", "bee")
    told = clf.decode(X, top=5)
    found = (told["category"].to_numpy().reshape(-1, 5) == words[:, None]).any(1)  # (photos,)
    print(f"{len(X)} photos: exactly 'ant' or 'bee' is among the five likeliest of 1000 for {found.mean():.2f} of them")
    ant, bee = (clf.predict_proba(X)[:, clf.classes_ == word].ravel() for word in ("ant", "bee"))  # (photos,) each
    print(f"asked only which of the two is likelier, it is right for {np.mean((ant > bee) == (y == 'ants')):.2f}\n")


def grey_photos(folder: Path, n: int) -> tuple[list[Image.Image], np.ndarray]:
    """Return n photos of 32 x 32 pixels, none of which `tiny/cnn` was trained on, without colour, and their labels."""
    with lzma.open(folder / "images" / "tiny_imagenet32.npz.xz") as file:
        table = np.load(io.BytesIO(file.read()))
    held_out = np.flatnonzero(table["split"] == 1)
    rows = np.random.default_rng(0).permutation(held_out)[:n]
    data, ends = table["data"].tobytes(), table["off"]
    photos = [Image.open(io.BytesIO(data[ends[row] : ends[row + 1]])).convert("L") for row in rows]
    return photos, np.array(load_backbone("tiny/cnn").categories)[table["y"][rows]]


def calibrated(folder: Path, n: int) -> dict[str, pd.DataFrame]:
    """Return how sure `tiny/cnn` is of each grey photo, and whether it is right, as it is and after calibration."""
    clf = PretrainedClassifier("tiny/cnn")
    X, y = grey_photos(folder, n)
    X, X_test, y, y_test = train_test_split(X, y, test_size=0.5, stratify=y, random_state=0)
    # One number, the temperature, is fitted; the network stays as it is, and so do the names that it gives.
    scaled = CalibratedClassifierCV(FrozenEstimator(clf), method="temperature", cv=2).fit(X, y)
    print(f"tiny/cnn on {len(X_test)} grey photos of its {len(clf.classes_)} categories, which it learned in colour")
    tables = {}
    for name, model in (("as it is", clf), ("calibrated", scaled)):
        proba = model.predict_proba(X_test)  # (photos, categories)
        right = clf.classes_[proba.argmax(1)] == y_test
        tables[name] = pd.DataFrame({"sure": proba.max(1), "right": right})
        loss = -np.log(proba[np.arange(len(y_test)), np.searchsorted(clf.classes_, y_test)]).mean()
        print(f"  {name:10s}  {proba.max(1).mean():.3f} sure on average, {right.mean():.3f} right, log loss {loss:.3f}")
    return tables


def picture(clf: PretrainedClassifier, photos: list[np.ndarray], tables: dict[str, pd.DataFrame]) -> plt.Figure:
    """Draw photos beside their likeliest categories, and how often what is said is right."""
    figure = plt.figure(figsize=(10 if tables else 6.5, 4.5), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=[3, 2]) if tables else (figure, None)
    told = clf.decode(photos, top=5)
    for row, (seen, bars) in enumerate(left.subplots(2, 2, width_ratios=[2, 3])):
        seen.imshow(photos[row])
        seen.axis("off")
        best = told[told["row"] == row].iloc[::-1]
        bars.barh(best["category"], best["probability"], color="#0072B2")
        bars.set_xlim(0, 1)
        bars.spines[["top", "right"]].set_visible(False)
    bars.set_xlabel("probability")
    if right is not None:
        axes = right.subplots()
        axes.plot([0, 1], [0, 1], color="0.6", linestyle=":")
        for (name, table), colour, marker in zip(tables.items(), ("#D55E00", "#0072B2"), "so"):
            tenths = table.groupby(pd.qcut(table["sure"], 10))[["sure", "right"]].mean()
            axes.plot(tenths["sure"], tenths["right"], color=colour, marker=marker, label=name)
        axes.set_title("tiny/cnn on grey photos")
        axes.set_xlabel("how sure, in tenths of the photos")
        axes.set_ylabel("how often right")
        axes.legend(frameon=False)
    return figure


def main() -> None:
    """Print what was found, save the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=3000, help="grey photos, one half to calibrate, one to test")
    parser.add_argument("--out", type=Path, default=Path("demo"))
    args = parser.parse_args()
    started = time.perf_counter()
    if folder := os.environ.get("SKTRANSFER_TEST_DATA"):
        weights = Path(folder, "weights", "mobilenet_v2_imagenet1k.safetensors")
        clf = PretrainedClassifier("torchvision/mobilenet_v2", weights=weights)
        insects(clf, Path(folder))
        tables = calibrated(Path(folder), args.n)
    else:
        print("SKTRANSFER_TEST_DATA is not set: tiny/cnn names scikit-learn's two sample photos, and that is all\n")
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
