"""Perplexities of texts under causal and masked language models."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from sktransfer._validation import check_option
from sktransfer.backbones.backbone import Backbone
from sktransfer.backbones.language import LanguageModelHead
from sktransfer.backbones.stages import run_stages
from sktransfer.backbones.tokens import Tokens
from sktransfer.engine.compute import Compute, check_finite_outputs, resolve_compute
from sktransfer.engine.forward import LayerOutput, forward
from sktransfer.engine.inference import prepare_for_inference
from sktransfer.engine.inputs import PreprocessedSamples, in_batches
from sktransfer.engine.workers import in_parallel, retry_on_oom
from sktransfer.exceptions import InvalidSampleError
from sktransfer.language.heads import check_language_model, check_mask, read_texts

__all__ = ["perplexity", "pseudo_perplexity"]

_POSITIONS = 64  # whose logits over the vocabulary are in memory at once
Masked = tuple[int, Tensor, list[int]]  # row, token ids, and the positions to mask, one per copy


@torch.no_grad()
def perplexity(
    backbone: str | Backbone,
    texts: Any,
    *,
    per: str = "text",
    max_length: int | None = None,
    batch_size: int | str = "auto",
    device: str | torch.device = "auto",
    precision: str = "float32",
) -> np.ndarray | float:
    """Return the perplexity of texts under a causal language model, such as a GPT.

    It is the exponential of the mean negative log-likelihood of each token after the first, given those before it. The
    lower, the better the model expects the text.

    Parameters
    ----------
    backbone : str or Backbone
        A name or a loaded backbone, with a causal `lm_head`.
    texts : str, or list, Series, one-column DataFrame or array of n_texts
        Texts of at least two tokens. A str is one text.
    per : {"text", "corpus"}, default="text"
        "corpus" returns one number over the tokens of all texts.
    max_length : int, default=None
        Number of tokens to which texts are truncated. Tokens beyond are not scored. None for the model's limit.
    batch_size : int or "auto", default="auto"
        Number of texts per forward pass. "auto" fills a core or the GPU.
    device : str or torch.device, default="auto"
        "auto" is a GPU if there is one, else the CPU. The head runs on the CPU.
    precision : {"float32", "bfloat16", "float16", "auto", "int8"}, default="float32"
        Precision of the stages. The head computes in float32.

    Returns
    -------
    perplexity : ndarray of shape (n_texts,), float64, or float
        At least 1.

    Raises
    ------
    InvalidParameterError
        If the backbone has no causal `lm_head`, or a parameter is not allowed.
    InvalidSampleError
        If a text has only one token.
    NotFiniteError
        If a perplexity is NaN or infinite.

    See Also
    --------
    pseudo_perplexity : For masked language models, such as BERT.

    Notes
    -----
    Special tokens that the tokenizer adds are scored like others, except the first token. Models with different
    vocabularies are not comparable by their perplexities.

    Examples
    --------
    >>> from torch import nn
    >>> from sktransfer import Backbone, load_backbone, perplexity
    >>> from sktransfer.backbones import LanguageModelHead
    >>> bert = load_backbone("tiny/bert")  # stands for a GPT here, with a head that is not trained
    >>> head = LanguageModelHead("causal", nn.Linear(160, 10_000))
    >>> stages = list(zip(bert.stage_names, bert.stages))
    >>> backbone = Backbone.from_modules(stages, modality="text", preprocess=bert.preprocess, lm_head=head)
    >>> perplexity(backbone, ["a film", "a plot and actors"]).shape
    (2,)
    """
    check_option("per", per, ("text", "corpus"))
    network, head, tokens = check_language_model(backbone, "causal", max_length)
    compute = resolve_compute(device, precision, batch_size)
    inputs = read_texts(texts, tokens)
    losses, counts = np.zeros(len(inputs)), np.zeros(len(inputs))  # (n_texts,)
    for row in range(len(inputs)):
        (ids,) = inputs.tensors([row])
        counts[row] = len(ids) - 1
        if len(ids) < 2:
            raise InvalidSampleError(
                row,
                f"the text has only one token for {network.name}, and the first one is not predicted; leave out texts "
                "of fewer than two tokens",
                inputs.samples.label(row),
            )
    for rows, (outputs,) in forward(network, inputs, [LayerOutput(len(network.stages))], compute=compute):
        for row, values, ids in zip(rows, outputs, inputs.tensors(rows)):
            losses[row] = _loss(head, values[:-1], ids[1:])
    inputs.warn_of_unread()
    return _perplexities(losses, counts, per, compute)


@torch.no_grad()
def pseudo_perplexity(
    backbone: str | Backbone,
    texts: Any,
    *,
    per: str = "text",
    max_length: int | None = None,
    batch_size: int | str = "auto",
    device: str | torch.device = "auto",
    precision: str = "float32",
) -> np.ndarray | float:
    """Return the pseudo-perplexity of texts under a masked language model, such as BERT.

    It is the exponential of the mean negative log-likelihood of each token, given all others [1]_. Each token of a text
    is masked in a copy of its own, so that a text costs one forward pass per token.

    Parameters
    ----------
    backbone : str or Backbone
        A name or a loaded backbone, with a masked `lm_head`.
    texts : str, or list, Series, one-column DataFrame or array of n_texts
        Texts of at least one token. A str is one text.
    per : {"text", "corpus"}, default="text"
        "corpus" returns one number over the tokens of all texts.
    max_length : int, default=None
        Number of tokens to which texts are truncated. Tokens beyond are not scored. None for the model's limit.
    batch_size : int or "auto", default="auto"
        Number of copies per forward pass. "auto" fills a core or the GPU.
    device : str or torch.device, default="auto"
        "auto" is a GPU if there is one, else the CPU. The head runs on the CPU.
    precision : {"float32", "bfloat16", "float16", "auto", "int8"}, default="float32"
        Precision of the stages. The head computes in float32.

    Returns
    -------
    pseudo_perplexity : ndarray of shape (n_texts,), float64, or float
        At least 1.

    Raises
    ------
    InvalidParameterError
        If the backbone has no masked `lm_head`, or a parameter is not allowed.
    InvalidSampleError
        If a text has no token.
    NotFiniteError
        If a result is NaN or infinite.

    See Also
    --------
    perplexity : For causal language models, such as a GPT.

    Notes
    -----
    It is not a perplexity, because the likelihoods of the tokens given all others are not those of a distribution of
    texts. Special tokens that the tokenizer adds are not scored.

    References
    ----------
    .. [1] J. Salazar et al., "Masked Language Model Scoring", ACL 2020, equations 1 and 2.

    Examples
    --------
    >>> from torch import nn
    >>> from sktransfer import Backbone, load_backbone, pseudo_perplexity
    >>> from sktransfer.backbones import LanguageModelHead
    >>> bert = load_backbone("tiny/bert")  # has no head, so that this one is not trained
    >>> head = LanguageModelHead("masked", nn.Linear(160, 10_000))
    >>> stages = list(zip(bert.stage_names, bert.stages))
    >>> backbone = Backbone.from_modules(stages, modality="text", preprocess=bert.preprocess, lm_head=head)
    >>> pseudo_perplexity(backbone, ["a film", "a plot and actors"]).shape
    (2,)
    """
    check_option("per", per, ("text", "corpus"))
    network, head, tokens = check_language_model(backbone, "masked", max_length)
    mask_value = check_mask(tokens, network.name)
    compute = resolve_compute(device, precision, batch_size)
    inputs = read_texts(texts, tokens)
    scored = [_scored_positions(inputs, row, tokens) for row in range(len(inputs))]
    stages = prepare_for_inference(network, compute)

    def run(masked: Masked) -> tuple[int, int, float]:
        row, ids, positions = masked
        losses: list[float] = []

        def work(part: slice) -> None:
            values = _values_at(stages, ids, positions[part], mask_value, compute)  # (n_copies, channels)
            losses.append(_loss(head, values, ids[positions[part]]))

        retry_on_oom(work, [row] * len(positions))
        return row, positions[0], sum(losses)

    # Sums in one order, whichever thread is the first.
    parts = sorted(in_parallel(_copies(inputs, scored, compute), run))
    losses = np.zeros(len(inputs))  # (n_texts,)
    for row, _, loss in parts:
        losses[row] += loss
    inputs.warn_of_unread()
    return _perplexities(losses, np.array([len(positions) for positions in scored]), per, compute)


def _scored_positions(inputs: PreprocessedSamples, row: int, tokens: Tokens) -> list[int]:
    """Return the positions of the tokens of a text, without special ones."""
    positions = [index for index, word in enumerate(tokens.words(inputs.samples.load(row))[1]) if word is not None]
    if not positions:
        raise InvalidSampleError(
            row, "the text has no token to score; leave out texts without words", inputs.samples.label(row)
        )
    return positions


def _copies(inputs: PreprocessedSamples, scored: Sequence[list[int]], compute: Compute) -> Iterator[Masked]:
    """Yield batches of copies of one text, which depend on that text alone."""
    for row, positions in enumerate(scored):
        (ids,) = inputs.tensors([row])
        for part in in_batches(positions, compute.samples_per_batch(len(ids), "tokens")):
            yield row, ids, part


@torch.inference_mode()
def _values_at(
    stages: torch.nn.ModuleList, ids: Tensor, positions: Sequence[int], mask_value: int, compute: Compute
) -> Tensor:
    """Return the last stage's values at each masked position (n_copies, channels), on the CPU."""
    copies, index = torch.arange(len(positions)), torch.tensor(positions)  # (n_copies,)
    masked = ids.repeat(len(positions), 1)  # (n_copies, tokens)
    masked[copies, index] = mask_value
    real = torch.ones_like(masked, dtype=torch.bool)  # (n_copies, tokens)
    *_, last = run_stages(stages, masked.to(compute.device), real.to(compute.device), None)
    return last.cpu()[copies, index].float()  # (n_copies, channels)


def _loss(head: LanguageModelHead, values: Tensor, ids: Tensor) -> float:
    """Return the sum of the negative log-likelihoods of tokens (n,) at the positions of values (n, channels)."""
    total = 0.0
    for start in range(0, len(ids), _POSITIONS):
        logits = head(values[None, start : start + _POSITIONS].float())[0]  # (n, n_vocabulary)
        losses = functional.cross_entropy(logits.double(), ids[start : start + _POSITIONS], reduction="sum")  # ()
        total += float(losses)
    return total


def _perplexities(losses: np.ndarray, counts: np.ndarray, per: str, compute: Compute) -> np.ndarray | float:
    if per == "corpus":
        losses, counts = losses.sum(keepdims=True), counts.sum(keepdims=True)  # (1,)
    with np.errstate(over="ignore"):
        result = np.exp(losses / counts)  # (n_texts,) or (1,)
    check_finite_outputs(result[:, None], compute)
    return float(result[0]) if per == "corpus" else result
