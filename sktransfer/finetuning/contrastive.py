"""Fine-tuning as a transformer: few labels shape the features, and any classifier stands behind them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.callback import with_callbacks
from sklearn.preprocessing import normalize as to_unit_length
from sklearn.utils import Tags

from sktransfer._utils import all_or_nothing
from sktransfer.exceptions import InvalidParameterError
from sktransfer.finetuning.base import FineTuneBase
from sktransfer.finetuning.labelling import check_labels
from sktransfer.tasks.pairs import PAIR_LOSSES, PairBatches
from sktransfer.training.network import FineTuneNetwork

if TYPE_CHECKING:
    import torch
    from torch import nn

    from sktransfer.backbones.backbone import Backbone
    from sktransfer.backbones.preprocess import ImageTransform
    from sktransfer.training.settings import Settings

__all__ = ["ContrastiveFineTuner"]

_LEAST_BATCH = 4  # two samples of each of two classes


class ContrastiveFineTuner(ClassNamePrefixFeaturesOutMixin, TransformerMixin, FineTuneBase):
    """Turn images or texts into features that a few labelled samples have shaped: those of a class lie together.

    The stages above the cut are copied and trained so that the features of two samples point the same way where they
    are of one class, and stand at right angles where they are not. n samples make n (n - 1) / 2 pairs to learn from,
    which is why it does with few of them. With a linear classifier behind it, this is SetFit [1]_:
    `make_pipeline(ContrastiveFineTuner(backbone), LogisticRegression())`.

    Parameters
    ----------
    backbone : str or Backbone, default="tiny/cnn"
        As in `FineTuneClassifier`. Encoders of sentences, such as all-MiniLM-L6-v2, are the best start for texts.
    weights : {"pretrained", "random"} or path, default="pretrained"
        As in `FineTuneClassifier`.
    preprocess : "auto", ImageTransform or dict, default="auto"
        As in `ImageFeaturizer`.
    image_shape : tuple of int, default=None
        As in `ImageFeaturizer`.
    max_length : int, default=None
        As in `TextFeaturizer`.
    layer : int, str or list of these, default=-1
        Which stage gives the features, as in `FineTuneClassifier`.
    pooling : str, default="auto"
        As in `ImageFeaturizer` and `TextFeaturizer`.
    freeze_depth : int, float or str, default=-1
        How many stages are frozen, counted from the input, as in `FineTuneClassifier`; 0 trains all, as SetFit does.
    loss : {"cosine", "supcon"}, default="cosine"
        "cosine" is the squared distance of each pair's cosine from 1 or 0 [1]_; "supcon" the supervised contrastive
        loss [2]_, for which it is enough that others are farther away.
    normalize : bool, default=True
        Scale each sample's features to length 1: the losses look at their direction alone.
    max_epochs : int, default=20
        Passes over the samples. All that fit into one batch are one step.
    batch_size : int, default=32
        Samples a step, all pairs of which are learnt from; 4 or more. Where there are more samples than that, classes
        take turns in giving two, so that a rare class is seen as often as others.
    lr : float, "auto" or "find", default="auto"
        Highest learning rate of the uppermost stage. "auto" is 1e-4, which suits AdamW and pretrained weights; "find"
        tries rising rates on a copy first, for up to 60 steps, and takes a fifth of the best (`find_lr`).
    lr_schedule : {"linear", "slanted_triangular", "one_cycle", "cosine", "constant"}, default="linear"
        As in `FineTuneClassifier`.
    layer_lr_decay : float, default=1.0
        What the rate is divided by from each stage to the one below it.
    optimizer : {"adamw", "adam", "sgd"} or class of torch.optim, default="adamw"
        What does the steps.
    weight_decay : float, default=0.01
        Of weights; biases and norms are not decayed.
    l2_sp : float, default=0.0
        Draws the stages to where they started, as in `FineTuneClassifier`.
    adapter : peft.PeftConfig, default=None
        Trains adapters in place of weights, as in `FineTuneClassifier`.
    augment : {"light", "strong", "word_dropout"} or torchvision.transforms.v2.Transform, default=None
        Changes samples anew in each epoch, as in `FineTuneClassifier`.
    device : str or torch.device, default="auto"
        "auto" is a GPU where there is one.
    precision : {"float32", "bfloat16", "float16", "auto"}, default="float32"
        In which the stages compute; weights that are trained stay float32.
    cache : "memory", path or None, default="memory"
        Keeps what the frozen stages give, as in `FineTuneClassifier`.
    callbacks : list of skorch callbacks, default=None
        As in `FineTuneClassifier`. `MicroBatches` leaves out the pairs between its parts.
    random_state : int, RandomState or None, default=None
        Draws pairs, dropout and random weights. Equal seeds give equal results on a CPU.
    verbose : int, default=0
        1 prints a line an epoch.

    Attributes
    ----------
    backbone_ : Backbone
        The backbone as trained, to go on from: `FineTuneClassifier(backbone=tuner.backbone_)`.
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
        A row a stage: whether it was trained, its rate, how many of its numbers were.
    n_features_in_ : int
        Number of columns, where X has any.

    See Also
    --------
    FineTuneClassifier : Trains stages and a linear head together, where labels are many.
    NearestClassMean : A classifier for features of few samples.

    References
    ----------
    .. [1] L. Tunstall et al., "Efficient Few-Shot Learning Without Prompts", 2022.
    .. [2] P. Khosla et al., "Supervised Contrastive Learning", NeurIPS 2020.

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

    _task, _scored, _batches = "classes", "features", PairBatches

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
        loss: str = "cosine",
        normalize: bool = True,
        max_epochs: int = 20,
        batch_size: int = 32,
        lr: float | str = "auto",
        lr_schedule: str = "linear",
        layer_lr_decay: float = 1.0,
        optimizer: str | type[torch.optim.Optimizer] = "adamw",
        weight_decay: float = 0.01,
        l2_sp: float = 0.0,
        adapter: Any = None,
        augment: Any = None,
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
            head_init="random",  # there is no head, and nothing that it could start from
            max_epochs=max_epochs,
            batch_size=batch_size,
            lr=lr,
            lr_schedule=lr_schedule,
            layer_lr_decay=layer_lr_decay,
            optimizer=optimizer,
            weight_decay=weight_decay,
            l2_sp=l2_sp,
            adapter=adapter,
            augment=augment,
            device=device,
            precision=precision,
            cache=cache,
            callbacks=callbacks,
            random_state=random_state,
            verbose=verbose,
        )
        self.loss = loss
        self.normalize = normalize

    @all_or_nothing
    @with_callbacks  # type: ignore[untyped-decorator]
    def fit(self, X: Any, y: Any) -> Self:
        """Train the stages above the cut.

        Parameters
        ----------
        X : array-like, Series, one-column DataFrame or list of n_samples
            Images or texts.
        y : array-like of shape (n_samples,)
            Labels of any kind.

        Returns
        -------
        self : object

        Raises
        ------
        InvalidParameterError
            If a parameter is not allowed, or nothing is left to train.
        InvalidSampleError
            If a sample cannot be used.
        ValueError
            If y does not fit X, holds one class only, or no class twice.
        """
        self._check_parameters()
        return self._fit(X, y, None)

    def transform(self, X: Any) -> np.ndarray:
        """Return the features of samples.

        Parameters
        ----------
        X : array-like, Series, one-column DataFrame or list of n_samples
            Images or texts.

        Returns
        -------
        features : ndarray of shape (n_samples, n_features), float32

        Raises
        ------
        InvalidSampleError
            If a sample cannot be used.
        """
        features = self._outputs(X)
        return to_unit_length(features, copy=False) if self.normalize else features

    def _check_parameters(self) -> None:
        if not isinstance(self.loss, str) or self.loss not in PAIR_LOSSES:
            raise InvalidParameterError(f"loss={self.loss!r} must be one of {tuple(PAIR_LOSSES)}")
        if isinstance(self.batch_size, Integral) and self.batch_size < _LEAST_BATCH:
            raise InvalidParameterError(
                f"batch_size={self.batch_size} must be an int of at least {_LEAST_BATCH}: a step learns from the pairs "
                "of its samples, of one class and of two"
            )

    def _check_y(self, y: Any) -> np.ndarray:
        return check_labels(y)

    def _targets(self, y: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        classes, indices, counts = np.unique(y, return_inverse=True, return_counts=True)
        if len(classes) < 2:
            raise ValueError(f"y holds one class only, {classes.tolist()[0]!r}; there are no pairs to tell apart")
        if counts.max() < 2:
            raise ValueError(
                f"y holds {len(classes)} classes of one sample each; to learn what a class has in common takes two "
                "samples of one class at least"
            )
        return indices.astype(np.int64), weight

    def _criterion(self, settings: Settings) -> nn.Module:
        return PAIR_LOSSES[self.loss]()

    def _n_outputs(self) -> None:
        return None

    def _units(self) -> tuple[Any, ...]:
        return ()

    def _network(self, *args: Any) -> FineTuneNetwork:
        network = super()._network(*args)
        if not network.trainable:
            raise InvalidParameterError(
                f"freeze_depth={self.freeze_depth!r} leaves nothing to train of {self.backbone_.name}: its stages are "
                f"{self.backbone_.stage_names}, of which those above the cut have no weights. Freeze fewer, or take a "
                "featurizer"
            )
        self._n_features_out = network.n_outputs
        return network

    def _keep_head(self, network: FineTuneNetwork) -> None:
        """Keep none: there is none."""

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = []  # features are float32, whatever comes in
        return tags
