"""`load_vectors`: word vectors from a file or from another library's object, loaded once a process and shared."""

from __future__ import annotations

import functools
import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from sktransfer.exceptions import WeightsError
from sktransfer.words.fasttext import read_fasttext
from sktransfer.words.files import Source, kept, source_of
from sktransfer.words.formats import is_gzipped, open_file, read_blocks, sniff
from sktransfer.words.objects import from_object
from sktransfer.words.text_format import Block
from sktransfer.words.vectors import WordVectors

__all__ = ["FORMAT_VERSION", "LARGE", "load_the_same", "load_vectors"]

LARGE = 100 * 2**20  # bytes of a file; from here on its vectors are converted once, and mapped
FORMAT_VERSION = 1  # of what conversion leaves in the cache


def load_vectors(source: Any) -> WordVectors:
    r"""Return word vectors from a file or from an object of another library.

    A file is read once a process: who loads it again gets the same object. A file of 100 MB or more is converted once
    to one that is mapped into memory, kept in `$SKTRANSFER_CACHE`, else in the user's cache folder.

    Parameters
    ----------
    source : path, WordVectors, KeyedVectors, or spaCy Language, Vocab or Vectors
        A file: fastText's `.bin` and `.ftz` (this one needs the package fasttext), word2vec's text and binary formats,
        GloVe's text, gzipped or not; told apart by content. An object is wrapped: nothing is copied where its values
        are float32.

    Returns
    -------
    vectors : WordVectors
        `sklearn.clone` shares it, where it would copy a bare `KeyedVectors`.

    Raises
    ------
    WeightsError
        If a file is missing, damaged (names the line or byte) or of an unknown format.
    InvalidParameterError
        If an object is none of the above.

    Examples
    --------
    >>> from pathlib import Path
    >>> from sktransfer import load_vectors
    >>> _ = Path("small.vec").write_text("up 1 2\ndown 3 4\n")
    >>> load_vectors("small.vec")
    WordVectors(2 words, 2 dimensions)
    """
    if isinstance(source, WordVectors):
        return source
    if isinstance(source, (str, os.PathLike)):
        return _load(source_of(source))
    return from_object(source)


def load_the_same(path: str, digest: str) -> WordVectors:
    """Return the vectors of a file, where its content has the hash that is asked for.

    Raises
    ------
    WeightsError
        If the file is missing, or is another.
    """
    if source_of(path).digest() != digest:
        raise WeightsError(
            f"{path} is not the file that the estimator was fitted with: its content has another hash. Bring the old "
            "file back, or fit anew"
        )
    return load_vectors(path)


@functools.lru_cache(maxsize=4)  # a changed file has another size or time, so it is another source
def _load(source: Source) -> WordVectors:
    path = Path(source.path)
    form = sniff(path)
    if form.kind == "fasttext":
        return _load_fasttext(path, source)
    words, matrix = _table(source, read_blocks(path, form))
    return WordVectors(words, matrix, source=source)


def _load_fasttext(path: Path, source: Source) -> WordVectors:
    if is_gzipped(path):
        path = kept(source.key(FORMAT_VERSION) + "-unpacked", functools.partial(_unpack, path)) / "model.bin"
    model = read_fasttext(path)
    words, matrix = _table(source, model.blocks())
    return WordVectors(words, matrix, subwords=model.subwords, source=source)


def _unpack(path: Path, folder: Path) -> None:
    with open_file(path) as packed, (folder / "model.bin").open("wb") as unpacked:
        shutil.copyfileobj(packed, unpacked, 1 << 20)


def _table(source: Source, blocks: Iterable[Block]) -> tuple[list[str], np.ndarray]:
    """Return words and vectors: in memory where the file is small, else mapped from what it was converted to."""
    if source.size < LARGE:
        parts = list(blocks)
        return [word for words, _ in parts for word in words], np.concatenate([rows for _, rows in parts])
    folder = kept(source.key(FORMAT_VERSION), functools.partial(_convert, blocks))
    words = (folder / "words.txt").read_text("utf-8", "surrogateescape").split("\n")[:-1]
    return words, np.load(folder / "matrix.npy", mmap_mode="r")


def _convert(blocks: Iterable[Block], folder: Path) -> None:
    """Write blocks as one .npy file and one word a line; memory holds one block at a time."""
    n_words = n_dims = 0
    with (folder / "matrix.npy").open("wb") as matrix, (folder / "words.txt").open("wb") as listed:
        for words, rows in blocks:
            if not n_words:
                n_dims = rows.shape[1]
                _write_header(matrix, 0, n_dims)
            matrix.write(np.ascontiguousarray(rows, np.dtype("<f4")).tobytes())
            listed.write("".join(f"{word}\n" for word in words).encode("utf-8", "surrogateescape"))
            n_words += len(words)
        matrix.seek(0)
        _write_header(matrix, n_words, n_dims)


def _write_header(file: Any, n_words: int, n_dims: int) -> None:
    """Write the header of a .npy file; numpy leaves room in it, so that its length does not depend on `n_words`."""
    header = {"descr": "<f4", "fortran_order": False, "shape": (n_words, n_dims)}
    np.lib.format.write_array_header_1_0(file, header)
