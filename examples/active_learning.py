"""Active learning: label the samples whose prediction is least certain.

    pip install scikit-activeml
    python examples/active_learning.py                                # scikit-learn's digits
    SKTRANSFER_TEST_DATA=<folder> python examples/active_learning.py  # photos as well, see README.md

A pipeline of a frozen backbone and a logistic regression is the classifier of two query strategies of scikit-activeml.
One strategy queries the samples whose predicted label is least certain, the other queries random samples. Each round
doubles the number of labels. The script prints test accuracy per number of labels over several seeds. It uses digits,
and with the data folder also photos of ants and bees and sentences of film reviews. It saves the learning curves.
"""

from __future__ import annotations

import argparse
import os
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from sktransfer import ImageFeaturizer, TextFeaturizer, load_image_folder

try:
    from skactiveml.classifier import SklearnClassifier
    from skactiveml.pool import RandomSampling, UncertaintySampling
    from skactiveml.utils import call_func
except ImportError as error:
    raise SystemExit("pip install scikit-activeml: this example uses its query strategies") from error

UNKNOWN = ""  # marks a missing label
STRATEGIES = {
    "least certain": partial(UncertaintySampling, method="margin_sampling", missing_label=UNKNOWN),
    "random": partial(RandomSampling, missing_label=UNKNOWN),
}


@dataclass
class Task:
    """Samples with labels.

    The first `n_pool` samples may be queried, the others are the test set. `sizes` are the numbers of labels per round.
    """

    samples: Any
    labels: np.ndarray
    n_pool: int
    featurizer: Any
    sizes: list[int]

    def curve(self, strategy: Any, seed: int) -> list[float]:
        """Return the test accuracy after each round."""
        # scikit-activeml requires a numeric X, so X holds row numbers and the pipeline looks up the samples.
        rows, pool = np.arange(len(self.labels))[:, None], np.arange(self.n_pool)
        look_up = FunctionTransformer(lambda rows: [self.samples[row] for row in np.ravel(rows)])
        model = make_pipeline(look_up, self.featurizer, LogisticRegression(max_iter=1000))
        clf = SklearnClassifier(model, classes=np.unique(self.labels), missing_label=UNKNOWN, random_state=seed)
        known, scores = np.full_like(self.labels, UNKNOWN), []
        # Both strategies start with the same few labels.
        queried, _ = train_test_split(pool, train_size=self.sizes[0], stratify=self.labels[pool], random_state=seed)
        for size in [*self.sizes[1:], None]:
            known[queried] = self.labels[queried]  # in practice, a person labels these samples here
            clf.fit(rows, known)
            scores.append(clf.score(rows[self.n_pool :], self.labels[self.n_pool :]))
            if size is not None:
                candidates, n_new = pool[known[pool] == UNKNOWN], size - int((known != UNKNOWN).sum())
                query = {"X": rows, "y": known, "clf": clf, "fit_clf": False, "candidates": candidates}
                queried = call_func(strategy.query, **query, batch_size=n_new)
        return scores


def tasks(encoder: str) -> dict[str, Task]:
    """Return the tasks by name."""
    X, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(X))
    digits = ImageFeaturizer("tiny/cnn", layer="block4", pooling="grid2")
    digits_only = {"digits": Task(X[order] / 16, y[order].astype(str), 1000, digits, [20, 40, 80, 160, 320])}
    if not (folder := os.environ.get("SKTRANSFER_TEST_DATA")):
        print("SKTRANSFER_TEST_DATA is not set: only scikit-learn's digits are used\n")
        return digits_only
    parts = [load_image_folder(Path(folder, "images", "hymenoptera", part)) for part in ("train", "val")]
    paths, insects = (np.concatenate(both) for both in zip(*parts))
    weights = Path(folder, "weights", "mobilenet_v2_imagenet1k.safetensors")
    photos = ImageFeaturizer("torchvision/mobilenet_v2", weights=weights, layer=-1)
    reviews = pd.read_csv(Path(folder, "text", "mr.csv.gz")).drop_duplicates("text")
    reviews = reviews.sample(frac=1, random_state=0)[:3000]
    texts, verdicts = reviews["text"].to_numpy(dtype=object), reviews["label"].to_numpy().astype(str)
    sizes = [8, 16, 32, 64, 128, 256, 512]
    return digits_only | {
        "ants and bees": Task(paths, insects, len(parts[0][0]), photos, [4, 8, 16, 32, 64, 128]),
        "film reviews": Task(texts, verdicts, len(texts) * 2 // 3, TextFeaturizer(encoder, layer=-1), sizes),
    }


def picture(curves: dict[str, pd.DataFrame]) -> plt.Figure:
    """Draw accuracy against the number of labels, one panel per task: mean ± standard deviation over seeds."""
    figure, panels = plt.subplots(
        1, len(curves), figsize=(0.5 + 3.7 * len(curves), 3.8), layout="constrained", squeeze=False
    )
    for axes, (task, curve) in zip(panels[0], curves.items()):
        for strategy, colour, marker in zip(STRATEGIES, ("#0072B2", "#D55E00"), "os"):
            scores = curve[curve["strategy"] == strategy].groupby("labels")["accuracy"].agg(["mean", "std"])
            axes.plot(scores.index, scores["mean"], marker=marker, color=colour, label=strategy)
            band = (scores["mean"] + side * scores["std"] for side in (-1, 1))
            axes.fill_between(scores.index, *band, color=colour, alpha=0.2)
        axes.set_xscale("log")
        axes.set_xticks(curve["labels"].unique(), curve["labels"].unique())
        axes.minorticks_off()
        axes.set_title(task)
        axes.set_xlabel("number of labels")
        axes.grid(alpha=0.25)
    panels[0][0].set_ylabel("accuracy on test samples")
    panels[0][0].legend(title="queries", frameon=False, loc="lower right")
    return figure


def main() -> None:
    """Print the tables and save the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=10, help="maximal number of rounds")
    parser.add_argument("--encoder", default="tiny/bert", help="backbone for the film reviews")
    parser.add_argument("--out", type=Path, default=Path("demo"))
    args = parser.parse_args()
    started = time.perf_counter()
    curves = {}
    for name, task in tasks(args.encoder).items():
        task.sizes = task.sizes[: args.rounds]
        results = []
        for seed in range(args.seeds):
            for strategy, made in STRATEGIES.items():
                scores = task.curve(made(random_state=seed), seed)
                results += [
                    {"strategy": strategy, "labels": size, "accuracy": score} for size, score in zip(task.sizes, scores)
                ]
        curves[name] = pd.DataFrame(results)
        table = curves[name].groupby(["labels", "strategy"], sort=False)["accuracy"].agg(["mean", "std"])
        formatted = table.apply(lambda row: f"{row['mean']:.3f} ± {row['std']:.3f}", axis=1)
        print(f"{name}: test accuracy per number of labels, mean ± standard deviation over {args.seeds} seeds\n")
        print(formatted.unstack().to_string(), "\n")

    args.out.mkdir(parents=True, exist_ok=True)
    picture(curves).savefig(args.out / "active_learning.png", dpi=80)
    plt.close("all")
    print(f"picture: {args.out}/active_learning.png\n{time.perf_counter() - started:.0f} seconds")


if __name__ == "__main__":
    main()
