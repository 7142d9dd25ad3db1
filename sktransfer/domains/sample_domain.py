"""Domains of samples: the convention of `sample_domain`, and rows without a label as the target."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pandas as pd
from sklearn.utils.validation import check_consistent_length

from sktransfer.exceptions import TargetWarning, name_row, warn
from sktransfer.samples.labels import label_of, row_labels
from sktransfer.targets.reading import known_values
from sktransfer.tasks.labels import column_names, refuse_label_lists
from sktransfer.tasks.validation import as_labels, check_numbers

__all__ = ["FEWEST", "Domains", "check_domain", "read_domains", "read_signs"]

_CONVENTION = (
    "a positive integer is a source domain, whose labels are learned, and a negative one a target domain, whose labels "
    "are not used"
)
FEWEST = 2  # samples of a domain, because the spread of one is undefined


@dataclasses.dataclass(frozen=True)
class Domains:
    """Domains of the samples of a fit, and the labels that are learned.

    Parameters
    ----------
    sign : ndarray of shape (n_samples,), int64
        1 for a sample of a source domain, -1 for one of a target domain.
    ids : ndarray of shape (n_domains,), int64
        Different values of `sample_domain`, sorted. -1 and 1 if it was not given.
    known : ndarray of shape (n_samples,), bool
        Whether the label of each sample is learned: it is known, and the sample is of a source domain.
    labels : ndarray or DataFrame of shape (n_known,) or (n_known, n_labels)
        Labels of these samples, a copy.
    """

    sign: np.ndarray
    ids: np.ndarray
    known: np.ndarray
    labels: Any

    @property
    def is_source(self) -> np.ndarray:
        """Whether each sample is of a source domain, (n_samples,) bool."""
        return self.sign > 0

    @property
    def is_target(self) -> np.ndarray:
        """Whether each sample is of a target domain, (n_samples,) bool."""
        return self.sign < 0


def read_domains(y: Any, sample_domain: Any = None) -> Domains:
    """Return the domains of samples.

    `sample_domain` has the signs of skada: positive for a source domain, negative for a target domain. 0 is refused,
    because skada reads it as a source and its own functions negate it. Without `sample_domain`, samples with a label
    are the source, and samples without one, None or NaN, are the target.

    Parameters
    ----------
    y : array-like of shape (n_samples,) or (n_samples, n_labels)
        Labels of any type, not changed. A label may be missing.
    sample_domain : array-like of shape (n_samples,), default=None
        Domain of each sample, an integer.

    Raises
    ------
    ValueError
        If there are no two domains of two samples or more, `sample_domain` does not fit y, or no sample of a source
        domain has a label.

    Warns
    -----
    TargetWarning
        If samples of a target domain have labels. They are not used. If all of them are -1, which no source sample has,
        they are masked as skada does it, and there is no warning.
    DataConversionWarning
        If y is a column vector, as in scikit-learn.

    Examples
    --------
    >>> from sktransfer.domains.sample_domain import read_domains
    >>> domains = read_domains(["good", "bad", None, None])
    >>> domains.is_target.tolist(), domains.labels.tolist()
    ([False, False, True, True], ['good', 'bad'])
    >>> read_domains([0, 1, -1, -1], sample_domain=[1, 2, -3, -3]).ids.tolist()
    [-3, 1, 2]
    """
    y = as_labels(y) if getattr(y, "shape", ())[1:] == (1,) else y  # warns of a column vector, as scikit-learn does
    sign, ids, values, known = read_signs(y, sample_domain)
    _check_both(sign, given=sample_domain is not None, y=values)
    learned = known & (sign > 0)  # (n_samples,)
    if not learned.any():
        raise ValueError(
            f"no sample of the source domains {ids[ids > 0].tolist()} has a label, so there is nothing to learn: give "
            "labels to samples of a positive domain"
        )
    is_learned = learned[known]  # (n_known,)
    if not is_learned.all():
        _warn_of_target_labels(values[is_learned], values[~is_learned])
    labels: Any = values[is_learned]  # (n_learned, ...), a copy
    names = column_names(y) if labels.ndim > 1 else None
    return Domains(sign, ids, learned, labels if names is None else pd.DataFrame(labels, columns=names))


def read_signs(y: Any, sample_domain: Any = None) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return the domains of samples to score, of which one domain may be missing and target labels may be known.

    Parameters
    ----------
    y : array-like of shape (n_samples,) or (n_samples, n_labels)
        Labels of any type, not changed. A label may be missing.
    sample_domain : array-like of shape (n_samples,), default=None
        Domain of each sample, as `read_domains` takes it.

    Returns
    -------
    sign : ndarray of shape (n_samples,), int64
        1 for a sample of a source domain, -1 for one of a target domain.
    ids : ndarray of shape (n_domains,), int64
        Different values of `sample_domain`, sorted. -1 and 1 if it was not given.
    values : ndarray of shape (n_known,) or (n_known, n_labels)
        Labels that are known.
    known : ndarray of shape (n_samples,), bool
        Whether the label of each sample is known.

    Raises
    ------
    ValueError
        If `sample_domain` does not fit y, or holds something else than positive and negative integers, or y holds lists
        of labels.

    Examples
    --------
    >>> from sktransfer.domains.sample_domain import read_signs
    >>> sign, ids, values, known = read_signs([0, 1, None], sample_domain=[1, -1, -1])
    >>> sign.tolist(), values.tolist(), known.tolist()
    ([1, -1, -1], [0, 1], [True, True, False])
    """
    values, known = known_values(y, "y", row_labels(y))  # (n_known, ...), (n_samples,)
    rows = values.tolist() if values.dtype == object else []
    if rows and all(isinstance(one, (list, tuple, np.ndarray)) for one in rows) and len(set(map(len, rows))) == 1:
        values = np.array(rows)  # (n_known, n_labels), of indicators as lists
    refuse_label_lists(values)
    if sample_domain is None:
        return np.where(known, 1, -1), np.array([-1, 1]), values, known
    domain = check_domain(sample_domain, len(known))
    return np.sign(domain), np.unique(domain), values, known


def check_domain(sample_domain: Any, n_samples: int) -> np.ndarray:
    """Return the domain of each sample (n_samples,), int64, without zeros.

    Parameters
    ----------
    sample_domain : array-like of shape (n_samples,)
        Domain of each sample, as given by the user.
    n_samples : int
        Number of samples.

    Raises
    ------
    ValueError
        If a domain is missing, 0 or no integer, or their number differs from that of the samples.
    """
    given = as_labels(sample_domain, "sample_domain")
    if given.dtype.kind == "b":
        raise ValueError(
            f"sample_domain holds booleans, and {_CONVENTION}: for a mask of the target pass np.where(mask, -1, 1)"
        )
    if given.dtype.kind in "US":
        raise ValueError(f"sample_domain holds strings such as {str(given[0])!r}, and {_CONVENTION}")
    numbers = check_numbers(sample_domain, "sample_domain", "domain").reshape(len(given))  # (n_samples,)
    if len(numbers) != n_samples:
        raise ValueError(
            f"sample_domain has {len(numbers)} values, and y has {n_samples} rows: pass the domain of each sample"
        )
    check_consistent_length(range(n_samples), numbers)
    for wrong, problem in (
        (numbers == 0, "0 is ambiguous, because some functions of skada read it as a source"),
        (numbers != np.round(numbers), "a domain is an integer"),
    ):
        if wrong.any():
            row = int(np.flatnonzero(wrong)[0])
            where = name_row(row, label_of(row_labels(sample_domain), row), "sample_domain")
            raise ValueError(f"{where} is {given[row]}, and {problem}: {_CONVENTION}")
    return numbers.astype(np.int64)


def _check_both(sign: np.ndarray, *, given: bool, y: np.ndarray) -> None:
    """Raise unless there are two samples or more of both kinds of domains."""
    counts = {"source": int((sign > 0).sum()), "target": int((sign < 0).sum())}
    for kind, count in counts.items():
        if count >= FEWEST:
            continue
        few = "no sample" if count == 0 else "one sample only"
        if given:
            remedy = f"{_CONVENTION}. Give {'positive' if kind == 'source' else 'negative'} values to samples of it"
        elif kind == "source":
            remedy = "samples with a label are the source: give labels, or pass sample_domain"
        else:
            marks = [-1] if y.dtype.kind in "iuf" else ["", "nan", "None", "-1"]
            marked = [one for one in marks if y.ndim == 1 and one in y.tolist()]
            missing = "NaN" if marks == [-1] else "None"
            hint = f". A label of {marked[0]!r} is a label: replace it by {missing}" if marked else ""
            remedy = f"samples whose y is None or NaN are the target: set y so, or pass sample_domain{hint}"
        raise ValueError(
            f"the {kind} domain has {few} of {len(sign)}, and an alignment of domains takes {FEWEST} of each: {remedy}"
        )


def _warn_of_target_labels(source: np.ndarray, target: np.ndarray) -> None:
    """Warn of labels (n_target,) of target samples, unless all are masked by -1."""
    if source.ndim > 1:
        new: list[Any] = []
    else:
        new = sorted(set(target.tolist()) - set(source.tolist()), key=repr)
        if new == [-1] and (target == -1).all():
            return
    unseen = ""
    if new:
        shown = f"{', '.join(map(repr, new[:5]))}{', ...' if len(new) > 5 else ''}"
        unseen = f" Among them are labels that no source sample has, and that are therefore never predicted: {shown}."
    warn(
        f"{len(target)} samples of target domains have labels in y, which are not used.{unseen} To learn from them, "
        "give these samples a positive domain",
        TargetWarning,
    )
