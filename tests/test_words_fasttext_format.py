"""fastText's own files: its vectors to the bit, and never a file that was cut."""

from __future__ import annotations

import fasttext
import numpy as np
import pytest

from sktransfer.exceptions import WeightsError
from sktransfer.words.fasttext_format import read_fasttext
from tests.word_files import fasttext_file, folder, quantized_file, short, supervised_file

UNKNOWN = ["catt", "dogs", "größen", "東京都", "x", "", "</s>"]


@pytest.mark.parametrize(
    "path", [fasttext_file(), fasttext_file(0, 0), fasttext_file(1, 2), supervised_file()], ids=short
)
def test_words_and_vectors_are_fasttexts_own_to_the_bit(path):
    theirs, ours = fasttext.load_model(str(path)), read_fasttext(path)
    assert ours.words == theirs.get_words()
    for words, rows in ours.blocks():
        for word, row in zip(words, rows):
            np.testing.assert_array_equal(row, theirs.get_word_vector(word), err_msg=word)


@pytest.mark.parametrize("path", [fasttext_file(), fasttext_file(1, 2), supervised_file()], ids=short)
def test_vectors_of_unknown_words_are_fasttexts_own_to_the_bit(path):
    theirs, ours = fasttext.load_model(str(path)), read_fasttext(path)
    unknown = [word for word in UNKNOWN if word not in ours.words]
    expected = np.array([theirs.get_word_vector(word) for word in unknown])
    np.testing.assert_array_equal(ours.subwords.vectors(unknown), expected)
    assert np.abs(expected).max() > 0


def test_models_without_subwords_have_none():
    assert read_fasttext(fasttext_file(0, 0)).subwords is None
    assert read_fasttext(quantized_file()).rows is None


@pytest.mark.parametrize("path", [fasttext_file(), quantized_file()], ids=short)
@pytest.mark.parametrize("share", [0.001, 0.05, 0.5, 0.9, 0.9999])
def test_a_cut_file_is_an_error_that_names_its_end(path, share):
    content = path.read_bytes()
    cut = folder() / f"cut{path.suffix}"
    kept = int(share * len(content))
    cut.write_bytes(content[:kept])
    with pytest.raises(WeightsError, match=rf"ends at byte {kept:,},"):
        read_fasttext(cut)


def test_another_version_is_refused():
    content = bytearray(fasttext_file().read_bytes())
    content[4] = 99
    path = folder() / "version.bin"
    path.write_bytes(bytes(content))
    with pytest.raises(WeightsError, match="version 99"):
        read_fasttext(path)
