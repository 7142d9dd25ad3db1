"""What goes wrong around a folder's store: processes die, disks fill, files change. No value is ever wrong."""

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
from sktransfer.cache.disk_columns import forget, prune
from sktransfer.cache.disk_store import DiskStore
from sktransfer.cache.types import CacheNamespace
from sktransfer.exceptions import StoreWarning
from tests.cache.test_memory import status_of
from tests.helpers.plugin_zoo import python

pytestmark = pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning")

COLUMN = CacheNamespace(bytes(16), "tiny/cnn", "stem", "average", "float32")
LIMIT = 10**8
TEXTS = ["a good film", "a bad film", "no film at all", "a film about films"]


def key(number):
    return number.to_bytes(20, "big")


def value(number):
    """Return what belongs under a number's key, of a size of its own."""
    return torch.full((number % 7 * 100 + 5, 3), float(number))


def keep(store, numbers):
    store.put(COLUMN, [key(number) for number in numbers], [value(number) for number in numbers])
    store.flush()


def known(store, numbers):
    """Return the numbers that are found, each with its own value."""
    found = dict(zip(numbers, store.get(COLUMN, [key(number) for number in numbers])))
    wrong = [number for number, one in found.items() if one is not None and not torch.equal(one, value(number))]
    assert wrong == []
    return [number for number, one in found.items() if one is not None]


def fork(act):
    """Start a process that does something, but no computing, and ends: with 0 if it raises nothing."""
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
    """Return what a new process says of features with a folder as cache, and of those without."""
    code = f"""
{before}
import warnings
import numpy as np
from sktransfer import TextFeaturizer
with warnings.catch_warnings(record=True) as told:
    warnings.simplefilter("always")
    for _ in range(2):
        features = TextFeaturizer(cache={str(folder)!r}).fit_transform({TEXTS!r})
print("equal" if np.array_equal(features, TextFeaturizer(cache=None).fit_transform({TEXTS!r})) else "different")
for one in told:
    if one.category.__name__ == "StoreWarning":
        text = "cannot be opened or read"
        print("told:", text if text in str(one.message) else one.message)
"""
    return python("-c", code).stdout.splitlines()


def test_a_process_that_is_killed_while_it_writes_leaves_right_values(tmp_path):
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
        told = 1
        while part := os.read(reader, 4096):
            told += len(part)
        os.close(reader)
        store = DiskStore(folder, LIMIT)
        found = known(store, range(life * 10**6, life * 10**6 + told * 8 + 80))
        assert len(found) in (told * 8, told * 8 + 8)  # it may have died after the last write, before telling
        total += len(found)
        assert store.info().n_entries == total
        store._environment.close()


def test_a_writer_that_is_killed_or_stopped_holds_up_no_reader(tmp_path):
    store, (reader, writer) = DiskStore(tmp_path, LIMIT), os.pipe()
    keep(store, range(10))

    def work():
        with DiskStore(tmp_path, LIMIT)._environment.transaction(write=True) as transaction:
            transaction.put(b"v" + bytes(36), b"half of it")
            os.write(writer, b".")
            time.sleep(1000)

    child = fork(work)
    try:
        os.read(reader, 1)
        assert known(store, range(10)) == list(range(10))  # while another one writes
    finally:
        os.kill(child, 9)
        os.waitpid(child, 0)
    keep(store, range(10, 20))  # the lock of the one that died is taken over
    assert known(store, range(20)) == list(range(20))


def test_what_a_dead_process_was_reading_does_not_fill_a_store(tmp_path):
    store, (reader, writer) = DiskStore(tmp_path, 300_000), os.pipe()

    def fill():
        store.put(COLUMN, [key(number) for number in range(40)], [torch.zeros(1000) for _ in range(40)])
        store.flush()

    def work():
        with DiskStore(tmp_path, 300_000)._environment.transaction():
            os.write(writer, b".")
            time.sleep(1000)

    fill()
    child = fork(work)
    os.read(reader, 1)
    known(store, [])  # open before the other one dies: what is opened later looks for dead ones anyway
    os.kill(child, 9)
    os.waitpid(child, 0)
    for _ in range(3):
        forget(store._environment, [COLUMN])
        fill()  # no warning, which would be an error
        assert store.info().n_entries == 40


def test_processes_that_fill_one_folder_at_once(tmp_path):
    numbers = list(range(300))

    def work(seed):
        store, order = DiskStore(tmp_path / "kept", LIMIT), random.Random(seed)
        shuffled = order.sample(numbers, len(numbers))
        for start in range(0, len(numbers), 10):
            part = shuffled[start : start + 10]
            missing = sorted(set(part) - set(known(store, part)))
            keep(store, missing)
            assert known(store, part) == part
        assert len(known(store, numbers)) >= 300

    children = [fork(lambda seed=seed: work(seed)) for seed in range(4)]
    assert [status_of(child) for child in children] == [0] * 4
    store = DiskStore(tmp_path / "kept", LIMIT)
    assert known(store, numbers) == numbers
    assert store.info().n_entries == 300


def test_a_folder_that_is_cleared_and_pruned_while_others_fill_it(tmp_path):
    def work(seed):
        store, order = DiskStore(tmp_path, LIMIT), random.Random(seed)
        for _ in range(60):
            part = order.sample(range(200), 10)
            known(store, part)
            keep(store, part)

    children = [fork(lambda seed=seed: work(seed)) for seed in range(3)]
    store = DiskStore(tmp_path, LIMIT)
    for step in range(12):
        if step % 3 == 0:
            store.clear()
        else:
            prune(store._environment, size=10**9)
        known(store, range(200))
        time.sleep(0.03)
    assert [status_of(child) for child in children] == [0] * 3
    keep(store, range(200))
    assert known(store, range(200)) == list(range(200))


def test_a_full_disk_is_told_once_and_what_was_stored_stays(tmp_path):
    """By a limit on the size of files, which a write meets as it does the end of a disk."""
    keep(DiskStore(tmp_path, LIMIT), range(50))

    def work():
        _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, most))
        store = DiskStore(tmp_path, LIMIT)
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            for start in range(50, 2000, 10):
                keep(store, range(start, start + 10))
                known(store, range(start + 10))
        assert [one.category for one in told] == [StoreWarning], told
        assert "cannot be written" in str(told[0].message), told[0]
        assert "B are free on its disk" in str(told[0].message), told[0]
        assert 50 < len(known(store, range(2000))) < 1000
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
        store._paused_until = 0
        keep(store, range(2000, 2100))  # there is room again
        assert known(store, range(2000, 2100)) == list(range(2000, 2100))

    assert status_of(fork(work)) == 0
    store = DiskStore(tmp_path, LIMIT)
    n_before = len(known(store, range(2000)))
    keep(store, range(2000))
    assert n_before < len(known(store, range(2000))) == 2000


@pytest.mark.process
def test_a_disk_that_is_full_from_the_beginning(tmp_path):
    before = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))"
    assert features_elsewhere(tmp_path / "kept", before) == ["equal", "told: cannot be opened or read"]


@pytest.mark.parametrize("other", ["sktransfer-store-0", "sktransfer-store-2"])
def test_data_of_another_version_is_left_alone(other, tmp_path):
    keep(DiskStore(tmp_path, LIMIT), range(10))
    (tmp_path / "sktransfer-store-1").rename(tmp_path / other)
    before = {path: path.read_bytes() for path in (tmp_path / other).rglob("*") if path.is_file()}
    with pytest.warns(StoreWarning, match=rf"holds data of another version of sktransfer \({other}\)"):
        store = DiskStore(tmp_path, LIMIT)
    assert known(store, range(10)) == []  # and no other warning, which would be an error
    keep(store, range(5))
    assert known(store, range(10)) == list(range(5))
    store.clear()
    assert {path: path.read_bytes() for path in (tmp_path / other).rglob("*") if path.is_file()} == before


@pytest.fixture
def readonly():
    """A folder with ten values that can only be read, and what makes a process obey that."""
    folder = Path(tempfile.mkdtemp())  # not below a folder that only its owner may enter
    folder.chmod(0o755)
    store = DiskStore(folder, LIMIT)
    keep(store, range(10))
    store._environment.close()
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


def test_a_folder_that_cannot_be_written_is_read(readonly):
    folder, become_ordinary = readonly

    def work():
        become_ordinary()
        with pytest.raises(PermissionError):
            (folder / "file").touch()
        store = DiskStore(folder, LIMIT)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert known(store, range(20)) == list(range(10))
            assert (store.info().n_entries, store.room()) == (10, 0)
        with pytest.warns(StoreWarning, match="cannot be written"):
            keep(store, range(10, 20))
        store._paused_until = 0
        keep(store, range(10, 20))  # no other warning, which would be an error
        assert known(store, range(20)) == list(range(10))
        with pytest.raises(OSError, match="cannot be cleared"):
            store.clear()
        assert known(store, range(20)) == list(range(10))

    assert status_of(fork(work)) == 0


@pytest.mark.process
def test_a_folder_that_cannot_be_made_is_told_once(readonly):
    folder, _ = readonly
    # A superuser may write anywhere, and the ordinary one that it becomes may not read all of Python's own files.
    before = "import os, sktransfer.cache.disk_store; from sktransfer import TextFeaturizer; "
    before += "TextFeaturizer(cache=None).fit_transform(['a']); os.getuid() or os.setuid(65534)"
    assert features_elsewhere(folder / "new", before) == ["equal", "told: cannot be opened or read"]


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        ("text", "is damaged"),
        ("empty pages", "is damaged"),
        ("cut to a page", "is damaged"),
        ("a newer database", "cannot be opened or read"),
    ],
)
def test_a_damaged_database_is_named_once_and_not_used(damage, says, tmp_path):
    expected = TextFeaturizer(cache=None).fit_transform(TEXTS)
    keep(DiskStore(tmp_path, LIMIT), range(100))
    file = tmp_path / "sktransfer-store-1" / "lmdb" / "data.mdb"
    content = file.read_bytes()
    contents = {
        "text": b"no database " * 10_000,
        "empty pages": content[:8192] + bytes(len(content) - 8192),
        "cut to a page": content[:4096],
        "a newer database": content[:20] + b"\x07" + content[21:4116] + b"\x07" + content[4117:],
    }
    os.truncate(file, 0)  # in place, as damage is
    file.write_bytes(contents[damage])
    with pytest.warns(StoreWarning, match=rf"store .*{tmp_path.name}.* {says}.*: going on without it") as told:
        found = [TextFeaturizer(cache=tmp_path).fit_transform(TEXTS) for _ in range(2)]
    assert all(np.array_equal(features, expected) for features in found)
    assert len(told) == 1
    clear_cache(tmp_path)
    for _ in range(2):
        assert np.array_equal(TextFeaturizer(cache=tmp_path).fit_transform(TEXTS), expected)
    assert cache_info(tmp_path).hits >= len(TEXTS)


def test_pages_that_a_crash_of_the_machine_left_unwritten_give_no_wrong_value(tmp_path):
    store, noise = DiskStore(tmp_path / "whole", LIMIT), random.Random(0)
    keep(store, range(300))
    store._environment.close()
    whole = (tmp_path / "whole" / "sktransfer-store-1" / "lmdb" / "data.mdb").read_bytes()
    statuses = []
    for trial in range(20):
        content = bytearray(whole)
        for page in noise.sample(range(2, len(whole) // 4096), noise.choice([1, 5, 30])):
            content[page * 4096 : (page + 1) * 4096] = noise.choice([bytes(4096), noise.randbytes(4096)])
        torn = tmp_path / str(trial) / "sktransfer-store-1" / "lmdb" / "data.mdb"
        torn.parent.mkdir(parents=True)
        torn.write_bytes(content)

        def work(folder=tmp_path / str(trial)):
            warnings.simplefilter("ignore")
            again = DiskStore(folder, LIMIT)
            known(again, range(300))
            keep(again, range(300))
            known(again, range(300))

        statuses.append(status_of(fork(work)))
    assert statuses == [0] * 20
