"""One step of a stream: from the samples of a chunk to its features, the kept columns and the hashes of its rows."""

from __future__ import annotations

import json
import threading
import warnings
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.sparse import issparse
from sklearn.exceptions import NotFittedError
from sklearn.utils import get_tags
from sklearn.utils.validation import check_is_fitted

from sktransfer import exceptions
from sktransfer.cache.resolve import without_memory
from sktransfer.exceptions import InvalidParameterError, InvalidSample, InvalidSampleError, InvalidSampleWarning
from sktransfer.samples.columns import is_frame, quoted
from sktransfer.streaming.digests import SIZE, digest_rows
from sktransfer.streaming.tables import (
    Columns,
    as_chunk,
    cells,
    count_rows,
    cut,
    kept_columns,
    require_pyarrow,
    sample_columns,
)

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Block", "Step", "check_transformer", "located"]


def check_transformer(featurizer: Any) -> None:
    """Raise an error unless an object is a fitted transformer.

    Raises
    ------
    InvalidParameterError
        If it has no `transform`, or is a class.
    NotFittedError
        If it is not fitted.
    """
    name = type(featurizer).__name__
    if isinstance(featurizer, type):
        raise InvalidParameterError(
            f"featurizer={featurizer.__name__} is a class; pass a fitted object, {featurizer.__name__}().fit(X)"
        )
    if not hasattr(featurizer, "transform"):
        raise InvalidParameterError(
            f"featurizer={quoted(featurizer, 80)} is a {name}, which has no transform. Pass a fitted transformer, such "
            "as a TextFeaturizer, or a Pipeline that ends with one"
        )
    try:
        check_is_fitted(featurizer)
    except NotFittedError as error:
        raise NotFittedError(
            f"featurizer={quoted(featurizer, 80)} is not fitted: call fit with some of the samples first, as in "
            f"featurizer.fit(X[:1000])"
        ) from error


@dataclass
class Block:
    """Rows of the input, in order, with their features.

    Attributes
    ----------
    digests : ndarray of shape (n_rows, 16), uint8
        Hashes of the rows.
    names : list of str or None
        Columns that the featurizer got, if they have names.
    skip : int
        Number of rows at the start whose features were not computed.
    features : ndarray of shape (n_rows - skip, n_features) or None
        None if nothing was computed.
    kept : pa.Table or None
        The kept columns of the rows that were computed.
    warnings : list of tuple
        Class and text of each warning.
    failures : list of InvalidSample
        Samples that cannot be used, with rows counted from the start of the block.
    """

    digests: np.ndarray
    names: list[str] | None
    skip: int = 0
    features: np.ndarray | None = None
    kept: pa.Table | None = None
    warnings: list[tuple[type[Warning], str]] = field(default_factory=list)
    failures: list[Any] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.digests)

    def to_bytes(self) -> bytes:
        """Return the block as a stream of Arrow, for engines that exchange bytes."""
        pyarrow = require_pyarrow("an engine with workers")
        arrays = {} if self.kept is None else {f"kept {name}": self.kept[name] for name in self.kept.column_names}
        note: dict[str, Any] = {"names": self.names, "skip": self.skip}
        note["warnings"] = [(category.__name__, text) for category, text in self.warnings]
        note["failures"] = [(one.row, one.path, one.reason) for one in self.failures]
        if self.features is not None:
            note |= {"dtype": self.features.dtype.str, "width": self.features.shape[1]}
            rows = np.ascontiguousarray(self.features).view(np.uint8).reshape(len(self.features), -1)  # (n, n_bytes)
            kind = pyarrow.binary(rows.shape[1])
            buffers = [None, pyarrow.py_buffer(rows)]
            arrays["features"] = pyarrow.FixedSizeBinaryArray.from_buffers(kind, len(rows), buffers)
        table = pyarrow.table(arrays).replace_schema_metadata(
            {b"note": json.dumps(note).encode(), b"digests": self.digests.tobytes()}
        )
        sink = pyarrow.BufferOutputStream()
        with pyarrow.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
        content: bytes = sink.getvalue().to_pybytes()
        return content

    @classmethod
    def from_bytes(cls, content: bytes) -> Block:
        """Return the block that `to_bytes` wrote."""
        pyarrow = require_pyarrow("an engine with workers")
        table = pyarrow.ipc.open_stream(content).read_all()
        note = json.loads(table.schema.metadata[b"note"])
        digests = np.frombuffer(table.schema.metadata[b"digests"], np.uint8).reshape(-1, SIZE)  # (n_rows, 16)
        features = kept = None
        if "width" in note:
            content = b"".join(table["features"].to_pylist())
            features = np.frombuffer(content, note["dtype"]).reshape(-1, note["width"])  # (n, n_features)
            names = [name for name in table.column_names if name != "features"]
            kept = table.select(names).rename_columns([name[5:] for name in names]) if names else None
        warned = [(getattr(exceptions, name, UserWarning), text) for name, text in note["warnings"]]
        failures = [InvalidSample(*one) for one in note["failures"]]
        return cls(digests, note["names"], note["skip"], features, kept, warned, failures)


@dataclass(frozen=True)
class Step:
    """Function from a chunk to a block, which engines run on their workers.

    Parameters
    ----------
    featurizer : estimator
        Fitted transformer.
    columns : str, list of str or None
        Columns that hold the samples.
    keep : tuple of str
        Columns that are kept.
    """

    featurizer: Any
    columns: Columns = None
    keep: tuple[Hashable, ...] = ()

    def __call__(self, chunk: Any, skip: int = 0) -> Block:
        """Return the block of a chunk.

        Parameters
        ----------
        chunk : object
            Chunk of any kind.
        skip : int, default=0
            Number of rows at the start that are only hashed.
        """
        chunk = as_chunk(chunk)
        n_rows = count_rows(chunk)
        fitted = getattr(self.featurizer, "feature_names_in_", None)
        X = sample_columns(chunk, self.columns, self.keep, None if fitted is None else list(fitted))
        kept = kept_columns(chunk, self.keep)
        others = [] if kept is None else [column.to_pylist() for column in kept.columns]
        digests = digest_rows([*cells(X), *others], n_rows, files=not _takes_texts(self.featurizer))
        block = Block(digests, _names_of(X), min(skip, n_rows))
        if skip < n_rows:
            try:
                block.features = self._features(cut(X, skip, n_rows), block)
            except ValueError as error:
                if self.columns is None and fitted is None and is_frame(X):
                    raise InvalidParameterError(
                        "columns=None, so that all columns are read as samples. Name the column of the samples, as in "
                        f"columns='text' ({error})"
                    ) from error
                raise
            block.kept = None if kept is None else kept.slice(skip)
        return block

    def _features(self, X: Any, block: Block) -> np.ndarray:
        # What a stream computes is written, so that a second copy in memory would only take room.
        with without_memory(), located(None, block.skip):
            if threading.current_thread() is not threading.main_thread():  # the filters belong to all threads
                return _as_matrix(self.featurizer.transform(X), count_rows(X))
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                features = _as_matrix(self.featurizer.transform(X), count_rows(X))
        for one in caught:
            if isinstance(one.message, InvalidSampleWarning):
                block.failures += [failure._replace(row=failure.row + block.skip) for failure in one.message.failures]
            else:
                block.warnings.append((one.category, str(one.message)))
        return features


def _takes_texts(featurizer: Any) -> bool:
    """Return whether samples are texts, also those of the first step of a pipeline. Other strings may be paths."""
    while hasattr(featurizer, "steps"):
        featurizer = featurizer.steps[0][1]
    return bool(get_tags(featurizer).input_tags.string)


def _names_of(X: Any) -> list[str] | None:
    if hasattr(X, "columns"):
        return list(map(str, X.columns))
    name = getattr(X, "name", None)
    return [str(name)] if name is not None and hasattr(X, "dtype") else None


def _as_matrix(output: Any, n_rows: int) -> np.ndarray:
    """Return the output of `transform` as an array of numbers of shape (n_rows, n_features)."""
    if issparse(output):
        raise InvalidParameterError(
            f"the featurizer gives sparse features of shape {output.shape}, and dense ones are written. Add a step "
            "that reduces them, such as TruncatedSVD"
        )
    array = np.asarray(output)
    if array.ndim != 2 or array.dtype.kind not in "fiub":
        raise InvalidParameterError(
            f"the featurizer gives an array of shape {array.shape} and type {array.dtype}, and a table of numbers, "
            "(n_samples, n_features), is needed. Values per word need a pooling, or stack_words"
        )
    if len(array) != n_rows:
        raise InvalidParameterError(
            f"the featurizer gives {len(array)} rows for {n_rows} samples. Use one that gives a row per sample"
        )
    return array


@contextmanager
def located(number: int | None, start: int) -> Iterator[None]:
    """Count the row of an error from the first row of all, and name the chunk.

    Parameters
    ----------
    number : int or None
        Position of the chunk. None leaves it open.
    start : int
        Position of the first row of the chunk.
    """
    try:
        yield
    except InvalidSampleError as error:
        if not start:
            raise
        raise InvalidSampleError(error.row + start, error.message, error.label) from error
    except InvalidParameterError as error:
        if number is None:
            raise
        raise InvalidParameterError(f"chunk {number}, from row {start}: {error}") from error
    except Exception as error:
        if number is not None:
            error.add_note(f"featurize computed chunk {number}, from row {start}.")
        raise
