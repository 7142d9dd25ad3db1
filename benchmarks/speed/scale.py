"""Costs of `featurize` and of a linear head by the number of samples.

    SKTRANSFER_TEST_DATA=... python -m benchmarks.speed.scale

Processor seconds and bytes per sample are measured on few samples. The formula of `docs/guide/scale.md` multiplies them
by the number of samples, and is compared with the costs of larger numbers. Results are stored when they are measured.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression, SGDClassifier

from benchmarks.common import RESULTS, Report, mobilenet_weights, movie_reviews, sentence_encoder, sized
from benchmarks.remembered import Remembered
from benchmarks.speed.streaming import chunks as word_chunks
from benchmarks.speed.streaming import embedder
from sktransfer import ImageFeaturizer, TextFeaturizer, featurize, load_features


def review_chunks(n_rows: int) -> Iterator[dict[str, Any]]:
    """Yield chunks of movie reviews, which a number makes different, and their labels."""
    X, y = movie_reviews()
    for start in range(0, n_rows, 200):
        rows = np.random.default_rng(start).integers(0, len(X), 200)
        yield {"text": [f"{X[row]} {start + i}" for i, row in enumerate(rows)], "label": y[rows]}


def image_chunks(size: int) -> Callable[[int], Iterator[np.ndarray]]:
    """Return a function that yields chunks of random images."""

    def chunks(n_rows: int) -> Iterator[np.ndarray]:
        for start in range(0, n_rows, 100):
            yield np.random.default_rng(start).integers(0, 256, (100, size, size, 3), dtype=np.uint8)

    return chunks


def subjects() -> dict[str, tuple[Callable[[], Any], Callable[[int], Iterator[Any]], dict[str, Any], int, int]]:
    """Return for each featurizer how it is made, its chunks, its options, and the fewest and the most samples."""
    text = {"columns": "text", "keep": "label"}
    small, large = np.zeros((1, 32, 32, 3), np.uint8), np.zeros((1, 224, 224, 3), np.uint8)
    mobilenet = ImageFeaturizer("torchvision/mobilenet_v2", weights=mobilenet_weights())
    sentences = TextFeaturizer(sentence_encoder())
    return {
        "WordEmbedder, two words": (embedder, word_chunks, {"columns": "text", "keep": "id"}, 10_000, 100_000),
        "tiny/bert, reviews": (lambda: TextFeaturizer().fit(["a"]), review_chunks, text, 1000, sized(10_000, 100_000)),
        "tiny/cnn, 32 x 32": (lambda: ImageFeaturizer().fit(small), image_chunks(32), {}, 1000, sized(1000, 10_000)),
        "all-MiniLM-L6-v2, reviews": (lambda: sentences.fit(["a"]), review_chunks, text, 200, 200),
        "MobileNetV2, 224 x 224": (lambda: mobilenet.fit(large), image_chunks(224), {}, 100, 100),
    }


def _path(name: str, n_rows: int) -> Path:
    return RESULTS / "scale" / f"{name.split(',')[0].replace('/', '_')}_{n_rows}"


def cost(name: str, n_rows: int) -> dict[str, float]:
    """Return processor seconds and bytes of a run. They include the hash of the featurizer, a fixed cost."""
    shutil.rmtree(_path(name, n_rows), ignore_errors=True)
    make, chunks, options, *_ = subjects()[name]
    featurizer, first = make(), _path(name, 1)
    featurize(islice(chunks(1000), 1), featurizer, first, resume=False, **options)  # imports, and prepares the network
    started = time.process_time()
    stored = featurize(chunks(n_rows), featurizer, _path(name, n_rows), **options)
    spent = time.process_time() - started
    size = sum(path.stat().st_size for path in stored.path.glob("*.parquet"))
    return {"seconds": spent, "bytes": size, "n_features": stored.n_features}


def compare(name: str, n_rows: int) -> dict[str, float]:
    """Return processor seconds of reading and comparing rows that are written."""
    make, chunks, options, *_ = subjects()[name]
    featurizer = make()
    started = time.process_time()
    assert featurize(chunks(n_rows), featurizer, _path(name, n_rows), **options).n_computed == 0
    return {"seconds": time.process_time() - started}


def head(n_rows: int, kind: str) -> dict[str, float]:
    """Return processor seconds of a linear head on stored features of tiny/bert."""
    stored = load_features(_path("tiny/bert, reviews", n_rows))
    started = time.process_time()
    if kind == "LogisticRegression":
        pairs = list(stored.batches())
        y = np.concatenate([rows["label"] for _, rows in pairs])
        LogisticRegression(max_iter=200).fit(np.concatenate([X for X, _ in pairs]), y)
    else:
        model = SGDClassifier(random_state=0)
        for X, rows in stored.batches(random_state=0):
            model.partial_fit(X, rows["label"], classes=[0, 1])
    return {"seconds": time.process_time() - started}


def main() -> None:
    """Print the table."""
    report, remembered = Report("costs of featurize by the number of samples", "scale"), Remembered("scale")
    (RESULTS / "scale").mkdir(parents=True, exist_ok=True)

    def measured(what: str, n_rows: int, measure: Callable[[], dict[str, float]]) -> dict[str, float]:
        found: dict[str, float] = remembered({"what": what, "n": n_rows}, measure)
        return found

    rates = {}
    for name, (*_, fewest, _most) in subjects().items():
        base = measured(name, fewest, partial(cost, name, fewest))
        rates[name] = {key: base[key] / fewest for key in ("seconds", "bytes")}
        report.row(f"{name}: ms and bytes per sample", [1000 * rates[name]["seconds"]], bytes=rates[name]["bytes"])
    for n_rows in (10_000, 100_000):
        for name, (*_, fewest, most) in subjects().items():
            if fewest < n_rows <= most:
                found = measured(name, n_rows, partial(cost, name, n_rows))
                ratios = [found[key] / (n_rows * rates[name][key]) for key in ("seconds", "bytes")]
                report.row(f"{name}: measured over formula, {n_rows} samples", ratios[:1], bytes=ratios[1])
        if n_rows == 10_000:
            _heads(report, measured)
    report.write()


def _heads(report: Report, measured: Callable[[str, int, Callable[[], dict[str, float]]], dict[str, float]]) -> None:
    for name in ("WordEmbedder, two words", "tiny/bert, reviews"):
        again = measured(f"{name}, compared", 10_000, partial(compare, name, 10_000))
        report.row(f"{name}: ms to compare a written row", [again["seconds"] / 10])
    for kind in ("LogisticRegression", "SGDClassifier"):
        for n_rows in (1000, 10_000):
            found = measured(kind, n_rows, partial(head, n_rows, kind))
            report.row(f"{kind}, {n_rows} rows of 160 features: ms per row", [1000 * found["seconds"] / n_rows])


if __name__ == "__main__":
    main()
