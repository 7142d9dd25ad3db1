"""Time of one prediction after `load`, compared with the bare network.

    SKTRANSFER_TEST_DATA=... python -m benchmarks.speed.latency [backbone ...]

A service predicts one sample at a time. The peer is `as_module` of the same estimator with the same threads, called
with what its preprocessing reads from the text or the file, without any check. It is also called with tensors that are
read before. Programs alternate in rounds. A round predicts every sample once, and gives p50, p99 and their ratios.

Times are processor times of the one thread that works. On an idle machine they are latencies. Other programs on the
machine do not lengthen them.
"""

from __future__ import annotations

import argparse
import io
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from benchmarks.common import Report, mobilenet_weights, photos, sentence_encoder, sized, some_reviews
from benchmarks.speed.timing import threads
from sktransfer import FineTuneClassifier, ImageFeaturizer, TextFeaturizer, as_module, load, save

ROUNDS, WARM = 7, 10
N_TRAIN = 20
TOLERANCE = 1e-4  # of probabilities: linear layers are packed and BatchNorms are fused
# By backbone: its modality, its parameters, the largest ratio, and the number of samples per round.
CASES: dict[str, tuple[str, Callable[[], dict[str, Any]], float, int]] = {
    "tiny/bert": ("text", lambda: {"backbone": "tiny/bert"}, 1.3, 200),
    "tiny/cnn": ("image", lambda: {"backbone": "tiny/cnn"}, 1.3, 200),
    "all-MiniLM-L6-v2": ("text", lambda: {"backbone": sentence_encoder()}, 1.15, 60),
    "MobileNetV2": (
        "image",
        lambda: {"backbone": "torchvision/mobilenet_v2", "weights": mobilenet_weights()},
        1.15,
        60,
    ),
}
Program = Callable[[int], np.ndarray]


def samples(name: str, n: int) -> tuple[list[Any], np.ndarray]:
    """Return texts, or files of photos as bytes, and their labels. Those of `tiny/cnn` have 32 x 32 pixels."""
    if CASES[name][0] == "text":
        X, y = some_reviews(n)
        return list(X), y
    paths, y = photos(n)
    if name != "tiny/cnn":
        return [Path(path).read_bytes() for path in paths], y
    contents = []
    for path in paths:
        buffer = io.BytesIO()
        Image.open(path).convert("RGB").resize((32, 32)).save(buffer, "PNG")
        contents.append(buffer.getvalue())
    return contents, y


def estimators(name: str) -> dict[str, Any]:
    """Return a pipeline and a fine-tuned classifier, not fitted."""
    modality, arguments, _, _ = CASES[name]
    featurizer = TextFeaturizer if modality == "text" else ImageFeaturizer
    tuner = FineTuneClassifier(**arguments(), layer=-1, freeze_depth="all", max_epochs=1, random_state=0)
    return {
        "Pipeline": make_pipeline(featurizer(**arguments(), layer=-1), LogisticRegression(max_iter=1000)),
        "FineTuneClassifier": tuner,
    }


def programs(estimator: Any, X: Sequence[Any]) -> dict[str, Program]:
    """Return the programs to compare, each from the position of a sample to its probabilities."""
    module = as_module(estimator).requires_grad_(False)
    preprocess = module.backbone.preprocess

    def read(sample: Any) -> torch.Tensor:
        one = sample if isinstance(sample, str) else Image.open(io.BytesIO(sample)).convert("RGB")
        return preprocess([one])[0][None]  # (1, tokens) or (1, 3, height, width)

    @torch.inference_mode()
    def network(values: torch.Tensor) -> np.ndarray:
        probabilities: np.ndarray = module(values).numpy()
        return probabilities

    inputs = [read(sample) for sample in X]
    return {
        "network": lambda row: network(inputs[row]),
        "reading and network": lambda row: network(read(X[row])),
        "predict_proba": lambda row: estimator.predict_proba([X[row]]),
    }


def measure(compared: dict[str, Program], n: int, rounds: int) -> dict[str, np.ndarray]:
    """Return p50 and p99 of each program in milliseconds, (rounds, 2)."""
    found: dict[str, list[np.ndarray]] = {name: [] for name in compared}
    for program in compared.values():
        for row in range(WARM):
            program(row % n)
    for number in range(rounds):
        for name in list(compared)[:: 1 if number % 2 == 0 else -1]:
            taken = []
            for row in range(n):
                started = time.thread_time()
                compared[name](row)
                taken.append(time.thread_time() - started)
            found[name].append(np.percentile(taken, (50, 99)) * 1e3)
    return {name: np.array(values) for name, values in found.items()}


def main() -> None:
    """Print p50, p99 and ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("backbones", nargs="*", default=list(CASES), help=f"any of {', '.join(CASES)}")
    chosen = parser.parse_args().backbones
    report = Report("one prediction after load, over the bare network, one thread", "latency")
    with tempfile.TemporaryDirectory() as folder, threads(1):
        for name in chosen:
            _, _, must, size = CASES[name]
            n = sized(size // 4, size)
            X, y = samples(name, N_TRAIN + n)
            for kind, estimator in estimators(name).items():
                path = Path(folder, "one.skt")
                save(estimator.fit(X[:N_TRAIN], y[:N_TRAIN]), path)
                compared = programs(load(path, cache=None), X[N_TRAIN:])
                difference = max(
                    float(abs(compared["predict_proba"](row) - compared["network"](row)).max()) for row in range(n)
                )
                if difference > TOLERANCE:
                    raise SystemExit(f"{name}: probabilities differ by {difference:.2g}")
                judge(report, f"{name}, {kind}", measure(compared, n, sized(3, ROUNDS)), must, difference)
    report.write()


def judge(report: Report, what: str, taken: dict[str, np.ndarray], must: float, difference: float) -> None:
    """Add a row for each program, and the ratio of p50."""
    for name, values in taken.items():
        p50, p99 = np.median(values, axis=0)
        report.row(f"{what}: {name}, ms", [p50], p99=p99)
    ours, peer, network = taken["predict_proba"], taken["reading and network"], taken["network"]
    report.judge(
        f"{what}: ratio of p50",
        ours[:, 0] / peer[:, 0],
        must=must,
        at_most=True,
        p99=float(np.median(ours[:, 1] / peer[:, 1])),
        over_network=float(np.median(ours[:, 0] / network[:, 0])),
        more_ms=float(np.median(ours[:, 0] - peer[:, 0])),
        difference=difference,
    )


if __name__ == "__main__":
    main()
