"""Samples through the stages, time and bytes of a search on several workers.

    python -m benchmarks.speed.cluster

A search of 10 candidates with 5 folds runs in this process, on workers of loky, and on those of Dask. The network
writes down the number of samples that each stage receives. Times depend on the cores, and more workers than cores only
add overhead. Results are remembered, so that an interrupted run resumes.
"""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from joblib import parallel_config
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from torch import Tensor, nn

from benchmarks.remembered import Remembered
from sktransfer import Backbone, ImageFeaturizer, clear_cache, load_backbone

N_SAMPLES, SEEDS = 200, (0, 1, 2)


class Counted(nn.Module):
    """A stage that writes the number of its samples to a file."""

    def __init__(self, index: int, stage: nn.Module, path: Path) -> None:
        super().__init__()
        self.index, self.stage, self.path = index, stage, str(path)

    def forward(self, values: Tensor) -> Tensor:
        """Run the stage."""
        with Path(self.path).open("a") as file:
            file.write(f"{self.index} {len(values)}\n")
        result: Tensor = self.stage(values, None)
        return result


def counted_backbone(path: Path) -> Backbone:
    """Return the stages of tiny/cnn, which count their samples."""
    plain = load_backbone("tiny/cnn")
    stages = [
        (name, Counted(index, stage, path)) for index, (name, stage) in enumerate(zip(plain.stage_names, plain.stages))
    ]
    return Backbone.from_modules(stages, preprocess=plain.preprocess)


def read_counts(path: Path) -> list[int]:
    """Return the number of samples per stage."""
    counts: Counter[int] = Counter()
    for line in path.read_text().splitlines():
        index, n = map(int, line.split())
        counts[index] += n
    return [counts[index] for index in sorted(counts)]


def make_search(cache: Any, path: Path) -> GridSearchCV:
    """Return a search of 10 candidates with 5 folds."""
    featurizer = ImageFeaturizer(counted_backbone(path), cache=cache)
    grid = {"imagefeaturizer__layer": [1, 2, 3, 4, 5], "logisticregression__C": [0.1, 1.0]}
    return GridSearchCV(make_pipeline(featurizer, LogisticRegression(max_iter=200)), grid, cv=5, n_jobs=-1, refit=False)


def search(engine: str, workers: int, cache: str, seed: int) -> dict[str, Any]:
    """Run a search, and return its counts, times and scores."""
    generator = np.random.default_rng(seed)
    y = generator.integers(0, 2, N_SAMPLES)
    X = np.clip(generator.random((N_SAMPLES, 32, 32, 3)) + 0.2 * y[:, None, None, None], 0, 1).astype(np.float32)
    clear_cache()
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        path, started = Path(name) / "counts", time.perf_counter()
        path.touch()
        if engine == "dask":
            from distributed import Client, LocalCluster

            cluster = stack.enter_context(LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=None))
            stack.enter_context(Client(cluster))
        places = {"none": None, "memory": "memory", "folder": Path(name) / "kept"}
        fitted = make_search(places[cache], path).set_params(n_jobs=workers)
        ready = time.perf_counter()
        with parallel_config({"serial": "sequential"}.get(engine, engine)):
            fitted.fit(X, y)
        return {
            "samples": read_counts(path),
            "seconds_to_start": round(ready - started, 2),
            "seconds": round(time.perf_counter() - ready, 2),
            "scores": fitted.cv_results_["mean_test_score"].tolist(),
        }


def bytes_per_task(kind: str, n_texts: int = 5000, n_tasks: int = 20) -> float:
    """Return the bytes that the client and the scheduler of Dask write per task that reads all texts."""
    from distributed import Client, LocalCluster
    from distributed.comm import tcp
    from joblib import Parallel, delayed

    texts = [f"{row} " + "word " * 40 for row in range(n_texts)]
    X: Any = np.array(texts, dtype=object) if kind == "object array" else texts  # (n_texts,)
    written = [0]
    write = tcp.TCP.write

    async def counting(self: Any, *args: Any, **kwargs: Any) -> int:
        n_bytes: int = await write(self, *args, **kwargs)
        written[0] += n_bytes
        return n_bytes

    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster, Client(cluster):
        tcp.TCP.write = counting
        try:
            with parallel_config("dask"):
                Parallel(batch_size=1)(delayed(len)(X) for _ in range(n_tasks))
        finally:
            tcp.TCP.write = write
    return written[0] / n_tasks


def main() -> None:
    """Print a table of searches, and the bytes per task."""
    remember = Remembered("cluster")
    plan = [("serial", 1, "none"), ("serial", 1, "memory")]
    plan += [(engine, n, cache) for engine in ("loky", "dask") for n in (2, 4) for cache in ("memory", "folder")]
    for kind in ("list", "object array"):
        n_bytes = remember({"bytes": kind}, lambda kind=kind: bytes_per_task(kind))
        print(f"5,000 texts as {kind}: {n_bytes:,.0f} bytes per task", flush=True)
    for seed in SEEDS:
        expected = None
        for engine, workers, cache in plan:
            what = {"engine": engine, "workers": workers, "cache": cache, "seed": seed}
            found = remember(what, lambda what=what: search(**what))
            expected = expected or found["scores"]
            shares = ", ".join(f"{n / N_SAMPLES:.2f}" for n in found["samples"])
            equal = "equal scores" if found["scores"] == expected else "OTHER SCORES"
            print(f"{what}: N x [{shares}], {found['seconds_to_start']} + {found['seconds']} s, {equal}", flush=True)


if __name__ == "__main__":
    main()
