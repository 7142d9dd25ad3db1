"""Contrastive fine-tuning as a transformer."""

from __future__ import annotations

import os
from typing import Any, Self

import numpy as np
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.callback import with_callbacks
from sklearn.preprocessing import normalize as to_unit_length
from sklearn.utils import Tags

from sktransfer._parameters import Parameter, with_parameters
from sktransfer._utils import all_or_nothing
from sktransfer._validation import check_option, is_int
from sktransfer.engine.parameters import LAYER
from sktransfer.exceptions import InvalidParameterError, InvalidSampleError
from sktransfer.finetuning import parameters as shared
from sktransfer.finetuning.arguments import FitArguments
from sktransfer.finetuning.single import SingleTaskTuner
from sktransfer.tasks.base import Task
from sktransfer.tasks.pairs import PAIR_LOSSES, Pairs
from sktransfer.training.run import FitRun
from sktransfer.training.samplers import PairBatches
from sktransfer.training.trainer import TrainingResult

__all__ = ["ContrastiveFineTuner"]

_MIN_BATCH_SIZE = 4  # two samples of each of two classes


@with_parameters(
    shared.INPUT,
    LAYER.replace(
        default=-1,
        description="""Stage whose output gives the features: an index (-1 is the last stage), a name, a list
        (concatenated) or "all". Stages above the highest of them are dropped. "mix" adds all stages up by learned
        weights (`layer_weights_`) [2]_, if their features are of equal width.""",
    ),
    Parameter(
        "loss",
        "cosine",
        '{"cosine", "supcon"}',
        """Loss on the pairs of a batch. "cosine" is the squared distance of the cosine of each pair from 1 or 0 [1]_.
        "supcon" is the supervised contrastive loss [5]_, which only asks that other classes are farther away.""",
    ),
    Parameter(
        "normalize",
        True,
        "bool",
        "Whether to scale the features of each sample to length 1. The losses depend only on their direction.",
    ),
    shared.TRAINING,
    shared.TRAINING[0].replace(
        default=20, description="Number of passes over the samples. If all fit into one batch, a pass is one step."
    ),
    shared.TRAINING[1].replace(
        description="""Samples per step, 4 or more. The step learns from all their pairs. If there are more samples,
        classes take turns in giving two, so that a rare class is seen as often as the others."""
    ),
    shared.SCHEDULE,
    shared.RECIPE,
    shared.CHANGES,
    [one for one in shared.END if one.name != "warm_start"],
    shared.CALLBACKS_WITHOUT_SCORES,
    shared.TRAINED_DEPTH,
)
class ContrastiveFineTuner(ClassNamePrefixFeaturesOutMixin, TransformerMixin, SingleTaskTuner):
    """Turn images or texts into features whose classes are separated, learned from few labelled samples.

    Copies of the stages above the freezing boundary are trained so that the features of two samples of one class have
    the same direction, and those of different classes are orthogonal. It takes samples and labels, and pairs the
    samples itself. Given pairs and similarities are not supported. There are n (n - 1) / 2 pairs of n samples, so a few
    samples suffice. Followed by a linear classifier this is SetFit [1]_:
    `make_pipeline(ContrastiveFineTuner(backbone), LogisticRegression())`. Sentence encoders, such as all-MiniLM-L6-v2,
    are the best start for texts.

    Parameters
    ----------
    {parameters}

    Attributes
    ----------
    backbone_ : Backbone
        Fine-tuned backbone, to continue from: `FineTuneClassifier(backbone=tuner.backbone_)`.
    net_ : skorch.NeuralNet
        Trained net, with its `history`. `net_.module_.heads["y"]` turns features of the backbone into those of
        `transform`, before `normalize`.
    freeze_depth_ : int or dict of str to int
        Number of frozen stages, by column of a joined backbone.
    history_ : DataFrame
        One row per epoch.
    layer_weights_ : Series
        Weight of each stage if `layer="mix"`.
    lr_ : float
        Learning rate that `lr` stood for.
    lr_curve_ : DataFrame
        Only if `lr="find"`: gain at each rate, one row per step. `LearningRateDisplay.from_finder(tuner)` draws it.
    n_iter_ : int
        Number of epochs.
    stages_ : DataFrame
        One row per stage: whether it was trained, its rate, and its number of trained parameters.
    n_features_in_ : int
        Number of columns of X, if it has columns.

    See Also
    --------
    FineTuneClassifier : Trains stages and a linear head together, for many labels.
    NearestClassMean : Classifier for features of few samples.

    References
    ----------
    .. [1] L. Tunstall et al., "Efficient Few-Shot Learning Without Prompts", 2022.
    .. [2] M. Peters et al., "Deep Contextualized Word Representations", NAACL 2018.
    .. [3] J. Howard, S. Ruder, "Universal Language Model Fine-tuning for Text Classification", ACL 2018.
    .. [4] X. Li et al., "Explicit Inductive Bias for Transfer Learning with Convolutional Networks", ICML 2018.
    .. [5] P. Khosla et al., "Supervised Contrastive Learning", NeurIPS 2020.

    Examples
    --------
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.pipeline import make_pipeline
    >>> from sktransfer import ContrastiveFineTuner
    >>> texts = ["a moving, funny film", "I loved every minute", "two hours of nothing", "dull from start to end"]
    >>> tuner = ContrastiveFineTuner("tiny/bert", freeze_depth=2, random_state=0)
    >>> clf = make_pipeline(tuner, LogisticRegression()).fit(texts, ["up", "up", "down", "down"])
    >>> clf.predict(["a funny film, and I loved it"]).tolist()
    ['up']
    """

    _batches = PairBatches
    _target = "it holds one label per sample, and the samples are paired by their labels"

    batch_size: Any
    loss: str
    normalize: bool

    @all_or_nothing
    @with_callbacks  # type: ignore[untyped-decorator]
    def fit(self, X: Any, y: Any) -> Self:
        """Train the stages above the freezing boundary.

        Parameters
        ----------
        X : array-like, Series, one-column DataFrame or list of n_samples
            Images or texts, not pairs of them.
        y : array-like of shape (n_samples,)
            One label of any type per sample.

        Returns
        -------
        self : object
            Fitted estimator.

        Raises
        ------
        InvalidParameterError
            If a parameter is not allowed, or no stage is left to train.
        InvalidSampleError
            If a sample cannot be used.
        NotFiniteError
            If the training diverges: a loss or a weight is infinite or NaN.
        ValueError
            If y does not fit X or holds no labels, holds only one class, or no class twice.

        Warns
        -----
        ConvergenceWarning
            If the training loss is far higher at the end than at the start.
        """
        check_option("loss", self.loss, tuple(PAIR_LOSSES))
        if is_int(self.batch_size) and self.batch_size < _MIN_BATCH_SIZE:
            raise InvalidParameterError(
                f"batch_size={self.batch_size} must be an int of at least {_MIN_BATCH_SIZE}: a step learns from the "
                "pairs of its samples, of one class and of two"
            )
        if isinstance(X, (list, tuple)) and X and all(map(_is_pair, X)):
            raise InvalidSampleError(
                0,
                f"{X[0]!r} is a pair: X holds single samples, and y one label per sample, by which they are paired. Of "
                "given pairs, list the samples once, and give those that belong together the same label",
            )
        return self._fit(FitArguments(X, y))

    def transform(self, X: Any) -> np.ndarray:
        """Return the features of samples.

        Parameters
        ----------
        X : array-like, Series, one-column DataFrame or list of n_samples
            Images or texts.

        Returns
        -------
        features : ndarray of shape (n_samples, n_features), float32
            Features.

        Raises
        ------
        InvalidSampleError
            If a sample cannot be used.
        NotFiniteError
            If an output of the network is infinite or NaN.
        """
        features = self._outputs(X)
        return to_unit_length(features, copy=False) if self.normalize else features

    def _make_task(self, y: Any, classes: np.ndarray | None) -> Task:
        return Pairs(self.loss)

    def _store_result(self, run: FitRun, result: TrainingResult) -> None:
        super()._store_result(run, result)
        self._n_features_out = self._feature_head.n_outputs

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = []  # features are float32 for any input
        return tags


def _is_pair(value: Any) -> bool:
    """Return whether a value is a tuple or a list of two texts, paths or images."""
    if not isinstance(value, (list, tuple)) or len(value) != 2:
        return False
    samples = [isinstance(one, (str, os.PathLike)) or getattr(one, "ndim", 0) > 1 for one in value]
    return all(samples)
