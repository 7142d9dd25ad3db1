"""Tags: a class per word, read from the tokens of windows."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from scipy.special import log_softmax
from sklearn.utils.class_weight import compute_class_weight
from torch import Tensor

from sktransfer.exceptions import InvalidParameterError, name_row
from sktransfer.samples.columns import quoted
from sktransfer.samples.labels import label_of
from sktransfer.sentences.windows import Windows
from sktransfer.tagging.decoding import best_sequences, scheme_transitions
from sktransfer.tasks.base import NOTHING_KNOWN, Targets, Task
from sktransfer.tasks.classification import ClassWeight, Multiclass, balances
from sktransfer.tasks.criterion import Criterion

__all__ = ["GivenTags", "Tags", "check_tag_types", "word_values"]

_FIRST, _LAST, _CODE = range(3)  # columns of the targets of a window


def check_tag_types(rows: Sequence[Sequence[Any]], labels: Any = None) -> None:
    """Raise unless all tags are strings, or all are integers.

    Parameters
    ----------
    rows : sequence of n_sentences sequences of tags
        Tags that `check_tags` returned. None is a tag that is not known.
    labels : Index, default=None
        Index labels of the rows.

    Raises
    ------
    ValueError
        If a tag is of another type, or -100, the mark of transformers for a tag that is not known. The message names
        the row and the position of the word.

    Examples
    --------
    >>> from sktransfer.tasks.tags import check_tag_types
    >>> check_tag_types([["NOUN", 3]])
    Traceback (most recent call last):
        ...
    ValueError: y[0], position 1: the tag 3 is a int, and earlier tags are str; tags are str or int, and all of one \
type: pass [[str(tag) for tag in tags] for tags in y]
    """
    first: type | None = None
    for row, tags in enumerate(rows):
        for position, tag in enumerate(tags):
            if tag is None:
                continue
            kind = str if isinstance(tag, str) else int if isinstance(tag, (int, np.integer, np.bool_)) else None
            if kind is int and tag == -100:
                raise ValueError(
                    f"{name_row(row, label_of(labels, row), 'y')}, position {position}: the tag is -100, by which "
                    "transformers marks words that are not learned; give None in its place"
                )
            if kind is not None and first in (None, kind):
                first = kind
                continue
            earlier = f", and earlier tags are {first.__name__}" if first and kind else ""
            raise ValueError(
                f"{name_row(row, label_of(labels, row), 'y')}, position {position}: the tag {quoted(tag, 60)} is a "
                f"{type(tag).__name__}{earlier}; tags are str or int, and all of one type: pass "
                "[[str(tag) for tag in tags] for tags in y]"
            )


@dataclasses.dataclass(frozen=True)
class GivenTags:
    """Tags of sentences as a user gives them, and the windows that the sentences are read in.

    Parameters
    ----------
    values : ndarray of shape (n_sentences,), object
        A list of tags per sentence, None for a tag that is not known.
    windows : Windows
        Windows of the sentences.
    """

    values: np.ndarray
    windows: Windows
    known: None = None

    def check(self, task: Task) -> np.ndarray:
        """Return per window the first tokens, the last tokens and the tags of its words, (n_windows,) of object."""
        flat = [tag for tags in self.values for tag in tags]  # (n_words,)
        found = np.empty(len(self.windows), dtype=object)  # (n_windows,)
        for window in range(len(found)):
            words = self.windows.words_of(window)
            found[window] = [self.windows.first[words], self.windows.last[words], [flat[word] for word in words]]
        return found

    def named(self) -> AbstractContextManager[Any]:
        """Return a context that changes no error."""
        return nullcontext()


def word_values(values: Tensor, first: Tensor, last: Tensor) -> Tensor:
    """Return values of words, as means over their tokens.

    Parameters
    ----------
    values : Tensor of shape (n, n_tokens, width)
        Values of the tokens of windows.
    first, last : Tensor of shape (n, n_words), int64
        Positions of the first and the last token of each word, negative for padding.

    Returns
    -------
    values : Tensor of shape (n, n_words, width)
        Zero or any token for padding.

    Examples
    --------
    >>> import torch
    >>> from sktransfer.tasks.tags import word_values
    >>> values = torch.tensor([[[1.0], [2.0], [6.0]]])
    >>> word_values(values, torch.tensor([[0, 1]]), torch.tensor([[0, 2]])).ravel().tolist()
    [1.0, 4.0]
    """
    if bool((first == last).all()):
        index = first.clamp(min=0)[..., None].expand(-1, -1, values.shape[2])  # (n, n_words, width)
        return values.gather(1, index)  # (n, n_words, width)
    position = torch.arange(values.shape[1], device=values.device)  # (n_tokens,)
    member = (position >= first[..., None]) & (position <= last[..., None])  # (n, n_words, n_tokens)
    share = member / member.sum(2, keepdim=True).clamp(min=1)  # (n, n_words, n_tokens)
    return share.to(values.dtype) @ values  # (n, n_words, width)


class Tags(Multiclass):
    """A tag per word. The head reads tokens, and the outputs of a word's tokens give those of the word.

    With `subword="mean"` the outputs are averaged. The head is linear, so this equals its output for the mean of the
    tokens' values. The loss of a window is the mean over the words that are read in it and whose tag is known. Its
    weight is that of the sentence times the number of these words, so that the loss of a batch is a mean over words.

    Parameters
    ----------
    subword : {"first", "last", "mean"}, default="mean"
        Token of a word that is read, or the mean of all of them.
    scheme : str, default=None
        Scheme of the tags that `decode_sequences` keeps to, as in `SCHEMES`. None for the most probable tag per word.
    class_weight : dict or "balanced", default=None
        Weight of the words of each tag.
    label_smoothing : float, default=0.0
        Share of each target that is spread evenly over the tags.
    criterion : Criterion, default=None
        Loss of the logits of words and their tags as indices; None for the cross entropy.

    Examples
    --------
    >>> import numpy as np
    >>> from sktransfer.tasks.tags import Tags
    >>> y = np.empty(1, dtype=object)
    >>> y[0] = [np.array([1, 2]), np.array([1, 4]), ["DET", "NOUN"]]  # tokens of each word, and its tag
    >>> task = Tags("mean")
    >>> task.encode(y, np.ones(1)).values[0].tolist(), task.classes.tolist()
    ([[1, 1, 0], [2, 4, 1]], ['DET', 'NOUN'])
    """

    kind = "tags"
    reads = "tokens"
    scored_unit = "word"
    stratifies = False
    factors: np.ndarray | None = None  # of the words of each tag, (n_classes,)

    def __init__(
        self,
        subword: str = "mean",
        scheme: str | None = None,
        class_weight: ClassWeight = None,
        label_smoothing: float = 0.0,
        criterion: Criterion | None = None,
    ) -> None:
        super().__init__(class_weight, label_smoothing, criterion=criterion)
        self.subword, self.scheme = subword, scheme

    def encode(self, y: np.ndarray, weight: np.ndarray) -> Targets:
        """Return per window the tokens and the index of the tag of each word, (n_words, 3), and weights of windows.

        Parameters
        ----------
        y : ndarray of shape (n_windows,), object
            Result of `GivenTags.check`.
        weight : ndarray of shape (n_windows,)
            Weight of the sentence of each window.
        """
        known = [np.array([tag is not None for tag in tags], dtype=bool) for *_, tags in y]  # of (n_words,) each
        flat = [tag for *_, tags in y for tag in tags if tag is not None]
        if not flat and self.classes is None:
            raise ValueError("y has no tag that is known: all are None or NaN; give the tags of some words")
        codes = self.encode_labels(np.array(flat)) if flat else np.empty(0, np.int64)  # (n_known,)
        if self.class_weight is not None and self.factors is None:
            self.factors = self._find_factors(codes)
        by_window = np.split(codes, np.cumsum([one.sum() for one in known])[:-1])
        values = [
            self._of_window(first[some], last[some], own) for (first, last, _), some, own in zip(y, known, by_window)
        ]
        return Targets(values, weight * np.array([self._of_words(one[:, _CODE]).sum() for one in values]))

    def _of_window(self, first: np.ndarray, last: np.ndarray, codes: np.ndarray) -> Tensor:
        """Return the targets of the words of a window that have a weight, (n_words, 3)."""
        first, last = {"first": (first, first), "last": (last, last), "mean": (first, last)}[self.subword]
        rows = torch.from_numpy(np.stack([first, last, codes], axis=1).astype(np.int64))  # (n_words, 3)
        return rows[self._of_words(rows[:, _CODE]) > 0]

    def _of_words(self, codes: Tensor) -> Tensor:
        """Return the weight of words by their tags, of the shape of the codes. Padding has none."""
        known = (codes >= 0).float()
        if self.factors is None:
            return known
        return known * torch.as_tensor(self.factors, dtype=torch.float32, device=codes.device)[codes.clamp(min=0)]

    def _find_factors(self, codes: np.ndarray) -> np.ndarray:
        """Return the weight of the words of each tag, (n_classes,). "balanced" gives all tags of y the same sum."""
        assert self.classes is not None
        if balances(self.class_weight):
            counts = np.bincount(codes, minlength=len(self.classes))  # (n_classes,)
            return np.where(counts > 0, len(codes) / np.maximum(counts, 1) / np.count_nonzero(counts), 0.0)
        if not isinstance(self.class_weight, Mapping):
            raise InvalidParameterError(f"class_weight={self.class_weight!r} must be a dict, 'balanced' or None")
        factors = np.asarray(compute_class_weight(dict(self.class_weight), classes=self.classes, y=self.classes))
        if not (np.isfinite(factors).all() and (factors >= 0).all() and factors.any()):
            raise InvalidParameterError(
                f"class_weight={self.class_weight!r} must hold finite numbers of at least 0, not all of them 0"
            )
        return factors

    def unknown(self, n_samples: int) -> Targets:
        """Return windows without words."""
        if self.classes is None:
            raise ValueError(NOTHING_KNOWN)
        return Targets([torch.zeros(0, 3, dtype=torch.int64)] * n_samples, np.zeros(n_samples))

    def strata(self, targets: Targets) -> np.ndarray:
        """Return whether each window has each tag, (n_windows, n_classes)."""
        assert self.classes is not None
        members = np.zeros((len(targets), len(self.classes)), dtype=bool)
        for row in np.flatnonzero(targets.weight):
            members[row, targets.values[row][:, _CODE].numpy()] = True
        return members

    def sample_rows(self, targets: Targets, n_vectors: int) -> np.ndarray:
        """Return the windows that a probe learns from: all, or evenly spaced ones that have about so many words."""
        rows = np.flatnonzero(targets.weight)
        n_words = sum(len(targets.values[row]) for row in rows)
        if n_words <= n_vectors:
            return rows
        n_rows = max(1, len(rows) * n_vectors // n_words)
        spaced: np.ndarray = rows[np.linspace(0, len(rows) - 1, n_rows).round().astype(int)]
        return spaced

    def vectors(self, values: Tensor, target: Any, weight: float) -> tuple[Tensor, np.ndarray, np.ndarray]:
        """Return the values (n_words, n_features), tags and weights of the words of a window."""
        first, last, codes = target.unbind(1)  # (n_words,) each
        of_words = self._of_words(codes).double().numpy()  # (n_words,)
        read = word_values(values[None].float(), first[None], last[None])[0]  # (n_words, n_features)
        return read, codes.numpy(), weight * of_words / of_words.sum()

    def loss(self, outputs: Tensor | None, targets: Tensor, features: Tensor) -> Tensor:
        """Return the mean loss over the known words of each window, (n,).

        Parameters
        ----------
        outputs : Tensor of shape (n, n_tokens, n_classes)
            Logits of tokens.
        targets : Tensor of shape (n, n_words, 3)
            First token, last token and tag of each word, -100 for padding.
        features : Tensor
            Not used.
        """
        assert outputs is not None
        first, last, codes = targets.unbind(2)  # (n, n_words) each
        known, weight = codes >= 0, self._of_words(codes)  # (n, n_words) each
        logits = word_values(outputs, first, last)[known]  # (n_known, n_classes)
        losses = torch.zeros_like(weight).masked_scatter(known, super().loss(logits, codes[known], features))
        return (losses * weight).sum(1) / weight.sum(1).clamp(min=torch.finfo(weight.dtype).tiny)  # (n,)

    def scored(self, outputs: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the logits (n_known, n_classes) and the tags (n_known,) of the known words of a batch."""
        first, last, codes = torch.from_numpy(targets).unbind(2)  # (n, n_words) each
        logits = word_values(torch.from_numpy(outputs), first, last)  # (n, n_words, n_classes)
        known = codes >= 0
        return logits[known].numpy(), codes[known].numpy()

    def decode_sequences(self, outputs: Sequence[np.ndarray]) -> list[list[Any]]:
        """Return the tags of each sentence: the most probable ones, or the most probable sequence of the scheme.

        Parameters
        ----------
        outputs : sequence of n_sentences ndarray of shape (n_words, n_classes)
            Logits of words.
        """
        assert self.classes is not None
        if self.scheme is None:
            codes = [one.argmax(1) for one in outputs]
        else:
            scores = [log_softmax(one.astype(np.float64), axis=1) for one in outputs]
            codes = best_sequences(scores, scheme_transitions(self.classes, self.scheme))
        return [self.classes[one].tolist() for one in codes]
