"""Cost of a grid search over the classifier after a frozen featurizer: one forward pass per sample.

    SKTRANSFER_TEST_DATA=... python -m benchmarks.speed.grid_search

Samples are counted at the input of the first stage. Without a cache, `fit` may run one more sample to find the width.
The processor time of the search is divided by that of one `transform` and the same search on its features, which is the
manual alternative.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook

from benchmarks.common import Report, mobilenet_weights, photos, sentence_encoder, sized, some_reviews
from benchmarks.speed.timing import in_turn, ratios
from sktransfer import ImageFeaturizer, TextFeaturizer, clear_cache, load_backbone

C = np.logspace(-3, 1.5, 10)
FOLDS = 5
Featurizer = ImageFeaturizer | TextFeaturizer


def search(featurizer: Featurizer | None, memory: str | None = None) -> GridSearchCV:
    """Return the grid search over C, after a featurizer or on features."""
    tail = [("scale", StandardScaler()), ("clf", LogisticRegression(max_iter=1000))]
    steps = tail if featurizer is None else [("features", featurizer), *tail]
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=0)
    return GridSearchCV(Pipeline(steps, memory=memory), {"clf__C": C}, cv=folds)


def raw(values: Tensor) -> bool:
    """Return whether values are inputs of a first stage: token ids (n, tokens) or images (n, 3, height, width)."""
    return not values.is_floating_point() if values.ndim == 2 else values.ndim == 4 and values.shape[1] == 3


@contextmanager
def counted(backbone: Any) -> Iterator[Callable[[], int]]:
    """Count the samples that enter the first stage of the backbone or of a copy for inference."""
    first, seen = type(backbone.stages[0]), []  # appending is safe where batches run in several threads

    def note(module: nn.Module, arguments: tuple[Any, ...]) -> None:
        if isinstance(module, first) and raw(arguments[0]):
            seen.append(len(arguments[0]))

    handle = register_module_forward_pre_hook(note)
    try:
        yield lambda: sum(seen)
    finally:
        handle.remove()


def count(featurizer: Featurizer, X: Any, y: np.ndarray, memory: str | None = None) -> int:
    """Return how many samples a search sends through the backbone."""
    clear_cache()
    with counted(featurizer.backbone) as n:
        search(featurizer, memory).fit(X, y)
        return n()


def counts(report: Report, what: str, featurizer: Featurizer, X: Any, y: np.ndarray) -> None:
    """Report the number of forward passes with the cache, and without it in both kinds of pipelines."""
    n = len(X)
    plain = clone(featurizer).set_params(cache=None)
    with tempfile.TemporaryDirectory() as folder:
        peers = {"Pipeline": count(plain, X, y), "Pipeline(memory=)": count(plain, X, y, folder)}
    found = count(featurizer, X, y)
    more = {"through_backbone": found, "N": n, **{f"{name}_by_N": round(m / n, 2) for name, m in peers.items()}}
    report.judge(f"{what}: samples through the backbone, by N", [found / n], must=1.0, at_most=True, **more)
    assert found == n, f"{found} samples went through the backbone, not {n}"


def times(report: Report, what: str, featurizer: Featurizer, X: Any, y: np.ndarray, rounds: int) -> None:
    """Report the time of the search over that of one transform and a search on features."""
    found: dict[str, np.ndarray] = {}
    featurizer.fit(X[:1])
    once = clone(featurizer).set_params(cache=None).fit(X[:1])

    def ours() -> None:
        found["ours"] = search(featurizer).fit(X, y).cv_results_["mean_test_score"]

    def by_hand() -> None:
        found["by hand"] = search(None).fit(once.transform(X), y).cv_results_["mean_test_score"]

    taken = in_turn({"ours": ours, "by hand": by_hand}, rounds, before=clear_cache, clock=time.process_time)
    difference = float(np.abs(found["ours"] - found["by hand"]).max())
    assert difference <= 2.001 / len(X), f"scores differ by {difference}"  # two samples at a boundary
    spent: dict[str, Any] = {
        f"seconds_{name.replace(' ', '_')}": float(np.median(values)) for name, values in taken.items()
    }
    report.judge(
        f"{what}: processor time over one transform and a grid on features",
        ratios(taken["ours"], taken["by hand"]),
        must=1.15,
        aim=1.05,
        at_most=True,
        N=len(X),
        **spent,
        difference=difference,
    )


def measure(report: Report, n_texts: int, n_images: int, n_counted: int, rounds: int) -> None:
    """Report texts and images."""
    text = TextFeaturizer(load_backbone(sentence_encoder()), layer=-1)
    image = ImageFeaturizer(load_backbone("torchvision/mobilenet_v2", weights=mobilenet_weights()), layer=-1)
    cases: dict[str, tuple[Featurizer, Callable[[int], tuple[Any, np.ndarray]], int]] = {
        "MiniLM, MR": (text, some_reviews, n_texts),
        "MobileNetV2, photos": (image, photos, n_images),
    }
    for what, (featurizer, draw, n) in cases.items():
        counts(report, what, featurizer, *draw(n_counted))
        times(report, what, featurizer, *draw(n), rounds)


def main() -> None:
    """Print the table."""
    report = Report(f"GridSearchCV, {FOLDS} folds x {len(C)} values of C after a frozen featurizer", "grid_search")
    measure(report, n_texts=sized(1000, 10000), n_images=sized(200, 396), n_counted=40, rounds=sized(3, 5))
    report.write()


if __name__ == "__main__":
    main()
