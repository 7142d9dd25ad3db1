"""Transfer between tasks: parts of a network trained on IMDB's reviews, used for MR's sentences (Mou et al., 2016).

    SKTRANSFER_TEST_DATA=... [SIZE=full] python -m benchmarks.accuracy.source_task [--seeds 2]

The network has the architecture and the word pieces of `tiny/bert`. It is trained on IMDB from random weights. The
embeddings (E), the hidden layers (H) and the output (O) are transferred to MR: frozen (f), tuned (t), or replaced by
random weights (r). The rows are those of the paper's table. Random and tuned parts are trained on MR, with the same
learning rates in all rows. The result is test accuracy, mean and standard deviation over draws of MR's labels. The
source is trained once, or with SIZE=full once per draw. The table also shows the paper's figures. The paper used an
LSTM, word2vec embeddings where ours are random, and 8,500 sentences of MR. An interrupted run resumes.
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

from benchmarks.accuracy.recipes import Split, draw_samples
from benchmarks.common import RESULTS, Report, data_folder, sized
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
    "layer": -1,
}
TARGET: dict[str, Any] = {"layer": -1, "head_init": "random", "lr": 1e-3, "head_lr": 1e-3, "max_epochs": 8}
# Per row: the transferred parts, the freezing depth, and the paper's accuracy.
ROWS: dict[str, tuple[str, int | str, float]] = {
    "E(r) H(r) O(r)": ("", 0, 75.1),
    "E(f) H(r) O(r)": ("E", 1, 78.2),
    "E(f) H(f) O(r)": ("EH", "all", 78.8),
    "E(f) H(f) O(f)": ("EHO", "all", 73.6),
    "E(t) H(r) O(r)": ("E", 0, 78.3),
    "E(t) H(t) O(r)": ("EH", 0, 81.4),
    "E(t) H(t) O(t)": ("EHO", 0, 80.9),
}


def split_source(table: pd.DataFrame, n_texts: int, seed: int) -> list[np.ndarray]:
    """Return the rows of the reviews for training the source, and the remaining rows."""
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
    """Ignore warnings about truncated reviews, because the limit is intended."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TruncatedTextWarning)
        yield


def held_out_accuracy(clf: FineTuneClassifier, n_texts: int, seed: int, n: int = 1000) -> float:
    """Return the accuracy on reviews that the source task was not trained on."""
    table = pd.read_csv(data_folder() / "text" / "imdb_train.csv.gz")
    _, rest = split_source(table, n_texts, seed)
    with cut_texts():
        return float(clf.score(table["text"].to_numpy(dtype=object)[rest[:n]], table["label"].to_numpy()[rest[:n]]))


def start(taken: str, clf: FineTuneClassifier, seed: int) -> Backbone:
    """Return the initial backbone of a row: transferred parts of the source, and random stages for the rest."""
    random = load_backbone("tiny/bert", weights="random", seed=1000 + seed)
    n = {"": 0, "E": 1}.get(taken, len(random.stages))
    return replace_stages(clf.backbone_, n, list(random.stages[n:]))


def measure(row: str, clf: FineTuneClassifier, data: Split, seed: int) -> float:
    """Return a row's test accuracy on one draw."""
    X, y, X_test, y_test = data
    taken, depth, _ = ROWS[row]
    options = {**TARGET, "freeze_depth": depth, "random_state": seed}
    if taken == "EHO":
        options |= {"head": clf.head_, "head_init": "probe"}  # a given head keeps its weights
    if row == "E(f) H(f) O(f)":
        options["max_epochs"] = 0  # everything is frozen
    tuned = FineTuneClassifier(start(taken, clf, seed), **options).fit(X, y)
    return float(tuned.score(X_test, y_test))


def draw(table: dict[str, list[float]], path: Path) -> None:
    """Draw our figures and the paper's."""
    from matplotlib.figure import Figure  # pyplot would start a window system

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
    """Print, write and draw the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=sized(2, 5))
    args = parser.parse_args()
    data_folder()
    n_texts, n_labels, n_test = sized(6000, 24000), sized(1000, 0), sized(1000, 2000)
    what = f"IMDB ({n_texts} reviews) to MR ({n_labels or 'all'} sentences), {args.seeds} draws"
    report, known = Report(f"Transfer of parts of a source task: {what}", "source_task"), Remembered("source_task")
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
