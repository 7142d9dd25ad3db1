"""OpenVINO as a runtime of sktransfer. Importing this module imports neither OpenVINO nor torch."""

from __future__ import annotations

from sktransfer.backbones import Runtime, hookimpl

__all__ = ["sktransfer_runtimes"]


@hookimpl
def sktransfer_runtimes() -> list[Runtime]:
    """Return the runtime `openvino`."""
    from sktransfer_openvino.runtime import OpenVINO

    return [OpenVINO()]
