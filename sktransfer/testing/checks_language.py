"""Checks of the language-model head of a backbone."""

from __future__ import annotations

import pickle
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from sktransfer.backbones.backbone import Backbone
from sktransfer.backbones.language import LanguageModelHead
from sktransfer.engine.inputs import collate
from sktransfer.testing.backbone_subject import ATOL, NotRun, Subject, require
from sktransfer.training.network import trainable_lm_head, trainable_stages

__all__ = ["check_lm_head", "check_lm_reference", "check_lm_training"]


def _head(subject: Subject) -> LanguageModelHead:
    head = subject.backbone.lm_head
    if head is None:
        raise NotRun("the backbone has no language-model head")
    return head


@torch.no_grad()
def _logits(backbone: Backbone, head: nn.Module, tensors: Sequence[Tensor]) -> Tensor:
    """Return the logits of a batch (n, tokens, n_vocabulary), zero at padding."""
    values, mask = collate(tensors, "text", backbone.preprocess.pad_value)
    *_, last = backbone.run(values, mask)
    logits: Tensor = head(last, mask)
    return logits if logits.ndim != 3 or mask is None else logits.masked_fill(~mask[:, :, None], 0)


def _error(one: Tensor, other: Tensor) -> float:
    """Return the largest difference as a share of the largest value."""
    return float((one - other).abs().max() / other.abs().max().clamp(min=1e-30))


def check_lm_head(subject: Subject) -> None:
    """Check that the language-model head gives float32 logits, one position at a time, and no look ahead if causal.

    To fix: give `LanguageModelHead` the modules after the last stage, and let them process each position separately.
    """
    head, backbone, tensors = _head(subject), subject.backbone, subject.tensors
    fingerprint = backbone.fingerprint()
    logits = _logits(backbone, head, tensors)
    n, longest = len(tensors), max(map(len, tensors))
    require(
        logits.ndim == 3 and tuple(logits.shape[:2]) == (n, longest) and logits.dtype == torch.float32,
        f"the language-model head of {subject.name} gives {logits.dtype} of shape {tuple(logits.shape)} for {n} texts "
        f"of at most {longest} tokens",
        expected="float32 logits (n, tokens, n_vocabulary)",
        fix="end with the layer from the width of a token to the vocabulary, in float32",
    )
    highest = max(int(ids.max()) for ids in tensors)
    require(
        bool(torch.isfinite(logits).all()) and logits.shape[2] > highest,
        f"the language-model head of {subject.name} gives logits for {logits.shape[2]} tokens, "
        f"{int((~torch.isfinite(logits)).sum())} of them not finite, and the texts have the id {highest}",
        expected="a finite logit for each token of the tokenizer",
        fix="use the head and the tokenizer that belong to the weights",
    )
    for row, ids in enumerate(tensors):
        error = _error(logits[row, : len(ids)], _logits(backbone, head, [ids])[0])
        require(
            error <= ATOL,
            f"in a batch, the language-model head of {subject.name} differs by {error:.2g} of the largest logit from "
            f"text {row} alone",
            expected="the same logits",
            fix="let the head process each position separately, without normalisation over texts or positions",
        )
    if head.kind == "causal":
        longer = [torch.cat([ids, ids.new_tensor([int(tensors[0][0])])]) for ids in tensors if len(ids) < longest]
        for ids in longer:
            error = _error(_logits(backbone, head, [ids])[0, :-1], _logits(backbone, head, [ids[:-1]])[0])
            require(
                error <= ATOL,
                f"the logits of {subject.name} change by {error:.2g} of the largest one if a token is appended",
                expected="logits that depend on earlier tokens only, because its kind is 'causal'",
                fix="attend to earlier tokens only, or declare the kind 'masked'",
            )
    _require_once(subject, head)
    copied = pickle.loads(pickle.dumps(backbone))
    require(
        copied.lm_head is not None and torch.equal(_logits(copied, copied.lm_head, tensors), logits),
        f"after pickling, {subject.name} has another language-model head, or none",
        expected="the same logits",
        fix="return the same head whenever the loader's function is called, and keep its weights in parameters",
    )
    require(
        backbone.fingerprint() == fingerprint,
        f"reading the language-model head changes the fingerprint of {subject.name}",
        expected="the fingerprint of the stages alone, which caches depend on",
        fix="change no stage in the function that returns the head",
    )


def _require_once(subject: Subject, head: LanguageModelHead) -> None:
    """Raise if the head has a copy of a parameter of a stage, which training would move apart."""
    stages = list(subject.backbone.stages.named_parameters())
    shared = {id(parameter) for _, parameter in stages}
    for name, own in head.named_parameters():
        twins = [of for of, one in stages if id(own) not in shared and one.ndim > 1 and one.shape == own.shape]
        same = [of for of in twins if torch.equal(subject.backbone.stages.get_parameter(of), own)]
        require(
            not same,
            f"the parameter {name} of the language-model head of {subject.name} is a copy of {same[:1]} of its stages",
            expected="one parameter for both, if the source ties them",
            fix="assign the parameter of the stage to the head: output.weight = embedding.weight",
        )


def check_lm_training(subject: Subject) -> None:
    """Check that gradients reach the language-model head and all stages, and that only copies are trained.

    To fix: keep weights in parameters, and do not detach values.
    """
    head, backbone = _head(subject), subject.backbone
    frozen = [name for name, parameter in head.named_parameters() if parameter.requires_grad]
    training = [name for name, module in head.named_modules() if module.training]
    require(
        not frozen and not training,
        f"the language-model head of {subject.name} requires gradients in {frozen[:3]}, and {training[:3]} are in "
        "training mode",
        expected="a frozen head in evaluation mode, because training uses a copy",
        fix="do not call requires_grad_ or train() in forward",
    )
    stages = trainable_stages(backbone, 0)
    trained = trainable_lm_head(backbone, stages, 0)
    assert trained is not None  # the backbone has a head
    values, mask = collate(subject.tensors, "text", backbone.preprocess.pad_value)
    ids = values if mask is None else values.masked_fill(~mask, -100)  # (n, tokens)
    for stage in stages:
        values = stage(values, mask)
    functional.cross_entropy(trained(values, mask).transpose(1, 2), ids).backward()  # type: ignore[no-untyped-call]
    for part, module in (("its head", trained), *((f"stage {i}", stage) for i, stage in enumerate(stages))):
        gradients = [one.grad for one in module.parameters() if one.grad is not None]
        require(
            any(bool(one.any()) for one in gradients) or not list(module.parameters()),
            f"no gradient of the loss of predicted tokens reaches {part} of {subject.name}",
            expected="a gradient for each part with parameters",
            fix="remove detach(), no_grad() and conversions to numpy from forward",
        )
    written = [name for name, parameter in head.named_parameters() if parameter.grad is not None]
    require(
        not written,
        f"training a copy of the language-model head of {subject.name} writes gradients of {written[:3]} of the head",
        expected="a copy that is independent of the backbone",
        fix="keep parameters in modules, not in lists or closures, which copies would share",
    )


def check_lm_reference(subject: Subject) -> None:
    """Check that all stages in order, then the language-model head, return the logits of the model's own forward.

    To fix: give the head all modules between the last stage and the logits.
    """
    head = _head(subject)
    if subject.lm_reference is None:
        raise NotRun("no reference was given: check_backbone(..., lm_reference=<the model's own forward>)")
    backbone = subject.backbone
    values, mask = collate(subject.tensors, "text", backbone.preprocess.pad_value)
    with torch.no_grad():
        expected = subject.lm_reference(values, mask)
    logits = _logits(backbone, head, subject.tensors)
    require(
        logits.shape == expected.shape,
        f"{subject.name}: the language-model head gives shape {tuple(logits.shape)}, the reference "
        f"{tuple(expected.shape)}",
        expected="the same shape",
        fix="return logits over the vocabulary from the reference",
    )
    if mask is not None:
        expected = expected.masked_fill(~mask[:, :, None], 0)  # values at padding are undefined
    error = _error(logits, expected)
    require(
        error <= ATOL,
        f"{subject.name}: the logits of the language-model head differ from the reference by {error:.2g} of the "
        "largest one",
        expected=f"the same up to {ATOL:g} of the largest logit",
        fix="see that the head has the transform, the norm and the bias before the logits, and the right activation",
    )
