"""What a model says of its first part, the transformer, beyond that part's own configuration. Imports nothing heavy."""

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
# Setting -> the values that change nothing of what is computed here, None apart.
_PLAIN: dict[str, tuple[Any, ...]] = {
    "transformer_task": ("feature-extraction",),
    "modality_config": (_TEXT,),
    "module_output_name": ("token_embeddings",),
    "processing_kwargs": ({},),
}
# Settings of calls that `encode` does not make, or of how fast it computes.
_IDLE = ("unpad_inputs", "query_length", "document_length", "query_expansion")
# Setting -> what stands in it without changing anything here: weights become float32, masks tell padding apart.
_ARGUMENTS = {
    "model": ("attn_implementation", "dtype", "torch_dtype", "trust_remote_code"),
    "processor": ("padding_side", "trust_remote_code", "use_fast"),
    "config": ("trust_remote_code", "use_cache"),
}


@dataclass(frozen=True)
class TransformerSettings:
    """How a model uses its transformer.

    Parameters
    ----------
    path : str
        Its folder inside the model; "" for the model's own.
    max_tokens : int or None
        Where texts are cut; None for as many tokens as transformer and tokenizer take.
    lowercase : bool
        Whether texts are lowercased, whatever the tokenizer does.
    """

    path: str
    max_tokens: int | None
    lowercase: bool


def read_transformer(files: ModelFiles, path: str) -> TransformerSettings:
    """Read how a model uses its transformer.

    Parameters
    ----------
    files : ModelFiles
        The model's.
    path : str
        As in `TransformerSettings`.

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
            "(`model.transformers_model.merge_and_unload()`), save the outcome, and name its folder"
        )
    found = (files.read(f"{prefix}{name}") for name in _FILES)
    settings = dict(next((one for one in found if one), {}))
    longest, lowercase = settings.pop("max_seq_length", None), settings.pop("do_lower_case", False)
    for part, names in (("model", ("model",)), ("processor", ("processor", "tokenizer")), ("config", ("config",))):
        for key in (f"{name}_{end}" for name in names for end in ("args", "kwargs")):
            _check_arguments(files.name, key, settings.pop(key, None) or {}, _ARGUMENTS[part])
    for key, value in settings.items():
        if value is not None and key not in _IDLE and value not in _PLAIN.get(key, ()):
            raise BackboneNotFoundError(
                f"{files.name!r}: its transformer's setting {key}={value!r} is not supported; supported are "
                f"max_seq_length and do_lower_case, and models whose text goes through `forward` alone"
            )
    if longest is not None:
        positive(longest, f"{files.root}: max_seq_length")
    return TransformerSettings(path, longest, bool(lowercase))


def _check_arguments(name: str, key: str, given: Mapping[str, Any], plain: tuple[str, ...]) -> None:
    strange = sorted(set(given) - set(plain))
    if strange:
        raise BackboneNotFoundError(f"{name!r}: its transformer's {key} set {strange}, which is not supported")
