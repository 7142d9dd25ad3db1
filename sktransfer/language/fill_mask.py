"""The most probable tokens at the place of a mask token."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import torch

from sktransfer._validation import check_int
from sktransfer.backbones.backbone import Backbone
from sktransfer.backbones.tokens import Tokens
from sktransfer.engine.compute import check_finite_outputs, resolve_compute
from sktransfer.engine.forward import LayerOutput, forward
from sktransfer.engine.inputs import PreprocessedSamples
from sktransfer.exceptions import InvalidParameterError, InvalidSampleError
from sktransfer.language.heads import check_language_model, check_mask, read_texts

__all__ = ["fill_mask"]


@torch.no_grad()
def fill_mask(
    backbone: str | Backbone,
    texts: Any,
    top: int = 5,
    *,
    max_length: int | None = None,
    batch_size: int | str = "auto",
    device: str | torch.device = "auto",
    precision: str = "float32",
) -> pd.DataFrame:
    """Return the most probable tokens at the place of the mask token of each text.

    Parameters
    ----------
    backbone : str or Backbone
        A name or a loaded backbone, with a masked `lm_head`.
    texts : str, or list, Series, one-column DataFrame or array of n_texts
        Texts, each of which contains the mask token of the network once, such as "[MASK]" or "<mask>". A str is one
        text.
    top : int, default=5
        Number of tokens per text.
    max_length : int, default=None
        Number of tokens to which texts are truncated. None for the model's limit.
    batch_size : int or "auto", default="auto"
        Number of texts per forward pass. "auto" fills a core or the GPU.
    device : str or torch.device, default="auto"
        "auto" is a GPU if there is one, else the CPU. The head runs on the CPU.
    precision : {"float32", "bfloat16", "float16", "auto", "int8"}, default="float32"
        Precision of the stages. The head computes in float32.

    Returns
    -------
    table : DataFrame of n_texts * top rows
        Columns "row" (index in `texts`, from 0), "rank" (from 1), "token" and "probability". A token may be a part of a
        word. "##" or a similar mark shows that it continues a word.

    Raises
    ------
    InvalidParameterError
        If the backbone has no masked `lm_head`, or a parameter is not allowed.
    InvalidSampleError
        If a text contains no mask token, or several.
    NotFiniteError
        If a probability is NaN.

    See Also
    --------
    pseudo_perplexity : Score whole texts by a masked language model.

    Examples
    --------
    >>> from torch import nn
    >>> from sktransfer import Backbone, fill_mask, load_backbone
    >>> from sktransfer.backbones import LanguageModelHead
    >>> bert = load_backbone("tiny/bert")  # has no head, so that this one is not trained
    >>> output = nn.Linear(160, 10_000, bias=False)
    >>> output.weight = bert.stages[0].embeddings.word_embeddings.weight
    >>> stages = list(zip(bert.stage_names, bert.stages))
    >>> head = LanguageModelHead("masked", output)
    >>> backbone = Backbone.from_modules(stages, modality="text", preprocess=bert.preprocess, lm_head=head)
    >>> fill_mask(backbone, "a [MASK] film", top=2).columns.tolist()
    ['row', 'rank', 'token', 'probability']
    """
    network, head, tokens = check_language_model(backbone, "masked", max_length)
    mask_value = check_mask(tokens, network.name)
    compute = resolve_compute(device, precision, batch_size)
    top = check_int("top", top, minimum=1)
    inputs = read_texts(texts, tokens)
    places = [_place(inputs, row, tokens, mask_value, network.name) for row in range(len(inputs))]
    best = np.zeros((len(inputs), top), np.int64)  # (n_texts, top)
    probabilities = np.zeros((len(inputs), top))  # (n_texts, top)
    for rows, (outputs,) in forward(network, inputs, [LayerOutput(len(network.stages))], compute=compute):
        for row, values in zip(rows, outputs):  # (tokens, channels)
            # One text at a time: the rounding of a larger product depends on the other texts.
            logits = head(values[None, places[row] : places[row] + 1].float())[0, 0]  # (n_vocabulary,)
            if top > len(logits):
                raise InvalidParameterError(f"top={top} is more than the {len(logits)} tokens of {network.name}")
            of_text = logits.double().softmax(0).numpy()  # (n_vocabulary,)
            best[row] = np.argsort(-of_text, kind="stable")[:top]  # (top,)
            probabilities[row] = of_text[best[row]]  # (top,)
    inputs.warn_of_unread()
    check_finite_outputs(probabilities, compute)
    return pd.DataFrame(
        {
            "row": np.repeat(np.arange(len(best)), top),
            "rank": np.tile(np.arange(1, top + 1), len(best)),
            "token": [tokens.decode(int(token)) for token in best.ravel()],
            "probability": probabilities.ravel(),  # (n_texts * top,)
        }
    )


def _place(inputs: PreprocessedSamples, row: int, tokens: Tokens, mask_value: int, name: str) -> int:
    """Return the position of the mask token in a text."""
    (ids,) = inputs.tensors([row])
    found = (ids == mask_value).nonzero().ravel().tolist()
    if len(found) == 1:
        return int(found[0])
    mask = tokens.mask_token
    if found:
        message = f"the text contains {mask} {len(found)} times; hide one token per text, and pass a text for each"
    elif str(mask) in inputs.samples.load(row):
        message = (
            f"{mask} is not among the {len(ids)} tokens to which the text is truncated; shorten the text before it, or "
            f"raise max_length, to at most {tokens.model_limit}"
        )
    else:
        message = f"the text does not contain {mask}, the mask token of {name}; write it in place of the hidden word"
    raise InvalidSampleError(row, message, inputs.samples.label(row))
