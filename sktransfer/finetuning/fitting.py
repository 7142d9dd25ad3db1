"""From samples and targets to a trained network: what every fit does, in its order."""

from __future__ import annotations

import copy
import dataclasses
import functools
from collections.abc import Callable
from typing import Any, Self

import numpy as np
import pandas as pd
import torch
from sklearn.base import BaseEstimator
from sklearn.callback import CallbackSupportMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import _check_sample_weight, check_consistent_length
from torch import nn

from sktransfer.backbones.backbone import Backbone, replace_stages
from sktransfer.backbones.loading import load_backbone
from sktransfer.cache.resolve import resolve_store
from sktransfer.engine.compute import Compute, resolve_compute
from sktransfer.engine.inputs import PreprocessedSamples
from sktransfer.engine.layers import resolve_layers
from sktransfer.exceptions import InvalidParameterError
from sktransfer.samples.base import Samples
from sktransfer.samples.validation import check_samples
from sktransfer.training.adapters import adapter_identity, add_adapters, merge_adapters
from sktransfer.training.augmentation import Augmentation, check_augment
from sktransfer.training.batch_norm import update_bn_statistics
from sktransfer.training.data import Batches, FrozenPrefixDataset
from sktransfer.training.early_stopping import hold_out
from sktransfer.training.features import first_pass
from sktransfer.training.head_init import init_head, standardise
from sktransfer.training.heads import Head
from sktransfer.training.history import history_frame, so_far, stages_frame
from sktransfer.training.lr_finder import Range, range_test, step_callbacks
from sktransfer.training.net import FineTuneNet, build_net
from sktransfer.training.network import FineTuneNetwork, split_taps, trainable_stages
from sktransfer.training.optimisation import has_scheduler
from sktransfer.training.previous import Earlier
from sktransfer.training.rng import fork_rng, seed_torch
from sktransfer.training.settings import Settings, check_settings
from sktransfer.training.validation import check_none_missing

__all__ = ["Fitting"]


@dataclasses.dataclass(frozen=True)
class _Data:
    """Validated samples with all that belongs to them, a row each."""

    samples: Samples
    targets: np.ndarray
    weight: np.ndarray
    groups: np.ndarray | None


class Fitting(CallbackSupportMixin, BaseEstimator):
    """What an estimator's `fit` does; its parameters are those of `FineTuneBase`."""

    backbone_: Backbone
    freeze_depth_: int
    head_: Head
    history_: pd.DataFrame
    lr_: float
    net_: FineTuneNet
    n_iter_: int
    lr_curve_: pd.DataFrame
    stages_: pd.DataFrame
    _task: str
    _scored: str | None = None  # what a net in training predicts, where that is not the task's
    _batches: type[Batches] = Batches
    _range: Range | None = None  # of the rates to try before training, if it is not the usual one

    # Parameters, as `FineTuneBase` takes them.
    adapter: Any
    augment: Any
    backbone: Any
    cache: Any
    callbacks: Any
    device: Any
    freeze_depth: Any
    head: Any
    head_init: str
    image_shape: Any
    layer: Any
    max_length: Any
    pooling: str
    precision: str
    preprocess: Any
    random_state: Any
    warm_start: bool
    weights: Any

    def _fit(self, X: Any, y: Any, sample_weight: Any, groups: Any = None) -> Self:
        settings = check_settings(self)
        start = self._fitted(None) if self.warm_start and hasattr(self, "net_") else None
        if hasattr(self, "lr_curve_"):
            del self.lr_curve_  # of an earlier fit
        self._seeded(settings, start, 0, X, y, sample_weight, groups)
        self.net_.optimizer_.state.clear()  # twice the size of what it trained, and of no use once that is done
        return self

    def _partial_fit(self, X: Any, y: Any, sample_weight: Any) -> Self:
        settings = check_settings(self)
        for name, value in (("early_stopping", False), ("unfreezing", "none")):
            if getattr(settings, name) != value:
                raise InvalidParameterError(
                    f"{name}={getattr(self, name)!r} goes by epochs, of which partial_fit runs one a call; "
                    f"set {name}={value!r}, or call fit"
                )
        # A scheduler of the user's own is asked for with each call, and starts anew.
        schedule = settings.lr_schedule if has_scheduler(self.callbacks) else "constant"
        settings = dataclasses.replace(settings, max_epochs=1, lr_schedule=schedule, in_parts=True)
        start = self._fitted(self.net_) if hasattr(self, "net_") else None
        if start is not None and settings.finds_lr and hasattr(self, "lr_curve_"):
            settings = settings.at(self.lr_)  # what an earlier call has found
        n_before = self.n_iter_ if start else 0
        self._seeded(settings, start, n_before, X, y, sample_weight, None)
        if start is not None:
            self.n_iter_ += n_before
            self.history_ = pd.concat([start.history, self.history_], ignore_index=True).rename_axis("epoch")
            self.history_.index += 1
        return self

    def _fitted(self, net: FineTuneNet | None) -> Earlier:
        return Earlier(self.backbone_, self.head_, net, self.history_, self._seed)

    def _seeded(self, settings: Settings, start: Earlier | None, n_before: int, *data: Any) -> Self:
        """Fit with random numbers of our own; each call of `partial_fit` draws others."""
        rng = check_random_state(self.random_state)
        seeds = rng.randint(np.iinfo(np.int32).max, size=n_before + 1)
        compute = resolve_compute(self.device, self.precision)
        device = compute.device
        with fork_rng(device):
            seed_torch(int(seeds[-1]), device)  # new weights draw from here, dropout from what each epoch seeds
            return self._train(settings, start, compute, int(seeds[-1]), *data)

    def _train(
        self,
        settings: Settings,
        start: Earlier | None,
        compute: Compute,
        seed: int,
        X: Any,
        y: Any,
        sample_weight: Any,
        groups: Any,
    ) -> Self:
        context = self._init_callback_context(max_subtasks=settings.max_epochs)
        context.call_on_fit_task_begin(estimator=self, X=X, y=y)
        self._seed = seed if start is None else start.seed
        backbone = self._load(self._seed)
        change = check_augment(self.augment, backbone.modality)
        data = self._check_fit(X, y, sample_weight, groups, backbone, start)
        self._choose_stages(backbone, start)
        inputs = PreprocessedSamples(data.samples, backbone.preprocess, keep=True)
        inputs.lengths(range(len(inputs)))
        inputs.warn_of_truncated()
        train, valid = self._hold_out(settings, data, seed)
        network = self._network(inputs, data, train, start, compute)
        augmentation = None if change is None else Augmentation(change, seed)
        dataset = self._dataset(inputs, data, train, compute, augmentation)
        build = functools.partial(self._net, compute, seed, len(train))
        settings = self._find_lr(settings, network, dataset, build)
        valid_set = self._dataset(inputs, data, valid, compute) if len(valid) else None
        self.net_ = build(network, settings, self.callbacks, valid_set)
        self._run(dataset, functools.partial(self._tell, context, X, y, sample_weight), start)
        if len(self.net_.history) and not settings.in_parts:
            update_bn_statistics(self.net_, dataset)
        self._keep(network)
        self.lr_ = settings.lr
        context.call_on_fit_task_end(
            estimator=self, X=X, y=y, metadata=_given(sample_weight), reconstruction_attributes={}
        )
        return self

    def _net(
        self,
        compute: Compute,
        seed: int,
        n_samples: int,
        network: FineTuneNetwork,
        settings: Settings,
        callbacks: Any,
        valid: FrozenPrefixDataset | None = None,
    ) -> FineTuneNet:
        net = build_net(network, settings, self._criterion(settings), compute, seed, callbacks, n_samples, valid)
        net.batches, net.task = self._batches, self._scored or self._task
        net.identity = [*net.identity, adapter_identity(self.adapter)]
        return net

    def _find_lr(
        self,
        settings: Settings,
        network: FineTuneNetwork,
        dataset: FrozenPrefixDataset,
        build: Callable[..., FineTuneNet],
    ) -> Settings:
        """Return settings at a rate that a copy of the network was tried at, where it is to be found."""
        scope = self._range or (Range() if settings.finds_lr and settings.max_epochs else None)
        if scope is None:
            return settings
        tried = dataclasses.replace(settings.at(scope.lowest), lr_schedule="constant", unfreezing="none", verbose=0)
        net = build(copy.deepcopy(network), tried, step_callbacks(self.callbacks))
        found = range_test(net, dataset, scope)
        self.lr_curve_ = found.curve
        return settings.at(found.lr)

    def _run(self, dataset: FrozenPrefixDataset, tell: Callable[[], bool], start: Earlier | None) -> None:
        net = self.net_
        net.on_epoch = tell
        net.initialize()
        if start is not None and start.net is not None and self.adapter is None:  # adapters are drawn anew
            net.go_on_from(start.net)
        net.partial_fit(dataset)
        net.on_epoch = None

    def _keep(self, network: FineTuneNetwork) -> None:
        """Keep what was trained, on the CPU: a pickle must load on a machine without a GPU."""
        net = self.net_
        self.stages_ = stages_frame(self.backbone_, network, net, self.freeze_depth_)
        self.history_ = history_frame(net.history)
        self.n_iter_ = len(net.history)
        net.to_cpu()
        if self.adapter is not None:
            merge_adapters(network.stages)
        trained = list(network.stages)
        self.backbone_ = replace_stages(self.backbone_, self.freeze_depth_, trained) if trained else self.backbone_
        self._keep_head(network)

    def _keep_head(self, network: FineTuneNetwork) -> None:
        self.head_ = Head(network, self._task, *self._units())

    def _check_fit(
        self, X: Any, y: Any, sample_weight: Any, groups: Any, backbone: Backbone, start: Earlier | None
    ) -> _Data:
        """Return samples, targets as the loss takes them, and weights; what weighs nothing is left out."""
        if y is None:
            name = type(self).__name__
            raise ValueError(f"This {name} estimator requires y to be passed, but the target y is None.")
        samples = check_samples(self, X, backbone.modality, image_shape=self.image_shape, reset=start is None)
        y = self._check_y(y)
        check_consistent_length(samples, y, groups)
        if groups is not None:
            groups = np.asarray(groups)
            check_none_missing(groups, "groups", "group")
        rows = np.arange(len(samples))
        weight = _check_sample_weight(sample_weight, rows, dtype=np.float64, ensure_non_negative=True)
        rows = np.flatnonzero(weight)  # a weight of zero is the sample's absence
        if len(rows) == 0:
            raise ValueError("sample_weight: all weights are zero, so no sample is left to train on")
        targets, weight = self._targets(y[rows], weight[rows])
        return _Data(samples.take(rows), targets, weight, None if groups is None else groups[rows])

    def _choose_stages(self, backbone: Backbone, start: Earlier | None) -> None:
        """Keep the stages up to the last layer that the head sees, and find the cut among them."""
        self._mixed = isinstance(self.layer, str) and self.layer == "mix"
        taps = resolve_layers(backbone, "all" if self._mixed else self.layer, self.pooling)
        self._taps = sorted(set(taps), key=lambda tap: tap.stop)
        stop = self._taps[-1].stop
        self.freeze_depth_ = backbone.n_frozen(self.freeze_depth, stop)
        self.backbone_ = backbone if stop == len(backbone.stages) else replace_stages(backbone, stop, [])
        if start is not None:
            start.check(self.backbone_, self)
            self.backbone_ = start.backbone

    def _load(self, seed: int) -> Backbone:
        return load_backbone(
            self.backbone, weights=self.weights, preprocess=self.preprocess, max_length=self.max_length, seed=seed
        )

    def _hold_out(self, settings: Settings, data: _Data, seed: int) -> tuple[np.ndarray, np.ndarray]:
        if not settings.early_stopping:
            return np.arange(len(data.targets)), np.arange(0)
        stratify = self._task == "classes"
        return hold_out(data.targets, data.groups, settings.validation_fraction, seed, stratify=stratify)

    def _check_y(self, y: Any) -> np.ndarray:
        """Return y, validated, and remember of what kind it is."""
        raise NotImplementedError

    def _targets(self, y: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return targets as the loss takes them, and weights."""
        raise NotImplementedError

    def _criterion(self, settings: Settings) -> nn.Module:
        """Return what gives a loss a sample, or one a sample and output."""
        raise NotImplementedError

    def _n_outputs(self) -> int | None:
        """Return the width of the head's output; None for no head."""
        raise NotImplementedError

    def _units(self) -> tuple[Any, ...]:
        """Return what the outputs stand for: classes, shift and spread, as a `Head` takes them."""
        raise NotImplementedError

    def _network(
        self,
        inputs: PreprocessedSamples,
        data: _Data,
        train: np.ndarray,
        start: Earlier | None,
        compute: Compute,
    ) -> FineTuneNetwork:
        backbone, cut = self.backbone_, self.freeze_depth_
        head = start.head if start is not None else self.head
        is_new = not isinstance(head, Head)
        needs_features = is_new and (self.head_init != "random" or self._mixed)
        everything = range(len(inputs))
        found = first_pass(
            backbone,
            inputs,
            self._taps,
            cut,
            everything if needs_features else everything[:1],
            keep=everything if self.augment is None else [],  # changed samples are computed anew each time
            compute=compute,
            store=resolve_store(self.cache),
        )
        features = self._side_by_side([tap.numpy() for tap in found])
        stages = trainable_stages(backbone, cut, len(backbone.stages))
        if self.adapter is not None:
            add_adapters(stages, self.adapter)
        network = FineTuneNetwork(
            stages,
            split_taps(self._taps, cut)[1],
            cut,
            features.shape[1],
            self._n_outputs(),
            prefix_tokens=backbone.prefix_tokens,
            keep_statistics=backbone.pretrained,
            n_mixed=len(self._taps) if self._mixed else None,
        )
        if isinstance(head, Head):
            head.start(network, self._task, *self._units())
        elif self.head_init != "random":
            labels = self._task == "labels"
            weight = data.weight[train]
            init_head(network, features[train], data.targets[train], weight, init=self.head_init, labels=labels)
        elif self._mixed:
            standardise(network, features[train], data.weight[train])
        return network

    def _side_by_side(self, taps: list[np.ndarray]) -> np.ndarray:
        widths = {name: tap.shape[1] for name, tap in zip(self.backbone_.stage_names, taps)}
        if self._mixed and len(set(widths.values())) > 1:
            raise InvalidParameterError(
                f"layer='mix' adds layers up, and those of {self.backbone_.name} are of different width: {widths}; "
                "layer='all' sets them side by side"
            )
        return np.concatenate(taps, axis=1)  # (n, n_features)

    def _tell(self, context: Any, X: Any, y: Any, sample_weight: Any) -> bool:
        """Tell scikit-learn's callbacks of an epoch that is over; return whether one of them ends the training."""
        task = context.subcontext(task_name="epoch")
        task.call_on_fit_task_begin(estimator=self, X=X, y=y)
        stop = task.call_on_fit_task_end(
            estimator=self,
            X=X,
            y=y,
            metadata=_given(sample_weight),
            reconstruction_attributes=functools.partial(so_far, self),  # called where a callback asks for it
        )
        return bool(stop)

    def _dataset(
        self,
        inputs: PreprocessedSamples,
        data: _Data,
        rows: np.ndarray,
        compute: Compute,
        augmentation: Augmentation | None = None,
    ) -> FrozenPrefixDataset:
        frozen, _ = split_taps(self._taps, self.freeze_depth_)
        return FrozenPrefixDataset(
            self.backbone_,
            inputs,
            self.freeze_depth_,
            len(self.backbone_.stages),
            frozen,
            rows=rows.tolist(),
            targets=torch.from_numpy(data.targets[rows]),
            sample_weight=torch.from_numpy(data.weight[rows]).float(),
            compute=compute,
            store=resolve_store(self.cache),
            augmentation=augmentation,
        )


def _given(sample_weight: Any) -> dict[str, Any]:
    return {} if sample_weight is None else {"sample_weight": sample_weight}
