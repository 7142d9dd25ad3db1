"""Two modalities on one head: joined towers against each modality alone and against late fusion.

    [SIZE=full] python -m benchmarks.accuracy.joined [--draws 3] [--tasks spoken reviews]

In `spoken`, a row has the noisy picture of a digit and a spoken word. The word is that of the digit in half of the
rows, and any of the ten words otherwise. In `reviews`, a row has one of three classes. Its digit is drawn from those of
the class in 55% of the rows, its product review from those of the class in 70%, and from those of any class otherwise.
Reviews need SKTRANSFER_TEST_DATA.

Late fusion of frozen networks is a `ColumnTransformer` of `TextFeaturizer` and `ImageFeaturizer`. That of fine-tuned
networks is the mean of the probabilities of two networks. Each model reads the same rows with its default settings. The
test has 500 other rows. An interrupted run resumes.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from benchmarks.common import Report, data_folder, sized
from benchmarks.remembered import Remembered
from sktransfer import Backbone, FineTuneClassifier, ImageFeaturizer, JoinedFeaturizer, TextFeaturizer

N_TEST = 500
WORDS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
FROZEN = ("text", "image", "late fusion", "joined")
Data = tuple[pd.DataFrame, np.ndarray]


def _draw(rng: np.random.Generator, labels: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Return a random row of each wanted label (n_rows,)."""
    return np.array([rng.choice(np.flatnonzero(labels == label)) for label in wanted])


def _spoken(rng: np.random.Generator, n: int) -> Data:
    pixels, digit = load_digits(return_X_y=True)
    rows = rng.choice(len(digit), n, replace=False)
    noisy = pixels[rows].reshape(-1, 8, 8) / 16 + rng.normal(0, 0.45, (n, 8, 8))
    images = (255 * np.clip(noisy, 0, 1)).astype(np.uint8)
    heard = np.where(rng.random(n) < 0.5, digit[rows], rng.integers(10, size=n))
    texts = [f"the caller says {WORDS[one]}" for one in heard]
    return pd.DataFrame({"text": texts, "image": list(images)}), digit[rows]


def _reviews(rng: np.random.Generator, n: int) -> Data:
    pixels, digit = load_digits(return_X_y=True)
    table = pd.read_csv(data_folder() / "text" / "amazon_mdsd.csv.gz")
    label = rng.integers(3, size=n)

    def noisy(share: float) -> np.ndarray:
        return np.where(rng.random(n) < share, rng.integers(3, size=n), label)

    images = (pixels.reshape(-1, 8, 8) / 16 * 255).astype(np.uint8)[_draw(rng, digit, np.array([2, 5, 8])[noisy(0.45)])]
    domains = np.array(["books", "electronics", "kitchen"])[noisy(0.3)]
    texts = table["text"].iloc[_draw(rng, table["domain"].to_numpy(), domains)].str.split().str[:40].str.join(" ")
    return pd.DataFrame({"text": list(texts), "image": list(images)}), label


TASKS: dict[str, Callable[[np.random.Generator, int], Data]] = {"spoken": _spoken, "reviews": _reviews}


def model_of(kind: str, tuned: bool, seed: int) -> Any:
    """Return an unfitted model of the rows.

    Parameters
    ----------
    kind : str
        One of `FROZEN`.
    tuned : bool
        Whether the networks are fine-tuned.
    seed : int
        Seed of the training.
    """
    joined = Backbone.join({"text": "tiny/bert", "image": "tiny/cnn"})
    if tuned:
        backbone = {"text": "tiny/bert", "image": "tiny/cnn", "joined": joined}[kind]
        return FineTuneClassifier(backbone, random_state=seed)
    parts = [(TextFeaturizer(), ["text"]), (ImageFeaturizer(), ["image"])]
    features = {
        "text": TextFeaturizer(),
        "image": ImageFeaturizer(),
        "late fusion": make_column_transformer(*parts),
        "joined": JoinedFeaturizer(joined),
    }[kind]
    return make_pipeline(features, LogisticRegression(max_iter=1000))


def measure(task: str, seed: int, n: int, kind: str, tuned: bool) -> float:
    """Return the test accuracy of a model that learns from n rows.

    Parameters
    ----------
    task : str
        Key of `TASKS`.
    seed : int
        Draw of the rows, and seed of the training.
    n : int
        Number of rows to learn from.
    kind, tuned
        As `model_of` takes them.
    """
    X, y = TASKS[task](np.random.default_rng(seed), n + N_TEST)

    def probabilities(one: str) -> np.ndarray:
        own = X if one in ("joined", "late fusion") else X[[one]]
        found: np.ndarray = model_of(one, tuned, seed).fit(own[:n], y[:n]).predict_proba(own[n:])
        return found  # (N_TEST, n_classes)

    if tuned and kind == "late fusion":
        predicted = (probabilities("text") + probabilities("image")).argmax(1)  # (N_TEST,)
    else:
        predicted = probabilities(kind).argmax(1)  # (N_TEST,)
    return float((np.unique(y[:n])[predicted] == y[n:]).mean())


def main() -> None:
    """Print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=sized(3, 10))
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    args = parser.parse_args()
    report = Report(f"A picture and a text per row: accuracy by modality and fusion, {args.draws} draws", "joined")
    known = Remembered("joined")
    for task in args.tasks:
        for n in (100, 300):
            for tuned in (False, True):
                how, scores = "fine-tuned" if tuned else "frozen", {}
                for kind in FROZEN:
                    scores[kind] = [
                        known(
                            {"task": task, "seed": seed, "n": n, "kind": kind, "tuned": tuned},
                            lambda: measure(task, seed, n, kind, tuned),  # noqa: B023
                        )
                        for seed in range(args.draws)
                    ]
                    report.row(f"{task}, {n} rows, {how}: {kind}", scores[kind])
                for other in FROZEN[:-1]:
                    gains = np.subtract(scores["joined"], scores[other])
                    report.row(f"{task}, {n} rows, {how}: joined over {other}", gains.tolist())
    report.write()


if __name__ == "__main__":
    main()
