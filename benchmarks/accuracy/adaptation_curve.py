"""Gain of an adaptation to texts without labels against the number of labels.

    SKTRANSFER_TEST_DATA=... python -m benchmarks.accuracy.adaptation_curve [--domains books] [--objectives mlm]

The network is adapted to 1,500 reviews of a domain once per objective, as in `adaptation.py`. Each number of labels a
class, from 16 to all, and each draw of them then has its logistic regression. The gain is the accuracy over that of the
network as it was, with the same labels. The picture is `results/adaptation_curve.png`.

The results are stored in `results/adaptation_curve.jsonl` when they are measured, so an interrupted run resumes.
"""

from __future__ import annotations

import argparse
import functools
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from benchmarks import common
from benchmarks.accuracy.adaptation import OF_TEXTS, Data, accuracy, adapted
from benchmarks.accuracy.multitask import DOMAINS, amazon_data
from benchmarks.common import Report, sized
from benchmarks.picture import draw_lines
from benchmarks.remembered import Remembered
from sktransfer import Backbone, clear_cache
from sktransfer.exceptions import TruncatedTextWarning

LABELS_A_CLASS = (16, 32, 64, 128, 256, None)  # None for all


def curve(network: Callable[[], Backbone], domain: str, pool: Data, test: Data, seed: int) -> list[float]:
    """Return the test accuracy of a network for each number of labels.

    Parameters
    ----------
    network : callable
        Returns the network, and is not called if the result is known.
    domain, pool, test, seed
        As `benchmarks.accuracy.adaptation` takes them.
    """
    return [accuracy(network(), domain, pool, test, n, seed) for n in LABELS_A_CLASS]


def draw(scores: Mapping[str, Sequence[Sequence[float]]], path: Path) -> None:
    """Draw the mean gain of each objective over "none", in points.

    Parameters
    ----------
    scores : mapping of str to sequence of sequence of float
        Per objective, accuracies of each domain and draw, by number of labels. That of "none" is the baseline.
    path : Path
        Path of the PNG file.
    """
    before = np.array(scores["none"])  # (n_draws, n_numbers)
    lines = {name: 100 * (np.array(found) - before) for name, found in scores.items() if name != "none"}
    ticks = ["all" if n is None else str(n) for n in LABELS_A_CLASS]
    draw_lines(lines, ticks, path, across="labels a class", along="gain in accuracy (points)")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--domains", nargs="+", choices=DOMAINS, default=DOMAINS[: sized(1, 4)])
    usual = [name for name in OF_TEXTS if name not in ("none", "causal")]
    parser.add_argument("--objectives", nargs="+", choices=usual, default=usual)
    parser.add_argument("--draws", type=int, default=sized(1, 5), help="draws of the labels")
    chosen = parser.parse_args()
    warnings.simplefilter("ignore", TruncatedTextWarning)
    data, known = amazon_data(), Remembered("adaptation_curve")
    report = Report("Gain of an adaptation: by how many labels?", "adaptation_curve")
    scores: dict[str, list[list[float]]] = {}
    for objective in ["none", *chosen.objectives]:
        for domain in chosen.domains:
            pool, test = data[domain]
            network = functools.cache(functools.partial(adapted, domain, objective, {}, pool[0]))
            found = [
                known(
                    {"domain": domain, "objective": objective, "seed": seed},
                    functools.partial(curve, network, domain, pool, test, seed),
                )
                for seed in range(chosen.draws)
            ]
            scores.setdefault(objective, []).extend(found)
            for n, of_number in zip(LABELS_A_CLASS, zip(*found, strict=True), strict=True):
                report.row(f"{domain} {objective}, {n or 'all'} labels a class", list(of_number))
            clear_cache()
    for objective, found in scores.items():
        for n, of_number in zip(LABELS_A_CLASS, zip(*found, strict=True), strict=True):
            report.row(f"mean of the domains: {objective}, {n or 'all'} labels a class", [float(np.mean(of_number))])
    report.write()
    draw(scores, common.RESULTS / "adaptation_curve.png")


if __name__ == "__main__":
    main()
