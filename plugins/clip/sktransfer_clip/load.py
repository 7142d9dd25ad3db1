"""Loader: build CLIP with transformers, and return one of its towers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from torch import nn

from sktransfer.backbones import (
    Backbone,
    BackboneSpec,
    SharedSpace,
    Tokens,
    build_transformers_model,
    check_transformers_weights,
    read_transformers_tokens,
    read_transformers_transform,
)
from sktransfer.exceptions import WeightsError
from sktransfer_clip.plugin import TEXT
from sktransfer_clip.towers import image_stages, text_stages

__all__ = ["load"]

_OLD_END = 2  # closing token in configurations from before 2023, which stands for the highest id
# Settings without effect on the computation of the stages.
_IDLE = ("_name_or_path", "architectures", "dtype", "torch_dtype", "transformers_version")


def load(spec: BackboneSpec, path: Path | None) -> Backbone:
    """Build one tower of a CLIP model as a backbone.

    Parameters
    ----------
    spec : BackboneSpec
        Spec of `sktransfer_find_backbone`.
    path : Path or None
        Folder of the model, or a file of weights. None for random weights, which match for both towers of a seed.

    Returns
    -------
    backbone : Backbone

    Raises
    ------
    WeightsError
        If weights, tokenizer or preprocessing cannot be read, or do not fit each other.
    """
    model, missing = build_transformers_model(spec, path)
    is_text = spec.modality == "text"
    stages = text_stages(model) if is_text else image_stages(model)
    check_transformers_weights(model, missing, nn.ModuleList(stages), spec.name)
    if "logit_scale" in missing:
        raise WeightsError(
            f"{spec.name}: its weights lack logit_scale; save the whole CLIPModel, not one of its towers"
        )
    config = model.config.text_config
    settings = {name: value for name, value in spec.options["config"].items() if name not in _IDLE}
    return Backbone(
        name=spec.name,
        modality=spec.modality,
        stages=list(zip(spec.stages, stages, strict=True)),
        preprocess=_read_tokens(spec, path, config) if is_text else read_transformers_transform(spec),
        pooling="mean" if is_text else "average",  # for the stages below the last one, which gives vectors
        prefix_tokens=0 if is_text else 1,
        definition=json.dumps(settings, sort_keys=True),
        shared_space=SharedSpace(
            texts=spec.name if is_text else spec.name + TEXT, scale=float(model.logit_scale.detach().exp())
        ),
    )


def _read_tokens(spec: BackboneSpec, path: Path | None, config: Any) -> Tokens:
    """Return the tokenisation, and check that it ends each text with the token that is projected."""
    tokens = read_transformers_tokens(spec, path)
    end = config.vocab_size - 1 if config.eos_token_id == _OLD_END else config.eos_token_id
    (ids,) = tokens(["a text"])
    if int(ids[-1]) != end:
        raise WeightsError(
            f"{spec.name}: its tokenizer ends texts with token {int(ids[-1])}, its network projects token {end}; save "
            "model and processor together with `save_pretrained(folder)`"
        )
    return tokens
