"""Load word vectors from files and from objects of gensim and spaCy.

Each file is read once per process. The vectors of a large file are converted once, cached on disk and memory-mapped.
"""

from __future__ import annotations

import functools
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from sktransfer._utils import cache_folder, local_path
from sktransfer.exceptions import InvalidParameterError, SktransferError, WeightsError, did_you_mean
from sktransfer.weights.moved import advice, iter_paths
from sktransfer.words.formats import is_gzipped, list_formats, open_file, sniff
from sktransfer.words.subwords import Subwords
from sktransfer.words.vectors import Source, WordBlock, WordVectors

__all__ = ["FORMAT_VERSION", "LARGE", "cached_folder", "load_vectors", "load_verified", "source_of"]

LARGE = 100 * 2**20  # bytes; vectors of files of at least this size are converted once and memory-mapped
FORMAT_VERSION = 1  # of the converted files in the cache


def load_vectors(source: Any) -> WordVectors:
    r"""Load word vectors from a file, or wrap an object of another library.

    A file is read once per process, and further calls return the same object. The vectors of a file of 100 MB or more
    are converted once to a file that is mapped into memory. It is kept in `$SKTRANSFER_CACHE` or, if that is not set,
    in the user's cache folder.

    Parameters
    ----------
    source : path, WordVectors, KeyedVectors, or spaCy Language, Vocab or Vectors
        Path of a file in one of these formats, gzipped or not: fastText's `.bin` and `.ftz`, word2vec's text and binary
        formats, GloVe's text format. The format is detected by content. Objects are wrapped, and float32 values are
        not copied.

    Returns
    -------
    vectors : WordVectors
        Unlike a bare `KeyedVectors`, it is shared by `sklearn.clone`, not copied.

    Raises
    ------
    WeightsError
        If a file is missing, damaged (names the line or byte) or has an unknown format.
    InvalidParameterError
        If an object is of another type or has no vectors.

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
    return _from_object(source)


def load_verified(path: str, digest: str) -> WordVectors:
    """Load the vectors of a file whose content must have the given hash.

    The file is also looked for in the `weights_path` of `set_config`.

    Parameters
    ----------
    path : str
        Path of the file.
    digest : str
        Hash of its content, from `Source.digest`.

    Raises
    ------
    WeightsError
        If the file is missing or its content has another hash.
    """
    errors: list[SktransferError] = []
    for place in iter_paths(path):
        try:
            found = source_of(place).digest()
            if found == digest:
                return load_vectors(place)
            raise WeightsError(
                f"{place} is not the file that the estimator was fitted with, because its content has another hash, "
                f"{found}"
            )
        except WeightsError as error:
            errors.append(error)
    raise WeightsError(advice(path, digest, errors)) from errors[0]


def source_of(path: str | os.PathLike[str]) -> Source:
    """Return the source that identifies a file in its present state.

    Raises
    ------
    WeightsError
        If the file does not exist.
    """
    resolved = local_path(path).resolve()
    if not resolved.is_file():
        near = did_you_mean(str(path), ["fasttext", "word2vec"])
        problem = "it is a folder" if resolved.is_dir() else "there is no such file"
        raise WeightsError(
            f"{str(path)!r}: {problem} ({resolved}).{near} Give the path of a file of word vectors, "
            f"gzipped or not. Supported formats: {list_formats()}"
        )
    status = resolved.stat()
    return Source(str(resolved), status.st_size, status.st_mtime_ns, load_verified)


@functools.lru_cache(maxsize=4)  # a changed file has another size or time, so it is another source
def _load(source: Source) -> WordVectors:
    path = Path(source.path)
    file_format = sniff(path)
    if file_format.is_mapped and is_gzipped(path):
        path = cached_folder(source.key(FORMAT_VERSION) + "-unpacked", functools.partial(_unpack, path)) / "model.bin"
    parsed = file_format.read(path)
    words, matrix = _table(source, parsed.blocks)
    return WordVectors(words, matrix, subwords=parsed.subwords, source=source)


def _unpack(path: Path, folder: Path) -> None:
    with open_file(path) as packed, (folder / "model.bin").open("wb") as unpacked:
        shutil.copyfileobj(packed, unpacked, 1 << 20)


def _table(source: Source, blocks: Iterable[WordBlock]) -> tuple[list[str], np.ndarray]:
    """Return words and vectors, in memory for a small file and memory-mapped from the cache for a large one."""
    if source.size < LARGE:
        parts = list(blocks)
        matrix = np.concatenate([rows for _, rows in parts])  # (n_words, n_dims)
        return [word for words, _ in parts for word in words], matrix
    folder = cached_folder(source.key(FORMAT_VERSION), functools.partial(_convert, blocks))
    words = (folder / "words.txt").read_text("utf-8", "surrogateescape").split("\n")[:-1]
    return words, np.load(folder / "matrix.npy", mmap_mode="r")


def _convert(blocks: Iterable[WordBlock], folder: Path) -> None:
    """Write a .npy file and a list of words, with one block in memory at a time."""
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
    """Write the header of a .npy file. NumPy pads it, so its length does not depend on `n_words`."""
    header = {"descr": "<f4", "fortran_order": False, "shape": (n_words, n_dims)}
    np.lib.format.write_array_header_1_0(file, header)


def cached_folder(key: str, make: Callable[[Path], Any]) -> Path:
    """Return a folder of the cache, created if it does not exist.

    The folder is created under a temporary name and renamed when complete. A crash or a concurrent process therefore
    never leaves an incomplete folder.

    Parameters
    ----------
    key : str
        Name of the folder.
    make : callable
        Function that fills the empty folder passed to it.

    Raises
    ------
    WeightsError
        If the cache is not writable.
    """
    folder = cache_folder() / "vectors"
    final = folder / key
    if final.is_dir():
        return final
    try:
        folder.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f"{key}.", dir=folder))
    except OSError as error:
        raise WeightsError(
            f"{folder} cannot be written ({error}). Large files of vectors are converted there once. Set the "
            "environment variable SKTRANSFER_CACHE to another folder"
        ) from error
    try:
        make(temporary)
        try:
            temporary.rename(final)
        except OSError:
            if not final.is_dir():  # otherwise another process has created an equivalent folder
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return final


def _from_object(source: Any) -> WordVectors:
    """Return vectors of gensim or spaCy, recognized by their public attributes, as `WordVectors`.

    Parameters
    ----------
    source : object
        gensim: `KeyedVectors`, `FastTextKeyedVectors`, or a model that has one as `wv`. spaCy: `Language`, `Vocab` or
        `Vectors`.

    Raises
    ------
    InvalidParameterError
        If the object is of another type or has no vectors.
    """
    for attribute in ("wv", "vocab", "vectors"):  # a gensim model; a spaCy Language; a spaCy Vocab
        inner = getattr(source, attribute, None)
        if inner is not None and not isinstance(inner, np.ndarray) and not hasattr(source, "key_to_index"):
            source = inner
    if hasattr(source, "key_to_index") and hasattr(source, "index_to_key"):
        return _from_gensim(source)
    if hasattr(source, "key2row") and hasattr(source, "strings"):
        return _from_spacy(source)
    raise InvalidParameterError(
        f"a {type(source).__name__} holds no word vectors of a supported library. Give a path, the result of "
        "load_vectors, gensim's KeyedVectors, or spaCy's Language, Vocab or Vectors"
    )


def _from_gensim(keyed: Any) -> WordVectors:
    matrix = _as_matrix(keyed.vectors, len(keyed.index_to_key))
    subwords = None
    if hasattr(keyed, "vectors_ngrams"):
        subwords = Subwords(keyed.vectors_ngrams, keyed.min_n, keyed.max_n, keyed.bucket)
    return WordVectors(keyed.index_to_key, matrix, subwords=subwords, index=keyed.key_to_index)


def _from_spacy(vectors: Any) -> WordVectors:
    if getattr(vectors, "mode", "default") != "default":
        raise InvalidParameterError(
            f"spaCy vectors of mode {vectors.mode!r} are hashed and have no list of words. Save a table of the words "
            "that you need, and load it"
        )
    rows = {vectors.strings[key]: row for key, row in vectors.key2row.items() if key in vectors.strings}
    data = vectors.data.get() if hasattr(vectors.data, "get") else vectors.data  # cupy arrays are on a GPU
    words = sorted(rows, key=rows.__getitem__)
    if [rows[word] for word in words] == list(range(len(words))):
        return WordVectors(words, _as_matrix(data[: len(words)], len(words)))
    return WordVectors(words, _as_matrix(data[[rows[word] for word in words]], len(words)))  # words may share a row


def _as_matrix(values: Any, n_words: int) -> np.ndarray:
    matrix = np.ascontiguousarray(values, dtype=np.float32)  # (n_rows, n_dims)
    if n_words < 1 or matrix.ndim != 2 or len(matrix) < n_words:
        raise InvalidParameterError(
            f"the object holds {n_words} words and vectors of shape {matrix.shape}. It needs at least one word and one "
            "vector per word"
        )
    return matrix
