"""Scores of tags: accuracy of words, and F1 of spans."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from sktransfer._validation import check_option, is_real
from sktransfer.exceptions import InvalidParameterError, TargetWarning, warn
from sktransfer.samples.labels import row_labels
from sktransfer.tagging.schemes import SCHEMES, guess_scheme, invalid_tags, scheme_named, spans_of_rows
from sktransfer.tagging.sequences import check_pair

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["span_f1_score", "span_precision_score", "span_recall_score", "span_report", "tag_accuracy_score"]

_AVERAGES = ("micro", "macro", "weighted")


def tag_accuracy_score(y_true: Any, y_pred: Any, *, sample_weight: Any = None) -> float:
    """Return the share of words whose tag is right.

    Parameters
    ----------
    y_true : list of n_sentences lists of n_words tags
        True tags. Words whose tag is not known (None) are left out.
    y_pred : list of n_sentences lists of n_words tags
        Predicted tags.
    sample_weight : array-like of shape (n_sentences,), default=None
        Weight of each sentence. Each of its words has this weight.

    Returns
    -------
    accuracy : float

    Raises
    ------
    ValueError
        If lengths differ (the message names the row and both lengths), or no word with a known tag has a weight.

    Examples
    --------
    >>> from sktransfer import tag_accuracy_score
    >>> tag_accuracy_score([["DET", "NOUN"], ["VERB", None]], [["DET", "VERB"], ["VERB", "X"]])  # doctest: +ELLIPSIS
    0.666...
    """
    true, predicted = check_pair(y_true, y_pred)
    weight = _check_weight(sample_weight, len(true))
    right, known = np.zeros(len(true)), np.zeros(len(true))
    for row, (tags, others) in enumerate(zip(true, predicted, strict=True)):
        right[row] = sum(tag is not None and tag == other for tag, other in zip(tags, others, strict=True))
        known[row] = sum(tag is not None for tag in tags)
    total = weight @ known
    if total == 0:
        raise ValueError("y_true has no word whose tag is known and whose sentence has a weight greater than 0")
    return float(weight @ right / total)


def span_f1_score(
    y_true: Any,
    y_pred: Any,
    *,
    scheme: str = "IOB2",
    average: str | None = "micro",
    sample_weight: Any = None,
    zero_division: str | float = "warn",
) -> float | np.ndarray:
    """Return the F1 score of spans. A predicted span is right if its first word, last word and type are.

    Spans are read strictly: tags that break the scheme make no span. This equals the strict mode of seqeval. The
    script conlleval reads such tags as spans, and its scores can be higher. `convert_scheme(y_pred, scheme, scheme,
    invalid="repair")` reads them so.

    Parameters
    ----------
    y_true, y_pred : list of n_sentences lists of str
        True and predicted tags, one per word.
    scheme : {"IO", "IOB1", "IOB2", "BIOES", "BILOU"}, default="IOB2"
        Scheme of the tags.
    average : {"micro", "macro", "weighted"} or None, default="micro"
        "micro" counts the spans of all types together. "macro" is the mean over the types in `y_true` or `y_pred`, and
        "weighted" the mean weighted by the number of true spans. None returns a score per type, types sorted.
    sample_weight : array-like of shape (n_sentences,), default=None
        Weight of each sentence. Each of its spans has this weight.
    zero_division : "warn", 0.0, 1.0 or nan, default="warn"
        Score if there are neither true nor predicted spans. "warn" is 0 with a warning.

    Returns
    -------
    score : float or ndarray of shape (n_types,)

    Raises
    ------
    ValueError
        If lengths differ, a tag is not known, or a tag is not of the scheme. The message names row and position.

    Warns
    -----
    UndefinedMetricWarning
        If there are no spans and `zero_division="warn"`.
    TargetWarning
        If `y_true` breaks the scheme and follows another one, so that spans are missed.

    See Also
    --------
    span_report : Precision, recall and F1 of each type in one table.

    References
    ----------
    Tjong Kim Sang and De Meulder (2003), Introduction to the CoNLL-2003 shared task.

    Examples
    --------
    >>> from sklearn.metrics import make_scorer
    >>> from sktransfer import span_f1_score
    >>> y_true = [["B-PER", "I-PER", "O", "B-LOC"]]
    >>> y_pred = [["B-PER", "O", "O", "B-LOC"]]
    >>> span_f1_score(y_true, y_pred)
    0.5
    >>> scoring = make_scorer(span_f1_score, scheme="IOB2", zero_division=0.0)
    """
    return _span_score("F1", y_true, y_pred, scheme, average, sample_weight, zero_division)


def span_precision_score(
    y_true: Any,
    y_pred: Any,
    *,
    scheme: str = "IOB2",
    average: str | None = "micro",
    sample_weight: Any = None,
    zero_division: str | float = "warn",
) -> float | np.ndarray:
    """Return the share of predicted spans that are right, in first word, last word and type.

    Parameters
    ----------
    y_true, y_pred : list of n_sentences lists of str
        True and predicted tags, one per word.
    scheme : {"IO", "IOB1", "IOB2", "BIOES", "BILOU"}, default="IOB2"
        Scheme of the tags.
    average : {"micro", "macro", "weighted"} or None, default="micro"
        Average over types, as in `span_f1_score`.
    sample_weight : array-like of shape (n_sentences,), default=None
        Weight of each sentence. Each of its spans has this weight.
    zero_division : "warn", 0.0, 1.0 or nan, default="warn"
        Score if there are no predicted spans. "warn" is 0 with a warning.

    Returns
    -------
    score : float or ndarray of shape (n_types,)

    Raises
    ------
    ValueError
        If lengths differ, a tag is not known, or a tag is not of the scheme. The message names row and position.

    Examples
    --------
    >>> from sktransfer import span_precision_score
    >>> span_precision_score([["B-PER", "O", "B-LOC"]], [["B-PER", "O", "O"]])
    1.0
    """
    return _span_score("precision", y_true, y_pred, scheme, average, sample_weight, zero_division)


def span_recall_score(
    y_true: Any,
    y_pred: Any,
    *,
    scheme: str = "IOB2",
    average: str | None = "micro",
    sample_weight: Any = None,
    zero_division: str | float = "warn",
) -> float | np.ndarray:
    """Return the share of true spans that are predicted, in first word, last word and type.

    Parameters
    ----------
    y_true, y_pred : list of n_sentences lists of str
        True and predicted tags, one per word.
    scheme : {"IO", "IOB1", "IOB2", "BIOES", "BILOU"}, default="IOB2"
        Scheme of the tags.
    average : {"micro", "macro", "weighted"} or None, default="micro"
        Average over types, as in `span_f1_score`.
    sample_weight : array-like of shape (n_sentences,), default=None
        Weight of each sentence. Each of its spans has this weight.
    zero_division : "warn", 0.0, 1.0 or nan, default="warn"
        Score if there are no true spans. "warn" is 0 with a warning.

    Returns
    -------
    score : float or ndarray of shape (n_types,)

    Raises
    ------
    ValueError
        If lengths differ, a tag is not known, or a tag is not of the scheme. The message names row and position.

    Examples
    --------
    >>> from sktransfer import span_recall_score
    >>> span_recall_score([["B-PER", "O", "B-LOC"]], [["B-PER", "O", "O"]])
    0.5
    """
    return _span_score("recall", y_true, y_pred, scheme, average, sample_weight, zero_division)


def span_report(
    y_true: Any, y_pred: Any, *, scheme: str = "IOB2", sample_weight: Any = None, zero_division: str | float = 0.0
) -> pd.DataFrame:
    """Return precision, recall and F1 of the spans of each type, and their averages.

    Parameters
    ----------
    y_true, y_pred : list of n_sentences lists of str
        True and predicted tags, one per word.
    scheme : {"IO", "IOB1", "IOB2", "BIOES", "BILOU"}, default="IOB2"
        Scheme of the tags.
    sample_weight : array-like of shape (n_sentences,), default=None
        Weight of each sentence. Each of its spans has this weight.
    zero_division : "warn", 0.0, 1.0 or nan, default=0.0
        Score of a ratio of zero spans. "warn" is 0 with a warning.

    Returns
    -------
    table : DataFrame
        One row per type, and the rows "micro avg", "macro avg" and "weighted avg". The columns are precision, recall,
        f1-score and support, the number (or weight) of true spans.

    Raises
    ------
    ValueError
        If lengths differ, a tag is not known, or a tag is not of the scheme. The message names row and position.

    Examples
    --------
    >>> from sktransfer import span_report
    >>> y_true = [["B-PER", "I-PER", "O", "B-LOC"]]
    >>> print(span_report(y_true, [["B-PER", "O", "O", "B-LOC"]]).round(2))
                  precision  recall  f1-score  support
    LOC                 1.0     1.0       1.0      1.0
    PER                 0.0     0.0       0.0      1.0
    micro avg           0.5     0.5       0.5      2.0
    macro avg           0.5     0.5       0.5      2.0
    weighted avg        0.5     0.5       0.5      2.0
    """
    import pandas as pd

    default = _check_zero_division(zero_division)
    types, counts = _count(y_true, y_pred, scheme, sample_weight)
    columns = {}
    for name, title in (("precision", "precision"), ("recall", "recall"), ("F1", "f1-score")):
        averages = [_average(name, counts, average, default, zero_division == "warn") for average in _AVERAGES]
        columns[title] = [*_ratios(name, counts, default, False), *averages]
    support = counts[2]
    columns["support"] = [*support, *[support.sum()] * len(_AVERAGES)]
    return pd.DataFrame(columns, index=[*types, *(f"{average} avg" for average in _AVERAGES)])


def _span_score(
    name: str, y_true: Any, y_pred: Any, scheme: str, average: str | None, weight: Any, zero_division: str | float
) -> float | np.ndarray:
    if average is not None:
        check_option("average", average, _AVERAGES, "None")
    default = _check_zero_division(zero_division)
    _, counts = _count(y_true, y_pred, scheme, weight)
    warns = zero_division == "warn"
    return _ratios(name, counts, default, warns) if average is None else _average(name, counts, average, default, warns)


def _check_zero_division(value: Any) -> float:
    if value == "warn":
        return 0.0
    if not is_real(value) or not (value in (0, 1) or value != value):
        raise InvalidParameterError(f"zero_division={value!r} must be one of 'warn', 0.0, 1.0 and nan")
    return float(value)


def _check_weight(weight: Any, n_sentences: int) -> np.ndarray:
    if weight is None:
        return np.ones(n_sentences)
    from sklearn.utils.validation import column_or_1d

    values: np.ndarray = column_or_1d(np.asarray(weight, dtype=np.float64))
    if len(values) != n_sentences:
        raise ValueError(f"sample_weight has {len(values)} values for {n_sentences} sentences; give one per sentence")
    bad = np.flatnonzero(~np.isfinite(values) | (values < 0))
    if len(bad):
        raise ValueError(f"sample_weight[{bad[0]}] is {values[bad[0]]}, and must be finite and not negative")
    return values


def _count(y_true: Any, y_pred: Any, scheme: str, sample_weight: Any) -> tuple[list[str], np.ndarray]:
    """Return the types, and the numbers of right, predicted and true spans of each, of shape (3, n_types)."""
    known = scheme_named("scheme", scheme)
    rows, others = check_pair(y_true, y_pred)
    weight = _check_weight(sample_weight, len(rows))
    true = spans_of_rows(rows, known, "y_true", row_labels(y_true))
    predicted = spans_of_rows(others, known, "y_pred", row_labels(y_pred))
    _warn_of_another_scheme(rows, scheme.upper())
    used = [row for row, row_weight in enumerate(weight) if row_weight > 0]
    types = sorted({span.type for row in used for span in (*true[row], *predicted[row])})
    position = {name: i for i, name in enumerate(types)}
    counts = np.zeros((3, len(types)))
    for row in used:
        right = set(true[row]) & set(predicted[row])
        for i, spans in enumerate((right, predicted[row], true[row])):
            for span in spans:
                counts[i, position[span.type]] += weight[row]
    return types, counts


def _warn_of_another_scheme(rows: list[list[Any]], scheme: str) -> None:
    n_invalid = sum(1 for _ in invalid_tags(rows, SCHEMES[scheme]))
    if n_invalid and (found := guess_scheme(rows)) not in (None, scheme):
        warn(
            f"y_true follows the scheme {found}, and its spans are read by scheme={scheme!r}, which {n_invalid} of its "
            f"tags break. Such tags make no span. Pass scheme={found!r}, or write y_true and y_pred in {scheme} by "
            "convert_scheme",
            TargetWarning,
        )


def _ratios(name: str, counts: np.ndarray, default: float, warns: bool) -> np.ndarray:
    """Return the ratio of each column of counts, of shape (n_types,)."""
    right, predicted, true = counts
    above, below, what = {
        "precision": (right, predicted, "predicted spans"),
        "recall": (right, true, "true spans"),
        "F1": (2 * right, predicted + true, "true or predicted spans"),
    }[name]
    if warns and not below.all():
        from sklearn.exceptions import UndefinedMetricWarning

        where = "" if len(below) == 1 else " of some types"
        warn(
            f"there are no {what}{where}, so that {name} is not defined and set to 0; zero_division=... sets another "
            "value, without this warning",
            UndefinedMetricWarning,
        )
    ratios: np.ndarray = np.divide(above, below, out=np.full(len(below), default), where=below > 0)
    return ratios


def _average(name: str, counts: np.ndarray, average: str, default: float, warns: bool) -> float:
    if average == "micro" or not counts.shape[1]:
        counts = counts.sum(1, keepdims=True)  # (3, 1)
    ratios = _ratios(name, counts, default, warns)
    support = counts[2]
    if average == "weighted" and support.sum() > 0:
        known = ~np.isnan(ratios) & (support > 0)
        return float(np.average(ratios[known], weights=support[known])) if known.any() else float("nan")
    known = ~np.isnan(ratios)
    return float(ratios[known].mean()) if known.any() else float("nan")
