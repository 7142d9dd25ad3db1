"""Small models with random weights, saved by sentence-transformers itself: what the tests compare with."""

from __future__ import annotations

import functools
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Dense, Normalize, Transformer
from sentence_transformers.sentence_transformer.modules import Pooling
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from torch import nn

WIDTH, LAYERS, POSITIONS = 32, 3, 40
WORDS = "a film acting and plot all what story so the of it is was not very one more than good bad clever stupid Query"
WORDS += " query text : , . ! search for This this Film"
TEXTS = [
    "a good film",
    "a film of very clever acting and a story that is not bad , all in all",
    "stupid",
    "",
    "The plot was bad !",
    "  all   of it  [SEP] so so ",
    "very " * 60,
]
_WIDE = {"hidden_size": WIDTH, "num_hidden_layers": LAYERS, "num_attention_heads": 4, "intermediate_size": 48}
_ENCODER = {**_WIDE, "max_position_embeddings": POSITIONS, "initializer_range": 0.2}
FAMILIES: dict[str, dict[str, Any]] = {
    "bert": _ENCODER,
    "distilbert": {
        "dim": WIDTH,
        "n_layers": LAYERS,
        "n_heads": 4,
        "hidden_dim": 48,
        "max_position_embeddings": POSITIONS,
        "initializer_range": 0.2,
    },
    "gpt2": {"n_embd": WIDTH, "n_layer": LAYERS, "n_head": 4, "n_positions": POSITIONS, "initializer_range": 0.2},
    "modernbert": {**_ENCODER, "local_attention": 6, "initializer_cutoff_factor": 2.0},
    "mpnet": {**_ENCODER, "max_position_embeddings": POSITIONS + 2},
    "xlm-roberta": {**_ENCODER, "max_position_embeddings": POSITIONS + 2},
}


def tokenizer(*, special: bool = True, lowercase: bool = False, **settings: Any) -> Any:
    """Return a tokenizer of whole words; their case counts unless `lowercase`."""
    vocabulary = {word: i for i, word in enumerate(["[UNK]", "[PAD]", "[CLS]", "[SEP]", "[MASK]", *WORDS.split()])}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    backend.normalizer = normalizers.Lowercase() if lowercase else normalizers.NFC()
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]"}
    if special:
        names |= {"cls_token": "[CLS]", "sep_token": "[SEP]"}
        backend.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
        )
    settings = {"model_max_length": POSITIONS, **names, **settings}
    return transformers.PreTrainedTokenizerFast(tokenizer_object=backend, **settings)


@functools.cache
def transformer_folder(family: str = "bert", lowercase: bool = False) -> str:
    """Return a folder with a random transformer and its tokenizer, made once a process."""
    folder = Path(tempfile.mkdtemp(prefix="sktransfer-st-"), family)
    special = family != "gpt2"
    own = tokenizer(special=special, lowercase=lowercase)
    ids = {"bos_token_id": 2, "cls_token_id": 2, "eos_token_id": 3, "sep_token_id": 3, "pad_token_id": 1}
    settings = {"vocab_size": len(own), **ids, **FAMILIES[family]}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = transformers.AutoModel.from_config(transformers.CONFIG_MAPPING[family].from_dict(settings))
        for name, parameter in model.named_parameters():  # biases that are zero would hide that one is left out
            if parameter.ndim == 1:
                nn.init.normal_(parameter, mean=float("norm" in name.lower() and "weight" in name), std=0.2)
    _quietly(lambda: model.save_pretrained(folder))
    own.save_pretrained(folder)
    return str(folder)


def _quietly(act: Any) -> Any:
    shown = transformers.utils.logging.is_progress_bar_enabled()
    transformers.utils.logging.disable_progress_bar()
    try:
        return act()
    finally:
        if shown:
            transformers.utils.logging.enable_progress_bar()


def save_model(
    folder: Path,
    layers: Any = (),
    *,
    family: str = "bert",
    pooling: Any = "mean",
    include_prompt: bool = True,
    lowercase: bool = False,
    **settings: Any,
) -> SentenceTransformer:
    """Save a small model, and return it as sentence-transformers loads it from there."""
    source = transformer_folder(family, lowercase)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        modules = [
            _quietly(lambda: Transformer(source)),
            Pooling(WIDTH, pooling, include_prompt=include_prompt),
            *layers,
        ]
        model = SentenceTransformer(modules=modules, device="cpu", **settings)
        _quietly(lambda: model.save(str(folder)))
    return open_model(folder)


def dense(given: int, width: int, **settings: Any) -> Dense:
    """Return a random linear layer."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        return Dense(given, width, **settings)


def open_model(folder: Path | str) -> SentenceTransformer:
    """Return a folder's model as sentence-transformers loads it."""
    return _quietly(lambda: SentenceTransformer(str(folder), device="cpu", local_files_only=True))


@functools.cache
def small_model() -> str:
    """Return the folder of a model with all that a model may have, made once a process."""
    folder = Path(tempfile.mkdtemp(prefix="sktransfer-st-"), "small")
    save_model(folder, [dense(WIDTH, 24), Normalize()], pooling="mean", lowercase=True)
    return str(folder)


def change(path: Path, **changes: Any) -> None:
    """Change settings in a JSON file; those that are None are taken out."""
    settings = json.loads(path.read_text()) if path.exists() else {}
    settings = {key: value for key, value in {**settings, **changes}.items() if value is not None}
    path.write_text(json.dumps(settings))


def distance(found: np.ndarray, expected: np.ndarray) -> float:
    """Return the largest difference as a share of the largest value, the expected ones being told apart by texts."""
    scale = np.abs(expected).max()
    assert np.abs(expected - expected[0]).max() > 1e-2 * scale, "all texts give the same: nothing could differ"
    assert found.shape == expected.shape
    return float(np.abs(found - expected).max() / scale)
