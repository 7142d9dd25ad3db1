"""One batch a core: all results, errors where they belong, and no thread left behind."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time

import pytest
import torch

from sktransfer.engine import workers
from sktransfer.engine.workers import ahead, in_parallel

OLDER = set()


@pytest.fixture(autouse=True)
def _older_threads():
    """Threads of an earlier test that was interrupted."""
    OLDER.update(threading.enumerate())


@pytest.fixture(params=[1, 2, 3])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def alive():
    return [one for one in threading.enumerate() if one.name.startswith("sktransfer-") and one not in OLDER]


@pytest.mark.parametrize("n", [0, 1, 2, 5, 100])
def test_in_parallel_does_each_job_once(threads, n):
    assert sorted(in_parallel(iter(range(n)), lambda job: job * 2)) == [2 * job for job in range(n)]
    assert not alive()


def test_in_parallel_runs_one_job_per_thread(threads):
    at_once, most, shares = set(), [], set()

    def work(job):
        at_once.add(threading.get_ident())
        most.append(len(at_once))
        shares.add(torch.get_num_threads())
        time.sleep(0.02)
        at_once.discard(threading.get_ident())
        return job

    list(in_parallel(iter(range(12)), work))
    assert max(most) == threads
    assert shares == {1}
    assert torch.get_num_threads() == threads  # the caller's own


def test_in_parallel_divides_the_threads_among_its_callers(threads):
    at_work, go, idents = threading.Event(), threading.Event(), set()

    def first_caller():
        results = in_parallel(iter(range(2)), abs)
        next(results)
        at_work.set()
        go.wait()
        list(results)

    def work(job):
        idents.add(threading.get_ident())
        time.sleep(0.02)

    thread = threading.Thread(target=first_caller)
    thread.start()
    at_work.wait()
    list(in_parallel(iter(range(8)), work))
    go.set()
    thread.join()
    assert len(idents) == max(1, threads // 2)
    assert not workers._callers


def test_in_parallel_gives_a_single_job_all_threads(threads):
    assert list(in_parallel(iter([0]), lambda _: torch.get_num_threads())) == [threads]


def test_in_parallel_raises_the_error_of_a_job(threads):
    def work(job):
        if job == 3:
            raise ValueError("row 3")
        return job

    with pytest.raises(ValueError, match="row 3"):
        list(in_parallel(iter(range(100)), work))
    assert not alive()


def test_in_parallel_raises_the_error_of_the_iterator_of_jobs(threads):
    def jobs():
        yield from range(5)
        raise KeyError("job 5")

    with pytest.raises(KeyError, match="job 5"):
        list(in_parallel(jobs(), lambda job: job))
    assert not alive()


def test_in_parallel_stops_working_when_closed(threads):
    done = []
    results = in_parallel(iter(range(1000)), lambda job: done.append(job))
    next(results)
    results.close()
    assert not alive()
    assert len(done) < 50


def test_in_parallel_stops_working_when_stopping_is_interrupted(threads, monkeypatch):
    def interrupted(pool):
        raise KeyboardInterrupt

    monkeypatch.setattr(workers._WorkerPool, "stop", interrupted)
    results = in_parallel(iter(range(1000)), lambda job: job)
    next(results)
    if threads == 1:
        results.close()
    else:
        with pytest.raises(KeyboardInterrupt):
            results.close()
    for _ in range(100):
        if not alive():
            break
        time.sleep(0.05)
    assert not alive()


def test_in_parallel_requests_jobs_as_results_are_taken(threads):
    asked = []

    def jobs():
        for job in range(1000):
            asked.append(job)
            yield job

    results = in_parallel(jobs(), lambda job: job)
    next(results)
    time.sleep(0.3)
    assert len(asked) < 30
    results.close()


def test_ahead_keeps_the_order_and_works_in_the_background():
    made = []

    def jobs():
        for job in range(20):
            made.append(job)
            yield job

    results = ahead(jobs())
    assert next(results) == 0
    time.sleep(0.3)
    assert 1 < len(made) < 10
    assert list(results) == list(range(1, 20))
    assert not alive()


def test_ahead_raises_an_error_in_its_place():
    def jobs():
        yield 1
        raise ValueError("second")

    results = ahead(jobs())
    assert next(results) == 1
    with pytest.raises(ValueError, match="second"):
        next(results)


OF_MANY_KINDS = """
import sys
import multiprocessing
import numpy as np
from joblib import Parallel, delayed
from sktransfer import FineTuneClassifier, ImageFeaturizer, TextFeaturizer

X = np.random.default_rng(0).random((40, 16, 16, 3)).astype(np.float32)
texts = [f"a film to love, number {i}" for i in range(40)]


def work(kind):
    if kind == "images":
        return ImageFeaturizer(cache=None, batch_size=8).fit_transform(X)
    if kind == "texts":
        return TextFeaturizer(cache=None, batch_size=8).fit_transform(texts)
    return FineTuneClassifier(cache=None, max_epochs=1, random_state=0).fit(X, np.arange(40) % 2).decision_function(X)


KINDS = ["images", "texts", "training"]
if __name__ == "__main__":
    here = [work(kind) for kind in KINDS]  # the threads of this process have run
    for way in sys.argv[1:]:
        if way in ("loky", "threading"):
            there = Parallel(2, backend=way)(delayed(work)(kind) for kind in KINDS)
        else:
            with multiprocessing.get_context(way).Pool(1) as pool:
                there = pool.map_async(work, KINDS).get(300)
        for one, other in zip(here, there):
            np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)
        print(way, "equal")
"""


@pytest.mark.process
def test_fit_gives_equal_results_in_other_processes_and_threads(tmp_path):
    program, ways = tmp_path / "program.py", ["fork", "loky", "threading"]
    program.write_text(OF_MANY_KINDS)
    command = [sys.executable, "-W", "ignore", str(program), *ways]
    environ = {**os.environ, "OMP_NUM_THREADS": "2"}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    assert done.stdout.splitlines() == [f"{way} equal" for way in ways], done.stderr[-2000:]
