from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import lmdb
import pytest
import torch

from sktransfer.cache.disk import DiskStore
from sktransfer.cache.lmdb import (
    LAYOUT,
    LOCK_BYTES,
    Environment,
    NamespaceInfo,
    clear,
    forget,
    get_environment,
    list_namespaces,
    namespace_path,
    other_layouts,
    prune,
)
from sktransfer.cache.types import CacheNamespace
from tests.cache.test_disk import keep, keep_each
from tests.cache.test_memory import status_of
from tests.helpers.plugin_zoo import ROOT, python

LIMIT = 10**7
OLD, MIDDLE, NEW = (
    CacheNamespace(bytes([n]) * 16, f"tiny/{n}", f"stage {n}", "average" if n else "", "float32") for n in range(3)
)
KEYS = [n.to_bytes(20, "big") for n in range(50)]
VALUES = [torch.full((1500,), float(n)) for n in range(50)]


def put(environment, key, value=b"value"):
    with environment.transaction(write=True) as transaction:
        transaction.put(key, value)


def get(environment, key):
    with environment.transaction() as transaction:
        record = transaction.get(key)
        return None if record is None else bytes(record)


def other_process(folder, code, limit=LIMIT):
    """Return the code of a process that has the folder open."""
    head = "import sys; from pathlib import Path; from sktransfer.cache.lmdb import Environment\n"
    return f"{head}environment = Environment(Path({str(folder)!r}), {limit})\n{code}"


def test_namespace_path_is_in_a_folder_named_by_layout(tmp_path):
    keep(DiskStore(tmp_path / "a" / "b", LIMIT), NEW, KEYS[:1], VALUES[:1])
    assert [path.name for path in (tmp_path / "a" / "b").iterdir()] == [LAYOUT] == ["sktransfer-store-2"]
    assert namespace_path(tmp_path / "a" / "b", NEW).is_dir()


def test_transaction_is_aborted_if_the_block_fails(tmp_path):
    environment = Environment(tmp_path, LIMIT)

    def fail():
        with environment.transaction(write=True) as transaction:
            transaction.put(b"key", b"value")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert get(environment, b"key") is None
    put(environment, b"key")


def test_map_size_does_not_set_the_file_size(tmp_path):
    put(Environment(tmp_path, 10**12), b"key")
    assert (tmp_path / "data.mdb").stat().st_size < 10**5


def test_transaction_allocates_the_blocks_of_the_lock_file(tmp_path):
    put(Environment(tmp_path, LIMIT), b"key")
    status = (tmp_path / "lock.mdb").stat()
    assert status.st_size == LOCK_BYTES <= status.st_blocks * 512


def test_transaction_allows_hundreds_of_readers(tmp_path):
    environment = Environment(tmp_path, LIMIT)
    put(environment, b"key")
    started, end = threading.Barrier(301), threading.Event()

    def read():
        with environment.transaction() as transaction:
            started.wait(600)
            end.wait(600)
            return bytes(transaction.get(b"key"))

    with ThreadPoolExecutor(300) as threads:
        futures = [threads.submit(read) for _ in range(300)]
        started.wait(600)
        put(environment, b"key", b"other")  # while they read
        end.set()
        assert {future.result() for future in futures} == {b"value"}
    assert get(environment, b"key") == b"other"


@pytest.mark.process
def test_transaction_frees_reader_slots_of_killed_processes(tmp_path):
    environment = Environment(tmp_path, LIMIT)
    put(environment, b"key")  # and stays open, because LMDB resets the reader table when the last process closes it
    code = "with environment.transaction() as transaction:\n    print('reading', flush=True)\n    sys.stdin.read()"
    for _ in range(3):
        command = [sys.executable, "-c", other_process(tmp_path, code)]
        environ = {**os.environ, "PYTHONPATH": str(ROOT)}
        with subprocess.Popen(command, stdin=-1, stdout=-1, text=True, env=environ) as reader:
            assert reader.stdout.readline() == "reading\n"
            reader.kill()
    code = "with environment.transaction(): print(environment._env.readers())"
    lines = python("-c", other_process(tmp_path, code)).stdout.split("\n")
    assert len([line for line in lines if line.strip()]) == 2  # header and one reader


@pytest.mark.process
def test_transaction_adopts_a_map_size_that_another_process_has_grown(tmp_path):
    environment = Environment(tmp_path, 200_000)
    put(environment, b"small")
    code = "with environment.transaction(write=True) as t:\n    t.put(b'large', bytes(1_000_000))"
    python("-c", other_process(tmp_path, code))
    assert get(environment, b"large") == bytes(1_000_000)
    put(environment, b"more")
    assert get(environment, b"more") == b"value"


def test_map_size_is_a_limit_and_resize_changes_it(tmp_path):
    environment = Environment(tmp_path, 200_000)
    with pytest.raises(lmdb.MapFullError):
        put(environment, b"large", bytes(1_000_000))
    environment.resize(2_000_000)
    put(environment, b"large", bytes(1_000_000))
    assert (tmp_path / "data.mdb").stat().st_size > 1_000_000
    environment.resize(100_000)
    assert get(environment, b"large") == bytes(1_000_000)
    with pytest.raises(lmdb.MapFullError):
        put(environment, b"next", bytes(1_000_000))


@pytest.mark.process
@pytest.mark.parametrize("how", ["deleted", "replaced"])
def test_transaction_reopens_deleted_and_replaced_files(how, tmp_path):
    folder = tmp_path / "database"
    environment = Environment(folder, LIMIT)
    put(environment, b"key")
    folder.rename(tmp_path / "gone")
    if how == "replaced":
        python("-c", other_process(folder, "with environment.transaction(write=True) as t: t.put(b'new', b'1')"))
        assert get(environment, b"key") is None
        assert get(environment, b"new") == b"1"
    else:
        with environment.transaction() as transaction:
            assert transaction is None
    put(environment, b"key", b"again")
    code = "with environment.transaction() as t: print(bytes(t.get(b'key')))"
    assert python("-c", other_process(folder, code)).stdout == "b'again'\n"


@pytest.mark.process
def test_delete_of_a_database_that_another_process_reads_and_writes(tmp_path):
    """The other process keeps reading the deleted file in its transaction and creates a new one in the next."""
    folder = tmp_path / "database"
    put(Environment(folder, LIMIT), b"key", b"old" * 10_000)
    code = """
with environment.transaction() as t:
    print('reading', flush=True)
    sys.stdin.readline()
    print(bytes(t.get(b'key')) == b'old' * 10_000, flush=True)
with environment.transaction() as t:
    print(t is None, flush=True)
with environment.transaction(write=True) as t:
    t.put(b'key', b'new')"""
    command = [sys.executable, "-c", other_process(folder, code)]
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, stdin=-1, stdout=-1, text=True, env=environ) as other:
        assert other.stdout.readline() == "reading\n"
        get_environment(folder).delete()
        assert list(tmp_path.iterdir()) == []
        out, _ = other.communicate("\n")
    assert (other.returncode, out.split()) == (0, ["True", "True"])
    assert get(Environment(folder, LIMIT), b"key") == b"new"


@pytest.mark.process
def test_transaction_raises_for_a_truncated_file_without_sigbus(tmp_path):
    environment = Environment(tmp_path, LIMIT)
    for number in range(100):
        put(environment, str(number).encode(), bytes(2000))
    environment.close()
    file = tmp_path / "data.mdb"
    os.truncate(file, 5 * 4096)
    code = """
for number in range(100):
    try:
        with environment.transaction() as t: t.get(str(number).encode())
    except Exception as error:
        print(type(error).__name__)
"""
    errors = python("-c", other_process(tmp_path, code)).stdout.split()
    assert errors
    assert set(errors) <= {"CorruptedError", "PageNotFoundError"}


@pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning")
def test_fork_reopens_environments_while_threads_use_them(tmp_path):
    environment, stop = Environment(tmp_path, LIMIT), threading.Event()
    put(environment, b"key")

    def busy(number):
        while not stop.is_set():
            put(environment, f"thread {number}".encode())
            assert get(environment, b"key") == b"value"
            time.sleep(0.001)

    with ThreadPoolExecutor(3) as threads:
        futures = [threads.submit(busy, number) for number in range(3)]
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
        assert [future.result() for future in futures] == [None] * 3
    assert [get(environment, f"child {number}".encode()) for number in range(10)] == [b"value"] * 10


@pytest.mark.process
@pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning")
def test_fork_keeps_the_reader_slot_of_the_parent(tmp_path):
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


def test_transaction_and_resize_from_several_threads(tmp_path):
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


def test_transaction_raises_if_the_folder_cannot_be_created(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"), Environment(tmp_path / "file", LIMIT).transaction(write=True):
        pass


@pytest.fixture
def folder(tmp_path):
    """A folder with three namespaces, used 30, 20 and 10 days ago."""
    store = DiskStore(tmp_path / "kept", 10**8)
    for days, namespace in ((30, OLD), (20, MIDDLE), (10, NEW)):
        keep(store, namespace, KEYS, VALUES)
        use_before(tmp_path / "kept", namespace, days)
    return tmp_path / "kept"


def use_before(folder, namespace, days):
    when = time.time() - days * 86400
    os.utime(namespace_path(folder, namespace), (when, when))


def backbones(folder):
    return [info.namespace.backbone for info in list_namespaces(folder)]


def disk_usage(folder):
    return sum(file.stat().st_size for file in folder.rglob("data.mdb"))


def test_list_namespaces_is_sorted_by_last_use(folder):
    infos = list_namespaces(folder)
    assert [info.namespace for info in infos] == [NEW, MIDDLE, OLD]
    assert {info.n_entries for info in infos} == {50}
    assert all(50 * 6000 < info.n_bytes < 50 * 6100 for info in infos)
    assert [round((time.time() - info.used) / 86400) for info in infos] == [10, 20, 30]


def test_add_counts_follows_the_records_in_the_database(folder):
    keep(DiskStore(folder, 10**8), NEW, [*KEYS[:3], bytes(19) + b"\xff"], VALUES[:4])  # one of them is new
    (info,) = [info for info in list_namespaces(folder) if info.namespace == NEW]
    with get_environment(namespace_path(folder, NEW)).transaction() as transaction, transaction.cursor() as cursor:
        sizes = [len(value) for key, value in cursor if len(key) == 20]
    assert info.n_entries == len(sizes) == 51
    assert info.n_bytes == sum(sizes)


def test_forget_deletes_one_namespace(folder):
    store = DiskStore(folder, 10**8)
    forget(folder, [MIDDLE])
    assert backbones(folder) == ["tiny/2", "tiny/0"]
    assert not namespace_path(folder, MIDDLE).exists()
    assert store.get(MIDDLE, KEYS) == [None] * 50
    for namespace in (OLD, NEW):
        assert all(torch.equal(*pair) for pair in zip(store.get(namespace, KEYS), VALUES))


@pytest.mark.parametrize(
    ("given", "left"),
    [
        ({"size": 10**7}, ["tiny/2", "tiny/1", "tiny/0"]),
        ({"size": 700_000}, ["tiny/2", "tiny/1"]),
        ({"size": 600_000}, ["tiny/2"]),
        ({"size": 0}, []),
        ({"days": 31}, ["tiny/2", "tiny/1", "tiny/0"]),
        ({"days": 15}, ["tiny/2"]),
        ({"days": 0}, []),
        ({"size": 700_000, "days": 15}, ["tiny/2"]),
        ({}, ["tiny/2", "tiny/1", "tiny/0"]),
    ],
)
def test_prune_deletes_the_least_recently_used_namespaces(given, left, folder):
    store = DiskStore(folder, 10**8)
    deleted = prune(folder, **given)
    assert backbones(folder) == left
    assert {info.namespace.backbone for info in deleted} == {"tiny/0", "tiny/1", "tiny/2"} - set(left)
    assert all(isinstance(info, NamespaceInfo) for info in deleted)
    assert disk_usage(folder) < 60_000 + 450_000 * len(left)
    for namespace in (OLD, MIDDLE, NEW):
        values = store.get(namespace, KEYS)
        assert all((value is not None) == (namespace.backbone in left) for value in values)
        assert all(torch.equal(*pair) for pair in zip(values, VALUES) if pair[0] is not None)


def test_prune_of_a_full_store(tmp_path):
    store = DiskStore(tmp_path, 10**6)
    with pytest.warns(UserWarning, match="limit"):
        keep_each(store, OLD, KEYS, [torch.zeros(10_000) for _ in KEYS])
    n_kept = sum(info.n_entries for info in list_namespaces(tmp_path))
    assert 15 < n_kept < 25
    assert len(prune(tmp_path, size=1)) == 1
    assert backbones(tmp_path) == []
    assert disk_usage(tmp_path) < 20_000


def test_prune_leaves_no_other_folders_and_can_be_repeated(folder):
    for _ in range(2):
        prune(folder, days=15)
    assert list((folder / LAYOUT).iterdir()) == [namespace_path(folder, NEW)]
    store = DiskStore(folder, 10**8)
    keep(store, NEW, [b"x" * 20], VALUES[:1])
    assert torch.equal(store.get(NEW, [b"x" * 20])[0], VALUES[0])


def test_prune_that_fails_keeps_the_entries(folder, monkeypatch):
    def fail(*_):
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", fail)
        with pytest.raises(OSError, match="Permission"):
            prune(folder, size=0)
    assert backbones(folder) == ["tiny/2", "tiny/1", "tiny/0"]
    store = DiskStore(folder, 10**8)
    assert all(torch.equal(*pair) for pair in zip(store.get(OLD, KEYS), VALUES))
    keep(store, NEW, [b"x" * 20], VALUES[:1])


def test_forget_of_a_namespace_that_another_process_has_deleted(folder):
    shutil.rmtree(namespace_path(folder, OLD))
    forget(folder, [OLD])
    assert backbones(folder) == ["tiny/2", "tiny/1"]


@pytest.mark.parametrize("delete", [prune, clear], ids=["prune", "clear"])
def test_folders_of_a_deletion_that_was_killed_are_deleted(delete, folder):
    namespace_path(folder, OLD).rename(folder / LAYOUT / "deleted-0123456789abcdef")
    assert backbones(folder) == ["tiny/2", "tiny/1"]
    delete(folder)
    assert list((folder / LAYOUT).glob("deleted-*")) == []


def test_clear_deletes_all_namespaces(folder):
    clear(folder)
    assert list((folder / LAYOUT).iterdir()) == []
    assert list_namespaces(folder) == []


def test_list_namespaces_raises_for_a_damaged_description(folder):
    with get_environment(namespace_path(folder, OLD)).transaction(write=True) as transaction:
        transaction.put(b"namespace", b"{")
    with pytest.raises(lmdb.CorruptedError, match="description"):
        list_namespaces(folder)


def test_list_namespaces_skips_a_namespace_without_a_commit(folder):
    with get_environment(folder / LAYOUT / ("f" * 32)).transaction(write=True):
        pass
    assert backbones(folder) == ["tiny/2", "tiny/1", "tiny/0"]


def test_namespace_description_has_the_fields_that_other_versions_read(folder):
    with get_environment(namespace_path(folder, OLD)).transaction() as transaction:
        info = json.loads(bytes(transaction.get(b"namespace")))
    assert list(info) == ["backbone", "stage", "pooling", "dtype", "n_entries", "n_bytes"]


def test_other_layouts_are_recognised_by_their_folders(tmp_path):
    assert other_layouts(tmp_path / "nothing") == []
    for name in ("sktransfer-store-1", "sktransfer-store-2", "sktransfer-store-0", "sktransfer", "store-3"):
        (tmp_path / name).mkdir()
    assert other_layouts(tmp_path) == ["sktransfer-store-0", "sktransfer-store-1"]
