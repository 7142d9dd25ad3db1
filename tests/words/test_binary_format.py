"""word2vec's binary format, cut anywhere."""

from __future__ import annotations

import io

import numpy as np
import pytest

from sktransfer.exceptions import WeightsError
from sktransfer.words.binary_format import read_binary
from tests.helpers.word_files import word2vec_file

CONTENT = word2vec_file(binary=True, n_words=4100).read_bytes()


def read(content, n_words=4100, n_dims=5):
    parts = list(read_binary(io.BytesIO(content), "some.bin", n_words=n_words, n_dims=n_dims))
    return [word for words, _ in parts for word in words], np.concatenate([rows for _, rows in parts])


def test_words_may_end_with_a_line_or_not():
    plain = b"2 1\na " + np.float32(1).tobytes() + b"b " + np.float32(2).tobytes()
    lines = b"2 1\na " + np.float32(1).tobytes() + b"\nb " + np.float32(2).tobytes() + b"\n"
    for content in (plain, lines):
        words, rows = read(content, 2, 1)
        assert words == ["a", "b"]
        assert rows[:, 0].tolist() == [1, 2]


@pytest.mark.parametrize("kept", [20, 1000, len(CONTENT) // 2, len(CONTENT) - 3])
def test_a_cut_file_is_an_error_that_names_the_byte(kept):
    with pytest.raises(WeightsError, match=rf"some\.bin, byte {kept:,}: it ends in word [\d,]+ of 4,100"):
        read(CONTENT[:kept])


def test_a_damaged_file_is_an_error_that_names_the_byte():
    with pytest.raises(WeightsError, match=r"byte \d+: a value of word 1 is not finite"):
        read(b"1 1\na " + np.float32(np.nan).tobytes(), 1, 1)
    with pytest.raises(WeightsError, match=r"byte 4: word 1 has no end"):
        read(b"1 1\n" + b"x" * 30_000, 1, 1)


def test_small_reads_give_the_same(monkeypatch):
    monkeypatch.setattr("sktransfer.words.binary_format._CHUNK", 7)
    words, rows = read(CONTENT[:], 300)
    monkeypatch.undo()
    expected, expected_rows = read(CONTENT, 300)
    assert words == expected
    np.testing.assert_array_equal(rows, expected_rows)
