"""`WordEmbedder`: poolings, policies, sources of vectors, training and pickling."""

from __future__ import annotations

import pickle
import unicodedata
import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

from sktransfer import WordEmbedder, load_vectors
from sktransfer.exceptions import InvalidParameterError, InvalidSampleError, UnknownWordsWarning, WeightsError
from sktransfer.words.tokenizing import split_words
from sktransfer.words.vectors import WordVectors
from tests.helpers.word_files import SENTENCES, fasttext_file, keyed_vectors, quantized_file, short, word2vec_file

SMALL = {"vector_size": 8, "epochs": 2, "random_state": 0}
TEXTS = [*SENTENCES[:4], "", "!?", "an unheard-of ocelot"]


def test_transform_returns_the_mean_of_the_word_vectors():
    embedder = WordEmbedder(fasttext_file()).fit(TEXTS)
    features = embedder.transform(TEXTS)
    assert features.dtype == np.float32
    for text, row in zip(TEXTS, features):
        words = split_words(text.lower())
        expected = np.mean([embedder.embedding_[word] for word in words], axis=0) if words else np.zeros(10)
        np.testing.assert_allclose(row, expected, atol=1e-6)


@pytest.mark.parametrize("pooling", ["mean", "tfidf", "sif", "max", "mean+max"])
def test_transform_does_not_depend_on_block_size(pooling, monkeypatch):
    embedder = WordEmbedder(fasttext_file(), pooling=pooling).fit(SENTENCES)
    expected = embedder.transform(TEXTS)
    assert expected.shape == (len(TEXTS), 20 if pooling == "mean+max" else 10)
    monkeypatch.setattr("sktransfer.featurizers.words._BLOCK", 3)
    np.testing.assert_allclose(embedder.transform(TEXTS), expected, atol=1e-7)
    np.testing.assert_allclose(np.concatenate([embedder.transform([text]) for text in TEXTS]), expected, atol=1e-7)


def test_pooling_sif_and_tfidf_depend_on_the_training_texts_only():
    for pooling in ("sif", "tfidf"):
        one = WordEmbedder(fasttext_file(), pooling=pooling).fit(SENTENCES[:2])
        other = WordEmbedder(fasttext_file(), pooling=pooling).fit(SENTENCES[2:4])
        before = one.transform(TEXTS)
        one.transform(SENTENCES[2:4])
        np.testing.assert_array_equal(one.transform(TEXTS), before)
        assert np.abs(before - other.transform(TEXTS)).max() > 1e-3


def test_pooling_sif_removes_the_common_direction():
    texts = SENTENCES[:4] * 3
    embedder = WordEmbedder(fasttext_file(), pooling="sif").fit(texts)
    features = embedder.transform(texts)
    np.testing.assert_allclose(features @ embedder._common, 0, atol=1e-6)
    assert np.abs(features).max() > 1e-3


def test_pooling_none_returns_one_array_per_text():
    embedder = WordEmbedder(fasttext_file(), pooling=None)
    tokens = embedder.fit_transform([["the", "cat"], ["cat"], []])
    assert tokens.dtype == object
    assert [array.shape for array in tokens] == [(2, 10), (1, 10), (0, 10)]
    np.testing.assert_array_equal(tokens[1][0], embedder.embedding_["cat"])
    assert [array.shape for array in embedder.transform(["the cat", "the cat"])] == [(2, 10), (2, 10)]  # equal lengths
    with pytest.raises(InvalidParameterError, match="no columns"):
        embedder.get_feature_names_out()
    assert "WordEmbedder" in embedder._repr_html_()


@pytest.mark.parametrize("oov", ["subword", "unk", "zero", "skip"])
def test_oov_policies_differ_in_unknown_words_only(oov):
    embedder = WordEmbedder(fasttext_file(), oov=oov).fit(TEXTS)
    reference = WordEmbedder(fasttext_file(), oov="skip").fit(TEXTS)
    np.testing.assert_array_equal(embedder.transform(["the cat"]), reference.transform(["the cat"]))
    row = embedder.transform(["ocelot"])[0]
    expected = {
        "subword": embedder.embedding_["ocelot"],
        "unk": embedder.vectors_[-max(1, len(embedder.vectors_) // 10) :].mean(0),
    }.get(oov, np.zeros(10))
    np.testing.assert_allclose(row, expected, atol=1e-6)
    halved = np.abs(embedder.transform(["cat ocelot"]) - reference.transform(["cat"])).max()
    assert halved == 0 if oov == "skip" else halved > 1e-3


def test_oov_error_names_the_row():
    embedder = WordEmbedder(word2vec_file(), oov="error").fit(["w1"])
    with pytest.raises(InvalidSampleError, match="row 1: 'ocelot' has no vector"):
        embedder.transform(["w1 w2", "w1 ocelot"])


def test_transform_warns_of_many_unknown_words_only():
    embedder = WordEmbedder(word2vec_file(), oov="unk").fit(["w1"])
    with pytest.warns(UnknownWordsWarning, match=r"30% of 100 words have no vector \(oov='unk'\)"):
        embedder.transform([["w1"] * 70 + ["ocelot"] * 30])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        embedder.transform([["w1"] * 80 + ["ocelot"] * 20])


@pytest.mark.parametrize("listed", ["NFC", "NFD"])
def test_transform_reads_words_with_combining_marks(listed):
    words = ["café", "हिन्दी", "हिन्दू", "i\u0307stanbul"]
    vectors = WordVectors([unicodedata.normalize(listed, word) for word in words], np.eye(4, dtype=np.float32))
    embedder = WordEmbedder(vectors, oov="error").fit(["café"])
    for form in ("NFC", "NFD"):
        texts = [unicodedata.normalize(form, word) for word in ("Café!", "हिन्दी", "हिन्दू", "İstanbul")]
        np.testing.assert_array_equal(embedder.transform(texts), np.eye(4))
        np.testing.assert_array_equal(embedder.transform([[text.lower().strip("!")] for text in texts]), np.eye(4))
        assert embedder.oov_report(texts).unknown_tokens == 0


def test_continue_from_starts_at_decomposed_words():
    start = WordVectors([unicodedata.normalize("NFD", "café")], np.full((1, 8), 9, np.float32))
    embedder = WordEmbedder("word2vec", continue_from=start, min_count=1, **SMALL).fit(["café noir"])
    assert set(embedder.vocabulary_) == {"café", "noir"}
    np.testing.assert_allclose(embedder.embedding_["café"], 9, atol=0.5)


def test_oov_report_lists_unknown_words():
    report = WordEmbedder(word2vec_file()).fit(["w1"]).oov_report(["W1 ocelot", "ocelot!"], k=5)
    assert report.most_frequent == [("ocelot", 2)]
    assert report.nothing_known == 0.5


def test_pickle_holds_trained_vectors_and_clone_does_not():
    embedder = WordEmbedder(**SMALL).fit(SENTENCES)
    back = pickle.loads(pickle.dumps(embedder))
    texts = [*TEXTS, "catt dogg"]
    np.testing.assert_array_equal(back.transform(texts), embedder.transform(texts))
    assert back.similar_words("cat") == embedder.similar_words("cat")
    assert not hasattr(clone(embedder), "embedding_")
    np.testing.assert_array_equal(clone(embedder).fit(SENTENCES).vectors_, embedder.vectors_)


def test_pickle_of_loaded_vectors_refers_to_their_file(tmp_path):
    path = tmp_path / "general.vec"
    path.write_bytes(word2vec_file(n_words=2000).read_bytes())
    embedder = WordEmbedder(path).fit(["w1"])
    content = pickle.dumps(embedder)
    assert len(content) < 3000
    np.testing.assert_array_equal(pickle.loads(content).transform(["w1 w7"]), embedder.transform(["w1 w7"]))
    path.write_bytes(word2vec_file(n_words=40).read_bytes())
    again = pickle.loads(content)
    with pytest.raises(WeightsError, match="another hash"):
        again.transform(["w1 w7"])


def test_model_accepts_embedding_of_another_task_and_shares_it():
    source = WordEmbedder(**SMALL).fit(SENTENCES)
    y = np.arange(len(SENTENCES)) % 2
    model = make_pipeline(WordEmbedder(model=source.embedding_), LogisticRegression())
    search = GridSearchCV(model, {"wordembedder__pooling": ["mean", "max"]}, cv=2, error_score="raise").fit(
        SENTENCES, y
    )
    assert search.best_estimator_[0].embedding_ is source.embedding_
    frozen = FrozenEstimator(source)
    np.testing.assert_array_equal(clone(frozen).fit(["other"], None).transform(TEXTS), source.transform(TEXTS))


@pytest.mark.process
def test_grid_search_over_model_in_several_processes():
    y = np.arange(len(SENTENCES)) % 2
    model = make_pipeline(WordEmbedder(**SMALL), LogisticRegression())
    search = GridSearchCV(model, {"wordembedder__model": ["word2vec", "fasttext"]}, cv=2, n_jobs=2, error_score="raise")
    assert search.fit(SENTENCES, y).best_score_ >= 0


def test_model_word2vec_has_no_subwords():
    assert WordEmbedder("word2vec", **SMALL).fit(SENTENCES).oov_ == "skip"
    assert WordEmbedder("fasttext", **SMALL).fit(SENTENCES).oov_ == "subword"


def test_n_jobs_trains_with_several_threads():
    assert np.isfinite(WordEmbedder(n_jobs=2, **SMALL).fit_transform(SENTENCES)).all()


def test_continue_from_starts_at_other_vectors():
    general = WordVectors(["cat", "elsewhere"], np.ones((2, 8), np.float32))
    embedder = WordEmbedder("word2vec", continue_from=general, **SMALL).fit(SENTENCES)
    assert embedder.embedding_["cat"] @ np.ones(8) > 7
    np.testing.assert_array_equal(embedder.embedding_["elsewhere"], np.ones(8))
    with pytest.raises(InvalidParameterError, match="vector_size=8"):
        WordEmbedder(continue_from=general).fit(SENTENCES)
    with pytest.raises(InvalidParameterError, match="continue_from applies to training"):
        WordEmbedder(word2vec_file(), continue_from=general).fit(SENTENCES)


@pytest.mark.parametrize("model", [fasttext_file(), quantized_file(), word2vec_file(), keyed_vectors()], ids=short)
def test_model_accepts_every_source_of_vectors(model):
    embedder = WordEmbedder(model, oov="zero").fit(["w1 cat"])
    assert embedder.vectors_.shape == (len(embedder.vocabulary_), load_vectors(model).n_dims)
    assert all(embedder.vocabulary_[word] == row for row, word in enumerate(embedder.embedding_.words))


def test_similar_words_and_analogy_lowercase_their_words():
    embedder = WordEmbedder(word2vec_file()).fit(["w1"])
    assert embedder.similar_words("W3", 2) == embedder.embedding_.similar("w3", 2)
    assert embedder.analogy("W1", "w2", "w3", k=3) == embedder.embedding_.analogy("w1", "w2", "w3", 3)
    with pytest.raises(InvalidParameterError, match="'W3' is not among"):
        WordEmbedder(word2vec_file(), lowercase=False).fit(["w1"]).similar_words("W3")


def test_fit_accepts_lists_of_tokens():
    embedder = WordEmbedder(**SMALL).fit([sentence.split() for sentence in SENTENCES])
    np.testing.assert_array_equal(embedder.transform(["the cat"]), embedder.transform([["The", "CAT"]]))
    named = embedder.set_output(transform="pandas").fit_transform(pd.DataFrame({"text": SENTENCES}))
    assert list(named.columns[:2]) == ["wordembedder0", "wordembedder1"]


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"pooling": "avg"}, "pooling='avg' must be one of"),
        ({"pooling": "meen"}, "Did you mean 'mean'"),
        ({"oov": "subwords"}, "Did you mean 'subword'"),
        ({"architecture": "skip-gram"}, "Did you mean 'skipgram'"),
        ({"vector_size": 0}, "vector_size=0"),
        ({"epochs": True}, "epochs=True"),
        ({"min_count": 2.5}, "min_count=2.5"),
        ({"min_n": 5, "max_n": 4}, "min_n=5 is greater than max_n=4"),
        ({"min_count": 1000}, "Lower min_count"),
        ({"model": 3}, "a int holds no word vectors"),
        ({"model": None}, "a NoneType holds no word vectors"),
    ],
)
def test_fit_rejects_invalid_parameters(parameters, message):
    with pytest.raises(InvalidParameterError, match=message):
        WordEmbedder(**{**SMALL, **parameters}).fit(SENTENCES)


def test_model_with_a_typo_suggests_the_name():
    with pytest.raises(WeightsError, match="Did you mean 'word2vec'"):
        WordEmbedder("word2vce").fit(SENTENCES)


def test_verbose_shows_progress(capsys):
    embedder = WordEmbedder(fasttext_file(), verbose=1).fit(TEXTS)
    embedder.transform(TEXTS)
    assert "verbose=1): 7/7 texts" in capsys.readouterr().err
    WordEmbedder(fasttext_file()).fit(TEXTS).transform(TEXTS)
    assert capsys.readouterr().err == ""
