"""Find striped digits on a noisy background from a few scribbles, with a frozen and with a fine-tuned network.

    python examples/segmentation.py

Brightness does not tell digits from background, because both have the same mean and deviation. The script prints the
mean intersection over union on images without labels, by number of images with scribbles, for a forest of raw pixels,
for frozen maps of `tiny/cnn`, and for fine-tuning of its upper stages. It saves a picture of masks over images.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import numpy as np
from matplotlib import pyplot as plt
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier

from sktransfer import FineTuneSegmenter, MaskDisplay

SIDE, N_TEST = 96, 6


def make_images(n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return grey images (n, 96, 96) in [0, 1] with a striped digit each, and their exact masks."""
    digits = load_digits().images / 16  # (n_digits, 8, 8)
    images, masks = [], []
    for _ in range(n):
        scale = int(rng.integers(6, 11))
        digit = np.kron(digits[rng.integers(len(digits))] > 0.4, np.ones((scale, scale), int))  # (8 * scale, 8 * scale)
        mask = np.zeros((SIDE, SIDE), int)
        top, left = rng.integers(SIDE - len(digit) + 1, size=2)
        mask[top : top + len(digit), left : left + len(digit)] = digit
        rows, columns = np.mgrid[:SIDE, :SIDE]
        angle, period = rng.uniform(0, np.pi), rng.uniform(5, 8)
        stripes = np.sin(2 * np.pi * (np.cos(angle) * rows + np.sin(angle) * columns) / period)
        stripes = stripes + 0.4 * rng.normal(size=mask.shape)
        texture = np.where(mask == 1, stripes / stripes.std(), rng.normal(size=mask.shape))
        images.append(np.clip(0.5 + 0.15 * texture, 0, 1))
        masks.append(mask)
    return np.stack(images), np.stack(masks)


def scribble(mask: np.ndarray, rng: np.random.Generator, n_lines: int = 4, length: int = 20) -> np.ndarray:
    """Return a mask in which a few short lines per class are known, and all other pixels are -1."""
    known = np.full_like(mask, -1)
    for label in (0, 1):
        rows, columns = np.nonzero(mask == label)
        for start in rng.integers(len(rows), size=n_lines):
            row, stop = rows[start], min(columns[start] + length, mask.shape[1])
            line = mask[row, columns[start] : stop]
            known[row, columns[start] : stop][line == label] = label
    return known


def raw_pixels(images: np.ndarray) -> np.ndarray:
    """Return the 7 x 7 values around each pixel (n, height, width, 49)."""
    padded = np.pad(images, ((0, 0), (3, 3), (3, 3)), mode="reflect")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (7, 7), axis=(1, 2))  # (n, height, width, 7, 7)
    return windows.reshape(*images.shape, -1)


def score_of_forest(images: np.ndarray, masks: np.ndarray, test: np.ndarray, truth: np.ndarray) -> float:
    """Return the mean intersection over union of a forest of raw pixels."""
    from sklearn.metrics import jaccard_score

    known = masks >= 0
    forest = RandomForestClassifier(50, max_depth=10, random_state=0).fit(raw_pixels(images)[known], masks[known])
    predicted = forest.predict(raw_pixels(test).reshape(truth.size, -1))
    return float(jaccard_score(truth.ravel(), predicted, average="macro"))


def main() -> None:
    """Print the table and save the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1, 5, 20])
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--out", type=Path, default=Path("demo"))
    args = parser.parse_args()
    started = time.perf_counter()
    rng = np.random.default_rng(0)
    images, masks = make_images(max(args.sizes), rng)
    scribbles = np.stack([scribble(mask, rng) for mask in masks])
    test, truth = make_images(N_TEST, rng)
    frozen = FineTuneSegmenter("tiny/cnn", layer=["block1", "block2"], random_state=0)
    tuned = FineTuneSegmenter(
        "tiny/cnn", layer=["block1", "block2"], freeze_depth="stem", max_epochs=args.epochs, lr=1e-3, random_state=0
    )
    print(f"mean intersection over union on {N_TEST} images; {(scribbles >= 0).mean():.1%} of the pixels are known\n")
    print("  images with scribbles              " + "".join(f"{n:8d}" for n in args.sizes))
    rows = {
        "7 x 7 raw pixels, forest": lambda n: score_of_forest(images[:n], scribbles[:n], test, truth),
        "tiny/cnn, frozen": lambda n: frozen.fit(list(images[:n]), scribbles[:n]).score(test, truth),
        "tiny/cnn, two stages fine-tuned": lambda n: tuned.fit(list(images[:n]), scribbles[:n]).score(test, truth),
    }
    for name, score in rows.items():
        print(f"  {name:35s}" + "".join(f"{score(n):8.3f}" for n in args.sizes), flush=True)
    args.out.mkdir(parents=True, exist_ok=True)
    display = MaskDisplay.from_estimator(tuned, test[:3], truth[:3])
    display.figure_.savefig(args.out / "segmentation.png", dpi=60)
    plt.close("all")
    print(f"\npicture: {args.out}/segmentation.png\n{time.perf_counter() - started:.0f} seconds")


if __name__ == "__main__":
    main()
