"""Preprocessed samples, and batches of rows."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from sktransfer.backbones.batching import BATCHING, batching_of
from sktransfer.backbones.preprocess import Preprocess
from sktransfer.exceptions import InvalidSample, InvalidSampleError, TruncatedTextWarning, warn
from sktransfer.samples.base import to_invalid_sample

__all__ = ["JoinedInputs", "PreprocessedSamples", "collate", "concat_features", "in_batches", "preprocessed"]

Row = TypeVar("Row")


class PreprocessedSamples:
    """Samples and their preprocessing, which runs when rows are read.

    Parameters
    ----------
    samples : Samples
        Validated samples.
    preprocess : Preprocess
        Preprocessing of the backbone.
    keep : bool, default=False
        Whether to keep token ids for repeated passes. Images are never kept.
    leave_out : bool or frozenset of int, default=False
        Whether to skip and record samples that cannot be read, or the rows of X that may be skipped. Other samples that
        cannot be read raise an error.

    Attributes
    ----------
    left_out : dict of int to InvalidSample
        Samples skipped so far, by row.
    """

    def __init__(
        self,
        samples: Any,
        preprocess: Preprocess,
        *,
        keep: bool = False,
        leave_out: bool | frozenset[int] = False,
    ) -> None:
        self.preprocess, self.leave_out = preprocess, leave_out
        self.batching = batching_of(preprocess)
        self.samples = self.batching.prepare(preprocess, samples)
        self.keep = keep and self.batching.is_cheap
        self.left_out: dict[int, InvalidSample] = {}
        self._kept: dict[int, Tensor] = {}
        self._observed: dict[int, Any] = {}  # what the batching remarks on, for each row read since the last warning
        self._truncated: dict[int, bool] = {}  # whether a warning is due, for each row that was truncated

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def towers(self) -> Mapping[Any, PreprocessedSamples]:
        """Samples of each tower by its name; None for that of a backbone that is not joined."""
        return {None: self}

    @property
    def is_ragged(self) -> bool:
        """Whether samples differ in length."""
        return self.batching.is_ragged

    def present(self, rows: Sequence[int]) -> list[int]:
        """Return the rows that have a sample. All have one unless they are columns of rows."""
        return list(rows)

    def divided(self, backbone: Any, rows: Sequence[int]) -> list[tuple[Any, list[int]]]:
        """Return the backbone that reads some rows, and these rows. A subclass may have several."""
        return [(backbone, list(rows))]

    def key(self, row: int) -> bytes | None:
        """Return the hash of a sample's content; None if the sample is left out."""
        return self.keys([row])[0]

    def keys(self, rows: Sequence[int]) -> Sequence[bytes | None]:
        """Return the hash of the content of each of some samples; None for those that are left out."""
        if self.leave_out:
            return [self._read(self.samples.key, row) for row in rows]
        keys: list[bytes] = self.samples.keys(rows)
        return keys

    def readable(self, rows: Sequence[int]) -> dict[int, Tensor]:
        """Return the tensors of some rows, without those that are left out."""
        if not self.leave_out:
            return dict(zip(rows, self.tensors(rows)))
        loaded = {row: sample for row in rows if (sample := self._read(self.samples.load, row)) is not None}
        samples = list(loaded.values())
        tensors = self.preprocess(samples)
        self._observe(list(loaded), samples, tensors)
        return dict(zip(loaded, tensors))

    def _observe(self, rows: Sequence[int], samples: Sequence[Any], tensors: Sequence[Tensor]) -> None:
        self._observed.update(zip(rows, self.batching.observe(self.preprocess, samples, tensors)))

    def _read(self, read: Callable[[int], Any], row: int) -> Any:
        try:
            return read(row)
        except InvalidSampleError as error:
            allowed = self.leave_out
            if not (error.row in allowed if isinstance(allowed, frozenset) else allowed):
                raise
            self.left_out[row] = to_invalid_sample(error, self.samples.path(row))
            return None

    @contextlib.contextmanager
    def labelled_rows(self) -> Iterator[None]:
        """Add the index label of the row to an error about a sample raised in this context."""
        try:
            yield
        except InvalidSampleError as error:
            if error.label is None:
                error.set_label(self.samples.label(error.row))
            raise

    def tensors(self, rows: Sequence[int]) -> list[Tensor]:
        """Return the input of the first stage per row: (3, height, width) or (tokens,)."""
        new = [row for row in dict.fromkeys(rows) if row not in self._kept]
        read: dict[int, Tensor] = {}
        if new:
            samples = [self.samples.load(row) for row in new]
            tensors, truncated = self.batching.read(self.preprocess, samples)
            read = dict(zip(new, tensors))
            self._observe(new, samples, tensors)
            for row, is_truncated in zip(new, truncated):
                if is_truncated:
                    self._truncated.setdefault(row, True)
            if self.keep:
                self._kept.update(read)
        return [read[row] if row in read else self._kept[row] for row in rows]

    def lengths(self, rows: Sequence[int]) -> list[int]:
        """Return the number of tokens per row; 0 for samples without a length, which are not read."""
        return self.batching.lengths(self.tensors(rows)) if self.is_ragged else [0] * len(rows)

    def relative_size(self, rows: Sequence[int]) -> float:
        """Return the size of the outputs of all rows relative to that of the first row."""
        lengths = self.lengths(rows) if self.is_ragged else [1] * len(rows)
        return sum(lengths) / max(1, lengths[0])

    def warn_of_unread(self) -> None:
        """Warn once of the samples read since the last call that were truncated or otherwise read with a loss.

        Texts are counted by row, so equal ones count several times, of all rows. Samples with cached outputs are not
        read again, and not counted again. The warning came when they were read.
        """
        observed = self._by_row(self._observed) if any(self._observed.values()) else []
        for warning in self.batching.remarks(self.preprocess, observed, len(self)):
            warn(warning)
        self._observed = {}
        truncated = {row: True for row, is_due in self._truncated.items() if is_due}
        if truncated:
            message = self.batching.truncation_message(self.preprocess, len(self._by_row(truncated)), len(self))
            warn(message, TruncatedTextWarning)
        self._truncated = dict.fromkeys(self._truncated, False)

    def _by_row(self, values: Mapping[int, Any]) -> list[Any]:
        """Return the values known of some rows for all rows with equal samples, of which a pass reads one."""
        if not self.batching.is_cheap:  # equal images may have been left out, and hashing them takes long
            return list(values.values())
        by_key = dict(zip(self.keys(list(values)), values.values()))
        return [by_key[key] for key in self.keys(range(len(self))) if key in by_key]


class _ColumnInputs(PreprocessedSamples):
    """Preprocessed samples of one column of rows."""

    def present(self, rows: Sequence[int]) -> list[int]:
        """Return the rows that have a sample in this column."""
        return [row for row in rows if self.samples.has(row)]


class JoinedInputs:
    """Rows of several columns, and the preprocessing of each of them.

    Parameters
    ----------
    samples : JoinedSamples
        Validated rows.
    preprocess : JoinedPreprocess
        Preprocessing of a joined backbone.
    keep : bool, default=False
        As in `PreprocessedSamples`.
    """

    leave_out = False

    def __init__(self, samples: Any, preprocess: Any, *, keep: bool = False) -> None:
        self.samples, self.preprocess = samples, preprocess
        self.left_out: dict[int, InvalidSample] = {}
        self.towers = {
            name: _ColumnInputs(samples.columns[name], of_column, keep=keep)
            for name, of_column in preprocess.towers.items()
        }

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def is_ragged(self) -> bool:
        """Whether a column has samples of different lengths."""
        return any(one.is_ragged for one in self.towers.values())

    def lengths(self, rows: Sequence[int]) -> list[int]:
        """Return the number of tokens per row, of all columns."""
        return np.sum([one.lengths(rows) for one in self.towers.values()], axis=0).tolist()  # type: ignore[no-any-return]

    def warn_of_unread(self) -> None:
        """Warn of the samples of each column that were truncated or otherwise read with a loss."""
        for one in self.towers.values():
            one.warn_of_unread()


def preprocessed(samples: Any, preprocess: Any, *, keep: bool = False, leave_out: bool | frozenset[int] = False) -> Any:
    """Return samples and their preprocessing, as `PreprocessedSamples`, or as `JoinedInputs` for rows of columns.

    Parameters
    ----------
    samples : Samples
        Validated samples.
    preprocess : Preprocess
        Preprocessing of the backbone.
    keep, leave_out
        As in `PreprocessedSamples`. Rows of columns are never left out.
    """
    if hasattr(preprocess, "towers"):
        return JoinedInputs(samples, preprocess, keep=keep)
    return PreprocessedSamples(samples, preprocess, keep=keep, leave_out=leave_out)


def in_batches(rows: Sequence[Row], size: int) -> Iterator[list[Row]]:
    """Yield `rows` in lists of at most `size`."""
    for start in range(0, len(rows), size):
        yield list(rows[start : start + size])


def concat_features(layers: Sequence[Sequence[Tensor] | Tensor]) -> Tensor:
    """Concatenate the vectors of several layers, each given as one per sample or as one tensor, to (n, n_features)."""
    # Each is (n, n_features of the layer).
    columns = [layer if isinstance(layer, Tensor) else torch.stack(list(layer)) for layer in layers]
    return columns[0] if len(columns) == 1 else torch.cat(columns, 1)  # (n, n_features)


def collate(tensors: Sequence[Tensor], modality: str, pad_value: int = 0) -> tuple[Tensor, Tensor | None]:
    """Make a batch of the tensors of some samples, as the batching of their modality does.

    Parameters
    ----------
    tensors : sequence of Tensor
        One per sample.
    modality : {"image", "text"}
        Kind of the samples.
    pad_value : int, default=0
        Value that pads the shorter texts.

    Returns
    -------
    values : Tensor of shape (n, ...)
    mask : Tensor of shape (n, tokens) or None
        True where a token is real; None for images.

    Raises
    ------
    InvalidParameterError
        If the images of a batch differ in size.
    """
    return BATCHING[modality].collate(tensors, pad_value)
