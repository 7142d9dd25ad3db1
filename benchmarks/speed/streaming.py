"""Memory of `featurize` by the number of rows, and its output after kills at random times.

    python -m benchmarks.speed.streaming

A generator makes the rows, texts of two words, so that nothing but `featurize` holds them. `WordEmbedder` turns them
into features, because it is the cheapest featurizer. The first row of the table has the peak memory of a new process at
20,000 and at 200,000 rows. Then a process is killed ten times at random times. The run after the last kill completes
its output, which is compared with that of an uninterrupted run.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import RESULTS, Report
from sktransfer import StoredFeatures, WordEmbedder, featurize
from sktransfer.words.vectors import WordVectors

SIZE, N_WORDS, N_DIMS = 1000, 20_000, 100


def chunks(n_rows: int) -> Iterator[dict[str, Any]]:
    """Yield chunks of texts with ids, the same at each call."""
    for start in range(0, n_rows, SIZE):
        words = np.random.default_rng(start).integers(0, N_WORDS, (SIZE, 2))
        yield {"text": [f"w{first} w{second}" for first, second in words], "id": np.arange(start, start + SIZE)}


def embedder() -> WordEmbedder:
    """Return a featurizer with random vectors."""
    vectors = np.random.default_rng(0).normal(size=(N_WORDS, N_DIMS)).astype(np.float32)
    return WordEmbedder(WordVectors([f"w{i}" for i in range(N_WORDS)], vectors)).fit(["w0"])


def stream(n_rows: int, out: Path) -> StoredFeatures:
    """Featurize rows."""
    return featurize(chunks(n_rows), embedder(), out, columns="text", keep="id", chunk_size=SIZE)


def measured(n_rows: int, out: Path) -> None:
    """Featurize rows and print peak memory, memory before, processor seconds and seconds."""
    embedder()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started, wall = time.process_time(), time.perf_counter()
    stream(n_rows, out)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    spent = {"cpu": time.process_time() - started, "seconds": time.perf_counter() - wall}
    print(json.dumps({"before": before * 1024, "peak": peak * 1024, **spent}))


def measure(n_rows: int, out: Path) -> dict[str, float]:
    """Return what `measured` prints in a new process."""
    shutil.rmtree(out, ignore_errors=True)
    code = (
        "from pathlib import Path\n"
        f"from benchmarks.speed.streaming import measured; measured({n_rows}, Path({str(out)!r}))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def kill_often(n_rows: int, out: Path, n_kills: int, most: float, seed: int = 0) -> list[int]:
    """Start a process again and again, kill it at random times, and return the parts written at each kill.

    Parameters
    ----------
    n_rows : int
        Number of rows.
    out : Path
        Output.
    n_kills : int
        Number of kills.
    most : float
        Longest time in seconds between the start of the process and the kill.
    seed : int, default=0
        Seed of the times.
    """
    shutil.rmtree(out, ignore_errors=True)
    rng, n_parts = random.Random(seed), []
    context = multiprocessing.get_context("fork")  # the libraries are loaded, so that a kill hits the stream
    for _ in range(n_kills):
        process = context.Process(target=stream, args=(n_rows, out))
        process.start()
        time.sleep(rng.uniform(0, most))
        process.kill()
        process.join()
        if process.exitcode == -signal.SIGKILL:
            n_parts.append(len(list(out.glob("*.parquet"))))
    return n_parts


def digest(folder: Path) -> str:
    """Return a hash of the names and bytes of all files of a folder."""
    running = hashlib.blake2b(digest_size=16)
    for path in sorted(folder.iterdir()):
        running.update(path.name.encode() + path.read_bytes())
    return running.hexdigest()


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=200_000, help="rows of the larger run")
    parser.add_argument("--kills", type=int, default=10)
    arguments = parser.parse_args()
    many, few = arguments.rows, arguments.rows // 10
    report = Report("memory of featurize, and its output after kills", "streaming")
    folder = RESULTS / "streaming"
    folder.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    found = {n: measure(n, folder / f"whole_{n}") for n in (few, many)}
    sizes = {f"MB_at_{n}": one["peak"] / 1e6 for n, one in found.items()}
    sizes |= {"MB_before": found[many]["before"] / 1e6, "cpu_seconds": found[many]["cpu"]}
    ratio = found[many]["peak"] / found[few]["peak"]
    report.judge(f"peak memory at {many} rows over {few}", [ratio], must=1.05, aim=1.0, at_most=True, **sizes)
    killed, whole = folder / "killed", folder / f"whole_{many}"
    n_parts = kill_often(many, killed, arguments.kills, found[many]["seconds"] / 4)
    stored = stream(many, killed)
    print(f"parts written at the kills: {n_parts}; rows computed by the last run: {stored.n_computed} of {many}")
    what = f"output after {len(n_parts)} kills equals the uninterrupted one (1 is yes)"
    report.judge(what, [float(digest(killed) == digest(whole))], must=1.0)
    report.write()


if __name__ == "__main__":
    main()
