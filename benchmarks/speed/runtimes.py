"""Seconds of frozen networks in torch, OpenVINO and ONNX Runtime, side by side in one process.

    SKTRANSFER_TEST_DATA=... python -m benchmarks.speed.runtimes [--kinds texts photos] [--variants "openvino float32"]
    SKTRANSFER_TEST_DATA=... python -m benchmarks.speed.runtimes --parts times agreement accuracy

Texts are encoded by all-MiniLM-L6-v2, and photos by MobileNetV2 from JPEG files. All programs run in turn, in reverse
order every second round. Times are those of the processor, because other programs may share the machine. Each round is
stored when it is measured, so an interrupted run resumes. The default is the times, and with SIZE=full all parts.
"""

from __future__ import annotations

import argparse
import functools
import os
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression

from benchmarks.common import Report, photos, sized, some_reviews
from benchmarks.remembered import Remembered
from benchmarks.speed import image_throughput, text_throughput
from sktransfer import config_context
from sktransfer.exceptions import TruncatedTextWarning

VARIANTS = (
    ("torch", "float32"),
    ("torch", "bfloat16"),
    ("openvino", "float32"),
    ("openvino", "bfloat16"),
    ("openvino", "int8"),
    ("onnxruntime", "float32"),
)
PEER = "peer"
PARTS = ("times", "agreement", "accuracy")
FEATURES = ("amx", "avx2", "avx512f", "avx512_bf16", "avx512_vnni", "avx_vnni")
OPERATIONS = {"texts": text_throughput.OPERATIONS, "photos": 2 * 0.3e9}  # per token or image
Program = Callable[[], np.ndarray]


def name(variant: Sequence[str]) -> str:
    """Return the name of a runtime and a precision."""
    return " ".join(variant)


def processor() -> str:
    """Return the model of the processor, and its vector instructions that matter here."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    facts = dict(line.replace("\t", "").split(":", 1) for line in lines if ":" in line)
    flags = facts.get("flags", "").split()
    has = [one for one in FEATURES if any(flag.startswith(one) for flag in flags)]
    return f"{facts.get('model name', '?').strip()}, {len(os.sched_getaffinity(0))} cores, {' '.join(has)}"


def in_runtime(variant: Sequence[str], ours: Callable[[str], Any], X: Any) -> np.ndarray:
    """Return features computed by a runtime in a precision."""
    runtime, precision = variant
    with config_context(runtime=runtime):
        found: np.ndarray = ours(precision).transform(X)
    return found


def programs(kind: str, X: Any, variants: Sequence[tuple[str, str]]) -> dict[str, Program]:
    """Return the peer and the variants, each as a function that returns features."""
    if kind == "texts":
        model = text_throughput.peer("float32")
        found: dict[str, Program] = {PEER: functools.partial(text_throughput.encode, model, X, 8)}
        ours = text_throughput.ours
    else:
        found = {PEER: functools.partial(image_throughput.embetter_way, image_throughput.network(), X)}
        ours = image_throughput.ours
    prepared = functools.cache(ours)  # a network is loaded once, and its models are kept with it
    return found | {name(one): functools.partial(in_runtime, one, prepared, X) for one in variants}


def one_round(made: Mapping[str, Program], number: int) -> dict[str, float]:
    """Return the processor seconds of each program, and of one torch product."""
    found: dict[str, float] = {}
    for what in list(made)[:: 1 if number % 2 == 0 else -1]:
        started, cpu = time.perf_counter(), time.process_time()
        made[what]()
        found[what] = time.process_time() - cpu
        found[f"wall {what}"] = time.perf_counter() - started
    found["load"] = os.getloadavg()[0]
    found["product_rate"] = product_rate()
    return found


def product_rate(least: float = 0.5, shape: tuple[int, int, int] = (1024, 384, 1536)) -> float:
    """Return operations of float32 products (m, k) @ (k, n) per second of the processor."""
    m, k, n = shape
    left, right = torch.ones(m, k), torch.ones(k, n)
    torch.mm(left, right)
    started, done = time.process_time(), 0
    while (spent := time.process_time() - started) < least:
        torch.mm(left, right)  # (m, n)
        done += 1
    return 2 * m * k * n * done / spent


def agreement(found: np.ndarray, expected: np.ndarray) -> dict[str, float]:
    """Return the largest difference, relative to the largest value, and the smallest cosine."""
    lengths = np.linalg.norm(found, axis=1) * np.linalg.norm(expected, axis=1)
    cosine = (found * expected).sum(1) / lengths
    return {
        "difference": float(np.abs(found - expected).max() / np.abs(expected).max()),
        "least_cosine": float(cosine.min()),
        "mean_cosine": float(cosine.mean()),
    }


def compare(program: Program, expected: Program) -> dict[str, float]:
    """Return the agreement of the features of two programs."""
    return agreement(program(), expected())


def samples(kind: str) -> tuple[Any, float]:
    """Return the samples of the times, and the number of operations of the network for all of them."""
    if kind == "texts":
        X: Any = text_throughput.texts(sized(100, 300), sized(10, 30))
        tokens = text_throughput.n_tokens(text_throughput.peer("float32"), X)
        return X, tokens * OPERATIONS[kind]
    X, _ = photos(sized(24, 64))
    return X, len(X) * OPERATIONS[kind]


def probe(kind: str, variant: Sequence[str]) -> float:
    """Return the accuracy of a logistic regression on features that a runtime computes."""
    n = sized(80, 400)
    if kind == "texts":
        X, y = some_reviews(2 * n)
    else:
        paths, y = photos(397)
        rows = np.random.default_rng(0).permutation(len(paths))[: min(2 * n, len(paths))]
        X, y = np.asarray(paths, dtype=object)[rows], y[rows]
    ours = text_throughput.ours if kind == "texts" else image_throughput.ours
    features = in_runtime(variant, ours, list(X))
    half = len(y) // 2
    classifier = LogisticRegression(max_iter=1000).fit(features[:half], y[:half])
    return float(classifier.score(features[half:], y[half:]))


def measure(report: Report, kind: str, rounds: int, variants: Sequence[tuple[str, str]], parts: Sequence[str]) -> None:
    """Report each variant relative to the peer."""
    remembered = Remembered("runtimes_rounds")
    where: dict[str, Any] = {"kind": kind, "machine": processor(), "torch": torch.__version__, "size": sized(0, 1)}
    if "accuracy" in parts:
        for variant in variants:
            accuracy = remembered({**where, "probe": name(variant)}, functools.partial(probe, kind, variant))
            report.row(f"{kind}, {name(variant)}: accuracy of a probe", [accuracy])
    if not {"times", "agreement"} & set(parts):
        return
    X, operations = samples(kind)
    made = programs(kind, X, variants)
    where["n"] = len(X)
    if "agreement" in parts:
        expected = functools.cache(made[PEER])
        for what, program in made.items():
            found = remembered({**where, "agreement": what}, functools.partial(compare, program, expected))
            report.row(f"{kind}, {what}: cosine with the peer", [found["mean_cosine"]], **found)
    if "times" not in parts:
        return
    where["programs"] = list(made)
    taken = [remembered({**where, "round": one}, functools.partial(one_round, made, one)) for one in range(rounds)]
    report.row(f"{kind}: {processor()}", [len(X)], load=float(np.median([one["load"] for one in taken])))
    for what in made:
        report.row(
            f"{kind}, {what}: processor time, peer over this",
            [float(np.median([one[PEER] / one[what] for one in taken]))],
            rounds=[round(one[PEER] / one[what], 2) for one in taken],
            wall=float(np.median([one[f"wall {PEER}"] / one[f"wall {what}"] for one in taken])),
            share_of_product_rate=float(np.median([operations / one[what] / one["product_rate"] for one in taken])),
        )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kinds", nargs="+", choices=list(OPERATIONS), default=list(OPERATIONS))
    parser.add_argument("--variants", nargs="+", choices=[*map(name, VARIANTS)], default=[*map(name, VARIANTS)])
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS[: sized(1, len(PARTS))])
    given = parser.parse_args()
    variants = [one for one in VARIANTS if name(one) in given.variants]
    report = Report("frozen networks in torch and in other runtimes", "runtimes")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TruncatedTextWarning)  # both truncate long reviews
        for kind in given.kinds:
            measure(report, kind, sized(3, 7), variants, given.parts)
    report.write()


if __name__ == "__main__":
    main()
