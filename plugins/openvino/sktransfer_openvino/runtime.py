"""Stages as models of OpenVINO, on one core per call."""

from __future__ import annotations

import io
import logging
import sys
import threading
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sktransfer.backbones import Runtime

if TYPE_CHECKING:
    from torch.export import ExportedProgram

__all__ = ["OpenVINO"]

_FILE = "stage.xml"
_HINTS = {"float32": "f32", "bfloat16": "bf16", "int8": "f32"}
_TELEMETRY = "openvino_telemetry"
_lock = threading.RLock()
_cores: list[Any] = []


class OpenVINO(Runtime):
    """Runtime of OpenVINO, with weights and activations in int8 by NNCF for `precision="int8"`."""

    name = "openvino"
    precisions = ("float32", "bfloat16", "int8")
    is_automatic = True

    def version(self) -> str:
        """Return the version of OpenVINO."""
        version: str = _openvino().get_version()
        return version

    def convert(self, program: ExportedProgram) -> Any:
        """Return a stage as a model of OpenVINO."""
        with _quiet():
            return _openvino().convert_model(program)

    def quantize(self, model: Any, batches: Sequence[Mapping[str, np.ndarray]]) -> Any:
        """Return the model with weights and activations in int8.

        The stage that reads token ids is not changed, because a table look-up does not multiply.
        """
        if np.issubdtype(batches[0]["values"].dtype, np.integer):
            return model
        with _quiet(), redirect_stdout(io.StringIO()):  # bars of progress
            import nncf

            nncf.set_log_level(logging.ERROR)
            is_sequence = batches[0]["values"].ndim == 3
            return nncf.quantize(
                model,
                nncf.Dataset([[batch[name] for name in _names(model)] for batch in batches]),
                subset_size=len(batches),
                model_type=nncf.ModelType.TRANSFORMER if is_sequence else None,
            )

    def write(self, model: Any, folder: Path) -> None:
        """Write the model in OpenVINO's own format, in float32 where it is not quantized."""
        _openvino().save_model(model, folder / _FILE, compress_to_fp16=False)

    def read(self, folder: Path) -> Any:
        """Return a model that was written."""
        return _core().read_model(folder / _FILE)

    def compile(self, model: Any, precision: str, n_threads: int) -> Callable[[Mapping[str, np.ndarray]], np.ndarray]:
        """Return a function that runs the model, in as many streams of one thread as there are callers."""
        settings = {
            "INFERENCE_PRECISION_HINT": _HINTS[precision],  # else bfloat16 where the processor has it
            "PERFORMANCE_HINT": "THROUGHPUT",
            "NUM_STREAMS": n_threads,
            "INFERENCE_NUM_THREADS": n_threads,
            "ENABLE_CPU_PINNING": False,  # the cores are shared with torch and other processes
        }
        return _Requests(_core().compile_model(model, "CPU", settings), _names(model))


class _Requests:
    """A compiled model and its requests, of which each call takes one that is free."""

    def __init__(self, compiled: Any, names: Sequence[str]) -> None:
        self._compiled, self._names = compiled, names
        self._free: deque[Any] = deque()  # its methods are atomic

    def __call__(self, arrays: Mapping[str, np.ndarray]) -> np.ndarray:
        try:
            request = self._free.pop()
        except IndexError:
            request = self._compiled.create_infer_request()
        found = request.infer([arrays[name] for name in self._names], share_inputs=True)
        output: np.ndarray = found[0]  # a copy, which the next call leaves alone
        self._free.append(request)
        return output


def _names(model: Any) -> list[str]:
    """Return the names of the inputs in their order. Inputs that a stage does not use are missing."""
    return [next(name for name in ("values", "mask") if name in port.get_names()) for port in model.inputs]


def _core() -> Any:
    with _lock:
        if not _cores:
            _cores.append(_openvino().Core())
        return _cores[0]


def _openvino() -> Any:
    if "openvino" in sys.modules:
        return sys.modules["openvino"]
    with _lock, _quiet():
        import openvino

        return openvino


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence warnings of the libraries about themselves, and keep them from reporting their use over the network."""
    blocked = _TELEMETRY not in sys.modules
    if blocked:
        sys.modules[_TELEMETRY] = None  # type: ignore[assignment]  # OpenVINO then does without
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        if blocked:
            sys.modules.pop(_TELEMETRY, None)
