"""Kind of a column, recognized from a sample of its cells."""

from __future__ import annotations

import datetime
import os
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from numbers import Real
from pathlib import Path
from typing import Any

import narwhals as nw
import numpy as np
from PIL import Image

from sktransfer.exceptions import InvalidParameterError, InvalidSampleError, SktransferError, short_path
from sktransfer.samples.columns import as_column, is_frame, is_missing, is_tensor, quoted
from sktransfer.samples.containers import as_list, image_of_cell
from sktransfer.samples.folders import has_image_suffix, refuse_names_of_images
from sktransfer.samples.images import check_images, is_flat

__all__ = [
    "DEFAULT_BACKBONES",
    "KINDS",
    "Cells",
    "advise",
    "default_backbone",
    "recognize",
    "recognize_samples",
    "stray_cells",
]

DEFAULT_BACKBONES = {"image": "tiny/cnn", "text": "tiny/bert"}
KINDS = ("image", "text", "category", "number", "date", "drop")

_SAMPLED = 500  # cells that are looked at, at equal distances
_FILES = 20  # paths whose files are looked for
_FEW = 20  # values up to which texts are categories, and rows up to which a different value in each tells nothing
_NEARLY_ALL = 0.9  # share of numbers or dates from which the other cells count as missing
_SOME_PATHS = 0.2  # share of paths from which a column is of paths, or faulty
_WORDS, _NAMES = 3.0, 1.5  # mean number of words from which cells are free texts, or too long for codes
_REPEATED, _OFTEN = 2, 10  # mean number of cells per value from which a column may be, or is, of categories
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2}(\.\d+)?)?(Z|[+-]\d{2}:?\d{2})?)?")
_EUROPEAN_DATE = re.compile(r"\d{1,2}\.\d{1,2}\.\d{4}")
_AMOUNT = re.compile(r"[-+]?[$€£]? ?[-+]?(\d{1,3}(,\d{3})+|\d+)(\.\d+)? ?[%$€£]?")  # "12%", "1,001", "$3.50"
_ID = re.compile(r"(^|[_\W])(id|ids|uid|uuid|guid|index|key)$|^unnamed: \d+$", re.IGNORECASE)
_ID_END = re.compile(r"[a-z](Id|ID|Key)$")
_UNSPACED = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff]")  # written without blanks
_LETTERS_PER_WORD = 2  # in scripts without blanks


@dataclass(frozen=True)
class Cells:
    """Cells of a column that are not missing, or a sample of them.

    Parameters
    ----------
    name : str or None
        Name of the column; None for an X that is not a table.
    values : list
        The cells.
    rows : sequence of int
        Row of each cell.
    n_rows : int
        Number of rows of the column.
    n_missing : int
        Number of missing cells among these rows.
    """

    name: str | None
    values: list[Any]
    rows: Sequence[int]
    n_rows: int
    n_missing: int

    @classmethod
    def of(cls, values: Sequence[Any], name: str | None = None) -> Cells:
        """Return a sample of the cells of a list.

        Parameters
        ----------
        values : sequence
            All cells, missing ones included.
        name : str, default=None
            Name of the column; None for an X that is not a table.
        """
        present = np.array([row for row, value in enumerate(values) if not is_missing(value)], dtype=int)
        rows = _spread(present)
        return cls(name, [values[row] for row in rows], rows, len(values), len(values) - len(present))

    @classmethod
    def of_series(cls, series: nw.Series[Any], name: str) -> Cells:
        """Return a sample of the cells of a Series.

        Parameters
        ----------
        series : Series of narwhals
            The column.
        name : str
            Name of the column.
        """
        present = np.flatnonzero(~series.is_null().to_numpy())
        rows = _spread(present)
        read = {row: value for row, value in zip(rows, series[rows].to_list()) if not is_missing(value)}
        n_missing = len(series) - (len(present) if read else 0)  # NaN is no null in polars
        return cls(name, list(read.values()), list(read), len(series), n_missing)

    @property
    def title(self) -> str:
        """The column in messages."""
        return "X" if self.name is None else f"column {self.name!r}"

    @property
    def expression(self) -> str:
        """Expression for the column in messages."""
        return "X" if self.name is None else f"X[{self.name!r}]"


def _spread(rows: np.ndarray) -> list[int]:
    """Return at most 500 of some rows, at equal distances."""
    spread: list[int] = rows[np.linspace(0, len(rows) - 1, min(len(rows), _SAMPLED)).round().astype(int)].tolist()
    return spread


def recognize(cells: Cells) -> tuple[str, str]:
    """Return the kind of a column, and the reason.

    No file is opened. Of paths, the first files are looked for.

    Parameters
    ----------
    cells : Cells
        Cells of the column.

    Returns
    -------
    kind : {"image", "text", "category", "number", "date", "drop"}
    reason : str

    Raises
    ------
    InvalidSampleError
        If the cells are of several types, only some are paths of images, or no path exists.

    Examples
    --------
    >>> from sktransfer.pipelines.cells import Cells, recognize
    >>> recognize(Cells.of([3.5, None, 2.0], "size"))
    ('number', 'numbers')
    >>> recognize(Cells.of(["a good film", "a bad one to watch", "a dull plot"]))
    ('text', '3.7 words per cell')
    """
    if not cells.values:
        return "drop", f"all of its {cells.n_rows} values are missing"
    values = [image_of_cell(value) for value in cells.values]
    types = [_type_of(value) for value in values]
    if len(set(types)) > 1:
        raise _mixed_error(cells, types)
    if types[0] not in _RECOGNIZE:
        return "drop", f"cells of type {types[0]}, which no step reads"
    return _RECOGNIZE[types[0]](cells, values)


def _type_of(value: Any) -> str:
    """Return the type of a cell by the word that messages use for it."""
    if isinstance(value, str):
        return "text"
    if isinstance(value, (bool, np.bool_)):
        return "truth value"
    if isinstance(value, (datetime.date, np.datetime64)):  # datetime and Timestamp are dates
        return "date"
    if isinstance(value, Real) or type(value).__name__ == "Decimal":
        return "number"
    if isinstance(value, os.PathLike):
        return "path"
    is_image = isinstance(value, (bytes, bytearray, memoryview, Image.Image)) or is_tensor(value)
    if is_image or getattr(value, "ndim", 0) in (2, 3):
        return "image"
    return type(value).__name__


def _mixed_error(cells: Cells, types: list[str]) -> InvalidSampleError:
    other = next(index for index, kind in enumerate(types) if kind != types[0])
    first, second = quoted(cells.values[0], 40), quoted(cells.values[other], 40)
    return InvalidSampleError(
        cells.rows[other],
        f"{cells.title} holds a {types[other]}, {second}, and in row {cells.rows[0]} a {types[0]}, {first}. Give all "
        f"cells one type, {cells.expression}.map(str) in pandas, or None where there is no value",
    )


def _recognize_images(cells: Cells, values: list[Any]) -> tuple[str, str]:
    return "image", f"images of type {type(values[0]).__name__}"


def _recognize_paths(cells: Cells, values: list[Any]) -> tuple[str, str]:
    paths = [os.fspath(value) for value in values]
    looked_for = paths[:_FILES]
    if not any(map(os.path.isfile, looked_for)):
        raise InvalidSampleError(
            cells.rows[0],
            f"{cells.title} holds paths of images, and {short_path(str(paths[0]))} is no existing file, nor is any of "
            f"its first {len(looked_for)}. Relative paths start at the current folder, {short_path(str(Path.cwd()))}. "
            f"Join them to the folder of the images, [os.path.join(folder, path) for path in {cells.expression}]",
        )
    return "image", f"paths of images, such as {short_path(str(paths[0]), 60)}"


def _recognize_strings(cells: Cells, values: list[str]) -> tuple[str, str]:
    is_path = [has_image_suffix(value) for value in values]
    if all("://" in value[:12] for value in values):
        return "drop", "addresses of the web, which are not fetched: download the files, and give their paths"
    if all(is_path):
        return _recognize_paths(cells, values)
    if sum(is_path) >= _SOME_PATHS * len(values):
        raise _half_paths_error(cells, values, is_path)
    for kind, reads in _READS.items():
        strays = [index for index, value in enumerate(values) if not reads(value)]
        has_codes = kind == "number" and any(_is_code(values[index]) for index in strays)
        if len(values) - len(strays) >= _NEARLY_ALL * len(values) and not has_codes:
            return _recognize_nearly(kind, cells, values, strays)
    if all(map(os.path.isfile, values[:_FILES])):
        return "drop", f"paths of files without the suffix of an image, such as {short_path(values[0], 60)}"
    return _recognize_words(cells, values)


def advise(cells: Cells) -> str:
    """Return how a column that is left out can be used, or an empty string if it cannot.

    Parameters
    ----------
    cells : Cells
        Cells of the column.

    Examples
    --------
    >>> from sktransfer.pipelines.cells import Cells, advise
    >>> advise(Cells.of(["31.12.2024", "01.05.2024"], "sold"))
    "X['sold'] = pandas.to_datetime(X['sold'], format='%d.%m.%Y')"
    >>> advise(Cells.of(["12%", "5%"], "share"))
    "X['share'] = X['share'].str.replace('[$€£%, ]', '', regex=True).astype(float)"
    """
    column, types = cells.expression, set(map(_type_of, cells.values))
    if types == {"number"} and len(set(cells.values)) > 1:
        return f"kinds={{{cells.name!r}: 'number'}}"
    if types != {"text"} or len(set(cells.values)) == 1 or all("://" in value[:12] for value in cells.values):
        return ""
    if all(_EUROPEAN_DATE.fullmatch(value.strip()) for value in cells.values):
        return f"{column} = pandas.to_datetime({column}, format='%d.%m.%Y')"
    if all(_AMOUNT.fullmatch(value.strip()) for value in cells.values):
        return f"{column} = {column}.str.replace('[$€£%, ]', '', regex=True).astype(float)"
    return f"kinds={{{cells.name!r}: 'text'}}"


def _recognize_nearly(kind: str, cells: Cells, values: list[str], strays: list[int]) -> tuple[str, str]:
    """Return the kind of texts that hold numbers or dates, up to a few that count as missing."""
    rest = [value for index, value in enumerate(values) if index not in strays]
    rows = [row for index, row in enumerate(cells.rows) if index not in strays]
    present = replace(cells, values=rest, rows=rows, n_missing=cells.n_missing + len(strays))
    found, reason = (
        _recognize_numbers(present, [float(value) for value in rest])
        if kind == "number"
        else (kind, f"dates in ISO format, such as {rest[0]!r}")
    )
    return found, reason + (f", and {stray_cells(cells, kind)}" if strays and found == kind else "")


def stray_cells(cells: Cells, kind: str) -> str:
    """Return which cells of a column of texts are no numbers or dates, in words, or an empty string.

    Parameters
    ----------
    cells : Cells
        Cells of the column.
    kind : str
        Kind of the column. Only "number" and "date" have such cells.

    Examples
    --------
    >>> from sktransfer.pipelines.cells import Cells, stray_cells
    >>> stray_cells(Cells.of(["1.5", "?", "2"], "size"), "number")
    "1 of 3 cells that is no number, in row 1: '?'"
    """
    if kind not in _READS:
        return ""
    reads = _READS[kind]
    strays = [index for index, value in enumerate(cells.values) if isinstance(value, str) and not reads(value)]
    strays = [index for index in strays if kind != "number" or not _is_code(cells.values[index])]
    if not strays:
        return ""
    which = f"that is no {kind}, in row" if len(strays) == 1 else f"that are no {kind}s, the first in row"
    return f"{len(strays)} of {len(cells.values)} cells {which} {cells.rows[strays[0]]}: " + quoted(
        cells.values[strays[0]], 40
    )


def _half_paths_error(cells: Cells, values: list[str], is_path: list[bool]) -> InvalidSampleError:
    other, path = is_path.index(False), is_path.index(True)
    return InvalidSampleError(
        cells.rows[other],
        f"{cells.title} holds {quoted(values[other], 60)}, and in row {cells.rows[path]} a path of an image, "
        f"{short_path(values[path], 60)}: {sum(is_path)} of {len(values)} cells are paths. Put None where there is no "
        "image, or state what the column is by `kinds`",
    )


def _is_number(text: str) -> bool:
    return _is_float(text) and not _is_code(text)


def _is_float(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _is_code(text: str) -> bool:
    """Return whether a text is a code such as "01067", which is no number although it can be read as one."""
    digits = text.strip().lstrip("+-")
    return len(digits) > 1 and digits[0] == "0" and digits[1].isdigit() and _is_float(text)


def _is_date(text: str) -> bool:
    return _DATE.fullmatch(text.strip()) is not None


_READS: Mapping[str, Callable[[str], bool]] = {"number": _is_number, "date": _is_date}


def _recognize_words(cells: Cells, values: list[str]) -> tuple[str, str]:
    n, n_different = len(values), len(set(values))
    n_words = float(np.mean([_count_words(value) for value in values]))
    if n_different == 1:
        return _constant(cells, values[0])
    if n_words >= _WORDS and n < _OFTEN * n_different:
        return "text", f"{n_words:.1f} words per cell"
    if n >= _REPEATED * n_different or n <= _FEW:
        return "category", f"{n_different} different values in {n} cells"
    if n_words >= _NAMES:
        return "text", f"{n_words:.1f} words per cell, and {n_different} different values in {n} cells"
    if n_different < n:
        return "category", f"{n_different} different codes in {n} cells"
    return "drop", f"a different code in each cell, such as {quoted(values[0], 40)}"


def _count_words(text: str) -> float:
    unspaced = len(_UNSPACED.findall(text))
    return len(text.split()) if unspaced == 0 else unspaced / _LETTERS_PER_WORD


def _constant(cells: Cells, value: Any) -> tuple[str, str]:
    if cells.n_missing:
        return "category", f"one value, {quoted(value, 40)}, or missing"
    return "drop", f"the same value in all rows, {quoted(value, 40)}"


def _recognize_numbers(cells: Cells, values: list[Any]) -> tuple[str, str]:
    numbers = np.array([float(value) for value in values])
    n_different = len(np.unique(numbers))
    if n_different == 1 and not cells.n_missing:
        return _constant(cells, values[0])
    is_whole = bool(np.isfinite(numbers).all() and (numbers == np.round(numbers)).all())
    if is_whole and n_different == len(numbers) > _FEW:
        if cells.name is not None and (_ID.search(cells.name) or _ID_END.search(cells.name)):
            return "drop", "a different whole number in each row, and the name of an identifier"
        if numbers[0] in (0, 1) and numbers[-1] - numbers[0] == cells.n_rows - 1 and (np.diff(numbers) > 0).all():
            return "drop", "the numbers of the rows"
    return "number", "numbers"


def _recognize_truths(cells: Cells, values: list[Any]) -> tuple[str, str]:
    return _constant(cells, values[0]) if len(set(values)) == 1 else ("category", "True and False")


def _recognize_dates(cells: Cells, values: list[Any]) -> tuple[str, str]:
    return _constant(cells, values[0]) if len(set(values)) == 1 else ("date", "dates")


_RECOGNIZE: Mapping[str, Callable[[Cells, list[Any]], tuple[str, str]]] = {
    "text": _recognize_strings,
    "image": _recognize_images,
    "path": _recognize_paths,
    "number": _recognize_numbers,
    "truth value": _recognize_truths,
    "date": _recognize_dates,
}


def recognize_samples(X: Any, option: str | None) -> str:
    """Return the modality of samples.

    Parameters
    ----------
    X : list, Series, array or one-column DataFrame
        Images or texts.
    option : str or None
        Parameter that states the modality, for messages. None if there is no such parameter.

    Returns
    -------
    modality : {"image", "text"}

    Raises
    ------
    InvalidParameterError
        If X holds numbers, or neither images nor texts.
    InvalidSampleError
        If the samples are of several types, only some are paths of images, or no path exists.
    ValueError
        If X is empty, a single sample, or has several columns.

    Examples
    --------
    >>> from sktransfer.pipelines.cells import recognize_samples
    >>> recognize_samples(["a good film", "a bad one"], "modality")
    'text'
    """
    if isinstance(X, Mapping) or hasattr(X, "collect"):
        remedy = "pass X.collect()" if hasattr(X, "collect") else "pass pandas.DataFrame(X)"
        raise ValueError(f"X is a {type(X).__name__}; a table comes as a DataFrame of pandas or polars: {remedy}")
    if isinstance(X, (str, os.PathLike)):
        check_images(X)  # raises, and names what a folder, a pattern or a single path needs
    if is_tensor(X) or (isinstance(X, np.ndarray) and X.ndim > 2):
        return "image"
    if isinstance(X, np.ndarray) and X.ndim == 2 and X.shape[1] > 1 and X.dtype.kind not in "biuf":
        raise ValueError(
            f"X is an array of shape {X.shape} with cells of several types: pass a DataFrame with names of columns, "
            "pandas.DataFrame(X).add_prefix('x').infer_objects()"
        )
    if len(X) and is_flat(X):
        remedy = (
            "Reshape images to (n_samples, height, width); images and texts alone are taken here"
            if option is None
            else f"Pass {option}='image' for images, or a DataFrame with names of columns, "
            "pandas.DataFrame(X).add_prefix('x')"
        )
        raise InvalidParameterError(
            f"X is a table of numbers: images as flat rows of pixels, or columns of numbers? {remedy}"
        )
    cells = Cells.of(as_column(as_list(X, "image"), "sample"))
    kind, reason = recognize(cells)
    if kind == "image":
        return "image"
    if cells.values and all(isinstance(value, str) for value in cells.values):
        refuse_names_of_images(cells.values)
        return "text"
    raise InvalidParameterError(
        f"X holds neither images nor texts: {reason}. Pass images, texts, or a DataFrame with columns of them"
    )


def default_backbone(X: Any) -> str:
    """Return the name of the shipped backbone for samples.

    Parameters
    ----------
    X : object
        Images or texts. If it is neither, the backbone is that of images, whose validation explains the fault.

    Examples
    --------
    >>> from sktransfer.pipelines.cells import default_backbone
    >>> default_backbone(["a good film", "a bad one"]), default_backbone(["cat.jpg"])
    ('tiny/bert', 'tiny/cnn')
    """
    several = is_frame(X) and X.shape[1] > 1  # refused by the validation of either modality, in its own words
    for one in nw.from_native(X, eager_only=True).iter_columns() if several else [X]:
        with suppress(SktransferError, TypeError, ValueError):
            return DEFAULT_BACKBONES[recognize_samples(one.to_native() if several else one, "kinds")]
    return DEFAULT_BACKBONES["image"]
