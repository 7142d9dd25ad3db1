"""Words per second of features per word, compared with a hand-written loop over transformers' own model.

    SKTRANSFER_TEST_DATA=... python -m benchmarks.speed.token_throughput

Both read the same sentences from lists of words, and return one array per sentence with the vector of the last layer
for the first token of each word. The loop sorts the sentences by their number of tokens, pads each batch to its longest
one, and runs at its fastest batch size. Both use float32 and no cache.
"""

from __future__ import annotations

import argparse
import functools
import gzip
from typing import Any

import numpy as np
import torch

from benchmarks.common import Report, data_folder, sentence_encoder, sentence_folder, sized
from benchmarks.speed.timing import device, fastest, in_turn, ratios
from sktransfer import TokenFeaturizer

BATCH_SIZES = (8, 16, 32, 64, 128)
MAX_LENGTH = 256


def sentences(n: int) -> list[list[str]]:
    """Return the first sentences of UD English EWT that differ, as lists of words."""
    text = gzip.decompress((data_folder() / "text" / "ud_ewt_train.tsv.gz").read_bytes()).decode()
    found = {
        tuple(line.partition("\t")[0] for line in block.splitlines() if "\t" in line): None
        for block in text.split("\n\n")
    }
    return [list(words) for words in found if words][:n]


def peer() -> tuple[Any, Any]:
    """Return tokenizer and model of all-MiniLM-L6-v2 as transformers loads them."""
    from transformers import AutoModel, AutoTokenizer

    folder = str(sentence_folder())
    return AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval().to(device())


def encode(loaded: tuple[Any, Any], X: list[list[str]], batch_size: int) -> list[np.ndarray]:
    """Return the vectors of the first tokens of words by the loop, (n_words, n_features) per sentence."""
    tokenizer, model = loaded
    encoded = tokenizer(X, is_split_into_words=True, truncation=True, max_length=MAX_LENGTH)
    order = sorted(range(len(X)), key=lambda row: -len(encoded["input_ids"][row]))
    found: dict[int, np.ndarray] = {}
    with torch.inference_mode():
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            parts = [{"input_ids": encoded["input_ids"][row]} for row in rows]
            values = model(**tokenizer.pad(parts, return_tensors="pt").to(device())).last_hidden_state.cpu()
            for row, tokens in zip(rows, values.numpy()):  # (n_tokens, n_features)
                words = np.array([-1 if word is None else word for word in encoded.word_ids(row)])  # (n_tokens,)
                _, first = np.unique(words[words >= 0], return_index=True)  # (n_words,)
                found[row] = tokens[np.flatnonzero(words >= 0)[first]]  # (n_words, n_features)
    return [found[row] for row in range(len(X))]


def ours() -> TokenFeaturizer:
    """Return the same encoder as a featurizer without a cache."""
    return TokenFeaturizer(sentence_encoder(), layer=-1, max_length=MAX_LENGTH, subword="first", cache=None).fit(
        [["word"]]
    )


def difference(found: list[np.ndarray], expected: list[np.ndarray]) -> float:
    """Return the largest difference of two results, and fail if it exceeds the tolerance."""
    largest = max(float(np.abs(one - other).max()) for one, other in zip(found, expected, strict=True))
    assert largest <= 1e-4, f"outputs differ by {largest}"
    return largest


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sentences", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=sized(3, 15))
    args = parser.parse_args()
    report = Report("words/s, all-MiniLM-L6-v2, UD English EWT, float32", "token_throughput")
    X, loaded, featurizer = sentences(args.sentences), peer(), ours()
    n_words = sum(map(len, X))
    encode(loaded, X[:64], 32)
    sizes = {size: functools.partial(encode, loaded, X[::3], size) for size in BATCH_SIZES}
    batch_size = fastest(sizes)
    report.row("sentences", [len(X)], words=n_words, batch_size_of_peer=batch_size, rounds=args.rounds)
    checked = difference(featurizer.transform(X), encode(loaded, X, batch_size))
    taken = in_turn(
        {
            "ours": functools.partial(featurizer.transform, X),
            "peer": functools.partial(encode, loaded, X, batch_size),
        },
        args.rounds,
    )
    speeds: dict[str, Any] = {name: n_words / float(np.median(spent)) for name, spent in taken.items()}
    what = "words/s over a loop over transformers' model, sorted batches"
    report.judge(what, ratios(taken["peer"], taken["ours"]), must=1.3, **speeds, difference=checked)
    report.write()


if __name__ == "__main__":
    main()
