"""Subject of the backbone checks: a backbone loaded on first use, samples for it, and comparisons."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from unittest import SkipTest

import numpy as np
import torch
from torch import Tensor

from sktransfer.backbones.backbone import Backbone
from sktransfer.backbones.loading import load_backbone
from sktransfer.backbones.registry import registry
from sktransfer.backbones.spec import BackboneSpec
from sktransfer.backbones.stages import run_stages as each_stage
from sktransfer.config import config_context
from sktransfer.engine.compute import Compute
from sktransfer.engine.inference import prepare_for_inference
from sktransfer.engine.inputs import collate
from sktransfer.exceptions import SktransferError
from sktransfer.samples.images import check_images
from sktransfer.samples.texts import check_texts
from sktransfer.testing.samples import make_samples
from sktransfer.weights.locate import locate

__all__ = [
    "ATOL",
    "NotRun",
    "Reference",
    "Subject",
    "assert_close",
    "require",
    "restore_global_state",
    "run_stages",
    "split_rows",
    "to_tensors",
]

Reference = Callable[..., Tensor]
ATOL = 1e-5  # relative to the largest value
N_SAMPLES = 4


class NotRun(SkipTest):
    """Raised by a check that does not apply, with the reason. pytest reports it as skipped."""


def require(condition: bool, seen: str, *, expected: str, fix: str) -> None:
    """Raise an AssertionError with observation, expectation and advice, unless the condition holds."""
    if not condition:
        raise AssertionError(f"{seen}; expected: {expected}. To fix: {fix}")


@dataclass
class Subject:
    """A backbone under test.

    Parameters
    ----------
    given : str or Backbone
        Name, as `load_backbone` takes it, or a loaded backbone, which has no spec.
    device : str or torch.device, default=None
        Device to compare with the CPU. None is the first CUDA device, if there is one.
    reference : callable, default=None
        The model's own forward, called as `reference(values)` with preprocessed images, or `reference(values, mask)`
        with the token ids of texts. It returns the head's logits, or without a head the last stage's values.
    lm_reference : callable, default=None
        The model's own forward, called as `lm_reference(values, mask)`. It returns the logits of the vocabulary.
    """

    given: str | Backbone
    device: str | torch.device | None = None
    reference: Reference | None = None
    lm_reference: Reference | None = None

    @property
    def name(self) -> str:
        """Name of the backbone."""
        return self.given if isinstance(self.given, str) else self.given.name

    @property
    def is_loaded(self) -> bool:
        """Whether a loaded backbone was given instead of a name."""
        return isinstance(self.given, Backbone)

    @cached_property
    def spec(self) -> BackboneSpec:
        """Spec that the plugin declares.

        Raises
        ------
        NotRun
            If a loaded backbone was given.
        """
        if isinstance(self.given, Backbone):
            raise NotRun("a loaded backbone was given, not a name: it has no spec and no loader")
        return registry().find(self.given)

    @cached_property
    def local_weights(self) -> Path | None:
        """Local file or folder of the pretrained weights, None if they are not on this machine."""
        if self.spec.weights is None:
            return None
        try:
            with config_context(download="never"):
                return locate(self.spec, "pretrained")
        except SktransferError:
            return None

    @property
    def weights(self) -> str:
        """Weights that the checks use: "pretrained" if they are local, else "random"."""
        return "random" if self.local_weights is None else "pretrained"

    @cached_property
    def backbone(self) -> Backbone:
        """The backbone, loaded with local weights."""
        return self.given if isinstance(self.given, Backbone) else self.load(self.weights)

    def load(self, weights: str = "random", seed: int = 0) -> Backbone:
        """Load the backbone by name. A new seed makes the loader run again.

        Parameters
        ----------
        weights : {"pretrained", "random"}, default="random"
            Weights to load.
        seed : int, default=0
            Seed of random weights.
        """
        with config_context(download="never"):
            return load_backbone(self.spec.name, weights=weights, seed=seed)

    @property
    def modality(self) -> str:
        """Modality of the samples."""
        return self.backbone.modality

    @cached_property
    def samples(self) -> list[Any]:
        """Four different samples: images of 64 x 64 pixels, or texts of different length."""
        X, _ = make_samples(self.modality, N_SAMPLES)
        if self.modality == "text":
            return [*X[:2], f"{X[2]} {X[3]} {X[2]}", "so"]
        return [image.repeat(4, 0).repeat(4, 1) for image in X]  # (64, 64, 3)

    @cached_property
    def labels(self) -> np.ndarray:
        """Labels of two classes, one per sample."""
        return np.array(["good", "bad"])[np.arange(N_SAMPLES) % 2]

    @cached_property
    def tensors(self) -> list[Tensor]:
        """Preprocessed samples."""
        return to_tensors(self.backbone, self.samples)

    def stage(self, index: int) -> str:
        """Return the index and name of a stage, for messages.

        Parameters
        ----------
        index : int
            Index of the stage.
        """
        return f"stage {index} ({self.backbone.stage_names[index]!r})"


def to_tensors(backbone: Backbone, X: Sequence[Any]) -> list[Tensor]:
    """Return the backbone's input for raw samples, one tensor per sample.

    Parameters
    ----------
    backbone : Backbone
        Backbone whose preprocessing is used.
    X : sequence
        Images or texts as users pass them.
    """
    samples = check_texts(X) if backbone.modality == "text" else check_images(X)
    return backbone.preprocess([samples.load(row) for row in range(len(samples))])


@torch.no_grad()
def run_stages(backbone: Backbone, tensors: Sequence[Tensor], device: torch.device | None = None) -> list[list[Tensor]]:
    """Return the outputs of each stage for one batch, as one CPU tensor per sample without padding.

    Parameters
    ----------
    backbone : Backbone
        Backbone to run.
    tensors : sequence of Tensor
        Preprocessed samples. They are not changed.
    device : torch.device, default=None
        Device to run on. None is the device of the backbone.
    """
    values, mask = collate(tensors, backbone.modality, backbone.preprocess.pad_value)
    stages = backbone.stages
    if device is not None:
        stages = prepare_for_inference(backbone, Compute(device))
        values, mask = values.to(device), None if mask is None else mask.to(device)
    return [split_rows(outputs, tensors, mask) for outputs in each_stage(stages, values, mask)]


def split_rows(values: Tensor, tensors: Sequence[Tensor], mask: Tensor | None) -> list[Tensor]:
    """Return copies of a stage's values, one tensor per sample, because the next stage may write into its input.

    Parameters
    ----------
    values : Tensor of shape (n, ...)
        Output of a stage.
    tensors : sequence of n Tensor
        Preprocessed samples. Their lengths show where the padding of texts begins.
    mask : Tensor of shape (n, tokens) or None
        Mask of real tokens, None for images.
    """
    copies = values.detach().to("cpu", copy=True)
    padded = mask is not None and copies.ndim == 3
    return [row[: len(ids)] if padded else row for row, ids in zip(copies, tensors)]  # (tokens, channels) for texts


def assert_close(
    actual: Sequence[Sequence[Tensor]],
    expected: Sequence[Sequence[Tensor]],
    subject: Subject,
    what: str,
    fix: str,
    *,
    first: int = 0,
    atol: float = ATOL,
) -> None:
    """Compare outputs of stages, and name the first stage and sample that differ.

    Parameters
    ----------
    actual, expected : sequence of sequence of Tensor
        One tensor per sample, for each stage.
    subject : Subject
        Subject of the check.
    what : str
        Description of the run, in the message.
    fix : str
        Advice in the message.
    first : int, default=0
        Index of the first stage in `actual`.
    atol : float, default=1e-05
        Tolerance, relative to the stage's largest value.

    Raises
    ------
    AssertionError
        If a stage differs.
    """
    for index, (stage, expected_stage) in enumerate(zip(actual, expected, strict=True), start=first):
        scale = max((float(values.abs().max()) for values in expected_stage if values.numel()), default=0.0)
        for row, (values, target) in enumerate(zip(stage, expected_stage, strict=True)):
            seen = f"{what}, {subject.stage(index)} of {subject.name}"
            require(
                values.shape == target.shape,
                f"{seen} gives shape {tuple(values.shape)} for sample {row}",
                expected=f"{tuple(target.shape)}",
                fix=fix,
            )
            error = float((values.double() - target.double()).abs().max()) if values.numel() else 0.0
            require(
                error <= atol * scale,  # False for NaN
                f"{seen} differs by {error:.2g} in sample {row}, with a largest value of {scale:.2g}",
                expected=f"the same up to {atol:g} of the largest value",
                fix=fix,
            )


@contextmanager
def restore_global_state() -> Iterator[None]:
    """Restore random states, and torch's default dtype, number of threads and grad mode, after the block."""
    dtype, threads, grad = torch.get_default_dtype(), torch.get_num_threads(), torch.is_grad_enabled()
    numpy_state = np.random.get_state()  # noqa: NPY002
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        torch.set_default_dtype(dtype)
        torch.set_num_threads(threads)
        torch.set_grad_enabled(grad)
        np.random.set_state(numpy_state)  # noqa: NPY002
