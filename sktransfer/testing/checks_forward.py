"""Checks of what stages give: the model's own values, of the right kind, whatever stands beside a sample."""

from __future__ import annotations

from itertools import chain

import torch
from torch import Tensor

from sktransfer.backbones.backbone import Backbone
from sktransfer.engine.inputs import collate
from sktransfer.testing.backbone_subject import NotRun, Subject, assert_close, require, run_stages, tensors_of

__all__ = [
    "check_batch",
    "check_determinism",
    "check_order",
    "check_padding",
    "check_reference",
    "check_restart",
    "check_values",
]

_LONG = "a good film with good acting and a good plot, which is more than can be said of most. "


def _batch(backbone: Backbone, tensors: list[Tensor]) -> tuple[Tensor, Tensor | None]:
    return collate(tensors, backbone.modality, backbone.preprocess.pad_value)


@torch.no_grad()
def check_reference(subject: Subject) -> None:
    """All stages in order, then the head, give what the model's own forward gives: cut where it does nothing else."""
    if subject.reference is None:
        raise NotRun("no reference was given: check_backbone(..., reference=<the model's own forward>)")
    backbone = subject.backbone
    values, mask = _batch(backbone, subject.tensors)
    expected = subject.reference(values.clone()) if mask is None else subject.reference(values.clone(), mask)
    *_, found = chain([values], backbone.run(values.clone(), mask))
    last = "the last stage's values"
    if backbone.head is not None:
        found, last = backbone.head(found, mask), "the head's logits"
    require(
        found.shape == expected.shape,
        f"{subject.name}: {last} have shape {tuple(found.shape)}, the reference gives {tuple(expected.shape)}",
        expected="the same shape",
        fix="give logits where the backbone has a head, else the last stage's values",
    )
    if mask is not None and found.ndim == 3:  # what stands at padding is nobody's
        found, expected = found.masked_fill(~mask[:, :, None], 0), expected.masked_fill(~mask[:, :, None], 0)
    scale = float(expected.abs().max())
    require(
        float((expected - expected[:1]).abs().max()) > 1e-3 * scale,
        f"the reference of {subject.name} gives about the same for all samples (largest value {scale:.2g})",
        expected="values that differ between samples, so that the comparison can fail",
        fix="compare with pretrained weights, or redraw those that are initialised with zero (a head, a class token)",
    )
    error = float((found - expected).abs().max())
    require(
        error <= 1e-5 * scale,
        f"{subject.name}: {last} differ from the reference by {error:.2g}, its largest value being {scale:.2g}",
        expected="the same but for 1e-5 of the largest value",
        fix="see that no layer between two stages is left out, doubled or swapped: dropout in eval, a final norm, the "
        "positions, the mask",
    )


@torch.no_grad()
def check_values(subject: Subject) -> None:
    """Each stage gives a finite, contiguous float32 tensor, one row a sample: cast and copy in the stage."""
    backbone = subject.backbone
    values, mask = _batch(backbone, subject.tensors)
    n = len(values)
    for index, given in enumerate(backbone.run(values, mask)):
        stage = f"{subject.stage(index)} of {subject.name}"
        require(
            isinstance(given, Tensor) and given.ndim in (2, 3, 4) and len(given) == n,
            f"{stage} gives {list(given.shape) if isinstance(given, Tensor) else type(given)} for {n} samples",
            expected="one tensor: maps (n, channels, height, width), sequences (n, tokens, channels) or (n, channels)",
            fix="return the values alone, samples first",
        )
        require(
            given.dtype == torch.float32,
            f"{stage} gives {given.dtype}",
            expected="torch.float32",
            fix="load the weights in float32 (model.float()); precision is chosen by the user, not by the plugin",
        )
        require(
            given.is_contiguous() or (given.ndim == 4 and given.is_contiguous(memory_format=torch.channels_last)),
            f"{stage} gives a tensor of shape {tuple(given.shape)} and strides {given.stride()}",
            expected="a contiguous tensor (of maps also channels_last), for values that come from the store are so",
            fix="call .contiguous() behind the last transpose or permute of the stage",
        )
        require(
            bool(torch.isfinite(given).all()),
            f"{stage} gives {int((~torch.isfinite(given)).sum())} values that are NaN or infinite",
            expected="finite values",
            fix="look for a division by zero, a softmax over a row that is masked out whole, an overflow",
        )


def check_determinism(subject: Subject) -> None:
    """The same samples give the same values each time: in eval no dropout, nothing drawn, nothing kept."""
    first = run_stages(subject.backbone, subject.tensors)
    again = run_stages(subject.backbone, subject.tensors)
    fix = "leave dropout to `self.training`, draw nothing in forward, and keep nothing between calls"
    assert_close(again, first, subject, "run a second time", fix, atol=0)


def check_batch(subject: Subject) -> None:
    """A sample gives the same alone and in a batch: use stored statistics, never those of the batch."""
    tensors = subject.tensors
    if subject.modality == "text":  # of one length: padding has a check of its own
        length = min(map(len, tensors))
        tensors = [ids[:length] for ids in tensors]
    together = run_stages(subject.backbone, tensors)
    parts = [run_stages(subject.backbone, [one]) for one in tensors]
    alone = [[part[index][0] for part in parts] for index in range(len(together))]
    fix = "normalise by running statistics (BatchNorm in eval) or over one sample, never over axis 0"
    assert_close(together, alone, subject, "in a batch instead of alone", fix)


def check_order(subject: Subject) -> None:
    """A sample gives the same at any place of a batch: let nothing depend on the index of a row."""
    straight = run_stages(subject.backbone, subject.tensors)
    back = run_stages(subject.backbone, subject.tensors[::-1])
    fix = "let a row of the output depend on its own row of the input alone"
    assert_close([stage[::-1] for stage in back], straight, subject, "in a batch of another order", fix)


def check_padding(subject: Subject) -> None:
    """A text beside a long one gives what it gives alone: mask attention, pooling and normalisation."""
    if subject.modality != "text":
        raise NotRun("images have no padding")
    texts = tensors_of(subject.backbone, [*subject.samples, _LONG * 4])
    beside = run_stages(subject.backbone, texts)
    for row in range(len(texts)):
        alone = run_stages(subject.backbone, [texts[row]])
        fix = (
            "use the mask (True where a token is real) wherever tokens meet: attention, means, positions from the left"
        )
        assert_close([[stage[row]] for stage in beside], alone, subject, f"beside a longer text (text {row})", fix)


@torch.no_grad()
def check_restart(subject: Subject) -> None:
    """Each stage goes on from the values of the one before: recompute from values and mask what else it needs."""
    backbone = subject.backbone
    values, mask = _batch(backbone, subject.tensors)
    others, other_mask = _batch(backbone, subject.tensors[::-1])
    whole = [given.clone() for given in backbone.run(values.clone(), mask)]
    fix = "a stage sees values and mask alone: it must not read what an earlier stage left in an attribute or a closure"
    for start in range(1, len(whole)):
        for _ in backbone.run(others.clone(), other_mask):  # whatever a stage keeps is now that of other samples
            pass
        rest = [given.clone() for given in backbone.run(whole[start - 1].clone(), mask, start=start)]
        what = f"restarted from the values of {subject.stage(start - 1)}"
        assert_close(list(map(list, rest)), list(map(list, whole[start:])), subject, what, fix, first=start)
