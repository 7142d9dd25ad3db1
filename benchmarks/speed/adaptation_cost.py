"""Cost of an epoch of simcse with frozen stages, against loops over the network of transformers.

    python -m benchmarks.speed.adaptation_cost

`SelfSupervisedTuner` trains the upper three of the six layers of all-MiniLM-L6-v2 by `objective="simcse"`. The loops do
the same on batches of texts of similar length: one freezes the lower layers without gradients, and one trains all
layers. All of them are in float32 and on one thread. Seconds are those of the processor, so that other programs disturb
them little. The first epoch, in which the tuner computes the outputs of the frozen stages, is not counted.

The bound is the ratio of the operations of a loop and of the tuner: one unit for the forward pass of a layer over a
text, and two for its gradients. Each text passes twice. The lowest trained layer is counted as the others.

Set OMP_NUM_THREADS=1. Seconds are stored in `results/adaptation_cost.jsonl` when they are measured.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from skorch.callbacks import Callback
from torch.nn import functional

from benchmarks.common import Report, sentence_encoder, sized, some_reviews
from benchmarks.remembered import Remembered
from benchmarks.speed.plain_freezing import BATCH_SIZE, LR, Order, PlainText, collate, tokenized
from benchmarks.speed.timing import ratios
from sktransfer import SelfSupervisedTuner, clear_cache

N_LAYERS, FROZEN, TEMPERATURE = 6, 4, 0.05  # the embeddings are a stage as well
MUST, NEAR = 1.5, 0.95  # the ratio, or this share of the bound by operations
N_TEXTS, ROUNDS = sized(64, 1024), sized(3, 7)


class Seconds(Callback):  # type: ignore[misc]
    """Seconds of the processor of the last epoch."""

    def on_epoch_begin(self, net: Any, **kwargs: Any) -> None:
        """Start."""
        self.started_ = time.process_time()

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        """Stop."""
        self.seconds_ = time.process_time() - self.started_


def ours(texts: list[str], seed: int) -> float:
    """Return the seconds of the second epoch of the tuner."""
    tuner = SelfSupervisedTuner(
        sentence_encoder(),
        objective="simcse",
        freeze_depth=FROZEN,
        max_epochs=2,
        batch_size=BATCH_SIZE,
        lr=LR,
        precision="float32",
        validation_fraction=1 / len(texts),
        callbacks=[("seconds", Seconds())],
        random_state=seed,
    ).fit(texts)
    clear_cache()
    return float(dict(tuner.net_.callbacks_)["seconds"].seconds_)


def plain(freeze_depth: int, texts: list[str], seed: int) -> float:
    """Return the seconds of the second epoch of a loop."""
    ids = [torch.as_tensor(one) for one in tokenized(texts)]
    order = Order(np.array([len(one) for one in ids]), len(ids), seed)
    model = PlainText(freeze_depth, seed).train()
    model.head.requires_grad_(False)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=LR, weight_decay=0.01, fused=True)
    taken = 0.0
    for _ in range(2):
        started = time.process_time()
        for rows in order:
            batch, _ = collate([(ids[row], 0) for row in rows * 2])  # each text twice
            values = model.body(**batch).last_hidden_state  # (2 n, tokens, 384)
            weight = batch["attention_mask"][..., None].float()  # (2 n, tokens, 1)
            features = (values * weight).sum(1) / weight.sum(1)  # (2 n, 384)
            first, second = functional.normalize(features, dim=1).chunk(2)  # (n, 384) each
            loss = functional.cross_entropy(first @ second.T / TEMPERATURE, torch.arange(len(rows)))
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        taken = time.process_time() - started
    return taken


def operations(n_frozen: int, *, cached: bool) -> int:
    """Return the operations of an epoch per text, in forward passes of a layer."""
    return 2 * (3 * (N_LAYERS - n_frozen) + (0 if cached else n_frozen))


def main() -> None:
    """Measure and print."""
    texts = [str(text) for text in some_reviews(N_TEXTS)[0]]
    known = Remembered("adaptation_cost")
    report = Report(
        "An epoch of simcse with half of the layers frozen: how much cheaper than a loop?", "adaptation_cost"
    )
    programs: dict[str, Callable[[list[str], int], float]] = {
        "tuner": ours,
        "loop, same layers frozen": functools.partial(plain, FROZEN),
        "loop, all layers trained": functools.partial(plain, 0),
    }
    taken: dict[str, list[float]] = {name: [] for name in programs}
    for number in range(ROUNDS):
        for name in list(programs)[:: 1 if number % 2 == 0 else -1]:
            what = {"program": name, "round": number, "n": N_TEXTS}
            taken[name].append(known(what, functools.partial(programs[name], texts, number)))
    for name, seconds in taken.items():
        report.row(f"{name}, seconds", seconds)
    n_ours = operations(FROZEN - 1, cached=True)
    for name, n_frozen in (("loop, same layers frozen", FROZEN - 1), ("loop, all layers trained", 0)):
        bound = operations(n_frozen, cached=False) / n_ours
        must = min(MUST, NEAR * bound)
        report.judge(f"{name}, over tuner", ratios(taken[name], taken["tuner"]), must=must, bound=bound)
    report.write()


if __name__ == "__main__":
    main()
