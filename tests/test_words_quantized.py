"""The package fasttext: there, or missed with the command that installs it."""

from __future__ import annotations

import sys

import fasttext
import numpy as np
import pytest

from sktransfer import WordEmbedder
from sktransfer.words.quantized import QuantizedModel, fasttext_module
from tests.word_files import fasttext_file, quantized_file


def test_vectors_are_fasttexts_own():
    theirs, ours = fasttext.load_model(str(quantized_file())), QuantizedModel(quantized_file())
    words = ["cat", "catt", ""]
    np.testing.assert_array_equal(ours.vectors(words), [theirs.get_word_vector(word) for word in words])


def test_half_characters_are_no_error():
    assert QuantizedModel(quantized_file()).vectors(["a\ud83d", "caf\udce9"]).shape == (2, 10)


def test_a_missing_package_is_an_error_with_the_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "fasttext_pybind", None)
    with pytest.raises(ImportError, match=r'that needs the package fasttext.*pip install "sktransfer\[words\]"'):
        fasttext_module("that")
    with pytest.raises(ImportError, match=r"training word vectors needs.*sktransfer\[words\]"):
        WordEmbedder().fit(["a text"])
    assert WordEmbedder(fasttext_file()).fit_transform(["the cat"]).shape == (1, 10)  # .bin is read without it
