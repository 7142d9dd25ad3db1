"""Network of `tiny/bert`: a BERT of four narrow layers on lower-case word pieces.

The layers have a quarter of the weights. The other weights are the embeddings of the word pieces.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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
