"""Samples as tensors, and tensors as batches."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from sktransfer.backbones.preprocess import Preprocess, TextPreprocess
from sktransfer.exceptions import InvalidParameterError, InvalidSample, InvalidSampleError, TruncatedTextWarning
from sktransfer.samples.base import to_invalid_sample

__all__ = ["PreprocessedSamples", "collate", "concat_features", "in_batches"]

Row = TypeVar("Row")


class PreprocessedSamples:
    """Samples behind a backbone's preprocessing, made when they are asked for.

    Parameters
    ----------
    samples : Samples
        What the user gave, validated.
    preprocess : Preprocess
        The backbone's own.
    keep : bool, default=False
        Whether token ids are kept: who comes back for the same texts saves their tokenising. Images never are.
    leave_out : bool, default=False
        Whether samples that cannot be read are left out and noted; else they raise.

    Attributes
    ----------
    left_out : dict of int to InvalidSample
        What was left out so far.
    """

    def __init__(self, samples: Any, preprocess: Preprocess, *, keep: bool = False, leave_out: bool = False) -> None:
        self.samples, self.preprocess, self.keep, self.leave_out = samples, preprocess, keep, leave_out
        self.left_out: dict[int, InvalidSample] = {}
        self.is_text = isinstance(preprocess, TextPreprocess)
        self._tokens: dict[int, Tensor] = {}
        self._truncated: dict[int, bool] = {}

    def __len__(self) -> int:
        return len(self.samples)

    def key(self, row: int) -> bytes | None:
        """Return what tells a sample from any other; None if it is left out."""
        key: bytes | None = self._read(self.samples.key, row)
        return key

    def readable(self, rows: Sequence[int]) -> dict[int, Tensor]:
        """Return the tensors of some rows, without those that are left out."""
        if not self.leave_out:
            return dict(zip(rows, self.tensors(rows)))
        images = {row: image for row in rows if (image := self._read(self.samples.load, row)) is not None}
        return dict(zip(images, self.preprocess(list(images.values()))))

    def _read(self, read: Callable[[int], Any], row: int) -> Any:
        try:
            return read(row)
        except InvalidSampleError as error:
            if not self.leave_out:
                raise
            self.left_out[row] = to_invalid_sample(error, self.samples.path(row))
            return None

    def tensors(self, rows: Sequence[int]) -> list[Tensor]:
        """Return what the first stage takes, one tensor a row: (3, height, width) or (tokens,)."""
        if not isinstance(self.preprocess, TextPreprocess):
            return self.preprocess([self.samples.load(row) for row in rows])
        new = [row for row in dict.fromkeys(rows) if row not in self._tokens]
        made: dict[int, Tensor] = {}
        if new:
            tensors, truncated = self.preprocess.tokenize([self.samples.load(row) for row in new])
            made = dict(zip(new, tensors))
            self._truncated.update(
                (row, True) for row, cut in zip(new, truncated) if cut and row not in self._truncated
            )
            if self.keep:
                self._tokens.update(made)
        return [made[row] if row in made else self._tokens[row] for row in rows]

    def lengths(self, rows: Sequence[int]) -> list[int]:
        """Return the number of tokens of each row; all the same for images."""
        return [len(tensor) for tensor in self.tensors(rows)] if self.is_text else [0] * len(rows)

    def warn_of_truncated(self) -> None:
        """Warn once of all texts that were cut since the last time."""
        n = sum(self._truncated.values())
        if n and isinstance(self.preprocess, TextPreprocess):
            warnings.warn(
                f"{n} of {len(self)} texts are longer than {self.preprocess.limit} tokens; what comes after is not "
                "read. A greater max_length reads more, where the model takes it; splitting texts reads all.",
                TruncatedTextWarning,
                stacklevel=2,
            )
        self._truncated = dict.fromkeys(self._truncated, False)


def in_batches(rows: Sequence[Row], size: int) -> Iterator[list[Row]]:
    """Yield `rows` in lists of at most `size`."""
    for start in range(0, len(rows), size):
        yield list(rows[start : start + size])


def concat_features(taps: Sequence[Sequence[Tensor]]) -> Tensor:
    """Put the vectors of several taps, each given as one a sample, into one table (n, n_features)."""
    return torch.cat([torch.stack(list(tap)) for tap in taps], 1)  # (n, n_features)


def collate(tensors: Sequence[Tensor], modality: str, pad_value: int = 0) -> tuple[Tensor, Tensor | None]:
    """Put the tensors of some samples into one batch.

    Parameters
    ----------
    tensors : sequence of Tensor
        One a sample. Those of texts, (tokens,) of int or (tokens, channels), may differ in their number of tokens;
        behind a stage that pools they are vectors (channels,).
    modality : {"image", "text"}
        What the samples are.
    pad_value : int, default=0
        Fills up the shorter texts.

    Returns
    -------
    values : Tensor of shape (n, ...)
    mask : Tensor of shape (n, tokens) or None
        True where a token is real; None for images.

    Raises
    ------
    InvalidParameterError
        If images of a batch differ in size.
    """
    if modality == "text" and tensors[0].ndim == 1 and tensors[0].is_floating_point():  # a vector a text: no tokens
        return torch.stack(list(tensors)), torch.ones(len(tensors), 1, dtype=torch.bool)  # (n, channels), (n, 1)
    if modality == "text":
        values = pad_sequence(list(tensors), batch_first=True, padding_value=pad_value)  # (n, tokens, ...)
        lengths = torch.tensor([len(tensor) for tensor in tensors])
        return values, torch.arange(values.shape[1]) < lengths[:, None]  # (n, tokens)
    shapes = {tuple(tensor.shape) for tensor in tensors}
    if len(shapes) > 1:
        raise InvalidParameterError(
            f"images of one batch come in sizes {sorted(shapes)}: set preprocess={{'resize': (height, width)}} so that "
            "all get the same"
        )
    return torch.stack(list(tensors)), None  # (n, ...)
