"""Record words and outputs of fastai in `fastai_outputs.json`, which the tests compare with.

    python plugins/historic/tests/record_fastai.py

It needs fastai, which the tests do not. The weights of its network are those of `historic_folders.awd_state`.
"""

from __future__ import annotations

import json
import warnings
from importlib.metadata import version
from pathlib import Path

import torch
from historic_folders import SIZES, TEXTS, VOCABULARY, awd_state

OUTPUTS = Path(__file__).with_name("fastai_outputs.json")


def main() -> None:
    """Write the words of each text, and the states and logits of the last layer of the last text."""
    warnings.simplefilter("ignore")
    from fastai.text.core import SpacyTokenizer, TokenizeWithRules
    from fastai.text.models.awdlstm import AWD_LSTM, awd_lstm_lm_config
    from fastai.text.models.core import get_language_model

    words = [list(text) for text in TokenizeWithRules(SpacyTokenizer())(TEXTS)]
    outputs = {}
    for name, n_hidden in SIZES.items():
        config = {**awd_lstm_lm_config, "emb_sz": 8, "n_hid": n_hidden}
        model = get_language_model(AWD_LSTM, len(VOCABULARY), config=config).eval()
        state = awd_state(n_hidden)
        # fastai adds the table once more, under another name.
        model.load_state_dict({**state, "0.encoder_dp.emb.weight": state["0.encoder.weight"]})
        model.reset()
        ids = torch.tensor([[VOCABULARY.index(word) if word in VOCABULARY else 0 for word in words[0]]])  # (1, tokens)
        with torch.no_grad():
            logits, states, _ = model(ids)  # (1, tokens, n_vocabulary), (1, tokens, 8)
        rounded = [[[round(value, 7) for value in row] for row in part[0].tolist()] for part in (states, logits)]
        outputs[name] = dict(zip(("states", "logits"), rounded))
    versions = {name: version(name) for name in ("fastai", "spacy", "torch")}
    OUTPUTS.write_text(json.dumps({"versions": versions, "words": words, "outputs": outputs}) + "\n")


if __name__ == "__main__":
    main()
