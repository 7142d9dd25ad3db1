"""Fine-tuning as a classifier."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from sklearn.callback import with_callbacks

from sktransfer._utils import all_or_nothing
from sktransfer.finetuning.labelling import Labelling

if TYPE_CHECKING:
    import torch

    from sktransfer.backbones.backbone import Backbone
    from sktransfer.backbones.preprocess import ImageTransform
    from sktransfer.training.heads import Head

__all__ = ["FineTuneClassifier"]


class FineTuneClassifier(Labelling):
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
        left out. "mix" adds all stages up, each by a weight that is learnt (`layer_weights_`) [2]_; their features must
        be of the same width.
    pooling : str, default="auto"
        As in `ImageFeaturizer` and `TextFeaturizer`.
    freeze_depth : int, float or str, default=-1
        How many stages are frozen, counted from the input. An int is a Python slice, `stages[:freeze_depth]`: 0 trains
        all, -1 freezes all but the last. A float f in [0, 1] freezes floor(f * n), so one grid serves backbones of
        different depth. A name freezes up to and with that stage, "all" freezes all.
    head : "linear" or Head, default="linear"
        "linear" makes a new head. The `head_` of a fitted estimator is gone on from, where classes and features agree.
    head_init : {"probe", "class_means", "random"}, default="probe"
        How a new head starts: "probe" as a linear model on the pretrained features [1]_, "class_means" as the one that
        finds the nearest mean of a class, "random" draws it.
    max_epochs : int, default=10
        Passes over the samples; 0 leaves the probe.
    batch_size : int, default=32
        Samples a step.
    lr : float, "auto" or "find", default="auto"
        Highest learning rate of the uppermost stage. "auto" is 1e-4, which suits AdamW and pretrained weights; "find"
        tries rising rates on a copy first, for up to 60 steps, and takes a fifth of the best (`find_lr`).
    head_lr : float, default=None
        Highest learning rate of the head; None for `lr`, or ten times `lr` where the head starts at random.
    lr_schedule : {"linear", "slanted_triangular", "one_cycle", "cosine", "constant"}, default="linear"
        What all rates are multiplied by from the first batch to the last: a line or half a wave from 1 to 0, ULMFiT's
        triangle (up in the first tenth of the steps, down in the rest) [3]_, one cycle up and down, or nothing. An
        `LRScheduler` of skorch among `callbacks` takes the place of the default.
    layer_lr_decay : float, default=1.0
        What the rate is divided by from each stage to the one below it; 2.6 is ULMFiT's.
    unfreezing : {"none", "gradual", "chain_thaw"}, default="none"
        In which order the stages above the cut begin to learn: all at once; the head alone, then one stage more an
        epoch from the top (ULMFiT); the head alone, each stage alone from the lowest, then all. What waits is as frozen
        as what lies below the cut.
    optimizer : {"adamw", "adam", "sgd"} or class of torch.optim, default="adamw"
        What does the steps.
    weight_decay : float, default=0.01
        Of weights; biases and norms are not decayed.
    l2_sp : float, default=0.0
        Draws the stages to where they started, by the gradient of `l2_sp / 2 * |w - w_start|²` [4]_; they then have no
        weight decay. Values from 0.001 to 1 are worth a search.
    label_smoothing : float, default=0.0
        The share of each target that is spread evenly over the classes.
    class_weight : dict or "balanced", default=None
        Weight of each class, as everywhere in scikit-learn; not for indicator matrices.
    adapter : peft.PeftConfig, default=None
        Trains adapters on the stages above the cut in place of their weights:
        `peft.LoraConfig(r=8, target_modules="all-linear")`. They are merged into the weights at the end.
    augment : {"light", "strong", "word_dropout"} or torchvision.transforms.v2.Transform, default=None
        Changes samples anew in each epoch: images are mirrored and shifted a little ("light"), or changed in colour and
        shape as well ("strong": RandAugment and an erased patch); of texts a tenth of the words is left out
        ("word_dropout"). A transform gets a tensor (3, height, width) in [0, 1]. The frozen stages then run in each
        epoch: nothing is stored but what a new head starts from.
    early_stopping : bool, default=False
        Whether to set samples aside, stop when their loss no longer falls, and restore the weights of the best epoch.
    validation_fraction : float, default=0.1
        The share that `early_stopping` sets aside, the same of each class.
    patience : int, default=3
        Epochs in vain after which `early_stopping` stops; those in which stages still wait are not counted.
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
        Told of each epoch and batch: skorch's own (`EpochScoring`, `GradientNormClipping` and others; a score sees
        classes as their places in `classes_`), `EMA`, `SWA`, `WiSEFT`, `MicroBatches`, `Mixup`, `Checkpoint`. Those of
        scikit-learn (`set_callbacks`) work as well.
    warm_start : bool, default=False
        Whether a further `fit` goes on from what the last has left, backbone and head.
    random_state : int, RandomState or None, default=None
        Draws order, dropout and new weights. Equal seeds give equal results on a CPU.
    verbose : int, default=0
        1 prints a line an epoch.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The labels; for an indicator matrix the numbers of its columns.
    backbone_ : Backbone
        The backbone as trained, to featurize with or to go on from: `FineTuneClassifier(backbone=clf.backbone_)`.
    head_ : Head
        The head as trained, to go on from: `FineTuneClassifier(backbone=clf.backbone_, head=clf.head_)`.
    net_ : skorch.NeuralNet
        The trained net, with its `history`.
    freeze_depth_ : int
        How many stages were frozen.
    history_ : DataFrame
        A row an epoch: losses, the highest learning rate at its end, seconds, and what callbacks record.
    layer_weights_ : Series
        How much each stage counts, where `layer="mix"`; they sum to one.
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
    FineTuneRegressor : The same for numbers.
    ImageFeaturizer : The frozen backbone as a transformer.

    Notes
    -----
    With a cache a frozen stage runs once for each sample; epochs, folds and candidates of a grid search share
    what it gave.

    Pretrained BatchNorm keeps its statistics. Where weights are random, it learns them, and `fit` takes them once more
    at its end, over all training samples: after few steps the running ones are of no use.

    References
    ----------
    .. [1] A. Kumar et al., "Fine-Tuning can Distort Pretrained Features and Underperform Out-of-Distribution",
       ICLR 2022.
    .. [2] M. Peters et al., "Deep Contextualized Word Representations", NAACL 2018.
    .. [3] J. Howard, S. Ruder, "Universal Language Model Fine-tuning for Text Classification", ACL 2018.
    .. [4] X. Li et al., "Explicit Inductive Bias for Transfer Learning with Convolutional Networks", ICML 2018.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sktransfer import FineTuneClassifier
    >>> X, y = load_digits(return_X_y=True)  # rows of 64 = 8 x 8 grey pixels from 0 to 16
    >>> clf = FineTuneClassifier("tiny/cnn", freeze_depth="block4", max_epochs=3, random_state=0)
    >>> clf.fit(X[:100] / 16, y[:100]).predict(X[:5] / 16)
    array([0, 1, 2, 3, 4])
    """

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
        head: str | Head = "linear",
        head_init: str = "probe",
        max_epochs: int = 10,
        batch_size: int = 32,
        lr: float | str = "auto",
        head_lr: float | None = None,
        lr_schedule: str = "linear",
        layer_lr_decay: float = 1.0,
        unfreezing: str = "none",
        optimizer: str | type[torch.optim.Optimizer] = "adamw",
        weight_decay: float = 0.01,
        l2_sp: float = 0.0,
        label_smoothing: float = 0.0,
        class_weight: Mapping[Any, float] | str | None = None,
        adapter: Any = None,
        augment: Any = None,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        patience: int = 3,
        device: str | torch.device = "auto",
        precision: str = "float32",
        cache: str | os.PathLike[str] | None = "memory",
        callbacks: Sequence[Any] | None = None,
        warm_start: bool = False,
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
            head=head,
            head_init=head_init,
            max_epochs=max_epochs,
            batch_size=batch_size,
            lr=lr,
            head_lr=head_lr,
            lr_schedule=lr_schedule,
            layer_lr_decay=layer_lr_decay,
            unfreezing=unfreezing,
            optimizer=optimizer,
            weight_decay=weight_decay,
            l2_sp=l2_sp,
            adapter=adapter,
            augment=augment,
            early_stopping=early_stopping,
            validation_fraction=validation_fraction,
            patience=patience,
            device=device,
            precision=precision,
            cache=cache,
            callbacks=callbacks,
            warm_start=warm_start,
            random_state=random_state,
            verbose=verbose,
        )
        self.label_smoothing = label_smoothing
        self.class_weight = class_weight

    @all_or_nothing
    @with_callbacks  # type: ignore[untyped-decorator]
    def fit(self, X: Any, y: Any, sample_weight: Any = None, groups: Any = None) -> Self:
        """Train the stages above the cut, and the head.

        Parameters
        ----------
        X : array-like, Series, one-column DataFrame or list of n_samples
            Images or texts.
        y : array-like of shape (n_samples,) or (n_samples, n_labels)
            Labels of any kind, or an indicator matrix of 0 and 1, where several labels may hold.
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
            If y does not fit X or holds one class only.
        """
        self._known = None
        return self._fit(X, y, sample_weight, groups)

    @all_or_nothing
    @with_callbacks  # type: ignore[untyped-decorator]
    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> Self:
        """Go on training with more samples, in one pass and at a constant rate; the first call starts as `fit` does.

        Parameters
        ----------
        X : array-like, Series, one-column DataFrame or list of n_samples
            Images or texts.
        y : array-like of shape (n_samples,) or (n_samples, n_labels)
            Labels, not necessarily of all classes.
        classes : array-like of shape (n_classes,), default=None
            All labels that will come; needed in the first call.
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
            If the first call has no classes, or y others.
        """
        if not hasattr(self, "net_"):
            if classes is None:
                raise ValueError("the first call of partial_fit needs classes: all labels that will come")
            self._known = np.unique(classes)
        else:
            given = self.classes_ if classes is None else np.unique(classes)
            names = self._task == "labels" and len(given) == len(self.classes_)  # of columns, which have numbers here
            if not names and not np.array_equal(given, self.classes_):
                raise ValueError(f"classes={np.unique(classes)} are not those of the first call, {self.classes_}")
            self._known = self.classes_
        return self._partial_fit(X, y, sample_weight)
