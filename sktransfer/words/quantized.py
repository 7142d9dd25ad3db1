"""fastText's quantized models (`.ftz`): their vectors are taken from the package fasttext, which can unpack them."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["QuantizedModel", "fasttext_module"]


def fasttext_module(purpose: str) -> Any:
    """Return fastText's compiled module.

    Its Python layer is passed by: parts of it do not run on numpy 2, nor does it hand the seed on.

    Parameters
    ----------
    purpose : str
        What it is needed for: the start of the message where it is missing.

    Raises
    ------
    ImportError
        If the package is not installed; says how to install it.
    """
    try:
        return importlib.import_module("fasttext_pybind")
    except ImportError as error:
        raise ImportError(
            f"{purpose} needs the package fasttext, which cannot be imported ({error}): pip install "
            '"sktransfer[words]". Vectors in other files (.bin, .vec, .txt) are read without it'
        ) from error


class QuantizedModel:
    """A quantized model in memory.

    Parameters
    ----------
    path : Path
        A `.ftz` file, measured before: the package would loop without end on one that was cut.
    """

    def __init__(self, path: Path) -> None:
        self._module = fasttext_module(f"{path} is quantized: reading it")
        self._model = self._module.fasttext()
        self._model.loadModel(str(path))
        self._n_dims = self._model.getArgs().dim

    def vectors(self, words: Sequence[str]) -> np.ndarray:
        """Return the vectors of words, listed or not; zeros where no n-gram is known.

        Parameters
        ----------
        words : sequence of str
            The words.

        Returns
        -------
        vectors : ndarray of shape (n_words, n_dims), float32
        """
        found = np.empty((len(words), self._n_dims), np.float32)
        vector = self._module.Vector(self._n_dims)
        for row, word in enumerate(words):
            self._model.getWordVector(vector, _utf8(word))
            found[row] = np.asarray(vector)
        return found


def _utf8(word: str) -> bytes:
    try:
        return word.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # half of a character that takes two in UTF-16
        return word.encode("utf-8", "replace")
