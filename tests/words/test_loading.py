"""Loaded once, shared, mapped where large, and the same after a pickle or an error."""

from __future__ import annotations

import gzip
import os
import pickle
import shutil

import fasttext
import numpy as np
import pytest

from sktransfer import load_vectors
from sktransfer.exceptions import WeightsError
from sktransfer.words import loading
from tests.helpers.word_files import fasttext_file, keyed_vectors, quantized_file, short, word2vec_file


@pytest.fixture
def _all_is_large(monkeypatch, tmp_path):
    monkeypatch.setattr(loading, "LARGE", 1)
    monkeypatch.setenv("SKTRANSFER_CACHE", str(tmp_path / "cache"))
    loading._load.cache_clear()
    yield
    loading._load.cache_clear()


def is_mapped(array):
    while array is not None and not isinstance(array, np.memmap):
        array = array.base
    return array is not None


def test_a_file_is_loaded_once_a_process():
    assert load_vectors(word2vec_file()) is load_vectors(str(word2vec_file()))
    assert load_vectors(load_vectors(word2vec_file())) is load_vectors(word2vec_file())
    assert not is_mapped(load_vectors(word2vec_file()).matrix)


def test_a_changed_file_is_loaded_anew(tmp_path):
    path = tmp_path / "a.vec"
    path.write_text("a 1 2\n")
    first = load_vectors(path)
    path.write_text("a 1 3\n")
    os.utime(path, ns=(1, 1))
    assert load_vectors(path)["a"].tolist() == [1, 3]
    assert first["a"].tolist() == [1, 2]


@pytest.mark.usefixtures("_all_is_large")
@pytest.mark.parametrize("path", [word2vec_file(n_words=9000), word2vec_file(True, n_words=9000)], ids=short)
def test_large_tables_are_converted_once_and_mapped(path, tmp_path):
    vectors = load_vectors(path)
    keyed = keyed_vectors(9000)
    assert vectors.words == keyed.index_to_key
    np.testing.assert_array_equal(vectors.matrix, keyed.vectors if "True" in path.name else vectors.matrix)
    assert np.abs(vectors.matrix - keyed.vectors).max() < 1e-5
    assert is_mapped(vectors.matrix)
    assert vectors.matrix.flags.aligned
    (folder,) = (tmp_path / "cache" / "vectors").iterdir()
    before = (folder / "matrix.npy").stat().st_mtime_ns
    loading._load.cache_clear()
    assert load_vectors(path) is not vectors
    assert (folder / "matrix.npy").stat().st_mtime_ns == before


@pytest.mark.usefixtures("_all_is_large")
def test_a_large_file_that_is_cut_leaves_nothing_in_the_cache(tmp_path):
    path = tmp_path / "cut.vec"
    path.write_bytes(word2vec_file(n_words=9000).read_bytes()[:-100])
    for _ in range(2):
        with pytest.raises(WeightsError, match=r"line 8999|line 9000|ends at line"):
            load_vectors(path)
    assert list((tmp_path / "cache" / "vectors").iterdir()) == []


@pytest.mark.usefixtures("_all_is_large")
@pytest.mark.parametrize("path", [fasttext_file(), fasttext_file(0, 0)], ids=short)
@pytest.mark.parametrize("packed", [False, True])
def test_fasttext_models_are_mapped_and_equal_to_the_bit(path, packed, tmp_path):
    theirs = fasttext.load_model(str(path))
    if packed:
        archive = tmp_path / "model.bin.gz"
        archive.write_bytes(gzip.compress(path.read_bytes()))
        path = archive
    vectors = load_vectors(path)
    for word in theirs.get_words():
        np.testing.assert_array_equal(vectors[word], theirs.get_word_vector(word))
    assert is_mapped(vectors.matrix)
    if vectors.subwords is not None:
        assert is_mapped(vectors.subwords.rows)
        np.testing.assert_array_equal(vectors["catt"], theirs.get_word_vector("catt"))


def test_a_cut_archive_of_a_model_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setenv("SKTRANSFER_CACHE", str(tmp_path / "cache"))
    archive = tmp_path / "model.bin.gz"
    archive.write_bytes(gzip.compress(fasttext_file().read_bytes())[:-1000])
    with pytest.raises(WeightsError, match=r"model\.bin\.gz"):
        load_vectors(archive)


def test_quantized_models_give_fasttexts_vectors():
    theirs, vectors = fasttext.load_model(str(quantized_file())), load_vectors(quantized_file())
    assert vectors.words == theirs.get_words()
    for word in [*theirs.get_words(), "catt", "größen"]:
        np.testing.assert_array_equal(vectors[word], theirs.get_word_vector(word))


def test_a_pickle_holds_the_path_and_checks_the_content(tmp_path):
    path = tmp_path / "a.vec"
    shutil.copy(word2vec_file(n_words=2000), path)
    vectors = load_vectors(path)
    content = pickle.dumps(vectors)
    assert len(content) < 500
    assert pickle.loads(content) is vectors
    loading._load.cache_clear()
    np.testing.assert_array_equal(pickle.loads(content).matrix, vectors.matrix)
    changed = path.read_text().replace("w7 ", "v7 ")
    path.write_text(changed)
    with pytest.raises(WeightsError, match="another hash"):
        pickle.loads(content)
    with pytest.raises(WeightsError, match="changed since"):
        pickle.dumps(vectors)
    path.unlink()
    with pytest.raises(WeightsError, match="no such file"):
        pickle.loads(content)
