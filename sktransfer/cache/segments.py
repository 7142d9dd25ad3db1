"""Segments of shared stores: safetensors files that are named by their content and never rewritten.

A segment holds cache entries of one namespace. The names of its tensors are the keys of the samples, so the header
lists them. The file name holds the number of entries and a hash of the file.

Only encoding and decoding need torch, so that the command line can list segments without it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from sktransfer.cache.types import CacheNamespace

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["LAYOUT", "DamagedSegmentError", "Segment", "decode", "encode", "find_segments", "header_end", "read_header"]

LAYOUT = "sktransfer-segments-1"  # subfolder. A layout that older versions cannot read gets a new name
KEY_BYTES = 20
MAX_BYTES = 2**31  # of a segment. Reading one takes as much memory
_NAME = re.compile(rf"{LAYOUT}/([0-9a-f]{{32}})/([1-9]\d{{0,8}})-([0-9a-f]{{32}})\.safetensors$")
_LENGTH_BYTES = 8  # a safetensors file begins with the length of its header
_MAX_HEADER = 100_000_000  # bytes, as in safetensors
_HEADER_PER_ENTRY = 128  # bytes that the header takes per entry, roughly
_METADATA = "namespace"
_FIELDS = ("backbone", "stage", "pooling", "dtype")


class DamagedSegmentError(ValueError):
    """A segment is cut, changed or not in its place."""


@dataclass(frozen=True)
class Segment:
    """A segment of a shared store, as its name describes it.

    Parameters
    ----------
    path : str
        Path of the file.
    digest : bytes of length 16
        Digest of the namespace.
    n_entries : int
        Number of entries.
    content : str
        Hash of the file.
    n_bytes : int
        Size of the file.
    written : float
        Time at which it was written, in seconds since 1970. 0 if the file system does not tell.
    """

    path: str
    digest: bytes
    n_entries: int
    content: str
    n_bytes: int
    written: float


def find_segments(files: Mapping[str, Mapping[str, Any]]) -> list[Segment]:
    """Return the segments among files.

    Parameters
    ----------
    files : mapping of str to mapping
        Details of each file by path, as file systems of fsspec list them.
    """
    segments = []
    for path, info in files.items():
        if name := _NAME.search(path):
            size = int(info.get("size") or 0)
            segments.append(Segment(path, bytes.fromhex(name[1]), int(name[2]), name[3], size, written_at(info)))
    return segments


def written_at(info: Mapping[str, Any]) -> float:
    """Return the time at which a file was written, in seconds since 1970. 0 if it is not known.

    Parameters
    ----------
    info : mapping
        Details of the file. Their names differ between file systems.

    Examples
    --------
    >>> from sktransfer.cache.segments import written_at
    >>> written_at({"mtime": 5.0}), written_at({"LastModified": "1970-01-02T00:00:00Z"}), written_at({})
    (5.0, 86400.0, 0.0)
    """
    for name in ("LastModified", "last_modified", "mtime", "updated", "modified", "created"):
        value = info.get(name)
        if isinstance(value, str):
            value = datetime.fromisoformat(value)
        if value is not None:
            return value.timestamp() if isinstance(value, datetime) else float(value)
    return 0.0


def encode(namespace: CacheNamespace, entries: Mapping[bytes, Tensor]) -> tuple[str, bytes]:
    """Return the name and the content of a segment.

    Parameters
    ----------
    namespace : CacheNamespace
    entries : mapping of bytes to Tensor
        CPU tensors by key of the sample.
    """
    from safetensors.torch import save

    fields = {"digest": namespace.digest.hex(), **{name: getattr(namespace, name) for name in _FIELDS}}
    metadata = {_METADATA: json.dumps(fields)}  # one field, because safetensors writes several in any order
    content = save({key.hex(): value.contiguous() for key, value in entries.items()}, metadata)
    return f"{len(entries)}-{_hash(content)}.safetensors", content


def header_end(segment: Segment) -> int:
    """Return the number of first bytes of a segment that hold its header, in most cases.

    Parameters
    ----------
    segment : Segment
    """
    return min(segment.n_bytes, 1024 + _HEADER_PER_ENTRY * segment.n_entries)


def read_header(start: bytes, segment: Segment) -> tuple[CacheNamespace, list[bytes]] | int:
    """Return namespace and keys of a segment, or the number of first bytes that hold the header.

    The header is not verified against the hash of the file. It only tells where to look for a key.

    Parameters
    ----------
    start : bytes
        First bytes of the file.
    segment : Segment

    Raises
    ------
    DamagedSegmentError
        If the file does not begin with the header of a segment of this namespace.
    """
    length = int.from_bytes(start[:_LENGTH_BYTES], "little")
    end = _LENGTH_BYTES + length
    if segment.n_bytes > MAX_BYTES:
        raise DamagedSegmentError(f"it is larger than {MAX_BYTES:,} bytes")
    if len(start) < _LENGTH_BYTES or not 2 <= length <= _MAX_HEADER or end > segment.n_bytes:
        raise DamagedSegmentError("it is cut short, or no safetensors file")
    if len(start) < end:
        return end
    try:
        header = json.loads(start[_LENGTH_BYTES:end])
        metadata = json.loads(header.pop("__metadata__")[_METADATA])
        digest, fields = metadata["digest"], {name: str(metadata[name]) for name in _FIELDS}
        keys = [key for name in header if (key := bytes.fromhex(name)).hex() == name and len(key) == KEY_BYTES]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamagedSegmentError("its header cannot be read") from error
    if digest != segment.digest.hex():
        raise DamagedSegmentError("it belongs to another folder")
    return CacheNamespace(segment.digest, **fields), keys


def decode(content: bytes, segment: Segment) -> dict[bytes, Tensor]:
    """Return the entries of a segment.

    Parameters
    ----------
    content : bytes
        Content of the file.
    segment : Segment

    Raises
    ------
    DamagedSegmentError
        If the content does not have the hash of the name, or is no segment of this namespace.
    """
    if _hash(content) != segment.content:
        cut = f" to {len(content):,} bytes" if len(content) != segment.n_bytes else ""
        raise DamagedSegmentError(f"it is cut or changed{cut}: its content does not have the hash in its name")
    read = read_header(content, segment)
    if isinstance(read, int):
        raise DamagedSegmentError("its header cannot be read")
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        values = load(content)
    except SafetensorError as error:
        raise DamagedSegmentError(f"it is no safetensors file ({error})") from error
    return {key: values[key.hex()] for key in read[1]}


def _hash(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()
