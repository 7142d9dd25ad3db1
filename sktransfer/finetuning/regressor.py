"""Fine-tuning as a regressor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import numpy as np
from sklearn.base import RegressorMixin
from sklearn.callback import with_callbacks
from sklearn.utils import check_array
from torch import nn

from sktransfer._utils import all_or_nothing
from sktransfer.exceptions import InvalidParameterError
from sktransfer.finetuning.base import FineTuneBase

if TYPE_CHECKING:
    from sklearn.utils import Tags

    from sktransfer.training.settings import Settings


__all__ = ["FineTuneRegressor"]


class FineTuneRegressor(RegressorMixin, FineTuneBase):
    """Predict numbers from images or texts by a pretrained network whose upper stages are trained along.

    Targets are scaled to zero mean and unit deviation for the training, and predictions back. All else is as in
    `FineTuneClassifier`, where the parameters are described.

    Parameters
    ----------
    backbone : str or Backbone, default="tiny/cnn"
        A name or a loaded backbone; its modality decides whether X holds images or texts.
    weights : {"pretrained", "random"} or path, default="pretrained"
        Where the backbone starts from.
    preprocess : "auto", ImageTransform or dict, default="auto"
        As in `ImageFeaturizer`.
    image_shape : tuple of int, default=None
        As in `ImageFeaturizer`.
    max_length : int, default=None
        As in `TextFeaturizer`.
    layer : int, str or list of these, default=-1
        Which stage the head sees; "mix" adds all up, each by a weight that is learnt.
    pooling : str, default="auto"
        As in `ImageFeaturizer` and `TextFeaturizer`.
    freeze_depth : int, float or str, default=-1
        How many stages are frozen, counted from the input.
    head : "linear" or Head, default="linear"
        "linear" makes a new head; the `head_` of a fitted regressor is gone on from.
    head_init : {"probe", "random"}, default="probe"
        "probe" starts a new head as a ridge regression on the pretrained features.
    max_epochs : int, default=10
        Passes over the samples.
    batch_size : int, default=32
        Samples a step.
    lr : float, "auto" or "find", default="auto"
        Highest learning rate of the uppermost stage. "auto" is 1e-4, which suits AdamW and pretrained weights; "find"
        tries rising rates on a copy first, for up to 60 steps, and takes a fifth of the best (`find_lr`).
    head_lr : float, default=None
        Highest learning rate of the head; None for `lr`, or ten times `lr` where the head starts at random.
    lr_schedule : {"linear", "slanted_triangular", "one_cycle", "cosine", "constant"}, default="linear"
        What all rates are multiplied by from the first batch to the last.
    layer_lr_decay : float, default=1.0
        What the rate is divided by from each stage to the one below it.
    unfreezing : {"none", "gradual", "chain_thaw"}, default="none"
        In which order the stages above the cut begin to learn.
    optimizer : {"adamw", "adam", "sgd"} or class of torch.optim, default="adamw"
        What does the steps.
    weight_decay : float, default=0.01
        Of weights; biases and norms are not decayed.
    l2_sp : float, default=0.0
        Draws the stages to where they started.
    adapter : peft.PeftConfig, default=None
        Trains adapters on the stages above the cut in place of their weights.
    augment : {"light", "strong", "word_dropout"} or torchvision.transforms.v2.Transform, default=None
        Changes samples anew in each epoch.
    early_stopping : bool, default=False
        Whether to set samples aside, stop when their loss no longer falls, and restore the weights of the best epoch.
    validation_fraction : float, default=0.1
        The share that `early_stopping` sets aside.
    patience : int, default=3
        Epochs in vain after which `early_stopping` stops.
    device : str or torch.device, default="auto"
        "auto" is a GPU where there is one.
    precision : {"float32", "bfloat16", "float16", "auto"}, default="float32"
        In which the stages compute.
    cache : "memory", path or None, default="memory"
        Keeps what the frozen stages give.
    callbacks : list of skorch callbacks, default=None
        Told of each epoch and batch.
    warm_start : bool, default=False
        Whether a further `fit` goes on from what the last has left, backbone and head.
    random_state : int, RandomState or None, default=None
        Draws order, dropout and new weights.
    verbose : int, default=0
        1 prints a line an epoch.

    Attributes
    ----------
    backbone_ : Backbone
        The backbone as trained.
    head_ : Head
        The head as trained, to go on from.
    net_ : skorch.NeuralNet
        The trained net, with its `history`.
    freeze_depth_ : int
        How many stages were frozen.
    history_ : DataFrame
        A row an epoch.
    layer_weights_ : Series
        How much each stage counts, where `layer="mix"`.
    lr_ : float
        The rate that `lr` stood for.
    lr_curve_ : DataFrame
        Where `lr="find"`: what each rate gained, a row a step; `LearningRateDisplay.from_finder(clf)` draws it.
    n_iter_ : int
        Epochs run.
    stages_ : DataFrame
        A row a stage.
    n_features_in_ : int
        Number of columns, where X has any.

    See Also
    --------
    FineTuneClassifier : The same for labels.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sktransfer import FineTuneRegressor
    >>> X, y = load_digits(return_X_y=True)
    >>> ink = X.mean(axis=1)  # how much ink there is in each digit
    >>> regressor = FineTuneRegressor("tiny/cnn", layer="block2", max_epochs=3, random_state=0)  # objects come later
    >>> bool(regressor.fit(X[:100] / 16, ink[:100]).score(X[100:200] / 16, ink[100:200]) > 0.8)
    True
    """

    _task = "numbers"
    _goes_on: bool
    _y_mean: np.ndarray
    _y_scale: np.ndarray
    _y_ndim: int

    @all_or_nothing
    @with_callbacks  # type: ignore[untyped-decorator]
    def fit(self, X: Any, y: Any, sample_weight: Any = None, groups: Any = None) -> Self:
        """Train the stages above the cut, and the head.

        Parameters
        ----------
        X : array-like, Series, one-column DataFrame or list of n_samples
            Images or texts.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Numbers.
        sample_weight : array-like of shape (n_samples,), default=None
            How much each sample counts; 0 is its absence.
        groups : array-like of shape (n_samples,), default=None
            Samples of a group are set aside together, or not at all, where `early_stopping` sets samples aside.

        Returns
        -------
        self : object

        Raises
        ------
        InvalidParameterError
            If a parameter is not allowed.
        InvalidSampleError
            If a sample cannot be used.
        ValueError
            If y does not fit X.
        """
        self._goes_on = False
        return self._fit(X, y, sample_weight, groups)

    @all_or_nothing
    @with_callbacks  # type: ignore[untyped-decorator]
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Go on training with more samples, in one pass and at a constant rate; the first call starts as `fit` does.

        Targets are scaled as in the first call.

        Parameters
        ----------
        X : array-like, Series, one-column DataFrame or list of n_samples
            Images or texts.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Numbers.
        sample_weight : array-like of shape (n_samples,), default=None
            How much each sample counts; 0 is its absence.

        Returns
        -------
        self : object

        Raises
        ------
        InvalidParameterError
            If a parameter is not allowed.
        InvalidSampleError
            If a sample cannot be used.
        ValueError
            If y does not fit X, or the first call's y.
        """
        self._goes_on = hasattr(self, "net_")
        return self._partial_fit(X, y, sample_weight)

    def predict(self, X: Any) -> np.ndarray:
        """Return the predicted numbers, (n_samples,) or (n_samples, n_outputs) as y was; float64.

        Parameters
        ----------
        X : array-like, Series, one-column DataFrame or list of n_samples
            Images or texts.

        Raises
        ------
        InvalidSampleError
            If a sample cannot be used.
        """
        scaled = self._outputs(X).astype(np.float64)
        predictions: np.ndarray = scaled * self._y_scale + self._y_mean  # (n, n_outputs)
        return predictions[:, 0] if self._y_ndim == 1 else predictions

    def _check_y(self, y: Any) -> np.ndarray:
        if self.head_init == "class_means":
            raise InvalidParameterError("head_init='class_means' needs classes, and y holds numbers; use 'probe'")
        checked: np.ndarray = check_array(y, ensure_2d=False, dtype=np.float64, input_name="y")
        if checked.ndim > 2:
            raise ValueError(f"y has {checked.ndim} dimensions; give (n_samples,) or (n_samples, n_outputs)")
        return checked

    def _targets(self, y: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        columns = y.reshape(len(y), -1)  # (n, n_outputs)
        if self._goes_on:
            if columns.shape[1] != len(self._y_mean) or y.ndim != self._y_ndim:
                raise ValueError(f"y has shape {y.shape}, and the first call's had {len(self._y_mean)} outputs")
            return ((columns - self._y_mean) / self._y_scale).astype(np.float32), weight
        self._y_ndim = y.ndim
        self._y_mean = np.average(columns, axis=0, weights=weight)
        deviation = np.sqrt(np.average((columns - self._y_mean) ** 2, axis=0, weights=weight))
        self._y_scale = np.where(deviation > 0, deviation, 1.0)
        return ((columns - self._y_mean) / self._y_scale).astype(np.float32), weight

    def _criterion(self, settings: Settings) -> nn.Module:
        return nn.MSELoss(reduction="none")

    def _n_outputs(self) -> int:
        return len(self._y_mean)

    def _units(self) -> tuple[Any, ...]:
        return None, self._y_mean, self._y_scale

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        tags.target_tags.single_output = True
        return tags
