"""Train a small AWD-LSTM as a causal language model on a file of passages.

    python plugins/historic/pretraining/train_awd_lstm.py texts.tsv --out results/awd_lstm

The file has a passage per line, after its kind and a tab. Words are split by fastai's rules, and the vocabulary holds
the most frequent ones. A row of a batch starts with a passage, at a state of zero, as texts do when the network is
used.

The softmax of a step is over words drawn by their frequency, each divided by its expected number of draws. The last
steps compute it over the whole vocabulary. Every few minutes, the folder gets the average of the weights of many steps,
in fastai's names, and the figures of held-out passages. Training is seeded, and resumes from its last checkpoint if the
same command runs again.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import json
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm

from sktransfer_historic.awd_layers import make_stages
from sktransfer_historic.awd_lstm import to_file
from sktransfer_historic.words import BEGIN, PADDING, SPECIAL, UNKNOWN, FastaiRules

WEIGHTS, VOCABULARY, CARD = "awd_lstm.safetensors", "vocabulary.json", "card.json"
WARM_UP = 200  # steps


class LanguageModel(nn.Module):
    """Stages of an AWD-LSTM, and a softmax that is tied to the table of words."""

    def __init__(self, n_words: int, widths: list[int], dropout: float) -> None:
        super().__init__()
        self.stages = nn.ModuleList(make_stages(n_words, widths, SPECIAL.index(PADDING), dropout))
        self.bias = nn.Parameter(torch.zeros(n_words))

    @property
    def table(self) -> Tensor:
        """Vectors of words (n_words, width)."""
        table: Tensor = self.stages[0].table.weight
        return table

    def forward(self, ids: Tensor) -> Tensor:
        """Return states of the last layer (n, tokens, width)."""
        values = ids
        for stage in self.stages:
            values = stage(values)
        return values

    def losses(self, states: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of each target (m,) from states (m, width), over the whole vocabulary."""
        return functional.cross_entropy(functional.linear(states, self.table, self.bias), targets, reduction="none")

    def sampled_losses(self, states: Tensor, targets: Tensor, drawn: Tensor, log_counts: Tensor) -> Tensor:
        """Return the loss of each target (m,), over itself and some drawn words, which stand for all others.

        Parameters
        ----------
        states : Tensor of shape (m, width)
            States of the last layer.
        targets : Tensor of shape (m,)
            Words to predict.
        drawn : Tensor of shape (n_drawn,)
            Words to compare with.
        log_counts : Tensor of shape (n_words,)
            Logarithm of the expected number of draws of each word.
        """
        own = (states * self.table[targets]).sum(1) + self.bias[targets]  # (m,)
        others = functional.linear(states, self.table[drawn], self.bias[drawn] - log_counts[drawn])  # (m, n_drawn)
        others = others.masked_fill(targets[:, None] == drawn, -1e4)
        logits = torch.cat([own[:, None], others], 1)  # (m, 1 + n_drawn)
        return functional.cross_entropy(logits, torch.zeros_like(targets), reduction="none")


def passages(path: Path, kinds: list[str], most: int) -> Iterator[str]:
    """Yield the passages of some kinds, all kinds if none is given."""
    n = 0
    with path.open(encoding="utf-8") as file:
        for line in file:
            kind, _, text = line.rstrip("\n").partition("\t")
            if n < most and (not kinds or kind in kinds):
                n += 1
                yield text


def read_corpus(args: argparse.Namespace) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Return the vocabulary, the ids of all passages, and where each passage starts. They are computed once."""
    stored = args.out / "corpus.npz"
    if not stored.exists():
        rules = FastaiRules()
        words = [rules(text).split(" ") for text in tqdm(passages(args.corpus, args.kinds, args.passages), "words")]
        counts = Counter(word for passage in words for word in passage)
        frequent = sorted(counts, key=lambda word: (-counts[word], word))
        vocabulary = [*SPECIAL, *[word for word in frequent if word not in SPECIAL][: args.vocabulary - len(SPECIAL)]]
        number = {word: index for index, word in enumerate(vocabulary)}
        unknown, begin = number[UNKNOWN], number[BEGIN]
        ids = [[begin, *(number.get(word, unknown) for word in passage)] for passage in words]
        starts = np.concatenate([[0], np.cumsum([len(passage) for passage in ids])])  # (n_passages + 1,)
        np.savez(stored, ids=np.concatenate(ids).astype(np.int32), starts=starts)
        (args.out / VOCABULARY).write_text(json.dumps(vocabulary, ensure_ascii=False), encoding="utf-8")
    found = np.load(stored)
    return json.loads((args.out / VOCABULARY).read_text(encoding="utf-8")), found["ids"], found["starts"]


def batches(
    ids: np.ndarray, starts: np.ndarray, args: argparse.Namespace, done: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield inputs and targets (rows, length) from step `done` on, epoch after epoch, each in another order."""
    step, epoch = 0, 0
    while True:
        order = np.random.default_rng([args.seed, epoch]).permutation(len(starts) - 1)
        row: list[np.ndarray] = []
        rows: list[np.ndarray] = []
        n = 0
        for passage in order:
            row.append(ids[starts[passage] : starts[passage + 1]])
            n += len(row[-1])
            if n > args.length:
                rows.append(np.concatenate(row)[: args.length + 1])
                row, n = [], 0
            if len(rows) == args.rows:
                if step >= done:
                    batch = torch.from_numpy(np.stack(rows).astype(np.int64))  # (rows, length + 1)
                    yield batch[:, :-1], batch[:, 1:]
                rows, step = [], step + 1
        epoch += 1


@torch.no_grad()
def held_out_figures(model: LanguageModel, ids: np.ndarray, starts: np.ndarray) -> dict[str, float]:
    """Return the perplexity of held-out passages, and the share of words that are predicted right.

    `most_frequent` is the share that the most frequent word would reach.
    """
    model.eval()
    losses, right, targets = 0.0, 0, []
    for first in range(0, len(starts) - 1, 50):
        some = [torch.from_numpy(ids[a:b].astype(np.int64)) for a, b in itertools.pairwise(starts[first : first + 51])]
        padded = nn.utils.rnn.pad_sequence(some, batch_first=True, padding_value=-100)  # (n, tokens)
        states = model(padded[:, :-1].clamp(min=1))  # (n, tokens - 1, width)
        wanted = padded[:, 1:]  # (n, tokens - 1)
        known = wanted != -100
        logits = functional.linear(states[known], model.table, model.bias)  # (m, n_words)
        losses += float(functional.cross_entropy(logits, wanted[known], reduction="sum"))
        right += int((logits.argmax(1) == wanted[known]).sum())
        targets.append(wanted[known])
    counts = torch.bincount(torch.cat(targets))
    n = int(counts.sum())
    figures = {"perplexity": np.exp(losses / n), "right": right / n, "most_frequent": int(counts.max()) / n}
    return {name: round(float(value), 4) for name, value in figures.items()}


@torch.no_grad()
def update_average(average: nn.Module, model: nn.Module, step: int) -> None:
    """Move the running average of the weights, faster in early steps."""
    keep = min(0.995, (1 + step) / (10 + step))
    for slow, fast in zip(average.parameters(), model.parameters(), strict=True):
        slow.lerp_(fast, 1 - keep)


def rate_at(share: float, step: int) -> float:
    """Return the factor of the rate of learning, which rises, is 1, and falls in the last third."""
    return min(1.0, (step + 1) / WARM_UP, max(0.02, 3 * (1 - share)))


def train(args: argparse.Namespace) -> None:
    """Train, and write weights and figures every few minutes. Resume an earlier run."""
    args.out.mkdir(parents=True, exist_ok=True)
    vocabulary, ids, starts = read_corpus(args)
    n_held_out = args.held_out
    frequencies = np.bincount(ids, minlength=len(vocabulary)) + 1.0  # (n_words,)
    shares = torch.from_numpy(frequencies / frequencies.sum())
    log_counts = (shares * args.drawn).log().float()
    torch.manual_seed(args.seed)
    widths = [args.width, *[args.hidden] * (args.layers - 1), args.width]
    model = LanguageModel(len(vocabulary), widths, args.dropout)
    model.bias.data.copy_(shares.log())
    average = copy.deepcopy(model)
    optimizer = torch.optim.Adam(model.parameters(), lr=args.lr, betas=(0.9, 0.99))
    parts = {"model": model, "average": average, "optimizer": optimizer}
    state: dict[str, Any] = {"step": 0, "seconds": 0.0}
    checkpoint = args.out / "checkpoint.pt"
    if checkpoint.exists():
        stored = torch.load(checkpoint, weights_only=True)
        for name, part in parts.items():
            part.load_state_dict(stored[name])
        state = stored["state"]
    n_steps = int(args.tokens / (args.rows * args.length))
    began = saved = time.process_time()
    before = state["seconds"]
    bar = tqdm(total=n_steps, initial=state["step"], unit="batch", mininterval=30)
    for inputs, targets in batches(ids, starts[n_held_out:], args, state["step"]):
        if state["step"] >= n_steps:
            break
        share = state["step"] / n_steps
        loss = _loss(model.train(), inputs, targets, shares, log_counts, args, share)
        for group in optimizer.param_groups:
            group["lr"] = args.lr * rate_at(share, state["step"])
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimizer.step()
        update_average(average, model, state["step"])
        state.update(step=state["step"] + 1, seconds=before + time.process_time() - began)
        bar.update()
        bar.set_postfix(loss=f"{loss.item():.3f}")
        if time.process_time() - saved > args.minutes * 60:
            _save(args, parts, state, vocabulary, held_out_figures(average, ids, starts[: n_held_out + 1]))
            saved = time.process_time()
    _save(args, parts, state, vocabulary, held_out_figures(average, ids, starts[: n_held_out + 1]))


def _loss(
    model: LanguageModel,
    inputs: Tensor,
    targets: Tensor,
    shares: Tensor,
    log_counts: Tensor,
    args: argparse.Namespace,
    share: float,
) -> Tensor:
    states = model(inputs).flatten(0, 1)  # (rows * length, width)
    if share > 1 - args.whole:
        return model.losses(states, targets.flatten()).mean()
    drawn = torch.multinomial(shares, args.drawn, replacement=True)  # (n_drawn,)
    return model.sampled_losses(states, targets.flatten(), drawn, log_counts).mean()


def _save(
    args: argparse.Namespace, parts: dict[str, Any], state: dict[str, Any], vocabulary: list[str], figures: Any
) -> None:
    """Write the checkpoint, then the weights, each to a temporary file that is renamed."""
    tqdm.write(f"step {state['step']}: {figures} after {state['seconds'] / 60:.1f} minutes of a core")
    partial = args.out / "partial"
    torch.save({name: part.state_dict() for name, part in parts.items()} | {"state": state}, partial)
    partial.rename(args.out / "checkpoint.pt")
    average: LanguageModel = parts["average"]
    weights = to_file(average.stages, average.bias)
    save_file({name: tensor.detach().contiguous().clone() for name, tensor in weights.items()}, partial)
    partial.rename(args.out / WEIGHTS)
    card = {"figures": figures, "steps": state["step"], "tokens": state["step"] * args.rows * args.length}
    card |= {"core_minutes": round(state["seconds"] / 60, 1), "n_words": len(vocabulary)}
    (args.out / CARD).write_text(json.dumps(card, indent=1) + "\n")


def main() -> None:
    """Read the settings and train."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path, help="file of lines: kind, tab, passage")
    parser.add_argument("--out", type=Path, default=Path("results/awd_lstm"))
    parser.add_argument("--kinds", nargs="*", default=[], help="kinds of passages; all if none is given")
    parser.add_argument("--passages", type=int, default=300_000, help="largest number of passages")
    parser.add_argument("--held-out", type=int, default=500, help="passages for figures")
    parser.add_argument("--vocabulary", type=int, default=12_000)
    parser.add_argument("--width", type=int, default=200, help="width of the table of words")
    parser.add_argument("--hidden", type=int, default=400, help="width of all layers but the last")
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--dropout", type=float, default=0.0, help="factor of the rates of dropout")
    parser.add_argument("--tokens", type=float, default=8e6, help="tokens to read")
    parser.add_argument("--rows", type=int, default=32)
    parser.add_argument("--length", type=int, default=64, help="tokens in a row")
    parser.add_argument("--drawn", type=int, default=1000, help="words that a softmax is computed over")
    parser.add_argument("--whole", type=float, default=0.15, help="share of the steps with the whole softmax")
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--minutes", type=float, default=1, help="minutes of a core between two checkpoints")
    parser.add_argument("--seed", type=int, default=0)
    train(parser.parse_args())


if __name__ == "__main__":
    main()
