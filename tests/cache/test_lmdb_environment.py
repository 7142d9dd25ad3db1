from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import lmdb
import pytest

from sktransfer.cache.lmdb_environment import LAYOUT, LOCK_BYTES, Environment
from tests.cache.test_memory import status_of
from tests.helpers.plugin_zoo import ROOT, python

LIMIT = 10**7


def put(environment, key, value=b"value"):
    with environment.transaction(write=True) as transaction:
        transaction.put(key, value)


def get(environment, key):
    with environment.transaction() as transaction:
        found = transaction.get(key)
        return None if found is None else bytes(found)


def other_process(folder, code, limit=LIMIT):
    """Return the code of a process that has the folder open."""
    head = "import sys; from pathlib import Path; from sktransfer.cache.lmdb_environment import Environment\n"
    return f"{head}environment = Environment(Path({str(folder)!r}), {limit})\n{code}"


def test_what_is_written_lies_in_a_folder_named_by_version(tmp_path):
    environment = Environment(tmp_path / "a" / "b", LIMIT)
    put(environment, b"key")
    assert get(environment, b"key") == b"value"
    assert [path.name for path in (tmp_path / "a" / "b").iterdir()] == [LAYOUT] == ["sktransfer-store-1"]


def test_a_block_that_fails_writes_nothing_and_ends_its_transaction(tmp_path):
    environment = Environment(tmp_path, LIMIT)

    def fail():
        with environment.transaction(write=True) as transaction:
            transaction.put(b"key", b"value")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert get(environment, b"key") is None
    put(environment, b"key")


def test_the_file_is_no_larger_than_what_it_holds(tmp_path):
    put(Environment(tmp_path, 10**12), b"key")
    assert (tmp_path / LAYOUT / "lmdb" / "data.mdb").stat().st_size < 10**5


def test_the_lock_file_has_its_blocks(tmp_path):
    put(Environment(tmp_path, LIMIT), b"key")
    status = (tmp_path / LAYOUT / "lmdb" / "lock.mdb").stat()
    assert status.st_size == LOCK_BYTES <= status.st_blocks * 512


def test_hundreds_can_read_at_once(tmp_path):
    environment = Environment(tmp_path, LIMIT)
    put(environment, b"key")
    started, end = threading.Barrier(301), threading.Event()

    def read():
        with environment.transaction() as transaction:
            started.wait(600)
            end.wait(600)
            return bytes(transaction.get(b"key"))

    with ThreadPoolExecutor(300) as threads:
        found = [threads.submit(read) for _ in range(300)]
        started.wait(600)
        put(environment, b"key", b"other")  # while they read
        end.set()
        assert {one.result() for one in found} == {b"value"}
    assert get(environment, b"key") == b"other"


@pytest.mark.process
def test_slots_of_readers_that_were_killed_are_used_again(tmp_path):
    environment = Environment(tmp_path, LIMIT)
    put(environment, b"key")  # and stays open: with nobody left, the table would begin anew
    code = "with environment.transaction() as transaction:\n    print('reading', flush=True)\n    sys.stdin.read()"
    for _ in range(3):
        command = [sys.executable, "-c", other_process(tmp_path, code)]
        environ = {**os.environ, "PYTHONPATH": str(ROOT)}
        with subprocess.Popen(command, stdin=-1, stdout=-1, text=True, env=environ) as reader:
            assert reader.stdout.readline() == "reading\n"
            reader.kill()
    code = "with environment.transaction(): print(environment._env.readers())"
    told = python("-c", other_process(tmp_path, code)).stdout.split("\n")
    assert len([line for line in told if line.strip()]) == 2  # the names of columns, and the one reader


@pytest.mark.process
def test_a_map_that_another_process_has_grown(tmp_path):
    environment = Environment(tmp_path, 200_000)
    put(environment, b"small")
    code = "with environment.transaction(write=True) as t:\n    t.put(b'large', bytes(1_000_000))"
    python("-c", other_process(tmp_path, code))
    assert get(environment, b"large") == bytes(1_000_000)
    put(environment, b"more")
    assert get(environment, b"more") == b"value"


def test_the_limit_holds_and_can_be_raised(tmp_path):
    environment = Environment(tmp_path, 200_000)
    with pytest.raises(lmdb.MapFullError):
        put(environment, b"large", bytes(1_000_000))
    environment.resize(2_000_000)
    put(environment, b"large", bytes(1_000_000))
    assert environment.used() > 1_000_000
    environment.resize(100_000)
    assert get(environment, b"large") == bytes(1_000_000)
    with pytest.raises(lmdb.MapFullError):
        put(environment, b"next", bytes(1_000_000))


@pytest.mark.process
@pytest.mark.parametrize("how", ["removed", "replaced"])
def test_files_that_are_gone_are_opened_anew(how, tmp_path):
    environment = Environment(tmp_path, LIMIT)
    put(environment, b"key")
    environment.database.rename(tmp_path / "gone")
    if how == "replaced":
        python("-c", other_process(tmp_path, "with environment.transaction(write=True) as t: t.put(b'new', b'1')"))
    assert get(environment, b"key") is None
    assert get(environment, b"new") == (b"1" if how == "replaced" else None)
    put(environment, b"key", b"again")
    code = "with environment.transaction() as t: print(bytes(t.get(b'key')))"
    assert python("-c", other_process(tmp_path, code)).stdout == "b'again'\n"


@pytest.mark.process
def test_a_file_cut_short_is_an_error_and_not_the_end_of_the_process(tmp_path):
    environment = Environment(tmp_path, LIMIT)
    for number in range(100):
        put(environment, str(number).encode(), bytes(2000))
    environment.close()
    file = environment.database / "data.mdb"
    os.truncate(file, 5 * 4096)
    code = """
for number in range(100):
    try:
        with environment.transaction() as t: t.get(str(number).encode())
    except Exception as error:
        print(type(error).__name__)
"""
    told = python("-c", other_process(tmp_path, code)).stdout.split()
    assert told
    assert set(told) <= {"CorruptedError", "PageNotFoundError"}


@pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning")
def test_a_forked_process_opens_its_own_whatever_other_threads_were_at(tmp_path):
    environment, stop = Environment(tmp_path, LIMIT), threading.Event()
    put(environment, b"key")

    def busy(number):
        while not stop.is_set():
            put(environment, f"thread {number}".encode())
            assert get(environment, b"key") == b"value"
            time.sleep(0.001)

    with ThreadPoolExecutor(3) as threads:
        busy_ones = [threads.submit(busy, number) for number in range(3)]
        try:
            for number in range(10):
                child = os.fork()
                if child == 0:
                    put(environment, f"child {number}".encode())
                    with environment.transaction() as transaction:
                        right = bytes(transaction.get(b"key")) == b"value"
                        own = str(os.getpid()) in environment._env.readers()  # and not as its parent
                    os._exit(0 if right and own else 1)
                assert status_of(child) == 0
        finally:
            stop.set()
        assert [one.result() for one in busy_ones] == [None] * 3
    assert [get(environment, f"child {number}".encode()) for number in range(10)] == [b"value"] * 10


@pytest.mark.process
@pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning")
def test_a_fork_takes_no_reader_from_the_parent(tmp_path):
    """A child that closes what it inherits frees the slot by which its parent holds on to the pages that it reads."""
    environment = Environment(tmp_path, LIMIT)
    put(environment, b"key", bytes(100_000))
    child = os.fork()
    if child == 0:
        put(environment, b"child")
        environment.close()
        os._exit(0)
    with environment.transaction() as transaction:
        assert status_of(child) == 0
        assert str(os.getpid()) in environment._env.readers()
        code = """
for number in range(20):
    with environment.transaction(write=True) as t: t.put(b'key', bytes([number]) * 100_000)"""
        python("-c", other_process(tmp_path, code))
        assert bytes(transaction.get(b"key")) == bytes(100_000)


def test_threads_of_one_process_read_and_write_at_once(tmp_path):
    environment = Environment(tmp_path, LIMIT)

    def work(number):
        for step in range(20):
            put(environment, f"{number} {step}".encode(), bytes(3000))
            assert get(environment, f"{number} {step}".encode()) == bytes(3000)
            if step == 10:
                environment.resize(LIMIT + number)

    with ThreadPoolExecutor(6) as threads:
        assert list(threads.map(work, range(6))) == [None] * 6
    environment.close()
    assert get(environment, b"5 19") == bytes(3000)


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"), Environment(tmp_path / "file", LIMIT).transaction():
        pass
