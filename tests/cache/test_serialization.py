from __future__ import annotations

import random

import pytest
import torch

from sktransfer.cache.serialization import decode, encode, is_intact

KEY = b"a key"
DTYPES = ["float32", "float16", "bfloat16", "float64", "int64", "int32", "int16", "int8", "uint8", "bool"]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(5,), (2, 3, 4), (1, 1), (), (0,), (3, 0, 2)])
def test_decode_returns_the_encoded_tensor(dtype, shape):
    value = (100 * torch.randn(shape)).to(getattr(torch, dtype))
    decoded = decode(memoryview(encode(value, KEY)), KEY)
    assert (decoded.dtype, decoded.shape) == (value.dtype, value.shape)
    assert torch.equal(decoded, value)


def test_encode_keeps_the_bits_of_special_floats():
    value = torch.tensor([float("nan"), float("inf"), -0.0, 1e-45, -float("inf")])
    decoded = decode(memoryview(encode(value, KEY)), KEY)
    assert torch.equal(decoded.view(torch.int32), value.view(torch.int32))


def test_encode_of_views_and_transposed_tensors():
    value = torch.arange(12.0).view(3, 4)
    for view in (value.T, value[:, 1], value[1:]):
        assert torch.equal(decode(memoryview(encode(view, KEY)), KEY), view)


def test_decode_copies_the_data():
    record = bytearray(encode(torch.full((4,), 5.0), KEY))
    decoded = decode(memoryview(record), KEY)
    record[:] = bytes(len(record))
    decoded += 1
    assert decoded.tolist() == [6] * 4
    assert decoded.data_ptr() % 8 == 0


def test_decode_returns_none_for_another_key():
    record = memoryview(encode(torch.zeros(4), KEY))
    assert is_intact(record, KEY)
    assert not is_intact(record, b"another")
    assert decode(record, b"another") is None


def test_decode_returns_none_for_each_flipped_bit():
    record = encode(torch.rand(3, 2), KEY)
    for position in range(8 * len(record)):
        damaged = bytearray(record)
        damaged[position // 8] ^= 1 << position % 8
        assert decode(memoryview(damaged), KEY) is None


def test_decode_returns_none_for_truncated_records():
    record, noise = encode(torch.rand(300), KEY), random.Random(0)
    for length in range(len(record)):
        assert decode(memoryview(record[:length]), KEY) is None
    for length in range(100):
        assert decode(memoryview(noise.randbytes(length)), KEY) is None
        assert decode(memoryview(bytes(length)), KEY) is None
    assert decode(memoryview(record[:600] + bytes(len(record) - 600)), KEY) is None


def test_encode_raises_for_a_dtype_without_code():
    with pytest.raises(KeyError, match="complex64"):
        encode(torch.zeros(2, dtype=torch.complex64), KEY)


def test_decode_reads_records_of_earlier_versions():
    """The format of records must not change without a new name of the layout."""
    record = bytes.fromhex("0000803f000000400200000000000000" + "00" + "01" + "52c0cd98")
    assert decode(memoryview(record), KEY).tolist() == [1, 2]
