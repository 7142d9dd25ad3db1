"""Objectives of self-supervised tuning against none, on reviews of one kind of goods at a time.

    SKTRANSFER_TEST_DATA=... [SIZE=full] python -m benchmarks.adaptation [--domains books dvd] [--objectives none mlm]

The network is adapted to up to 2,000 reviews of a domain without their labels, of which none is tested. Then
`TextFeaturizer` and a logistic regression learn the sentiment from 32 labels a class. The score is the accuracy on 500
other reviews. Each objective has the same labels and the default settings of `SelfSupervisedTuner`.

The results are stored in `results/adaptation.jsonl` when they are measured, so an interrupted run resumes. SIZE=full
has all domains and five draws.
"""

from __future__ import annotations

import argparse
import functools
import warnings
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from benchmarks.common import Report, sized
from benchmarks.multitask import DOMAINS, amazon_data
from benchmarks.remembered import Remembered
from sktransfer import SelfSupervisedTuner, TextFeaturizer, clear_cache
from sktransfer.exceptions import NewHeadWarning, TruncatedTextWarning
from sktransfer.objectives.registry import OBJECTIVES

MOST_TEXTS, LABELS_A_CLASS, LENGTH = 2000, 32, 128
Data = tuple[Any, np.ndarray]


def accuracy(objective: str, settings: dict[str, Any], pool: Data, test: Data, seed: int) -> float:
    """Return the test accuracy after an adaptation.

    Parameters
    ----------
    objective : str
        Objective of `SelfSupervisedTuner`.
    settings : dict
        Its other parameters.
    pool, test : tuple of ndarray
        Reviews to learn from and to test, with their labels.
    seed : int
        Draw of the labelled reviews, and seed of the training.
    """
    texts, labels = pool
    order = np.random.default_rng(300 + seed).permutation(len(labels))
    rows = np.concatenate([order[labels[order] == label][:LABELS_A_CLASS] for label in (0, 1)])
    tuner = SelfSupervisedTuner("tiny/bert", objective=objective, random_state=seed, max_length=LENGTH, **settings)
    tuner.fit(texts[:MOST_TEXTS])
    model = make_pipeline(TextFeaturizer(tuner.backbone_), LogisticRegression(max_iter=1000))
    score = model.fit(texts[rows], labels[rows]).score(*test)
    clear_cache()
    return float(score)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--domains", nargs="+", choices=DOMAINS, default=DOMAINS[: sized(1, 4)])
    parser.add_argument("--objectives", nargs="+", default=["none", "mlm", "simcse"], choices=["none", *OBJECTIVES])
    parser.add_argument("--draws", type=int, default=sized(1, 5))
    parser.add_argument("--set", nargs="*", default=[], help="parameters, such as max_epochs=1 lr=3e-5")
    chosen = parser.parse_args()
    warnings.simplefilter("ignore", TruncatedTextWarning)
    warnings.simplefilter("ignore", NewHeadWarning)
    settings = {
        name: float(value) if "." in value or "e" in value else int(value)
        for name, _, value in (one.partition("=") for one in chosen.set)
    }
    data, known = amazon_data(), Remembered("adaptation")
    report = Report("Reviews of a domain without labels: accuracy after an adaptation?", "adaptation")
    for domain in chosen.domains:
        for seed in range(chosen.draws):
            for objective in chosen.objectives:
                used = {} if objective == "none" else settings
                what = {"domain": domain, "objective": objective, "seed": seed, **used}
                score = known(what, functools.partial(accuracy, objective, used, *data[domain], seed))
                report.row(" ".join(map(str, what.values())), [score])
    report.write()


if __name__ == "__main__":
    main()
