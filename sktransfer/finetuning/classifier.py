"""Fine-tuning as a classifier."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from scipy.special import softmax
from sklearn.base import ClassifierMixin
from sklearn.callback import with_callbacks
from sklearn.utils import column_or_1d
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import assert_all_finite
from torch import nn

from sktransfer.finetuning.base import FineTuneBase

if TYPE_CHECKING:
    import torch

    from sktransfer.backbones.backbone import Backbone
    from sktransfer.backbones.preprocess import ImageTransform

__all__ = ["FineTuneClassifier"]


class FineTuneClassifier(ClassifierMixin, FineTuneBase):
    """Classify images or texts by a pretrained network whose upper stages are trained along.

    The stages below the cut stay frozen: no gradient, dropout off, BatchNorm statistics as they were pretrained. The
    stages above it are copied, trained together with a linear head, and the backbone itself never changes.

    Parameters
    ----------
    backbone : str or Backbone, default="tiny/cnn"
        A name (`list_backbones()` shows them; `"hf/<hub id or local folder>"` takes models of transformers) or a
        loaded backbone. Its modality decides whether X holds images or texts.
    weights : {"pretrained", "random"} or path, default="pretrained"
        "random" is the honest control: the same network, drawn by `random_state`. A path is a local safetensors file,
        or a state dict that `torch.load(weights_only=True)` takes.
    preprocess : "auto", ImageTransform or dict, default="auto"
        As in `ImageFeaturizer`.
    image_shape : tuple of int, default=None
        As in `ImageFeaturizer`.
    max_length : int, default=None
        As in `TextFeaturizer`.
    layer : int, str or list of these, default=-1
        Which stage the head sees: an index, a name, a list (concatenated) or "all". Stages above the last of them are
        left out.
    pooling : str, default="auto"
        As in `ImageFeaturizer` and `TextFeaturizer`.
    freeze_depth : int, float or str, default=-1
        How many stages are frozen, counted from the input. An int is a Python slice, `stages[:freeze_depth]`: 0 trains
        all, -1 freezes all but the last. A float f in [0, 1] freezes floor(f * n), so one grid serves backbones of
        different depth. A name freezes up to and with that stage, "all" freezes all.
    head_init : {"probe", "random"}, default="probe"
        "probe" starts the head as a linear model on the pretrained features [1]_, "random" draws it.
    max_epochs : int, default=10
        Passes over the samples; 0 leaves the probe.
    batch_size : int, default=32
        Samples a step.
    lr : float or "auto", default="auto"
        Learning rate of the stages at the start, from where it falls to zero in a straight line; "auto" is 1e-4. An
        `LRScheduler` of skorch among `callbacks` takes the place of that line.
    head_lr : float, default=None
        Learning rate of the head; None for `lr` where the head starts as a probe, ten times `lr` where it is random.
    optimizer : {"adamw", "adam", "sgd"} or class of torch.optim, default="adamw"
        What does the steps.
    weight_decay : float, default=0.01
        Of weights; biases and norms are not decayed.
    class_weight : dict or "balanced", default=None
        Weight of each class, as everywhere in scikit-learn.
    device : str or torch.device, default="auto"
        "auto" is a GPU where there is one.
    precision : {"float32", "bfloat16", "float16", "auto"}, default="float32"
        In which the stages compute: "auto" is bfloat16 where the processor or the GPU has it natively, else float32.
        Weights that are trained stay float32.
    cache : "memory", path or None, default="memory"
        Keeps what the frozen stages give, by sample content, for further epochs, folds, candidates and clones. "memory"
        lasts as long as the process, a folder is shared by processes and sessions; `set_config` sets their size,
        `cache_info` tells what they hold. None runs the frozen stages in each epoch.
    callbacks : list of skorch callbacks, default=None
        Told of each epoch and batch. Callbacks of scikit-learn (`set_callbacks`) work as well.
    random_state : int, RandomState or None, default=None
        Draws order, dropout and new weights. Equal seeds give equal results on a CPU.
    verbose : int, default=0
        1 prints a line an epoch.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The labels.
    backbone_ : Backbone
        The backbone as trained, to featurize with or to go on from: `FineTuneClassifier(backbone=clf.backbone_)`.
    net_ : skorch.NeuralNet
        The trained net, with its `history`.
    freeze_depth_ : int
        How many stages were frozen.
    n_iter_ : int
        Epochs run.
    n_features_in_ : int
        Number of columns, where X has any.

    See Also
    --------
    FineTuneRegressor : The same for numbers.
    ImageFeaturizer : The frozen backbone as a transformer.

    Notes
    -----
    With a cache a frozen stage runs once for each sample; epochs, folds and candidates of a grid search share
    what it gave.

    References
    ----------
    .. [1] A. Kumar et al., "Fine-Tuning can Distort Pretrained Features and Underperform Out-of-Distribution",
       ICLR 2022.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sktransfer import FineTuneClassifier
    >>> X, y = load_digits(return_X_y=True)  # rows of 64 = 8 x 8 grey pixels from 0 to 16
    >>> clf = FineTuneClassifier("tiny/cnn", freeze_depth="block4", max_epochs=3, random_state=0)
    >>> clf.fit(X[:100] / 16, y[:100]).predict(X[:5] / 16)
    array([0, 1, 2, 3, 4])
    """

    _loss = nn.CrossEntropyLoss

    def __init__(
        self,
        backbone: str | Backbone = "tiny/cnn",
        *,
        weights: str | os.PathLike[str] = "pretrained",
        preprocess: str | ImageTransform | Mapping[str, Any] = "auto",
        image_shape: tuple[int, ...] | None = None,
        max_length: int | None = None,
        layer: int | str | Sequence[int | str] = -1,
        pooling: str = "auto",
        freeze_depth: int | float | str = -1,
        head_init: str = "probe",
        max_epochs: int = 10,
        batch_size: int = 32,
        lr: float | str = "auto",
        head_lr: float | None = None,
        optimizer: str | type[torch.optim.Optimizer] = "adamw",
        weight_decay: float = 0.01,
        class_weight: Mapping[Any, float] | str | None = None,
        device: str | torch.device = "auto",
        precision: str = "float32",
        cache: str | os.PathLike[str] | None = "memory",
        callbacks: Sequence[Any] | None = None,
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
        super().__init__(
            backbone,
            weights=weights,
            preprocess=preprocess,
            image_shape=image_shape,
            max_length=max_length,
            layer=layer,
            pooling=pooling,
            freeze_depth=freeze_depth,
            head_init=head_init,
            max_epochs=max_epochs,
            batch_size=batch_size,
            lr=lr,
            head_lr=head_lr,
            optimizer=optimizer,
            weight_decay=weight_decay,
            device=device,
            precision=precision,
            cache=cache,
            callbacks=callbacks,
            random_state=random_state,
            verbose=verbose,
        )
        self.class_weight = class_weight

    @with_callbacks  # type: ignore[untyped-decorator]
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train the stages above the cut, and the head.

        Parameters
        ----------
        X : array-like, Series, one-column DataFrame or list of n_samples
            Images or texts.
        y : array-like of shape (n_samples,)
            Labels of any kind.
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
            If y does not fit X or holds one class only.
        """
        return self._fit(X, y, sample_weight)

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
        """
        logits = self._outputs(X)
        return logits[:, 1] - logits[:, 0] if len(self.classes_) == 2 else logits

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return the probability of each class (n_samples, n_classes), in the order of `classes_`.

        Parameters
        ----------
        X : array-like, Series, one-column DataFrame or list of n_samples
            Images or texts.

        Raises
        ------
        InvalidSampleError
            If a sample cannot be used.
        """
        probabilities: np.ndarray = softmax(self._outputs(X), axis=1)
        return probabilities

    def predict(self, X: Any) -> np.ndarray:
        """Return the most probable label of each sample, (n_samples,).

        Parameters
        ----------
        X : array-like, Series, one-column DataFrame or list of n_samples
            Images or texts.

        Raises
        ------
        InvalidSampleError
            If a sample cannot be used.
        """
        best = self._outputs(X).argmax(1)
        labels: np.ndarray = self.classes_[best]
        return labels

    def _check_y(self, y: Any) -> np.ndarray:
        labels: np.ndarray = column_or_1d(y, warn=True)
        assert_all_finite(labels, input_name="y")
        check_classification_targets(labels)
        return labels

    def _targets(self, y: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        self.classes_, indices = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(
                f"y holds one class only, {self.classes_.tolist()[0]!r}; a classifier needs two or more to tell apart"
            )
        if self.class_weight is not None:
            weight = weight * compute_sample_weight(self.class_weight, y)
        return indices.astype(np.int64), weight

    def _n_outputs(self) -> int:
        return len(self.classes_)
