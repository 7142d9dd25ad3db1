"""Frozen stages of a backbone compiled by a runtime, checked against torch, and kept with the backbone."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sktransfer.backbones.backbone import Backbone
from sktransfer.config import get_config
from sktransfer.exceptions import InvalidParameterError, RuntimeFallbackWarning, warn
from sktransfer.runtimes.examples import example_batch
from sktransfer.runtimes.export import export_stages, first_line
from sktransfer.runtimes.resolve import models_key, runtime_key
from sktransfer.runtimes.runtime import Runtime

__all__ = ["CompiledStages", "compile_stages"]

_TOLERANCE = 1e-3  # of the largest value; rounding stays below 1e-5
_N_CHECKED = 2
_N_CALIBRATION = 64  # samples that show the range of the values of int8
_CALIBRATION_BATCH = 8
_FORMAT = 1  # of the files of compiled stages

_lock = threading.RLock()

Run = Callable[[Mapping[str, np.ndarray]], np.ndarray]


class CompiledStages(nn.Module):
    """Consecutive stages that a runtime computes as one model.

    Parameters
    ----------
    run : callable
        Function of `Runtime.compile`.
    precision : str
        Precision that the runtime computes in.
    stages : iterable of nn.Module
        The stages in torch, for images of another size.
    size : tuple of int or None
        Shape of a sample that the model takes. None for any.
    """

    def __init__(
        self,
        run: Run,
        precision: str,
        stages: Iterable[nn.Module],
        size: tuple[int, ...] | None,
    ) -> None:
        super().__init__()
        self._run, self._precision, self._size = run, precision, size
        self._stages = tuple(stages)  # not a part of this module
        self._dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32

    def forward(self, values: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the output of the last of the stages."""
        if self._size is None or tuple(values.shape[1:]) == self._size:
            return torch.from_numpy(self._run(_arrays(values, mask))).to(self._dtype)
        if self._precision == "int8":
            raise InvalidParameterError(
                f"precision='int8': the network was converted for values of shape {self._size}, not "
                f"{tuple(values.shape[1:])}; choose precision='float32'"
            )
        return _run(self._stages, values.float(), mask).to(self._dtype)


class _Skipped(nn.Module):
    """Place of a stage whose output is not read. The model of a later place computes it."""

    def forward(self, values: Tensor, mask: Tensor | None = None) -> Tensor:
        return values


class _Compiled(nn.ModuleList):
    """Models of a backbone that are known so far, kept in its `copies`."""

    def __init__(self) -> None:
        super().__init__()
        self.reason: str | None = None  # why torch computes the stages instead
        self.models: dict[tuple[int, int], CompiledStages] = {}


def compile_stages(
    backbone: Backbone, runtime: Runtime, precision: str, borders: Sequence[int], n_threads: int
) -> list[nn.Module]:
    """Return the first stages of a backbone as a runtime computes them, or none if torch has to.

    The stages between two borders are one model, because a runtime fuses layers across stages. In int8 each stage is a
    model, so that its rounding does not depend on the borders. Models are kept with the backbone, and with the setting
    `runtime_cache` also in a folder.

    Parameters
    ----------
    backbone : Backbone
        Backbone that is not joined. Its own stages are not changed.
    runtime : Runtime
        Runtime.
    precision : str
        Precision that the runtime computes in.
    borders : sequence of int
        Numbers of stages in ascending order: where the pass begins, then those after which the output is read.
    n_threads : int
        Number of threads that run the stages at once.

    Returns
    -------
    stages : list of nn.Module
        One per stage up to the last border, or none if the runtime cannot compute them. A warning names the reason.

    Raises
    ------
    InvalidParameterError
        If the precision is int8, which torch cannot compute, and the runtime cannot compute the stages.
    """
    if precision == "int8":
        borders = range(borders[0], borders[-1] + 1)
    with _lock:
        backbone.forget_if_changed()
        known = backbone.copies.setdefault(models_key(backbone, runtime.name, precision, n_threads), _Compiled())
        assert isinstance(known, _Compiled)
        parts = list(pairwise(borders))
        missing = [part for part in parts if part not in known.models]
        if known.reason is None and missing:
            compiler = _Compiler(backbone, runtime, precision, n_threads)
            try:
                _extend(known.models, compiler, missing)
            except Exception as error:  # torch and the libraries raise errors of many types
                _fall_back(known, compiler, error)
        if known.reason is not None:
            return []
        ends = {stop: known.models[start, stop] for start, stop in parts}
        return [ends.get(stop) or _Skipped() for stop in range(1, borders[-1] + 1)]


def _fall_back(known: _Compiled, compiler: _Compiler, error: Exception) -> None:
    why = f"{compiler.runtime.name} cannot compute {compiler.backbone.name} ({first_line(error)})"
    if compiler.precision == "int8":
        raise InvalidParameterError(f"precision='int8': {why}; choose precision='float32'") from error
    known.reason = why
    warn(f"{why}: torch computes it instead", RuntimeFallbackWarning)


@torch.no_grad()
def _extend(
    models: dict[tuple[int, int], CompiledStages], compiler: _Compiler, missing: Sequence[tuple[int, int]]
) -> None:
    """Add missing models, each checked on the values that torch computes for the stage before it."""
    values, mask = example_batch(compiler.backbone, _N_CHECKED)
    stages, done = compiler.backbone.stages, 0
    for start, stop in missing:
        values, done = _run(stages[done:start], values, mask), start
        expected = _run(stages[start:stop], values, mask)
        compiled = compiler.compile(start, stop, values, mask)
        _check(compiler, stop, compiled(values, mask), expected, mask)
        models[start, stop] = compiled


def _run(stages: Iterable[nn.Module], values: Tensor, mask: Tensor | None) -> Tensor:
    values = values.clone()  # a stage may write into its input
    for stage in stages:
        values = stage(values, mask)
    return values


def _check(compiler: _Compiler, stop: int, found: Tensor, expected: Tensor, mask: Tensor | None) -> None:
    name = compiler.backbone.stage_names[stop - 1]
    if found.shape != expected.shape:
        raise ValueError(f"stage {name!r} gives shape {tuple(found.shape)}, in torch {tuple(expected.shape)}")
    if mask is not None and expected.shape[: mask.ndim] == mask.shape:
        found, expected = found[mask], expected[mask]  # (tokens, channels)
    difference, largest = float((found.float() - expected).abs().max()), float(expected.abs().max())
    is_close = compiler.precision != "float32" or difference <= _TOLERANCE * max(largest, 1e-9)
    if not np.isfinite(difference) or not is_close:
        raise ValueError(f"stage {name!r} gives values that differ by {difference:.2g} of at most {largest:.2g}")


class _Compiler:
    """Compiles consecutive stages of a backbone."""

    def __init__(self, backbone: Backbone, runtime: Runtime, precision: str, n_threads: int) -> None:
        self.backbone, self.runtime, self.precision, self.n_threads = backbone, runtime, precision, n_threads
        self._calibration: tuple[int, list[tuple[Tensor, Tensor | None]]] | None = None

    def compile(self, start: int, stop: int, values: Tensor, mask: Tensor | None) -> CompiledStages:
        """Return `stages[start:stop]` compiled, for an input like `values`."""
        run = self._compile(start, stop, values, mask)
        size = None if mask is not None or self._is_free(values) else tuple(values.shape[1:])
        return CompiledStages(run, self.precision, self.backbone.stages[start:stop], size)

    def _is_free(self, values: Tensor) -> bool:
        """Return whether images of any size reach a stage, because the preprocessing does not set it."""
        preprocess = self.backbone.preprocess
        is_set = getattr(preprocess, "crop", None) is not None or isinstance(getattr(preprocess, "resize", None), tuple)
        return values.ndim == 4 and not is_set

    def _compile(self, start: int, stop: int, values: Tensor, mask: Tensor | None) -> Run:
        root = get_config()["runtime_cache"]
        folder = Path(root, self._digest(start, stop, values, mask)) if root else None
        if folder is not None:
            with suppress(Exception):  # the model is missing, damaged or of another version of the library
                return self.runtime.compile(self.runtime.read(folder), self.precision, self.n_threads)
        model = self._convert(start, stop, values, mask)
        if folder is not None:
            with suppress(OSError):  # a full or read-only disk must not end the pass
                self._write(model, folder)
        return self.runtime.compile(model, self.precision, self.n_threads)

    def _digest(self, start: int, stop: int, values: Tensor, mask: Tensor | None) -> str:
        shape = tuple(values.shape[1:]) if mask is None else values.ndim
        parts = [self.backbone.fingerprint(start), self.backbone.fingerprint(stop), shape, torch.__version__]
        parts += [runtime_key(self.runtime.name, self.precision), _FORMAT]
        return hashlib.blake2b(repr(parts).encode(), digest_size=16).hexdigest()

    def _write(self, model: Any, folder: Path) -> None:
        folder.parent.mkdir(parents=True, exist_ok=True)
        written = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".new-"))
        try:
            self.runtime.write(model, written)
            shutil.rmtree(folder, ignore_errors=True)  # one that cannot be read
            os.replace(written, folder)  # noqa: PTH105, another process sees all files or none
        finally:
            shutil.rmtree(written, ignore_errors=True)

    def _convert(self, start: int, stop: int, values: Tensor, mask: Tensor | None) -> Any:
        is_free = mask is None and self._is_free(values)
        stages = self.backbone.stages[start:stop]
        model = self.runtime.convert(export_stages(stages, values, mask, free_size=is_free))
        if self.precision != "int8":
            return model
        return self.runtime.quantize(model, [_arrays(*batch) for batch in self._calibrate(start)])

    def _calibrate(self, index: int) -> list[tuple[Tensor, Tensor | None]]:
        """Return inputs of a stage for the samples that show the range of its values."""
        if self._calibration is None:
            values, mask = example_batch(self.backbone, _N_CALIBRATION)
            slices = [slice(row, row + _CALIBRATION_BATCH) for row in range(0, len(values), _CALIBRATION_BATCH)]
            parts = [(values[rows], None if mask is None else mask[rows]) for rows in slices]
            self._calibration = 0, [_without_padding(*part) for part in parts]
        start, batches = self._calibration
        for stage in self.backbone.stages[start:index]:
            batches = [(stage(values, mask), mask) for values, mask in batches]
        self._calibration = index, batches
        return batches


def _without_padding(values: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Return a part of a batch without the tokens that all of its samples lack."""
    if mask is None:
        return values, None
    n = int(mask.sum(1).max())
    return values[:, :n], mask[:, :n]  # (n, tokens)


def _arrays(values: Tensor, mask: Tensor | None) -> dict[str, np.ndarray]:
    if values.is_floating_point():
        values = values.float()
    arrays = {"values": values.contiguous().numpy()}
    return arrays if mask is None else {**arrays, "mask": mask.contiguous().numpy()}
