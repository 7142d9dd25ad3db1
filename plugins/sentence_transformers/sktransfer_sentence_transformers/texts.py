"""Tokenisation of sentence-transformers: prompts, lowercasing and maximum length."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from sktransfer.backbones import TextPreprocess, Tokens
from sktransfer_sentence_transformers.recipe import Recipe

__all__ = ["PromptedTokens", "texts_of"]


class PromptedTokens:
    """Tokenisation of texts with a prompt before each text.

    Parameters
    ----------
    tokens : Tokens
        Tokenisation without the prompt.
    prompt : str
        Text inserted before every text.

    Attributes
    ----------
    key : str
        Identifies the preprocessing in cache keys.
    """

    def __init__(self, tokens: Tokens, prompt: str) -> None:
        self.tokens, self.prompt = tokens, prompt
        self.pad_value = tokens.pad_value
        self._n_prompt = len(tokens([prompt])[0]) - len(tokens([""])[0])

    @property
    def key(self) -> str:
        """Key of the tokenisation, and the prompt."""
        return f"{self.tokens.key} {self.prompt!r}"

    @property
    def limit(self) -> int:
        """Largest number of tokens kept per text, including the prompt and special tokens."""
        return self.tokens.limit

    def __call__(self, samples: Sequence[str]) -> list[Tensor]:
        """Return one int64 tensor of token ids (tokens,) per text."""
        return self.tokenize(samples)[0]

    def tokenize(self, texts: Sequence[str]) -> tuple[list[Tensor], list[bool]]:
        """Return the token ids of texts, and whether each text was truncated."""
        return self.tokens.tokenize([self.prompt + text for text in texts])

    def unknown_share(self, tokens: Tensor) -> float:
        """Return the share of unknown tokens in a text, without its prompt and special tokens."""
        return self.tokens.unknown_share(tokens[self._n_prompt :])

    def with_max_length(self, max_length: int | None) -> PromptedTokens:
        """Return the same preprocessing with another maximum length.

        Parameters
        ----------
        max_length : int or None
            Largest number of tokens to keep, including the prompt and special tokens. None for the model's limit.
        """
        return PromptedTokens(self.tokens.with_max_length(max_length), self.prompt)


def texts_of(tokens: Tokens, folder: Path, recipe: Recipe, n_positions: int) -> tuple[TextPreprocess, int]:
    """Return the preprocessing of a model, and the number of prompt tokens to leave out of the pooling.

    Parameters
    ----------
    tokens : Tokens
        Tokenisation of the transformer.
    folder : Path
        Folder of the tokenizer.
    recipe : Recipe
        Parts of the model.
    n_positions : int
        Largest number of tokens of the transformer.
    """
    longest = min(recipe.transformer.max_tokens or tokens.model_limit, n_positions)
    hides_prompt = bool(recipe.prompt) and not recipe.include_prompt
    specials: list[int] = []
    if recipe.transformer.lowercase or hides_prompt or longest > tokens.model_limit:
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        specials = tokenizer.all_special_ids
        tokens = Tokens(
            _lowercased(tokenizer.backend_tokenizer) if recipe.transformer.lowercase else tokenizer.backend_tokenizer,
            limit=max(longest, tokens.model_limit),
            pad_value=tokens.pad_value,
            empty_value=tokens.empty_value,
            side=tokens.side,
        )
    if longest != tokens.limit:
        tokens = tokens.with_max_length(longest)
    if not recipe.prompt:
        return tokens, 0
    length = 0
    if hides_prompt:
        (ids,) = tokens([recipe.prompt])
        length = len(ids) - (int(ids[-1]) in specials)  # the closing token follows the text
    return PromptedTokens(tokens, recipe.prompt), length


def _lowercased(tokenizer: Any) -> Any:
    """Return the tokenizer with lowercasing as its first normalizer, unless it already has one."""
    from tokenizers import normalizers

    first = tokenizer.normalizer
    steps: list[Any] = [] if first is None else [first]
    if isinstance(first, normalizers.Sequence):
        steps = [first[i] for i in range(len(first))]
    if not any(isinstance(step, normalizers.Lowercase) for step in steps):
        tokenizer.normalizer = normalizers.Sequence([normalizers.Lowercase(), *steps])
    return tokenizer
