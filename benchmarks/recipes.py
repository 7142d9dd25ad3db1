"""ULMFiT's ablation in small: what each recipe of fine-tuning adds where labels are few.

    SKTRANSFER_TEST_DATA=... python -m benchmarks.recipes                  # all grounds: hours, table and picture
    SKTRANSFER_TEST_DATA=... python -m benchmarks.recipes --on tiny/bert --labels 100 --seeds 2    # minutes

The grounds: MR's sentences with `tiny/bert` (100, 500 and all labels, 5 draws) and with all-MiniLM-L6-v2 (100 and 500,
3 draws), hymenoptera's photos with MobileNetV2 (3 draws). With SIZE=full there are 2,000 test sentences in place of
1,000, and all stages of MobileNetV2 are trained.

Accuracy on test samples that no recipe was fitted to, mean and standard deviation over draws of the labelled samples
(of photos: over what a seed draws in training). The rows are those of table 7 of Howard and Ruder (2018), with what
came later: a probe first, and L2-SP. All recipes have the same epochs, the same batches and, of the stages, the same
highest rates, but for the row whose rate is found on the labelled samples by a range test; a head that starts at
random learns ten times as fast, as is the library's default, and one that starts as a probe as fast as the stages.
The rate of tiny/bert is the one of three (3e-4, 1e-3, 3e-3) that did best for "full" on two draws of 100 labels and
the first 500 test sentences, which can but flatter "full"; for the others nothing was chosen, nor elsewhere, where it
is the library's own default. An interrupted run goes on where it stopped.
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
    "full": {},  # first: the others are compared with it
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
    """What the recipes are compared on: a backbone, its settings, and samples.

    Parameters
    ----------
    what : str
        In the table's first line.
    backbone : callable
        Gives the backbone's name.
    settings : callable
        From the number of labels to what of `BASE` is different here.
    draw : callable
        From (number of labels, number of test samples, seed) to a split.
    labels : sequence of int
        How many labels there are, in turn; 0 for all.
    seeds : int
        How many draws.
    """

    what: str
    backbone: Callable[[], str]
    settings: Callable[[int], dict[str, Any]]
    draw: Callable[[int, int, int], Split]
    labels: Sequence[int]
    seeds: int


def draw_samples(n_labels: int, n_test: int, seed: int) -> Split:
    """Return labelled sentences, as many of each class, and test sentences, which are the same for each seed."""
    X, y = movie_reviews()
    _, first = np.unique(X.astype(str), return_index=True)  # a sentence that occurs twice must not stand on both sides
    order = np.random.default_rng(0).permutation(first)
    test, pool = order[:n_test], np.random.default_rng(1000 + seed).permutation(order[n_test:])
    each = n_labels // 2 or None  # None: all that there are
    train = np.concatenate([pool[y[pool] == label][:each] for label in np.unique(y)])
    return X[train], y[train], X[test], y[test]


def draw_photos(n_labels: int, n_test: int, seed: int) -> Split:
    """Return hymenoptera's own split: a seed draws what happens in training, not the photos."""
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
        # chain-thaw takes nine epochs of seven stages
        lambda n_labels: {"lr": 1e-4, "max_epochs": 10, "precision": "bfloat16"},
        draw_samples,
        (100, 500),
        3,
    ),
    "hymenoptera": Ground(
        # The lower half of the stages, with 3 in 100 of the weights, is frozen, and runs once a photo.
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
        # Preprocessing belongs to the weights; the control is to see the same pixels, and has nothing worth freezing.
        pretrained = load_backbone(backbone, weights=(settings or {})["weights"])
        options |= {"preprocess": pretrained.preprocess, "freeze_depth": 0}
    tuner = FineTuneClassifier(backbone, **options, random_state=seed)
    return float(tuner.fit(X, y).score(X_test, y_test))


def measure(name: str, n_labels: int, n_test: int, seeds: int, report: Report) -> tuple[str, dict[str, list[float]]]:
    """Report each recipe on one ground; return what the ground is called, and scores by recipe."""
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
    """Return how many points a recipe gains on training all stages at once, on each draw."""
    return 100 * np.subtract(rows[name], rows["full"])


def draw(table: dict[str, dict[str, list[float]]], path: Path) -> None:
    """Draw a point a recipe, with its deviation, and each draw in grey; one panel a ground.

    What is trained from scratch lies so far off that it stands in the title: the others would be one point.
    """
    from matplotlib.figure import Figure  # not pyplot: it would start a window system

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
    """Print the table, write it, and draw it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--on", nargs="+", choices=list(GROUNDS), default=list(GROUNDS))
    parser.add_argument("--labels", nargs="+", help="how many, or all")
    parser.add_argument("--seeds", type=int, help="how many draws")
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
