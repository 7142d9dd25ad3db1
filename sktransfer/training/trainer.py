"""The trainer: any tasks on one trunk, and the tables of a training."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import compress, islice
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.exceptions import ConvergenceWarning
from skorch.history import History
from torch import Tensor, nn

from sktransfer.backbones.backbone import Backbone, replace_stages
from sktransfer.backbones.generators import fork_rng
from sktransfer.backbones.language import LanguageModelHead, own_state
from sktransfer.backbones.stages import of_tower
from sktransfer.config import get_config
from sktransfer.devices.rows import DeviceStore
from sktransfer.engine.compute import check_finite_outputs
from sktransfer.engine.head_strength import HeadStrength
from sktransfer.engine.layers import LayerOutput, is_auto
from sktransfer.exceptions import InvalidParameterError, NotFiniteError, warn
from sktransfer.tasks.base import Targets, Task
from sktransfer.tasks.heads import FeatureHead, block_widths, divide_head
from sktransfer.training.adapters import add_adapters, merge_adapters
from sktransfer.training.data import FrozenPrefixDataset, collect_vectors, make_dataset, precompute_features
from sktransfer.training.divergence import check_weights, warn_if_grown
from sktransfer.training.epochs import DepthTrial, HeldLosses, hold_back
from sktransfer.training.lr_finder import range_test, step_callbacks
from sktransfer.training.net import FineTuneNet, build_net
from sktransfer.training.network import (
    FineTuneNetwork,
    TaskModules,
    join,
    split_layers,
    stages_frame,
    tower_spans,
    trainable_lm_head,
    trainable_stages,
    update_batch_norms,
)
from sktransfer.training.run import FitRun, LRRange, Trunk, split_rows
from sktransfer.training.settings import Settings

__all__ = ["TrainingResult", "net_of_task", "snapshot", "train"]


MOST_VECTORS = 10_000  # of words or pixels, which a probe is fitted to
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
    network, strengths = _build_network(run, train_rows)
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


def _build_network(run: FitRun, train_rows: np.ndarray) -> tuple[FineTuneNetwork, dict[str, HeadStrength]]:
    """Return the network with its heads initialized, and the strengths of their probes by task."""
    settings, trunk = run.settings, run.trunk
    heads = _starting_heads(run)
    initializes = settings.head_init != "random" or trunk.mixed or None not in trunk.backbone.towers
    new = [name for name, task in run.tasks.items() if heads.get(name) is None and (initializes or task.is_auxiliary)]
    needs_features = "features" in {run.tasks[name].reads for name in new}
    features, layer_widths = _features(run, all_rows=needs_features)
    stages = trainable_stages(trunk.backbone, trunk.boundary)
    lm_head = None  # made before adapters, which wrap the modules that it is tied to
    if any(task.trains_lm_head for task in run.tasks.values()):
        lm_head = trainable_lm_head(trunk.backbone, stages, trunk.boundary)
    if settings.adapter is not None:
        add_adapters(stages, settings.adapter)
    for task in run.tasks.values():
        task.change_stages(stages)
    widths = {kind: joined.shape[1 if kind != "tokens" else 2] for kind, joined in features.items()}
    blocks = block_widths(trunk.backbone, layer_widths)
    n_mixed = len(next(iter(trunk.layers.values()))) if trunk.mixed else None
    network = FineTuneNetwork(
        stages,
        {kind: split_layers(layers, trunk.boundary)[1] for kind, layers in trunk.layers.items()},
        trunk.boundary,
        _make_heads(run, widths, n_mixed, lm_head, stages, blocks),
        {name: task.reads for name, task in run.tasks.items()},
        widths=widths,
        n_mixed=n_mixed,
        prefix_tokens=trunk.backbone.prefix_tokens,
        spans=tower_spans(trunk.backbone, trunk.boundary),
        layer_widths=layer_widths,
        keep_statistics=trunk.backbone.pretrained,
        scaled=[name for name, weight in settings.weight_by_task.items() if weight] if settings.learns_weights else (),
    )
    if run.previous is not None and run.previous.net is not None:
        network.continue_variances(run.previous.net.module_)
    _check_aggregator(run, network)
    if not network.trainable:
        raise InvalidParameterError(
            f"freeze_depth={trunk.freeze_depth!r} leaves nothing to train of {trunk.backbone.name}: its stages are "
            f"{trunk.backbone.stage_names}, of which those above the freezing boundary, {trunk.boundary}, have no "
            "weights. Freeze fewer, or use a featurizer"
        )
    for name, head in heads.items():
        if head is not None:
            head.start(_feature_head(network, name), run.tasks[name])
    return network, _init_heads(run, network, new, features.get("features"), train_rows)


def _init_heads(
    run: FitRun, network: FineTuneNetwork, new: Sequence[str], features: Tensor | None, train_rows: np.ndarray
) -> dict[str, HeadStrength]:
    """Initialize new heads from the pretrained network, and return the strengths of their probes by task."""
    strengths: dict[str, HeadStrength] = {}
    for name in new:
        task, targets = run.tasks[name], run.targets[name]
        known = train_rows[targets.weight[train_rows] > 0]
        if name not in network.heads or not len(known):  # its rows are known only in tasks that are not learned
            continue
        if task.reads == "features":
            assert features is not None
            values, targets = features[known].numpy(), targets.take(known)  # (n_known, n_features)
        elif type(task).init_head is Task.init_head:
            continue
        else:
            values, targets = _vectors(run, name, known)
        values = check_finite_outputs(values, run.compute)
        choices = run.trunk.choices or {}
        choice = choices.get(name, next(iter(choices.values()), None) if task.is_auxiliary else None)
        strength = task.init_head(network.heads[name], values, targets, run.settings.head_init, choice)
        if strength is not None:
            strengths[name] = strength
    return strengths


def _vectors(run: FitRun, name: str, known: np.ndarray) -> tuple[np.ndarray, Targets]:
    """Return the vectors (n_vectors, n_features) of words or pixels that a new head is initialized by."""
    task, trunk = run.tasks[name], run.trunk
    rows = known[task.sample_rows(run.targets[name].take(known), MOST_VECTORS)]
    (vectors,), targets = collect_vectors(
        trunk.backbone,
        run.inputs,
        [trunk.layers[task.reads]],
        task,
        run.targets[name],
        rows.tolist(),
        compute=run.compute,
        store=run.store,
    )
    return vectors, targets


def _all_stages(trunk: Trunk, trained: nn.ModuleList) -> nn.ModuleList:
    """Return the stages of a training, the frozen ones included."""
    remaining, trains = iter(trained), trunk.backbone.trains(trunk.boundary)
    return nn.ModuleList([next(remaining) if one else stage for stage, one in zip(trunk.backbone.stages, trains)])


def _make_heads(
    run: FitRun,
    widths: Mapping[str, int],
    n_mixed: int | None,
    lm_head: LanguageModelHead | None,
    stages: nn.ModuleList,
    blocks: Sequence[int],
) -> TaskModules:
    """Return the heads of the tasks, by name, before they are initialized."""
    modules, stages = TaskModules(), _all_stages(run.trunk, stages)
    # Heads that are not learned come last: no others depend on what is drawn for them.
    for name in sorted(run.tasks, key=lambda name: not run.settings.learns(name)):
        task = run.tasks[name]
        is_lm = task.trains_lm_head and lm_head is not None
        head = lm_head if is_lm else task.make_head(widths[task.reads], n_mixed)
        if head is not None:
            divide_head(head, blocks)
            task.connect_head(head, stages)
            modules[name] = head
    return modules


def _check_aggregator(run: FitRun, network: FineTuneNetwork) -> None:
    aggregator = run.settings.aggregator
    if aggregator is None:
        return
    if not network.trainable_stage_indices():
        raise InvalidParameterError(
            f"aggregator={aggregator!r} aggregates the gradients of stages that tasks share, and "
            f"freeze_depth={run.trunk.freeze_depth!r} leaves none to train; freeze fewer, or leave aggregator out"
        )
    if run.compute.dtype == torch.float16:
        raise InvalidParameterError(
            f"aggregator={aggregator!r} compares gradients, which underflow in float16; set precision to 'float32' or "
            "'bfloat16', or leave aggregator out"
        )


def _starting_heads(run: FitRun) -> Mapping[str, Any]:
    if run.previous is not None:
        return {name: run.previous.heads.get(name) for name in run.tasks}
    return {name: run.settings.starting_head(name) for name in run.tasks}


def _feature_head(network: FineTuneNetwork, name: str) -> FeatureHead:
    head = network.heads[name]
    assert isinstance(head, FeatureHead)
    return head


def _features(run: FitRun, *, all_rows: bool) -> tuple[dict[str, Tensor], dict[LayerOutput, int]]:
    """Return the inputs of heads before training, by kind: of all rows, or of the first one to learn their width.

    The widths of the layers are returned as well.
    """
    trunk, everything = run.trunk, range(len(run.inputs))
    kinds = [(kind, layer) for kind, layers in trunk.layers.items() for layer in layers]
    if run.known is not None:
        outputs = run.known.of([layer for _, layer in kinds])
    else:
        outputs = precompute_features(
            trunk.backbone,
            run.inputs,
            [layer for _, layer in kinds],
            trunk.boundary,
            everything if all_rows else everything[:1],
            train_rows=everything if run.augmentation is None else [],  # augmented samples are not cached
            compute=run.compute,
            store=run.store,
        )
    features: dict[str, Tensor] = {}
    widths: dict[LayerOutput, int] = {}
    for kind in trunk.layers:
        n = None if kind == "features" else 1
        values = [torch.stack(rows[:n]) for (other, _), rows in zip(kinds, outputs) if other == kind]
        of_kind = [one.shape[2 if kind == "tokens" else 1] for one in values]
        widths |= dict(zip(trunk.layers[kind], of_kind, strict=True))
        _check_mix(trunk, of_kind)
        features[kind] = join(
            kind, values, trunk.backbone.prefix_tokens
        )  # (n, n_features), (1, n_tokens, n_features) or (1, n_features, h, w)
    return features, widths


def _check_mix(trunk: Trunk, widths: list[int]) -> None:
    if trunk.mixed and len(set(widths)) > 1:
        named = dict(zip(trunk.backbone.stage_names, widths))
        raise InvalidParameterError(
            f"layer='mix' adds layers up, and those of {trunk.backbone.name} are of different width: {named}; "
            "layer='all' concatenates them"
        )
