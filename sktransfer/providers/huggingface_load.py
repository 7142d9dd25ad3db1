"""Build the models behind `hf/...` with transformers, and take them apart into stages."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sktransfer.backbones.backbone import Backbone
from sktransfer.backbones.preprocess import ImageTransform
from sktransfer.backbones.spec import BackboneSpec
from sktransfer.backbones.tokens import Tokens, load_tokens
from sktransfer.exceptions import WeightsError
from sktransfer.providers.huggingface import FAMILIES
from sktransfer.providers.huggingface_heads import TEXT_HEADS
from sktransfer.providers.huggingface_image import IMAGE_HEADS, IMAGE_STAGES, prefix_tokens, read_transform
from sktransfer.providers.huggingface_text import TEXT_STAGES
from sktransfer.weights.hub import hub_tokenizer
from sktransfer.weights.reading import read_state

__all__ = ["build_model", "check_whole", "load", "tokens_of", "transform_of"]

# These compute attention by themselves; the others through torch's fused kernel.
_EAGER = ("deberta-v2", "mpnet", "openai-gpt")
_CAUSAL = ("gpt2", "openai-gpt")
# Settings that change nothing of what the stages compute.
_IDLE = ("_name_or_path", "architectures", "dtype", "id2label", "label2id", "torch_dtype", "transformers_version")
# What may name code to fetch, that came with the model or lies elsewhere on a hub: never run.
_NAMES_CODE = (
    "auto_map",
    "attn_implementation",
    "_attn_implementation",
    "_attn_implementation_internal",
    "experts_implementation",
    "_experts_implementation",
    "_experts_implementation_internal",
    "quantization_config",
)
_quiet_lock = threading.Lock()


def load(spec: BackboneSpec, path: Path | None) -> Backbone:
    """Build a model of transformers as a backbone.

    Parameters
    ----------
    spec : BackboneSpec
        As `sktransfer_find_backbone` makes it.
    path : Path or None
        The model's folder, or a file of weights; None for random ones.

    Returns
    -------
    backbone : Backbone

    Raises
    ------
    WeightsError
        If the weights, the configuration or the preprocessing cannot be read, or do not fit.
    """
    kind = spec.options["config"]["model_type"]
    model, missing = build_model(spec, path)
    base = model.base_model
    stages = (TEXT_STAGES | IMAGE_STAGES)[kind](base)
    head = None if model is base else (TEXT_HEADS | IMAGE_HEADS)[kind](model)
    check_whole(model, missing, nn.ModuleList(stages if head is None else [*stages, head]), spec.name)
    labels = model.config.id2label
    return Backbone(
        name=spec.name,
        modality=spec.modality,
        stages=list(zip(spec.stages, stages, strict=True)),
        preprocess=tokens_of(spec, path) if spec.modality == "text" else transform_of(spec),
        pooling=_pooling(kind, model.config),
        head=head,
        categories=() if head is None else [labels[i] for i in sorted(labels)],
        prefix_tokens=prefix_tokens(model.config) if spec.modality == "image" else 0,
        definition=json.dumps({k: v for k, v in spec.options["config"].items() if k not in _IDLE}, sort_keys=True),
    )


def _pooling(kind: str, config: Any) -> str:
    if FAMILIES[kind].modality == "text":
        return "last_token" if kind in _CAUSAL or getattr(config, "is_decoder", False) else "mean"
    return "class_token" if prefix_tokens(config) else "average"


def build_model(spec: BackboneSpec, path: Path | None) -> tuple[Any, set[str]]:
    """Return the model in the source library's own form, and the names of weights that were not found.

    Parameters
    ----------
    spec : BackboneSpec
        Its option `config` says which.
    path : Path or None
        As in `load`.

    Raises
    ------
    WeightsError
        If weights or configuration cannot be read, or do not fit.
    """
    import transformers

    settings = dict(spec.options["config"])
    for name in _NAMES_CODE:
        settings.pop(name, None)
    kind = settings["model_type"]
    architecture = (settings.get("architectures") or [""])[0]
    auto, known = transformers.AutoModel, transformers.MODEL_MAPPING
    if architecture.endswith("ForSequenceClassification"):
        auto = transformers.AutoModelForSequenceClassification
        known = transformers.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING
    elif architecture.endswith("ForImageClassification"):
        auto = transformers.AutoModelForImageClassification
        known = transformers.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING
    options = {"attn_implementation": "eager" if kind in _EAGER else "sdpa", "dtype": torch.float32}
    if kind in FAMILIES and FAMILIES[kind].stage == "stage":
        options.pop("attn_implementation")  # a convolutional network attends to nothing
    try:
        config = transformers.CONFIG_MAPPING[kind].from_dict(settings)
        with _quiet():
            if path is None:
                return auto.from_config(config, **options), set()
            state = read_state(path) if path.is_file() else None
            model, info = known[type(config)].from_pretrained(
                None if path.is_file() else path,
                config=config,
                state_dict=state,
                local_files_only=True,
                output_loading_info=True,
                **options,
            )
    except WeightsError:
        raise
    except Exception as error:  # OSError, ValueError, RuntimeError, errors of safetensors, of validation, of pickle
        raise WeightsError(
            f"{spec.name}: {path or 'its configuration'} cannot be read as a {kind} model ({error})"
        ) from error
    return model, set(info["missing_keys"])


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep transformers from printing bars and reports: what matters of them is checked here and raised."""
    from transformers.utils import logging

    with _quiet_lock:
        level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
        logging.set_verbosity(logging.CRITICAL)
        logging.disable_progress_bar()
        try:
            yield
        finally:
            logging.set_verbosity(level)
            if bars:
                logging.enable_progress_bar()


def check_whole(model: nn.Module, missing: set[str], used: nn.Module, name: str) -> None:
    """Raise where weights are missing that a stage or the head uses; others, as an unused pooler's, may be.

    Parameters
    ----------
    model : nn.Module
        As `build_model` returns it.
    missing : set of str
        Likewise.
    used : nn.Module
        What of the model the backbone is made of.
    name : str
        The backbone's, for the message.

    Raises
    ------
    WeightsError
        If there are such.
    """
    ours = {id(parameter) for parameter in used.parameters()}
    lacking = sorted(key for key, value in model.named_parameters() if key in missing and id(value) in ours)
    if lacking:
        raise WeightsError(
            f"{name}: its weights lack {len(lacking)} tensors of the model that config.json describes, the first of "
            f"them {lacking[0]!r}; they would be random. Save model and configuration together with "
            "`model.save_pretrained(folder)`."
        )


def tokens_of(spec: BackboneSpec, path: Path | None) -> Tokens:
    """Read the tokenizer: from the folder of the weights, or where these are none or a file, from the model's own.

    Parameters
    ----------
    spec : BackboneSpec
        Its `input_size` limits the tokens.
    path : Path or None
        As in `load`.

    Raises
    ------
    WeightsError
        If there is none that can be read.
    """
    if "tokens" in spec.options:
        return spec.options["tokens"]  # type: ignore[no-any-return]  # read already, from a saved estimator
    assert spec.weights is not None  # as sktransfer_find_backbone makes it
    assert spec.input_size is not None
    scheme, _, place = spec.weights.location.partition(":")
    if path is None or path.is_file():
        path = Path(place) if scheme == "file" else hub_tokenizer(place, spec.name)
    return load_tokens(path, spec.input_size[0])


def transform_of(spec: BackboneSpec) -> ImageTransform:
    """Return the preprocessing that a spec's `preprocessor` describes, to images of its `input_size`.

    Parameters
    ----------
    spec : BackboneSpec
        Of images.

    Raises
    ------
    WeightsError
        If there is none, or one that no `ImageTransform` expresses.
    """
    settings: Mapping[str, Any] | None = spec.options["preprocessor"]
    transform = read_transform(settings, spec.options["config"]["model_type"], spec.name)
    size: Any = spec.input_size
    if size not in (None, transform.crop or transform.resize):
        return replace(transform, resize=size, crop=None)  # it takes images of one size alone
    return transform
