"""Classes of merged data sets, each of which knows some of them."""

from __future__ import annotations

import copy
from typing import Any, Self

import numpy as np
import torch
from scipy.optimize import minimize
from scipy.special import log_softmax
from sklearn.utils.class_weight import compute_sample_weight
from threadpoolctl import threadpool_limits
from torch import Tensor
from torch.nn import functional

from sktransfer.engine.choice_targets import ChoiceTargets
from sktransfer.engine.head_strength import HeadStrength
from sktransfer.engine.layer_choice import LayerChoice
from sktransfer.exceptions import ValidationWarning, warn
from sktransfer.tasks.base import NOTHING_KNOWN, Targets
from sktransfer.tasks.classification import Multiclass, balances
from sktransfer.tasks.head_init import (
    linear_head,
    linear_input,
    of_different,
    probe_strength,
    standardize,
    write_linear,
)

__all__ = ["SOURCE", "MergedMulticlass", "partial_probe", "sources_of"]

SOURCE = "merged_source"  # level of the index of y with the data set of each row; users have no such level of their own
_REMEDY = (
    "If data sets name the same class otherwise, give labels to merge_tasks. If the classes of all data sets exclude "
    f"each other, pass y.droplevel({SOURCE!r}) for a softmax over all classes"
)
_NEVER = -1e4  # logit of a class that the data set of a row does not know, in scores and in losses of the user


def sources_of(y: Any) -> np.ndarray | None:
    """Return the data set of each row as strings (n_samples,), or None if the index of y does not name them.

    Parameters
    ----------
    y : object
        Targets as given by the user. The index of a Series or data frame may have a level "merged_source".

    Examples
    --------
    >>> import pandas as pd
    >>> from sktransfer.tasks.merged import sources_of
    >>> index = pd.MultiIndex.from_tuples([("imdb", 0), ("trec", 0)], names=["merged_source", "row"])
    >>> sources_of(pd.Series(["good", "person"], index)), sources_of(["good"])
    (array(['imdb', 'trec'], dtype='<U4'), None)
    """
    index = getattr(y, "index", None)
    if index is None or SOURCE not in (getattr(index, "names", None) or ()):
        return None
    return np.array([str(one) for one in index.get_level_values(SOURCE)], dtype=str)


class MergedMulticlass(Multiclass):
    """One of several classes per sample, where each data set knows some of the classes.

    The head has an output for each class of any data set. The loss of a row is a softmax over the classes that its data
    set knows, because a class that a data set does not know is not absent from its samples. Data sets know the classes
    that occur in the first targets. A row without a data set, or of a new one, is taken to know all classes.
    Predictions are a softmax over all classes, and those that are scored over the classes that the row's data set
    knows.

    Parameters
    ----------
    class_weight : dict or "balanced", default=None
        Weight of each class. "balanced" gives the classes of each data set equal sums of weights.
    label_smoothing : float, default=0.0
        Share of each target that is spread evenly over the classes that its data set knows.
    classes : ndarray of shape (n_classes,), default=None
        All classes, sorted; None for those in y.
    criterion : Criterion, default=None
        Loss of logits and class indices; None for the cross entropy. Logits of classes that the data set of a row does
        not know are -10000.

    Examples
    --------
    >>> import numpy as np
    >>> import pandas as pd
    >>> from sktransfer.tasks.merged import MergedMulticlass
    >>> index = pd.MultiIndex.from_product([["a", "b"], [0, 1]], names=["merged_source", "row"])
    >>> task = MergedMulticlass()
    >>> targets = task.encode(task.check(pd.Series(["film", "book", "film", "song"], index)), np.ones(4))
    >>> task.classes.tolist(), task.knows.tolist()
    (['book', 'film', 'song'], [[True, True, False], [False, True, True]])
    """

    sources: list[str]
    knows: np.ndarray
    _predictable: np.ndarray | None = None  # (n_samples, n_classes), classes of the predictions of certain rows

    def check(self, y: Any) -> np.ndarray:
        """Return labels and data sets (n_samples,), as fields "label" and "merged_source"."""
        labels, sources = super().check(y), sources_of(y)
        sources = np.full(len(labels), "") if sources is None else sources
        checked = np.empty(len(labels), dtype=[("label", labels.dtype), (SOURCE, sources.dtype)])  # (n_samples,)
        checked["label"], checked[SOURCE] = labels, sources
        return checked

    def encode(self, y: np.ndarray, weight: np.ndarray) -> Targets:
        """Return indices of class and data set (n_samples, 2), and weights of samples.

        The first call sets the classes that each data set knows.
        """
        codes, names = self.encode_labels(y["label"]), y[SOURCE]  # (n_samples,) each
        if not hasattr(self, "knows"):
            self._learn(codes, names)
        sources = self._positions(names)  # (n_samples,)
        if self.class_weight is not None:
            weight = weight * self._factors_by_source(y["label"], sources)
        return Targets(np.stack([codes, sources], axis=1), weight)  # (n_samples, 2)

    def unknown(self, n_samples: int) -> Targets:
        """Return the indices of the first class and no data set, of zero weight (n_samples, 2)."""
        if self.classes is None:
            raise ValueError(NOTHING_KNOWN)
        return Targets(np.tile(np.array([0, -1]), (n_samples, 1)), np.zeros(n_samples))

    def _learn(self, codes: np.ndarray, names: np.ndarray) -> None:
        assert self.classes is not None
        self.sources = sorted({name for name in names.tolist() if name})
        self.knows = np.zeros((len(self.sources), len(self.classes)), dtype=bool)
        for row, name in enumerate(self.sources):
            self.knows[row, codes[names == name]] = True
        alone = [name for name, known in zip(self.sources, self.knows) if known.sum() == 1]
        if alone:
            only = self.classes[self.knows[self.sources.index(alone[0])]].tolist()[0]
            warn(
                f"the data set {alone[0]!r} has one class only, {only!r}, and a softmax over one class learns nothing: "
                f"its rows do not change this task. {_REMEDY}",
                ValidationWarning,
            )
        apart = _not_connected(self.knows)
        if not alone and apart is not None:
            warn(
                f"the data sets {self.sources[0]!r} and {self.sources[apart]!r} have no class in common, also not "
                f"through others, so that their classes are not compared with each other. {_REMEDY}",
                ValidationWarning,
            )

    def _positions(self, names: np.ndarray) -> np.ndarray:
        """Return the position of each row's data set (n_samples,), -1 without one or of a new one."""
        position = {name: row for row, name in enumerate(self.sources)}
        return np.array([position.get(name, -1) for name in names.tolist()], dtype=np.int64)

    def _known_by(self, sources: np.ndarray) -> np.ndarray:
        """Return whether data sets at given positions know each class, (n_samples, n_classes)."""
        everything = np.ones((1, self.knows.shape[1]), dtype=bool)
        known: np.ndarray = np.concatenate([self.knows, everything])[sources]  # (n_samples, n_classes)
        return known

    def _factors_by_source(self, labels: np.ndarray, sources: np.ndarray) -> np.ndarray:
        """Return the factor of each sample (n_samples,), balanced within each data set."""
        if not balances(self.class_weight):
            return self._class_factors(labels)
        factors = np.ones(len(labels))  # (n_samples,)
        for source in np.unique(sources):
            rows = np.flatnonzero(sources == source)
            factors[rows] = compute_sample_weight("balanced", labels[rows])
        return factors

    def _known(self, targets: np.ndarray) -> np.ndarray:
        """Return whether each row's data set knows each class, its own class included, (n_samples, n_classes)."""
        codes, sources = targets.T
        known = self._known_by(sources)  # (n_samples, n_classes)
        known[np.arange(len(codes)), codes] = True
        return known

    def init_head(
        self, head: Any, features: np.ndarray, targets: Targets, how: str, choice: LayerChoice | None = None
    ) -> HeadStrength | None:
        """Write a logistic regression over the classes that are known in each row, or the class means, into a head."""
        standardize(head, features, targets.weight, choice)
        if how == "random":
            return None
        read, codes = linear_input(head, features), targets.values[:, 0]  # (n_samples, width), (n_samples,)
        if how != "probe":
            write_linear(head, *linear_head(read, codes, targets.weight, head.n_outputs, how, 1.0))
            return None
        strength, C = probe_strength(read, self.choice_targets(targets), targets.weight, choice)
        write_linear(head, *partial_probe(read, codes, self._known(targets.values), targets.weight, C))
        return strength

    def choice_targets(self, targets: Targets) -> ChoiceTargets:
        """Return one-hot labels of the classes that occur. A class unknown to a row's data set has its mean."""
        codes, known = targets.values[:, 0], self._known(targets.values)
        present = np.unique(codes)
        values = (codes[:, None] == present).astype(np.float64)  # (n_samples, n_present)
        counted = known[:, present] * targets.weight[:, None]  # (n_samples, n_present)
        means = (values * counted).sum(0) / counted.sum(0)  # (n_present,)
        return ChoiceTargets(np.where(known[:, present], values, means), max(2, len(present)))

    def strata(self, targets: Targets) -> np.ndarray:
        """Return whether each row has each class of each data set, (n_samples, n_pairs)."""
        _, pairs = np.unique(targets.values, axis=0, return_inverse=True)  # (n_samples,)
        members: np.ndarray = pairs[:, None] == np.arange(pairs.max(initial=0) + 1)  # (n_samples, n_pairs)
        return members & (targets.weight > 0)[:, None]

    def loss(self, outputs: Tensor | None, targets: Tensor, features: Tensor) -> Tensor:
        """Return the cross entropy of each row over the classes that its data set knows, (n,)."""
        assert outputs is not None
        codes, sources = targets.T  # (n,) each
        knows = torch.as_tensor(self.knows, device=outputs.device)
        known = torch.cat([knows, torch.ones_like(knows[:1])])[sources]  # (n, n_classes), row -1 knows all
        known = known | functional.one_hot(codes, known.shape[1]).bool()
        if self.criterion is not None:
            return self.criterion.rows(outputs.masked_fill(~known, _NEVER), codes)
        logits = outputs.masked_fill(~known, -torch.inf)  # (n, n_classes)
        losses = functional.cross_entropy(logits, codes, reduction="none")
        if self.label_smoothing:
            surprise = -functional.log_softmax(logits, 1).masked_fill(~known, 0.0)  # (n, n_classes)
            even = surprise.sum(1) / known.sum(1)  # (n,)
            losses = (1 - self.label_smoothing) * losses + self.label_smoothing * even
        return losses

    def for_rows(self, targets: np.ndarray) -> Self:
        """Return the task whose predictions are among the classes that the data set of each row knows.

        A row whose data set does not know its class is a mistake.
        """
        task = copy.copy(self)
        task._predictable = self._known_by(self._positions(targets[SOURCE]) if targets.dtype.names else targets[:, 1])
        return task

    def _limited(self, outputs: np.ndarray) -> np.ndarray:
        """Return logits (n_samples, n_classes), far below the others if a class is not to be predicted."""
        return outputs if self._predictable is None else np.where(self._predictable, outputs, _NEVER)

    def decode(self, outputs: np.ndarray) -> np.ndarray:
        """Return the most probable label per sample, (n_samples,)."""
        return super().decode(self._limited(outputs))

    def decode_proba(self, outputs: np.ndarray) -> np.ndarray:
        """Return probabilities (n_samples, n_classes) that sum to one per row."""
        return super().decode_proba(self._limited(outputs))

    def decision(self, outputs: np.ndarray) -> np.ndarray:
        """Return logits (n_samples, n_classes); for two classes their difference (n_samples,)."""
        return super().decision(self._limited(outputs))

    def output_predictions(self, outputs: np.ndarray) -> np.ndarray:
        """Return class indices (n_samples,)."""
        return super().output_predictions(self._limited(outputs))

    def score(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> float:
        """Return the accuracy, of labels, or of targets as `check` or `encode` returns them."""
        y_true = np.asarray(y_true)
        labels = y_true["label"] if y_true.dtype.names else y_true[:, 0] if y_true.ndim == 2 else y_true
        return super().score(labels, y_pred, sample_weight)


def _not_connected(knows: np.ndarray) -> int | None:
    """Return the first data set that shares no class with the first one, also not through others; None without one."""
    reached = np.arange(len(knows)) == 0  # (n_sources,)
    for _ in range(len(knows)):
        reached = reached | (knows & knows[reached].any(0)).any(1)
    return None if reached.all() else int(np.argmin(reached))


def partial_probe(
    features: np.ndarray, y: np.ndarray, known: np.ndarray, sample_weight: np.ndarray, C: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return a logistic regression as a linear head, with a softmax over some of the classes in each row.

    If three or more classes are known in all rows, it minimizes the loss of `logistic_probe`.

    Parameters
    ----------
    features : ndarray of shape (n_samples, n_features)
        Features of mean zero.
    y : ndarray of shape (n_samples,) of int
        Class indices.
    known : ndarray of shape (n_samples, n_classes), bool
        Classes of the softmax of each row.
    sample_weight : ndarray of shape (n_samples,)
        Weight of each sample.
    C : float
        Inverse of the penalty, for weights with a mean of 1 over different samples.

    Returns
    -------
    weight : ndarray of shape (n_classes, n_features)
    bias : ndarray of shape (n_classes,)

    Examples
    --------
    >>> import numpy as np
    >>> from sktransfer.tasks.merged import partial_probe
    >>> known = np.array([[True, True, False], [True, True, False], [False, True, True], [False, True, True]])
    >>> weight, bias = partial_probe(np.array([[-1.0], [1], [-1], [1]]), np.array([0, 1, 1, 2]), known, np.ones(4), 0.2)
    >>> weight.ravel().round(2).tolist()
    [-0.1, 0.0, 0.1]
    """
    n_classes, width = known.shape[1], features.shape[1]
    present = np.zeros(n_classes, dtype=bool)
    present[y] = True
    sample_weight = of_different(features, sample_weight)
    rows, share = np.arange(len(y)), sample_weight / sample_weight.sum()
    mask = np.where(known & present, 0.0, -np.inf)  # (n_samples, n_classes)
    penalty = 1 / (C * sample_weight.sum())

    def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
        coef = flat.reshape(n_classes, width + 1)
        log_p = log_softmax(features @ coef[:, :-1].T + coef[:, -1] + mask, axis=1)  # (n_samples, n_classes)
        loss = -float(share @ log_p[rows, y]) + 0.5 * penalty * float((coef[:, :-1] ** 2).sum())
        error = np.exp(log_p)  # (n_samples, n_classes)
        error[rows, y] -= 1
        error *= share[:, None]
        slope = np.concatenate([error.T @ features + penalty * coef[:, :-1], error.sum(0)[:, None]], axis=1)
        return loss, slope.ravel()

    with threadpool_limits(1, user_api="blas"):
        options = {"maxiter": 1000, "gtol": 1e-5, "ftol": 64 * np.finfo(float).eps}
        solved = minimize(objective, np.zeros(n_classes * (width + 1)), method="L-BFGS-B", jac=True, options=options)
    coef = solved.x.reshape(n_classes, width + 1)
    bias = np.where(present, coef[:, -1], -np.log1p(len(y)))  # a class without samples is as likely as 1 in n + 2
    return coef[:, :-1] * present[:, None], bias
