"""Formats of word-vector files: detection by content, and readers equal to those of the original libraries."""

from __future__ import annotations

import gc
import io

import numpy as np
import pytest
from gensim.models import KeyedVectors

from sktransfer import load_vectors
from sktransfer.exceptions import WeightsError
from sktransfer.words.formats import (
    FORMATS,
    Format,
    ParsedVectors,
    is_gzipped,
    read_binary,
    read_head,
    read_text,
    sniff,
)
from tests.helpers.word_files import fasttext_file, folder, keyed_vectors, quantized_file, word2vec_file

CONTENT = word2vec_file(binary=True, n_words=4100).read_bytes()


def read(path):
    parts = list(sniff(path).read(path).blocks)
    return [word for words, _ in parts for word in words], np.concatenate([rows for _, rows in parts])


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # gensim leaves files without a header open
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(("binary", "header"), [(False, True), (False, False), (True, True)])
def test_read_equals_gensim(binary, header, packed):
    path = word2vec_file(binary, header, packed)
    theirs = KeyedVectors.load_word2vec_format(str(path), binary=binary, no_header=not header)
    gc.collect()
    words, rows = read(path)
    assert words == theirs.index_to_key == keyed_vectors().index_to_key
    assert rows.dtype == np.float32
    np.testing.assert_array_equal(rows, theirs.vectors)
    assert is_gzipped(path) is packed


def test_sniff_detects_the_format_by_content():
    files = {
        "word2vec-text": word2vec_file(),
        "glove": word2vec_file(header=False),
        "word2vec-binary": word2vec_file(binary=True),
        "fasttext": fasttext_file(),
    }
    assert {name: sniff(path).name for name, path in files.items()} == {name: name for name in files}
    assert [file_format.name for file_format in FORMATS] == ["fasttext", "word2vec-text", "word2vec-binary", "glove"]
    assert sniff(quantized_file()).name == "fasttext"
    assert read_head(files["word2vec-text"]).counts() == read_head(files["word2vec-binary"]).counts() == (40, 5)
    assert read_head(files["glove"]).counts() is None


def test_sniff_detects_a_format_added_to_formats(monkeypatch, tmp_path):
    path = tmp_path / "vectors.csv"
    path.write_text("word,0,1\ncat,1,2\n")

    def read_csv(path):
        lines = [line.split(",") for line in path.read_text().splitlines()[1:]]
        return ParsedVectors(iter([([line[0] for line in lines], np.array([line[1:] for line in lines], np.float32))]))

    csv = Format("csv", "comma-separated values", lambda head: head.first.startswith(b"word,"), read_csv)
    monkeypatch.setattr("sktransfer.words.formats.FORMATS", (*FORMATS, csv))
    assert load_vectors(path)["cat"].tolist() == [1, 2]
    (tmp_path / "other").write_text("some text\n")
    for given in ("other", "missing"):
        with pytest.raises(WeightsError, match="comma-separated values"):
            load_vectors(tmp_path / given)


@pytest.mark.parametrize("content", [b"", b"just some text\nand more\n", b"word\n", b"\x89PNG\r\n\x1a\n0000"])
def test_sniff_rejects_other_files_and_lists_the_formats(content):
    path = folder() / "other"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=r"not a file of word vectors.*fastText's \.bin"):
        sniff(path)


def test_sniff_rejects_a_header_of_zero_words():
    path = folder() / "nothing.vec"
    path.write_text("0 5\n")
    with pytest.raises(WeightsError, match="promises 0 words"):
        sniff(path)


def test_read_names_a_truncated_archive():
    path = folder() / "cut.gz"
    path.write_bytes(word2vec_file(packed=True, n_words=4000).read_bytes()[:-200])
    with pytest.raises(WeightsError, match=r"cut\.gz"):
        read(path)


@pytest.mark.parametrize("at", [2, 12, 40])
def test_read_names_a_damaged_archive(at, tmp_path):
    content = bytearray(word2vec_file(packed=True).read_bytes())
    content[at : at + 3] = b"\xff\xff\xff"
    path = tmp_path / "damaged.gz"
    path.write_bytes(bytes(content))
    with pytest.raises(WeightsError, match=r"damaged\.gz"):
        list(sniff(path).read(path).blocks)


@pytest.mark.parametrize("line", [b"1 " + b"2" * 50, b"1" * 5000 + b" 2", b"2 2000000"])
def test_sniff_rejects_a_header_of_implausible_numbers(line, tmp_path):
    path = tmp_path / "large.vec"
    path.write_bytes(line + b"\nup 1 2\n")
    with pytest.raises(WeightsError, match="first line promises"):
        sniff(path)


def test_read_text_rejects_numbers_out_of_range_without_a_warning(tmp_path):
    path = tmp_path / "large.vec"
    path.write_bytes(b"up 1 2\ndown 1e60 2\n")
    with pytest.raises(WeightsError, match="line 2: a number is not finite"):
        list(sniff(path).read(path).blocks)


def read_text_blocks(text, n_words, n_dims):
    parts = list(read_text(io.BytesIO(text.encode()), "some.vec", n_words=n_words, n_dims=n_dims))
    return [word for words, _ in parts for word in words], np.concatenate([rows for _, rows in parts])


def test_read_text_keeps_blanks_in_words_and_strips_the_end_of_lines():
    words, rows = read_text_blocks("3 2\n. . . 1 2\nb 3 4 \n\xa0 5e-1 -6\n\n", 3, 2)
    assert words == [". . .", "b", "\xa0"]
    np.testing.assert_array_equal(rows, np.array([[1, 2], [3, 4], [0.5, -6]], np.float32))


def test_read_text_joins_blocks():
    words, rows = read_text_blocks("".join(f"w{i} {i}\n" for i in range(10_000)), None, 1)
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
def test_read_text_names_an_invalid_line(text, n_words, message):
    with pytest.raises(WeightsError, match=message):
        read_text_blocks(text, n_words, 2)


def test_read_text_keeps_bytes_that_are_not_utf8():
    file = io.BytesIO(b"caf\xe9 1 2\n")
    ((words, _),) = read_text(file, "x", n_words=None, n_dims=2)
    assert words[0].encode("utf-8", "surrogateescape") == b"caf\xe9"


def read_binary_blocks(content, n_words=4100, n_dims=5):
    parts = list(read_binary(io.BytesIO(content), "some.bin", n_words=n_words, n_dims=n_dims))
    return [word for words, _ in parts for word in words], np.concatenate([rows for _, rows in parts])


def test_read_binary_accepts_words_with_and_without_line_ends():
    plain = b"2 1\na " + np.float32(1).tobytes() + b"b " + np.float32(2).tobytes()
    lines = b"2 1\na " + np.float32(1).tobytes() + b"\nb " + np.float32(2).tobytes() + b"\n"
    for content in (plain, lines):
        words, rows = read_binary_blocks(content, 2, 1)
        assert words == ["a", "b"]
        assert rows[:, 0].tolist() == [1, 2]


@pytest.mark.parametrize("kept", [20, 1000, len(CONTENT) // 2, len(CONTENT) - 3])
def test_read_binary_names_the_byte_of_a_truncated_file(kept):
    with pytest.raises(WeightsError, match=rf"some\.bin, byte {kept:,}: it ends in word [\d,]+ of 4,100"):
        read_binary_blocks(CONTENT[:kept])


def test_read_binary_names_the_byte_of_a_damaged_file():
    with pytest.raises(WeightsError, match=r"byte \d+: a value of word 1 is not finite"):
        read_binary_blocks(b"1 1\na " + np.float32(np.nan).tobytes(), 1, 1)
    with pytest.raises(WeightsError, match=r"byte 4: word 1 has no end"):
        read_binary_blocks(b"1 1\n" + b"x" * 30_000, 1, 1)


def test_read_binary_does_not_depend_on_chunk_size(monkeypatch):
    monkeypatch.setattr("sktransfer.words.formats._CHUNK", 7)
    words, rows = read_binary_blocks(CONTENT[:], 300)
    monkeypatch.undo()
    expected, expected_rows = read_binary_blocks(CONTENT, 300)
    assert words == expected
    np.testing.assert_array_equal(rows, expected_rows)
