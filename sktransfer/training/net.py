"""The skorch net that trains: weighted losses, batches from the cut, a place to listen to epochs."""

from __future__ import annotations

import copy
import dataclasses
import functools
import pickle
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy.special import expit, softmax
from sklearn.metrics import accuracy_score, r2_score
from skorch import NeuralNet
from skorch.callbacks import Callback
from skorch.helper import predefined_split
from skorch.utils import to_numpy
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from sktransfer.callbacks.mixup import Mixture
from sktransfer.engine.compute import Compute
from sktransfer.training.data import Batches, FrozenPrefixDataset
from sktransfer.training.early_stopping import BestWeights
from sktransfer.training.network import FineTuneNetwork
from sktransfer.training.optimisation import l2_sp_penalty, parameter_groups, with_schedule
from sktransfer.training.rng import derive_seed, seed_torch
from sktransfer.training.settings import OPTIMIZERS, Settings
from sktransfer.training.unfreezing import Unfreezing, check_phases, n_phases

if TYPE_CHECKING:
    from sklearn.utils import Tags

__all__ = ["FineTuneNet", "ScoredNet", "build_net", "track_sigint"]


class ScoredNet(NeuralNet):  # type: ignore[misc]
    """A net that `EpochScoring` and `BatchScoring` can score by the name of a metric, whatever its task.

    Targets and predictions are those that the loss sees: classes go by their places in the estimator's `classes_`,
    numbers are standardised. Samples count alike, whatever they weigh.
    """

    task: str = "numbers"  # or "classes", "labels", "features": of a head's outputs, or of no head

    @property
    def classes_(self) -> Any:
        """Places of the classes, (n_classes,); an array [0, 1] a label, where several may hold."""
        if self.task == "classes":
            return np.arange(self.module_.n_outputs)
        if self.task == "labels":
            return [np.arange(2)] * self.module_.n_outputs
        raise AttributeError(f"a net for {self.task} has no classes")

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return probabilities (n_samples, n_classes or n_labels); of numbers and features, as they are.

        Parameters
        ----------
        X : Dataset
            As the net is trained on.
        """
        outputs = np.concatenate([to_numpy(one) for one in self.forward_iter(X)])  # (n_samples, n_outputs)
        if self.task == "classes":
            return np.asarray(softmax(outputs, axis=1))
        return np.asarray(expit(outputs)) if self.task == "labels" else outputs

    def predict(self, X: Any) -> np.ndarray:
        """Return places of classes (n_samples,), an indicator matrix (n_samples, n_labels), or outputs as they are.

        Parameters
        ----------
        X : Dataset
            As the net is trained on.
        """
        outputs = self.predict_proba(X)
        if self.task == "classes":
            return np.asarray(outputs.argmax(1))
        return (outputs > 0.5).astype(np.int64) if self.task == "labels" else outputs

    def score(self, X: Any, y: Any) -> float:
        """Return the accuracy, or of numbers R², as scikit-learn's classifiers and regressors do.

        Parameters
        ----------
        X : Dataset
            As the net is trained on.
        y : ndarray of shape (n_samples,) or (n_samples, n_outputs)
            Targets as the loss sees them.
        """
        metric = accuracy_score if self.task in ("classes", "labels") else r2_score
        return float(metric(y, self.predict(X)))

    def notify(self, method_name: str, **kwargs: Any) -> None:
        """Tell the callbacks; a batch of theirs is (arguments, targets), as skorch's own are: no weights among them.

        Parameters
        ----------
        method_name : str
            Of what happens.
        **kwargs
            What is told of it.
        """
        batch = kwargs.get("batch")
        if batch is None:
            super().notify(method_name, **kwargs)
            return
        arguments, (targets, weight) = batch
        super().notify(method_name, **{**kwargs, "batch": (arguments, targets)})
        if method_name == "on_batch_end":  # a batch counts in the epoch's mean loss by the weight of its samples
            self.history.record_batch(f"{'train' if kwargs['training'] else 'valid'}_batch_size", float(weight.sum()))

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.estimator_type = {"classes": "classifier", "labels": "classifier", "numbers": "regressor"}.get(self.task)
        return tags


def build_net(
    network: FineTuneNetwork,
    settings: Settings,
    criterion: nn.Module,
    compute: Compute,
    seed: int,
    callbacks: Sequence[Any] | None,
    n_samples: int,
    valid: FrozenPrefixDataset | None = None,
) -> FineTuneNet:
    """Return the net that trains a network.

    Parameters
    ----------
    network : FineTuneNetwork
        The part above the cut.
    settings : Settings
        How long, how fast.
    criterion : nn.Module
        From outputs and targets to a loss a sample, or one a sample and output.
    compute : Compute
        Where, and in which precision.
    seed : int
        Draws the order of the samples.
    callbacks : sequence of skorch callbacks or None
        The user's own.
    n_samples : int
        How many there are to train on.
    valid : FrozenPrefixDataset, default=None
        Samples set aside, by whose loss the training ends.

    Raises
    ------
    InvalidParameterError
        If the epochs are too few for each stage to have its turn, or two schedules are asked for.
    """
    check_phases(settings.unfreezing, len(network.places()), settings.max_epochs)
    n_steps = settings.max_epochs * -(-n_samples // settings.batch_size)
    own: list[Any] = []
    if settings.unfreezing != "none":
        own.append(("unfreezing", Unfreezing(settings.unfreezing)))
    if valid is not None:
        wait = n_phases(settings.unfreezing, len(network.places())) - 1
        own.append(("best_weights", BestWeights(settings.patience, wait)))
    net = FineTuneNet(
        network,
        criterion=criterion,
        optimizer=settings.optimizer,
        lr=settings.lr,
        max_epochs=settings.max_epochs,
        batch_size=settings.batch_size,
        train_split=None if valid is None else predefined_split(valid),
        callbacks=[
            *with_schedule([*own, *(callbacks or [])], settings.lr_schedule, n_steps),
            ("listener", _Listener()),
        ],
        device=str(compute.device),
        verbose=settings.verbose,
    )
    net.seed, net.compute, net.l2_sp = seed, compute, settings.l2_sp
    how = [dataclasses.replace(settings, verbose=0), criterion, seed, str(compute.device.type), compute.dtype]
    net.identity = [*how, network.taps, network.prefix_tokens, network.keep_statistics]
    net.groups = functools.partial(
        parameter_groups,
        lr=settings.lr,
        head_lr=settings.head_lr,
        weight_decay=settings.weight_decay,
        decay=settings.layer_lr_decay,
        l2_sp=settings.l2_sp,
    )
    return net


class _Listener(Callback):  # type: ignore[misc]
    """Tell who listens to the net, last of all callbacks, and stop where that is asked for."""

    def on_epoch_end(self, net: NeuralNet, **kwargs: Any) -> None:
        net.history.record("lr", max(group["lr"] for group in net.optimizer_.param_groups))
        if net.on_epoch is not None and net.on_epoch():
            raise KeyboardInterrupt  # skorch's own way to end a training early


class FineTuneNet(ScoredNet):
    """A skorch `NeuralNet` whose batches carry a weight for each sample.

    `on_epoch` is called after each epoch and stops the training where it returns True. In a lower precision than
    float32 the weights stay in float32, and what is multiplied is rounded.
    """

    on_epoch: Callable[[], bool] | None = None
    groups: Callable[[nn.Module], list[dict[str, Any]]] | None = None
    batches: type[Batches] = Batches
    compute: Compute = Compute(torch.device("cpu"))
    l2_sp: float = 0.0
    micro_batch_size: int | None = None  # what is computed at once of a batch; None for all of it
    mixture: Callable[[int], Mixture] | None = None  # draws how the samples of a batch are mixed
    paired: bool = False  # whether a batch is computed twice with the same random numbers
    checkpoint: Any = None  # writes an epoch down, and has it gone on from
    identity: Sequence[Any] = ()  # what the result of a training depends on beside network and samples
    _interrupted: Callable[[], bool] | None = None
    _pull: Callable[[], None] | None = None

    def partial_fit(self, X: Any, y: Any = None, classes: Any = None, **fit_params: Any) -> FineTuneNet:
        """Train; unlike in skorch, Ctrl-C is raised."""
        with track_sigint() as self._interrupted:
            try:
                super().partial_fit(X, y, classes, **fit_params)
                if self._interrupted():
                    raise KeyboardInterrupt
            finally:
                self._interrupted = None
        return self

    def is_interrupted(self) -> bool:
        """Return whether the training under way is to end because its user wants so."""
        return self._interrupted is not None and self._interrupted()

    def notify(self, method_name: str, **kwargs: Any) -> None:
        """Tell the callbacks; that an epoch is over all of them, though one ends the training with it."""
        if method_name != "on_epoch_end":
            super().notify(method_name, **kwargs)
            return
        end = None
        for one in [self, *(callback for _, callback in self.callbacks_)]:
            try:
                one.on_epoch_end(self, **kwargs)
            except KeyboardInterrupt as stop:  # skorch's own way to end a training early
                if self.is_interrupted():
                    raise
                end = stop
        if end is not None:
            raise end

    def fit_loop(
        self, X: FrozenPrefixDataset, y: Any = None, epochs: int | None = None, **fit_params: Any
    ) -> FineTuneNet:
        """Train epochs whose random numbers depend on the seed and their own number alone, so that any can be first."""
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

    def infer(self, x: Any, **fit_params: Any) -> Any:
        """Return the network's outputs, in float32."""
        with _rounding(self.compute):
            return super().infer(x, **fit_params).float()

    def get_loss(self, y_pred: Tensor, y_true: tuple[Tensor, Tensor], X: Any = None, training: bool = False) -> Tensor:
        """Return the weighted mean of the samples' losses."""
        return self._sum_of_losses(y_pred, y_true) / _total(y_true, y_pred.device)

    def _sum_of_losses(self, y_pred: Tensor, y_true: tuple[Tensor, ...]) -> Tensor:
        """Return the sum of weighted losses; where samples are mixed, targets and weights come more than once."""
        parts = [part.to(y_pred.device) for part in y_true]
        total = torch.zeros((), device=y_pred.device)
        for targets, weight in zip(parts[::2], parts[1::2]):
            losses = self.criterion_(y_pred, targets)  # (n,) or (n, n_outputs)
            if losses.ndim > 1:
                losses = losses.mean(1)  # (n,)
            total = total + (losses * weight).sum()
        return total

    def get_iterator(self, dataset: FrozenPrefixDataset, training: bool = False) -> Batches:
        """Return batches: shuffled in training, in order elsewhere."""
        draws = self.mixture is not None or self.paired
        return self.batches(dataset, self.batch_size, self.seed if training else None, draws)

    def initialize_optimizer(self, *args: Any, **kwargs: Any) -> FineTuneNet:
        """Make the optimizer over the groups of stages and head."""
        assert self.groups is not None
        # One pass over weights, gradients and momenta in place of a dozen: the same steps but for the last bits.
        options = {"fused": True} if self.optimizer in OPTIMIZERS.values() else {}
        self.optimizer_ = self.optimizer(self.groups(self.module_), lr=self.lr, **options)
        # Gradients in float16 are often too small for it: they are computed of a multiple of the loss.
        self.scaler_ = torch.amp.GradScaler(
            self.compute.device.type, init_scale=1024.0, enabled=self.compute.dtype == torch.float16
        )
        return self

    def go_on_from(self, other: FineTuneNet) -> None:
        """Take over the momenta of another net's optimizer, where it has stepped the same parameters."""
        new, old = self.optimizer_.state_dict(), other.optimizer_.state_dict()
        if type(self.optimizer_) is type(other.optimizer_) and self._stepped() == other._stepped():
            # A copy: what is trained on from may be gone back to.
            self.optimizer_.load_state_dict({**new, "state": copy.deepcopy(old["state"])})

    def _stepped(self) -> list[tuple[int, ...]]:
        return [tuple(p.shape) for group in self.optimizer_.param_groups for p in group["params"]]

    def to_cpu(self) -> None:
        """Move what is kept to the CPU: a pickle must load on a machine without a GPU."""
        self.device = "cpu"
        self.train_split = None  # holds the samples that were set aside, which are nobody's who predicts
        self.module_.cpu()
        for state in self.optimizer_.state.values():
            state.update({name: value.cpu() for name, value in state.items() if isinstance(value, Tensor)})

    def __getstate__(self) -> dict[str, Any]:
        """Return the attributes as they are; skorch would write the weights apart, and so twice beside a backbone."""
        return {**self.__dict__, "__cuda_dependent_attributes__": pickle.dumps({})}

    def losses(self, batch: Any, **fit_params: Any) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield loss and outputs of a batch, in parts where that is asked for; the parts' losses add up to its own."""
        n, size = len(batch[1][1]), self.micro_batch_size
        parts = [batch] if size is None else [_rows(batch, start, start + size) for start in range(0, n, size)]
        total = _total(batch[1], self.device)
        for arguments, targets in parts:
            y_pred, targets = self._mixed(arguments, targets, **fit_params)
            yield self._sum_of_losses(y_pred, targets) / total, y_pred

    def train_step_single(self, batch: Any, **fit_params: Any) -> dict[str, Any]:
        """Compute loss and gradients of one batch."""
        self._set_training(True)
        losses, outputs = [], []
        for loss, y_pred in self.losses(batch, **fit_params):
            self.scaler_.scale(loss).backward()  # type: ignore[no-untyped-call]
            losses.append(loss.detach())
            outputs.append(y_pred.detach())
        self.scaler_.unscale_(self.optimizer_)
        if self._pull is not None:
            self._pull()
        return {"loss": torch.stack(losses).sum(), "y_pred": torch.cat(outputs)}

    def _mixed(
        self, arguments: dict[str, Tensor], targets: tuple[Tensor, ...], **fit_params: Any
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return outputs, and what they are held against."""
        if self.mixture is None:
            return self.infer(arguments, **fit_params), targets
        mixture = self.mixture(len(targets[1]))
        y_pred = self.infer(mixture.inputs(arguments), **fit_params)
        return mixture.outputs(y_pred, arguments), mixture.targets(targets)

    def _step_optimizer(self, step_fn: Callable[[], Tensor]) -> None:
        if not self.scaler_.is_enabled():
            super()._step_optimizer(step_fn)
            return
        step_fn()
        self.scaler_.step(self.optimizer_)
        self.scaler_.update()

    def on_train_begin(self, net: NeuralNet, *args: Any, **kwargs: Any) -> None:
        """Remember where L2-SP holds the stages."""
        super().on_train_begin(net, *args, **kwargs)
        self._pull = l2_sp_penalty(self.module_.stages, self.l2_sp) if self.l2_sp else None

    def on_train_end(self, net: NeuralNet, *args: Any, **kwargs: Any) -> None:
        """Forget it: a pickle has no use for it."""
        super().on_train_end(net, *args, **kwargs)
        self._pull = None


def _total(y_true: tuple[Tensor, Tensor], device: Any) -> Tensor:
    """Return the sum of the weights, greater than zero."""
    return y_true[1].sum().clamp_min(torch.finfo(torch.float32).tiny).to(device)


def _rows(batch: Any, start: int, stop: int) -> Any:
    """Return some rows of a batch, padded as all of it."""
    arguments, targets = batch
    return {name: value[start:stop] for name, value in arguments.items()}, tuple(one[start:stop] for one in targets)


@contextmanager
def _rounding(compute: Compute) -> Iterator[None]:
    if compute.dtype == torch.float32:
        yield
        return
    with torch.autocast(compute.device.type, compute.dtype):
        if not compute.on_cpu:
            yield
            return
        # The gradient of fused attention in a lower precision takes several times as long as that of its parts.
        with sdpa_kernel(SDPBackend.MATH):
            yield


@contextmanager
def track_sigint() -> Iterator[Callable[[], bool]]:
    """Yield a function that returns whether a user has asked to stop since the block began.

    A callback of skorch ends a training by raising KeyboardInterrupt, and skorch takes every one for that: an
    interrupted search would go on with its next candidate. Only in the main thread does Python act on the signal, and
    its handler does all that it did before.
    """
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield lambda: False
        return
    seen: list[int] = []

    def notice(number: int, frame: Any) -> Any:
        seen.append(number)
        return before(number, frame)

    signal.signal(signal.SIGINT, notice)
    try:
        yield lambda: bool(seen)
    finally:
        if signal.getsignal(signal.SIGINT) is notice:
            signal.signal(signal.SIGINT, before)
