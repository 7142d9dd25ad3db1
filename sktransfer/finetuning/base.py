"""What fine-tuning a classifier and a regressor have in common."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.callback import CallbackSupportMixin
from sklearn.utils import Tags, check_random_state
from sklearn.utils.validation import _check_sample_weight, check_consistent_length, check_is_fitted
from torch import Tensor, nn

from sktransfer.backbones.backbone import Backbone, replace_stages
from sktransfer.backbones.loading import load_backbone
from sktransfer.backbones.pooling import check_pooling
from sktransfer.backbones.registry import modality_of
from sktransfer.engine.batching import Inputs
from sktransfer.engine.compute import Compute, resolve_compute
from sktransfer.engine.forward import Tap, forward
from sktransfer.engine.store import Store, resolve_store
from sktransfer.finetuning.data import CutDataset, gathered
from sktransfer.finetuning.net import FineTuneNet, build_net
from sktransfer.finetuning.network import FineTuneNetwork, split_taps, trainable_stages
from sktransfer.finetuning.probe import init_head
from sktransfer.finetuning.settings import check_settings
from sktransfer.samples.base import Samples
from sktransfer.samples.validation import check_samples, set_input_tags

if TYPE_CHECKING:
    from sktransfer.backbones.preprocess import ImageTransform

__all__ = ["FineTuneBase"]


class FineTuneBase(CallbackSupportMixin, BaseEstimator):
    """Train the stages of a backbone above a cut, and a linear head; subclasses know their targets and loss."""

    backbone_: Backbone
    freeze_depth_: int
    net_: FineTuneNet
    n_iter_: int

    def __init__(
        self,
        backbone: str | Backbone = "tiny/cnn",
        *,
        weights: str | os.PathLike[str] = "pretrained",
        preprocess: str | ImageTransform | Mapping[str, Any] = "auto",
        image_shape: tuple[int, ...] | None = None,
        max_length: int | None = None,
        layer: int | str | Sequence[int | str] = -1,
        pooling: str = "auto",
        freeze_depth: int | float | str = -1,
        head_init: str = "probe",
        max_epochs: int = 10,
        batch_size: int = 32,
        lr: float | str = "auto",
        head_lr: float | None = None,
        optimizer: str | type[torch.optim.Optimizer] = "adamw",
        weight_decay: float = 0.01,
        device: str | torch.device = "auto",
        precision: str = "float32",
        cache: str | os.PathLike[str] | None = "memory",
        callbacks: Sequence[Any] | None = None,
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
        self.backbone = backbone
        self.weights = weights
        self.preprocess = preprocess
        self.image_shape = image_shape
        self.max_length = max_length
        self.layer = layer
        self.pooling = pooling
        self.freeze_depth = freeze_depth
        self.head_init = head_init
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.lr = lr
        self.head_lr = head_lr
        self.optimizer = optimizer
        self.weight_decay = weight_decay
        self.device = device
        self.precision = precision
        self.cache = cache
        self.callbacks = callbacks
        self.random_state = random_state
        self.verbose = verbose

    def _fit(self, X: Any, y: Any, sample_weight: Any) -> Self:
        rng = check_random_state(self.random_state)
        seed = int(rng.randint(np.iinfo(np.int32).max))
        compute = resolve_compute(self.device, self.precision)
        device = compute.device
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            # Dropout and new weights draw from here. torch.manual_seed would seed the other GPUs' generators as well.
            torch.default_generator.manual_seed(seed)
            if device.type == "cuda":
                torch.cuda.default_generators[device.index].manual_seed(seed)
            return self._fit_seeded(X, y, sample_weight, compute, seed)

    def _fit_seeded(self, X: Any, y: Any, sample_weight: Any, compute: Compute, seed: int) -> Self:
        settings = check_settings(self)
        context = self._init_callback_context(max_subtasks=settings.max_epochs)
        context.call_on_fit_task_begin(estimator=self, X=X, y=y)
        backbone = self._load(seed)
        samples, targets, weight = self._check_fit(X, y, sample_weight, backbone)
        self._choose_stages(backbone)
        inputs = Inputs(samples, backbone.preprocess, keep=True)
        inputs.lengths(range(len(inputs)))
        inputs.warn_of_truncated()
        network = self._network(inputs, targets, weight, compute)
        dataset = self._dataset(inputs, compute, torch.from_numpy(targets), torch.from_numpy(weight).float())
        self.net_ = build_net(network, settings, self._loss, compute, seed, self.callbacks, len(inputs))
        self.net_.on_epoch = functools.partial(self._tell, context)
        self.net_.fit(dataset)
        self.net_.on_epoch = None
        self.net_.optimizer_.state.clear()  # twice the size of what it trained, and of no use once that is done
        self.n_iter_ = len(self.net_.history)
        # What is kept lies on the CPU: a pickle must load on a machine without a GPU.
        self.net_.device = "cpu"
        trained = list(network.cpu().stages)
        self.backbone_ = replace_stages(self.backbone_, self.freeze_depth_, trained) if trained else self.backbone_
        context.call_on_fit_task_end(estimator=self, X=X, y=y)
        return self

    def _check_fit(
        self, X: Any, y: Any, sample_weight: Any, backbone: Backbone
    ) -> tuple[Samples, np.ndarray, np.ndarray]:
        """Return samples, targets as the loss takes them, and weights; what weighs nothing is left out."""
        if y is None:
            name = type(self).__name__
            raise ValueError(f"This {name} estimator requires y to be passed, but the target y is None.")
        samples = check_samples(self, X, backbone.modality, image_shape=self.image_shape, reset=True)
        y = self._check_y(y)
        check_consistent_length(samples, y)
        rows = np.arange(len(samples))
        weight = _check_sample_weight(sample_weight, rows, dtype=np.float64, ensure_non_negative=True)
        rows = np.flatnonzero(weight)  # a weight of zero is the sample's absence
        if len(rows) == 0:
            raise ValueError("sample_weight: all weights are zero, so no sample is left to train on")
        targets, weight = self._targets(y[rows], weight[rows])
        return samples.take(rows), targets, weight

    def _choose_stages(self, backbone: Backbone) -> None:
        """Keep the stages up to the last layer that the head sees, and find the cut among them."""
        positions = sorted(set(backbone.positions(self.layer)))
        stop = positions[-1] + 1
        pooling = check_pooling(self.pooling, backbone.modality)
        pooling = backbone.pooling if pooling == "auto" else pooling
        self.freeze_depth_ = backbone.n_frozen(self.freeze_depth, stop)
        self.backbone_ = backbone if stop == len(backbone.stages) else replace_stages(backbone, stop, [])
        self._taps = [Tap(position + 1, pooling) for position in positions]

    def _load(self, seed: int) -> Backbone:
        return load_backbone(
            self.backbone, weights=self.weights, preprocess=self.preprocess, max_length=self.max_length, seed=seed
        )

    def _check_y(self, y: Any) -> np.ndarray:
        raise NotImplementedError

    def _targets(self, y: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return targets as the loss takes them, and weights."""
        raise NotImplementedError

    _loss: type[nn.Module]

    def _n_outputs(self) -> int:
        raise NotImplementedError

    def _network(self, inputs: Inputs, targets: np.ndarray, weight: np.ndarray, compute: Compute) -> FineTuneNetwork:
        backbone, cut = self.backbone_, self.freeze_depth_
        _, upper = split_taps(self._taps, cut)
        features = self._features(inputs, compute)
        network = FineTuneNetwork(
            trainable_stages(backbone, cut, len(backbone.stages)),
            upper,
            cut,
            features.shape[1],
            self._n_outputs(),
            prefix_tokens=backbone.prefix_tokens,
            keep_statistics=backbone.pretrained,
        )
        if self.head_init == "probe":
            init_head(network, features, targets, weight)
        return network

    def _features(self, inputs: Inputs, compute: Compute) -> np.ndarray:
        """Return what the head sees while all stages are as they were pretrained; in the store, leave the cut's values.

        Where the head does not start from these features, the first sample is enough to tell the width.
        """
        store, cut, n = resolve_store(self.cache), Tap(self.freeze_depth_), len(self.backbone_.stages)
        options: dict[str, Any] = {"compute": compute, "store": store, "spares": self._spares()}
        trains = cut.stop < n
        *_, last = gathered(self.backbone_, inputs, [*self._taps, cut] if trains else self._taps, [0], **options)
        rows = range(len(inputs)) if self.head_init == "probe" else range(1)
        taps = list(self._taps)
        if store is not None and trains and self._fits(store, last[0], inputs):
            # One pass fills what training is going to ask for again and again.
            if self.head_init != "probe":
                gathered(self.backbone_, inputs, [cut], range(len(inputs)), **options)
            else:
                taps.append(cut)
        found = gathered(self.backbone_, inputs, taps, rows, **options)[: len(self._taps)]
        return torch.cat([torch.stack(tap) for tap in found], 1).numpy()  # (n, n_features)

    def _fits(self, store: Store, one: Tensor, inputs: Inputs) -> bool:
        """Return whether a store can hold the values at the cut of all samples; else they would push each other out."""
        n = sum(inputs.lengths(range(len(inputs)))) / inputs.lengths([0])[0] if inputs.is_text else len(inputs)
        return n * one.nbytes < store.info().limit

    def _spares(self) -> list[Tap]:
        """Return what other depths of a search will start from; the uppermost save most."""
        return [Tap(stop) for stop in range(len(self.backbone_.stages) - 1, 0, -1)]

    def _tell(self, context: Any) -> bool:
        task = context.subcontext(task_name="epoch")
        task.call_on_fit_task_begin(estimator=self)
        return bool(task.call_on_fit_task_end(estimator=self))

    def _dataset(self, inputs: Inputs, compute: Compute, targets: Tensor, weight: Tensor) -> CutDataset:
        frozen, _ = split_taps(self._taps, self.freeze_depth_)
        return CutDataset(
            self.backbone_,
            inputs,
            self.freeze_depth_,
            len(self.backbone_.stages),
            frozen,
            targets=targets,
            sample_weight=weight,
            compute=compute,
            store=resolve_store(self.cache),
        )

    @torch.no_grad()
    def _outputs(self, X: Any) -> np.ndarray:
        """Return what the network gives for samples: (n_samples, n_outputs), float32."""
        check_is_fitted(self)
        samples: Samples = check_samples(self, X, self.backbone_.modality, image_shape=self.image_shape, reset=False)
        inputs = Inputs(samples, self.backbone_.preprocess)
        head = self.net_.module_.eval()
        outputs = np.empty((len(samples), head.head.out_features), np.float32)
        # Only what frozen stages give may serve another estimator: the rest is kept by nobody.
        parts = forward(
            self.backbone_,
            inputs,
            self._taps,
            compute=resolve_compute(self.device, self.precision),
            store=resolve_store(self.cache),
            keep=self.freeze_depth_,
            spares=[Tap(self.freeze_depth_)],
        )
        for rows, found in parts:
            features = torch.cat([torch.stack(tap) for tap in found], 1)  # (n, n_features)
            outputs[rows] = head.logits(features).numpy()
        inputs.warn_of_truncated()
        return outputs

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        set_input_tags(tags, modality_of(self.backbone) or "image")
        tags.target_tags.required = True
        return tags
