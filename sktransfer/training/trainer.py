"""The trainer: any tasks on one trunk."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import compress, islice
from typing import Any

import numpy as np
import pandas as pd
from sklearn.exceptions import ConvergenceWarning
from skorch.history import History
from torch import Tensor

from sktransfer.backbones.backbone import Backbone, replace_stages
from sktransfer.backbones.generators import fork_rng
from sktransfer.backbones.language import LanguageModelHead, own_state
from sktransfer.backbones.stages import of_tower
from sktransfer.config import get_config
from sktransfer.devices.rows import DeviceStore
from sktransfer.engine.head_strength import HeadStrength
from sktransfer.engine.layers import is_auto
from sktransfer.exceptions import NotFiniteError, warn
from sktransfer.training.adapters import merge_adapters
from sktransfer.training.building import build_network
from sktransfer.training.data import FrozenPrefixDataset, make_dataset
from sktransfer.training.divergence import check_weights, warn_if_grown
from sktransfer.training.epochs.held_out import DepthTrial, HeldLosses, hold_back
from sktransfer.training.lr_finder import range_test, step_callbacks
from sktransfer.training.net import FineTuneNet, build_net
from sktransfer.training.network import (
    FineTuneNetwork,
    TaskModules,
    stages_frame,
    update_batch_norms,
)
from sktransfer.training.run import FitRun, LRRange, Trunk, split_rows
from sktransfer.training.settings import Settings

__all__ = ["TrainingResult", "net_of_task", "snapshot", "train"]

FEWEST_ROWS = 50  # with fewer samples, those held back cannot tell whether training helps


@dataclasses.dataclass(frozen=True)
class TrainingResult:
    """Result of a training, on the CPU.

    Parameters
    ----------
    net : FineTuneNet
        Trained net.
    backbone : Backbone
        Backbone with the trained stages.
    stages : DataFrame
        One row per stage, as `stages_frame` returns it.
    lr : float
        Learning rate of the highest stage.
    lr_curve : DataFrame or None
        Curve of the range test, if there was one.
    strengths : dict of str to HeadStrength
        Strengths of the probes that heads were initialized with, by task.
    boundary : int or dict of str to int
        Number of frozen stages, of a joined backbone by tower.
    depth_report : str or None
        Why it was chosen, if `freeze_depth="auto"`.
    """

    net: FineTuneNet
    backbone: Backbone
    stages: pd.DataFrame
    lr: float
    lr_curve: pd.DataFrame | None
    strengths: Mapping[str, HeadStrength]
    boundary: Any
    depth_report: str | None


def train(run: FitRun) -> TrainingResult:
    """Train the stages above the freezing boundary, and the heads of the tasks.

    Parameters
    ----------
    run : FitRun
        Samples, targets and settings.

    Raises
    ------
    InvalidParameterError
        If settings do not fit the backbone.
    NotFiniteError
        If the training diverges: a loss or a weight is infinite or NaN.
    ValueError
        If the samples are too few for a validation split.

    Warns
    -----
    ConvergenceWarning
        If the training loss has grown.
    """
    # Probe, standardization and losses see relative weights, those of samples and classes together.
    targets = {name: one.with_relative_weights() for name, one in run.targets.items()}
    settings = run.settings.for_tasks(list(run.tasks), None if run.sources is None else list(run.sources))
    run = dataclasses.replace(run, targets=targets, settings=settings)
    train_rows, valid_rows = split_rows(run)
    run = dataclasses.replace(run, settings=settings.for_rows(len(train_rows)))
    run, depth_report = _choose_depth(run, train_rows)
    network, strengths = build_network(run, train_rows)
    dataset = _dataset(run, train_rows, run.augmentation)
    valid = _validation_dataset(run, valid_rows)
    with _kept_on_device(run, network, [dataset, valid]):
        settings, lr_curve = _find_lr(run, network, dataset)
        net = _build(run, network, settings, settings.callbacks, dataset, valid)
        if run.on_start is not None:
            run.on_start(net)
        net.on_epoch = run.on_epoch
        net.initialize()
        if run.previous is not None and run.previous.net is not None and settings.adapter is None:  # adapters are new
            net.continue_from(run.previous.net)
        net.partial_fit(dataset)
        net.on_epoch = None
        if len(net.history) and not settings.is_partial_fit:
            update_batch_norms(net, dataset)
        if len(net.history):
            check_weights(net)
            warn_if_grown(net, dataset)
    _restore_stages(net)
    _forget_removed(net)
    stages = stages_frame(run.trunk.backbone, network, net, run.trunk.boundary)
    net.to_cpu()
    backbone = _with_trained_stages(run.trunk, network, settings)
    return TrainingResult(net, backbone, stages, settings.lr, lr_curve, strengths, run.trunk.boundary, depth_report)


def snapshot(run: FitRun, net: FineTuneNet) -> tuple[FineTuneNet, Backbone]:
    """Return copies of a net in training and of its backbone, as if the training ended with this epoch.

    Parameters
    ----------
    run : FitRun
        Run of the training.
    net : FineTuneNet
        Net at the end of an epoch, not changed.
    """
    copied: FineTuneNet = object.__new__(type(net))  # copy.copy would serialize all weights
    copied.__dict__.update(net.__dict__)
    copied.module_ = copy.deepcopy(net.module_).cpu().eval()
    copied.device = "cpu"
    copied.train_split = copied.checkpoint = None
    copied.on_epoch = copied.on_device = copied.mixture = copied._add_l2_sp = None
    _restore_stages(copied)
    return copied, _with_trained_stages(run.trunk, copied.module_, run.settings)


def _restore_stages(net: FineTuneNet) -> None:
    """Undo what tasks have changed of the stages for the training."""
    for task in net.tasks.values():
        task.restore_stages(net.module_.stages)


def _forget_removed(net: FineTuneNet) -> None:
    """Drop parameters that are no longer part of the network from the optimizer."""
    kept = {id(parameter) for parameter in net.module_.parameters()}
    for group in net.optimizer_.param_groups:
        group["params"] = [one for one in group["params"] if id(one) in kept]
    for parameter in [one for one in net.optimizer_.state if id(one) not in kept]:
        del net.optimizer_.state[parameter]


def net_of_task(net: FineTuneNet, name: str, new_name: str) -> FineTuneNet:
    """Return a net for one task of a trained net. It shares the weights of stages and head.

    Parameters
    ----------
    net : FineTuneNet
        Trained net.
    name : str
        Name of the task.
    new_name : str
        Name of the task in the new net.
    """
    whole: FineTuneNetwork = net.module_
    reads, heads = whole.reads[name], TaskModules()
    heads[new_name] = whole.heads[name]
    network = FineTuneNetwork(
        whole.stages,
        {reads: whole.layers[reads]},
        whole.boundary,
        heads,
        {new_name: reads},
        widths={reads: whole.widths[reads]},
        n_mixed=whole.n_mixed,
        prefix_tokens=whole.prefix_tokens,
        spans=whole.spans,
        layer_widths=whole.layer_widths,
        keep_statistics=whole.keep_statistics,
    )
    part: FineTuneNet = object.__new__(type(net))  # copy.copy would serialize all weights
    part.__dict__.update(net.__dict__)
    part.module_, part.tasks, part.task_weights = network.eval(), {new_name: net.tasks[name]}, {}
    part.history_, part.aggregator, part.task_sampling = History(net.history), None, "proportional"
    kept = {id(parameter) for parameter in network.parameters()}
    groups = [
        {**group, "params": [p for p in group["params"] if id(p) in kept]} for group in net.optimizer_.param_groups
    ]
    part.optimizer_ = net.optimizer([group for group in groups if group["params"]], lr=net.lr)
    return part


def _with_trained_stages(trunk: Trunk, network: FineTuneNetwork, settings: Settings) -> Backbone:
    if settings.adapter is not None:
        merge_adapters(network.stages)
    trained, lm_state = list(network.stages), _trained_lm_state(trunk.backbone, network)
    if not trained and lm_state is None:
        return trunk.backbone
    modules, changed = iter(trained), []
    for names, source in trunk.backbone.networks:
        first = of_tower(trunk.boundary, names[0])
        own = list(islice(modules, len(source.stages) - first))
        changed.append(replace_stages(source, first, own, lm_state) if own or lm_state is not None else source)
    backbone: Backbone = trunk.backbone.with_networks(changed)
    return backbone


def _trained_lm_state(backbone: Backbone, network: FineTuneNetwork) -> dict[str, Tensor] | None:
    """Return the tensors of the backbone's language-model head after a training of it; None if it was not trained."""
    trained = next((head for head in network.heads.values() if isinstance(head, LanguageModelHead)), None)
    source = None if trained is None else backbone.lm_head
    if trained is None or source is None:
        return None
    state = trained.state_dict()
    return {name: state[name].detach().clone() for name in own_state(source, backbone.stages)}


def _choose_depth(run: FitRun, train_rows: np.ndarray) -> tuple[FitRun, str | None]:
    """Return the run with all stages frozen and no training, if this is as good, and the reason.

    `freeze_depth="auto"` trains on a part of the rows and compares the loss of the others with that of the initial
    heads. Early stopping needs no trial, because it returns to the initial heads itself.
    """
    settings, trunk = run.settings, run.trunk
    if not is_auto(trunk.freeze_depth) or run.previous is not None or run.lr_range is not None:
        return run, None
    if not settings.max_epochs:
        return run, "nothing is trained, because max_epochs is 0"
    if settings.early_stopping:
        return run, f"{_n_trained(trunk)}, because early stopping decides on it"
    try:
        trial = _try_training(run, train_rows)
        reason = f"{len(train_rows)} samples are too few to tell" if trial is None else trial.report()
    except NotFiniteError as error:
        trial, reason = None, f"training diverges: {error}"
        warn(f"freeze_depth='auto' freezes all stages, because {reason}", ConvergenceWarning)
    if trial is not None and trial.helps:
        return run, f"{_n_trained(trunk)}, because {reason}"
    frozen = dataclasses.replace(trunk, boundary=trunk.backbone.n_frozen("all"))
    idle = dataclasses.replace(settings, max_epochs=0, adapter=None, aggregator=None)
    return dataclasses.replace(run, trunk=frozen, settings=idle), f"all stages are frozen, because {reason}"


def _n_trained(trunk: Trunk) -> str:
    names = list(compress(trunk.backbone.stage_names, trunk.backbone.trains(trunk.boundary)))
    return f"{', '.join(names) or 'no stage'} {'are' if len(names) > 1 else 'is'} trained"


def _try_training(run: FitRun, train_rows: np.ndarray) -> DepthTrial | None:
    """Return the result of a training on a part of the rows; None if they are too few."""
    learned = next(name for name in run.tasks if run.settings.learns(name))
    groups = None if run.groups is None else run.groups[train_rows]
    rows, held = hold_back(run.targets[learned].take(train_rows).values, groups, run.seed)
    if len(train_rows) < FEWEST_ROWS or not len(held):
        return None
    losses = HeldLosses()
    settings = dataclasses.replace(
        run.settings, verbose=0, callbacks=[*step_callbacks(run.settings.callbacks), ("held_losses", losses)]
    )
    trunk = dataclasses.replace(run.trunk, freeze_depth=run.trunk.boundary)
    part = dataclasses.replace(
        run,
        settings=settings,
        trunk=trunk,
        split=(train_rows[rows], train_rows[held]),
        validation=None,
        on_start=None,
        on_epoch=None,
    )
    with fork_rng(run.compute.device):  # later random numbers are those without a trial
        train(part)
    return losses.trial_


def _dataset(run: FitRun, rows: np.ndarray, augmentation: Any = None) -> FrozenPrefixDataset:
    return make_dataset(
        run.trunk.backbone,
        run.inputs,
        run.trunk.boundary,
        run.trunk.layers,
        rows=rows.tolist(),
        targets={name: targets.take(rows) for name, targets in run.targets.items()},
        sources=_sources(run, rows),
        compute=run.compute,
        store=run.store,
        augmentation=augmentation,
    )


@contextmanager
def _kept_on_device(
    run: FitRun, network: FineTuneNetwork, datasets: Sequence[FrozenPrefixDataset | None]
) -> Iterator[None]:
    """Keep what several epochs read on a GPU until the block ends."""
    if run.compute.device.type != "cuda" or run.store is None or run.settings.max_epochs < 2:
        yield
        return
    trained = sum(parameter.nbytes for parameter in network.parameters() if parameter.requires_grad)
    # Gradients, and two numbers per weight of an optimizer such as AdamW.
    store = DeviceStore(run.compute.device, get_config()["cache_device"], spare=3 * trained)
    for dataset in filter(None, datasets):
        dataset.keep_on_device(store)
    try:
        yield
    finally:
        store.clear()


def _sources(run: FitRun, rows: np.ndarray) -> dict[str, np.ndarray]:
    """Return which of some rows belong to each source that is drawn from. A task of weight 0 is not."""
    masks = run.sources
    if masks is None:
        weights = run.settings.weight_by_task
        masks = {name: one.weight > 0 for name, one in run.targets.items() if weights.get(name, 1.0) > 0}
    return {name: np.flatnonzero(mask[rows]) for name, mask in masks.items()}


def _validation_dataset(run: FitRun, rows: np.ndarray) -> FrozenPrefixDataset | None:
    """Return the rows set aside, or the validation data that the user gave; None without either."""
    if run.validation is not None:
        given = dataclasses.replace(run, inputs=run.validation.inputs, targets=run.validation.targets, sources=None)
        return _dataset(given, np.arange(len(given.inputs)))
    return _dataset(run, rows) if len(rows) else None


def _build(
    run: FitRun,
    network: FineTuneNetwork,
    settings: Settings,
    callbacks: Any,
    dataset: FrozenPrefixDataset,
    valid: FrozenPrefixDataset | None = None,
) -> FineTuneNet:
    n_batches = len(run.batches(dataset, settings.batch_size, run.seed, sampling=settings.task_sampling))
    net = build_net(
        network, run.tasks, settings, run.compute, run.seed, callbacks, n_batches, valid, batches=run.batches
    )
    net.on_device = dataset.on_device
    return net


def _find_lr(
    run: FitRun, network: FineTuneNetwork, dataset: FrozenPrefixDataset
) -> tuple[Settings, pd.DataFrame | None]:
    """Return settings with the learning rate that a range test on a copy of the network found, and its curve."""
    settings = run.settings
    scope = run.lr_range or (LRRange() if settings.finds_lr and settings.max_epochs else None)
    if scope is None:
        return settings, None
    tried = dataclasses.replace(settings.at(scope.lowest), lr_schedule="constant", unfreezing="none", verbose=0)
    net = _build(run, copy.deepcopy(network), tried, step_callbacks(settings.callbacks), dataset)
    result = range_test(net, dataset, scope)
    return settings.at(result.lr), result.curve
