"""Checks of a backbone on a GPU beside the CPU. Where there is no GPU they are not run, and say so."""

from __future__ import annotations

import gc

import torch

from sktransfer.backbones.backbone import Backbone
from sktransfer.engine.compute import resolve_device
from sktransfer.testing.backbone_subject import NotRun, Subject, assert_close, require, run_stages

__all__ = ["check_device", "check_device_memory"]

_ATOL = 1e-4  # sums are taken in another order there


def _device(subject: Subject) -> torch.device:
    if subject.device is None:
        if not torch.cuda.is_available():
            raise NotRun("no CUDA device")
        return resolve_device("cuda")
    device = resolve_device(subject.device)
    if device.type == "cpu":
        raise NotRun("device='cpu' was asked for: there is nothing to compare it with")
    return device


def check_device(subject: Subject) -> None:
    """The device gives what the CPU gives: make new tensors on `values.device`, keep the others in buffers."""
    device = _device(subject)
    # TF32 keeps ten bits of the mantissa: with it no two devices agree to 1e-4.
    convolutions, matrices = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    try:
        found = run_stages(_twin(subject.backbone), subject.tensors, device)
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = convolutions, matrices
    expected = run_stages(subject.backbone, subject.tensors, torch.device("cpu"))
    fix = "make new tensors on `values.device`, and register constants as buffers, which move with the stage"
    assert_close(found, expected, subject, f"on {device}", fix, atol=_ATOL)


def check_device_memory(subject: Subject) -> None:
    """The device's memory is given back with the backbone: keep no tensor in a global or a class attribute."""
    device = _device(subject)
    if device.type != "cuda":
        raise NotRun(f"{device} does not count what is allocated")
    _run_once(subject, device)  # libraries take workspaces for good on their first call
    before = torch.cuda.memory_allocated(device)
    _run_once(subject, device)
    left = torch.cuda.memory_allocated(device) - before
    require(
        left <= 0,
        f"{left} bytes of {device} are still taken after {subject.name} ran there and was deleted",
        expected="none",
        fix="keep no tensor in a global, a class attribute or a cache outside of the stages",
    )


def _run_once(subject: Subject, device: torch.device) -> None:
    twin = _twin(subject.backbone)
    run_stages(twin, subject.tensors, device)
    del twin
    gc.collect()


def _twin(backbone: Backbone) -> Backbone:
    """Return a backbone of the same stages whose copies on devices are its own, and go with it."""
    return Backbone(
        name=backbone.name,
        modality=backbone.modality,
        stages=list(zip(backbone.stage_names, backbone.stages)),
        preprocess=backbone.preprocess,
        pooling=backbone.pooling,
        prefix_tokens=backbone.prefix_tokens,
        definition=backbone.definition,
    )
