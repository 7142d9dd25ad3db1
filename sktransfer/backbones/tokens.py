"""Tokenisation of texts: the preprocessing of text backbones."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from sktransfer._validation import is_int, require_field
from sktransfer.backbones.preprocess import TextRules
from sktransfer.exceptions import InvalidParameterError, LoadError, SaveError, WeightsError
from sktransfer.weights.hub import VOCABULARIES, has_tokenizer

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = ["Tokens", "WordPieces", "load_tokens"]

_CHARACTERS = 16  # characters read per token in the first part of a long text; few languages have more than 6
_SPARE = 64  # tokens read beyond the limit
_BLANK = "\u2581"  # the blank before a word, which SentencePiece makes a token of its own if the word is unknown
_CONTINUED = "##"  # before a piece of a word that is not its first, in vocabularies of word pieces
_BLANKS = (_BLANK, "\u0120")  # and that of tokenizers of bytes
_UNIGRAM = re.compile(r'"model":\{"type":"Unigram","unk_id":(\d+)')  # the model does not tell it otherwise


class WordPieces(NamedTuple):
    """Token ids of a sentence that is given as words, without special tokens.

    Parameters
    ----------
    ids : ndarray of shape (n_pieces,), int64
        Token ids. Each word has at least one.
    starts : ndarray of shape (n_words + 1,), int64
        Position of the first piece of each word, counting a blank before the word, and the number of pieces.
    first, last : ndarray of shape (n_words,), int64
        Positions of the first and of the last piece that stand for a part of the word.
    is_filled : ndarray of shape (n_words,), bool
        Whether the tokenizer gives no piece for the word, so that the unknown token stands for it.
    """

    ids: np.ndarray
    starts: np.ndarray
    first: np.ndarray
    last: np.ndarray
    is_filled: np.ndarray


class Tokens:
    """Convert texts to token ids, including special tokens and without padding.

    It never changes after it is built, and only reads its tokenizer, so several threads may share it. Texts are
    tokenized one by one. Parallel batches of the tokenizer would leave threads that a fork of this process must not
    inherit, and the network takes a hundred times as long as the tokenizer.

    Parameters
    ----------
    tokenizer : tokenizers.Tokenizer
        Its truncation and padding are switched off, because texts are truncated here.
    limit : int
        Largest number of tokens of the model, including special ones.
    max_length : int, default=None
        Largest number of tokens to keep, including special ones. None for `limit`.
    pad_value : int, default=0
        Id that pads the shorter texts of a batch.
    empty_value : int, default=None
        Id for a text without tokens. None for `pad_value`.
    side : {"right", "left"}, default="right"
        Side at which long texts are truncated.
    mask_value : int, default=None
        Id of the token that stands for a hidden one. None if the tokenizer has none.
    rules : TextRules, default=None
        Rewrites each text before the tokenizer reads it, for rules that a tokenizer cannot express. Can be pickled.

    Attributes
    ----------
    key : str
        Identifies the tokenisation in cache keys.

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

    _n_embedded: int | None = None  # number of token ids that the network knows

    def __init__(
        self,
        tokenizer: Tokenizer,
        *,
        limit: int,
        max_length: int | None = None,
        pad_value: int = 0,
        empty_value: int | None = None,
        side: str = "right",
        mask_value: int | None = None,
        rules: TextRules | None = None,
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
        self.mask_value = mask_value
        self.rules = rules
        self.max_length = self._checked(max_length)

    @property
    def limit(self) -> int:
        """Largest number of tokens kept per text, including special ones."""
        return self.model_limit if self.max_length is None else self.max_length

    @property
    def key(self) -> str:
        """Hash of the tokenizer, and the settings without those that change no token: `pad_value`, `mask_value`."""
        rules = "" if self.rules is None else f" {self.rules.key}"
        return f"{self._hash} {self.limit} {self.side} {self.empty_value}{rules}"

    @property
    def mask_token(self) -> str | None:
        """Token that stands for a hidden one in a text, such as "[MASK]". None if the tokenizer has none."""
        return None if self.mask_value is None else self._tokenizer.id_to_token(self.mask_value)

    def decode(self, token: int) -> str:
        """Return a token as it appears in a text, without the blank before a word. A continued word has its mark.

        Parameters
        ----------
        token : int
            Id of the token.

        Examples
        --------
        >>> from sktransfer import load_backbone
        >>> tokens = load_backbone("tiny/bert").preprocess
        >>> [tokens.decode(int(token)) for token in tokens(["unfilmed"])[0]]
        ['[CLS]', 'unf', '##il', '##med', '[SEP]']
        """
        text: str = self._tokenizer.decode([token], skip_special_tokens=False)
        return text.strip()

    def with_max_length(self, max_length: int | None) -> Tokens:
        """Return the same tokenisation with another maximum length.

        Parameters
        ----------
        max_length : int or None
            Largest number of tokens to keep, including special ones. None for the model's limit.

        Returns
        -------
        tokens : Tokens

        Raises
        ------
        InvalidParameterError
            If `max_length` is not an int, leaves no room for a token besides the special ones, or exceeds the model's
            limit.
        """
        other = Tokens.__new__(Tokens)  # shares the tokenizer, because hashing a large vocabulary takes a while
        other.__dict__.update(self.__dict__, max_length=self._checked(max_length))
        return other

    def with_embedding(self, n_embedded: int) -> Tokens:
        """Return the same tokenisation for a network that has an embedding of so many tokens.

        A text with another token raises an error. Padding, which is masked, takes an id of the network.

        Parameters
        ----------
        n_embedded : int
            Number of token ids that the network knows.
        """
        other = Tokens.__new__(Tokens)
        other.__dict__.update(self.__dict__, _n_embedded=n_embedded)
        other.pad_value = self.pad_value if self.pad_value < n_embedded else 0
        return other

    def _checked(self, max_length: int | None) -> int | None:
        if max_length is None:
            return None
        least = self._n_special + 1
        if not is_int(max_length) or not least <= max_length <= self.model_limit:
            raise InvalidParameterError(
                f"max_length={max_length!r} is not allowed: this model takes from {least} tokens ({self._n_special} of "
                f"them special) to {self.model_limit}; give an int in that range, or None for {self.model_limit}"
            )
        return int(max_length)

    def __call__(self, samples: Sequence[str]) -> list[Tensor]:
        """Return one int64 tensor of token ids (tokens,) per text."""
        return self.tokenize(samples)[0]

    def tokenize(self, samples: Sequence[str]) -> tuple[list[Tensor], list[bool]]:
        """Return the token ids of texts, and whether each text was truncated.

        Parameters
        ----------
        samples : sequence of str

        Returns
        -------
        tokens : list of Tensor of shape (tokens,)
            int64, with at least one token per text.
        truncated : list of bool
            True if a text has more tokens than are kept.
        """
        ids, truncated = zip(*(self._encode(text) for text in samples)) if samples else ((), ())
        return [torch.tensor(tokens, dtype=torch.int64) for tokens in ids], list(truncated)

    @cached_property
    def _unknown(self) -> int | None:
        """Id of the token for unknown characters or words, or None if texts do not get it."""
        tokenizer = self._tokenizer
        if hasattr(tokenizer.model, "unk_token"):
            token = tokenizer.model.unk_token
            unknown = None if token is None else tokenizer.token_to_id(token)
        else:
            found = _UNIGRAM.search(tokenizer.to_str())
            unknown = None if found is None else int(found[1])
        # Tokenizers of bytes, such as that of CLIP, declare the closing token of every text as the unknown one.
        return None if unknown in tokenizer.encode("").ids else unknown

    def unknown_share(self, tokens: Tensor) -> float:
        """Return the share of unknown tokens in a text, without special tokens.

        Parameters
        ----------
        tokens : Tensor of shape (tokens,)
            Token ids that `tokenize` returned for the text.

        Returns
        -------
        share : float
            From 0 to 1. 0 for a tokenizer that knows every character, such as one of bytes.
        """
        ids = tokens.tolist()
        n_unknown = 0 if self._unknown is None else ids.count(self._unknown)
        if not n_unknown:
            return 0.0
        blank = self._tokenizer.token_to_id(_BLANK)
        n_blank = 0 if blank is None else ids.count(blank)
        return n_unknown / max(n_unknown, len(ids) - self._n_special - n_blank)

    def words(self, text: str) -> tuple[str, list[tuple[int, int, int] | None]]:
        """Return which word of a text each of its tokens belongs to.

        Parameters
        ----------
        text : str
            Text.

        Returns
        -------
        text : str
            The text, with surrogates that no encoding expresses replaced. With `rules`, the part that is read, as they
            rewrite it.
        tokens : list of (int, int, int) or None
            For each token that `tokenize` returns the number of its word and its first and last position in the text.
            None for special tokens.

        Examples
        --------
        >>> from sktransfer import load_backbone
        >>> load_backbone("tiny/bert").preprocess.words("unfilmed plot")
        ('unfilmed plot', [None, (0, 0, 3), (0, 3, 5), (0, 5, 8), (1, 9, 13), None])
        """
        encoding, _, text, skipped = self._encoding(_without_lone_surrogates(text))
        places = zip(encoding.word_ids, encoding.offsets)
        tokens = [None if word is None else (word, start + skipped, stop + skipped) for word, (start, stop) in places]
        return text, tokens or [None]  # the token of an empty text

    @cached_property
    def special_ids(self) -> tuple[list[int], list[int]]:
        """Ids of the special tokens before and after a text."""
        filler = self._tokenizer.id_to_token(self._filler)
        for text in ("a", "0", ".", filler):  # any text with a token of its own
            encoding = self._tokenizer.encode(text or "", add_special_tokens=False)
            if encoding.ids:
                break
        whole = self._tokenizer.post_process(encoding)
        n_before = next((i for i, special in enumerate(whole.special_tokens_mask) if not special), len(whole.ids))
        return whole.ids[:n_before], whole.ids[n_before + len(encoding.ids) :]

    def continues(self, n_vocabulary: int) -> np.ndarray:
        """Return whether each token continues the word before it, (n_vocabulary,), bool.

        Parameters
        ----------
        n_vocabulary : int
            Number of tokens that the network knows.
        """
        names = [self._tokenizer.id_to_token(token) or "" for token in range(n_vocabulary)]
        if any(name.startswith(_CONTINUED) for name in names):
            return np.array([name.startswith(_CONTINUED) for name in names])
        starts = np.array([name.startswith(_BLANKS) for name in names])  # (n_vocabulary,)
        return ~starts & starts.any()

    @property
    def _filler(self) -> int:
        """Id of the token that stands for a word without a piece."""
        return self.empty_value if self._unknown is None else self._unknown

    def word_pieces(self, words: Sequence[str]) -> WordPieces:
        """Return the token ids of a sentence, and which of them belong to each word.

        The words are read as a text with blanks between them, so the tokenizer sees what it was made for. The unknown
        token stands for a word without a piece, such as an empty one.

        Parameters
        ----------
        words : sequence of str
            Words of a sentence, of any number. A word may contain blanks.

        Returns
        -------
        pieces : WordPieces

        Raises
        ------
        WeightsError
            If the network has no embedding of a token.

        Examples
        --------
        >>> from sktransfer import load_backbone
        >>> pieces = load_backbone("tiny/bert").preprocess.word_pieces(["unfilmed", "", "plot"])
        >>> pieces.first.tolist(), pieces.last.tolist(), pieces.is_filled.tolist()
        ([0, 3, 4], [2, 3, 4], [False, True, False])
        """
        longest = _CHARACTERS * (self.limit + _SPARE)  # more pieces of one word are not read
        cleaned = [self._rewritten(_without_lone_surrogates(word[:longest].strip())) for word in words]
        encoding = self._tokenizer.encode(" ".join(filter(None, cleaned)), add_special_tokens=False)
        ids = encoding.ids
        if ids:
            self._check_embedded(ids)
        return _with_filler(ids, self._spans(ids, encoding.offsets, cleaned), len(words), self._filler)

    def _spans(
        self, ids: Sequence[int], offsets: Sequence[tuple[int, int]], words: Sequence[str]
    ) -> dict[int, tuple[int, int]]:
        """Return the positions of the first and the last piece of each word that has one.

        Parameters
        ----------
        ids : sequence of int
            Pieces of the words that are not empty, with blanks between them.
        offsets : sequence of (int, int)
            First position of each piece in this text, and the position after the last.
        words : sequence of str
            Words without blanks around them.
        """
        spans: dict[int, tuple[int, int]] = {}
        blanks: dict[int, tuple[int, int]] = {}  # of a word that has no other piece
        numbers = iter([number for number, word in enumerate(words) if word])
        word, begin, end = -1, 0, -1  # the word's number, its position in the text, and that of the blank after it
        for place, (start, stop) in enumerate(offsets):
            while start >= end and (following := next(numbers, None)) is not None:
                word, begin = following, end + 1
                end = begin + len(words[word])
            if start < stop and begin < stop and start < end:
                found = blanks if ids[place] in self._blanks else spans
                found[word] = (found[word][0] if word in found else place, place)
        return blanks | spans

    @cached_property
    def _blanks(self) -> frozenset[int]:
        """Ids of the blank before a word as a token of its own, which is not read as the word's first piece."""
        return frozenset(i for blank in _BLANKS if (i := self._tokenizer.token_to_id(blank)) is not None)

    def _encode(self, text: str) -> tuple[list[int], bool]:
        encoding, truncated, _, _ = self._encoding(_without_lone_surrogates(text))
        # A GPT has no special tokens, so an empty text has no tokens to attend to or to pool.
        ids: list[int] = encoding.ids or [self.empty_value]
        self._check_embedded(ids)
        return ids, truncated

    def _check_embedded(self, ids: Sequence[int]) -> None:
        """Raise an error if the network has no embedding of a token."""
        if self._n_embedded is not None and max(ids) >= self._n_embedded:
            raise WeightsError(
                f"the tokenizer gives the token {self._tokenizer.id_to_token(max(ids))!r} the id {max(ids)}, and the "
                f"network has embeddings of {self._n_embedded} tokens: they do not belong together. If tokens were "
                "added, enlarge the network, model.resize_token_embeddings(len(tokenizer)), train it, and save both"
            )

    def _rewritten(self, text: str) -> str:
        return text if self.rules is None else self.rules(text).strip()

    def _encoding(self, text: str) -> tuple[Any, bool, str, int]:
        """Return the encoding with special tokens, whether it is truncated, the text, and where the part begins."""
        room = self.limit - self._n_special
        for part in self._parts(text):
            read = self._rewritten(part)
            encoding = self._tokenizer.encode(read, add_special_tokens=False)
            if len(encoding.ids) >= self.limit + _SPARE:  # only the last tokens of a part may differ
                break
        # The text's own tokens are truncated before the special ones are added, so that a closing token stays.
        truncated = len(encoding.ids) > room
        if truncated:
            encoding.truncate(room, direction=self.side)
        skipped = len(text) - len(part) if self.side == "left" and self.rules is None else 0
        return self._tokenizer.post_process(encoding), truncated, text if self.rules is None else read, skipped

    def _parts(self, text: str) -> Iterator[str]:
        """Yield growing parts of a long text, from the side that is kept, and finally the whole text.

        Tokenizing ten megabytes would take minutes and gigabytes, for the few hundred tokens that are kept.
        """
        n = _CHARACTERS * (self.limit + _SPARE)
        while n < len(text):
            yield text[:n] if self.side == "right" else text[-n:]
            n *= 8
        yield text

    def padded_tokenizer(self) -> Tokenizer:
        """Return a tokenizer that truncates and pads batches as estimators do, for use without sktransfer.

        It reads texts that `rules` have rewritten.
        """
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_str(self._tokenizer.to_str())
        tokenizer.enable_truncation(self.limit, direction=self.side)
        token = self._tokenizer.id_to_token(self.pad_value)
        tokenizer.enable_padding(pad_id=self.pad_value, pad_token=token or "")
        return tokenizer

    def to_state(self) -> dict[str, Any]:
        """Return the tokenizer as JSON, and the settings.

        Raises
        ------
        SaveError
            If it has `rules`, which are code.
        """
        if self.rules is not None:
            raise SaveError(
                f"a tokenisation with rules ({self.rules.key}) is code, which a file does not hold; save an estimator "
                "with its backbone by name"
            )
        return {
            "tokenizer": self._tokenizer.to_str(),
            "limit": self.model_limit,
            "max_length": self.max_length,
            "pad_value": self.pad_value,
            "empty_value": self.empty_value,
            "side": self.side,
            "mask_value": self.mask_value,
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
            mask_value=require_field({"mask_value": state.get("mask_value")}, "mask_value", (int, type(None))),
        )


def _with_filler(ids: Sequence[int], spans: dict[int, tuple[int, int]], n_words: int, filler: int) -> WordPieces:
    """Return pieces with a filler for each word without a piece.

    Parameters
    ----------
    ids : sequence of int
        Pieces of the sentence.
    spans : dict of int to (int, int)
        Positions of the first and the last piece of each word that has one.
    n_words : int
        Number of words.
    filler : int
        Id of the filler.
    """
    filled: list[int] = []
    starts, first, last = [0], [], []
    used = 0  # number of pieces that are in `filled`
    for word in range(n_words):
        if word in spans:
            shift = len(filled) - used
            first.append(spans[word][0] + shift)
            last.append(spans[word][1] + shift)
            filled += ids[used : spans[word][1] + 1]
            used = spans[word][1] + 1
        else:
            first.append(len(filled))
            last.append(len(filled))
            filled.append(filler)
        starts.append(len(filled))
    if n_words:
        filled += ids[used:]  # blanks after the last word
        starts[-1] = len(filled)
    numbers = [np.asarray(one, np.int64) for one in (filled, starts, first, last)]
    is_filled = np.array([word not in spans for word in range(n_words)], bool)  # (n_words,)
    return WordPieces(numbers[0], numbers[1], numbers[2], numbers[3], is_filled)


def _without_lone_surrogates(text: str) -> str:
    """Return the text with surrogate pairs joined and lone surrogates, which UTF-8 cannot express, replaced."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def load_tokens(folder: Path, limit: int) -> Tokens:
    """Read the tokenisation of a model's folder.

    Parameters
    ----------
    folder : Path
        Folder with `tokenizer.json` or another vocabulary.
    limit : int
        Largest number of tokens of the network. The tokenizer's own limit applies if it is smaller.

    Returns
    -------
    tokens : Tokens

    Raises
    ------
    WeightsError
        If the folder has no readable tokenizer.
    """
    from transformers import AutoTokenizer

    if not has_tokenizer(folder):
        raise WeightsError(
            f"{folder}: has no tokenizer; looked for {', '.join(VOCABULARIES)}. Save it there with "
            "`tokenizer.save_pretrained(folder)`."
        )
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # damaged files raise anything from KeyError to exceptions of the Rust library
        raise WeightsError(f"{folder}: its tokenizer cannot be read ({error})") from error
    if getattr(tokenizer, "backend_tokenizer", None) is None:
        raise WeightsError(
            f"{folder}: {type(tokenizer).__name__} has no fast version; save one as tokenizer.json "
            "(transformers: use_fast)"
        )
    specials = (tokenizer.eos_token_id, tokenizer.bos_token_id, tokenizer.unk_token_id)
    return Tokens(
        tokenizer.backend_tokenizer,
        limit=min(limit, tokenizer.model_max_length),
        pad_value=0 if tokenizer.pad_token_id is None else tokenizer.pad_token_id,
        empty_value=next((token for token in specials if token is not None), None),
        side=tokenizer.truncation_side,
        mask_value=tokenizer.mask_token_id,
    )
