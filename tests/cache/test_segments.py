from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
import torch
from safetensors.torch import save

from sktransfer.cache.segments import (
    LAYOUT,
    MAX_BYTES,
    DamagedSegmentError,
    decode,
    encode,
    find_segments,
    header_end,
    read_header,
    written_at,
)
from sktransfer.cache.types import CacheNamespace

NAMESPACE = CacheNamespace(bytes(range(16)), "tiny/cnn", "stem", "average", "float32")
VALUES = [
    torch.arange(6.0).view(2, 3),
    torch.zeros(0, 3),
    torch.tensor(1.5),
    torch.arange(5, dtype=torch.bfloat16),
    torch.arange(3, dtype=torch.float16),
    torch.arange(4),
    torch.tensor([True, False]),
]


def key(number):
    return number.to_bytes(20, "big")


def segment_of(name, content, namespace=NAMESPACE):
    (segment,) = find_segments({f"bucket/{LAYOUT}/{namespace.digest.hex()}/{name}": {"size": len(content)}})
    return segment


@pytest.fixture
def written():
    name, content = encode(NAMESPACE, {key(n): value for n, value in enumerate(VALUES)})
    return segment_of(name, content), content


def test_decode_returns_what_encode_wrote(written):
    segment, content = written
    entries = decode(content, segment)
    assert len(entries) == len(VALUES)
    for number, value in enumerate(VALUES):
        found = entries[key(number)]
        assert (found.dtype, found.shape) == (value.dtype, value.shape)
        assert torch.equal(found, value)


def test_encode_gives_equal_entries_one_name():
    first, second = (encode(NAMESPACE, {key(n): VALUES[n].clone() for n in order}) for order in ((0, 2), (2, 0)))
    assert first == second
    assert first[0].startswith("2-")
    assert encode(NAMESPACE, {key(0): VALUES[0]})[0] != first[0]


def test_read_header_returns_namespace_and_keys(written):
    segment, content = written
    namespace, keys = read_header(content[: header_end(segment)], segment)
    assert namespace == NAMESPACE
    assert sorted(keys) == [key(n) for n in range(len(VALUES))]


def test_read_header_tells_how_much_it_needs(written):
    segment, content = written
    needed = read_header(content[:20], segment)
    assert isinstance(needed, int)
    assert sorted(read_header(content[:needed], segment)[1]) == [key(n) for n in range(len(VALUES))]


def test_header_end_holds_the_header_of_a_thousand_values():
    name, content = encode(NAMESPACE, {key(n): torch.zeros(16, 384) for n in range(1024)})
    segment = segment_of(name, content)
    assert len(read_header(content[: header_end(segment)], segment)[1]) == 1024
    assert header_end(segment) < len(content) / 100


def test_decode_refuses_every_changed_or_cut_content(written):
    segment, content = written
    damaged = [content[:n] for n in (0, 7, 8, 100, len(content) - 1)]
    damaged += [content[:n] + bytes([content[n] ^ 1]) + content[n + 1 :] for n in range(0, len(content), 7)]
    for one in [*damaged, content + b"\0"]:
        with pytest.raises(DamagedSegmentError, match="does not have the hash"):
            decode(one, segment)


def test_decode_refuses_a_segment_in_the_folder_of_another_namespace(written):
    segment, content = written
    with pytest.raises(DamagedSegmentError, match="another folder"):
        decode(content, replace(segment, digest=bytes(16)))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "cut short"),
        (b"\xff" * 100, "cut short"),
        ((20).to_bytes(8, "little") + b"{" * 30, "cannot be read"),
        ((2).to_bytes(8, "little") + b"{}" * 20, "cannot be read"),
        ((2).to_bytes(8, "little") + b"[]" * 20, "cannot be read"),
        (save({key(0).hex(): torch.zeros(3)}), "cannot be read"),
        (save({"no key": torch.zeros(3)}, {"digest": NAMESPACE.digest.hex()}), "cannot be read"),
    ],
)
def test_read_header_refuses_other_files(content, says):
    segment = segment_of(f"1-{'0' * 32}.safetensors", content)
    with pytest.raises(DamagedSegmentError, match=says):
        read_header(content, segment)


def test_read_header_refuses_a_segment_larger_than_memory_should_take(written):
    segment, content = written
    with pytest.raises(DamagedSegmentError, match="larger than"):
        read_header(content, replace(segment, n_bytes=MAX_BYTES + 1))


def test_find_segments_leaves_out_other_files(written):
    segment, content = written
    folder, name = segment.path.rsplit("/", 1)
    others = [f"{folder}/0123456789abcdef.part", f"{folder}/x{name}", f"{folder}/0-{name[2:]}", f"other/{name}", folder]
    assert find_segments({path: {"size": 5} for path in others}) == []
    (found,) = find_segments({segment.path: {"size": len(content), "mtime": 5.0}})
    assert (found.digest, found.n_entries, found.n_bytes, found.written) == (NAMESPACE.digest, 7, len(content), 5.0)


@pytest.mark.parametrize(
    "info",
    [
        {"LastModified": datetime(2026, 1, 1, tzinfo=UTC)},
        {"updated": "2026-01-01T00:00:00Z"},
        {"last_modified": datetime(2026, 1, 1, tzinfo=UTC), "created": 3.0},
        {"mtime": 1767225600, "created": 3.0},
        {"created": datetime(2026, 1, 1, tzinfo=UTC)},
    ],
)
def test_written_at_reads_the_times_of_several_file_systems(info):
    assert written_at(info) == 1767225600
