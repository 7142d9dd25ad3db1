"""Word vectors that other libraries hold: wrapped, so that memory is shared."""

from __future__ import annotations

from typing import Any

import numpy as np

from sktransfer.exceptions import InvalidParameterError
from sktransfer.words.subwords import Subwords
from sktransfer.words.vectors import WordVectors

__all__ = ["from_object"]


def from_object(source: Any) -> WordVectors:
    """Return gensim's or spaCy's vectors as `WordVectors`; known by their public attributes.

    Parameters
    ----------
    source : object
        gensim: `KeyedVectors`, `FastTextKeyedVectors`, or a model with one in `wv`. spaCy: `Language`, `Vocab`,
        `Vectors`.

    Raises
    ------
    InvalidParameterError
        If it is nothing of these, or holds no vectors.
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
        f"a {type(source).__name__} holds no word vectors that are known here: give a path, what load_vectors returns, "
        "gensim's KeyedVectors, or spaCy's Language, Vocab or Vectors"
    )


def _from_gensim(keyed: Any) -> WordVectors:
    matrix = _float32(keyed.vectors, len(keyed.index_to_key))
    subwords = None
    if hasattr(keyed, "vectors_ngrams"):
        subwords = Subwords(keyed.vectors_ngrams, keyed.min_n, keyed.max_n, keyed.bucket)
    return WordVectors(keyed.index_to_key, matrix, subwords=subwords, index=keyed.key_to_index)


def _from_spacy(vectors: Any) -> WordVectors:
    if getattr(vectors, "mode", "default") != "default":
        raise InvalidParameterError(
            f"spaCy vectors of mode {vectors.mode!r} hash every word and list none; save a table of the words you need"
        )
    rows = {vectors.strings[key]: row for key, row in vectors.key2row.items() if key in vectors.strings}
    data = vectors.data.get() if hasattr(vectors.data, "get") else vectors.data  # cupy's arrays lie on a GPU
    words = sorted(rows, key=rows.__getitem__)
    if [rows[word] for word in words] == list(range(len(words))):
        return WordVectors(words, _float32(data[: len(words)], len(words)))
    return WordVectors(words, _float32(data[[rows[word] for word in words]], len(words)))  # several words share a row


def _float32(values: Any, n_words: int) -> np.ndarray:
    matrix = np.ascontiguousarray(values, dtype=np.float32)
    if n_words < 1 or matrix.ndim != 2 or len(matrix) < n_words:
        raise InvalidParameterError(
            f"the object holds {n_words} words and vectors of shape {matrix.shape}: none to use"
        )
    return matrix
