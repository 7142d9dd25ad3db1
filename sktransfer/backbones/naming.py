"""Hints for names of backbones that lack their provider, or that are misspelt. Imports nothing heavy."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from sktransfer._utils import local_path
from sktransfer.exceptions import did_you_mean

__all__ = ["name_hint", "object_hint"]

_NEAR = 0.8  # similarity of spellings; names of another family are less similar
_OF_TIMM = re.compile(r"[a-z0-9_]+\.[a-z0-9_]+")  # network.training, as in "resnet50.a1_in1k"
_ENCODER = "sentence-transformers"
_OBJECTS = {  # class of a library: how to save an object of it, and the provider that reads the folder
    ("transformers", "PreTrainedModel"): (
        "model.save_pretrained(folder), and the same with its tokenizer or image processor",
        "hf",
    ),
    ("sentence_transformers", "SentenceTransformer"): ("model.save(folder)", _ENCODER),
    ("sentence_transformers", "CrossEncoder"): ("model.save(folder)", "hf"),
}


def name_hint(name: str, names: Iterable[str], providers: Collection[str]) -> str:
    """Return what a name that is not known may mean, as sentences that begin with a space.

    Parameters
    ----------
    name : str
        Name as given.
    names : iterable of str
        Names of the listed backbones, `provider/model`.
    providers : collection of str
        Names of the loaded plugins.

    Examples
    --------
    >>> from sktransfer.backbones.naming import name_hint
    >>> name_hint("resnet50.a1_in1k", [], ["hf", "torchvision"])
    " A network of timm is named 'timm/resnet50.a1_in1k', by the plugin sktransfer-timm."
    >>> name_hint("resnet51", ["torchvision/resnet50"], ["torchvision"])
    " Did you mean 'torchvision/resnet50'?"
    """
    if not name.strip("/ "):
        return ""
    provider, slash, model = name.partition("/")
    if slash and provider in providers:
        return did_you_mean(name, [one for one in names if one.startswith(f"{provider}/")])
    path = local_path(name)
    with suppress(OSError, ValueError):  # not a possible path
        if path.exists():
            return f" {_of_path(name, path, providers)}"
    if slash:
        near = [one for one in providers if one.lower() == provider.lower()]
        near = near or get_close_matches(provider, providers, n=1, cutoff=_NEAR)
        if near:
            known = did_you_mean(f"{near[0]}/{model}", [one for one in names if one.startswith(f"{near[0]}/")])
            return known or f" Did you mean '{near[0]}/{model}'?"
        return _of_hub(name, providers)
    by_model: dict[str, list[str]] = {}
    for one in names:
        by_model.setdefault(one.partition("/")[2], []).append(one)
    found = [full for near in get_close_matches(name, by_model, n=3, cutoff=_NEAR) for full in by_model[near]]
    found = found or [full for fulls in by_model.values() for full in fulls if _spelt(full) == _spelt(name)]
    if _OF_TIMM.fullmatch(name) and "timm" not in providers:
        return f" A network of timm is named {_with_plugin(f'timm/{name}', 'timm', providers)}."
    if found:
        return f" Did you mean {' or '.join(map(repr, found))}?"
    return _of_hub(name, providers)


def _spelt(name: str) -> str:
    """Return a name in lower case with one sign for all that separate its parts."""
    return re.sub(r"[/_ ]", "-", name).lower()


def object_hint(given: object) -> str:
    """Return how to name a model of transformers or sentence-transformers, as a sentence that begins with a space.

    Parameters
    ----------
    given : object
        Object passed as a backbone.

    Returns
    -------
    hint : str
        Empty for other objects.

    Examples
    --------
    >>> from sktransfer.backbones.naming import object_hint
    >>> object_hint("tiny/bert")
    ''
    """
    for cls in type(given).__mro__:
        found = _OBJECTS.get((cls.__module__.partition(".")[0], cls.__name__))
        if found:
            how, provider = found
            plugin = f", by the plugin sktransfer-{provider}" if provider == _ENCODER else ""
            return f" Save it, {how}, and name the folder: backbone=f'{provider}/{{folder}}'{plugin}."
    return ""


def _of_hub(name: str, providers: Collection[str]) -> str:
    hint = f" An id of the hub is named 'hf/{name}'"
    if "/" in name and "clip" in name.lower():
        return f"{hint}, and a CLIP model {_with_plugin(f'clip/{name}', 'clip', providers)}."
    encoder = _with_plugin(f"{_ENCODER}/{name.removeprefix(f'{_ENCODER}/')}", _ENCODER, providers)
    return f"{hint}, a sentence encoder with all its parts {encoder}."


def _with_plugin(name: str, plugin: str, providers: Collection[str]) -> str:
    return f"{name!r}" if plugin in providers else f"{name!r}, by the plugin sktransfer-{plugin}"


def _of_path(name: str, path: Path, providers: Collection[str]) -> str:
    if path.is_file():
        return (
            "It is a file: pass the file as weights=, and name the network that its weights belong to, as in "
            f"backbone='torchvision/resnet18', weights={name!r}."
        )
    if (path / "modules.json").is_file():
        own = _with_plugin(f"{_ENCODER}/{name}", _ENCODER, providers)
        plain = f", or {_hf(name)}" if (path / "config.json").is_file() else ""
        return f"This folder of sentence-transformers is named {own}{plain}."
    config = _config(path)
    if config is None:
        return f"It is a folder without config.json. A folder of transformers with one is named {_hf(name)}."
    if "model_type" not in config and isinstance(config.get("architecture"), str):
        return f"This folder of timm belongs to backbone='timm/{config['architecture']}', weights={name!r}."
    return f"A folder of transformers is named {_hf(name)}."


def _hf(name: str) -> str:
    return f"'hf/{name}'"


def _config(path: Path) -> dict[str, Any] | None:
    try:
        config = json.loads((path / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return config if isinstance(config, dict) else None
