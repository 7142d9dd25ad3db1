"""Windows: parts of sentences that fit into a network, as samples of the engine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from sktransfer.backbones.backbone import Backbone
from sktransfer.backbones.batching import TextBatching
from sktransfer.backbones.tokens import WordPieces
from sktransfer.engine.inputs import PreprocessedSamples
from sktransfer.exceptions import InvalidParameterError
from sktransfer.samples.base import Rows, content_hash
from sktransfer.sentences.checks import Sentences

__all__ = ["TokenIds", "Window", "Windows", "read_sentences", "window_bounds"]

_OVERLAP = 4  # a window shares up to this fraction of its room with the next, so that no word is read at a border


class Window(NamedTuple):
    """A part of a sentence as the network reads it.

    Parameters
    ----------
    ids : ndarray of shape (tokens,), int64
        Token ids, including special tokens.
    n_filled : int
        Number of words that the tokenizer gives no piece for.
    """

    ids: np.ndarray
    n_filled: int


class Windows(Rows):
    """Windows of sentences, and the place at which each word is read.

    Each word is read in one window, in which it is farthest from a border. The start and the end of a sentence are no
    borders. Words are counted through all sentences.

    Parameters
    ----------
    windows : list of Window
        The windows, those of a sentence in order. A sentence without words has none.
    sentence : ndarray of shape (n_windows,), int64
        Row of the sentence that each window belongs to.
    n_words : ndarray of shape (n_sentences,), int64
        Number of words of each sentence.
    window : ndarray of shape (n_words,), int64
        Window in which each word is read.
    first, last : ndarray of shape (n_words,), int64
        Positions in the window of the first and the last token that stand for a part of the word.

    Attributes
    ----------
    offsets : ndarray of shape (n_sentences + 1,), int64
        Number of words before each sentence, and of all words.
    """

    def __init__(
        self,
        windows: list[Window],
        sentence: np.ndarray,
        n_words: np.ndarray,
        window: np.ndarray,
        first: np.ndarray,
        last: np.ndarray,
    ) -> None:
        super().__init__(len(windows))
        self._windows = windows
        self.sentence, self.n_words = sentence, n_words
        self.window, self.first, self.last = window, first, last
        self.offsets = np.concatenate([[0], np.cumsum(n_words)]).astype(np.int64)  # (n_sentences + 1,)
        self._words = np.argsort(window, kind="stable")  # (n_words,): the words of each window in order
        self._begins = np.searchsorted(window[self._words], np.arange(len(windows) + 1))  # (n_windows + 1,)

    def _load(self, row: int) -> Window:
        return self._windows[row]

    def _hash(self, row: int) -> bytes:
        return content_hash("tokens", self._windows[row].ids)

    def words_of(self, window: int) -> np.ndarray:
        """Return the numbers of the words that are read in a window, in order.

        Parameters
        ----------
        window : int
            Number of the window.

        Returns
        -------
        words : ndarray of int64
        """
        return self._words[self._begins[window] : self._begins[window + 1]]

    def split(self, values: Any) -> list[Any]:
        """Return values of all words as one part per sentence.

        Parameters
        ----------
        values : array-like of shape (n_words, ...)
            Values of the words.

        Returns
        -------
        parts : list of array-like of shape (n_words_of_the_sentence, ...)
            Views of the values.
        """
        return [values[start:stop] for start, stop in zip(self.offsets[:-1], self.offsets[1:])]


class TokenIds:
    """Preprocessing of windows, which are token ids already.

    Parameters
    ----------
    preprocess : Tokens
        Preprocessing of the backbone.
    """

    def __init__(self, preprocess: Any) -> None:
        self._preprocess = preprocess
        self.pad_value: int = preprocess.pad_value
        self.batching = _WindowBatching()

    @property
    def key(self) -> str:
        """Key of the preprocessing of the backbone."""
        return str(self._preprocess.key)

    def __call__(self, samples: Sequence[Window]) -> list[Tensor]:
        """Return one int64 tensor of token ids (tokens,) per window."""
        return [torch.from_numpy(window.ids) for window in samples]

    def tokenize(self, samples: Sequence[Window]) -> tuple[list[Tensor], list[bool]]:
        """Return the token ids (tokens,) of windows. None of them is truncated."""
        return self(samples), [False] * len(samples)

    def unknown_share(self, tokens: Tensor) -> float:
        """Return the share of unknown tokens in a window, without special tokens."""
        share = getattr(self._preprocess, "unknown_share", None)  # a preprocessing without it knows all words
        return 0.0 if share is None else float(share(tokens))


class _WindowBatching(TextBatching):
    """Batches of windows."""

    def has_words(self, sample: Window) -> bool:
        """Return whether each word of a window has a piece of its own, which may be unknown."""
        return not sample.n_filled


def read_sentences(sentences: Sentences, backbone: Backbone, *, keep: bool = False) -> PreprocessedSamples:
    """Return the windows of sentences, as the engine takes them. Its `samples` are `Windows`.

    Parameters
    ----------
    sentences : Sentences
        Validated sentences.
    backbone : Backbone
        Backbone of texts.
    keep : bool, default=False
        Whether to keep the tensors of the windows for repeated passes.

    Raises
    ------
    InvalidParameterError
        If the backbone does not tell which tokens belong to which word.

    Examples
    --------
    >>> from sktransfer import load_backbone
    >>> from sktransfer.sentences.checks import check_sentences
    >>> from sktransfer.sentences.windows import read_sentences
    >>> sentences = check_sentences([["good", "films", "", "last"], []])
    >>> windows = read_sentences(sentences, load_backbone("tiny/bert", max_length=5)).samples
    >>> windows.sentence.tolist(), windows.window.tolist()
    ([0, 0], [0, 0, 1, 1])
    """
    preprocess = backbone.preprocess
    if not hasattr(preprocess, "word_pieces"):
        raise InvalidParameterError(
            f"backbone={backbone.name!r}: its preprocessing does not tell which tokens belong to which word, as one "
            "with a prompt before each text; use the backbone without a prompt"
        )
    return PreprocessedSamples(_windows(sentences, preprocess), TokenIds(preprocess), keep=keep)


def _windows(sentences: Sentences, preprocess: Any) -> Windows:
    before, after = preprocess.special_ids
    room = preprocess.limit - len(before) - len(after)
    windows: list[Window] = []
    of_sentence: list[int] = []
    places: list[np.ndarray] = []
    for row in range(len(sentences)):
        words = sentences.load(row)
        if not words:
            continue
        pieces = preprocess.word_pieces(words)
        if len(pieces.ids) > room:
            pieces = _cut(pieces, room)
        bounds = window_bounds(pieces.starts, room)
        chosen = _read_in(pieces.starts, bounds) if len(bounds) > 1 else np.zeros(len(words), np.int64)
        begins = pieces.starts[[begin for begin, _ in bounds]]  # (n_bounds,)
        shift = len(before) - begins[chosen]  # (n_words,)
        places.append(np.stack([chosen + len(windows), pieces.first + shift, pieces.last + shift]))  # (3, n_words)
        for begin, end in bounds:
            ids = [*before, *pieces.ids[pieces.starts[begin] : pieces.starts[end]].tolist(), *after]
            windows.append(Window(np.asarray(ids, np.int64), int(pieces.is_filled[begin:end].sum())))
            of_sentence.append(row)
    window, first, last = np.concatenate(places, axis=1) if places else np.empty((3, 0), np.int64)
    return Windows(windows, np.asarray(of_sentence, np.int64), sentences.n_words, window, first, last)


def _cut(pieces: WordPieces, room: int) -> WordPieces:
    """Return pieces without those by which a word alone would exceed a window."""
    sizes = np.diff(pieces.starts)  # (n_words,)
    if sizes.max() <= room:
        return pieces
    kept = np.concatenate([np.arange(start, start + min(size, room)) for start, size in zip(pieces.starts, sizes)])
    starts = np.concatenate([[0], np.cumsum(np.minimum(sizes, room))])  # (n_words + 1,)
    highest = np.minimum(sizes, room) - 1  # (n_words,): positions in the word
    first, last = (
        starts[:-1] + np.minimum(one - pieces.starts[:-1], highest) for one in (pieces.first, pieces.last)
    )  # (n_words,)
    return WordPieces(pieces.ids[kept], starts, first, last, pieces.is_filled)


def window_bounds(starts: np.ndarray, room: int) -> list[tuple[int, int]]:
    """Return the words of each window, as (number of the first word, number after the last).

    Windows hold whole words, as many as fit. Each shares up to a quarter of its room with the one before it, and the
    last one as much as fits.

    Parameters
    ----------
    starts : ndarray of shape (n_words + 1,), int64
        Position of the first piece of each word, and the number of pieces. No word has more pieces than `room`.
    room : int
        Largest number of pieces of a window.

    Examples
    --------
    >>> import numpy as np
    >>> from sktransfer.sentences.windows import window_bounds
    >>> window_bounds(np.arange(21), room=8)
    [(0, 8), (6, 14), (12, 20)]
    """
    n_words = len(starts) - 1
    bounds: list[tuple[int, int]] = []
    begin = end = 0
    while end < n_words:
        if bounds:
            overlap = int(np.searchsorted(starts, starts[end] - room // _OVERLAP))
            next_fits = int(np.searchsorted(starts, starts[end + 1] - room))
            last = int(np.searchsorted(starts, starts[-1] - room))  # from here on all words fit
            begin = max(min(overlap, last), next_fits)
        end = int(np.searchsorted(starts, starts[begin] + room, side="right")) - 1
        bounds.append((begin, end))
    return bounds


def _read_in(starts: np.ndarray, bounds: Sequence[tuple[int, int]]) -> np.ndarray:
    """Return the window in which each word is farthest from a border (n_words,), the earlier of two equal ones."""
    n_words = len(starts) - 1
    window, farthest = np.zeros(n_words, np.int64), np.full(n_words, -1.0)
    for number, (begin, end) in enumerate(bounds):
        left = starts[begin:end] - starts[begin] if begin else np.inf  # (n_words_here,)
        right = starts[end] - starts[begin + 1 : end + 1] if end < n_words else np.inf  # (n_words_here,)
        distance = np.broadcast_to(np.minimum(left, right), (end - begin,))  # (n_words_here,)
        better = np.flatnonzero(distance > farthest[begin:end]) + begin
        window[better], farthest[better] = number, distance[better - begin]
    return window
