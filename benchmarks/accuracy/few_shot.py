"""Few labels: accuracy of a sentence encoder with 0, 2, 4, 8 and 16 labelled texts per class.

    SKTRANSFER_TEST_DATA=... [SIZE=full] python -m benchmarks.accuracy.few_shot [--draws 10] [--shots 2 4 8 16]

The task is sentiment, for MR's sentences and Amazon's reviews of four kinds of goods (their first 64 tokens), with
all-MiniLM-L6-v2. The result is accuracy on held-out texts, mean and standard deviation over draws of the labelled
texts. All methods use the same draws. The zero-shot descriptions were written once and not tuned. The methods that
train freeze the embeddings and the lower three of six layers, and otherwise use the default settings.

Each score is stored when it is measured (`results/few_shot_draws.json`), so an interrupted run resumes.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import NearestCentroid
from sklearn.pipeline import make_pipeline

from benchmarks.common import RESULTS, Report, data_folder, movie_reviews, sentence_encoder, sized
from sktransfer import ContrastiveFineTuner, FineTuneClassifier, NearestClassMean, TextFeaturizer, ZeroShotClassifier

DRAWS = "few_shot_draws.json"
SHARED: dict[str, Any] = {"max_length": 64, "precision": "auto"}
TRAINED: dict[str, Any] = {**SHARED, "freeze_depth": 4}
DESCRIPTIONS = {
    "MR": {0: "a bad film", 1: "a good film"},
    "Amazon": {0: "a bad product", 1: "a good product"},
}
Texts = tuple[np.ndarray, np.ndarray]


def features() -> TextFeaturizer:
    """Return the frozen encoder with vectors of length 1, as the authors of the encoder use it."""
    return TextFeaturizer(sentence_encoder(), layer=-1, normalize=True, **SHARED)


# Each method is created per seed. The first method is the baseline.
METHODS: dict[str, Callable[[int], Any]] = {
    "frozen, logistic regression": lambda seed: make_pipeline(features(), LogisticRegression()),
    "frozen, nearest class mean": lambda seed: make_pipeline(features(), NearestClassMean()),
    "frozen, scikit-learn's nearest centroid": lambda seed: make_pipeline(features(), NearestCentroid()),
    "contrastive, logistic regression": lambda seed: make_pipeline(
        ContrastiveFineTuner(sentence_encoder(), **TRAINED, random_state=seed), LogisticRegression()
    ),
    "fine-tuned": lambda seed: FineTuneClassifier(sentence_encoder(), layer=-1, **TRAINED, random_state=seed),
}


def amazon() -> Texts:
    """Return Amazon's reviews of four kinds of goods and their sentiment."""
    table = pd.read_csv(data_folder() / "text" / "amazon_mdsd.csv.gz")
    return table["text"].to_numpy(dtype=object), table["label"].to_numpy()


TASKS: dict[str, Callable[[], Texts]] = {"MR": movie_reviews, "Amazon": amazon}


def split(data: Texts, n_test: int) -> tuple[Texts, Texts]:
    """Return test texts, the same for all draws, and a disjoint pool for drawing labelled texts."""
    X, y = data
    _, first = np.unique(X.astype(str), return_index=True)
    order = np.random.default_rng(0).permutation(first)
    test, pool = order[:n_test], order[n_test:]
    return (X[test], y[test]), (X[pool], y[pool])


def draw(pool: Texts, n_shots: int, seed: int) -> Texts:
    """Return n_shots texts per class. Smaller draws are subsets of larger ones with the same seed."""
    X, y = pool
    order = np.random.default_rng(1000 + seed).permutation(len(X))
    rows = np.concatenate([order[y[order] == label][:n_shots] for label in np.unique(y)])
    return X[rows], y[rows]


class Notes:
    """Scores by settings, stored in a file after each measurement.

    Parameters
    ----------
    path : Path
        The file. Its scores with the same settings are reused.
    settings : str
        Settings that scores depend on, in addition to task, shots, method and draw.
    """

    def __init__(self, path: Path, settings: str) -> None:
        self.path, self.settings = path, settings
        self.scores: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}

    def score(self, key: list[Any], measure: Callable[[], float]) -> tuple[float, float]:
        """Return a score and its seconds, measured if they are not stored."""
        name = json.dumps([self.settings, *key])
        if name not in self.scores:
            started = time.perf_counter()
            self.scores[name] = [measure(), time.perf_counter() - started]
            self.path.parent.mkdir(exist_ok=True)
            self.path.write_text(json.dumps(self.scores, indent=1) + "\n")
        score, seconds = self.scores[name]
        return score, seconds


def main() -> None:
    """Print the table and write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--shots", type=int, nargs="+", default=[2, 4, 8, 16])
    parser.add_argument("--test", type=int, default=sized(1000, 2000), help="test texts")
    args = parser.parse_args()
    report = Report(
        f"Few labels: all-MiniLM-L6-v2, {args.draws} draws, {args.test} test texts, accuracy and seconds per draw",
        "few_shot",
    )
    notes = Notes(RESULTS / DRAWS, f"{args.test} {TRAINED}")
    for task, read in TASKS.items():
        test, pool = split(read(), args.test)
        features().fit_transform(test[0])  # warms the cache, because all methods use these features
        score, seconds = notes.score([task, "zero-shot"], partial(zero_shot, DESCRIPTIONS[task], test))
        report.row(f"{task}, 0 labels, zero-shot", [score], seconds=seconds)
        for n_shots in args.shots:
            base: list[float] = []
            for method, make in METHODS.items():
                found = [
                    notes.score([task, n_shots, method, seed], partial(one_draw, make, pool, n_shots, seed, test))
                    for seed in range(args.draws)
                ]
                scores = [score for score, _ in found]
                base = base or scores
                gain = 100 * float(np.mean(np.subtract(scores, base)))
                seconds = float(np.mean([seconds for _, seconds in found]))
                report.row(
                    f"{task}, {n_shots} labels per class, {method}", scores, gain=round(gain, 2), seconds=seconds
                )
    report.write()


def zero_shot(descriptions: dict[int, str], test: Texts) -> float:
    """Return the zero-shot accuracy of descriptions."""
    return float(ZeroShotClassifier(sentence_encoder(), descriptions, **SHARED).score(*test))


def one_draw(make: Callable[[int], Any], pool: Texts, n_shots: int, seed: int, test: Texts) -> float:
    """Return the accuracy of a method that was fitted to the labelled texts of one draw."""
    X, y = draw(pool, n_shots, seed)
    return float(make(seed).fit(X, y).score(*test))


if __name__ == "__main__":
    main()
