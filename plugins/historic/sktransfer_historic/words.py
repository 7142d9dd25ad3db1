"""Words of English texts by spaCy's rules, which need no trained model, and fastai's rules before them."""

from __future__ import annotations

import functools
import html
import re
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from spacy.tokenizer import Tokenizer

__all__ = ["BEGIN", "PADDING", "SPECIAL", "UNKNOWN", "FastaiRules", "split_words", "splitter_key"]

UNKNOWN, PADDING, BEGIN = "xxunk", "xxpad", "xxbos"
# All tokens that fastai adds to the words of texts, in the order of its vocabularies.
SPECIAL = (UNKNOWN, PADDING, BEGIN, "xxeos", "xxfld", "xxrep", "xxwrep", "xxup", "xxmaj")
_BLANK = "\u2581"  # stands for a blank inside a token
# Remains of HTML, and of the notation of WikiText, in this order.
_REPLACED = (
    *(("#39;", "'"), ("amp;", "&"), ("#146;", "'"), ("nbsp;", " "), ("#36;", "$"), ("\\n", "\n"), ("quot;", "'")),
    *(("<br />", "\n"), ('\\"', '"'), ("<unk>", UNKNOWN), (" @.@ ", "."), (" @-@ ", "-"), ("...", " \u2026")),
)
_REPEATED_CHARACTER = re.compile(r"(\S)\1{2,}")
_REPEATED_WORD = re.compile(r"(?:\s|^)(\w+)\s+((?:\1\s+)+)\1(\s|\W|$)")
_SEPARATED = re.compile(r"[/#\\]")
_BLANKS = re.compile(" {2,}")
_CAPITALS = re.compile(r"(\s|^)([A-Z]+[^a-z\s]*)(?=\s|$)")
_CAPITALIZED = re.compile(r"(\s|^)([A-Z][^A-Z\s]*)(?=\s|$)")


class FastaiRules:
    """Rules by which fastai 2 turns a text into words, for `Tokens(rules=...)`.

    The result has one blank between two words. Repetitions and capital letters become words of their own: "xxrep",
    "xxwrep", "xxup" and "xxmaj".

    Examples
    --------
    >>> from sktransfer_historic.words import FastaiRules
    >>> FastaiRules()("A VERY good film!!!!")
    'a xxup very good film xxrep 4 !'
    """

    @property
    def key(self) -> str:
        """Name of the rules and version of spaCy."""
        return f"fastai {splitter_key()}"

    def __call__(self, text: str) -> str:
        """Return the words of a text, with blanks between them."""
        for old, new in _REPLACED:
            text = text.replace(old, new)
        text = html.unescape(text)
        text = _REPEATED_CHARACTER.sub(lambda found: f" xxrep {len(found[0])} {found[1]} ", text)
        text = _REPEATED_WORD.sub(_counted, text)
        text = _SEPARATED.sub(r" \g<0> ", text)
        text = _BLANKS.sub(" ", text)
        text = _CAPITALS.sub(functools.partial(_marked, "xxup"), text)
        text = _CAPITALIZED.sub(functools.partial(_marked, "xxmaj"), text)
        return " ".join(word.replace(" ", _BLANK) for word in split_words(text.lower().strip()))


def _counted(found: re.Match[str]) -> str:
    """Return the number of repetitions of a word, and the word."""
    word, middle, after = found.groups()
    return f" xxwrep {len(middle.split()) + 2} {word} {after}"


def _marked(mark: str, found: re.Match[str]) -> str:
    """Return a word in lower case after its mark. A single letter has none."""
    before, word = found.groups()
    return f"{before}{mark} {word.lower()}" if len(word) > 1 else f"{before}{word.lower()}"


def split_words(text: str) -> list[str]:
    """Return the words and punctuation marks of an English text, as spaCy splits it. Line breaks are words.

    Parameters
    ----------
    text : str
        Text.

    Examples
    --------
    >>> from sktransfer_historic.words import split_words
    >>> split_words("I don't know (yet).")
    ['I', 'do', "n't", 'know', '(', 'yet', ')', '.']
    """
    return [word.text for word in _splitter()(text)]


def splitter_key() -> str:
    """Return the name and the version of the rules of `split_words`."""
    return f"spacy {'.'.join(version('spacy').split('.')[:2])}"


@functools.cache
def _splitter() -> Tokenizer:
    import spacy
    from spacy.symbols import ORTH

    splitter: Any = spacy.blank("en").tokenizer
    for word in SPECIAL:
        splitter.add_special_case(word, [{ORTH: word}])
    tokenizer: Tokenizer = splitter
    return tokenizer
