"""Serialization of tensors to records with a CRC-32 checksum."""

from __future__ import annotations

import struct
from zlib import crc32

import torch
from torch import Tensor

__all__ = ["decode", "encode", "is_intact"]

# A record is the data of the tensor, its shape as 64-bit integers, and this trailer. The data comes first, so that a
# copy of it is aligned.
_TRAILER = struct.Struct("<BBI")  # dtype, number of axes, CRC-32 of the key and of the record up to the checksum
_CHECKSUM_BYTES = 4
# Codes are part of the file format. Only add new ones.
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
    """Return the record of a CPU tensor.

    Parameters
    ----------
    value : Tensor of any shape
    key : bytes
        Key of the record. It is part of the checksum, so that the record is valid under this key only.

    Raises
    ------
    KeyError
        If the dtype has no code.
    """
    code = _CODES[value.dtype]
    data = value.detach().contiguous().reshape(-1).view(torch.uint8).numpy()  # (n_bytes,)
    shape = struct.pack(f"<{value.ndim}Q", *value.shape)
    record = b"".join((data.data, shape, bytes((code, value.ndim))))
    return record + crc32(record, crc32(key)).to_bytes(_CHECKSUM_BYTES, "little")


def is_intact(record: memoryview, key: bytes) -> bool:
    """Return whether the checksum of a record is right for its key."""
    checksum = int.from_bytes(record[-_CHECKSUM_BYTES:], "little")
    return len(record) >= _TRAILER.size and crc32(record[:-_CHECKSUM_BYTES], crc32(key)) == checksum


def decode(record: memoryview, key: bytes) -> Tensor | None:
    """Return a tensor with a copy of a record's data, None if the checksum is wrong."""
    if not is_intact(record, key):
        return None
    code, n_axes, _ = _TRAILER.unpack_from(record, len(record) - _TRAILER.size)
    end = len(record) - _TRAILER.size - 8 * n_axes
    shape = struct.unpack_from(f"<{n_axes}Q", record, end)
    if end == 0:
        return torch.empty(shape, dtype=_DTYPES[code])
    return torch.frombuffer(bytearray(record[:end]), dtype=_DTYPES[code]).view(shape)
