"""ULMFiT's ablation of language-model tuning on a small scale: table 6 of Howard and Ruder (2018).

    python plugins/historic/pretraining/train_awd_lstm.py texts.tsv --out results/awd_lstm
    SKTRANSFER_TEST_DATA=... [SIZE=full] python -m benchmarks.accuracy.ulmfit [--network results/awd_lstm] [--on film]

The network is the small AWD-LSTM of the first command, which read none of the texts here. The tasks are the sentiment
of MR's sentences, and the kind of goods of Amazon's reviews, of four, a task of topics. The language model is tuned to
texts of the task without their labels, of which none is tested. The classifier is then trained on few labels, by
gradual unfreezing with discriminative rates and a slanted triangle. All rows have the same rates, epochs and draws.

- from scratch: random weights, without tuning
- no tuning: the classifier starts from the pretrained network
- full: all stages are tuned at one constant rate
- full + discriminative: rates fall by 2.6 from stage to stage
- full + discriminative + triangle: the rate rises in the first tenth of the steps, then falls

The result is the error on test samples, and the loss per word of held-out texts after the tuning. Results are stored in
`results/ulmfit.jsonl` when they are measured, so an interrupted run resumes. SIZE=full has all texts and five draws.
"""

from __future__ import annotations

import argparse
import functools
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.exceptions import ConvergenceWarning

from benchmarks.common import Report, data_folder, movie_reviews, sized
from benchmarks.remembered import Remembered
from sktransfer import FineTuneClassifier, SelfSupervisedTuner, clear_cache, load_backbone
from sktransfer.exceptions import ShortTextWarning, TruncatedTextWarning

DISCRIMINATIVE = {"layer_lr_decay": 2.6}
TRIANGLE = {"lr_schedule": "slanted_triangular"}
SCRATCH, NO_TUNING = "from scratch", "no tuning"
TUNINGS: dict[str, dict[str, Any] | None] = {
    SCRATCH: None,
    NO_TUNING: None,
    "full": {},
    "full + discriminative": DISCRIMINATIVE,
    "full + discriminative + triangle": {**DISCRIMINATIVE, **TRIANGLE},
}
TUNER = {"objective": "causal", "freeze_depth": 0, "lr_schedule": "constant", "lr": 2e-3, "max_epochs": 3}
CLASSIFIER = {"freeze_depth": 0, "layer": -1, "unfreezing": "gradual", "head_init": "random", **DISCRIMINATIVE}
CLASSIFIER |= {**TRIANGLE, "lr": 3e-3, "max_epochs": 8, "batch_size": 16}
LENGTH, N_TEST, DROPOUT = 64, 1000, 0.3
Data = tuple[np.ndarray, np.ndarray]


def goods() -> Data:
    """Return Amazon's reviews and the kind of goods that each is about."""
    table = pd.read_csv(data_folder() / "text" / "amazon_mdsd.csv.gz")
    return table["text"].to_numpy(dtype=object), table["domain"].to_numpy()


TASKS = {"film": movie_reviews, "goods": goods}


def draw(task: str, n_texts: int, n_labels: int, seed: int) -> tuple[np.ndarray, Data, Data]:
    """Return texts to tune on, class-balanced labelled texts among them, and test texts, the same for each seed."""
    X, y = TASKS[task]()
    _, first = np.unique(X.astype(str), return_index=True)  # without duplicates, so that no text is in both parts
    order = np.random.default_rng(0).permutation(first)
    test, pool = order[:N_TEST], np.random.default_rng(500 + seed).permutation(order[N_TEST:])[:n_texts]
    classes = np.unique(y)
    labelled = np.concatenate([pool[y[pool] == label][: n_labels // len(classes)] for label in classes])
    return X[pool], (X[labelled], y[labelled]), (X[test], y[test])


def measure(network: str, task: str, tuning: str, sizes: tuple[int, int], seed: int) -> dict[str, float]:
    """Return the error on test samples, and the losses of held-out texts before and after the tuning.

    Parameters
    ----------
    network : str
        Name of the backbone.
    task, tuning : str
        Keys of `TASKS` and `TUNINGS`.
    sizes : (int, int)
        Number of texts and of labels.
    seed : int
        Draw, and seed of the trainings.
    """
    texts, train, test = draw(task, *sizes, seed)
    weights = "random" if tuning == SCRATCH else "pretrained"
    backbone = load_backbone(network, weights=weights, max_length=LENGTH, seed=seed)
    settings, losses = TUNINGS[tuning], {}
    if settings is not None:
        tuner = SelfSupervisedTuner(backbone, **{**TUNER, **settings}, random_state=seed).fit(texts)
        backbone = tuner.backbone_
        losses["valid_loss"] = float(tuner.history_["valid_loss"].iloc[-1])
    classifier = FineTuneClassifier(backbone, **CLASSIFIER, random_state=seed).fit(*train)
    clear_cache()
    return {"error": 1 - float(classifier.score(*test)), **losses}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--network", type=Path, default=Path("results/awd_lstm"), help="folder of the AWD-LSTM")
    parser.add_argument("--on", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--texts", type=int, default=sized(2000, 10_000), help="texts without labels")
    parser.add_argument("--labels", type=int, default=200)
    parser.add_argument("--draws", type=int, default=sized(3, 5))
    chosen = parser.parse_args()
    if not chosen.network.is_dir():
        sys.exit(f"{chosen.network} does not exist: train the network first, with the first command of this file")
    for warning in (TruncatedTextWarning, ShortTextWarning, ConvergenceWarning):
        warnings.simplefilter("ignore", warning)
    network = f"historic/awd_lstm/{chosen.network.resolve()}#dropout={DROPOUT}"
    weights = load_backbone(network).fingerprint()[:12]  # results of other weights are not reused
    known, sizes = Remembered("ulmfit"), (chosen.texts, chosen.labels)
    report = Report("ULMFiT on AWD-LSTM: error by the tuning of the language model?", "ulmfit")
    for task in chosen.on:
        for tuning in TUNINGS:
            found = []
            for seed in range(chosen.draws):
                what = {"weights": weights, "task": task, "tuning": tuning, "sizes": sizes, "seed": seed}
                found.append(known(what, functools.partial(measure, network, task, tuning, sizes, seed)))
            losses = [one["valid_loss"] for one in found if "valid_loss" in one]
            more = {"loss": float(np.mean(losses))} if losses else {}
            report.row(f"{task}: {tuning}", [one["error"] for one in found], **more)
    report.write()


if __name__ == "__main__":
    main()
