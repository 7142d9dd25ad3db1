"""Vocabularies of AWD-LSTM, and the tokenisation that reads texts with one."""

from __future__ import annotations

import json
import pickletools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sktransfer.backbones import Tokens
from sktransfer.exceptions import WeightsError
from sktransfer_historic.words import BEGIN, PADDING, UNKNOWN, FastaiRules

__all__ = ["read_vocabulary", "tokens_of"]

_SILENT = ("PROTO", "FRAME", "MARK", "APPEND", "APPENDS", "STOP")
_TEXT = ("SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "UNICODE")


def read_vocabulary(path: Path, n_words: int) -> list[str]:
    """Return the words in the order of their ids.

    Parameters
    ----------
    path : Path
        A JSON list, a text file with a word per line (a line break is written as backslash and n), or fastai's pickled
        list. Of a pickle, the texts are read, and nothing is executed.
    n_words : int
        Number of words of the network.

    Raises
    ------
    WeightsError
        If the file cannot be read, has another number of words, or lacks a word that fastai adds.
    """
    try:
        if path.suffix == ".pkl":
            words = _pickled_texts(path.read_bytes())
        elif path.suffix == ".json":
            words = json.loads(path.read_text(encoding="utf-8"))
        else:
            lines = path.read_text(encoding="utf-8").removesuffix("\n").split("\n")
            words = ["\n" if line == "\\n" else line for line in lines]
    except (OSError, ValueError, KeyError, IndexError) as error:
        raise WeightsError(f"{path}: cannot be read as a vocabulary ({error})") from error
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise WeightsError(f"{path}: is not a list of words; write the list `itos` of fastai by json.dump(itos, file)")
    if len(words) != n_words:
        raise WeightsError(f"{path}: has {len(words)} words, and the network {n_words}: they do not belong together")
    missing = [word for word in (UNKNOWN, PADDING, BEGIN) if word not in words]
    if missing:
        raise WeightsError(f"{path}: lacks {missing}, which the vocabularies of fastai 1 and 2 have")
    return words


def _pickled_texts(content: bytes) -> list[str]:
    """Return the texts of a pickled list, read from the opcodes without running them.

    Raises
    ------
    ValueError
        If the pickle holds anything but a list of texts.
    """
    texts: list[str] = []
    memo: dict[int, str | None] = {}
    last: str | None = None  # None for the list itself
    n_lists = 0
    argument: Any
    for opcode, argument, _ in pickletools.genops(content):
        name = opcode.name
        if name in _TEXT:
            last = str(argument)
            texts.append(last)
        elif name == "EMPTY_LIST" and not n_lists:
            last, n_lists = None, 1
        elif name == "MEMOIZE":
            memo[len(memo)] = last
        elif name in ("BINPUT", "LONG_BINPUT"):
            memo[argument] = last
        elif name in ("BINGET", "LONG_BINGET") and (known := memo.get(argument)) is not None:
            texts.append(known)
        elif name not in _SILENT:
            raise ValueError(f"it holds more than a list of texts: {name}; save the list as JSON")
    return texts


def tokens_of(words: Sequence[str], limit: int) -> Tokens:
    """Return the tokenisation of a vocabulary, by fastai's rules.

    Parameters
    ----------
    words : sequence of str
        Words in the order of their ids. Of equal ones, such as those that fill a vocabulary, the last one counts.
    limit : int
        Largest number of tokens. The last ones of a longer text are read.
    """
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    number = {word: index for index, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordLevel(number, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.CharDelimiterSplit(" ")
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BEGIN} $A", special_tokens=[(BEGIN, number[BEGIN])]
    )
    return Tokens(tokenizer, limit=limit, pad_value=number[PADDING], side="left", rules=FastaiRules())
