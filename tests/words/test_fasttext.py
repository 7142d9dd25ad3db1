"""fastText's own files: its vectors to the bit, and never a file that was cut."""

from __future__ import annotations

import fasttext
import numpy as np
import pytest

from sktransfer.exceptions import WeightsError
from sktransfer.words.fasttext import read_fasttext
from tests.helpers.word_files import fasttext_file, folder, quantized_file, short, supervised_file

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


@pytest.mark.parametrize("path", [fasttext_file(), quantized_file()], ids=short)
@pytest.mark.parametrize("share", [0.001, 0.05, 0.5, 0.9, 0.9999])
def test_a_cut_file_is_an_error_that_names_its_end(path, share):
    content = path.read_bytes()
    cut = folder() / f"cut{path.suffix}"
    kept = int(share * len(content))
    cut.write_bytes(content[:kept])
    with pytest.raises(WeightsError, match=rf"ends at byte {kept:,},"):
        read_fasttext(cut)


def changed(at, *numbers):
    """Return a model with other numbers at some place: the settings are at 8, the vocabulary's counts at 64."""
    content = bytearray(fasttext_file().read_bytes())
    for number, value in enumerate(numbers):
        if value is not None:
            content[at + 4 * number : at + 4 * number + 4] = int(value).to_bytes(4, "little", signed=True)
    path = folder() / f"changed {at} {numbers}.bin"
    path.write_bytes(bytes(content))
    return path


@pytest.mark.parametrize(
    ("path", "match"),
    [
        (changed(8, 11), "matrix has 10 columns, its settings say 11"),
        (changed(8 + 32, 10**6), r"matrix has [\d,]+ rows for [\d,]+ words"),
        (changed(8 + 36, 5, 4), "parts of words of 5 to 4 characters"),
        (changed(8 + 36, 1, 10**6), "parts of words of 1 to 1,000,000 characters"),
        (changed(64, 0, 0), "vocabulary has 0 words of 0"),
        (changed(64, None, 3), r"vocabulary has [\d,]+ words of 3"),
    ],
    ids=lambda one: "",
)
def test_settings_that_do_not_fit_the_file_are_refused(path, match):
    with pytest.raises(WeightsError, match=match):
        read_fasttext(path)


def test_a_vector_that_is_not_finite_is_refused_with_its_word():
    model = read_fasttext(fasttext_file(0, 0))
    content = bytearray(fasttext_file(0, 0).read_bytes())
    at = content.index(model.rows[3].tobytes())
    content[at : at + 4] = np.float32(np.inf).tobytes()
    path = folder() / "infinite.bin"
    path.write_bytes(bytes(content))
    with pytest.raises(WeightsError, match=f"vector of '{model.words[3]}' is not finite"):
        list(read_fasttext(path).blocks())


def test_another_version_is_refused():
    content = bytearray(fasttext_file().read_bytes())
    content[4] = 99
    path = folder() / "version.bin"
    path.write_bytes(bytes(content))
    with pytest.raises(WeightsError, match="version 99"):
        read_fasttext(path)
