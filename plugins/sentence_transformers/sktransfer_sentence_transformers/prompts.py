"""Prompts, which a model puts before every text, selected by name. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sktransfer.backbones import local_path
from sktransfer.exceptions import BackboneNotFoundError, WeightsError, did_you_mean

__all__ = ["choose_prompt", "split_prompt"]

_ALWAYS = {"query": "", "document": ""}  # prompts of every model of the library


def split_prompt(name: str) -> tuple[str, str | None]:
    """Split `model#prompt` into the model and the name of the prompt, which is None without `#`.

    Examples
    --------
    >>> from sktransfer_sentence_transformers.prompts import split_prompt
    >>> split_prompt("someone/model#query")
    ('someone/model', 'query')
    >>> split_prompt("someone/model#")
    ('someone/model', '')
    >>> split_prompt("someone/model")
    ('someone/model', None)
    """
    if local_path(name).exists():  # the name of a folder may contain #
        return name, None
    model, mark, prompt = name.rpartition("#")
    return (model, prompt) if mark else (name, None)


def choose_prompt(settings: Mapping[str, Any], name: str | None, model: str) -> str:
    """Return a prompt of a model by name.

    Parameters
    ----------
    settings : mapping
        Settings with `prompts` and `default_prompt_name`, if the model has any.
    name : str or None
        "" for no prompt. None for the default of the model, if any.
    model : str
        Name of the model in error messages.

    Raises
    ------
    BackboneNotFoundError
        If the model has no prompt of that name.
    WeightsError
        If the model's prompts are damaged.
    """
    given = settings.get("prompts") or {}
    if not isinstance(given, Mapping) or not all(isinstance(text, (str, type(None))) for text in given.values()):
        raise WeightsError(f"{model!r}: its prompts are {given!r}; they must be a mapping from names to texts")
    prompts: dict[str, str] = _ALWAYS | {key: text or "" for key, text in given.items()}
    default = settings.get("default_prompt_name")
    if default is not None and default not in prompts:
        raise WeightsError(f"{model!r}: its default prompt {default!r} is not one of its prompts {sorted(prompts)}")
    if name == "" or (name is None and default is None):
        return ""
    chosen = str(default) if name is None else name
    if chosen not in prompts:
        raise BackboneNotFoundError(
            f"{model!r} has no prompt {chosen!r}; it has {sorted(prompts)}, and '#' alone selects none."
            + did_you_mean(chosen, prompts)
        )
    return prompts[chosen]
