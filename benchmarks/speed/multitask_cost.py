"""Cost of several tasks on one trunk: frozen, against one pass and single heads; trained, against a hand-written loop.

    SKTRANSFER_TEST_DATA=... python -m benchmarks.speed.multitask_cost

Texts are sentences of MR, and the network is all-MiniLM-L6-v2. Tasks are the opinion, and numbers that the text itself
gives. Frozen, the peer fits one estimator after the other. The first one runs the network, and the others read the
cache. Trained, the peer is a loop with the same batches, heads, optimizer and schedule, but no checks and no callbacks.
A third of the opinions and a third of the numbers are missing there. Results are compared in the same run.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.common import Report, sentence_encoder, sized, some_reviews
from benchmarks.speed.freeze_depth_search import SEED
from benchmarks.speed.full_fine_tuning import batch_order
from benchmarks.speed.plain_freezing import BATCH_SIZE, HEAD_LR, LR, PlainText, Rows, collate, tokenized
from benchmarks.speed.timing import device, in_turn, ratios
from sktransfer import FineTuneClassifier, FineTuneRegressor, MultiTaskFineTuner, clear_cache

EPOCHS = 10  # with a frozen trunk
TOLERANCE = 1e-3  # relative to the mean loss, because training amplifies rounding errors
SETTINGS: dict[str, Any] = {"layer": -1, "lr": LR, "head_lr": HEAD_LR, "weight_decay": 0.0, "random_state": 0}
SETTINGS |= {"precision": "float32", "batch_size": BATCH_SIZE}


def tasks_of(texts: np.ndarray, opinions: np.ndarray, n_tasks: int) -> dict[str, np.ndarray]:
    """Return targets by task: the opinion, then numbers."""
    numbers = {
        "length": [len(text) for text in texts],
        "words": [len(text.split()) for text in texts],
        "commas": [text.count(",") for text in texts],
        "vowels": [sum(map(text.count, "aeiou")) for text in texts],
        "letters": [len(set(text)) for text in texts],
        "longest": [max(map(len, text.split())) for text in texts],
        "stops": [text.count(".") for text in texts],
    }
    targets = {"opinion": opinions} | {name: np.asarray(values, float) for name, values in numbers.items()}
    return dict(list(targets.items())[:n_tasks])


def jointly(texts: np.ndarray, targets: dict[str, np.ndarray], **options: Any) -> MultiTaskFineTuner:
    """Return a fitted estimator of all tasks."""
    kinds = {name: "multiclass" if name == "opinion" else "continuous" for name in targets}
    return MultiTaskFineTuner(sentence_encoder(), kinds, **SETTINGS, **options).fit(texts, targets)


def one_by_one(texts: np.ndarray, targets: dict[str, np.ndarray], **options: Any) -> dict[str, Any]:
    """Return a fitted estimator per task. They share the cache."""
    kinds = {name: FineTuneClassifier if name == "opinion" else FineTuneRegressor for name in targets}
    return {name: kinds[name](sentence_encoder(), **SETTINGS, **options).fit(texts, y) for name, y in targets.items()}


def compare_frozen(report: Report, n_texts: int, n_tasks: int, rounds: int) -> None:
    """Report all tasks on a frozen trunk, over one pass and single heads."""
    texts, opinions = some_reviews(n_texts)
    targets = tasks_of(texts, opinions, n_tasks)
    options = {"freeze_depth": "all", "max_epochs": EPOCHS}
    fitted: dict[str, Any] = {}
    programs = {
        "joint": lambda: fitted.update(joint=jointly(texts, targets, **options)),
        "single": lambda: fitted.update(single=one_by_one(texts, targets, **options)),
    }
    in_turn(programs, 1, before=clear_cache)  # first calls are slow
    taken = in_turn(programs, rounds, before=clear_cache)
    heads = [
        (fitted["joint"].net_.module_.heads[name], one.net_.module_.heads["y"])
        for name, one in fitted["single"].items()
    ]
    difference = max(float((one.linear.weight - other.linear.weight).detach().abs().max()) for one, other in heads)
    assert difference == 0, f"weights of heads differ by {difference}"
    report.judge(
        f"{n_tasks} tasks on a frozen trunk, over one pass and {n_tasks} heads",
        ratios(taken["joint"], taken["single"]),
        must=1.1,
        aim=0.9,
        at_most=True,
        N=n_texts,
        **{f"seconds_{name}": float(np.median(values)) for name, values in taken.items()},
        difference=difference,
    )


class PlainTasks(PlainText):
    """Sentence encoder with two heads, for an opinion and for a number."""

    def __init__(self, seed: int) -> None:
        super().__init__(0, seed)
        self.number = nn.Linear(384, 1)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        """Return logits (n, 2) and numbers (n, 1)."""
        values = self.body(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state  # (n, tokens, 384)
        weight = attention_mask[..., None].to(values.dtype)  # (n, tokens, 1)
        features = (values * weight).sum(1) / weight.sum(1)  # (n, 384)
        return self.head(features), self.number(features)


def masks(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return whether opinion and number of each row are known, (n,) each."""
    opinion = np.arange(n) % 3 > 0  # (n,)
    return opinion, ~opinion | (np.arange(n) % 2 == 0)


def by_hand(texts: np.ndarray, opinions: np.ndarray, numbers: np.ndarray) -> float:
    """Train all stages on both tasks for an epoch and return the mean loss."""
    ids = tokenized(texts)
    network = PlainTasks(SEED).to(device()).train()
    dataset, order = Rows(ids), batch_order(ids)
    known = [torch.from_numpy(mask) for mask in masks(len(texts))]
    shift, spread = numbers[known[1].numpy()].mean(), numbers[known[1].numpy()].std()
    y, x = torch.from_numpy(opinions), torch.from_numpy((numbers - shift) / spread).float()[:, None]
    heads = [*network.head.parameters(), *network.number.parameters()]
    groups: list[dict[str, Any]] = [{"params": network.body.parameters()}, {"params": heads, "lr": HEAD_LR}]
    optimizer = torch.optim.AdamW(groups, lr=LR, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=len(order))
    total = weight = 0.0
    for rows in order:
        inputs, _ = collate([dataset[row] for row in rows])
        logits, predicted = network(**{name: one.to(device()) for name, one in inputs.items()})
        of_y, of_x = (mask[rows].to(device()) for mask in known)
        loss = nn.functional.cross_entropy(logits[of_y], y[rows].to(device())[of_y])
        loss = loss + nn.functional.mse_loss(predicted[of_x], x[rows].to(device())[of_x])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        n_known = int(of_y.sum() + of_x.sum())
        total, weight = total + loss.item() * n_known, weight + n_known
    return total / weight


def ours(texts: np.ndarray, opinions: np.ndarray, numbers: np.ndarray) -> float:
    """Train all stages on both tasks for an epoch and return the mean loss."""
    columns = {"opinion": opinions, "number": numbers}
    targets = {
        name: np.where(mask, values, np.nan)  # (n,)
        for (name, values), mask in zip(columns.items(), masks(len(texts)), strict=True)
    }
    kinds = {"opinion": "multiclass", "number": "continuous"}
    tuner = MultiTaskFineTuner(sentence_encoder(), kinds, freeze_depth=0, head_init="random", max_epochs=1, **SETTINGS)
    return float(tuner.fit(texts, targets).net_.history[-1]["train_loss"])


def compare_trained(report: Report, n_texts: int, rounds: int) -> None:
    """Report an epoch of two tasks on a trained trunk, over a hand-written loop."""
    texts, opinions = some_reviews(n_texts)
    numbers = np.array([len(text) for text in texts], float)
    losses: dict[str, float] = {}
    programs = {
        "ours": lambda: losses.update(ours=ours(texts, opinions, numbers)),
        "by_hand": lambda: losses.update(by_hand=by_hand(texts, opinions, numbers)),
    }
    in_turn(programs, 1, before=clear_cache)
    taken = in_turn(programs, rounds, before=clear_cache)
    difference = abs(losses["ours"] - losses["by_hand"])
    assert difference <= TOLERANCE * losses["by_hand"], f"losses differ: {losses}"
    report.judge(
        "two tasks, all stages trained: one epoch, over a hand-written loop",
        ratios(taken["ours"], taken["by_hand"]),
        must=1.05,
        aim=1.0,
        at_most=True,
        N=n_texts,
        **{f"seconds_{name}": float(np.median(values)) for name, values in taken.items()},
        difference=difference,
    )


def measure(report: Report, n_frozen: int, n_trained: int, rounds: int) -> None:
    """Report frozen and trained trunks."""
    for n_tasks in (2, 8):
        compare_frozen(report, n_frozen, n_tasks, rounds)
    compare_trained(report, n_trained, rounds)


def main() -> None:
    """Print the table."""
    report = Report("cost of several tasks on one trunk", "multitask_cost")
    measure(report, n_frozen=sized(300, 2000), n_trained=sized(300, 2000), rounds=sized(3, 9))
    report.write()


if __name__ == "__main__":
    main()
