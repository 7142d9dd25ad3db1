from __future__ import annotations

import numpy as np
import pytest

from sktransfer import WordEmbedder, load, load_vectors, save
from sktransfer.exceptions import LoadError
from tests.helpers import word_files
from tests.helpers.forged_files import forge, json_node, node_data
from tests.helpers.saved_estimators import TEXTS


def test_word_vectors_of_a_file_are_saved_by_path_and_hash_or_embedded(tmp_path):
    path = tmp_path / "small.vec"
    path.write_text("film 1 2\nhours 1 1\ndull 2 1\nminute 3 4\n")
    embedder = WordEmbedder(load_vectors(path), oov="zero").fit(TEXTS)
    save(embedder, tmp_path / "reference")
    save(embedder, tmp_path / "embedded", weights="embed")
    assert load(tmp_path / "reference").embedding_ is load_vectors(path)
    path.write_text("film 1 2\nhours 1 1\ndull 2 1\nminute 3 5\n")
    with pytest.raises(LoadError, match=r"is not the file that the estimator was fitted with.*another hash"):
        load(tmp_path / "reference")
    path.unlink()
    with pytest.raises(LoadError, match="there is no such file"):
        load(tmp_path / "reference")
    assert np.array_equal(load(tmp_path / "embedded").transform(TEXTS), embedder.transform(TEXTS))


def test_word_vectors_path_must_be_a_regular_file(tmp_path):
    path = tmp_path / "small.vec"
    path.write_text("film 1 2\nhours 1 1\ndull 2 1\nminute 3 4\n")
    save(WordEmbedder(load_vectors(path)).fit(TEXTS), tmp_path / "one")

    def change(schema):
        for vectors in node_data(schema, "WordVectors"):
            vectors["path"] = json_node("/dev/zero")

    forge(tmp_path / "one", schema=change)
    with pytest.raises(LoadError, match="is not a regular file"):
        load(tmp_path / "one")


def test_quantized_word_vectors_are_unpacked_when_embedded(tmp_path):
    embedder = WordEmbedder(load_vectors(word_files.quantized_file())).fit(TEXTS)
    for weights in ("reference", "embed"):
        save(embedder, tmp_path / "one", weights=weights)
        assert np.array_equal(load(tmp_path / "one").transform(TEXTS), embedder.transform(TEXTS))
