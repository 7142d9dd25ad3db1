"""Yosinski's curve on a small scale: transfer of the first k stages to another task, frozen or tuned.

    SKTRANSFER_TEST_DATA=... [SIZE=full] python -m benchmarks.accuracy.freezing_curve [--seeds 2]

The first k stages come from a source, and the stages above start at random. On the target, either all stages are
trained ("tuned", the paper's AnB+) or only those above ("frozen", AnB). The control has random filters in the first k
stages, with BatchNorm statistics of the target's images. There are two targets:

- Six animals of CIFAR-10, 400 images, with the network of `tiny/cnn`. Two sources of equal size are trained here, on 55
  animals (similar) and on 55 artefacts (dissimilar) of Tiny ImageNet, as the paper split ImageNet, with 100 images per
  class. The third source is the shipped `tiny/cnn`, trained on eighteen times as many images of both kinds, for longer.
- Ants and bees, 243 photos at 96 pixels, with MobileNetV2 of ImageNet.

SIZE=full uses 3,000 images, 500 images per class of a source, photos at 224 pixels, and every k. All runs of a target
have the same learning rate, epochs and batches. An interrupted run resumes.
"""

from __future__ import annotations

import argparse
import functools
import io
import lzma
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import numpy as np
from PIL import Image

from benchmarks.accuracy.recipes import draw_photos
from benchmarks.common import RESULTS, Report, data_folder, mobilenet_weights, sized
from benchmarks.remembered import Remembered
from sktransfer import Backbone, FineTuneClassifier, load_backbone
from sktransfer.backbones.backbone import replace_stages

ANIMALS = ("bird", "cat", "deer", "dog", "frog", "horse")
FIRST_ARTEFACT, FIRST_FOOD = "n02666", "n07"  # WordNet ids are grouped: animals, then artefacts, then the rest
SOURCE: dict[str, Any] = {
    "layer": -1,
    "max_epochs": 6,
    "batch_size": 64,
    "lr": 2e-3,
    "lr_schedule": "one_cycle",
    "precision": "bfloat16",
}
TARGET: dict[str, Any] = {"layer": -1, "lr": 1e-3, "lr_schedule": "one_cycle", "max_epochs": 6, "batch_size": 32}
TARGET |= {"head_init": "random", "head_lr": 1e-3, "precision": "bfloat16"}
# Six epochs of 243 photos are only 48 steps of 32, too few for the new stages of a deep network.
PHOTOS = {**TARGET, "max_epochs": 15, "batch_size": 16, "precision": "float32"}
Split = tuple[Any, np.ndarray, Any, np.ndarray]
Table = dict[str, dict[int, list[float]]]  # scores per curve and k


def archive(name: str) -> dict[str, np.ndarray]:
    """Return the arrays of an archive of small images."""
    with lzma.open(data_folder() / "images" / f"{name}.npz.xz") as file:
        return dict(np.load(io.BytesIO(file.read()), allow_pickle=False))


def decoded(images: dict[str, np.ndarray], rows: np.ndarray) -> np.ndarray:
    """Return some images, (n, 32, 32, 3)."""
    jpegs = (images["data"][images["off"][row] : images["off"][row + 1]].tobytes() for row in rows)
    return np.stack([np.asarray(Image.open(io.BytesIO(jpeg)).convert("RGB")) for jpeg in jpegs])


def source_rows(images: dict[str, np.ndarray], kind: str, n_classes: int, n_each: int) -> np.ndarray:
    """Return the rows of Tiny ImageNet's images that a source is trained on."""
    names = [str(name) for name in images["classes"]]
    is_animal = kind == "animals"
    of_kind = [name < FIRST_ARTEFACT if is_animal else FIRST_ARTEFACT <= name < FIRST_FOOD for name in names]
    rng = np.random.default_rng(0)
    classes = rng.permutation(np.flatnonzero(of_kind))[:n_classes]
    training = images["split"] == 0
    return np.concatenate([rng.permutation(np.flatnonzero(training & (images["y"] == c)))[:n_each] for c in classes])


def source(kind: str, folder: Path) -> Backbone:
    """Return the network of a source task, trained now or read from `folder`."""
    n_classes, n_each = 55, sized(100, 500)
    path = folder / f"freezing_curve_{kind}_{n_each}.joblib"
    if not path.exists():
        images = archive("tiny_imagenet32")
        rows = source_rows(images, kind, n_classes, n_each)
        options = {"weights": "random", "freeze_depth": 0, "head_init": "random", "cache": None, "verbose": 1}
        clf = FineTuneClassifier("tiny/cnn", **options, **SOURCE, random_state=0)
        folder.mkdir(exist_ok=True)
        joblib.dump(clf.fit(decoded(images, rows), images["y"][rows]).backbone_, path)
    backbone: Backbone = joblib.load(path)
    return backbone


def animals(seed: int, n: int) -> Split:
    """Return n training images of CIFAR-10's animals, drawn by a seed, and all of its test images of them."""
    images = archive("cifar10_12k")
    wanted = np.isin([str(images["classes"][label]) for label in images["y"]], ANIMALS)
    train, test = (np.flatnonzero(wanted & (images["split"] == split)) for split in (0, 1))
    train = np.random.default_rng(seed).permutation(train)[:n]
    return decoded(images, train), images["y"][train], decoded(images, test), images["y"][test]


def joined(below: Backbone, k: int, above: Backbone) -> Backbone:
    """Return k stages of one backbone and the rest of another, whose BatchNorm statistics are to be learned."""
    return replace_stages(below, k, list(above.stages[k:]))._changed(pretrained=False)


def with_statistics(random: Backbone, X: Any, y: np.ndarray, target: dict[str, Any]) -> Backbone:
    """Return random filters with BatchNorm statistics of the images, from two epochs at a negligible learning rate."""
    still = {"lr": 1e-20, "head_lr": 1e-20, "weight_decay": 0.0, "lr_schedule": "constant", "max_epochs": 2}
    return FineTuneClassifier(random, freeze_depth=0, **{**target, **still}, random_state=0).fit(X, y).backbone_


def accuracy(
    data: Split, below: Backbone | None, k: int, tuned: bool, random: Backbone, seed: int, target: dict[str, Any]
) -> float:
    """Return the test accuracy on the target. `below` is None for random filters."""
    X, y, X_test, y_test = data
    if below is None:
        below = with_statistics(random, X, y, target)
    clf = FineTuneClassifier(joined(below, k, random), freeze_depth=0 if tuned else k, **target, random_state=seed)
    return float(clf.fit(X, y).score(X_test, y_test))


def curves(
    name: str,
    data: Callable[[int], Split],
    sources: dict[str, Callable[[], Backbone]],
    random: Callable[[int], Backbone],
    seeds: int,
    known: Callable[..., float],
    report: Report,
    target: dict[str, Any],
    **setting: Any,
) -> Table:
    """Report a row per source, k and way of training, and return the scores."""
    data, random = functools.cache(data), functools.cache(random)
    n = len(random(0).stages)
    kinds = [(source, tuned) for source in sources for tuned in (False, True)] + [("random filters", False)]
    found: Table = {}
    for source, tuned in kinds:
        what = f"{source}, {'tuned' if tuned else 'frozen'}"
        found[what] = {}
        for k in depths(n):
            below = sources.get(source)
            scores = [
                known(
                    # k = 0 uses no source and freezes no stage, so all curves share this point.
                    {"on": name, "of": what if k else "", "k": k, "seed": seed, **target, **setting},
                    lambda: accuracy(data(seed), below and below(), k, tuned or not k, random(seed), seed, target),  # noqa: B023
                )
                for seed in range(seeds)
            ]
            found[what][k] = scores
            gain = 100 * float(np.mean(np.subtract(scores, found[what][0])))
            report.row(f"{name}: {what}, k={k}", scores, gain=round(gain, 1))
    return found


def depths(n: int) -> list[int]:
    """Return the values of k for n stages: all with SIZE=full, else every second one."""
    return sorted({0, *range(sized(n % 2, 0), n + 1, sized(2, 1))})


def draw(tables: dict[str, Table], stages: dict[str, list[str]], path: Path) -> None:
    """Draw one panel per target: solid lines for frozen, dashed lines for tuned, grey for random filters."""
    from matplotlib.figure import Figure  # pyplot would start a window system

    colours = ("#0072B2", "#D55E00", "#009E73")
    figure = Figure(figsize=(6.2 * len(tables), 4.2), layout="constrained")
    for axes, (name, found) in zip(np.atleast_1d(figure.subplots(1, len(tables))), tables.items()):
        for curve, (what, scores) in enumerate(found.items()):
            random, tuned = what.startswith("random"), what.endswith("tuned")
            colour = "#777777" if random else colours[curve // 2]
            places, values = list(scores), 100 * np.array(list(scores.values()))
            means, deviations = values.mean(1), values.std(1)
            style = {"color": colour, "linestyle": "--" if tuned else ":" if random else "-"}
            axes.plot(places, means, marker="s" if tuned else "o", markersize=4, label=what, **style)
            axes.fill_between(places, means - deviations, means + deviations, color=colour, alpha=0.1)
        axes.set_xticks(range(len(stages[name]) + 1), ["none", *stages[name]], rotation=30, ha="right", fontsize=8)
        axes.set_xlabel("last stage that comes from the source")
        axes.set_ylabel("test accuracy (%)")
        axes.set_title(name, fontsize=10)
        axes.grid(alpha=0.25)
        axes.legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=130)


def main() -> None:
    """Print, write and draw the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=sized(2, 5))
    args = parser.parse_args()
    data_folder()
    report, known = (
        Report(f"Yosinski's curve, {args.seeds} draws: test accuracy", "freezing_curve"),
        Remembered("freezing_curve"),
    )
    size = sized(96, 224)
    mobilenet = load_backbone(
        "torchvision/mobilenet_v2",
        weights=mobilenet_weights(),
        preprocess={"resize": size * 8 // 7, "crop": (size, size)},
    )
    tiny, photos = "CIFAR-10's animals, tiny/cnn", "ants and bees, MobileNetV2"
    n = sized(400, 3000)
    tables: dict[str, Table] = {}
    tables[tiny] = curves(
        tiny,
        lambda seed: animals(seed, n),
        {
            "similar source": functools.cache(lambda: source("animals", RESULTS)),
            "dissimilar source": functools.cache(lambda: source("artefacts", RESULTS)),
            "shipped": lambda: load_backbone("tiny/cnn"),
        },
        lambda seed: load_backbone("tiny/cnn", weights="random", seed=100 + seed),
        args.seeds,
        known,
        report,
        TARGET,
        n=n,
        source=SOURCE,
    )
    report.write()
    tables[photos] = curves(
        photos,
        lambda seed: draw_photos(0, 1000, seed),
        {"ImageNet": lambda: mobilenet},
        lambda seed: load_backbone(
            "torchvision/mobilenet_v2", weights="random", preprocess=mobilenet.preprocess, seed=100 + seed
        ),
        args.seeds,
        known,
        report,
        PHOTOS,
        size=size,
    )
    report.write()
    stages = {tiny: list(load_backbone("tiny/cnn").stage_names), photos: list(mobilenet.stage_names)}
    draw(tables, stages, RESULTS / "freezing_curve.png")


if __name__ == "__main__":
    main()
