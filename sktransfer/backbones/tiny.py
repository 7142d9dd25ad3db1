"""The backbones that are shipped in the wheel: they work on a machine that has never seen a network."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sktransfer.backbones.hooks import hookimpl
from sktransfer.backbones.spec import BackboneSpec, WeightsSource

if TYPE_CHECKING:
    from sktransfer.backbones.backbone import Backbone

_CNN_STAGES = {"stem": 32, "block1": 32, "block2": 64, "block3": 64, "block4": 128, "block5": 128, "block6": 192}
_CNN_WEIGHTS = WeightsSource(
    location="package:sktransfer.backbones/shipped/tiny_cnn.safetensors",
    sha256="1d894b263e6d8a19b962ec30a4c813f60aef133427f17b58e64d2c03cc7dddd6",
)


@hookimpl
def sktransfer_backbones() -> list[BackboneSpec]:
    """Return the specs of `tiny/*`."""
    return [
        BackboneSpec(
            name="tiny/cnn",
            loader="sktransfer.backbones.tiny:load_cnn",
            modality="image",
            stages=_CNN_STAGES,
            input_size=(32, 32),
            weights=_CNN_WEIGHTS,
            licence="non-commercial research (trained on ImageNet images)",
        )
    ]


def load_cnn(spec: BackboneSpec, path: Path | None) -> Backbone:
    """Build `tiny/cnn` (see `tiny_cnn.py`; its card lies beside its weights)."""
    from torch import nn

    from sktransfer.backbones.backbone import Backbone, ImageStage, PooledHead
    from sktransfer.backbones.preprocess import ImageTransform
    from sktransfer.backbones.tiny_cnn import MEAN, STD, build_head, build_stages
    from sktransfer.backbones.weights import fill

    stages, head = build_stages(), build_head()
    whole = fill(nn.ModuleDict({"stages": nn.ModuleDict(dict(stages)), "head": head}), path, head="head.")
    return Backbone(
        name=spec.name,
        modality="image",
        stages=[(name, ImageStage(stage)) for name, stage in stages],
        preprocess=ImageTransform(resize=(32, 32), mean=MEAN, std=STD),
        pooling="average",
        head=PooledHead(head, "average") if whole else None,
        definition=spec.name,
    )
