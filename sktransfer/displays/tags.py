"""Sentences with the tags of their words."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from html import escape
from typing import Any, Self

from sktransfer._validation import check_option
from sktransfer.displays.axes import COLOURS, resolve_axes
from sktransfer.exceptions import InvalidParameterError
from sktransfer.sentences.checks import check_sentences, check_word_values
from sktransfer.tagging.schemes import SCHEMES, Span, convert_scheme, find_spans, guess_scheme
from sktransfer.tagging.sequences import check_tags

__all__ = ["TagsDisplay"]

_OPACITY = 0.3  # of the colour behind words
_WIDTH = 104  # characters of a drawn line
_WRONG = "#CC0000"


@dataclasses.dataclass(frozen=True)
class _Piece:
    """Words of a sentence that share a colour, and their label; no label outside of spans."""

    words: tuple[str, ...]
    label: str
    wrong: tuple[str, ...]  # per wrong word its true tag


class TagsDisplay:
    """Sentences with coloured tags, as HTML of all of them and as a drawing of some.

    Tags that write spans, such as B-PER and I-PER, show one colour and one label per span. Other tags show a label per
    word, and "O" shows none. If the true tags are given, wrong words are red, and their true tag is shown.

    Parameters
    ----------
    sentences : list, Series or object array of n_samples lists of str
        Words of each sentence.
    y_pred : list, Series or object array of n_samples lists
        A tag per word.
    y_true : list, Series or object array of n_samples lists, default=None
        True tags. None for a tag that is not known, which is not compared.
    scheme : {"auto", "none", "IO", "IOB1", "IOB2", "BIOES", "BILOU"}, default="auto"
        Scheme in which tags write spans. "auto" is the one that the predicted tags follow, else that of the true tags.
        "none" shows each word alone.

    Attributes
    ----------
    ax_ : Axes
        Axes of the plot.
    figure_ : Figure
        Figure of the axes.

    See Also
    --------
    FineTuneTagger : Predict tags.
    sklearn.metrics.ConfusionMatrixDisplay : Confusion of the tags of all words. It takes the tags as flat lists.

    Examples
    --------
    >>> from sktransfer import TagsDisplay
    >>> display = TagsDisplay([["New", "York", "calls"]], [["B-LOC", "I-LOC", "O"]])
    >>> display.spans[0]
    [Span(start=0, stop=2, type='LOC')]
    >>> display.to_html()[:5]
    '<div>'
    """

    def __init__(self, sentences: Any, y_pred: Any, y_true: Any = None, scheme: str = "auto") -> None:
        checked = check_sentences(sentences)
        self.sentences = [list(checked.load(row)) for row in range(len(checked))]
        self.y_pred = check_word_values(check_tags(y_pred, "y_pred"), checked.n_words, checked.labels, "y_pred")
        self.y_true: list[list[Any]] | None = None
        if y_true is not None:
            self.y_true = check_word_values(check_tags(y_true, "y_true"), checked.n_words, checked.labels, "y_true")
        check_option("scheme", scheme, ("auto", "none", *SCHEMES))
        if scheme == "auto":
            self.scheme = guess_scheme(self.y_pred) or guess_scheme(self.y_true or [])
        else:
            self.scheme = None if scheme == "none" else scheme
        self.spans = self._find_spans()
        kinds = sorted({span.type for spans in self.spans for span in spans})
        self.colours = {kind: COLOURS[i % len(COLOURS)] for i, kind in enumerate(kinds)}

    @classmethod
    def from_estimator(cls, estimator: Any, X: Any, y: Any = None, *, n_lines: int = 12, ax: Any = None) -> Self:
        """Predict the tags of sentences, and draw the first lines.

        Parameters
        ----------
        estimator : estimator
            Fitted tagger, or a pipeline that ends in one.
        X : list, Series or object array of n_samples lists of str
            Words of each sentence.
        y : list, Series or object array of n_samples lists, default=None
            True tags, to show wrong ones.
        n_lines : int, default=12
            Largest number of lines that are drawn.
        ax : Axes, default=None
            Axes to draw on. None creates a figure.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        InvalidSampleError
            If a sentence cannot be used.
        """
        scheme = str(getattr(estimator, "decode_", "argmax")).upper()
        display = cls(X, estimator.predict(X), y, scheme if scheme in SCHEMES else "auto")
        return display.plot(ax, n_lines=n_lines)

    def _find_spans(self) -> list[list[Span]]:
        """Return the spans of each sentence: words of one label."""
        if self.scheme is None:
            return [
                [Span(word, word + 1, str(tag)) for word, tag in enumerate(tags) if tag is not None and tag != "O"]
                for tags in self.y_pred
            ]
        return find_spans(convert_scheme(self.y_pred, self.scheme, "IOB2", invalid="repair"))

    def _pieces(self, row: int) -> list[_Piece]:
        """Return the words of a sentence in order, those of a span together."""
        words, spans = self.sentences[row], {span.start: span for span in self.spans[row]}
        pieces, start = [], 0
        while start < len(words):
            span = spans.get(start, Span(start, start + 1, ""))
            wrong = tuple(self._true_if_wrong(row, word) for word in range(start, span.stop))
            label = (span.type or "span") if start in spans else ""
            pieces.append(_Piece(tuple(words[start : span.stop]), label, wrong))
            start = span.stop
        return pieces

    def _true_if_wrong(self, row: int, word: int) -> str:
        """Return the true tag of a wrong word, "" for a right one."""
        true = None if self.y_true is None else self.y_true[row][word]
        return "" if true is None or true == self.y_pred[row][word] else str(true)

    def to_html(self) -> str:
        """Return the sentences as HTML. Words and tags are escaped."""
        return f"<div>{''.join(self._paragraph(row) for row in range(len(self.sentences)))}</div>"

    def _repr_html_(self) -> str:
        return self.to_html()

    def _paragraph(self, row: int) -> str:
        return f'<p style="line-height: 1.9">{" ".join(self._to_html(piece) for piece in self._pieces(row))}</p>'

    def _to_html(self, piece: _Piece) -> str:
        words = " ".join(
            f'<span style="color: {_WRONG}" title="true: {escape(true)}">{escape(word)}</span>'
            if true
            else escape(word)
            for word, true in zip(piece.words, piece.wrong)
        )
        if not piece.label:
            return words
        colour = ", ".join(str(int(self._colour(piece)[i : i + 2], 16)) for i in (1, 3, 5))
        style = f"background-color: rgba({colour}, {_OPACITY}); border-radius: 3px; padding: 0 0.2em"
        return f'<span style="{style}">{words} <small>{escape(piece.label)}</small></span>'

    def _colour(self, piece: _Piece) -> str:
        return self.colours.get(piece.label, COLOURS[0])

    def plot(self, ax: Any = None, *, row: int = 0, n_lines: int = 12) -> Self:
        """Draw the sentences from a row on.

        Parameters
        ----------
        ax : Axes, default=None
            Axes to draw on. None creates a figure.
        row : int, default=0
            First sentence.
        n_lines : int, default=12
            Largest number of lines. A sentence takes one or more.
        """
        if not -len(self.sentences) <= row < len(self.sentences):
            raise InvalidParameterError(f"row={row!r} must be the index of one of {len(self.sentences)} sentences")
        lines = [
            line
            for one in range(row % len(self.sentences), len(self.sentences))
            for line in _wrapped(self._pieces(one))
        ][:n_lines]
        self.ax_ = resolve_axes(ax, (8.0, 0.4 + 0.33 * len(lines)))
        self.figure_ = self.ax_.figure
        self.ax_.set(xlim=(0, _WIDTH), ylim=(len(lines) - 0.5, -0.7))
        self.ax_.axis("off")
        for y, line in enumerate(lines):
            for x, piece in line:
                self._draw(x, y, piece)
        return self

    def _draw(self, x: int, y: int, piece: _Piece) -> None:
        options = {"family": "monospace", "va": "center", "parse_math": False, "clip_on": True}
        wrong = any(piece.wrong)
        box = None
        if piece.label:
            box = {
                "facecolor": self._colour(piece),
                "alpha": _OPACITY,
                "edgecolor": "none",
                "boxstyle": "round,pad=0.15",
            }
        size = 8.5
        self.ax_.text(x, y, _shown(piece), fontsize=size, color=_WRONG if wrong else "black", bbox=box, **options)


def _shown(piece: _Piece) -> str:
    """Return the text of a piece: words, label, and the true tags of wrong words."""
    words = " ".join(f"{word}[{true}]" if true else word for word, true in zip(piece.words, piece.wrong))
    return f"{words} {piece.label}" if piece.label else words


def _wrapped(pieces: Sequence[_Piece]) -> list[list[tuple[int, _Piece]]]:
    """Return the pieces of a sentence in lines, each with its place in characters."""
    lines: list[list[tuple[int, _Piece]]] = [[]]
    x = 0
    for piece in pieces:
        width = len(_shown(piece)) + 1 + bool(piece.label)
        if lines[-1] and x + width > _WIDTH:
            lines.append([])
            x = 0
        lines[-1].append((x, piece))
        x += width
    return lines
