"""States of the teacher, all-MiniLM-L6-v2, computed once per text and read in every epoch of the student.

Three kinds of states are stored. The first are the states of each word after layer 4, as 192 principal components. This
layer transfers best to small sentiment tasks. The second are their means over the text. The third are the sentence
embeddings, means of the last layer.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm
from transformers import AutoModel

COMPONENTS = 192
LAYER = 4
MAX_TOKENS = 256
CHUNK = 4096  # texts between two checkpoints


@dataclass
class States:
    """The teacher's states of n texts, memory-mapped.

    Attributes
    ----------
    words : numpy.ndarray of shape (n_words, 192), float16
        States of all words of all texts, centred, in units of the mean deviation over the 384 dimensions.
    starts : numpy.ndarray of shape (n + 1,)
        Text i has the words `starts[i]` to `starts[i + 1]`.
    middle, sentence : numpy.ndarray of shape (n, 384), float16
        The standardised mean state after layer 4, and the sentence embedding of length one.
    """

    words: np.ndarray
    starts: np.ndarray
    middle: np.ndarray
    sentence: np.ndarray


class Teacher:
    """all-MiniLM-L6-v2 from a local folder, in bfloat16."""

    def __init__(self, folder: Path) -> None:
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.tokenizer.no_padding()
        self.tokenizer.enable_truncation(MAX_TOKENS)
        self.model = AutoModel.from_pretrained(str(folder), dtype=torch.bfloat16, local_files_only=True).eval()

    @torch.inference_mode()
    def read(self, texts: list[str], budget: int = 2048) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Return per text the states of its words (n_words, 384), their mean (384,) and its embedding (384,)."""
        encodings = [self.tokenizer.encode(text) for text in texts]
        order = np.argsort([len(encoding.ids) for encoding in encodings])[::-1]
        answers: list[Any] = [None] * len(texts)
        start = 0
        while start < len(order):
            rows = order[start : start + max(1, budget // len(encodings[order[start]].ids))]
            start += len(rows)
            longest = len(encodings[rows[0]].ids)
            ids = torch.zeros(len(rows), longest, dtype=torch.long)
            mask = torch.zeros_like(ids)
            for i, row in enumerate(rows):
                length = len(encodings[row].ids)
                ids[i, :length], mask[i, :length] = torch.tensor(encodings[row].ids), 1
            states = self.model(input_ids=ids, attention_mask=mask, output_hidden_states=True).hidden_states
            for i, row in enumerate(rows):
                length = int(mask[i].sum())
                middle, last = states[LAYER][i, :length].float(), states[-1][i, :length].float()  # (tokens, 384)
                words = mean_by_word(middle, torch.tensor(word_of(encodings[row].word_ids)))
                answers[row] = (words, middle.mean(0), F.normalize(last.mean(0), dim=0))
        return answers


def word_of(word_ids: list[int | None]) -> list[int]:
    """Return the word number of each token, -1 for special tokens."""
    return [-1 if word is None else word for word in word_ids]


def mean_by_word(states: Tensor, words: Tensor) -> Tensor:
    """Return the mean state of each word, (n_words, channels), from those of tokens (tokens, channels)."""
    real = words >= 0
    n_words = int(words.max()) + 1 if len(words) else 0
    sums = states.new_zeros(n_words, states.shape[1]).index_add_(0, words[real], states[real])
    counts = torch.bincount(words[real], minlength=n_words).clamp(min=1)
    return sums / counts[:, None]


def states_of(texts: list[str], folder: Path, work: Path, basis_file: Path | None = None) -> States:
    """Return the states of the texts. States that `work` holds already are not computed again.

    `basis_file` holds the principal axes, by default `basis.pt` in `work`. If it is missing, these texts define them.
    """
    teacher = Teacher(folder)
    counts = [1 + max(word_of(teacher.tokenizer.encode(text).word_ids), default=-1) for text in texts]
    starts = np.concatenate([[0], np.cumsum(counts)])
    shapes = {"words": (int(starts[-1]), COMPONENTS), "middle": (len(texts), 384), "sentence": (len(texts), 384)}
    note = work / "teacher.json"
    done = json.loads(note.read_text())["done"] if note.exists() else 0
    arrays = {
        name: np.lib.format.open_memmap(work / f"{name}.npy", "r+" if done else "w+", np.float16, shape)
        for name, shape in shapes.items()
    }
    basis = _basis(teacher, texts, basis_file or work / "basis.pt")
    for first in tqdm(range(done, len(texts), CHUNK), desc="teacher", unit="chunk"):
        for row, (words, middle, sentence) in enumerate(teacher.read(texts[first : first + CHUNK]), start=first):
            components = (words - basis["mean"]) @ basis["axes"] / basis["scale"]  # (n_words, 192)
            arrays["words"][starts[row] : starts[row + 1]] = components.numpy()
            arrays["middle"][row] = ((middle - basis["middle_mean"]) / basis["middle_std"]).numpy()
            arrays["sentence"][row] = sentence.numpy()
        for array in arrays.values():
            array.flush()
        note.write_text(json.dumps({"done": min(first + CHUNK, len(texts))}))
    return States(starts=starts, **arrays)


def _basis(teacher: Teacher, texts: list[str], path: Path) -> dict[str, Tensor]:
    """Return the principal axes of word states and the spread of text means, from the first 4,000 texts."""
    if not path.exists():
        read = teacher.read(texts[:4000])
        words, middle = torch.cat([words for words, _, _ in read]), torch.stack([middle for _, middle, _ in read])
        mean = words.mean(0)
        _, _, axes = torch.pca_lowrank(words - mean, COMPONENTS, center=False, niter=4)
        scale = (words - mean).pow(2).mean().sqrt()
        basis = {"mean": mean, "axes": axes, "scale": scale}
        torch.save(basis | {"middle_mean": middle.mean(0), "middle_std": middle.std(0)}, path)
    loaded: dict[str, Tensor] = torch.load(path, weights_only=True)
    return loaded
