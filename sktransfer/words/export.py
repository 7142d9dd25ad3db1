"""Write word vectors for other libraries."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from sktransfer._utils import local_path
from sktransfer.exceptions import InvalidParameterError, SaveError

__all__ = ["make_keyed_vectors", "write_word2vec"]

_BLANKS = (" ", "\t", "\n", "\r", "\x0b", "\x0c")


def write_word2vec(blocks: Iterable[tuple[list[str], np.ndarray]], n_words: int, n_dims: int, path: Path) -> None:
    """Write a file in word2vec's text format, under a temporary name until it is complete.

    Parameters
    ----------
    blocks : iterable of (list of str, ndarray of shape (n, n_dims))
        Words and their vectors.
    n_words, n_dims : int
        Number of all words, and length of a vector.
    path : Path
        File to write.

    Raises
    ------
    InvalidParameterError
        If a word is empty or holds a blank.
    SaveError
        If the file cannot be written.
    """
    path = local_path(path)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    numbers = " %.9g" * n_dims + "\n"  # nine digits tell all float32 values apart
    try:
        try:
            with temporary.open("xb") as file:
                file.write(f"{n_words} {n_dims}\n".encode())
                for words, vectors in blocks:
                    lines = [_checked(word) + numbers % tuple(row) for word, row in zip(words, vectors.tolist())]
                    file.write("".join(lines).encode("utf-8", "surrogateescape"))
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise SaveError(f"path={str(path)!r} cannot be written: {error}") from error


def _checked(word: str) -> str:
    if not word or any(blank in word for blank in _BLANKS):
        raise InvalidParameterError(
            f"the word {word!r} is empty or holds a blank, which word2vec's text format cannot express. Give the "
            "vectors to gensim by `to_gensim`, or save the estimator by sktransfer.save"
        )
    return word


def make_keyed_vectors(blocks: Iterable[tuple[list[str], np.ndarray]], n_dims: int) -> Any:
    """Return words and vectors as gensim's `KeyedVectors`.

    Parameters
    ----------
    blocks : iterable of (list of str, ndarray of shape (n, n_dims))
        Words and their vectors.
    n_dims : int
        Length of a vector.

    Raises
    ------
    ImportError
        If gensim is missing.
    """
    try:
        from gensim.models import KeyedVectors
    except ImportError as error:
        raise ImportError("`to_gensim` needs the package gensim: pip install gensim") from error
    keyed = KeyedVectors(n_dims)
    for words, vectors in blocks:
        keyed.add_vectors(words, vectors)
    return keyed
