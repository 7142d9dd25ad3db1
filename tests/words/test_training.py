"""Training of word vectors: reproducible, from zeroed memory, and continued from existing vectors."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from sktransfer import WordEmbedder
from sktransfer.exceptions import InvalidParameterError, InvalidSampleError, SktransferError
from sktransfer.words import train_process, training
from sktransfer.words.fasttext import read_fasttext
from sktransfer.words.subwords import character_ngrams
from sktransfer.words.training import Training, fit_ngrams, train
from sktransfer.words.vectors import WordVectors
from tests.helpers.word_files import SENTENCES, texts_file

DOCUMENTS = [sentence.split() for sentence in SENTENCES]
HOW = Training(
    n_dims=10, window=3, min_count=5, epochs=3, architecture="skipgram", min_n=3, max_n=5, n_threads=1, seed=1
)
PLAIN = replace(HOW, min_n=0, max_n=0)


@pytest.mark.parametrize("how", [HOW, PLAIN, replace(HOW, architecture="cbow")], ids=["subwords", "words", "cbow"])
def test_train_is_reproducible_by_seed(how):
    first = train(DOCUMENTS, how)
    second, other = train(DOCUMENTS, how), train(DOCUMENTS, replace(how, seed=2))
    assert first.words == second.words
    np.testing.assert_array_equal(first.matrix, second.matrix)
    assert np.abs(first.matrix - other.matrix).max() > 1e-3
    if first.subwords is not None:
        np.testing.assert_array_equal(first["catt"], second["catt"])


def test_train_vocabulary_follows_min_count():
    counted = [word for sentence in DOCUMENTS for word in sentence]
    trained = train([*DOCUMENTS, ["rare"] * 4], HOW)
    assert set(trained.words) == {word for word in counted if counted.count(word) >= 5}
    assert trained.words[0] == max(set(counted), key=counted.count)
    assert np.isfinite(trained.matrix).all()
    assert trained["horsess"].any()  # unknown, and built from subwords
    assert train(DOCUMENTS, PLAIN).subwords is None


def topics(n=400):
    """Return documents of two topics with disjoint words."""
    rng = np.random.default_rng(0)
    words = [[f"a{letter}" for letter in "bcdefghijklmnopqrstu"], [f"z{letter}" for letter in "bcdefghijklmnopqrstu"]]
    return words, [rng.choice(words[i % 2], 20).tolist() for i in range(n)]


def test_train_places_words_of_a_topic_near_each_other():
    _, documents = topics()
    trained = train(documents, replace(PLAIN, epochs=10))
    near = [word[0] for word, _ in trained.similar("ac", 10)]
    assert near.count("a") >= 9


@pytest.mark.parametrize("how", [HOW, PLAIN], ids=["subwords", "words"])
def test_train_from_start_keeps_words_near_their_vectors_and_adds_new_words(how):
    words, documents = topics()
    directions = np.random.default_rng(0).normal(size=(2, 10)) * 2
    general = [word for topic in words for word in topic[1:]]  # "ab" and "zb" are new
    rows = [directions[int(word[0] == "z")] + np.random.default_rng(len(word)).normal(size=10) / 5 for word in general]
    start = WordVectors([*general, "elsewhere"], np.array([*rows, np.ones(10)], np.float32))
    untrained = train(documents, replace(how, epochs=0), start)
    atol = 0.05 if how.subwords else 0  # fastText draws a tenth of the rows at random
    for word in start.words:
        np.testing.assert_allclose(untrained[word], start[word], atol=atol)
    trained = train(documents, replace(how, epochs=10), start)
    moved = np.array([np.linalg.norm(trained[word] - start[word]) / np.linalg.norm(start[word]) for word in general])
    assert 1e-3 < np.median(moved) < 0.5
    np.testing.assert_array_equal(trained["elsewhere"], start["elsewhere"])
    for word, own, other in (("ab", 0, 1), ("zb", 1, 0)):
        cosines = trained[word] @ directions.T / np.linalg.norm(directions, axis=1) / np.linalg.norm(trained[word])
        assert cosines[own] > cosines[other] + 0.5


def test_train_from_start_places_unknown_words_near_words_of_similar_spelling():
    words, documents = topics()
    directions = np.random.default_rng(0).normal(size=(2, 10)) * 2
    general = [word + ending for topic in words for word in topic for ending in ("", "ing")]
    start = WordVectors(general, np.array([directions[int(word[0] == "z")] for word in general], np.float32))
    trained = train([*documents, list(general) * 5], replace(HOW, min_n=2, max_n=3), start)
    for word, own in (("abxing", 0), ("zbxing", 1)):
        cosines = trained[word] @ directions.T / np.linalg.norm(directions, axis=1) / np.linalg.norm(trained[word])
        assert cosines[own] > 0.8


def test_train_rejects_a_start_of_another_vector_size():
    with pytest.raises(InvalidParameterError, match="vector_size=10"):
        train(DOCUMENTS, replace(HOW, n_dims=20), WordVectors(["the"], np.ones((1, 10), np.float32)))


def test_train_without_frequent_words_names_min_count():
    with pytest.raises(InvalidParameterError, match=r"min_count=5 times in 1 texts \(the most frequent 2 times\)"):
        train([["a", "a", "b"]], HOW)
    with pytest.raises(InvalidParameterError, match="hold no words"):
        train([[]], HOW)


def test_train_names_the_row_of_tokens_with_white_space():
    with pytest.raises(InvalidSampleError, match="row 1: the token 'new york'"):
        train([["a"] * 5, ["in", "new york"]], HOW)
    assert "caf\xa0é" in train([["caf\xa0é", "", "__label__x"] * 5], HOW)  # fastText does not split there


def test_train_names_the_row_of_lone_surrogates():
    with pytest.raises(InvalidSampleError, match=r"row 1: .*surrogates.*half of a surrogate pair"):
        train([["a"] * 5, ["a\ud83d"]], HOW)
    assert "caf\udce9" in train([["caf\udce9"] * 5], HOW)  # a byte that is not UTF-8, as in some vector files


def test_train_treats_labels_as_words():
    assert "__label__x" in train([["__label__x", "</s>"] * 5], HOW)


def test_n_buckets_is_the_number_of_ngrams():
    words = [f"word{i}" for i in range(500)]
    n_grams = {n_gram for word in words for n_gram in character_ngrams(word, 3, 5)}
    assert training._n_buckets(words, HOW) == len(n_grams)
    assert training._n_buckets(words, PLAIN) == 0
    assert training._n_buckets(["a"], replace(HOW, min_n=5)) == 1


def test_train_without_epochs_has_small_values():
    trained = train(DOCUMENTS, replace(HOW, epochs=0))
    assert np.abs(trained.matrix).max() <= 0.1
    assert np.abs(trained.subwords.rows).max() <= 0.1


def test_train_reports_the_error_of_fasttext(monkeypatch):
    monkeypatch.setattr(training, "_LEARNING_RATE", 1e30)
    with pytest.raises(SktransferError, match=r"exit status 1\): Encountered NaN"):
        train(DOCUMENTS, HOW)


def test_check_clean_detects_uninitialised_memory():
    rows, used = np.zeros((10, 10), np.float32), np.zeros(10, bool)
    training._check_clean(rows, used, HOW)
    for dirt in (1.0, np.nan, -np.inf):
        rows[3, 3] = dirt
        with pytest.raises(SktransferError, match="memory that was not empty"):
            training._check_clean(rows, used, HOW)
    used[3], rows[3, 3] = True, 1.0
    training._check_clean(rows, used, HOW)
    for dirt in (-2e30, np.nan):  # implausible for trained vectors
        rows[3, 3] = dirt
        with pytest.raises(SktransferError, match="memory that was not empty"):
            training._check_clean(rows, used, HOW)


def test_train_of_tiny_matrices_starts_from_zeros():
    """The allocator serves small chunks from a cache of its own."""
    for seed in range(1, 6):
        trained = train([["a", "b", "c"] * 5], replace(PLAIN, n_dims=8, epochs=1, seed=seed))
        assert np.abs(trained.matrix).max() < 1


def test_train_seed_controls_sampling():
    start = train(DOCUMENTS, PLAIN)  # all words start here, so the start is not random
    one, other = (train(DOCUMENTS, replace(PLAIN, seed=seed), start) for seed in (1, 2))
    assert np.abs(one.matrix - other.matrix).max() > 1e-6


def test_shuffle_orders_documents_by_seed(tmp_path):
    """With documents sorted by class, the last class would dominate the first."""
    path, documents = tmp_path / "texts.txt", [[f"word{row}", "und", "größer"] for row in range(50)]
    orders = []
    for seed in (0, 0, 1):
        _, lengths = training._write_texts(documents, path, 1)
        training._shuffle(path, lengths, seed)
        orders.append(path.read_text("utf-8").splitlines())
        assert sorted(orders[-1]) == sorted(map(" ".join, documents))
    assert orders[0] == orders[1]
    assert orders[0] != orders[2] != list(map(" ".join, documents)) != orders[0]


def concatenated(n_grams):
    return np.array([row for rows in n_grams for row in rows]), np.array([len(rows) for rows in n_grams])


def test_fit_ngrams_equals_ridge_regression():
    rng = np.random.default_rng(0)
    n_grams = [rng.choice(12, n, replace=False).tolist() for n in (3, 5, 1, 4, 6, 2, 3, 3)] + [[]]
    matrix = rng.normal(size=(9, 4)).astype(np.float32)
    means = np.zeros((9, 12))
    for row, some in enumerate(n_grams):
        means[row, some] = 1 / max(len(some), 1)
    expected = np.linalg.solve(means.T @ means + 0.01 * np.eye(12), means.T @ matrix)
    rows = fit_ngrams(*concatenated(n_grams), matrix, 12)
    np.testing.assert_allclose(rows, expected, atol=1e-4)
    assert rows.dtype == np.float32


def test_fit_ngrams_places_unknown_words_near_words_of_similar_spelling():
    rng = np.random.default_rng(0)
    stems = rng.choice(200, (20, 6))  # twenty stems of six n-grams, each with its own meaning
    meanings = rng.normal(size=(20, 10))
    words = [[*stem, 200 + ending] for stem in stems for ending in range(5)]
    rows = fit_ngrams(*concatenated(words), np.repeat(meanings, 5, axis=0).astype(np.float32), 206)
    for stem, meaning in zip(stems, meanings):
        new = rows[[*stem, 205]].mean(0)  # with an ending that no word had
        assert new @ meaning / np.linalg.norm(new) / np.linalg.norm(meaning) > 0.9


def run_train_process(folder, **environment):
    arguments = {"input": str(texts_file()), "dim": 40, "epoch": 0, "minCount": 1, "thread": 1, "verbose": 0}
    arguments |= {"bucket": 3000, "minn": 3, "maxn": 6, "output": ""}
    settings = {"path": sys.path, "arguments": arguments, "model": "skipgram", "save": str(folder / "model.bin")}
    (folder / "settings.json").write_text(json.dumps(settings))
    command = [sys.executable, "-P", train_process.__file__, str(folder / "settings.json")]
    done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    return np.array(read_fasttext(folder / "model.bin").rows)


@pytest.mark.process
@pytest.mark.skipif(sys.platform != "linux", reason="only glibc supports MALLOC_PERTURB_")
def test_train_process_memory_follows_malloc_perturb(tmp_path):
    tenth = 3000 * 40 // 10
    zeros = run_train_process(tmp_path, MALLOC_PERTURB_="255").ravel()
    assert 0 < np.abs(zeros[:tenth]).max() <= 1 / 40  # what fastText draws
    assert not zeros[2 * tenth :].any()
    dirt = run_train_process(tmp_path, MALLOC_PERTURB_="1", MALLOC_MMAP_THRESHOLD_="1000000000").ravel()
    assert dirt[2 * tenth :].any()  # without zeroed memory, fastText keeps its old content


def test_texts_without_words_are_named():
    with pytest.raises(InvalidParameterError, match="the 2 texts hold no words"):
        WordEmbedder(min_count=1).fit(["", ""])
