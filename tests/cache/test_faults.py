"""Faults of folder stores: killed processes, full disks, read-only folders and damaged files give no wrong value."""

from __future__ import annotations

import os
import random
import resource
import shutil
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from sktransfer import TextFeaturizer, cache_info, clear_cache
from sktransfer.cache.disk import DiskStore
from sktransfer.cache.lmdb import LAYOUT, get_environment, list_namespaces, namespace_path, prune
from sktransfer.cache.types import CacheNamespace
from sktransfer.exceptions import StoreWarning
from tests.cache.test_memory import status_of
from tests.helpers.elsewhere import run_code

pytestmark = pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning")

NAMESPACE = CacheNamespace(bytes(16), "tiny/cnn", "stem", "average", "float32")
LIMIT = 10**8
TEXTS = ["a good film", "a bad film", "no film at all", "a film about films"]


def key(number):
    return number.to_bytes(20, "big")


def value(number):
    """Return the value of a number's key, with a size that depends on the number."""
    return torch.full((number % 7 * 100 + 5, 3), float(number))


def keep(store, numbers, namespace=NAMESPACE):
    store.put(namespace, [key(number) for number in numbers], [value(number) for number in numbers])
    store.flush()


def stored(store, numbers):
    """Return the numbers that have an entry, after checking its value."""
    entries = dict(zip(numbers, store.get(NAMESPACE, [key(number) for number in numbers])))
    wrong = [number for number, entry in entries.items() if entry is not None and not torch.equal(entry, value(number))]
    assert wrong == []
    return [number for number, entry in entries.items() if entry is not None]


def fork(act):
    """Fork a process that calls a function and exits with 0 if it raises nothing. It must not use torch threads."""
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        act()
        status = 0
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        os._exit(status)


def features_elsewhere(folder, before=""):
    """Return the output of a new process that compares features with and without a folder, or a list, as cache."""
    cache = folder if isinstance(folder, list) else str(folder)
    code = f"""
{before}
import warnings
import numpy as np
from sktransfer import TextFeaturizer
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    for _ in range(2):
        features = TextFeaturizer(cache={cache!r}).fit_transform({TEXTS!r})
print("equal" if np.array_equal(features, TextFeaturizer(cache=None).fit_transform({TEXTS!r})) else "different")
for warning in caught:
    if warning.category.__name__ == "StoreWarning":
        text = "cannot be written"
        print("warned:", text if text in str(warning.message) else warning.message)
"""
    return run_code(code).stdout.splitlines()


def test_put_of_a_killed_process_leaves_right_values(tmp_path):
    delay, total, folder = random.Random(0), 0, tmp_path / "kept"
    for life in range(12):
        reader, writer = os.pipe()

        def work(writer=writer, life=life):
            store = DiskStore(folder, LIMIT)
            for step in range(10**6):
                keep(store, range(life * 10**6 + step * 8, life * 10**6 + step * 8 + 8))
                os.write(writer, b".")

        child = fork(work)
        os.close(writer)
        assert os.read(reader, 1) == b"."
        time.sleep(delay.uniform(0, 0.1))
        os.kill(child, 9)
        os.waitpid(child, 0)
        n_writes = 1
        while part := os.read(reader, 4096):
            n_writes += len(part)
        os.close(reader)
        store = DiskStore(folder, LIMIT)
        numbers = stored(store, range(life * 10**6, life * 10**6 + n_writes * 8 + 80))
        assert len(numbers) in (n_writes * 8, n_writes * 8 + 8)  # a write may have ended without its byte in the pipe
        total += len(numbers)
        assert store.info().n_entries == total
        store._environment(NAMESPACE).close()


def test_get_does_not_wait_for_a_killed_or_stopped_writer(tmp_path):
    store, (reader, writer) = DiskStore(tmp_path, LIMIT), os.pipe()
    keep(store, range(10))

    def work():
        with DiskStore(tmp_path, LIMIT)._environment(NAMESPACE).transaction(write=True) as transaction:
            transaction.put(bytes(20), b"half of it")
            os.write(writer, b".")
            time.sleep(1000)

    child = fork(work)
    try:
        os.read(reader, 1)
        assert stored(store, range(10)) == list(range(10))  # while the child writes
    finally:
        os.kill(child, 9)
        os.waitpid(child, 0)
    keep(store, range(10, 20))  # takes over the lock of the killed child
    assert stored(store, range(20)) == list(range(20))


def test_flush_frees_pages_of_dead_readers(tmp_path):
    store, (reader, writer) = DiskStore(tmp_path, 300_000), os.pipe()

    def fill():
        store.put(NAMESPACE, [key(number) for number in range(40)], [torch.zeros(1000) for _ in range(40)])
        store.flush()

    def work():
        with DiskStore(tmp_path, 300_000)._environment(NAMESPACE).transaction():
            os.write(writer, b".")
            time.sleep(1000)

    fill()
    child = fork(work)
    os.read(reader, 1)
    stored(store, [])  # opens before the child dies, because opening frees slots of dead readers
    os.kill(child, 9)
    os.waitpid(child, 0)
    for _ in range(3):
        with store._environment(NAMESPACE).transaction(write=True) as transaction:
            for number in range(40):
                transaction.delete(key(number))
            transaction.delete(b"namespace")
        fill()  # a warning would be an error
        assert store.info().n_entries == 40


def test_put_from_several_processes(tmp_path):
    numbers = list(range(300))

    def work(seed):
        store, order = DiskStore(tmp_path / "kept", LIMIT), random.Random(seed)
        shuffled = order.sample(numbers, len(numbers))
        for start in range(0, len(numbers), 10):
            part = shuffled[start : start + 10]
            missing = sorted(set(part) - set(stored(store, part)))
            keep(store, missing)
            assert stored(store, part) == part
        assert len(stored(store, numbers)) >= 300

    children = [fork(lambda seed=seed: work(seed)) for seed in range(4)]
    assert [status_of(child) for child in children] == [0] * 4
    store = DiskStore(tmp_path / "kept", LIMIT)
    assert stored(store, numbers) == numbers
    assert store.info().n_entries == 300


def test_clear_and_prune_while_other_processes_put(tmp_path):
    def work(seed):
        store, order = DiskStore(tmp_path, LIMIT), random.Random(seed)
        for _ in range(60):
            part = order.sample(range(200), 10)
            stored(store, part)
            keep(store, part)

    children = [fork(lambda seed=seed: work(seed)) for seed in range(3)]
    store = DiskStore(tmp_path, LIMIT)
    for step in range(12):
        if step % 3 == 0:
            store.clear()
        else:
            prune(tmp_path, size=10**9 if step % 3 == 1 else 0)
        stored(store, range(200))
        time.sleep(0.03)
    assert [status_of(child) for child in children] == [0] * 3
    keep(store, range(200))
    assert stored(store, range(200)) == list(range(200))


def test_clear_without_pause_while_other_processes_put(tmp_path):
    """Files vanish between any two steps of opening a database. Values stay right, and no process fails.

    A store that loses this race twenty times in a row warns and computes the values, which is allowed.
    """

    def work(seed):
        warnings.simplefilter("ignore", StoreWarning)
        store, order = DiskStore(tmp_path, LIMIT), random.Random(seed)
        for _ in range(300):
            part = order.sample(range(200), 2)
            stored(store, part)
            keep(store, part)

    children = [fork(lambda seed=seed: work(seed)) for seed in range(2)]
    store = DiskStore(tmp_path, LIMIT)
    statuses = []
    while children:
        store.clear()
        child, status = os.waitpid(children[0], os.WNOHANG)
        if child:
            statuses.append(os.waitstatus_to_exitcode(status))
            children.remove(child)
    assert statuses == [0] * 2


def test_full_disk_warns_once_and_keeps_entries(tmp_path):
    """A limit on the size of files fails a write like a full disk."""
    keep(DiskStore(tmp_path, LIMIT), range(50))

    def work():
        _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, most))
        store = DiskStore(tmp_path, LIMIT)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            for start in range(50, 2000, 10):
                keep(store, range(start, start + 10))
                stored(store, range(start + 10))
        assert [warning.category for warning in caught] == [StoreWarning], caught
        assert "cannot be written" in str(caught[0].message), caught[0]
        assert "B are free on its disk" in str(caught[0].message), caught[0]
        assert 50 < len(stored(store, range(2000))) < 1000
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
        store._paused_until = 0
        keep(store, range(2000, 2100))  # there is room again
        assert stored(store, range(2000, 2100)) == list(range(2000, 2100))

    assert status_of(fork(work)) == 0
    store = DiskStore(tmp_path, LIMIT)
    n_before = len(stored(store, range(2000)))
    keep(store, range(2000))
    assert n_before < len(stored(store, range(2000))) == 2000


@pytest.mark.process
def test_full_disk_before_the_first_write(tmp_path):
    before = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))"
    assert features_elsewhere(tmp_path / "kept", before) == ["equal", "warned: cannot be written"]


@pytest.mark.parametrize("other", ["sktransfer-store-1", "sktransfer-store-3"])
def test_other_layouts_are_not_read_and_not_changed(other, tmp_path):
    keep(DiskStore(tmp_path, LIMIT), range(10))
    (tmp_path / LAYOUT).rename(tmp_path / other)
    before = {path: path.read_bytes() for path in (tmp_path / other).rglob("*") if path.is_file()}
    with pytest.warns(StoreWarning, match=rf"holds data of another version of sktransfer \({other}\)"):
        store = DiskStore(tmp_path, LIMIT)
    assert stored(store, range(10)) == []  # another warning would be an error
    keep(store, range(5))
    assert stored(store, range(10)) == list(range(5))
    store.clear()
    assert {path: path.read_bytes() for path in (tmp_path / other).rglob("*") if path.is_file()} == before


@pytest.fixture
def readonly():
    """A read-only folder with ten entries, and a function that drops the rights of a superuser."""
    folder = Path(tempfile.mkdtemp())  # tmp_path is in a folder that only its owner may enter
    folder.chmod(0o755)
    store = DiskStore(folder, LIMIT)
    keep(store, range(10))
    store._environment(NAMESPACE).close()
    paths = [folder, *folder.rglob("*")]
    for path in paths:
        path.chmod(0o555 if path.is_dir() else 0o444)

    def become_ordinary():
        if os.getuid() == 0:
            os.setuid(65534)

    yield folder, become_ordinary
    for path in paths:
        path.chmod(0o755)
    shutil.rmtree(folder)


def test_get_reads_a_read_only_folder(readonly):
    folder, become_ordinary = readonly

    def work():
        become_ordinary()
        with pytest.raises(PermissionError):
            (folder / "file").touch()
        store = DiskStore(folder, LIMIT)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert stored(store, range(20)) == list(range(10))
            assert (store.info().n_entries, store.room()) == (10, 0)
        with pytest.warns(StoreWarning, match="cannot be written"):
            keep(store, range(10, 20))
        store._paused_until = 0
        keep(store, range(10, 20))  # another warning would be an error
        assert stored(store, range(20)) == list(range(10))
        with pytest.raises(OSError, match="cannot be cleared"):
            store.clear()
        assert stored(store, range(20)) == list(range(10))

    assert status_of(fork(work)) == 0


@pytest.mark.process
def test_folder_that_cannot_be_created_warns_once(readonly):
    folder, _ = readonly
    # A superuser may write anywhere. After it drops its rights it may not read all files of Python.
    before = "import os, sktransfer.cache.disk; from sktransfer import TextFeaturizer; "
    before += "TextFeaturizer(cache=None).fit_transform(['a']); os.getuid() or os.setuid(65534)"
    assert features_elsewhere(folder / "new", before) == ["equal", "warned: cannot be written"]


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        ("text", "is damaged"),
        ("empty pages", "is damaged"),
        ("cut to a page", "is damaged"),
        ("a newer database", "cannot be opened or read"),
    ],
)
def test_damaged_database_warns_once_and_is_not_used(damage, says, tmp_path):
    expected = TextFeaturizer(cache=None).fit_transform(TEXTS)
    TextFeaturizer(cache=tmp_path).fit_transform(TEXTS)
    for info in list_namespaces(tmp_path):
        keep(DiskStore(tmp_path, LIMIT), range(100), info.namespace)
        path = namespace_path(tmp_path, info.namespace)
        get_environment(path).close()
        content = (path / "data.mdb").read_bytes()
        contents = {
            "text": b"no database " * 10_000,
            "empty pages": content[:8192] + bytes(len(content) - 8192),
            "cut to a page": content[:4096],
            "a newer database": content[:20] + b"\x07" + content[21:4116] + b"\x07" + content[4117:],
        }
        os.truncate(path / "data.mdb", 0)  # in place, so that the inode stays
        (path / "data.mdb").write_bytes(contents[damage])
    with pytest.warns(StoreWarning, match=rf"store .*{tmp_path.name}.* {says}.*: going on without it") as caught:
        found = [TextFeaturizer(cache=tmp_path).fit_transform(TEXTS) for _ in range(2)]
    assert all(np.array_equal(features, expected) for features in found)
    assert len(caught) == 1
    clear_cache(tmp_path)
    for _ in range(2):
        assert np.array_equal(TextFeaturizer(cache=tmp_path).fit_transform(TEXTS), expected)
    assert cache_info(tmp_path).hits >= len(TEXTS)


def test_unwritten_pages_give_no_wrong_value(tmp_path):
    store, noise = DiskStore(tmp_path / "whole", LIMIT), random.Random(0)
    keep(store, range(300))
    store._environment(NAMESPACE).close()
    whole = (namespace_path(tmp_path / "whole", NAMESPACE) / "data.mdb").read_bytes()
    statuses = []
    for trial in range(20):
        content = bytearray(whole)
        for page in noise.sample(range(2, len(whole) // 4096), noise.choice([1, 5, 30])):
            content[page * 4096 : (page + 1) * 4096] = noise.choice([bytes(4096), noise.randbytes(4096)])
        torn = namespace_path(tmp_path / str(trial), NAMESPACE) / "data.mdb"
        torn.parent.mkdir(parents=True)
        torn.write_bytes(content)

        def work(folder=tmp_path / str(trial)):
            warnings.simplefilter("ignore")
            again = DiskStore(folder, LIMIT)
            stored(again, range(300))
            keep(again, range(300))
            stored(again, range(300))

        statuses.append(status_of(fork(work)))
    assert statuses == [0] * 20
