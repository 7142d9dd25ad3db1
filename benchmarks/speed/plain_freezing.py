"""Peer of fine-tuning: skorch nets with plain freezing, written as efficiently as skorch allows.

Frozen modules get no gradients and stay in `eval()`. Texts are padded to the longest of their batch, and batches hold
texts of similar length. The order of batches, new head, optimizer and schedule are those of `FineTuneClassifier`, so
that single scores can be compared. The networks come from transformers and torchvision.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from skorch import NeuralNetClassifier
from skorch.callbacks import LRScheduler
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from torch.optim.lr_scheduler import LinearLR
from torch.utils.data import DataLoader, Dataset

from benchmarks.common import mobilenet_weights, sentence_folder
from benchmarks.speed.timing import device
from sktransfer.engine.rng import derive_seed

BATCH_SIZE = 32
SORTED = 32  # batches whose texts are sorted by length together
LAYERS_OF_STAGES = (1, 2, 4, 7, 11, 14, 17, 19)  # number of MobileNetV2's `features` at the end of each of our stages
LR, HEAD_LR = 1e-4, 1e-3


@functools.cache
def bert() -> nn.Module:
    """Return all-MiniLM-L6-v2 as transformers loads it."""
    from transformers import AutoModel
    from transformers.utils import logging

    logging.set_verbosity_error()  # it warns that the unused pooler is not loaded
    logging.disable_progress_bar()
    model: nn.Module = AutoModel.from_pretrained(sentence_folder(), add_pooling_layer=False)
    return model


@functools.cache
def mobilenet() -> nn.Module:
    """Return torchvision's MobileNetV2 with its pretrained weights."""
    from torchvision.models import mobilenet_v2

    model: nn.Module = mobilenet_v2()
    model.load_state_dict({name: value.float() for name, value in load_file(mobilenet_weights()).items()})
    return model


def new_head(n_features: int, seed: int) -> nn.Linear:
    """Return a head drawn from a seed. Dropout continues the same random stream."""
    torch.manual_seed(seed)
    return nn.Linear(n_features, 2)


class PlainText(nn.Module):
    """Sentence encoder with frozen lower stages (embeddings, then layers), mean pooling and a head."""

    def __init__(self, freeze_depth: int = 0, seed: int = 0) -> None:
        super().__init__()
        body: Any = copy.deepcopy(bert())
        self.body: nn.Module = body
        self.frozen: list[nn.Module] = [body.embeddings, *body.encoder.layer][:freeze_depth]
        for module in self.frozen:
            module.requires_grad_(False)
        self.seed, self.head = seed, new_head(384, seed)

    def train(self, mode: bool = True) -> PlainText:
        """Set the training mode of the trained part only."""
        super().train(mode)
        for module in self.frozen:
            module.eval()
        return self

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return logits (n, 2)."""
        values = self.body(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state  # (n, tokens, 384)
        weight = attention_mask[..., None].to(values.dtype)  # (n, tokens, 1)
        logits: Tensor = self.head((values * weight).sum(1) / weight.sum(1))  # (n, 2)
        return logits


class PlainImage(nn.Module):
    """MobileNetV2 with frozen lower stages, fixed BatchNorm statistics, average pooling and a head."""

    def __init__(self, freeze_depth: int = 0, seed: int = 0, channels_last: bool = False) -> None:
        super().__init__()
        body: Any = copy.deepcopy(mobilenet().features)
        self.body: nn.Module = body
        for module in list(body)[: LAYERS_OF_STAGES[freeze_depth - 1] if freeze_depth else 0]:
            module.requires_grad_(False)
        self.seed, self.head = seed, new_head(1280, seed)
        self.form = torch.channels_last if channels_last else torch.contiguous_format
        body.to(memory_format=self.form)

    def train(self, mode: bool = True) -> PlainImage:
        """Leave the body in `eval()`, because BatchNorm is the only layer that depends on the mode."""
        super().train(mode)
        self.body.eval()
        return self

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (n, 2) of images (n, 3, height, width) of bytes."""
        values = (images.float() / 255 - 0.5) / 0.5  # (n, 3, height, width)
        values = self.body(values.contiguous(memory_format=self.form))  # (n, 1280, rows, columns)
        logits: Tensor = self.head(values.mean((2, 3)))  # (n, 2)
        return logits


class Rows(Dataset[Any]):
    """Data set of token ids or images, and labels. skorch's own data set would guess how to index them."""

    def __init__(self, X: Any, y: Any = None) -> None:
        self.X = [torch.as_tensor(one) for one in X]
        self.y = np.zeros(len(X), np.int64) if y is None else np.asarray(y, np.int64)

    def __len__(self) -> int:
        return len(self.X)

    def __getitem__(self, row: int) -> tuple[Tensor, int]:
        return self.X[row], int(self.y[row])


def collate(rows: Sequence[tuple[Tensor, int]]) -> tuple[Any, Tensor]:
    """Stack rows into one batch, with texts padded to the longest."""
    values, labels = [value for value, _ in rows], torch.tensor([label for _, label in rows])
    if values[0].ndim == 3:
        return torch.stack(values), labels  # (n, 3, height, width)
    ids = pad_sequence(values, batch_first=True)  # (n, tokens)
    mask = torch.arange(ids.shape[1]) < torch.tensor([len(value) for value in values])[:, None]  # (n, tokens)
    return {"input_ids": ids, "attention_mask": mask.long()}, labels


class Order:
    """Batches of row numbers, drawn per epoch: texts of similar length together, batches shuffled."""

    def __init__(self, lengths: np.ndarray | None, n: int, seed: int) -> None:
        self.lengths, self.n, self.seed, self.epoch = lengths, n, seed, 0

    def __len__(self) -> int:
        return -(-self.n // BATCH_SIZE)

    def __iter__(self) -> Iterator[list[int]]:
        generator = np.random.default_rng([self.seed, self.epoch])
        torch.manual_seed(derive_seed(self.seed, self.epoch))  # the seed of dropout
        self.epoch += 1
        order, size = generator.permutation(self.n), SORTED * BATCH_SIZE
        if self.lengths is not None:
            pools = [order[start : start + size] for start in range(0, self.n, size)]
            order = np.concatenate([rows[np.argsort(self.lengths[rows], kind="stable")] for rows in pools])
        batches = [order[start : start + BATCH_SIZE].tolist() for start in range(0, self.n, BATCH_SIZE)]
        if len(batches) > 1 and len(batches[-1]) == 1:
            batches[-2:] = [batches[-2] + batches[-1]]
        generator.shuffle(batches)
        yield from batches


class PlainNet(NeuralNetClassifier):  # type: ignore[misc]
    """skorch's classifier with batches of similar length in training."""

    def get_iterator(self, dataset: Rows, training: bool = False) -> DataLoader[Any]:
        """Return a loader of batches, shuffled in training."""
        # The loader has its own generator, so that the random numbers of dropout stay comparable.
        generator = torch.Generator()
        if not training:
            return DataLoader(dataset, batch_size=BATCH_SIZE, collate_fn=collate, generator=generator)
        texts = dataset.X[0].ndim == 1
        lengths = np.array([len(one) for one in dataset.X]) if texts else None
        order = Order(lengths, len(dataset), self.module_.seed)
        return DataLoader(dataset, batch_sampler=order, collate_fn=collate, generator=generator)


def plain_net(module: type[nn.Module], n_train: int, max_epochs: int, seed: int, **options: Any) -> PlainNet:
    """Return the net for a number of training samples, with a learning rate that falls to zero.

    Parameters
    ----------
    module : {PlainText, PlainImage}
        The module to train.
    n_train : int
        Number of samples in the training part of a fold.
    max_epochs : int
        Number of epochs.
    seed : int
        Seed of head, dropout and order.
    """
    steps = max_epochs * -(-n_train // BATCH_SIZE)
    linear = LRScheduler(LinearLR, start_factor=1.0, end_factor=0.0, total_iters=steps, step_every="batch")
    return PlainNet(
        module,
        module__seed=seed,
        criterion=nn.CrossEntropyLoss,
        optimizer=torch.optim.AdamW,
        optimizer__weight_decay=0.0,
        optimizer__param_groups=[("head.*", {"lr": HEAD_LR})],
        lr=LR,
        max_epochs=max_epochs,
        batch_size=BATCH_SIZE,
        dataset=Rows,
        train_split=None,
        callbacks=[("linear", linear)],
        device=str(device()),
        verbose=0,
        **options,
    )


def tokenized(X: Sequence[str], max_length: int | None = None) -> np.ndarray:
    """Return token ids of each text, (n,) of int arrays."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(sentence_folder())
    ids = tokenizer(list(X), truncation=True, max_length=max_length or 512)["input_ids"]
    found = np.empty(len(ids), dtype=object)
    found[:] = [np.asarray(one) for one in ids]
    return found
