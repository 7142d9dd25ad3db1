"""Adaptation from a labelled domain to an unlabelled one, by each alignment.

    SKTRANSFER_TEST_DATA=... [SIZE=full] python -m benchmarks.accuracy.domains [digits] [shift] [scanner] [amazon]

digits: MNIST to USPS and back, with `tiny/cnn` and 1,000 labels. Only the last stage is trained, unless a row is "deep"
(from block4 on, at a rate of 1e-3).

shift: MNIST to USPS, where the digits 0 to 4 are four times as frequent in the target as 5 to 9, and equally frequent
in the source. The rows have the predicted share of the digits 0 to 4 in both domains, and the true one.

scanner: scikit-learn's digits and the same ones in a lower contrast, `0.2 + 0.5 * X`, with 50 or 150 digits of each.

amazon: the 12 ordered pairs of the domains of Amazon reviews, with `tiny/bert` and all-MiniLM-L6-v2. Only the last
layer is trained, or none in the rows "frozen".

The network adapts to unlabelled samples of the target, and is tested on others. "supervised" learns from the labels of
these unlabelled samples alone, which is an upper bound. With "shuffled" domains, samples are assigned to the domains at
random, so that only a part of the labels is used, and an alignment has nothing to gain over "none".

Each figure is a mean over draws of the samples. The results are stored in `results/domains.jsonl` when they are
measured, so an interrupted run resumes. SIZE=full has more samples and draws.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import itertools
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

from benchmarks.accuracy.multitask import DOMAINS, amazon_data
from benchmarks.common import Report, data_folder, sentence_encoder, sized
from benchmarks.remembered import Remembered
from sktransfer import DomainAdaptationClassifier, FineTuneClassifier
from sktransfer.exceptions import TruncatedTextWarning

MUST, AIM = 0.85, 0.94  # accuracy on USPS
DIGITS: dict[str, Any] = {}  # the defaults of the estimator
REVIEWS: dict[str, Any] = {"max_length": 128}
NETWORKS = ("tiny/bert", "all-MiniLM-L6-v2")
DEEP = {"freeze_depth": "block3", "lr": 1e-3}
ALIGNMENTS: dict[str, dict[str, Any]] = {
    "none": {"alignment": "none"},
    "coral": {"alignment": "coral"},
    "mmd": {"alignment": "mmd"},
    "dann": {"alignment": "dann"},
    "mcc": {"alignment": "mcc"},
}
STATISTICS: dict[str, dict[str, Any]] = {
    "adabn": {"alignment": "adabn"},
    "adabn, no training": {"alignment": "adabn", "max_epochs": 0},
    "adabn, mcc": {"alignment": ["adabn", "mcc"]},
    "adabn, mcc, deep": {"alignment": ["adabn", "mcc"], **DEEP},
    "adabn, coral": {"alignment": ["adabn", "coral"]},
    "adabn, mmd": {"alignment": ["adabn", "mmd"]},
}


FROZEN = {"freeze_depth": "all"}  # features cannot be aligned then, but predictions can
SUPERVISED = {"alignment": "supervised"}  # the labels of the target alone, without an alignment
REVIEW_ALIGNMENTS: dict[str, Any] = {
    "none, frozen": {"alignment": "none", **FROZEN},
    "mcc, frozen": {"alignment": "mcc", **FROZEN},
    "supervised, frozen": {**SUPERVISED, **FROZEN},
    **ALIGNMENTS,
    "supervised": SUPERVISED,
}


@dataclasses.dataclass(frozen=True)
class Pair:
    """Samples of two domains.

    Parameters
    ----------
    X, y : ndarray of shape (n_source,)
        Labelled samples of the source.
    X_target, y_target : ndarray of shape (n_target,)
        Samples of the target that are adapted to, and their labels, which an adaptation does not see.
    X_test, y_test : ndarray of shape (n_test,)
        Other samples of the target.
    """

    X: Any
    y: np.ndarray
    X_target: Any
    y_target: np.ndarray
    X_test: Any
    y_test: np.ndarray

    def masked(self) -> tuple[Any, np.ndarray, np.ndarray]:
        """Return samples of both domains, their labels without those of the target, and their domains."""
        domain = np.repeat([1, -1], [len(self.y), len(self.y_target)])  # (n_source + n_target,)
        labels = np.concatenate([self.y.astype(float), np.full(len(self.y_target), np.nan)])
        return np.concatenate([self.X, self.X_target]), labels, domain


@functools.cache
def _digits(name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return images (n, 28, 28), labels, and whether each belongs to the test part."""
    with np.load(data_folder() / "images" / name) as file:
        images, y, split = file["data"], file["y"].astype(int), file["split"]
    if images.shape[1] != 28:
        images = np.stack([np.asarray(Image.fromarray(image).resize((28, 28))) for image in images])
    return images, y, split == 1


def digits(source: str, target: str, seed: int, *, shifted: bool = False) -> Pair:
    """Return digits of two scanners. In a shifted target, 0 to 4 are four times as frequent as 5 to 9."""
    files = {"MNIST": "mnist_10k.npz", "USPS": "usps.npz"}
    (X, y, is_test), (X_t, y_t, is_test_t) = _digits(files[source]), _digits(files[target])
    rng = np.random.default_rng(seed)
    rows = rng.permutation(np.flatnonzero(~is_test))[:1000]
    n_target, n_test = sized(1000, 5000), sized(1000, 2000)
    parts = []
    for part, size in ((np.flatnonzero(~is_test_t), n_target), (np.flatnonzero(is_test_t), n_test)):
        drawn = rng.permutation(part)
        if shifted:
            n_few = min(size // 5, (y_t[drawn] > 4).sum(), (y_t[drawn] < 5).sum() // 4)
            few, many = drawn[y_t[drawn] > 4][:n_few], drawn[y_t[drawn] < 5][: 4 * n_few]
            drawn = rng.permutation(np.concatenate([few, many]))
        parts.append(drawn[:size])
    unlabelled, test = parts
    return Pair(X[rows], y[rows], X_t[unlabelled], y_t[unlabelled], X_t[test], y_t[test])


def scanner(n: int, seed: int) -> Pair:
    """Return n digits of each of two scanners, of which the second has a lower contrast."""
    X, y = load_digits(return_X_y=True)
    X = X.reshape(-1, 8, 8) / 16  # (n_digits, 8, 8)
    source, target, test = np.split(np.random.default_rng(seed).permutation(len(y))[: 2 * n + 400], [n, 2 * n])
    low = 0.2 + 0.5 * X  # (n_digits, 8, 8)
    return Pair(X[source], y[source], low[target], y[target], low[test], y[test])


@functools.cache
def _reviews() -> Any:
    return amazon_data()


def reviews(source: str, target: str, seed: int) -> Pair:
    """Return reviews of two kinds of products."""
    ((X, y), _), ((X_t, y_t), (X_test, y_test)) = _reviews()[source], _reviews()[target]
    n = sized(500, 1500)
    rows, unlabelled = (np.random.default_rng([seed, one]).permutation(len(y))[:n] for one in (0, 1))
    return Pair(X[rows], y[rows], X_t[unlabelled], y_t[unlabelled], X_test, y_test)


def fit_candidate(pair: Pair, backbone: Any, settings: Mapping[str, Any], alignment: Mapping[str, Any]) -> Any:
    """Return an estimator fitted to a pair of domains.

    Parameters
    ----------
    pair : Pair
        Samples.
    backbone : str or Backbone
        Backbone.
    settings : mapping
        Parameters of the training.
    alignment : mapping
        Parameters of the alignment, or `SUPERVISED`.
    """
    parameters = {**settings, **alignment}
    if parameters["alignment"] == "supervised":
        del parameters["alignment"]
        return FineTuneClassifier(backbone, **parameters).fit(pair.X_target, pair.y_target)
    X, y, _ = pair.masked()
    return DomainAdaptationClassifier(backbone, **parameters).fit(X, y)


def shuffled_score(pair: Pair, backbone: Any, settings: Mapping[str, Any], alignment: Mapping[str, Any]) -> float:
    """Return the test accuracy with samples that are assigned to the domains at random."""
    X, y, domain = pair.masked()
    domain = np.random.default_rng(9).permutation(domain)
    y = np.where(domain > 0, y, np.nan)  # labels of the target are not used
    clf = DomainAdaptationClassifier(backbone, **settings, **alignment).fit(X, y, sample_domain=domain)
    return float(clf.score(pair.X_test, pair.y_test))


def outputs(pair: Pair, backbone: Any, settings: Mapping[str, Any], alignment: Mapping[str, Any]) -> Any:
    """Return test accuracy, and predicted and true share of the lower half of the classes in both domains."""
    fitted = fit_candidate(pair, backbone, settings, alignment)
    predicted = fitted.predict(pair.X_test)
    lower = np.unique(pair.y)[: len(np.unique(pair.y)) // 2]
    shares = {
        "source": float(np.isin(fitted.predict(pair.X), lower).mean()),
        "target": float(np.isin(predicted, lower).mean()),
        "true": float(np.isin(pair.y_test, lower).mean()),
    }
    return {"score": float((predicted == pair.y_test).mean()), **shares}


def measure_digits(report: Report, known: Remembered, n_draws: int, *, shifted: bool = False) -> None:
    """Report the accuracies of both directions, and the best one on USPS against the marks."""
    best = {}
    for source, target in [("MNIST", "USPS"), ("USPS", "MNIST")][: 1 if shifted else 2]:
        candidates: dict[str, Any] = {"none": ALIGNMENTS["none"], **STATISTICS, **ALIGNMENTS} | (
            {} if shifted else {"supervised": SUPERVISED}
        )
        for name, alignment in candidates.items():
            found = []
            for seed in range(n_draws):
                what = {**DIGITS, "pair": [source, target], "alignment": alignment, "seed": seed, "shifted": shifted}
                settings = {**DIGITS, "random_state": seed}
                draw = functools.partial(digits, source, target, seed, shifted=shifted)
                measure = functools.partial(_later, outputs, draw, "tiny/cnn", settings, alignment)
                found.append(known({**what, "n": sized(1000, 5000)}, measure))
            more = _shares(found) if shifted else {}
            report.row(f"{source} to {target}{', shifted' * shifted}: {name}", [one["score"] for one in found], **more)
            best[target, name] = [one["score"] for one in found]
    if shifted:
        return
    of_usps = {name: scores for (target, name), scores in best.items() if target == "USPS" and name != "supervised"}
    name = max(of_usps, key=lambda name: float(np.mean(of_usps[name])))
    report.judge(f"MNIST to USPS, the best alignment by target labels: {name}", of_usps[name], must=MUST, aim=AIM)
    for name in ("none", "coral"):
        draws = [functools.partial(digits, "MNIST", "USPS", seed) for seed in range(n_draws)]
        scores = [
            known(
                {**DIGITS, "shuffled": ["MNIST", "USPS"], "alignment": name, "seed": seed, "n": sized(1000, 5000)},
                functools.partial(
                    _later, shuffled_score, draw, "tiny/cnn", {**DIGITS, "random_state": seed}, ALIGNMENTS[name]
                ),
            )
            for seed, draw in enumerate(draws)
        ]
        report.row(f"MNIST to USPS, shuffled domains: {name}", scores)


def measure_scanner(report: Report, known: Remembered, n_draws: int) -> None:
    """Report the accuracies on digits of a lower contrast."""
    candidates = {name: {**ALIGNMENTS, **STATISTICS}[name] for name in ("none", "coral", "adabn", "mcc", "adabn, mcc")}
    for n, (name, alignment) in itertools.product((50, 150), candidates.items()):
        found = []
        for seed in range(n_draws):
            what = {**DIGITS, "scanner": n, "alignment": alignment, "seed": seed}
            draw = functools.partial(scanner, n, seed)
            settings = {**DIGITS, "random_state": seed}
            found.append(known(what, functools.partial(_later, outputs, draw, "tiny/cnn", settings, alignment)))
        report.row(f"{n} digits in a lower contrast: {name}", [one["score"] for one in found])


def _later(function: Callable[..., Any], draw: Callable[[], Pair], *arguments: Any) -> Any:
    """Return the result of a function of a pair, which is drawn only if it is needed."""
    return function(draw(), *arguments)


def _shares(found: list[dict[str, float]]) -> dict[str, str]:
    """Return the mean shares of the lower half of the classes as text."""
    names = {"source": "predicted in the source", "target": "predicted in the target", "true": "true in the target"}
    return {text.replace(" ", "_"): f"{np.mean([one[name] for one in found]):.2f}" for name, text in names.items()}


def measure_amazon(
    report: Report, known: Remembered, n_draws: int, *, networks: Sequence[str], rows: Sequence[str]
) -> None:
    """Report the mean accuracy over the ordered pairs, and that of each pair."""
    for network in networks:
        backbone = "tiny/bert" if network == "tiny/bert" else sentence_encoder()
        for name in rows:
            alignment, scores = REVIEW_ALIGNMENTS[name], []
            for source, target in itertools.permutations(DOMAINS, 2):
                of_pair, read = [], source
                if name.startswith("supervised"):  # reads no source: measured once for each target
                    read = next(domain for domain in DOMAINS if domain != target)
                for seed in range(n_draws):
                    what = {**REVIEWS, "network": network, "pair": [read, target], "alignment": alignment}
                    draw = functools.partial(reviews, read, target, seed)
                    settings = {**REVIEWS, "random_state": seed}
                    measure = functools.partial(_later, outputs, draw, backbone, settings, alignment)
                    of_pair.append(known({**what, "seed": seed, "n": sized(500, 1500)}, measure)["score"])
                report.row(f"{network}, {source} to {target}: {name}", of_pair)
                scores.append(float(np.mean(of_pair)))
            report.row(f"{network}, mean of 12 pairs: {name}", [float(np.mean(scores))])


def main() -> None:
    """Print and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "parts", nargs="*", default=["digits", "shift", "scanner", "amazon"], help="digits, shift, scanner, amazon"
    )
    parser.add_argument("--draws", type=int, default=3)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=NETWORKS, help="networks of the reviews")
    every = list(REVIEW_ALIGNMENTS)
    parser.add_argument("--rows", nargs="+", choices=every, default=every, help="rows of the reviews")
    args = parser.parse_args()
    data_folder()
    warnings.simplefilter("ignore", TruncatedTextWarning)  # the limit is intended
    report, known = (
        Report("From a labelled domain to an unlabelled one: test accuracy", "domains"),
        Remembered("domains"),
    )
    parts: dict[str, Callable[[Report, Remembered, int], None]] = {
        "digits": measure_digits,
        "shift": functools.partial(measure_digits, shifted=True),
        "scanner": measure_scanner,
        "amazon": functools.partial(measure_amazon, networks=args.networks, rows=args.rows),
    }
    for part in args.parts:
        parts[part](report, known, args.draws)
    report.write()


if __name__ == "__main__":
    main()
