"""Texts with unusual or invalid characters and types, from validation to features."""

from __future__ import annotations

import time
import tracemalloc

import numpy as np
import pandas as pd
import polars as pl
import pytest

from sktransfer import TextFeaturizer, WordEmbedder, load_backbone
from sktransfer.exceptions import InvalidSampleError, TruncatedTextWarning
from tests.fuzz.fuzz_texts import check_tokens, featurizers, minilm
from tests.helpers.dirty_texts import ODD
from tests.helpers.toys import text_backbone

NAMES = ["tiny/bert", "MiniLM", "words"]
NEIGHBOURS = ["a good film", "nothing to love"]


@pytest.mark.filterwarnings("ignore::sktransfer.exceptions.TruncatedTextWarning")
@pytest.mark.filterwarnings("ignore::sktransfer.exceptions.UnknownWordsWarning")
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("text", ODD.values(), ids=ODD)
def test_transform_of_unusual_texts_does_not_affect_other_rows(name, text):
    featurizer = featurizers()[name]
    alone = featurizer.transform(NEIGHBOURS)
    features = featurizer.transform([NEIGHBOURS[0], text, NEIGHBOURS[1]])
    assert np.isfinite(features).all()
    np.testing.assert_allclose(features[[0, 2]], alone, atol=1e-5 * np.abs(alone).max())
    check_tokens(text)


def same(name, text, other):
    first, second = featurizers()[name].transform([text, other])
    return np.abs(first - second).max() <= 1e-5 * np.abs(first).max()


@pytest.mark.filterwarnings("ignore::sktransfer.exceptions.UnknownWordsWarning")  # a smiley is one
@pytest.mark.parametrize("name", NAMES[:2])
def test_transform_of_ignored_and_equivalent_characters(name):
    assert same(name, "", " \t\n\u00a0")
    assert same(name, "good film", "go\0od\x01 fi\x7flm")  # rule of BERT's tokenizer
    assert same(name, "good film \ud83d", "good film \ufffd")  # a lone surrogate counts as a replacement character
    assert same(name, "\ud83d\ude00", "\U0001f600")  # a surrogate pair equals its character
    assert same(name, "good film", "good" + " " * 100_000 + "film")  # the start of a long text may be few tokens
    assert not same(name, "good film", "bad film")


def test_split_words_drops_lone_surrogates():
    assert same("words", "good film", "good \ud83d film")
    assert not featurizers()["words"].transform(["", " \n", "\0", "\ud83d"]).any()


def test_word_embedder_trains_on_unusual_texts():
    embedder = WordEmbedder("word2vec", vector_size=4, min_count=1, epochs=1, random_state=0)
    features = embedder.fit_transform([*ODD.values(), *NEIGHBOURS])
    assert features.shape == (len(ODD) + 2, 4)
    assert np.isfinite(features).all()
    with pytest.raises(InvalidSampleError, match=r"row 1: .*half of a surrogate pair.*surrogatepass"):
        embedder.fit([["good"], ["go\ud83dod"]])  # tokens in lists are not split or cleaned


MISSING = {
    "None": ["a", None],
    "nan": ["a", float("nan")],
    "NumPy nan": np.array(["a", np.nan], dtype=object),
    "pandas NA": pd.Series(["a", pd.NA], dtype="string"),
    "pandas NaT": pd.Series(["a", pd.NaT], dtype=object),
    "pandas str": pd.Series(["a", None], dtype="str"),
    "category": pd.Series(["a", None], dtype="category"),
    "polars null": pl.Series(["a", None]),
    "polars category": pl.Series(["a", None], dtype=pl.Categorical),
}
OTHERS = {
    "bytes": (["a", b"good film"], "is a bytes, not a str: decode it"),
    "int": (["a", 3], r"is a int, not a str: turn the values into text, \[str\(x\) for x in X\]"),
    "bool": (["a", True], "is a bool, not a str"),
    "mixed column": (pd.Series(["a", 1.5]), "is a float, not a str"),
    "polars objects": (pl.Series(["a", object], dtype=pl.Object), "is a type, not a str"),
    "list": (["a", [3]], r"is a list, not a str: turn the values into text|token 0 is 3\. Every token must be a str"),
    "dict": (["a", {"text": "b"}], "is a dict, not a str"),
    "long bytes": (["a", b"x" * 10**6], r"xxx\.\.\. is a bytes, not a str"),
}
ROWS = {**{name: (X, "is missing .*fillna") for name, X in MISSING.items()}, **OTHERS}


@pytest.mark.parametrize("name", ["tiny/bert", "words"])
@pytest.mark.parametrize(("X", "reason"), ROWS.values(), ids=ROWS)
def test_transform_names_row_and_remedy_of_other_types(name, X, reason):
    with pytest.raises(InvalidSampleError, match=f"^row 1: .*({reason})") as caught:
        featurizers()[name].transform(X)
    assert caught.value.row == 1
    assert len(str(caught.value)) < 400


COLUMNS = {
    "list": list,
    "tuple": tuple,
    "NumPy str": np.array,
    "NumPy objects": lambda texts: np.array(texts, dtype=object),
    "np.str_": lambda texts: [np.str_(text) for text in texts],
    "NumPy variable": lambda texts: np.array(texts, dtype=np.dtypes.StringDType()),
    "one column": lambda texts: np.array(texts)[:, None],
    "pandas object": lambda texts: pd.Series(texts, dtype=object),
    "pandas str": lambda texts: pd.Series(texts, dtype="str", index=[7, 5, 5]),
    "pandas string": lambda texts: pd.Series(texts, dtype="string"),
    "pandas category": lambda texts: pd.Series(texts, dtype="category"),
    "pandas frame": lambda texts: pd.DataFrame({"text": texts}),
    "polars": pl.Series,
    "polars category": lambda texts: pl.Series(texts, dtype=pl.Categorical),
    "polars frame": lambda texts: pl.DataFrame({"text": texts}),
}


@pytest.mark.filterwarnings("ignore:X has feature names")
@pytest.mark.parametrize("name", ["tiny/bert", "words"])
@pytest.mark.parametrize("column", COLUMNS.values(), ids=COLUMNS)
def test_transform_is_equal_for_all_column_types(name, column):
    texts = ["a good film", "", "a good film"]
    featurizer = featurizers()[name]
    np.testing.assert_array_equal(featurizer.transform(column(texts)), featurizer.transform(texts))


LONG = {
    "words": "some words, and more of them. ",
    "no blanks": "漢",
    "punctuation": "!?",
    "control characters": "\0",
}


@pytest.mark.parametrize("name", ["tiny/bert", minilm()], ids=NAMES[:2])
@pytest.mark.parametrize("piece", LONG.values(), ids=LONG)
def test_transform_time_of_ten_megabytes_is_bounded(name, piece):
    tokens = load_backbone(name).preprocess
    n = 10_000_000 // len(piece)
    text = piece * n
    tracemalloc.start()
    start = time.process_time()
    (ids,), (truncated,) = tokens.tokenize([text])
    seconds, (_, peak) = time.process_time() - start, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert truncated == (piece != "\0")
    assert len(ids) == (tokens.limit if truncated else 2)
    assert seconds < 10  # tokenizing the whole text took up to two minutes
    assert peak < 200e6
    part = tokens.tokenize([piece * (n // 1000)])[0][0]
    assert ids.equal(part)


def test_transform_of_a_long_text_equals_its_beginning():
    beginning = "some words, and more of them. " * 200
    with pytest.warns(TruncatedTextWarning, match="2 of 2 texts"):
        features = TextFeaturizer(cache=None).fit_transform([beginning * 1000, beginning])
    np.testing.assert_array_equal(features[0], features[1])


@pytest.mark.parametrize("cache", [None, "memory"])
def test_transform_computes_repeated_texts_once(cache):
    backbone, seen = text_backbone(), []
    backbone.stages[0].register_forward_hook(lambda module, args, out: seen.append(len(out)))
    start = time.process_time()
    features = TextFeaturizer(backbone, cache=cache).fit_transform(["bb ccc"] * 100_000)
    assert sum(seen) == 1
    assert features.shape[0] == 100_000
    assert (features == features[0]).all()
    assert time.process_time() - start < 20
