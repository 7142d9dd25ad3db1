"""Cost of fine-tuning all stages, without reuse of features: one epoch against a hand-written loop.

    SKTRANSFER_TEST_DATA=... python -m benchmarks.speed.full_fine_tuning

The loop has the same head, batches, optimizer, schedule and precision, but no checks and no callbacks. Both sides start
from raw samples and a loaded network. They end with the mean loss of the epoch, and the two losses must agree.
"""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.common import Report, sized
from benchmarks.speed.freeze_depth_search import SEED, Photos, Task, Texts, tuner
from benchmarks.speed.plain_freezing import BATCH_SIZE, HEAD_LR, LR, Order, Rows, collate
from benchmarks.speed.timing import device, in_turn, ratios
from sktransfer import clear_cache

TOLERANCE = {"float32": 1e-3, "bfloat16": 2e-2}  # relative to the mean loss, because training amplifies rounding errors


def batch_order(X: Any) -> Order:
    """Return the batches of the epoch, with texts grouped by length."""
    lengths = np.array([len(one) for one in X]) if X.dtype == object else None
    return Order(lengths, len(X), SEED)


def by_hand(task: Task, precision: str) -> float:
    """Train all stages for an epoch and return the mean loss."""
    X = task.peer_X(task.X)
    network = task.module(seed=SEED, **_plain(task.options)).to(device()).train()
    dataset, order = Rows(X, task.y), batch_order(X)
    groups: list[dict[str, Any]] = [
        {"params": network.body.parameters()},
        {"params": network.head.parameters(), "lr": HEAD_LR},
    ]
    optimizer = torch.optim.AdamW(groups, lr=LR, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=len(order))
    lower = torch.autocast(device().type, torch.bfloat16) if precision == "bfloat16" else contextlib.nullcontext()
    total = 0.0
    for rows in order:
        inputs, labels = collate([dataset[row] for row in rows])
        with lower:
            logits = (
                network(**{name: one.to(device()) for name, one in inputs.items()})
                if isinstance(inputs, dict)
                else network(inputs.to(device()))
            )
            loss = nn.functional.cross_entropy(logits.float(), labels.to(device()))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        total += loss.item() * len(rows)
    return total / len(X)


def _plain(options: dict[str, Any]) -> dict[str, Any]:
    return {name.removeprefix("module__"): value for name, value in options.items()}


def ours(task: Task, precision: str) -> float:
    """Train all stages for an epoch and return the mean loss."""
    model = tuner(task, freeze_depth=0, max_epochs=1, batch_size=BATCH_SIZE, precision=precision)
    return float(model.fit(task.X, task.y).net_.history[-1]["train_loss"])


def compare(report: Report, task: Task, precision: str, rounds: int) -> None:
    """Report one network in one precision."""
    losses: dict[str, float] = {}
    programs = {
        "ours": lambda: losses.update(ours=ours(task, precision)),
        "by hand": lambda: losses.update(by_hand=by_hand(task, precision)),
    }
    in_turn(programs, 1, before=clear_cache)  # first calls are slow
    taken = in_turn(programs, rounds, before=clear_cache)
    difference = abs(losses["ours"] - losses["by_hand"])
    assert difference <= TOLERANCE[precision] * losses["by_hand"], f"losses differ: {losses}"
    spent: dict[str, Any] = {
        f"seconds_{name.replace(' ', '_')}": float(np.median(values)) for name, values in taken.items()
    }
    report.judge(
        f"{task.name}, {precision}: one epoch, over a hand-written loop",
        ratios(taken["ours"], taken["by hand"]),
        must=1.05,
        aim=1.0,
        at_most=True,
        N=len(task.X),
        **spent,
        difference=difference,
    )


def measure(report: Report, n_texts: int, n_images: int, rounds: int) -> None:
    """Report both networks in both precisions."""
    for task in (Texts(n_texts, 0), Photos(n_images, 0)):
        for precision in TOLERANCE:
            compare(report, task, precision, rounds)


def main() -> None:
    """Print the table."""
    report = Report("full fine-tuning, freeze_depth=0, one epoch", "full_fine_tuning")
    measure(report, n_texts=sized(300, 2000), n_images=sized(240, 396), rounds=sized(3, 9))
    report.write()


if __name__ == "__main__":
    main()
