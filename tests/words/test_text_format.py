"""Vectors as text: words with blanks, and lines that are wrong."""

from __future__ import annotations

import io

import numpy as np
import pytest

from sktransfer.exceptions import WeightsError
from sktransfer.words.text_format import read_text


def read(text, n_words, n_dims):
    parts = list(read_text(io.BytesIO(text.encode()), "some.vec", n_words=n_words, n_dims=n_dims))
    return [word for words, _ in parts for word in words], np.concatenate([rows for _, rows in parts])


def test_blanks_in_words_and_at_the_end_of_lines():
    words, rows = read("3 2\n. . . 1 2\nb 3 4 \n\xa0 5e-1 -6\n\n", 3, 2)
    assert words == [". . .", "b", "\xa0"]
    np.testing.assert_array_equal(rows, np.array([[1, 2], [3, 4], [0.5, -6]], np.float32))


def test_blocks_join_without_a_seam():
    words, rows = read("".join(f"w{i} {i}\n" for i in range(10_000)), None, 1)
    assert words == [f"w{i}" for i in range(10_000)]
    np.testing.assert_array_equal(rows[:, 0], np.arange(10_000))


@pytest.mark.parametrize(
    ("text", "n_words", "message"),
    [
        ("3 2\na 1 2\nb 3\nc 5 6\n", 3, r"some\.vec, line 3: 1 numbers after the word, 2 expected"),
        ("a 1 2\nb 3 x\n", None, r"line 2: .*convert"),
        ("a 1 2\nb 3 nan\n", None, r"line 2: a number is not finite"),
        ("3 2\na 1 2\nb 3 4\n", 3, r"ends at line 3 with 2 words, its first line promises 3"),
        ("1 2\na 1 2\nb 3 4\n", 1, r"ends at line 3 with 2 words, its first line promises 1"),
        ("2 2\na 1 2\n\nb 3 4\n", 2, r"line 3: 0 numbers"),
    ],
)
def test_a_wrong_line_is_named(text, n_words, message):
    with pytest.raises(WeightsError, match=message):
        read(text, n_words, 2)


def test_bytes_that_are_no_utf8_are_kept():
    file = io.BytesIO(b"caf\xe9 1 2\n")
    ((words, _),) = read_text(file, "x", n_words=None, n_dims=2)
    assert words[0].encode("utf-8", "surrogateescape") == b"caf\xe9"
