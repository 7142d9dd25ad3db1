"""Stages of ELMo: words from their characters, and LSTM layers that read a text in both directions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["BidirectionalLayer", "CharacterWords", "Direction"]


class CharacterWords(nn.Module):
    """First stage: convolutions over the characters of each word, highway layers and a projection.

    The vectors are given twice, as the inputs of both directions.

    Parameters
    ----------
    settings : mapping
        Entry `char_cnn` of the options: `embedding`, `filters`, `n_highway`, `n_characters`, `activation`.
    width : int
        Width of the projection.
    """

    def __init__(self, settings: Mapping[str, Any], width: int) -> None:
        super().__init__()
        n_channels, filters = (
            int(settings["embedding"]["dim"]),
            [(int(size), int(n)) for size, n in settings["filters"]],
        )
        self.characters = nn.Embedding(int(settings["n_characters"]), n_channels, padding_idx=0)
        self.convolutions = nn.ModuleList(nn.Conv1d(n_channels, n, size) for size, n in filters)
        n_filters = sum(n for _, n in filters)
        self.activation = str(settings["activation"])
        self.highways = nn.ModuleList(Highway(n_filters) for _ in range(int(settings["n_highway"])))
        self.projection = nn.Linear(n_filters, width)

    def forward(self, values: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return vectors (n, tokens, 2 * width) of characters (n, tokens, characters)."""
        n, n_tokens, n_characters = values.shape
        vectors = self.characters(values.reshape(n * n_tokens, n_characters)).transpose(
            1, 2
        )  # (words, channels, chars)
        activate = torch.tanh if self.activation == "tanh" else torch.relu
        # The activation increases, so the largest value may be taken first.
        parts = [activate(one(vectors).amax(2)) for one in self.convolutions]  # (words, filters of a size) each
        words = torch.cat(parts, 1)  # (words, filters)
        for highway in self.highways:
            words = highway(words)
        words = self.projection(words).view(n, n_tokens, -1)  # (n, tokens, width)
        return torch.cat([words, words], 2)  # (n, tokens, 2 * width)

    def extra_repr(self) -> str:
        """Return the activation, which is part of the fingerprint of a backbone."""
        return f"activation={self.activation}"


class Highway(nn.Module):
    """Layer that mixes its input with a transform of it, each channel by a gate.

    Parameters
    ----------
    width : int
        Number of channels.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.transform, self.carry = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, values: Tensor) -> Tensor:
        """Return values (words, width)."""
        # The gate of the files says how much of the transform is taken.
        gate = torch.sigmoid(self.carry(values))  # (words, width)
        return gate * torch.relu(self.transform(values)) + (1 - gate) * values


class Direction(nn.Module):
    """LSTM in one direction, with a projection of its outputs, and limits of its memory and outputs.

    Parameters
    ----------
    width, n_cells : int
        Width of inputs and outputs, and of the memory.
    cell_clip, proj_clip : float or None
        Largest absolute value of the memory and of the outputs. None for no limit.
    """

    def __init__(self, width: int, n_cells: int, cell_clip: float | None, proj_clip: float | None) -> None:
        super().__init__()
        self.inputs = nn.Linear(width, 4 * n_cells)  # of the input gate, new memory, forget gate and output gate
        self.recurrent = nn.Linear(width, 4 * n_cells, bias=False)
        self.projection = nn.Linear(n_cells, width, bias=False)
        self.cell_clip, self.proj_clip = cell_clip, proj_clip

    def forward(self, values: Tensor) -> Tensor:
        """Return outputs (n, tokens, width) of values (n, tokens, width), from a state of zero."""
        from_inputs = self.inputs(values)  # (n, tokens, 4 * n_cells)
        output = values.new_zeros(len(values), values.shape[2])  # (n, width)
        memory = values.new_zeros(len(values), self.projection.in_features)  # (n, n_cells)
        outputs = []
        for gates in from_inputs.unbind(1):
            into, new, kept, out = (gates + self.recurrent(output)).chunk(4, 1)  # (n, n_cells) each
            memory = _limited(into.sigmoid() * new.tanh() + kept.sigmoid() * memory, self.cell_clip)  # (n, n_cells)
            output = _limited(self.projection(out.sigmoid() * memory.tanh()), self.proj_clip)  # (n, width)
            outputs.append(output)
        return torch.stack(outputs, 1)  # (n, tokens, width)

    def extra_repr(self) -> str:
        """Return the limits, which are part of the fingerprint of a backbone."""
        return f"cell_clip={self.cell_clip}, proj_clip={self.proj_clip}"


def _limited(values: Tensor, limit: float | None) -> Tensor:
    return values if limit is None else values.clamp(-limit, limit)


class BidirectionalLayer(nn.Module):
    """LSTMs from the start and from the end of each text, independent of each other.

    Parameters
    ----------
    width, n_cells, cell_clip, proj_clip
        Parameters of each `Direction`.
    skip : bool
        Whether the input is added to the output, as in all layers but the first.
    """

    def __init__(
        self, width: int, n_cells: int, cell_clip: float | None, proj_clip: float | None, *, skip: bool
    ) -> None:
        super().__init__()
        self.forwards, self.backwards = (Direction(width, n_cells, cell_clip, proj_clip) for _ in range(2))
        self.skip = skip

    def forward(self, values: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return values (n, tokens, 2 * width), first those of the forward direction. They are 0 at padding."""
        onwards, back = values.chunk(2, 2)  # (n, tokens, width) each
        turned = _turned(mask, values)  # (n, tokens)
        back = self.backwards(_taken(back, turned))  # (n, tokens, width), the last token first
        outputs = torch.cat([self.forwards(onwards), _taken(back, turned)], 2)  # (n, tokens, 2 * width)
        if self.skip:
            outputs = outputs + values
        return outputs if mask is None else outputs * mask[:, :, None]

    def extra_repr(self) -> str:
        """Return whether the input is added, which is part of the fingerprint of a backbone."""
        return f"skip={self.skip}"


def _turned(mask: Tensor | None, values: Tensor) -> Tensor:
    """Return the positions of the tokens (n, tokens) from the last one to the first, then those of padding."""
    positions = torch.arange(values.shape[1], device=values.device)  # (tokens,)
    lengths = (
        values.new_full((len(values),), values.shape[1], dtype=torch.long) if mask is None else mask.sum(1)
    )  # (n,)
    back = lengths[:, None] - 1 - positions  # (n, tokens)
    return torch.where(back >= 0, back, positions)


def _taken(values: Tensor, positions: Tensor) -> Tensor:
    """Return the values (n, tokens, width) at other positions (n, tokens)."""
    return values.gather(1, positions[:, :, None].expand_as(values))
