"""Forms of output: a folder of Parquet files, one Parquet file, an array of NumPy."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sktransfer.exceptions import InvalidParameterError
from sktransfer.streaming.log import Log
from sktransfer.streaming.tables import require_pyarrow

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["FEATURES", "ROW", "FolderSink", "NumpySink", "ParquetSink", "Sink", "sink_of"]

ROW, FEATURES = "row", "features"  # columns of ours
LOG = "_featurize.jsonl"  # readers of folders skip names that begin with an underscore
_METADATA = b"sktransfer.featurize"


def sink_of(out: Path) -> Sink:
    """Return the sink of a path: `.npy`, `.parquet`, or a folder."""
    kind = {".npy": NumpySink, ".parquet": ParquetSink}.get(out.suffix.lower(), FolderSink)
    return kind(out)


class Sink:
    """Base class of the outputs.

    Parameters
    ----------
    out : Path
        Path of the output.

    Attributes
    ----------
    log : Log
        What is written already.
    """

    has_columns = True  # whether columns other than features can be written
    log: Log

    def __init__(self, out: Path) -> None:
        self.out = out

    def open(self, *, resume: bool) -> None:
        """Read the log, and remove what cannot be used.

        Raises
        ------
        InvalidParameterError
            If there is something else at the path, which is never replaced.
        """
        raise NotImplementedError

    def begin(self) -> None:
        """Make room for the log, before the first part."""

    def write(self, rows: np.ndarray, features: np.ndarray, kept: pa.Table | None) -> int:
        """Write the next part and return its size, as the log has it."""
        raise NotImplementedError

    def finish(self, totals: dict[str, Any]) -> None:
        """Complete the output."""
        raise NotImplementedError

    def numbers(self) -> list[int]:
        """Return the numbers of the parts that have rows."""
        return [number for number, part in enumerate(self.log.parts) if part["written"]]

    def read(self, number: int) -> tuple[np.ndarray, np.ndarray, pa.Table | None]:
        """Return row numbers, features and kept columns of a part."""
        raise NotImplementedError

    def _refuse(self, what: str) -> InvalidParameterError:
        return InvalidParameterError(
            f"out={str(self.out)!r} {what}, which featurize has not written and never replaces. Delete it, or choose "
            "another path"
        )


class FolderSink(Sink):
    """A folder with a Parquet file for each part."""

    def __init__(self, out: Path) -> None:
        super().__init__(out)
        self.folder = out
        self.log = Log(self.folder / LOG)

    def open(self, *, resume: bool) -> None:
        """Read the log, and forget parts whose file is missing or has another size."""
        require_pyarrow(f"out={str(self.out)!r}")
        if self.folder.exists():
            if not self.folder.is_dir():
                raise self._refuse("is a file")
            if self.log.settings is None and self._has_others():
                raise self._refuse("is a folder with other files")
        if not self.folder.exists():
            return
        if self.log.settings is not None:
            self.log.keep(self._n_intact() if resume else 0)
        for leftover in self.folder.glob(".*.tmp"):  # of a killed process
            leftover.unlink()
        for number, path in self._files():
            if number >= len(self.log.parts):
                path.unlink()
        if not resume:
            self.log.path.unlink(missing_ok=True)
            self.log = Log(self.log.path)

    def begin(self) -> None:
        """Make the folder."""
        self.folder.mkdir(exist_ok=True)

    def _has_others(self) -> bool:
        """Return whether the folder has files that are not of a stream. Parts without a log are those of others."""
        return any(not one.name.startswith((LOG, ".part-")) for one in self.folder.iterdir())

    def _n_intact(self) -> int:
        for number, part in enumerate(self.log.parts):
            path = self._path(number)
            if not (path.is_file() and path.stat().st_size == part["size"]):
                return number
        return len(self.log.parts)

    def _path(self, number: int) -> Path:
        return self.folder / f"part-{number:08d}.parquet"

    def _files(self) -> list[tuple[int, Path]]:
        return [(int(path.stem[5:]), path) for path in self.folder.glob("part-" + "[0-9]" * 8 + ".parquet")]

    def write(self, rows: np.ndarray, features: np.ndarray, kept: pa.Table | None) -> int:
        """Write a file under a temporary name, flush it to the disk, and rename it."""
        path = self._path(len(self.log.parts))
        temporary = path.with_name(f".{path.name}.tmp")
        try:
            write_table(temporary, as_table(rows, features, kept))
            _sync(temporary)
            size = temporary.stat().st_size
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        return size

    def finish(self, totals: dict[str, Any]) -> None:
        """Log the end."""
        self.log.end(totals)

    def read(self, number: int) -> tuple[np.ndarray, np.ndarray, pa.Table | None]:
        """Return row numbers, features and kept columns of a part."""
        return _split(require_pyarrow("a part").parquet.read_table(self._path(number)))


class ParquetSink(FolderSink):
    """One Parquet file, with a row group for each part. The parts are in a second folder until all are written."""

    def __init__(self, out: Path) -> None:
        super().__init__(out)
        self.folder = out.with_name(f"{out.name}.parts")
        self.log = Log(self.folder / LOG)
        if self.log.settings is None and out.is_file():
            self._read_log()

    def _read_log(self) -> None:
        pyarrow = require_pyarrow(f"out={str(self.out)!r}")
        with contextlib.suppress(pyarrow.ArrowInvalid, OSError):
            metadata = pyarrow.parquet.read_metadata(self.out).metadata or {}
            self.log._read(metadata.get(_METADATA, b""))

    @property
    def _is_assembled(self) -> bool:
        return self.log.totals is not None and not self.log.path.exists()

    def open(self, *, resume: bool) -> None:
        """Read the log of the parts, or of the complete file."""
        if self.out.exists() and (not self.out.is_file() or not self._is_ours()):
            raise self._refuse("is a folder" if self.out.is_dir() else "is a file")
        if self._is_assembled and self.folder.is_dir():  # a kill left some parts
            for _, path in self._files():
                path.unlink()
            if not self._has_others():
                shutil.rmtree(self.folder)
        if resume and self._is_assembled:
            return
        if self._is_assembled:
            self.log = Log(self.log.path)
        super().open(resume=resume)

    def _is_ours(self) -> bool:
        pyarrow = require_pyarrow(f"out={str(self.out)!r}")
        try:
            return _METADATA in (pyarrow.parquet.read_metadata(self.out).metadata or {})
        except (pyarrow.ArrowInvalid, OSError):
            return False

    def finish(self, totals: dict[str, Any]) -> None:
        """Copy the parts into one file, rename it, and remove them."""
        if self._is_assembled:
            return
        self.log.end(totals)
        temporary = self.folder / ".assembled.tmp"
        try:
            self._assemble(temporary)
            _sync(temporary)
            temporary.replace(self.out)
        finally:
            temporary.unlink(missing_ok=True)
        self.log.path.unlink()  # first, because a log without all parts would be continued
        shutil.rmtree(self.folder)

    def _assemble(self, path: Path) -> None:
        parquet = require_pyarrow(f"out={str(self.out)!r}").parquet
        paths = [self._path(number) for number in range(len(self.log.parts))]
        lines = "".join(f"{json.dumps(line)}\n" for line in self.log.lines())
        schema = parquet.read_schema(paths[0]).with_metadata({_METADATA: lines.encode()})
        with parquet.ParquetWriter(path, schema, **_options(schema)) as writer:
            for one in paths:
                table = parquet.read_table(one).cast(schema)
                if table.num_rows:
                    writer.write_table(table, row_group_size=table.num_rows)

    @functools.cached_property
    def _groups(self) -> dict[int, int]:
        return {number: group for group, number in enumerate(self.numbers())}

    @functools.cached_property
    def _file(self) -> Any:
        return require_pyarrow("a file").parquet.ParquetFile(self.out)

    def read(self, number: int) -> tuple[np.ndarray, np.ndarray, pa.Table | None]:
        """Return row numbers, features and kept columns of a part, which is a row group."""
        return _split(self._file.read_row_group(self._groups[number]))


class NumpySink(Sink):
    """An array of NumPy, which grows in a file of another name until all is written. A second file is the log."""

    has_columns = False

    def __init__(self, out: Path) -> None:
        super().__init__(out)
        self.growing = out.with_name(f"{out.name}.partial")
        self.log = Log(out.with_name(f"{out.name}.jsonl"))

    def open(self, *, resume: bool) -> None:
        """Read the log, and cut off rows that are not in it."""
        if self.out.exists() and (not self.out.is_file() or self.log.settings is None):
            raise self._refuse("is a folder" if self.out.is_dir() else "exists without its log")
        if not resume or not (self.out.exists() or self.growing.exists()):  # a log alone is of a deleted array
            self.log.path.unlink(missing_ok=True)
            self.growing.unlink(missing_ok=True)
            self.log = Log(self.log.path)
        if self.log.settings is None:
            self.growing.unlink(missing_ok=True)
            return
        if self.log.totals is not None and self.growing.exists():  # killed between the last two steps of `finish`
            self.growing.replace(self.out)
        held = self.out if self.log.totals is not None else self.growing
        size = held.stat().st_size if held.is_file() else 0
        intact = [part for part in self.log.parts if part["size"] <= size]
        if self.log.totals is not None and len(intact) < len(self.log.parts) and size:
            self.out.replace(self.growing)
        self.log.keep(len(intact))
        if self.log.totals is None and self.growing.exists():
            os.truncate(self.growing, intact[-1]["size"] if intact else 0)

    def _header(self, n_rows: int) -> dict[str, Any]:
        assert self.log.settings is not None
        shape = (n_rows, self.log.settings["n_features"])
        return {"descr": self.log.settings["dtype"], "fortran_order": False, "shape": shape}

    def write(self, rows: np.ndarray, features: np.ndarray, kept: pa.Table | None) -> int:
        """Append rows, and flush them to the disk."""
        with self.growing.open("ab") as file:
            if not file.tell():
                np.lib.format.write_array_header_1_0(file, self._header(0))
            file.write(np.ascontiguousarray(features).data)
            file.flush()
            os.fsync(file.fileno())
            return file.tell()

    def finish(self, totals: dict[str, Any]) -> None:
        """Write the number of rows into the header, for which NumPy leaves room, and rename the file."""
        if self.log.totals is not None:
            return
        with self.growing.open("r+b") as file:
            np.lib.format.write_array_header_1_0(file, self._header(totals["n_rows"]))
            file.flush()
            os.fsync(file.fileno())
        self.log.end(totals)
        self.growing.replace(self.out)

    def read(self, number: int) -> tuple[np.ndarray, np.ndarray, pa.Table | None]:
        """Return row numbers and features of a part."""
        start = number * self.log.parts[0]["rows"]  # only the last part may be smaller
        rows = np.arange(start, start + self.log.parts[number]["rows"])
        array = np.load(self.out, mmap_mode="r")
        return rows, np.array(array[start : start + len(rows)]), None  # (n_rows, n_features)


def as_table(rows: np.ndarray, features: np.ndarray, kept: pa.Table | None) -> pa.Table:
    """Return a table of the row numbers, the kept columns and the features, a list of fixed size per row."""
    pyarrow = require_pyarrow("a table")
    flat = pyarrow.array(np.ascontiguousarray(features).ravel())  # (n_rows * n_features,)
    vectors = pyarrow.FixedSizeListArray.from_arrays(flat, features.shape[1])
    columns = {} if kept is None else {name: kept[name] for name in kept.column_names}
    return pyarrow.table({ROW: rows, **columns, FEATURES: vectors})


def write_table(path: Path, table: pa.Table) -> None:
    """Write a table as a Parquet file with one row group."""
    parquet = require_pyarrow("a table").parquet
    parquet.write_table(table, path, row_group_size=max(1, table.num_rows), **_options(table.schema))


def _options(schema: pa.Schema) -> dict[str, Any]:
    """Return options of Parquet. Bytes of floats are stored by their place, which takes less room and time."""
    others = [name for name in schema.names if name != FEATURES]
    is_float = schema.field(FEATURES).type.value_type in map(require_pyarrow("a table").from_numpy_dtype, ("f4", "f8"))
    encoding = {f"{FEATURES}.list.element": "BYTE_STREAM_SPLIT"} if is_float else None
    return {"compression": "zstd", "use_dictionary": others, "column_encoding": encoding}


def _split(table: pa.Table) -> tuple[np.ndarray, np.ndarray, pa.Table]:
    """Return the row numbers, the features (n_rows, n_features) and a table of the kept columns."""
    vectors = table[FEATURES].combine_chunks()
    features = vectors.flatten().to_numpy(zero_copy_only=False).reshape(len(vectors), -1)  # (n_rows, n_features)
    return table[ROW].to_numpy(), features, table.drop_columns([ROW, FEATURES])


def _sync(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())
