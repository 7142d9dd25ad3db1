"""From texts to token ids as a model of sentence-transformers makes them: prompt, lower case, length."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from sktransfer.backbones import TextPreprocess, Tokens
from sktransfer_sentence_transformers.recipe import Recipe

__all__ = ["PromptedTokens", "texts_of"]


class PromptedTokens:
    """Token ids of texts behind a prompt.

    Parameters
    ----------
    tokens : Tokens
        The tokenisation.
    prompt : str
        Put in front of every text.

    Attributes
    ----------
    key : str
        Tells this preprocessing from any other.
    """

    def __init__(self, tokens: Tokens, prompt: str) -> None:
        self.tokens, self.prompt = tokens, prompt
        self.pad_value = tokens.pad_value

    @property
    def key(self) -> str:
        """That of the tokenisation, and the prompt."""
        return f"{self.tokens.key} {self.prompt!r}"

    @property
    def limit(self) -> int:
        """The most tokens that are kept, those of the prompt and the special ones included."""
        return self.tokens.limit

    def __call__(self, samples: Sequence[str]) -> list[Tensor]:
        """Return one int64 tensor of token ids (tokens,) a text."""
        return self.tokenize(samples)[0]

    def tokenize(self, texts: Sequence[str]) -> tuple[list[Tensor], list[bool]]:
        """Return the token ids of texts, and which of the texts were cut."""
        return self.tokens.tokenize([self.prompt + text for text in texts])

    def with_max_length(self, max_length: int | None) -> PromptedTokens:
        """Return the same with another length at which texts are cut.

        Parameters
        ----------
        max_length : int or None
            The most tokens to keep, those of the prompt and the special ones included; None for all that the model
            takes.
        """
        return PromptedTokens(self.tokens.with_max_length(max_length), self.prompt)


def texts_of(tokens: Tokens, folder: Path, recipe: Recipe, n_positions: int) -> tuple[TextPreprocess, int]:
    """Return a model's preprocessing, and how many tokens at the start of each text are not pooled.

    Parameters
    ----------
    tokens : Tokens
        As the transformer alone has them.
    folder : Path
        Holds the tokenizer.
    recipe : Recipe
        What the model says.
    n_positions : int
        The most tokens that the transformer takes.
    """
    longest = min(recipe.transformer.max_tokens or tokens.model_limit, n_positions)
    hides_prompt = bool(recipe.prompt) and not recipe.include_prompt
    specials: list[int] = []
    if recipe.transformer.lowercase or hides_prompt or longest > tokens.model_limit:
        from transformers import AutoTokenizer

        found = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        specials = found.all_special_ids
        tokens = Tokens(
            _lowercased(found.backend_tokenizer) if recipe.transformer.lowercase else found.backend_tokenizer,
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
        length = len(ids) - (int(ids[-1]) in specials)  # a closing token stands behind the text
    return PromptedTokens(tokens, recipe.prompt), length


def _lowercased(tokenizer: Any) -> Any:
    """Return a tokenizer that begins with lowercasing, unless it does so anyway."""
    from tokenizers import normalizers

    first = tokenizer.normalizer
    steps: list[Any] = [] if first is None else [first]
    if isinstance(first, normalizers.Sequence):
        steps = [first[i] for i in range(len(first))]
    if not any(isinstance(step, normalizers.Lowercase) for step in steps):
        tokenizer.normalizer = normalizers.Sequence([normalizers.Lowercase(), *steps])
    return tokenizer
