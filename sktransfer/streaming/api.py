"""Features of a stream of chunks, written into files."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from sktransfer._utils import local_path, progress, title_of
from sktransfer._validation import check_bool, check_int, check_option
from sktransfer.cache.urls import is_url, without_secrets
from sktransfer.exceptions import InvalidParameterError, ResumeError
from sktransfer.samples.columns import quoted
from sktransfer.streaming.digests import fingerprint, versions
from sktransfer.streaming.features import StoredFeatures, stored
from sktransfer.streaming.log import FORMAT
from sktransfer.streaming.recorder import Recorder
from sktransfer.streaming.sinks import FEATURES, ROW, Sink, sink_of
from sktransfer.streaming.sources import Source, open_source
from sktransfer.streaming.step import Step, check_transformer
from sktransfer.streaming.tables import require_pyarrow

__all__ = ["featurize"]

_INVALID = ("nan", "drop")
_OTHER_FILES = (
    ".arrow",
    ".csv",
    ".feather",
    ".h5",
    ".hdf5",
    ".joblib",
    ".json",
    ".npz",
    ".pickle",
    ".pkl",
    ".pq",
    ".tsv",
)


def featurize(
    chunks: Any,
    featurizer: Any,
    out: str | os.PathLike[str],
    *,
    columns: Any = None,
    keep: Any = None,
    invalid: str = "nan",
    chunk_size: int = 1000,
    resume: bool = True,
    verbose: int = 0,
) -> StoredFeatures:
    """Transform data that are larger than memory, chunk by chunk, and write the features into files.

    A run that was interrupted, even by a kill, is resumed by the same call. Rows that are written are read again and
    compared, but not transformed again. The output equals that of an uninterrupted run.

    Parameters
    ----------
    chunks : iterable of chunks, or data set
        The samples. A chunk is a list, an array, a Series, a table of pandas, polars or Arrow, or a dict of columns.
        Iterators and generators yield chunks, such as `pandas.read_csv(path, chunksize=1000)`, and so does a list of
        tables. Another list, an array, a Series or a table holds samples and is cut. Data sets are read chunk by chunk:
        `DataFrame`, `Series`, `Bag` and `Array` of Dask, data sets of Ray, Arrow and Hugging Face, a `LazyFrame` of
        polars, a `DataFrame` of Spark.
    featurizer : fitted transformer
        `ImageFeaturizer`, `TextFeaturizer`, `WordEmbedder`, or any transformer of scikit-learn that gives a table of
        numbers, also a `Pipeline` or a `ColumnTransformer`.
    out : str or Path
        A path that ends in ".parquet" is one file, and one that ends in ".npy" an array of NumPy. Another path is a
        folder with a Parquet file for each `chunk_size` rows. Parquet needs the package pyarrow. Endings of other
        files, such as ".csv", are refused.
    columns : str or list of str, default=None
        Columns that hold the samples. A name passes a Series to the featurizer, a list a table. None passes the columns
        that the featurizer was fitted on, or else all that are not in `keep`.
    keep : str or list of str, default=None
        Columns to write with the features, such as an id or the label.
    invalid : {"nan", "drop"}, default="nan"
        What becomes of samples whose features are all NaN, which is how featurizers with `on_error="warn"` or "nan"
        return images that cannot be used. "nan" writes them, "drop" leaves them out.
    chunk_size : int, default=1000
        Number of rows of a part, which is written at once. An interrupted run loses a part at most. Larger chunks are
        cut, smaller ones are joined after their transformation.
    resume : bool, default=True
        Whether to continue an output of an earlier call. False replaces it.
    verbose : int, default=0
        1 shows the progress.

    Returns
    -------
    features : StoredFeatures
        Path and number of rows, and the features batch by batch. `load_features` opens them later.

    Raises
    ------
    ImportError
        If the output needs pyarrow, which is not installed.
    InvalidParameterError
        If a parameter is not allowed, there is something else at `out`, or chunks have different columns.
    InvalidSampleError
        If a sample cannot be used. Its `row` counts from the first row of all chunks.
    NotFittedError
        If the featurizer is not fitted.
    ResumeError
        If the output was written from other samples, by another featurizer, with other settings, or in a format of
        another version.
    ValueError
        If there are no rows.

    Warns
    -----
    InvalidSampleWarning
        Once at the end, if images cannot be used and the featurizer has `on_error="warn"`. It lists the first 10,000 of
        those that this call has read. Other warnings are issued once per kind.

    See Also
    --------
    load_features : Opens features that were written.

    Notes
    -----
    **Files.** Parquet has the column "row", the position in the input counted from 0, the kept columns, and "features",
    a list of fixed size per row in the type that the featurizer returns. A `.npy` file has no other columns.

    **What is compared.** The log of an output has a hash of the featurizer, with all parameters but `batch_size`,
    `cache`, `n_jobs` and `verbose`, and with the weights. A function in it counts by its code and the plain values that
    it uses. It has the versions of the packages that compute, the
    settings of this function, and a hash of the rows of each part, of samples and kept columns. Files of images count
    by path, size and time of change. A difference raises a `ResumeError` that names it, without any change of the
    output.

    **Memory.** One chunk is held at a time, and the features of a part. `cache="memory"` has no effect here, because
    every sample is read once. A folder as the cache is used.

    **Workers.** The featurizer runs on the workers of a cluster of Dask if there is a client, in tasks of Ray, and in
    `mapInArrow` of Spark. Two chunks per worker are computed ahead. Their rows must come in the same order at each call
    for a resumption.

    Examples
    --------
    >>> import pandas as pd
    >>> from sktransfer import TextFeaturizer, featurize
    >>> table = pd.DataFrame({"id": [7, 8, 9], "text": ["a good film", "a bad one", "a dull plot"]})
    >>> table.to_csv("reviews.csv", index=False)
    >>> chunks = pd.read_csv("reviews.csv", chunksize=2)
    >>> stored = featurize(chunks, TextFeaturizer().fit(table["text"]), "features", columns="text", keep="id")
    >>> stored.n_rows, stored.n_features
    (3, 160)
    >>> X, rows = next(stored.batches())
    >>> rows["id"].tolist()
    [7, 8, 9]
    """
    check_transformer(featurizer)
    columns = _as_names("columns", columns)
    kept = _as_names("keep", keep)
    kept = [] if kept is None else kept if isinstance(kept, list) else [kept]
    settings = {
        "format": FORMAT,
        "featurizer": {"title": title_of(featurizer, 400), "fingerprint": fingerprint(featurizer)},
        "versions": versions(),
        "columns": columns,
        "keep": kept,
        "invalid": check_option("invalid", invalid, _INVALID),
        "chunk_size": check_int("chunk_size", chunk_size, 1),
    }
    resume = check_bool("resume", resume)
    sink = _check_out(out, settings)
    source = open_source(chunks, settings["chunk_size"])
    step = Step(featurizer, columns, tuple(kept))
    title = f"featurize: {title_of(featurizer)}"
    with _locked(sink.out):
        if resume:
            sink.log.check_format(f"out={str(out)!r}", ResumeError)
        sink.open(resume=resume)
        if sink.log.settings is not None:
            sink.log.check(settings, str(out))
        recorder = Recorder(sink, settings, _feature_names(featurizer))
        with progress(source.n_rows, title, "row", verbose) as bar:
            _record(source, step, recorder, bar)
    return stored(sink, recorder.n_computed)


def _record(source: Source, step: Step, recorder: Recorder, bar: Any) -> None:
    with contextlib.closing(iter(source.blocks(step, recorder.n_written))) as blocks:  # type: ignore[type-var]
        for block in blocks:
            recorder.add(block)
            bar.update(len(block))
    recorder.end()


def _as_names(name: str, value: Any) -> Hashable | list[Hashable] | None:
    if value is None or isinstance(value, (str, int)):
        return value
    if isinstance(value, Sequence) and value and all(isinstance(one, (str, int)) for one in value):
        return list(value)
    raise InvalidParameterError(f"{name}={value!r} must be the name of a column, a list of names, or None")


def _check_out(out: Any, settings: dict[str, Any]) -> Sink:
    if not isinstance(out, (str, os.PathLike)) or not os.fspath(out):
        raise InvalidParameterError(
            f"out={quoted(out, 80)} must be the path of a folder, of a .parquet or of a .npy file"
        )
    if is_url(out):
        raise InvalidParameterError(
            f"out={without_secrets(repr(out))} is a URL, and features are written on this machine. Give the path of a "
            "folder, of a .parquet or of a .npy file, and copy the output"
        )
    sink = sink_of(Path(os.path.realpath(local_path(out))))
    if sink.out.suffix.lower() in _OTHER_FILES and not sink.out.is_dir():
        raise InvalidParameterError(
            f"out={str(out)!r} ends in {sink.out.suffix!r}, and no such file is written. End it in .parquet or .npy, "
            "or give a folder of another name"
        )
    if not sink.out.parent.is_dir():
        raise InvalidParameterError(f"out={str(out)!r}: there is no folder {str(sink.out.parent)!r}; create it first")
    if not sink.has_columns and (settings["keep"] or settings["invalid"] == "drop"):
        given = f"keep={settings['keep']!r}" if settings["keep"] else "invalid='drop'"
        raise InvalidParameterError(
            f"out={str(out)!r} is an array, whose rows are those of the input without other columns, and {given} is "
            "given. Choose a folder or a .parquet file"
        )
    if sink.has_columns:
        require_pyarrow(f"out={str(out)!r}")
    taken = [name for name in settings["keep"] if name in (ROW, FEATURES)]
    if taken:
        raise InvalidParameterError(
            f"keep={settings['keep']!r} has the name {taken[0]!r}, which the output has for its own column. Rename the "
            "column in the chunks"
        )
    return sink


@contextlib.contextmanager
def _locked(out: Path) -> Any:
    """Let one process at a time write an output. A lock ends with its process."""
    lock = FileLock(f"{out}.lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise InvalidParameterError(
            f"out={str(out)!r} is being written by another process. Wait for its end, or choose another path"
        ) from None
    try:
        yield
    finally:
        Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()


def _feature_names(featurizer: Any) -> list[str] | None:
    try:
        return list(map(str, featurizer.get_feature_names_out()))
    except (AttributeError, TypeError, ValueError):  # a transformer without names, or with those of its input
        return None
