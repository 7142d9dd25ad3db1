"""Self-supervised tuning of a backbone as a transformer."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Self

import numpy as np
import pandas as pd
from sklearn.base import TransformerMixin
from sklearn.callback import with_callbacks
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import Tags, _safe_indexing
from sklearn.utils.validation import check_is_fitted
from skorch.history import History

from sktransfer._parameters import Parameter, with_parameters
from sktransfer._utils import all_or_nothing
from sktransfer.backbones.backbone import Backbone, replace_stages
from sktransfer.engine.inputs import PreprocessedSamples, concat_features
from sktransfer.engine.layers import LayerOutput, resolve_layers
from sktransfer.engine.parameters import LAYER, TARGET
from sktransfer.exceptions import InvalidParameterError, NewHeadWarning, ShortTextWarning, name_row, warn
from sktransfer.featurizers.image import ImageFeaturizer
from sktransfer.featurizers.text import TextFeaturizer
from sktransfer.finetuning import parameters as shared
from sktransfer.finetuning.arguments import FitArguments, labelled_rows
from sktransfer.finetuning.single import TASK, SingleTaskTuner
from sktransfer.objectives.base import Objective, text_tokens
from sktransfer.objectives.copies import NoisyCopies
from sktransfer.objectives.heads import with_new_lm_head
from sktransfer.objectives.registry import OBJECTIVES, check_views, choose_objective
from sktransfer.samples.base import Samples
from sktransfer.tasks.base import Task
from sktransfer.tasks.given import GivenTargets
from sktransfer.training.data import collect_features
from sktransfer.training.run import FitRun, PreviousFit, Trunk
from sktransfer.training.samplers import CopyBatches
from sktransfer.training.settings import Settings, check_settings
from sktransfer.training.trainer import TrainingResult

__all__ = ["SelfSupervisedTuner"]

_FEATURIZERS: dict[str, tuple[type[ImageFeaturizer | TextFeaturizer], str]] = {
    "image": (ImageFeaturizer, "image_shape"),
    "text": (TextFeaturizer, "normalize"),
}
_MOST_ROWS = 200  # samples whose features are compared before and after the training
_EQUAL = 1e-6  # spread of samples that are equal
_COLLAPSED = 0.1  # share of their spread below which features have collapsed
_INPUT = {one.name: one for one in shared.INPUT}


@dataclasses.dataclass(frozen=True)
class _Samples:
    """Targets made from the samples, and which samples there is enough of to learn from."""

    targets: np.ndarray  # (n_samples,), such as one tensor (n_tokens,) each
    known: np.ndarray | None  # (n_samples,)
    values: None = None  # there is no y

    def check(self, task: Task) -> np.ndarray:
        """Return the targets of the samples to learn from (n_known,)."""
        return self.targets if self.known is None else self.targets[self.known]

    def named(self) -> AbstractContextManager[Any]:
        """Return a context that changes no error."""
        return nullcontext()


@with_parameters(
    shared.ONE_BACKBONE,
    Parameter(
        "objective",
        "auto",
        '{"auto", "none", "mlm", "causal", "tsdae", "simcse", "contrastive_tension", "denoise", "simsiam", "mae"} '
        "or objective",
        """What is learned from the samples. "none" trains nothing, so that a search shows whether the others help.
        Texts: "mlm" predicts hidden tokens [1]_ (`MaskedTokens`), "causal" the next token (`NextTokens`, for networks
        like GPT-2), and "tsdae" a text of which words are deleted [5]_ (`Denoising`). "simcse" tells texts apart under
        dropout [2]_ (`DropoutViews`), and "contrastive_tension" by two networks [9]_ (`ContrastiveTension`). Images:
        "denoise" reconstructs the input of each stage from a noisy copy, stage by stage [6]_ (`StageDenoising`),
        "simsiam" predicts one changed copy of an image from another [7]_ (`SiameseViews`), and "mae" reconstructs
        hidden patches in a vision transformer [8]_ (`MaskedPatches`). "auto" is for texts: "causal" if the
        weights have a head for it, otherwise "simcse". If `views` is given, or the trained stages have no dropout, and
        the weights have a masked head, it is "mlm". `objective_` is the one that was taken.""",
    ),
    Parameter(
        "views",
        None,
        "int",
        """Number of fixed noisy copies of each sample for "mlm", "tsdae" and "simsiam", which change the samples. The
        epochs read them in turn. Frozen stages then run once for each copy, and their outputs are cached. "simsiam"
        reads two copies in an epoch, so it takes 2 or more. None draws new noise in each epoch, and freezes no stage.
        The other objectives do not change what frozen stages read, and take None only.""",
    ),
    shared.INPUT[1:],
    LAYER,
    TARGET,
    Parameter(
        "normalize",
        "auto",
        'bool or "auto"',
        """Whether to scale the features of each text to length 1. "auto" does so if the model itself does. Only "auto"
        for images.""",
    ),
    _INPUT["freeze_depth"].replace(
        default=0,
        description="""Number of frozen stages, counted from the input. 0 trains all stages. An int is a Python slice,
        `stages[:freeze_depth]`, a float f in [0, 1] freezes floor(f * n), and a name freezes up to and with that stage.
        "mlm", "tsdae" and "simsiam" change the samples, so they take 0 only, unless `views` fixes the changes. "mae"
        takes 1 or more. Frozen stages run once, and their outputs are cached.""",
    ),
    shared.TRAINING,
    shared.TRAINING[0].replace(
        default=3,
        description="""Number of passes over the samples, for each stage if they are trained one by one. 0 trains
        nothing.""",
    ),
    shared.TRAINING[1].replace(
        description="""Samples per step. "simcse" and "contrastive_tension" compare the texts of a step. A larger number
        makes "simcse" harder."""
    ),
    shared.SCHEDULE,
    shared.UNFREEZING[0].replace(
        description=shared.UNFREEZING[0].description
        + """ "simcse" and "contrastive_tension" have no head, and begin with the second of these phases.""",
    ),
    shared.RECIPE,
    shared.CHANGES[0],
    shared.VALIDATION,
    shared.VALIDATION[0].replace(
        description="""Whether to stop when the loss of the held-out samples no longer falls, and restore the weights of
        the best epoch, or those before training if each epoch was worse."""
    ),
    shared.VALIDATION[1].replace(
        description="Share of the samples that are held out. `history_` has their loss, `valid_loss`. At least one."
    ),
    [one for one in shared.END if one.name != "warm_start"],
    shared.CALLBACKS_WITHOUT_SCORES,
)
class SelfSupervisedTuner(TransformerMixin, SingleTaskTuner):
    """Adapt a pretrained network to texts or images without labels, and turn them into features.

    Copies of the stages above the freezing boundary are trained on the samples themselves. `backbone_` can then be used
    by every other estimator. As a step of a pipeline, `make_pipeline(SelfSupervisedTuner(), LogisticRegression())`, it
    adapts the network to the samples of each fold, and gives the features of `TextFeaturizer` or `ImageFeaturizer`.

    Parameters
    ----------
    {parameters}

    Attributes
    ----------
    backbone_ : Backbone
        Adapted backbone, to continue from: `FineTuneClassifier(backbone=tuner.backbone_)`. Its `lm_head` is trained as
        well if the objective predicts tokens.
    featurizer_ : TextFeaturizer or ImageFeaturizer
        Fitted featurizer of the adapted backbone. Its `layer_`, `strength_` and `report_` are attributes here as well.
    freeze_depth_ : int
        Number of frozen stages.
    history_ : DataFrame
        One row per epoch: losses of the training and of the held-out samples, rate, seconds, and the stage if they are
        trained one by one. Empty without training.
    lr_ : float
        Learning rate that `lr` stood for. Only after a training.
    lr_curve_ : DataFrame
        Only if `lr="find"`: gain at each rate, one row per step.
    n_iter_ : int
        Number of epochs.
    net_ : skorch.NeuralNet
        Trained net, with its `history`. That of the last stage if they are trained one by one. Only after a training,
        and not after `load`.
    objective_ : Objective or None
        Objective of the training, None without one.
    stages_ : DataFrame
        One row per stage: whether it was trained, its rate, and its number of trained parameters. Only after a
        training.
    n_features_in_ : int
        Number of columns of X, if it has columns.

    See Also
    --------
    TextFeaturizer : Features of a network that is not adapted.
    ImageFeaturizer : The same for images.
    FineTuneClassifier : Trains by labels, and can start from `backbone_`.

    Notes
    -----
    A pipeline adapts to the samples of its training folds alone. If the samples to be predicted are among those that
    `fit` sees, scores tell of these samples, and not of new ones.

    Samples without a label can be in the same call: `make_pipeline(SelfSupervisedTuner(), SelfTrainingClassifier(
    LogisticRegression()))` learns from samples whose y is -1 as well.

    The held-out loss may fall while the features become worse for a task. Compare objectives by the score of the task.
    On photos of CIFAR-10, "denoise" and "simsiam" with the default rate cost `tiny/cnn` ten points of accuracy, and
    "simsiam" with `lr=1e-5` changed little.

    If the weights have no head for "mlm" or "causal", a new one is drawn, with a warning. It has much to learn, so this
    needs many texts.

    References
    ----------
    .. [1] J. Devlin et al., "BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding",
       NAACL 2019.
    .. [2] T. Gao et al., "SimCSE: Simple Contrastive Learning of Sentence Embeddings", EMNLP 2021.
    .. [3] J. Howard, S. Ruder, "Universal Language Model Fine-tuning for Text Classification", ACL 2018.
    .. [4] X. Li et al., "Explicit Inductive Bias for Transfer Learning with Convolutional Networks", ICML 2018.
    .. [5] K. Wang et al., "TSDAE: Using Transformer-based Sequential Denoising Auto-Encoder for Unsupervised Sentence
       Embedding Learning", Findings of EMNLP 2021.
    .. [6] P. Vincent et al., "Stacked Denoising Autoencoders: Learning Useful Representations in a Deep Network with a
       Local Denoising Criterion", JMLR 11, 2010.
    .. [7] X. Chen and K. He, "Exploring Simple Siamese Representation Learning", CVPR 2021.
    .. [8] K. He et al., "Masked Autoencoders Are Scalable Vision Learners", CVPR 2022.
    .. [9] F. Carlsson et al., "Semantic Re-Tuning with Contrastive Tension", ICLR 2021.

    Examples
    --------
    >>> from sktransfer import SelfSupervisedTuner
    >>> texts = ["a moving, funny film", "I loved every minute", "two hours of nothing", "dull from start to end"]
    >>> tuner = SelfSupervisedTuner("tiny/bert", objective="simcse", freeze_depth=3, max_epochs=1, random_state=0)
    >>> tuner.fit_transform(texts).shape
    (4, 160)
    >>> tuner.history_[["train_loss", "valid_loss"]].shape
    (1, 2)
    """

    _target = None

    featurizer_: ImageFeaturizer | TextFeaturizer
    normalize: Any
    objective: Any
    objective_: Objective | None
    target: str
    validation_fraction: float
    augment = None

    @all_or_nothing
    @with_callbacks  # type: ignore[untyped-decorator]
    def fit(self, X: Any, y: Any = None) -> Self:
        """Train the stages above the freezing boundary on the samples.

        Parameters
        ----------
        X : list, Series, DataFrame or array of n_samples
            Texts, or images as `ImageFeaturizer` takes them.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs), default=None
            Labels or numbers that `layer="auto"` chooses by. The training does not see them. Missing ones are None,
            NaN, or -1 among class indices, as `sklearn.semi_supervised.SelfTrainingClassifier` has them.

        Returns
        -------
        self : object
            Fitted estimator.

        Raises
        ------
        InvalidParameterError
            If a parameter is not allowed, or the backbone does not fit the objective.
        InvalidSampleError
            If a sample cannot be used.
        NotFiniteError
            If the training diverges: a loss or a weight is infinite or NaN.
        ValueError
            If there are too few samples to learn from.

        Warns
        -----
        ConvergenceWarning
            If the training loss is far higher at the end than at the start, or all samples get nearly equal features.
        NewHeadWarning
            If a language-model head is drawn, because the weights have none.
        ShortTextWarning
            If texts are left out of the training, because they have too few tokens.
        """
        self._adapt(X)
        rows = labelled_rows(y)
        self.featurizer_.fit(*((X, y) if rows is None else (_safe_indexing(X, rows), _safe_indexing(y, rows))))
        return self

    @all_or_nothing
    @with_callbacks  # type: ignore[untyped-decorator]
    def fit_transform(self, X: Any, y: Any = None) -> np.ndarray:
        """Fit, and return the features of the same samples.

        Parameters
        ----------
        X : list, Series, DataFrame or array of n_samples
            Texts, or images as `ImageFeaturizer` takes them.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs), default=None
            Labels or numbers that `layer="auto"` chooses by. The training does not see them. Missing ones are None,
            NaN, or -1 among class indices, as `sklearn.semi_supervised.SelfTrainingClassifier` has them.

        Returns
        -------
        features : ndarray of shape (n_samples, n_features), float32

        Raises
        ------
        InvalidParameterError
            If a parameter is not allowed, or the backbone does not fit the objective.
        InvalidSampleError
            If a sample cannot be used.
        NotFiniteError
            If the training diverges: a loss or a weight is infinite or NaN.
        ValueError
            If there are too few samples to learn from.
        """
        features: np.ndarray
        if labelled_rows(y) is not None:
            features = self.fit(X, y).transform(X)
            return features
        self._adapt(X)
        features = self.featurizer_.fit_transform(X, y)
        return features

    def transform(self, X: Any) -> np.ndarray:
        """Return the features of samples.

        Parameters
        ----------
        X : list, Series, DataFrame or array of n_samples
            Texts, or images as `ImageFeaturizer` takes them.

        Returns
        -------
        features : ndarray of shape (n_samples, n_features), float32

        Raises
        ------
        InvalidSampleError
            If a sample cannot be used.
        """
        check_is_fitted(self)
        return self.featurizer_.transform(X)

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Return the names of the features.

        Parameters
        ----------
        input_features : ignored
            Present because scikit-learn passes it.

        Returns
        -------
        names : ndarray of str, object
            Those of the featurizer, with the name of this class, such as "selfsupervisedtuner_layer4_0".
        """
        check_is_fitted(self)
        names = self.featurizer_.get_feature_names_out(input_features)
        others, own = (type(one).__name__.lower() for one in (self.featurizer_, self))
        return np.asarray([own + name.removeprefix(others) for name in names], dtype=object)

    def _adapt(self, X: Any) -> None:
        """Train the backbone, and make the featurizer of it."""
        for name in ("net_", "lr_", "lr_curve_", "stages_"):
            if name in vars(self):
                delattr(self, name)  # of an earlier fit
        if isinstance(self.objective, str) and self.objective == "none":
            check_settings(self)
            check_views(self.views, None)
            self.backbone_ = self._load_backbone(0, None, X)  # as that of a featurizer
            self._check_samples(X, self.backbone_, reset=True)
            self.freeze_depth_, self.n_iter_, self.objective_ = len(self.backbone_.stages), 0, None
            self.history_ = pd.DataFrame(index=pd.RangeIndex(1, 1, name="epoch"))
        else:
            self._fit(FitArguments(X, None))
        kind, of_modality = _FEATURIZERS[self.backbone_.modality]
        names = ("layer", "target", "pooling", "device", "precision", "cache", of_modality)
        self.featurizer_ = kind(self.backbone_, **{name: getattr(self, name) for name in names})

    @property
    def layer_(self) -> pd.Series:
        """Weight of each layer that `layer="auto"` has chosen by y, summing to one."""
        return self._fitted_featurizer.layer_

    @property
    def layer_weights_(self) -> pd.Series:
        """Not there, because layers are not mixed."""
        raise AttributeError(f"{type(self).__name__} mixes no layers; layer='auto' weighs them by y (layer_)")

    @property
    def report_(self) -> str:
        """The choice of layers and the errors that decided it, in a few lines."""
        return self._fitted_featurizer.report_

    @property
    def strength_(self) -> float:
        """Strength of a linear model on the features, as that of `TextFeaturizer`."""
        return self._fitted_featurizer.strength_

    @property
    def _fitted_featurizer(self) -> ImageFeaturizer | TextFeaturizer:
        check_is_fitted(self)
        return self.featurizer_

    @property
    def _head_layer(self) -> int:
        return -1

    def _holds_out(self, settings: Settings) -> bool:
        return True

    def _load_backbone(self, seed: int, previous: PreviousFit | None, X: Any) -> Backbone:
        backbone = super()._load_backbone(seed, previous, X)
        if backbone.modality == "image" and self.normalize not in ("auto", False):
            raise InvalidParameterError(
                f"normalize={self.normalize!r} scales the features of texts, and {backbone.name} takes images; set "
                "normalize='auto', and add sklearn.preprocessing.Normalizer to the pipeline"
            )
        objective = self._choose_objective(backbone)
        kind = None if objective is None else objective.lm_kind
        head = backbone.lm_head
        if kind is None or (head is not None and head.kind == kind):
            return backbone
        text_tokens(backbone)
        return with_new_lm_head(backbone, kind)

    def _choose_objective(self, backbone: Backbone) -> Objective | None:
        return choose_objective(self.objective, backbone, self.freeze_depth, self.views)

    def _read_rows(self, arguments: FitArguments, backbone: Backbone, *, reset: bool) -> tuple[Samples, FitArguments]:
        samples, arguments = super()._read_rows(arguments, backbone, reset=reset)
        objective = self._choose_objective(backbone)
        assert objective is not None
        objective = objective.for_backbone(backbone)
        targets, known = objective.targets_of(PreprocessedSamples(samples, backbone.preprocess))
        n_needed = 3 if objective.pairwise else 2  # one is held out
        if known.sum() < n_needed:
            few = f" with {objective.fewest_tokens} tokens or more" * (objective.fewest_tokens > 0)
            raise ValueError(
                f"objective={self.objective!r} needs {n_needed} {backbone.modality}s{few} at least, of which one is "
                f"held out, and X has n_samples={known.sum()}{few}; give more {backbone.modality}s, or "
                "objective='none'"
            )
        if not known.all():
            row = int(np.flatnonzero(~known)[0])
            warn(
                f"{(~known).sum()} of {len(known)} texts have fewer than {objective.fewest_tokens} tokens, and the "
                f"training leaves them out; the first is {name_row(row, samples.label(row))}",
                ShortTextWarning,
            )
        return samples, dataclasses.replace(arguments, y=_Samples(targets, None if known.all() else known))

    def _read_targets(
        self, y: Any, *, first: bool, classes: Mapping[str, np.ndarray] | None = None
    ) -> Mapping[str, GivenTargets]:
        return {TASK: y}

    def _make_tasks(
        self, given: Mapping[str, GivenTargets], classes: Mapping[str, np.ndarray] | None, backbone: Backbone
    ) -> Mapping[str, Task]:
        objective = self._choose_objective(backbone)
        assert objective is not None
        if objective.lm_kind is not None and _has_new_head(backbone):
            warn(
                f"{backbone.name} has no {objective.lm_kind} language-model head in its weights, so a new one is drawn "
                "at random and trained with the stages. This needs many texts; objective='simcse' needs no head",
                NewHeadWarning,
            )
        self.objective_ = objective
        bound = objective.for_backbone(backbone)
        check_views(self.views, bound)
        bound.has_copies = self.views is not None
        return {TASK: bound}

    def _choose_trunk(self, backbone: Backbone, previous: PreviousFit | None, choices: Any) -> Trunk:
        trunk = super()._choose_trunk(backbone, previous, choices)
        task = self._task
        assert isinstance(task, Objective)
        task.check_boundary(trunk.backbone, trunk.boundary, self.freeze_depth)
        return trunk

    def _run(self, settings: Settings, *args: Any) -> FitRun:
        run = super()._run(settings, *args)
        order = np.random.default_rng(run.seed).permutation(len(run.inputs))  # (n_samples,)
        n_held = max(1, round(settings.validation_fraction * len(order)))
        n_held = min(n_held, len(order) - (2 if run.tasks[TASK].pairwise else 1))
        settings = run.settings
        if run.tasks[TASK].trains_lm_head and not _has_new_head(run.trunk.backbone):
            settings = dataclasses.replace(settings, head_lr=settings.lr)  # the head is pretrained, as the stages are
        split = (np.sort(order[n_held:]), np.sort(order[:n_held]))
        run = dataclasses.replace(run, settings=settings.for_rows(len(split[0])), split=split)
        return run if self.views is None else _with_copies(run, self.views)

    def _most_epochs(self, settings: Settings) -> int | None:
        objective = OBJECTIVES.get(self.objective) if isinstance(self.objective, str) else self.objective
        return None if getattr(objective, "stagewise", False) else super()._most_epochs(settings)  # those of each stage

    def _train(self, run: FitRun) -> TrainingResult:
        if not _objective_of(run).stagewise:
            _set_input_shape(run)
            return super()._train(run)
        backbone, results = run.trunk.backbone, []
        for stage in range(run.trunk.boundary, len(backbone.stages)):
            cut = replace_stages(backbone, stage + 1, [])
            layers = {kind: [LayerOutput(stage + 1)] for kind in run.trunk.layers}
            part = dataclasses.replace(
                run, trunk=dataclasses.replace(run.trunk, backbone=cut, layers=layers, boundary=stage)
            )
            _set_input_shape(part)
            results.append(super()._train(part))
            trained = results[-1].backbone.stages[stage]
            backbone = replace_stages(backbone, stage, [trained, *backbone.stages[stage + 1 :]])
        return _joined(results, backbone, run.trunk.boundary)

    def _store_result(self, run: FitRun, result: TrainingResult) -> None:
        super()._store_result(run, result)
        if not len(result.net.history):
            return
        before, after = (self._spread(run, backbone) for backbone in (run.trunk.backbone, result.backbone))
        if after < _COLLAPSED * before and before > _EQUAL:
            warn(
                f"the features have collapsed: all samples get nearly equal ones. Their spread is {after:.2g} after "
                f"the training, and was {before:.2g} before. Set a lower lr (now {self.lr_:g}), fewer epochs, or "
                "another objective",
                ConvergenceWarning,
            )

    def _spread(self, run: FitRun, backbone: Backbone) -> float:
        """Return the variance of the unit features of some samples, from 0 (all are equal) to 1."""
        layers = resolve_layers(backbone, -1, self.pooling)
        rows = np.unique(np.linspace(0, len(run.inputs) - 1, _MOST_ROWS).astype(int)).tolist()
        outputs = collect_features(backbone, run.inputs, layers, rows, compute=run.compute, store=run.store)
        features = concat_features(outputs).double().numpy()  # (n_rows, n_features)
        unit = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)  # (n_rows, n_features)
        return float(1 - (unit.mean(0) ** 2).sum())

    def _saved_state(self) -> dict[str, Any]:
        return {}  # features come from the backbone, and the other parts of the objective are thrown away

    def _restore_state(self, state: dict[str, Any]) -> None:
        pass

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = False
        tags.requires_fit = True
        tags.transformer_tags.preserves_dtype = []  # features are float32 for any input
        return tags


def _objective_of(run: FitRun) -> Objective:
    objective = run.tasks[TASK]
    assert isinstance(objective, Objective)
    return objective


def _with_copies(run: FitRun, n_views: int) -> FitRun:
    """Return the run on fixed noisy copies of its samples. Held-out samples have the copies of one step only."""
    objective, split = _objective_of(run), run.split
    assert split is not None
    n_read = max(1, run.settings.max_epochs) * objective.copies_per_step
    counts = np.full(len(run.inputs), min(n_views, n_read))  # (n_samples,)
    counts[split[1]] = objective.copies_per_step
    rows = np.repeat(np.arange(len(counts)), counts)  # (n_copies,)
    copies = np.concatenate([np.arange(n) for n in counts])  # (n_copies,)
    inputs, is_held = NoisyCopies(run.inputs, objective, rows, copies, run.seed), np.isin(rows, split[1])
    return dataclasses.replace(
        run,
        inputs=inputs,
        targets={TASK: inputs.targets(run.targets[TASK])},
        split=(np.flatnonzero(~is_held), np.flatnonzero(is_held)),
        batches=CopyBatches,
    )


def _set_input_shape(run: FitRun) -> None:
    """Give the objective the shape of a sample at the freezing boundary, if it takes one."""
    if type(_objective_of(run)).set_input_shape is Objective.set_input_shape:
        return
    at_boundary = [LayerOutput(run.trunk.boundary)]
    ((value,),) = collect_features(
        run.trunk.backbone, run.inputs, at_boundary, [0], compute=run.compute, store=run.store
    )
    _objective_of(run).set_input_shape(tuple(value.shape))


def _joined(results: Sequence[TrainingResult], backbone: Backbone, boundary: int) -> TrainingResult:
    """Return the result of trainings of one stage each. The net of the last one has the epochs of all."""
    names, n_frozen = backbone.stage_names, boundary
    rows = [{**row, "stage": names[n_frozen + at]} for at, result in enumerate(results) for row in result.net.history]
    last = results[-1]
    last.net.history_ = History([{**row, "epoch": epoch} for epoch, row in enumerate(rows, 1)])
    stages = pd.concat([last.stages.iloc[:boundary], *(one.stages.iloc[[-1]] for one in results)])
    return dataclasses.replace(last, backbone=backbone, stages=stages, boundary=boundary)


def _has_new_head(backbone: Backbone) -> bool:
    """Return whether the language-model head of a backbone is drawn and not trained."""
    return backbone.origin is not None and backbone.origin[0] is with_new_lm_head
