"""Backbones of this plugin. Imported whenever backbones are listed, so it imports nothing heavy."""

from __future__ import annotations

from sktransfer.backbones import BackboneSpec, hookimpl

STAGES = {"stem": 16, "block1": 32, "block2": 64}  # name -> number of output channels, in order from the input


@hookimpl
def sktransfer_backbones() -> list[BackboneSpec]:
    """Return the specs of all backbones."""
    return [
        BackboneSpec(
            name="template/small",
            loader="sktransfer_template.networks:load",
            modality="image",
            stages=STAGES,
            input_size=(32, 32),
            # Once there are pretrained weights:
            # weights=WeightsSource(location="https://.../small.safetensors", sha256="..."),
            # licence="Apache-2.0",
        )
    ]
