"""Several tasks on one trunk, against separate networks and against one task after the other.

    SKTRANSFER_TEST_DATA=... [SIZE=full] python -m benchmarks.accuracy.multitask [mou] [amazon] [coarse]

mou: INIT, MULT and MULT+INIT of Mou et al. (2016). The source is IMDB. The target is MR (a similar task), or the
package of a docstring, of six (a dissimilar task). The network has the word embeddings of `tiny/bert`, frozen, and its
other stages with random weights. INIT trains the source first and then the target. MULT trains both together, and a
share lambda of the draws is of the target. MULT+INIT does so from the source's network. The score is test accuracy of
the target.

amazon: reviews of four domains. Four networks, a trunk with four tasks (equal weights or learned ones), and a single
task of all reviews learn whether a review is positive. The score is the mean of the accuracies in the domains.

coarse: photos of CIFAR-10. The fine label, of ten, is known of a tenth of the photos, and the coarse label, animal or
thing, of all. The score is test accuracy of the fine label.

Each figure is a mean over draws of the labelled samples. The results are stored in `results/multitask.jsonl` when they
are measured, so an interrupted run resumes. SIZE=full has more reviews of the source.
"""

from __future__ import annotations

import argparse
import functools
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.accuracy.small_tasks import SMALL_TASKS
from benchmarks.common import RESULTS, Report, data_folder, movie_reviews, sentence_encoder, sized
from benchmarks.remembered import Remembered
from sktransfer import Backbone, FineTuneClassifier, MultiTaskFineTuner, load_backbone, merge_tasks
from sktransfer.backbones.backbone import replace_stages
from sktransfer.exceptions import TruncatedTextWarning

Data = tuple[Any, np.ndarray]

# mou

LAMBDAS = (0.1, 0.3, 0.5, 0.7, 0.9)
MOU: dict[str, Any] = {
    "freeze_depth": 1,
    "layer": -1,
    "head_init": "random",
    "max_length": 64,
    "lr": 1e-3,
    "head_lr": 1e-3,
    "lr_schedule": "one_cycle",
}
SOURCE_EPOCHS, TARGET_EPOCHS, JOINT_EPOCHS = 5, 10, 3


def mou_targets() -> dict[str, tuple[Data, Data]]:
    """Return pool and test samples of the two targets."""
    texts, labels = movie_reviews()
    rows = np.random.default_rng(0).permutation(len(texts))
    film = (texts[rows[:-1000]], labels[rows[:-1000]]), (texts[rows[-1000:]], labels[rows[-1000:]])
    (X, y), (X_test, y_test) = next(task for task in SMALL_TASKS if task.name == "docstrings").load()
    objects = [np.array(one, dtype=object) for one in (X, X_test)]
    return {"MR": film, "docstrings": ((objects[0], y), (objects[1], y_test))}


@functools.cache
def reviews(n: int) -> Data:
    """Return n reviews of IMDB, in random order."""
    table = pd.read_csv(data_folder() / "text" / "imdb_train.csv.gz")
    rows = np.random.default_rng(1).permutation(len(table))[:n]
    return table["text"].to_numpy(dtype=object)[rows], table["label"].to_numpy()[rows]


def start(seed: int) -> Backbone:
    """Return pretrained word embeddings, and random stages above them."""
    random = load_backbone("tiny/bert", weights="random", seed=seed)
    return replace_stages(load_backbone("tiny/bert"), 1, list(random.stages[1:]))


@functools.lru_cache(maxsize=3)
def source(seed: int, n_reviews: int) -> Backbone:
    """Return the network of the source task."""
    tuner = FineTuneClassifier(start(seed), **MOU, max_epochs=SOURCE_EPOCHS, random_state=seed)
    trained: Backbone = tuner.fit(*reviews(n_reviews)).backbone_
    return trained


def mou(method: str, target: str, size: int, seed: int, n_reviews: int, data: tuple[Data, Data]) -> float:
    """Return the target's test accuracy of a method: "target alone", "INIT", "MULT 0.5" or "MULT+INIT 0.5"."""
    (X, y), (X_test, y_test) = data
    rows = np.random.default_rng(100 + seed).permutation(len(y))[:size]
    kind, _, share = method.partition(" ")
    trained = source(seed, n_reviews) if "INIT" in kind else start(seed)
    if "MULT" not in kind:
        model: Any = FineTuneClassifier(trained, **MOU, max_epochs=TARGET_EPOCHS, random_state=seed)
        return float(model.fit(X[rows], y[rows]).score(X_test, y_test))
    sampling = {target: float(share), "IMDB": 1 - float(share)}
    model = MultiTaskFineTuner(trained, **MOU, task_sampling=sampling, max_epochs=JOINT_EPOCHS, random_state=seed)
    model.fit(*merge_tasks({target: (X[rows], y[rows]), "IMDB": reviews(n_reviews)}))
    return float(model.task(target).score(X_test, y_test))


def measure_mou(report: Report, known: Remembered, n_draws: int) -> pd.DataFrame:
    """Report the accuracies of the targets, and return a row per method and draw."""
    n_reviews = sized(1000, 20000)
    joint = [f"{kind} {share}" for kind in ("MULT", "MULT+INIT") for share in LAMBDAS]
    setting = {**MOU, "n": n_reviews, "epochs": [SOURCE_EPOCHS, TARGET_EPOCHS, JOINT_EPOCHS]}
    rows = []
    for target, data in mou_targets().items():
        for size in (100, 1000):
            for method in ("target alone", "INIT", *joint):
                scores = [
                    known(
                        {**setting, "method": method, "target": target, "size": size, "seed": seed},
                        functools.partial(mou, method, target, size, seed, n_reviews, data),
                    )
                    for seed in range(n_draws)
                ]
                report.row(f"IMDB to {target}, {size} labels: {method}", scores)
                rows += [
                    {"target": target, "size": size, "method": method, "draw": seed, "score": score}
                    for seed, score in enumerate(scores)
                ]
    return pd.DataFrame(rows)


def draw_mou(results: pd.DataFrame, path: Path) -> None:
    """Draw accuracy over lambda, one panel per target and size."""
    from matplotlib.figure import Figure  # pyplot would start a window system

    means = results.groupby(["target", "size", "method"])["score"].mean()
    panels = list(results.groupby(["target", "size"], sort=False).groups)
    figure = Figure(figsize=(3 * len(panels), 3), layout="constrained")
    for axes, (target, size) in zip(np.atleast_1d(figure.subplots(1, len(panels))), panels, strict=True):
        of_panel = means[target, size]
        for method, colour in (("target alone", "#999999"), ("INIT", "#000000")):
            axes.axhline(100 * of_panel[method], color=colour, linestyle="--", label=method)
        for kind, colour in (("MULT", "#0072B2"), ("MULT+INIT", "#D55E00")):
            curve = {float(name.split()[1]): 100 * value for name, value in of_panel.items() if name.split()[0] == kind}
            axes.plot(list(curve), list(curve.values()), "o-", color=colour, label=kind)
        axes.set_title(f"IMDB to {target}, {size} labels", fontsize=9)
        axes.set_xlabel("lambda, share of the target")
        axes.grid(alpha=0.25)
    figure.axes[0].set_ylabel("test accuracy (%)")
    figure.axes[0].legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=130)


# amazon

DOMAINS = ("books", "dvd", "electronics", "kitchen")
WAYS = ("separate networks", "a task per domain", "a task per domain, learned weights", "one task")


def amazon_data() -> dict[str, tuple[Data, Data]]:
    """Return pool and test reviews of each domain."""
    table = pd.read_csv(data_folder() / "text" / "amazon_mdsd.csv.gz")
    data = {}
    for domain, part in table.groupby("domain"):
        rows = np.random.default_rng(2).permutation(len(part))
        texts, labels = part["text"].to_numpy(dtype=object)[rows], part["label"].to_numpy()[rows]
        data[str(domain)] = (texts[:-500], labels[:-500]), (texts[-500:], labels[-500:])
    return data


def amazon(way: str, backbone: Any, size: int, seed: int, data: dict[str, tuple[Data, Data]]) -> float:
    """Return the mean of the domains' test accuracies."""
    settings = {"max_length": 128, "random_state": seed}
    drawn, test = {}, {}
    for domain, ((X, y), held_out) in data.items():
        rows = np.random.default_rng(200 + seed).permutation(len(y))[:size]
        drawn[domain], test[domain] = (X[rows], y[rows]), held_out
    if way == "separate networks":
        models = {domain: FineTuneClassifier(backbone, **settings).fit(*some) for domain, some in drawn.items()}
        return float(np.mean([models[domain].score(*test[domain]) for domain in test]))
    if way == "one task":
        X, y = (np.concatenate(parts) for parts in zip(*drawn.values(), strict=True))
        model = FineTuneClassifier(backbone, **settings).fit(X, y)
        return float(np.mean([model.score(*one) for one in test.values()]))
    weights = "uncertainty" if way.endswith("learned weights") else "equal"
    joint = MultiTaskFineTuner(backbone, task_weights=weights, **settings).fit(*merge_tasks(drawn))
    return float(joint.scores(*merge_tasks(test)).mean())


def measure_amazon(report: Report, known: Remembered, n_draws: int) -> None:
    """Report the accuracies, and the gains over separate networks."""
    data = amazon_data()
    for name in ("tiny/bert", "all-MiniLM-L6-v2"):
        backbone = "tiny/bert" if name == "tiny/bert" else sentence_encoder()
        for size in (32, 256):
            scores = {}
            for way in WAYS:
                scores[way] = [
                    known(
                        {"way": way, "network": name, "size": size, "seed": seed, "length": 128},
                        functools.partial(amazon, way, backbone, size, seed, data),
                    )
                    for seed in range(n_draws)
                ]
                gain = 100 * float(np.mean(np.subtract(scores[way], scores[WAYS[0]])))
                report.row(f"four domains, {name}, {size} labels each: {way}", scores[way], gain=f"{gain:+.1f}")


# coarse

ANIMALS = ("bird", "cat", "deer", "dog", "frog", "horse")
N_PHOTOS, N_FINE, N_TEST_PHOTOS = 2000, 200, 1000
KNOWLEDGE = ("fine alone", "coarse, then fine", "both", "both, drawn equally often")


def coarse_data() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return photos and classes of the training and of the test part."""
    from benchmarks.accuracy.tiny_images import cifar10

    X, X_test, y, y_test = cifar10(0)
    return X, y, X_test[:N_TEST_PHOTOS], y_test[:N_TEST_PHOTOS]


def is_animal(y: np.ndarray) -> np.ndarray:
    """Return the coarse label of CIFAR-10's classes: names, or their indices in alphabetical order."""
    names = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
    named = np.asarray(names)[y] if np.issubdtype(np.asarray(y).dtype, np.integer) else np.asarray(y)
    return np.where(np.isin(named, ANIMALS), "animal", "thing")


def coarse(way: str, seed: int, data: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]) -> float:
    """Return the test accuracy of the fine label."""
    X, y, X_test, y_test = data
    rows = np.random.default_rng(300 + seed).permutation(len(y))[:N_PHOTOS]
    few = rows[:N_FINE]
    if way in ("fine alone", "coarse, then fine"):
        backbone: Any = "tiny/cnn"
        if way != "fine alone":
            backbone = FineTuneClassifier(random_state=seed).fit(X[rows], is_animal(y[rows])).backbone_
        return float(FineTuneClassifier(backbone, random_state=seed).fit(X[few], y[few]).score(X_test, y_test))
    fine = pd.Series(y[rows].astype(object)).where(np.arange(N_PHOTOS) < N_FINE, None)
    Y = pd.DataFrame({"fine": fine, "coarse": is_animal(y[rows])})
    sampling = "uniform" if way.endswith("equally often") else "proportional"
    joint = MultiTaskFineTuner("tiny/cnn", task_sampling=sampling, random_state=seed).fit(X[rows], Y)
    return float(joint.task("fine").score(X_test, y_test))


def measure_coarse(report: Report, known: Remembered, n_draws: int) -> None:
    """Report the accuracies, and the gains over the fine labels alone."""
    data = coarse_data()
    scores: dict[str, list[float]] = {}
    for way in KNOWLEDGE:
        scores[way] = [
            known({"coarse": way, "seed": seed, "n": [N_PHOTOS, N_FINE]}, functools.partial(coarse, way, seed, data))
            for seed in range(n_draws)
        ]
        gain = 100 * float(np.mean(np.subtract(scores[way], scores[KNOWLEDGE[0]])))
        report.row(f"CIFAR-10, {N_FINE} fine of {N_PHOTOS} labels: {way}", scores[way], gain=f"{gain:+.1f}")


def main() -> None:
    """Print, write and draw the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", default=["mou", "amazon", "coarse"], help="any of mou, amazon, coarse")
    parser.add_argument("--draws", type=int, default=None, help="3 of mou and coarse, 5 of amazon")
    args = parser.parse_args()
    data_folder()
    warnings.simplefilter("ignore", TruncatedTextWarning)  # the limit is intended
    report, known = Report("Several tasks on one trunk, or separate ones", "multitask"), Remembered("multitask")
    parts: dict[str, Callable[[Report, Remembered, int], Any]] = {
        "mou": measure_mou,
        "amazon": measure_amazon,
        "coarse": measure_coarse,
    }
    for part in args.parts:
        result = parts[part](report, known, args.draws or (5 if part == "amazon" else 3))
        if part == "mou":
            RESULTS.mkdir(exist_ok=True)
            draw_mou(result, RESULTS / "multitask.png")
    report.write()


if __name__ == "__main__":
    main()
