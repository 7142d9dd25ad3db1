"""ULMFiT's ablation on a small scale: the gain of each fine-tuning recipe with few labels.

    SKTRANSFER_TEST_DATA=... python -m benchmarks.accuracy.recipes              # all settings: hours, table and picture
    SKTRANSFER_TEST_DATA=... python -m benchmarks.accuracy.recipes --on tiny/bert --labels 100 --seeds 2    # minutes

The settings are MR's sentences with `tiny/bert` (100, 500 and all labels, 5 draws), MR's sentences with
all-MiniLM-L6-v2 (100 and 500 labels, 3 draws), and hymenoptera's photos with MobileNetV2 (3 draws). SIZE=full uses
2,000 test sentences instead of 1,000 and trains all stages of MobileNetV2.

The result is accuracy on held-out samples, mean and standard deviation over draws of the labelled samples, or for
photos over seeds of the training. The rows are those of table 7 of Howard and Ruder (2018), and two later recipes: an
initial probe, and L2-SP. All recipes have the same epochs, batches and highest learning rates of the stages. The
exception is the row whose rate comes from a range test on the labelled samples. A random head learns ten times as fast
as the stages, the library's default, and a head that starts as a probe learns as fast as the stages. The rate of
tiny/bert is the best of 3e-4, 1e-3 and 3e-3 for "full" on two draws of 100 labels and the first 500 test sentences,
which favours "full" if anything. No rate was tuned for the other recipes, and the other backbones use the library's
default. An interrupted run resumes.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import (
    RESULTS,
    Report,
    data_folder,
    mobilenet_weights,
    movie_reviews,
    photos,
    sentence_encoder,
    sized,
)
from benchmarks.remembered import Remembered
from sktransfer import FineTuneClassifier, load_backbone

BASE: dict[str, Any] = {
    "layer": -1,
    "freeze_depth": 0,
    "head_init": "random",
    "lr_schedule": "constant",
    "lr": 3e-4,
    "batch_size": 16,
    "max_epochs": 8,
}
DISCRIMINATIVE = {"layer_lr_decay": 2.6}
TRIANGLE = {"lr_schedule": "slanted_triangular"}
GRADUAL = {"unfreezing": "gradual"}
SCRATCH = "from scratch"
RECIPES: dict[str, dict[str, Any]] = {
    "full": {},  # the baseline of the other rows
    SCRATCH: {"weights": "random"},
    "full, rate found": {"lr": "find"},
    "last": {"freeze_depth": "all"},
    "full + discriminative": DISCRIMINATIVE,
    "full + slanted triangular": TRIANGLE,
    "gradual": GRADUAL,
    "gradual + discriminative": {**GRADUAL, **DISCRIMINATIVE},
    "gradual + slanted triangular": {**GRADUAL, **TRIANGLE},
    "all three": {**GRADUAL, **DISCRIMINATIVE, **TRIANGLE},
    "chain-thaw": {"unfreezing": "chain_thaw"},
    "probe alone": {"freeze_depth": "all", "head_init": "probe", "max_epochs": 0},
    "probe, then full": {"head_init": "probe", "lr_schedule": "linear"},
    "probe, then full + L2-SP": {"head_init": "probe", "lr_schedule": "linear", "l2_sp": 1.0},
}
Split = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Ground:
    """Setting in which the recipes are compared: a backbone, its parameters, and samples.

    Parameters
    ----------
    what : str
        Name in the table.
    backbone : callable
        Returns the name of the backbone.
    settings : callable
        Maps the number of labels to parameters that replace those of `BASE`.
    draw : callable
        Maps (number of labels, number of test samples, seed) to a split.
    labels : sequence of int
        Numbers of labels. 0 means all.
    seeds : int
        Number of draws.
    """

    what: str
    backbone: Callable[[], str]
    settings: Callable[[int], dict[str, Any]]
    draw: Callable[[int, int, int], Split]
    labels: Sequence[int]
    seeds: int


def draw_samples(n_labels: int, n_test: int, seed: int) -> Split:
    """Return class-balanced labelled sentences, and test sentences that are the same for each seed."""
    X, y = movie_reviews()
    _, first = np.unique(X.astype(str), return_index=True)  # without duplicates, so that no sentence is in both parts
    order = np.random.default_rng(0).permutation(first)
    test, pool = order[:n_test], np.random.default_rng(1000 + seed).permutation(order[n_test:])
    each = n_labels // 2 or None  # None means all
    train = np.concatenate([pool[y[pool] == label][:each] for label in np.unique(y)])
    return X[train], y[train], X[test], y[test]


def draw_photos(n_labels: int, n_test: int, seed: int) -> Split:
    """Return the split of hymenoptera, which does not depend on the seed."""
    X, y = photos()
    paths = np.array(X, dtype=object)
    n_train = sum(f"{Path('hymenoptera') / 'train'}" in path for path in X)
    n = n_labels or n_train
    return paths[:n], y[:n], paths[n_train:][:n_test], y[n_train:][:n_test]


GROUNDS = {
    "tiny/bert": Ground(
        "MR, tiny/bert",
        lambda: "tiny/bert",
        lambda n_labels: {} if n_labels else {"batch_size": 32, "precision": "bfloat16"},
        draw_samples,
        (100, 500, 0),
        5,
    ),
    "minilm": Ground(
        "MR, all-MiniLM-L6-v2",
        sentence_encoder,
        # chain-thaw needs nine epochs for seven stages
        lambda n_labels: {"lr": 1e-4, "max_epochs": 10, "precision": "bfloat16"},
        draw_samples,
        (100, 500),
        3,
    ),
    "hymenoptera": Ground(
        # The lower half of the stages, with 3 % of the weights, is frozen and runs once per photo.
        f"hymenoptera, MobileNetV2 from stage {sized(4, 0)} up",
        lambda: "torchvision/mobilenet_v2",
        lambda n_labels: {"weights": mobilenet_weights(), "freeze_depth": sized(4, 0), "lr": 1e-4, "max_epochs": 10},
        draw_photos,
        (0,),
        3,
    ),
}


def score(
    recipe: dict[str, Any], data: Split, seed: int, backbone: str = "tiny/bert", settings: dict[str, Any] | None = None
) -> float:
    """Return the accuracy of one recipe on one draw."""
    X, y, X_test, y_test = data
    options = {**BASE, **(settings or {}), **recipe}
    if options.get("weights") == "random" and (settings or {}).get("weights") is not None:
        # Preprocessing belongs to the weights. The control gets the same pixels and freezes no stage.
        pretrained = load_backbone(backbone, weights=(settings or {})["weights"])
        options |= {"preprocess": pretrained.preprocess, "freeze_depth": 0}
    tuner = FineTuneClassifier(backbone, **options, random_state=seed)
    return float(tuner.fit(X, y).score(X_test, y_test))


def measure(name: str, n_labels: int, n_test: int, seeds: int, report: Report) -> tuple[str, dict[str, list[float]]]:
    """Report each recipe in one setting, and return the name of the setting and the scores per recipe."""
    ground = GROUNDS[name]
    known = Remembered("recipes" if name == "tiny/bert" else f"recipes_{name}")
    draws = [ground.draw(n_labels, n_test, seed) for seed in range(seeds)]
    settings = ground.settings(n_labels)
    what = f"{ground.what}, {n_labels or f'all {len(draws[0][0])}'} labels"
    rows: dict[str, list[float]] = {}
    for recipe, changes in RECIPES.items():
        rows[recipe] = [
            known(
                {"on": name, **BASE, **settings, **changes, "data": [n_labels, n_test, seed]},
                lambda: score(changes, data, seed, ground.backbone(), settings),  # noqa: B023, called at once
            )
            for seed, data in enumerate(draws)
        ]
        gains = gain(rows, recipe)
        report.row(f"{what}: {recipe}", rows[recipe], gain=f"{gains.mean():+.1f} ± {gains.std():.1f}")
    return what, rows


def gain(rows: dict[str, list[float]], name: str) -> np.ndarray:
    """Return the gain of a recipe over "full" in points, per draw."""
    return 100 * np.subtract(rows[name], rows["full"])


def draw(table: dict[str, dict[str, list[float]]], path: Path) -> None:
    """Draw mean and deviation per recipe, and each draw in grey, with one panel per setting.

    The accuracy of training from scratch is far lower, so it is shown in the title.
    """
    from matplotlib.figure import Figure  # pyplot would start a window system

    n_columns = min(3, len(table))
    n_lines = -(-len(table) // n_columns)
    height = 0.6 + 0.28 * len(RECIPES)
    figure = Figure(figsize=(2 + 4 * n_columns, height * n_lines), layout="constrained")
    panels = np.ravel(figure.subplots(n_lines, n_columns, sharey=True))
    for axes, (what, rows) in zip(panels, table.items()):
        names = [name for name in rows if name != SCRATCH]
        scores = 100 * np.array([rows[name] for name in names])  # (n_recipes, n_draws)
        for one in scores.T:
            axes.plot(one, names, ".", color="#bbbbbb", markersize=4)
        axes.errorbar(scores.mean(1), names, xerr=scores.std(1), fmt="o", color="#0072B2", linewidth=1.4)
        axes.axvline(scores.mean(1)[names.index("full")], color="black", linewidth=0.8, linestyle=":")
        axes.set_title(f"{what}\naccuracy (%); from scratch {100 * np.mean(rows[SCRATCH]):.1f}", fontsize=9)
        axes.tick_params(labelsize=8)
        axes.grid(axis="x", alpha=0.25)
    for axes in panels[len(table) :]:
        axes.set_axis_off()
    panels[0].invert_yaxis()
    figure.savefig(path, dpi=110)


def main() -> None:
    """Print, write and draw the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--on", nargs="+", choices=list(GROUNDS), default=list(GROUNDS))
    parser.add_argument("--labels", nargs="+", help="numbers of labels, or all")
    parser.add_argument("--seeds", type=int, help="number of draws")
    args = parser.parse_args()
    data_folder()
    n_test = sized(1000, 2000)
    report = Report(f"ULMFiT's ablation: accuracy on at most {n_test} test samples", "recipes")
    table: dict[str, dict[str, list[float]]] = {}
    for name in args.on:
        ground = GROUNDS[name]
        labels = [0 if n == "all" else int(n) for n in args.labels] if args.labels else ground.labels
        for n_labels in labels:
            what, rows = measure(name, n_labels, n_test, args.seeds or ground.seeds, report)
            table[what] = rows
            report.write()
            draw(table, RESULTS / "recipes.png")


if __name__ == "__main__":
    main()
