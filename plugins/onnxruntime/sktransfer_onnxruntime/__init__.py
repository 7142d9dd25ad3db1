"""ONNX Runtime as a runtime of sktransfer. Importing this module imports neither ONNX Runtime nor torch."""

from __future__ import annotations

from sktransfer.backbones import Runtime, hookimpl

__all__ = ["sktransfer_runtimes"]


@hookimpl
def sktransfer_runtimes() -> list[Runtime]:
    """Return the runtime `onnxruntime`."""
    from sktransfer_onnxruntime.runtime import OnnxRuntime

    return [OnnxRuntime()]
