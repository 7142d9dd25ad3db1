"""Checks of the values that stages return, on the CPU and on a device."""

from __future__ import annotations

import gc
from itertools import chain

import torch
from torch import Tensor

from sktransfer.backbones.backbone import Backbone
from sktransfer.engine.compute import resolve_device, without_tf32
from sktransfer.engine.inputs import collate
from sktransfer.testing.backbone_subject import NotRun, Subject, assert_close, require, run_stages, to_tensors

__all__ = [
    "check_batch",
    "check_determinism",
    "check_device",
    "check_device_memory",
    "check_order",
    "check_padding",
    "check_reference",
    "check_restart",
    "check_values",
]

_DEVICE_ATOL = 1e-4  # devices add in a different order
_LONG_TEXT = "a good film with good acting and a good plot, which is more than can be said of most. "


def _collate(backbone: Backbone, tensors: list[Tensor]) -> tuple[Tensor, Tensor | None]:
    return collate(tensors, backbone.modality, backbone.preprocess.pad_value)


@torch.no_grad()
def check_reference(subject: Subject) -> None:
    """Check that all stages in order, then the head, return the output of the model's own forward.

    To fix: divide the model into stages without omitting an operation between them.
    """
    if subject.reference is None:
        raise NotRun("no reference was given: check_backbone(..., reference=<the model's own forward>)")
    backbone = subject.backbone
    values, mask = _collate(backbone, subject.tensors)
    expected = subject.reference(values.clone()) if mask is None else subject.reference(values.clone(), mask)
    *_, outputs = chain([values], backbone.run(values.clone(), mask))
    what = "the last stage's values"
    if backbone.head is not None:
        outputs, what = backbone.head(outputs, mask), "the head's logits"
    require(
        outputs.shape == expected.shape,
        f"{subject.name}: {what} have shape {tuple(outputs.shape)}, the reference gives {tuple(expected.shape)}",
        expected="the same shape",
        fix="return logits if the backbone has a head, else the last stage's values",
    )
    if mask is not None and outputs.ndim == 3:  # values at padding are undefined
        outputs, expected = outputs.masked_fill(~mask[:, :, None], 0), expected.masked_fill(~mask[:, :, None], 0)
    scale = float(expected.abs().max())
    require(
        float((expected - expected[:1]).abs().max()) > 1e-3 * scale,
        f"the reference of {subject.name} returns about the same for all samples (largest value {scale:.2g})",
        expected="values that differ between samples, so that the comparison can fail",
        fix="compare with pretrained weights, or redraw those initialised with zero (a head, a class token)",
    )
    error = float((outputs - expected).abs().max())
    require(
        error <= 1e-5 * scale,
        f"{subject.name}: {what} differ from the reference by {error:.2g}, its largest value being {scale:.2g}",
        expected="the same but for 1e-5 of the largest value",
        fix="see that no layer between two stages is left out, repeated or swapped (a final norm, the positions, the "
        "mask), and that dropout is off",
    )


@torch.no_grad()
def check_values(subject: Subject) -> None:
    """Check that each stage returns a finite, contiguous float32 tensor with one row per sample.

    To fix: cast and copy in the stage.
    """
    backbone = subject.backbone
    values, mask = _collate(backbone, subject.tensors)
    n = len(values)
    for index, outputs in enumerate(backbone.run(values, mask)):
        stage = f"{subject.stage(index)} of {subject.name}"
        require(
            isinstance(outputs, Tensor) and outputs.ndim in (2, 3, 4) and len(outputs) == n,
            f"{stage} gives {list(outputs.shape) if isinstance(outputs, Tensor) else type(outputs)} for {n} samples",
            expected="one tensor: maps (n, channels, height, width), sequences (n, tokens, channels) or (n, channels)",
            fix="return the values alone, samples first",
        )
        require(
            outputs.dtype == torch.float32,
            f"{stage} gives {outputs.dtype}",
            expected="torch.float32",
            fix="load the weights in float32 (model.float()), because the user chooses the precision",
        )
        require(
            outputs.is_contiguous() or (outputs.ndim == 4 and outputs.is_contiguous(memory_format=torch.channels_last)),
            f"{stage} gives a tensor of shape {tuple(outputs.shape)} and strides {outputs.stride()}",
            expected="a contiguous tensor (or channels_last for maps), like values read from the store",
            fix="call .contiguous() after the last transpose or permute of the stage",
        )
        require(
            bool(torch.isfinite(outputs).all()),
            f"{stage} gives {int((~torch.isfinite(outputs)).sum())} values that are NaN or infinite",
            expected="finite values",
            fix="look for a division by zero, a softmax over a fully masked row, or an overflow",
        )


def check_determinism(subject: Subject) -> None:
    """Check that repeated runs return the same values.

    To fix: use no dropout, no random numbers and no state from earlier calls in eval mode.
    """
    first = run_stages(subject.backbone, subject.tensors)
    second = run_stages(subject.backbone, subject.tensors)
    fix = "let dropout depend on `self.training`, draw no random numbers in forward, and keep nothing between calls"
    assert_close(second, first, subject, "run a second time", fix, atol=0)


def check_batch(subject: Subject) -> None:
    """Check that a sample has the same values alone and in a batch.

    To fix: use running statistics, never those of the batch.
    """
    tensors = subject.tensors
    if subject.modality == "text":  # equal lengths, because padding has its own check
        length = min(map(len, tensors))
        tensors = [ids[:length] for ids in tensors]
    batched = run_stages(subject.backbone, tensors)
    single = [run_stages(subject.backbone, [tensor]) for tensor in tensors]
    alone = [[stages[index][0] for stages in single] for index in range(len(batched))]
    fix = "normalise by running statistics (BatchNorm in eval) or over one sample, never over axis 0"
    assert_close(batched, alone, subject, "in a batch instead of alone", fix)


def check_order(subject: Subject) -> None:
    """Check that a sample has the same values at any position of a batch.

    To fix: let nothing depend on the row index.
    """
    in_order = run_stages(subject.backbone, subject.tensors)
    in_reverse = run_stages(subject.backbone, subject.tensors[::-1])
    fix = "let a row of the output depend only on its row of the input"
    assert_close([stage[::-1] for stage in in_reverse], in_order, subject, "in a batch of another order", fix)


def check_padding(subject: Subject) -> None:
    """Check that a text has the same values alone and in a batch with a longer text.

    To fix: apply the mask in attention, pooling and normalisation.
    """
    if subject.modality != "text":
        raise NotRun("images have no padding")
    texts = to_tensors(subject.backbone, [*subject.samples, _LONG_TEXT * 4])
    padded = run_stages(subject.backbone, texts)
    for row in range(len(texts)):
        alone = run_stages(subject.backbone, [texts[row]])
        fix = "apply the mask (True for real tokens) in attention, means and positions"
        assert_close(
            [[stage[row]] for stage in padded], alone, subject, f"in a batch with a longer text (text {row})", fix
        )


@torch.no_grad()
def check_restart(subject: Subject) -> None:
    """Check that a stage needs only the values of the stage before and the mask.

    To fix: recompute everything else from values and mask.
    """
    backbone = subject.backbone
    values, mask = _collate(backbone, subject.tensors)
    others, other_mask = _collate(backbone, subject.tensors[::-1])
    complete = [outputs.clone() for outputs in backbone.run(values.clone(), mask)]
    fix = "use only values and mask, and do not read an attribute or a closure that an earlier stage has written"
    for start in range(1, len(complete)):
        for _ in backbone.run(others.clone(), other_mask):  # state kept by a stage now belongs to other samples
            pass
        rest = [outputs.clone() for outputs in backbone.run(complete[start - 1].clone(), mask, start=start)]
        what = f"restarted from the values of {subject.stage(start - 1)}"
        assert_close(list(map(list, rest)), list(map(list, complete[start:])), subject, what, fix, first=start)


def _resolve_device(subject: Subject) -> torch.device:
    if subject.device is None:
        if not torch.cuda.is_available():
            raise NotRun("no CUDA device")
        return resolve_device("cuda")
    device = resolve_device(subject.device)
    if device.type == "cpu":
        raise NotRun("device='cpu' was requested: there is no other device to compare it with")
    return device


def check_device(subject: Subject) -> None:
    """Check that the device returns the values of the CPU.

    To fix: create tensors on `values.device`, and keep constants in buffers.
    """
    device = _resolve_device(subject)
    with without_tf32():  # too few bits for devices to agree to 1e-4
        outputs = run_stages(_copy_without_caches(subject.backbone), subject.tensors, device)
    expected = run_stages(subject.backbone, subject.tensors, torch.device("cpu"))
    fix = "create tensors on `values.device`, and register constants as buffers, which move with the stage"
    assert_close(outputs, expected, subject, f"on {device}", fix, atol=_DEVICE_ATOL)


def check_device_memory(subject: Subject) -> None:
    """Check that deleting the backbone frees its memory on the device.

    To fix: keep no tensor in a global or a class attribute.
    """
    device = _resolve_device(subject)
    if device.type != "cuda":
        raise NotRun(f"{device} does not report allocated memory")
    _run_once(subject, device)  # libraries allocate permanent workspaces on their first call
    before = torch.cuda.memory_allocated(device)
    _run_once(subject, device)
    leaked = torch.cuda.memory_allocated(device) - before
    require(
        leaked <= 0,
        f"{leaked} bytes of {device} are still allocated after {subject.name} ran there and was deleted",
        expected="none",
        fix="keep no tensor in a global, a class attribute or a cache outside the stages",
    )


def _run_once(subject: Subject, device: torch.device) -> None:
    copy = _copy_without_caches(subject.backbone)
    run_stages(copy, subject.tensors, device)
    del copy
    gc.collect()


def _copy_without_caches(backbone: Backbone) -> Backbone:
    """Return a backbone of the same stages with its own copies on devices, freed with it."""
    return Backbone(
        name=backbone.name,
        modality=backbone.modality,
        stages=list(zip(backbone.stage_names, backbone.stages)),
        preprocess=backbone.preprocess,
        pooling=backbone.pooling,
        prefix_tokens=backbone.prefix_tokens,
        definition=backbone.definition,
    )
