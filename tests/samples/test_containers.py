"""Containers of X: accepted, or refused with an expression that works."""

from __future__ import annotations

import collections
import io
import os
import re
from pathlib import Path

import dask.array
import dask.bag
import dask.dataframe
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch
from datasets import Dataset, DatasetDict, Features, Value
from datasets import Image as ImageFeature
from PIL import Image
from sklearn.model_selection import cross_val_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.utils import Bunch
from skorch.helper import SliceDataset
from torch.utils.data import DataLoader, IterableDataset, Subset, TensorDataset

from sktransfer import ImageFeaturizer, TextFeaturizer, WordEmbedder, featurize, find_bad_images
from sktransfer.exceptions import InvalidSampleError
from sktransfer.samples.containers import as_list
from sktransfer.samples.images import check_images
from sktransfer.samples.texts import check_texts
from sktransfer.words.vectors import WordVectors

TEXTS = ["a", "b", "c"]
PICTURES = [Image.new("RGB", (8, 8), (40 * i, 90, 200)) for i in range(3)]
ARRAYS = np.stack([np.asarray(picture) for picture in PICTURES])


def encoded(picture):
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


CONTENTS = [encoded(picture) for picture in PICTURES]
CELLS = [{"bytes": content, "path": f"{row}.png"} for row, content in enumerate(CONTENTS)]


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    files = [folder / f"{row}.png" for row in range(3)]
    for file, content in zip(files, CONTENTS):
        file.write_bytes(content)
    return [str(file) for file in files]


@pytest.fixture(scope="module")
def dataset():
    features = Features({"label": Value("int64"), "image": ImageFeature(), "text": Value("string")})
    return Dataset.from_dict({"label": [0, 1, 0], "image": PICTURES, "text": TEXTS}, features=features)


class Samples(torch.utils.data.Dataset):
    """A data set of torch with samples, or with pairs of a sample and a label."""

    def __init__(self, samples, has_labels=False):
        self.samples, self.has_labels = samples, has_labels

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, row):
        return (self.samples[row], row % 2) if self.has_labels else self.samples[row]


class Stream(IterableDataset):
    def __init__(self, samples):
        self.samples = samples

    def __iter__(self):
        return iter(self.samples)


class Own(collections.abc.Sequence):
    """A sequence that is no list."""

    def __init__(self, samples):
        self.samples = samples

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, row):
        return self.samples[row]


SEQUENCES = {
    "UserList": collections.UserList,
    "deque": collections.deque,
    "Sequence": Own,
    "torch Dataset": Samples,
    "Subset": lambda samples: Subset(Samples(samples), range(3)),
    "SliceDataset": lambda samples: SliceDataset(Samples(samples, has_labels=True)),
}


@pytest.mark.parametrize("name", SEQUENCES)
def test_check_texts_and_images_accept_any_sequence(name):
    texts = check_texts(SEQUENCES[name](TEXTS))
    assert [texts.load(row) for row in range(3)] == TEXTS
    for samples, kind in ((PICTURES, "PIL image"), (CONTENTS, "bytes"), (list(ARRAYS), "array")):
        images = check_images(SEQUENCES[name](samples))
        assert images.kind == kind
        assert all(np.array_equal(images.load(row), ARRAYS[row]) for row in range(3))


def test_sequences_of_rows_of_numbers_are_flat_images():
    rows = [[0.0] * 64, [1.0] * 64]
    expected = ImageFeaturizer().fit_transform(rows)
    np.testing.assert_array_equal(ImageFeaturizer().fit_transform(collections.deque(rows)), expected)


@pytest.mark.parametrize("X", [pa.array(TEXTS), pa.chunked_array([TEXTS]), pa.table({"text": TEXTS})], ids=str)
def test_check_texts_accepts_pyarrow(X):
    texts = check_texts(X)
    assert [texts.load(row) for row in range(3)] == TEXTS


CELL_COLUMNS = {
    "list": list,
    "Series": pd.Series,
    "DataFrame": lambda cells: pd.DataFrame({"image": cells}),
    "polars": pl.Series,
    "polars frame": lambda cells: pl.DataFrame({"image": cells}),
    "pyarrow": pa.array,
}


@pytest.mark.parametrize("name", CELL_COLUMNS)
def test_check_images_reads_cells_of_bytes_and_paths(name, paths):
    images = check_images(CELL_COLUMNS[name](CELLS))
    assert images.kind == "bytes"
    assert all(np.array_equal(images.load(row), ARRAYS[row]) for row in range(3))
    images = check_images(CELL_COLUMNS[name]([{"bytes": None, "path": path} for path in paths]))
    assert images.kind == "path"
    assert [images.path(row) for row in range(3)] == paths


def test_check_images_names_the_row_of_an_empty_cell():
    cells = [*CELLS, {"bytes": None, "path": None}]
    with pytest.raises(InvalidSampleError, match=r"^row 3: the image is missing"):
        check_images(cells)
    assert find_bad_images(cells)["row"].tolist() == [3]


def test_check_images_of_a_hugging_face_column_keeps_images_encoded(dataset):
    for column in (dataset["image"], dataset.select_columns("image")):
        images = check_images(column)
        assert images.kind == "bytes"
        assert all(np.array_equal(images.load(row), ARRAYS[row]) for row in range(3))
    shuffled = dataset.select([2, 0])["image"]
    images = check_images(shuffled)
    assert all(np.array_equal(images.load(i), ARRAYS[row]) for i, row in enumerate([2, 0]))


def test_check_images_of_a_formatted_hugging_face_column_uses_its_format(dataset):
    images = check_images(dataset.with_format("numpy")["image"])
    assert images.kind == "array"
    grey = dataset.cast_column("image", ImageFeature(mode="L"))["image"]
    assert check_images(grey).kind == "PIL image"
    assert check_images(dataset.to_pandas()["image"]).kind == "bytes"


def test_hugging_face_columns_in_a_cross_validation(dataset):
    repeated = dataset.select([0, 1, 2] * 4)
    y = repeated["label"]
    for featurizer, name in ((ImageFeaturizer(), "image"), (TextFeaturizer("tiny/bert"), "text")):
        scores = cross_val_score(make_pipeline(featurizer, KNeighborsClassifier(1)), repeated[name], y, cv=2)
        assert scores.tolist() == [1.0, 1.0]
    vectors = WordVectors(TEXTS, np.eye(3, dtype=np.float32))
    assert WordEmbedder(vectors).fit_transform(dataset["text"]).shape == (3, 3)


# Name, X of images, X of texts, and the expression that the messages recommend.
PAIRED = {
    "dict of a column": (lambda s: {"label": [0, 1, 0], "sample": s}, "X['sample']"),
    "dict of samples": (lambda s: dict(enumerate(s)), "list(X.values())"),
    "dict of labels": (lambda s: dict.fromkeys(s, 0), "list(X)"),
    "Bunch": (lambda s: Bunch(target=[0, 1, 0], data=s), "X['data']"),
    "generator": (lambda s: (sample for sample in s), "list(X)"),
    "map": (lambda s: map(str, s), "list(X)"),
    "dict values": (lambda s: dict(enumerate(s)).values(), "list(X)"),
    "dict keys": (lambda s: dict.fromkeys(s).keys(), "list(X)"),
    "set": (set, "list(X)"),
    "stream": (lambda s: Stream(s), "list(X)"),
    "torch pairs": (lambda s: Samples(s, has_labels=True), "[X[row][0] for row in range(len(X))]"),
    "torch dicts": (lambda s: Samples([{"y": 0, "x": x} for x in s]), "[X[row]['x'] for row in range(len(X))]"),
    "structured": (lambda s: np.array([(x, 0) for x in s], [("x", object), ("y", int)]), "X['x']"),
    "pandas": (lambda s: pd.DataFrame({"x": s, "y": 0}), "X[['x']]"),
    "polars": (lambda s: pl.DataFrame({"x": s, "y": [0] * 3}), "X[['x']]"),
    "pyarrow": (lambda s: pa.table({"x": s, "y": [0] * 3}), "X['x']"),
    "lazy": (lambda s: pl.LazyFrame({"x": s}), "X.collect()"),
    "list of dicts": (lambda s: [{"label": 0, "x": x} for x in s], "[x['x'] for x in X]"),
    "list of pairs": (lambda s: [(x, 0) for x in s], "[x[0] for x in X]"),
    "list of reversed pairs": (lambda s: [(0, x) for x in s], "[x[1] for x in X]"),
    "Series of pairs": (lambda s: pd.Series([(x, 0) for x in s]), "[x[0] for x in X]"),
    "frame of dicts": (lambda s: pd.DataFrame({"a": [{"y": 0, "x": x} for x in s]}), "[x['x'] for x in X['a']]"),
    "single": (lambda s: s[0], "[X]"),
    "0-d": (lambda s: np.array(s[0]), "[X.item()]"),
}
ONLY_TEXTS = {
    "bytes": (np.array([b"a", b"b", b"c"]), "[x if isinstance(x, str) else x.decode('utf-8') for x in X]"),
    "bytes among texts": (["a", b"b"], "[x if isinstance(x, str) else x.decode('utf-8') for x in X]"),
    "token lists among texts": (["a", ["b", "c"]], "[x if isinstance(x, str) else ' '.join(x) for x in X]"),
    "files": ([io.StringIO(text) for text in TEXTS], "[x.read() for x in X]"),
    "object columns": (np.array([["a", 0], ["b", 0]], dtype=object), "X[:, 0]"),
    "loader": (DataLoader(Samples(TEXTS)), "X.dataset"),
    "token lists": ([["a", "b"], ["c"], ["d"]], "[x if isinstance(x, str) else ' '.join(x) for x in X]"),
    "frame of token lists": (
        pd.DataFrame({"a": [["a", "b"], ["c"]]}),
        "[x if isinstance(x, str) else ' '.join(x) for x in X['a']]",
    ),
    "lists of other things": (["a", [3]], "[str(x) for x in X]"),
    "numbers": ([1, 2, 3], "[str(x) for x in X]"),
    "Series of numbers": (pd.Series([1, 2, 3]), "[str(x) for x in X]"),
    "polars frame of numbers": (pl.DataFrame({"a": [1, 2]}), "[str(x) for x in X['a']]"),
    "missing": (["a", None, float("nan")], '[x if isinstance(x, str) else "" for x in X]'),
    "missing in pandas": (pd.Series(["a", None, "c"]), 'X.fillna("")'),
    "missing in polars": (pl.Series(["a", None, "c"]), 'X.fill_null("")'),
    "missing in a frame": (pd.DataFrame({"a": ["a", None]}), 'X.fillna("")'),
    "missing in a polars frame": (pl.DataFrame({"a": ["a", None]}), 'X.fill_null("")'),
    "missing in an array": (np.array([["a"], [None]]), '[x if isinstance(x, str) else "" for x in X[:, 0]]'),
}
ONLY_IMAGES = {
    "loader": (DataLoader(Samples(ARRAYS)), "X.dataset"),
    "tensors": (TensorDataset(torch.zeros(2, 3, 8, 8)), "[X[row][0] for row in range(len(X))]"),
    "contents in files": ([io.BytesIO(content) for content in CONTENTS], "[x.read() for x in X]"),
    "nested lists": (ARRAYS.tolist(), "[np.asarray(x, dtype=np.uint8) for x in X]"),
    "rows of a Series": (pd.Series([np.zeros(64, np.uint8)] * 3), "np.stack(list(X))"),
    "rows of polars": (pl.Series(np.zeros((3, 64))), "np.stack(list(X))"),
    "one tensor": (torch.zeros(3, 9, 9), "X[None]"),
    "grey tensors": (torch.zeros(3, 9, 9), "X[:, None]"),
    "one array": (ARRAYS[0], "X[None]"),
    "grey arrays": (ARRAYS[0], "X[..., None]"),
    "one PIL image": (PICTURES[0], "[X]"),
}


def follow(X, check, expression):
    """Return the samples of an X that is refused, after the expression that the message must contain."""
    with pytest.raises(ValueError, match=re.escape(expression) + r"($|[,.; )])"):
        check(X)
    return check(eval(expression, {"np": np, "X": X}))


@pytest.mark.parametrize("name", PAIRED)
def test_hints_about_containers_of_images_and_texts_work(name, paths):
    make, expression = PAIRED[name]
    for samples, check in ((paths, check_images), (TEXTS, check_texts)):
        found = follow(make(samples), check, expression)
        expected = check(samples)
        keys = {found.key(row) for row in range(len(found))}
        assert keys == {expected.key(row) for row in range(1 if expression in ("[X]", "[X.item()]") else 3)}


@pytest.mark.parametrize("name", ONLY_TEXTS)
def test_hints_about_texts_work(name):
    follow(ONLY_TEXTS[name][0], check_texts, ONLY_TEXTS[name][1])


@pytest.mark.parametrize("name", ONLY_IMAGES)
def test_hints_about_images_work(name):
    follow(ONLY_IMAGES[name][0], check_images, ONLY_IMAGES[name][1])


def test_hint_about_paths_in_bytes_works(paths):
    X = np.array([path.encode() for path in paths])
    with pytest.raises(InvalidSampleError, match=re.escape("pass [os.fsdecode(x) for x in X]")):
        check_images(X).load(0)
    assert check_images([os.fsdecode(x) for x in X]).path(1) == paths[1]


@pytest.mark.parametrize(
    ("make", "image", "text"),
    [
        (lambda dataset: dataset, "X['image']", "X['text']"),
        (lambda dataset: dataset[:3], "X['image']", "X['text']"),
        (lambda dataset: DatasetDict({"train": dataset}), "X['train']['image']", "X['train']['text']"),
        (lambda dataset: dataset.to_iterable_dataset(), "[row['image'] for row in X]", "[row['text'] for row in X]"),
    ],
    ids=["Dataset", "rows", "DatasetDict", "IterableDataset"],
)
def test_hints_about_hugging_face_data_sets_work(make, image, text, dataset):
    assert np.array_equal(follow(make(dataset), check_images, image).load(1), ARRAYS[1])
    assert follow(make(dataset), check_texts, text).load(1) == "b"


@pytest.mark.parametrize("name", ["Series", "DataFrame", "Bag", "Delayed"])
def test_hints_about_dask_collections_work(name, tmp_path):
    series = dask.dataframe.from_pandas(pd.Series(TEXTS, name="text"), npartitions=2)
    bag = dask.bag.from_sequence(TEXTS, npartitions=2)
    X = {"Series": series, "DataFrame": series.to_frame(), "Bag": bag, "Delayed": bag.to_delayed()[0]}[name]
    with dask.config.set(scheduler="synchronous"):
        assert follow(X, check_texts, "X.compute()").load(1) == TEXTS[1]
        with pytest.raises(ValueError, match=rf"X is a {name} of Dask"):
            TextFeaturizer().fit(X)
        if name != "Delayed":
            featurizer = TextFeaturizer(cache=None).fit(TEXTS)
            stored = featurize(X, featurizer, tmp_path / "features")
            assert stored.n_rows == len(TEXTS)


def test_check_texts_reads_a_dask_array():
    texts = dask.array.from_array(np.array(TEXTS, object), chunks=2)
    assert check_texts(texts).load(1) == TEXTS[1]


@pytest.mark.parametrize("make", [pd.DataFrame, pl.DataFrame, pa.table], ids=["pandas", "polars", "pyarrow"])
def test_fit_of_images_in_a_frame_of_several_columns_says_so(make, paths):
    X = make({"path": paths, "label": [0, 1, 0]})
    with pytest.raises(ValueError, match=r"X is a DataFrame of 2 columns, \['path', 'label'\]; images must be in one"):
        ImageFeaturizer().fit(X)
    numbers = make({"a": [0.0, 1.0], "b": [0.5, 0.5], "c": [1.0, 1.0], "d": [0.0, 0.0]})
    assert ImageFeaturizer().fit_transform(numbers).shape[0] == 2


def test_as_list_of_an_object_with_keys_recommends_a_list():
    groups = pd.Series(TEXTS).groupby([0, 0, 1])
    with pytest.raises(ValueError, match=r"X is a SeriesGroupBy.*pass list\(X\)"):
        as_list(groups, "text")
    for X in ("a", b"a", 3, None, TEXTS, np.array(TEXTS), pd.Series(TEXTS), torch.zeros(2), Path("a")):
        assert as_list(X, "text") is X


def test_as_list_of_an_own_data_set_in_a_module_named_datasets(monkeypatch):
    monkeypatch.setattr(Samples, "__module__", "datasets")
    assert as_list(Samples(TEXTS), "text") == TEXTS
    with pytest.raises(ValueError, match=r"pass \[X\[row\]\[0\] for row in range\(len\(X\)\)\]"):
        as_list(Samples(TEXTS, has_labels=True), "text")


def test_check_texts_of_an_open_file_recommends_its_lines(tmp_path):
    file = tmp_path / "texts.txt"
    file.write_text("a\nb\n")
    with file.open() as X, pytest.raises(ValueError, match=r"pass X\.read\(\)\.splitlines\(\)"):
        check_texts(X)
