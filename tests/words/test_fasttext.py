"""Reader of fastText models, compared with the package fasttext, and on damaged files."""

from __future__ import annotations

import functools
import mmap
import struct
import sys

import fasttext
import numpy as np
import pytest

from sktransfer import load_vectors
from sktransfer.exceptions import WeightsError
from sktransfer.words.fasttext import Reader, read_fasttext
from tests.helpers.word_files import SENTENCES, fasttext_file, folder, quantized_file, short, supervised_file

UNKNOWN = ["catt", "dogs", "größen", "東京都", "x", "", "</s>"]

SETTINGS = {
    "pruned, with norms": {"cutoff": 300, "qnorm": True},
    "pruned": {"cutoff": 280, "qnorm": False},
    "whole": {"qnorm": True},
    "parts that do not divide the dimensions": {"cutoff": 300, "qnorm": True, "dsub": 3},
    "output quantized too": {"cutoff": 300, "qnorm": True, "qout": True},
}


@pytest.mark.parametrize(
    "path", [fasttext_file(), fasttext_file(0, 0), fasttext_file(1, 2), supervised_file()], ids=short
)
def test_read_fasttext_words_and_vectors_are_bit_equal(path):
    theirs, ours = fasttext.load_model(str(path)), read_fasttext(path)
    assert ours.words == theirs.get_words()
    for words, rows in ours.blocks():
        for word, row in zip(words, rows):
            np.testing.assert_array_equal(row, theirs.get_word_vector(word), err_msg=word)


@pytest.mark.parametrize("path", [fasttext_file(), fasttext_file(1, 2), supervised_file()], ids=short)
def test_read_fasttext_subword_vectors_are_bit_equal(path):
    theirs, ours = fasttext.load_model(str(path)), read_fasttext(path)
    unknown = [word for word in UNKNOWN if word not in ours.words]
    expected = np.array([theirs.get_word_vector(word) for word in unknown])
    np.testing.assert_array_equal(ours.subwords.vectors(unknown), expected)
    assert np.abs(expected).max() > 0


def test_read_fasttext_without_subwords():
    assert read_fasttext(fasttext_file(0, 0)).subwords is None


@pytest.mark.parametrize("path", [fasttext_file(), quantized_file()], ids=short)
@pytest.mark.parametrize("share", [0.001, 0.05, 0.5, 0.9, 0.9999])
def test_read_fasttext_names_the_end_of_a_truncated_file(path, share):
    content = path.read_bytes()
    cut = folder() / f"cut{path.suffix}"
    kept = int(share * len(content))
    cut.write_bytes(content[:kept])
    with pytest.raises(WeightsError, match=rf"ends at byte {kept:,},"):
        read_fasttext(cut)


def changed(at, *numbers):
    """Return a model with other numbers at an offset. The settings are at 8, the vocabulary's counts at 64."""
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
    ids=lambda value: "",
)
def test_read_fasttext_rejects_inconsistent_settings(path, match):
    with pytest.raises(WeightsError, match=match):
        read_fasttext(path)


def test_read_fasttext_blocks_name_the_word_of_a_vector_that_is_not_finite():
    model = read_fasttext(fasttext_file(0, 0))
    content = bytearray(fasttext_file(0, 0).read_bytes())
    at = content.index(model.rows[3].tobytes())
    content[at : at + 4] = np.float32(np.inf).tobytes()
    path = folder() / "infinite.bin"
    path.write_bytes(bytes(content))
    with pytest.raises(WeightsError, match=f"vector of '{model.words[3]}' is not finite"):
        list(read_fasttext(path).blocks())


def test_read_fasttext_rejects_other_versions():
    content = bytearray(fasttext_file().read_bytes())
    content[4] = 99
    path = folder() / "version.bin"
    path.write_bytes(bytes(content))
    with pytest.raises(WeightsError, match="version 99"):
        read_fasttext(path)


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
def test_quantized_vectors_equal_fasttext(name):
    theirs, ours = fasttext.load_model(str(quantized(name))), load_vectors(quantized(name))
    assert ours.words == theirs.get_words()
    words = [*theirs.get_words(), "catt", "straßen", "東京都", "x"]
    np.testing.assert_array_equal(ours.subwords.vectors(["a\ud83d"]).shape, (1, 10))  # a lone surrogate is allowed
    for word in words:
        expected = theirs.get_word_vector(word)
        vector = ours[word] if word in ours else ours.subwords.vectors([word])[0]
        np.testing.assert_array_equal(vector, expected, err_msg=word)


def test_quantized_rows_are_decoded_on_access():
    rows = load_vectors(quantized_file()).subwords.rows
    assert rows.shape == (len(rows), 10)
    np.testing.assert_array_equal(rows[3:5], rows[np.array([3, 4])])
    assert rows[:0].shape == (0, 10)


@pytest.mark.parametrize(
    ("what", "match"), [("cut", "should take .* bytes"), ("codes", "has .* codes"), ("parts", "cuts")]
)
def test_read_quantized_rejects_an_inconsistent_matrix(what, match, tmp_path):
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


def test_load_vectors_of_ftz_does_not_need_the_package(monkeypatch, tmp_path):
    path = tmp_path / "another.ftz"
    path.write_bytes(quantized_file().read_bytes())
    monkeypatch.setitem(sys.modules, "fasttext_pybind", None)
    assert len(load_vectors(path)) > 10


@pytest.fixture
def reader(tmp_path):
    path = tmp_path / "file.bin"
    path.write_bytes(struct.pack("<iq", -2, 3) + b"word\0rest")
    with path.open("rb") as file:
        return Reader(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), str(path))


def test_reader_advances_through_the_parts(reader):
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
def test_reader_names_the_part_and_byte_of_a_truncated_file(reader, act, match):
    with pytest.raises(WeightsError, match=match) as caught:
        act(reader)
    assert "file.bin" in str(caught.value)
