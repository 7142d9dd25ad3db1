"""Objects that `featurize` takes as chunks."""

from __future__ import annotations

import dask.array
import dask.bag
import dask.dataframe
import datasets
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from sklearn.preprocessing import StandardScaler

from sktransfer import ImageFeaturizer, featurize
from sktransfer.exceptions import InvalidParameterError
from sktransfer.streaming.sources import open_source


def parquet_file(table, folder):
    path = folder / "input.parquet"
    table.to_parquet(path, row_group_size=9, index=False)
    return path


def csv_file(table, folder):
    path = folder / "input.csv"
    table.to_csv(path, index=False)
    return path


def arrow(table):
    return pa.Table.from_pandas(table, preserve_index=False)


def rows_of(table):
    yield from table.to_dict("records")


TABLES = {
    "pandas": lambda table, folder: table,
    "pandas with an index": lambda table, folder: table.set_axis(table["text"] + "!", axis=0),
    "pandas chunks": lambda table, folder: pd.read_csv(csv_file(table, folder), chunksize=4),
    "list of frames": lambda table, folder: [table[:7], table[7:]],
    "dict": lambda table, folder: table.to_dict("list"),
    "dicts": lambda table, folder: (table[i : i + 4].to_dict("list") for i in range(0, 25, 4)),
    "polars": lambda table, folder: pl.from_pandas(table),
    "polars lazy": lambda table, folder: pl.scan_csv(csv_file(table, folder)),
    "arrow": lambda table, folder: arrow(table),
    "arrow batches": lambda table, folder: arrow(table).to_batches(max_chunksize=8),
    "arrow reader": lambda table, folder: arrow(table).to_reader(max_chunksize=8),
    "arrow data set": lambda table, folder: pyarrow.dataset.dataset(parquet_file(table, folder)),
    "arrow scanner": lambda table, folder: pyarrow.dataset.dataset(parquet_file(table, folder)).scanner(),
    "parquet file": lambda table, folder: pq.ParquetFile(parquet_file(table, folder)),
    "datasets": lambda table, folder: datasets.Dataset.from_pandas(table, preserve_index=False),
    "datasets, selected": lambda table, folder: datasets.Dataset.from_pandas(
        pd.concat([table[::-1], table]), preserve_index=False
    ).select(range(25, 50)),
    "datasets, iterable": lambda table, folder: datasets.IterableDataset.from_generator(
        rows_of, gen_kwargs={"table": table}
    ),
    "dask": lambda table, folder: dask.dataframe.from_pandas(table, npartitions=3),
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("kind", TABLES)
def test_chunks_of_tables(kind, texts, embedder, expected, tmp_path):
    table = pd.DataFrame({"text": texts, "id": range(100, 125), "score": np.arange(25) / 4})
    out = tmp_path / "a"
    options = {"columns": "text", "keep": ["id", "score"], "chunk_size": 10}
    stored = featurize(TABLES[kind](table, tmp_path), embedder, out, **options)
    assert np.array_equal(stored.to_numpy(), expected)
    rows = pd.concat([rows for _, rows in stored.batches()], ignore_index=True)
    assert rows["id"].tolist() == list(range(100, 125))
    assert rows["score"].tolist() == table["score"].tolist()
    assert featurize(TABLES[kind](table, tmp_path), embedder, out, **options).n_computed == 0


SAMPLES = {
    "list": lambda texts: texts,
    "tuple": tuple,
    "generator of lists": lambda texts: (texts[i : i + 4] for i in range(0, 25, 4)),
    "array": lambda texts: np.array(texts, dtype=object),
    "Series": lambda texts: pd.Series(texts),
    "polars Series": lambda texts: pl.Series("text", texts),
    "arrow array": lambda texts: pa.array(texts),
    "arrow column": lambda texts: pa.chunked_array([texts[:7], texts[7:]]),
    "column of datasets": lambda texts: datasets.Dataset.from_dict({"text": texts})["text"],
    "dask Series": lambda texts: dask.dataframe.from_pandas(pd.Series(texts), npartitions=2),
    "dask bag": lambda texts: dask.bag.from_sequence(texts, npartitions=3),
    "lists of tokens": lambda texts: [text.split() for text in texts],
}


@pytest.mark.parametrize("kind", SAMPLES)
def test_chunks_of_samples(kind, texts, embedder, expected, tmp_path):
    stored = featurize(SAMPLES[kind](texts), embedder, tmp_path / "a", chunk_size=10)
    assert np.array_equal(stored.to_numpy(), expected)
    assert featurize(SAMPLES[kind](texts), embedder, tmp_path / "a", chunk_size=10).n_computed == 0


ARRAYS = {
    "numpy": lambda X, folder: X,
    "torch": lambda X, folder: torch.from_numpy(X),
    "mapped": lambda X, folder: np.memmap(folder / "X", X.dtype, "w+", shape=X.shape),
    "dask": lambda X, folder: dask.array.from_array(X, chunks=(10, 2)),
    "batches of torch": lambda X, folder: torch.utils.data.DataLoader(X, batch_size=4),
}


@pytest.mark.parametrize("kind", ARRAYS)
def test_chunks_of_arrays(kind, tmp_path):
    X = np.random.default_rng(0).normal(size=(25, 3)).astype(np.float32)
    scaler = StandardScaler().fit(X)
    data = ARRAYS[kind](X, tmp_path)
    if kind == "mapped":
        data[:] = X
    stored = featurize(data, scaler, tmp_path / "a.npy", chunk_size=10)
    assert np.array_equal(stored.to_numpy(), scaler.transform(X))
    assert stored.to_numpy().dtype == np.float32


@pytest.mark.parametrize("kind", ["arrays", "PIL", "paths", "bytes", "datasets"])
def test_chunks_of_images(kind, tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3), dtype=np.uint8)
    paths = [tmp_path / f"{i}.png" for i in range(6)]
    for path, image in zip(paths, images):
        Image.fromarray(image).save(path)
    columns = None
    if kind == "datasets":
        given = datasets.Dataset.from_dict({"photo": list(map(str, paths)), "id": range(6)})
        given, columns = given.cast_column("photo", datasets.Image()), "photo"
    else:
        read = {"arrays": np.asarray, "PIL": Image.open, "paths": str, "bytes": lambda path: path.read_bytes()}[kind]
        given = images if kind == "arrays" else [read(path) for path in paths]
    featurizer = ImageFeaturizer("tiny/cnn", layer=0).fit(images)
    stored = featurize(given, featurizer, tmp_path / "a", columns=columns, chunk_size=4)
    assert np.array_equal(stored.to_numpy(), featurizer.transform(images))
    assert featurize(given, featurizer, tmp_path / "a", columns=columns, chunk_size=4).n_computed == 0


def test_chunks_of_several_splits(embedder, tmp_path):
    splits = datasets.DatasetDict({"train": datasets.Dataset.from_dict({"text": ["a"]})})
    with pytest.raises(InvalidParameterError, match=r"several splits\. Pass one, data\['train'\]"):
        featurize(splits, embedder, tmp_path / "a")


def test_open_source_counts_rows(texts, tmp_path):
    table = pd.DataFrame({"text": texts})
    kinds = [kind for kind in TABLES if kind not in ("pandas chunks", "polars lazy")]  # which leave a file open
    counts = {kind: open_source(TABLES[kind](table, tmp_path), 10).n_rows for kind in kinds}
    known = {"pandas", "pandas with an index", "dict", "polars", "arrow", "arrow data set", "arrow scanner"}
    known |= {"parquet file", "datasets", "datasets, selected"}
    assert {kind for kind, n_rows in counts.items() if n_rows == 25} == known
    assert {counts[kind] for kind in kinds if kind not in known} == {None}
