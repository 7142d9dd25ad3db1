"""Evidence in images and texts: which positions and which words a classifier has used.

    python examples/explanations.py

The script generates noisy images of 32x32 pixels with one of four small shapes at a random place. A logistic regression
on features of `tiny/cnn` tells the shapes apart. Its class activation maps are compared with the places of the shapes:
the pointing game counts the images whose strongest position lies in the shape. The maps of the same network with random
weights are a sanity check. They must differ, or the maps would show nothing that was learned. For texts the script
fine-tunes `tiny/bert` on a few made-up film reviews, and shows the words that decide a prediction.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import numpy as np
from matplotlib import pyplot as plt
from scipy.stats import spearmanr
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline

from sktransfer import ClassMapDisplay, FineTuneClassifier, ImageFeaturizer, TokenAttributionDisplay

SIDE, SHAPE, LAYER = 32, 8, "block4"
Y, X = np.mgrid[:SHAPE, :SHAPE]
SHAPES = {
    "cross": (abs(Y - 3.5) < 1) | (abs(X - 3.5) < 1),
    "ring": abs(np.hypot(Y - 3.5, X - 3.5) - 3) < 1,
    "stripes": Y % 3 == 0,
    "checks": (Y // 2 + X // 2) % 2 == 0,
}
GOOD = ["moving", "funny", "clever", "warm", "brilliant"]
BAD = ["dull", "stupid", "boring", "lifeless", "awful"]
PLOTS = ["the plot is {}", "a {} story about a dog", "what a {} film", "the acting was {} from start to end"]


def draw_images(n: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return images (n, 32, 32, 3), their shapes, and the upper left corners of these (n, 2)."""
    rng = np.random.default_rng(seed)
    images = np.clip(rng.normal(0.45, 0.12, (n, SIDE, SIDE, 3)), 0, 1).astype(np.float32)
    labels, corners = rng.choice(list(SHAPES), n), rng.integers(0, SIDE - SHAPE, (n, 2))
    for image, label, (row, column) in zip(images, labels, corners):
        image[row : row + SHAPE, column : column + SHAPE][SHAPES[label]] = [0.9, 0.85, 0.2]
    return images, labels, corners


def is_hit(places: np.ndarray, corners: np.ndarray, n_cells: int) -> np.ndarray:
    """Return whether cells (n, 2) of a grid touch the shapes, (n,)."""
    cell = SIDE / n_cells
    first, last = places * cell, (places + 1) * cell  # (n, 2), in pixels
    return ((last > corners) & (first < corners + SHAPE)).all(1)


def on_features(weights: str) -> Pipeline:
    """Return a linear classifier on averaged maps of `tiny/cnn`."""
    return make_pipeline(ImageFeaturizer("tiny/cnn", weights=weights, layer=LAYER), LogisticRegression(max_iter=3000))


def run(n: int) -> tuple[list[tuple[str, float, float]], float, ClassMapDisplay]:
    """Return accuracy and pointing game per network, the mean rank correlation of their maps, and a display."""
    images, labels, _ = draw_images(n, 0)
    test, wanted, corners = draw_images(100, 1)
    rows, displays = [], []
    for weights in ("pretrained", "random"):
        clf = on_features(weights).fit(images, labels)
        display = ClassMapDisplay.from_estimator(clf, test, target=wanted)
        n_cells = display.maps.shape[1]
        strongest = display.maps.reshape(len(test), -1).argmax(1)  # (n,)
        places = np.stack(np.unravel_index(strongest, display.maps.shape[1:]), 1)  # (n, 2)
        rows.append((f"tiny/cnn, {weights}", clf.score(test, wanted), is_hit(places, corners, n_cells).mean()))
        displays.append(display)
    chance = is_hit(np.random.default_rng(0).integers(0, n_cells, (len(test), 2)), corners, n_cells).mean()
    rows.append(("a random position", 1 / len(SHAPES), chance))
    pairs = zip(displays[0].maps, displays[1].maps)
    correlation = float(np.mean([spearmanr(one.ravel(), other.ravel())[0] for one, other in pairs]))
    plt.close("all")
    first = displays[0]
    return (
        rows,
        correlation,
        ClassMapDisplay(first.maps[:6], first.images[:6], first.targets[:6], LAYER, first.is_exact),
    )


def reviews() -> tuple[list[str], list[str]]:
    """Return made-up reviews and their labels."""
    pairs = [
        (plot.format(word), label) for label, words in (("up", GOOD), ("down", BAD)) for word in words for plot in PLOTS
    ]
    texts, labels = zip(*pairs)
    return list(texts), list(labels)


def main() -> None:
    """Print the tables and save the pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=300, help="training images")
    parser.add_argument("--epochs", type=int, default=5, help="epochs of the text classifier")
    parser.add_argument("--out", type=Path, default=Path("demo"))
    args = parser.parse_args()
    started = time.perf_counter()
    args.out.mkdir(parents=True, exist_ok=True)
    rows, correlation, display = run(args.n)
    print(f"{'':24s}  accuracy  pointing game")
    for name, accuracy, pointing in rows:
        print(f"{name:24s}  {accuracy:8.2f}  {pointing:13.2f}")
    print(f"rank correlation of the maps of both networks: {correlation:.2f}\n")
    display.plot().figure_.savefig(args.out / "class_maps.png", dpi=70)

    texts, labels = reviews()
    clf = FineTuneClassifier("tiny/bert", freeze_depth=2, max_epochs=args.epochs, random_state=0).fit(texts, labels)
    new = ["the story is clever, but the acting is awful", "a warm and funny film about a boring job"]
    words = TokenAttributionDisplay.from_estimator(clf, new, target="up")
    for table in words.words:
        print("  ".join(f"{word} {value:+.2f}" for word, value in zip(table["word"], table["value"])))
    words.figure_.savefig(args.out / "word_evidence.png", dpi=100)
    (args.out / "word_evidence.html").write_text(words.to_html(), encoding="utf-8")
    plt.close("all")
    print(f"pictures: {args.out}/class_maps.png, word_evidence.png\n{time.perf_counter() - started:.0f} seconds")


if __name__ == "__main__":
    main()
