"""Word vectors loaded from files and objects: shared, memory-mapped if large, and verified on unpickling."""

from __future__ import annotations

import gzip
import os
import pickle
import shutil

import fasttext
import numpy as np
import pytest
import spacy
from gensim.models import FastText
from sklearn.base import clone

from sktransfer import WordEmbedder, load_vectors
from sktransfer._utils import cache_folder
from sktransfer.exceptions import InvalidParameterError, WeightsError
from sktransfer.words import loading
from sktransfer.words.loading import cached_folder, source_of
from tests.helpers.word_files import SENTENCES, fasttext_file, keyed_vectors, quantized_file, short, word2vec_file


@pytest.fixture
def _every_file_is_large(monkeypatch, tmp_path):
    monkeypatch.setattr(loading, "LARGE", 1)
    monkeypatch.setenv("SKTRANSFER_CACHE", str(tmp_path / "cache"))
    loading._load.cache_clear()
    yield
    loading._load.cache_clear()


def is_mapped(array):
    while array is not None and not isinstance(array, np.memmap):
        array = array.base
    return array is not None


def test_load_vectors_reads_a_file_once_per_process():
    assert load_vectors(word2vec_file()) is load_vectors(str(word2vec_file()))
    assert load_vectors(load_vectors(word2vec_file())) is load_vectors(word2vec_file())
    assert not is_mapped(load_vectors(word2vec_file()).matrix)


def test_load_vectors_reads_a_changed_file_again(tmp_path):
    path = tmp_path / "a.vec"
    path.write_text("a 1 2\n")
    first = load_vectors(path)
    path.write_text("a 1 3\n")
    os.utime(path, ns=(1, 1))
    assert load_vectors(path)["a"].tolist() == [1, 3]
    assert first["a"].tolist() == [1, 2]


@pytest.mark.usefixtures("_every_file_is_large")
@pytest.mark.parametrize("path", [word2vec_file(n_words=9000), word2vec_file(True, n_words=9000)], ids=short)
def test_load_vectors_converts_large_files_once_and_maps_them(path, tmp_path):
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


@pytest.mark.usefixtures("_every_file_is_large")
def test_load_vectors_of_a_truncated_large_file_leaves_the_cache_empty(tmp_path):
    path = tmp_path / "cut.vec"
    path.write_bytes(word2vec_file(n_words=9000).read_bytes()[:-100])
    for _ in range(2):
        with pytest.raises(WeightsError, match=r"line 8999|line 9000|ends at line"):
            load_vectors(path)
    assert list((tmp_path / "cache" / "vectors").iterdir()) == []


@pytest.mark.usefixtures("_every_file_is_large")
@pytest.mark.parametrize("path", [fasttext_file(), fasttext_file(0, 0)], ids=short)
@pytest.mark.parametrize("packed", [False, True])
def test_load_vectors_maps_fasttext_models_bit_equal(path, packed, tmp_path):
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


def test_load_vectors_names_a_truncated_archive_of_a_model(tmp_path, monkeypatch):
    monkeypatch.setenv("SKTRANSFER_CACHE", str(tmp_path / "cache"))
    archive = tmp_path / "model.bin.gz"
    archive.write_bytes(gzip.compress(fasttext_file().read_bytes())[:-1000])
    with pytest.raises(WeightsError, match=r"model\.bin\.gz"):
        load_vectors(archive)


def test_load_vectors_of_quantized_models_equals_fasttext():
    theirs, vectors = fasttext.load_model(str(quantized_file())), load_vectors(quantized_file())
    assert vectors.words == theirs.get_words()
    for word in [*theirs.get_words(), "catt", "größen"]:
        np.testing.assert_array_equal(vectors[word], theirs.get_word_vector(word))


def test_pickle_of_loaded_vectors_holds_the_path_and_verifies_the_content(tmp_path):
    path = tmp_path / "a.vec"
    shutil.copy(word2vec_file(n_words=2000), path)
    vectors = load_vectors(path)
    content = pickle.dumps(vectors)
    assert len(content) < 500
    assert pickle.loads(content).index is vectors.index
    loading._load.cache_clear()
    np.testing.assert_array_equal(pickle.loads(content).matrix, vectors.matrix)
    changed = path.read_text().replace("w7 ", "v7 ")
    path.write_text(changed)
    with pytest.raises(WeightsError, match="another hash"):
        len(pickle.loads(content))
    with pytest.raises(WeightsError, match="changed since"):
        pickle.dumps(vectors)
    path.unlink()
    with pytest.raises(WeightsError, match="no such file"):
        len(pickle.loads(content))


def test_source_of_a_missing_file_lists_the_formats(tmp_path):
    with pytest.raises(WeightsError, match=r"no such file.*Did you mean 'fasttext'.*\.bin"):
        source_of("fastext")
    with pytest.raises(WeightsError, match="it is a folder"):
        source_of(tmp_path)


def test_source_of_a_changed_file_differs(tmp_path):
    path = tmp_path / "a.vec"
    path.write_text("a 1 2\n")
    before = source_of(path)
    assert source_of(path) == before
    assert source_of(path).key(1) == before.key(1) != before.key(2)
    digest = before.digest()
    path.write_text("a 1 3\n")
    os.utime(path, ns=(before.modified + 1, before.modified + 1))
    assert source_of(path) != before
    assert source_of(path).digest() != digest
    with pytest.raises(WeightsError, match="has changed since its vectors were read"):
        before.digest()


def test_cache_folder_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("SKTRANSFER_CACHE", str(tmp_path / "one"))
    assert cache_folder() == tmp_path / "one"
    monkeypatch.delenv("SKTRANSFER_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "sktransfer"


def test_cached_folder_is_created_once_and_complete(monkeypatch, tmp_path):
    monkeypatch.setenv("SKTRANSFER_CACHE", str(tmp_path))
    made = []

    def make(folder):
        made.append(folder)
        (folder / "x").write_text("done")

    def crash(folder):
        (folder / "x").write_text("half")
        raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError, match="in the middle"):
        cached_folder("key", crash)
    assert list((tmp_path / "vectors").iterdir()) == []
    assert (cached_folder("key", make) / "x").read_text() == "done"
    cached_folder("key", make)
    assert len(made) == 1


def test_cached_folder_of_concurrent_writers_is_the_first(monkeypatch, tmp_path):
    monkeypatch.setenv("SKTRANSFER_CACHE", str(tmp_path))

    def make(folder):
        (folder / "x").write_text("second")
        cached_folder("key", lambda other: (other / "x").write_text("first"))

    assert (cached_folder("key", make) / "x").read_text() == "first"
    assert [path.name for path in (tmp_path / "vectors").iterdir()] == ["key"]


def test_cached_folder_that_is_not_writable_names_the_environment_variable(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SKTRANSFER_CACHE", str(tmp_path / "file"))
    with pytest.raises(WeightsError, match="SKTRANSFER_CACHE"):
        cached_folder("key", lambda folder: None)


def test_load_vectors_shares_memory_with_keyed_vectors():
    keyed = keyed_vectors()
    vectors = load_vectors(keyed)
    assert np.shares_memory(vectors.matrix, keyed.vectors)
    assert vectors.index is keyed.key_to_index
    assert keyed.vectors.flags.writeable  # the caller's array is unchanged
    for word in keyed.index_to_key:
        np.testing.assert_array_equal(vectors[word], keyed[word])


def test_clone_shares_wrapped_vectors_and_copies_keyed_vectors():
    keyed = keyed_vectors()
    shared, copied = clone(WordEmbedder(load_vectors(keyed))), clone(WordEmbedder(keyed))
    assert np.shares_memory(shared.model.matrix, keyed.vectors)
    assert not np.shares_memory(copied.model.vectors, keyed.vectors)  # as the docstring says
    texts = ["w1 w2", "w3"]
    np.testing.assert_array_equal(shared.fit_transform(texts), copied.fit_transform(texts))


def test_load_vectors_of_gensim_fasttext_builds_unknown_words():
    model = FastText([line.split() for line in SENTENCES], vector_size=8, min_count=5, bucket=500, epochs=1, seed=0)
    for given in (model, model.wv):
        vectors = load_vectors(given)
        for word in ("cat", "catt", "größen"):
            np.testing.assert_allclose(vectors[word], model.wv[word], atol=1e-6)
    assert np.shares_memory(vectors.subwords.rows, model.wv.vectors_ngrams)


@pytest.fixture
def nlp():
    language = spacy.blank("en")
    for word, row in zip(("cat", "dog", "größe"), np.arange(9, dtype=np.float32).reshape(3, 3)):
        language.vocab.set_vector(word, row)
    return language


def test_load_vectors_of_spacy_objects(nlp):
    for given in (nlp, nlp.vocab, nlp.vocab.vectors):
        vectors = load_vectors(given)
        assert vectors.words == ["cat", "dog", "größe"]
        for word in vectors.words:
            np.testing.assert_array_equal(vectors[word], nlp.vocab[word].vector)
    assert np.shares_memory(vectors.matrix, nlp.vocab.vectors.data)


def test_load_vectors_of_spacy_words_that_share_a_row(nlp):
    nlp.vocab.strings.add("hound")
    nlp.vocab.vectors.add("hound", row=1)
    vectors = load_vectors(nlp)
    assert set(vectors.words) == {"cat", "dog", "größe", "hound"}
    np.testing.assert_array_equal(vectors["hound"], [3, 4, 5])


@pytest.mark.parametrize("given", [None, 3, object(), {"a": 1}, np.ones(3)])
def test_load_vectors_rejects_other_objects_and_lists_the_supported(given):
    with pytest.raises(InvalidParameterError, match="KeyedVectors"):
        load_vectors(given)


def test_load_vectors_rejects_objects_without_vectors():
    with pytest.raises(InvalidParameterError, match="0 words"):
        load_vectors(spacy.blank("en"))
