"""From one task to another: which parts of a network learnt on IMDB's reviews serve MR's sentences (Mou et al., 2016).

    SKTRANSFER_TEST_DATA=... [SIZE=full] python -m benchmarks.source_task [--seeds 2]

The network is `tiny/bert`'s, from random weights (its word pieces are all that it keeps), trained on IMDB alone. Of it
the embeddings (E), the hidden layers (H) and the output (O) go over to MR: frozen (f), tuned (t), or drawn at random
in their stead (r), which are the rows of the paper's table. What is random or tuned is trained on MR, in all rows at
the same rates. Test accuracy, mean and standard deviation over draws of MR's labels. The source is trained once (with
SIZE=full, anew for each draw). The paper's figures stand beside ours: its network was an LSTM whose embeddings were
word2vec's where they are random here, and it had 8,500 sentences of MR. An interrupted run goes on where it stopped.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
from sklearn.model_selection import train_test_split

from benchmarks.common import RESULTS, Report, data_folder, sized
from benchmarks.recipes import Split, draw_samples
from benchmarks.remembered import Remembered
from sktransfer import Backbone, FineTuneClassifier, load_backbone
from sktransfer.backbones.backbone import replace_stages
from sktransfer.exceptions import TruncatedTextWarning

SOURCE: dict[str, Any] = {
    "weights": "random",
    "freeze_depth": 0,
    "head_init": "random",
    "max_length": 128,
    "precision": "bfloat16",
    "lr": 1e-3,
    "lr_schedule": "one_cycle",
    "max_epochs": 3,
}
TARGET: dict[str, Any] = {"head_init": "random", "lr": 1e-3, "head_lr": 1e-3, "max_epochs": 8}
# What of the source each row takes, what it freezes, and the paper's accuracy.
ROWS: dict[str, tuple[str, int | str, float]] = {
    "E(r) H(r) O(r)": ("", 0, 75.1),
    "E(f) H(r) O(r)": ("E", 1, 78.2),
    "E(f) H(f) O(r)": ("EH", "all", 78.8),
    "E(f) H(f) O(f)": ("EHO", "all", 73.6),
    "E(t) H(r) O(r)": ("E", 0, 78.3),
    "E(t) H(t) O(r)": ("EH", 0, 81.4),
    "E(t) H(t) O(t)": ("EHO", 0, 80.9),
}


def of_source(table: pd.DataFrame, n_texts: int, seed: int) -> list[np.ndarray]:
    """Return which reviews a source is trained on, and the rest."""
    rows = np.arange(len(table))
    parts: list[np.ndarray] = train_test_split(rows, train_size=n_texts, stratify=table["label"], random_state=seed)
    return parts


def source(seed: int, n_texts: int, folder: Path) -> FineTuneClassifier:
    """Return the source task's classifier, trained now or read from `folder`."""
    path = folder / f"source_task_{seed}_{n_texts}.joblib"
    if not path.exists():
        table = pd.read_csv(data_folder() / "text" / "imdb_train.csv.gz")
        rows, _ = train_test_split(
            np.arange(len(table)), train_size=n_texts, stratify=table["label"], random_state=seed
        )
        X, y = table["text"].to_numpy(dtype=object), table["label"].to_numpy()
        clf = FineTuneClassifier("tiny/bert", **SOURCE, cache=None, verbose=1, random_state=seed)
        folder.mkdir(exist_ok=True)
        with cut_texts():
            joblib.dump(clf.fit(X[rows], y[rows]), path)
    clf: FineTuneClassifier = joblib.load(path)
    return clf.set_params(max_length=None, precision="float32", cache="memory")


@contextmanager
def cut_texts() -> Iterator[None]:
    """Say nothing of long reviews: they are read up to a length on purpose."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TruncatedTextWarning)
        yield


def held_out_accuracy(clf: FineTuneClassifier, n_texts: int, seed: int, n: int = 1000) -> float:
    """Return the accuracy on reviews that the source task was not trained on."""
    table = pd.read_csv(data_folder() / "text" / "imdb_train.csv.gz")
    _, rest = of_source(table, n_texts, seed)
    with cut_texts():
        return float(clf.score(table["text"].to_numpy(dtype=object)[rest[:n]], table["label"].to_numpy()[rest[:n]]))


def start(taken: str, clf: FineTuneClassifier, seed: int) -> Backbone:
    """Return the backbone that a row starts from: of the source what is taken, the rest drawn at random."""
    random = load_backbone("tiny/bert", weights="random", seed=1000 + seed)
    n = {"": 0, "E": 1}.get(taken, len(random.stages))
    return replace_stages(clf.backbone_, n, list(random.stages[n:]))


def measure(row: str, clf: FineTuneClassifier, data: Split, seed: int) -> float:
    """Return a row's test accuracy on one draw."""
    X, y, X_test, y_test = data
    taken, depth, _ = ROWS[row]
    options = {**TARGET, "freeze_depth": depth, "random_state": seed}
    if taken == "EHO":
        options |= {"head": clf.head_, "head_init": "probe"}  # a given head starts as it is
    if row == "E(f) H(f) O(f)":
        options["max_epochs"] = 0  # nothing is left to be trained
    tuned = FineTuneClassifier(start(taken, clf, seed), **options).fit(X, y)
    return float(tuned.score(X_test, y_test))


def draw(table: dict[str, list[float]], path: Path) -> None:
    """Draw ours and the paper's side by side."""
    from matplotlib.figure import Figure  # not pyplot: it would start a window system

    figure = Figure(figsize=(7, 3.6), layout="constrained")
    axes = figure.subplots()
    means = [100 * np.mean(scores) for scores in table.values()]
    deviations = [100 * np.std(scores) for scores in table.values()]
    places = np.arange(len(table))
    axes.errorbar(means, places - 0.12, xerr=deviations, fmt="o", color="#0072B2", label="here")
    axes.plot([ROWS[row][2] for row in table], places + 0.12, "s", color="#D55E00", label="the paper")
    axes.set_yticks(places, list(table))
    axes.invert_yaxis()
    axes.grid(axis="x", alpha=0.25)
    axes.legend(frameon=False, fontsize=8)
    axes.set_title("IMDB to MR: test accuracy (%); f frozen, t tuned, r random", fontsize=9)
    figure.savefig(path, dpi=130)


def main() -> None:
    """Print the table, write it, and draw it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=sized(2, 5))
    args = parser.parse_args()
    data_folder()
    n_texts, n_labels, n_test = sized(6000, 24000), sized(1000, 0), sized(1000, 2000)
    what = f"IMDB ({n_texts} reviews) to MR ({n_labels or 'all'} sentences), {args.seeds} draws"
    report, known = Report(f"What of a source task transfers: {what}", "source_task"), Remembered("source_task")
    anew = bool(sized(0, 1))
    sources = [source(seed if anew else 0, n_texts, RESULTS) for seed in range(args.seeds)]
    setting = {"source": SOURCE, "target": TARGET, "sizes": [n_texts, n_labels, n_test]}
    on_source = [
        known(
            {**setting, "row": "source", "seed": seed},
            lambda: held_out_accuracy(clf, n_texts, seed),  # noqa: B023, called at once
        )
        for seed, clf in enumerate(sources if anew else sources[:1])
    ]
    report.row("the source task itself, held-out reviews", on_source)
    table: dict[str, list[float]] = {}
    for row, (_, _, paper) in ROWS.items():
        table[row] = [
            known(
                {**setting, "row": row, "seed": seed},
                lambda: measure(row, clf, draw_samples(n_labels, n_test, seed), seed),  # noqa: B023, called at once
            )
            for seed, clf in enumerate(sources)
        ]
        gain = 100 * float(np.mean(np.subtract(table[row], table["E(r) H(r) O(r)"])))
        report.row(row, table[row], gain=f"{gain:+.1f}", paper=paper, papers_gain=f"{paper - 75.1:+.1f}")
    report.write()
    draw(table, RESULTS / "source_task.png")


if __name__ == "__main__":
    main()
