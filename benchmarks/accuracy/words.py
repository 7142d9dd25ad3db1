"""Accuracy of word vectors: known, unknown and misspelt words, and continued training.

    SKTRANSFER_TEST_DATA=... python -m benchmarks.accuracy.words            # 8,000 of the IMDB reviews, two epochs
    SKTRANSFER_TEST_DATA=... SIZE=full python -m benchmarks.accuracy.words  # all 25,000, five epochs

Vectors are trained on reviews of IMDB, or are those of the 5,050 most frequent words of GloVe. A logistic regression on
pooled vectors is tested on MR, MPQA and Amazon MDSD. Cross-validation on the training texts chooses its regularisation.
No test text was used to train vectors.
"""

from __future__ import annotations

import os
import string
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks.common import RESULTS as OUT
from benchmarks.common import Report, data_folder
from sktransfer import TextFeaturizer, WordEmbedder, load_vectors
from sktransfer.exceptions import TruncatedTextWarning, UnknownWordsWarning
from sktransfer.words.tokenizing import split_words
from sktransfer.words.vectors import WordVectors

FULL = os.environ.get("SIZE") == "full"
REVIEWS, EPOCHS, DIMS = (25_000, 5, 100) if FULL else (8_000, 2, 100)
LABELLED, DRAWS = 50, 10  # labels per class
HELD_OUT = 300  # words of GloVe that are removed before continued training
DAMAGE = 0.1  # share of characters

Features = Callable[[np.ndarray], Any]


def data_sets() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return texts and labels of MR, MPQA and Amazon."""
    tables = {}
    for name, file in (("MR", "mr"), ("MPQA", "mpqa"), ("Amazon", "amazon_mdsd")):
        table = pd.read_csv(data_folder() / "text" / f"{file}.csv.gz", keep_default_na=False)
        tables[name] = (table["text"].to_numpy(dtype=object), table["label"].to_numpy())
    return tables


def reviews() -> list[str]:
    """Return every k-th review of IMDB, independent of the order of the file."""
    texts = pd.read_csv(data_folder() / "text" / "imdb_train.csv.gz")["text"].tolist()
    return texts[:: len(texts) // REVIEWS][:REVIEWS]


def glove() -> WordVectors:
    """Return 5,050 words of GloVe, 50 dimensions."""
    return load_vectors(data_folder() / "vectors" / "glove.6B.50d.5k.txt")


def damaged(texts: np.ndarray, seed: int = 0) -> np.ndarray:
    """Return texts with a tenth of their non-blank characters replaced, removed, or preceded by another."""
    rng, letters, misspelt = np.random.default_rng(seed), np.array(list(string.ascii_lowercase)), []
    for text in texts:
        kinds = np.where(rng.random(len(text)) < DAMAGE, rng.integers(1, 4, len(text)), 0)
        others = rng.choice(letters, len(text))
        new = [("", other, "", other + old)[kind] if kind and old != " " else old
               for old, kind, other in zip(text, kinds, others)]  # fmt: skip
        misspelt.append("".join(new))
    return np.array(misspelt, dtype=object)


def train(report: Report) -> dict[str, WordVectors]:
    """Train vectors on IMDB and report the time."""
    texts, vectors = reviews(), {}
    kinds: dict[str, dict[str, Any]] = {
        "word2vec on IMDB": {"model": "word2vec", "vector_size": DIMS},
        "fastText on IMDB": {"model": "fasttext", "vector_size": DIMS},
        "GloVe continued on IMDB": {"model": "word2vec", "vector_size": 50, "continue_from": glove()},
    }
    for name, parameters in kinds.items():
        started = time.perf_counter()
        embedder = WordEmbedder(epochs=EPOCHS, random_state=0, **parameters).fit(texts)
        vectors[name] = embedder.embedding_
        report.row(f"training: {name}, seconds", [time.perf_counter() - started], words=len(embedder.vocabulary_))
    return vectors


def fidelity(report: Report, continued: WordVectors) -> None:
    """Report how far general words move in continued training, and where held-out words end up."""
    general = glove()
    common = [word for word in general.words if word in continued]
    cosines = _cosines(
        continued, general, [word for word in common if not np.array_equal(continued[word], general[word])]
    )
    report.row("general words, cosine before/after: median", [float(np.median(cosines))], n=len(cosines))
    report.row("general words, cosine before/after: lowest tenth", [float(np.quantile(cosines, 0.1))])
    rng, texts = np.random.default_rng(0), reviews()
    counts = pd.Series([word for text in texts[:2000] for word in split_words(text.lower())]).value_counts()
    known = [word for word in general.words[500:] if counts.get(word, 0) >= 10 and word.isalpha()]
    held = set(rng.choice(known, min(HELD_OUT, len(known)), replace=False).tolist())
    kept = [word for word in general.words if word not in held]
    start = WordVectors(kept, np.array([general[word] for word in kept]))
    again = WordEmbedder("word2vec", vector_size=50, epochs=EPOCHS, random_state=0, continue_from=start)
    found = again.fit(texts).embedding_
    new = [word for word in held if word in found]
    shuffled = new[1:] + new[:1]
    report.row("held-out words, cosine with their GloVe vectors: mean", [float(_cosines(found, general, new).mean())])
    chance = _cosines(found, general, new, shuffled).mean()
    report.row("the same with another held-out word's vector: mean", [float(chance)], n=len(new))
    ranks = [_rank(found[word], general, word) for word in new]
    report.row("held-out words, rank of their own among 5,050: median", [float(np.median(ranks))])


def _cosines(one: WordVectors, other: WordVectors, words: list[str], others: list[str] | None = None) -> np.ndarray:
    a, b = np.array([one[word] for word in words]), np.array([other[word] for word in others or words])
    return (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


def _rank(vector: np.ndarray, general: WordVectors, word: str) -> int:
    cosines = general.matrix @ vector / np.linalg.norm(general.matrix, axis=1)
    return int((cosines > cosines[general.index[word]]).sum()) + 1


def candidates(vectors: dict[str, WordVectors]) -> dict[str, Any]:
    """Return unfitted transformers by name."""
    analyzer = {"tokenizer": split_words, "token_pattern": None}
    kinds: dict[str, Any] = {
        "bag of words": CountVectorizer(binary=True, **analyzer),
        "tf-idf": TfidfVectorizer(sublinear_tf=True, **analyzer),
        "word2vec on IMDB": WordEmbedder(vectors["word2vec on IMDB"]),
        "fastText on IMDB": WordEmbedder(vectors["fastText on IMDB"]),
        "fastText on IMDB, SIF": WordEmbedder(vectors["fastText on IMDB"], pooling="sif"),
        "fastText on IMDB, mean+max": WordEmbedder(vectors["fastText on IMDB"], pooling="mean+max"),
        "GloVe-5k, skip": WordEmbedder(glove(), oov="skip"),
        "GloVe-5k, unk": WordEmbedder(glove(), oov="unk"),
        "GloVe-5k, zero": WordEmbedder(glove(), oov="zero"),
        "GloVe continued on IMDB": WordEmbedder(vectors["GloVe continued on IMDB"]),
        "tiny/bert": TextFeaturizer("tiny/bert", layer=3, max_length=128),
    }
    return kinds


def classifier(sparse: bool) -> GridSearchCV:
    """Return a logistic regression with a grid of regularisation for counts or dense features."""
    if sparse:
        return GridSearchCV(LogisticRegression(max_iter=1000), {"C": [0.1, 1.0, 10.0]}, cv=3)
    pipeline = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    return GridSearchCV(pipeline, {"logisticregression__C": [0.003, 0.03, 0.3]}, cv=3)


def accuracy(report: Report, vectors: dict[str, WordVectors]) -> None:
    """Report accuracy with all labels and with 50 per class, and the share of unknown words."""
    for name, (X, y) in data_sets().items():
        for kind, transformer in candidates(vectors).items():
            started = time.perf_counter()
            sparse = isinstance(transformer, CountVectorizer)
            unknown = "" if not isinstance(transformer, WordEmbedder) else (
                f"{transformer.fit(X[:1]).oov_report(X).unknown_tokens:.3f}")  # fmt: skip
            ready = None if sparse or getattr(transformer, "pooling", "") == "sif" else transformer.fit_transform(X)
            scores = [_score(transformer, ready, X, y, sparse, LABELLED * 2, seed) for seed in range(DRAWS)]
            every = _score(transformer, ready, X, y, sparse, int(0.8 * len(X)), 0)
            seconds = round(time.perf_counter() - started, 1)
            report.row(
                f"{name}, {LABELLED} labels per class: {kind}",
                scores,
                all=round(every, 4),
                unknown=unknown,
                seconds=seconds,
            )


def _score(transformer: Any, ready: Any, X: np.ndarray, y: np.ndarray, sparse: bool, n: int, seed: int) -> float:
    """Return test accuracy. `ready` holds the features of all texts if they do not depend on the training part."""
    rest = min(3000, len(X) - n)
    train_rows, test_rows = train_test_split(
        np.arange(len(X)), train_size=n, test_size=rest, stratify=y, random_state=seed
    )
    if ready is None:
        parts = transformer.fit_transform(X[train_rows]), transformer.transform(X[test_rows])
    else:
        parts = ready[train_rows], ready[test_rows]
    return float(classifier(sparse).fit(parts[0], y[train_rows]).score(parts[1], y[test_rows]))


def typos(report: Report, vectors: dict[str, WordVectors], rounds: int = 3) -> None:
    """Report the loss of accuracy if a tenth of the characters of the test texts is damaged."""
    policies = {"unk": "unk", "skip": "skip", "zero": "zero", "subword": "subword"}
    for name, (X, y) in data_sets().items():
        rows = train_test_split(np.arange(len(X)), test_size=0.2, stratify=y, random_state=0)
        for kind in ("tf-idf", *policies):
            if kind == "tf-idf":
                transformer: Any = TfidfVectorizer(sublinear_tf=True, tokenizer=split_words, token_pattern=None)
            else:
                transformer = WordEmbedder(vectors["fastText on IMDB"], oov=policies[kind])
            model = classifier(kind == "tf-idf").fit(transformer.fit_transform(X[rows[0]]), y[rows[0]])
            clean = model.score(transformer.transform(X[rows[1]]), y[rows[1]])
            damaged_scores = [
                model.score(transformer.transform(damaged(X[rows[1]], seed)), y[rows[1]]) for seed in range(rounds)
            ]
            lost = 100 * (clean - np.mean(damaged_scores))
            report.row(f"{name}, typos: {kind}", damaged_scores, clean=round(clean, 4), points_lost=round(lost, 2))


def throughput(report: Report, rounds: int = 5) -> None:
    """Report seconds of transform over those of fastText's own loop on the same tokens. Less than 1 is faster."""
    import fasttext

    texts = reviews()[:2000]
    lines = [" ".join(split_words(text.lower())) for text in texts]
    path = OUT / "words_throughput.txt"
    OUT.mkdir(exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    for max_n in (6, 0):
        model = fasttext.train_unsupervised(
            str(path), dim=DIMS, minn=3 if max_n else 0, maxn=max_n, epoch=1, thread=10, verbose=0, bucket=200_000
        )
        file = OUT / "words_throughput.bin"
        model.save_model(str(file))
        embedder = WordEmbedder(file, tokenizer=str.split, lowercase=False).fit(lines[:1])
        ours, theirs = [], []
        for _ in range(rounds):
            started = time.perf_counter()
            embedder.transform(lines)
            ours.append(time.perf_counter() - started)
            started = time.perf_counter()
            np.array([model.get_sentence_vector(line) for line in lines])
            theirs.append(time.perf_counter() - started)
        what = "with subwords" if max_n else "without"
        report.row(f"transform / get_sentence_vector loop, seconds' ratio, {what}", list(np.array(ours) / theirs))
        file.unlink()
    path.unlink()


def memory(report: Report, vectors: dict[str, WordVectors]) -> None:
    """Report the growth of memory while 50 MB of text are transformed."""
    texts = reviews()
    texts = texts * (50_000_000 // sum(map(len, texts)) + 1)
    embedder = WordEmbedder(vectors["fastText on IMDB"]).fit(texts[:1])
    embedder.transform(texts[:100])
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    before, started = _peak(), time.perf_counter()
    features = embedder.transform(texts)
    seconds = round(time.perf_counter() - started, 1)
    total, own = round(sum(map(len, texts)) / 1e6), round(features.nbytes / 2**20)
    report.row(
        "50 MB of text: MiB that memory grew at its peak", [_peak() - before], MB=total, seconds=seconds, features=own
    )


def _peak() -> float:
    """Return the peak memory of this process in MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def picture(rows: list[dict[str, Any]], path: Path) -> None:
    """Draw accuracy with 50 labels per class, and the loss of accuracy by typos."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(12, 5), layout="constrained", width_ratios=[3, 2])
    sets, colours = ("MR", "MPQA", "Amazon"), ("#0072B2", "#E69F00", "#009E73")
    for axis, mark, unit in ((axes[0], "labels per class: ", 1), (axes[1], "typos: ", 1)):
        kinds = list(dict.fromkeys(row["what"].split(mark)[1] for row in rows if mark in row["what"]))[::-1]
        for i, (name, colour) in enumerate(zip(sets, colours)):
            found = {
                row["what"].split(mark)[1]: row for row in rows if mark in row["what"] and row["what"].startswith(name)
            }
            values = [
                (np.mean(found[kind]["scores"]) if mark.startswith("labels") else found[kind]["points_lost"]) * unit
                for kind in kinds
            ]
            spread = [np.std(found[kind]["scores"]) for kind in kinds] if mark.startswith("labels") else None
            axis.barh(np.arange(len(kinds)) + (1 - i) * 0.27, values, 0.25, xerr=spread, color=colour, label=name)
        axis.set_yticks(range(len(kinds)), kinds)
    axes[0].set_xlim(0.5, None)
    axes[0].set_xlabel(f"test accuracy, {LABELLED} labels per class, {DRAWS} draws")
    axes[1].set_xlabel("points of accuracy lost if 10% of the\ncharacters of the test texts are damaged")
    axes[1].set_title("all labels in training; all but tf-idf: fastText on IMDB", fontsize=10)
    axes[0].legend(loc="upper right")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main() -> None:
    """Print the tables and save the picture."""
    warnings.simplefilter("ignore", UnknownWordsWarning)  # the table shows the shares
    warnings.simplefilter("ignore", TruncatedTextWarning)  # tiny/bert truncates the longest reviews of Amazon
    report = Report(f"words: {REVIEWS:,} reviews of IMDB, {EPOCHS} epochs, {DIMS} dimensions", "words")
    vectors = train(report)
    memory(report, vectors)
    throughput(report)
    fidelity(report, vectors["GloVe continued on IMDB"])
    accuracy(report, vectors)
    typos(report, vectors)
    report.write()
    picture(report.rows, OUT / "words.png")
    print(f"\npicture: {OUT / 'words.png'}")


if __name__ == "__main__":
    main()
