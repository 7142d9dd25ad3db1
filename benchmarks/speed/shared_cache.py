"""Faults, repeated work and traffic of a cache that machines share.

    python -m benchmarks.speed.shared_cache [--url file:///mnt/folder]

Without a URL, one run uses a folder of this machine and one an object server (SeaweedFS) on this machine.

The first table is of two processes that write and three that read below one URL. One of the five is killed at a random
moment, in each round. Lost are values that a process has reported as written after `flush`. Wrong are
values that differ from those that were written under their key.

The second table is of two processes with a folder each and one URL, which compute the same features: one after the
other, and at the same time. It counts samples through each frozen stage, and bytes read and written below the URL.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch

from benchmarks.common import Report, sized
from benchmarks.remembered import Remembered
from sktransfer.cache.shared import SharedStore
from sktransfer.cache.types import CacheNamespace
from sktransfer.cache.urls import Location

NAMESPACES = [CacheNamespace(bytes([n]) * 16, "tiny/cnn", f"stage{n}", "average", "float32") for n in range(2)]
_kept: list[SharedStore] = []  # until the end, because a client of S3 must not be closed by a forked process
SPACE = 20_000  # numbers of a round, so that writers meet
FEATURES = """
import json, sys, time
import sktransfer.engine.forward as engine
from sktransfer import TextFeaturizer
from sktransfer.cache.resolve import resolve_store
from sktransfer.cache.urls import is_url
folder, url, n_texts, start = sys.argv[1:]
counts, run_stages = {}, engine.run_stages
def counted(stages, values, mask, explain):
    first = 5 - len(stages)  # tiny/bert has five, and all run
    for position, output in enumerate(run_stages(stages, values, mask, explain)):
        counts[first + position] = counts.get(first + position, 0) + len(values)
        yield output
engine.run_stages = counted
texts = [f"film {n}, {'good' if n % 3 else 'bad'} and {'very ' * (n % 7)}long" for n in range(int(n_texts))]
cache = [folder, url] if is_url(url) else folder
featurizer = TextFeaturizer("tiny/bert", cache=cache).fit(texts[:1])
time.sleep(max(0.0, float(start) - time.time()))
began = time.perf_counter()
featurizer.transform(texts)
shared = getattr(resolve_store(cache), "shared", None)
traffic = {"read": getattr(shared, "n_read", 0), "written": getattr(shared, "n_written", 0)}
print(json.dumps({"stages": counts, "seconds": time.perf_counter() - began, **traffic}))
"""


def value(number: int) -> torch.Tensor:
    """Return the value of a number, of a size that depends on it."""
    return torch.full((number % 7 * 20 + 5, 3), float(number))


def key(number: int) -> bytes:
    """Return the key of a number."""
    return number.to_bytes(20, "big")


def number_of(one: bytes) -> int:
    """Return the number of a key."""
    return int.from_bytes(one, "big")


def write(url: str, first: int, seed: int, report: Callable[[list[tuple[int, int]]], None]) -> None:
    """Write values until the process ends, and report namespace and number of each one."""
    store, draw = SharedStore(Location(url), refresh=0.1), random.Random(seed)
    while True:
        written = []
        for _ in range(draw.randint(1, 40)):  # a fit, of up to 2,560 values
            which, numbers = draw.randrange(2), sorted(draw.sample(range(first, first + SPACE), 64))
            store.put(NAMESPACES[which], [key(n) for n in numbers], [value(n) for n in numbers])
            written += [(which, number) for number in numbers]
        store.flush()
        report(written)


def read(url: str, first: int, seed: int, report: Callable[[list[tuple[int, int]]], None]) -> None:
    """Read values until the process ends, and report the number of each wrong one."""
    store, draw = SharedStore(Location(url), refresh=0.1), random.Random(seed)
    while True:
        which, numbers = draw.randrange(2), draw.sample(range(first, first + SPACE), 64)
        for one, found in store.fetch(NAMESPACES[which], [key(n) for n in numbers]).items():
            if not torch.equal(found, value(number_of(one))):
                report([(which, number_of(one))])
        time.sleep(0.02)


def start(act: Any, url: str, first: int, seed: int) -> tuple[int, int]:
    """Fork a process, and return its id and a descriptor of its reports. The process must not use threads of torch."""
    reader, writer = os.pipe()
    child = os.fork()
    if child:
        os.close(writer)
        return child, reader
    try:
        os.close(reader)
        act(url, first, seed, lambda found: os.write(writer, b"".join(_report(*one) for one in found)))
    finally:
        os._exit(1)


def _report(which: int, number: int) -> bytes:
    return which.to_bytes(1, "big") + number.to_bytes(7, "big")


def drain(got: dict[int, bytes], n_reports: int) -> None:
    """Collect what processes report, by descriptor, until there are so many reports or a minute has passed."""
    until = time.monotonic() + 60.0
    for descriptor in got:
        os.set_blocking(descriptor, False)
    while time.monotonic() < until and sum(map(len, got.values())) < 8 * n_reports:
        for descriptor in got:
            with suppress(BlockingIOError):
                got[descriptor] += os.read(descriptor, 2**20)
        time.sleep(0.002)


def rest(descriptor: int) -> bytes:
    """Return the rest of a pipe whose writer has ended."""
    os.set_blocking(descriptor, True)
    parts = []
    while part := os.read(descriptor, 2**20):
        parts.append(part)
    os.close(descriptor)
    return b"".join(parts)


def reported(raw: bytes) -> list[tuple[int, int]]:
    """Return the reports of a process, without one that was cut."""
    return [(raw[i], number_of(raw[i + 1 : i + 8])) for i in range(0, len(raw) // 8 * 8, 8)]


def one_round(url: str, number: int, n_values: int) -> dict[str, int]:
    """Run two writers and three readers until the writers have written some values, and check the values.

    One process is killed at a random moment, the others at the end.
    """
    draw, first = random.Random(number), number * SPACE
    children: dict[int, int] = {}
    for position in range(5):
        child, descriptor = start(write if position < 2 else read, url, first, 10 * number + position)
        children[child] = descriptor
    order, got = list(children), dict.fromkeys(children.values(), b"")
    victim = draw.choice(order)
    drain(got, draw.randint(0, n_values))
    time.sleep(draw.uniform(0, 0.3))
    os.kill(victim, signal.SIGKILL)
    os.waitpid(victim, 0)
    drain(got, n_values)
    others = [child for child in order if child != victim]
    n_failed = sum(os.waitpid(child, os.WNOHANG)[0] == child for child in others)  # no other one may have ended
    for child in others:
        with suppress(ProcessLookupError, ChildProcessError):
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
    for descriptor in got:
        got[descriptor] += rest(descriptor)
    wrong = sum(len(reported(got[children[child]])) for child in order[2:])
    written = {one for child in order[:2] for one in reported(got[children[child]])}
    store, lost = SharedStore(Location(url)), 0
    _kept.append(store)
    for which, namespace in enumerate(NAMESPACES):
        numbers = [number for one, number in written if one == which]
        entries = store.fetch(namespace, [key(n) for n in numbers])
        lost += sum(key(n) not in entries for n in numbers)
        wrong += sum(not torch.equal(one, value(number_of(name))) for name, one in entries.items())
    return {"wrong": wrong, "lost": lost, "written": len(written), "failed": n_failed}


@contextmanager
def places(url: str | None) -> Iterator[dict[str, str]]:
    """Yield URLs by name: the given one, or a folder and an object server."""
    if url is not None:
        yield {url.partition("://")[0]: url.rstrip("/")}
        return
    from tests.helpers.object_server import WRITER, environment, make_bucket, object_server

    with tempfile.TemporaryDirectory() as name, object_server(Path(name) / "server") as endpoint:
        os.environ.update(environment(endpoint, WRITER))
        make_bucket("bucket")
        yield {"folder": f"file://{name}/shared", "object server": "s3://bucket/shared"}


def faults(url: str, rounds: Iterable[int], n_values: int = 3000) -> dict[str, int]:
    """Return the sums over some rounds."""
    sums: dict[str, int] = {}
    for number in rounds:
        for name, count in one_round(url, number, n_values).items():
            sums[name] = sums.get(name, 0) + count
    return sums


def features(url: str | None, n_texts: int, *, together: bool) -> list[dict[str, Any]]:
    """Return what two processes with a folder each report, which compute the same features."""
    with tempfile.TemporaryDirectory() as name:
        folders = [f"{name}/{n}" for n in range(2)]
        begin = time.time() + 20.0 if together else 0.0
        commands = [[sys.executable, "-c", FEATURES, one, url or "none", str(n_texts), str(begin)] for one in folders]
        if together:
            running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for command in commands]
            outputs = [one.communicate()[0] for one in running]
        else:
            outputs = [subprocess.run(one, check=True, stdout=subprocess.PIPE, text=True).stdout for one in commands]
    return [json.loads(output.splitlines()[-1]) for output in outputs]


def measure(report: Report, url: str | None, rounds: int, n_texts: int, draws: int) -> None:
    """Report faults, then work and traffic."""
    known = Remembered("shared_cache")
    with places(url) as found:
        for name, base in found.items():
            sums: dict[str, int] = {}
            for number in range(rounds):
                what = {"faults": name, "round": number}
                part = known(what, lambda: faults(f"{base}/{time.time_ns()}", [number]))  # noqa: B023, called at once
                sums = {key: sums.get(key, 0) + count for key, count in part.items()}
            report.row(f"{name}: {rounds} rounds with a killed process", [sums["wrong"] + sums["lost"]], **sums)
        for name, base in {"no URL": None, **found}.items():
            for together in (False, True):
                for draw in range(draws):
                    what = {"features": name, "together": together, "n": n_texts, "draw": draw}
                    url_of_run = base and f"{base}/{time.time_ns()}"
                    runs = known(what, lambda: features(url_of_run, n_texts, together=together))  # noqa: B023
                    stages = [sum(int(run["stages"].get(str(n), 0)) for run in runs) / n_texts for n in range(5)]
                    moved = {f"{kind}_bytes": sum(run[kind] for run in runs) for kind in ("read", "written")}
                    how = "at the same time" if together else "one after the other"
                    seconds = [round(run["seconds"], 2) for run in runs]
                    report.row(f"{name}, {how}: passes per sample", stages, stages=stages, seconds=seconds, **moved)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", help="URL of a folder for the values (default: a folder and an object server)")
    report = Report("a cache that machines share", "shared_cache")
    measure(report, parser.parse_args().url, sized(3, 100), sized(200, 10_000), sized(1, 3))
    report.write()


if __name__ == "__main__":
    main()
