"""Word vectors: those that were trained as they are; those of a file by its path and hash, or as they are, too."""

from __future__ import annotations

import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sktransfer.exceptions import LoadError, SaveError
from sktransfer.persistence.parts import Codec, Loading, Saving, entry
from sktransfer.words.loading import load_the_same
from sktransfer.words.pooling import Weights
from sktransfer.words.subwords import Subwords
from sktransfer.words.vectors import WordVectors

__all__ = ["CODECS", "find_words"]


def _packed(words: Sequence[str]) -> dict[str, Tensor]:
    """Return words as bytes one after the other, and where each ends: a list of a million would be slow to read."""
    octets = [word.encode("utf-8", "surrogatepass") for word in words]
    ends = np.cumsum([len(one) for one in octets], dtype=np.int64)
    return {
        "text": torch.from_numpy(np.frombuffer(b"".join(octets), np.uint8).copy()),
        "ends": torch.from_numpy(ends),
    }


def _unpacked(text: Tensor, ends: Tensor) -> list[str]:
    stops = ends.numpy()
    if text.dtype != torch.uint8 or stops.dtype != np.int64 or stops.ndim != 1 or text.ndim != 1:
        raise LoadError("its words are no bytes with their ends")
    if len(stops) and (stops[0] < 0 or (np.diff(stops) < 0).any() or stops[-1] != len(text)):
        raise LoadError("its words do not end where they say")
    octets = text.numpy().tobytes()
    starts = [0, *stops[:-1].tolist()]
    return [octets[start:stop].decode("utf-8", "surrogatepass") for start, stop in zip(starts, stops.tolist())]


def _encode_vectors(vectors: WordVectors, saving: Saving) -> dict[str, Any]:
    if vectors.source is not None and not saving.embed:
        return {"path": vectors.source.path, "digest": vectors.source.digest()}
    subwords = vectors.subwords
    if subwords is not None and type(subwords) is not Subwords:
        raise SaveError(f"vectors of unknown words made by {type(subwords).__name__}, which only pickle keeps")
    tensors = {**_packed(vectors.words), "matrix": _float32(vectors.matrix)}
    parts: dict[str, Any] | None = None
    if isinstance(subwords, Subwords):
        tensors["rows"] = _float32(subwords.rows)
        if subwords.slots is not None:
            tensors["slots"] = torch.from_numpy(np.array(subwords.slots, dtype=np.int32))
        names = ("min_n", "max_n", "n_buckets", "first")
        parts = {name: int(getattr(subwords, name)) for name in names}
    return {"state": saving.state(tensors), "subwords": parts}


def _float32(rows: Any) -> Tensor:
    """Return a copy of rows that are in memory, mapped, or quantized and unpacked when they are asked for."""
    return torch.from_numpy(np.array(rows[np.arange(len(rows))], dtype=np.float32))


def _decode_vectors(data: dict[str, Any], loading: Loading) -> WordVectors:
    if "path" in data:
        path = entry(data, "path", str)
        if Path(path).exists() and not stat.S_ISREG(Path(path).stat().st_mode):
            raise LoadError(f"{path!r} is no regular file")
        return load_the_same(path, entry(data, "digest", str))
    tensors = loading.state(entry(data, "state", dict))
    words, matrix = _unpacked(tensors["text"], tensors["ends"]), _table(tensors["matrix"])
    if len(words) > len(matrix) or not words:
        raise LoadError(f"it holds {len(words)} words and {len(matrix)} vectors")
    return WordVectors(words, matrix, subwords=_subwords(entry(data, "subwords", (dict, type(None))), tensors, matrix))


def _table(tensor: Tensor) -> np.ndarray:
    if tensor.dtype != torch.float32 or tensor.ndim != 2:
        raise LoadError(f"its vectors are {tuple(tensor.shape)} of {tensor.dtype}")
    values: np.ndarray = tensor.numpy()
    return values


def _subwords(data: dict[str, Any] | None, tensors: dict[str, Tensor], matrix: np.ndarray) -> Subwords | None:
    if data is None:
        return None
    rows = _table(tensors["rows"])
    min_n, max_n, n_buckets, first = (entry(data, name, int) for name in ("min_n", "max_n", "n_buckets", "first"))
    slots = tensors["slots"].numpy() if "slots" in tensors else None
    fits = rows.shape[1] == matrix.shape[1] and 1 <= min_n <= max_n <= 100 and n_buckets >= 1 and first >= 0
    if slots is None:
        fits = fits and first + n_buckets <= len(rows)
    else:
        fits = fits and slots.dtype == np.int32 and slots.shape == (n_buckets,)
        fits = fits and bool((slots >= -1).all() and (slots < len(rows)).all())
    if not fits:
        raise LoadError("its vectors of parts of words do not fit each other")
    return Subwords(rows, min_n, max_n, n_buckets, first=first, slots=slots)


def _encode_weights(weights: Weights, saving: Saving) -> dict[str, Any]:
    values = torch.tensor(list(weights.known.values()), dtype=torch.float64)
    return {"state": saving.state({**_packed(list(weights.known)), "values": values}), "other": float(weights.other)}


def _decode_weights(data: dict[str, Any], loading: Loading) -> Weights:
    tensors = loading.state(entry(data, "state", dict))
    words, values = _unpacked(tensors["text"], tensors["ends"]), tensors["values"].double().tolist()
    return Weights(dict(zip(words, values, strict=True)), entry(data, "other", float))


_BY_TYPE = {
    WordVectors: Codec("WordVectors", _encode_vectors, _decode_vectors),
    Weights: Codec("WordWeights", _encode_weights, _decode_weights),
}
CODECS = tuple(_BY_TYPE.values())


def find_words(obj: Any) -> Codec | None:
    """Return the codec of word vectors, or of weights of words; None for all else."""
    return _BY_TYPE.get(type(obj))
