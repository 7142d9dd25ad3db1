"""Checks of what a plugin declares and of its loader: the spec is light and true, the weights are the declared ones."""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path

import numpy as np
import torch

from sktransfer.exceptions import WeightsError
from sktransfer.testing.backbone_process import imported_by_listing
from sktransfer.testing.backbone_subject import NotRun, Subject, require, run_stages, tensors_of
from sktransfer.weights.locate import locate

__all__ = [
    "check_input_size",
    "check_light_listing",
    "check_pretrained_differs",
    "check_stage_names",
    "check_tampered_weights",
    "check_widths",
]

_MANY_WORDS = 20_000
_TOKENS = 1024
_SEED = 314159  # one that no weights were drawn with that are then shipped


def check_light_listing(subject: Subject) -> None:
    """Listing imports nothing heavy: move imports of torch, numpy and the model's library into the loader's module."""
    heavy = imported_by_listing(subject.spec.name)
    require(
        not heavy,
        f"to list {subject.name} a fresh process imported {heavy}",
        expected="none of these before a backbone is loaded",
        fix="import them inside the loader, or in a module of its own that `loader='module:function'` names",
    )


def check_stage_names(subject: Subject) -> None:
    """The spec's stages and modality are those of the loaded backbone: write both from one table."""
    spec, backbone = subject.spec, subject.backbone
    require(
        tuple(spec.stages) == backbone.stage_names,
        f"the spec of {spec.name} names the stages {tuple(spec.stages)}, its loader gives {backbone.stage_names}",
        expected="the same names in the same order, from the input up",
        fix="correct `stages` of the spec, or the order of `stages` in the loader",
    )
    require(
        spec.modality == backbone.modality and spec.name == backbone.name,
        f"the spec says {spec.name!r}, {spec.modality!r}; the backbone says {backbone.name!r}, {backbone.modality!r}",
        expected="the same name and modality",
        fix="pass name=spec.name and modality=spec.modality to Backbone",
    )


def check_widths(subject: Subject) -> None:
    """The widths of the spec are what the stages give: count the channels of each stage's values."""
    outputs = run_stages(subject.backbone, subject.tensors[:1])
    for index, (declared, (values,)) in enumerate(zip(subject.spec.stages.values(), outputs, strict=True)):
        # One sample: a map (channels, height, width), a sequence (tokens, channels), a vector (channels,).
        measured = values.shape[0] if values.ndim in (1, 3) else values.shape[1]
        require(
            declared == measured,
            f"the spec of {subject.name} declares {declared} channels for {subject.stage(index)}, which gives values "
            f"of shape {tuple(values.shape)} for a sample",
            expected=f"{measured}",
            fix="correct the width in `stages` of the spec; maps are (channels, height, width), sequences "
            "(tokens, channels)",
        )


def check_input_size(subject: Subject) -> None:
    """The preprocessing gives what `input_size` declares, for samples of any size: resize, crop or cut to it."""
    size = subject.spec.input_size
    if size is None:
        raise NotRun("the spec declares no input_size: samples of any size are taken")
    if subject.modality == "image":
        for shape in ((64, 64, 3), (40, 90, 3), (90, 40, 3)):
            (values,) = tensors_of(subject.backbone, [np.full(shape, 0.5, np.float32)])
            require(
                tuple(values.shape) == (3, *size),
                f"an image of shape {shape} becomes a tensor of shape {tuple(values.shape)}",
                expected=f"(3, {size[0]}, {size[1]}), by input_size={size} of the spec of {subject.name}",
                fix="set `resize` and `crop` of the ImageTransform, or correct input_size",
            )
        return
    (tokens,) = tensors_of(subject.backbone, ["good film " * (_MANY_WORDS // 2)])
    require(
        len(tokens) <= size[0],
        f"a text of {_MANY_WORDS} words becomes {len(tokens)} tokens",
        expected=f"at most {size[0]}, by input_size={size} of the spec of {subject.name}",
        fix="cut texts in the preprocessing (the `limit` of Tokens), or correct input_size",
    )
    if len(tokens) <= _TOKENS:  # attention to more would take minutes
        run_stages(subject.backbone, [tokens])  # as many as are declared go through the network


def check_tampered_weights(subject: Subject) -> None:
    """Weights that were changed are refused before they are parsed: declare the sha256 of the file in WeightsSource."""
    source = subject.spec.weights
    if source is None:
        raise NotRun("the spec declares no pretrained weights")
    scheme = source.location.partition(":")[0]
    if not source.sha256 and scheme in ("hub", "file"):
        raise NotRun(f"no sha256 is declared for {source.location}: a hub keeps its own, a user's file has none")
    require(
        bool(source.sha256),
        f"the spec of {subject.name} declares no sha256 for {source.location}",
        expected="the file's hash: without it, changed weights are loaded as if they were yours",
        fix="WeightsSource(..., sha256=hashlib.sha256(file).hexdigest())",
    )
    path = subject.local_weights
    if path is None and scheme in ("package", "file"):
        locate(subject.spec, "pretrained")  # says what is wrong: the file is not there, or is not the declared one
    if path is None or not path.is_file():
        raise NotRun(f"{source.location} is not on this machine")
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, path.name)
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        copy.write_bytes(content)
        tampered = dataclasses.replace(source, location=f"file:{copy}")
        try:
            locate(dataclasses.replace(subject.spec, weights=tampered), "pretrained")
        except WeightsError:
            return
    raise AssertionError(
        f"{subject.name}: a copy of {path.name} with one bit flipped is taken; expected: a WeightsError. To fix: "
        "declare the sha256 of the whole file"
    )


def check_pretrained_differs(subject: Subject) -> None:
    """The loader fills the network from the path that it gets, and draws random weights for None: use `fill`."""
    if subject.local_weights is None:
        raise NotRun("the pretrained weights are not on this machine")
    pretrained, random = subject.load("pretrained"), subject.load("random", seed=_SEED)
    differing = [
        name
        for index, name in enumerate(pretrained.stage_names)
        if any(
            not torch.equal(one, other)
            for one, other in zip(
                pretrained.stages[index].state_dict().values(), random.stages[index].state_dict().values()
            )
        )
    ]
    filled = [
        name for name, stage in zip(pretrained.stage_names, pretrained.stages) if any(True for _ in stage.parameters())
    ]
    require(
        set(filled) <= set(differing),
        f"the stages {sorted(set(filled) - set(differing))} of {subject.name} have the same weights with "
        "weights='pretrained' and with weights='random'",
        expected="weights from the file that the loader is given as `path`, random ones where `path` is None",
        fix="fill the network from `path` (sktransfer.weights.reading.fill), and only from there",
    )
