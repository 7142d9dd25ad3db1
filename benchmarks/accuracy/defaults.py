"""Default settings on 23 small tasks, against an earlier default, tf-idf or raw pixels, and an oracle.

    SKTRANSFER_TEST_DATA=... [SIZE=full] python -m benchmarks.accuracy.defaults [--draws 5] [--tiny] [--tuned] [--time]

Each task is drawn 2 times (full: 5 times) at 30, 100, 300 and 1,000 labels, as far as it has so many, with a tiny and
a larger network per modality. The score is accuracy, or R² for regressions, on up to 600 test samples. The methods are

- before: the last layer, divided by one scale, and a logistic regression with C=0.1 or a ridge with alpha=10
- frozen: `FineTuneClassifier(backbone, freeze_depth="all", max_epochs=0)` or the regressor, as they come
- before_pipeline: a featurizer with `layer=-1`, and `LogisticRegression()` or `Ridge()`
- pipeline: a featurizer as it comes, and `LogisticRegression()` or `Ridge()`
- baseline: tf-idf or raw pixels, and a logistic regression or ridge
- oracle: the best of all layers (one, the upper half, all), poolings and strengths, chosen on the test samples
- half_oracle: the same, chosen on one half of the test samples and scored on the other, in turn
- tuned (`--tuned`): `FineTuneClassifier(backbone)` or the regressor, as they come

The outputs of all layers are computed once per task and network and kept in the cache folder `results/features`. The
result of each method is stored in `results/defaults.jsonl` when it is measured, so an interrupted run resumes. Delete
this file after a change of the library. At the end, the gains over `before` are printed for the half of the tasks that
rules were chosen on and for the other half. `--time` prints the seconds of fits.
"""

from __future__ import annotations

import argparse
import functools
import time
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from benchmarks.accuracy.oracle import Oracle
from benchmarks.accuracy.small_tasks import SMALL_TASKS, SmallTask
from benchmarks.common import RESULTS, mobilenet_weights, sentence_encoder, sized
from benchmarks.remembered import Remembered
from sktransfer import FineTuneClassifier, FineTuneRegressor, ImageFeaturizer, TextFeaturizer, load_backbone
from sktransfer.cache.resolve import resolve_store
from sktransfer.engine.choose_layers import collect_candidates
from sktransfer.engine.compute import resolve_compute
from sktransfer.engine.inputs import PreprocessedSamples
from sktransfer.engine.layers import resolve_layers
from sktransfer.samples.images import check_images
from sktransfer.samples.texts import check_texts

SIZES = (30, 100, 300, 1000)
POOLINGS = {"image": ("average", "max", "grid2"), "text": ("mean", "max")}
METHODS = ("before", "frozen", "before_pipeline", "pipeline", "baseline", "oracle", "half_oracle")
FEATURES = RESULTS / "features"
TEXT = {"max_length": 128}
# Images of 16 to 96 pixels need no enlargement to 224, which takes four times as long.
SMALL = {"preprocess": {"resize": 128, "crop": (112, 112)}}


def networks(task: SmallTask) -> dict[str, dict[str, Any]]:
    """Return the networks for a task by name, as parameters of featurizers and tuners."""
    if task.modality == "text":
        return {"tiny/bert": {"backbone": "tiny/bert", **TEXT}, "all-MiniLM": {"backbone": sentence_encoder(), **TEXT}}
    small = {} if task.name == "hymenoptera" else SMALL
    large = {"backbone": "torchvision/mobilenet_v2", "weights": mobilenet_weights(), **small}
    return {"tiny/cnn": {"backbone": "tiny/cnn"}, "MobileNetV2": large}


def task_named(name: str) -> SmallTask:
    """Return a task."""
    return next(task for task in SMALL_TASKS if task.name == name)


@functools.lru_cache(maxsize=1)
def load(name: str) -> Any:
    """Return pool and test samples of a task."""
    return task_named(name).load()


def take(X: Any, rows: Sequence[int] | np.ndarray) -> Any:
    """Return some samples."""
    return X[np.asarray(rows)] if isinstance(X, np.ndarray) else [X[row] for row in rows]


def drawn_rows(name: str, size: int, seed: int) -> np.ndarray:
    """Return the rows of a draw from the pool of a task. Smaller draws are parts of larger ones."""
    rows: np.ndarray = np.random.default_rng(1000 + seed).permutation(len(load(name)[0][1]))[:size]
    return rows


def draw(task: SmallTask, size: int, seed: int) -> tuple[Any, np.ndarray, Any, np.ndarray]:
    """Return training samples and targets, and those of the test."""
    (X, y), (X_test, y_test) = load(task.name)
    rows = drawn_rows(task.name, size, seed)
    return take(X, rows), y[rows], X_test, y_test


@functools.lru_cache(maxsize=1)
def features(name: str, network: str, rows: tuple[int, ...]) -> tuple[dict[int, int], dict[str, list[np.ndarray]]]:
    """Return the outputs of all layers for some rows of the pool, and for the test samples after them.

    Returns
    -------
    places : dict of int to int
        Place of each row.
    features : dict of str to list of ndarray of shape (n_samples, n_features)
        Outputs by pooling and layer.
    """
    task = task_named(name)
    (X, _), (X_test, _) = load(name)
    parameters = dict(networks(task)[network])
    backbone = load_backbone(parameters.pop("backbone"), **parameters)
    samples = [*take(X, rows), *X_test]
    check = check_texts if task.modality == "text" else check_images
    inputs = PreprocessedSamples(check(samples), backbone.preprocess)
    layers = [resolve_layers(backbone, "all", pooling) for pooling in POOLINGS[task.modality]]
    outputs = collect_candidates(
        backbone,
        inputs,
        [layer for of_pooling in layers for layer in of_pooling],
        range(len(samples)),
        compute=resolve_compute("auto", "float32", "auto"),
        store=resolve_store(FEATURES),
    )
    found = iter(outputs.features)
    by_pooling = {of_pooling[0].pooling: [next(found) for _ in of_pooling] for of_pooling in layers}
    return {row: place for place, row in enumerate(rows)}, by_pooling


class Drawn:
    """One draw of a task and one network.

    Parameters
    ----------
    task : SmallTask
        The task.
    network : str
        Name of the network.
    size : int
        Number of labelled samples.
    seed : int
        Number of the draw.
    needed : tuple of int
        Rows of the pool that this draw and the others of the run need, computed together.
    """

    def __init__(self, task: SmallTask, network: str, size: int, seed: int, needed: tuple[int, ...]) -> None:
        self.task, self.network, self.seed, self._needed = task, network, seed, needed
        self.parameters = {**networks(task)[network], "cache": FEATURES}
        self.rows = drawn_rows(task.name, size, seed)
        self.X, self.y, self.X_test, self.y_test = draw(task, size, seed)

    def score(self, method: str) -> dict[str, float]:
        """Return score and seconds of a method."""
        started = time.perf_counter()
        value = getattr(self, method)()
        return {"score": float(value), "seconds": time.perf_counter() - started}

    def before(self) -> float:
        """Score the last layer, divided by one scale, with a fixed strength."""
        Z, Z_test = self._blocks(self._pooling())[-1]
        mean = Z.mean(0)
        scale = np.sqrt(np.mean((Z - mean) ** 2)) or 1.0
        Z, Z_test = (Z - mean) / scale, (Z_test - mean) / scale
        if self.task.is_regression:
            spread = self.y.std()
            return float(Ridge(alpha=10.0).fit(Z, self.y / spread).score(Z_test, self.y_test / spread))
        return float(LogisticRegression(C=0.1, max_iter=1000).fit(Z, self.y).score(Z_test, self.y_test))

    def frozen(self) -> float:
        """Score the tuner without training."""
        return self._fit(self._tuner(freeze_depth="all", max_epochs=0))

    def tuned(self) -> float:
        """Score the tuner as it comes."""
        return self._fit(self._tuner())

    def before_pipeline(self) -> float:
        """Score the last layer and a linear model as they come."""
        return self._fit(make_pipeline(self._featurizer(layer=-1), self._head()))

    def pipeline(self) -> float:
        """Score a featurizer and a linear model as they come."""
        return self._fit(make_pipeline(self._featurizer(), self._head()))

    def baseline(self) -> float:
        """Score tf-idf or raw pixels with a linear model."""
        read = TfidfVectorizer(sublinear_tf=True) if self.task.modality == "text" else FunctionTransformer(pixels)
        return self._fit(make_pipeline(read, self._head()))

    def oracle(self) -> float:
        """Return the best score of all layers, poolings and strengths."""
        return self._oracle.best()

    def half_oracle(self) -> float:
        """Return the same without the luck of the choice: chosen on one half of the test samples each."""
        return self._oracle.best_of_halves()

    @functools.cached_property
    def _oracle(self) -> Oracle:
        poolings = [self._blocks(pooling) for pooling in POOLINGS[self.task.modality]]
        return Oracle(poolings, self.y, self.y_test, self.task.is_regression)

    def _pooling(self) -> str:
        return POOLINGS[self.task.modality][0]

    def _head(self) -> Any:
        return Ridge() if self.task.is_regression else LogisticRegression(max_iter=1000)

    def _featurizer(self, **parameters: Any) -> Any:
        make = TextFeaturizer if self.task.modality == "text" else ImageFeaturizer
        return make(**self.parameters, **parameters)

    def _tuner(self, **parameters: Any) -> Any:
        make = FineTuneRegressor if self.task.is_regression else FineTuneClassifier
        return make(**self.parameters, **parameters, random_state=self.seed)

    def _fit(self, model: Any) -> float:
        return float(model.fit(self.X, self.y).score(self.X_test, self.y_test))

    def _blocks(self, pooling: str) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return the features of training and test samples by layer, float64."""
        places, by_pooling = features(self.task.name, self.network, self._needed)
        rows = [places[row] for row in self.rows.tolist()]
        return [(part[rows].astype(float), part[len(places) :].astype(float)) for part in by_pooling[pooling]]


def pixels(images: Any) -> np.ndarray:
    """Return grey or colour pixels at 32 x 32 at most, from 0 to 1, (n_images, n_pixels)."""
    rows = []
    for image in images:  # paths or arrays
        picture = Image.open(image).convert("RGB") if isinstance(image, str) else Image.fromarray(image)
        if max(picture.size) > 32:
            picture = picture.resize((32, 32))
        rows.append(np.asarray(picture).ravel() / 255)
    return np.stack(rows)


def measure(args: argparse.Namespace) -> pd.DataFrame:
    """Return the results, one row per task, network, size, draw and method."""
    remembered, rows = Remembered("defaults"), []
    methods = [*args.methods, *(["tuned"] if args.tuned else [])]
    for task in SMALL_TASKS:
        if args.tasks and task.name not in args.tasks:
            continue
        for network in networks(task):
            if (args.tiny and not network.startswith("tiny/")) or (args.networks and network not in args.networks):
                continue
            sizes = [size for size in args.sizes if size <= len(load(task.name)[0][1])]
            draws = [drawn_rows(task.name, max(sizes), seed) for seed in range(args.draws)]
            needed = tuple(np.unique(np.concatenate(draws)).tolist())
            for size in sizes:
                for seed in range(args.draws):
                    drawn = Drawn(task, network, size, seed, needed)
                    for method in methods:
                        key = {"task": task.name, "network": network, "size": size, "draw": seed, "method": method}
                        result = remembered(key, functools.partial(drawn.score, method))
                        rows.append({**key, "half": task.half, "regression": task.is_regression, **result})
                print(f"{task.name}, {network}, {size} labels: {summary(rows, task.name, network, size)}", flush=True)
    return pd.DataFrame(rows)


def summary(rows: list[dict[str, Any]], task: str, network: str, size: int) -> str:
    """Return the mean score of each method of one setting, as text."""
    table = pd.DataFrame(rows)
    chosen = table[(table["task"] == task) & (table["network"] == network) & (table["size"] == size)]
    return "  ".join(
        f"{method} {score:.3f}" for method, score in chosen.groupby("method", sort=False)["score"].mean().items()
    )


def report(results: pd.DataFrame) -> None:
    """Print scores and gains in points: each task and size, means of the halves, losses, oracle, baseline."""
    if not {"before", "frozen"} <= set(results["method"]):
        return
    keys = ["half", "regression", "task", "network", "size", "draw"]
    points = 100 * results.pivot_table(index=keys, columns="method", values="score")
    for regression, kind in ((False, "accuracy"), (True, "R²")):
        part = points[points.index.get_level_values("regression") == regression].droplevel("regression")
        if not len(part):
            continue
        print(f"\n\n{kind} in points, `before` and the gain of `frozen`, mean over draws")
        print(gain_table(part).to_string())
        gains = part.sub(part["before"], axis=0).drop(columns="before")
        gains = gains.groupby(level=["half", "task", "network", "size"]).mean()
        per_pair = gains.groupby(level=["half", "task", "network"]).mean()
        print("\ngain over `before`, mean over tasks and networks")
        print(per_pair.groupby(level="half").mean().round(2).to_string())
        for level in ("size", "network"):
            print(f"\nby {level}")
            print(gains.groupby(level=["half", level]).mean().round(2).to_string())
        for method, reference in (("frozen", "before"), ("pipeline", "before_pipeline"), ("tuned", "before")):
            if {method, reference} <= set(part):
                print(f"\n{method} loses more than 1 point: {losses(part[method] - part[reference])}")
        for method in [name for name in ("oracle", "half_oracle") if name in part]:
            gap = (part[method] - part["frozen"]).groupby(level=["half", "task", "network", "size"]).mean()
            gap = gap.groupby(level=["half", "task", "network"]).mean()
            by_half = ", ".join(f"{half} {value:.2f}" for half, value in gap.groupby(level="half").mean().items())
            print(f"\n{method} minus frozen: {gap.mean():.2f} points ({by_half})")
        if "baseline" in part:
            print(f"\nfrozen is worse than the baseline: {losses(part['frozen'] - part['baseline'], 0.0)}")


def gain_table(points: pd.DataFrame) -> pd.DataFrame:
    """Return `before` and the gain of `frozen`, one row per task and network, one column per size."""
    means = points.groupby(level=["half", "task", "network", "size"]).mean()
    cells = [f"{old:.1f} {new - old:+.1f}" for old, new in zip(means["before"], means["frozen"], strict=True)]
    table: pd.DataFrame = pd.Series(cells, means.index).unstack("size").fillna("")
    return table


def losses(differences: pd.Series, allowed: float = 1.0) -> str:
    """Return tasks and networks with a mean loss above the allowed one, and the sizes with one beyond noise, as text.

    A loss is beyond noise if it is above two standard errors of its mean over the draws.
    """
    differences = differences.dropna()
    means = differences.groupby(level=["task", "network", "size"]).mean()
    per_pair = means.groupby(level=["task", "network"]).mean()
    lost = per_pair[per_pair < -allowed].sort_values()
    per_size = differences.groupby(level=["task", "network", "size"]).agg(["mean", "sem"])
    clear = per_size[(per_size["mean"] < -allowed) & (per_size["mean"] + 2 * per_size["sem"] < 0)]["mean"].sort_values()
    pairs = ", ".join(f"{task}, {network} {value:+.1f}" for (task, network), value in lost.items())
    sizes = ", ".join(f"{task}, {network}, {size} {value:+.1f}" for (task, network, size), value in clear.items())
    return (
        f"{len(lost)} of {len(per_pair)} in the mean of the sizes ({pairs or 'none'}); "
        f"{len(clear)} of {len(per_size)} at one size, beyond noise ({sizes or 'none'})"
    )


def time_fits(names: Sequence[str] = ("film", "digits"), rounds: int = 3) -> None:
    """Print the CPU seconds of fits of 300 labels without a cache, by all layers and by the last one, and their ratio.

    CPU time depends little on other processes of the machine.
    """
    for name in names:
        X, y, _, _ = draw(task_named(name), 300, 0)
        for network, parameters in networks(task_named(name)).items():
            for how, options in (("frozen", {"freeze_depth": "all", "max_epochs": 0}), ("trained", {})):
                taken: dict[Any, list[float]] = {"auto": [], -1: []}
                for number in range(rounds):
                    for layer in list(taken)[:: 1 if number % 2 == 0 else -1]:
                        model = FineTuneClassifier(**parameters, **options, layer=layer, cache=None, random_state=0)
                        started = time.process_time()
                        model.fit(X, y)
                        taken[layer].append(time.process_time() - started)
                ratio = np.median(np.divide(taken["auto"], taken[-1]))
                times = ", ".join(f"layer={layer} {np.median(times):.2f} s" for layer, times in taken.items())
                print(f"{name}, {network}, {how}: {times}, ratio {ratio:.2f}", flush=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES))
    parser.add_argument("--draws", type=int, default=sized(2, 5))
    parser.add_argument("--tasks", nargs="+", default=[])
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS)
    parser.add_argument("--networks", nargs="+", default=[])
    parser.add_argument("--tiny", action="store_true", help="only the shipped networks")
    parser.add_argument("--tuned", action="store_true", help="also train, which takes most of the time")
    parser.add_argument("--time", action="store_true", help="also time fits without a cache")
    args = parser.parse_args()
    warnings.filterwarnings("ignore", message=".*truncated.*")
    report(measure(args))
    if args.time:
        time_fits()


if __name__ == "__main__":
    main()
