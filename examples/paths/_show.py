"""Data, table and picture of the scripts of the eight paths."""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import numpy as np
from matplotlib import pyplot as plt
from scipy.ndimage import gaussian_filter
from sklearn.datasets import load_digits

STARTED = time.perf_counter()


def read_arguments(doc: str, n: int, tests: int, draws: int = 3) -> argparse.Namespace:
    """Return the options of a script.

    Parameters
    ----------
    doc : str
        Docstring of the script.
    n : int
        Default of `--n`, a number of samples.
    tests : int
        Default of `--tests`, a number of test samples.
    draws : int, default=3
        Default of `--draws`.
    """
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=n, help="number of samples")
    parser.add_argument("--tests", type=int, default=tests, help="number of test samples")
    parser.add_argument("--draws", type=int, default=draws, help="random draws of these samples")
    parser.add_argument("--out", type=Path, default=Path("demo"))
    return parser.parse_args()


def digits() -> tuple[np.ndarray, np.ndarray]:
    """Return the 1797 digits of scikit-learn (n, 8, 8) in [0, 1], and their labels."""
    images, labels = load_digits(return_X_y=True)
    return images.reshape(-1, 8, 8) / 16, labels


def two_domains() -> dict[str, tuple[list[np.ndarray], np.ndarray]]:
    """Return images and labels of MNIST and USPS if `SKTRANSFER_TEST_DATA` is set, else sharp and blurred digits."""
    folder = os.environ.get("SKTRANSFER_TEST_DATA")
    if folder:
        files = {"MNIST": np.load(f"{folder}/images/mnist_10k.npz"), "USPS": np.load(f"{folder}/images/usps.npz")}
        return {name: (list(file["data"]), file["y"].astype(int)) for name, file in files.items()}
    print("SKTRANSFER_TEST_DATA is not set: the digits of scikit-learn, half of them blurred, stand for two domains")
    images, labels = digits()
    blurred = gaussian_filter(images, (0, 0.8, 0.8))
    return {"sharp": (list(images[::2]), labels[::2]), "blurred": (list(blurred[1::2]), labels[1::2])}


def report(title: str, rows: dict[str, Sequence[float]], path: Path) -> None:
    """Print accuracies by name as a table, and save them as a picture.

    Parameters
    ----------
    title : str
        Title of the table.
    rows : dict of str to sequence of float
        Accuracies of all draws, by name.
    path : Path
        File of the picture.
    """
    width = max(map(len, rows))
    print(f"{title}\n")
    for name, scores in rows.items():
        print(f"  {name:{width}s}  {np.mean(scores):.3f} ± {np.std(scores):.3f}")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure, ax = plt.subplots(figsize=(7.5, 0.9 + 0.45 * len(rows)), layout="constrained")
    means, deviations = ([function(scores) for scores in rows.values()] for function in (np.mean, np.std))
    bars = ax.barh(list(rows), means, xerr=deviations, color="#0072B2", height=0.6)
    ax.bar_label(bars, labels=[f"{mean:.3f}" for mean in means], label_type="center", color="white")
    ax.invert_yaxis()
    ax.set(xlim=(0, 1), xlabel="accuracy")
    ax.set_title(title, loc="left", fontsize=10)
    ax.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=100)
    plt.close(figure)
    print(f"\npicture: {path}\n{time.perf_counter() - STARTED:.0f} seconds")
