"""Prompts: what a model puts in front of every text, chosen by name. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sktransfer._utils import local_path
from sktransfer.exceptions import BackboneNotFoundError, WeightsError, did_you_mean

__all__ = ["choose_prompt", "split_prompt"]

_ALWAYS = {"query": "", "document": ""}  # names that every model of the library has


def split_prompt(name: str) -> tuple[str, str | None]:
    """Split `model#prompt` into the model and the prompt's name, None where there is no `#`.

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
    if local_path(name).exists():  # a folder may have a # in its name
        return name, None
    model, mark, prompt = name.rpartition("#")
    return (model, prompt) if mark else (name, None)


def choose_prompt(settings: Mapping[str, Any], name: str | None, model: str) -> str:
    """Return the prompt of a name.

    Parameters
    ----------
    settings : mapping
        With the model's `prompts` and `default_prompt_name`, where it has any.
    name : str or None
        "" for no prompt, None for the model's default, which may be none.
    model : str
        What messages call the model.

    Raises
    ------
    BackboneNotFoundError
        If the model has no prompt of that name.
    WeightsError
        If the model's prompts are damaged.
    """
    given = settings.get("prompts") or {}
    if not isinstance(given, Mapping) or not all(isinstance(text, (str, type(None))) for text in given.values()):
        raise WeightsError(f"{model!r}: its prompts are {given!r}; they must be texts by name")
    prompts: dict[str, str] = _ALWAYS | {key: text or "" for key, text in given.items()}
    default = settings.get("default_prompt_name")
    if default is not None and default not in prompts:
        raise WeightsError(f"{model!r}: its default prompt {default!r} is none of its prompts {sorted(prompts)}")
    if name == "" or (name is None and default is None):
        return ""
    chosen = str(default) if name is None else name
    if chosen not in prompts:
        raise BackboneNotFoundError(
            f"{model!r} has no prompt {chosen!r}; it has {sorted(prompts)}, and '#' alone takes none."
            + did_you_mean(chosen, prompts)
        )
    return prompts[chosen]
