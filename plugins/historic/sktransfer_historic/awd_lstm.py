"""Loader of AWD-LSTM from fastai's files: weights and vocabulary."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sktransfer.backbones import Backbone, BackboneSpec, LanguageModelHead, read_state
from sktransfer.exceptions import WeightsError
from sktransfer_historic.awd_layers import make_stages
from sktransfer_historic.awd_names import BIAS, DECODER, TABLE, in_file, names_in_file
from sktransfer_historic.files import awd_weights
from sktransfer_historic.specs import AWD_LIMIT
from sktransfer_historic.vocabulary import read_vocabulary, tokens_of

__all__ = ["load", "to_file"]


def load(spec: BackboneSpec, path: Path | None) -> Backbone:
    """Build AWD-LSTM as a backbone.

    Parameters
    ----------
    spec : BackboneSpec
        Spec of `spec_of`.
    path : Path or None
        Folder or file of the weights. None for random weights.

    Returns
    -------
    backbone : Backbone

    Raises
    ------
    WeightsError
        If weights or vocabulary cannot be read, or do not fit each other.
    """
    options = spec.options
    n_words, widths = int(options["n_words"]), list(options["widths"])
    words = read_vocabulary(Path(options["vocabulary"]), n_words)
    tokens = tokens_of(words, AWD_LIMIT)
    stages = nn.ModuleList(make_stages(n_words, widths, tokens.pad_value, float(options["dropout"])))
    output = nn.Linear(widths[-1], n_words)
    nn.init.zeros_(output.bias)
    has_softmax = widths[-1] == widths[0]
    if path is not None:
        file = path if path.is_file() else awd_weights(path)
        state = read_state(file)
        weights = {own: state[name] for own, name in names_in_file(state, file).items()}
        _copy(stages.state_dict(), weights, file)
        has_softmax = DECODER in state
        if has_softmax and not torch.equal(state[DECODER], weights[TABLE]):
            raise WeightsError(f"{file}: {DECODER!r} differs from the table of words, which AWD_LSTM ties it to")
        if BIAS in state:
            _copy({BIAS: output.bias.detach()}, {BIAS: state[BIAS]}, file)
    if has_softmax:
        first: Any = stages[0]
        output.weight = first.table.weight
    return Backbone(
        name=spec.name,
        modality="text",
        stages=list(zip(spec.stages, stages, strict=True)),
        preprocess=tokens,
        pooling="mean+max",
        definition="historic/awd_lstm",
        lm_head=LanguageModelHead("causal", output) if has_softmax else None,
    )


def _copy(own: Mapping[str, Tensor], given: Mapping[str, Tensor], path: Path) -> None:
    shapes = {name: tuple(tensor.shape) for name, tensor in own.items()}
    others = {name: tuple(tensor.shape) for name, tensor in given.items()}
    differing = sorted(name for name in shapes.keys() | others if shapes.get(name) != others.get(name))
    if differing:
        name = differing[0]
        raise WeightsError(
            f"{path}: is of another AWD-LSTM: {name} is {others.get(name)} and must be {shapes.get(name)}"
        )
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(given[name])


def to_file(stages: nn.ModuleList, bias: Tensor) -> dict[str, Tensor]:
    """Return the tensors of a language model in fastai's names.

    Parameters
    ----------
    stages : nn.ModuleList
        Stages of `make_stages`.
    bias : Tensor of shape (n_words,)
        Bias of the softmax, whose weights are the table of words.
    """
    state = stages.state_dict()
    tensors = {"0.encoder.weight": state[TABLE], DECODER: state[TABLE], BIAS: bias}
    for name, tensor in state.items():
        layer, _, own = name.partition(".lstm.")
        if own:
            tensors[f"0.rnns.{int(layer) - 1}.{in_file(own)}"] = tensor
    return tensors
