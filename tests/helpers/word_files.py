"""Small files of word vectors, written by the libraries that define the formats."""

from __future__ import annotations

import functools
import gzip
import tempfile
from pathlib import Path

import fasttext
import numpy as np
from gensim.models import KeyedVectors

SENTENCES = [
    "the cat sat on the mat and the dog sat by the door",
    "a dog and a cat are animals as are horses and cows",
    "horses and cows sit in the field near the door of the barn",
    "größe straße naïve café 東京 the cat and the dog",
] * 20


@functools.cache
def folder() -> Path:
    return Path(tempfile.mkdtemp(prefix="sktransfer-test-words-"))


@functools.cache
def texts_file() -> Path:
    path = folder() / "texts.txt"
    path.write_text("\n".join(SENTENCES) + "\n", encoding="utf-8")
    return path


@functools.cache
def fasttext_file(min_n: int = 2, max_n: int = 4) -> Path:
    """Return a model of fastText. With fewer than ten threads and dimensions, it leaves memory uninitialised."""
    path = folder() / f"model{min_n}{max_n}.bin"
    model = fasttext.train_unsupervised(
        str(texts_file()), dim=10, minn=min_n, maxn=max_n, bucket=500, minCount=5, epoch=2, thread=10, verbose=0
    )
    model.save_model(str(path))
    return path


@functools.cache
def quantized_file() -> Path:
    labelled = folder() / "labelled.txt"
    lines = [f"__label__{i % 2} {sentence}" for i, sentence in enumerate(SENTENCES)]
    labelled.write_text("\n".join(lines) + "\n", encoding="utf-8")
    model = fasttext.train_supervised(
        str(labelled), dim=10, minn=2, maxn=3, bucket=500, epoch=1, thread=10, verbose=0, minCount=1
    )
    supervised = folder() / "supervised.bin"
    model.save_model(str(supervised))
    model.quantize(input=str(labelled), cutoff=300, qnorm=True, verbose=0)
    path = folder() / "model.ftz"
    model.save_model(str(path))
    return path


def supervised_file() -> Path:
    quantized_file()
    return folder() / "supervised.bin"


def table(n_words: int = 40, n_dims: int = 5, seed: int = 0) -> tuple[list[str], np.ndarray]:
    words = ["the", "größe", "東京", "a b", *(f"w{i}" for i in range(n_words - 4))]
    return words, np.random.default_rng(seed).normal(size=(n_words, n_dims)).astype(np.float32)


@functools.cache
def keyed_vectors(n_words: int = 40) -> KeyedVectors:
    words, rows = table(n_words)
    keyed = KeyedVectors(rows.shape[1])
    keyed.add_vectors([word.replace(" ", "_") for word in words], rows)
    return keyed


@functools.cache
def word2vec_file(binary: bool = False, header: bool = True, packed: bool = False, n_words: int = 40) -> Path:
    """Return a file written by gensim."""
    path = folder() / f"w2v-{binary}-{header}-{n_words}.vec"
    keyed_vectors(n_words).save_word2vec_format(str(path), binary=binary, write_header=header)
    if packed:
        archive = path.with_suffix(".gz")
        archive.write_bytes(gzip.compress(path.read_bytes()))
        return archive
    return path


def short(source):
    """Return a test id without the folder, which differs between processes."""
    return Path(source).name if isinstance(source, (str, Path)) else type(source).__name__
