"""fastText's quantized matrices (`.ftz`): rows put together from parts of a few, each row from its codes.

The package fasttext can unpack them, too, but trusts what a file says: a damaged one ends the process.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from sktransfer.words.reader import Reader

__all__ = ["QuantizedRows", "read_quantized"]

_CENTROIDS = 256  # of each part: a code is a byte


@dataclass(frozen=True)
class _Quantizer:
    """A product quantizer [1]_: a vector is cut into parts, and each stands for one of 256 centroids.

    References
    ----------
    .. [1] H. Jégou et al., "Product Quantization for Nearest Neighbor Search", TPAMI 2011.
    """

    n_dims: int
    parts: list[np.ndarray]  # (256, width) each; the last may be narrower

    def rows(self, codes: np.ndarray) -> np.ndarray:
        """Return vectors (n, n_dims) for codes (n, n_parts)."""
        return np.concatenate([part[codes[:, i]] for i, part in enumerate(self.parts)], axis=1)  # (n, n_dims)


class QuantizedRows:
    """A matrix whose rows are unpacked where they are asked for, so that it takes no more than its file.

    Parameters
    ----------
    codes : ndarray of shape (n_rows, n_parts), uint8
        Which centroid each part of a row is.
    quantizer : _Quantizer
        Of the rows.
    norms : ndarray of shape (n_rows,), float32, default=None
        What each row is multiplied by.
    """

    def __init__(self, codes: np.ndarray, quantizer: _Quantizer, norms: np.ndarray | None = None) -> None:
        self._codes, self._quantizer, self._norms = codes, quantizer, norms
        self.shape = len(codes), quantizer.n_dims

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> np.ndarray:
        rows = self._quantizer.rows(self._codes[index])  # (n, n_dims)
        return rows if self._norms is None else rows * self._norms[index, None]


def read_quantized(reader: Reader) -> QuantizedRows:
    """Read a quantized matrix.

    Parameters
    ----------
    reader : Reader
        Where it begins.

    Raises
    ------
    WeightsError
        If it ends too early or contradicts itself.
    """
    has_norms, n_rows, n_dims, n_codes = reader.values("?2qi", "the quantized matrix")
    codes = _octets(reader, n_codes, "the quantized matrix")
    quantizer = _quantizer(reader)
    if quantizer.n_dims != n_dims or n_codes != n_rows * len(quantizer.parts):
        raise reader.damaged(f"its quantized matrix of {n_rows:,} rows and {n_dims:,} columns has {n_codes:,} codes")
    norms = None
    if has_norms:
        of_norms = _octets(reader, n_rows, "the quantized norms")
        of_one = _quantizer(reader)
        if of_one.n_dims != 1:
            raise reader.damaged(f"its norms are of {of_one.n_dims} dimensions")
        norms = of_one.rows(of_norms[:, None])[:, 0]  # (n_rows,)
    return QuantizedRows(codes.reshape(n_rows, len(quantizer.parts)), quantizer, norms)


def _quantizer(reader: Reader) -> _Quantizer:
    n_dims, n_parts, width, last = reader.values("4i", "the quantizer")
    if not (n_parts >= 1 and width >= 1 and 1 <= last <= width and (n_parts - 1) * width + last == n_dims):
        raise reader.damaged(f"its quantizer cuts {n_dims} dimensions into {n_parts} parts of {width}, the last {last}")
    start = reader.skip(4 * n_dims * _CENTROIDS, "the quantizer")
    values = np.frombuffer(reader.content, np.dtype("<f4"), n_dims * _CENTROIDS, start).astype(np.float32)
    cuts = [width * _CENTROIDS * part for part in range(1, n_parts)]
    parts = [part.reshape(_CENTROIDS, -1) for part in np.split(values, cuts)]  # (256, width) each
    return _Quantizer(n_dims, parts)


def _octets(reader: Reader, n: int, what: str) -> np.ndarray:
    start = reader.skip(n, what)
    return np.frombuffer(reader.content, np.uint8, n, start).copy()  # (n,)
