from __future__ import annotations

import numpy as np
import pytest

from sktransfer import WordEmbedder, load, load_vectors, save
from sktransfer.exceptions import LoadError, SaveError
from sktransfer.persistence.parts import Loading, Saving
from sktransfer.persistence.word_vectors import CODECS, find_words
from sktransfer.words.pooling import Weights
from sktransfer.words.vectors import WordVectors
from tests.helpers import word_files
from tests.helpers.forged_files import forge, parts, plain
from tests.helpers.saved_estimators import TEXTS, made, words


def round_trip(value, **options):
    saving = Saving(options.get("embed", True))
    codec = find_words(value)
    data = codec.encode(value, saving)
    return Loading(saving.tensors, {one.kind: one for one in CODECS}).build(codec.kind, data)


def test_words_of_all_kinds_come_back_in_their_order():
    listed = ["東京", "café", "", "a b", "\ud800", "\udc80x", "\x00", "up", "up"]
    vectors = WordVectors(listed, np.arange(18, dtype=np.float32).reshape(9, 2))
    again = round_trip(vectors)
    assert list(again.words) == listed
    assert again.index == vectors.index
    assert np.array_equal(again.matrix, vectors.matrix)
    assert not again.matrix.flags.writeable


@pytest.mark.parametrize("model", ["fasttext", "word2vec"])
def test_trained_vectors_build_unknown_words_as_before(model):
    vectors = words(model=model).embedding_
    again = round_trip(vectors, embed=False)
    assert again.nearest(vectors["cat"], 5) == vectors.nearest(vectors["cat"], 5)
    if model == "fasttext":
        unknown = ["catt", "größer", "x"]
        assert np.array_equal(again.subwords.vectors(unknown), vectors.subwords.vectors(unknown))


def test_weights_of_words_come_back():
    weights = Weights({"a": 0.1, "東": 1 / 3}, 2.5)
    assert round_trip(weights) == weights


def test_vectors_of_a_file_are_found_again_by_path_and_hash(tmp_path):
    path = tmp_path / "small.vec"
    path.write_text("film 1 2\nminute 3 4\n")
    embedder = WordEmbedder(load_vectors(path), oov="zero").fit(TEXTS)
    save(embedder, tmp_path / "named")
    save(embedder, tmp_path / "whole", weights="embed")
    assert load(tmp_path / "named").embedding_ is load_vectors(path)
    path.write_text("film 1 2\nminute 3 5\n")
    with pytest.raises(LoadError, match=r"is not the file that the estimator was fitted with.*another hash"):
        load(tmp_path / "named")
    path.unlink()
    with pytest.raises(LoadError, match="there is no such file"):
        load(tmp_path / "named")
    assert np.array_equal(load(tmp_path / "whole").transform(TEXTS), embedder.transform(TEXTS))


def test_a_path_that_is_no_file_is_not_opened(tmp_path):
    path = tmp_path / "small.vec"
    path.write_text("film 1 2\nminute 3 4\n")
    save(WordEmbedder(load_vectors(path)).fit(TEXTS), tmp_path / "one")

    def change(schema):
        for vectors in parts(schema, "WordVectors"):
            vectors["path"] = plain("/dev/zero")

    forge(tmp_path / "one", schema=change)
    with pytest.raises(LoadError, match="is no regular file"):
        load(tmp_path / "one")


def test_quantized_vectors_are_unpacked_where_they_are_embedded(tmp_path):
    embedder = WordEmbedder(load_vectors(word_files.quantized_file())).fit(TEXTS)
    for weights in ("reference", "embed"):
        save(embedder, tmp_path / "one", weights=weights)
        assert np.array_equal(load(tmp_path / "one").transform(TEXTS), embedder.transform(TEXTS))


def test_builders_that_are_not_known_cannot_be_saved():
    class Builder:
        def vectors(self, words):
            return np.zeros((len(words), 1), np.float32)

    vectors = WordVectors(["a"], np.zeros((1, 1), np.float32), subwords=Builder())
    with pytest.raises(SaveError, match="made by Builder"):
        round_trip(vectors)


def forged(change):
    saving = Saving(True)
    data = find_words(made("WordEmbedder").embedding_).encode(made("WordEmbedder").embedding_, saving)
    tensors = {name.partition("/")[2]: value for name, value in saving.tensors.items()}
    change(tensors, data)
    loading = Loading({f"0/{name}": value for name, value in tensors.items()}, {one.kind: one for one in CODECS})
    return loading.build("WordVectors", data)


@pytest.mark.parametrize(
    "change",
    [
        lambda tensors, data: tensors.update(ends=tensors["ends"] + 1),
        lambda tensors, data: tensors.update(ends=-tensors["ends"]),
        lambda tensors, data: tensors.update(ends=tensors["ends"].double()),
        lambda tensors, data: tensors.update(text=tensors["text"][:-1]),
        lambda tensors, data: tensors.update(text=tensors["text"] | 0x80),
        lambda tensors, data: tensors.update(matrix=tensors["matrix"][:1]),
        lambda tensors, data: tensors.update(matrix=tensors["matrix"][0]),
        lambda tensors, data: tensors.update(matrix=tensors["matrix"].double()),
        lambda tensors, data: tensors.update(rows=tensors["rows"][:, :3]),
        lambda tensors, data: tensors.pop("rows"),
        lambda tensors, data: data["subwords"].update(n_buckets=10**12),
        lambda tensors, data: data["subwords"].update(first=-5),
        lambda tensors, data: data["subwords"].update(max_n=0),
        lambda tensors, data: data["subwords"].update(max_n=10**9),
    ],
)
def test_vectors_that_do_not_fit_each_other_are_refused(change):
    forged(lambda tensors, data: None)
    with pytest.raises(LoadError):
        forged(change)
