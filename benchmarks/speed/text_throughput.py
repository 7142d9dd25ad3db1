"""Texts per second of a frozen sentence encoder, compared with sentence-transformers and with matrix products.

    SKTRANSFER_TEST_DATA=... python -m benchmarks.speed.text_throughput

Both encode the same texts from strings to an array, in turn. sentence-transformers uses its fastest batch size. Its
float32 speed is the peer of both precisions, and its bfloat16 speed is also printed.
"""

from __future__ import annotations

import functools
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch

from benchmarks.common import Report, data_folder, movie_reviews, sentence_encoder, sentence_folder, sized
from benchmarks.speed.timing import device, fastest, in_turn, product_rate, ratios
from sktransfer import TextFeaturizer
from sktransfer.exceptions import TruncatedTextWarning

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

MAX_LENGTH = 256
OPERATIONS = 2 * 10.6e6  # per token, in the matrix products of the six layers
BATCH_SIZES = (8, 16, 32, 64, 128)
MARKS: dict[str, dict[str, Any]] = {"float32": {"must": 1.3, "aim": 1.6}, "bfloat16": {"must": 2.3, "aim": 3.2}}


def texts(n_sentences: int, n_reviews: int) -> np.ndarray:
    """Return the first sentences of MR and the first reviews of IMDB, without duplicates."""
    reviews = pd.read_csv(data_folder() / "text" / "imdb_train.csv.gz", nrows=n_reviews)["text"].to_numpy(dtype=object)
    found: np.ndarray = pd.unique(np.concatenate([movie_reviews()[0][:n_sentences], reviews]))
    return found


def peer(precision: str) -> SentenceTransformer:
    """Return all-MiniLM-L6-v2 as sentence-transformers loads it."""
    from sentence_transformers import SentenceTransformer

    options = {"dtype": getattr(torch, precision)}
    model = SentenceTransformer(str(sentence_folder()), device=str(device()), model_kwargs=options)
    model.max_seq_length = MAX_LENGTH
    return model


def ours(precision: str) -> TextFeaturizer:
    """Return the same encoder as a featurizer without a cache."""
    # The sentence-transformers model normalises its vectors to length 1.
    return TextFeaturizer(
        sentence_encoder(), max_length=MAX_LENGTH, normalize=True, precision=precision, cache=None
    ).fit(["one text"])


def encode(model: SentenceTransformer, X: np.ndarray, batch_size: int) -> np.ndarray:
    """Return the embeddings of sentence-transformers, (n, n_features)."""
    found: Any = model.encode(list(X), batch_size=batch_size, show_progress_bar=False, convert_to_numpy=True)
    return np.asarray(found, np.float32)


def n_tokens(model: SentenceTransformer, X: np.ndarray) -> int:
    """Return the number of tokens of all texts, without padding."""
    return sum(map(len, model.tokenizer(list(X), truncation=True, max_length=MAX_LENGTH)["input_ids"]))


def best_batch(model: SentenceTransformer, X: np.ndarray) -> int:
    """Return the fastest batch size on these texts, after a warm-up call."""
    encode(model, X[:64], 32)
    sizes = BATCH_SIZES if device().type == "cpu" else (*BATCH_SIZES, 256, 512, 1024)
    best: int = fastest({size: functools.partial(encode, model, X, size) for size in sizes})
    return best


def check(precision: str, found: np.ndarray, expected: np.ndarray) -> dict[str, Any]:
    """Return the difference of the outputs, and fail if it exceeds the tolerance."""
    if precision == "float32":
        difference = float(np.abs(found - expected).max())
        assert difference <= 1e-5, f"outputs differ by {difference}"
        return {"difference": difference}
    lengths = np.linalg.norm(found, axis=1) * np.linalg.norm(expected, axis=1)
    cosine = float(((found * expected).sum(1) / lengths).min())
    assert cosine >= 0.999, f"cosine {cosine}"
    return {"cosine": cosine}


def measure(report: Report, n_sentences: int, n_reviews: int, rounds: int) -> None:
    """Report both precisions relative to the peer and to the rate of matrix products."""
    X = texts(n_sentences, n_reviews)
    models = {precision: peer(precision) for precision in MARKS}
    sizes = {precision: best_batch(model, X[::3]) for precision, model in models.items()}
    tokens = n_tokens(models["float32"], X)
    report.row("texts", [len(X)], tokens=tokens, batch_sizes_of_peer=str(sizes), rounds=rounds)
    featurizers = {precision: ours(precision) for precision in MARKS}
    expected = encode(models["float32"], X, sizes["float32"])
    checks = {precision: check(precision, one.transform(X), expected) for precision, one in featurizers.items()}
    programs = {f"ours {precision}": functools.partial(one.transform, X) for precision, one in featurizers.items()}
    programs |= {f"peer {p}": functools.partial(encode, model, X, sizes[p]) for p, model in models.items()}
    rates: dict[str, list[float]] = {precision: [] for precision in MARKS}

    def machine() -> None:
        for precision, found in rates.items():
            found.append(product_rate(getattr(torch, precision)))

    taken = in_turn(programs, rounds, each_round=machine)
    for precision, marks in MARKS.items():
        mine, other = taken[f"ours {precision}"], taken["peer float32"]
        speeds: dict[str, Any] = {"ours": len(X) / float(np.median(mine)), "peer": len(X) / float(np.median(other))}
        what = f"texts/s, {precision}, over sentence-transformers float32"
        report.judge(what, ratios(other, mine), **marks, **speeds, **checks[precision])
    report.row(
        "texts/s, bfloat16 of both: ratio",
        ratios(taken["peer bfloat16"], taken["ours bfloat16"]),
        unit="for comparison",
    )
    for precision in MARKS:
        done = [tokens * OPERATIONS / spent for spent in taken[f"ours {precision}"]]
        shares, own = ratios(done, rates[precision]), float(np.median(rates[precision])) / 1e9
        if precision == "float32":
            report.judge("share of the rate of float32 matrix products", shares, must=0.75, aim=0.85, limit_gflops=own)
        else:
            report.row("share of the rate of bfloat16 matrix products", shares, limit_gflops=own)


def main() -> None:
    """Print the table."""
    report = Report("texts/s, all-MiniLM-L6-v2, MR and IMDB, max_length=256", "text_throughput")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TruncatedTextWarning)  # both truncate long reviews
        measure(report, n_sentences=1000, n_reviews=100, rounds=sized(3, 15))
    report.write()


if __name__ == "__main__":
    main()
