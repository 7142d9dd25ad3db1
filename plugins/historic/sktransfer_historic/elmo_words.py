"""Words of texts as characters: the preprocessing of ELMo."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from sktransfer.exceptions import InvalidParameterError
from sktransfer_historic.words import split_words, splitter_key

__all__ = ["ElmoWords"]

# Numbers of characters. Bytes are 1 to 256, and 0 is padding of the batch.
_TEXT_BEGIN, _TEXT_END, _WORD_BEGIN, _WORD_END, _FILL = 257, 258, 259, 260, 261
_N_BOUNDARIES = 2  # tokens before and after each text
_SPARE = 64  # words read beyond the limit
_LENGTH = 16  # characters per word in the first part of a long text


class Words(NamedTuple):
    """Characters of the words of a sentence, each of which is one token.

    Parameters
    ----------
    ids : ndarray of shape (n_words, n_characters), int64
        Characters of the words.
    starts : ndarray of shape (n_words + 1,), int64
        Position of each word, and the number of words.
    first, last : ndarray of shape (n_words,), int64
        Position of each word.
    is_filled : ndarray of shape (n_words,), bool
        Whether a word has no character.
    """

    ids: np.ndarray
    starts: np.ndarray
    first: np.ndarray
    last: np.ndarray
    is_filled: np.ndarray


class ElmoWords:
    """Convert texts to the characters of their words, with a token before and one after each text.

    Words are those of spaCy's rules. A word is read by its first bytes in UTF-8, so no word is unknown.

    Parameters
    ----------
    n_characters : int
        Characters per word, two of which mark its start and its end.
    model_limit : int
        Largest number of tokens, the first and the last one included.
    max_length : int, default=None
        Largest number of tokens to keep. None for `model_limit`.

    Raises
    ------
    InvalidParameterError
        If `max_length` is out of range.

    Examples
    --------
    >>> from sktransfer_historic.elmo_words import ElmoWords
    >>> ElmoWords(50, 512)(["It's good."])[0].shape
    torch.Size([6, 50])
    """

    pad_value = 0

    def __init__(self, n_characters: int, model_limit: int, max_length: int | None = None) -> None:
        if max_length is not None and (
            isinstance(max_length, bool)
            or not isinstance(max_length, (int, np.integer))
            or not _N_BOUNDARIES < max_length <= model_limit
        ):
            raise InvalidParameterError(
                f"max_length={max_length!r} is not allowed: ELMo takes from {_N_BOUNDARIES + 1} tokens (2 of them mark "
                f"start and end) to {model_limit}; give an int in that range, or None for {model_limit}"
            )
        self.n_characters, self.model_limit, self.max_length = n_characters, model_limit, max_length

    @property
    def limit(self) -> int:
        """Largest number of tokens kept per text."""
        return self.model_limit if self.max_length is None else int(self.max_length)

    @property
    def key(self) -> str:
        """Rules of words, and the settings."""
        return f"elmo {splitter_key()} {self.n_characters} {self.limit}"

    def with_max_length(self, max_length: int | None) -> ElmoWords:
        """Return the same preprocessing with another maximum number of tokens. None is that of the model."""
        return ElmoWords(self.n_characters, self.model_limit, max_length)

    def __call__(self, samples: Sequence[str]) -> list[Tensor]:
        """Return one int64 tensor (tokens, n_characters) per text."""
        return self.tokenize(samples)[0]

    def tokenize(self, samples: Sequence[str]) -> tuple[list[Tensor], list[bool]]:
        """Return the characters (tokens, n_characters) of texts, and whether each text was truncated."""
        room = self.limit - _N_BOUNDARIES
        words = [self._first_words(_expressible(text)) for text in samples]
        before, after = self.special_ids
        tensors = [torch.tensor([*before, *map(self._characters, some[:room]), *after]) for some in words]
        return tensors, [len(some) > room for some in words]

    def words(self, text: str) -> tuple[str, list[tuple[int, int, int] | None]]:
        """Return the text, and number, start and end of the word of each token. None for the first and last one."""
        text = _expressible(text)
        places: list[tuple[int, int, int] | None] = [None]
        end = 0
        for number, word in enumerate(self._first_words(text)[: self.limit - _N_BOUNDARIES]):
            start = text.index(word, end)
            end = start + len(word)
            places.append((number, start, end))
        return text, [*places, None]

    def word_pieces(self, words: Sequence[str]) -> Words:
        """Return the characters of words that are given, without the tokens before and after a text."""
        n = len(words)
        ids = np.array([self._characters(word) for word in words], np.int64).reshape(n, self.n_characters)
        places = np.arange(n + 1)
        return Words(ids, places, places[:-1], places[:-1], np.array([not word for word in words], bool))

    @property
    def special_ids(self) -> tuple[list[Any], list[Any]]:
        """Characters of the tokens before and after a text."""
        return [self._filled([_TEXT_BEGIN])], [self._filled([_TEXT_END])]

    def _first_words(self, text: str) -> list[str]:
        """Return the words without blanks and line breaks, at least those that are kept."""
        n = _LENGTH * (self.limit + _SPARE)
        while True:
            words = [word for word in split_words(text[:n]) if not word.isspace()]
            if n >= len(text) or len(words) >= self.limit + _SPARE:
                return words
            n *= 8

    def _characters(self, word: str) -> list[int]:
        content = word.encode("utf-8", "replace")[: self.n_characters - 2]
        return self._filled([1 + byte for byte in content])

    def _filled(self, characters: list[int]) -> list[int]:
        row = [_WORD_BEGIN, *characters, _WORD_END]
        return row + [_FILL] * (self.n_characters - len(row))


def _expressible(text: str) -> str:
    """Return the text without surrogates, which UTF-8 cannot express and spaCy refuses."""
    return str(text).encode("utf-16", "surrogatepass").decode("utf-16", "replace")
