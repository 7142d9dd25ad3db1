"""Base class of tasks, and the targets that a task learns from."""

from __future__ import annotations

import dataclasses
import inspect
from typing import Any, ClassVar, Self

import numpy as np
from torch import Tensor, nn

from sktransfer.engine.choice_targets import ChoiceTargets
from sktransfer.engine.head_strength import HeadStrength
from sktransfer.engine.layer_choice import LayerChoice
from sktransfer.exceptions import LoadError
from sktransfer.tasks.criterion import Criterion

__all__ = ["NOTHING_KNOWN", "ParametrizedTask", "Targets", "Task", "batch_targets", "relative_weights"]

NOTHING_KNOWN = (
    "no target has a weight greater than 0, so there is nothing to learn; leave the column out, or give some of its "
    "rows a weight"
)


@dataclasses.dataclass(frozen=True)
class Targets:
    """Targets of one task, in the form that its loss takes.

    Parameters
    ----------
    values : ndarray of shape (n_samples, ...) or list of Tensor
        One target per sample. A list holds targets of different shapes, such as one tag per word. A missing target has
        any valid value.
    weight : ndarray of shape (n_samples,), float64
        Weight of each sample in this task, 0 if its target is missing.
    """

    values: Any
    weight: np.ndarray

    def __len__(self) -> int:
        return len(self.weight)

    def take(self, rows: np.ndarray) -> Targets:
        """Return the targets of some rows.

        Parameters
        ----------
        rows : ndarray of int
            Rows to take.
        """
        values = [self.values[row] for row in rows] if isinstance(self.values, list) else self.values[rows]
        return Targets(values, self.weight[rows])

    def with_relative_weights(self) -> Targets:
        """Return the targets with weights whose mean is 1, so that only their ratios matter."""
        return Targets(self.values, relative_weights(self.weight))


class Task:
    """A learning task: what one head learns.

    A subclass defines the targets, the head, the loss and the predictions of one kind of task. The trainer, the cache,
    checkpoints and persistence work with any subclass.

    Attributes
    ----------
    kind : str
        Kind of the target, as `sklearn.utils.multiclass.type_of_target` calls it.
    reads : {"features", "tokens", "maps"}
        Input of the head: one pooled vector per sample (n, n_features), one vector per token (n, n_tokens, n_features),
        or one map per sample (n, n_features, height, width).
    stratifies : bool
        Whether a validation split keeps the ratio of the target's classes.
    pairwise : bool
        Whether the loss of a sample depends on the other samples of its batch.
    is_squared_error : bool
        Whether the loss is a squared error, which `task_weights="uncertainty"` takes half of.
    comes_from_samples : bool
        Whether the targets are the samples themselves, so that there is no y.
    is_auxiliary : bool
        Whether the task only shapes the features that other tasks read. Its head is initialized whatever `head_init`
        is. The task chooses no layers, is not held out for a validation split, and predicts nothing.
    output_of : str or None
        Name of another task whose outputs the loss reads. None for those of its own head.
    head_reads_targets : bool
        Whether the head is called as `head(features, targets=targets)`, to predict at some positions only, or to
        continue a text.
    trains_lm_head : bool
        Whether the head is the `lm_head` of the backbone, if it has one. It is trained with the stages that it is tied
        to, and stays part of the trained backbone. `make_head` is then only called for other backbones.
    score_name : str or None
        Short name of `score`, which is recorded per epoch as "valid_<name>" if there are validation data.
    scored_unit : str
        What has a prediction that `score` compares, such as "word".
    fewest_scored : int
        Least number of predictions that have a score.
    """

    by_name: ClassVar[dict[str, type[Task]]] = {}  # all subclasses, by name: saved files name their class
    kind: ClassVar[str]
    criterion: Criterion | None = None  # loss of the user; None for that of the task
    classes: np.ndarray | None = None  # labels of the outputs, if there are any
    shift: Any = 0.0  # outputs times `spread` plus `shift` are in the units of y
    spread: Any = 1.0
    reads: ClassVar[str] = "features"
    stratifies: ClassVar[bool] = False
    pairwise: ClassVar[bool] = False
    is_squared_error: bool = False
    comes_from_samples: ClassVar[bool] = False
    is_auxiliary: ClassVar[bool] = False
    output_of: ClassVar[str | None] = None
    head_reads_targets: ClassVar[bool] = False
    trains_lm_head: ClassVar[bool] = False
    score_name: ClassVar[str | None] = None
    scored_unit: ClassVar[str] = "sample"
    fewest_scored: ClassVar[int] = 1

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        Task.by_name[cls.__name__] = cls

    def check(self, y: Any) -> np.ndarray:
        """Return validated targets (n_samples, ...), before rows without weight are dropped.

        Parameters
        ----------
        y : array-like of shape (n_samples, ...)
            Targets as given to `fit`.

        Raises
        ------
        ValueError
            If they are no targets of this kind.
        """
        raise NotImplementedError

    def encode(self, y: Any, weight: np.ndarray) -> Targets:
        """Return targets for the loss. The first call sets what the task learns from y, such as its classes.

        Parameters
        ----------
        y : ndarray of shape (n_samples, ...)
            Targets from `check`; None if `prepare` makes the targets from the samples.
        weight : ndarray of shape (n_samples,)
            Weight of each sample.

        Raises
        ------
        ValueError
            If the targets do not fit those of an earlier call.
        """
        raise NotImplementedError

    def encode_known(self, y: np.ndarray, known: np.ndarray, weight: np.ndarray) -> Targets:
        """Return targets for all rows, of which only some have a target. The others get zero weight.

        Parameters
        ----------
        y : ndarray of shape (n_known, ...)
            Targets from `check`, of the rows that have one.
        known : ndarray of shape (n_samples,), bool
            Whether each row has a target.
        weight : ndarray of shape (n_samples,)
            Weight of each sample.
        """
        if known.all():
            return self.encode(y, weight)
        rows = np.flatnonzero(known)
        if not len(rows):
            return self.unknown(len(known))
        encoded = self.encode(y, weight[rows])
        weights = np.zeros(len(known))  # (n_samples,)
        weights[rows] = encoded.weight
        if isinstance(encoded.values, list):
            position = np.cumsum(known) - 1  # (n_samples,)
            return Targets([encoded.values[max(0, one)] for one in position], weights)
        values = np.zeros((len(known), *encoded.values.shape[1:]), encoded.values.dtype)  # (n_samples, ...)
        values[rows] = encoded.values
        return Targets(values, weights)

    def unknown(self, n_samples: int) -> Targets:
        """Return targets of rows of which none is known, after a call of `encode` or with given classes.

        Parameters
        ----------
        n_samples : int
            Number of rows.

        Raises
        ------
        ValueError
            If nothing is known of the task yet.
        """
        raise NotImplementedError

    def make_head(self, n_features: int, n_mixed: int | None = None) -> nn.Module | None:
        """Return a new head, or None if the loss reads the features and nothing is predicted.

        Parameters
        ----------
        n_features : int
            Width of the head's input.
        n_mixed : int, default=None
            Number of layers of equal width that the head mixes by learned weights; None if it reads them concatenated.
        """
        raise NotImplementedError

    def connect_head(self, head: nn.Module, stages: nn.ModuleList) -> None:
        """Tie weights of a new head to those of the stages. The default does nothing.

        Parameters
        ----------
        head : nn.Module
            Result of `make_head`, changed in place.
        stages : nn.ModuleList
            All stages. The parameters of frozen ones need no gradient, and must not become parameters of the head.
        """

    def change_stages(self, stages: nn.ModuleList) -> None:
        """Change the copies of the trained stages in place, before a training. The default does nothing.

        Parameters
        ----------
        stages : nn.ModuleList
            Stages above the freezing boundary, with their adapters.
        """

    def restore_stages(self, stages: nn.ModuleList) -> None:
        """Undo `change_stages` in place, after a training. The default does nothing.

        Parameters
        ----------
        stages : nn.ModuleList
            Trained stages.
        """

    def init_head(
        self, head: nn.Module, features: np.ndarray, targets: Targets, how: str, choice: LayerChoice | None = None
    ) -> HeadStrength | None:
        """Initialize a new head from the features of the pretrained network. The default draws it at random.

        Parameters
        ----------
        head : nn.Module
            New head, changed in place.
        features : ndarray of shape (n_samples, n_features)
            Features before training.
        targets : Targets
            Targets of these samples.
        how : {"probe", "class_means", "random"}
            Kind of initialization.
        choice : LayerChoice, default=None
            Choice that the features come from. Only given to a task that has `choice_targets`.

        Returns
        -------
        strength : HeadStrength or None
            Strength of the linear model that was written; None if there is none.
        """
        return None

    def strata(self, targets: Targets) -> np.ndarray:
        """Return the strata that folds and a validation split keep the ratio of, (n_samples, n_strata) bool.

        A row may be in several strata or in none. The default has one stratum, the rows whose target is known.

        Parameters
        ----------
        targets : Targets
            Result of `encode`.
        """
        return targets.weight[:, None] > 0

    def choice_targets(self, targets: Targets) -> ChoiceTargets | None:
        """Return targets that `layer="auto"` chooses layers by. The default is None: the task allows no choice.

        Parameters
        ----------
        targets : Targets
            Result of `encode`.
        """
        return None

    def sample_rows(self, targets: Targets, n_vectors: int) -> np.ndarray:
        """Return the rows whose values per token or map `init_head` and `layer="auto"` read, in ascending order.

        The default is all rows with a weight. Only called if `reads` is not "features".

        Parameters
        ----------
        targets : Targets
            Targets of all rows.
        n_vectors : int
            Number of vectors that suffice.
        """
        return np.flatnonzero(targets.weight)

    def vectors(self, values: Tensor, target: Any, weight: float) -> tuple[Tensor, np.ndarray, np.ndarray]:
        """Return the vectors that the head reads in one row, such as those of its words or of its pixels.

        Only called if `reads` is not "features", for `init_head` and `layer="auto"`.

        Parameters
        ----------
        values : Tensor of shape (n_tokens, n_features) or (n_features, height, width)
            Input of the head for the row.
        target : Tensor or ndarray
            Target of the row.
        weight : float
            Weight of the row, which its vectors share.

        Returns
        -------
        vectors : Tensor of shape (n_vectors, n_features)
        targets : ndarray of shape (n_vectors, ...)
        weights : ndarray of shape (n_vectors,)
        """
        raise NotImplementedError

    def scored(self, outputs: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the outputs and the targets of a batch that `score` compares, without padding.

        The default returns them unchanged: one per row.

        Parameters
        ----------
        outputs : ndarray of shape (n, ...)
            Outputs of the head.
        targets : ndarray of shape (n, ...)
            Targets as the loss takes them.
        """
        return outputs, targets

    def prepare(self, arguments: dict[str, Tensor], targets: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """Return the network's arguments and the targets of a training batch. The default returns them unchanged.

        A self-supervised task corrupts the input here and returns the original as target.

        Parameters
        ----------
        arguments : dict of str to Tensor
            Arguments of the network: `values` at the freezing boundary, `mask`, pooled `fixed` features.
        targets : Tensor
            Targets of the batch.
        """
        return arguments, targets

    def loss(self, outputs: Tensor | None, targets: Tensor, features: Tensor) -> Tensor:
        """Return the loss of each row (n,). The trainer ignores rows with a missing target.

        Parameters
        ----------
        outputs : Tensor of shape (n, ...) or None
            Output of the head; None without a head.
        targets : Tensor
            Targets of the batch.
        features : Tensor
            Input of the head, of the shape that `reads` names.
        """
        raise NotImplementedError

    def decode(self, outputs: np.ndarray) -> np.ndarray:
        """Return predictions from outputs of the head (n_samples, n_outputs)."""
        raise NotImplementedError

    def for_rows(self, targets: np.ndarray) -> Self:
        """Return the task for the predictions of given rows, in this order, that are scored. The default is the task.

        Parameters
        ----------
        targets : ndarray of shape (n_samples, ...)
            Targets of the rows, as `check` or `encode` returns them.
        """
        return self

    def score(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> float:
        """Return the score that scikit-learn's estimators of this kind have by default."""
        raise NotImplementedError

    def output_classes(self, n_outputs: int) -> Any:
        """Return the encoded classes that skorch's scoring callbacks ask for; AttributeError if there are none."""
        raise AttributeError(f"a task of kind {self.kind!r} has no classes")

    def output_probabilities(self, outputs: np.ndarray) -> np.ndarray:
        """Return probabilities, or outputs as they are if there are none, for scoring callbacks."""
        return outputs

    def output_predictions(self, outputs: np.ndarray) -> np.ndarray:
        """Return predictions in the encoding of the targets, for scoring callbacks."""
        return outputs

    def identity(self) -> list[Any]:
        """Return everything that the result of a training depends on in this task, for a checkpoint's key."""
        own = [] if self.criterion is None else self.criterion.identity()
        return [type(self).__qualname__, *sorted((name, value) for name, value in self.to_state().items()), *own]

    def to_state(self) -> dict[str, Any]:
        """Return the attributes as plain values and arrays, for saving. Predictions do not need a criterion."""
        return {name: value for name, value in vars(self).items() if name != "criterion"}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Self:
        """Return the task that `to_state` described.

        Parameters
        ----------
        state : dict
            Result of `to_state`.

        Raises
        ------
        LoadError
            If a name would hide a method.
        """
        for name in state:
            hidden = inspect.getattr_static(cls, name, None)
            if not name.isidentifier() or name.startswith("__") or callable(hidden) or hasattr(hidden, "__get__"):
                raise LoadError(f"{cls.__name__} cannot have an attribute {name!r}")
        task = cls.__new__(cls)
        vars(task).update(state)
        return task


class ParametrizedTask(Task):
    """Task that a user may give as an object, such as `MaskedTokens(0.3)`. Its parameters are attributes."""

    def __repr__(self) -> str:
        names = inspect.signature(type(self)).parameters
        return f"{type(self).__name__}({', '.join(f'{name}={getattr(self, name)!r}' for name in names)})"


def relative_weights(weight: np.ndarray) -> np.ndarray:
    """Return weights (n,) divided by the mean of those that are not zero. Equal weights are exactly 1.

    A regularized loss is a weighted sum plus a penalty. With a fixed mean, the strength of the penalty depends
    neither on the scale of the weights nor on samples of weight 0.

    Parameters
    ----------
    weight : ndarray of shape (n,)
        Weights of at least 0.

    Examples
    --------
    >>> import numpy as np
    >>> from sktransfer.tasks.base import relative_weights
    >>> relative_weights(np.array([0.001, 0.003, 0.0])).round(6).tolist()
    [0.5, 1.5, 0.0]
    """
    known = weight > 0  # (n,)
    if not known.any():
        return weight
    scaled = weight / weight.max()  # (n,), the sum of huge weights would overflow
    relative: np.ndarray = scaled / scaled[known].mean()
    return relative


def batch_targets(targets: Any, rows: Tensor, pad_value: int = -100) -> Tensor:
    """Return the targets of a batch (n, ...), padded if they are of different lengths.

    Parameters
    ----------
    targets : Tensor or list of Tensor
        One target per sample.
    rows : Tensor of shape (n,), int64
        Rows of the batch.
    pad_value : int, default=-100
        Value of the padding, which torch's cross entropy ignores.
    """
    if isinstance(targets, Tensor):
        return targets.index_select(0, rows)
    rows_of_targets = [targets[row] for row in rows.tolist()]
    return nn.utils.rnn.pad_sequence(rows_of_targets, True, pad_value)  # (n, longest, ...)
