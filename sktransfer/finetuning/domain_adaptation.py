"""Fine-tuning with labels of one domain and samples of another."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.callback import with_callbacks
from torch import nn

from sktransfer._parameters import Parameter, with_parameters
from sktransfer._utils import all_or_nothing
from sktransfer.backbones.backbone import Backbone
from sktransfer.domains.base import Alignment
from sktransfer.domains.registry import Alignments, choose_alignments
from sktransfer.domains.sample_domain import FEWEST, Domains, read_domains, read_signs
from sktransfer.domains.statistics import (
    DomainInputs,
    DomainNorms,
    batch_norm_stages,
    has_batch_norm,
    with_statistics,
)
from sktransfer.engine.compute import Compute
from sktransfer.engine.inputs import PreprocessedSamples
from sktransfer.engine.layers import is_auto
from sktransfer.exceptions import InvalidParameterError
from sktransfer.finetuning import parameters as shared
from sktransfer.finetuning.arguments import FitArguments
from sktransfer.finetuning.classifier import ClassifyingTuner
from sktransfer.finetuning.single import TASK, GivenY
from sktransfer.samples.base import Samples
from sktransfer.targets.reading import n_rows
from sktransfer.tasks.base import Task
from sktransfer.tasks.classification import MultilabelIndicator
from sktransfer.tasks.given import GivenTargets
from sktransfer.tasks.validation import check_weight
from sktransfer.towers.joined import refuse_joined
from sktransfer.training.run import FitRun, PreviousFit, Trunk, Validation, cut
from sktransfer.training.settings import Settings, check_settings
from sktransfer.training.trainer import TrainingResult, net_of_task

__all__ = ["DomainAdaptationClassifier"]

ALIGNMENT = [
    Parameter(
        "alignment",
        "auto",
        '{"auto", "none", "adabn", "coral", "mmd", "dann", "mcc"}, object such as DANN(), or list of these',
        """Alignment of the domains. "auto" is "mcc", together with "adabn" if the backbone has BatchNorm. An indicator
        matrix has "coral" instead of "mcc" (`alignment_`). "adabn" takes BatchNorm statistics of each domain [10]_.
        "coral" makes means and covariances of features equal [6]_, "mmd" kernel means [7]_. "dann" trains features that
        do not tell the domains apart [8]_, and "mcc" sharpens the predictions of the target [9]_. A list adds
        alignments up. `CORAL`, `MMD`, `DANN` and `MCC` are objects with parameters. "none" learns from the source
        alone.""",
    ),
    Parameter(
        "alignment_weight",
        1.0,
        "float or dict of str to float",
        """Weight of the loss of each alignment, or a dict of weights by name. That of the labels has weight 1. With 0,
        the samples of the target change nothing, unless "adabn" is given by name, which has no loss.""",
    ),
]


@with_parameters(
    shared.ONE_BACKBONE,
    ALIGNMENT,
    shared.INPUT[1:],
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
    shared.VALIDATION[1].replace(
        description="Share of the labelled samples of the source in the validation split, stratified by class."
    ),
    shared.END,
    shared.CALLBACKS_WITHOUT_SCORES,
    shared.TRAINED_DEPTH.replace(
        description=shared.TRAINED_DEPTH.description.replace(
            "At least one stage is trained.",
            """"all" freezes all, which "coral", "mmd" and "dann" refuse, because they change features. "auto", as
            `FineTuneClassifier` has it, is for "none" and "adabn".""",
        )
    ),
)
class DomainAdaptationClassifier(ClassifyingTuner):
    """Classify a target domain without labels by the labels of a source domain.

    Copies of the stages above the freezing boundary are trained together with a linear head on the labels of the
    source. An alignment of the domains is a second task of the same training, and reads the features of both. Each
    batch holds as many samples of the source as of the target.

    Parameters
    ----------
    {parameters}

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Class labels of the source; the numbers of the columns for an indicator matrix.
    label_names_ : ndarray of shape (n_labels,), str
        Names of the columns of an indicator matrix. Only if y is a data frame.
    domains_ : ndarray of shape (n_domains,), int64
        Domains of `sample_domain`, sorted. -1 and 1 if it was not given.
    backbone_ : Backbone
        Adapted backbone, for a featurizer or the next estimator.
    alignment_ : str or list of str
        Only if `alignment="auto"`: the value of `alignment` that it stood for.
    adapted_stages_ : list of str
        Names of the stages whose BatchNorm statistics are those of the target, or of both domains if there are other
        alignments. Only with "adabn".
    head_ : Head
        Fitted head, to continue from: `FineTuneClassifier(backbone=clf.backbone_, head=clf.head_)`.
    net_ : skorch.NeuralNet
        Trained net of the classes, with the `history` of the training.
    freeze_depth_ : int
        Number of frozen stages.
    history_ : DataFrame
        One row per epoch: weighted sum of the losses, highest learning rate at its end, seconds, and what callbacks
        record. With alignments also the loss of each of them, such as `train_loss_coral`, and that of the labels,
        `train_loss_y`.
    layer_ : Series
        Only if `layer="auto"`: weight of each layer, by stage and pooling, summing to one. The source chooses it.
    strength_ : float
        C of the probe, a logistic regression, on features of total variance 1.
    report_ : str
        The choice and the errors that decided it, in a few lines.
    layer_weights_ : Series
        Weight of each stage if `layer="mix"`, summing to one.
    lr_ : float
        Learning rate that `lr` stood for.
    lr_curve_ : DataFrame
        Only if `lr="find"`: gain at each rate, one row per step.
    n_iter_ : int
        Number of epochs.
    stages_ : DataFrame
        One row per stage: whether it was trained, its rate, and its number of trained parameters.
    n_features_in_ : int
        Number of columns of X, if it has columns.

    See Also
    --------
    FineTuneClassifier : Fine-tuning on labels of all samples.
    SelfSupervisedTuner : Adapts a backbone to samples without any labels.

    Notes
    -----
    An epoch has as many draws as there are samples, half of them of each domain. The samples of the smaller domain
    are then drawn several times.

    The samples of the target that `fit` sees are adapted to. Their score is transductive, and tells little of new
    samples of the target. Hold out a part of the target to measure these.

    Labels of the target are not used, and there is a warning if y has some. Classes that only the target has are never
    predicted. Samples of a source domain may lack labels, and are then aligned only.

    With `alignment_weight=0` or "none", the result is that of `FineTuneClassifier` on the labelled samples of the
    source, bit for bit.

    `sample_weight` weighs the samples in the loss of the labels and, in an alignment, within their domain. BatchNorm
    statistics count all samples of a positive weight equally. Weights of the source that give its classes the ratios of
    the target correct an alignment for them. If the ratios differ, "coral", "mmd" and
    "dann" align them as well, and may hurt.

    `early_stopping` holds out samples of the source, and cannot see the target.

    With "adabn", each domain passes the network with its own BatchNorm statistics, also together with other alignments
    [11]_, and predictions are made with those of the target. Statistics of frozen stages change as well, so that
    outputs of stages above the first BatchNorm are computed anew.

    With all stages frozen, features cannot be aligned, and only "adabn" and "mcc" are allowed.

    References
    ----------
    .. [1] A. Kumar et al., "Fine-Tuning can Distort Pretrained Features and Underperform Out-of-Distribution",
       ICLR 2022.
    .. [2] M. Peters et al., "Deep Contextualized Word Representations", NAACL 2018.
    .. [3] J. Howard, S. Ruder, "Universal Language Model Fine-tuning for Text Classification", ACL 2018.
    .. [4] X. Li et al., "Explicit Inductive Bias for Transfer Learning with Convolutional Networks", ICML 2018.
    .. [6] B. Sun, K. Saenko, "Deep CORAL: Correlation Alignment for Deep Domain Adaptation", ECCV Workshops 2016.
    .. [7] M. Long et al., "Learning Transferable Features with Deep Adaptation Networks", ICML 2015.
    .. [8] Y. Ganin et al., "Domain-Adversarial Training of Neural Networks", JMLR 2016.
    .. [9] Y. Jin et al., "Minimum Class Confusion for Versatile Domain Adaptation", ECCV 2020.
    .. [10] Y. Li et al., "Revisiting Batch Normalization For Practical Domain Adaptation", ICLR Workshops 2017.
    .. [11] W. Chang et al., "Domain-Specific Batch Normalization for Unsupervised Domain Adaptation", CVPR 2019.

    Examples
    --------
    >>> from sktransfer import DomainAdaptationClassifier
    >>> texts = ["a moving, funny film", "dull from start to end", "a sturdy, quiet mixer", "it broke in a week"]
    >>> clf = DomainAdaptationClassifier("tiny/bert", alignment="coral", max_epochs=1, random_state=0)
    >>> clf.fit(texts, ["good", "bad", None, None]).predict(texts[2:]).shape
    (2,)
    >>> clf.history_[["train_loss_y", "train_loss_coral"]].shape
    (1, 2)
    """

    alignment: Any
    alignment_weight: Any
    adapted_stages_: list[str]
    alignment_: str | list[str]
    domains_: np.ndarray
    _target_backbone: Backbone | None = None  # during `fit`, if samples of the target pass a network of their own
    _target_inputs: PreprocessedSamples | None = None  # during `fit`, if BatchNorm takes statistics of them at its end

    # As in skada: domains need no request. Groups that a search gets for its folds need none either.
    __metadata_request__fit: ClassVar[dict[str, bool]] = {"groups": True, "sample_domain": True}
    __metadata_request__score: ClassVar[dict[str, bool]] = {"sample_domain": True}

    @all_or_nothing
    @with_callbacks  # type: ignore[untyped-decorator]
    def fit(
        self,
        X: Any,
        y: Any,
        sample_domain: Any = None,
        sample_weight: Any = None,
        groups: Any = None,
        *,
        X_val: Any = None,
        y_val: Any = None,
        sample_weight_val: Any = None,
    ) -> Self:
        """Train the stages above the freezing boundary, and the head, with samples of both domains.

        Parameters
        ----------
        X : array-like, Series, one-column DataFrame or list of n_samples
            Images or texts of both domains.
        y : array-like of shape (n_samples,) or (n_samples, n_labels)
            Labels of any type, or an indicator matrix. It is not changed. Without `sample_domain`, samples whose label
            is None or NaN are the target.
        sample_domain : array-like of shape (n_samples,), default=None
            Domain of each sample: a positive integer for a source, a negative one for a target. With metadata routing,
            a search passes it here without a request, and without routing as a parameter of its `fit`.
        sample_weight : array-like of shape (n_samples,), default=None
            Weight of each sample. Only ratios of weights matter. Samples with zero weight are dropped.
        groups : array-like of shape (n_samples,), default=None
            Group of each sample. The validation split of `early_stopping` does not separate groups.
        X_val : array-like, Series, one-column DataFrame or list of n_val, default=None
            Validation samples with labels. `history_` has their loss, and `early_stopping` uses them instead of a split
            of the source.
        y_val : array-like of shape (n_val,) or (n_val, n_labels), default=None
            Labels of the validation samples.
        sample_weight_val : array-like of shape (n_val,), default=None
            Weight of each validation sample.

        Returns
        -------
        self : object
            Fitted estimator.

        Raises
        ------
        InvalidParameterError
            If a parameter is not allowed, or the alignment does not fit the backbone.
        InvalidSampleError
            If a sample cannot be used.
        NotFiniteError
            If the training diverges: a loss or a weight is infinite or NaN.
        ValueError
            If there are no two domains of two samples or more, or y or `sample_domain` do not fit X.

        Warns
        -----
        ConvergenceWarning
            If the training loss is far higher at the end than at the start.
        TargetWarning
            If samples of the target have labels.
        """
        validation = {"X_val": X_val, "y_val": y_val, "sample_weight_val": sample_weight_val}
        return self._fit(FitArguments(X, y, sample_weight, groups, sample_domain=sample_domain, **validation))

    def score(self, X: Any, y: Any, sample_weight: Any = None, sample_domain: Any = None) -> float:
        """Return the accuracy over the samples whose label is known.

        Parameters
        ----------
        X : array-like, Series, one-column DataFrame or list of n_samples
            Images or texts.
        y : array-like of shape (n_samples,) or (n_samples, n_labels)
            Labels, of which some may be missing.
        sample_weight : array-like of shape (n_samples,), default=None
            Weight of each sample.
        sample_domain : array-like of shape (n_samples,), default=None
            Domain of each sample. If it is given, samples of target domains are left out, because `fit` does not use
            their labels. To score the target, leave it out, and pass the target alone.

        Returns
        -------
        score : float

        Raises
        ------
        ValueError
            If no label is known, or y or `sample_domain` do not fit X.
        """
        sign, _, labels, known = read_signs(y, sample_domain)  # (n_samples,), (n_known, ...), (n_samples,)
        labels, known = labels[sign[known] > 0], known & (sign > 0)
        if not known.any():
            hidden = (
                ""
                if not len(sign) or (sign > 0).any() or sample_domain is None
                else (" of a source domain: to score the target, leave sample_domain out")
            )
            raise ValueError(f"y has no known label{hidden or ', so there is nothing to score'}")
        outputs = self._outputs(X)  # (n_samples, n_outputs)
        if len(outputs) != len(known):
            raise ValueError(f"X has {len(outputs)} samples, and y has {len(known)} rows; pass one row per sample")
        weight = None if sample_weight is None else check_weight(sample_weight, len(known))[known]
        return self._task.score(labels, self._task.decode(outputs[known]), weight)

    @property
    def _alignments(self) -> Alignments:
        return choose_alignments(self.alignment_ if is_auto(self.alignment) else self.alignment, self.alignment_weight)

    def _settings(self) -> Settings:
        settings = check_settings(self)
        return settings if is_auto(self.alignment) else self._aligned(settings)

    def _settings_of_tasks(self, settings: Settings) -> Settings:
        return super()._settings_of_tasks(self._aligned(settings) if is_auto(self.alignment) else settings)

    def _aligned(self, settings: Settings) -> Settings:
        """Return the settings with what the alignments need."""
        alignments = self._alignments
        if alignments.takes_statistics and self.warm_start:
            raise InvalidParameterError(
                "alignment='adabn' leaves the statistics of the target in the backbone, so that training on the source "
                "cannot be continued; set warm_start=False, and pass backbone=clf.backbone_ to start from it"
            )
        if not alignments.losses:
            return settings
        if settings.batch_size < 2 * FEWEST:
            raise InvalidParameterError(
                f"batch_size={self.batch_size} leaves less than {FEWEST} samples of each domain in a batch, so that "
                f"alignment={next(iter(alignments.losses))!r} has nothing to compare; set it to {2 * FEWEST} or more"
            )
        if is_auto(self.freeze_depth):
            raise InvalidParameterError(
                "freeze_depth='auto' compares losses of held-out labels, which tell nothing of an alignment; set "
                "freeze_depth to a number"
            )
        callbacks = [one for alignment in alignments.losses.values() for one in alignment.callbacks()]
        return dataclasses.replace(
            settings,
            task_weights=alignments.weights,
            task_sampling="joint",
            callbacks=[*(settings.callbacks or []), *callbacks],
        )

    def _read_rows(self, arguments: FitArguments, backbone: Backbone, *, reset: bool) -> tuple[Samples, FitArguments]:
        refuse_joined(backbone, type(self).__name__, "adapt the backbone of one column, and join it afterwards")
        samples, arguments = super()._read_rows(arguments, backbone, reset=reset)
        if isinstance(arguments.y, GivenY):  # of validation data
            return samples, arguments
        domains = read_domains(arguments.y, arguments.sample_domain)
        if len(domains.sign) != len(samples):
            raise ValueError(f"X has {len(samples)} samples, and y has {len(domains.sign)} rows; pass one per sample")
        self.domains_ = domains.ids
        if hasattr(self, "alignment_"):
            del self.alignment_  # of an earlier fit
        if is_auto(self.alignment):
            loss = "mcc" if np.ndim(domains.labels) == 1 else "coral"  # "mcc" takes one class per sample
            with_statistics = has_batch_norm(backbone) and not self.warm_start  # "adabn" cannot be continued
            of_network = ["adabn", loss] if with_statistics else loss
            self.alignment_ = "none" if self.alignment_weight == 0 else of_network
        return samples, dataclasses.replace(arguments, y=domains)

    def _read_targets(
        self, y: Any, *, first: bool, classes: Mapping[str, np.ndarray] | None = None
    ) -> Mapping[str, GivenTargets]:
        labels, sign = (
            (GivenY(y.labels, y.known), y.sign) if isinstance(y, Domains) else (y, np.ones(n_rows(y.values, "y")))
        )
        return {TASK: labels, **{name: GivenY(sign) for name in self._alignments.losses}}

    def _read_weights(
        self, sample_weight: Any, n_samples: int, given: Mapping[str, GivenTargets]
    ) -> Mapping[str, np.ndarray]:
        return dict.fromkeys(given, check_weight(sample_weight, n_samples))

    def _make_tasks(
        self, given: Mapping[str, GivenTargets], classes: Mapping[str, np.ndarray] | None, backbone: Backbone
    ) -> Mapping[str, Task]:
        losses = self._alignments.losses
        tasks = {**super()._make_tasks(given, classes, backbone), **losses}
        needy = [name for name, alignment in losses.items() if alignment.needs_classes]
        if needy and tasks[TASK].kind == MultilabelIndicator.kind:
            raise InvalidParameterError(
                f"alignment={needy[0]!r} takes one class per sample, and y holds several labels per sample; use "
                "another alignment, such as 'coral'"
            )
        return tasks

    def _adapt_backbone(
        self, backbone: Backbone, samples: Samples, arguments: FitArguments, compute: Compute
    ) -> Backbone:
        alignments = self._alignments
        if hasattr(self, "adapted_stages_"):
            del self.adapted_stages_  # of an earlier fit
        if not (alignments.losses or alignments.takes_statistics):
            return backbone
        weight = check_weight(arguments.sample_weight, len(samples))  # (n_samples,)
        rows = {sign: np.flatnonzero((arguments.y.sign == sign) & (weight > 0)) for sign in (1, -1)}
        for kind, some in zip(("source", "target"), rows.values()):
            if len(some) < FEWEST:
                raise ValueError(
                    f"sample_weight leaves {len(some)} samples of the {kind} domain with a weight greater than 0, and "
                    f"an alignment takes {FEWEST} of each"
                )
        if not alignments.takes_statistics:
            return backbone
        batch_norm_stages(backbone)  # raises if there are none
        inputs = {sign: PreprocessedSamples(samples.take(some), backbone.preprocess) for sign, some in rows.items()}
        self._target_inputs = inputs[-1]
        if alignments.losses:  # otherwise no sample of the target passes the network in the training
            self._target_backbone = with_statistics(backbone, inputs[-1], compute)
        return with_statistics(backbone, inputs[1], compute)

    def _validation(self, settings: Settings, arguments: FitArguments, trunk: Trunk) -> Validation:
        return super()._validation(settings, dataclasses.replace(arguments, y_val=GivenY(arguments.y_val)), trunk)

    def _choose_trunk(self, backbone: Backbone, previous: PreviousFit | None, choices: Any) -> Trunk:
        trunk = super()._choose_trunk(backbone, previous, choices)
        still = [name for name, alignment in self._alignments.losses.items() if alignment.moves_features]
        if still and trunk.boundary == len(trunk.backbone.stages):
            raise InvalidParameterError(
                f"freeze_depth={self.freeze_depth!r} freezes all stages, so that alignment={still[0]!r} cannot change "
                "the features; freeze fewer, use 'adabn' or 'mcc', or align the features of a featurizer by skada"
            )
        return trunk

    def _run(self, settings: Settings, *arguments: Any) -> FitRun:
        run = super()._run(settings, *arguments)
        losses = self._alignments.losses
        if not losses:
            return run
        name = next(iter(losses))
        sign = run.targets[name].values  # (n_rows,)
        run = dataclasses.replace(run, sources={"source": sign > 0, "target": sign < 0})
        if self._target_backbone is None:
            return run
        target = cut(self._target_backbone, [len(run.trunk.backbone.stages)])
        alignment = run.tasks[name]
        assert isinstance(alignment, Alignment)
        alignment.norms = DomainNorms(nn.ModuleList(target.stages[run.trunk.boundary :]).state_dict())
        del self._target_backbone
        return dataclasses.replace(run, inputs=DomainInputs(run.inputs, sign < 0, target))

    def _store_result(self, run: FitRun, result: TrainingResult) -> None:
        super()._store_result(run, result)
        if len(self._tasks) > 1:  # predictions need no alignment
            self.net_ = net_of_task(self.net_, TASK, TASK)
            self._tasks = self.net_.tasks
        if self._target_inputs is not None:
            self.backbone_ = with_statistics(self.backbone_, self._target_inputs, run.compute)
            del self._target_inputs
            self.net_.module_.stages.load_state_dict(
                nn.ModuleList(self.backbone_.stages[result.boundary :]).state_dict()
            )
        if self._alignments.takes_statistics:
            self.adapted_stages_ = [self.backbone_.stage_names[index] for index in batch_norm_stages(self.backbone_)]
