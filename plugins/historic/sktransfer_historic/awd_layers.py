"""Stages of AWD-LSTM: a table of words and LSTM layers, with its five kinds of dropout."""

from __future__ import annotations

import itertools
import warnings
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["DROPOUT", "RecurrentLayer", "WordEmbedding", "make_stages"]

# Rates of ULMFiT's classifier, which a backbone multiplies.
DROPOUT = {"words": 0.05, "input": 0.4, "hidden": 0.3, "weights": 0.5, "output": 0.4}


class WordEmbedding(nn.Module):
    """First stage: a vector per word, with dropout of whole words of the vocabulary.

    Parameters
    ----------
    n_words, width : int
        Shape of the table.
    padding : int
        Id of the padding.
    dropout : float
        Probability that a word of the vocabulary gets a vector of zeros at all its places in a batch.
    """

    def __init__(self, n_words: int, width: int, padding: int, dropout: float) -> None:
        super().__init__()
        self.table = nn.Embedding(n_words, width, padding_idx=padding)
        nn.init.uniform_(self.table.weight, -0.1, 0.1)
        self.dropout = dropout

    def forward(self, values: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return vectors (n, tokens, width) of word ids (n, tokens)."""
        vectors: Tensor = self.table(values)  # (n, tokens, width)
        if self.training and self.dropout:
            weight = self.table.weight
            kept = functional.dropout(weight.new_ones(len(weight)), self.dropout)  # (n_words,)
            vectors = vectors * kept[values][:, :, None]  # (n, tokens, width)
        return vectors

    def extra_repr(self) -> str:
        """Return the rate of dropout."""
        return f"dropout={self.dropout:g}"


class RecurrentLayer(nn.Module):
    """LSTM layer that reads a text from its start, with dropout of its recurrent weights.

    The state is zero at the start of each text, so that the values of a text do not depend on other texts.

    Parameters
    ----------
    n_inputs, n_outputs : int
        Widths.
    input_dropout : float
        Probability that an input channel is dropped at all tokens of a text.
    weight_dropout : float
        Probability that a recurrent weight is dropped in a batch.
    output_dropout : float, default=0.0
        As `input_dropout`, of the outputs.
    """

    def __init__(
        self, n_inputs: int, n_outputs: int, input_dropout: float, weight_dropout: float, output_dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.lstm = nn.LSTM(n_inputs, n_outputs, batch_first=True)
        self.input_dropout, self.weight_dropout, self.output_dropout = input_dropout, weight_dropout, output_dropout

    def forward(self, values: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return hidden states (n, tokens, n_outputs). Tokens after the end of a text do not change those before."""
        values = self._dropped(values, self.input_dropout)
        states = self._states_without_weights(values) if self.training and self.weight_dropout else self.lstm(values)[0]
        return self._dropped(states, self.output_dropout).contiguous()

    def _dropped(self, values: Tensor, rate: float) -> Tensor:
        """Drop channels at all tokens of a text."""
        if not self.training or not rate:
            return values
        kept = functional.dropout(values.new_ones(len(values), 1, values.shape[2]), rate)  # (n, 1, channels)
        return values * kept

    def _states_without_weights(self, values: Tensor) -> Tensor:
        lstm: Any = self.lstm
        recurrent = functional.dropout(lstm.weight_hh_l0, self.weight_dropout)
        weights = [lstm.weight_ih_l0, recurrent, lstm.bias_ih_l0, lstm.bias_hh_l0]
        start = values.new_zeros(1, len(values), lstm.hidden_size)  # (1, n, n_outputs)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="RNN module weights are not part of single contiguous chunk")
            states, _, _ = torch.lstm(values, (start, start), weights, True, 1, 0.0, True, False, True)
        out: Tensor = states  # (n, tokens, n_outputs)
        return out

    def extra_repr(self) -> str:
        """Return the rates of dropout."""
        return f"dropout=({self.input_dropout:g}, {self.weight_dropout:g}, {self.output_dropout:g})"


def make_stages(n_words: int, widths: list[int], padding: int, dropout: float) -> list[nn.Module]:
    """Return the stages with random weights, drawn by torch's default generator.

    Parameters
    ----------
    n_words : int
        Size of the vocabulary.
    widths : list of int
        Width of the table and of each layer.
    padding : int
        Id of the padding.
    dropout : float
        Factor of the rates of `DROPOUT`.
    """
    rates = {name: min(dropout * rate, 0.95) for name, rate in DROPOUT.items()}
    stages: list[nn.Module] = [WordEmbedding(n_words, widths[0], padding, rates["words"])]
    for index, (n_inputs, n_outputs) in enumerate(itertools.pairwise(widths)):
        before = rates["hidden"] if index else rates["input"]
        behind = rates["output"] if index == len(widths) - 2 else 0.0
        stages.append(RecurrentLayer(n_inputs, n_outputs, before, rates["weights"], behind))
    return stages
