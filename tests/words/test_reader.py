from __future__ import annotations

import mmap
import struct

import pytest

from sktransfer.exceptions import WeightsError
from sktransfer.words.fasttext import Reader


@pytest.fixture
def reader(tmp_path):
    path = tmp_path / "file.bin"
    path.write_bytes(struct.pack("<iq", -2, 3) + b"word\0rest")
    with path.open("rb") as file:
        return Reader(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), str(path))


def test_it_walks_from_part_to_part(reader):
    assert reader.values("iq", "numbers") == (-2, 3)
    assert reader.word(1) == b"word"
    assert reader.skip(4, "the rest") == 17
    assert reader.at == len(reader.content)


@pytest.mark.parametrize(
    ("act", "match"),
    [
        (lambda reader: reader.skip(22, "the matrix"), "ends at byte 21, the matrix should take 22 bytes from byte 0"),
        (lambda reader: reader.skip(-1, "the matrix"), "should take -1 bytes"),
        (lambda reader: reader.values("3q", "the header"), "the header should take 24 bytes"),
        (lambda reader: (reader.skip(17, "some"), reader.word(2)), "word 2 has no end"),
    ],
)
def test_where_the_file_ends_too_early_it_says_so(reader, act, match):
    with pytest.raises(WeightsError, match=match) as caught:
        act(reader)
    assert "file.bin" in str(caught.value)
