"""Settings of a model for its transformer. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sktransfer.exceptions import BackboneNotFoundError
from sktransfer_sentence_transformers.files import ModelFiles, positive

__all__ = ["TransformerSettings", "read_transformer"]

_FILES = tuple(
    f"sentence_{kind}_config.json" for kind in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta")
)
_TEXT = {"text": {"method": "forward", "method_output_name": "last_hidden_state"}}
# Values of settings without effect here, besides None.
_PLAIN: dict[str, tuple[Any, ...]] = {
    "transformer_task": ("feature-extraction",),
    "modality_config": (_TEXT,),
    "module_output_name": ("token_embeddings",),
    "processing_kwargs": ({},),
}
# Settings of calls that `encode` does not make, or of its speed.
_IDLE = ("unpad_inputs", "query_length", "document_length", "query_expansion")
# Arguments without effect here, because weights become float32 and padding is masked.
_ARGUMENTS = {
    "model": ("attn_implementation", "dtype", "torch_dtype", "trust_remote_code"),
    "processor": ("padding_side", "trust_remote_code", "use_fast"),
    "config": ("trust_remote_code", "use_cache"),
}


@dataclass(frozen=True)
class TransformerSettings:
    """Settings of a model for its transformer.

    Parameters
    ----------
    path : str
        Folder of the transformer inside the model. "" for the folder of the model.
    max_tokens : int or None
        Largest number of tokens per text. None for the limits of transformer and tokenizer.
    lowercase : bool
        Whether texts are lowercased before tokenization.
    """

    path: str
    max_tokens: int | None
    lowercase: bool


def read_transformer(files: ModelFiles, path: str) -> TransformerSettings:
    """Read the settings of a model for its transformer.

    Parameters
    ----------
    files : ModelFiles
        Files of the model.
    path : str
        Folder of the transformer inside the model.

    Raises
    ------
    BackboneNotFoundError
        If a setting is not supported.
    WeightsError
        If a setting is damaged.
    """
    prefix = f"{path}/" if path else ""
    if files.find(f"{prefix}adapter_config.json") is not None:
        raise BackboneNotFoundError(
            f"{files.name!r} is an adapter of another model; merge the two "
            "(`model.transformers_model.merge_and_unload()`), save the result, and give its folder"
        )
    candidates = (files.read(f"{prefix}{name}") for name in _FILES)
    settings = dict(next((candidate for candidate in candidates if candidate), {}))
    longest, lowercase = settings.pop("max_seq_length", None), settings.pop("do_lower_case", False)
    for part, names in (("model", ("model",)), ("processor", ("processor", "tokenizer")), ("config", ("config",))):
        for key in (f"{name}_{end}" for name in names for end in ("args", "kwargs")):
            _check_arguments(files.name, key, settings.pop(key, None) or {}, _ARGUMENTS[part])
    for key, value in settings.items():
        if value is not None and key not in _IDLE and value not in _PLAIN.get(key, ()):
            raise BackboneNotFoundError(
                f"{files.name!r}: its transformer's setting {key}={value!r} is not supported; supported are "
                f"max_seq_length and do_lower_case, and models that process text by `forward`"
            )
    if longest is not None:
        positive(longest, f"{files.root}: max_seq_length")
    return TransformerSettings(path, longest, bool(lowercase))


def _check_arguments(name: str, key: str, given: Mapping[str, Any], plain: tuple[str, ...]) -> None:
    unexpected = sorted(set(given) - set(plain))
    if unexpected:
        raise BackboneNotFoundError(f"{name!r}: its transformer's {key} set {unexpected}, which is not supported")
