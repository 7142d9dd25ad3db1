"""Formats are told by content; each is read as the library that wrote it reads it."""

from __future__ import annotations

import gc

import numpy as np
import pytest
from gensim.models import KeyedVectors

from sktransfer.exceptions import WeightsError
from sktransfer.words.formats import Format, is_gzipped, read_blocks, sniff
from tests.helpers.word_files import fasttext_file, folder, keyed_vectors, quantized_file, word2vec_file


def read(path):
    parts = list(read_blocks(path, sniff(path)))
    return [word for words, _ in parts for word in words], np.concatenate([rows for _, rows in parts])


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # gensim leaves files without a header open
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(("binary", "header"), [(False, True), (False, False), (True, True)])
def test_tables_are_read_to_the_bit_as_gensim_reads_them(binary, header, packed):
    path = word2vec_file(binary, header, packed)
    theirs = KeyedVectors.load_word2vec_format(str(path), binary=binary, no_header=not header)
    gc.collect()
    words, rows = read(path)
    assert words == theirs.index_to_key == keyed_vectors().index_to_key
    assert rows.dtype == np.float32
    np.testing.assert_array_equal(rows, theirs.vectors)
    assert is_gzipped(path) is packed


def test_formats_are_told_by_their_content():
    assert sniff(word2vec_file()) == Format("text", 40, 5)
    assert sniff(word2vec_file(header=False)) == Format("text", None, 5)
    assert sniff(word2vec_file(binary=True)) == Format("binary", 40, 5)
    assert sniff(fasttext_file()).kind == sniff(quantized_file()).kind == "fasttext"


@pytest.mark.parametrize("content", [b"", b"just some text\nand more\n", b"word\n", b"\x89PNG\r\n\x1a\n0000"])
def test_other_files_are_refused_with_what_can_be_read(content):
    path = folder() / "other"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=r"no file of word vectors.*fastText's \.bin"):
        sniff(path)


def test_a_header_that_promises_nothing_is_refused():
    path = folder() / "nothing.vec"
    path.write_text("0 5\n")
    with pytest.raises(WeightsError, match="promises 0 words"):
        sniff(path)


def test_a_cut_archive_is_an_error_of_the_file():
    path = folder() / "cut.gz"
    path.write_bytes(word2vec_file(packed=True, n_words=4000).read_bytes()[:-200])
    with pytest.raises(WeightsError, match=r"cut\.gz"):
        read(path)


@pytest.mark.parametrize("at", [2, 12, 40])
def test_a_damaged_archive_is_an_error_of_the_file(at, tmp_path):
    content = bytearray(word2vec_file(packed=True).read_bytes())
    content[at : at + 3] = b"\xff\xff\xff"
    path = tmp_path / "damaged.gz"
    path.write_bytes(bytes(content))
    with pytest.raises(WeightsError, match=r"damaged\.gz"):
        list(read_blocks(path, sniff(path)))


@pytest.mark.parametrize("line", [b"1 " + b"2" * 50, b"1" * 5000 + b" 2", b"2 2000000"])
def test_a_header_that_promises_too_much_is_refused(line, tmp_path):
    path = tmp_path / "large.vec"
    path.write_bytes(line + b"\nup 1 2\n")
    with pytest.raises(WeightsError, match="first line promises"):
        sniff(path)


def test_a_number_too_large_is_told_of_without_a_warning(tmp_path):
    path = tmp_path / "large.vec"
    path.write_bytes(b"up 1 2\ndown 1e60 2\n")
    with pytest.raises(WeightsError, match="line 2: a number is not finite"):
        list(read_blocks(path, sniff(path)))
