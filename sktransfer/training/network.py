"""The trained part of a network: the stages above the freezing boundary, and a head per task."""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping, Sequence
from itertools import compress
from typing import Any

import pandas as pd
import torch
from skorch.history import History
from torch import Tensor, nn

from sktransfer.backbones.backbone import Backbone
from sktransfer.backbones.language import LanguageModelHead, own_state, rebind
from sktransfer.backbones.pooling import as_maps, pool
from sktransfer.backbones.stages import of_tower
from sktransfer.engine.inference import has_convolutions
from sktransfer.engine.layers import LayerOutput

__all__ = [
    "FineTuneNetwork",
    "TaskModules",
    "history_frame",
    "join",
    "split_layers",
    "stages_frame",
    "tower_spans",
    "trainable_lm_head",
    "trainable_stages",
    "update_batch_norms",
]

_SHOWN_WEIGHTS = 2  # in a message

Layers = Mapping[str, Sequence[LayerOutput]]


def split_layers(layers: Sequence[LayerOutput], boundary: Any) -> tuple[list[LayerOutput], list[LayerOutput]]:
    """Return the layer outputs of the frozen stages, and those of the trained stages.

    Parameters
    ----------
    layers : sequence of LayerOutput
        Layer outputs that a head reads.
    boundary : int or dict of str to int
        Number of frozen stages, of a joined backbone by tower.
    """
    frozen = [one for one in layers if one.stop <= of_tower(boundary, one.tower)]
    return frozen, [one for one in layers if one not in frozen]


def trainable_stages(backbone: Backbone, boundary: Any) -> nn.ModuleList:
    """Return copies of the stages above the boundary to train; parameters shared with a frozen stage stay frozen.

    A parameter that several stages share belongs to the first of them.

    Parameters
    ----------
    backbone : Backbone
        Backbone, not changed.
    boundary : int or dict of str to int
        Number of frozen stages, of a joined backbone by tower.
    """
    trains = backbone.trains(boundary)
    frozen = {
        id(parameter) for stage, one in zip(backbone.stages, trains) if not one for parameter in stage.parameters()
    }
    trained = list(compress(backbone.stages, trains))
    owned = [[id(p) not in frozen for p in stage.parameters()] for stage in trained]
    # One call of deepcopy for all stages: parameters that they share stay shared.
    stages: nn.ModuleList = copy.deepcopy(nn.ModuleList(trained))
    for stage, flags in zip(stages, owned):
        for parameter, flag in zip(stage.parameters(), flags):
            parameter.requires_grad_(flag)
    return stages


def tower_spans(backbone: Backbone, boundary: Any) -> dict[Any, range]:
    """Return the positions of the trained stages of each tower among all trained stages, lowest first.

    Parameters
    ----------
    backbone : Backbone
        Backbone.
    boundary : int or dict of str to int
        Number of frozen stages, of a joined backbone by tower.
    """
    spans: dict[Any, range] = {}
    start = 0
    for names, network in backbone.networks:
        stop = start + len(network.stages) - of_tower(boundary, names[0])
        spans |= dict.fromkeys(names, range(start, stop))
        start = stop
    return {name: spans[name] for name in backbone.towers}


def trainable_lm_head(backbone: Backbone, stages: nn.ModuleList, boundary: int) -> LanguageModelHead | None:
    """Return a copy of a backbone's language-model head to train, tied to the trained stages; None if it has none.

    A parameter that is tied to a frozen stage becomes a buffer, so that neither an optimizer nor an average of weights
    writes into it. It shares the memory of the stage.

    Parameters
    ----------
    backbone : Backbone
        Backbone, not changed.
    stages : nn.ModuleList
        Result of `trainable_stages`.
    boundary : int
        Number of frozen stages.
    """
    source = backbone.lm_head
    if source is None:
        return None
    whole = nn.ModuleList([*backbone.stages[:boundary], *stages])
    head = rebind(source, backbone.stages, whole, own_state(source, backbone.stages))
    assert head is not None  # the stages are copies of those of the backbone
    frozen = {id(parameter) for stage in backbone.stages[:boundary] for parameter in stage.parameters()}
    tied = {id(parameter) for parameter in whole.parameters()}
    for module in head.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            if id(parameter) in frozen:
                delattr(module, name)
                module.register_buffer(name, parameter.detach(), persistent=False)
            elif id(parameter) not in tied:
                parameter.requires_grad_(True)
    return head


def join(reads: str, values: Sequence[Tensor], prefix_tokens: int = 0) -> Tensor:
    """Return the input of a head from layer outputs of one batch.

    Parameters
    ----------
    reads : {"features", "tokens", "maps"}
        Input of the head, as in `Task`.
    values : sequence of Tensor
        Pooled vectors (n, width), values per token (n, n_tokens, width), or maps (n, width, height, width). The patches
        of a sequence (n, n_tokens, width) are a map as well.
    prefix_tokens : int, default=0
        Number of tokens of an image sequence before the patches.

    Returns
    -------
    joined : Tensor
        Vectors (n, n_features), values per token (n, n_tokens, n_features), or maps (n, n_features, height, width) on
        the finest of the grids.
    """
    if reads == "features":
        return torch.cat(list(values), 1)  # (n, n_features)
    if reads == "tokens":
        return torch.cat(list(values), 2)  # (n, n_tokens, n_features)
    values = [as_maps(one, prefix_tokens) for one in values]
    size = max((tuple(one.shape[2:]) for one in values), key=lambda grid: grid[0] * grid[1])
    finest = [one if one.shape[2:] == size else nn.functional.interpolate(one, size, mode="bilinear") for one in values]
    return torch.cat(finest, 1)  # (n, n_features, height, width)


class TaskModules(nn.ModuleDict):
    """Modules by task. A name is the user's, and may be that of a method of modules, or have dots."""

    def add_module(self, name: str, module: nn.Module | None) -> None:
        """Add a module without the checks of names that would become attributes."""
        self._modules[name] = module  # type: ignore[assignment]


class FineTuneNetwork(nn.Module):
    """Stages above the freezing boundary, and the heads of the tasks.

    Parameters
    ----------
    stages : nn.ModuleList
        Stages to train, empty if all are frozen.
    layers : mapping of str to sequence of LayerOutput
        Per kind of head input ("features", "tokens", "maps"), the layer outputs of the trained stages that are read.
        `stop` counts from the backbone's input.
    boundary : int or dict of str to int
        Number of frozen stages, of a joined backbone by tower.
    heads : nn.ModuleDict
        Head of each task, by name. A task without a head is not in it.
    reads : mapping of str to str
        Kind of input of each task, by name.
    widths : mapping of str to int
        Width of the head input, by kind.
    n_mixed : int, default=None
        Number of layers that heads mix; None if they read them concatenated.
    prefix_tokens : int or dict of str to int, default=0
        As in `pool`, of a joined backbone by tower.
    spans : mapping of str to range, default=None
        Positions in `stages` of those of each tower, as `tower_spans` returns them. Towers that share a network have
        the same. None for the only tower of a backbone that is not joined.
    layer_widths : mapping of LayerOutput to int, default={}
        Number of features of each layer of towers, which rows without a sample have zeros of.
    keep_statistics : bool, default=True
        Whether BatchNorm uses its pretrained statistics while its weights are trained. Batches of a small data set
        estimate them badly, and a probe was fitted to features that they gave.
    scaled : sequence of str, default=()
        Tasks whose losses are weighted by a log variance that is trained.
    """

    def __init__(
        self,
        stages: nn.ModuleList,
        layers: Layers,
        boundary: Any,
        heads: nn.ModuleDict,
        reads: Mapping[str, str],
        *,
        widths: Mapping[str, int],
        n_mixed: int | None = None,
        prefix_tokens: Any = 0,
        spans: Mapping[Any, range] | None = None,
        layer_widths: Mapping[LayerOutput, int] | None = None,
        keep_statistics: bool = True,
        scaled: Sequence[str] = (),
    ) -> None:
        super().__init__()
        self.stages = stages.to(memory_format=torch.channels_last) if has_convolutions(stages) else stages
        self.heads = heads
        self.scaled = tuple(scaled)
        self.log_variances = nn.Parameter(torch.zeros(len(scaled))) if scaled else None  # (n_scaled,)
        self.keep_statistics = keep_statistics
        self.layers = {kind: tuple(outputs) for kind, outputs in layers.items()}
        self.reads, self.widths, self.n_mixed = dict(reads), dict(widths), n_mixed
        self.boundary, self.prefix_tokens = boundary, prefix_tokens
        self.spans = {None: range(len(stages))} if spans is None else dict(spans)
        self.layer_widths = dict(layer_widths or {})
        # Parameters that may be trained at all. Unfreezing schedules freeze some of them for a while.
        self.trainable = frozenset(name for name, parameter in self.named_parameters() if parameter.requires_grad)
        self.not_yet_unfrozen: frozenset[int] = frozenset()

    def train(self, mode: bool = True) -> FineTuneNetwork:
        """Set the training mode, except for stages not yet unfrozen and for BatchNorm that keeps its statistics."""
        super().train(mode)
        for index in self.not_yet_unfrozen:
            self.stages[index].eval()
        if self.keep_statistics:
            for norm in self.batch_norms():
                norm.eval()
        return self

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Load weights as torch does, or none of them if they do not fit. torch loads those that fit, and then raises.

        Parameters
        ----------
        state_dict : mapping of str to Tensor
            Weights by name.
        strict, assign : bool
            As torch takes them.

        Raises
        ------
        RuntimeError
            If `strict`, and a name or a shape is another one.
        """
        given, own = _shapes(state_dict), _shapes(self.state_dict())
        differing = [name for name in {**own, **given} if own.get(name) != given.get(name)]
        if strict and differing:
            shown = ", ".join(f"{name} {given.get(name, 'missing')}" for name in differing[:_SHOWN_WEIGHTS])
            needed = ", ".join(f"{name} {own.get(name, 'missing')}" for name in differing[:_SHOWN_WEIGHTS])
            raise RuntimeError(
                f"the weights are those of another network, and nothing was loaded: {len(differing)} names or shapes "
                f"differ, such as {shown} in place of {needed}. Load them into an estimator fitted with the same "
                "backbone, layers, freeze_depth, and number of classes"
            )
        return super().load_state_dict(state_dict, strict, assign)

    def batch_norms(self) -> list[nn.modules.batchnorm._BatchNorm]:
        """Return the BatchNorm layers of the trained stages."""
        return [module for module in self.stages.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]

    def trainable_stage_indices(self) -> list[int]:
        """Return the indices of the stages that have trainable parameters, in ascending order; 0 is the lowest."""
        return sorted({int(name.split(".")[1]) for name in self.trainable if name.startswith("stages.")})

    def trainable_levels(self) -> list[list[int]]:
        """Return the indices of the stages that have trainable parameters, by level.

        Level 0 is the lowest. The highest has the highest such stage of each tower.
        """
        trainable = self.trainable_stage_indices()
        of_network = [[index for index in span if index in trainable] for span in dict.fromkeys(self.spans.values())]
        n = max(map(len, of_network), default=0)
        return [
            [some[level - n + len(some)] for some in of_network if level - n + len(some) >= 0] for level in range(n)
        ]

    @property
    def trains_heads(self) -> bool:
        """Whether heads have trained parameters of their own. Those that are tied to a stage are trained with it."""
        return any(not name.startswith("stages.") for name in self.trainable)

    def variances_by_task(self) -> dict[str, Tensor]:
        """Return the trained log variance () of each task that has one."""
        return {} if self.log_variances is None else dict(zip(self.scaled, self.log_variances.unbind()))

    @torch.no_grad()
    def continue_variances(self, before: FineTuneNetwork) -> None:
        """Take over the log variances of an earlier network.

        Parameters
        ----------
        before : FineTuneNetwork
            Network of an earlier fit, not changed.
        """
        known = before.variances_by_task()
        for name, value in self.variances_by_task().items():
            if name in known:
                value.copy_(known[name])

    def slow_parameters(self) -> list[nn.Parameter]:
        """Return the parameters whose rate does not follow `lr`: mixed layers, log variances, heads with a rate."""
        mixes: list[Any] = [head.mix for head in self.heads.values() if getattr(head, "mix", None) is not None]
        variances = [] if self.log_variances is None else [self.log_variances]
        heads = [head.linear for head in self.heads.values() if hasattr(head, "own_lr")]
        return [*(parameter for module in [*mixes, *heads] for parameter in module.parameters()), *variances]

    def unfreeze(self, stages: Collection[int], heads: bool = True) -> None:
        """Train some stages, and the heads; freeze the others in evaluation mode.

        Parameters
        ----------
        stages : collection of int
            Indices of the stages above the boundary, 0 the lowest.
        heads : bool, default=True
            Whether the heads are trained, and the log variances of tasks.
        """
        self.not_yet_unfrozen = frozenset(range(len(self.stages))) - set(stages)
        for name, parameter in self.named_parameters():
            part, _, rest = name.partition(".")
            trains = int(rest.partition(".")[0]) in stages if part == "stages" else heads
            parameter.requires_grad_(name in self.trainable and trains)

    def forward(
        self,
        fixed: Tensor | None = None,
        fixed_values: Mapping[str, Sequence[Tensor]] | None = None,
        values: Tensor | None = None,
        mask: Tensor | None = None,
        targets: Mapping[str, Tensor] | None = None,
        towers: Mapping[str, Mapping[str, Any]] | None = None,
        heads: Collection[str] | None = None,
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Return the output of each head, by task, and the inputs of heads, by kind.

        Parameters
        ----------
        fixed : Tensor of shape (n, n_fixed), default=None
            Pooled features of frozen stages.
        fixed_values : mapping of str to sequence of Tensor, default=None
            Values per token or maps of frozen stages, by kind of input.
        values : Tensor, default=None
            Input of the first trained stage.
        mask : Tensor of shape (n, n_tokens), default=None
            True for real tokens, False for padding.
        targets : mapping of str to Tensor, default=None
            Targets of the heads that read them, by task.
        towers : mapping of str to mapping, default=None
            Of a joined backbone, the arguments `fixed`, `values`, `mask` and `present` of each tower. `present` (n,) is
            True for rows with a sample. The others have zeros as features, and the tower does not run on them.
        heads : collection of str, default=None
            Tasks whose heads run. None for all.
        """
        given = {None: {"fixed": fixed, "fixed_values": fixed_values, "values": values, "mask": mask}}
        read: dict[str, list[Tensor]] = {kind: [] for kind in self.layers}
        for tower in self.spans:
            self._run(tower, read, **(given if towers is None else towers)[tower])  # type: ignore[index]
        tokens = of_tower(self.prefix_tokens, next(iter(self.spans)))  # of maps, which no joined backbone has
        features = {kind: join(kind, parts, tokens) for kind, parts in read.items()}
        of_heads = {name: {"targets": one} for name, one in (targets or {}).items()}
        outputs = {
            name: head(features[self.reads[name]], **of_heads.get(name, {}))
            for name, head in self.heads.items()
            if heads is None or name in heads
        }
        return outputs, features

    def _run(
        self,
        tower: str | None,
        read: dict[str, list[Tensor]],
        fixed: Tensor | None = None,
        fixed_values: Mapping[str, Sequence[Tensor]] | None = None,
        values: Tensor | None = None,
        mask: Tensor | None = None,
        present: Tensor | None = None,
    ) -> None:
        """Run the trained stages of a tower, and add what heads read of it to `read`."""
        for kind, parts in (fixed_values or {}).items():
            read[kind] += parts
        if fixed is not None:
            read["features"].append(fixed)
        if present is not None and not present.any():
            for kind, layers in self.layers.items():
                widths = [self.layer_widths[layer] for layer in layers if layer.tower == tower]
                read[kind] += [torch.zeros(len(present), width, device=present.device) for width in widths]
            return
        if present is not None and values is not None:
            values, mask = values[present], None if mask is None else mask[present]  # (n_present, ...)
        if values is not None and values.ndim == 4:  # convolutions are fastest in channels_last
            values = values.to(memory_format=torch.channels_last)
        span = self.spans[tower]
        for stop, index in enumerate(span, start=of_tower(self.boundary, tower) + 1):
            values = self.stages[index](values, mask)
            for kind, layers in self.layers.items():
                for layer in layers:
                    if layer.stop != stop or layer.tower != tower or values is None:
                        continue
                    is_last = index == span[-1]
                    output = values if is_last else values.clone()  # the next stage may change them in place
                    if layer.pooling is not None:
                        tokens = of_tower(self.prefix_tokens, tower)
                        output = pool(output, mask, layer.pooling, prefix_tokens=tokens)
                    read[kind].append(output if present is None else _spread(output, present))


def _spread(vectors: Tensor, present: Tensor) -> Tensor:
    """Return vectors (n_present, width) in the rows that have a sample, and zeros in the others, (n, width)."""
    spread = vectors.new_zeros(len(present), vectors.shape[1])
    return spread.masked_scatter(present[:, None], vectors)


def _shapes(state: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(getattr(value, "shape", ())) for name, value in state.items()}


def stages_frame(backbone: Backbone, network: FineTuneNetwork, net: Any, boundary: Any) -> pd.DataFrame:
    """Return one row per stage: whether it was trained, its highest initial rate, and its trained parameters.

    Parameters
    ----------
    backbone : Backbone
        Backbone with all stages.
    network : FineTuneNetwork
        Trained stages, before adapters are merged.
    net : FineTuneNet
        Net with the optimizer.
    boundary : int or dict of str to int
        Number of frozen stages, of a joined backbone by tower.
    """
    rates = {
        id(parameter): group["initial_lr" if "initial_lr" in group else "lr"]
        for group in net.optimizer_.param_groups
        for parameter in group["params"]
    }
    rows, stages = [], iter(network.stages)
    for trains in backbone.trains(boundary):
        trained = [p for p in next(stages).parameters() if id(p) in rates] if trains else []
        rows.append(
            {
                "trained": bool(trained),
                "lr": max((rates[id(p)] for p in trained), default=float("nan")),
                "n_trained": sum(p.numel() for p in trained),
            }
        )
    return pd.DataFrame(rows, index=pd.Index(backbone.stage_names, name="stage"))


def update_batch_norms(net: Any, dataset: Any) -> None:
    """Recompute the BatchNorm statistics over all training samples under the final weights.

    The running statistics lag behind the weights by tens of steps, so after a short training, or with averaged weights,
    predictions would be wrong. Nothing is done if BatchNorm keeps its pretrained statistics.
    `torch.optim.swa_utils.update_bn` does the same, but turns dropout on.

    Parameters
    ----------
    net : FineTuneNet
        Trained net.
    dataset : FrozenPrefixDataset
        Data that it was trained on.
    """
    network = net.module_
    norms = [norm for norm in network.batch_norms() if norm.track_running_stats]
    if network.keep_statistics or not norms:
        return
    heads = [name for name, task in net.tasks.items() if not task.head_reads_targets]  # the others have no targets here
    network.eval()
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the mean over batches
        norm.train()
    try:
        with torch.no_grad():
            for arguments, _ in net.get_iterator(dataset, training=True):
                net.infer(arguments, heads=heads)
    finally:
        for norm, momentum in zip(norms, momenta):
            norm.momentum = momentum
        network.eval()


def history_frame(history: History) -> pd.DataFrame:
    """Return one row per epoch, counted from 1, with every single number that skorch and callbacks have recorded.

    Parameters
    ----------
    history : skorch History
        History of a net. Details of batches are left out.
    """
    hidden = ("batches", "epoch", "train_batch_count", "valid_batch_count")
    rows = [
        {name: value for name, value in row.items() if name not in hidden and not _marks_best(name, row)}
        for row in history
    ]
    rows = [{"seconds" if name == "dur" else name: value for name, value in row.items()} for row in rows]
    return pd.DataFrame(rows, index=pd.RangeIndex(1, len(rows) + 1, name="epoch"))


def _marks_best(name: str, row: Any) -> bool:
    """Return whether a column of skorch's history says that another one has its best value."""
    return name.endswith("_best") and name.removesuffix("_best") in row
