"""Scorers that judge models without labels of the target, against the true accuracy on the target.

    SKTRANSFER_TEST_DATA=... [SIZE=full] python -m benchmarks.accuracy.domain_scorers [digits] [amazon]

The candidates are those of `domains.py`: no alignment, and each alignment. They are fitted to four fifths of
the labelled source and to the unlabelled target. Each scorer judges them by the other fifth of the source, and by the
target. The true accuracy is that on other samples of the target, whose labels no candidate and no scorer sees.

The table has, for each scorer, the rank correlation of its score with the true accuracy over the candidates of a pair
of domains, and the accuracy of the candidate that it chooses. For comparison, an oracle chooses the best candidate, and
another row chooses by the accuracy on the source. Each figure is a mean over pairs and draws.

The results are stored in `results/domain_scorers.jsonl` when they are measured, so an interrupted run resumes.
SIZE=full has more samples, draws and pairs.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import itertools
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from benchmarks.accuracy.domains import ALIGNMENTS, DIGITS, REVIEWS, STATISTICS, Pair, digits, fit_candidate, reviews
from benchmarks.accuracy.multitask import DOMAINS
from benchmarks.common import Report, data_folder, sentence_encoder, sized
from benchmarks.remembered import Remembered
from sktransfer import make_domain_scorer
from sktransfer.exceptions import TruncatedTextWarning

SCORERS = ("im", "snd", "dev", "importance", "entropy", "circular", "mano")
Found = list[dict[str, float]]  # scores, source and target accuracy of each candidate


def judge(pair: Pair, backbone: Any, settings: Mapping[str, Any], alignment: Mapping[str, Any]) -> dict[str, float]:
    """Return all scores of a candidate, and its accuracy on held-out samples of the source and of the target.

    Parameters
    ----------
    pair : Pair
        Samples.
    backbone : str or Backbone
        Backbone.
    settings : mapping
        Parameters of the training.
    alignment : mapping
        Parameters of the alignment.
    """
    n_source = len(pair.y) * 4 // 5
    fitted = fit_candidate(
        dataclasses.replace(pair, X=pair.X[:n_source], y=pair.y[:n_source]), backbone, settings, alignment
    )
    held_out = dataclasses.replace(pair, X=pair.X[n_source:], y=pair.y[n_source:])
    X, y, _ = held_out.masked()
    found = {name: make_domain_scorer(name)(fitted, X, y) for name in SCORERS}
    accuracy = {"source": fitted.score(held_out.X, held_out.y), "target": fitted.score(pair.X_test, pair.y_test)}
    return {**found, **accuracy}


def reduced(pair: Pair, n: int) -> Pair:
    """Return a pair with at most n samples of each domain, and as many test samples.

    Parameters
    ----------
    pair : Pair
        Samples.
    n : int
        Number of samples.
    """
    return Pair(*(getattr(pair, field.name)[:n] for field in dataclasses.fields(pair)))


def measure(
    known: Remembered,
    what: dict[str, Any],
    draw: Any,
    backbone: Any,
    settings: Mapping[str, Any],
    candidates: Mapping[str, Any],
) -> Found:
    """Return the scores of all candidates of a pair of domains and a draw."""
    n = what["n"]
    return [
        known(
            {**what, **settings, "alignment": alignment},
            lambda alignment=alignment: judge(reduced(draw(), n), backbone, settings, alignment),
        )
        for alignment in candidates.values()
    ]


def summarize(report: Report, title: str, pairs: list[Found]) -> None:
    """Report rank correlations and the accuracies of the chosen candidates.

    Parameters
    ----------
    report : Report
        Table.
    title : str
        Name of the data and the network.
    pairs : list of list of dict
        Candidates of each pair and draw.
    """
    target = [np.array([one["target"] for one in found]) for found in pairs]
    report.row(f"{title}: the best candidate (oracle)", [float(one.max()) for one in target])
    report.row(f"{title}: no alignment", [float(one[0]) for one in target])
    report.row(f"{title}: mean of the candidates", [float(one.mean()) for one in target])
    for name in ("source", *SCORERS):
        chosen, correlations = [], []
        for found, accuracy in zip(pairs, target, strict=True):
            scores = np.array([one[name] for one in found])
            chosen.append(float(accuracy[scores.argmax()]))
            is_constant = np.ptp(scores) == 0 or np.ptp(accuracy) == 0
            correlations.append(0.0 if is_constant else float(spearmanr(scores, accuracy).statistic))
        label = "accuracy on the source" if name == "source" else repr(name)
        report.row(f"{title}: chosen by {label}", chosen, rank_correlation=f"{np.mean(correlations):+.2f}")


def main() -> None:
    """Print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", default=["digits", "amazon"], help="digits, amazon")
    parser.add_argument("--draws", type=int, default=sized(1, 3))
    parser.add_argument("--n", type=int, default=sized(300, 1000), help="samples of each domain")
    parser.add_argument("--networks", nargs="+", default=["tiny/bert", "all-MiniLM-L6-v2"][: sized(1, 2)])
    args = parser.parse_args()
    data_folder()
    warnings.simplefilter("ignore", TruncatedTextWarning)  # the limit is intended
    report = Report("Which model, without labels of the target: accuracy of the choice", "domain_scorers")
    known = Remembered("domain_scorers")
    if "digits" in args.parts:
        for source, target in (("MNIST", "USPS"), ("USPS", "MNIST")):
            pairs = []
            for seed in range(args.draws):
                what = {"pair": [source, target], "seed": seed, "n": args.n}
                draw = functools.partial(digits, source, target, seed)
                settings = {**DIGITS, "random_state": seed}
                pairs.append(measure(known, what, draw, "tiny/cnn", settings, {**ALIGNMENTS, **STATISTICS}))
            summarize(report, f"{source} to {target}", pairs)
    if "amazon" in args.parts:
        for network in args.networks:
            backbone = "tiny/bert" if network == "tiny/bert" else sentence_encoder()
            pairs = []
            for (source, target), seed in itertools.product(itertools.permutations(DOMAINS, 2), range(args.draws)):
                what = {"pair": [source, target], "seed": seed, "n": args.n, "network": network}
                draw = functools.partial(reviews, source, target, seed)
                pairs.append(measure(known, what, draw, backbone, {**REVIEWS, "random_state": seed}, ALIGNMENTS))
            summarize(report, f"Amazon, {network}, 12 pairs", pairs)
    report.write()


if __name__ == "__main__":
    main()
