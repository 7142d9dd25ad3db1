"""Default settings on 23 small tasks, against an earlier default, tf-idf or raw pixels, and an oracle.

    SKTRANSFER_TEST_DATA=... [SIZE=full] python -m benchmarks.defaults [--draws 5] [--tiny] [--tuned] [--time]

Each task is drawn 5 times at 30, 100, 300 and 1,000 labels (if it has so many), for a tiny and a larger network per
modality. The score is accuracy, or R² for regressions, on up to 600 test samples. The methods are

- before: the last layer, divided by one scale, and a logistic regression with C=0.1 or a ridge with alpha=10
- frozen: `FineTuneClassifier(backbone, freeze_depth="all", max_epochs=0)` or the regressor, as they come
- pipeline: a featurizer as it comes, and `LogisticRegression()` or `Ridge()`
- baseline: tf-idf or raw pixels, and a logistic regression or ridge
- tuned (`--tuned`): `FineTuneClassifier(backbone)` or the regressor, as they come
- oracle: the best of all layers (one, the upper half, all), poolings and strengths, chosen on the test samples

The result of each method is stored in `results/defaults.jsonl` when it is measured, so an interrupted run resumes. At
the end, the gains over `before` are printed for the half of the tasks that rules were chosen on and for the other half.
`--time` prints the seconds of fits. Delete the file after a change of the library.
"""

from __future__ import annotations

import argparse
import functools
import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image
from sklearn.decomposition import PCA
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from benchmarks.common import RESULTS, mobilenet_weights, sentence_encoder, sized
from benchmarks.remembered import Remembered
from benchmarks.small_tasks import SMALL_TASKS, SmallTask
from sktransfer import FineTuneClassifier, FineTuneRegressor, ImageFeaturizer, TextFeaturizer

SIZES = (30, 100, 300, 1000)
POOLINGS = {"image": ("average", "max", "grid2"), "text": ("mean", "max")}
STRENGTHS = (1.0, 10.0, 100.0, 1000.0)  # C of a logistic regression on features of total variance 1
ALPHAS = (0.001, 0.01, 0.1, 1.0)  # of a ridge, relative to the total variance of all samples
METHODS = ("before", "frozen", "pipeline", "baseline", "oracle")
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


@functools.lru_cache(maxsize=2)
def load(name: str) -> Any:
    """Return pool and test samples of a task."""
    return next(task for task in SMALL_TASKS if task.name == name).load()


def take(X: Any, rows: np.ndarray) -> Any:
    """Return some samples."""
    return X[rows] if isinstance(X, np.ndarray) else [X[row] for row in rows]


def draw(task: SmallTask, size: int, seed: int) -> tuple[Any, np.ndarray, Any, np.ndarray]:
    """Return training samples and targets, and those of the test. Smaller draws are subsets of larger ones."""
    (X, y), (X_test, y_test) = load(task.name)
    rows = np.random.default_rng(1000 + seed).permutation(len(y))[:size]
    return take(X, rows), y[rows], X_test, y_test


def featurizer(task: SmallTask, network: dict[str, Any], **parameters: Any) -> Any:
    """Return a featurizer of the task's modality."""
    make = TextFeaturizer if task.modality == "text" else ImageFeaturizer
    return make(**{**network, **parameters})


@functools.lru_cache(maxsize=64)
def blocks(name: str, network: str, pooling: str) -> list[np.ndarray]:
    """Return the features of pool and test samples by layer, of one network: a list of (n_samples, n_features)."""
    task = next(task for task in SMALL_TASKS if task.name == name)
    (X, _), (X_test, _) = load(name)
    samples = np.concatenate([X, X_test]) if isinstance(X, np.ndarray) else [*X, *X_test]
    made = featurizer(task, networks(task)[network], layer="all", pooling=pooling)
    features = made.fit_transform(samples)
    widths = []
    for layer in made.backbone_.stage_names:
        one = featurizer(task, networks(task)[network], layer=layer, pooling=pooling)
        widths.append(one.fit_transform(take(samples, np.arange(1))).shape[1])
    return np.split(features, np.cumsum(widths)[:-1], axis=1)


class Drawn:
    """One draw of a task, and the features of its samples by one network.

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
    """

    def __init__(self, task: SmallTask, network: str, size: int, seed: int) -> None:
        self.task, self.network, self.size, self.seed = task, network, size, seed
        self.parameters = networks(task)[network]
        self.X, self.y, self.X_test, self.y_test = draw(task, size, seed)

    def score(self, method: str) -> dict[str, float]:
        """Return score and seconds of a method."""
        started = time.perf_counter()
        value = getattr(self, method)()
        return {"score": float(value), "seconds": time.perf_counter() - started}

    def before(self) -> float:
        """Score the last layer of unit scale with a fixed strength."""
        return self._scaled([self._blocks()[-1]], C=0.1, alpha=10.0)

    def frozen(self) -> float:
        """Score the tuner without training."""
        return self._fit(self._tuner(freeze_depth="all", max_epochs=0))

    def tuned(self) -> float:
        """Score the tuner as it comes."""
        return self._fit(self._tuner())

    def pipeline(self) -> float:
        """Score a featurizer and a linear model as they come."""
        head = Ridge() if self.task.is_regression else LogisticRegression(max_iter=1000)
        return self._fit(make_pipeline(featurizer(self.task, self.parameters), head))

    def baseline(self) -> float:
        """Score tf-idf or raw pixels with a linear model."""
        head = Ridge() if self.task.is_regression else LogisticRegression(max_iter=1000)
        read = TfidfVectorizer(sublinear_tf=True) if self.task.modality == "text" else FunctionTransformer(pixels)
        return self._fit(make_pipeline(read, head))

    def oracle(self) -> float:
        """Return the best score of all layers, poolings and strengths."""
        best = -np.inf
        for pooling in POOLINGS[self.task.modality]:
            layers = self._blocks(pooling)
            for chosen in [*([layer] for layer in layers), layers[len(layers) // 2 :], layers]:
                for C, alpha in zip(STRENGTHS, ALPHAS, strict=True):
                    best = max(best, self._scaled(chosen, C=C, alpha=alpha, total=True))
        return best

    def _tuner(self, **parameters: Any) -> Any:
        make = FineTuneRegressor if self.task.is_regression else FineTuneClassifier
        return make(**self.parameters, **parameters, random_state=self.seed)

    def _fit(self, model: Any) -> float:
        return float(model.fit(self.X, self.y).score(self.X_test, self.y_test))

    def _blocks(self, pooling: str = "auto") -> list[tuple[np.ndarray, np.ndarray]]:
        """Return the features of training and test samples by layer, float64."""
        rows = np.random.default_rng(1000 + self.seed).permutation(len(load(self.task.name)[0][1]))[: self.size]
        n_test = len(self.y_test)
        return [
            (part[rows].astype(float), part[-n_test:].astype(float))
            for part in blocks(self.task.name, self.network, pooling)
        ]

    def _scaled(
        self, layers: Sequence[tuple[np.ndarray, np.ndarray]], *, C: float, alpha: float, total: bool = False
    ) -> float:
        """Score layers that are divided by their scale: to a variance of 1 per feature, or in total."""
        train, test = [], []
        for Z, Z_test in layers:
            mean = Z.mean(0)
            variance = Z.var(0)
            scale = np.sqrt(variance.sum() * len(layers) if total else variance.mean()) or 1.0
            train.append((Z - mean) / scale)
            test.append((Z_test - mean) / scale)
        Z, Z_test = np.concatenate(train, 1), np.concatenate(test, 1)
        if Z.shape[1] > len(Z):  # a rotation to as many features as samples changes no result, and is faster
            rotation = PCA(svd_solver="full").fit(Z)
            Z, Z_test = rotation.transform(Z), rotation.transform(Z_test)
        if self.task.is_regression:
            spread = self.y.std()
            head = Ridge(alpha=alpha * len(Z) if total else alpha).fit(Z, self.y / spread)
            return float(head.score(Z_test, self.y_test / spread))
        return float(LogisticRegression(C=C, max_iter=1000).fit(Z, self.y).score(Z_test, self.y_test))


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
    methods = [method for method in (*METHODS, "tuned") if method in args.methods or (method == "tuned" and args.tuned)]
    for task in SMALL_TASKS:
        if args.tasks and task.name not in args.tasks:
            continue
        for network in networks(task):
            if args.tiny and not network.startswith("tiny/"):
                continue
            for size in args.sizes:
                for seed in range(args.draws):
                    if size > len(load(task.name)[0][1]):
                        continue
                    drawn = Drawn(task, network, size, seed)
                    for method in methods:
                        key = {"task": task.name, "network": network, "size": size, "draw": seed, "method": method}
                        result = remembered(key, functools.partial(drawn.score, method))
                        rows.append({**key, "half": task.half, "regression": task.is_regression, **result})
                print(f"{task.name}, {network}, {size} labels: {summary(rows, task.name, network, size)}", flush=True)
        blocks.cache_clear()
    return pd.DataFrame(rows)


def summary(rows: list[dict[str, Any]], task: str, network: str, size: int) -> str:
    """Return the mean score of each method of one setting, as text."""
    table = pd.DataFrame(rows)
    chosen = table[(table["task"] == task) & (table["network"] == network) & (table["size"] == size)]
    return "  ".join(
        f"{method} {score:.3f}" for method, score in chosen.groupby("method", sort=False)["score"].mean().items()
    )


def report(results: pd.DataFrame) -> None:
    """Print the gains over the earlier default, in points: per half, size, and for the worst tasks."""
    keys = ["half", "regression", "task", "network", "size", "draw"]
    wide = results.pivot_table(index=keys, columns="method", values="score")
    gains = 100 * wide.sub(wide["before"], axis=0).drop(columns="before")
    for regression, kind in ((False, "accuracy"), (True, "R²")):
        part = gains[gains.index.get_level_values("regression") == regression]
        if not len(part):
            continue
        per_task = part.groupby(level=["half", "task", "network"]).mean()
        print(f"\nGain over `before` in points of {kind}, mean over tasks and networks")
        print(per_task.groupby(level="half").mean().round(2).to_string())
        print("\nby number of labels")
        print(part.groupby(level=["half", "size"]).mean().round(2).to_string())
        print("\ntasks that lose more than 1 point")
        for method in per_task.columns:
            worst = per_task[method].sort_values()
            lost = ", ".join(
                f"{task}, {network} {value:+.1f}" for (_, task, network), value in worst[worst < -1].items()
            )
            print(f"  {method}: {lost or 'none'}")
        if {"frozen", "oracle", "baseline"} <= set(per_task.columns):
            gap = (per_task["oracle"] - per_task["frozen"]).mean()
            print(f"\nfrozen is {gap:.2f} points behind the oracle")
            behind = per_task["baseline"] - per_task["frozen"]
            lost = [f"{task}, {network} {value:.1f}" for (_, task, network), value in behind[behind > 0].items()]
            print(f"frozen is behind tf-idf or pixels on {len(lost)} of {len(behind)}: {', '.join(lost)}")


def time_fits(names: Sequence[str] = ("film", "digits")) -> None:
    """Print the seconds of one fit of 300 labels without a cache, now and with the last layer alone."""
    for name in names:
        task = next(task for task in SMALL_TASKS if task.name == name)
        for network, parameters in networks(task).items():
            X, y, _, _ = draw(task, 300, 0)
            fits: dict[str, Callable[[], Any]] = {
                label: functools.partial(
                    FineTuneClassifier(
                        **parameters, **changes, freeze_depth="all", max_epochs=0, cache=None, random_state=0
                    ).fit,
                    X,
                    y,
                )
                for label, changes in (("default", {}), ("layer=-1", {"layer": -1}))
            }
            print(f"{name}, {network}: " + "  ".join(f"{label} {seconds(fit):.2f} s" for label, fit in fits.items()))


def seconds(call: Callable[[], Any], rounds: int = 3) -> float:
    """Return the least seconds of some calls."""
    times = []
    for _ in range(rounds):
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return min(times)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES))
    parser.add_argument("--draws", type=int, default=sized(2, 5))
    parser.add_argument("--tasks", nargs="+", default=[])
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS)
    parser.add_argument("--tiny", action="store_true", help="only the shipped networks")
    parser.add_argument("--tuned", action="store_true", help="also train, which takes most of the time")
    parser.add_argument("--time", action="store_true", help="also time fits without a cache")
    args = parser.parse_args()
    warnings.filterwarnings("ignore", message=".*truncated.*")
    results = measure(args)
    RESULTS.mkdir(exist_ok=True)
    report(results)
    if args.time:
        time_fits()


if __name__ == "__main__":
    main()
