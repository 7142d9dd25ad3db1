"""Peer of fine-tuning in typical skorch code: a tokenizer in a pipeline, all texts padded to one length."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline
from skorch import NeuralNetClassifier
from skorch.callbacks import LRScheduler
from skorch.hf import HuggingfacePretrainedTokenizer
from torch import Tensor, nn
from torch.optim.lr_scheduler import LinearLR

from benchmarks.common import sentence_folder
from benchmarks.speed.plain_freezing import BATCH_SIZE, LR
from benchmarks.speed.timing import device

MAX_LENGTH = 256


class Classifier(nn.Module):
    """Sequence classifier of transformers without gradients in the lower part."""

    def __init__(self, freeze_depth: int = 0) -> None:
        super().__init__()
        from transformers import AutoModelForSequenceClassification
        from transformers.utils import logging

        logging.set_verbosity_error()  # it warns about the new head
        self.model = AutoModelForSequenceClassification.from_pretrained(sentence_folder(), num_labels=2)
        for module in [self.model.bert.embeddings, *self.model.bert.encoder.layer][:freeze_depth]:
            module.requires_grad_(False)

    def forward(self, **inputs: Tensor) -> Tensor:
        """Return logits (n, 2)."""
        logits: Tensor = self.model(**inputs).logits
        return logits


def as_users_write_it(
    X: np.ndarray, y: np.ndarray, depths: Sequence[int], folds: Any, max_epochs: int, max_length: int = MAX_LENGTH
) -> GridSearchCV:
    """Return a fitted grid over depths of a pipeline of tokenizer and net.

    Parameters
    ----------
    X : ndarray of shape (n,) of str
        Texts.
    y : ndarray of shape (n,)
        Labels.
    depths : sequence of int
        Numbers of frozen stages. The embeddings are the first stage.
    folds : cross-validation splitter
        Cross-validation folds.
    max_epochs : int
        Number of epochs.
    max_length : int, default=256
        Length that all texts are padded to. The default is that of the tokenizer.
    """
    steps = max_epochs * -(-len(X) // BATCH_SIZE)
    net = NeuralNetClassifier(
        Classifier,
        criterion=nn.CrossEntropyLoss,
        optimizer=torch.optim.AdamW,
        lr=LR,
        max_epochs=max_epochs,
        batch_size=BATCH_SIZE,
        train_split=None,
        callbacks=[("linear", LRScheduler(LinearLR, end_factor=0.0, total_iters=steps, step_every="batch"))],
        device=str(device()),
        verbose=0,
    )
    tokenizer = HuggingfacePretrainedTokenizer(str(sentence_folder()), max_length=max_length)
    pipeline = Pipeline([("tokenizer", tokenizer), ("net", net)])
    grid = {"net__module__freeze_depth": list(depths)}
    return GridSearchCV(pipeline, grid, cv=folds, refit=False).fit(X, y)
