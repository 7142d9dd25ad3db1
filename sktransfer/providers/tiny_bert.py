"""The network of `tiny/bert`: a Bert of four thin layers that reads lower-case word pieces.

A quarter of the weights of an encoder of the usual small size sit in its layers; the rest is the table of word pieces.
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
    """Return the network in transformers' own form, weights drawn by torch's current generator.

    Parameters
    ----------
    **changes
        Settings of `BertConfig` that differ from those of the network that is shipped (a dropout, say).
    """
    from transformers.models.bert import BertConfig, BertModel

    config = BertConfig(**{**CONFIG, **changes}, attn_implementation="sdpa")
    return BertModel(config, add_pooling_layer=False)
