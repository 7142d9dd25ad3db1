"""ELMo's layer mix: all layers of an encoder, mixed by learnt weights, against the last layer alone.

    SKTRANSFER_TEST_DATA=... [SIZE=full] python -m benchmarks.accuracy.layer_mix [--seeds 3]

The encoder is all-MiniLM-L6-v2, frozen. The data are 6,000 texts of MR and of MPQA (SIZE=full: all), 2,000 of them for
the test, drawn per seed. In each row, a hold-out of the training part chooses the head's learning rate. The head starts
as a probe and is trained further, together with the layer weights if layers are mixed. Some rows use the probe alone.
The frozen layer outputs come from the cache, so the encoder runs once per text. The paper predicts a gain of 1 to 3
points for the mix. An interrupted run resumes.
"""

from __future__ import annotations

import argparse
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.model_selection import train_test_split

from benchmarks.common import RESULTS, Report, data_folder, sentence_encoder, sized
from benchmarks.remembered import Remembered
from sktransfer import FineTuneClassifier, TextFeaturizer

RATES = [3e-4, 1e-3, 3e-3]  # of the head
BASE: dict[str, Any] = {"freeze_depth": "all", "batch_size": 64, "max_epochs": 10}
# ELMo's lambda, which pulls the layer weights towards equality, corresponds to weight decay here.
ROWS: dict[str, dict[str, Any]] = {
    "last layer": {"layer": -1},  # the baseline of the other rows
    "mixed, equal weights": {"layer": "mix", "max_epochs": 0},
    "mixed, weights learnt": {"layer": "mix"},
    "mixed, weights held to equality (decay 1)": {"layer": "mix", "weight_decay": 1.0},
    "all concatenated": {"layer": "all"},
    "one layer, chosen by the hold-out": {"layer": [1, 2, 3, 4, 5]},
    "last layer, probe alone": {"layer": -1, "max_epochs": 0},
    "all concatenated, probe alone": {"layer": "all", "max_epochs": 0},
}


def texts_of(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the distinct texts of a data set and their labels."""
    path = data_folder() / "text" / f"{name}.csv.gz"
    table = pd.read_csv(path, keep_default_na=False).drop_duplicates("text")  # "null" is one of MPQA's phrases
    return table["text"].to_numpy(dtype=object), table["label"].to_numpy()


def candidates(row: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the candidate settings of a row."""
    settings = {**BASE, **row}
    layers = settings["layer"] if isinstance(settings["layer"], list) else [settings["layer"]]
    rates = RATES if settings["max_epochs"] else [1e-3]
    return [{**settings, "layer": layer, "head_lr": rate, "lr": rate} for layer in layers for rate in rates]


def fitted(settings: dict[str, Any], encoder: str, X: Any, y: Any, seed: int) -> FineTuneClassifier:
    """Return a fitted classifier."""
    return FineTuneClassifier(encoder, **settings, random_state=seed).fit(X, y)


def measure(row: dict[str, Any], encoder: str, X: np.ndarray, y: np.ndarray, n_test: int, seed: int) -> dict[str, Any]:
    """Return test accuracy, the chosen settings, and the layer weights of a mix."""
    train, test = train_test_split(np.arange(len(X)), test_size=n_test, stratify=y, random_state=seed)
    fit, hold = train_test_split(train, test_size=0.2, stratify=y[train], random_state=seed)
    settings = candidates(row)
    held = [0.0]
    if len(settings) > 1:
        held = [fitted(one, encoder, X[fit], y[fit], seed).score(X[hold], y[hold]) for one in settings]
    chosen = settings[int(np.argmax(held))]
    clf = fitted(chosen, encoder, X[train], y[train], seed)
    found = {"accuracy": float(clf.score(X[test], y[test])), "lr": chosen["lr"], "layer": chosen["layer"]}
    if chosen["layer"] == "mix":
        found["weights"] = [round(float(weight), 3) for weight in clf.layer_weights_]
    return found


def rows_of(
    name: str, X: np.ndarray, y: np.ndarray, n_test: int, seeds: int, known: Callable[..., Any], report: Report
) -> dict[str, list[float]]:
    """Report all rows of one data set."""
    encoder = sentence_encoder()
    table: dict[str, list[float]] = {}
    # One pass caches the layers for all rows. It is skipped if all results are stored.
    read = functools.cache(lambda: TextFeaturizer(encoder, layer="all").fit_transform(X))
    for what, row in ROWS.items():
        found = [
            known(
                {"on": name, "n": len(X), "n_test": n_test, "seed": seed, "of": candidates(row)},
                lambda: read() is not None and measure(row, encoder, X, y, n_test, seed),  # noqa: B023, called at once
            )
            for seed in range(seeds)
        ]
        table[what] = [one["accuracy"] for one in found]
        gains = 100 * np.subtract(table[what], table["last layer"])
        more = (
            {"weights": np.mean([one["weights"] for one in found], 0).round(3).tolist()}
            if "weights" in found[0]
            else {}
        )
        chosen = [(one["layer"], one["lr"]) for one in found]
        report.row(
            f"{name}, {what}", table[what], gain=f"{gains.mean():+.2f} ± {gains.std():.2f}", chosen=chosen, **more
        )
    return table


def draw(tables: dict[str, dict[str, list[float]]], path: Path) -> None:
    """Draw the gain of each row over the last layer, per draw and on average."""
    from matplotlib.figure import Figure  # pyplot would start a window system

    figure = Figure(figsize=(1.5 + 4.5 * len(tables), 3.4), layout="constrained")
    for axes, (name, rows) in zip(np.atleast_1d(figure.subplots(1, len(tables), sharey=True)), tables.items()):
        gains = {what: 100 * np.subtract(scores, rows["last layer"]) for what, scores in rows.items()}
        for place, one in enumerate(gains.values()):
            axes.plot(one, [place] * len(one), ".", color="#999999")
        axes.plot([one.mean() for one in gains.values()], list(gains), "o", color="#0072B2")
        axes.axvline(0, color="black", linewidth=0.8, linestyle=":")
        axes.axvspan(1, 3, color="#009E73", alpha=0.12, linewidth=0)
        axes.set_title(f"{name}: points gained on the last layer (green: predicted)", fontsize=9)
        axes.tick_params(labelsize=8)
        axes.grid(axis="x", alpha=0.25)
    axes.invert_yaxis()
    figure.savefig(path, dpi=130)


def main() -> None:
    """Print, write and draw the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=sized(3, 5))
    args = parser.parse_args()
    data_folder()
    n, n_test = sized(6000, 10**9), 2000
    report = Report(f"All layers mixed against the last, all-MiniLM-L6-v2 frozen, {args.seeds} draws", "layer_mix")
    known = Remembered("layer_mix")
    tables = {}
    for name in ("mr", "mpqa"):
        X, y = texts_of(name)
        rows = np.random.default_rng(0).permutation(len(X))[:n]
        tables[name.upper()] = rows_of(name.upper(), X[rows], y[rows], n_test, args.seeds, known, report)
        report.write()
        draw(tables, RESULTS / "layer_mix.png")


if __name__ == "__main__":
    main()
