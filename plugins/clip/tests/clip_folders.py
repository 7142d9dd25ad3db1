"""A small CLIP model with random weights in a folder, as transformers saves it: what the tests compare with."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors

SIDE, POSITIONS, SPACE = 16, 12, 10
WORDS = "a photo of an ant bee the small red yellow dark bright image with and in it garden"
WORDS += " good bad film acting plot all what clever stupid story so"  # those of the kit's texts
TEXTS = ["a photo of an ant", "a bee", "the small red image with a bright yellow bee in it and an ant", "dark"]
END = len(WORDS.split()) + 3
_TOWER = {"num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 48, "projection_dim": SPACE}


def tokenizer(end: str = "<|endoftext|>") -> Any:
    """Return a tokenizer of whole words, which frames each text by two tokens."""
    names = ["<|startoftext|>", "<unk>", "<pad>", *WORDS.split(), "<|endoftext|>"]
    backend = Tokenizer(models.WordLevel({name: i for i, name in enumerate(names)}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.post_processor = processors.TemplateProcessing(
        single=f"<|startoftext|> $A {end}", special_tokens=[("<|startoftext|>", 0), (end, names.index(end))]
    )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend, model_max_length=POSITIONS, pad_token="<pad>", unk_token="<unk>", eos_token=end
    )


def build(end: int = END, **changes: Any) -> Any:
    """Return a CLIPModel whose every weight tells, of a space of SPACE dimensions."""
    text = {"hidden_size": 32, "vocab_size": END + 1, "max_position_embeddings": POSITIONS, "eos_token_id": end}
    vision = {"hidden_size": 24, "image_size": SIDE, "patch_size": 4}
    config = transformers.CLIPConfig(
        text_config={**_TOWER, **text, "bos_token_id": 0, "pad_token_id": 2},
        vision_config={**_TOWER, **vision},
        projection_dim=SPACE,
        **changes,
    )
    model = transformers.CLIPModel(config)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if name == "logit_scale":
                parameter.fill_(1.0)
            elif parameter.ndim > 1:
                parameter.copy_(noise / (1.0 if "embedding" in name else parameter[0].numel() ** 0.5))
            else:
                parameter.copy_(float("norm" in name and name.endswith("weight")) + 0.3 * noise)
    return model.eval()


def save(folder: Path, model: Any, end: str = "<|endoftext|>") -> Path:
    """Save a model with its tokenizer and its preprocessing."""
    transformers.utils.logging.disable_progress_bar()
    model.save_pretrained(folder)
    transformers.utils.logging.enable_progress_bar()
    tokenizer(end).save_pretrained(folder)
    processor = transformers.CLIPImageProcessorPil(
        size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE}
    )
    processor.save_pretrained(folder)
    return folder


@functools.cache
def folder() -> str:
    """Return a folder with the model, made once a process."""
    return str(save(Path(tempfile.mkdtemp(prefix="sktransfer-clip-"), "model"), build()))


def distance(one: torch.Tensor, other: torch.Tensor) -> float:
    """Return the largest difference as a share of the largest value."""
    return ((one - other).abs().max() / other.abs().max()).item()


__all__ = ["END", "POSITIONS", "SIDE", "SPACE", "TEXTS", "build", "distance", "folder", "save", "tokenizer"]
