"""Train the second edition of `tiny/bert`: from the first, on wider texts, for masked words and distillation together.

    SKTRANSFER_TEST_DATA=... python -m benchmarks.pretraining.tiny_bert_corpus
    SKTRANSFER_TEST_DATA=... python -m benchmarks.pretraining.tiny_bert_wider

The network keeps its size. Half of the texts are segments of film reviews, as in the first edition. Without them it
forgets: after 11 rounds, its accuracy on MR was three points lower. A part of its word pieces gives way to pieces that
these texts use more. It learns what the first edition learned from the teacher, and at the same time the masked word
pieces in half of the texts of a batch, with a head that is tied to the table of word pieces.

Training is in rounds. In each, the teacher reads a new part of the texts, and the student reads this part and the two
before it, so that it reads most texts three times. The rate of learning is constant, and falls in the last two rounds.
Each round ends with figures of held-out texts and a file of weights. Training is seeded, in float32, and resumes from
its last checkpoint if the same command runs again.
"""

from __future__ import annotations

import argparse
import copy
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm
from transformers.models.bert.modeling_bert import BertPredictionHeadTransform

from benchmarks.common import data_folder
from benchmarks.pretraining.common import (
    groups_of,
    load_checkpoint,
    save_checkpoint,
    update_average,
    write_weights,
)
from benchmarks.pretraining.tiny_bert import LOSSES, TEACHER, Batches, Student, inputs_of_maps, losses
from benchmarks.pretraining.tiny_bert_corpus import read
from benchmarks.pretraining.tiny_bert_teacher import Teacher, states_of
from benchmarks.pretraining.tiny_bert_texts import film_segments, mixed, widen_tokenizer
from sktransfer.providers.tiny_bert import CONFIG, in_file
from sktransfer.weights.reading import read_state

WINDOW = 3  # parts that the student reads in a round
WARM_UP = 200  # steps
COUNTED = 100_000  # texts that word pieces are counted in
WEIGHTS = (1.0, 1.0, 2.0, 10.0)  # of the losses of distillation
TOKENIZER = "tiny_bert_tokenizer.json"


class WiderStudent(Student):
    """The student with a head for masked word pieces, tied to the table of word pieces."""

    def __init__(self) -> None:
        super().__init__()
        self.transform = BertPredictionHeadTransform(self.bert.config)
        self.bias = nn.Parameter(torch.zeros(CONFIG["vocab_size"]))

    def pieces(self, states: Tensor) -> Tensor:
        """Return logits (n, vocabulary) from states of the last layer (n, 160)."""
        return F.linear(self.transform(states), self.bert.embeddings.word_embeddings.weight, self.bias)


def hidden(ids: Tensor, words: Tensor, mask_id: int, generator: torch.Generator, rate: float) -> tuple[Tensor, Tensor]:
    """Return ids with some word pieces of half of the texts masked, and where (n, tokens)."""
    half = torch.rand(len(ids), 1, generator=generator) < 0.5
    where = (torch.rand(ids.shape, generator=generator) < rate) & half & (words >= 0)
    return torch.where(where, mask_id, ids), where


@torch.no_grad()
def start_from_first(student: WiderStudent, first: Path, old: Tokenizer, new: Tokenizer, texts: list[str]) -> None:
    """Copy the weights of the first edition, and predict the rows of new word pieces from the teacher's states.

    The prediction is a ridge regression from the state of a word piece alone in the teacher to its row, of a third of
    the pieces that both editions have. The head starts at the frequencies of word pieces in the texts.
    """
    ids = np.concatenate([encoding.ids for encoding in new.encode_batch(texts)])
    counts = torch.from_numpy(np.bincount(ids, minlength=CONFIG["vocab_size"])) + 0.1  # (vocabulary,)
    student.bias.copy_((counts / counts.sum()).log())
    student.bert.load_state_dict({k: v.float() for k, v in read_state(first).items()}, strict=False)
    table = student.bert.embeddings.word_embeddings.weight
    old_pieces, new_pieces = ([t.id_to_token(i) for i in range(CONFIG["vocab_size"])] for t in (old, new))
    is_new = torch.tensor([a != b for a, b in zip(old_pieces, new_pieces)])
    known, unknown = (~is_new).nonzero()[::3, 0], is_new.nonzero()[:, 0]
    x, x_new = (_alone([new_pieces[i].removeprefix("##") for i in rows]) for rows in (known, unknown))
    ridge = x.T @ x + 1e-3 * len(x) * x.var() * torch.eye(x.shape[1])
    table[unknown] = x_new @ torch.linalg.solve(ridge, x.T @ table[known])


def _alone(pieces: list[str]) -> Tensor:
    """Return the teacher's state of each piece and a constant, (n, 385), or zeros if the teacher sees no word."""
    read_alone = Teacher(TEACHER).read(pieces)
    rows = [torch.cat([words.mean(0), torch.ones(1)]) if len(words) else torch.zeros(385) for words, _, _ in read_alone]
    return torch.stack(rows)


@torch.no_grad()
def fit_maps(student: WiderStudent, batches: Batches) -> None:
    """Set the linear maps to the teacher's states by least squares on the first 2,048 texts."""
    rows = np.arange(len(batches.ids))[:2048]
    student.eval()
    found: list[list[Tensor]] = [[], [], []]
    wanted: list[list[Tensor]] = [[], [], []]
    maps = (student.to_words, student.to_middle, student.to_sentence)
    for batch in batches.epoch(rows, np.random.default_rng(0)):
        (ids, mask, words), targets = batches(batch)
        for kept, states in zip(found, inputs_of_maps(*student.states(ids, mask), mask, words)):
            kept.append(states)
        for kept, target in zip(wanted, targets):
            kept.append(target)
    for linear, states, targets in zip(maps, found, wanted):
        x, y = torch.cat(states), torch.cat(targets)
        x = torch.cat([x, torch.ones(len(x), 1)], 1)
        solution = torch.linalg.solve(x.T @ x + 1e-2 * len(x) * x.var() * torch.eye(x.shape[1]), x.T @ y)
        linear.weight.copy_(solution[:-1].T)
        linear.bias.copy_(solution[-1])


class Corpus:
    """The texts in parts, each with word pieces and the teacher's states.

    Parameters
    ----------
    texts : list of str
        Held-out texts first.
    tokenizer : tokenizers.Tokenizer
        The word pieces of the student.
    work : Path
        Folder of the teacher's states.
    n_held_out, size, budget : int
        Held-out texts, texts in a part, tokens in a batch.
    """

    def __init__(
        self, texts: list[str], tokenizer: Tokenizer, work: Path, n_held_out: int, size: int, budget: int
    ) -> None:
        self.tokenizer, self.work, self.size, self.budget = tokenizer, work, size, budget
        self.held_out, self.texts = texts[:n_held_out], texts[n_held_out:]
        self.n_parts = len(self.texts) // size
        self._batches: dict[int, Batches] = {}

    def part(self, number: int) -> Batches:
        """Return part `number`, -1 for the held-out texts, and forget the parts before the window."""
        if number not in self._batches:
            texts = self.texts[number * self.size :][: self.size] if number >= 0 else self.held_out
            folder = self.work / ("held_out" if number < 0 else f"part_{number:03d}")
            folder.mkdir(parents=True, exist_ok=True)
            states = states_of(texts, TEACHER, folder, self.work / "basis.pt")
            self._batches[number] = Batches(texts, self.tokenizer, states, self.budget)
            self._batches = {n: b for n, b in self._batches.items() if n < 0 or n > number - WINDOW}
        return self._batches[number]

    def round(self, number: int, seed: int) -> list[tuple[Batches, np.ndarray]]:
        """Return the batches of a round in their order."""
        generator = np.random.default_rng([seed, number])
        parts = [self.part(n) for n in range(max(0, number - WINDOW + 1), number + 1)]
        order = [(part, rows) for part in parts for rows in part.epoch(np.arange(len(part.ids)), generator)]
        return [order[i] for i in generator.permutation(len(order))]


def rate_at(position: float, rounds: int, step: int) -> float:
    """Return the factor of the rate of learning, which rises, is 1, and falls in the last two rounds."""
    return min(1.0, (step + 1) / WARM_UP, max(0.02, (rounds - position) / min(2, rounds)))


@torch.no_grad()
def held_out_figures(student: WiderStudent, batches: Batches, tokenizer: Tokenizer) -> dict[str, float]:
    """Return the losses of distillation, and of masked whole words the share that the head names.

    `most_frequent` is the share that the most frequent word would reach.
    """
    student.eval()
    mask_id, generator = tokenizer.token_to_id("[MASK]"), torch.Generator().manual_seed(0)
    pieces = [tokenizer.id_to_token(i) for i in range(CONFIG["vocab_size"])]
    is_word = torch.tensor([piece.isalpha() for piece in pieces])
    continues = torch.tensor([piece.startswith("##") for piece in pieces])
    all_losses, right, counts = [], 0, torch.zeros(len(pieces))
    for rows in batches.epoch(np.arange(len(batches.ids)), np.random.default_rng(0)):
        (ids, mask, words), wanted = batches(rows)
        all_losses.append([loss.item() for loss in losses(student(ids, mask, words), wanted)])
        whole = is_word[ids] & ~F.pad(continues[ids[:, 1:]], (0, 1))  # (n, tokens)
        where = whole & (torch.rand(ids.shape, generator=generator) < 0.15)
        if where.any():
            _, last = student.states(torch.where(where, mask_id, ids), mask)
            right += int((student.pieces(last[where]).argmax(1) == ids[where]).sum())
            counts += torch.bincount(ids[where], minlength=len(pieces))
    figures = dict(zip(LOSSES, np.mean(all_losses, axis=0)))
    figures |= {"masked_words": right / counts.sum(), "most_frequent": counts.max() / counts.sum()}
    return {name: round(float(value), 4) for name, value in figures.items()}


def train(args: argparse.Namespace) -> None:
    """Train, and write weights and word pieces after each round. Resume an earlier run."""
    args.work.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(args.seed)
    films = film_segments(data_folder(), generator)
    films = [films[i] for i in generator.permutation(len(films))]
    texts = mixed(read(args.corpus), films, args.films, generator)
    if not (args.work / TOKENIZER).exists():
        counted = texts[args.held_out :][:COUNTED]
        widen_tokenizer(args.first / TOKENIZER, counted, args.work / TOKENIZER, args.replaced)
    old, tokenizer = (Tokenizer.from_file(str(folder / TOKENIZER)) for folder in (args.first, args.work))
    tokenizer.enable_truncation(CONFIG["max_position_embeddings"])
    corpus = Corpus(texts, tokenizer, args.work, args.held_out, args.part, args.budget)
    torch.manual_seed(args.seed)
    student = WiderStudent()
    optimizer = torch.optim.AdamW(groups_of(student, 0.01), lr=args.lr, betas=(0.9, 0.98))
    average = copy.deepcopy(student)
    parts = {"student": student, "average": average, "optimizer": optimizer}
    state = load_checkpoint(args.work / "tiny_bert.pt", **parts)
    if state is None:
        state = {"round": 0, "step": 0, "steps": 0, "seconds": 0.0}
        start_from_first(student, args.first / "tiny_bert.safetensors", old, tokenizer, corpus.texts[:10_000])
        fit_maps(student, corpus.part(0))
        average.load_state_dict(student.state_dict())
        tqdm.write(f"start: {held_out_figures(average, corpus.part(-1), tokenizer)}")
    for number in range(state["round"], min(args.rounds, corpus.n_parts)):
        _one_round(args, corpus, number, parts, state, tokenizer.token_to_id("[MASK]"))
        state.update(round=number + 1, step=0)
        figures = held_out_figures(average, corpus.part(-1), tokenizer)
        tqdm.write(f"round {number + 1}: {figures} after {state['seconds'] / 60:.1f} minutes, {state['steps']} steps")
        _save(args.work, parts, state)
        write_weights(
            args.out / "tiny_bert.safetensors", in_file(average.bert, average.transform, average.bias), figures=figures
        )
        (args.out / TOKENIZER).write_text((args.work / TOKENIZER).read_text(encoding="utf-8"), encoding="utf-8")


def _one_round(
    args: argparse.Namespace, corpus: Corpus, number: int, parts: dict[str, Any], state: dict[str, Any], mask_id: int
) -> None:
    """Train one round from the step in `state`, with a checkpoint every few minutes."""
    student, optimizer = parts["student"].train(), parts["optimizer"]
    order = corpus.round(number, args.seed)
    began = saved = time.perf_counter()
    before = state["seconds"]
    bar = tqdm(range(state["step"], len(order)), desc=f"round {number + 1}/{args.rounds}", unit="batch", mininterval=10)
    for step in bar:
        batches, rows = order[step]
        (ids, mask, words), wanted = batches(rows)
        generator = torch.Generator().manual_seed(args.seed + 1000 * state["steps"])
        masked, where = hidden(ids, words, mask_id, generator, args.rate)
        third, last = student.states(masked, mask)
        each = losses(student.mapped(third, last, mask, words), wanted)
        loss = sum(weight * one for weight, one in zip(WEIGHTS, each))
        named = F.cross_entropy(student.pieces(last[where]), ids[where]) if where.any() else torch.zeros(())
        loss = loss + args.masked_weight * named
        for group in optimizer.param_groups:
            group["lr"] = args.lr * rate_at(number + step / len(order), args.rounds, state["steps"])
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        optimizer.step()
        update_average(parts["average"], student, state["steps"])
        state.update(step=step + 1, steps=state["steps"] + 1, seconds=before + time.perf_counter() - began)
        if step % 50 == 0:
            shown = dict(zip(LOSSES, each)) | {"masked": named}
            bar.set_postfix({name: f"{one.item():.3f}" for name, one in shown.items()})
        if time.perf_counter() - saved > args.minutes * 60:
            _save(args.work, parts, state)
            saved = time.perf_counter()


def _save(work: Path, parts: dict[str, Any], state: dict[str, Any]) -> None:
    save_checkpoint(work / "tiny_bert.pt", {name: part.state_dict() for name, part in parts.items()} | state)


def main() -> None:
    """Read the settings and train."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, default=Path("pretraining/texts.tsv"))
    parser.add_argument("--first", type=Path, default=Path("pretraining/tiny_bert"), help="output of tiny_bert")
    parser.add_argument("--rounds", type=int, default=14)
    parser.add_argument("--films", type=float, default=0.5, help="share of segments of film reviews in the texts")
    parser.add_argument("--held-out", type=int, default=2048, help="texts for figures")
    parser.add_argument("--part", type=int, default=8192, help="texts that the teacher reads in a round")
    parser.add_argument("--budget", type=int, default=2048, help="tokens in a batch")
    parser.add_argument("--replaced", type=int, default=1500, help="word pieces that give way to new ones")
    parser.add_argument("--rate", type=float, default=0.2, help="share of masked word pieces in half of the texts")
    parser.add_argument("--masked-weight", type=float, default=0.3, help="weight of the loss of masked word pieces")
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--minutes", type=float, default=4, help="minutes between two checkpoints")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, default=Path("pretraining/wider"), help="teacher's states and checkpoints")
    parser.add_argument("--out", type=Path, default=Path("pretraining/wider/out"))
    train(parser.parse_args())


if __name__ == "__main__":
    main()
