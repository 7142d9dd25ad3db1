"""Training of word vectors by fastText, from random or from existing vectors."""

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
from scipy.sparse import csr_array
from sklearn.linear_model import Ridge

from sktransfer.exceptions import InvalidParameterError, InvalidSampleError, SktransferError
from sktransfer.words import train_process
from sktransfer.words.fasttext import FastTextFile, read_fasttext
from sktransfer.words.subwords import END_OF_LINE, Subwords, buckets, character_ngrams
from sktransfer.words.vectors import WordVectors

__all__ = ["Training", "fit_ngrams", "train"]

_LEARNING_RATE = 0.05  # fastText's default
_LARGEST = 1e4  # far above any trained value; uninitialised memory can hold any value
_MAX_BUCKETS = 2_000_000
_SEPARATORS = frozenset(" \t\n\v\f\r\0")  # characters that end a word for fastText
_LABEL = "\x01\x01"  # prefix that marks labels for fastText; no token starts with it
_RIDGE = 0.01  # penalty on the vectors of n-grams fitted to vectors of words


@dataclass(frozen=True)
class Training:
    """Settings of a training, resolved from the parameters of `WordEmbedder`.

    Parameters
    ----------
    n_dims, window, min_count, epochs : int
        fastText's dim, ws, minCount and epoch.
    architecture : {"skipgram", "cbow"}
        Predict the neighbours from a word, or a word from its neighbours.
    min_n, max_n : int
        Shortest and longest character n-gram. Both 0 means no n-grams, which is word2vec.
    n_threads : int
        Number of threads. Results are reproducible only with one.
    seed : int
        Seed of the start vectors, the order of documents and fastText's sampling.
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
        """Whether vectors of character n-grams are trained."""
        return self.max_n > 0


def train(documents: Iterable[Sequence[str]], settings: Training, start: WordVectors | None = None) -> WordVectors:
    """Train word vectors on documents.

    Parameters
    ----------
    documents : iterable of sequences of str
        Tokens of each document.
    settings : Training
        The settings.
    start : WordVectors, default=None
        Vectors to start from. Words of the documents that are in `start` begin at their vectors, and the others at
        random. Words of `start` that are not in the documents keep their vectors.

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
        If a token contains white space or half of a surrogate pair.
    SktransferError
        If fastText fails.
    """
    _check_installed()
    if start is not None and start.n_dims != settings.n_dims:
        raise InvalidParameterError(
            f"continue_from has vectors of {start.n_dims} dimensions, vector_size={settings.n_dims}: set "
            f"vector_size={start.n_dims}"
        )
    with tempfile.TemporaryDirectory(prefix="sktransfer-words-") as folder:
        vocabulary, lengths = _write_texts(documents, Path(folder, "texts.txt"), settings.min_count)
        _shuffle(Path(folder, "texts.txt"), lengths, settings.seed)
        n_buckets = _n_buckets(vocabulary, settings)
        _write_start(vocabulary, Path(folder, "start.vec"), settings, start)
        trained = _trained(_run(Path(folder), settings, n_buckets), settings, n_buckets)
    if start is None:
        return trained
    _refit_ngrams(trained)
    return _add_missing(trained, start)


def _check_installed() -> None:
    try:
        # Bypass the package's Python layer: parts of it fail with NumPy 2, and it does not pass the seed.
        importlib.import_module("fasttext_pybind")
    except ImportError as error:
        raise ImportError(
            f"training word vectors needs the package fasttext, which cannot be imported ({error}). Run pip install "
            "'fasttext>=0.9.3'. Reading vectors from files does not need it"
        ) from error


def _write_texts(documents: Iterable[Sequence[str]], path: Path, min_count: int) -> tuple[list[str], list[int]]:
    """Write one document per line; return the words of the vocabulary, in order of first use, and bytes per line."""
    counts: Counter[str] = Counter()
    lengths = []
    with path.open("wb") as file:
        for row, tokens in enumerate(documents):
            counts.update(tokens)
            for token in tokens if len(" ".join(tokens).split()) != len(tokens) else ():
                if not _SEPARATORS.isdisjoint(token):
                    raise InvalidSampleError(
                        row,
                        f"the token {token!r} contains white space, at which fastText would split it. Split or replace "
                        "it in the tokenizer",
                    )
            try:
                lengths.append(file.write((" ".join(tokens) + "\n").encode("utf-8", "surrogateescape")))
            except UnicodeEncodeError as error:
                raise InvalidSampleError(
                    row,
                    f"{error}. The text contains half of a surrogate pair. To repair it: "
                    "text.encode('utf-16', 'surrogatepass').decode('utf-16', 'replace')",
                ) from None
    vocabulary = [word for word, count in counts.items() if count >= min_count and word and word != END_OF_LINE]
    if not vocabulary:
        most = counts.most_common(1)[0][1] if counts else 0
        if not most:
            raise InvalidParameterError(f"the {row + 1} texts hold no words; pass texts with words")
        raise InvalidParameterError(
            f"no word occurs min_count={min_count} times in {row + 1} texts (the most frequent {most} times). Lower "
            "min_count, or pass more texts"
        )
    return vocabulary, lengths


def _shuffle(path: Path, lengths: Sequence[int], seed: int) -> None:
    """Shuffle the lines. In documents sorted by class, the last class would otherwise dominate the first."""
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


def _n_buckets(vocabulary: list[str], settings: Training) -> int:
    """Return the number of distinct n-grams, at most 2,000,000, as the number of buckets."""
    distinct: set[str] = set()
    if settings.subwords:
        for word in vocabulary:
            distinct |= character_ngrams(word, settings.min_n, settings.max_n)
        return max(min(len(distinct), _MAX_BUCKETS), 1)
    return 0


def _write_start(vocabulary: list[str], path: Path, settings: Training, start: WordVectors | None) -> None:
    """Write the start vectors of the words in the text format that fastText reads."""
    draws = np.random.default_rng(settings.seed).uniform(-1, 1, (len(vocabulary), settings.n_dims)) / settings.n_dims
    n_ngrams = np.zeros(len(vocabulary), np.int64)
    if settings.subwords:
        n_ngrams = buckets(vocabulary, settings.min_n, settings.max_n, 1)[1]
    with path.open("w", encoding="utf-8", errors="surrogateescape", newline="\n") as file:
        file.write(f"{len(vocabulary)} {settings.n_dims}\n")
        for word, row, n in zip(vocabulary, draws.astype(np.float32), n_ngrams):
            if start is not None and word in start:
                # The vector of a word is the mean of its own row and the rows of its n-grams, which start at zero.
                row = start[word] * np.float32(n + 1)  # (n_dims,)
            file.write(f"{word} {' '.join(map(repr, row.tolist()))}\n")


def _run(folder: Path, settings: Training, n_buckets: int) -> FastTextFile:
    """Train in a subprocess on the files in the folder, and return the model."""
    arguments = {
        "input": str(folder / "texts.txt"),
        "output": "",
        "pretrainedVectors": str(folder / "start.vec"),
        "label": _LABEL,
        "lr": _LEARNING_RATE,
        "dim": settings.n_dims,
        "ws": settings.window,
        "epoch": settings.epochs,
        "minCount": settings.min_count,
        "minn": settings.min_n,
        "maxn": settings.max_n,
        "bucket": n_buckets,
        "thread": settings.n_threads,
        "seed": settings.seed,
        "verbose": 0,
    }
    save = folder / "model.bin"
    job = {"path": sys.path, "arguments": arguments, "model": settings.architecture, "save": str(save)}
    (folder / "settings.json").write_text(json.dumps(job), "utf-8")
    command = [sys.executable, "-P", train_process.__file__, str(folder / "settings.json")]
    # glibc fills allocated memory with the complement of this byte, which is zero. It does not fill memory from its
    # cache of small chunks, which tiny matrices use, so that cache is disabled.
    tunables = ":".join(filter(None, [os.environ.get("GLIBC_TUNABLES"), "glibc.malloc.tcache_count=0"]))
    environment = {**os.environ, "MALLOC_PERTURB_": "255", "GLIBC_TUNABLES": tunables}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode:
        raise SktransferError(
            f"fastText could not train (exit status {done.returncode}): {done.stderr.strip()[-2000:]}"
        )
    return read_fasttext(save)


def _trained(model: FastTextFile, settings: Training, n_buckets: int) -> WordVectors:
    """Return the word vectors of fastText's model, copied so that its file can be deleted."""
    words, rows = model.words, model.rows
    used = np.zeros(n_buckets, bool)
    if settings.subwords:
        listed = [word for word in words if word != END_OF_LINE]
        used[buckets(listed, settings.min_n, settings.max_n, n_buckets)[0]] = True
    ngrams = np.array(rows[len(words) :], dtype=np.float32)  # (n_buckets, n_dims)
    _check_clean(ngrams, used, settings)
    matrix = np.concatenate([block for _, block in model.blocks()])  # (n_words, n_dims)
    _check_clean(matrix, np.ones(len(matrix), bool), settings)
    keep = [row for row, word in enumerate(words) if word != END_OF_LINE]
    subwords = None
    if settings.subwords:
        slots = np.full(n_buckets, -1, np.int32)
        slots[used] = np.arange(used.sum(), dtype=np.int32)
        subwords = Subwords(ngrams[used], settings.min_n, settings.max_n, n_buckets, slots=slots)
    return WordVectors([words[row] for row in keep], matrix[keep], subwords=subwords)


def _check_clean(rows: np.ndarray, used: np.ndarray, settings: Training) -> None:
    """Check that n-grams of no word still have their initial values, zeros or fastText's small random numbers.

    Other values, or values too large for a trained vector, mean that fastText started from uninitialised memory.

    Parameters
    ----------
    rows : ndarray of shape (n_rows, n_dims)
        Trained vectors.
    used : ndarray of shape (n_rows,), bool
        Whether some word has this n-gram.
    settings : Training
        Settings of the training.

    Raises
    ------
    SktransferError
        If the vectors are not usable.
    """
    untouched = rows[~used]
    clean = not untouched.size or float(np.abs(untouched).max()) <= 1.001 / settings.n_dims  # False for NaN
    if not (clean and (not rows.size or float(np.abs(rows).max()) <= _LARGEST)):
        raise SktransferError(
            "fastText started from memory that was not empty, so its vectors are not usable. Fit again"
        )


def _refit_ngrams(trained: WordVectors) -> None:
    """Fit the vectors of n-grams to those of the words, because n-grams start at zero and learn only the change."""
    if isinstance(trained.subwords, Subwords):
        rows, lengths = trained.subwords.rows_of(trained.words)
        trained.subwords.rows = fit_ngrams(rows, lengths, trained.matrix, len(trained.subwords.rows))


def fit_ngrams(ngrams: np.ndarray, lengths: np.ndarray, matrix: np.ndarray, n_rows: int) -> np.ndarray:
    """Return vectors of n-grams whose means approximate the vectors of words, by ridge regression.

    If training starts from existing vectors, n-grams start at zero and learn the change of the words' vectors, not
    their meaning. The mean of an unknown word's n-grams would then be far from words with similar spelling. Fitted
    n-grams place it among them.

    Parameters
    ----------
    ngrams : ndarray of shape (n_listed,), int
        Rows of the words' n-grams, concatenated.
    lengths : ndarray of shape (n_words,), int
        Number of n-grams per word.
    matrix : ndarray of shape (n_words, n_dims)
        Vectors of the words.
    n_rows : int
        Number of distinct n-grams.

    Returns
    -------
    rows : ndarray of shape (n_rows, n_dims), float32
        Minimizer of the squared distance between means and vectors plus 0.01 times the squared norm of `rows`.

    Examples
    --------
    >>> import numpy as np
    >>> from sktransfer.words.training import fit_ngrams
    >>> fit_ngrams(np.array([0, 1, 1]), np.array([2, 1]), np.array([[1.0], [2.0]]), 2).round(1).tolist()
    [[0.0], [2.0]]
    """
    ends = np.concatenate([[0], np.cumsum(lengths)])
    shares = np.repeat(1 / np.maximum(lengths, 1), lengths)
    means = csr_array((shares, ngrams, ends), shape=(len(lengths), n_rows))  # (n_words, n_rows)
    ridge = Ridge(_RIDGE, solver="sparse_cg", fit_intercept=False, tol=1e-6, max_iter=100)
    coefficients = ridge.fit(means, matrix.astype(np.float64)).coef_.reshape(-1, n_rows)  # (n_dims, n_rows)
    return np.ascontiguousarray(coefficients.T, dtype=np.float32)  # (n_rows, n_dims)


def _add_missing(trained: WordVectors, start: WordVectors) -> WordVectors:
    """Add the words that only `start` has, with their vectors unchanged."""
    missing = [word for word in start.words if word not in trained]
    if not missing:
        return trained
    rows = start.matrix[[start.index[word] for word in missing]]  # (n_missing, n_dims)
    matrix = np.concatenate([trained.matrix, rows])  # (n_words, n_dims)
    return WordVectors([*trained.words, *missing], matrix, subwords=trained.subwords)
