"""Fine-tuning of several tasks on one trunk."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
from sklearn.callback import with_callbacks
from sklearn.utils import Tags
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from sktransfer._parameters import with_parameters
from sktransfer._utils import all_or_nothing
from sktransfer._validation import require_field
from sktransfer.backbones.backbone import Backbone
from sktransfer.engine.chosen_layers import ChosenLayersByTask
from sktransfer.engine.head_strength import HeadStrength
from sktransfer.engine.layer_choice import LayerChoice
from sktransfer.exceptions import InvalidParameterError, LoadError, did_you_mean
from sktransfer.finetuning import parameters as shared
from sktransfer.finetuning.arguments import (
    FitArguments,
    check_classes,
    check_names,
    check_of_classes,
    value_of,
    warn_of_unknown,
)
from sktransfer.finetuning.base import FineTuneBase
from sktransfer.finetuning.classifier import FineTuneClassifier
from sktransfer.finetuning.regressor import FineTuneRegressor
from sktransfer.samples.labels import row_labels
from sktransfer.targets.table import TaskSchema, check_task_weight, read_tasks
from sktransfer.tasks.base import Targets, Task
from sktransfer.tasks.classification import Multiclass, MultilabelIndicator
from sktransfer.tasks.continuous import Continuous
from sktransfer.tasks.criterion import Criterion
from sktransfer.tasks.given import GivenTargets
from sktransfer.tasks.heads import Head
from sktransfer.training.run import FitRun
from sktransfer.training.settings import Settings
from sktransfer.training.trainer import TrainingResult

__all__ = ["MultiTaskFineTuner"]

_OWN = ("classes_", "heads_", "n_left_out_", "net_", "task_weights_", "tasks_")  # attributes that single tasks lack
_TRUNK = ("_depth_report", "_layers", "_seed")


def _has_classes(tuner: Any) -> bool:
    """Return whether a task has classes, or may have some because there are no tasks yet."""
    tasks = getattr(tuner, "_tasks", None)
    return tasks is None or any(not isinstance(task, Continuous) for task in tasks.values())


@with_parameters(
    shared.INPUT[0],
    shared.TASKS,
    shared.INPUT[1:],
    shared.MULTITASK,
    shared.HEAD,
    shared.TRAINING,
    shared.HEAD_LR,
    shared.SCHEDULE,
    shared.UNFREEZING,
    shared.RECIPE,
    shared.CRITERION,
    shared.CLASSIFICATION,
    shared.BY_TASK,
    shared.CHANGES,
    shared.VALIDATION,
    shared.VALIDATION[1].replace(description="Share of the samples in the validation split."),
    shared.END,
    shared.CALLBACKS_BY_TASK,
    n_positional=2,
)
class MultiTaskFineTuner(ChosenLayersByTask, FineTuneBase):
    """Learn several tasks with one pretrained network, of which each row may know only some.

    Copies of the stages above the freezing boundary are trained by the sum of the losses of all tasks. Each task has a
    linear head. Its loss in a batch is the mean over the rows whose target is known, so that a rare task keeps its
    gradient. Predictions of all tasks take one pass of the network.

    Parameters
    ----------
    {parameters}

    Attributes
    ----------
    tasks_ : list of str
        Names of the tasks, in the order of the columns of y.
    classes_ : list of ndarray or None
        Class labels of each task. The names of the labels, or else their numbers, for several labels per row. None for
        numbers.
    backbone_ : Backbone
        Fine-tuned backbone, for a featurizer or for the next estimator.
    heads_ : dict of str to Head
        Fitted head of each task, to continue from: `head=tuner.heads_`, or `head=tuner.heads_["topic"]` of an estimator
        with one task.
    net_ : skorch.NeuralNet
        Trained net, with its `history`. `net_.module_.heads` has the heads as modules of torch.
    freeze_depth_ : int or dict of str to int
        Number of frozen stages, by column of a joined backbone.
    history_ : DataFrame
        One row per epoch: losses, highest learning rate at its end, seconds, and what callbacks record.
    layer_ : Series
        Only if `layer="auto"`: weight of each layer, by stage and pooling, summing to one. It is the mean over the
        tasks of the weights that each of them gives.
    strength_ : dict of str to float
        Strength of the probe of each task: C of a logistic regression or alpha of a ridge regression, on features of
        total variance 1.
    report_ : str
        Layers, strengths and `freeze_depth="auto"`: what was chosen, and by which errors.
    layer_weights_ : DataFrame
        Weight of each stage, one column per task, if `layer="mix"`.
    lr_ : float
        Learning rate that `lr` stood for.
    lr_curve_ : DataFrame
        Only if `lr="find"`: gain at each rate, one row per step. `LearningRateDisplay.from_finder(tuner)` draws it.
    n_iter_ : int
        Number of epochs.
    n_left_out_ : int
        Number of rows that were left out, because they have no known target, or no weight, in any task that is learned.
    stages_ : DataFrame
        One row per stage: whether it was trained, its rate, and its number of trained parameters.
    task_weights_ : dict of str to float
        Weight of the loss of each task, as given or as learned.
    n_features_in_ : int
        Number of columns of X, if it has columns.

    See Also
    --------
    FineTuneClassifier : Fine-tuning for one task with classes.
    FineTuneRegressor : Fine-tuning for one task with numbers.
    merge_tasks : Merge data sets with targets of their own.
    MultiTaskKFold : Folds that keep the known targets of each task.
    task_scorer : Score of one task, for searches.

    Notes
    -----
    A target that is not known changes nothing. With one task the result is that of `FineTuneClassifier` or
    `FineTuneRegressor` on the rows whose target is known, bit for bit. A task of weight 0 changes nothing for the
    others: rows known only in such tasks are left out, and its head remains as it was initialized.

    `early_stopping` and a loss of validation data refer to the weighted sum of the losses of the tasks.

    Weights of samples and classes count within their task, as `FineTuneClassifier` describes it.

    Transfer from a source task to a target task has three forms [5]_. INIT is a fit on the target that starts from the
    source, `FineTuneClassifier(source.backbone_)`. MULT is a joint fit of both tasks. MULT+INIT is a joint fit that
    starts from the source, `MultiTaskFineTuner(source.backbone_)`.

    References
    ----------
    .. [1] A. Kumar et al., "Fine-Tuning can Distort Pretrained Features and Underperform Out-of-Distribution",
       ICLR 2022.
    .. [2] M. Peters et al., "Deep Contextualized Word Representations", NAACL 2018.
    .. [3] J. Howard, S. Ruder, "Universal Language Model Fine-tuning for Text Classification", ACL 2018.
    .. [4] X. Li et al., "Explicit Inductive Bias for Transfer Learning with Convolutional Networks", ICML 2018.
    .. [5] L. Mou et al., "How Transferable are Neural Networks in NLP Applications?", EMNLP 2016.
    .. [6] A. Kendall et al., "Multi-Task Learning Using Uncertainty to Weigh Losses for Scene Geometry and Semantics",
       CVPR 2018.

    Examples
    --------
    >>> import pandas as pd
    >>> from sktransfer import MultiTaskFineTuner
    >>> texts = ["a moving, funny film", "I loved every page", "two hours of nothing", "dull from start to end"]
    >>> y = pd.DataFrame({"mood": ["up", "up", "down", "down"], "kind": ["film", "book", "film", None]})
    >>> tuner = MultiTaskFineTuner("tiny/bert", freeze_depth=2, max_epochs=3, random_state=0).fit(texts, y)
    >>> tuner.predict(["a funny film"])
      mood  kind
    0   up  film
    >>> tuner.task("mood").predict(["a funny film"]).tolist()
    ['up']
    """

    _target = "it holds a column per task, in which a target that is not known is missing"

    class_weight: Any
    criterion: Any
    head: Any
    head_init: str
    label_smoothing: float
    tasks: Any
    classes_: list[np.ndarray | None]
    heads_: dict[str, Head]
    n_left_out_: int
    task_weights_: dict[str, float]
    tasks_: list[str]
    _schema: TaskSchema

    # As in scikit-learn's splitters: groups that a search gets for its folds need no request.
    __metadata_request__fit: ClassVar[dict[str, bool]] = {"groups": True}

    @all_or_nothing
    @with_callbacks  # type: ignore[untyped-decorator]
    def fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        groups: Any = None,
        *,
        X_val: Any = None,
        y_val: Any = None,
        sample_weight_val: Any = None,
    ) -> Self:
        """Train the stages above the freezing boundary, and the heads.

        Parameters
        ----------
        X : array-like, Series, one-column DataFrame or list of n_samples
            Images or texts.
        y : DataFrame, dict of str to array-like, or array of shape (n_samples, n_tasks)
            Targets, a column per task. None, NaN, and the missing values of pandas and polars are not known. The
            columns of an array are called "y0", "y1" and so on. Several labels or numbers per row are a 2-D array in a
            dict, or a vector in each cell. Cells may also hold lists, tuples or sets of labels. Searches of
            scikit-learn take data frames and arrays, and no dicts. Integers with NaN of pandas are floats, and so are
            their classes, unless the dtype is "Int64". A level "merged_source" of the index names the data set of each
            row, as `merge_tasks` makes it. If data sets have different classes of a task, the loss of a row is a
            softmax over those of its data set. Without this level, which a dict, an array or `reset_index(drop=True)`
            does not keep, it is over all classes.
        sample_weight : array-like of shape (n_samples,) or (n_samples, n_tasks), DataFrame or dict, default=None
            Weight of each sample, or of each sample in each task. Only ratios within a task matter. A weight may be
            missing where the target is.
        groups : array-like of shape (n_samples,), default=None
            Group of each sample. The validation split of `early_stopping` does not separate groups. With metadata
            routing, `groups` of a search are also passed here, unless `set_fit_request(groups=False)` is called.
        X_val : array-like, Series, one-column DataFrame or list of n_val, default=None
            Validation samples. `history_` has their loss, and `early_stopping` uses them instead of a split of X. In a
            `Pipeline` with metadata routing, `transform_input=["X_val"]` transforms them as X.
        y_val : DataFrame, dict of str to array-like, or array of shape (n_val, n_tasks), default=None
            Targets of the validation samples, with the columns of y.
        sample_weight_val : array-like of shape (n_val,) or (n_val, n_tasks), DataFrame or dict, default=None
            Weight of each validation sample.

        Returns
        -------
        self : object
            Fitted estimator.

        Raises
        ------
        InvalidParameterError
            If a parameter is not allowed.
        InvalidSampleError
            If a sample cannot be used.
        NotFiniteError
            If the training diverges: a loss or a weight is infinite or NaN.
        ValueError
            If y does not fit X, or a task has no known target or only one class.

        Warns
        -----
        ConvergenceWarning
            If the training loss is far higher at the end than at the start.
        ValidationWarning
            If rows have no known target.
        """
        validation = {"X_val": X_val, "y_val": y_val, "sample_weight_val": sample_weight_val}
        return self._fit(FitArguments(X, y, sample_weight, groups, **validation))

    @all_or_nothing
    @with_callbacks  # type: ignore[untyped-decorator]
    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> Self:
        """Train on more samples, in one epoch at a constant rate. The first call initializes as `fit` does.

        Parameters
        ----------
        X : array-like, Series, one-column DataFrame or list of n_samples
            Images or texts.
        y : DataFrame, dict of str to array-like, or array of shape (n_samples, n_tasks)
            Targets, a column per task, not necessarily of all classes. A later call may lack the targets of a task. The
            softmax is over all classes, also of merged data sets, because a call need not have all classes that its
            data sets know. After `fit`, it remains over the classes that each data set had there.
        classes : dict of str to array-like, default=None
            All classes of each task with one class per row. Required in the first call.
        sample_weight : array-like of shape (n_samples,) or (n_samples, n_tasks), DataFrame or dict, default=None
            Weight of each sample, or of each sample in each task. Only ratios within a call and task matter.

        Returns
        -------
        self : object
            Fitted estimator.

        Raises
        ------
        InvalidParameterError
            If a parameter is not allowed.
        InvalidSampleError
            If a sample cannot be used.
        NotFiniteError
            If the training diverges: a loss or a weight is infinite or NaN.
        ValueError
            If the first call has no classes, or a later one has others.

        Warns
        -----
        ConvergenceWarning
            If the training loss is far higher at the end than at the start.
        ValidationWarning
            If rows have no known target.
        """
        known = dict(zip(self.tasks_, self.classes_)) if hasattr(self, "net_") else None
        return self._partial_fit(FitArguments(X, y, sample_weight, classes=check_classes(classes, known)))

    def predict(self, X: Any) -> Any:
        """Return predictions of all tasks in the container of y: labels, indicators or labels per row, or numbers.

        Parameters
        ----------
        X : array-like, Series, one-column DataFrame or list of n_samples
            Images or texts.

        Returns
        -------
        y : DataFrame, dict of str to array-like, or array of shape (n_samples, n_tasks)
            Predictions. A data frame of pandas has the index of X. Categorical columns come back as labels, without
            the dtype.

        Raises
        ------
        InvalidSampleError
            If a sample cannot be used.
        NotFiniteError
            If an output of the network is infinite or NaN.
        """
        outputs = self._outputs_by_task(X)
        decoded = {name: task.decode(outputs[name]) for name, task in self._tasks.items()}
        return self._schema.give_back(decoded, row_labels(X))

    @available_if(_has_classes)  # type: ignore[untyped-decorator]
    def predict_proba(self, X: Any) -> list[np.ndarray | None]:
        """Return the probabilities of each task as a list, in the order of `tasks_`; None for a task of numbers.

        Parameters
        ----------
        X : array-like, Series, one-column DataFrame or list of n_samples
            Images or texts.

        Returns
        -------
        probabilities : list of ndarray of shape (n_samples, n_classes), or None
            As `FineTuneClassifier.predict_proba` returns them.

        Raises
        ------
        InvalidSampleError
            If a sample cannot be used.
        NotFiniteError
            If an output of the network is infinite or NaN.
        """
        return [None if task is None else task.decode_proba(outputs) for task, outputs in self._classifications(X)]

    @available_if(_has_classes)  # type: ignore[untyped-decorator]
    def decision_function(self, X: Any) -> list[np.ndarray | None]:
        """Return the logits of each task as a list, in the order of `tasks_`; None for a task of numbers.

        Parameters
        ----------
        X : array-like, Series, one-column DataFrame or list of n_samples
            Images or texts.

        Returns
        -------
        logits : list of ndarray of shape (n_samples, n_classes) or (n_samples,), or None
            As `FineTuneClassifier.decision_function` returns them.

        Raises
        ------
        InvalidSampleError
            If a sample cannot be used.
        NotFiniteError
            If an output of the network is infinite or NaN.
        """
        return [None if task is None else task.decision(outputs) for task, outputs in self._classifications(X)]

    def _classifications(self, X: Any) -> list[tuple[Multiclass | MultilabelIndicator | None, np.ndarray]]:
        """Return each task, or None if it has no classes, and its outputs."""
        outputs = self._outputs_by_task(X)
        return [
            (task if isinstance(task, (Multiclass, MultilabelIndicator)) else None, outputs[name])
            for name, task in self._tasks.items()
        ]

    def scores(self, X: Any, y: Any, sample_weight: Any = None) -> pd.Series:
        """Return the score of each task over the rows whose target is known.

        The score is the accuracy of classes, for several labels the share of rows that are right in all of them, and R²
        of numbers. If the index of y names the data set of each row, as `merge_tasks` makes it, the predictions that
        are scored are among the classes that this data set had in the training.

        Parameters
        ----------
        X : array-like, Series, one-column DataFrame or list of n_samples
            Images or texts.
        y : DataFrame, dict of str to array-like, or array of shape (n_samples, n_tasks)
            Targets, with columns of the training. A data frame or dict may lack tasks, whose score is then NaN.
        sample_weight : array-like of shape (n_samples,) or (n_samples, n_tasks), DataFrame or dict, default=None
            Weight of each sample, or of each sample in each task.

        Returns
        -------
        scores : Series of shape (n_tasks,)
            Score by task, NaN without a known target of positive weight.

        Raises
        ------
        ValueError
            If y has other columns than in the training, or does not fit X.
        """
        outputs = self._outputs_by_task(X)
        table = read_tasks(y, like=self._schema, partial=True)
        n_samples = len(next(iter(outputs.values())))
        if table.n_samples != n_samples:
            raise ValueError(f"X has {n_samples} samples, and y has {table.n_samples} rows; pass one row per sample")
        known = {name: column.known for name, column in table.columns.items()}
        weights = check_task_weight(sample_weight, self.tasks_, n_samples, known)
        scores = {}
        for name, task in self._tasks.items():
            column, weight = table.columns[name], weights[name]
            rows = np.flatnonzero(column.known & (weight > 0))
            if not len(rows):
                scores[name] = np.nan
                continue
            y_true = column.check(task)[weight[column.known] > 0]
            y_pred = task.for_rows(y_true).decode(outputs[name][rows])
            scores[name] = task.score(y_true, y_pred, None if sample_weight is None else weight[rows])
        return pd.Series(scores, index=pd.Index(self.tasks_, name="task"), name="score", dtype=float)

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return the mean of the scores of the tasks, each over the rows whose target is known.

        It averages accuracies of classes with R² of numbers, which may be negative. `scores` has the score of each
        task, and `task_scorer` makes a search compare one. `MultiTaskKFold` keeps each task in each fold.
        The scores of merged data sets are as `scores` describes them.

        Parameters
        ----------
        X : array-like, Series, one-column DataFrame or list of n_samples
            Images or texts.
        y : DataFrame, dict of str to array-like, or array of shape (n_samples, n_tasks)
            Targets, as `scores` takes them. A task without a known target is left out.
        sample_weight : array-like of shape (n_samples,) or (n_samples, n_tasks), DataFrame or dict, default=None
            Weight of each sample, or of each sample in each task.

        Raises
        ------
        ValueError
            If y has other columns than in the training, does not fit X, or knows no target.
        """
        scores = self.scores(X, y, sample_weight).dropna()
        if not len(scores):
            raise ValueError("y has no known target of positive weight, so there is nothing to score")
        return float(scores.mean())

    def task(self, name: str) -> FineTuneClassifier | FineTuneRegressor:
        """Return a fitted estimator of one task, which shares the network.

        It is a complete estimator. `fit` trains a new network for this task alone. Its `score` needs the target of each
        row. `scores` of this estimator leaves out rows whose target is missing.

        Parameters
        ----------
        name : str
            Name of the task.

        Returns
        -------
        estimator : FineTuneClassifier or FineTuneRegressor
            Fitted estimator. Its `history_` is that of the joint training.

        Raises
        ------
        InvalidParameterError
            If there is no such task.
        """
        check_is_fitted(self)
        if name not in self._tasks:
            hint = did_you_mean(name, self.tasks_) if isinstance(name, str) else ""
            raise InvalidParameterError(f"name={name!r} is no task of this estimator, which has {self.tasks_}.{hint}")
        cls = FineTuneRegressor if isinstance(self._tasks[name], Continuous) else FineTuneClassifier
        params = {key: value for key, value in self.get_params(deep=False).items() if key in _parameters_of(cls)}
        for key in ("class_weight", "criterion"):
            if key in params:
                params[key] = value_of(params[key], name)
        params["head"] = self.head.get(name, "linear") if isinstance(self.head, Mapping) else self.head
        of_trunk = [key for key in vars(self) if key in _TRUNK or (key.endswith("_") and key not in _OWN)]
        attributes = {key: getattr(self, key) for key in of_trunk}
        attributes |= {"_choice": self._choices.get(name), "_strength": self._strengths.get(name)}
        return cls(**params)._adopt(attributes, self.net_, name, self.heads_[name])

    @property
    def layer_weights_(self) -> pd.DataFrame:
        """Weight of each stage if `layer="mix"`, one column per task, summing to one."""
        check_is_fitted(self)
        return pd.DataFrame({name: self._mix_weights(name) for name in self.tasks_})

    def _read_targets(
        self, y: Any, *, first: bool, classes: Mapping[str, np.ndarray] | None = None
    ) -> Mapping[str, GivenTargets]:
        table = read_tasks(y, self.tasks, None if first else self._schema, classes=classes)
        if first:
            self._schema, self.tasks_ = table.schema, list(table.names)
        return table.columns

    def _read_weights(
        self, sample_weight: Any, n_samples: int, given: Mapping[str, GivenTargets]
    ) -> Mapping[str, np.ndarray]:
        known = {name: one.known for name, one in given.items() if one.known is not None}
        return check_task_weight(sample_weight, self.tasks_, n_samples, known)

    def _make_tasks(
        self, given: Mapping[str, GivenTargets], classes: Mapping[str, np.ndarray] | None, backbone: Backbone
    ) -> Mapping[str, Task]:
        columns: Mapping[str, Any] = given
        for parameter in ("class_weight", "criterion", "head"):
            check_names(parameter, getattr(self, parameter), self.tasks_)
        check_of_classes(self.class_weight, self.label_smoothing, {name: one.kind for name, one in columns.items()})
        if isinstance(self.head, Mapping) and self.head_init != "probe" and not set(self.tasks_) - set(self.head):
            raise InvalidParameterError(
                f"head_init={self.head_init!r} initializes new heads, and head has one for each task; leave one out"
            )
        tasks = {}
        for name, column in columns.items():
            if column.kind == Continuous.kind and self.head_init == "class_means":
                raise InvalidParameterError(
                    f"head_init='class_means' needs classes, and {column.where} holds numbers; use 'probe'"
                )
            if classes is not None and column.kind == Multiclass.kind and name not in classes:
                raise ValueError(f"classes has {sorted(classes)}, and not {name!r}; name all classes of this task")
            criterion = value_of(self.criterion, name)
            tasks[name] = column.make_task(
                value_of(self.class_weight, name),
                self.label_smoothing,
                None if criterion is None else Criterion(criterion),
                None if classes is None else classes.get(name),
            )
        return tasks

    def _encode(
        self, settings: Settings, given: Mapping[str, GivenTargets], arguments: FitArguments, n_samples: int
    ) -> tuple[np.ndarray, dict[str, Targets]]:
        kept, targets = super()._encode(settings, given, arguments, n_samples)
        self.n_left_out_ = n_samples - len(kept)
        self.classes_ = [_classes_of(task) for task in self._tasks.values()]
        warn_of_unknown(arguments.y, {name: one.known for name, one in given.items()}, settings.learns)
        return kept, targets

    def _store_result(self, run: FitRun, result: TrainingResult) -> None:
        super()._store_result(run, result)
        self.task_weights_ = self.net_.weight_by_task

    def _store_choices(self, choices: Mapping[str, LayerChoice] | None) -> None:
        self._choices = dict(choices or {})

    def _stored_choices(self) -> Mapping[str, LayerChoice]:
        return self._choices

    def _store_strengths(self, strengths: Mapping[str, HeadStrength]) -> None:
        self._strengths = dict(strengths)

    def _store_heads(self, heads: dict[str, Head]) -> None:
        self.heads_ = heads

    def _stored_heads(self) -> Mapping[str, Head]:
        return self.heads_

    def _restore_state(self, state: dict[str, Any]) -> None:
        super()._restore_state(state)
        if not state:
            return
        names, heads = list(self._tasks), require_field(vars(self), "heads_", dict)
        schema = require_field(vars(self), "_schema", TaskSchema)
        fits = require_field(vars(self), "tasks_", list) == names == list(schema.names) == list(heads)
        if not fits or not all(isinstance(head, Head) for head in heads.values()):
            raise LoadError(f"its tasks are {names}, and it has {self.tasks_}, {schema.names} and heads {list(heads)}")

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags


def _parameters_of(cls: type) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(cls).parameters


def _classes_of(task: Task) -> np.ndarray | None:
    names = getattr(task, "label_names", None)
    return task.classes if names is None else np.array(names)
