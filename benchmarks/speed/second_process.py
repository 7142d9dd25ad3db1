"""Time of a second process for features that a first one cached in a folder.

    SKTRANSFER_TEST_DATA=... python -m benchmarks.speed.second_process

Two processes run in turn with the same data and `cache=<folder>`. The time is that of `transform` alone.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import Report, mobilenet_weights, photos, sentence_encoder, sized, some_reviews

PROGRAM = """
import json, sys, time
import numpy as np
from sktransfer import ImageFeaturizer, TextFeaturizer
kind, options, samples, folder, out = sys.argv[1:]
X = json.load(open(samples))
featurizer = {"text": TextFeaturizer, "image": ImageFeaturizer}[kind](**json.loads(options), cache=folder).fit(X[:1])
started = time.perf_counter()
features = featurizer.transform(X)
print(json.dumps(time.perf_counter() - started))
np.save(out, features)
"""


def transform(kind: str, options: dict[str, str], X: list[str], work: Path, cache: Path) -> tuple[float, np.ndarray]:
    """Return the seconds of `transform` in a new process, and its features."""
    samples, out = work / "samples.json", work / "features.npy"
    samples.write_text(json.dumps(X))
    command = [sys.executable, "-c", PROGRAM, kind, json.dumps(options), str(samples), str(cache), str(out)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(json.loads(done.stdout.splitlines()[-1])), np.load(out)


def compare(report: Report, what: str, kind: str, options: dict[str, str], X: list[str], rounds: int) -> None:
    """Report the first process's time over the second's."""
    gains, firsts, seconds = [], [], []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as name:
            cache = Path(name) / "cache"
            (first, before), (second, after) = (transform(kind, options, X, Path(name), cache) for _ in range(2))
        assert np.array_equal(before, after), "the cached features differ from the computed ones"
        firsts.append(first)
        seconds.append(second)
        gains.append(first / second)
    more: dict[str, Any] = {"seconds_first": float(np.median(firsts)), "seconds_second": float(np.median(seconds))}
    report.judge(f"{what}: first process over the second", gains, must=30.0, N=len(X), **more)


def measure(report: Report, n_texts: int, n_images: int, rounds: int) -> None:
    """Report texts and photos."""
    texts = [str(text) for text in some_reviews(n_texts)[0]]
    compare(report, "MiniLM, MR", "text", {"backbone": sentence_encoder()}, texts, rounds)
    options = {"backbone": "torchvision/mobilenet_v2", "weights": mobilenet_weights()}
    compare(report, "MobileNetV2, photos", "image", options, photos(n_images)[0], rounds)


def main() -> None:
    """Print the table."""
    report = Report("time of transform in a second process, with a folder as cache", "second_process")
    measure(report, n_texts=sized(500, 10000), n_images=sized(120, 396), rounds=sized(2, 5))
    report.write()


if __name__ == "__main__":
    main()
