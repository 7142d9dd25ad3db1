"""Backbones, and the complete API for plugins that add some.

Importing this package loads nothing heavy: each name is loaded on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

_HOME = {
    "Backbone": "sktransfer.backbones.backbone",
    "BackboneSpec": "sktransfer.backbones.spec",
    "ImageStage": "sktransfer.backbones.stages",
    "ImageTransform": "sktransfer.backbones.preprocess",
    "JoinedBackbone": "sktransfer.towers.joined",
    "LanguageModelHead": "sktransfer.backbones.language",
    "PooledHead": "sktransfer.backbones.stages",
    "Preprocess": "sktransfer.backbones.preprocess",
    "Runtime": "sktransfer.runtimes.runtime",
    "SharedSpace": "sktransfer.backbones.stages",
    "TextEmbeddings": "sktransfer.providers.huggingface_text",
    "TextLayer": "sktransfer.providers.huggingface_text",
    "TextPreprocess": "sktransfer.backbones.preprocess",
    "Tokens": "sktransfer.backbones.tokens",
    "WeightsSource": "sktransfer.weights.source",
    "build_backbone": "sktransfer.backbones.loading",
    "build_transformers_model": "sktransfer.providers.huggingface_load",
    "check_transformers_weights": "sktransfer.providers.huggingface_load",
    "compared_names": "sktransfer.weights.reading",
    "fill": "sktransfer.weights.reading",
    "find_prefix": "sktransfer.weights.reading",
    "find_spec": "sktransfer.backbones.registry",
    "hookimpl": "sktransfer.backbones.hooks",
    "hub_file": "sktransfer.weights.hub",
    "hub_tokenizer": "sktransfer.weights.hub",
    "load_tokens": "sktransfer.backbones.tokens",
    "local_path": "sktransfer._utils",
    "read_state": "sktransfer.weights.reading",
    "read_transformers_tokens": "sktransfer.providers.huggingface_load",
    "read_transformers_transform": "sktransfer.providers.huggingface_load",
    "replace_stages": "sktransfer.backbones.backbone",
    "require_field": "sktransfer._validation",
    "without_prefix": "sktransfer.weights.reading",
    "write_onnx": "sktransfer.runtimes.export",
}
__all__ = sorted(_HOME)

if TYPE_CHECKING:
    from sktransfer._utils import local_path as local_path
    from sktransfer._validation import require_field as require_field
    from sktransfer.backbones.backbone import Backbone as Backbone
    from sktransfer.backbones.backbone import replace_stages as replace_stages
    from sktransfer.backbones.hooks import hookimpl as hookimpl
    from sktransfer.backbones.language import LanguageModelHead as LanguageModelHead
    from sktransfer.backbones.loading import build_backbone as build_backbone
    from sktransfer.backbones.preprocess import ImageTransform as ImageTransform
    from sktransfer.backbones.preprocess import Preprocess as Preprocess
    from sktransfer.backbones.preprocess import TextPreprocess as TextPreprocess
    from sktransfer.backbones.registry import find_spec as find_spec
    from sktransfer.backbones.spec import BackboneSpec as BackboneSpec
    from sktransfer.backbones.stages import ImageStage as ImageStage
    from sktransfer.backbones.stages import PooledHead as PooledHead
    from sktransfer.backbones.stages import SharedSpace as SharedSpace
    from sktransfer.backbones.tokens import Tokens as Tokens
    from sktransfer.backbones.tokens import load_tokens as load_tokens
    from sktransfer.providers.huggingface_load import build_transformers_model as build_transformers_model
    from sktransfer.providers.huggingface_load import check_transformers_weights as check_transformers_weights
    from sktransfer.providers.huggingface_load import read_transformers_tokens as read_transformers_tokens
    from sktransfer.providers.huggingface_load import read_transformers_transform as read_transformers_transform
    from sktransfer.providers.huggingface_text import TextEmbeddings as TextEmbeddings
    from sktransfer.providers.huggingface_text import TextLayer as TextLayer
    from sktransfer.runtimes.export import write_onnx as write_onnx
    from sktransfer.runtimes.runtime import Runtime as Runtime
    from sktransfer.towers.joined import JoinedBackbone as JoinedBackbone
    from sktransfer.weights.hub import hub_file as hub_file
    from sktransfer.weights.hub import hub_tokenizer as hub_tokenizer
    from sktransfer.weights.reading import compared_names as compared_names
    from sktransfer.weights.reading import fill as fill
    from sktransfer.weights.reading import find_prefix as find_prefix
    from sktransfer.weights.reading import read_state as read_state
    from sktransfer.weights.reading import without_prefix as without_prefix
    from sktransfer.weights.source import WeightsSource as WeightsSource


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'sktransfer.backbones' has no attribute {name!r}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__, *(name for name in globals() if name.startswith("__"))]
