"""Network and loader of the backbone. Imported when a backbone is loaded."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from sktransfer.backbones import Backbone, BackboneSpec, ImageStage, ImageTransform, PooledHead, fill
from sktransfer_template import STAGES

CATEGORIES = ("cat", "dog")


def build() -> tuple[dict[str, nn.Module], nn.Module]:
    """Return the stages by name and the head, with weights drawn by torch's own generator."""
    widths = [3, *STAGES.values()]
    stages = {name: block(widths[i], widths[i + 1]) for i, name in enumerate(STAGES)}
    return stages, nn.Linear(widths[-1], len(CATEGORIES))


def block(in_channels: int, out_channels: int) -> nn.Module:
    """Return a stage from maps (n, in_channels, h, w) to (n, out_channels, h / 2, w / 2)."""
    convolution = nn.Conv2d(in_channels, out_channels, 3, stride=2, padding=1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(out_channels), nn.ReLU())


def load(spec: BackboneSpec, path: Path | None) -> Backbone:
    """Return the backbone with the weights in the file `path`, or with random weights if it is None."""
    stages, head = build()
    network = nn.ModuleDict({"stages": nn.ModuleDict(stages), "head": head})  # names as in the file
    complete = fill(network, path, head="head.")  # False if the file has no head of this size
    return Backbone(
        name=spec.name,
        modality=spec.modality,
        stages=[(name, ImageStage(stage)) for name, stage in stages.items()],
        preprocess=ImageTransform(resize=(32, 32), mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25)),
        pooling="average",  # selected by pooling="auto": the network's own pooling of its last stage
        head=PooledHead(head, "average") if complete else None,
        categories=CATEGORIES if complete else (),
        definition=spec.name,
    )
