"""Targets of several tasks: forms of Y, kinds, missing values, forms of predictions, and errors."""

from __future__ import annotations

import warnings
from decimal import Decimal

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from scipy.sparse import csr_array

from sktransfer.exceptions import InvalidParameterError, LoadError, ValidationWarning
from sktransfer.targets.reading import known_values
from sktransfer.targets.table import TaskSchema, check_task_weight, read_tasks

NAN = np.nan


def one(values, **options):
    return read_tasks({"a": values}, **options).columns["a"]


def frame(**columns):
    return pd.DataFrame(columns)


@pytest.mark.parametrize(
    ("Y", "container"),
    [
        (frame(topic=["a", None, "b"], stars=[0.5, 1.5, NAN]), "frame"),
        (pl.DataFrame({"topic": ["a", None, "b"], "stars": [0.5, 1.5, None]}), "frame"),
        (pl.DataFrame({"topic": ["a", None, "b"], "stars": [0.5, 1.5, NAN]}), "frame"),
        ({"topic": ["a", None, "b"], "stars": [0.5, 1.5, None]}, "dict"),
        ({"topic": pd.Series(["a", NAN, "b"]), "stars": torch.tensor([0.5, 1.5, NAN])}, "dict"),
        (
            frame(
                topic=pd.Series(["a", pd.NA, "b"], dtype="string"), stars=pd.Series([0.5, 1.5, None], dtype="Float64")
            ),
            "frame",
        ),
        (
            frame(topic=pd.Series(["a", None, "b"], dtype="category"), stars=[Decimal("0.5"), Decimal("1.5"), None]),
            "frame",
        ),
    ],
    ids=["pandas", "polars-null", "polars-nan", "lists", "series", "nullable", "category"],
)
def test_read_tasks_containers(Y, container):
    table = read_tasks(Y)
    assert table.names == ("topic", "stars")
    assert table.n_samples == 3
    assert table.schema.container == container
    topic, stars = table.columns.values()
    assert (topic.kind, stars.kind) == ("multiclass", "continuous")
    assert topic.values.tolist() == ["a", "b"]
    assert topic.known.tolist() == [True, False, True]
    assert stars.values.tolist() == [0.5, 1.5]
    assert stars.known.tolist() == [True, True, False]
    assert stars.values.dtype.kind == "f"
    assert table.known.tolist() == [[True, True], [False, True], [True, False]]


@pytest.mark.parametrize(
    "Y",
    [
        np.array([["a", 0.5], [None, 1.5], ["b", None]], dtype=object),
        [["a", 0.5], [None, 1.5], ["b", NAN]],
        [("a", 0.5), (None, 1.5), ("b", None)],
    ],
    ids=["array", "lists", "tuples"],
)
def test_read_tasks_arrays_name_their_columns(Y):
    table = read_tasks(Y)
    assert table.names == ("y0", "y1")
    assert table.schema.container == "array"
    assert table.columns["y0"].values.tolist() == ["a", "b"]
    assert table.columns["y1"].kind == "continuous"
    back = table.schema.give_back({"y0": np.array(["b"]), "y1": np.array([2.5])})
    assert back.tolist() == [["b", 2.5]]


@pytest.mark.parametrize("Y", [["a", None, "b"], np.array(["a", None, "b"], dtype=object), pd.Series(["a", None, "b"])])
def test_read_tasks_one_column_is_one_task(Y):
    table = read_tasks(Y)
    assert table.names == ("y",)
    assert table.columns["y"].values.tolist() == ["a", "b"]
    back = table.schema.give_back({"y": np.array(["b", "a"])})
    assert type(back) is (pd.Series if isinstance(Y, pd.Series) else np.ndarray)
    assert list(back) == ["b", "a"]


def test_read_tasks_series_gives_its_name():
    table = read_tasks(pd.Series([1, 2, 1], name="size"))
    assert table.names == ("size",)
    assert table.schema.give_back({"size": np.array([2])}).name == "size"
    assert isinstance(read_tasks(pl.Series("s", [1, 2])).schema.give_back({"s": np.array([1])}), pl.Series)


@pytest.mark.parametrize(
    ("column", "dtype"),
    [
        (pd.Series([3, None, 5], dtype="Int64"), np.int64),
        (pd.Series([3, None, 5]), np.float64),
        (pd.Series([True, None, False], dtype="boolean"), np.bool_),
        (pd.Series([True, None, False]), np.bool_),
        (pl.Series([3, None, 5]), np.int64),
        (pl.Series([3, None, 5], dtype=pl.Int8), np.int8),
        (pl.Series([True, None, False]), np.bool_),
        ([3, None, 5], np.int64),
        (np.array([3, None, 5], dtype=object), np.int64),
        (["x", None, "y"], "<U1"),
        (pd.Series([3, None, 5], dtype="category"), np.int64),
    ],
)
def test_read_tasks_classes_keep_the_dtype(column, dtype):
    read = one(column)
    assert read.kind == "multiclass"
    assert read.known.tolist() == [True, False, True]
    assert read.check(read.make_task()).dtype == dtype


@pytest.mark.parametrize("dtype", ["Int64", "boolean", "string", "str", "int64[pyarrow]"])
def test_give_back_restores_the_dtype_of_pandas(dtype):
    pytest.importorskip("pyarrow") if "pyarrow" in dtype else None
    values = pd.Series(
        {"boolean": [True, None, False], "string": ["a", None, "b"], "str": ["a", None, "b"]}.get(dtype, [3, None, 5]),
        dtype=dtype,
    )
    table = read_tasks(values.to_frame("a"))
    read = table.columns["a"]
    back = table.schema.give_back({"a": np.unique(read.values)}, pd.Index([7, 9]))
    assert back["a"].dtype == values.dtype
    assert back.index.tolist() == [7, 9]


def test_give_back_of_polars_has_its_types():
    Y = pl.DataFrame({"n": [1, None], "s": ["a", "b"], "v": [[0.5, 1.0], [0.0, 2.5]], "t": [["x"], []], "m": [1, 0]})
    schema = read_tasks(Y, classes={"n": [1, 2]}).schema
    found = {
        "n": np.array([1, 2]),
        "s": np.array(["a", "b"], dtype=object),
        "v": np.ones((2, 2)),
        "t": np.array([[1], [0]]),
        "m": np.zeros(2, int),
    }
    assert schema.give_back(found).schema == Y.schema


@pytest.mark.parametrize("box", [list, tuple, set, frozenset, np.array])
def test_read_tasks_collections_of_labels(box):
    column = [box(["x", "y"]), None, box([]), box(["y"])]
    table = read_tasks({"tags": column})
    read = table.columns["tags"]
    assert read.kind == "multilabel-indicator"
    assert read.known.tolist() == [True, False, True, True]
    task = read.make_task()
    assert read.check(task).tolist() == [[1, 1], [0, 0], [0, 1]]
    assert task.label_names == ["x", "y"]
    back = table.schema.give_back({"tags": np.array([[1, 0], [1, 1]])})["tags"]
    kind = np.ndarray if box is np.array else box
    assert [type(one) for one in back] == [kind, kind]
    assert [sorted(one) for one in back] == [["x"], ["x", "y"]]


def test_read_tasks_collections_of_numbers():
    assert one([[3], [5], [3]]).check(one([[3], [5], [3]]).make_task()).tolist() == [[1, 0], [0, 1], [1, 0]]
    assert one([[3, 5], [5]]).form.labels == [3, 5]
    given = one([[3, 5], [5, 7]], tasks={"a": "multilabel-indicator"})
    assert given.form.labels == [3, 5, 7]
    assert one([[0, 1], [1, 1]], tasks={"a": "multilabel-indicator"}).form.cells == "vectors"


@pytest.mark.parametrize(
    "tags",
    [
        np.array([[1, 0], [NAN, NAN], [0, 1]]),
        np.array([[1, 0], [None, None], [0, 1]], dtype=object),
        pd.DataFrame({"x": [1, None, 0], "y": [0, None, 1]}),
        pd.DataFrame({"x": [1, None, 0], "y": [0, None, 1]}, dtype="Int64"),
        pl.DataFrame({"x": [1, None, 0], "y": [0, None, 1]}),
        pd.Series([np.array([1, 0]), None, np.array([0, 1])]),
        [[1, 0], None, [0, 1]],
        pl.Series([[1, 0], None, [0, 1]]),
        pl.Series([[1, 0], None, [0, 1]], dtype=pl.Array(pl.Int64, 2)),
    ],
    ids=["array", "objects", "pandas", "nullable", "polars", "vectors", "lists", "polars-list", "polars-array"],
)
def test_read_tasks_indicators(tags):
    table = read_tasks({"tags": tags})
    read = table.columns["tags"]
    assert read.kind == "multilabel-indicator"
    assert read.known.tolist() == [True, False, True]
    assert read.check(read.make_task()).tolist() == [[1, 0], [0, 1]]
    back = table.schema.give_back({"tags": np.array([[1, 1]])})["tags"]
    if isinstance(tags, (pd.DataFrame, pl.DataFrame)):
        assert type(back) is type(tags)
        assert list(back.columns) == ["x", "y"]
    assert np.asarray(back).tolist() == [[1, 1]]


def test_read_tasks_sparse_indicators():
    assert one(csr_array([[1, 0], [0, 1]])).kind == "multilabel-indicator"


@pytest.mark.parametrize(
    "xy", [np.array([[0.5, 1], [NAN, NAN]]), [[0.5, 1], None], pd.Series([np.array([0.5, 1]), None])]
)
def test_read_tasks_several_numbers(xy):
    read = one(xy)
    assert read.kind == "continuous"
    assert read.values.tolist() == [[0.5, 1.0]]
    assert read.known.tolist() == [True, False]


def test_read_tasks_kinds_given():
    Y = frame(stars=[4, 2, None], topic=["a", "b", None], flag=[0, 1, 1])
    table = read_tasks(Y, {"stars": "continuous", "topic": "binary"})
    assert table.schema.kinds == ("continuous", "multiclass", "multiclass")
    assert one([[120, 44], [3, 5]], tasks={"a": "continuous"}).kind == "continuous"
    assert one([[120, 44], [3, 5]], tasks={"a": "continuous-multioutput"}).kind == "continuous"


def test_read_tasks_like_names_the_kind_of_numbers_that_fit_read_as_classes():
    schema = read_tasks({"stars": [1, 5, 2.0]}).schema
    with pytest.raises(ValueError, match=r"y\['stars'\]\[1\] is 4.5.*for numbers give tasks=\{'stars': 'continuous'\}"):
        read_tasks({"stars": [1, 4.5]}, like=schema)
    numbers = read_tasks({"stars": [1, 5, 2.0]}, {"stars": "continuous"}).schema
    assert read_tasks({"stars": [1, 4.5]}, like=numbers).columns["stars"].kind == "continuous"


def test_read_tasks_warns_of_many_classes():
    with pytest.warns(ValidationWarning, match=r"30 whole numbers in 30 rows.*tasks=\{'price': 'cont"):
        read = read_tasks(frame(price=range(30))).columns["price"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read.check(read.make_task())
        read_tasks(frame(price=range(30)), {"price": "multiclass"})
        read_tasks(frame(price=range(30)), {"price": "continuous"})
        read_tasks(frame(name=[f"{i} a" for i in range(30)]))
        read_tasks(frame(price=[str(i) for i in range(30)]), {"price": "multiclass"})


@pytest.mark.parametrize("make", [list, np.array, pl.Series, lambda cells: pd.Series(cells, dtype="str")])
def test_read_tasks_warns_of_many_strings_of_numbers(make):
    with pytest.warns(ValidationWarning, match=r"holds 30 strings of numbers in 30 rows.*convert them, pd.to_numeric"):
        read_tasks({"price": make([f"{i}.5" for i in range(30)])})


def test_read_tasks_like_reorders_columns():
    schema = read_tasks(frame(topic=["a", "b"], stars=[0.5, 1.5])).schema
    table = read_tasks({"stars": [None, 3], "topic": ["b", None]}, like=schema)
    assert table.names == ("topic", "stars")
    assert table.schema is schema
    assert table.columns["stars"].kind == "continuous"
    assert table.columns["stars"].values.tolist() == [3]
    nothing = read_tasks(frame(topic=[None, None], stars=[1.0, 2.0]), like=schema).columns["topic"]
    assert nothing.n_known == 0
    assert len(nothing.values) == 0


def test_read_tasks_like_keeps_the_labels():
    schema = read_tasks({"tags": [["x"], ["y", "z"]]}).schema
    with pytest.warns(
        ValidationWarning, match=r"y\['tags'\] holds labels that fit did not have, \['w'\], the first in .*\[1\]"
    ):
        read = read_tasks({"tags": [["y"], ["w", "z"], None]}, like=schema).columns["tags"]
    assert read.check(read.make_task()).tolist() == [[0, 1, 0], [0, 0, 1]]
    assert read_tasks({"tags": [["x"], ["y"]]}, like=schema).columns["tags"].check(read.make_task()).shape == (2, 3)


def test_read_tasks_classes_allow_one_class_or_none():
    table = read_tasks({"a": ["x", None], "b": [None, None]}, classes={"a": ["x", "y"], "b": [0, 1]})
    assert [column.n_known for column in table.columns.values()] == [1, 0]


ERRORS = {
    "none": (None, "y is None: pass a data frame with a column per task"),
    "sparse": (csr_array([[1, 0]]), "y is a sparse matrix"),
    "lazy": (pl.LazyFrame({"a": [1]}), r"y is a LazyFrame: pass y.collect\(\)"),
    "text": ("film", "y is a str; pass"),
    "records": ([{"a": 1}], r"list of dicts: pass pd.DataFrame\(y\)"),
    "ragged": ([["a", 1], ["b"]], r"y\[1\] is \['b'\]; a list of rows"),
    "empty-dict": ({}, "y is an empty dict"),
    "empty-frame": (pd.DataFrame(), "y is a data frame without columns"),
    "no-rows": ({"a": []}, "y has no rows"),
    "int-name": (pd.DataFrame([[1, 2]]), r"y has a column 0; names of tasks are strings .* y.add_prefix\('y'\)"),
    "empty-name": ({"": [1]}, "y has a column ''; names of tasks are strings that are not empty"),
    "twice": (pd.DataFrame([[1, 2]], columns=["a", "a"]), "y has two columns 'a'"),
    "lengths": ({"a": [1, 2], "b": [1]}, r"y\['a'\] has 2 rows, and y\['b'\] has 1"),
    "3d": (np.zeros((2, 2, 2)), r"y has shape \(2, 2, 2\)"),
    "fields": (np.zeros(2, dtype=[("a", int)]), r"pass pd.DataFrame\(y\)"),
    "scalar-column": ({"a": "film"}, r"y\['a'\] is a str; the targets of a task"),
    "all-missing": (frame(a=[1.5, 2.0], b=[None, None]), r"y\['b'\] has no known target"),
    "one-class": (frame(a=["x", None, "x"]), r"y\['a'\] holds one class only, 'x'"),
    "dates": (frame(a=pd.to_datetime(["2020-01-01", None])), r"y\['a'\] holds dates or durations"),
    "date-cells": ({"a": [pd.Timestamp(0), None]}, r"y\['a'\] holds dates or durations"),
    "infinite": (frame(a=[0.5, NAN, np.inf]), r"y\['a'\]\[2\] is inf: infinite or NaN"),
    "infinite-label": (
        pd.DataFrame({"a": [0.5, NAN, np.inf]}, index=["p", "q", "r"]),
        r"y\['a'\].iloc\[2\] \(index label 'r'\) is inf",
    ),
    "mixed": (
        {"a": ["x", None, 3]},
        r"y\['a'\]\[2\] is 3: it is of type int, and y\['a'\]\[0\] is 'x', of type str; labels of",
    ),
    "objects": (
        {"a": [None, {"b": 1}]},
        r"y\['a'\]\[1\] is \{'b': 1\}: it is of type dict, and labels of a task are str",
    ),
    "bytes": ({"a": [b"x", b"y"]}, r"y\['a'\]\[0\] is b'x': it is of type bytes, and labels of a task are str"),
    "struct": (pl.DataFrame({"a": [{"b": 1}, None]}), r"y\['a'\]\[0\] is \{'b': 1\}: it is of type dict"),
    "huge": ({"a": [1, None, 2**70]}, r"y\['a'\]\[2\] is 1180591620717411303424: it does not fit into 64 bits"),
    "frame-twice": ({"a": pd.DataFrame([[1, 0]], columns=["x", "x"])}, r"y\['a'\] has two columns 'x'"),
    "partly": ({"a": np.array([[1, 0], [NAN, 1]])}, r"y\['a'\]\[1\] is \[nan, 1.0\]: it is known in part"),
    "label-columns": ({"a": np.array([["x", "y"]])}, r"y\['a'\]\[0\] is \['x', 'y'\]: several columns of one task"),
    "ambiguous": (
        {"a": [[120, 44], [3, 5]]},
        r"y\['a'\] holds several whole numbers per row, and its kind is not clear",
    ),
    "mixed-cells": ({"a": [["x"], "y"]}, r"y\['a'\]\[1\] is 'y': a column of lists holds a list"),
    "missing-label": ({"a": [["x"], ["y", None]]}, r"y\['a'\]\[1\] is \['y', None\]: a label is missing in it"),
    "mixed-labels": ({"a": [["x"], ["y", 3]]}, r"y\['a'\]\[1\] is 3: it is of type int, and y\['a'\]\[0\] is 'x'"),
    "no-labels": ({"a": [[], []]}, r"y\['a'\] holds no label in any row"),
    "array": (np.array([[1.5, np.inf], [2.0, 1.0]]), r"y\[:, 1\]\[0\] is inf"),
    "vector": (np.array([1.5, np.inf]), r"y\[1\] is inf"),
}


@pytest.mark.parametrize("case", ERRORS)
def test_read_tasks_errors(case):
    Y, message = ERRORS[case]
    with pytest.raises(ValueError, match=message):
        read_tasks(Y)


@pytest.mark.parametrize(
    ("Y", "tasks", "message"),
    [
        ({"a": [1, 2]}, "multiclass", "tasks='multiclass' must be 'auto', or a dict"),
        (
            {"topic": [1, 2]},
            {"topik": "multiclass"},
            r"tasks has 'topik', and the columns of y are \['topic'\]. Did you mean",
        ),
        ({"a": [1, 2]}, {"a": "multi-class"}, r"tasks\['a'\]='multi-class' is not a kind.* Did you mean 'multiclass'"),
        ({"a": [1, 2]}, {"a": None}, r"tasks\['a'\]=None is not a kind"),
    ],
)
def test_read_tasks_tasks_errors(Y, tasks, message):
    with pytest.raises(InvalidParameterError, match=message):
        read_tasks(Y, tasks)


@pytest.mark.parametrize(
    ("values", "kind", "message"),
    [
        ([None, "x", "y"], "continuous", r"y\['a'\]\[1\] is 'x': a task of numbers"),
        (["1.5", "2"], "continuous", "convert them, pd.to_numeric"),
        ([1, None, 2.5], "multiclass", r"y\['a'\]\[2\] is 2.5: classes are not fractions"),
        ([1, 0], "multilabel-indicator", r"y\['a'\]\[0\] is 1: a task of several labels"),
        ([[1, 0], [0, 1]], "multiclass", r"y\['a'\] holds 2 values per row, and a task of one class"),
        ([["x"], ["y"]], "multiclass", "takes one label"),
        ([[1, 2], [1]], "continuous", r"y\['a'\]\[1\] is \[1\]: vectors of numbers"),
        (
            np.array([[1, 2], [1, 0]]),
            "multilabel-indicator",
            r"y\['a'\]\[0\] is \[1, 2\]: indicators of labels are 0 and 1",
        ),
    ],
)
def test_read_tasks_values_that_do_not_fit_the_kind(values, kind, message):
    with pytest.raises(ValueError, match=message):
        one(values, tasks={"a": kind})


@pytest.mark.parametrize(
    ("Y", "message"),
    [
        ({"topic": ["a"]}, r"y lacks \['stars'\], and in fit"),
        ({"topic": ["a"], "stars": [1], "size": [2]}, r"y has \['size'\] more, and in fit its columns were"),
        (
            {"topic": ["a"], "star": [1]},
            r"y lacks \['stars'\] and has \['star'\] more, .*; rename 'star'\. Did you mean 'stars'",
        ),
        (np.array([["a", 1]], dtype=object), r"y is an array, and in fit it had the columns \['topic', 'stars'\]"),
        (
            {"topic": [["a"]], "stars": [1]},
            r"y\['topic'\] holds a list or vector per row, and in fit it held one value",
        ),
        ({"topic": np.ones((1, 2)), "stars": [1]}, r"y\['topic'\]"),
    ],
)
def test_read_tasks_like_errors(Y, message):
    schema = read_tasks({"topic": ["a", "b"], "stars": [0.5, 1.5]}).schema
    with pytest.raises(ValueError, match=message):
        read_tasks(Y, like=schema)


def test_check_names_the_column():
    read = one(["a", "b"])
    task = read.make_task(classes=np.array(["a", "b"]))
    with pytest.raises(ValueError, match=r"y\['a'\]: y holds \['c'\], which are not among"), read.named():
        task.encode(np.array(["c"]), np.ones(1))


def test_schema_to_state_and_back():
    Y = {"topic": pd.Series(["a", "b"], dtype="string"), "tags": [{"x"}, set()], "xy": np.array([[0.5, 1], [1, 1]])}
    schema = read_tasks(Y).schema
    assert TaskSchema.from_state(schema.to_state()) == schema
    for field, value in (
        ("kinds", ["multiclass"]),
        ("names", ["a", "a", "b"]),
        ("container", "disk"),
        ("forms", None),
        ("library", "os"),
    ):
        with pytest.raises(LoadError):
            TaskSchema.from_state({**schema.to_state(), field: value})
    form = {**schema.to_state()["forms"][0], "labels": ["a"]}
    with pytest.raises(LoadError, match="does not fit"):
        TaskSchema.from_state({**schema.to_state(), "forms": [form] * 3})


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, [[1, 1], [1, 1]]),
        (2.0, [[2, 2], [2, 2]]),
        ([1, 3], [[1, 3], [1, 3]]),
        (np.array([[1, 3], [0, 2]]), [[1, 0], [3, 2]]),
        (frame(b=[1, 2], a=[3, 4]), [[3, 4], [1, 2]]),
        (pl.DataFrame({"b": [1, 2]}), [[1, 1], [1, 2]]),
        ({"a": [5, 6]}, [[5, 6], [1, 1]]),
    ],
)
def test_check_task_weight(given, expected):
    weights = check_task_weight(given, ["a", "b"], 2)
    assert [weights["a"].tolist(), weights["b"].tolist()] == expected


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"stars": [1, 2]}, r"sample_weight has 'stars', and the tasks are \['topic', 'star'\]. Did you mean 'star'"),
        (np.ones((2, 3)), r"sample_weight has shape \(2, 3\), and there are 2 tasks"),
        ({"star": [1, -1]}, r"weights of the task 'star': Negative values .*sample_weight\[1\] is -1"),
        ({"star": [1]}, "weights of the task 'star'"),
        ([1, NAN], r"sample_weight\[1\]"),
    ],
)
def test_check_task_weight_errors(given, message):
    with pytest.raises(ValueError, match=message):
        check_task_weight(given, ["topic", "star"], 2)


@pytest.mark.parametrize(
    "given",
    [
        {"a": [1, NAN, 2]},
        {"a": pd.Series([1, None, 2], index=list("pqr"), dtype="Float64")},
        pl.DataFrame({"a": [1, None, 2]}),
        np.array([[1, 1], [NAN, 1], [2, 1]]),
    ],
)
def test_check_task_weight_of_an_unknown_target_may_be_missing(given):
    known = {"a": np.array([True, False, True]), "b": np.array([True, True, True])}
    weights = check_task_weight(given, ["a", "b"], 3, known)
    assert [weights["a"].tolist(), weights["b"].tolist()] == [[1, 0, 2], [1, 1, 1]]
    known["a"][1] = True
    with pytest.raises(ValueError, match=r"the task 'a': sample_weight.*1.* is .*, and the target .* is known"):
        check_task_weight(given, ["a", "b"], 3, known)


def test_check_task_weight_of_a_whole_task_may_be_zero():
    known = dict.fromkeys("ab", np.array([True, True]))
    assert check_task_weight({"a": [0, 0]}, ["a", "b"], 2, known)["a"].tolist() == [0, 0]
    for names, given in ((["a"], known), (["a", "b"], None)):
        with pytest.raises(ValueError, match="at least one non-zero"):
            check_task_weight({"a": [0, 0]}, names, 2, given)


def test_read_tasks_partial_lacks_columns():
    schema = read_tasks({"a": ["x", "y"], "b": [0.5, 1]}).schema
    table = read_tasks({"b": [2.5]}, like=schema, partial=True)
    assert table.known.tolist() == [[False, True]]
    with pytest.raises(ValueError, match=r"lacks \['a'\] and has \['c'\] more.*; drop the column \['c'\]$"):
        read_tasks({"b": [2.5], "c": [1]}, like=schema, partial=True)
    with pytest.raises(ValueError, match=r"one column without a name, .*\['a', 'b'\]: pass a data frame"):
        read_tasks([2.5], like=schema, partial=True)
    with pytest.raises(ValueError, match=r"lacks \['a'\], .*; a task without a known target has a column of None$"):
        read_tasks({"b": [2.5]}, like=schema)
    of_array = read_tasks(np.array([[0, 0.5], [1, 1]]), {"y0": "multiclass"}).schema
    with pytest.raises(ValueError, match=r"lacks \['y1'\]"):
        read_tasks(np.zeros((2, 1)), like=of_array, partial=True)


@pytest.mark.parametrize(
    ("values", "nothing"),
    [(["a", "b"], [None]), ([0.5, 1], [None]), ([["x"], ["y"]], [None]), (np.ones((2, 2)) / 2, np.full((1, 2), NAN))],
)
def test_unknown_targets_have_the_shape_of_known_ones(values, nothing):
    table = read_tasks({"a": values})
    column = table.columns["a"]
    task = column.make_task()
    known = task.encode_known(column.check(task), column.known, np.ones(2))
    empty = read_tasks({"a": nothing}, like=table.schema).columns["a"]
    targets = task.encode_known(empty.check(task), empty.known, np.ones(1))
    assert targets.values.shape[1:] == known.values.shape[1:]
    assert targets.values.dtype == known.values.dtype
    assert targets.weight.tolist() == [0]


@pytest.mark.parametrize("kind", [pd.array, pd.Index, pd.Series])
def test_integers_of_pandas_stay_integers_next_to_missing_ones(kind):
    given = kind([2**53 + 1, 1, None], dtype="Int64")
    values, known = known_values(given, "y", None)
    assert values.tolist() == [2**53 + 1, 1]
    assert known.tolist() == [True, True, False]
