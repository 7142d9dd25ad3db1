"""Recorder of blocks: compares rows that are written, and writes the others in parts of a fixed number of rows."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from sktransfer.exceptions import InvalidParameterError, InvalidSampleWarning, ResumeError, warn
from sktransfer.samples.columns import quoted
from sktransfer.streaming.digests import digest_part
from sktransfer.streaming.sinks import Sink
from sktransfer.streaming.step import Block
from sktransfer.streaming.tables import require_pyarrow

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Recorder"]

_LISTED = 10_000  # samples that cannot be used, named in one warning


class Recorder:
    """Recorder of the blocks of a stream.

    Parameters
    ----------
    sink : Sink
        Open output.
    settings : mapping
        Settings of the stream, which the first part completes.
    feature_names : list of str or None
        Names of the features.
    """

    def __init__(self, sink: Sink, settings: Mapping[str, Any], feature_names: list[str] | None) -> None:
        self.sink, self.log = sink, sink.log
        self.settings, self.feature_names = dict(settings), feature_names
        self.n_written = self.log.n_rows
        self.n_seen = self.n_computed = 0
        self._part = self._n_pending = self._target = 0  # number of the present part, its rows so far and at its end
        self._expected: tuple[Any, Any] = (None, None)
        if self.log.settings is not None:
            written = self.log.settings
            self._expected = written["names"], (written["dtype"], written["n_features"])
        self._digests: list[np.ndarray] = []
        self._values: list[tuple[np.ndarray, Any]] = []
        self._warned: set[type[Warning]] = set()
        self._failures: list[Any] = []
        self._n_samples = 0

    def add(self, block: Block) -> None:
        """Take the next block.

        Raises
        ------
        InvalidParameterError
            If its columns or features are not those of the blocks before.
        ResumeError
            If rows that are written have changed.
        """
        if not len(block):
            return
        self._check(block)
        self._report(block)
        start = 0
        while start < len(block):
            if not self._n_pending:
                self._target = self._next_target()
            stop = min(len(block), start + self._target - self._n_pending)
            self._digests.append(block.digests[start:stop])
            if block.features is not None and start >= block.skip:
                kept = None if block.kept is None else block.kept.slice(start - block.skip, stop - start)
                self._values.append((block.features[start - block.skip : stop - block.skip], kept))
                self.n_computed += stop - start
            self._n_pending += stop - start
            self.n_seen += stop - start
            if self._n_pending == self._target:
                self._close()
            start = stop

    def _next_target(self) -> int:
        """Return the number of rows of the next part."""
        if self.n_seen < self.n_written:
            return int(self.log.parts[self._part]["rows"])
        size: int = self.settings["chunk_size"]
        if self.n_seen == self.n_written and (self.n_written % size or self.log.totals is not None):
            raise ResumeError(
                f"out={str(self.sink.out)!r} holds {self.n_written} rows, and there are more now. Pass resume=False to "
                "write all again, or another out"
            )
        return size

    def _check(self, block: Block) -> None:
        """Compare the columns and features of a block with those of the first one."""
        names, shape = self._expected
        rows = f"rows {self.n_seen} to {self.n_seen + len(block) - 1}"
        if (self.n_seen or shape) and block.names != names:
            raise InvalidParameterError(
                f"{rows} have the columns {quoted(block.names)}, and the first rows {quoted(names)}. Name the columns "
                "of the samples, as in columns='text'"
            )
        found = None
        if block.features is not None:
            found = block.features.dtype.str, block.features.shape[1]
            if shape and found != shape:
                raise InvalidParameterError(
                    f"{rows} have {found[1]} features of type {found[0]}, and the first rows {shape[1]} of type "
                    f"{shape[0]}. Pass chunks with the same columns of the same types"
                )
        self._expected = block.names, shape or found

    def _report(self, block: Block) -> None:
        """Issue the first warning of each kind, and keep the samples that cannot be used for one at the end."""
        for category, text in block.warnings:
            if category not in self._warned:
                self._warned.add(category)
                warn(f"rows {self.n_seen + block.skip} to {self.n_seen + len(block) - 1}: {text}", category)
        room = _LISTED - len(self._failures)
        self._failures += [one._replace(row=one.row + self.n_seen) for one in block.failures[:room]]
        self._n_samples += len(block) - block.skip

    def _close(self) -> None:
        """Compare the present part with the log if it is written, or else write it."""
        digests, self._digests = np.concatenate(self._digests), []  # (n_rows, 16)
        values, self._values = self._values, []
        number, self._part = self._part, self._part + 1
        first, self._n_pending = self.n_seen - self._n_pending, 0
        digest = digest_part(digests)
        if number < len(self.log.parts):
            if self.log.parts[number]["digest"] != digest:
                raise ResumeError(
                    f"out={str(self.sink.out)!r} was written from other samples: rows {first} to {self.n_seen - 1} "
                    "have changed, or come in another order. Pass resume=False to write all again, or another out"
                )
            return
        features = np.concatenate([one for one, _ in values])  # (n_rows, n_features)
        kept = _joined([table for _, table in values])
        if self.log.settings is None:
            self._start(features, kept)
        else:
            kept = self._cast(kept, first)
        self._write(first, digest, features, kept)

    def _start(self, features: np.ndarray, kept: pa.Table | None) -> None:
        names, width = self.feature_names, features.shape[1]
        self.sink.begin()
        self.log.start(
            {
                **self.settings,
                "names": self._expected[0],
                "n_features": width,
                "dtype": features.dtype.str,
                "feature_names": names if names is not None and len(names) == width else None,
                "schema": None if kept is None else base64.b64encode(kept.schema.serialize()).decode(),
            }
        )

    def _cast(self, kept: pa.Table | None, first: int) -> pa.Table | None:
        """Return kept columns with the types of the first part."""
        if kept is None:
            return None
        assert self.log.settings is not None
        pyarrow = require_pyarrow("keep")
        schema = pyarrow.ipc.read_schema(pyarrow.py_buffer(base64.b64decode(self.log.settings["schema"])))
        columns = []
        for column in schema:
            values = kept[column.name]
            try:
                columns.append(values.cast(column.type))
            except (pyarrow.ArrowInvalid, pyarrow.ArrowNotImplementedError) as error:
                raise InvalidParameterError(
                    f"rows {first} to {first + len(values) - 1}: the kept column {column.name!r} has the type "
                    f"{values.type}, and {column.type} in the first rows ({error}). Give it one type in all chunks, as "
                    "by dtype= of pandas.read_csv"
                ) from error
        return pyarrow.table(columns, schema=schema)

    def _write(self, first: int, digest: str, features: np.ndarray, kept: pa.Table | None) -> None:
        rows = np.arange(first, first + len(features))
        invalid = np.isnan(features).all(1) if features.dtype.kind == "f" else np.zeros(len(features), bool)
        part = {"rows": len(features), "invalid": int(invalid.sum()), "digest": digest}
        if self.settings["invalid"] == "drop" and invalid.any():
            features, rows = features[~invalid], rows[~invalid]  # (n_valid, n_features), (n_valid,)
            kept = None if kept is None else kept.filter(~invalid)
        size = self.sink.write(rows, features, kept)
        self.log.add({**part, "written": len(rows), "size": size})

    def end(self) -> None:
        """Write the last part, and complete the output.

        Raises
        ------
        ResumeError
            If there are fewer rows than are written.
        ValueError
            If there are no rows.
        """
        if self._n_pending and self.n_seen > self.n_written:
            self._close()
        if self.n_seen < self.n_written:
            hint = "resume=False to write all again, or another out"
            raise ResumeError(
                f"out={str(self.sink.out)!r} holds {self.n_written} rows, and there are only {self.n_seen} now. Pass "
                + (hint if self.n_seen else f"a new generator if it was used up by an earlier call, {hint}")
            )
        if not self.n_seen:
            raise ValueError("chunks has no rows: Found array with 0 sample(s) while a minimum of 1 is required")
        parts = self.log.parts
        n_rows, n_invalid = (sum(part[name] for part in parts) for name in ("written", "invalid"))
        self.sink.finish({"n_rows": n_rows, "n_invalid": n_invalid})
        if self._failures:
            warn(InvalidSampleWarning(self._failures, self._n_samples))


def _joined(tables: list[Any]) -> pa.Table | None:
    if tables[0] is None:
        return None
    pyarrow = require_pyarrow("keep")
    try:
        return pyarrow.concat_tables(tables, promote_options="permissive").combine_chunks()
    except (pyarrow.ArrowTypeError, pyarrow.ArrowInvalid) as error:  # invalid: large ints that no float is equal to
        raise InvalidParameterError(
            f"a kept column has several types ({error}). Give it one type in all chunks, as by dtype= of "
            "pandas.read_csv"
        ) from error
