"""Classify photos of ants and bees with few labels and a pretrained network.

    python examples/wildlife_photos.py                                # crops of two sample photos of scikit-learn
    SKTRANSFER_TEST_DATA=<folder> python examples/wildlife_photos.py  # photos as well, see README.md

A logistic regression learns the labels from the features of a network that was pretrained on a million photos. The
script prints test accuracy per number of labelled photos and saves the learning curve. It compares the pretrained
network with the same network untrained and with a small network trained from scratch. Without the data folder, it
classifies crops of scikit-learn's two sample photos.
"""

from __future__ import annotations

import argparse
import os
import time
import warnings
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from sklearn.datasets import load_sample_images
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sktransfer import FineTuneClassifier, ImageFeaturizer, load_image_folder
from sktransfer.exceptions import ReducedImageWarning

PRETRAINED, UNTRAINED, SCRATCH = "pretrained, frozen", "untrained, frozen", "small, from scratch"
COLOURS = {PRETRAINED: "#0072B2", UNTRAINED: "#D55E00", SCRATCH: "#009E73"}
Photos = tuple[Any, np.ndarray]


def photos() -> tuple[Photos, Photos, dict[str, Any]]:
    """Return training photos with labels, test photos with labels, and the parameters of the pretrained network."""
    if folder := os.environ.get("SKTRANSFER_TEST_DATA"):
        train, test = (load_image_folder(Path(folder, "images", "hymenoptera", part)) for part in ("train", "val"))
        weights = Path(folder, "weights", "mobilenet_v2_imagenet1k.safetensors")
        return train, test, {"backbone": "torchvision/mobilenet_v2", "weights": weights}
    print("SKTRANSFER_TEST_DATA is not set: crops of scikit-learn's two sample photos are used\n")
    crops = np.stack(load_sample_images().images)[:, :384]  # (2, 384, 640, 3)
    crops = crops.reshape(2, 6, 64, 10, 64, 3).swapaxes(2, 3)  # (photos, rows, columns, 64, 64, 3)
    left, right = (half.reshape(60, 64, 64, 3) for half in np.split(crops, 2, axis=2))
    y = np.repeat(["china", "flower"], 30)
    return (left, y), (right, y), {"backbone": "tiny/cnn", "weights": "pretrained"}


def models(network: dict[str, Any], size: int, seed: int) -> dict[str, Any]:
    """Return the models by name."""
    featurizer = ImageFeaturizer(**network, layer=-1)
    # The untrained network differs in its weights only. Its preprocessing is that of the pretrained network.
    preprocess = ImageFeaturizer(**network).fit([np.zeros((8, 8))]).backbone_.preprocess
    untrained = ImageFeaturizer(network["backbone"], weights="random", layer=-1, preprocess=preprocess)
    linear = LogisticRegression(max_iter=2000)
    return {
        PRETRAINED: make_pipeline(featurizer, linear),
        UNTRAINED: make_pipeline(untrained, StandardScaler(), linear),
        SCRATCH: FineTuneClassifier(
            "tiny/cnn",
            weights="random",
            layer=-1,
            freeze_depth=0,
            head_init="random",
            max_epochs=max(10, 100 // size),  # fewer photos need more epochs
            lr=1e-3,
            batch_size=16,
            random_state=seed,
        ),
    }


def learning_curve(train: Photos, test: Photos, network: dict[str, Any], sizes: list[int], draws: int) -> pd.DataFrame:
    """Return a table of test accuracy, one row per model, number of labels per class, and draw."""
    X, y = train
    rows = []
    for draw in range(draws):
        rng = np.random.default_rng(draw)
        order = {label: rng.permutation(np.flatnonzero(y == label)) for label in np.unique(y)}
        for size in sizes:
            labelled = np.concatenate([rows_of_label[:size] for rows_of_label in order.values()])
            for name, model in models(network, size, draw).items():
                if name != SCRATCH or draw < 2:  # two draws of it take longer than everything else
                    accuracy = model.fit(X[labelled], y[labelled]).score(*test)
                    rows.append({"model": name, "labels per class": size, "accuracy": accuracy})
    return pd.DataFrame(rows)


def picture(curve: pd.DataFrame) -> plt.Figure:
    """Draw accuracy against labels per class: mean ± standard deviation over draws."""
    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    for (name, colour), marker in zip(COLOURS.items(), "os^"):
        scores = curve[curve["model"] == name].groupby("labels per class")["accuracy"].agg(["mean", "std"])
        axes.plot(scores.index, scores["mean"], marker=marker, color=colour, label=name)
        axes.fill_between(
            scores.index, *(scores["mean"] + side * scores["std"] for side in (-1, 1)), color=colour, alpha=0.2
        )
    axes.set_xscale("log")
    sizes = curve["labels per class"].unique()
    axes.set_xticks(sizes, sizes)
    axes.minorticks_off()
    axes.set_xlabel("labelled photos per class")
    axes.set_ylabel("accuracy on test photos")
    axes.grid(alpha=0.25)
    figure.legend(loc="outside upper center", ncols=3, frameon=False)
    return figure


def main() -> None:
    """Print the table and save the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--sizes", type=int, nargs="+", default=[2, 5, 10, 20, 50])
    parser.add_argument("--out", type=Path, default=Path("demo"))
    args = parser.parse_args()
    started = time.perf_counter()
    warnings.simplefilter("ignore", ReducedImageWarning)  # the small network from scratch reads 32 x 32 pixels

    train, test, network = photos()
    sizes = [size for size in args.sizes if size <= min(np.unique(train[1], return_counts=True)[1])]
    curve = learning_curve(train, test, network, sizes, args.draws)
    print(
        f"accuracy on {len(test[1])} test photos by labelled photos per class, mean ± standard deviation over draws\n"
    )
    table = curve.groupby(["model", "labels per class"], sort=False)["accuracy"].agg(["mean", "std"])
    formatted = table.apply(lambda row: f"{row['mean']:.3f} ± {row['std']:.3f}", axis=1)
    print(formatted.unstack().to_string(), "\n")

    args.out.mkdir(parents=True, exist_ok=True)
    picture(curve).savefig(args.out / "wildlife_photos.png", dpi=100)
    plt.close("all")
    print(f"picture: {args.out}/wildlife_photos.png\n{time.perf_counter() - started:.0f} seconds")


if __name__ == "__main__":
    main()
