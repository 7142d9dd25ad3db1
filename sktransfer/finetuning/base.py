"""Base class of the fine-tuning estimators."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
import torch
from sklearn.base import BaseEstimator
from sklearn.callback import CallbackSupportMixin
from sklearn.utils import Tags, check_random_state
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from sktransfer._utils import title_of
from sktransfer.backbones.backbone import Backbone
from sktransfer.backbones.generators import fork_rng
from sktransfer.backbones.loading import load_backbone
from sktransfer.backbones.registry import modality_of
from sktransfer.cache.resolve import resolve_store
from sktransfer.callbacks.checkpoint import params_of
from sktransfer.engine.compute import Compute, check_finite_outputs, resolve_compute
from sktransfer.engine.forward import forward
from sktransfer.engine.head_strength import HeadStrength
from sktransfer.engine.inference import prepare_head
from sktransfer.engine.inputs import concat_features, preprocessed
from sktransfer.engine.layer_choice import LayerChoice
from sktransfer.engine.layers import LayerOutput, boundary_outputs, is_auto
from sktransfer.engine.rng import seed_torch
from sktransfer.exceptions import InvalidParameterError, InvalidSampleError
from sktransfer.finetuning.arguments import FitArguments, check_groups, listed
from sktransfer.finetuning.callback_params import CallbackParams
from sktransfer.finetuning.plain_state import PlainState
from sktransfer.html import BackboneHTML
from sktransfer.pipelines.cells import default_backbone
from sktransfer.samples.base import Samples
from sktransfer.samples.validation import check_samples, holds_samples, set_input_tags
from sktransfer.tasks.base import Targets, Task, relative_weights
from sktransfer.tasks.given import GivenTargets, check_targets, encode_targets, known_weights
from sktransfer.tasks.heads import Head
from sktransfer.training.augmentation import check_augment, make_augmentation
from sktransfer.training.callback_list import check_monitors, check_scoring, unnamed
from sktransfer.training.lr_finder import LearningRates
from sktransfer.training.net import FineTuneNet
from sktransfer.training.network import history_frame
from sktransfer.training.optimisation import has_scheduler
from sktransfer.training.run import (
    FitRun,
    LRRange,
    PreviousFit,
    Trunk,
    Validation,
    choose_for_tasks,
    choose_trunk,
    split_rows,
)
from sktransfer.training.samplers import Batches
from sktransfer.training.saved_net import net_from_state, net_to_state
from sktransfer.training.settings import Settings, check_settings
from sktransfer.training.trainer import TrainingResult, snapshot, train

__all__ = ["FineTuneBase"]

_NO_RESULT = ("cache", "callbacks", "verbose")  # parameters that change no result


class FineTuneBase(PlainState, BackboneHTML, CallbackSupportMixin, CallbackParams, BaseEstimator):
    """Train the stages of a backbone above a freezing boundary, and one head per task.

    A subclass lists its parameters, reads the targets of its tasks from y in `_read_targets` and weights in
    `_read_weights`, makes the tasks in `_make_tasks`, and stores their heads in `_store_heads`. `SingleTaskTuner` does
    so for one task.
    """

    _batches: ClassVar[type[Batches]] = Batches
    _not_saved: ClassVar[tuple[str, ...]] = ("net_", "_tasks")
    _target: ClassVar[str | None]  # what y holds, for the error if there is none; None if samples are the targets

    backbone_: Backbone
    freeze_depth_: Any
    history_: pd.DataFrame
    lr_: float
    lr_curve_: pd.DataFrame
    n_iter_: int
    net_: FineTuneNet
    stages_: pd.DataFrame
    _layers: dict[str, list[LayerOutput]]
    _depth_report: str | None = None  # only if freeze_depth="auto"
    _seed: int
    _tasks: Mapping[str, Task]

    # Parameters. A subclass may have only some of those with a default.
    adapter: Any
    augment: Any
    backbone: Any
    cache: Any
    callbacks: Any
    device: Any
    freeze_depth: Any
    image_shape: Any
    layer: Any
    max_length: Any
    pooling: str
    precision: str
    preprocess: Any
    random_state: Any
    weights: Any
    warm_start: bool = False

    def _read_targets(
        self, y: Any, *, first: bool, classes: Mapping[str, np.ndarray] | None = None
    ) -> Mapping[str, GivenTargets]:
        """Return the targets of each task.

        Parameters
        ----------
        y : anything
            Targets as given to `fit`.
        first : bool
            Whether tasks are made from them. If not, they are of the tasks that there are.
        classes : mapping of str to ndarray, default=None
            All classes by task, as the first call of `partial_fit` names them.
        """
        raise NotImplementedError

    def _read_weights(
        self, sample_weight: Any, n_samples: int, given: Mapping[str, GivenTargets]
    ) -> Mapping[str, np.ndarray]:
        """Return the weight of each sample in each task, (n_samples,) per task.

        Parameters
        ----------
        sample_weight : anything
            Weights as given to `fit`.
        n_samples : int
            Number of samples.
        given : mapping of str to GivenTargets
            Result of `_read_targets`.
        """
        raise NotImplementedError

    def _make_tasks(
        self, given: Mapping[str, GivenTargets], classes: Mapping[str, np.ndarray] | None, backbone: Backbone
    ) -> Mapping[str, Task]:
        """Return new tasks by name.

        Parameters
        ----------
        given : mapping of str to GivenTargets
            Result of `_read_targets`.
        classes : mapping of str to ndarray, or None
            All classes by task, as the first call of `partial_fit` names them.
        backbone : Backbone
            Backbone before the training.
        """
        raise NotImplementedError

    def _store_heads(self, heads: dict[str, Head]) -> None:
        """Store the fitted heads by task. Tasks without an output that could be continued have none."""
        raise NotImplementedError

    def _stored_heads(self) -> Mapping[str, Head]:
        """Return what `_store_heads` has stored."""
        raise NotImplementedError

    def _store_choices(self, choices: Mapping[str, LayerChoice] | None) -> None:
        """Store the layers that `layer="auto"` has chosen, by task; None for another layer."""
        raise NotImplementedError

    def _stored_choices(self) -> Mapping[str, LayerChoice]:
        """Return what `_store_choices` has stored."""
        raise NotImplementedError

    def _store_strengths(self, strengths: Mapping[str, HeadStrength]) -> None:
        """Store the strengths of the probes that heads were initialized with, by task."""
        raise NotImplementedError

    @property
    def _head_layer(self) -> Any:
        """Layer that the heads read: a parameter, unless `layer` is that of features which the estimator returns."""
        return self.layer

    def _holds_out(self, settings: Settings) -> bool:
        """Return whether a part of the samples is held out for a loss of validation data."""
        return settings.early_stopping

    def _mix_weights(self, name: str) -> pd.Series:
        """Return the weight of each stage in the mix of a head."""
        check_is_fitted(self)
        mix = self.net_.module_.heads[name].mix
        if mix is None:
            raise AttributeError(f"layer={self.layer!r} mixes no layers; layer='mix' does, and has weights")
        names = pd.Index(self.backbone_.stage_names, name="stage")
        return pd.Series(mix.weights.detach().numpy(), index=names, name="weight")

    def _settings(self) -> Settings:
        """Return the checked settings of the training."""
        return check_settings(self)

    def _fit(self, arguments: FitArguments) -> Self:
        settings = self._settings()
        previous = self._previous(None) if self.warm_start and hasattr(self, "net_") else None
        if hasattr(self, "lr_curve_"):
            del self.lr_curve_  # of an earlier fit
        self._fit_seeded(settings, previous, None, 0, arguments)
        self.net_.optimizer_.state.clear()  # twice the size of the trained weights, and needed only by partial_fit
        return self

    def _range_test(self, X: Any, y: Any, sample_weight: Any, scope: LRRange) -> LearningRates:
        """Fit with a range test over given rates, and return its result."""
        self._fit(FitArguments(X, y, sample_weight, lr_range=scope))
        return LearningRates(self.lr_, self.lr_curve_)

    def _partial_fit(self, arguments: FitArguments) -> Self:
        settings = self._settings()
        if is_auto(self.freeze_depth):
            raise InvalidParameterError(
                "freeze_depth='auto' compares epochs with none, and partial_fit runs one per call; set freeze_depth to "
                "a number, or call fit"
            )
        for name, value in (("early_stopping", False), ("unfreezing", "none")):
            if getattr(settings, name) != value:
                raise InvalidParameterError(
                    f"{name}={getattr(self, name)!r} depends on epochs, and partial_fit runs one per call; set "
                    f"{name}={value!r}, or call fit"
                )
        # A scheduler among the callbacks is used in each call, and starts anew.
        schedule = settings.lr_schedule if has_scheduler(self.callbacks) else "constant"
        settings = dataclasses.replace(
            settings, max_epochs=1, finds_epochs=False, lr_schedule=schedule, is_partial_fit=True
        )
        previous = self._previous(self.net_) if hasattr(self, "net_") else None
        if previous is not None and settings.finds_lr and hasattr(self, "lr_curve_"):
            settings = settings.at(self.lr_)  # the rate that an earlier call found
        n_before, tasks = (self.n_iter_, self._tasks) if previous else (0, None)
        self._fit_seeded(settings, previous, tasks, n_before, arguments)
        if previous is not None:
            self.n_iter_ += n_before
            self.history_ = pd.concat([previous.history, self.history_], ignore_index=True).rename_axis("epoch")
            self.history_.index += 1
        return self

    def _previous(self, net: FineTuneNet | None) -> PreviousFit:
        return PreviousFit(self.backbone_, self._stored_heads(), net, self.history_, self._seed)

    def _fit_seeded(
        self,
        settings: Settings,
        previous: PreviousFit | None,
        tasks: Mapping[str, Task] | None,
        n_before: int,
        arguments: FitArguments,
    ) -> None:
        """Fit with random numbers of this estimator alone. Each call of `partial_fit` draws a new seed."""
        rng = check_random_state(self.random_state)
        seed = int(rng.randint(np.iinfo(np.int32).max, size=n_before + 1)[-1])
        compute = resolve_compute(self.device, self.precision)
        with fork_rng(compute.device):
            seed_torch(seed, compute.device)  # new weights; dropout is seeded per epoch
            context = self._init_callback_context(max_subtasks=self._most_epochs(settings))
            context.call_on_fit_task_begin(estimator=self, X=arguments.X, y=arguments.y)
            run = self._run(settings, previous, tasks, compute, seed, arguments, context)
            self._store_result(run, self._train(run))
            run.inputs.warn_of_unread()  # of images, which are read while the network trains
            context.call_on_fit_task_end(
                estimator=self, X=arguments.X, y=arguments.y, metadata=arguments.metadata, reconstruction_attributes={}
            )

    def _run(
        self,
        settings: Settings,
        previous: PreviousFit | None,
        tasks: Mapping[str, Task] | None,
        compute: Compute,
        seed: int,
        arguments: FitArguments,
        context: Any,
    ) -> FitRun:
        """Return the run of this fit, and set the attributes that predictions during the training need."""
        backbone = self._load_backbone(seed, previous, arguments.X)
        change = check_augment(self.augment, backbone.takes)
        if arguments.y is None and self._target is not None:
            name = type(self).__name__
            raise ValueError(f"This {name} estimator requires y to be passed, but the target y is None: {self._target}")
        reset = previous is None
        samples, of_rows = self._read_rows(arguments, backbone, reset=reset)
        given = self._read_targets(of_rows.y, first=tasks is None, classes=arguments.classes)
        seed, drawn = self._recall_seed(settings, seed, previous, samples, given, of_rows), seed
        if seed != drawn:
            seed_torch(seed, compute.device)
            backbone = self._load_backbone(seed, previous, arguments.X)  # another one if its weights are random
        self._tasks = self._make_tasks(given, arguments.classes, backbone) if tasks is None else tasks
        self._check_callbacks(settings, arguments)
        settings = self._settings_of_tasks(settings)
        rows, targets = self._encode(settings, given, of_rows, len(samples))
        groups = None if of_rows.groups is None else np.asarray(of_rows.groups)[rows]
        backbone = self._adapt_backbone(backbone, samples, of_rows, compute)
        choices = self._known_choices(settings, previous)
        trunk = self._choose_trunk(backbone, previous, choices)
        inputs = self._preprocessed(samples.take(rows), trunk.backbone)
        run = FitRun(
            settings=settings,
            compute=compute,
            store=resolve_store(self.cache),
            seed=seed,
            trunk=trunk,
            inputs=inputs,
            tasks=self._tasks,
            targets=targets,
            augmentation=make_augmentation(change, seed),
            groups=groups,
            validation=self._validation(settings, arguments, trunk) if arguments.validates else None,
            previous=previous,
            lr_range=arguments.lr_range,
            batches=self._batches,
            on_start=self._on_start,
        )
        if is_auto(self._head_layer) and choices is None:
            run = dataclasses.replace(run, split=split_rows(run))
            choices, known = choose_for_tasks(run, self.pooling)
            run = dataclasses.replace(run, trunk=self._choose_trunk(backbone, None, choices), known=known)
        return dataclasses.replace(run, on_epoch=functools.partial(self._on_epoch, context, arguments, run))

    def _check_callbacks(self, settings: Settings, arguments: FitArguments) -> None:
        """Raise if a callback would fail with the tasks of this fit, and warn if one scores nothing."""
        validates = not settings.is_partial_fit and (arguments.validates or self._holds_out(settings))
        either = "pass X_val and y_val to fit, or set early_stopping=True"
        remedy = either if hasattr(self, "early_stopping") else f"{type(self).__name__} takes none"
        remedy = "partial_fit takes none, so call fit" if settings.is_partial_fit else remedy
        idle = [name for name in self._tasks if not settings.learns(name)]
        check_monitors(self.callbacks, self._tasks, validates=validates, remedy=remedy, idle=idle)
        check_scoring(self.callbacks, self._tasks)

    def _settings_of_tasks(self, settings: Settings) -> Settings:
        return settings.for_tasks(list(self._tasks))

    def _train(self, run: FitRun) -> TrainingResult:
        return train(run)

    def _most_epochs(self, settings: Settings) -> int | None:
        return settings.max_epochs

    def _read_rows(self, arguments: FitArguments, backbone: Backbone, *, reset: bool) -> tuple[Samples, FitArguments]:
        """Return the rows that the network reads, and targets, weights and groups of these rows.

        By default a row is a sample. An estimator may split samples into several rows, such as windows or tiles.

        Parameters
        ----------
        arguments : FitArguments
            Samples, and targets, weights and groups of them.
        backbone : Backbone
            Backbone that reads the rows.
        reset : bool
            True in `fit`, to store the columns of X; False to compare with them.
        """
        try:
            return self._check_samples(arguments.X, backbone, reset=reset), arguments
        except ValueError as error:
            if not holds_samples(arguments.y, backbone.takes):
                raise
            kind = f"{backbone.modality}s"
            raise ValueError(
                f"y holds {kind} and X does not, so they seem to be swapped: fit takes the {kind} first. About X: "
                f"{error}"
            ) from error

    def _adapt_backbone(
        self, backbone: Backbone, samples: Samples, arguments: FitArguments, compute: Compute
    ) -> Backbone:
        """Return the backbone to start from, for the result of `_read_rows`. By default it is the one that is given."""
        return backbone

    def _check_samples(self, X: Any, backbone: Backbone, *, reset: bool) -> Samples:
        return check_samples(self, X, backbone.takes, image_shape=self.image_shape, reset=reset)

    def _preprocessing(self, backbone: Backbone) -> Any:
        """Return the preprocessing of the rows that `_read_rows` returns. By default it is that of the backbone."""
        return backbone.preprocess

    def _preprocessed(self, samples: Samples, backbone: Backbone) -> Any:
        """Return samples that keep their token ids, and warn of those that are truncated."""
        inputs = preprocessed(samples, self._preprocessing(backbone), keep=True)
        inputs.lengths(range(len(inputs)))
        inputs.warn_of_unread()
        return inputs

    def _load_backbone(self, seed: int, previous: PreviousFit | None, X: Any) -> Backbone:
        self._seed = seed if previous is None else previous.seed
        return load_backbone(
            default_backbone(X) if is_auto(self.backbone) else self.backbone,
            weights=self.weights,
            preprocess=self.preprocess,
            max_length=self.max_length,
            seed=self._seed,
        )

    def _recall_seed(
        self,
        settings: Settings,
        seed: int,
        previous: PreviousFit | None,
        samples: Samples,
        targets: Mapping[str, GivenTargets],
        arguments: FitArguments,
    ) -> int:
        """Return the seed that a callback with `recall_seed` has kept of this fit, if it was drawn; else the seed."""
        callbacks = [one for one in unnamed(settings.callbacks) if hasattr(one, "recall_seed")]
        if self.random_state is not None or not callbacks:
            return seed
        params = {name: value for name, value in params_of(self).items() if name not in _NO_RESULT}
        data = samples.keys(range(len(samples)))
        of_tasks = [(name, listed(one.values), one.known) for name, one in targets.items()]
        given = [of_tasks, *(listed(one) for one in (arguments.sample_weight, arguments.groups))]
        n_before = 0 if previous is None else len(previous.history)
        for callback in callbacks:
            seed = callback.recall_seed(seed, type(self).__name__, params, data, given, n_before)
        return seed

    def _encode(
        self, settings: Settings, given: Mapping[str, GivenTargets], arguments: FitArguments, n_samples: int
    ) -> tuple[np.ndarray, dict[str, Targets]]:
        """Return the rows with a target of positive weight, and their targets by task."""
        checked = check_targets(self._tasks, given, n_samples)
        check_groups(arguments.groups, n_samples)
        weights = known_weights(given, self._read_weights(arguments.sample_weight, n_samples, given))
        if len(_rows_to_learn(settings, weights)) == 0:
            raise ValueError("sample_weight: all weights are zero, so no sample is left to train on")
        relative = {name: relative_weights(one) for name, one in weights.items()}
        targets = encode_targets(self._tasks, given, checked, relative)
        kept = _rows_to_learn(settings, {name: one.weight for name, one in targets.items()})  # a class may weigh 0
        return kept, {name: one.take(kept) for name, one in targets.items()}

    def _validation(self, settings: Settings, arguments: FitArguments, trunk: Trunk) -> Validation:
        """Return validation data in the encoding of the training, with the rows that have a weight in their order."""
        try:
            given_data = FitArguments(arguments.X_val, arguments.y_val, arguments.sample_weight_val)
            samples, of_rows = self._read_rows(given_data, trunk.backbone, reset=False)
            given = self._read_targets(of_rows.y, first=False)
            checked = check_targets(self._tasks, given, len(samples))
            weights = known_weights(given, self._read_weights(of_rows.sample_weight, len(samples), given))
            targets = encode_targets(self._tasks, given, checked, weights)
        except InvalidSampleError as error:
            raise InvalidSampleError(error.row, f"of X_val: {error.message}", error.label) from error
        except ValueError as error:
            raise ValueError(f"validation data (X_val, y_val, sample_weight_val): {error}") from error
        rows = _rows_to_learn(settings, weights)
        return Validation(
            self._preprocessed(samples.take(rows), trunk.backbone),
            {name: one.take(rows) for name, one in targets.items()},
        )

    def _known_choices(self, settings: Settings, previous: PreviousFit | None) -> Mapping[str, LayerChoice] | None:
        """Return the layers that an earlier fit, or that of given heads, has chosen; None for a new choice."""
        if not is_auto(self._head_layer):
            return None
        main = [task for task in self._tasks.values() if not task.is_auxiliary]
        if any(type(task).choice_targets is Task.choice_targets for task in main):
            raise InvalidParameterError(
                f"layer='auto' chooses layers for a linear head on y, and {type(self).__name__} has none; set layer to "
                "an index, a stage's name, a list of these, 'all' or 'mix'"
            )
        if previous is None and not settings.head:
            return None
        heads = {name: settings.starting_head(name) for name in self._tasks}
        of_heads = {name: head.choice for name, head in heads.items() if head is not None and head.choice is not None}
        choices = of_heads if previous is None else self._stored_choices()
        if not choices:
            what = "the earlier fit" if previous is not None else f"head={settings.head!r}"
            raise InvalidParameterError(
                f"layer='auto' chooses layers for a new head, and {what} was fitted with another layer; set layer to "
                "that one, or leave head and warm_start out"
            )
        if len({one.layers for one in choices.values()}) > 1:
            raise InvalidParameterError(
                f"head={settings.head!r} has heads of fits that chose different layers; give heads of one fit"
            )
        return choices

    def _choose_trunk(
        self, backbone: Backbone, previous: PreviousFit | None, choices: Mapping[str, LayerChoice] | None
    ) -> Trunk:
        reads = [task.reads for task in self._tasks.values()]
        depth = self.freeze_depth
        if previous is not None and is_auto(depth):
            depth = self.freeze_depth_  # as the earlier fit has decided
        trunk = choose_trunk(backbone, self._head_layer, self.pooling, depth, reads, choices)
        self._store_choices(choices)
        if previous is not None:
            previous.check(trunk.backbone, self)
            trunk = dataclasses.replace(trunk, backbone=previous.backbone)
        self.backbone_, self.freeze_depth_ = trunk.backbone, trunk.boundary
        self._layers = {kind: list(layers) for kind, layers in trunk.layers.items()}
        return trunk

    def _on_start(self, net: FineTuneNet) -> None:
        self.net_ = net
        net.title = title_of(self) if net.verbose else ""

    def _on_epoch(self, context: Any, arguments: FitArguments, run: FitRun) -> bool:
        """Notify scikit-learn's callbacks of the end of an epoch. Return whether one of them ends the training."""
        task = context.subcontext(task_name="epoch")
        task.call_on_fit_task_begin(estimator=self, X=arguments.X, y=arguments.y)
        stop = task.call_on_fit_task_end(
            estimator=self,
            X=arguments.X,
            y=arguments.y,
            metadata=arguments.metadata,
            reconstruction_attributes=functools.partial(self._snapshot, run),  # called if a callback asks for it
        )
        return bool(stop)

    def _snapshot(self, run: FitRun) -> dict[str, Any]:
        """Return the attributes of a copy that predicts as if the training ended with this epoch."""
        net, backbone = snapshot(run, self.net_)
        return {
            "net_": net,
            "backbone_": backbone,
            "history_": history_frame(net.history),
            "n_iter_": len(net.history),
        }

    def _store_result(self, run: FitRun, result: TrainingResult) -> None:
        self.net_ = result.net
        self.backbone_ = result.backbone
        self.stages_ = result.stages
        self.freeze_depth_, self._depth_report = result.boundary, result.depth_report
        self.history_ = history_frame(result.net.history)
        self.n_iter_ = len(result.net.history)
        self.lr_ = result.lr
        if result.lr_curve is not None:
            self.lr_curve_ = result.lr_curve
        if run.previous is None or result.strengths:
            self._store_strengths(result.strengths)
        heads, choices = self.net_.module_.heads, run.trunk.choices or {}
        self._store_heads(
            {
                name: Head(heads[name], task, choices.get(name))
                for name, task in self._tasks.items()
                if not (task.pairwise or task.comes_from_samples or task.is_auxiliary)
            }
        )

    @torch.no_grad()
    def _outputs_by_task(self, X: Any) -> dict[str, np.ndarray]:
        """Return the output of each head (n_samples, n_outputs), float32, from one pass."""
        check_is_fitted(self)
        heads = {name: one for name, one in self.net_.module_.heads.items() if not self._tasks[name].is_auxiliary}
        return self._of_features(X, {name: (one.n_outputs, prepare_head(one)) for name, one in heads.items()})

    def _of_features(
        self, X: Any, functions: Mapping[str, tuple[int, Callable[[Tensor], Tensor]]]
    ) -> dict[str, np.ndarray]:
        """Return what functions (width, function) give for features, (n_samples, width) float32, from one pass."""
        samples = self._check_samples(X, self.backbone_, reset=False)
        inputs = preprocessed(samples, self.backbone_.preprocess)
        results = {name: np.empty((len(samples), width), np.float32) for name, (width, _) in functions.items()}
        compute = resolve_compute(self.device, self.precision)
        # Only outputs of frozen stages are cached, because no other estimator has the trained ones.
        parts = forward(
            self.backbone_,
            inputs,
            self._layers["features"],
            compute=compute,
            store=resolve_store(self.cache),
            cacheable_stages=self.freeze_depth_,
            prefetch=boundary_outputs(self.freeze_depth_),
        )
        for rows, values in parts:
            features = concat_features(values)  # (n_rows, n_features)
            for name, (_, function) in functions.items():
                results[name][rows] = function(features).numpy()
        inputs.warn_of_unread()
        return {name: check_finite_outputs(one, compute) for name, one in results.items()}

    def _saved_state(self) -> dict[str, Any]:
        """Return what `_restore_state` needs besides the plain attributes."""
        return net_to_state(self.net_, self) if hasattr(self, "net_") else {}

    def _restore_state(self, state: dict[str, Any]) -> None:
        """Set the attributes that are not saved, from `_saved_state` and the plain attributes."""
        if state:
            self.net_ = net_from_state(state, self, self.backbone_, self._layers, self.freeze_depth_)
            self._tasks = self.net_.tasks

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        set_input_tags(tags, modality_of(self.backbone) or "image")
        tags.target_tags.required = True
        return tags


def _rows_to_learn(settings: Settings, weights: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return the rows that have a weight in a task that is learned."""
    learned = [weight > 0 for name, weight in weights.items() if settings.learns(name)]
    return np.flatnonzero(np.any(learned, axis=0))
