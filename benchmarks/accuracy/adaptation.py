"""Objectives of self-supervised tuning against none, on reviews of one kind of goods at a time, and on photos.

    SKTRANSFER_TEST_DATA=... [SIZE=full] python -m benchmarks.accuracy.adaptation [--domains books] [--objectives mlm]

The network is adapted to the 1,500 reviews of a domain that are not tested, without their labels. Then
`TextFeaturizer` and a logistic regression learn the sentiment from 32 labels a class. The score is the accuracy on 500
other reviews. For the photos of CIFAR-10, these are 2,000 photos (10,000 with SIZE=full), 10 labels a class and 1,000
other photos. For the grey images that resemble chest X-rays (`examples/grey_images.py`), they are 300 images, 20 labels
a class and 300 other images. The network is adapted once by each objective, with the default settings of
`SelfSupervisedTuner`, and all draws of the labels learn from it. Each objective has the same draws.

The results are stored in `results/adaptation.jsonl` when they are measured, so an interrupted run resumes. SIZE=full
has all domains of reviews and ten draws of the labels.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import importlib.util
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from benchmarks.accuracy.multitask import DOMAINS, amazon_data
from benchmarks.common import Report, sized
from benchmarks.remembered import Remembered
from sktransfer import Backbone, ImageFeaturizer, SelfSupervisedTuner, TextFeaturizer, clear_cache
from sktransfer.exceptions import NewHeadWarning, TruncatedTextWarning
from sktransfer.objectives.registry import OBJECTIVES

PHOTOS, GREY = "photos", "grey"
N_TEST_PHOTOS, N_GREY, N_TEST_GREY = 1000, 300, 300
OF_TEXTS, OF_IMAGES = (
    ["none", *(name for name, kind in OBJECTIVES.items() if kind.modality == modality)]
    for modality in ("text", "image")
)
Data = tuple[Any, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Samples:
    """Samples of a kind: the network, the numbers of unlabelled and labelled ones, and the featurizer."""

    backbone: str
    n_unlabelled: int
    labels_a_class: int
    featurizer: type[ImageFeaturizer | TextFeaturizer]
    options: dict[str, Any]


REVIEWS = Samples("tiny/bert", 2000, 32, TextFeaturizer, {"max_length": 128})
OF_KIND = {
    PHOTOS: Samples("tiny/cnn", sized(2000, 10_000), 10, ImageFeaturizer, {}),
    GREY: Samples("tiny/cnn", N_GREY, 20, ImageFeaturizer, {}),
}


def photos() -> tuple[Data, Data]:
    """Return pool and test photos of CIFAR-10."""
    from benchmarks.accuracy.tiny_images import cifar10

    X, X_test, y, y_test = cifar10(0)
    return (X, y), (X_test[:N_TEST_PHOTOS], y_test[:N_TEST_PHOTOS])


def grey_images() -> tuple[Data, Data]:
    """Return pool and test images of uint16 (64, 64), of three kinds."""
    path = Path(__file__).parents[2] / "examples" / "grey_images.py"
    spec = importlib.util.spec_from_file_location("grey_images", path)
    assert spec is not None
    assert spec.loader is not None
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    rng, n = np.random.default_rng(0), N_GREY + N_TEST_GREY
    labels = np.resize(example.KINDS, n)  # (n,)
    images = [example.chest(kind, rng) for kind in labels]
    return (images[:N_GREY], labels[:N_GREY]), (images[N_GREY:], labels[N_GREY:])


def adapted(domain: str, objective: str, settings: dict[str, Any], X: Any) -> Backbone:
    """Return the network after an adaptation to samples without labels.

    Parameters
    ----------
    domain : str
        Domain of the reviews, "photos" or "grey".
    objective : str
        Objective of `SelfSupervisedTuner`.
    settings : dict
        Its other parameters.
    X : sequence
        Samples.
    """
    kind = OF_KIND.get(domain, REVIEWS)
    options = {**kind.options, **settings}
    tuner = SelfSupervisedTuner(kind.backbone, objective=objective, random_state=0, **options)
    backbone: Backbone = tuner.fit(X[: kind.n_unlabelled]).backbone_
    return backbone


def accuracy(backbone: Backbone, domain: str, pool: Data, test: Data, labels_a_class: int | None, seed: int) -> float:
    """Return the test accuracy of a logistic regression on features of a network.

    Parameters
    ----------
    backbone : Backbone
        Network.
    domain : str
        Domain of the reviews, "photos" or "grey".
    pool, test : tuple
        Samples to learn from and to test, with their labels.
    labels_a_class : int or None
        Number of labelled samples of each class, None for all.
    seed : int
        Draw of these.
    """
    X, labels = pool
    order = np.random.default_rng(300 + seed).permutation(len(labels))
    rows = np.concatenate([order[labels[order] == label][:labels_a_class] for label in np.unique(labels)])
    model = make_pipeline(OF_KIND.get(domain, REVIEWS).featurizer(backbone), LogisticRegression(max_iter=1000))
    return float(model.fit([X[row] for row in rows], labels[rows]).score(*test))


def _score(network: Callable[[], Backbone], domain: str, pool: Data, test: Data, seed: int) -> float:
    """Return the test accuracy of a network, which is adapted only if it is needed."""
    return accuracy(network(), domain, pool, test, OF_KIND.get(domain, REVIEWS).labels_a_class, seed)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--domains", nargs="+", choices=[*DOMAINS, *OF_KIND], default=DOMAINS[: sized(1, 4)])
    parser.add_argument(
        "--objectives", nargs="+", choices=["none", *OBJECTIVES], help="default: those that the network can learn by"
    )
    parser.add_argument("--draws", type=int, default=sized(1, 10), help="draws of the labels")
    parser.add_argument("--set", nargs="*", default=[], help="parameters, such as max_epochs=1 lr=3e-5")
    chosen = parser.parse_args()
    warnings.simplefilter("ignore", TruncatedTextWarning)
    warnings.simplefilter("ignore", NewHeadWarning)
    settings = {
        name: float(value) if "." in value or "e" in value else int(value)
        for name, _, value in (one.partition("=") for one in chosen.set)
    }
    data: dict[str, tuple[Data, Data]] = amazon_data() if set(chosen.domains) - set(OF_KIND) else {}
    data |= {name: make() for name, make in {PHOTOS: photos, GREY: grey_images}.items() if name in chosen.domains}
    known = Remembered("adaptation")
    report = Report("Samples of a domain without labels: accuracy after an adaptation?", "adaptation")
    for domain in chosen.domains:
        usual = [name for name in (OF_IMAGES if domain in OF_KIND else OF_TEXTS) if name not in ("causal", "mae")]
        pool, test = data[domain]
        for objective in chosen.objectives or usual:
            used = {} if objective == "none" else settings
            network = functools.cache(functools.partial(adapted, domain, objective, used, pool[0]))
            what: dict[str, Any] = {"domain": domain, "objective": objective, **used}
            if domain == PHOTOS:
                what["n"] = sized(2000, 10_000)
            scores = [
                known({**what, "seed": seed}, functools.partial(_score, network, domain, pool, test, seed))
                for seed in range(chosen.draws)
            ]
            report.row(" ".join(map(str, what.values())), scores)
            clear_cache()
    report.write()


if __name__ == "__main__":
    main()
