"""Samples as tensors, and tensors as batches."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from numbers import Integral
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from sktransfer.backbones.preprocess import Preprocess, TextPreprocess
from sktransfer.exceptions import InvalidParameterError, TruncatedTextWarning

__all__ = ["Inputs", "collate", "in_batches", "resolve_batch_size"]

_AUTO = {("image", "cpu"): 8, ("image", "gpu"): 64, ("text", "cpu"): 32, ("text", "gpu"): 128}


def resolve_batch_size(batch_size: int | str, modality: str, device: torch.device) -> int:
    """Return how many samples go through the network at once.

    Parameters
    ----------
    batch_size : int or "auto"
        "auto": on a CPU 8 images (more leave its cache) or 32 texts, on a GPU 64 or 128.
    modality : {"image", "text"}
        What the samples are.
    device : torch.device
        Where the network runs.

    Raises
    ------
    InvalidParameterError
        If it is no positive int and not "auto".
    """
    if isinstance(batch_size, str) and batch_size == "auto":
        return _AUTO[modality, "cpu" if device.type == "cpu" else "gpu"]
    if isinstance(batch_size, bool) or not isinstance(batch_size, Integral) or batch_size < 1:
        raise InvalidParameterError(f"batch_size={batch_size!r} must be 'auto' or an int of at least 1")
    return int(batch_size)


class Inputs:
    """Samples behind a backbone's preprocessing, made when they are asked for.

    Token ids are small and are kept; images are not.

    Parameters
    ----------
    samples : Samples
        What the user gave, validated.
    preprocess : Preprocess
        The backbone's own.
    """

    def __init__(self, samples: Any, preprocess: Preprocess) -> None:
        self.samples, self.preprocess = samples, preprocess
        self.is_text = isinstance(preprocess, TextPreprocess)
        self._tokens: dict[int, Tensor] = {}
        self._truncated = 0

    def __len__(self) -> int:
        return len(self.samples)

    def tensors(self, rows: Sequence[int]) -> list[Tensor]:
        """Return what the first stage takes, one tensor a row: (3, height, width) or (tokens,)."""
        if not isinstance(self.preprocess, TextPreprocess):
            return self.preprocess([self.samples.load(row) for row in rows])
        new = [row for row in dict.fromkeys(rows) if row not in self._tokens]  # each once, as it is counted
        if new:
            tensors, truncated = self.preprocess.tokenize([self.samples.load(row) for row in new])
            self._tokens.update(zip(new, tensors))
            self._truncated += sum(truncated)
        return [self._tokens[row] for row in rows]

    def lengths(self, rows: Sequence[int]) -> list[int]:
        """Return the number of tokens of each row; all the same for images."""
        return [len(tensor) for tensor in self.tensors(rows)] if self.is_text else [0] * len(rows)

    def warn_of_truncated(self) -> None:
        """Warn once of all texts that were cut since the last time."""
        if self._truncated and isinstance(self.preprocess, TextPreprocess):
            warnings.warn(
                f"{self._truncated} of {len(self)} texts are longer than {self.preprocess.limit} tokens; what comes "
                "after is not read. A greater max_length reads more, where the model takes it; splitting texts reads "
                "all.",
                TruncatedTextWarning,
                stacklevel=2,
            )
        self._truncated = 0


def in_batches(rows: Sequence[int], size: int) -> Iterator[list[int]]:
    """Yield `rows` in lists of at most `size`."""
    for start in range(0, len(rows), size):
        yield list(rows[start : start + size])


def collate(tensors: Sequence[Tensor], modality: str, pad_value: int = 0) -> tuple[Tensor, Tensor | None]:
    """Put the tensors of some samples into one batch.

    Parameters
    ----------
    tensors : sequence of Tensor
        One a sample. Those of texts (tokens, ...) may differ in their number of tokens.
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
