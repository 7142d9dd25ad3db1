"""Checks of side effects of a backbone on itself, the process, memory and samples."""

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
from sktransfer.testing.backbone_subject import (
    Subject,
    assert_close,
    require,
    restore_global_state,
    run_stages,
    to_tensors,
)

__all__ = [
    "check_global_state",
    "check_gradients",
    "check_memory",
    "check_odd_inputs",
    "check_preprocess",
    "check_state",
]

_MAX_TOKENS = 64  # of a long text, because attention to thousands would take minutes
_NEW_SEED = 271828  # not used elsewhere, so that the loader runs


def check_state(subject: Subject) -> None:
    """Check that the backbone's parameters, buffers and modes stay unchanged when it runs.

    To fix: update statistics in training mode only.
    """
    backbone = subject.backbone
    before = {name: tensor.clone() for name, tensor in backbone.stages.state_dict().items()}
    run_stages(backbone, subject.tensors)
    run_stages(backbone, subject.tensors[::-1])
    changed = [name for name, tensor in backbone.stages.state_dict().items() if not _is_equal(tensor, before[name])]
    require(
        not changed,
        f"running {subject.name} changed {changed[:3]} ({len(changed)} tensors)",
        expected="all parameters and buffers bit-equal to before, because estimators share them",
        fix="update statistics only where `self.training` is True",
    )
    training = [name for name, module in backbone.stages.named_modules() if module.training]
    require(
        not training,
        f"after running, the modules {training[:3]} of {subject.name} are in training mode",
        expected="eval mode throughout",
        fix="do not call train() in forward, and do not override train()",
    )


def _is_equal(first: Tensor, second: Tensor) -> bool:
    return first.shape == second.shape and torch.equal(first.nan_to_num(), second.nan_to_num())


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
    """Check that the global state of the process stays unchanged when the backbone is loaded and run.

    To fix: use your own generators and context managers.
    """
    python_state = random.getstate()
    with restore_global_state():
        tensors = subject.tensors  # loads the backbone: the effects of loading are checked below
    try:
        with restore_global_state():
            before = _global_state()
            if not subject.is_loaded:
                subject.load("random", seed=_NEW_SEED)
            loaded = _global_state()
            run_stages(subject.backbone, tensors)
            after = _global_state()
    finally:
        random.setstate(python_state)
    for action, first, second in (("loading", before, loaded), ("running", loaded, after)):
        changed = [name for name in first if first[name] != second[name]]
        require(
            not changed,
            f"{action} {subject.name} changed {' and '.join(changed)}",
            expected="an unchanged process",
            fix="draw from your own torch.Generator, and restore dtype and threads in a context manager",
        )


def check_gradients(subject: Subject) -> None:
    """Check that outputs and parameters of a frozen backbone require no gradient.

    To fix: keep weights in parameters, and do not use `enable_grad` in forward.
    """
    backbone = subject.backbone
    for when in ("loading", "running"):
        trainable = [name for name, parameter in backbone.stages.named_parameters() if parameter.requires_grad]
        require(
            not trainable,
            f"after {when}, the parameters {trainable[:3]} of {subject.name} require gradients",
            expected="none, because training uses a copy",
            fix="do not call requires_grad_ in the loader or in forward",
        )
        for context in (torch.no_grad(), torch.enable_grad()):
            with context:
                values, mask = collate(subject.tensors, backbone.modality, backbone.preprocess.pad_value)
                outputs = list(backbone.run(values, mask))
            with_graph = [subject.stage(index) for index, output in enumerate(outputs) if output.requires_grad]
            require(
                not with_graph,
                f"the outputs of {with_graph[:3]} of {subject.name} carry an autograd graph",
                expected="plain tensors, because a graph keeps the activations of all samples in memory",
                fix="register tensors that require gradients as parameters of the stage (nn.Parameter)",
            )


@torch.no_grad()
def check_memory(subject: Subject) -> None:
    """Check that activations of a batch are freed after it.

    To fix: store no activation in an attribute, a closure or a hook.
    """
    backbone = subject.backbone
    values, mask = collate(subject.tensors, backbone.modality, backbone.preprocess.pad_value)
    alive = [weakref.ref(values)]
    for outputs in backbone.run(values, mask):
        alive.append(weakref.ref(outputs))
    del values, outputs
    gc.collect()
    kept = [subject.stage(index - 1) if index else "the input" for index, ref in enumerate(alive) if ref() is not None]
    require(
        not kept,
        f"{subject.name} still holds the values of {' and '.join(kept)} after the batch",
        expected="no reference, which takes memory and lets threads read each other's values",
        fix="return values, and do not assign them to `self` or to a variable outside forward",
    )


def check_preprocess(subject: Subject) -> None:
    """Check that preprocessing does not modify samples.

    To fix: copy an array before writing into it.
    """
    preprocess = subject.backbone.preprocess
    if subject.modality == "text":
        texts = list(subject.samples)
        preprocess(texts)
        require(
            texts == subject.samples,
            f"the preprocessing of {subject.name} changed the list of texts passed to it",
            expected="an unchanged list",
            fix="build a new list",
        )
        return
    array = np.array(subject.samples[0], dtype=np.float32)
    image = Image.fromarray((array * 255).astype(np.uint8))
    for container, sample in (("an array", array), ("a PIL image", image)):
        before = np.array(sample)
        for tensor in preprocess([sample]):
            tensor.zero_()  # changes the sample if they share memory
        require(
            np.array_equal(np.asarray(sample), before),
            f"the preprocessing of {subject.name} changed {container} passed to it, or returned a view of it",
            expected="an unchanged sample, because it belongs to the user",
            fix="copy first: torch.from_numpy(np.array(sample, dtype=np.float32))",
        )


@torch.no_grad()
def check_odd_inputs(subject: Subject) -> None:
    """Check that unusual memory layouts, empty texts and long texts are valid samples.

    To fix: make no assumption about the memory layout of arrays or the length of texts.
    """
    fix = "read samples by np.asarray and copy them, and return 1 to `limit` tokens per text"
    backbone, cases = (
        _unusual_texts(subject) if subject.modality == "text" else (subject.backbone, _unusual_images(subject))
    )
    for case, plain, unusual in cases:
        expected = run_stages(backbone, to_tensors(backbone, plain))
        assert_close(run_stages(backbone, to_tensors(backbone, unusual)), expected, subject, f"for {case}", fix)
        if _is_image(unusual[0]):  # a preprocessing may get such arrays
            assert_close(run_stages(backbone, backbone.preprocess(unusual)), expected, subject, f"for {case}", fix)
    if subject.modality == "text":
        alone, batched = _pool_empty_text(subject, [""]), _pool_empty_text(subject, ["", "good"])
        require(
            alone is None if batched is None else alone is not None and bool(torch.isfinite(batched).all()),
            f"{subject.name} gives {alone} for an empty text alone, and {batched} for one in a batch",
            expected="finite features both times, or a ValueError both times",
            fix="return one token for an empty text, and divide by a count of at least 1",
        )
        if alone is not None and batched is not None:
            error, scale = float((alone - batched[:1]).abs().max()), float(batched.abs().max())
            require(
                error <= 1e-5 * scale,
                f"an empty text in a batch differs by {error:.2g} from an empty text alone, in {subject.name}",
                expected="the same features",
                fix=fix,
            )


def _pool_empty_text(subject: Subject, texts: list[str]) -> Tensor | None:
    """Return the pooled features of texts, one of them empty, or None if that raises ValueError."""
    backbone = subject.backbone
    try:
        tensors = to_tensors(backbone, texts)
    except ValueError:
        return None
    values, mask = collate(tensors, backbone.modality, backbone.preprocess.pad_value)
    *_, last = backbone.run(values, mask)
    return pool(last, mask, backbone.pooling)  # (n, n_features)


def _is_image(sample: Any) -> bool:
    return isinstance(sample, np.ndarray) and sample.ndim == 3 and sample.dtype == np.float32


def _unusual_images(subject: Subject) -> list[tuple[str, list[Any], list[Any]]]:
    image = np.array(subject.samples[0], dtype=np.float32)
    read_only = image.copy()
    read_only.flags.writeable = False
    fortran = np.asfortranarray(image)
    flipped = image[:, ::-1].copy()[:, ::-1]
    integers = (image * 255).astype(np.uint8)
    grey = image[:, :, :1].copy()
    return [
        ("a read-only array", [image], [read_only]),
        ("an array in Fortran order", [image], [fortran]),
        ("a view with negative strides", [image], [flipped]),
        ("an array of bytes", [Image.fromarray(integers)], [integers]),
        ("a grey image", [grey.repeat(3, 2)], [grey[:, :, 0]]),
    ]


def _unusual_texts(subject: Subject) -> tuple[Backbone, list[tuple[str, list[Any], list[Any]]]]:
    preprocess: Any = subject.backbone.preprocess
    limit = min(int(preprocess.limit), _MAX_TOKENS)
    long = "good film " * limit
    cases: list[tuple[str, list[Any], list[Any]]] = [
        ("a text of type np.str_", ["good"], [np.str_("good")]),
        ("a text that is longer than the limit", [long], [f"{long}{long}"]),
    ]
    return subject.backbone.with_preprocess(preprocess.with_max_length(limit)), cases
