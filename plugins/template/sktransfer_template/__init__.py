"""What this plugin offers. Imported whenever backbones are listed, so it imports nothing heavy."""

from __future__ import annotations

from sktransfer.backbones import BackboneSpec, hookimpl

STAGES = {"stem": 16, "block1": 32, "block2": 64}  # name -> channels that it gives, from the input up


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
            # Pretrained weights, once there are any:
            # weights=WeightsSource(location="https://.../small.safetensors", sha256="..."),
            # licence="Apache-2.0",
        )
    ]
