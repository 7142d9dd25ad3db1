"""Accuracy and speed of `tiny/bert`, compared with word counts and with its teacher.

    SKTRANSFER_TEST_DATA=... python -m benchmarks.accuracy.tiny_texts

Cross-validation on each training part chooses layer, pooling and regularisation. `tiny/bert` was not trained on any of
the texts that accuracy is measured on. The IMDB reviews are used for speed only.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pandas as pd
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold, cross_val_score, train_test_split
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks.common import Report, data_folder, movie_reviews, sentence_encoder
from sktransfer import TextFeaturizer

LABELLED, SEEDS = 32, 20  # labels per class and draws; five draws would leave an error of one point
TINY = "tiny/bert"


def amazon() -> tuple[np.ndarray, np.ndarray]:
    """Return 8,000 reviews of four kinds of goods and their sentiment."""
    table = pd.read_csv(data_folder() / "text" / "amazon_mdsd.csv.gz")
    return table["text"].to_numpy(dtype=object), table["label"].to_numpy()


def word_counts(C: list[float], words: list[tuple[int, int]]) -> GridSearchCV:
    """Return tf-idf with logistic regression, on words or on words and bigrams."""
    pipeline = Pipeline([("words", TfidfVectorizer(sublinear_tf=True)), ("clf", LogisticRegression(max_iter=1000))])
    return GridSearchCV(pipeline, {"clf__C": C, "words__ngram_range": words}, cv=3)


def on_features(encoder: str, C: list[float], layers: list[int], poolings: list[str]) -> GridSearchCV:
    """Return logistic regression on the best layer and pooling."""
    featurizer = TextFeaturizer(encoder, max_length=256)
    pipeline = Pipeline([("text", featurizer), ("scale", StandardScaler()), ("clf", LogisticRegression(max_iter=1000))])
    return GridSearchCV(pipeline, {"text__layer": layers, "text__pooling": poolings, "clf__C": C}, cv=3)


def warm(encoder: str, layers: list[int], poolings: list[str], X: np.ndarray) -> None:
    """Run each text through the encoder once, to cache all layer outputs for the searches."""
    for pooling in poolings:
        TextFeaturizer(encoder, max_length=256, layer=layers, pooling=pooling).fit_transform(X)


def few_labels(report: Report) -> None:
    """Report MR with 32 labels per class."""
    X, y = movie_reviews()
    warm(TINY, [1, 2, 3, 4], ["mean"], X)
    warm(sentence_encoder(), [3, 4, 5, 6], ["mean"], X)
    C = [0.0003, 0.003, 0.03]
    kinds: dict[str, Any] = {
        "tf-idf": word_counts([1.0, 10.0], [(1, 1), (1, 2)]),
        "tiny/bert": on_features(TINY, C, [1, 2, 3, 4], ["mean"]),
        "all-MiniLM-L6-v2": on_features(sentence_encoder(), C, [3, 4, 5, 6], ["mean"]),
    }
    for kind, search in kinds.items():
        scores = []
        for seed in range(SEEDS):
            split = train_test_split(X, y, train_size=2 * LABELLED, test_size=2000, stratify=y, random_state=seed)
            scores.append(search.fit(split[0], split[2]).score(split[1], split[3]))
        report.row(f"MR, {LABELLED} labels per class, {SEEDS} draws: {kind}", scores)


def all_labels(report: Report) -> None:
    """Report 5-fold accuracy with all labels, also as a share of the teacher's accuracy."""
    for what, (X, y) in (("MR", movie_reviews()), ("Amazon MDSD", amazon())):
        folds = StratifiedKFold(5, shuffle=True, random_state=0)
        warm(TINY, [3, 4], ["mean", "mean+max"], X)
        warm(sentence_encoder(), [3, 4, 5, 6], ["mean"], X)
        teacher = on_features(sentence_encoder(), [0.03], [3, 4, 5, 6], ["mean"])
        student = on_features(TINY, [0.03], [3, 4], ["mean", "mean+max"])
        scores = {}
        for kind, search in (
            ("tf-idf", word_counts([1.0, 3.0], [(1, 1)])),
            ("all-MiniLM-L6-v2", teacher),
            ("tiny/bert", student),
        ):
            scores[kind] = cross_val_score(search, X, y, cv=folds)
            report.row(f"{what}, {len(X)} labels, 5-fold: {kind}", list(scores[kind]))
        share = scores["tiny/bert"].mean() / scores["all-MiniLM-L6-v2"].mean()
        report.row(f"{what}: share of all-MiniLM-L6-v2's accuracy", [share])


def throughput(report: Report, rounds: int = 3) -> None:
    """Report texts per second of the two encoders, which alternate in each round."""
    reviews = pd.read_csv(data_folder() / "text" / "imdb_train.csv.gz", nrows=100)["text"].to_numpy(dtype=object)
    sentences = movie_reviews()[0][:1000]
    for what, X in (("1,000 MR", sentences), ("1,000 MR + 100 IMDB", np.concatenate([sentences, reviews]))):
        encoders = [TextFeaturizer(name, max_length=256, cache=None).fit(X) for name in (TINY, sentence_encoder())]
        rates = np.array([[_rate(encoder, X) for encoder in encoders] for _ in range(rounds)])  # (rounds, 2)
        report.row(f"texts per second, float32, {what}: tiny/bert", list(rates[:, 0]))
        report.row(f"texts per second, float32, {what}: all-MiniLM-L6-v2", list(rates[:, 1]))
        report.row(f"texts per second, float32, {what}: ratio", list(rates[:, 0] / rates[:, 1]))


def _rate(encoder: TextFeaturizer, X: np.ndarray) -> float:
    started = time.perf_counter()
    encoder.transform(X)
    return len(X) / (time.perf_counter() - started)


def main() -> None:
    """Print the three comparisons."""
    report = Report("tiny/bert frozen + logistic regression: test accuracy; and speed", "tiny_texts")
    throughput(report)
    few_labels(report)
    all_labels(report)
    report.write()


if __name__ == "__main__":
    main()
