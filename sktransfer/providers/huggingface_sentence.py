"""Settings that sentence-transformers adds to the folder of a model of transformers.

The files name Python classes, which are never imported. The classes are identified by the last part of their names.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sktransfer.exceptions import WeightsError

__all__ = ["SentenceSettings", "read_sentence_settings"]

_POOLINGS = {"cls": "class_token", "max": "max", "mean": "mean", "lasttoken": "last_token"}
_FLAGS = {
    "cls": "pooling_mode_cls_token",
    "max": "pooling_mode_max_tokens",
    "mean": "pooling_mode_mean_tokens",
    "mean_sqrt_len_tokens": "pooling_mode_mean_sqrt_len_tokens",
    "weightedmean": "pooling_mode_weightedmean_tokens",
    "lasttoken": "pooling_mode_lasttoken",
}
_FAMILIES = ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta")
_IDLE = ("Dropout",)  # modules that change nothing in `encode`


@dataclass(frozen=True)
class SentenceSettings:
    """Settings of a model of sentence-transformers, as far as `hf/...` has them.

    Parameters
    ----------
    pooling : str or None
        Pooling of the model, or None if sktransfer has none like it.
    max_tokens : int or None
        Largest number of tokens per text, or None for the limit of transformer and tokenizer.
    unit_length : bool
        Whether the model scales its vectors to length 1.
    lowercase : bool
        Whether the model lowercases texts before the tokenizer.
    unread : tuple of str
        Descriptions of the parts that change the model's vectors and have no counterpart here.
    """

    pooling: str | None
    max_tokens: int | None
    unit_length: bool
    lowercase: bool
    unread: tuple[str, ...]


def read_sentence_settings(folder: Path) -> SentenceSettings | None:
    """Return the settings of a folder, or None if sentence-transformers did not make it.

    Parameters
    ----------
    folder : Path
        Folder of a model of transformers.

    Raises
    ------
    WeightsError
        If a file cannot be read or is damaged.
    """
    if not (folder / "modules.json").is_file():
        return None
    pooling, is_unit, unread = None, False, []
    for name, path in _modules(folder):
        kind = name.rpartition(".")[2]
        if kind == "Pooling":
            mode = _pooling_mode(_settings(folder / path / "config.json"))
            pooling = _POOLINGS.get(mode)
            unread += [] if pooling else [f"the pooling {mode!r} of {path}"]
        elif kind == "Normalize":
            is_unit = True
        elif kind not in ("Transformer", *_IDLE):
            unread.append(f"the module {kind} of {path or folder.name}")
    general = _settings(folder / "config_sentence_transformers.json")
    prompts, default = general.get("prompts"), general.get("default_prompt_name")
    prompt = prompts.get(default) if isinstance(prompts, Mapping) else None
    if prompt:
        unread.append(f"the default prompt {prompt!r} before each text")
    if general.get("truncate_dim") is not None:
        unread.append(f"truncate_dim={general['truncate_dim']!r}")
    own = next((one for family in _FAMILIES if (one := _settings(folder / f"sentence_{family}_config.json"))), {})
    longest = own.get("max_seq_length")
    if longest is not None and (not isinstance(longest, int) or longest < 1):
        raise WeightsError(f"{folder}: max_seq_length is {longest!r}; it must be an int of at least 1")
    return SentenceSettings(pooling, longest, is_unit, bool(own.get("do_lower_case")), tuple(unread))


def _modules(folder: Path) -> list[tuple[str, str]]:
    """Return class and subfolder of each module."""
    path = folder / "modules.json"
    modules = _read(path)
    if not isinstance(modules, list) or not all(map(_is_module, modules)):
        raise WeightsError(f"{path}: is not a list of modules, each with a 'type' and a 'path' inside the folder")
    return [(module["type"], module["path"]) for module in modules]


def _is_module(module: object) -> bool:
    if not isinstance(module, dict) or not isinstance(module.get("type"), str):
        return False
    path = module.get("path")
    return isinstance(path, str) and path != ".." and Path(path).name == path


def _pooling_mode(settings: Mapping[str, Any]) -> str:
    """Return the mode of a pooling, or several joined by "+"."""
    modes = settings.get("pooling_mode") or [mode for mode, flag in _FLAGS.items() if settings.get(flag)] or "mean"
    return modes if isinstance(modes, str) else "+".join(map(str, modes))


def _settings(path: Path) -> dict[str, Any]:
    settings = _read(path) if path.is_file() else {}
    if not isinstance(settings, dict):
        raise WeightsError(f"{path}: contains a {type(settings).__name__}, not settings by name")
    return settings


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path}: cannot be read as JSON ({error})") from error
