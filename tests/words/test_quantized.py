"""Quantized matrices: to the bit what fastText unpacks, and nothing unpacked that nobody asks for."""

from __future__ import annotations

import functools
import sys

import fasttext
import numpy as np
import pytest

from sktransfer import load_vectors
from sktransfer.exceptions import WeightsError
from tests.helpers.word_files import SENTENCES, folder, quantized_file

SETTINGS = {
    "pruned, with norms": {"cutoff": 300, "qnorm": True},
    "pruned": {"cutoff": 280, "qnorm": False},
    "whole": {"qnorm": True},
    "parts that do not divide the dimensions": {"cutoff": 300, "qnorm": True, "dsub": 3},
    "output quantized too": {"cutoff": 300, "qnorm": True, "qout": True},
}


@functools.cache
def quantized(name):
    labelled = folder() / "many labels.txt"
    lines = [f"__label__{i % 300} {SENTENCES[i % len(SENTENCES)]} w{i}" for i in range(600)]
    labelled.write_text("\n".join(lines) + "\n", encoding="utf-8")
    model = fasttext.train_supervised(
        str(labelled), dim=10, minn=2, maxn=3, bucket=500, epoch=1, thread=10, verbose=0, minCount=1
    )
    model.quantize(input=str(labelled), verbose=0, **SETTINGS[name])
    path = folder() / f"{name}.ftz"
    model.save_model(str(path))
    return path


@pytest.mark.parametrize("name", SETTINGS)
def test_vectors_are_fasttexts_own(name):
    theirs, ours = fasttext.load_model(str(quantized(name))), load_vectors(quantized(name))
    assert ours.words == theirs.get_words()
    words = [*theirs.get_words(), "catt", "straßen", "東京都", "x"]
    np.testing.assert_array_equal(ours.subwords.vectors(["a\ud83d"]).shape, (1, 10))  # half a character is no error
    for word in words:
        expected = theirs.get_word_vector(word)
        found = ours[word] if word in ours else ours.subwords.vectors([word])[0]
        np.testing.assert_array_equal(found, expected, err_msg=word)


def test_rows_are_unpacked_where_they_are_asked_for():
    rows = load_vectors(quantized_file()).subwords.rows
    assert rows.shape == (len(rows), 10)
    np.testing.assert_array_equal(rows[3:5], rows[np.array([3, 4])])
    assert rows[:0].shape == (0, 10)


@pytest.mark.parametrize(
    ("what", "match"), [("cut", "should take .* bytes"), ("codes", "has .* codes"), ("parts", "cuts")]
)
def test_a_matrix_that_contradicts_itself_is_refused(what, match, tmp_path):
    data = bytearray(quantized_file().read_bytes())
    rows = load_vectors(quantized_file()).subwords.rows
    at = data.index(np.array([len(rows), 10], "<i8").tobytes())
    if what == "cut":
        del data[at + 30 :]
    elif what == "codes":
        data[at : at + 8] = (len(rows) - 1).to_bytes(8, "little")
    else:
        n_codes = int.from_bytes(data[at + 16 : at + 20], "little")
        data[at + 20 + n_codes + 4] = 77
    path = tmp_path / "damaged.ftz"
    path.write_bytes(data)
    with pytest.raises(WeightsError, match=match):
        load_vectors(path)


def test_it_is_read_without_the_package(monkeypatch, tmp_path):
    path = tmp_path / "another.ftz"
    path.write_bytes(quantized_file().read_bytes())
    monkeypatch.setitem(sys.modules, "fasttext_pybind", None)
    assert len(load_vectors(path)) > 10
