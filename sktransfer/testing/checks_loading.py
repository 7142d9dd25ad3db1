"""Checks of a backbone's spec, its weights and its loader."""

from __future__ import annotations

import dataclasses
import pickle
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sktransfer.backbones.backbone import Backbone
from sktransfer.backbones.registry import registry
from sktransfer.engine.inputs import collate
from sktransfer.exceptions import WeightsError
from sktransfer.testing.backbone_process import imported_by_listing, in_fresh_process
from sktransfer.testing.backbone_subject import (
    NotRun,
    Subject,
    assert_close,
    require,
    run_stages,
    split_rows,
    to_tensors,
)
from sktransfer.weights.locate import locate

__all__ = [
    "check_beside_another",
    "check_input_size",
    "check_light_listing",
    "check_offline",
    "check_pickle",
    "check_pretrained_differs",
    "check_reload",
    "check_stage_names",
    "check_tampered_weights",
    "check_widths",
]

_N_WORDS = 20_000
_MAX_TOKENS = 1024  # attention to more would take minutes
_SEED = 314159  # not a seed that the shipped weights were drawn with


def check_light_listing(subject: Subject) -> None:
    """Check that listing imports nothing heavy.

    To fix: move imports of torch, numpy and the model's library into the loader's module.
    """
    heavy = imported_by_listing(subject.spec.name)
    require(
        not heavy,
        f"listing {subject.name} in a new process imports {heavy}",
        expected="none of these before a backbone is loaded",
        fix="import them inside the loader, or in a separate module that `loader='module:function'` names",
    )


def check_stage_names(subject: Subject) -> None:
    """Check that the spec, and the summary that lists it, have the stage names and the modality of the loaded backbone.

    To fix: write both from one table.
    """
    spec, backbone = subject.spec, subject.backbone
    listed = registry().listed(spec.name) or spec
    require(
        (dict(listed.stages), listed.modality, listed.input_size)
        == (dict(spec.stages), spec.modality, spec.input_size),
        f"sktransfer_backbones lists {spec.name} with other stages, modality or input_size than "
        "sktransfer_find_backbone returns",
        expected="a summary that agrees with the spec that the backbone is loaded by",
        fix="correct the summary",
    )
    require(
        tuple(spec.stages) == backbone.stage_names,
        f"the spec of {spec.name} names the stages {tuple(spec.stages)}, its loader returns {backbone.stage_names}",
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
    """Check that the spec has the width of each stage.

    To fix: count the channels of each stage's values.
    """
    outputs = run_stages(subject.backbone, subject.tensors[:1])
    for index, (declared, (values,)) in enumerate(zip(subject.spec.stages.values(), outputs, strict=True)):
        # Shape of one sample: a map (channels, height, width), a sequence (tokens, channels), a vector (channels,).
        measured = values.shape[0] if values.ndim in (1, 3) else values.shape[1]
        require(
            declared == measured,
            f"the spec of {subject.name} declares {declared} channels for {subject.stage(index)}, which returns "
            f"values of shape {tuple(values.shape)} for one sample",
            expected=f"{measured}",
            fix="correct the width in `stages` of the spec; maps are (channels, height, width), sequences "
            "(tokens, channels)",
        )


def check_input_size(subject: Subject) -> None:
    """Check that the preprocessing returns tensors of `input_size` for samples of any size.

    To fix: resize, crop or truncate to it.
    """
    size = subject.spec.input_size
    if size is None:
        raise NotRun("the spec declares no input_size, so samples of any size are allowed")
    if subject.modality == "image":
        for shape in ((64, 64, 3), (40, 90, 3), (90, 40, 3)):
            (values,) = to_tensors(subject.backbone, [np.full(shape, 0.5, np.float32)])
            require(
                tuple(values.shape) == (3, *size),
                f"an image of shape {shape} becomes a tensor of shape {tuple(values.shape)}",
                expected=f"(3, {size[0]}, {size[1]}), by input_size={size} of the spec of {subject.name}",
                fix="set `resize` and `crop` of the ImageTransform, or correct input_size",
            )
        return
    (tokens,) = to_tensors(subject.backbone, ["good film " * (_N_WORDS // 2)])
    require(
        len(tokens) <= size[0],
        f"a text of {_N_WORDS} words becomes {len(tokens)} tokens",
        expected=f"at most {size[0]}, by input_size={size} of the spec of {subject.name}",
        fix="truncate texts in the preprocessing (the `limit` of Tokens), or correct input_size",
    )
    if len(tokens) <= _MAX_TOKENS:
        run_stages(subject.backbone, [tokens])  # the declared number of tokens passes through the network


def check_tampered_weights(subject: Subject) -> None:
    """Check that modified weights are rejected before they are parsed.

    To fix: declare the sha256 of the file in WeightsSource.
    """
    source = subject.spec.weights
    if source is None:
        raise NotRun("the spec declares no pretrained weights")
    scheme = source.location.partition(":")[0]
    if not source.sha256 and scheme in ("hub", "file"):
        raise NotRun(
            f"no sha256 is declared for {source.location}: a hub has its own hashes, and a user's file has none"
        )
    require(
        bool(source.sha256),
        f"the spec of {subject.name} declares no sha256 for {source.location}",
        expected="the file's hash, because without it modified weights are loaded",
        fix="WeightsSource(..., sha256=hashlib.sha256(file).hexdigest())",
    )
    path = subject.local_weights
    if path is None and scheme in ("package", "file"):
        locate(subject.spec, "pretrained")  # raises the error: the file is missing, or its hash differs
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
        f"{subject.name}: a copy of {path.name} with one bit flipped is accepted; expected: a WeightsError. To fix: "
        "declare the sha256 of the whole file"
    )


def check_pretrained_differs(subject: Subject) -> None:
    """Check that the loader reads weights from its `path`, and draws random weights if `path` is None.

    To fix: use `sktransfer.weights.reading.fill`.
    """
    if subject.local_weights is None:
        raise NotRun("the pretrained weights are not on this machine")
    pretrained, drawn = subject.load("pretrained"), subject.load("random", seed=_SEED)
    differing = [
        name
        for index, name in enumerate(pretrained.stage_names)
        if any(
            not torch.equal(value, other)
            for value, other in zip(
                pretrained.stages[index].state_dict().values(), drawn.stages[index].state_dict().values()
            )
        )
    ]
    with_parameters = [
        name for name, stage in zip(pretrained.stage_names, pretrained.stages) if any(True for _ in stage.parameters())
    ]
    require(
        set(with_parameters) <= set(differing),
        f"the stages {sorted(set(with_parameters) - set(differing))} of {subject.name} have the same weights with "
        "weights='pretrained' and with weights='random'",
        expected="weights from the file `path` that the loader gets, and random weights if `path` is None",
        fix="fill the network from `path` (sktransfer.weights.reading.fill), and from no other file",
    )


def _run_in_fresh_process(subject: Subject) -> dict[str, Any]:
    """Return the outputs of a new process. It runs once per subject, because starting it takes seconds."""
    outputs: dict[str, Any] | None = subject.__dict__.get("_fresh")
    if outputs is None:
        given: Any = pickle.dumps(subject.given) if isinstance(subject.given, Backbone) else subject.spec.name
        weights = ["random"] if subject.is_loaded or subject.weights == "random" else ["random", "pretrained"]
        outputs = subject.__dict__["_fresh"] = in_fresh_process(given, weights, subject.samples)
    return outputs


def check_offline(subject: Subject) -> None:
    """Check that loading needs no network connection.

    To fix: build the model from code, and read weights from the `path` that the loader gets.
    """
    if subject.is_loaded:
        raise NotRun("a loaded backbone was given, not a name: it has no loader")
    outputs = _run_in_fresh_process(subject)
    require(
        not outputs["asked"] and "error" not in outputs,
        f"in a new process without a network, {subject.name} connected to {outputs['asked']}: "
        f"{outputs.get('error', '')}",
        expected="weights='random', and weights='pretrained' if the file is local, load without a network",
        fix="pass pretrained=False or the like to the model's library, because sktransfer downloads the weights before "
        "the loader runs",
    )


def check_reload(subject: Subject) -> None:
    """Check that loading in another process gives the same backbone.

    To fix: draw random weights from torch's default generator only.
    """
    outputs, backbone = _run_in_fresh_process(subject), subject.backbone
    require(
        "error" not in outputs,
        f"{subject.name} does not load and run in a new process: {outputs.get('error', '')}",
        expected="the same values as in this process",
        fix="see the traceback; the modules of a pickled backbone must be importable by name",
    )
    require(
        outputs["fingerprints"][-1] == backbone.fingerprint(),
        f"{subject.name} has the fingerprint {outputs['fingerprints'][-1]} in a new process, and "
        f"{backbone.fingerprint()} in this one",
        expected="the same weights for the same name, weights and seed, and the same `definition`",
        fix="draw random weights from torch's default generator, which is seeded before the loader runs, and keep "
        "addresses, times and sets out of `definition` and the modules' repr",
    )
    elsewhere = [[torch.from_numpy(values) for values in stage] for stage in outputs["stages"]]
    assert_close(
        elsewhere,
        run_stages(backbone, subject.tensors),
        subject,
        "in a new process",
        "let values depend on parameters and buffers, not on the process (hash(), id(), time, environment)",
    )


@torch.no_grad()
def check_beside_another(subject: Subject) -> None:
    """Check that two loaded backbones are independent.

    To fix: build a new network on each call of the loader.
    """
    if subject.is_loaded:
        raise NotRun("a loaded backbone was given, not a name: it has no loader")
    first = subject.load("random", seed=1)
    before = run_stages(first, subject.tensors)
    second = subject.load("random", seed=2)
    require(
        first.fingerprint() != second.fingerprint(),
        f"{subject.name} has the same fingerprint for two seeds",
        expected="other random weights for another seed",
        fix="draw them from torch's default generator without seeding it, in a new network on each call",
    )
    fix = "share no module, parameter, variable or cache between two calls of the loader"
    run_stages(second, subject.tensors)
    assert_close(run_stages(first, subject.tensors), before, subject, "after a second one was loaded and run", fix)
    values, mask = collate(subject.tensors, first.modality, first.preprocess.pad_value)
    interleaved = zip(first.run(values.clone(), mask), second.run(values.clone(), mask))
    after = [split_rows(outputs, subject.tensors, mask) for outputs, _ in interleaved]
    assert_close(after, before, subject, "run in turns with a second one, stage by stage", fix)


def check_pickle(subject: Subject) -> None:
    """Check that a backbone, its stages and its preprocessing survive pickle.

    To fix: keep lambdas, locks and open files out of them.
    """
    backbone = subject.backbone
    for part, value in (("it", backbone), ("its stages", backbone.stages), ("its preprocess", backbone.preprocess)):
        try:
            copy = pickle.loads(pickle.dumps(value))
        except Exception as error:
            raise AssertionError(
                f"{subject.name}: {part} cannot be pickled ({type(error).__name__}: {error}); expected: a copy, "
                "because estimators are saved and sent to workers. To fix: define functions and classes at module level"
            ) from error
        if isinstance(copy, Backbone):
            require(
                (copy.fingerprint(), copy.preprocess.key) == (backbone.fingerprint(), backbone.preprocess.key),
                f"{subject.name} has the fingerprint {copy.fingerprint()} and the preprocessing "
                f"{copy.preprocess.key} after pickling",
                expected=f"{backbone.fingerprint()} and {backbone.preprocess.key}",
                fix="keep weights in parameters and buffers, and settings of the preprocessing in attributes",
            )
