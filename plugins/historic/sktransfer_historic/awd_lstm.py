"""Loader of AWD-LSTM from a folder of fastai's files: weights and vocabulary."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from sktransfer.backbones import (
    Backbone,
    BackboneSpec,
    LanguageModelHead,
    WeightsSource,
    read_state,
)
from sktransfer.exceptions import WeightsError
from sktransfer_historic.awd_layers import make_stages
from sktransfer_historic.files import one_file
from sktransfer_historic.vocabulary import read_vocabulary, tokens_of

__all__ = ["load", "names_in_file", "spec_of"]

LIMIT = 1440  # tokens that fastai's classifier pools: 20 times the 72 of a step
_WEIGHTS, _WHAT = ("*.safetensors", "*.pth", "*.pt"), "weights (.safetensors or .pth)"
_VOCABULARIES = ("*.json", "*.txt", "*.pkl")
_OURS = ("card.json", "checkpoint.pt")  # of the training script
_LSTM = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")


def spec_of(name: str, folder: Path, dropout: float) -> BackboneSpec:
    """Return the spec of a folder.

    Parameters
    ----------
    name : str
        Name of the backbone.
    folder : Path
        Folder with one file of weights and one vocabulary.
    dropout : float
        Factor of the rates of dropout.

    Raises
    ------
    WeightsError
        If files are missing, or cannot be read.
    """
    path = one_file(folder, _WEIGHTS, _WHAT, without=_OURS)
    vocabulary = one_file(folder, _VOCABULARIES, "vocabulary (.json, .txt or .pkl)", without=_OURS)
    stat = path.stat()
    n_words, widths, n_parameters = _sizes(path, stat.st_size, stat.st_mtime_ns)
    return BackboneSpec(
        name=name,
        loader="sktransfer_historic.awd_lstm:load",
        modality="text",
        stages={"words": widths[0], **{f"lstm{i}": width for i, width in enumerate(widths[1:], start=1)}},
        input_size=(LIMIT,),
        weights=WeightsSource(location=f"file:{folder}"),
        n_parameters=n_parameters,
        n_embedding_parameters=n_words * widths[0],
        language="en",
        options={"vocabulary": str(vocabulary), "n_words": n_words, "widths": list(widths), "dropout": dropout},
    )


@functools.lru_cache(maxsize=8)
def _sizes(path: Path, size: int, time: int) -> tuple[int, tuple[int, ...], int]:
    """Return the number of words, the widths and the number of parameters of a file of this size and time."""
    weights, bias, _ = _read(path)
    widths = [weights["0.table.weight"].shape[1]]
    widths += [tensor.shape[1] for name, tensor in weights.items() if name.endswith("weight_hh_l0")]
    n_parameters = sum(tensor.numel() for tensor in weights.values()) + (0 if bias is None else bias.numel())
    return len(weights["0.table.weight"]), tuple(widths), n_parameters


def _read(path: Path) -> tuple[dict[str, Tensor], Tensor | None, bool]:
    """Return the weights in the names of the stages, the bias of the softmax, and whether there is a softmax.

    Raises
    ------
    WeightsError
        If a file has other names than those of fastai's AWD_LSTM, or its softmax has a table of its own.
    """
    state = read_state(path)
    tables = [name for name in state if name.endswith("encoder.weight")]
    if not tables:
        raise WeightsError(
            f"{path}: has no tensor 'encoder.weight', so it is not the state dict of fastai's AWD_LSTM; it has "
            f"{', '.join(list(state)[:5])}"
        )
    prefix = min(tables, key=len).removesuffix("encoder.weight")
    weights = {"0.table.weight": state[f"{prefix}encoder.weight"]}
    n_layers = len({name.split(".")[1] for name in _behind(state, prefix) if name.startswith("rnns.")})
    for layer in range(n_layers):
        # fastai keeps a copy with dropout, `module.weight_hh_l0`, beside the weights that are trained.
        names = {name: f"{prefix}rnns.{layer}.{_in_file(name)}" for name in _LSTM}
        missing = [name for name in names.values() if name not in state]
        more = [name for name in state if name.startswith(f"{prefix}rnns.{layer}.") and "_reverse" in name]
        if missing or more:
            raise WeightsError(
                f"{path}: layer {layer} is not a layer of a forward AWD_LSTM; missing: {missing}, not read: {more}"
            )
        weights |= {f"{layer + 1}.lstm.{name}": state[file] for name, file in names.items()}
    if not n_layers:
        raise WeightsError(f"{path}: has no tensors '{prefix}rnns...', the layers of fastai's AWD_LSTM")
    decoder = state.get("1.decoder.weight")
    if decoder is not None and not torch.equal(decoder, weights["0.table.weight"]):
        raise WeightsError(f"{path}: '1.decoder.weight' differs from the table of words, which AWD_LSTM ties it to")
    return {name: tensor.float() for name, tensor in weights.items()}, state.get("1.decoder.bias"), decoder is not None


def _behind(names: Iterable[str], prefix: str) -> list[str]:
    return [name.removeprefix(prefix) for name in names if name.startswith(prefix)]


def _in_file(name: str) -> str:
    return "weight_hh_l0_raw" if name == "weight_hh_l0" else f"module.{name}"


def names_in_file(stages: nn.ModuleList, bias: Tensor) -> dict[str, Tensor]:
    """Return the tensors of a language model in fastai's names.

    Parameters
    ----------
    stages : nn.ModuleList
        Stages of `make_stages`.
    bias : Tensor of shape (n_words,)
        Bias of the softmax.
    """
    state = stages.state_dict()
    table = state["0.table.weight"]
    tensors = {"0.encoder.weight": table, "1.decoder.weight": table, "1.decoder.bias": bias}
    for layer in range(len(stages) - 1):
        tensors |= {f"0.rnns.{layer}.{_in_file(name)}": state[f"{layer + 1}.lstm.{name}"] for name in _LSTM}
    return tensors


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
    tokens = tokens_of(words, LIMIT)
    stages = nn.ModuleList(make_stages(n_words, widths, tokens.pad_value, float(options["dropout"])))
    output = nn.Linear(widths[-1], n_words)
    nn.init.zeros_(output.bias)
    has_softmax = widths[-1] == widths[0]
    if path is not None:
        file = path if path.is_file() else one_file(path, _WEIGHTS, _WHAT, without=_OURS)
        weights, bias, has_softmax = _read(file)
        _copy(stages.state_dict(), weights, file)
        if bias is not None:
            _copy({"bias": output.bias.detach()}, {"bias": bias}, file)
    if has_softmax:
        output.weight = stages[0].table.weight
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
