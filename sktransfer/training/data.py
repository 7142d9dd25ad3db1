"""Batches that start at the freezing boundary, and the features of the pretrained network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from skorch.dataset import Dataset
from torch import Tensor

from sktransfer.backbones.backbone import Backbone
from sktransfer.backbones.stages import of_tower
from sktransfer.cache.policy import fits, prefetch_for_depths
from sktransfer.cache.types import Store
from sktransfer.devices.rows import DeviceRows, DeviceStore
from sktransfer.devices.transfers import upload
from sktransfer.engine.compute import Compute
from sktransfer.engine.forward import blank_widths, forward, in_rows
from sktransfer.engine.inputs import JoinedInputs, PreprocessedSamples, collate, concat_features
from sktransfer.engine.layers import LayerOutput
from sktransfer.tasks.base import Targets, Task, batch_targets
from sktransfer.training.augmentation import Augmentation, JoinedAugmentation
from sktransfer.training.network import join, split_layers

__all__ = ["Batch", "FrozenPrefixDataset", "JoinedDataset", "collect_features", "collect_vectors"]
__all__ += ["make_dataset", "precompute_features"]

# Arguments of the network, and per task its targets and their weights.
Batch = tuple[dict[str, Any], dict[str, tuple[Tensor, Tensor]]]


def collect_features(
    backbone: Backbone, inputs: PreprocessedSamples, layers: Sequence[LayerOutput], rows: Sequence[int], **options: Any
) -> list[list[Tensor]]:
    """Return the outputs of each layer for some rows, in their order.

    Parameters
    ----------
    backbone, inputs, layers, **options
        As `forward` takes them.
    rows : sequence of int
        Rows of the samples.

    Returns
    -------
    outputs : list of list of Tensor
        Per layer one tensor per row.
    """
    outputs: list[dict[int, Tensor]] = [{} for _ in layers]
    for part, parts in forward(backbone, inputs, layers, rows=rows, **options):
        for by_row, values in zip(outputs, parts):
            by_row.update(zip(part, values))
    return [[by_row[row] for row in rows] for by_row in outputs]


def collect_vectors(
    backbone: Backbone,
    inputs: PreprocessedSamples,
    heads: Sequence[Sequence[LayerOutput]],
    task: Task,
    targets: Targets,
    rows: Sequence[int],
    **options: Any,
) -> tuple[list[np.ndarray], Targets]:
    """Return the vectors that heads on tokens or maps read in some rows, in their order, and their targets.

    Values per token and maps are dropped after each batch, because they take far more memory than the vectors.

    Parameters
    ----------
    backbone, inputs, **options
        As `forward` takes them.
    heads : sequence of sequence of LayerOutput
        Layers that each of the heads reads, concatenated.
    task : Task
        Task of the heads.
    targets : Targets
        Targets of all rows.
    rows : sequence of int
        Rows of the samples.

    Returns
    -------
    vectors : list of ndarray of shape (n_vectors, n_features), float32
        Vectors of each head.
    targets : Targets of length n_vectors
    """
    layers = [layer for some in heads for layer in some]
    found: dict[int, tuple[list[np.ndarray], np.ndarray, np.ndarray]] = {}
    for part, outputs in forward(backbone, inputs, layers, rows=rows, **options):
        for row, *values in zip(part, *outputs):
            remaining, vectors = iter(values), []
            for some in heads:
                joined = join(task.reads, [next(remaining)[None] for _ in some], backbone.prefix_tokens)[0]
                of_row, known, weight = task.vectors(joined, targets.values[row], float(targets.weight[row]))
                vectors.append(of_row.float().numpy())
            found[row] = vectors, known, weight
    parts = [found[row] for row in rows]
    joint = [np.concatenate([vectors[head] for vectors, _, _ in parts]) for head in range(len(heads))]
    return joint, Targets(*(np.concatenate([one[index] for one in parts]) for index in (1, 2)))  # type: ignore[arg-type]


class FrozenPrefixDataset(Dataset):  # type: ignore[misc]
    """Samples as the first trained stage takes them: outputs of the frozen stages, cached or computed.

    skorch's scoring callbacks read `X`, the data set itself, and `y`.

    Parameters
    ----------
    backbone : Backbone
        Backbone whose stages below the boundary are frozen.
    inputs : PreprocessedSamples
        Samples.
    boundary, stop : int
        Number of frozen stages, and number of stages of the network.
    layers : mapping of str to sequence of LayerOutput
        Layer outputs that heads read, by kind of input, as in `FineTuneNetwork`.
    rows : sequence of int
        Rows of the samples: those to train on, or the validation split.
    targets : mapping of str to Targets
        Targets of these rows, by task.
    sources : mapping of str to ndarray of int, default=None
        Rows of this data set that batches are drawn from, by name; None for the rows that each task knows.
    compute : Compute
        Device and precision of the frozen stages.
    store : Store or None
        Cache of the outputs.
    augmentation : Augmentation, default=None
        Changes samples in each epoch, before all stages. The outputs are then not cached.
    """

    augmentation: Any
    on_device: DeviceStore | None = None
    _rows_on_device: DeviceRows | None = None

    def __init__(
        self,
        backbone: Backbone,
        inputs: PreprocessedSamples,
        boundary: int,
        stop: int,
        layers: Mapping[str, Sequence[LayerOutput]],
        *,
        rows: Sequence[int],
        targets: Mapping[str, Targets],
        sources: Mapping[str, np.ndarray] | None = None,
        compute: Compute,
        store: Store | None,
        augmentation: Augmentation | None = None,
    ) -> None:
        self.backbone, self.inputs, self.rows = backbone, inputs, list(rows)
        self.frozen_layers = {kind: split_layers(outputs, boundary)[0] for kind, outputs in layers.items()}
        self.boundary_layer = LayerOutput(boundary) if boundary < stop else None
        self._set_targets(targets, sources)
        self.compute, self.store = compute, store
        self.augmentation = augmentation
        self.epoch = 0  # the order of samples and their augmented views depend on it
        # Pooled features of all samples take no more memory than a table of features would: they are kept.
        pooled = self.frozen_layers.get("features")
        keeps = pooled and not augmentation and self.rows  # a column may have no sample in some rows
        self.fixed = concat_features(self._collect(pooled or (), range(len(self)))) if keeps else None

    def keep_on_device(self, store: DeviceStore) -> None:
        """Keep what batches need on a device, from the first time that they are read. Augmented samples are not kept.

        Parameters
        ----------
        store : DeviceStore
            Memory of the device.
        """
        if self.augmentation is None:
            lengths = self.inputs.lengths(self.rows) if self.inputs.is_ragged else None
            pads = [*([] if self.fixed is None else [0]), *(self._pad_value(layer) for _, layer in self._read_layers())]
            self.on_device, self._rows_on_device = store, store.rows(len(self), lengths, pads)

    def _set_targets(self, targets: Mapping[str, Targets], sources: Mapping[str, np.ndarray] | None) -> None:
        self.targets = {name: _as_tensors(one.values) for name, one in targets.items()}
        self.weights = {name: torch.from_numpy(one.weight).float() for name, one in targets.items()}  # (n_rows,) each
        known = {name: np.flatnonzero(one.weight) for name, one in targets.items()}
        self.sources = known if sources is None else sources

    def _collect(self, layers: Sequence[LayerOutput], rows: Sequence[int]) -> list[list[Tensor]]:
        of_samples = [self.rows[row] for row in rows]
        if self.augmentation is None:
            options: dict[str, Any] = {"compute": self.compute, "store": self.store}
            return collect_features(self.backbone, self.inputs, layers, of_samples, **options)
        views = self.augmentation.views(self.inputs.samples, of_samples, self.epoch)
        inputs = PreprocessedSamples(views, self.backbone.preprocess)
        return collect_features(self.backbone, inputs, layers, range(len(of_samples)), compute=self.compute)

    def identity(self) -> list[Any]:
        """Return everything that a training on these samples depends on, for a checkpoint's key."""
        keys = self.inputs.samples.keys(self.rows)
        augmentation = None if self.augmentation is None else self.augmentation.identity()
        return [self.namespaces(), keys, self.targets, self.weights, self.sources, augmentation]

    def namespaces(self) -> list[Any]:
        """Return the digests of the cache namespaces of all outputs of frozen stages that are read."""
        frozen = [layer for layers in self.frozen_layers.values() for layer in layers]
        layers = [*frozen, *([] if self.boundary_layer is None else [self.boundary_layer])]
        # A checkpoint is resumed on another machine, too.
        return [layer.namespace(self.backbone, self.compute, any_processor=True).digest for layer in layers]

    @property
    def X(self) -> FrozenPrefixDataset:
        """The data set, from which a net predicts."""
        return self

    @property
    def y(self) -> Any:
        """Targets as the loss takes them (n_rows, ...); a dict of them by name if there are several tasks."""
        return next(iter(self.targets.values())) if len(self.targets) == 1 else self.targets

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, row: int) -> Batch:
        return self.batch([row])

    def batch(self, rows: Sequence[int]) -> Batch:
        """Return the network's arguments for some rows, and per task (targets, weights).

        Parameters
        ----------
        rows : sequence of int
            Rows of this data set.
        """
        index = list(rows)
        places = torch.tensor(index, dtype=torch.long)  # (n,), because an index that is a list is slow
        targets = {
            name: (batch_targets(values, places), self.weights[name].index_select(0, places))
            for name, values in self.targets.items()
        }
        return self.arguments(index), targets

    def arguments(self, index: list[int]) -> dict[str, Any]:
        """Return the network's arguments for some rows.

        Parameters
        ----------
        index : list of int
            Rows of this data set.
        """
        arguments: dict[str, Any] = {}
        layers = self._read_layers()
        batches = None if self._rows_on_device is None else self._rows_on_device.batch(index, self._read)
        if batches is None:
            outputs = self._collect([layer for _, layer in layers], index) if layers else []
            if self.fixed is not None:
                arguments["fixed"] = self.fixed.index_select(0, torch.tensor(index, dtype=torch.long))  # (n, n_fixed)
            elif self.frozen_layers.get("features"):
                pooled = [values for (kind, _), values in zip(layers, outputs) if kind == "features"]
                arguments["fixed"] = concat_features(pooled)  # (n, n_fixed)
            batches = [
                self._collate(layer, values) for (kind, layer), values in zip(layers, outputs) if kind != "features"
            ]
        elif self.fixed is not None:
            arguments["fixed"] = batches.pop(0)[0]  # (n, n_fixed)
        kinds = [kind for kind, _ in layers if kind != "features"]
        for kind, (padded, mask) in zip(kinds, batches, strict=True):  # (n, ...), (n, n_tokens)
            if kind is None:
                arguments["values"] = padded
            else:
                arguments.setdefault("fixed_values", {}).setdefault(kind, []).append(padded)
            if mask is not None:
                arguments["mask"] = mask
        return arguments

    def _read_layers(self) -> list[tuple[str | None, LayerOutput]]:
        """Return the outputs that each batch reads, and the kind of head input; None for the trained stages' input."""
        layers: list[tuple[str | None, LayerOutput]] = [
            (kind, layer)
            for kind, outputs in self.frozen_layers.items()
            if kind != "features" or self.fixed is None
            for layer in outputs
        ]
        return layers if self.boundary_layer is None else [*layers, (None, self.boundary_layer)]

    def _read(self, rows: list[int]) -> list[list[Tensor]]:
        """Return per tensor of a batch what it has of some rows: their pooled features, and the outputs of layers."""
        layers = [layer for _, layer in self._read_layers()]
        fixed = [] if self.fixed is None else [list(self.fixed[rows])]
        return [*fixed, *(self._collect(layers, rows) if layers else [])]

    def _collate(self, layer: LayerOutput, values: Sequence[Tensor]) -> tuple[Tensor, Tensor | None]:
        return collate(values, self.backbone.modality, self._pad_value(layer))

    def _pad_value(self, layer: LayerOutput) -> int:
        return self.backbone.preprocess.pad_value if layer.stop == 0 else 0


class JoinedDataset(FrozenPrefixDataset):
    """Rows of several columns as the trained stages of a joined backbone take them, with a data set per tower.

    Parameters
    ----------
    backbone : Backbone
        Joined backbone.
    inputs : JoinedInputs
        Rows.
    boundary : dict of str to int
        Number of frozen stages of each tower.
    layers : mapping of str to sequence of LayerOutput
        Layer outputs that heads read. All are pooled: {"features": ...}.
    rows, targets, sources, compute, store
        As in `FrozenPrefixDataset`.
    augmentation : JoinedAugmentation, default=None
        Augmentation of some columns.
    """

    def __init__(
        self,
        backbone: Backbone,
        inputs: JoinedInputs,
        boundary: Mapping[str, int],
        layers: Mapping[str, Sequence[LayerOutput]],
        *,
        rows: Sequence[int],
        targets: Mapping[str, Targets],
        sources: Mapping[str, np.ndarray] | None = None,
        compute: Compute,
        store: Store | None,
        augmentation: JoinedAugmentation | None = None,
    ) -> None:
        self.backbone, self.inputs, self.rows = backbone, inputs, list(rows)  # type: ignore[assignment]
        self._set_targets(targets, sources)
        self.compute, self.store, self.augmentation = compute, store, augmentation
        self._epoch = 0
        self._towers: dict[str, tuple[FrozenPrefixDataset, dict[int, int]]] = {}
        for name, tower in backbone.towers.items():
            own = {kind: [one.alone() for one in some if one.tower == name] for kind, some in layers.items()}
            present = set(inputs.towers[name].present(self.rows))
            rows_here = [index for index, row in enumerate(self.rows) if row in present]
            with inputs.samples.named(name):
                dataset = FrozenPrefixDataset(
                    tower,
                    inputs.towers[name],
                    boundary[name],
                    len(tower.stages),
                    own,
                    rows=[self.rows[index] for index in rows_here],
                    targets={},
                    compute=compute,
                    store=store,
                    augmentation=None if augmentation is None else augmentation.of_column(name),
                )
            self._towers[name] = dataset, {index: position for position, index in enumerate(rows_here)}

    def keep_on_device(self, store: DeviceStore) -> None:
        """Keep what the batches of each tower need on a device. Augmented columns are not kept.

        Parameters
        ----------
        store : DeviceStore
            Memory of the device.
        """
        self.on_device = store
        for name, (dataset, _) in self._towers.items():
            with self.inputs.samples.named(name):  # type: ignore[attr-defined]
                dataset.keep_on_device(store)

    @property
    def epoch(self) -> int:
        """Number of the epoch, which the order of samples and their augmented views depend on."""
        return self._epoch

    @epoch.setter
    def epoch(self, epoch: int) -> None:
        self._epoch = epoch
        for dataset, _ in self._towers.values():
            dataset.epoch = epoch

    def namespaces(self) -> list[Any]:
        """Return the digests of the cache namespaces by tower."""
        return [(name, dataset.namespaces()) for name, (dataset, _) in self._towers.items()]

    def arguments(self, index: list[int]) -> dict[str, Any]:
        """Return the network's arguments for some rows, by tower.

        Parameters
        ----------
        index : list of int
            Rows of this data set.
        """
        towers = {}
        for name, (dataset, positions) in self._towers.items():
            some = [positions[row] for row in index if row in positions]
            with self.inputs.samples.named(name):  # type: ignore[attr-defined]
                arguments = dataset.arguments(some) if some else {}
            if len(some) < len(index):
                present = torch.tensor([row in positions for row in index])  # (n,)
                arguments = {key: _spread(values, present) for key, values in arguments.items()}
                arguments["present"] = present
                frozen = dataset.frozen_layers["features"]
                if frozen and not some:
                    width = sum(blank_widths(dataset.backbone, frozen).values())
                    arguments["fixed"] = torch.zeros(len(index), width)  # (n, n_fixed)
            towers[name] = arguments
        return {"towers": towers}


def make_dataset(
    backbone: Backbone, inputs: Any, boundary: Any, layers: Mapping[str, Sequence[LayerOutput]], **options: Any
) -> FrozenPrefixDataset:
    """Return the data set of a backbone, with a data set per tower if it is joined.

    Parameters
    ----------
    backbone, inputs, boundary, layers, **options
        As `FrozenPrefixDataset` and `JoinedDataset` take them, all stages included.
    """
    if isinstance(inputs, JoinedInputs):
        return JoinedDataset(backbone, inputs, boundary, layers, **options)
    return FrozenPrefixDataset(backbone, inputs, boundary, len(backbone.stages), layers, **options)


def _spread(values: Tensor, present: Tensor) -> Tensor:
    """Return values (n_present, ...) in the rows that have a sample, and zeros in the others, (n, ...)."""
    spread = values.new_zeros(len(present), *values.shape[1:])
    index = upload(present.nonzero()[:, 0], values.device)  # (n_present,)
    return spread.index_copy_(0, index, values)


def _as_tensors(values: Any) -> Any:
    return torch.from_numpy(values) if isinstance(values, np.ndarray) else list(values)


def precompute_features(
    backbone: Backbone,
    inputs: Any,
    layers: Sequence[LayerOutput],
    boundary: Any,
    rows: Sequence[int],
    *,
    train_rows: Sequence[int],
    compute: Compute,
    store: Store | None,
) -> list[list[Tensor]]:
    """Return layer outputs of the pretrained network, and cache the activations at the freezing boundary.

    Parameters
    ----------
    backbone : Backbone
        Pretrained backbone.
    inputs : PreprocessedSamples or JoinedInputs
        Samples.
    layers : sequence of LayerOutput
        Layer outputs to return.
    boundary : int or dict of str to int
        Number of frozen stages, of a joined backbone by tower.
    rows : sequence of int
        Rows whose outputs are returned.
    train_rows : sequence of int
        Rows whose activations at the boundary training will read in each epoch.
    compute : Compute
        Device and precision.
    store : Store or None
        Cache of the outputs.

    Returns
    -------
    outputs : list of list of Tensor
        Per layer one tensor per row.
    """
    found: dict[LayerOutput, dict[int, Tensor]] = {}
    for name, tower in backbone.towers.items():
        of_column, own = inputs.towers[name], [layer for layer in layers if layer.tower == name]
        some = of_column.present(rows)
        values = _precompute(
            tower,
            of_column,
            [layer.alone() for layer in own],
            of_tower(boundary, name),
            some,
            train_rows=of_column.present(train_rows),
            compute=compute,
            store=store,
        )
        found |= {layer: dict(zip(some, by_row, strict=True)) for layer, by_row in zip(own, values, strict=True)}
    return in_rows(backbone, found, layers, rows)


def _precompute(
    backbone: Backbone,
    inputs: PreprocessedSamples,
    layers: Sequence[LayerOutput],
    boundary: int,
    rows: Sequence[int],
    *,
    train_rows: Sequence[int],
    compute: Compute,
    store: Store | None,
) -> list[list[Tensor]]:
    """Return layer outputs of a backbone that is not joined, and cache the activations at the freezing boundary."""
    # Other freezing depths of a search start from these. The highest stage saves most.
    lower = [LayerOutput(*output) for output in prefetch_for_depths(len(backbone.stages))]
    options: dict[str, Any] = {"compute": compute, "store": store, "prefetch": lower}
    at_boundary = LayerOutput(boundary)
    wanted = list(layers)
    if store is not None and train_rows and boundary < len(backbone.stages):
        *_, values = collect_features(backbone, inputs, [*layers, at_boundary], train_rows[:1], **options)
        if fits(values[0].nbytes * inputs.relative_size(train_rows), store.info().limit):
            if len(rows) >= len(train_rows):
                wanted.append(at_boundary)  # one pass computes both
            else:
                collect_features(backbone, inputs, [at_boundary], train_rows, **options)
    return collect_features(backbone, inputs, wanted, rows, **options)[: len(layers)]
