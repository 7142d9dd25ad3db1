"""Network of `tiny/bert`: a BERT of four narrow layers on lower-case word pieces.

The layers have a quarter of the weights. The other weights are the embeddings of the word pieces.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn
    from transformers import BertModel

CONFIG = {
    "vocab_size": 10_000,
    "hidden_size": 160,
    "num_hidden_layers": 4,
    "num_attention_heads": 5,
    "intermediate_size": 320,
    "max_position_embeddings": 256,
    "type_vocab_size": 1,
}


def build_model(**changes: Any) -> BertModel:
    """Return the network as a model of transformers, with weights drawn by torch's current generator.

    Parameters
    ----------
    **changes
        Settings of `BertConfig` that differ from those of the shipped network, such as a dropout.
    """
    from transformers.models.bert import BertConfig, BertModel

    config = BertConfig(**{**CONFIG, **changes}, attn_implementation="sdpa")
    return BertModel(config, add_pooling_layer=False)


def build_lm_head(model: BertModel) -> tuple[nn.Module, nn.Linear]:
    """Return the two layers of the head for masked word pieces, the second with the model's table as its weight."""
    from torch import nn
    from transformers.models.bert.modeling_bert import BertPredictionHeadTransform

    transform = BertPredictionHeadTransform(model.config)
    output = nn.Linear(CONFIG["hidden_size"], CONFIG["vocab_size"])
    output.weight = model.embeddings.word_embeddings.weight
    return transform, output


def in_file(model: BertModel, transform: nn.Module, bias: nn.Parameter) -> nn.Module:
    """Return a module that shares all weights, under their names in the file, which has the table only once.

    Parameters
    ----------
    model : BertModel
        The network.
    transform : nn.Module
        First layer of the head.
    bias : nn.Parameter of shape (10_000,)
        Bias of the second layer.
    """
    from torch import nn

    predictions = nn.Module()
    predictions.add_module("transform", transform)
    predictions.register_parameter("bias", bias)
    file = nn.Module()
    for name, part in (*model.named_children(), ("cls", nn.ModuleDict({"predictions": predictions}))):
        file.add_module(name, part)
    return file
