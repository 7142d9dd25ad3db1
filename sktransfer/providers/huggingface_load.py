"""Loader of `hf/...`: build models with transformers and divide them into stages."""

from __future__ import annotations

import copy
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sktransfer.backbones import (
    Backbone,
    BackboneSpec,
    ImageTransform,
    LanguageModelHead,
    Tokens,
    compared_names,
    find_prefix,
    hub_tokenizer,
    load_tokens,
    read_state,
)
from sktransfer.exceptions import UnreadPartWarning, WeightsError, warn
from sktransfer.providers.huggingface import FAMILIES
from sktransfer.providers.huggingface_image import IMAGE_HEADS, IMAGE_STAGES, prefix_tokens, read_transform
from sktransfer.providers.huggingface_sentence import SentenceSettings, read_sentence_settings
from sktransfer.providers.huggingface_text import LM_HEADS, TEXT_HEADS, TEXT_STAGES

__all__ = [
    "build_transformers_model",
    "check_transformers_weights",
    "load",
    "read_transformers_tokens",
    "read_transformers_transform",
]

# Model types with their own attention. The others use the fused kernel of torch.
_EAGER = ("deberta-v2", "mpnet", "openai-gpt")
_CAUSAL = ("gpt2", "openai-gpt")
# Settings without effect on the computation of the stages.
_IDLE = ("_name_or_path", "architectures", "dtype", "id2label", "label2id", "torch_dtype", "transformers_version")
# Settings that may name code of the model or of a hub. They are removed, so that such code never runs.
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
        Spec of `sktransfer_find_backbone`.
    path : Path or None
        Folder of the model, or a file of weights. None for random weights.

    Returns
    -------
    backbone : Backbone

    Raises
    ------
    WeightsError
        If the weights, the configuration or the preprocessing cannot be read, or do not fit each other.
    """
    kind = spec.options["config"]["model_type"]
    model, missing = build_transformers_model(spec, path)
    base = model.base_model
    stages = (TEXT_STAGES | IMAGE_STAGES)[kind](base)
    head = None if model is base else (TEXT_HEADS | IMAGE_HEADS)[kind](model)
    check_transformers_weights(model, missing, nn.ModuleList(stages if head is None else [*stages, head]), spec.name)
    labels = model.config.id2label
    preprocess: Tokens | ImageTransform
    settings = None
    if spec.modality == "image":
        preprocess = read_transformers_transform(spec)
    else:
        preprocess = read_transformers_tokens(spec, path)
        settings = read_sentence_settings(_tokenizer_folder(spec, path)) if spec.options.get("sentence") else None
    if settings is not None and isinstance(preprocess, Tokens):
        preprocess = _with_settings(preprocess, settings, spec.name)
    if isinstance(preprocess, Tokens):
        preprocess = preprocess.with_embedding(base.get_input_embeddings().num_embeddings)
    return Backbone(
        name=spec.name,
        modality=spec.modality,
        stages=list(zip(spec.stages, stages, strict=True)),
        preprocess=preprocess,
        pooling=(settings and settings.pooling) or _pooling(kind, model.config),
        unit_length=settings is not None and settings.unit_length,
        head=head,
        categories=() if head is None else [labels[i] for i in sorted(labels)],
        prefix_tokens=prefix_tokens(model.config) if spec.modality == "image" else 0,
        definition=json.dumps({k: v for k, v in spec.options["config"].items() if k not in _IDLE}, sort_keys=True),
        lm_head=_lm_head(spec, path, base),
    )


def _lm_head(spec: BackboneSpec, path: Path | None, base: Any) -> Callable[[], LanguageModelHead | None] | None:
    """Return the function that reads the language-model head, or None if the configuration names no model with one."""
    kind = _lm_kind(spec.options["config"]["model_type"], _architecture(spec), base.config)
    return None if kind is None else partial(_read_lm_head, spec, path, kind, base.get_input_embeddings().weight)


def _architecture(spec: BackboneSpec) -> str:
    return str((spec.options["config"].get("architectures") or [""])[0])


def _lm_kind(model_type: str, architecture: str, config: Any) -> str | None:
    if model_type not in LM_HEADS:
        return None
    is_causal = model_type in _CAUSAL or getattr(config, "is_decoder", False)
    if architecture.endswith(("LMHeadModel", "ForCausalLM")):
        return "causal" if is_causal else None
    # The pretraining of ELECTRA's discriminator predicts no tokens. Those of BERT and ALBERT do.
    is_masked = architecture.endswith("ForMaskedLM") or architecture in ("BertForPreTraining", "AlbertForPreTraining")
    return "masked" if is_masked and not is_causal else None


def _read_lm_head(spec: BackboneSpec, path: Path | None, kind: str, table: nn.Parameter) -> LanguageModelHead | None:
    """Return the head of a model of transformers, tied to the table of token embeddings if the model ties it.

    The whole model is read once more, because transformers knows the names and the ties in files of all ages. Only the
    head is kept.
    """
    import transformers

    if kind == "masked":
        auto, known = transformers.AutoModelForMaskedLM, transformers.MODEL_FOR_MASKED_LM_MAPPING
    else:
        auto, known = transformers.AutoModelForCausalLM, transformers.MODEL_FOR_CAUSAL_LM_MAPPING
    model, missing = _build_model(spec, path, auto, known)
    head = LanguageModelHead(kind, *LM_HEADS[spec.options["config"]["model_type"]](model))
    read = model.base_model.get_input_embeddings().weight
    own = {id(parameter) for parameter in head.parameters() if parameter is not read}
    if own and own <= {id(value) for key, value in model.named_parameters() if key in missing}:
        return None  # the configuration names a head that the weights lack
    check_transformers_weights(model, missing, head, spec.name)
    if path is not None and not torch.equal(read, table):
        raise WeightsError(f"{path}: has changed since {spec.name} was loaded; load it again in a new process")
    return copy.deepcopy(head, {id(read): table})


def _with_settings(tokens: Tokens, settings: SentenceSettings, name: str) -> Tokens:
    """Return the tokenisation of a model of sentence-transformers, and warn of what is not read."""
    unread = list(settings.unread)
    if settings.lowercase and not tokens(["AB"])[0].equal(tokens(["ab"])[0]):
        unread.append("do_lower_case")
    if unread:
        warn(
            f"{name!r} is a model of sentence-transformers, and {', '.join(unread)} is not read, so that features "
            f"differ from those of SentenceTransformer.encode. Name it "
            f"{'sentence-transformers/' + name.partition('/')[2]!r} to read all; the plugin "
            "sktransfer-sentence-transformers offers this name",
            UnreadPartWarning,
        )
    longest = settings.max_tokens
    return tokens if longest is None or longest >= tokens.limit else tokens.with_max_length(longest)


def _pooling(kind: str, config: Any) -> str:
    if FAMILIES[kind].modality == "text":
        return "last_token" if kind in _CAUSAL or getattr(config, "is_decoder", False) else "mean"
    return "class_token" if prefix_tokens(config) else "average"


def build_transformers_model(spec: BackboneSpec, path: Path | None) -> tuple[Any, set[str]]:
    """Build a model of transformers.

    Parameters
    ----------
    spec : BackboneSpec
        Its option `config` contains the configuration.
    path : Path or None
        Folder of the model, or a file of weights. None for random weights.

    Returns
    -------
    model : PreTrainedModel
        With a classification head if `architectures` in the configuration names one.
    missing : set of str
        Names of parameters that the weights lack.

    Raises
    ------
    WeightsError
        If weights or configuration cannot be read, or do not fit each other.
    """
    import transformers

    architecture = _architecture(spec)
    auto, known = transformers.AutoModel, transformers.MODEL_MAPPING
    if architecture.endswith("ForSequenceClassification"):
        auto = transformers.AutoModelForSequenceClassification
        known = transformers.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING
    elif architecture.endswith("ForImageClassification"):
        auto = transformers.AutoModelForImageClassification
        known = transformers.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING
    return _build_model(spec, path, auto, known)


def _build_model(spec: BackboneSpec, path: Path | None, auto: Any, known: Any) -> tuple[Any, set[str]]:
    """Return a model of a class of transformers, and the names of parameters that the weights lack."""
    import transformers

    settings = dict(spec.options["config"])
    for name in _NAMES_CODE:
        settings.pop(name, None)
    kind = settings["model_type"]
    options = {"attn_implementation": "eager" if kind in _EAGER else "sdpa", "dtype": torch.float32}
    if kind in FAMILIES and FAMILIES[kind].stage == "stage":
        options.pop("attn_implementation")  # convolutional networks have no attention
    try:
        config = transformers.CONFIG_MAPPING[kind].from_dict(settings)
        with _quiet():
            if path is None:
                return auto.from_config(config, **options), set()
            state = _own_names(auto, config, path) if path.is_file() else None
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
    except Exception as error:  # anything from OSError to errors of safetensors and pickle
        raise WeightsError(
            f"{spec.name}: {path or 'its configuration'} cannot be read as a {kind} model ({error})"
        ) from error
    missing = set(info["missing_keys"])
    if state is not None and len(missing) > len(model.state_dict()) / 2:
        raise WeightsError(f"{path} does not fit {spec.name}. {compared_names(state, model.state_dict())}")
    return model, missing


def _own_names(auto: Any, config: Any, path: Path) -> dict[str, torch.Tensor]:
    """Return the tensors of a file, by names that transformers knows, without the prefix of a wrapper."""
    state = read_state(path)
    with torch.device("meta"):  # takes no memory
        model = auto.from_config(config)
    try:
        prefix = find_prefix(state, model.base_model.state_dict(), optional=("pooler.",))
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}") from error
    prefix = prefix.removesuffix(f"{model.base_model_prefix}.")
    return {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the progress bars and reports of transformers, because missing weights are checked here."""
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


def check_transformers_weights(model: nn.Module, missing: set[str], used: nn.Module, name: str) -> None:
    """Raise if weights of a stage or of the head are missing.

    Unused parts of a model, such as a pooler, may lack their weights.

    Parameters
    ----------
    model : nn.Module
        Model of `build_transformers_model`.
    missing : set of str
        Names of missing parameters, from `build_transformers_model`.
    used : nn.Module
        Modules of the model that the backbone consists of.
    name : str
        Name of the backbone in the error message.

    Raises
    ------
    WeightsError
        If a used parameter is missing.
    """
    used_ids = {id(parameter) for parameter in used.parameters()}
    names = sorted(key for key, value in model.named_parameters() if key in missing and id(value) in used_ids)
    if names:
        raise WeightsError(
            f"{name}: its weights lack {len(names)} tensors of the model that config.json describes, the first of "
            f"them {names[0]!r}; they would be random. Save model and configuration together with "
            "`model.save_pretrained(folder)`."
        )


def read_transformers_tokens(spec: BackboneSpec, path: Path | None) -> Tokens:
    """Read the tokenizer of a model of transformers.

    It comes from the folder of the weights. For random weights or a single file, it comes from the location that the
    spec names.

    Parameters
    ----------
    spec : BackboneSpec
        Its `input_size` is the largest number of tokens.
    path : Path or None
        Folder of the model, or a file of weights. None for random weights.

    Returns
    -------
    tokens : Tokens

    Raises
    ------
    WeightsError
        If there is no readable tokenizer.
    """
    if "tokens" in spec.options:
        return spec.options["tokens"]  # type: ignore[no-any-return]  # read already from a saved estimator
    assert spec.input_size is not None  # set by sktransfer_find_backbone
    return load_tokens(_tokenizer_folder(spec, path), spec.input_size[0])


def _tokenizer_folder(spec: BackboneSpec, path: Path | None) -> Path:
    if path is not None and path.is_dir():
        return path
    assert spec.weights is not None  # set by sktransfer_find_backbone
    scheme, _, place = spec.weights.location.partition(":")
    return Path(place) if scheme == "file" else hub_tokenizer(place, spec.name)


def read_transformers_transform(spec: BackboneSpec) -> ImageTransform:
    """Read the preprocessing of an image model of transformers.

    Parameters
    ----------
    spec : BackboneSpec
        Its option `preprocessor` contains the settings. Images are resized to its `input_size`, if it has one.

    Returns
    -------
    transform : ImageTransform

    Raises
    ------
    WeightsError
        If there are no settings, or `ImageTransform` does not support them.
    """
    settings: Mapping[str, Any] | None = spec.options["preprocessor"]
    transform = read_transform(settings, spec.options["config"]["model_type"], spec.name)
    size: Any = spec.input_size
    if size not in (None, transform.crop or transform.resize):
        return replace(transform, resize=size, crop=None)  # the network accepts only this size
    return transform
