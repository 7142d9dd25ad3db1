"""Objectives of self-supervised tuning against none, on reviews of one kind of goods at a time, and on photos.

    SKTRANSFER_TEST_DATA=... [SIZE=full] python -m benchmarks.adaptation [--domains books photos] [--objectives mlm]

The network is adapted to up to 2,000 reviews of a domain without their labels, of which none is tested. Then
`TextFeaturizer` and a logistic regression learn the sentiment from 32 labels a class. The score is the accuracy on 500
other reviews. For the photos of CIFAR-10, these are 2,000 photos (10,000 with SIZE=full), 10 labels a class and 1,000
other photos. Each objective has the same labels and the default settings of `SelfSupervisedTuner`.

The results are stored in `results/adaptation.jsonl` when they are measured, so an interrupted run resumes. SIZE=full
has all domains of reviews and five draws.
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
from sktransfer import ImageFeaturizer, SelfSupervisedTuner, TextFeaturizer, clear_cache
from sktransfer.exceptions import NewHeadWarning, TruncatedTextWarning
from sktransfer.objectives.registry import OBJECTIVES

MOST_TEXTS, LABELS_A_CLASS, LENGTH = 2000, 32, 128
PHOTOS, LABELS_OF_PHOTOS, N_TEST_PHOTOS = "photos", 10, 1000
OF_TEXTS, OF_PHOTOS = (
    ["none", *(name for name, kind in OBJECTIVES.items() if kind.modality == modality)]
    for modality in ("text", "image")
)
Data = tuple[Any, np.ndarray]


def photos() -> tuple[Data, Data]:
    """Return pool and test photos of CIFAR-10."""
    from benchmarks.tiny_images import cifar10

    X, X_test, y, y_test = cifar10(0)
    return (X, y), (X_test[:N_TEST_PHOTOS], y_test[:N_TEST_PHOTOS])


def accuracy(domain: str, objective: str, settings: dict[str, Any], pool: Data, test: Data, seed: int) -> float:
    """Return the test accuracy after an adaptation.

    Parameters
    ----------
    domain : str
        Domain of the reviews, or "photos".
    objective : str
        Objective of `SelfSupervisedTuner`.
    settings : dict
        Its other parameters.
    pool, test : tuple of ndarray
        Samples to learn from and to test, with their labels.
    seed : int
        Draw of the labelled samples, and seed of the training.
    """
    X, labels = pool
    is_photos = domain == PHOTOS
    n_labels = LABELS_OF_PHOTOS if is_photos else LABELS_A_CLASS
    order = np.random.default_rng(300 + seed).permutation(len(labels))
    rows = np.concatenate([order[labels[order] == label][:n_labels] for label in np.unique(labels)])
    name, most, featurizer = (
        ("tiny/cnn", sized(2000, 10_000), ImageFeaturizer) if is_photos else ("tiny/bert", MOST_TEXTS, TextFeaturizer)
    )
    length = {} if is_photos else {"max_length": LENGTH}
    tuner = SelfSupervisedTuner(name, objective=objective, random_state=seed, **length, **settings).fit(X[:most])
    model = make_pipeline(featurizer(tuner.backbone_), LogisticRegression(max_iter=1000))
    score = model.fit(X[rows], labels[rows]).score(*test)
    clear_cache()
    return float(score)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--domains", nargs="+", choices=[*DOMAINS, PHOTOS], default=DOMAINS[: sized(1, 4)])
    parser.add_argument(
        "--objectives", nargs="+", choices=["none", *OBJECTIVES], help="default: those that the network can learn by"
    )
    parser.add_argument("--draws", type=int, default=sized(1, 5))
    parser.add_argument("--set", nargs="*", default=[], help="parameters, such as max_epochs=1 lr=3e-5")
    chosen = parser.parse_args()
    warnings.simplefilter("ignore", TruncatedTextWarning)
    warnings.simplefilter("ignore", NewHeadWarning)
    settings = {
        name: float(value) if "." in value or "e" in value else int(value)
        for name, _, value in (one.partition("=") for one in chosen.set)
    }
    data, known = {**amazon_data(), PHOTOS: photos()}, Remembered("adaptation")
    report = Report("Samples of a domain without labels: accuracy after an adaptation?", "adaptation")
    for domain in chosen.domains:
        usual = [name for name in (OF_PHOTOS if domain == PHOTOS else OF_TEXTS) if name not in ("causal", "mae")]
        for seed in range(chosen.draws):
            for objective in chosen.objectives or usual:
                used = {} if objective == "none" else settings
                what = {"domain": domain, "objective": objective, "seed": seed, **used}
                if domain == PHOTOS:
                    what["n"] = sized(2000, 10_000)
                score = known(what, functools.partial(accuracy, domain, objective, used, *data[domain], seed))
                report.row(" ".join(map(str, what.values())), [score])
    report.write()


if __name__ == "__main__":
    main()
