"""ULMFiT's ablation in small: what each recipe of fine-tuning adds where labels are few.

    SKTRANSFER_TEST_DATA=... [SIZE=full] python -m benchmarks.recipes [--seeds 3] [--labels 100 500 all]
    SKTRANSFER_TEST_DATA=... python -m benchmarks.recipes --on minilm        # all-MiniLM-L6-v2 in place of tiny/bert
    SKTRANSFER_TEST_DATA=... python -m benchmarks.recipes --on hymenoptera   # photos, MobileNetV2

Accuracy on test samples that no recipe was fitted to, mean and standard deviation over draws of the labelled samples
(of photos: over what a seed draws in training). The rows are those of table 7 of Howard and Ruder (2018), with what
came later: a probe first, and L2-SP. All recipes have the same epochs, the same batches and the same highest rates,
but for the row whose rate is found on the labelled samples by a range test.
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
RECIPES: dict[str, dict[str, Any]] = {
    "full": {},  # first: the others are compared with it
    "from scratch": {"weights": "random"},
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
        (100, 500, 0) if sized(0, 1) else (100, 500),
        sized(3, 5),
    ),
    "minilm": Ground(
        "MR, all-MiniLM-L6-v2",
        sentence_encoder,
        # chain-thaw takes nine epochs of seven stages
        lambda n_labels: {"lr": 1e-4, "max_epochs": 10, "precision": "bfloat16"},
        draw_samples,
        (100, 500) if sized(0, 1) else (100,),
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


def draw(table: dict[str, dict[str, list[float]]], path: Path, what: str) -> None:
    """Draw a point a recipe, with its deviation, one panel a number of labels."""
    from matplotlib.figure import Figure  # not pyplot: it would start a window system

    figure = Figure(figsize=(1.5 + 5 * len(table), 0.8 + 0.32 * len(RECIPES)), layout="constrained")
    panels = np.atleast_1d(figure.subplots(1, len(table), sharey=True))
    for axes, (n_labels, rows) in zip(panels, table.items()):
        names = list(rows)
        means = [100 * float(np.mean(rows[name])) for name in names]
        deviations = [100 * float(np.std(rows[name])) for name in names]
        axes.errorbar(means, names, xerr=deviations, fmt="o", color="#0072B2", linewidth=1.4)
        axes.axvline(means[names.index("full")], color="black", linewidth=0.8, linestyle=":")
        axes.set_title(f"{what}, {n_labels} labels: accuracy (%)", fontsize=9)
        axes.tick_params(labelsize=8)
    panels[0].invert_yaxis()
    figure.savefig(path, dpi=130)


def main() -> None:
    """Print the table, write it, and draw it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--on", choices=list(GROUNDS), default="tiny/bert")
    parser.add_argument("--seeds", type=int)
    parser.add_argument("--labels", nargs="+", help="how many, or all")
    args = parser.parse_args()
    ground = GROUNDS[args.on]
    seeds = args.seeds or ground.seeds
    labels = [0 if n == "all" else int(n) for n in args.labels] if args.labels else ground.labels
    data_folder()
    n_test = sized(1000, 2000)
    name = "recipes" if args.on == "tiny/bert" else f"recipes_{args.on}"
    report = Report(f"ULMFiT's ablation: {ground.what}, {seeds} draws, at most {n_test} test samples", name)
    known = Remembered(name)
    table: dict[str, dict[str, list[float]]] = {}
    for n_labels in labels:
        draws = [ground.draw(n_labels, n_test, seed) for seed in range(seeds)]
        shown = str(n_labels) if n_labels else f"all {len(draws[0][0])}"
        rows, settings = table.setdefault(shown, {}), ground.settings(n_labels)
        for recipe, changes in RECIPES.items():
            rows[recipe] = [
                known(
                    {"on": args.on, **BASE, **settings, **changes, "data": [n_labels, n_test, seed]},
                    lambda: score(changes, data, seed, ground.backbone(), settings),  # noqa: B023, called at once
                )
                for seed, data in enumerate(draws)
            ]
            report.row(f"{shown} labels, {recipe}", rows[recipe], gain=round(gain(rows, recipe), 2))
        report.write()
        draw(table, RESULTS / f"{name}.png", ground.what)


def gain(rows: dict[str, list[float]], name: str) -> float:
    """Return how many points a recipe gains on training all stages at once, on the same draws."""
    return 100 * float(np.mean(np.subtract(rows[name], rows["full"])))


if __name__ == "__main__":
    main()
