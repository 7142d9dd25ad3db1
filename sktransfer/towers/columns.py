"""Validation of rows with several columns of samples, for backbones of several towers."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import narwhals as nw
import numpy as np

from sktransfer.exceptions import InvalidSampleError, did_you_mean
from sktransfer.samples.base import Rows, content_hash
from sktransfer.samples.columns import as_column, column_names, empty_error, is_frame, is_missing, quoted
from sktransfer.samples.containers import as_list
from sktransfer.samples.images import check_images
from sktransfer.samples.labels import label_of
from sktransfer.samples.texts import check_texts
from sktransfer.samples.validation import remember_columns

__all__ = ["MISSING", "Columns", "JoinedSamples"]

MISSING = ("error", "zero")


class JoinedSamples(Rows):
    """Validated rows. A row has a sample in each column, or none in some of them.

    Parameters
    ----------
    columns : mapping of str to Rows
        Samples of each column, all of one length. `absent` of a column lists the rows without a sample.
    """

    def __init__(self, columns: Mapping[str, Rows]) -> None:
        super().__init__(len(next(iter(columns.values()))))
        self.columns = dict(columns)

    def load(self, row: int) -> dict[str, Any]:
        """Return the samples that a row has, by column."""
        found = {}
        for name, column in self.columns.items():
            if column.has(row):
                with self.named(name):
                    found[name] = column.load(row)
        return found

    def keys(self, rows: Sequence[int]) -> list[bytes]:
        """Return a hash of 20 bytes of the samples that each of some rows has."""
        return [self._key(row) for row in rows]

    def _key(self, row: int) -> bytes:
        parts: list[str | bytes] = []
        for name, column in self.columns.items():
            if column.has(row):
                with self.named(name):
                    parts += [name, column.key(row)]
        return content_hash("row", *parts)

    def take(self, rows: Sequence[int] | np.ndarray) -> Self:
        """Return a subset of the rows."""
        view = super().take(rows)
        view.columns = {name: column.take(rows) for name, column in self.columns.items()}
        return view

    @contextlib.contextmanager
    def named(self, column: str) -> Iterator[None]:
        """Name the column, and the index label of the row, in an error about a sample raised in this context.

        Parameters
        ----------
        column : str
            Name of the column.
        """
        try:
            yield
        except InvalidSampleError as error:
            label = label_of(self.labels, error.row) if error.label is None else error.label
            raise InvalidSampleError(error.row, f"column {column!r}: {error.message}", label) from error


@dataclass(frozen=True)
class Columns:
    """Columns of the rows that a joined backbone takes.

    Parameters
    ----------
    modalities : mapping of str to {"image", "text"}
        Modality of each column.
    missing : {"error", "zero"}
        Treatment of a row in which a column is missing. "zero" allows it.

    Examples
    --------
    >>> from sktransfer.towers.columns import Columns
    >>> columns = Columns({"title": "text", "body": "text"}, "zero")
    >>> samples = columns.read({"title": ["good", "bad"], "body": ["a fine film", None]})
    >>> samples.load(0), samples.load(1)
    ({'title': 'good', 'body': 'a fine film'}, {'title': 'bad'})
    """

    modalities: Mapping[str, str]
    missing: str

    def check(
        self, estimator: Any, X: Any, *, image_shape: tuple[int, ...] | None = None, reset: bool
    ) -> JoinedSamples:
        """Validate X as rows, and store or compare its columns as scikit-learn does.

        The columns of a data frame may be in any order.

        Parameters
        ----------
        estimator : estimator
            Estimator that receives `n_features_in_` and `feature_names_in_` if X is a data frame.
        X : DataFrame, dict of str to array-like, or array of shape (n_samples, n_columns)
            The rows. The columns of an array are those of the backbone, in its order.
        image_shape : tuple of int, default=None
            As in `check_images`.
        reset : bool
            True in `fit`, to store the columns; False elsewhere, to compare with them.

        Raises
        ------
        InvalidSampleError
            If a sample cannot be used, or is missing. The error names row and column.
        ValueError
            If X has not these columns.
        """
        samples = self.read(X, image_shape)
        if is_frame(X):
            X = nw.from_native(X, eager_only=True)[list(self.modalities)].to_native()
        remember_columns(estimator, X, reset=reset)
        if reset:
            for name, column in samples.columns.items():
                if not column.present().any():
                    raise ValueError(
                        f"column {name!r} of X has no value in any row, so nothing can be learned from it; use the "
                        "backbone of the other columns alone"
                    )
        return samples

    def read(self, X: Any, image_shape: tuple[int, ...] | None = None) -> JoinedSamples:
        """Validate X as rows.

        Parameters
        ----------
        X : DataFrame, dict of str to array-like, or array of shape (n_samples, n_columns)
            The rows.
        image_shape : tuple of int, default=None
            As in `check_images`.
        """
        columns = {}
        for name, values in self._split(X).items():
            with _of_column(name):
                columns[name] = _check_column(values, self.modalities[name], image_shape)
        lengths = {name: len(column) for name, column in columns.items()}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"the columns of X have different numbers of samples, {lengths}; give one per row in each")
        samples = JoinedSamples(columns)
        self._check_present(samples)
        return samples

    def _split(self, X: Any) -> dict[str, Any]:
        """Return the columns of X by name, in the order of the towers."""
        names = list(self.modalities)
        if is_frame(X):
            self._check_names(column_names(X), "a DataFrame with", f"X[{names}]")
            frame = nw.from_native(X, eager_only=True)
            return {name: frame[name].to_native() for name in names}
        if isinstance(X, Mapping):
            self._check_names(list(X), "a dict with", f"{{name: X[name] for name in {names}}}")
            return {name: X[name] for name in names}
        if isinstance(X, np.ndarray) and X.dtype.names is not None:
            self._check_names(list(X.dtype.names), "an array with", f"X[{names}]")
            return {name: X[name] for name in names}
        if hasattr(X, "column_names") and hasattr(X, "__getitem__"):  # a data set of Hugging Face
            self._check_names(list(X.column_names), "a data set with", f"X.select_columns({names})")
            return {name: X[name] for name in names}
        if isinstance(X, np.ndarray) and X.ndim == 2:
            if X.shape[1] != len(names):
                raise ValueError(
                    f"X is an array of {X.shape[1]} columns, and the backbone reads {len(names)}, which are {names} in "
                    "this order"
                )
            return {name: X[:, index] for index, name in enumerate(names)}
        raise ValueError(
            f"X is a {type(X).__name__}; rows come as a DataFrame, a dict of columns or an array of shape (n_samples, "
            f"{len(names)}), with the columns {names}"
        )

    def _check_names(self, given: Sequence[Any], what: str, select: str) -> None:
        """Raise unless columns are those of the towers, in any order."""
        names = list(self.modalities)
        missing = [name for name in names if name not in given]
        if missing:
            hint = did_you_mean(missing[0], [str(name) for name in given])
            raise ValueError(
                f"X is {what} the columns {quoted(list(given))}, and lacks {missing}; the backbone reads {names}.{hint}"
            )
        unknown = [name for name in given if name not in names]
        if unknown or len(set(given)) < len(given):
            which = f"unknown columns {quoted(unknown)}" if unknown else "a column twice"
            raise ValueError(f"X is {what} {which}; the backbone reads {names}. Select them, {select}")

    def _check_present(self, samples: JoinedSamples) -> None:
        """Raise for a row without any sample, and for a missing sample that is not allowed."""
        if not len(samples):
            raise empty_error((0,))
        present = np.stack([column.present() for column in samples.columns.values()], 1)  # (n_samples, n_columns)
        names = list(samples.columns)
        empty = np.flatnonzero(~present.any(1))
        if len(empty):
            raise InvalidSampleError(
                int(empty[0]), f"all of the columns {names} are missing, so there is nothing to read; drop the row"
            )
        if self.missing == "error" and not present.all():
            row, index = (int(one) for one in np.argwhere(~present)[0])
            raise InvalidSampleError(
                row,
                f"column {names[index]!r}: the {self.modalities[names[index]]} is missing. Drop the row, or join the "
                "backbones with missing='zero', Backbone.join(towers, missing='zero'), which reads the other columns",
            )


def _check_column(values: Any, modality: str, image_shape: tuple[int, ...] | None) -> Rows:
    """Return the samples of one column, whose `absent` lists the rows without one."""
    if modality == "image":
        return check_images(values, image_shape=image_shape, missing="nan")
    texts = as_column(as_list(values, modality), modality)
    samples = check_texts(texts, "empty")
    samples.absent = frozenset(row for row, value in enumerate(texts) if is_missing(value))
    return samples


@contextlib.contextmanager
def _of_column(name: str) -> Iterator[None]:
    """Name the column in errors raised in this context."""
    try:
        yield
    except InvalidSampleError as error:
        raise InvalidSampleError(error.row, f"column {name!r}: {error.message}", error.label) from error
    except ValueError as error:
        raise ValueError(f"column {name!r} of X (called X here): {error}") from error
