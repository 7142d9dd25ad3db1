"""Fine-tuning as a regressor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from sklearn.base import RegressorMixin
from sklearn.callback import with_callbacks

from sktransfer._parameters import with_parameters
from sktransfer._utils import all_or_nothing
from sktransfer.exceptions import InvalidParameterError
from sktransfer.finetuning import parameters as shared
from sktransfer.finetuning.arguments import FitArguments
from sktransfer.finetuning.single import SingleTaskTuner
from sktransfer.tasks.base import Task
from sktransfer.tasks.continuous import Continuous
from sktransfer.tasks.criterion import Criterion

if TYPE_CHECKING:
    from sklearn.utils import Tags

__all__ = ["FineTuneRegressor"]


@with_parameters(
    shared.INPUT,
    shared.HEAD,
    shared.HEAD[1].replace(
        type='{"probe", "random"}',
        description="""Initialization of a new head: "probe" fits a ridge regression to the pretrained features [1]_,
        "random" draws the weights.""",
    ),
    shared.TRAINING,
    shared.HEAD_LR,
    shared.SCHEDULE,
    shared.UNFREEZING,
    shared.RECIPE,
    shared.CRITERION[0].replace(
        description="""Loss of outputs and targets (n, n_outputs), both standardized. It returns one loss per row, (n,)
        or (n, n_outputs), such as `torch.nn.HuberLoss`. A class is made with `reduction="none"`. None for the squared
        error. `save` needs `set_params(criterion=None)`."""
    ),
    shared.CHANGES,
    shared.VALIDATION,
    shared.VALIDATION[1].replace(description="Share of the samples in the validation split."),
    shared.END,
)
class FineTuneRegressor(RegressorMixin, SingleTaskTuner):
    """Predict numbers from images or texts with a pretrained network whose upper stages are fine-tuned.

    Targets are standardized for the training, and predictions are in the units of y.

    Parameters
    ----------
    {parameters}

    Attributes
    ----------
    backbone_ : Backbone
        Fine-tuned backbone.
    head_ : Head
        Fitted head, to continue from. `reg.head_(features)` returns numbers in the units of y, of features that a
        featurizer with `backbone_` gives.
    net_ : skorch.NeuralNet
        Trained net, with its `history`. `net_.module_.heads["y"]` is the head as a module of torch. It takes features
        as the backbone gives them, and returns standardized targets, unlike `head_`.
    freeze_depth_ : int or dict of str to int
        Number of frozen stages, by column of a joined backbone.
    history_ : DataFrame
        One row per epoch: losses, score of validation data (`valid_r2`), highest learning rate at its end, seconds, and
        what callbacks record.
    layer_ : Series
        Only if `layer="auto"`: weight of each layer, by stage and pooling, summing to one.
    strength_ : float
        Alpha of the probe, a ridge regression, on features of total variance 1, as found by leave-one-out errors. Only
        if the head started as a probe, or `layer="auto"`.
    report_ : str
        The choice and the errors that decided it, in a few lines.
    layer_weights_ : Series
        Weight of each stage if `layer="mix"`, summing to one.
    lr_ : float
        Learning rate that `lr` stood for.
    lr_curve_ : DataFrame
        Only if `lr="find"`: gain at each rate, one row per step. `LearningRateDisplay.from_finder(reg)` draws it.
    n_iter_ : int
        Number of epochs.
    stages_ : DataFrame
        One row per stage: whether it was trained, its rate, and its number of trained parameters.
    n_features_in_ : int
        Number of columns of X, if it has columns.

    See Also
    --------
    FineTuneClassifier : Fine-tuning for classification.

    Notes
    -----
    With `layer="auto"`, layers and the strength of the probe are chosen by the rows that are trained on, as
    `ImageFeaturizer` does it [5]_. With `max_epochs=0` and `freeze_depth="all"` the result is that of its features and
    `Ridge()`. `head_init="probe"` starts the training there. The last layer always counts, so that `freeze_depth`
    counts all stages. `partial_fit`, `warm_start` and `head` keep the first choice. With fixed layers, the strength of
    the probe is found in the same way. Samples of equal features count as one, so that a weight of 2 is the same as two
    equal samples.

    References
    ----------
    .. [1] A. Kumar et al., "Fine-Tuning can Distort Pretrained Features and Underperform Out-of-Distribution",
       ICLR 2022.
    .. [2] M. Peters et al., "Deep Contextualized Word Representations", NAACL 2018.
    .. [3] J. Howard, S. Ruder, "Universal Language Model Fine-tuning for Text Classification", ACL 2018.
    .. [4] X. Li et al., "Explicit Inductive Bias for Transfer Learning with Convolutional Networks", ICML 2018.
    .. [5] R. Rifkin and R. Lippert, "Notes on Regularized Least Squares", MIT-CSAIL-TR-2007-025.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sktransfer import FineTuneRegressor
    >>> X, y = load_digits(return_X_y=True)
    >>> ink = X.mean(axis=1)  # mean darkness of each digit
    >>> regressor = FineTuneRegressor("tiny/cnn", layer="block2", max_epochs=3, random_state=0)
    >>> bool(regressor.fit(X[:100] / 16, ink[:100]).score(X[100:200] / 16, ink[100:200]) > 0.8)
    True
    """

    _target = "it holds one or several numbers per sample"

    criterion: Any
    head_init: str

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
        """Train the stages above the freezing boundary, and the head.

        Parameters
        ----------
        X : array-like, Series, one-column DataFrame or list of n_samples
            Images or texts.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Numbers.
        sample_weight : array-like of shape (n_samples,), default=None
            Weight of each sample. Only ratios of weights matter. Samples with zero weight are dropped.
        groups : array-like of shape (n_samples,), default=None
            Group of each sample. The validation split of `early_stopping` does not separate groups. With metadata
            routing, `groups` of a search are also passed here, unless `set_fit_request(groups=False)` is called.
        X_val : array-like, Series, one-column DataFrame or list of n_val, default=None
            Validation samples. `history_` has their loss and score, and `early_stopping` uses them instead of a split
            of X. In a `Pipeline` with metadata routing, `transform_input=["X_val"]` transforms them as X.
        y_val : array-like of shape (n_val,) or (n_val, n_outputs), default=None
            Numbers of the validation samples.
        sample_weight_val : array-like of shape (n_val,), default=None
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
            If y does not fit X.

        Warns
        -----
        ConvergenceWarning
            If the training loss is far higher at the end than at the start.
        """
        validation = {"X_val": X_val, "y_val": y_val, "sample_weight_val": sample_weight_val}
        return self._fit(FitArguments(X, y, sample_weight, groups, **validation))

    @all_or_nothing
    @with_callbacks  # type: ignore[untyped-decorator]
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train on more samples, in one epoch at a constant rate. The first call initializes as `fit` does.

        Targets are standardized as in the first call.

        Parameters
        ----------
        X : array-like, Series, one-column DataFrame or list of n_samples
            Images or texts.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Numbers.
        sample_weight : array-like of shape (n_samples,), default=None
            Weight of each sample. Only ratios within a call matter. Samples with zero weight are dropped.

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
            If y does not fit X, or the first call's y.

        Warns
        -----
        ConvergenceWarning
            If the training loss is far higher at the end than at the start.
        """
        return self._partial_fit(FitArguments(X, y, sample_weight))

    def predict(self, X: Any) -> np.ndarray:
        """Return predicted numbers, (n_samples,) or (n_samples, n_outputs) as y was; float64.

        Parameters
        ----------
        X : array-like, Series, one-column DataFrame or list of n_samples
            Images or texts.

        Raises
        ------
        InvalidSampleError
            If a sample cannot be used.
        NotFiniteError
            If an output of the network is infinite or NaN.
        """
        outputs = self._outputs(X)
        return self._task.decode(outputs)

    def _make_task(self, y: Any, classes: np.ndarray | None) -> Task:
        if self.head_init == "class_means":
            raise InvalidParameterError("head_init='class_means' needs classes, and y holds numbers; use 'probe'")
        return Continuous(None if self.criterion is None else Criterion(self.criterion))

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        tags.target_tags.single_output = True
        return tags
