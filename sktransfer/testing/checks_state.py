"""Checks of what a backbone leaves behind: nothing in itself, in the process, in memory or in a sample."""

from __future__ import annotations

import gc
import os
import random
import warnings
import weakref
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from sktransfer.backbones.backbone import Backbone
from sktransfer.backbones.pooling import pool
from sktransfer.engine.inputs import collate
from sktransfer.testing.backbone_subject import Subject, assert_close, require, restored, run_stages, tensors_of

__all__ = [
    "check_global_state",
    "check_gradients",
    "check_memory",
    "check_odd_inputs",
    "check_preprocess",
    "check_state",
]

_TOKENS = 64  # as many as a long text keeps here: attention to thousands would take minutes
_NEW_SEED = 271828  # one that nothing else uses, so that the loader runs


def check_state(subject: Subject) -> None:
    """Running changes no parameter, no buffer and no mode: update statistics in training only."""
    backbone = subject.backbone
    before = {name: tensor.clone() for name, tensor in backbone.stages.state_dict().items()}
    run_stages(backbone, subject.tensors)
    run_stages(backbone, subject.tensors[::-1])
    changed = [name for name, tensor in backbone.stages.state_dict().items() if not _same(tensor, before[name])]
    require(
        not changed,
        f"running {subject.name} changed {changed[:3]} ({len(changed)} tensors)",
        expected="all parameters and buffers bit-equal to before, for all users share them",
        fix="update statistics only where `self.training` is True",
    )
    training = [name for name, module in backbone.stages.named_modules() if module.training]
    require(
        not training,
        f"after running, the modules {training[:3]} of {subject.name} are in training mode",
        expected="eval mode throughout",
        fix="do not call train() in forward, and do not override train()",
    )


def _same(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and torch.equal(one.nan_to_num(), other.nan_to_num())


def _global_state() -> dict[str, Any]:
    return {
        "torch's random state": torch.get_rng_state().tolist(),
        "numpy's random state": repr(np.random.get_state()),  # noqa: NPY002
        "the random state of `random`": random.getstate(),
        "torch's default dtype": torch.get_default_dtype(),
        "torch's number of threads": torch.get_num_threads(),
        "torch's grad mode": torch.is_grad_enabled(),
        "torch's deterministic mode": torch.are_deterministic_algorithms_enabled(),
        "the warnings' filters": list(warnings.filters),
        "the environment variables": dict(os.environ),
    }


def check_global_state(subject: Subject) -> None:
    """Loading and running leave the process as it was: use generators and contexts of your own."""
    python_state = random.getstate()
    with restored():
        tensors = subject.tensors  # this loads it: what that changes is looked for below
    try:
        with restored():
            before = _global_state()
            if not subject.is_loaded:
                subject.load("random", seed=_NEW_SEED)
            loaded = _global_state()
            run_stages(subject.backbone, tensors)
            after = _global_state()
    finally:
        random.setstate(python_state)
    for what, one, other in (("loading", before, loaded), ("running", loaded, after)):
        moved = [name for name in one if one[name] != other[name]]
        require(
            not moved,
            f"{what} {subject.name} changed {' and '.join(moved)}",
            expected="the process as it was",
            fix="draw from a torch.Generator of your own, set dtype and threads in a context that puts them back",
        )


def check_gradients(subject: Subject) -> None:
    """A frozen backbone asks for no gradient: keep weights in parameters, and `enable_grad` out of forward."""
    backbone = subject.backbone
    for when in ("loading", "running"):
        asking = [name for name, parameter in backbone.stages.named_parameters() if parameter.requires_grad]
        require(
            not asking,
            f"after {when}, the parameters {asking[:3]} of {subject.name} require gradients",
            expected="none: what is trained is a copy",
            fix="do not call requires_grad_ in the loader or in forward",
        )
        for context in (torch.no_grad(), torch.enable_grad()):
            with context:
                values, mask = collate(subject.tensors, backbone.modality, backbone.preprocess.pad_value)
                given = list(backbone.run(values, mask))
            carrying = [subject.stage(index) for index, one in enumerate(given) if one.requires_grad]
            require(
                not carrying,
                f"what {carrying[:3]} of {subject.name} gives carries a graph of gradients",
                expected="plain tensors: a graph keeps the activations of all samples in memory",
                fix="make tensors that require gradients parameters of the stage (nn.Parameter)",
            )


@torch.no_grad()
def check_memory(subject: Subject) -> None:
    """Nothing of a batch is kept once it is done: store no activation in an attribute, a closure or a hook."""
    backbone = subject.backbone
    values, mask = collate(subject.tensors, backbone.modality, backbone.preprocess.pad_value)
    alive = [weakref.ref(values)]
    for given in backbone.run(values, mask):
        alive.append(weakref.ref(given))
    del values, given
    gc.collect()
    kept = [subject.stage(index - 1) if index else "the input" for index, one in enumerate(alive) if one() is not None]
    require(
        not kept,
        f"{subject.name} still holds what {' and '.join(kept)} gave, after the batch was done",
        expected="nothing kept: it takes memory, and two threads would read each other's values",
        fix="return values, and do not assign them to `self` or to a variable outside of forward",
    )


def check_preprocess(subject: Subject) -> None:
    """Preprocessing leaves samples as they are: copy an array before writing into it."""
    preprocess = subject.backbone.preprocess
    if subject.modality == "text":
        texts = list(subject.samples)
        preprocess(texts)
        require(
            texts == subject.samples,
            f"the preprocessing of {subject.name} changed the list of texts that it was given",
            expected="the list as it was",
            fix="build a new list",
        )
        return
    array = np.array(subject.samples[0], dtype=np.float32)
    picture = Image.fromarray((array * 255).astype(np.uint8))
    for what, sample in (("an array", array), ("a PIL image", picture)):
        before = np.array(sample)
        for tensor in preprocess([sample]):
            tensor.zero_()  # a result that shares memory with the sample changes it here
        require(
            np.array_equal(np.asarray(sample), before),
            f"the preprocessing of {subject.name} changed {what} that it was given, or gave its memory out",
            expected="the sample as it was, for it is the user's own",
            fix="begin with a copy: torch.from_numpy(np.array(sample, dtype=np.float32))",
        )


@torch.no_grad()
def check_odd_inputs(subject: Subject) -> None:
    """Odd memory layouts, and texts of no or many words, are samples like others: assume nothing of a sample."""
    fix = "read samples by np.asarray and copy them; of texts, give at least one token and at most `limit`"
    backbone, odd = _odd_texts(subject) if subject.modality == "text" else (subject.backbone, _odd_images(subject))
    for what, plain, strange in odd:
        expected = run_stages(backbone, tensors_of(backbone, plain))
        assert_close(run_stages(backbone, tensors_of(backbone, strange)), expected, subject, f"for {what}", fix)
        if _is_image(strange[0]):  # as a preprocessing may get it
            assert_close(run_stages(backbone, backbone.preprocess(strange)), expected, subject, f"for {what}", fix)
    if subject.modality == "text":
        alone, beside = _pooled_empty(subject, [""]), _pooled_empty(subject, ["", "good"])
        require(
            alone is None if beside is None else alone is not None and bool(torch.isfinite(beside).all()),
            f"{subject.name} gives {alone} for an empty text alone, and {beside} for one beside another",
            expected="finite features both times, or a ValueError both times",
            fix="give an empty text one token, and divide by a count of at least 1",
        )
        if alone is not None and beside is not None:
            error, scale = float((alone - beside[:1]).abs().max()), float(beside.abs().max())
            require(
                error <= 1e-5 * scale,
                f"an empty text beside another differs by {error:.2g} from one alone, in {subject.name}",
                expected="the same",
                fix=fix,
            )


def _pooled_empty(subject: Subject, texts: list[str]) -> Tensor | None:
    """Return what a featurizer gives for texts, one of them empty; None where that is an error."""
    backbone = subject.backbone
    try:
        tensors = tensors_of(backbone, texts)
    except ValueError:
        return None
    values, mask = collate(tensors, backbone.modality, backbone.preprocess.pad_value)
    *_, last = backbone.run(values, mask)
    return pool(last, mask, backbone.pooling)  # (n, n_features)


def _is_image(sample: Any) -> bool:
    return isinstance(sample, np.ndarray) and sample.ndim == 3 and sample.dtype == np.float32


def _odd_images(subject: Subject) -> list[tuple[str, list[Any], list[Any]]]:
    image = np.array(subject.samples[0], dtype=np.float32)
    read_only = image.copy()
    read_only.flags.writeable = False
    turned = np.asfortranarray(image)
    flipped = image[:, ::-1].copy()[:, ::-1]
    integers = (image * 255).astype(np.uint8)
    grey = image[:, :, :1].copy()
    return [
        ("a read-only array", [image], [read_only]),
        ("an array in Fortran's order", [image], [turned]),
        ("a view with negative strides", [image], [flipped]),
        ("an array of bytes", [Image.fromarray(integers)], [integers]),
        ("a grey image", [grey.repeat(3, 2)], [grey[:, :, 0]]),
    ]


def _odd_texts(subject: Subject) -> tuple[Backbone, list[tuple[str, list[Any], list[Any]]]]:
    preprocess: Any = subject.backbone.preprocess
    limit = min(int(preprocess.limit), _TOKENS)
    long = "good film " * limit
    odd: list[tuple[str, list[Any], list[Any]]] = [
        ("a text of numpy's own type", ["good"], [np.str_("good")]),
        ("a text that is longer than the limit", [long], [f"{long}{long}"]),
    ]
    return subject.backbone.with_preprocess(preprocess.with_max_length(limit)), odd
