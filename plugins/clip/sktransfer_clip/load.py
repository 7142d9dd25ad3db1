"""Build CLIP with transformers, and take one tower of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from torch import nn

from sktransfer.backbones import Backbone, BackboneSpec, SharedSpace, Tokens
from sktransfer.exceptions import WeightsError
from sktransfer.providers.huggingface_load import build_model, check_whole, tokens_of, transform_of
from sktransfer_clip.plugin import TEXT
from sktransfer_clip.towers import image_stages, text_stages

__all__ = ["load"]

_OLD_END = 2  # configurations of before 2023 name this as the closing token, and mean the one with the highest id
# Settings that change nothing of what the stages compute.
_IDLE = ("_name_or_path", "architectures", "dtype", "torch_dtype", "transformers_version")


def load(spec: BackboneSpec, path: Path | None) -> Backbone:
    """Build one tower of a CLIP model as a backbone.

    Parameters
    ----------
    spec : BackboneSpec
        As `sktransfer_find_backbone` makes it.
    path : Path or None
        The model's folder, or a file of weights; None for random ones, the same for both towers of a seed.

    Returns
    -------
    backbone : Backbone

    Raises
    ------
    WeightsError
        If weights, tokenizer or preprocessing cannot be read, or do not fit.
    """
    model, missing = build_model(spec, path)
    is_text = spec.modality == "text"
    stages = text_stages(model) if is_text else image_stages(model)
    check_whole(model, missing, nn.ModuleList(stages), spec.name)
    if "logit_scale" in missing:
        raise WeightsError(f"{spec.name}: its weights lack logit_scale; is it a whole CLIPModel that was saved?")
    settings = {name: value for name, value in spec.options["config"].items() if name not in _IDLE}
    return Backbone(
        name=spec.name,
        modality=spec.modality,
        stages=list(zip(spec.stages, stages, strict=True)),
        preprocess=_closed(tokens_of(spec, path), model.config.text_config, spec) if is_text else transform_of(spec),
        pooling="mean" if is_text else "average",  # of the stages below the last one, which gives vectors
        prefix_tokens=0 if is_text else 1,
        definition=json.dumps(settings, sort_keys=True),
        shared_space=SharedSpace(
            texts=spec.name if is_text else spec.name + TEXT, scale=float(model.logit_scale.detach().exp())
        ),
    )


def _closed(tokens: Tokens, config: Any, spec: BackboneSpec) -> Tokens:
    """Return the tokenisation where it ends each text with the token that stands for it."""
    end = config.vocab_size - 1 if config.eos_token_id == _OLD_END else config.eos_token_id
    (ids,) = tokens(["a text"])
    if int(ids[-1]) != end:
        raise WeightsError(
            f"{spec.name}: its tokenizer ends texts with token {int(ids[-1])}, its network looks at token {end}; save "
            "model and processor together with `save_pretrained(folder)`"
        )
    return tokens
