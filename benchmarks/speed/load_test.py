"""The example service under load for a minute: errors, latencies, and memory over time.

    python -m benchmarks.speed.load_test [--seconds 60] [--warm-up 30] [--clients 8]

The service of `examples/service` runs as a process of its own, with `tiny/bert` and `tiny/cnn`. Each client sends one
request after the other, of one new text or image. Every fiftieth request is a bad upload, which must be answered 400.
Any other answer but 200 is an error. The memory of the service is measured every five seconds. In the seconds of the
warm-up, which no other figure counts, the service meets most sizes of batches. From then on its memory must stay.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
import numpy as np
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from benchmarks.common import Report
from sktransfer import ImageFeaturizer, TextFeaturizer, save

WORDS = ["a", "the", "film", "of", "and", "to", "is", "in", "that", "it", "as", "but", "with", "for", "its", "story"]
BAD = 50  # one of so many requests holds a file that is no image
INTERVAL = 5.0  # seconds between two measurements of memory
GROWTH = 1.02  # largest ratio of the memory at the end to that after the warm-up


@dataclass
class Seen:
    """Answers of the service.

    Parameters
    ----------
    seconds : list of float
        Latency of each request that was answered as it must be.
    errors : list of str
        Other answers, and requests without one.
    n_refused : int, default=0
        Number of bad uploads that were answered 400.
    memory : list of int
        Resident memory of the service in bytes, at the start and every five seconds.
    """

    seconds: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    n_refused: int = 0
    memory: list[int] = field(default_factory=list)


def write_estimators(folder: Path) -> dict[str, Path]:
    """Write an estimator of texts and one of images, and return their files by modality."""
    rng = np.random.default_rng(0)
    moods = make_pipeline(TextFeaturizer("tiny/bert", layer=-1), LogisticRegression())
    photos = make_pipeline(ImageFeaturizer("tiny/cnn", layer=-1), LogisticRegression())
    save(moods.fit([new_text(rng) for _ in range(20)], ["up", "down"] * 10), folder / "moods.skt")
    save(photos.fit([new_image(rng) for _ in range(20)], ["cat", "dog"] * 10), folder / "photos.skt")
    return {"text": folder / "moods.skt", "image": folder / "photos.skt"}


def new_text(rng: np.random.Generator) -> str:
    """Return a text of up to 60 words."""
    return " ".join(rng.choice(WORDS, rng.integers(3, 60)))


def new_image(rng: np.random.Generator) -> bytes:
    """Return a JPEG file of 32 x 32 to 96 x 96 pixels."""
    side = int(rng.integers(32, 97))
    buffer = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (side, side, 3), np.uint8)).save(buffer, "JPEG")
    return buffer.getvalue()


@contextmanager
def running(files: dict[str, Path]) -> Iterator[tuple[str, int]]:
    """Start the service, yield its address and its process id, and end it by SIGTERM."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "examples.service", "--port", str(port)]
    command += [part for modality, path in files.items() for part in (f"--{modality}", str(path))]
    service = subprocess.Popen(command)
    try:
        address = f"http://127.0.0.1:{port}"
        while True:
            with suppress(httpx2.ConnectError):
                httpx2.get(f"{address}/ready", timeout=60).raise_for_status()
                break
            if service.poll() is not None:
                sys.exit("the service ended before it was ready")
            time.sleep(0.2)
        yield address, service.pid
        service.send_signal(signal.SIGTERM)
        if service.wait(60) not in (0, -signal.SIGTERM):
            sys.exit(f"the service ended with {service.returncode}")
    finally:
        service.kill()


def resident(pid: int) -> int:
    """Return the resident memory of a process in bytes. Linux only."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def until(ends: float) -> Iterator[int]:
    """Yield numbers from 1 until the clock shows `ends`."""
    n = 0
    while time.perf_counter() < ends:
        n += 1
        yield n


async def client(seed: int, address: str, numbers: Iterable[int], seen: Seen) -> None:
    """Send a request per number, one after the other. Bad uploads are those whose number `BAD` divides."""
    rng = np.random.default_rng(seed)
    async with httpx2.AsyncClient(base_url=address, timeout=60) as http:
        for number in numbers:
            is_bad, is_text = number % BAD == 0, rng.random() < 0.5
            arguments: dict[str, object] = {"json": {"texts": [new_text(rng)]}}
            if is_bad or not is_text:
                arguments = {"files": [("files", ("one", b"no image" if is_bad else new_image(rng)))]}
            started = time.perf_counter()
            try:
                answer = await http.post("/image" if "files" in arguments else "/text", **arguments)  # type: ignore[arg-type]
            except httpx2.HTTPError as error:
                seen.errors.append(repr(error))
                continue
            if answer.status_code != (400 if is_bad else 200):
                seen.errors.append(f"{answer.status_code} {answer.text}")
            else:
                seen.seconds.append(time.perf_counter() - started)
                seen.n_refused += is_bad


async def load(address: str, pid: int, seconds: float, n_clients: int, seed: int = 0) -> Seen:
    """Send requests from several clients for some seconds."""
    seen, ends = Seen(memory=[resident(pid)]), time.perf_counter() + seconds
    numbers = range(seed * n_clients, (seed + 1) * n_clients)
    clients = [asyncio.create_task(client(number, address, until(ends), seen)) for number in numbers]
    while time.perf_counter() < ends:
        await asyncio.sleep(min(INTERVAL, max(0.0, ends - time.perf_counter())))
        seen.memory.append(resident(pid))
    await asyncio.gather(*clients)
    return seen


def main() -> None:
    """Print figures, and fail if a request failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--warm-up", type=float, default=30, help="seconds before the measurement")
    parser.add_argument("--clients", type=int, default=8)
    args = parser.parse_args()
    report = Report(f"the service for {args.seconds:g} s with {args.clients} clients", "load_test")
    with tempfile.TemporaryDirectory() as folder, running(write_estimators(Path(folder))) as (address, pid):
        first = asyncio.run(load(address, pid, args.warm_up, args.clients, seed=1)).memory
        seen = asyncio.run(load(address, pid, args.seconds, args.clients))
    report.row("requests", [len(seen.seconds) + len(seen.errors)], per_second=len(seen.seconds) / args.seconds)
    report.row("bad uploads answered 400", [seen.n_refused])
    report.row("errors", [len(seen.errors)], first=(seen.errors or ["none"])[0])
    report.row("latency p50, ms", [np.percentile(seen.seconds, 50) * 1e3])
    report.row("latency p99, ms", [np.percentile(seen.seconds, 99) * 1e3])
    report.row("memory in the warm-up, MB", [first[-1] / 1e6], each=[round(one / 1e6, 1) for one in first])
    report.row("memory, MB", [seen.memory[-1] / 1e6], each=[round(one / 1e6, 1) for one in seen.memory])
    growth = seen.memory[-1] / seen.memory[0]
    report.judge("memory at the end over that after the warm-up", [growth], must=GROWTH, at_most=True)
    report.write()
    if seen.errors:
        sys.exit(f"{len(seen.errors)} requests failed")


if __name__ == "__main__":
    main()
