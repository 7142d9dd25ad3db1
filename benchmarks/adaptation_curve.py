"""Gain of an adaptation to texts without labels against the number of labels.

    SKTRANSFER_TEST_DATA=... [SIZE=full] python -m benchmarks.adaptation_curve [--domains books] [--objectives mlm]

The network is adapted to 2,000 reviews of a domain once per objective and draw, as in `adaptation.py`. Each number of
labels a class, from 16 to all, then has its logistic regression. The gain is the accuracy over that of the network as
it was, with the same labels. The picture is `results/adaptation_curve.png`.

The results are stored in `results/adaptation_curve.jsonl` when they are measured, so an interrupted run resumes.
"""

from __future__ import annotations

import argparse
import functools
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from benchmarks import common
from benchmarks.adaptation import OF_TEXTS, Data, accuracy, adapted
from benchmarks.common import Report, sized
from benchmarks.multitask import DOMAINS, amazon_data
from benchmarks.picture import draw_lines
from benchmarks.remembered import Remembered
from sktransfer import clear_cache
from sktransfer.exceptions import TruncatedTextWarning

LABELS_A_CLASS = (16, 32, 64, 128, 256, None)  # None for all


def curve(domain: str, objective: str, pool: Data, test: Data, seed: int) -> list[float]:
    """Return the test accuracy for each number of labels, after an adaptation.

    Parameters
    ----------
    domain, objective, pool, test, seed
        As `benchmarks.adaptation` takes them.
    """
    backbone = adapted(domain, objective, {}, pool[0], seed)
    scores = [accuracy(backbone, domain, pool, test, n, seed) for n in LABELS_A_CLASS]
    clear_cache()
    return scores


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
    parser.add_argument("--draws", type=int, default=sized(1, 5))
    chosen = parser.parse_args()
    warnings.simplefilter("ignore", TruncatedTextWarning)
    data, known = amazon_data(), Remembered("adaptation_curve")
    report = Report("Gain of an adaptation: by how many labels?", "adaptation_curve")
    scores: dict[str, list[list[float]]] = {}
    for objective in ["none", *chosen.objectives]:
        for domain in chosen.domains:
            for seed in range(chosen.draws):
                what = {"domain": domain, "objective": objective, "seed": seed}
                found = known(what, functools.partial(curve, domain, objective, *data[domain], seed))
                scores.setdefault(objective, []).append(found)
                for n, score in zip(LABELS_A_CLASS, found, strict=True):
                    report.row(f"{domain} {objective} {seed}, {n or 'all'} labels a class", [score])
    report.write()
    draw(scores, common.RESULTS / "adaptation_curve.png")


if __name__ == "__main__":
    main()
