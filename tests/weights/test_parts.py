from __future__ import annotations

import os
import threading
import time

import pytest

from sktransfer.weights import download as parts
from sktransfer.weights.download import Part, claim, mark_of


@pytest.fixture
def target(tmp_path):
    return tmp_path / "w[1].safetensors"  # with what would be a pattern


def left(target):
    return sorted(path.name for path in target.parent.iterdir())


def begun(target, content=b"abc", validator="etag"):
    part = claim(target)
    part.begin(mark_of(validator))
    part.file.write_bytes(content)
    return part


def test_what_is_left_is_gone_on_with_and_becomes_the_file(target):
    begun(target).release()
    part = claim(target)
    assert (part.size, part.mark, part.resumable) == (3, mark_of("etag"), True)
    part.file.write_bytes(b"abcdef")
    part.finish()
    assert target.read_bytes() == b"abcdef"
    assert left(target) == [target.name]


def test_where_nothing_is_left_the_part_is_empty(target):
    part = claim(target)
    assert (part.size, part.resumable) == (0, False)
    part.release()
    assert left(target) == []


@pytest.mark.parametrize(("content", "validator"), [(b"", "etag"), (b"abc", None), (b"abc", "")])
def test_what_nobody_can_go_on_with_is_deleted(content, validator, target):
    begun(target, content, validator).release()
    assert left(target) == []


def test_a_part_belongs_to_one_alone(target):
    begun(target).release()
    first, second = claim(target), claim(target)
    assert (first.size, second.size) == (3, 0)
    assert first.file != second.file


def test_of_many_threads_one_gets_the_part(target):
    for _ in range(20):
        begun(target).release()
        barrier, claimed = threading.Barrier(4), []

        def ask(barrier=barrier, claimed=claimed):
            barrier.wait()
            claimed.append(claim(target))

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(part.size for part in claimed) == [0, 0, 0, 3]
        for part in claimed:
            part.drop()


def test_a_part_in_use_is_not_taken_and_one_that_was_abandoned_is(target):
    part = begun(target)
    assert claim(target).size == 0
    old = time.time() - parts.ABANDONED_SECONDS - 10
    os.utime(part.file, (old, old))
    taken = claim(target)
    assert taken.size == 3
    assert claim(target).size == 0  # it does not look abandoned any more


def test_parts_of_other_files_are_left_alone(target):
    other = target.with_name("other.safetensors")
    begun(other).release()
    (target.parent / f"{target.name}.notes.part").write_text("mine")
    assert claim(target).size == 0
    assert len(left(target)) == 2


def test_beginning_anew_deletes_what_was_there(target):
    begun(target).release()
    part = claim(target)
    part.begin(mark_of("another"))
    assert (part.size, part.mark) == (0, mark_of("another"))
    assert len(left(target)) == 1


def test_a_whole_file_leaves_no_parts_of_others_that_gave_up(target):
    begun(target).release()
    part = Part(target)
    part.begin(mark_of("another"))
    part.finish()
    assert left(target) == [target.name]


def test_what_can_be_told_apart_has_a_mark_of_its_own():
    assert len({mark_of("a"), mark_of("b"), mark_of(None)}) == 3
    assert mark_of("") == mark_of(None)
