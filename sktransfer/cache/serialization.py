"""Tensors as bytes, and back: what was torn or damaged on the way is known by its checksum."""

from __future__ import annotations

import struct
from zlib import crc32

import torch
from torch import Tensor

__all__ = ["decode", "encode", "intact"]

# A record is the tensor's memory, the sizes of its axes, and this; what comes first lies aligned once it is copied out.
_END = struct.Struct("<BBI")  # dtype, number of axes, checksum of the key and of all before the checksum
_CHECKSUM = 4
# Written into records: only ever add to it.
_CODES = {
    torch.float32: 0,
    torch.float16: 1,
    torch.bfloat16: 2,
    torch.float64: 3,
    torch.int64: 4,
    torch.int32: 5,
    torch.int16: 6,
    torch.int8: 7,
    torch.uint8: 8,
    torch.bool: 9,
}
_DTYPES = {code: dtype for dtype, code in _CODES.items()}


def encode(value: Tensor, key: bytes) -> bytes:
    """Return the record of a CPU tensor, to be kept under `key`.

    Raises
    ------
    KeyError
        If its dtype is none that is stored.
    """
    code = _CODES[value.dtype]
    memory = value.detach().contiguous().reshape(-1).view(torch.uint8).numpy()  # (bytes,)
    axes = struct.pack(f"<{value.ndim}Q", *value.shape)
    record = b"".join((memory.data, axes, bytes((code, value.ndim))))
    return record + crc32(record, crc32(key)).to_bytes(_CHECKSUM, "little")


def intact(record: memoryview, key: bytes) -> bool:
    """Return whether a record is what was put under `key`."""
    checksum = int.from_bytes(record[-_CHECKSUM:], "little")
    return len(record) >= _END.size and crc32(record[:-_CHECKSUM], crc32(key)) == checksum


def decode(record: memoryview, key: bytes) -> Tensor | None:
    """Return the tensor of a record, in memory of its own; None where the record is damaged or another key's."""
    if not intact(record, key):
        return None
    code, n_axes, _ = _END.unpack_from(record, len(record) - _END.size)
    end = len(record) - _END.size - 8 * n_axes
    shape = struct.unpack_from(f"<{n_axes}Q", record, end)
    if end == 0:
        return torch.empty(shape, dtype=_DTYPES[code])
    return torch.frombuffer(bytearray(record[:end]), dtype=_DTYPES[code]).view(shape)
