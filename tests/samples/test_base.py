from __future__ import annotations

import numpy as np
import pytest

from sktransfer.samples.base import Rows, content_hash, content_hashes


class Letters(Rows):
    def __init__(self, letters: str) -> None:
        super().__init__(len(letters))
        self.letters, self.hashed = letters, []

    def _load(self, row: int) -> str:
        return self.letters[row]

    def _hash(self, row: int) -> bytes:
        self.hashed.append(row)
        return content_hash("letter", self.letters[row])


def test_take_picks_rows_in_any_order_and_nests():
    samples = Letters("abcde").take([4, 2, 2, 0])
    assert [samples.load(i) for i in range(len(samples))] == ["e", "c", "c", "a"]
    nested = samples.take(np.array([3, 1]))
    assert [nested.load(0), nested.load(1)] == ["a", "c"]
    assert len(samples.take([])) == 0


def test_keys_are_those_of_each_row_and_are_kept():
    samples = Letters("abca").take([3, 1, 0, 3])
    assert samples.keys([0, 2, 1, 0]) == [content_hash("letter", one) for one in "aaba"]
    assert samples.hashed == [3, 0, 1]
    assert samples.keys([1]) == [samples.key(1)]
    assert samples.hashed == [3, 0, 1]
    assert samples.keys([]) == []


@pytest.mark.parametrize("texts", [["", "a", "|1|a", "a" * 300, "\ud800", "ä\0"], []])
def test_content_hashes_are_content_hash_of_each(texts):
    assert content_hashes("text", texts) == [content_hash("text", text) for text in texts]


def test_take_does_not_change_the_original():
    samples = Letters("abc")
    samples.take([1])
    assert len(samples) == 3
    assert samples.load(0) == "a"


def test_load_rejects_a_row_out_of_range():
    with pytest.raises(IndexError):
        Letters("abc").take([3])
    with pytest.raises(IndexError):
        Letters("abc").load(3)


def test_key_hashes_a_row_once_across_views():
    samples = Letters("abc")
    view = samples.take([2, 1])
    assert view.key(0) == samples.key(2) == view.key(0)
    assert samples.hashed == [2]


def test_key_has_20_bytes_and_depends_on_content():
    samples = Letters("aba")
    assert len(samples.key(0)) == 20
    assert samples.key(0) == samples.key(2) != samples.key(1)


def test_content_hash_separates_kinds_and_parts():
    hashes = {
        content_hash("a", "bc"),
        content_hash("ab", "c"),
        content_hash("a", "b", "c"),
        content_hash("a", "", "bc"),
    }
    assert len(hashes) == 4


@pytest.mark.parametrize("dtype", ["?", "uint8", "<f2", ">f4", "float64"])
def test_content_hash_takes_arrays_of_any_layout(dtype: str):
    array = np.arange(24).reshape(2, 3, 4).astype(dtype)
    turned = array.transpose(2, 1, 0)
    assert content_hash("x", turned) == content_hash("x", turned.copy())
    changed = array.copy()
    changed[0, 0, 0] = 1
    assert content_hash("x", changed) != content_hash("x", array)


def test_content_hash_takes_lone_surrogates():
    assert content_hash("x", "\udc80") != content_hash("x", "\udc81")
