"""What a backbone is, and where it comes from.

Below are the names that authors of plugins build on, loaded on first use: importing this package pulls in nothing
heavy.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

_HOME = {
    "Backbone": "sktransfer.backbones.backbone",
    "BackboneSpec": "sktransfer.backbones.spec",
    "ImageStage": "sktransfer.backbones.stages",
    "ImageTransform": "sktransfer.backbones.preprocess",
    "PooledHead": "sktransfer.backbones.stages",
    "Preprocess": "sktransfer.backbones.preprocess",
    "SharedSpace": "sktransfer.backbones.stages",
    "TextPreprocess": "sktransfer.backbones.preprocess",
    "Tokens": "sktransfer.backbones.tokens",
    "WeightsSource": "sktransfer.backbones.spec",
    "fill": "sktransfer.weights.reading",
    "hookimpl": "sktransfer.backbones.hooks",
    "read_state": "sktransfer.weights.reading",
    "replace_stages": "sktransfer.backbones.backbone",
}
__all__ = sorted(_HOME)

if TYPE_CHECKING:
    from sktransfer.backbones.backbone import Backbone as Backbone
    from sktransfer.backbones.backbone import replace_stages as replace_stages
    from sktransfer.backbones.hooks import hookimpl as hookimpl
    from sktransfer.backbones.preprocess import ImageTransform as ImageTransform
    from sktransfer.backbones.preprocess import Preprocess as Preprocess
    from sktransfer.backbones.preprocess import TextPreprocess as TextPreprocess
    from sktransfer.backbones.spec import BackboneSpec as BackboneSpec
    from sktransfer.backbones.spec import WeightsSource as WeightsSource
    from sktransfer.backbones.stages import ImageStage as ImageStage
    from sktransfer.backbones.stages import PooledHead as PooledHead
    from sktransfer.backbones.stages import SharedSpace as SharedSpace
    from sktransfer.backbones.tokens import Tokens as Tokens
    from sktransfer.weights.reading import fill as fill
    from sktransfer.weights.reading import read_state as read_state


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'sktransfer.backbones' has no attribute {name!r}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__, *(name for name in globals() if name.startswith("__"))]
