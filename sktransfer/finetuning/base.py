"""What fine-tuning a classifier and a regressor have in common: their parameters, and what a network gives."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted

from sktransfer.backbones.backbone import Backbone
from sktransfer.backbones.registry import modality_of
from sktransfer.cache.resolve import resolve_store
from sktransfer.engine.compute import resolve_compute
from sktransfer.engine.forward import LayerOutput, forward
from sktransfer.engine.inputs import PreprocessedSamples, concat_features
from sktransfer.finetuning.fitting import Fitting
from sktransfer.html import BackboneHTML
from sktransfer.samples.base import Samples
from sktransfer.samples.validation import check_samples, set_input_tags
from sktransfer.training.heads import Head
from sktransfer.training.saved_net import net_from_state, net_to_state

if TYPE_CHECKING:
    from sktransfer.backbones.preprocess import ImageTransform

__all__ = ["FineTuneBase"]


class FineTuneBase(BackboneHTML, Fitting):
    """Train the stages of a backbone above a cut, and a linear head; subclasses know their targets and loss."""

    _not_saved = ("net_",)  # it is built again from `_saved_state`

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
        head: str | Head = "linear",
        head_init: str = "probe",
        max_epochs: int = 10,
        batch_size: int = 32,
        lr: float | str = "auto",
        head_lr: float | None = None,
        lr_schedule: str = "linear",
        layer_lr_decay: float = 1.0,
        unfreezing: str = "none",
        optimizer: str | type[torch.optim.Optimizer] = "adamw",
        weight_decay: float = 0.01,
        l2_sp: float = 0.0,
        adapter: Any = None,
        augment: Any = None,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        patience: int = 3,
        device: str | torch.device = "auto",
        precision: str = "float32",
        cache: str | os.PathLike[str] | None = "memory",
        callbacks: Sequence[Any] | None = None,
        warm_start: bool = False,
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
        self.head = head
        self.head_init = head_init
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.lr = lr
        self.head_lr = head_lr
        self.lr_schedule = lr_schedule
        self.layer_lr_decay = layer_lr_decay
        self.unfreezing = unfreezing
        self.optimizer = optimizer
        self.weight_decay = weight_decay
        self.l2_sp = l2_sp
        self.adapter = adapter
        self.augment = augment
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.device = device
        self.precision = precision
        self.cache = cache
        self.callbacks = callbacks
        self.warm_start = warm_start
        self.random_state = random_state
        self.verbose = verbose

    @property
    def layer_weights_(self) -> pd.Series:
        """How much each stage counts, where `layer="mix"`; they sum to one."""
        check_is_fitted(self)
        mix = self.net_.module_.mix
        if mix is None:
            raise AttributeError(f"layer={self.layer!r} mixes no layers; layer='mix' does, and weighs them")
        names = pd.Index(self.backbone_.stage_names, name="stage")
        return pd.Series(mix.weights.detach().numpy(), index=names, name="weight")

    @torch.no_grad()
    def _outputs(self, X: Any) -> np.ndarray:
        """Return what the network gives for samples: (n_samples, n_outputs), float32."""
        check_is_fitted(self)
        samples: Samples = check_samples(self, X, self.backbone_.modality, image_shape=self.image_shape, reset=False)
        inputs = PreprocessedSamples(samples, self.backbone_.preprocess)
        head = self.net_.module_.eval()
        outputs = np.empty((len(samples), head.n_outputs), np.float32)
        # Only what frozen stages give may serve another estimator: the rest is kept by nobody.
        parts = forward(
            self.backbone_,
            inputs,
            self._taps,
            compute=resolve_compute(self.device, self.precision),
            store=resolve_store(self.cache),
            keep=self.freeze_depth_,
            prefetch=[LayerOutput(self.freeze_depth_)],
        )
        for rows, found in parts:
            outputs[rows] = head.logits(concat_features(found)).numpy()
        inputs.warn_of_truncated()
        return outputs

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        set_input_tags(tags, modality_of(self.backbone) or "image")
        tags.target_tags.required = True
        return tags

    def _saved_state(self) -> dict[str, Any]:
        """Return the state of the fitted net for `sktransfer.save`; {} if not fitted."""
        return net_to_state(self) if "net_" in vars(self) else {}

    def _restore_state(self, state: dict[str, Any]) -> None:
        """Build the fitted net of a saved state, after all other attributes are set."""
        self.net_ = net_from_state(self, state)
