"""Folds and scores of several tasks for scikit-learn's model selection."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import numpy as np
from sklearn.metrics import get_scorer
from sklearn.model_selection import BaseCrossValidator
from sklearn.utils import _safe_indexing, check_random_state
from sklearn.utils.metadata_routing import MetadataRequest
from sklearn.utils.validation import check_consistent_length

from sktransfer._validation import check_bool, check_int
from sktransfer.exceptions import InvalidParameterError, ValidationWarning, did_you_mean, warn
from sktransfer.samples.labels import row_labels
from sktransfer.targets.column import Column
from sktransfer.targets.table import check_task_weight, read_tasks
from sktransfer.tasks.base import Targets
from sktransfer.tasks.strata import assign_folds
from sktransfer.tasks.validation import check_none_missing

__all__ = ["MultiTaskKFold", "TaskScorer", "task_scorer"]


class MultiTaskKFold(BaseCrossValidator):  # type: ignore[misc]
    """Folds that keep the ratio of the classes of each task, if targets are missing.

    Each task and each class is in each fold if it has enough rows. Numbers are divided at their quintiles, and labels
    of an indicator matrix count each. Of merged data sets, each class of each set counts.

    Parameters
    ----------
    n_splits : int, default=5
        Number of folds.
    shuffle : bool, default=True
        Whether rows are assigned to folds in random order.
    random_state : int, RandomState instance or None, default=None
        Seed of the order. None for another one in each call of `split`. Must be None if `shuffle=False`.
    tasks : "auto" or dict of str to str, default="auto"
        Kind of some tasks, as `MultiTaskFineTuner` takes it. Give it to both, because the estimator infers the kinds
        anew in each fold.

    See Also
    --------
    sklearn.model_selection.StratifiedKFold : Folds of one task whose targets are all known.

    References
    ----------
    .. [1] K. Sechidis, G. Tsoumakas, I. Vlahavas, "On the Stratification of Multi-Label Data", ECML PKDD 2011.

    Examples
    --------
    >>> import pandas as pd
    >>> from sktransfer import MultiTaskKFold
    >>> y = pd.DataFrame({"topic": ["film", "book"] * 3, "tone": [None, None, "good", "bad", "good", "bad"]})
    >>> for train, test in MultiTaskKFold(2, random_state=0).split(y, y):
    ...     print(y.iloc[test].topic.value_counts().to_dict(), sorted(y.iloc[test].tone.dropna()))
    {'film': 2, 'book': 1} ['bad', 'good']
    {'book': 2, 'film': 1} ['bad', 'good']

    The kind of numbers that may be whole in a fold is given to the folds and to the estimator:

    >>> from sktransfer import MultiTaskFineTuner
    >>> tasks = {"stars": "continuous"}
    >>> folds, tuner = MultiTaskKFold(2, tasks=tasks, random_state=0), MultiTaskFineTuner("tiny/bert", tasks=tasks)
    >>> [test.tolist() for _, test in folds.split(None, pd.DataFrame({"stars": [1, 5, 4.5, 2, 1, 4]}))]
    [[0, 1, 5], [2, 3, 4]]
    """

    # Groups that a search gets for its folds need no request, as in scikit-learn's splitters of groups.
    __metadata_request__split: ClassVar[dict[str, bool]] = {"groups": True}

    def __init__(
        self, n_splits: int = 5, *, shuffle: bool = True, random_state: Any = None, tasks: Any = "auto"
    ) -> None:
        self.n_splits = check_int("n_splits", n_splits, 2)
        self.shuffle = check_bool("shuffle", shuffle)
        if not shuffle and random_state is not None:
            raise InvalidParameterError(
                f"random_state={random_state!r} has no effect with shuffle=False; leave it None, or set shuffle=True"
            )
        self.random_state = random_state
        self.tasks = tasks

    def split(self, X: Any, y: Any = None, groups: Any = None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield the rows of the training part and of the test part of each fold.

        Parameters
        ----------
        X : array-like of n_samples or None
            Samples. Only their number is read.
        y : DataFrame, dict, array of shape (n_samples, n_tasks) or Series
            Targets, as `MultiTaskFineTuner` takes them.
        groups : array-like of shape (n_samples,), default=None
            Group of each sample. Groups are not split.

        Yields
        ------
        train, test : ndarray of int

        Raises
        ------
        ValueError
            If y cannot be used, or there are fewer samples or groups than folds.

        Warns
        -----
        ValidationWarning
            If a task is known in too few rows for all folds.
        """
        table = read_tasks(y, self.tasks)
        check_consistent_length(range(table.n_samples), X, groups)
        strata = {name: _strata(column) for name, column in table.columns.items()}
        if groups is not None:
            check_none_missing(np.asarray(groups), "groups", "group", labels=row_labels(groups))
            groups = np.unique(np.asarray(groups), return_inverse=True)[1]  # (n_samples,)
        n_units, what = (table.n_samples, "samples") if groups is None else (len(np.unique(groups)), "groups")
        if n_units < self.n_splits:
            raise ValueError(f"n_splits={self.n_splits} is greater than the number of {what}, {n_units}")
        rng = check_random_state(self.random_state) if self.shuffle else None
        members = np.concatenate(list(strata.values()), axis=1)  # (n_samples, n_strata)
        fold = assign_folds(members, np.full(self.n_splits, 1 / self.n_splits), rng, groups)  # (n_samples,)
        self._warn_of_few(table.columns, fold)
        for test in range(self.n_splits):
            yield np.flatnonzero(fold != test), np.flatnonzero(fold == test)

    def _warn_of_few(self, columns: dict[str, Column], fold: np.ndarray) -> None:
        """Warn if a fold lacks a task."""
        few = [name for name, column in columns.items() if len(np.unique(fold[column.known])) < self.n_splits]
        if few:
            warn(
                f"the {'tasks' if len(few) > 1 else 'task'} {', '.join(map(repr, few))} cannot be in each of "
                f"{self.n_splits} folds: {columns[few[0]].n_known} rows know {few[0]!r}. Its scores are missing in "
                "some folds; set n_splits lower",
                ValidationWarning,
            )

    def get_n_splits(self, X: Any = None, y: Any = None, groups: Any = None) -> int:
        """Return the number of folds."""
        return self.n_splits


def _strata(column: Column) -> np.ndarray:
    """Return the strata of a task, (n_samples, n_strata)."""
    task = column.make_task()
    with column.named():
        targets: Targets = task.encode_known(column.check(task), column.known, np.ones(len(column.known)))
    return task.strata(targets)


def task_scorer(task: str, scoring: str | Callable[..., float] | None = None) -> TaskScorer:
    """Return a scorer of one task of a `MultiTaskFineTuner`, for scikit-learn's `scoring`.

    Only rows whose target is known in this task are scored. If the index of y names the data set of each row, as
    `merge_tasks` makes it, predictions and probabilities are among the classes that this data set had in the training.

    Parameters
    ----------
    task : str
        Name of the task.
    scoring : str or callable, default=None
        Name of a scorer of scikit-learn, such as "f1_macro" or "r2", or a scorer of `make_scorer`. None for the
        accuracy of classes, and R² of numbers.

    Returns
    -------
    scorer : callable
        Scorer `scorer(estimator, X, y, sample_weight=None)`. The estimator may also be a `Pipeline` or a search.

    Raises
    ------
    InvalidParameterError
        If `scoring` is not a scorer.

    Examples
    --------
    >>> from sktransfer import task_scorer
    >>> scoring = {"topic": task_scorer("topic", "f1_macro"), "stars": task_scorer("stars")}
    >>> scoring["topic"]
    task_scorer('topic', 'f1_macro')

    A search that scores numbers names their kind, so that it is the same in each fold:

    >>> import pandas as pd
    >>> from sklearn.model_selection import cross_validate
    >>> from sktransfer import MultiTaskFineTuner, MultiTaskKFold
    >>> texts, tasks = ["a good film", "dull", "a fine book", "bad"] * 2, {"stars": "continuous"}
    >>> tuner = MultiTaskFineTuner("tiny/bert", tasks=tasks, max_epochs=0, random_state=0)
    >>> y = pd.DataFrame({"stars": [4.5, 1, 5, 1, 4, 2, 5, 1]})
    >>> folds = MultiTaskKFold(2, tasks=tasks, random_state=0)
    >>> sorted(cross_validate(tuner, texts, y, cv=folds, scoring={"stars": scoring["stars"]}))
    ['fit_time', 'score_time', 'test_stars']
    """
    if not isinstance(task, str):
        raise InvalidParameterError(f"task={task!r} must be the name of a task, a str")
    return TaskScorer(task, scoring)


class TaskScorer:
    """Scorer of one task. `task_scorer` makes it.

    Parameters
    ----------
    task : str
        Name of the task.
    scoring : str, callable or None
        As `task_scorer` takes it.
    """

    def __init__(self, task: str, scoring: Any) -> None:
        self.task, self.scoring = task, scoring
        self._scorer = self._resolve()
        self._request = MetadataRequest(owner=repr(self))
        self._request.score.add_request(param="sample_weight", alias=None)

    def _resolve(self) -> Any:
        """Return a function of estimator, X, y and sample_weight."""
        if self.scoring is None:
            return _own_score
        if not isinstance(self.scoring, str) and not callable(self.scoring):
            raise InvalidParameterError(f"scoring={self.scoring!r} must be the name of a scorer, a scorer or None")
        try:
            return get_scorer(self.scoring)
        except ValueError as error:
            raise InvalidParameterError(f"scoring={self.scoring!r}: {error}") from error

    def __call__(self, estimator: Any, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return the score of the task over the rows where its target is known.

        Parameters
        ----------
        estimator : MultiTaskFineTuner
            Fitted estimator, or a `Pipeline` or search of it.
        X : array-like of n_samples
            Samples.
        y : DataFrame, dict, array or Series
            Targets of all tasks.
        sample_weight : array-like of shape (n_samples,) or (n_samples, n_tasks), DataFrame or dict, default=None
            Weights per row, or per row and task.

        Raises
        ------
        ValueError
            If the estimator has no such task, or no row has a known target.
        """
        estimator, X = _innermost(estimator, X)
        names = getattr(estimator, "tasks_", None)
        if names is None or not hasattr(estimator, "task"):
            raise ValueError(f"task_scorer scores a fitted MultiTaskFineTuner, and not a {type(estimator).__name__}")
        if self.task not in names:
            raise ValueError(
                f"there is no task {self.task!r}; the tasks are {list(names)}.{did_you_mean(self.task, names)}"
            )
        table = read_tasks(y, like=estimator._schema)
        check_consistent_length(X, range(table.n_samples))
        column = table.columns[self.task]
        rows = np.flatnonzero(column.known)
        if not len(rows):
            raise ValueError(
                f"no row has a known target of the task {self.task!r}, so there is nothing to score: MultiTaskKFold "
                "keeps each task in each fold"
            )
        alone = estimator.task(self.task)
        alone._tasks = {name: task.for_rows(column.check(task)) for name, task in alone._tasks.items()}
        options = {}
        if sample_weight is not None:
            known = {name: one.known for name, one in table.columns.items()}
            weight = check_task_weight(sample_weight, names, table.n_samples, known)[self.task]
            options["sample_weight"] = weight[rows]
        values = np.asarray(column.values)  # (n_known, ...)
        return float(self._scorer(alone, _safe_indexing(X, rows), values, **options))

    def set_score_request(self, *, sample_weight: bool | str | None) -> TaskScorer:
        """Return a scorer that requests weights or not, if metadata routing is enabled.

        Parameters
        ----------
        sample_weight : bool, str or None
            Whether weights are passed on, or the name under which they are given.

        Returns
        -------
        scorer : callable
            New scorer.
        """
        scorer = TaskScorer(self.task, self.scoring)
        scorer._request.score.add_request(param="sample_weight", alias=sample_weight)
        return scorer

    def get_metadata_routing(self) -> MetadataRequest:
        """Return the metadata that are requested."""
        return self._request

    def __repr__(self) -> str:
        given = "" if self.scoring is None else f", {self.scoring!r}"
        return f"task_scorer({self.task!r}{given})"


def _own_score(estimator: Any, X: Any, y: Any, **options: Any) -> float:
    return float(estimator.score(X, y, **options))


def _innermost(estimator: Any, X: Any) -> tuple[Any, Any]:
    """Return the last step of pipelines and the best estimator of searches, and X as it takes it."""
    while True:
        if hasattr(estimator, "best_estimator_"):
            estimator = estimator.best_estimator_
        elif hasattr(estimator, "steps"):
            X = estimator[:-1].transform(X) if len(estimator.steps) > 1 else X
            estimator = estimator.steps[-1][1]
        else:
            return estimator, X
