"""Stages as sessions of ONNX Runtime, on one core per call."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sktransfer.backbones import Runtime, write_onnx

if TYPE_CHECKING:
    from torch.export import ExportedProgram

__all__ = ["OnnxRuntime"]

_FILE = "stage.onnx"
_OPSET = 20
_ERRORS_ONLY = 3


class OnnxRuntime(Runtime):
    """Runtime of ONNX Runtime."""

    name = "onnxruntime"

    def version(self) -> str:
        """Return the version of ONNX Runtime."""
        import onnxruntime

        version: str = onnxruntime.__version__
        return version

    def convert(self, program: ExportedProgram) -> bytes:
        """Return a stage as the bytes of an ONNX file."""
        names = list(program.graph_signature.user_inputs)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, _FILE)
            write_onnx(program, (), path, input_names=names, output_name="output", opset=_OPSET)
            return path.read_bytes()

    def write(self, model: bytes, folder: Path) -> None:
        """Write the ONNX file."""
        (folder / _FILE).write_bytes(model)

    def read(self, folder: Path) -> bytes:
        """Return the bytes of the ONNX file."""
        return (folder / _FILE).read_bytes()

    def compile(self, model: bytes, precision: str, n_threads: int) -> Callable[[Mapping[str, np.ndarray]], np.ndarray]:
        """Return a function that runs the model in the thread of the caller."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = _ERRORS_ONLY
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        names = [one.name for one in session.get_inputs()]  # without those that the stage does not use

        def run(arrays: Mapping[str, np.ndarray]) -> np.ndarray:
            output: Any = session.run(None, {name: arrays[name] for name in names})[0]
            return np.asarray(output)

        return run
