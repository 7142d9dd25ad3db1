"""What the files of a model say that it computes, as data: read and checked here, built elsewhere.

A model's files name Python classes. Nothing that they name is ever imported: the types below are known by their names,
and a model with another one is refused.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from sktransfer.exceptions import BackboneNotFoundError, WeightsError
from sktransfer_sentence_transformers.files import ModelFiles, is_inside, positive, read_json
from sktransfer_sentence_transformers.layers import LAYERS, Layer, read_layer
from sktransfer_sentence_transformers.prompts import choose_prompt
from sktransfer_sentence_transformers.transformer import TransformerSettings, read_transformer

__all__ = ["MODES", "Recipe", "read_recipe"]

# Names of poolings, in the order in which older models, which say yes or no to each, put them one after the other.
MODES = {
    "cls": "pooling_mode_cls_token",
    "max": "pooling_mode_max_tokens",
    "mean": "pooling_mode_mean_tokens",
    "mean_sqrt_len_tokens": "pooling_mode_mean_sqrt_len_tokens",
    "weightedmean": "pooling_mode_weightedmean_tokens",
    "lasttoken": "pooling_mode_lasttoken",
}
_KINDS = ("Transformer", "Pooling", *LAYERS)
_TYPE = re.compile(
    r"sentence_transformers\.(?:models|base\.modules|sentence_transformer\.modules)\.(?:\w+\.)?"
    rf"({'|'.join(_KINDS)})"
)


@dataclass(frozen=True)
class Recipe:
    """A model of sentence-transformers.

    Parameters
    ----------
    transformer : TransformerSettings
        The first part, which gives a vector a token.
    width : int
        Channels that pooling takes.
    modes : tuple of str
        Poolings, of `MODES`, put one after the other.
    include_prompt : bool
        Whether the prompt's tokens are pooled as well.
    layers : tuple of Layer
        What follows.
    truncate : int or None
        How many channels of the outcome are kept; None for all.
    prompt : str
        Put in front of every text.
    """

    transformer: TransformerSettings
    width: int
    modes: tuple[str, ...]
    include_prompt: bool
    layers: tuple[Layer, ...]
    truncate: int | None
    prompt: str

    @property
    def n_features(self) -> int:
        """Channels of the outcome."""
        whole = self.layers[-1].width if self.layers else self.width * len(self.modes)
        return whole if self.truncate is None else min(whole, self.truncate)

    @property
    def folders(self) -> list[str]:
        """The folders inside the model that hold weights."""
        return [one for one in (self.transformer.path, *(layer.path for layer in self.layers)) if one]


def read_recipe(files: ModelFiles, prompt_name: str | None) -> Recipe:
    """Read what a model computes.

    Parameters
    ----------
    files : ModelFiles
        The model's.
    prompt_name : str or None
        Which of its prompts; "" for none, None for its default.

    Raises
    ------
    BackboneNotFoundError
        If it has a part that is not supported, or no such prompt.
    WeightsError
        If a file is missing or damaged.
    """
    general = files.read("config_sentence_transformers.json") or {}
    kind = general.get("model_type", "SentenceTransformer")
    if kind != "SentenceTransformer":
        raise BackboneNotFoundError(f"{files.name!r} is a {kind}; only a SentenceTransformer gives one vector a text")
    modules = _modules(files)
    width, modes, include_prompt = _pooling(files, modules[1][1])
    layers: list[Layer] = []
    for name, path in modules[2:]:
        given = layers[-1].width if layers else width * len(modes)
        layers.append(read_layer(files, name, path, given))
    truncate = general.get("truncate_dim")
    return Recipe(
        transformer=read_transformer(files, modules[0][1]),
        width=width,
        modes=modes,
        include_prompt=include_prompt,
        layers=tuple(layers),
        truncate=None if truncate is None else positive(truncate, f"{files.root}: truncate_dim"),
        prompt=choose_prompt(general, prompt_name, files.name),
    )


def _modules(files: ModelFiles) -> list[tuple[str, str]]:
    """Return kind and folder of each module: a Transformer, a Pooling, then layers."""
    listed = read_json(files.root / "modules.json")
    if not isinstance(listed, list) or not all(map(_is_module, listed)):
        raise WeightsError(f"{files.root / 'modules.json'}: is no list of modules, each with a 'type' and a 'path'")
    modules = []
    for index, module in enumerate(listed):
        known = _TYPE.fullmatch(module["type"])
        if known is None:
            raise BackboneNotFoundError(
                f"{files.name!r}: its module {index} is {module['type']!r}, which is not supported; supported are "
                f"{', '.join(_KINDS)} of sentence_transformers. No class that a model's file names is ever imported."
            )
        modules.append((known.group(1), module["path"]))
    kinds = [kind for kind, _ in modules]
    if kinds[:2] != ["Transformer", "Pooling"] or not set(kinds[2:]) <= set(LAYERS):
        raise BackboneNotFoundError(
            f"{files.name!r}: its modules are {kinds}; supported is a Transformer, then a Pooling, then any of "
            f"{', '.join(LAYERS)}"
        )
    return modules


def _is_module(module: object) -> bool:
    if not isinstance(module, dict) or not isinstance(module.get("type"), str):
        return False
    path = module.get("path")
    return isinstance(path, str) and is_inside(path)


def _pooling(files: ModelFiles, path: str) -> tuple[int, tuple[str, ...], bool]:
    """Return the width of what is pooled, the modes, and whether the prompt is pooled as well."""
    where = f"{files.root}/{path}/config.json"
    settings = files.read(f"{path}/config.json")
    if settings is None:
        raise WeightsError(f"{where}: is missing; it says how the model pools")
    width = settings.get("embedding_dimension", settings.get("word_embedding_dimension"))
    modes = settings.get("pooling_mode")
    if modes is None:
        modes = [mode for mode, key in MODES.items() if settings.get(key)] or ["mean"]
    modes = [modes] if isinstance(modes, str) else modes
    if not isinstance(modes, list) or not modes or not all(mode in MODES for mode in modes):
        raise BackboneNotFoundError(f"{where}: pooling_mode is {modes!r}; supported are {tuple(MODES)}")
    return positive(width, f"{where}: embedding_dimension"), tuple(modes), bool(settings.get("include_prompt", True))
