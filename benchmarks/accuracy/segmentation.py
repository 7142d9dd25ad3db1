"""A class per pixel from scribbles on five images: maps of frozen `tiny/cnn`, raw pixels, HOG, and scikit-image.

    SKTRANSFER_TEST_DATA=... [SIZE=full] python -m benchmarks.accuracy.segmentation [--seeds 5]

The images are micrographs with membranes (30 of 512 x 512 pixels, of which a part of 256 x 256 is read unless
SIZE=full), and digits of one texture on the background of another one, whose masks are exact. Per draw, five images
have scribbles, ten lines of 30 pixels per class, and the mean intersection over union is measured on five others.
Each row reads these images with the same scribbles. The forest is the same in all rows, and that of the example of
scikit-image. The seconds are those of `predict` per image, without the cache. An interrupted run resumes.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image
from skimage.feature import multiscale_basic_features
from skimage.future import TrainableSegmenter
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks.common import Report, data_folder, sized
from benchmarks.remembered import Remembered
from sktransfer import FineTuneSegmenter, load_backbone
from sktransfer.pixels.maps import at_own_size
from sktransfer.pixels.masks import mean_iou
from sktransfer.training.network import join

LAYERS = ("block1", "block2", "block3", "block4")
N_TRAIN = N_TEST = 5
FOREST = RandomForestClassifier(n_estimators=50, max_depth=10, max_samples=0.05, random_state=0)
LINEAR = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))


def micrographs(seed: int, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Return micrographs (n, side, side), uint8, and their masks: 1 for a cell and 0 for a membrane."""
    folder = data_folder() / "images" / "membrane_em"
    rows = np.random.default_rng(seed).permutation(30)[: N_TRAIN + N_TEST]
    pairs = [[np.asarray(Image.open(folder / kind / f"{row:02}.png")) for row in rows] for kind in ("image", "label")]
    images, masks = (np.stack(part)[:, :side, :side] for part in pairs)
    return images, (masks > 127).astype(int)


def textures(seed: int, side: int = 128) -> tuple[np.ndarray, np.ndarray]:
    """Return digits of one texture on another one (n, side, side), uint8, and their exact masks.

    Both textures have the same mean and deviation, so that brightness does not tell them apart.
    """
    rng = np.random.default_rng(seed)
    shapes = load_digits().images / 16  # (n_digits, 8, 8)
    images, masks = [], []
    for _ in range(N_TRAIN + N_TEST):
        mask = np.zeros((side, side), int)
        for top in (0, side // 2):
            for left in (0, side // 2):
                size = int(rng.integers(side // 3, side // 2))
                shape = Image.fromarray(shapes[rng.integers(len(shapes))]).resize((size, size))
                place = top + rng.integers(side // 2 - size + 1), left + rng.integers(side // 2 - size + 1)
                mask[place[0] : place[0] + size, place[1] : place[1] + size] |= np.asarray(shape) > 0.5
        noise = rng.normal(size=(side, side))
        rows, columns = np.mgrid[:side, :side]
        angle, period = rng.uniform(0, np.pi), rng.uniform(6, 9)
        stripes = np.sin(2 * np.pi * (np.cos(angle) * rows + np.sin(angle) * columns) / period)
        stripes = stripes + 0.5 * rng.normal(size=(side, side))
        mixed = np.where(mask == 1, stripes / stripes.std(), (noise - noise.mean()) / noise.std())
        images.append(np.clip(128 + 40 * mixed, 0, 255).astype(np.uint8))
        masks.append(mask)
    return np.stack(images), np.stack(masks)


def scribbled(mask: np.ndarray, rng: np.random.Generator, n_lines: int = 10, length: int = 30) -> np.ndarray:
    """Return a mask of which lines of a few pixels are known, each within one class."""
    known = np.full(mask.shape, -1)
    for label in np.unique(mask):
        rows, columns = np.nonzero(mask == label)
        for start in rng.integers(len(rows), size=n_lines):
            angle = rng.uniform(0, 2 * np.pi)
            for step in range(length):
                row, column = (
                    round(origin + step * slope)
                    for origin, slope in ((rows[start], np.sin(angle)), (columns[start], np.cos(angle)))
                )
                inside = 0 <= row < mask.shape[0] and 0 <= column < mask.shape[1]
                if not inside or mask[row, column] != label:
                    break
                known[row, column] = label
    return known


def raw_pixels(image: np.ndarray, radius: int = 3) -> np.ndarray:
    """Return the values around each pixel (height, width, 49)."""
    padded = np.pad(image / 255, radius, mode="reflect")
    side = 2 * radius + 1
    windows = np.lib.stride_tricks.sliding_window_view(padded, (side, side))  # (height, width, 7, 7)
    return windows.reshape(*image.shape, -1).astype(np.float32)


def gradients(image: np.ndarray, bins: int = 8) -> np.ndarray:
    """Return histograms of oriented gradients around each pixel, on three scales (height, width, 24)."""
    from scipy.ndimage import gaussian_filter, sobel

    values = image / 255
    rows, columns = sobel(values, 0), sobel(values, 1)
    size, angle = np.hypot(rows, columns), np.arctan2(rows, columns) % np.pi
    member = np.minimum((angle / np.pi * bins).astype(int), bins - 1)
    channels = [np.where(member == index, size, 0) for index in range(bins)]
    parts = [gaussian_filter(channel, sigma) for sigma in (1, 3, 6) for channel in channels]
    return np.stack(parts, -1).astype(np.float32)


def maps(image: np.ndarray) -> np.ndarray:
    """Return the maps of frozen stages of `tiny/cnn` at each pixel (height, width, n_features)."""
    import torch

    backbone = at_own_size(load_backbone("tiny/cnn"))
    stops = [backbone.position(layer) + 1 for layer in LAYERS]
    values = backbone.preprocess([Image.fromarray(image).convert("RGB")])[0][None]
    with torch.no_grad():
        outputs = list(backbone.run(values, None, stop=max(stops)))
    joined = join("maps", [outputs[stop - 1] for stop in stops])
    at_pixels = torch.nn.functional.interpolate(joined, image.shape, mode="bilinear")[0]
    return at_pixels.permute(1, 2, 0).numpy()  # (height, width, n_features)


class FeatureSegmenter:
    """A classifier of the features of single pixels."""

    def __init__(self, features: Callable[[np.ndarray], np.ndarray], classifier: Any) -> None:
        self.features, self.classifier = features, clone(classifier)

    def fit(self, images: np.ndarray, masks: list[np.ndarray]) -> FeatureSegmenter:
        """Fit the classifier to the known pixels."""
        known = [mask >= 0 for mask in masks]
        X = np.concatenate([self.features(image)[where] for image, where in zip(images, known)])
        self.classifier.fit(X, np.concatenate([mask[where] for mask, where in zip(masks, known)]))
        return self

    def predict(self, images: np.ndarray) -> list[np.ndarray]:
        """Return a mask per image."""
        found = []
        for image in images:
            features = self.features(image)
            found.append(self.classifier.predict(features.reshape(-1, features.shape[-1])).reshape(image.shape))
        return found


class ScikitImage:
    """The trainable segmenter of scikit-image, which takes one image: the images side by side."""

    def fit(self, images: np.ndarray, masks: list[np.ndarray]) -> ScikitImage:
        """Fit the segmenter. Its labels start from 1, and 0 is unknown."""
        self.segmenter = TrainableSegmenter(clf=clone(FOREST), features_func=multiscale_basic_features)
        self.segmenter.fit(np.concatenate(images, 1), np.concatenate(masks, 1) + 1)
        return self

    def predict(self, images: np.ndarray) -> list[np.ndarray]:
        """Return a mask per image."""
        return [self.segmenter.predict(image) - 1 for image in images]


ROWS: dict[str, Callable[[], Any]] = {
    "tiny/cnn, probe (FineTuneSegmenter)": lambda: FineTuneSegmenter(layer=LAYERS, cache=None, random_state=0),
    "tiny/cnn, forest": lambda: FeatureSegmenter(maps, FOREST),
    "scikit-image's features, forest (TrainableSegmenter)": ScikitImage,
    "scikit-image's features, linear": lambda: FeatureSegmenter(multiscale_basic_features, LINEAR),
    "raw pixels 7 x 7, forest": lambda: FeatureSegmenter(raw_pixels, FOREST),
    "raw pixels 7 x 7, linear": lambda: FeatureSegmenter(raw_pixels, LINEAR),
    "gradients, forest": lambda: FeatureSegmenter(gradients, FOREST),
    "gradients, linear": lambda: FeatureSegmenter(gradients, LINEAR),
}


def measure(make: Callable[[], Any], images: np.ndarray, masks: np.ndarray, seed: int) -> dict[str, float]:
    """Return the mean intersection over union on the test images, and the seconds of predict per image."""
    rng = np.random.default_rng(seed)
    scribbles = [scribbled(mask, rng) for mask in masks[:N_TRAIN]]
    segmenter = make().fit(images[:N_TRAIN], scribbles)
    started = time.perf_counter()
    predicted = segmenter.predict(images[N_TRAIN:])
    seconds = (time.perf_counter() - started) / N_TEST
    return {"iou": mean_iou(list(masks[N_TRAIN:]), list(predicted), np.ones(N_TEST)), "seconds": seconds}


def main() -> None:
    """Print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    args = parser.parse_args()
    side = sized(256, 512)
    report = Report(f"A class per pixel, scribbles on {N_TRAIN} images, {args.seeds} draws", "segmentation")
    known = Remembered("segmentation")
    draws = {"digits on textures": textures, f"membranes, {side} x {side}": lambda seed: micrographs(seed, side)}
    for data, draw in draws.items():
        for what, make in ROWS.items():
            found = [
                known(
                    {"on": data, "what": what, "seed": seed, "layers": LAYERS},
                    lambda: measure(make, *draw(seed), seed),  # noqa: B023, called at once
                )
                for seed in range(args.seeds)
            ]
            seconds = float(np.median([one["seconds"] for one in found]))
            report.row(f"{data}, {what}", [one["iou"] for one in found], seconds=seconds)
            report.write()


if __name__ == "__main__":
    main()
