"""Tables of photos, texts and numbers: accuracy of `make_transfer_pipeline` on all columns and on those of one kind.

    [SIZE=full] python -m benchmarks.accuracy.mixed_table [--draws 3]

The tables are made of real data. In `classes`, a row has one of three classes. Its digit, its product review and its
wine are drawn from those of the class. Of the digits and wines 45% belong to a random class, of the reviews 30%. In
`numbers`, a row has three measurements of a diabetes patient, whose disease progression is predicted. The digit and the
mood of the review follow its rank, with noise. In each column, 40 of 900 cells are missing. Training takes the first
rows, and the last 600 are the test. An interrupted run resumes.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
import pandas as pd
from sklearn.datasets import load_diabetes, load_digits, load_wine

from benchmarks.common import Report, data_folder, sized
from benchmarks.remembered import Remembered
from sktransfer import make_transfer_pipeline

N_ROWS, N_TEST, N_MISSING = 900, 600, 40
WORDS = 40  # per review
COLUMNS = {"photo": ["photo"], "text": ["review"], "numbers": ["a", "b", "c"]}


def _draw(rng: np.random.Generator, labels: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Return a random row of each wanted label (n_rows,)."""
    return np.array([rng.choice(np.flatnonzero(labels == label)) for label in wanted])


def _classes(rng: np.random.Generator, digit: np.ndarray, reviews: pd.DataFrame) -> tuple[Any, ...]:
    label = rng.integers(3, size=N_ROWS)

    def noisy(share: float) -> np.ndarray:
        return np.where(rng.random(N_ROWS) < share, rng.integers(3, size=N_ROWS), label)

    wine = load_wine(as_frame=True)
    measured = wine.data[["alcohol", "hue", "magnesium"]].to_numpy()
    numbers = measured[_draw(rng, wine.target.to_numpy(), noisy(0.45))]  # (n_rows, 3)
    photos = _draw(rng, digit, np.array([2, 5, 8])[noisy(0.45)])
    domains = np.array(["books", "electronics", "kitchen"])[noisy(0.3)]
    return photos, _draw(rng, reviews["domain"].to_numpy(), domains), numbers, np.array(["x", "y", "z"])[label]


def _numbers(rng: np.random.Generator, digit: np.ndarray, reviews: pd.DataFrame) -> tuple[Any, ...]:
    patients = load_diabetes(as_frame=True)
    rows = rng.integers(len(patients.target), size=N_ROWS)
    y = patients.target.to_numpy()[rows]
    rank = pd.Series(y).rank(pct=True).to_numpy()  # (n_rows,)
    photos = _draw(rng, digit, np.clip(10 * (rank + rng.normal(0, 0.25, N_ROWS)), 0, 9).astype(int))
    moods = np.sort(reviews["label"].unique())[(rank + rng.normal(0, 0.25, N_ROWS) > 0.5).astype(int)]
    numbers = patients.data[["bmi", "bp", "s5"]].to_numpy()[rows]  # (n_rows, 3)
    return photos, _draw(rng, reviews["label"].to_numpy(), moods), numbers, y


TASKS = {"classes": _classes, "numbers": _numbers}


def make_table(task: str, seed: int) -> tuple[pd.DataFrame, np.ndarray]:
    """Return a table and its targets."""
    rng = np.random.default_rng(seed)
    pixels, digit = load_digits(return_X_y=True)
    images = (pixels.reshape(-1, 8, 8) / 16 * 255).astype(np.uint8)
    reviews = pd.read_csv(data_folder() / "text" / "amazon_mdsd.csv.gz")
    photos, texts, numbers, y = TASKS[task](rng, digit, reviews)
    short = reviews["text"].iloc[texts].str.split().str[:WORDS].str.join(" ")
    table = pd.DataFrame(numbers, columns=COLUMNS["numbers"]).assign(photo=list(images[photos]), review=list(short))
    for column in table:
        table.loc[rng.choice(N_ROWS, N_MISSING, replace=False), column] = None
    return table, y


def measure(task: str, seed: int, n: int, columns: list[str]) -> float:
    """Return the test accuracy, or R², of a pipeline for some columns that is trained on n rows."""
    table, y = make_table(task, seed)
    X = table[columns]
    pipeline = make_transfer_pipeline(X, y).fit(X[:n], y[:n])
    return float(pipeline.score(X[-N_TEST:], y[-N_TEST:]))


def main() -> None:
    """Print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=sized(3, 10))
    args = parser.parse_args()
    report = Report(f"Tables of photos, texts and numbers: score by columns, {args.draws} draws", "mixed_table")
    known = Remembered("mixed_table")
    kinds = {**COLUMNS, "all": [name for names in COLUMNS.values() for name in names]}
    for task in TASKS:
        for n in (100, 300):
            scores = {}
            for kind, columns in kinds.items():
                scores[kind] = [
                    known({"task": task, "seed": seed, "n": n, "kind": kind}, lambda: measure(task, seed, n, columns))  # noqa: B023
                    for seed in range(args.draws)
                ]
                report.row(f"{task}, {n} rows: {kind}", scores[kind])
            best = max((scores[kind] for kind in COLUMNS), key=np.mean)
            gains = np.subtract(scores["all"], best)
            report.row(f"{task}, {n} rows: all over the best alone", gains.tolist())
    report.write()


if __name__ == "__main__":
    main()
