"""From texts to token ids: the preprocessing of text backbones."""

from __future__ import annotations

import hashlib
import numbers
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from sktransfer._validation import require_field
from sktransfer.exceptions import InvalidParameterError, LoadError, WeightsError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = ["Tokens", "has_tokenizer", "load_tokens"]

_CHARACTERS = 16  # a token, of the first part of a long text that is read; few languages have more than 6
_SPARE = 64  # tokens beyond those that are kept

# Any of these holds a vocabulary; what stands beside it (tokenizer_config.json) only says how to read it.
_VOCABULARIES = (
    "tokenizer.json",
    "vocab.txt",
    "vocab.json",
    "spm.model",
    "spiece.model",
    "sentencepiece.bpe.model",
    "tokenizer.model",
)


class Tokens:
    """Texts to token ids, special tokens included, not padded.

    It never changes after it is built, and the tokenizer inside is only read: several threads may share it. Texts go
    through the tokenizer one by one, for its own parallel batches would leave threads behind that a fork of this
    process must not inherit, and the network takes a hundred times as long anyway.

    Parameters
    ----------
    tokenizer : tokenizers.Tokenizer
        Its truncation and padding are switched off; what it cuts off is decided here.
    limit : int
        The most tokens that the model takes, special ones included.
    max_length : int, default=None
        The most tokens to keep, special ones included; None for `limit`.
    pad_value : int, default=0
        The id that fills up the shorter texts of a batch.
    empty_value : int, default=None
        The id that stands for a text of no tokens; None for `pad_value`.
    side : {"right", "left"}, default="right"
        Where long texts are cut.

    Attributes
    ----------
    key : str
        Tells this tokenisation from any other.

    Raises
    ------
    InvalidParameterError
        If `max_length` is out of range.

    Examples
    --------
    >>> from tokenizers import Tokenizer
    >>> from tokenizers.models import WordLevel
    >>> from tokenizers.pre_tokenizers import Whitespace
    >>> from sktransfer.backbones.tokens import Tokens
    >>> tokenizer = Tokenizer(WordLevel({"[UNK]": 0, "one": 1, "two": 2}, unk_token="[UNK]"))
    >>> tokenizer.pre_tokenizer = Whitespace()
    >>> Tokens(tokenizer, limit=8)(["one two two"])
    [tensor([1, 2, 2])]
    >>> Tokens(tokenizer, limit=8, max_length=2).tokenize(["one two two", "one"])
    ([tensor([1, 2]), tensor([1])], [True, False])
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        *,
        limit: int,
        max_length: int | None = None,
        pad_value: int = 0,
        empty_value: int | None = None,
        side: str = "right",
    ) -> None:
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self._tokenizer = tokenizer
        self._hash = hashlib.blake2b(tokenizer.to_str().encode(), digest_size=16).hexdigest()
        self._n_special = tokenizer.num_special_tokens_to_add(False)
        self.model_limit = limit
        self.pad_value = pad_value
        self.empty_value = pad_value if empty_value is None else empty_value
        self.side = side
        self.max_length = self._checked(max_length)

    @property
    def limit(self) -> int:
        """The most tokens of a text that are kept, special ones included."""
        return self.model_limit if self.max_length is None else self.max_length

    @property
    def key(self) -> str:
        """A hash of the tokenizer, and the settings. Padding is masked, so its value makes no difference."""
        return f"{self._hash} {self.limit} {self.side} {self.empty_value}"

    def with_max_length(self, max_length: int | None) -> Tokens:
        """Return the same tokenisation with another length at which texts are cut.

        Parameters
        ----------
        max_length : int or None
            The most tokens to keep, special ones included; None for all that the model takes.

        Raises
        ------
        InvalidParameterError
            If it is no int, less than one token more than the special ones, or more than the model takes.
        """
        other = Tokens.__new__(Tokens)  # the tokenizer is shared: hashing that of a large vocabulary takes a while
        other.__dict__.update(self.__dict__, max_length=self._checked(max_length))
        return other

    def _checked(self, max_length: int | None) -> int | None:
        if max_length is None:
            return None
        least = self._n_special + 1
        is_int = isinstance(max_length, numbers.Integral) and not isinstance(max_length, bool)
        if not is_int or not least <= max_length <= self.model_limit:
            raise InvalidParameterError(
                f"max_length={max_length!r} is not allowed: this model takes from {least} tokens ({self._n_special} of "
                f"them special) to {self.model_limit}; give an int in that range, or None for {self.model_limit}"
            )
        return int(max_length)

    def __call__(self, samples: Sequence[str]) -> list[Tensor]:
        """Return one int64 tensor of token ids (tokens,) a text."""
        return self.tokenize(samples)[0]

    def tokenize(self, samples: Sequence[str]) -> tuple[list[Tensor], list[bool]]:
        """Return the token ids of texts, and which of the texts were cut.

        Parameters
        ----------
        samples : sequence of str

        Returns
        -------
        tokens : list of Tensor of shape (tokens,)
            int64; at least one token each.
        truncated : list of bool
            True where a text has more tokens than are kept.
        """
        ids, truncated = zip(*(self._encode(text) for text in samples)) if samples else ((), ())
        return [torch.tensor(one, dtype=torch.int64) for one in ids], list(truncated)

    def _encode(self, text: str) -> tuple[list[int], bool]:
        room = self.limit - self._n_special
        for part in self._parts(_without_lone_surrogates(text)):
            encoding = self._tokenizer.encode(part, add_special_tokens=False)
            if len(encoding.ids) >= self.limit + _SPARE:  # where a part ends, tokens may be others, but not before
                break
        # The text's own tokens are cut, then the special ones added: a closing token must not be what is cut off.
        truncated = len(encoding.ids) > room
        if truncated:
            encoding.truncate(room, direction=self.side)
        ids: list[int] = self._tokenizer.post_process(encoding).ids
        # A GPT has no special tokens, so an empty text has none at all; there would be nothing to attend to or to pool.
        return ids or [self.empty_value], truncated

    def _parts(self, text: str) -> Iterator[str]:
        """Yield ever longer parts of a long text, from the side that is kept, and at last the text itself.

        Ten megabytes would take minutes and gigabytes, for the few hundred tokens that are kept of them.
        """
        n = _CHARACTERS * (self.limit + _SPARE)
        while n < len(text):
            yield text[:n] if self.side == "right" else text[-n:]
            n *= 8
        yield text

    def to_state(self) -> dict[str, Any]:
        """Return the tokenizer as JSON, and the settings."""
        return {
            "tokenizer": self._tokenizer.to_str(),
            "limit": self.model_limit,
            "max_length": self.max_length,
            "pad_value": self.pad_value,
            "empty_value": self.empty_value,
            "side": self.side,
        }

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Tokens:
        """Return the tokenisation of a state.

        Raises
        ------
        LoadError
            If a field is missing or does not fit, or the tokenizer cannot be read.
        """
        from tokenizers import Tokenizer

        text = require_field(state, "tokenizer", str)
        try:
            tokenizer = Tokenizer.from_str(text)
        except BaseException as error:  # a panic of the Rust library is not an Exception
            if isinstance(error, (KeyboardInterrupt, SystemExit)):
                raise
            raise LoadError(f"its tokenizer cannot be read ({error})") from error
        return cls(
            tokenizer,
            limit=require_field(state, "limit", int),
            max_length=require_field(state, "max_length", (int, type(None))),
            pad_value=require_field(state, "pad_value", int),
            empty_value=require_field(state, "empty_value", int),
            side=require_field(state, "side", str, ("right", "left")),
        )


def _without_lone_surrogates(text: str) -> str:
    """Return the text as it is, unless it holds halves of characters that no UTF-8 can express."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")  # joins pairs, replaces the lonely
    return text


def has_tokenizer(folder: Path) -> bool:
    """Return whether a folder holds a tokenizer's vocabulary."""
    return any((folder / name).is_file() for name in _VOCABULARIES)


def load_tokens(folder: Path, limit: int) -> Tokens:
    """Build the tokenisation that a model's folder describes.

    Parameters
    ----------
    folder : Path
        Holds `tokenizer.json` or another vocabulary.
    limit : int
        The most tokens that the network takes; the tokenizer may say fewer.

    Raises
    ------
    WeightsError
        If there is no tokenizer that can be read.
    """
    from transformers import AutoTokenizer

    if not has_tokenizer(folder):
        raise WeightsError(
            f"{folder}: has no tokenizer; looked for {', '.join(_VOCABULARIES)}. Save it there with "
            "`tokenizer.save_pretrained(folder)`."
        )
    try:
        found = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # a damaged file gives anything from KeyError to an exception of the Rust library
        raise WeightsError(f"{folder}: its tokenizer cannot be read ({error})") from error
    if getattr(found, "backend_tokenizer", None) is None:
        raise WeightsError(
            f"{folder}: {type(found).__name__} has no fast version; save one as tokenizer.json (transformers: use_fast)"
        )
    specials = (found.eos_token_id, found.bos_token_id, found.unk_token_id)
    return Tokens(
        found.backend_tokenizer,
        limit=min(limit, found.model_max_length),
        pad_value=0 if found.pad_token_id is None else found.pad_token_id,
        empty_value=next((one for one in specials if one is not None), None),
        side=found.truncation_side,
    )
