from __future__ import annotations

from pathlib import Path

import pytest

from sktransfer.samples.decoding import SIGNATURE_LENGTH, describe_file_type, read_signature
from tests.helpers.dirty_images import BAD, GOOD


@pytest.mark.parametrize(
    ("start", "words"),
    [
        (b"\xef\xbb\xbf<?xml version='1.0'?>", "is HTML or XML"),
        (b"<SVG>", "is an SVG"),
        (b"  \n{", "is JSON"),
        (b"\0\0\0\x1cftypmif1", "is a HEIC or HEIF photo"),
        (b"\0\0\0\x1cftypmp42", "is a video"),
        (b"\x93NUMPY\x01", "is a NumPy array: read it, numpy.load"),
        (b"\0" * 64, "begins with nothing but zeros"),
        (b"MZ\x90", r"begins with b'MZ\x90': save it as JPEG or PNG"),
    ],
)
def test_describe_file_type_names_type_and_remedy(start, words):
    assert describe_file_type(start).startswith(words)


def test_describe_file_type_recognizes_no_readable_image():
    for name, (content, _, _) in GOOD.items():
        assert describe_file_type(content[:SIGNATURE_LENGTH]).startswith("begins with b"), name


def test_read_signature_reads_64_bytes(tmp_path: Path):
    content = BAD["zeros.jpg"][0] + b"end"
    (tmp_path / "a").write_bytes(content)
    assert read_signature(str(tmp_path / "a")) == read_signature(content) == bytes(SIGNATURE_LENGTH)
