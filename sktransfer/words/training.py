"""Train word vectors on texts by fastText: from chance, or from vectors that are there already."""

from __future__ import annotations

import importlib
import json
import mmap
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sktransfer.exceptions import InvalidParameterError, InvalidSampleError, SktransferError
from sktransfer.words import train_process
from sktransfer.words.fasttext import FastTextFile, read_fasttext
from sktransfer.words.fitting import fit_n_grams
from sktransfer.words.subwords import Subwords, buckets, character_ngrams
from sktransfer.words.vectors import WordVectors

__all__ = ["Training", "train"]

_LEARNING_RATE = 0.05  # fastText's own
_LARGEST = 1e4  # no number of trained vectors comes near; what memory held may be anything
_MOST_BUCKETS = 2_000_000
_SEPARATORS = frozenset(" \t\n\v\f\r\0")  # what ends a word for fastText
_END_OF_LINE = "</s>"  # a word that fastText reads at each
_LABEL = "\x01\x01"  # the start of words that fastText takes for labels: none of ours


@dataclass(frozen=True)
class Training:
    """How to train; the parameters of `WordEmbedder`, resolved.

    Parameters
    ----------
    n_dims, window, min_count, epochs : int
        As fastText's dim, ws, minCount and epoch.
    architecture : {"skipgram", "cbow"}
        Predict the neighbours from a word, or a word from its neighbours.
    min_n, max_n : int
        Shortest and longest n-gram of characters; 0 and 0: none, which is word2vec.
    n_threads, seed : int
        Only one thread gives the same vectors again.
    """

    n_dims: int
    window: int
    min_count: int
    epochs: int
    architecture: str
    min_n: int
    max_n: int
    n_threads: int
    seed: int

    @property
    def subwords(self) -> bool:
        """Whether words are made of n-grams."""
        return self.max_n > 0


def train(documents: Iterable[Sequence[str]], how: Training, start: WordVectors | None = None) -> WordVectors:
    """Return vectors trained on documents.

    Parameters
    ----------
    documents : iterable of sequences of str
        Tokens of each document.
    how : Training
        The settings.
    start : WordVectors, default=None
        Vectors to start from: words of the documents that it has start at their vectors, others at chance; its words
        that the documents have not are taken over as they are.

    Returns
    -------
    vectors : WordVectors

    Raises
    ------
    ImportError
        If the package fasttext is missing.
    InvalidParameterError
        If no word occurs `min_count` times, or `start` has vectors of another length.
    InvalidSampleError
        If a token holds white space.
    """
    _check_installed()
    if start is not None and start.n_dims != how.n_dims:
        raise InvalidParameterError(
            f"continue_from has vectors of {start.n_dims} dimensions, vector_size={how.n_dims}: set "
            f"vector_size={start.n_dims}"
        )
    with tempfile.TemporaryDirectory(prefix="sktransfer-words-") as folder:
        vocabulary, lengths = _write_texts(documents, Path(folder, "texts.txt"), how.min_count)
        _shuffle(Path(folder, "texts.txt"), lengths, how.seed)
        n_buckets = _n_buckets(vocabulary, how)
        _write_start(vocabulary, Path(folder, "start.vec"), how, start)
        trained = _trained(_run(Path(folder), how, n_buckets), how, n_buckets)
    if start is None:
        return trained
    _fit_parts(trained)
    return _with_the_rest(trained, start)


def _check_installed() -> None:
    try:
        # The package's Python layer is passed by: parts of it do not run on numpy 2, nor does it hand the seed on.
        importlib.import_module("fasttext_pybind")
    except ImportError as error:
        raise ImportError(
            f"training word vectors needs the package fasttext, which cannot be imported ({error}): pip install "
            '"sktransfer[words]". Vectors in files are read without it'
        ) from error


def _write_texts(documents: Iterable[Sequence[str]], path: Path, min_count: int) -> tuple[list[str], list[int]]:
    """Write one document a line; return the words that are frequent enough, by their first use, and bytes a line."""
    counts: Counter[str] = Counter()
    lengths = []
    with path.open("wb") as file:
        for row, tokens in enumerate(documents):
            counts.update(tokens)
            for token in tokens if len(" ".join(tokens).split()) != len(tokens) else ():
                if not _SEPARATORS.isdisjoint(token):
                    raise InvalidSampleError(
                        row, f"the token {token!r} holds white space, where fastText would split it"
                    )
            try:
                lengths.append(file.write((" ".join(tokens) + "\n").encode("utf-8", "surrogateescape")))
            except UnicodeEncodeError as error:
                raise InvalidSampleError(
                    row,
                    f"{error}: half a character. text.encode('utf-16', 'surrogatepass').decode('utf-16', 'replace') "
                    "mends it",
                ) from None
    vocabulary = [word for word, count in counts.items() if count >= min_count and word and word != _END_OF_LINE]
    if not vocabulary:
        most = counts.most_common(1)[0][1] if counts else 0
        raise InvalidParameterError(
            f"no word occurs min_count={min_count} times in {row + 1} texts (the most frequent {most} times): lower "
            "min_count, or give more texts"
        )
    return vocabulary, lengths


def _shuffle(path: Path, lengths: Sequence[int], seed: int) -> None:
    """Put lines into an order of chance: where texts come class by class, the last would be learnt over the first."""
    ends = np.cumsum(lengths)
    shuffled = path.with_suffix(".shuffled")
    with (
        path.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text,
        shuffled.open("wb") as out,
    ):
        for row in np.random.default_rng(seed).permutation(len(lengths)):
            out.write(text[ends[row] - lengths[row] : ends[row]])
    shuffled.replace(path)


def _n_buckets(vocabulary: list[str], how: Training) -> int:
    """Return as many buckets as there are n-grams."""
    distinct: set[str] = set()
    if how.subwords:
        for word in vocabulary:
            distinct |= character_ngrams(word, how.min_n, how.max_n)
        return max(min(len(distinct), _MOST_BUCKETS), 1)
    return 0


def _write_start(vocabulary: list[str], path: Path, how: Training, start: WordVectors | None) -> None:
    """Write the vectors that words start from, in the form that fastText reads."""
    draws = np.random.default_rng(how.seed).uniform(-1, 1, (len(vocabulary), how.n_dims)) / how.n_dims
    parts = np.zeros(len(vocabulary), np.int64)
    if how.subwords:
        parts = buckets(vocabulary, how.min_n, how.max_n, 1)[1]
    with path.open("w", encoding="utf-8", errors="surrogateescape", newline="\n") as file:
        file.write(f"{len(vocabulary)} {how.n_dims}\n")
        for word, row, n_parts in zip(vocabulary, draws.astype(np.float32), parts):
            if start is not None and word in start:
                # A word is the mean of its own row and of those of its n-grams, which start at zero.
                row = start[word] * np.float32(n_parts + 1)
            file.write(f"{word} {' '.join(map(repr, row.tolist()))}\n")


def _run(folder: Path, how: Training, n_buckets: int) -> FastTextFile:
    """Let a process of its own train on the files in the folder, and return the model."""
    arguments = {
        "input": str(folder / "texts.txt"),
        "output": "",
        "pretrainedVectors": str(folder / "start.vec"),
        "label": _LABEL,
        "lr": _LEARNING_RATE,
        "dim": how.n_dims,
        "ws": how.window,
        "epoch": how.epochs,
        "minCount": how.min_count,
        "minn": how.min_n,
        "maxn": how.max_n,
        "bucket": n_buckets,
        "thread": how.n_threads,
        "seed": how.seed,
        "verbose": 0,
    }
    save = folder / "model.bin"
    settings = {"path": sys.path, "arguments": arguments, "model": how.architecture, "save": str(save)}
    (folder / "settings.json").write_text(json.dumps(settings), "utf-8")
    command = [sys.executable, "-P", train_process.__file__, str(folder / "settings.json")]
    # glibc fills what it hands out with the complement of this byte: zeros. Its cache of small pieces, of which tiny
    # matrices are made, would be left out.
    tunables = ":".join(filter(None, [os.environ.get("GLIBC_TUNABLES"), "glibc.malloc.tcache_count=0"]))
    environment = {**os.environ, "MALLOC_PERTURB_": "255", "GLIBC_TUNABLES": tunables}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode:
        raise SktransferError(
            f"fastText could not train (exit status {done.returncode}): {done.stderr.strip()[-2000:]}"
        )
    return read_fasttext(save)


def _trained(model: FastTextFile, how: Training, n_buckets: int) -> WordVectors:
    """Take words and n-grams out of fastText's model; what is returned does not need the file."""
    words, rows = model.words, model.rows
    assert rows is not None
    used = np.zeros(n_buckets, bool)
    if how.subwords:
        listed = [word for word in words if word != _END_OF_LINE]
        used[buckets(listed, how.min_n, how.max_n, n_buckets)[0]] = True
    n_grams = np.array(rows[len(words) :], dtype=np.float32)
    _check_clean(n_grams, used, how)
    matrix = np.concatenate([block for _, block in model.blocks()])
    _check_clean(matrix, np.ones(len(matrix), bool), how)
    keep = [row for row, word in enumerate(words) if word != _END_OF_LINE]
    subwords = None
    if how.subwords:
        slots = np.full(n_buckets, -1, np.int32)
        slots[used] = np.arange(used.sum(), dtype=np.int32)
        subwords = Subwords(n_grams[used], how.min_n, how.max_n, n_buckets, slots=slots)
    return WordVectors([words[row] for row in keep], matrix[keep], subwords=subwords)


def _check_clean(rows: np.ndarray, used: np.ndarray, how: Training) -> None:
    """Make sure that n-grams no word has stand as they began: at zero, or at fastText's small random numbers."""
    untouched = rows[~used]
    clean = not untouched.size or float(np.abs(untouched).max()) <= 1.001 / how.n_dims  # NaN is not <= either
    if not (clean and (not rows.size or float(np.abs(rows).max()) <= _LARGEST)):
        raise SktransferError(
            "fastText trained in memory that was not empty: its vectors are not to be used. Fit again"
        )


def _fit_parts(trained: WordVectors) -> None:
    """Let n-grams explain what words mean: in training they learned what changed, and started at zero."""
    if isinstance(trained.subwords, Subwords):
        rows, lengths = trained.subwords.rows_of(trained.words)
        trained.subwords.rows = fit_n_grams(rows, lengths, trained.matrix, len(trained.subwords.rows))


def _with_the_rest(trained: WordVectors, start: WordVectors) -> WordVectors:
    """Add the words that only the start has, as they are."""
    rest = [word for word in start.words if word not in trained]
    if not rest:
        return trained
    rows = start.matrix[[start.index[word] for word in rest]]
    return WordVectors([*trained.words, *rest], np.concatenate([trained.matrix, rows]), subwords=trained.subwords)
