from __future__ import annotations

import enum
import pickle

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from scipy.sparse import csr_matrix

from sktransfer.exceptions import InvalidSampleError
from sktransfer.samples.texts import check_texts

TEXTS = ["one", "", "zwölf 🎉"]


def loaded(X: object) -> list[str]:
    samples = check_texts(X)
    return [samples.load(row) for row in range(len(samples))]


@pytest.mark.parametrize(
    "X",
    [
        TEXTS,
        tuple(TEXTS),
        np.array(TEXTS),
        np.array(TEXTS, dtype=object)[:, None],
        pd.Series(TEXTS),
        pd.Series(TEXTS, dtype=object),
        pd.Series(TEXTS, dtype="string"),
        pd.DataFrame({"text": TEXTS}),
        pl.Series(TEXTS),
        pl.DataFrame({"text": TEXTS}),
    ],
    ids=lambda X: f"{type(X).__module__.partition('.')[0]}-{type(X).__name__}",
)
def test_check_texts_returns_plain_str(X: object):
    texts = loaded(X)
    assert texts == TEXTS
    assert {type(text) for text in texts} == {str}


def test_check_texts_converts_subclasses_of_str():
    class Colour(str, enum.Enum):  # noqa: UP042 - str() of this kind of enumeration is the member's name
        RED = "red"

    texts = loaded([Colour.RED, np.str_("blue")])
    assert texts == ["red", "blue"]
    assert {type(text) for text in texts} == {str}


@pytest.mark.parametrize(
    "X",
    [
        ["a", None],
        ["a", float("nan")],
        np.array(["a", None], dtype=object),
        pd.Series(["a", None]),
        pd.Series(["a", np.nan], dtype=object),
        pd.Series(["a", pd.NA], dtype="string"),
        pd.Series(["a", None], dtype="category"),
        pd.DataFrame({"text": ["a", None]}),
        pl.Series(["a", None]),
        pl.DataFrame({"text": ["a", None]}),
    ],
    ids=str,
)
def test_check_texts_names_the_row_of_a_missing_text(X: object):
    with pytest.raises(
        InvalidSampleError, match=r'row 1: the text is missing .*fillna\(""\).*fill_null\(""\).*drop'
    ) as caught:
        check_texts(X)
    assert caught.value.row == 1


@pytest.mark.parametrize(
    "X", [["a", None], pd.Series(["a", np.nan], dtype=object), pd.Series(["a", pd.NA]), pl.Series(["a", None])], ids=str
)
def test_check_texts_missing_empty_reads_missing_texts_as_empty_ones(X: object):
    samples = check_texts(X, missing="empty")
    assert [samples.load(0), samples.load(1)] == ["a", ""]
    with pytest.raises(InvalidSampleError, match=r"row 1: .* not a str"):
        check_texts(["a", 3], missing="empty")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (3, r"3 is a int, not a str: turn the values into text, \[str\(x\) for x in X\]"),
        (np.float32(0.5), r"is a float32, not a str: turn the values into text, \[str\(x\) for x in X\]"),
        (b"abc", r"b'abc' is a bytes, not a str: decode it"),
        (["a", "b"], r"\['a', 'b'\] is a list, not a str: join its parts"),
        (True, "True is a bool, not a str"),
    ],
)
def test_check_texts_names_row_and_type_of_other_values(value: object, message: str):
    with pytest.raises(InvalidSampleError, match=f"^row 2: .*{message}") as caught:
        check_texts(["a", "b", value])
    assert caught.value.row == 2


def test_check_texts_rejects_columns_of_numbers():
    for X in (np.array([1.0, 2.0]), pd.Series([1, 2]), pl.Series([1, 2])):
        with pytest.raises(InvalidSampleError, match=r"row 0: .* not a str"):
            check_texts(X)


@pytest.mark.parametrize("to", [np.array, list, csr_matrix, pd.DataFrame, pl.DataFrame, torch.tensor])
def test_check_texts_of_vectors_says_not_to_featurize(to: object):
    with pytest.raises(ValueError, match=r"X holds vectors of 3 numbers, .* do not featurize before it"):
        check_texts(to([[0.5, 1.5, 0.0], [0.1, 0.2, 0.3], [1.0, 2.0, 3.0]]))


def test_check_texts_of_a_single_text_suggests_a_list():
    with pytest.raises(ValueError, match=r"one str, 'a good film', not a list of texts: wrap it in a list, \[X\]"):
        check_texts("a good film")


@pytest.mark.parametrize("library", [pd, pl])
def test_check_texts_rejects_several_columns_by_name(library: object):
    with pytest.raises(ValueError, match=r"\['title', 'body'\].*ColumnTransformer"):
        check_texts(library.DataFrame({"title": ["a"], "body": ["b"]}))


def test_check_texts_rejects_no_texts():
    with pytest.raises(ValueError, match=r"0 sample\(s\)"):
        check_texts([])


def test_key_of_texts_depends_on_content():
    first, second = check_texts(["a", "b", "a"]), check_texts(np.array(["b"]))
    assert first.key(0) == first.key(2)
    assert first.key(1) == second.key(0)
    assert first.key(0) != first.key(1)


def test_take_and_pickle_keep_the_texts():
    samples = pickle.loads(pickle.dumps(check_texts(TEXTS).take([2, 0])))
    assert [samples.load(0), samples.load(1)] == [TEXTS[2], TEXTS[0]]


def test_check_texts_refuses_names_of_images(tmp_path):
    paths = [tmp_path / f"{label}.jpg" for label in ("cat", "dog")]
    check_texts(list(map(str, paths)))  # no files, so texts
    for path in paths:
        path.touch()
    with pytest.raises(InvalidSampleError, match=r"'.*cat.jpg' is the path of an image, not a text.*ImageFeaturizer"):
        check_texts(list(map(str, paths)))
    check_texts([str(paths[0]), "a good film"])
    with pytest.raises(InvalidSampleError, match=r"address of an image, .*download the files"):
        check_texts(["https://example.org/1.jpg?size=2"])
