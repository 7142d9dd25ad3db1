"""`featurize`: outputs, columns, invalid samples, warnings, parameters that are not allowed."""

from __future__ import annotations

import sys
import warnings

import dask
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from PIL import Image
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

import sktransfer
from sktransfer import ImageFeaturizer, TextFeaturizer, WordEmbedder, featurize, load_features
from sktransfer.exceptions import (
    InvalidParameterError,
    InvalidSampleError,
    InvalidSampleWarning,
    LoadError,
    UnknownWordsWarning,
)

OUTPUTS = ["folder", "file.parquet", "array.npy"]


@pytest.fixture
def table(texts):
    return pd.DataFrame({"id": np.arange(100, 125), "text": texts, "label": [i % 2 for i in range(25)]})


@pytest.mark.parametrize("out", OUTPUTS)
def test_out_has_the_features_in_order(out, texts, embedder, expected, tmp_path):
    stored = featurize(texts, embedder, tmp_path / out, chunk_size=10)
    assert (stored.n_rows, stored.n_features, stored.n_invalid, stored.n_computed) == (25, 4, 0, 25)
    assert stored.to_numpy().dtype == np.float32
    assert np.array_equal(stored.to_numpy(), expected)
    assert [len(X) for X, _ in stored.batches()] == [10, 10, 5]
    assert np.concatenate([rows["row"] for _, rows in stored.batches()]).tolist() == list(range(25))
    again = load_features(tmp_path / out)
    assert np.array_equal(again.to_numpy(), expected)
    assert again.feature_names == [f"wordembedder{i}" for i in range(4)]
    assert not [path.name for path in tmp_path.iterdir() if path.suffix in (".lock", ".parts", ".partial")]


def test_out_is_read_by_other_libraries(table, embedder, expected, tmp_path):
    featurize(table, embedder, tmp_path / "a.parquet", columns="text", keep=["id"], chunk_size=10)
    featurize(table, embedder, tmp_path / "a", columns="text", keep=["id"], chunk_size=10)
    featurize(table["text"], embedder, tmp_path / "a.npy", chunk_size=10)
    for path in (tmp_path / "a.parquet", tmp_path / "a"):
        found = pq.read_table(path)
        assert found.column_names == ["row", "id", "features"]
        assert np.array_equal(np.stack(found.to_pandas()["features"]), expected)
        assert found["id"].to_pylist() == table["id"].tolist()
    assert pq.ParquetFile(tmp_path / "a.parquet").num_row_groups == 3
    assert np.array_equal(np.load(tmp_path / "a.npy"), expected)


@pytest.mark.parametrize("sizes", [[25], [1] * 25, [3, 0, 14, 8]], ids=str)
def test_chunks_of_any_size_give_the_same_files(sizes, texts, embedder, tmp_path):
    def chunks():
        rest = list(texts)
        for size in sizes:
            yield rest[:size]
            del rest[:size]

    featurize(texts, embedder, tmp_path / "whole", chunk_size=10)
    featurize(chunks(), embedder, tmp_path / "chunks", chunk_size=10)
    for path in (tmp_path / "whole").iterdir():
        assert path.read_bytes() == (tmp_path / "chunks" / path.name).read_bytes()


def test_columns_and_keep(table, embedder, expected, tmp_path):
    stored = featurize(table, embedder, tmp_path / "a", columns="text", keep=["label", "id"], chunk_size=10)
    assert stored.columns == ["label", "id"]
    rows = pd.concat([rows for _, rows in stored.batches()], ignore_index=True)
    assert list(rows) == ["row", "label", "id"]
    assert rows[["id", "label"]].equals(table[["id", "label"]])
    stored = featurize(table[["text", "id"]], embedder, tmp_path / "b", keep="id")  # the column that is left
    assert np.array_equal(stored.to_numpy(), expected)


def test_columns_are_those_of_fit(table, tmp_path):
    columns = ColumnTransformer([("text", TfidfVectorizer(), "text"), ("number", StandardScaler(), ["label"])])
    model = make_pipeline(columns.set_params(sparse_threshold=0), PCA(3)).fit(table)
    scaler = StandardScaler().fit(table[["label"]])
    assert featurize(table, model, tmp_path / "a", keep="id").n_features == 3
    stored = featurize(table, scaler, tmp_path / "b")
    assert np.array_equal(stored.to_numpy(), scaler.transform(table[["label"]]))
    assert stored.to_numpy().dtype == np.float64
    assert stored.feature_names == ["label"]


@pytest.mark.parametrize("out", ["a", "a.parquet"])
def test_invalid_images_are_nan_or_dropped(out, tmp_path):
    good, bad = np.zeros((8, 8, 3), np.uint8), str(tmp_path / "missing.jpg")
    paths = []
    for i in range(4):
        paths.append(str(tmp_path / f"{i}.png"))
        Image.fromarray(good + 60 * i).save(paths[-1])
    paths[1:1] = [bad]
    featurizer = ImageFeaturizer("tiny/cnn", layer=0, on_error="warn").fit(paths[:1])
    with pytest.warns(InvalidSampleWarning, match=r"1 of 5 images.*\n  row 1: .*missing\.jpg") as caught:
        stored = featurize(paths, featurizer, tmp_path / out, chunk_size=2)
    assert len(caught) == 1
    assert (stored.n_rows, stored.n_invalid) == (5, 1)
    assert np.isnan(stored.to_numpy()).all(1).tolist() == [False, True, False, False, False]
    with pytest.warns(InvalidSampleWarning):
        stored = featurize(paths, featurizer, tmp_path / f"dropped{out}", chunk_size=2, invalid="drop")
    assert (stored.n_rows, stored.n_invalid) == (4, 1)
    assert np.concatenate([rows["row"] for _, rows in stored.batches()]).tolist() == [0, 2, 3, 4]
    assert np.isfinite(stored.to_numpy()).all()


@pytest.mark.parametrize("out", ["a", "a.parquet"])
def test_invalid_drop_may_leave_no_row(out, tmp_path):
    nothing = FunctionTransformer(lambda X: np.full((len(X), 2), np.nan, np.float32))
    stored = featurize(["a", "b", "c"], nothing, tmp_path / out, invalid="drop", chunk_size=2)
    assert (stored.n_rows, stored.n_invalid) == (0, 3)
    assert stored.to_numpy().shape == (0, 2)
    assert pq.read_table(tmp_path / out).num_rows == 0
    assert featurize(["a", "b", "c"], nothing, tmp_path / out, invalid="drop", chunk_size=2).n_computed == 0


def test_on_error_raise_names_the_row_of_all_and_keeps_what_is_written(texts, tmp_path, embedder, expected):
    texts = [*texts[:13], None, *texts[14:]]
    with pytest.raises(InvalidSampleError, match="row 13: the text is missing") as caught:
        featurize(texts, embedder, tmp_path / "a", chunk_size=5)
    assert caught.value.row == 13
    assert len(list((tmp_path / "a").glob("*.parquet"))) == 2
    with pytest.raises(LoadError, match="no complete features"):
        load_features(tmp_path / "a")


def test_warnings_are_issued_once_per_kind(embedder, tmp_path):
    texts = ["no such words here at all"] * 90
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        featurize(texts, embedder, tmp_path / "a", chunk_size=30)
    assert [one.category for one in caught] == [UnknownWordsWarning]
    assert str(caught[0].message).startswith("rows 0 to 29: ")
    assert caught[0].filename == __file__


def test_verbose_shows_the_rows(texts, embedder, tmp_path, capsys):
    featurize(texts, embedder, tmp_path / "a", verbose=1)
    featurize(iter([texts]), embedder, tmp_path / "b", verbose=1)
    known, unknown = capsys.readouterr().err.strip().splitlines()
    assert "featurize: WordEmbedder(" in known
    assert "25/25 rows" in known
    assert ": 25 rows" in unknown


def test_memory_cache_is_not_used(tmp_path):
    sktransfer.clear_cache()
    featurizer = TextFeaturizer("tiny/bert", layer=0, cache="memory").fit(["one"])
    before = sktransfer.cache_info().n_bytes
    featurize(["two", "three"], featurizer, tmp_path / "a.npy")
    assert sktransfer.cache_info().n_bytes == before
    featurizer.transform(["two", "three"])
    assert sktransfer.cache_info().n_bytes > before


def test_partial_fit_over_batches(table, embedder, tmp_path):
    table["label"] = [int("good" in text) for text in table["text"]]
    stored = featurize(table, embedder, tmp_path / "a", columns="text", keep="label", chunk_size=5)
    head = SGDClassifier(random_state=0)
    for epoch in range(10):
        for X, rows in stored.batches(random_state=epoch):
            head.partial_fit(X, rows["label"], classes=[0, 1])
    assert head.score(stored.to_numpy(), table["label"]) > 0.9


def test_batches_random_state_shuffles_parts_and_rows(texts, embedder, expected, tmp_path):
    stored = featurize(texts, embedder, tmp_path / "a.parquet", chunk_size=5)
    order = [np.concatenate([rows["row"] for _, rows in stored.batches(seed)]) for seed in (0, 0, 1)]
    assert np.array_equal(order[0], order[1])
    assert not np.array_equal(order[0], order[2])
    assert sorted(order[0]) == list(range(25))
    for X, rows in stored.batches(0):
        assert np.array_equal(X, expected[rows["row"]])


@pytest.mark.parametrize(
    ("featurizer", "error", "message"),
    [
        (WordEmbedder, InvalidParameterError, r"is a class; pass a fitted object, WordEmbedder\(\)\.fit\(X\)"),
        (TextFeaturizer(), NotFittedError, "is not fitted: call fit with some of the samples first"),
        (make_pipeline(TextFeaturizer(), PCA()), NotFittedError, "is not fitted"),
        (LogisticRegression(), InvalidParameterError, "which has no transform"),
        ("tiny/bert", InvalidParameterError, "is a str|has no transform"),
    ],
    ids=["class", "not fitted", "pipeline", "classifier", "name"],
)
def test_featurizer_must_be_a_fitted_transformer(featurizer, error, message, tmp_path):
    with pytest.raises(error, match=message):
        featurize(["a"], featurizer, tmp_path / "a")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda X: np.array([["a"]] * len(X)), "array of shape .* and type <U1, and a table of numbers"),
        (lambda X: np.zeros(len(X)), r"array of shape \(25,\) and type float64"),
        (lambda X: np.zeros((3, 2)), "gives 3 rows for 25 samples"),
        (lambda X: TfidfVectorizer().fit_transform(X), "sparse features of shape .*TruncatedSVD"),
    ],
    ids=["strings", "1d", "rows", "sparse"],
)
def test_features_must_be_a_table_of_numbers(function, message, texts, tmp_path):
    with pytest.raises(InvalidParameterError, match=f"chunk 0, from row 0: .*{message}"):
        featurize(texts, FunctionTransformer(function), tmp_path / "a")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"invalid": "skip"}, "invalid='skip' must be one of"),
        ({"chunk_size": 0}, "chunk_size=0 must be an int of at least 1"),
        ({"resume": "no"}, "resume='no'"),
        ({"columns": 1.5}, "columns=1.5 must be the name of a column"),
        ({"keep": []}, r"keep=\[\] must be the name of a column"),
        ({"columns": "txt"}, r"chunk 0, from row 0: it has no column 'txt', which columns names. Its columns are"),
        ({"columns": "text", "keep": "date"}, "it has no column 'date', which keep names"),
        ({"keep": ["id", "text", "label"]}, "all of its columns are kept"),
        ({"columns": "text", "keep": "features"}, "has the name 'features', which the output has for its own column"),
    ],
    ids=str,
)
def test_parameters_that_are_not_allowed(parameters, message, table, embedder, tmp_path):
    with pytest.raises(InvalidParameterError, match=message):
        featurize(table, embedder, tmp_path / "a", **parameters)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("parameters", [{"keep": "id"}, {"invalid": "drop"}], ids=str)
def test_npy_refuses_other_columns(parameters, table, embedder, tmp_path):
    with pytest.raises(InvalidParameterError, match=r"Choose a folder or a \.parquet file"):
        featurize(table, embedder, tmp_path / "a.npy", columns="text", **parameters)


@pytest.mark.parametrize(
    ("chunks", "message"),
    [
        ("reviews.csv", r"chunks='reviews.csv' is one str.*pandas\.read_csv\(path, chunksize=1000\)"),
        (3, "chunks is a int, which yields no chunks"),
        ((text for text in ["a good film"]), "chunk 0, from row 0: it is one str, 'a good film', not a list"),
        ([dask.delayed(list)()], "chunk 0, from row 0: it is a Delayed of Dask, which is not computed yet"),
        (({"text": ["a"], "id": 1} for _ in range(1)), "it is a dict whose values are no columns of one length"),
        ([pd.DataFrame({"text": ["good"]}), pd.DataFrame({"title": ["bad"]})], "rows 1 to 1 have the columns"),
    ],
    ids=["path", "number", "samples", "delayed", "dict", "columns"],
)
def test_chunks_that_are_not_allowed(chunks, message, embedder, tmp_path):
    with pytest.raises(InvalidParameterError, match=message):
        featurize(chunks, embedder, tmp_path / "a")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("chunks", [[], iter([]), iter([[], []])], ids=["list", "iterator", "empty chunks"])
def test_chunks_without_rows(chunks, embedder, tmp_path):
    with pytest.raises(ValueError, match="chunks has no rows"):
        featurize(chunks, embedder, tmp_path / "a")
    assert not list(tmp_path.iterdir())


def test_kept_columns_of_other_types_are_cast_or_refused(texts, embedder, tmp_path):
    chunks = [
        pd.DataFrame({"text": texts[:5], "n": range(5)}),
        pd.DataFrame({"text": texts[:5], "n": [1.0, None] * 2 + [3]}),
    ]
    stored = featurize(chunks, embedder, tmp_path / "a", columns="text", keep="n", chunk_size=5)
    assert [rows["n"].dtype.kind for _, rows in stored.batches()] == ["i", "f"]  # one type of Arrow, with nulls
    assert pq.read_table(tmp_path / "a").schema.field("n").type == "int64"
    chunks[1]["n"] = list("abcde")
    with pytest.raises(InvalidParameterError, match=r"rows 5 to 9: the kept column 'n' has the type .*string.*int64"):
        featurize(chunks, embedder, tmp_path / "b", columns="text", keep="n", chunk_size=5)
    with pytest.raises(InvalidParameterError, match="a kept column has several types"):
        featurize(chunks, embedder, tmp_path / "c", columns="text", keep="n", chunk_size=50)
    chunks[0]["n"] = [{1: 2}, [3], object(), "a", 5]
    with pytest.raises(InvalidParameterError, match="its column 'n' cannot be kept"):
        featurize(chunks, embedder, tmp_path / "d", columns="text", keep="n", chunk_size=5)


@pytest.mark.parametrize("out", OUTPUTS)
def test_out_of_something_else_is_never_replaced(out, texts, embedder, tmp_path):
    path = tmp_path / out
    if out == "folder":
        path.mkdir()
        (path / "mine.txt").write_text("mine")
    elif out == "array.npy":
        np.save(path, np.zeros(3))
    else:
        pd.DataFrame({"a": [1]}).to_parquet(path)
    for resume in (True, False):
        with pytest.raises(InvalidParameterError, match="which featurize has not written and never replaces"):
            featurize(texts, embedder, path, resume=resume)
    with pytest.raises(LoadError, match="has no complete features"):
        load_features(path)


def test_out_must_be_a_path_in_a_folder(texts, embedder, tmp_path):
    with pytest.raises(InvalidParameterError, match=r"there is no folder .*; create it first"):
        featurize(texts, embedder, tmp_path / "none" / "a")
    with pytest.raises(InvalidParameterError, match="out=3 must be the path"):
        featurize(texts, embedder, 3)
    with pytest.raises(LoadError, match="there is no such file or folder"):
        load_features(tmp_path / "none")


def test_out_needs_pyarrow(texts, embedder, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ImportError, match=r'pip install "pyarrow>=18".*out="features.npy"'):
        featurize(texts, embedder, tmp_path / "a.parquet")
    assert featurize(texts, embedder, tmp_path / "a.npy").n_rows == 25


@pytest.mark.parametrize("out", OUTPUTS)
@pytest.mark.parametrize("damage", ["deleted", "damaged"])
def test_features_that_cannot_be_read_name_the_file(out, damage, texts, embedder, expected, tmp_path):
    path = tmp_path / out
    stored = featurize(texts, embedder, path, chunk_size=10)
    file = path / "part-00000001.parquet" if out == "folder" else path
    file.unlink() if damage == "deleted" else file.write_bytes(b"no table" * 20)
    for read in (stored.to_numpy, lambda: list(stored.batches())):
        with pytest.raises(LoadError, match=rf"features of .*{path.name} cannot be read.*call featurize again"):
            read()
    file.unlink(missing_ok=True)
    assert np.array_equal(featurize(texts, embedder, path, chunk_size=10).to_numpy(), expected)


def test_repr_does_not_list_the_features(texts, embedder, tmp_path):
    stored = featurize(texts, embedder, tmp_path / "a")
    assert "wordembedder0" not in repr(stored)
    assert "n_rows=25, n_features=4" in repr(stored)


def test_load_features_needs_a_path():
    with pytest.raises(InvalidParameterError, match="path=None must be the path that featurize had as out"):
        load_features(None)


@pytest.mark.parametrize(
    ("out", "message"),
    [
        ("features.csv", r"ends in '.csv', and no such file is written. End it in .parquet or .npy"),
        (
            "s3://key:hunter2@bucket/a.npy",
            r"out='s3://\*\*\*@bucket/a.npy' is a URL, and features are written on this machine",
        ),
        (["a good film"] * 1000, r"^out=\['a good film',.{50,70}\.\.\. must be the path"),
    ],
    ids=["ending", "url", "swapped"],
)
def test_out_of_another_form(out, message, texts, embedder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidParameterError, match=message):
        featurize(texts, embedder, out)
    assert not list(tmp_path.iterdir())


def test_kept_ints_that_no_float_equals_are_named(texts, embedder, tmp_path):
    chunks = [pd.DataFrame({"text": texts[:2], "n": [2**53 + 1] * 2}), pd.DataFrame({"text": texts[:2], "n": np.nan})]
    with pytest.raises(InvalidParameterError, match=r"a kept column has several types .*9007199254740993"):
        featurize(chunks, embedder, tmp_path / "a", columns="text", keep="n")


def test_table_without_columns_is_told_to_name_one(table, embedder, tmp_path):
    with pytest.raises(InvalidParameterError, match=r"as in columns='text' \(.*must be in one column"):
        featurize(table, embedder, tmp_path / "a")
