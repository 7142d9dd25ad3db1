"""Codec of word vectors: by path and hash of their file, or in full."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sktransfer._validation import require_field
from sktransfer.exceptions import LoadError
from sktransfer.persistence.context import Codec, LoadContext, SaveContext
from sktransfer.words.loading import load_verified
from sktransfer.words.vectors import WordVectors

__all__ = ["CODECS"]


def _encode(vectors: WordVectors, context: SaveContext) -> dict[str, Any]:
    if vectors.source is not None and not context.embed:
        return {"path": vectors.source.path, "digest": vectors.source.digest()}
    return vectors.to_state()


def _decode(data: dict[str, Any], context: LoadContext) -> WordVectors:
    if "path" not in data:
        return WordVectors.from_state(data)
    path = Path(require_field(data, "path", str))
    if path.exists() and not path.is_file():  # reading a device such as /dev/zero would not end
        raise LoadError(f"{str(path)!r} is not a regular file")
    vectors = load_verified(str(path), require_field(data, "digest", str))
    if vectors.source is not None and vectors.source.path != str(path):
        context.moved[str(path)] = vectors.source.path
    return vectors


CODECS = (Codec("WordVectors", "sktransfer.words.vectors:WordVectors", _encode, _decode),)
