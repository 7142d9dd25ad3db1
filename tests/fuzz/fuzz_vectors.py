"""Fuzz damaged files of word vectors: each is read or raises WeightsError."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from tests.fuzz.fuzzing import fuzz, instrumented
from tests.helpers import word_files

with instrumented(__name__, "sktransfer.words"):
    from sktransfer.exceptions import WeightsError
    from sktransfer.words.loading import _load, source_of

_path = Path(tempfile.mkdtemp(prefix="sktransfer-fuzz-")) / "vectors.bin"


def seeds() -> list[bytes]:
    """Return one small file per format."""
    files = [word_files.fasttext_file(), word_files.supervised_file(), word_files.word2vec_file(n_words=8)]
    files += [word_files.word2vec_file(binary=True, n_words=8), word_files.word2vec_file(header=False, n_words=8)]
    return [file.read_bytes() for file in files] + [b"", b"2 2\nup 1 2\ndown 3 4\n", b"up 1 2\ndown 3 4\n"]


def target(data: bytes) -> str:
    """Return the outcome of a file."""
    _path.write_bytes(data)
    try:
        vectors = _load.__wrapped__(source_of(_path))
    except WeightsError as error:
        if str(_path) not in str(error):
            raise AssertionError(f"the error does not name the file: {error}") from error
        return "refused"
    rows = [vectors[word] for word in ("the", "cat", "unheard") if word in vectors]
    assert all(row.shape == (vectors.n_dims,) and row.dtype == np.float32 and np.isfinite(row).all() for row in rows)
    return "read"


if __name__ == "__main__":
    fuzz(target, seeds())
