"""gensim's and spaCy's vectors are wrapped, not copied."""

from __future__ import annotations

import numpy as np
import pytest
import spacy
from gensim.models import FastText
from sklearn.base import clone

from sktransfer import WordEmbedder, load_vectors
from sktransfer.exceptions import InvalidParameterError
from tests.helpers.word_files import SENTENCES, keyed_vectors


def test_keyed_vectors_share_their_memory():
    keyed = keyed_vectors()
    vectors = load_vectors(keyed)
    assert np.shares_memory(vectors.matrix, keyed.vectors)
    assert vectors.index is keyed.key_to_index
    assert keyed.vectors.flags.writeable  # theirs is left as it was
    for word in keyed.index_to_key:
        np.testing.assert_array_equal(vectors[word], keyed[word])


def test_clone_shares_wrapped_vectors_and_copies_bare_ones():
    keyed = keyed_vectors()
    shared, copied = clone(WordEmbedder(load_vectors(keyed))), clone(WordEmbedder(keyed))
    assert np.shares_memory(shared.model.matrix, keyed.vectors)
    assert not np.shares_memory(copied.model.vectors, keyed.vectors)  # as the docstring says
    texts = ["w1 w2", "w3"]
    np.testing.assert_array_equal(shared.fit_transform(texts), copied.fit_transform(texts))


def test_gensims_fasttext_builds_unknown_words():
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


def test_spacys_vectors_are_found_by_word(nlp):
    for given in (nlp, nlp.vocab, nlp.vocab.vectors):
        vectors = load_vectors(given)
        assert vectors.words == ["cat", "dog", "größe"]
        for word in vectors.words:
            np.testing.assert_array_equal(vectors[word], nlp.vocab[word].vector)
    assert np.shares_memory(vectors.matrix, nlp.vocab.vectors.data)


def test_spacys_words_that_share_a_row_have_the_same_vector(nlp):
    nlp.vocab.strings.add("hound")
    nlp.vocab.vectors.add("hound", row=1)
    vectors = load_vectors(nlp)
    assert set(vectors.words) == {"cat", "dog", "größe", "hound"}
    np.testing.assert_array_equal(vectors["hound"], [3, 4, 5])


@pytest.mark.parametrize("given", [None, 3, object(), {"a": 1}, np.ones(3)])
def test_other_objects_are_refused_with_what_may_be_given(given):
    with pytest.raises(InvalidParameterError, match="KeyedVectors"):
        load_vectors(given)


def test_objects_without_vectors_are_refused():
    with pytest.raises(InvalidParameterError, match="0 words"):
        load_vectors(spacy.blank("en"))
