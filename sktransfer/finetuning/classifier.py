"""Fine-tuning as a classifier."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.callback import with_callbacks

from sktransfer._parameters import with_parameters
from sktransfer._utils import all_or_nothing
from sktransfer.finetuning import parameters as shared
from sktransfer.finetuning.arguments import FitArguments, check_known_classes
from sktransfer.finetuning.single import TASK, SingleTaskTuner
from sktransfer.tasks.base import Task
from sktransfer.tasks.classification import Multiclass, MultilabelIndicator, classification_task
from sktransfer.tasks.criterion import Criterion

if TYPE_CHECKING:
    from sklearn.utils import Tags

__all__ = ["ClassifyingTuner", "FineTuneClassifier"]


class ClassifyingTuner(ClassifierMixin, SingleTaskTuner):
    """Fine-tuning of one task whose targets are classes: predictions, and attributes about the classes."""

    _target = "it holds one label per sample, or an indicator matrix"

    class_weight: Any
    classes_: np.ndarray
    criterion: Any
    label_names_: np.ndarray
    label_smoothing: float

    def decision_function(self, X: Any) -> np.ndarray:
        """Return logits (n_samples, n_classes); for two classes their difference (n_samples,).

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
        return self._classification.decision(outputs)

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return the probability of each class (n_samples, n_classes), in the order of `classes_`.

        For an indicator matrix each label has its own probability, and rows do not sum to one.

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
        return self._classification.decode_proba(outputs)

    def predict(self, X: Any) -> np.ndarray:
        """Return the most probable label per sample (n_samples,), or an indicator matrix (n_samples, n_labels).

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
        return self._classification.decode(outputs)

    @property
    def _classification(self) -> Multiclass | MultilabelIndicator:
        task = self._task
        assert isinstance(task, (Multiclass, MultilabelIndicator))
        return task

    def _make_task(self, y: Any, classes: np.ndarray | None) -> Task:
        criterion = None if self.criterion is None else Criterion(self.criterion)
        task = classification_task(y, self.class_weight, self.label_smoothing, criterion)
        task.classes = classes
        return task

    def _encode(self, *arguments: Any) -> Any:
        encoded = super()._encode(*arguments)
        self._store_classes()
        return encoded

    def _store_classes(self) -> None:
        assert self._task.classes is not None
        self.classes_ = self._task.classes
        if hasattr(self, "label_names_"):
            del self.label_names_  # of an earlier fit
        names = getattr(self._task, "label_names", None)
        if names is not None:
            self.label_names_ = np.array(names)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags


@with_parameters(
    shared.INPUT,
    shared.HEAD,
    shared.TRAINING,
    shared.HEAD_LR,
    shared.SCHEDULE,
    shared.UNFREEZING,
    shared.RECIPE,
    shared.CRITERION,
    shared.CLASSIFICATION,
    shared.CHANGES,
    shared.VALIDATION,
    shared.END,
)
class FineTuneClassifier(ClassifyingTuner):
    """Classify images or texts with a pretrained network whose upper stages are fine-tuned.

    The stages below the freezing boundary are frozen, and their outputs are computed once per sample. Copies of the
    stages above it are trained together with a linear head. The backbone that is passed in never changes.

    Parameters
    ----------
    {parameters}

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Class labels; the numbers of the columns for an indicator matrix.
    label_names_ : ndarray of shape (n_labels,), str
        Names of the columns of an indicator matrix, in the order of predictions. Only if y is a data frame.
    backbone_ : Backbone
        Fine-tuned backbone, for a featurizer or for the next estimator: `FineTuneClassifier(backbone=clf.backbone_)`.
    head_ : Head
        Fitted head, to continue from: `FineTuneClassifier(backbone=clf.backbone_, head=clf.head_)`.
        `clf.head_(features)` returns logits of features that a featurizer with `backbone_` gives.
    net_ : skorch.NeuralNet
        Trained net, with its `history`. `net_.module_.heads["y"]` is the head as a module of torch. It takes features
        as the backbone gives them, of several layers in ascending order. Its `linear` takes standardized features.
    freeze_depth_ : int or dict of str to int
        Number of frozen stages, by column of a joined backbone.
    history_ : DataFrame
        One row per epoch: losses, accuracy on validation data (`valid_acc`), highest learning rate at its end, seconds,
        and what callbacks record.
    layer_ : Series
        Only if `layer="auto"`: weight of each layer, by stage and pooling, summing to one.
    strength_ : float
        C of the probe, a logistic regression, on features of total variance 1, as found by leave-one-out errors. Only
        if the head started as a probe, or `layer="auto"`.
    report_ : str
        The choice and the errors that decided it, in a few lines.
    layer_weights_ : Series
        Weight of each stage if `layer="mix"`, summing to one.
    lr_ : float
        Learning rate that `lr` stood for.
    lr_curve_ : DataFrame
        Only if `lr="find"`: gain at each rate, one row per step. `LearningRateDisplay.from_finder(clf)` draws it.
    n_iter_ : int
        Number of epochs.
    stages_ : DataFrame
        One row per stage: whether it was trained, its rate, and its number of trained parameters.
    n_features_in_ : int
        Number of columns of X, if it has columns.

    See Also
    --------
    FineTuneRegressor : Fine-tuning for regression.
    ImageFeaturizer : Frozen backbone as a transformer.

    Notes
    -----
    With a cache, a frozen stage runs once per sample. Epochs, folds and candidates of a grid search share its outputs.

    Pretrained BatchNorm layers keep their statistics. With random weights they learn them, and `fit` recomputes them
    at its end over all training samples, because running statistics lag behind the weights.

    With `layer="auto"`, layers and the strength of the probe are chosen by the rows that are trained on, as
    `ImageFeaturizer` does it [5]_. With `max_epochs=0` and `freeze_depth="all"` the result is that of its features and
    `LogisticRegression()`. `head_init="probe"` starts the training there. The last layer always counts, so that
    `freeze_depth` counts all stages. `partial_fit`, `warm_start` and `head` keep the first choice. With fixed layers,
    the strength of the probe is found in the same way. Samples of equal features count as one, so that a weight of 2
    is the same as two equal samples.

    Weights of samples and classes are multiplied, and divided by their mean over the samples whose weight is not zero.
    The loss of a batch is the weighted mean. Only ratios of weights matter, and samples of weight zero are dropped.

    If a loss, a weight or an output becomes infinite or NaN, a `NotFiniteError` is raised, and the estimator remains as
    before. A search counts the fit as failed (`error_score`). If the final loss is finite but more than ten times the
    loss of the first batch, and greater than the loss of outputs that are all 0, there is a `ConvergenceWarning`.

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
    >>> from sktransfer import FineTuneClassifier
    >>> X, y = load_digits(return_X_y=True)  # rows of 64 = 8 x 8 grey pixels from 0 to 16
    >>> clf = FineTuneClassifier("tiny/cnn", freeze_depth="block4", max_epochs=3, random_state=0)
    >>> clf.fit(X[:100] / 16, y[:100]).predict(X[:5] / 16)
    array([0, 1, 2, 3, 4])
    >>> clf = FineTuneClassifier("tiny/cnn", layer="auto", max_epochs=1, random_state=0).fit(X[:100] / 16, y[:100])
    >>> clf.layer_.idxmax(), clf.strength_ > 3
    (('block3', 'grid2'), True)
    """

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
        y : array-like of shape (n_samples,) or (n_samples, n_labels)
            Labels of any type, or an indicator matrix of 0 and 1 for several labels per sample.
        sample_weight : array-like of shape (n_samples,), default=None
            Weight of each sample. Only ratios of weights matter. Samples with zero weight are dropped.
        groups : array-like of shape (n_samples,), default=None
            Group of each sample. The validation split of `early_stopping` does not separate groups. With metadata
            routing, `groups` of a search are also passed here, unless `set_fit_request(groups=False)` is called.
        X_val : array-like, Series, one-column DataFrame or list of n_val, default=None
            Validation samples. `history_` has their loss and score, and `early_stopping` uses them instead of a split
            of X. In a `Pipeline` with metadata routing, `transform_input=["X_val"]` transforms them as X.
        y_val : array-like of shape (n_val,) or (n_val, n_labels), default=None
            Labels, known from y, of the validation samples.
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
            If y does not fit X, or holds only one class.

        Warns
        -----
        ConvergenceWarning
            If the training loss is far higher at the end than at the start.
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
        y : array-like of shape (n_samples,) or (n_samples, n_labels)
            Labels, not necessarily of all classes.
        classes : array-like of shape (n_classes,), default=None
            All classes. Required in the first call.
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
            If the first call has no classes, or a later one has others.

        Warns
        -----
        ConvergenceWarning
            If the training loss is far higher at the end than at the start.
        """
        known = self.classes_ if hasattr(self, "net_") else None
        # The classes of an indicator matrix are column numbers here, and may have names there.
        has_names = known is not None and self._task.kind == MultilabelIndicator.kind
        known = check_known_classes(classes, known, "labels", may_be_numbers=has_names)
        return self._partial_fit(FitArguments(X, y, sample_weight, classes={TASK: known}))
