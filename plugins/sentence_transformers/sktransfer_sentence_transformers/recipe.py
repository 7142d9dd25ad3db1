"""Parts of a model, read from its files and validated.

The files of a model name Python classes, which are never imported. The supported types are identified by their names,
and a model with another type is refused.
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

# Poolings and their flags in older models, in the order of concatenation.
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
    """Parts of a model of sentence-transformers.

    Parameters
    ----------
    transformer : TransformerSettings
        Settings of the transformer, which gives one vector per token.
    width : int
        Number of channels before pooling.
    modes : tuple of str
        Poolings, keys of `MODES`, whose outputs are concatenated.
    include_prompt : bool
        Whether the tokens of the prompt are pooled.
    layers : tuple of Layer
        Layers after the pooling.
    truncate : int or None
        Number of channels of the result that are kept. None for all.
    prompt : str
        Text inserted before every text.
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
        """Number of channels of the result."""
        width = self.layers[-1].width if self.layers else self.width * len(self.modes)
        return width if self.truncate is None else min(width, self.truncate)

    @property
    def folders(self) -> list[str]:
        """Folders inside the model that contain weights."""
        return [path for path in (self.transformer.path, *(layer.path for layer in self.layers)) if path]


def read_recipe(files: ModelFiles, prompt_name: str | None) -> Recipe:
    """Read the parts of a model.

    Parameters
    ----------
    files : ModelFiles
        Files of the model.
    prompt_name : str or None
        Name of its prompt. "" for none, None for its default.

    Raises
    ------
    BackboneNotFoundError
        If a part is not supported, or there is no such prompt.
    WeightsError
        If a file is missing or damaged.
    """
    general = files.read("config_sentence_transformers.json") or {}
    kind = general.get("model_type", "SentenceTransformer")
    if kind != "SentenceTransformer":
        raise BackboneNotFoundError(f"{files.name!r} is a {kind}; only a SentenceTransformer gives one vector per text")
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
    """Return kind and folder of each module: first a Transformer, then a Pooling, then layers."""
    listed = read_json(files.root / "modules.json")
    if not isinstance(listed, list) or not all(map(_is_module, listed)):
        raise WeightsError(f"{files.root / 'modules.json'}: is not a list of modules, each with a 'type' and a 'path'")
    modules = []
    for index, module in enumerate(listed):
        known = _TYPE.fullmatch(module["type"])
        if known is None:
            raise BackboneNotFoundError(
                f"{files.name!r}: its module {index} is {module['type']!r}, which is not supported; supported are "
                f"{', '.join(_KINDS)} of sentence_transformers. Classes that a model's file names are never imported."
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
    """Return the width before pooling, the modes, and whether the prompt is pooled."""
    where = f"{files.root}/{path}/config.json"
    settings = files.read(f"{path}/config.json")
    if settings is None:
        raise WeightsError(f"{where}: is missing; it contains the pooling of the model")
    width = settings.get("embedding_dimension", settings.get("word_embedding_dimension"))
    modes = settings.get("pooling_mode")
    if modes is None:
        modes = [mode for mode, key in MODES.items() if settings.get(key)] or ["mean"]
    modes = [modes] if isinstance(modes, str) else modes
    if not isinstance(modes, list) or not modes or not all(mode in MODES for mode in modes):
        raise BackboneNotFoundError(f"{where}: pooling_mode is {modes!r}; supported are {tuple(MODES)}")
    return positive(width, f"{where}: embedding_dimension"), tuple(modes), bool(settings.get("include_prompt", True))
