"""Tag schemes: spans of words written as a tag per word."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from sktransfer._validation import check_option
from sktransfer.exceptions import name_row
from sktransfer.samples.labels import label_of, row_labels
from sktransfer.tagging.sequences import check_tags

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "OUTSIDE",
    "SCHEMES",
    "Part",
    "Scheme",
    "Span",
    "convert_scheme",
    "find_invalid_tags",
    "find_spans",
    "guess_scheme",
    "invalid_tags",
    "scheme_named",
]

_TYPED = re.compile(r"[BIELSU](-|$)")  # a tag of any scheme


class Span(NamedTuple):
    """Span of words of one type, such as the name of a person.

    Parameters
    ----------
    start : int
        Position of the first word, counted from 0.
    stop : int
        Position after the last word.
    type : str
        Type of the span. Empty if its tags are bare letters, such as "B" and "I" of a noun phrase.
    """

    start: int
    stop: int
    type: str


class Part(NamedTuple):
    """Tag as its letter and its type.

    Parameters
    ----------
    letter : str
        Letter in front of the hyphen, "O" for a word outside of spans.
    type : str
        Type after the hyphen.
    """

    letter: str
    type: str


OUTSIDE = Part("O", "")  # also stands for the borders of a sentence


@dataclasses.dataclass(frozen=True)
class Scheme:
    """Letters that write a span, and the tags that may follow each other.

    Parameters
    ----------
    name : str
        Name of the scheme.
    first, inside, last : str
        Letters that the first word of a span, each further word, and the last word can have.
    open : str
        Letters after which the span can continue.
    spell : callable
        Function from the number of words, and whether a span of the same type ends just before, to the letters.
    adjacent : str, default=""
        Letters that the first word has only if a span of the same type ends just before.
    """

    name: str
    first: str
    inside: str
    last: str
    open: str
    spell: Callable[[int, bool], str]
    adjacent: str = ""

    def parse(self, tag: str) -> Part | None:
        """Return letter and type of a tag, or None if it is not a tag of this scheme.

        Parameters
        ----------
        tag : str
            Tag of a word.
        """
        letter, hyphen, kind = tag.partition("-")
        if tag == "O":
            return OUTSIDE
        if letter in tuple(self.first + self.inside + self.adjacent) and bool(kind) == bool(hyphen):
            return Part(letter, kind)
        is_bare_type = self.name == "IO" and tag != "" and not _TYPED.match(tag)
        return Part("I", tag) if is_bare_type else None

    def continues(self, previous: Part, part: Part) -> bool:
        """Return whether a word is in the span of the word before it.

        Parameters
        ----------
        previous, part : Part
            Tags of the two words.
        """
        return part.letter in self.inside and previous.letter in self.open and previous.type == part.type

    def opens(self, previous: Part, part: Part) -> bool:
        """Return whether a word that is not in the span of the word before it may be the first of a span.

        Parameters
        ----------
        previous, part : Part
            Tags of the two words.
        """
        is_adjacent = previous is not OUTSIDE and previous.type == part.type
        return part.letter in self.first or (part.letter in self.adjacent and is_adjacent)

    def allows(self, previous: Part, part: Part) -> bool:
        """Return whether a tag may follow another one. `OUTSIDE` stands for the borders of a sentence.

        Parameters
        ----------
        previous, part : Part
            Tags of the two words.
        """
        if self.continues(previous, part):
            return True
        is_complete = previous is OUTSIDE or previous.letter in self.last
        return is_complete and (part is OUTSIDE or self.opens(previous, part))

    def describe(self) -> str:
        """Return the tags of the scheme, for messages."""
        letters = sorted(set(self.first + self.inside + self.adjacent))
        return " ".join(["O", *(f"{letter}-<type>" for letter in letters)])


SCHEMES = {
    scheme.name: scheme
    for scheme in (
        Scheme("IO", "I", "I", "I", "I", lambda n, adjacent: "I" * n),
        Scheme("IOB1", "I", "I", "BI", "BI", lambda n, adjacent: "BI"[not adjacent] + "I" * (n - 1), "B"),
        Scheme("IOB2", "B", "I", "BI", "BI", lambda n, adjacent: "B" + "I" * (n - 1)),
        Scheme("BIOES", "BS", "IE", "ES", "BI", lambda n, adjacent: "S" if n == 1 else "B" + "I" * (n - 2) + "E"),
        Scheme("BILOU", "BU", "IL", "LU", "BI", lambda n, adjacent: "U" if n == 1 else "B" + "I" * (n - 2) + "L"),
    )
}


def scheme_named(name: str, scheme: Any) -> Scheme:
    """Return a scheme by its name in capitals, or in small letters as `FineTuneTagger.decode_` has it.

    Parameters
    ----------
    name : str
        Name of the parameter, for messages.
    scheme : str
        Name of the scheme.

    Raises
    ------
    InvalidParameterError
        If there is no such scheme.
    """
    return SCHEMES[check_option(name, scheme.upper() if isinstance(scheme, str) else scheme, tuple(SCHEMES))]


def find_spans(y: Any, scheme: str = "IOB2") -> list[list[Span]]:
    """Return the spans of each sentence. A span that breaks the scheme is left out.

    Parameters
    ----------
    y : list of n_sentences lists of str
        A tag per word, such as the predictions of a tagger. Object arrays and Series of lists are also read.
    scheme : {"IO", "IOB1", "IOB2", "BIOES", "BILOU"}, default="IOB2"
        Scheme of the tags.

    Returns
    -------
    spans : list of n_sentences lists of (start, stop, type)
        Spans as named tuples, in the order of the words. `words[start:stop]` are the words of a span.

    Raises
    ------
    ValueError
        If a tag is not known, or is not a tag of the scheme. The message names row and position.

    See Also
    --------
    find_invalid_tags : List the tags that break the scheme.

    Examples
    --------
    >>> from sktransfer import find_spans
    >>> words = ["EU", "rejects", "New", "York", "call"]
    >>> spans = find_spans([["B-ORG", "O", "B-LOC", "I-LOC", "O"]])
    >>> [(span.type, words[span.start : span.stop]) for span in spans[0]]
    [('ORG', ['EU']), ('LOC', ['New', 'York'])]
    >>> find_spans([["O", "I-LOC", "I-LOC"]])  # a span of IOB2 begins with B
    [[]]
    """
    known = scheme_named("scheme", scheme)
    return spans_of_rows(check_tags(y), known, "y", row_labels(y))


def spans_of_rows(rows: Sequence[Sequence[Any]], scheme: Scheme, name: str, labels: Any = None) -> list[list[Span]]:
    """Return the spans of sentences that `check_tags` returned.

    Parameters
    ----------
    rows : sequence of n_sentences sequences of str
        A tag per word.
    scheme : Scheme
        Scheme of the tags.
    name : str
        Name of the argument, for messages.
    labels : Index, default=None
        Result of `row_labels`.
    """
    return [_read(scheme, parts) for parts in _parse_rows(rows, scheme, name, labels)]


def _parse_rows(rows: Sequence[Sequence[Any]], scheme: Scheme, name: str, labels: Any) -> Iterator[list[Part]]:
    """Yield letters and types of the tags of each sentence, or raise for a tag that is not of the scheme."""
    cache: dict[Any, Part | None] = {}
    for row, tags in enumerate(rows):
        parts = []
        for position, tag in enumerate(tags):
            if tag not in cache:
                cache[tag] = scheme.parse(tag) if isinstance(tag, str) else None
            part = cache[tag]
            if part is None:
                where = f"{name_row(row, label_of(labels, row), name)}, position {position}"
                if tag is None:
                    rule = "spans can be read only if all tags of a sentence are known"
                    raise ValueError(f"{where}: the tag is not known, and {rule}; leave the sentence out")
                raise ValueError(
                    f"{where}: {tag!r} is not a tag of {scheme.name}, which has {scheme.describe()}{_other_scheme(tag)}"
                )
            parts.append(part)
        yield parts


def _other_scheme(tag: Any) -> str:
    names = [name for name, scheme in SCHEMES.items() if isinstance(tag, str) and scheme.parse(tag)]
    return f"; it is one of {' and '.join(names)}" if names else ""


def _read(scheme: Scheme, parts: Sequence[Part], *, repair: bool = False) -> list[Span]:
    """Return the spans that follow the scheme, or with `repair` all runs of words of a type."""
    spans = []
    start, previous = -1, OUTSIDE
    for position, part in enumerate([*parts, OUTSIDE]):
        if start >= 0 and not scheme.continues(previous, part):
            if repair or previous.letter in scheme.last:
                spans.append(Span(start, position, previous.type))
            start = -1
        if start < 0 and part is not OUTSIDE and (repair or scheme.opens(previous, part)):
            start = position
        previous = part
    return spans


def convert_scheme(y: Any, from_scheme: str, to_scheme: str, *, invalid: str = "raise") -> list[list[str]]:
    """Write tags in another scheme.

    IO cannot express where one span ends and the next of its type begins. Adjacent spans of one type are one span
    after a conversion to IO.

    Parameters
    ----------
    y : list of n_sentences lists of str
        A tag per word. In IO, a tag without a letter, such as "person", is the same as "I-person".
    from_scheme, to_scheme : {"IO", "IOB1", "IOB2", "BIOES", "BILOU"}
        Scheme of `y`, and scheme of the result.
    invalid : {"raise", "repair"}, default="raise"
        Treatment of tags that break `from_scheme`. "repair" begins a span wherever a word is not in the span of the
        word before it, and ends a span wherever it does not continue, as the script conlleval does.

    Returns
    -------
    converted : list of n_sentences lists of str
        Tags in the other scheme.

    Raises
    ------
    ValueError
        If a tag is not known or is not a tag of the scheme, or a sequence breaks it. The message names row and
        position.

    Examples
    --------
    >>> from sktransfer import convert_scheme
    >>> convert_scheme([["I-PER", "I-PER", "O", "I-LOC"]], "IO", "IOB2")
    [['B-PER', 'I-PER', 'O', 'B-LOC']]
    >>> convert_scheme([["B-PER", "I-PER", "B-PER", "O"]], "IOB2", "BIOES")
    [['B-PER', 'E-PER', 'S-PER', 'O']]
    >>> convert_scheme([["O", "I-PER"]], "IOB2", "BIOES", invalid="repair")
    [['O', 'S-PER']]
    """
    source = scheme_named("from_scheme", from_scheme)
    target = scheme_named("to_scheme", to_scheme)
    check_option("invalid", invalid, ("raise", "repair"))
    rows, labels = check_tags(y), row_labels(y)
    converted = []
    for row, parts in enumerate(_parse_rows(rows, source, "y", labels)):
        tags = rows[row]
        if invalid == "raise":
            for position, reason in _breaks(source, parts, tags):
                raise ValueError(
                    f"{name_row(row, label_of(labels, row), 'y')}, position {position}: {tags[position]!r} {reason}, "
                    f"which {source.name} does not allow; find_invalid_tags(y, {source.name!r}) lists all such tags, "
                    "and invalid='repair' reads each run of a type as a span"
                )
        converted.append(_write(target, _read(source, parts, repair=True), len(tags)))
    return converted


def _write(scheme: Scheme, spans: Sequence[Span], n_words: int) -> list[str]:
    tags = ["O"] * n_words
    previous = Span(0, -1, "")
    for span in spans:
        is_adjacent = previous.stop == span.start and previous.type == span.type
        letters = scheme.spell(span.stop - span.start, is_adjacent)
        suffix = f"-{span.type}" if span.type else ""
        tags[span.start : span.stop] = [letter + suffix for letter in letters]
        previous = span
    return tags


def find_invalid_tags(y: Any, scheme: str = "IOB2") -> pd.DataFrame:
    """List the tags that break a scheme.

    Parameters
    ----------
    y : list of n_sentences lists of str
        A tag per word. A tag that is not known (None) is not listed, and neither are its neighbours because of it.
    scheme : {"IO", "IOB1", "IOB2", "BIOES", "BILOU"}, default="IOB2"
        Scheme of the tags.

    Returns
    -------
    table : DataFrame
        One row per tag that breaks the scheme, with the columns row (in y, from 0), position (of the word, from 0),
        tag and reason. If y is a Series whose index is not the default one, also label (in the index).

    Raises
    ------
    ValueError
        If `y` is not a list of lists of tags.

    See Also
    --------
    convert_scheme : With `invalid="repair"`, write tags that follow the scheme.

    Examples
    --------
    >>> from sktransfer import find_invalid_tags
    >>> invalid = find_invalid_tags([["B-PER", "I-LOC", "O"], ["O", "O"]])
    >>> print(invalid.to_string(index=False))
     row  position   tag                reason
       0         1 I-LOC follows the tag B-PER
    """
    import pandas as pd

    known = scheme_named("scheme", scheme)
    rows, labels = check_tags(y), row_labels(y)
    found = [(row, at, rows[row][at], reason) for row, at, reason in invalid_tags(rows, known)]
    table = pd.DataFrame(found, columns=["row", "position", "tag", "reason"])
    return table if labels is None else table.assign(label=[label_of(labels, row) for row, *_ in found])


def invalid_tags(rows: Sequence[Sequence[Any]], scheme: Scheme) -> Iterator[tuple[int, int, str]]:
    """Yield row, position and reason of each tag that breaks the scheme.

    Parameters
    ----------
    rows : sequence of n_sentences sequences of str or None
        Tags that `check_tags` returned. None is a tag that is not known.
    scheme : Scheme
        Scheme of the tags.
    """
    cache: dict[Any, Part | None] = {None: None}
    for row, tags in enumerate(rows):
        for tag in tags:
            if tag not in cache:
                cache[tag] = scheme.parse(tag) if isinstance(tag, str) else None
        yield from ((row, *found) for found in _breaks(scheme, [cache[tag] for tag in tags], tags))


def _breaks(scheme: Scheme, parts: Sequence[Part | None], tags: Sequence[Any]) -> Iterator[tuple[int, str]]:
    """Yield position and reason of each tag that is not of the scheme, or may not follow the tag before it."""
    previous: Part | None = OUTSIDE
    for position, part in enumerate(parts):
        if part is None and tags[position] is not None:
            yield position, f"is not a tag of {scheme.name}"
        elif part is not None and previous is not None and not scheme.allows(previous, part):
            yield position, f"follows the tag {tags[position - 1]}" if position else "begins a sentence"
        previous = part
    if previous is not None and not scheme.allows(previous, OUTSIDE):
        yield len(parts) - 1, "ends a sentence"


def guess_scheme(rows: Sequence[Sequence[Any]]) -> str | None:
    """Return the name of the scheme that tags follow, or None if they do not write spans.

    The tags must all be of the scheme. At most one in ten tags of spans may break it, because data sets have faults.
    Of several schemes that fit, the one with the fewest faults is returned, and of equals the one that says most.

    Parameters
    ----------
    rows : sequence of n_sentences sequences of str or None
        Tags that `check_tags` returned.

    Examples
    --------
    >>> from sktransfer.tagging.schemes import guess_scheme
    >>> guess_scheme([["B-PER", "I-PER", "O"]]), guess_scheme([["I-PER", "I-PER", "O"]]), guess_scheme([["NOUN", "X"]])
    ('IOB2', 'IO', None)
    """
    counts = {}
    tags = {tag for row in rows for tag in row if tag is not None}
    if not all(isinstance(tag, str) and (tag == "O" or _TYPED.match(tag)) for tag in tags) or not tags - {"O"}:
        return None
    n_inside = sum(tag is not None and tag != "O" for row in rows for tag in row)
    for name in ("BIOES", "BILOU", "IOB2", "IO", "IOB1"):
        scheme = SCHEMES[name]
        if all(scheme.parse(tag) for tag in tags):
            counts[name] = sum(1 for _ in invalid_tags(rows, scheme))
    best = min(counts, key=counts.__getitem__, default=None)
    return best if best is not None and counts[best] <= n_inside / 10 else None
