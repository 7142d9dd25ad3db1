"""Small networks with random weights in folders, in the files that fastai and AllenNLP write."""

from __future__ import annotations

import functools
import itertools
import json
import pickle
import tempfile
from pathlib import Path

import h5py
import numpy as np
import torch
from safetensors.torch import save_file

from sktransfer_historic.words import SPECIAL

# Hidden units of fastai 2 and of fastai 1 differ in this way: 1152 and 1150.
SIZES = {"fastai 2": 12, "fastai 1": 11}
TEXTS = [
    "The plot of a GOOD film!!!! It was no no no no good...\nGood",
    '<br />Don\'t you #39;think&amp; so?\\nYes &lt;b&gt; A+B/C # 12,000 "quoted"',
    "   spaces    and\ttabs\n\nand lines \n x",
    "",
    " ",
    "xxbos word @-@ word <unk> 3 @.@ 14",
    "john.doe@example.com or http://www.example.com/a/b?c=1 :-)",
    "caf\u00e9 na\u00efve \u00dcber \u4f60\u597d \U0001f600\U0001f600\U0001f600 \u2014 dash\u2026 \xa0nbsp",
    "HELLO WORLD This Is McDonald iPhone USA. a a a a b b b. C C C C ------",
]
WORDS = "a the of film plot good bad acting and all so what clever stupid story that is than can be said most in which"
VOCABULARY = [*SPECIAL, *WORDS.split(), ".", ",", "!", "4", "(", ")", "\n", "xxfake", "xxfake"]


def awd_state(n_hidden: int, width: int = 8, n_layers: int = 3) -> dict[str, torch.Tensor]:
    """Return random weights of AWD-LSTM in fastai's names, which no library's initialization decides."""
    draw = np.random.default_rng(0)

    def tensor(*shape: int) -> torch.Tensor:
        return torch.from_numpy(draw.uniform(-0.5, 0.5, shape).astype(np.float32))

    table = tensor(len(VOCABULARY), width)
    state = {"0.encoder.weight": table, "1.decoder.weight": table, "1.decoder.bias": tensor(len(VOCABULARY))}
    sizes = [width, *[n_hidden] * (n_layers - 1), width]
    for layer, (n_inputs, n_outputs) in enumerate(itertools.pairwise(sizes)):
        part = f"0.rnns.{layer}"
        state |= {
            f"{part}.weight_hh_l0_raw": tensor(4 * n_outputs, n_outputs),
            f"{part}.module.weight_ih_l0": tensor(4 * n_outputs, n_inputs),
            f"{part}.module.bias_ih_l0": tensor(4 * n_outputs),
            f"{part}.module.bias_hh_l0": tensor(4 * n_outputs),
        }
    return state


def write_awd(folder: Path, n_hidden: int = 12) -> Path:
    """Write weights and vocabulary as fastai does: a state dict and a pickled list."""
    state = awd_state(n_hidden)
    state["0.encoder_dp.emb.weight"] = state["0.encoder.weight"]
    state["0.rnns.0.module.weight_hh_l0"] = torch.zeros_like(state["0.rnns.0.weight_hh_l0_raw"])  # fastai 1 wrote this
    folder.mkdir(exist_ok=True)
    torch.save(state, folder / "lstm_fwd.pth")
    (folder / "lstm_fwd_itos.pkl").write_bytes(pickle.dumps(VOCABULARY))
    return folder


def write_safe_awd(folder: Path, n_hidden: int = 12) -> Path:
    """Write weights and vocabulary without pickle, as the training script does."""
    folder.mkdir(exist_ok=True)
    state = awd_state(n_hidden)
    save_file({name: tensor.clone() for name, tensor in state.items()}, folder / "awd_lstm.safetensors")
    (folder / "vocabulary.json").write_text(json.dumps(VOCABULARY))
    return folder


OPTIONS = {
    "lstm": {
        "use_skip_connections": True,
        "projection_dim": 6,
        "dim": 10,
        "n_layers": 2,
        "cell_clip": 3,
        "proj_clip": 3,
    },
    "char_cnn": {
        "embedding": {"dim": 4},
        "filters": [[1, 4], [2, 4], [3, 8]],
        "n_highway": 1,
        "n_characters": 262,
        "max_characters_per_token": 50,
        "activation": "relu",
    },
}


def write_elmo(folder: Path, options: dict = OPTIONS) -> Path:
    """Write options and random weights as AllenNLP does."""
    draw = np.random.default_rng(0)
    lstm, cnn = OPTIONS["lstm"], OPTIONS["char_cnn"]
    width, n_cells, n_filters = lstm["projection_dim"], lstm["dim"], sum(n for _, n in cnn["filters"])
    shapes = {"char_embed": (261, 4), "CNN_proj/W_proj": (n_filters, width), "CNN_proj/b_proj": (width,)}
    for index, (length, n) in enumerate(cnn["filters"]):
        shapes |= {f"CNN/W_cnn_{index}": (1, length, 4, n), f"CNN/b_cnn_{index}": (n,)}
    for gate in ("transform", "carry"):
        shapes |= {f"CNN_high_0/W_{gate}": (n_filters, n_filters), f"CNN_high_0/b_{gate}": (n_filters,)}
    for direction in range(2):
        for layer in range(lstm["n_layers"]):
            cell = f"RNN_{direction}/RNN/MultiRNNCell/Cell{layer}/LSTMCell"
            shapes |= {
                f"{cell}/W_0": (2 * width, 4 * n_cells),
                f"{cell}/W_P_0": (n_cells, width),
                f"{cell}/B": (4 * n_cells,),
            }
    folder.mkdir(exist_ok=True)
    (folder / "options.json").write_text(json.dumps(options))
    with h5py.File(folder / "lm_weights.hdf5", "w") as file:
        for name, shape in shapes.items():
            file[name] = draw.uniform(-0.5, 0.5, shape).astype(np.float32)
    return folder


@functools.cache
def folder(kind: str) -> Path:
    """Return a folder of weights, "awd_lstm" or "elmo", which tests only read."""
    place = Path(tempfile.mkdtemp()) / "model"
    return write_safe_awd(place) if kind == "awd_lstm" else write_elmo(place)


def name(kind: str) -> str:
    """Return the name of the backbone of the folder."""
    return f"historic/{kind}/{folder(kind)}"
