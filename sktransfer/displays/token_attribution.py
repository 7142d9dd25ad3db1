"""Texts with the words that speak for or against a class."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any, Self

import numpy as np
import pandas as pd

from sktransfer.displays.axes import COLOURS, resolve_axes, style_axes
from sktransfer.exceptions import InvalidParameterError

__all__ = ["TokenAttributionDisplay"]

_FOR, _AGAINST = COLOURS[1], COLOURS[0]
_OPACITY = 0.75  # of the strongest word
_WORD_LENGTH = 24  # characters of a word that are shown at its bar


class TokenAttributionDisplay:
    """Words of texts by how much they speak for or against a class: bars of one text, and HTML of all.

    In a notebook the display shows the texts with coloured words. Orange speaks for the class, and blue against it. The
    strongest word of each text has full colour.

    Parameters
    ----------
    texts : sequence of str
        Texts.
    words : sequence of DataFrame
        Per text one row per word: "word", "start" and "stop" (positions in the text) and "value".
    targets : sequence, default=None
        Class that each text's values are about, or the index of one of several numbers, for the titles.
    is_class : bool, default=True
        True for values of classes, and False for values of predicted numbers.

    Attributes
    ----------
    ax_ : Axes
        Axes of the plot.
    figure_ : Figure
        Figure of the axes.

    See Also
    --------
    ClassMapDisplay : Positions of images.

    Examples
    --------
    >>> from sktransfer import FineTuneClassifier, TokenAttributionDisplay
    >>> texts = ["a moving, funny film", "two hours of nothing", "I loved every minute", "dull from start to end"]
    >>> clf = FineTuneClassifier("tiny/bert", max_epochs=1, random_state=0).fit(texts, ["up", "down", "up", "down"])
    >>> display = TokenAttributionDisplay.from_estimator(clf, texts[:1], target="up")
    >>> display.words[0]["word"].tolist()
    ['a', 'moving', ',', 'funny', 'film']
    >>> display.to_html()[:5]
    '<div>'
    """

    def __init__(
        self,
        texts: Sequence[str],
        words: Sequence[pd.DataFrame],
        targets: Sequence[Any] | None = None,
        is_class: bool = True,
    ) -> None:
        self.texts, self.words = list(texts), list(words)
        self.targets = None if targets is None else list(targets)
        self.is_class = is_class

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        *,
        target: Any = None,
        method: str = "integrated_gradients",
        n_steps: int = 32,
        row: int = 0,
        ax: Any = None,
    ) -> Self:
        """Attribute the output for a class to words, and draw the bars of one text.

        Parameters
        ----------
        estimator : estimator
            Fitted classifier or regressor of texts that `as_module` takes.
        X : array-like, Series, one-column DataFrame or list of n_samples
            Texts.
        target : label or array-like of n_samples, default=None
            Class of all texts, or one per text. None for the predicted class.
        method : {"integrated_gradients", "gradient_x_input"}, default="integrated_gradients"
            Integrated gradients [1]_ add up to the difference from the output of a text of padding tokens, up to the
            error of `n_steps`. Gradient times input takes one pass, and is rougher.
        n_steps : int, default=32
            Steps of the integral.
        row : int, default=0
            Text whose bars are drawn.
        ax : Axes, default=None
            Axes to draw on. None creates a figure.

        Raises
        ------
        ImportError
            If captum or matplotlib is not installed.
        InvalidParameterError
            If the estimator has no class to explain, or a parameter is not allowed.

        References
        ----------
        .. [1] M. Sundararajan et al., "Axiomatic Attribution for Deep Networks", ICML 2017.
        """
        from sktransfer.explain.attribution import word_attributions

        found = word_attributions(estimator, X, target=target, method=method, n_steps=n_steps)
        return cls(found.texts, found.words, found.targets, found.is_class).plot(row=row, ax=ax)

    def plot(self, ax: Any = None, *, row: int = 0) -> Self:
        """Draw the bars of one text.

        Parameters
        ----------
        ax : Axes, default=None
            Axes to draw on. None creates a figure.
        row : int, default=0
            Index of the text.
        """
        if not -len(self.texts) <= row < len(self.texts):
            raise InvalidParameterError(f"row={row!r} must be the index of one of {len(self.texts)} texts")
        words, values = self.words[row]["word"], self.words[row]["value"]
        self.ax_ = resolve_axes(ax, (5.0, 0.8 + 0.22 * max(3, len(words))))
        self.figure_ = self.ax_.figure
        colours = [_FOR if value > 0 else _AGAINST for value in values]
        places = np.arange(len(words))
        self.ax_.barh(places, values, color=colours)
        self.ax_.set_yticks(places, [_shorten(word) for word in words], parse_math=False)
        self.ax_.invert_yaxis()  # reading order from the top
        self.ax_.axvline(0, color="black", linewidth=0.8)
        self.ax_.set_xlabel(f"evidence for {self._name(row) or 'the output'}", parse_math=False)
        style_axes(self.ax_, grid="x")
        return self

    def to_html(self) -> str:
        """Return the texts as HTML, with coloured words. All that comes from texts and classes is escaped."""
        return f"<div>{''.join(self._paragraph(row) for row in range(len(self.texts)))}</div>"

    def _repr_html_(self) -> str:
        return self.to_html()

    def _name(self, row: int) -> str:
        """Return what the values of a text are about, "" if it is not known."""
        if self.targets is None:
            return "" if self.is_class else "the prediction"
        return f"{self.targets[row]}" if self.is_class else f"prediction {self.targets[row]}"

    def _paragraph(self, row: int) -> str:
        text, words = self.texts[row], self.words[row]
        strongest = words["value"].abs().max() if len(words) else 0.0
        parts, done = [], 0
        for start, stop, value in zip(words["start"], words["stop"], words["value"]):
            start = max(int(start), done)  # a character may belong to two tokens
            opacity = _OPACITY * abs(value) / strongest if strongest > 0 else 0.0
            colour = ", ".join(str(int((_FOR if value > 0 else _AGAINST)[i : i + 2], 16)) for i in (1, 3, 5))
            style = f"background-color: rgba({colour}, {opacity:.2f}); border-radius: 3px"
            shown = escape(text[start : int(stop)])
            parts += [escape(text[done:start]), f'<span style="{style}" title="{value:+.3g}">{shown}</span>']
            done = max(done, int(stop))
        parts.append(escape(text[done:]))
        name = self._name(row)
        about = f"<b>{escape(name)}</b> " if name else ""
        return f'<p style="line-height: 1.7">{about}{"".join(parts)}</p>'


def _shorten(word: str) -> str:
    return word if len(word) <= _WORD_LENGTH else word[: _WORD_LENGTH - 1] + "…"
