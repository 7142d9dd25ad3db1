"""Words by fastai's rules, as fastai splits them."""

from __future__ import annotations

import doctest
import json
from pathlib import Path

import numpy as np
import pytest
from historic_folders import TEXTS, VOCABULARY, name

import sktransfer_historic.elmo_words
import sktransfer_historic.words
from sktransfer import TokenFeaturizer, load_backbone
from sktransfer.exceptions import SaveError
from sktransfer_historic.words import BEGIN, FastaiRules

FASTAI = json.loads(Path(__file__).with_name("fastai_outputs.json").read_text())


@pytest.mark.parametrize("row", range(len(TEXTS)))
def test_fastairules_gives_the_words_of_fastai(row):
    words = FastaiRules()(TEXTS[row])
    assert [BEGIN, *(words.split(" ") if words else [])] == FASTAI["words"][row]


def test_tokenize_keeps_the_end_of_long_texts():
    tokens = load_backbone(name("awd_lstm"), max_length=4).preprocess
    ids, truncated = tokens.tokenize(["a good film and a bad plot", "a film"])
    assert [[VOCABULARY[i] for i in one] for one in ids] == [["xxbos", "a", "bad", "plot"], ["xxbos", "a", "film"]]
    assert truncated == [True, False]
    assert tokens.key != load_backbone(name("awd_lstm")).preprocess.key


def test_words_gives_places_in_the_rewritten_text():
    text, words = load_backbone(name("awd_lstm")).preprocess.words("A GOOD film!!!!")
    assert text == "a xxup good film xxrep 4 !"
    assert [None if one is None else text[one[1] : one[2]] for one in words] == [None, *text.split(" ")]


def test_tokenfeaturizer_takes_words_that_are_several_tokens():
    pieces = load_backbone(name("awd_lstm")).preprocess.word_pieces(["GOOD", "", "film"])
    assert [VOCABULARY[i] for i in pieces.ids] == ["xxup", "good", "xxunk", "film"]
    assert (pieces.first.tolist(), pieces.last.tolist()) == ([0, 2, 3], [1, 2, 3])
    values = TokenFeaturizer(name("awd_lstm"), subword="last").fit_transform([["A", "GOOD", "film"], ["plot"]])
    assert [one.shape for one in values] == [(3, 8), (1, 8)]
    assert np.isfinite(values[0]).all()


def test_to_state_refuses_rules():
    with pytest.raises(SaveError, match=r"fastai spacy .* is code"):
        load_backbone(name("awd_lstm")).preprocess.to_state()


@pytest.mark.parametrize("module", [sktransfer_historic.words, sktransfer_historic.elmo_words], ids=["words", "elmo"])
def test_docstring_examples_run(module):
    found = doctest.testmod(module)
    assert found.failed == 0
    assert found.attempted > 0
