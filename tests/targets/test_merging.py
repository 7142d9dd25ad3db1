"""Several data sets merged into one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch

from sktransfer import merge_tasks
from sktransfer.exceptions import InvalidParameterError, ValidationWarning
from sktransfer.targets.table import read_tasks

SHOP = ["war and peace", "alien", "dune"], ["book", "film", "book"]
LIBRARY = ["emma", "thriller"], ["book", "record"]


def test_merge_tasks_of_different_tasks():
    X, Y = merge_tasks({"imdb": (["good", "bad"], [1, 0]), "trec": (["who"], ["person"])})
    assert X == ["good", "bad", "who"]
    assert list(Y) == ["imdb", "trec"]
    assert Y.index.names == ["merged_source", "row"]
    assert Y.index.tolist() == [("imdb", 0), ("imdb", 1), ("trec", 0)]
    assert Y.imdb.dtype == "Int64"
    assert Y.imdb.tolist() == [1, 0, pd.NA]
    assert Y.trec.isna().tolist() == [True, True, False]
    columns = read_tasks(Y, classes={"trec": ["person", "place"]}).columns
    assert columns["imdb"].check(columns["imdb"].make_task()).dtype == np.int64


def test_merge_tasks_labels_say_that_y_is_one_task():
    X, Y = merge_tasks({"shop": SHOP, "library": LIBRARY}, labels={"shop": {"film": "movie"}})
    assert list(Y) == ["y"]
    assert Y.y.tolist() == ["book", "movie", "book", "book", "record"]
    task = read_tasks(Y).columns["y"].make_task()
    column = read_tasks(Y).columns["y"]
    task.encode(column.check(task), np.ones(5))
    assert task.classes.tolist() == ["book", "movie", "record"]
    assert dict(zip(task.sources, task.knows.tolist())) == {"library": [True, False, True], "shop": [True, True, False]}
    assert len(X) == 5


def test_merge_tasks_task_names_it():
    _, Y = merge_tasks({"shop": SHOP, "library": LIBRARY}, task="kind")
    assert list(Y) == ["kind"]
    assert list(merge_tasks({"shop": SHOP, "library": LIBRARY}, {}, task="kind")[1]) == ["kind"]
    assert list(merge_tasks({"shop": SHOP, "library": LIBRARY}, {})[1]) == ["y"]


def test_merge_tasks_frames_share_their_columns():
    one = pd.DataFrame({"topic": ["a", None, "b"], "stars": [1.5, 2.5, 3]}, index=["p", "q", "r"])
    two = pl.DataFrame({"topic": ["b", "a"], "size": [3, None]})
    X, Y = merge_tasks({"one": (["s", "t", "x"], one), "two": (["u", "v"], two), "three": (["w"], {"size": [5]})})
    assert len(X) == 6
    assert list(Y) == ["topic", "stars", "size"]
    assert Y.index.tolist()[:4] == [("one", "p"), ("one", "q"), ("one", "r"), ("two", 0)]
    assert Y.topic.dropna().tolist() == ["a", "b", "b", "a"]
    assert Y.topic.notna().tolist() == [True, False, True, True, True, False]
    assert Y.stars.tolist()[:3] == [1.5, 2.5, 3]
    assert Y["size"].tolist() == [pd.NA, pd.NA, pd.NA, 3, pd.NA, 5]


def test_merge_tasks_labels_per_task():
    frame = pd.DataFrame({"topic": ["film", "book"], "tone": ["up", "down"]})
    other = pd.DataFrame({"topic": ["movie", "book"]})
    labels = {"a": {"topic": {"film": "movie"}}}
    _, Y = merge_tasks({"a": (["s", "t"], frame), "b": (["u", "v"], other)}, labels)
    assert Y.topic.tolist() == ["movie", "book", "movie", "book"]


def test_merge_tasks_renames_within_collections():
    y = [["film", "war"], None], [["movie"], {"war"}]
    _, Y = merge_tasks({"a": (["s", "t"], y[0]), "b": (["u", "v"], y[1])}, {"a": {"film": "movie"}})
    assert Y.y.tolist() == [["movie", "war"], None, ["movie"], {"war"}]
    assert read_tasks(Y).columns["y"].kind == "multilabel-indicator"


def test_merge_tasks_renames_to_other_types():
    _, Y = merge_tasks({"a": (["s", "t"], [1, 2]), "b": (["u", "v"], ["1", "2"])}, {"b": {"1": 1, "2": 2}})
    assert Y.y.tolist() == [1, 2, 1, 2]
    assert Y.y.dtype == "Int64"


@pytest.mark.parametrize(
    ("y", "dtype"),
    [([True, None], "boolean"), ([1, None], "Int64"), ([1.5, None], "float64"), (np.array([1, 2], np.uint8), "Int64")],
)
def test_merge_tasks_types(y, dtype):
    _, Y = merge_tasks({"a": (["s", "t"], y), "b": (["u"], ["x"])})
    assert Y.a.dtype == dtype


def test_merge_tasks_indicator_matrix_is_one_task():
    _, Y = merge_tasks({"tags": (["s", "t"], np.eye(2, dtype=int)), "b": (["u"], ["x"])})
    column = read_tasks(Y, classes={"b": ["x", "y"]}).columns["tags"]
    assert column.kind == "multilabel-indicator"
    assert column.values.tolist() == [[1, 0], [0, 1]]


IMAGES = np.random.RandomState(0).randint(0, 255, (3, 8, 8, 3)).astype(np.uint8)


@pytest.mark.parametrize(
    ("one", "other", "kind", "n"),
    [
        (["a", "b"], ["c"], list, 3),
        (pd.Series(["a", "b"]), pd.Series(["c"]), pd.Series, 3),
        (pd.DataFrame({"t": ["a", "b"]}), pd.DataFrame({"t": ["c"]}), pd.DataFrame, 3),
        (pd.DataFrame({"t": ["a", "b"]}), pd.DataFrame({"u": ["c"]}), list, 3),
        (pd.Series(["a", "b"]), ["c"], list, 3),
        (pl.Series(["a", "b"]), pl.Series(["c"]), list, 3),
        (np.array(["a", "bc"]), np.array(["def"]), np.ndarray, 3),
        (IMAGES, IMAGES[:2], np.ndarray, 5),
        (IMAGES, IMAGES[:2, :4], list, 5),
        (IMAGES, IMAGES[:2] / 255, list, 5),
        (torch.zeros(2, 8, 8), torch.zeros(1, 8, 8), np.ndarray, 3),
        (IMAGES.reshape(3, -1), IMAGES[:1].reshape(1, -1), np.ndarray, 4),
        (pd.DataFrame(IMAGES.reshape(3, -1)), pd.DataFrame(IMAGES[:1].reshape(1, -1)), pd.DataFrame, 4),
        (pl.DataFrame(np.eye(2)), pl.DataFrame(np.ones((1, 2))), pl.DataFrame, 3),
        (["a.png", Path("b.png")], list(IMAGES[:1]), list, 3),
    ],
)
def test_merge_tasks_containers_of_X(one, other, kind, n):
    X, Y = merge_tasks({"a": (one, list("xy" * 9)[: len(one)]), "b": (other, list("zw" * 9)[: len(other)])})
    assert isinstance(X, kind)
    assert len(X) == len(Y) == n
    if kind in (pd.Series, pd.DataFrame):
        assert X.index.equals(Y.index)
    first, last = (X.iloc[0], X.iloc[-1]) if hasattr(X, "iloc") else (X[0], X[-1])
    for found, source, row in ((first, one, 0), (last, other, -1)):
        source = source.iloc[:, 0] if isinstance(source, pd.DataFrame) and kind is list else source
        expected = source.iloc[row] if hasattr(source, "iloc") else source[row]
        assert np.array_equal(np.asarray(found), np.asarray(expected))


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        ({}, "sources is {}; it must be a dict from the name of each data set"),
        ([(["a"], [1])], "it must be a dict from the name"),
        ({1: (["a"], [1])}, "sources has the key 1"),
        ({"a": ["s"]}, r"sources\['a'\] is a list; sources must be"),
        ({"a": (["s"], None)}, "y of 'a' is None"),
        ({"a": (["s", "t"], [1])}, "X of 'a' has 2 samples, and y of 'a' has 1"),
        ({"a": (["s", "t"], ["x", 3])}, r"y of 'a'\[1\] is 3: it is of type int, and y of 'a'\[0\] is 'x'"),
        ({"a": ("text", [1])}, "X of 'a': X is one str"),
        ({"a": (["s"], pd.DataFrame([[1]]))}, "y of 'a': y has a column 0"),
        ({"a": (["text"], [1]), "b": (list(IMAGES[:1]), [1])}, "X of 'a' holds texts, and X of 'b' images"),
        (
            {"a": (IMAGES.reshape(3, -1), [1, 2, 3]), "b": (np.zeros((1, 64), np.uint8), [1])},
            r"X of 'a' is an array of shape \(3, 192\) and dtype uint8, and X of 'b' an array of shape \(1, 64\)",
        ),
        ({"a": (np.zeros((1, 64)), [1]), "b": (list(IMAGES[:1]), [1])}, "flat rows of pixels have the same columns"),
    ],
)
def test_merge_tasks_errors(sources, message):
    with pytest.raises(ValueError, match=message):
        merge_tasks(sources)


def test_merge_tasks_refuses_labels_of_different_types():
    sources = {"a": (["s", "t"], [1, 2]), "b": (["u", "v"], ["1", "2"])}
    with pytest.raises(
        ValueError, match=r"of different types: 1 of 'a' is of type int.*labels=\{'b': \{'1': 1, '2': 2\}\}"
    ):
        merge_tasks(sources, task="kind")


@pytest.mark.parametrize(
    ("labels", "options", "message"),
    [
        ("film", {}, "labels='film' must be a dict"),
        ({"shopp": {}}, {}, r"labels has 'shopp', and the data sets are \['shop', 'library'\]. Did you mean 'shop'"),
        ({"shop": "film"}, {}, r"labels\['shop'\]='film' must be a dict"),
        ({"shop": {"films": "movie"}}, {}, r"labels renames 'films', and y of 'shop' holds .* Did you mean 'film'"),
        (
            {"shop": {"tone": {"a": "b"}}},
            {},
            r"labels\['shop'\] has 'tone', and the tasks of this data set are \['y'\]",
        ),
        (None, {"task": ""}, "task='' must be the name of a task"),
    ],
)
def test_merge_tasks_labels_errors(labels, options, message):
    with pytest.raises(InvalidParameterError, match=message):
        merge_tasks({"shop": SHOP, "library": LIBRARY}, labels, **options)


def test_merge_tasks_labels_of_several_tasks_need_a_dict_per_task():
    frame = pd.DataFrame({"topic": ["film", "book"], "tone": ["up", "down"]})
    with pytest.raises(InvalidParameterError, match=r"a dict per task, labels=\{'a': \{'topic': \{'film': 'x'"):
        merge_tasks({"a": (["s", "t"], frame)}, {"a": {"film": "x"}})


def test_merge_tasks_warns_of_similar_labels():
    sources = {"a": (["s", "t"], ["film", "book"]), "b": (["u", "v"], ["Film", "book "])}
    with pytest.warns(ValidationWarning, match=r"pass labels=\{'b': \{'Film': 'film', 'book ': 'book'\}\}"):
        merge_tasks(sources, task="kind")


def test_merge_tasks_warns_of_one_class():
    with pytest.warns(ValidationWarning, match="the data set 'b' knows one class only of the task 'kind', 'book'"):
        merge_tasks({"a": (["s", "t"], ["film", "book"]), "b": (["u"], ["book"])}, task="kind")


def test_merge_tasks_does_not_warn_of_numbers():
    _, Y = merge_tasks({"a": (["s", "t"], [1.5, 2.0]), "b": (["u"], [1])}, task="stars")
    assert Y.stars.tolist() == [1.5, 2.0, 1.0]


@pytest.mark.parametrize("first", [[0, 1], np.array([0, 1]), pd.Series([0, 1, None], dtype="Int64")], ids=type)
def test_merge_tasks_refuses_classes_and_fractions(first):
    sources = {"a": (["s"] * len(first), first), "b": (["u", "v"], [0.5, 1.5])}
    with pytest.raises(
        ValueError, match=r"'kind' are of different types: 0 of 'a' is a whole number of type int, and 0\.5 of 'b'"
    ):
        merge_tasks(sources, task="kind")
    numbers = {"a": (["s", "t"], [0.0, 1.0]), "b": sources["b"]}
    assert merge_tasks(numbers, task="kind")[1].kind.tolist() == [0, 1, 0.5, 1.5]


def test_merge_tasks_of_one_data_set():
    X, Y = merge_tasks({"a": SHOP})
    assert (X, Y.a.tolist()) == (SHOP[0], SHOP[1])
