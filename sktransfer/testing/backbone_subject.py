"""What the checks of backbones look at: a backbone, loaded on first use, and samples for it."""

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
    "NotRun",
    "Reference",
    "Subject",
    "assert_close",
    "require",
    "restored",
    "rows_of",
    "run_stages",
    "tensors_of",
]

Reference = Callable[..., Tensor]
ATOL = 1e-5  # as a share of the largest value
N_SAMPLES = 4


class NotRun(SkipTest):
    """A check does not apply here; the message says why. pytest shows it as a skip with that reason."""


def require(condition: bool, seen: str, *, expected: str, fix: str) -> None:
    """Raise an AssertionError that says what was seen, what is expected and how to fix it, unless all is well."""
    if not condition:
        raise AssertionError(f"{seen}; expected: {expected}. To fix: {fix}")


@dataclass
class Subject:
    """A backbone that is checked.

    Parameters
    ----------
    given : str or Backbone
        A name, as `load_backbone` takes it, or a loaded backbone, which has no spec to compare with.
    device : str or torch.device, default=None
        Compared with the CPU; None for the first CUDA device, where there is one.
    reference : callable, default=None
        The model's own forward, called as `reference(values)` with preprocessed images, or `reference(values, mask)`
        with the token ids of texts; gives the head's logits, or where there is no head the last stage's values.
    """

    given: str | Backbone
    device: str | torch.device | None = None
    reference: Reference | None = None

    @property
    def name(self) -> str:
        """The backbone's name."""
        return self.given if isinstance(self.given, str) else self.given.name

    @property
    def is_loaded(self) -> bool:
        """Whether a loaded backbone was given, not a name."""
        return isinstance(self.given, Backbone)

    @cached_property
    def spec(self) -> BackboneSpec:
        """What the plugin declares.

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
        """The file or folder of the pretrained weights, None where they are not on this machine."""
        if self.spec.weights is None:
            return None
        try:
            with config_context(download="never"):
                return locate(self.spec, "pretrained")
        except SktransferError:
            return None

    @property
    def weights(self) -> str:
        """Which weights the checks run with: "pretrained" where they are here."""
        return "random" if self.local_weights is None else "pretrained"

    @cached_property
    def backbone(self) -> Backbone:
        """The backbone itself, loaded with the weights that are here."""
        return self.given if isinstance(self.given, Backbone) else self.load(self.weights)

    def load(self, weights: str = "random", seed: int = 0) -> Backbone:
        """Load it by name; a seed that was not used before makes the loader run."""
        with config_context(download="never"):
            return load_backbone(self.spec.name, weights=weights, seed=seed)

    @property
    def modality(self) -> str:
        """What its samples are."""
        return self.backbone.modality

    @cached_property
    def samples(self) -> list[Any]:
        """Four samples, all different: images of 64 x 64 pixels, or texts of different length."""
        X, _ = make_samples(self.modality, N_SAMPLES)
        if self.modality == "text":
            return [*X[:2], f"{X[2]} {X[3]} {X[2]}", "so"]
        return [image.repeat(4, 0).repeat(4, 1) for image in X]  # (64, 64, 3)

    @cached_property
    def labels(self) -> np.ndarray:
        """Labels of two classes, one a sample."""
        return np.array(["good", "bad"])[np.arange(N_SAMPLES) % 2]

    @cached_property
    def tensors(self) -> list[Tensor]:
        """The samples behind the backbone's preprocessing."""
        return tensors_of(self.backbone, self.samples)

    def stage(self, index: int) -> str:
        """Return what messages call a stage."""
        return f"stage {index} ({self.backbone.stage_names[index]!r})"


def tensors_of(backbone: Backbone, X: Sequence[Any]) -> list[Tensor]:
    """Return what the first stage takes of samples that come as users pass them, one tensor a sample."""
    samples = check_texts(X) if backbone.modality == "text" else check_images(X)
    return backbone.preprocess([samples.load(row) for row in range(len(samples))])


@torch.no_grad()
def run_stages(backbone: Backbone, tensors: Sequence[Tensor], device: torch.device | None = None) -> list[list[Tensor]]:
    """Return what each stage gives for one batch: for each stage one tensor a sample, on the CPU, without padding.

    Parameters
    ----------
    backbone : Backbone
        Whose stages run.
    tensors : sequence of Tensor
        Preprocessed samples; they are not changed.
    device : torch.device, default=None
        Where; None for where the backbone is.
    """
    values, mask = collate(tensors, backbone.modality, backbone.preprocess.pad_value)
    stages = backbone.stages
    if device is not None:
        stages = prepare_for_inference(backbone, Compute(device))
        values, mask = values.to(device), None if mask is None else mask.to(device)
    return [rows_of(outputs, tensors, mask) for outputs in each_stage(stages, values, mask)]


def rows_of(values: Tensor, tensors: Sequence[Tensor], mask: Tensor | None) -> list[Tensor]:
    """Return a stage's values as one tensor a sample, copied, for the next stage may write into what it gets.

    Parameters
    ----------
    values : Tensor of shape (n, ...)
        What a stage has given.
    tensors : sequence of n Tensor
        The preprocessed samples; their lengths tell where the padding of texts begins.
    mask : Tensor of shape (n, tokens) or None
        None for images.
    """
    kept = values.detach().to("cpu", copy=True)
    padded = mask is not None and kept.ndim == 3
    return [one[: len(ids)] if padded else one for one, ids in zip(kept, tensors)]


def assert_close(
    found: Sequence[Sequence[Tensor]],
    expected: Sequence[Sequence[Tensor]],
    subject: Subject,
    what: str,
    fix: str,
    *,
    first: int = 0,
    atol: float = ATOL,
) -> None:
    """Compare what stages give for samples, and name the first stage that differs.

    Parameters
    ----------
    found, expected : sequence of sequence of Tensor
        For each stage one tensor a sample.
    subject : Subject
        Whose stages they are.
    what : str
        What was done, for the message.
    fix : str
        What to look for, for the message.
    first : int, default=0
        Which stage the first of `found` is.
    atol : float, default=1e-05
        What may differ, as a share of the stage's largest value.

    Raises
    ------
    AssertionError
        If a stage differs.
    """
    for index, (one, other) in enumerate(zip(found, expected, strict=True), start=first):
        scale = max((float(values.abs().max()) for values in other if values.numel()), default=0.0)
        for row, (values, right) in enumerate(zip(one, other, strict=True)):
            seen = f"{what}, {subject.stage(index)} of {subject.name}"
            require(
                values.shape == right.shape,
                f"{seen} gives shape {tuple(values.shape)} for sample {row}",
                expected=f"{tuple(right.shape)}",
                fix=fix,
            )
            error = float((values.double() - right.double()).abs().max()) if values.numel() else 0.0
            require(
                error <= atol * scale,  # False for NaN
                f"{seen} differs by {error:.2g} in sample {row}, its largest value being {scale:.2g}",
                expected=f"the same but for {atol:g} of the largest value",
                fix=fix,
            )


@contextmanager
def restored() -> Iterator[None]:
    """Put torch's random state, default dtype, threads and grad mode back, whatever a backbone does to them."""
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
