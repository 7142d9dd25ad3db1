"""Backbones with a language-model head, and texts for them, checked."""

from __future__ import annotations

from typing import Any

from sktransfer.backbones.backbone import Backbone
from sktransfer.backbones.language import LanguageModelHead
from sktransfer.backbones.loading import load_backbone
from sktransfer.backbones.tokens import Tokens
from sktransfer.engine.inputs import PreprocessedSamples
from sktransfer.exceptions import InvalidParameterError
from sktransfer.samples.labels import labelled_rows, row_labels
from sktransfer.samples.texts import check_texts

__all__ = ["check_language_model", "check_mask", "read_texts", "uncut"]

_USES = {"masked": "fill_mask and pseudo_perplexity", "causal": "perplexity"}
_CLASSES = {"masked": "ForMaskedLM", "causal": "ForCausalLM or LMHeadModel"}


def check_language_model(
    backbone: str | Backbone, kind: str, max_length: int | None
) -> tuple[Backbone, LanguageModelHead, Tokens]:
    """Return a backbone, its language-model head and its tokenisation.

    Parameters
    ----------
    backbone : str or Backbone
        Name or backbone, as the user gives it.
    kind : {"masked", "causal"}
        Kind of the head that is needed.
    max_length : int or None
        As `load_backbone` takes it.

    Raises
    ------
    InvalidParameterError
        If it has no head of this kind, or no tokenisation of this library.
    """
    loaded = load_backbone(backbone, max_length=max_length)
    head = loaded.lm_head
    whole = uncut(loaded)
    if head is None and whole is not loaded and whole.lm_head is not None:
        raise InvalidParameterError(
            f"backbone: this {loaded.name} ends at {loaded.stage_names[-1]!r}, the highest stage that its estimator "
            f"reads, and the language-model head reads {whole.stage_names[-1]!r}. Fit the estimator with layer=-1, or "
            f"pass the pretrained network, load_backbone({loaded.name!r})"
        )
    if head is None:
        raise InvalidParameterError(
            f"backbone: {loaded.name} has no language-model head, so it predicts no tokens. Use a text model whose "
            f"weights have one: in its config.json, `architectures` names a class that ends in {_CLASSES[kind]}, such "
            f"as {'hf/distilbert-base-uncased' if kind == 'masked' else 'hf/distilgpt2'}"
        )
    if head.kind != kind:
        raise InvalidParameterError(
            f"backbone: {loaded.name} is a {head.kind} language model, and a {kind} one is needed. For "
            f"{head.kind} ones use {_USES[head.kind]}"
        )
    if not isinstance(loaded.preprocess, Tokens):
        raise InvalidParameterError(
            f"backbone: {loaded.name} has a tokenisation of type {type(loaded.preprocess).__name__}, and Tokens of "
            "sktransfer.backbones is needed"
        )
    return loaded, head, loaded.preprocess


def uncut(backbone: Backbone) -> Backbone:
    """Return the backbone that stages were left out of, or the same one.

    Parameters
    ----------
    backbone : Backbone
        Backbone, such as that of a fitted estimator.
    """
    source = backbone
    while source.origin is not None and source.origin[1] and isinstance(source.origin[1][0], Backbone):
        source = source.origin[1][0]
    return source if len(source.stages) > len(backbone.stages) else backbone


def check_mask(tokens: Tokens, name: str) -> int:
    """Return the id of the mask token.

    Parameters
    ----------
    tokens : Tokens
        Tokenisation of the backbone.
    name : str
        Name of the backbone, for the message.

    Raises
    ------
    InvalidParameterError
        If the tokenizer names none.
    """
    if tokens.mask_value is None:
        raise InvalidParameterError(
            f"backbone: the tokenizer of {name} names no mask token. Set `tokenizer.mask_token` and save it with "
            "`tokenizer.save_pretrained(folder)`"
        )
    return tokens.mask_value


def read_texts(texts: Any, tokens: Tokens) -> PreprocessedSamples:
    """Return validated texts, of which a single one may be given as a str.

    Parameters
    ----------
    texts : str, or list, Series, one-column DataFrame or array of str
        Texts as the user gives them.
    tokens : Tokens
        Tokenisation of the backbone.
    """
    labels = row_labels(texts)
    with labelled_rows(labels):
        samples = check_texts([texts] if isinstance(texts, str) else texts)
    samples.labels = labels
    return PreprocessedSamples(samples, tokens, keep=True)
