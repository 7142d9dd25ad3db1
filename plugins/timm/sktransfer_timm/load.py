"""Loader: build a network of timm, divide it into stages, verify them and copy the weights."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import timm
from timm.data import ImageNetInfo, infer_imagenet_subset, resolve_data_config

from sktransfer.backbones import Backbone, BackboneSpec, ImageTransform
from sktransfer.exceptions import PluginError
from sktransfer_timm.cut import cut
from sktransfer_timm.verify import verify
from sktransfer_timm.weights import fill

__all__ = ["categories", "load", "preprocess"]


def load(spec: BackboneSpec, path: Path | None) -> Backbone:
    """Return a backbone of timm.

    Parameters
    ----------
    spec : BackboneSpec
        Spec of the network. Its stages must match those of the installed timm.
    path : Path or None
        File of weights, or a folder with one, with the parameter names of timm or of the authors. None for random
        weights.

    Returns
    -------
    backbone : Backbone
        Without a head if the file has none, or one with another number of classes.

    Raises
    ------
    PluginError
        If the network cannot be divided into stages, or differs from the spec.
    WeightsError
        If the file cannot be read, or does not fit the network.
    """
    name = spec.name.partition("/")[2]
    network = timm.create_model(name).eval()
    parts = cut(network)
    stages = dict(zip((stage for stage, _ in parts.stages), parts.widths, strict=True))
    if list(stages.items()) != list(spec.stages.items()):
        raise PluginError(
            f"{spec.name}: its stages are listed as {dict(spec.stages)}, timm {timm.__version__} has {stages}. Install "
            "matching versions of timm and of sktransfer-timm"
        )
    verify(network, parts)
    complete = fill(network, name, path)
    config = network.pretrained_cfg
    return Backbone(
        name=spec.name,
        modality="image",
        stages=parts.stages,
        preprocess=preprocess(config),
        pooling=parts.pooling,
        head=parts.head if complete else None,
        categories=categories(network) if complete and parts.head is not None else (),
        prefix_tokens=parts.prefix_tokens,
        definition=spec.name,
    )


def preprocess(config: Mapping[str, Any]) -> ImageTransform:
    """Return the preprocessing of `timm.data.create_transform` for evaluation.

    Parameters
    ----------
    config : mapping
        Configuration `network.pretrained_cfg`.

    Raises
    ------
    PluginError
        If `ImageTransform` does not support it.
    """
    data = resolve_data_config(dict(config))
    size = (int(data["input_size"][1]), int(data["input_size"][2]))
    larger = (math.floor(size[0] / data["crop_pct"]), math.floor(size[1] / data["crop_pct"]))
    mode = data.get("crop_mode", "center")
    # "border" resizes by the longer side and pads, which no crop can express.
    if mode not in ("center", "squash") or (mode == "center" and size[0] != size[1]):
        raise PluginError(
            f"timm's {config.get('architecture')} prepares images of {size} pixels with crop_mode={mode!r}, which is "
            "not supported; supported are 'squash', and 'center' for square images"
        )
    return ImageTransform(
        resize=larger[0] if mode == "center" else larger,
        crop=size,
        mean=tuple(data["mean"]),
        std=tuple(data["std"]),
        interpolation=data["interpolation"],
    )


def categories(network: Any) -> tuple[str, ...]:
    """Return the names of the logits, or none if timm does not know them.

    Parameters
    ----------
    network : nn.Module
        Network of timm.
    """
    names = network.pretrained_cfg.get("label_names")
    subset = None if names else infer_imagenet_subset(network)
    if subset is not None:
        information = ImageNetInfo(subset)
        names = [information.index_to_description(index) for index in range(information.num_classes())]
    return tuple(names) if names and len(names) == network.num_classes else ()
