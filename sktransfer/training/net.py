"""The skorch net that trains: weighted losses per task, batches from the freezing boundary."""

from __future__ import annotations

import copy
import dataclasses
import functools
import pickle
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from skorch import NeuralNet
from skorch.helper import predefined_split
from skorch.utils import to_numpy
from torch import Tensor, nn

from sktransfer.devices.rows import DeviceStore
from sktransfer.engine.compute import Compute, autocast
from sktransfer.engine.rng import derive_seed, seed_torch
from sktransfer.tasks.base import Task
from sktransfer.tasks.weighting import (
    BatchLosses,
    GradientAggregation,
    aggregator_identity,
    positive,
    uncertainty_loss,
    uncertainty_weights,
    weighted_sum,
)
from sktransfer.training.adapters import adapter_identity
from sktransfer.training.callback_list import raised_by_statement, reads_batch_losses
from sktransfer.training.data import FrozenPrefixDataset
from sktransfer.training.divergence import check_loss
from sktransfer.training.epochs.held_out import BestWeights
from sktransfer.training.epochs.history import EpochLog, NotifyEpoch, StopTraining, TaskHistory, ValidationScore
from sktransfer.training.epochs.unfreezing import Unfreezing, n_phases, warn_of_few_epochs
from sktransfer.training.network import FineTuneNetwork
from sktransfer.training.optimisation import OPTIMIZERS, l2_sp_penalty, parameter_groups, with_schedule
from sktransfer.training.samplers import Batches, DeviceBatch, part_of
from sktransfer.training.settings import Settings

if TYPE_CHECKING:
    from sklearn.utils import Tags

__all__ = ["FineTuneNet", "build_net"]

BatchTargets = Mapping[str, tuple[Tensor, Tensor]]


def build_net(
    network: FineTuneNetwork,
    tasks: Mapping[str, Task],
    settings: Settings,
    compute: Compute,
    seed: int,
    callbacks: Sequence[Any] | None,
    n_batches: int,
    valid: FrozenPrefixDataset | None = None,
    batches: type[Batches] = Batches,
) -> FineTuneNet:
    """Return the net that trains a network.

    Parameters
    ----------
    network : FineTuneNetwork
        Network to train.
    tasks : mapping of str to Task
        Tasks by name.
    settings : Settings
        Settings of the training.
    compute : Compute
        Device and precision.
    seed : int
        Seed of the order of the samples and of dropout.
    callbacks : sequence of skorch callbacks or None
        The user's callbacks.
    n_batches : int
        Number of batches of an epoch.
    valid : FrozenPrefixDataset, default=None
        Validation data.
    batches : type, default=Batches
        Sampler of the batches.

    Raises
    ------
    InvalidParameterError
        If there are two learning rate schedules.

    Warns
    -----
    FreezingWarning
        If there are fewer epochs than phases of unfreezing.
    """
    n_stages, has_head = len(network.trainable_levels()), network.trains_heads
    warn_of_few_epochs(settings.unfreezing, n_stages, settings.max_epochs, has_head)
    own: list[Any] = []
    if settings.unfreezing != "none":
        own.append(("unfreezing", Unfreezing(settings.unfreezing, settings.max_epochs)))
    if valid is not None and settings.early_stopping:
        wait = n_phases(settings.unfreezing, n_stages, settings.max_epochs, has_head) - 1
        own.append(("best_weights", BestWeights(settings.patience, wait)))
    score = next(iter(tasks.values())).score_name
    if len(tasks) > 1:
        own.append(("task_history", TaskHistory()))
    if valid is not None and len(tasks) == 1 and score is not None:
        own.append(("valid_score", ValidationScore(None, lower_is_better=False, name=f"valid_{score}")))
    net = FineTuneNet(
        network,
        criterion=nn.Identity,  # tasks have the losses
        optimizer=settings.optimizer,
        lr=settings.lr,
        max_epochs=settings.max_epochs,
        batch_size=settings.batch_size,
        train_split=None if valid is None else predefined_split(valid),
        callbacks=[
            *with_schedule([*own, *(callbacks or [])], settings.lr_schedule, settings.max_epochs * n_batches),
            ("notify_epoch", NotifyEpoch()),
        ],
        device=str(compute.device),
        verbose=settings.verbose,
    )
    net.tasks, net.task_weights, net.batches = dict(tasks), dict(settings.weight_by_task), batches
    net.task_sampling = settings.task_sampling
    net.aggregation = None if settings.aggregator is None else GradientAggregation(settings.aggregator)
    net.seed, net.compute, net.l2_sp = seed, compute, settings.l2_sp
    objects: dict[str, Any] = dict.fromkeys(("callbacks", "adapter", "augment", "head", "aggregator"))
    plain = dataclasses.replace(settings, verbose=0, **objects)
    net.identity = [
        *(plain, seed, str(compute.device.type), compute.dtype, adapter_identity(settings.adapter)),
        *([name, *task.identity()] for name, task in tasks.items()),
        *aggregator_identity(settings.aggregator),
        *(network.layers, network.prefix_tokens, network.keep_statistics),
    ]
    net.groups = functools.partial(
        parameter_groups,
        lr=settings.lr,
        head_lr=settings.head_lr,
        weight_decay=settings.weight_decay,
        decay=settings.layer_lr_decay,
        l2_sp=settings.l2_sp,
    )
    return net


class FineTuneNet(NeuralNet):  # type: ignore[misc]
    """A skorch `NeuralNet` with a weighted loss per task.

    In a lower precision than float32 the weights stay in float32, and the operands of products are rounded.
    `EpochScoring` and `BatchScoring` of skorch score a net with one task by the name of a metric. They see targets as
    the loss does: classes as indices, numbers standardized, and every sample with the same weight.
    """

    tasks: Mapping[str, Task]
    task_weights: Mapping[str, float]  # 1 for a task that is not in it
    task_sampling: Any = "proportional"
    aggregation: GradientAggregation | None = None  # of the gradients of tasks, in training alone
    on_epoch: Callable[[], bool] | None = None
    groups: Callable[[nn.Module], list[dict[str, Any]]] | None = None
    batches: type[Batches] = Batches
    compute: Compute = Compute(torch.device("cpu"))
    l2_sp: float = 0.0
    micro_batch_size: int | None = None  # samples computed at once; None for the whole batch
    mixture: Callable[[int], Any] | None = None  # draws how the samples of a batch are mixed
    paired: bool = False  # whether a batch is computed twice with the same random numbers
    title: str = ""  # line above the table of epochs
    on_device: DeviceStore | None = None  # holds what batches need, until the training ends
    checkpoint: Any = None  # writes and reads the state after each epoch
    identity: Sequence[Any] = ()  # what the result depends on, apart from network and samples
    interrupted: bool = False  # whether the last training ended by Ctrl-C or an error
    _add_l2_sp: Callable[[], None] | None = None

    @property
    def _default_callbacks(self) -> list[tuple[str, Any]]:
        others = [(name, one) for name, one in super()._default_callbacks if name != "print_log"]
        return [*others, ("print_log", EpochLog())]

    def fit(self, X: Any, y: Any = None, **fit_params: Any) -> FineTuneNet:
        """Initialize and train. Samples are refused before the history and the optimizer are reset."""
        super().fit(self.get_dataset(X, y), y, **fit_params)
        return self

    def partial_fit(self, X: Any, y: Any = None, classes: Any = None, **fit_params: Any) -> FineTuneNet:
        """Train until the last epoch or until a callback stops. Unlike in skorch, Ctrl-C raises KeyboardInterrupt."""
        X = self.get_dataset(X, y)
        if not self.initialized_:
            self.initialize()
        self.interrupted = True
        try:
            with suppress(StopTraining):
                self.notify("on_train_begin", X=X, y=y)
                self.fit_loop(X, y, **fit_params)
        except KeyboardInterrupt:
            self.notify("on_train_end", X=X, y=y)
            raise
        self.interrupted = False
        with suppress(StopTraining):  # the training has ended already
            self.notify("on_train_end", X=X, y=y)
        return self

    def notify(self, method_name: str, **kwargs: Any) -> None:
        """Call a method of all callbacks.

        A batch in `kwargs` is (arguments, targets), as in skorch, without weights. If a callback ends the training at
        the end of an epoch, the others still receive that epoch.

        Parameters
        ----------
        method_name : str
            Name of the callbacks' method.
        **kwargs
            Its arguments.
        """
        batch = kwargs.get("batch")
        if batch is not None:
            arguments, targets = batch
            kwargs["batch"] = (arguments, self._unwrap({name: values for name, (values, _) in targets.items()}))
            if method_name == "on_batch_end" and not self._reads_losses_late:
                check_loss(self, kwargs["training"])
        stop = False
        for callback in [self, *(callback for _, callback in self.callbacks_)]:
            try:
                getattr(callback, method_name)(self, **kwargs)
            except StopTraining:
                stop = True
            except KeyboardInterrupt as error:
                # skorch's callbacks end a training by an exception that Ctrl-C raises as well. Only a `raise` statement
                # is a callback's.
                if not raised_by_statement(error):
                    raise
                stop = True
            if stop and method_name != "on_epoch_end":
                break
        if stop:
            raise StopTraining

    def batch_weight(self, batch: Any) -> float:
        """Return the sum of the weights of a batch, over all tasks that are learned."""
        if isinstance(batch, DeviceBatch):
            return sum(total for name, total in batch.sums.items() if self._learns(name))
        return sum(float(weight.sum()) for name, (_, weight) in batch[1].items() if self._learns(name))

    @property
    def weight_by_task(self) -> dict[str, float]:
        """Weight of the loss of each task, as given or as learned."""
        learned = uncertainty_weights(self.module_.variances_by_task(), self._factors)
        return {name: learned.get(name, self.task_weights.get(name, 1.0)) for name in self.tasks}

    @property
    def _factors(self) -> dict[str, float]:
        return {name: 0.5 if task.is_squared_error else 1.0 for name, task in self.tasks.items()}

    def _learns(self, name: str) -> bool:
        return self.task_weights.get(name, 1.0) > 0

    def fit_loop(
        self, X: FrozenPrefixDataset, y: Any = None, epochs: int | None = None, **fit_params: Any
    ) -> FineTuneNet:
        """Train epoch by epoch. The random numbers of an epoch depend only on the seed and its number."""
        last = len(self.history) + (self.max_epochs if epochs is None else epochs)
        if self.checkpoint is not None:
            self.checkpoint.resume(self)
        while len(self.history) < last:
            X.epoch = len(self.history)
            seed_torch(derive_seed(self.seed, X.epoch), self.compute.device)
            super().fit_loop(X, y, epochs=1, **fit_params)
            if self.checkpoint is not None:
                self.checkpoint.write(self)
        return self

    @property
    def _reads_losses_late(self) -> bool:
        return not self.compute.on_cpu and not any(reads_batch_losses(callback) for _, callback in self.callbacks_)

    def run_single_epoch(
        self, iterator: Any, training: bool, prefix: str, step_fn: Callable[..., Any], **fit_params: Any
    ) -> None:
        """Run an epoch. On a GPU, losses are read together at its end, unless a callback may read them per batch."""
        if not training:  # samples that a task corrupts are corrupted in the same way in each epoch
            seed_torch(derive_seed(self.seed), self.compute.device)
        if iterator is None:
            return
        late, n_before = self._reads_losses_late, len(self.history[-1]["batches"])  # those of training come first
        losses: list[Tensor] = []
        for batch in iterator:
            self.notify("on_batch_begin", batch=batch, training=training)
            step = step_fn(batch, **fit_params)
            losses.append(step["loss"].detach())
            if not late:
                self.history.record_batch(f"{prefix}_loss", losses[-1].item())
            # A batch counts in the epoch's mean loss by the weight of its samples.
            self.history.record_batch(f"{prefix}_batch_size", self.batch_weight(batch))
            self.notify("on_batch_end", batch=batch, training=training, **step)
        rows = self.history[-1]["batches"]
        for index, loss in enumerate(torch.stack(losses).tolist() if late else (), start=n_before):
            rows[index][f"{prefix}_loss"] = loss
            check_loss(self, training, index)
        self.history.record(f"{prefix}_batch_count", len(losses))

    def infer(self, x: Any, **fit_params: Any) -> Any:
        """Return the heads' outputs in float32: a tensor for one task, a dict for several."""
        return self._unwrap(_as_float(self._forward(x, **fit_params)[0]))

    def _unwrap(self, by_task: dict[str, Any]) -> Any:
        return next(iter(by_task.values())) if len(by_task) == 1 == len(self.tasks) else by_task

    def _forward(self, x: Any, **fit_params: Any) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Return outputs by task and head inputs by kind, in the precision of the network."""
        with autocast(self.compute):
            outputs, features = super().infer(x, **fit_params)
        return outputs, features

    def losses(self, batch: Any, **fit_params: Any) -> Iterator[tuple[Tensor, dict[str, Tensor]]]:
        """Yield loss and outputs of a batch, in micro-batches if asked for. Their losses sum to that of the batch.

        The loss of a task is the weighted mean over the samples whose target is known. The loss of several tasks is the
        sum of theirs, times weights that the user gave.
        """
        for part in self._parts(batch, **fit_params):
            yield weighted_sum(part.losses, self.task_weights), part.outputs

    def _parts(self, batch: Any, **fit_params: Any) -> Iterator[BatchLosses]:
        targets: BatchTargets = batch[1]
        totals = {name: weight.sum() for name, (_, weight) in targets.items()}
        n, size = len(next(iter(targets.values()))[1]), self.micro_batch_size
        for start in range(0, n, size or n):
            part = batch if size is None else part_of(batch, start, start + size)
            yield self._losses(part[0], part[1], totals, **fit_params)

    def _losses(
        self, arguments: dict[str, Any], targets: BatchTargets, totals: Mapping[str, Tensor], **fit_params: Any
    ) -> BatchLosses:
        for name, task in self.tasks.items():
            arguments, values = task.prepare(arguments, targets[name][0])
            targets = {**targets, name: (values, targets[name][1])}
        held: list[BatchTargets] = [targets]  # mixed samples are held to two targets
        mixture = None if self.mixture is None else self.mixture(len(next(iter(targets.values()))[1]))
        inputs = arguments if mixture is None else mixture.inputs(arguments)
        given = {name: targets[name][0] for name, task in self.tasks.items() if task.head_reads_targets}
        raw_outputs, raw_features = self._forward({**inputs, "targets": given} if given else inputs, **fit_params)
        outputs, features = _as_float(raw_outputs), _as_float(raw_features)
        if mixture is not None:
            outputs, features = mixture.outputs(outputs, arguments), mixture.outputs(features, arguments)
            held = mixture.targets(targets)
        losses = {}
        for name, task in self.tasks.items():
            if not self._learns(name):
                continue
            read = features[task.reads]
            total = positive(totals[name]).to(read.device)
            summed = sum(self._weighted(task, outputs.get(task.output_of or name), read, one[name]) for one in held)
            losses[name] = summed / total
        weights = {name: weight for name, (_, weight) in targets.items()}
        return BatchLosses(losses, totals, weights, outputs, list(raw_features.values()))

    def _backward(self, part: BatchLosses) -> None:
        """Compute the gradients of a part of a batch."""
        features = [one for one in part.features if one.requires_grad]
        if self.aggregation is not None and features:  # there are none while all stages wait to be unfrozen
            weighted = [loss * self.task_weights.get(name, 1.0) for name, loss in part.losses.items()]
            self.aggregation.backward(weighted, features, self.module_.stages.parameters())
            return
        variances = self.module_.variances_by_task()
        if variances:
            loss = uncertainty_loss(part.losses, part.shares(), variances, self._factors)
        else:
            loss = weighted_sum(part.losses, self.task_weights)
        self.scaler_.scale(loss).backward()  # type: ignore[no-untyped-call]

    @staticmethod
    def _weighted(task: Task, outputs: Tensor | None, features: Tensor, target: tuple[Tensor, Tensor]) -> Tensor:
        values, weight = (one.to(features.device) for one in target)
        losses = task.loss(outputs, values, features)  # (n,)
        return (torch.where(weight > 0, losses, 0.0) * weight).sum()

    def train_step_single(self, batch: Any, **fit_params: Any) -> dict[str, Any]:
        """Compute loss and gradients of one batch. If memory is short, what the device keeps of samples is freed."""
        work = functools.partial(self._train_step, batch, **fit_params)
        return work() if self.on_device is None else self.on_device.retry(work, self._zero_grad_optimizer)

    def _train_step(self, batch: Any, **fit_params: Any) -> dict[str, Any]:
        self._set_training(True)
        losses, outputs = [], []
        for part in self._parts(batch, **fit_params):
            self._backward(part)
            losses.append({name: loss.detach() for name, loss in part.losses.items()})
            outputs.append({name: one.detach() for name, one in part.outputs.items()})
        if self.aggregation is not None:
            self.aggregation.finish()
        self.scaler_.unscale_(self.optimizer_)
        if self._add_l2_sp is not None:
            self._add_l2_sp()
        joined = {name: _merged(torch.cat, [part[name] for part in outputs]) for name in outputs[0]}
        return self._step(batch, losses, joined)

    def _step(self, batch: Any, losses: Sequence[Mapping[str, Tensor]], outputs: dict[str, Tensor]) -> dict[str, Any]:
        """Return what callbacks learn of a batch: its loss, the outputs, and loss and weights of the rows by task."""
        loss = _merged(_total, [weighted_sum(part, self.task_weights) for part in losses])
        by_task = {name: (_merged(sum, [part[name] for part in losses]), batch[1][name][1]) for name in losses[0]}
        return {"loss": loss, "y_pred": self._unwrap(outputs), "by_task": by_task}

    def validation_step(self, batch: Any, **fit_params: Any) -> dict[str, Any]:
        """Compute the loss of one batch without gradients."""
        self._set_training(False)
        arguments, targets = batch
        with torch.no_grad():
            mixture, self.mixture = self.mixture, None
            try:
                totals = {name: weight.sum() for name, (_, weight) in targets.items()}
                part = self._losses(arguments, targets, totals, **fit_params)
            finally:
                self.mixture = mixture
        return self._step(batch, [part.losses], part.outputs)

    def get_dataset(self, X: Any, y: Any = None) -> FrozenPrefixDataset:
        """Return X, which must be a data set of outputs of the frozen stages. Samples are refused."""
        if not isinstance(X, FrozenPrefixDataset):
            raise TypeError(
                f"net_ trains on and predicts from outputs of the frozen stages, and not from samples (given: "
                f"{type(X).__name__}); call fit, predict or predict_proba of the estimator, and not of its net_"
            )
        return X

    def get_iterator(self, dataset: FrozenPrefixDataset, training: bool = False) -> Batches:
        """Return batches, shuffled for training and in order otherwise."""
        draws = self.mixture is not None or self.paired
        return self.batches(dataset, self.batch_size, self.seed if training else None, draws, self.task_sampling)

    def initialize_optimizer(self, *args: Any, **kwargs: Any) -> FineTuneNet:
        """Make the optimizer over the parameter groups of stages and heads."""
        assert self.groups is not None
        # Fused kernels: the same update up to rounding, in one pass over weights, gradients and momenta.
        options = {"fused": True} if self.optimizer in OPTIMIZERS.values() else {}
        self.optimizer_ = self.optimizer(self.groups(self.module_), lr=self.lr, **options)
        # float16 gradients underflow, so they are computed of a multiple of the loss.
        self.scaler_ = torch.amp.GradScaler(
            self.compute.device.type, init_scale=1024.0, enabled=self.compute.dtype == torch.float16
        )
        return self

    def continue_from(self, other: FineTuneNet) -> None:
        """Take over the optimizer state of another net, if it trained the same parameters.

        Parameters
        ----------
        other : FineTuneNet
            Net of an earlier fit, not changed.
        """
        new, old = self.optimizer_.state_dict(), other.optimizer_.state_dict()
        if type(self.optimizer_) is type(other.optimizer_) and self._stepped() == other._stepped():
            self.optimizer_.load_state_dict({**new, "state": copy.deepcopy(old["state"])})

    def _stepped(self) -> list[tuple[int, ...]]:
        return [tuple(p.shape) for group in self.optimizer_.param_groups for p in group["params"]]

    def to_cpu(self) -> None:
        """Move everything to the CPU, so that a pickle loads on a machine without a GPU."""
        self.device = "cpu"
        self.train_split = self.aggregation = self.on_device = None  # what predictions do not need
        self.module_.cpu()
        for state in self.optimizer_.state.values():
            state.update({name: value.cpu() for name, value in state.items() if isinstance(value, Tensor)})

    def save_params(self, *args: Any, use_safetensors: bool = False, **kwargs: Any) -> None:
        """Write weights and history, as skorch does. Safetensors hold each shared weight once per name.

        Parameters
        ----------
        *args, **kwargs
            As skorch's `save_params` takes them.
        use_safetensors : bool, default=False
            Whether to write safetensors, without the optimizer.
        """
        hook = self.module_.register_state_dict_post_hook(_separate) if use_safetensors and self.initialized_ else None
        try:
            super().save_params(*args, use_safetensors=use_safetensors, **kwargs)
        finally:
            if hook is not None:
                hook.remove()

    def __getstate__(self) -> dict[str, Any]:
        """Return the attributes unchanged. skorch would write the weights apart, and duplicate those of a backbone."""
        return {**self.__dict__, "__cuda_dependent_attributes__": pickle.dumps({})}

    def _step_optimizer(self, step_fn: Callable[[], Tensor]) -> None:
        if not self.scaler_.is_enabled():
            super()._step_optimizer(step_fn)
            return
        step_fn()
        self.scaler_.step(self.optimizer_)
        self.scaler_.update()

    def on_train_begin(self, net: NeuralNet, *args: Any, **kwargs: Any) -> None:
        """Store the starting point of L2-SP."""
        super().on_train_begin(net, *args, **kwargs)
        self._add_l2_sp = l2_sp_penalty(self.module_.stages, self.l2_sp) if self.l2_sp else None

    def on_train_end(self, net: NeuralNet, *args: Any, **kwargs: Any) -> None:
        """Drop the starting point of L2-SP, which a pickle does not need."""
        super().on_train_end(net, *args, **kwargs)
        self._add_l2_sp = None

    @property
    def only_task(self) -> Task:
        """The only task, which skorch's scoring callbacks score."""
        if len(self.tasks) != 1:
            raise AttributeError(f"a net with the tasks {sorted(self.tasks)} has no predictions of a single task")
        return next(iter(self.tasks.values()))

    @property
    def classes_(self) -> Any:
        """Class indices (n_classes,), or an array [0, 1] per label of an indicator matrix."""
        return self.only_task.output_classes(self._head.n_outputs)

    @property
    def _head(self) -> Any:
        return next(iter(self.module_.heads.values()))

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return probabilities (n_samples, n_outputs), or outputs as they are if the task has none.

        Parameters
        ----------
        X : Dataset
            Data set of the kind that the net is trained on.
        """
        return self.only_task.output_probabilities(self._outputs(X))

    def predict(self, X: Any) -> np.ndarray:
        """Return class indices (n_samples,), an indicator matrix (n_samples, n_labels), or outputs as they are.

        Parameters
        ----------
        X : Dataset
            Data set of the kind that the net is trained on.
        """
        return self.only_task.output_predictions(self._outputs(X))

    def score(self, X: Any, y: Any) -> float:
        """Return the task's score.

        Parameters
        ----------
        X : Dataset
            Data set of the kind that the net is trained on.
        y : ndarray of shape (n_samples, ...)
            Targets as the loss takes them.
        """
        return self.only_task.score(y, self.only_task.for_rows(y).output_predictions(self._outputs(X)))

    def _outputs(self, X: Any) -> np.ndarray:
        parts = [to_numpy(part) for part in self.forward_iter(X)]
        return np.concatenate(parts)  # (n_samples, n_outputs)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        kinds = {"multiclass": "classifier", "multilabel-indicator": "classifier", "continuous": "regressor"}
        task = next(iter(self.tasks.values()))
        tags.estimator_type = None if len(self.tasks) != 1 or task.pairwise else kinds.get(task.kind)
        return tags


def _separate(module: nn.Module, state: dict[str, Tensor], prefix: str, metadata: Any) -> None:
    """Replace the weights of a state by copies that safetensors can write: contiguous, each with its own memory."""
    state.update({name: value.clone(memory_format=torch.contiguous_format) for name, value in state.items()})


def _merged(merge: Callable[[list[Tensor]], Any], parts: list[Tensor]) -> Any:
    """Return the values of all parts of a batch in one tensor. Most batches have one part."""
    return parts[0] if len(parts) == 1 else merge(parts)


def _total(losses: list[Tensor]) -> Tensor:
    return torch.stack(losses).sum()


def _as_float(values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: one.float() for name, one in values.items()}
