from __future__ import annotations

import gzip
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sktransfer.exceptions import InvalidSampleError
from sktransfer.samples.decoding import decode
from sktransfer.samples.file_types import SIGNATURE_LENGTH, describe_file_type, read_signature
from tests.helpers.dirty_images import BAD, GOOD


@pytest.mark.parametrize(
    ("start", "words"),
    [
        (b"\xef\xbb\xbf<?xml version='1.0'?>", "is HTML or XML"),
        (b"<SVG>", "is an SVG"),
        (b"  \n{", "is JSON"),
        (b"\0\0\0\x1cftypmif1", "is a HEIC or HEIF photo"),
        (b"\0\0\0\x1cftypmp42", "is a video"),
        (bytes(128) + b"DICM\x02\0", r"is a DICOM file: read it with the package pydicom, pydicom.dcmread(path)"),
        (b"\0\0\0\x1cftypavif\0\0\0\0avifmif1", "is an AVIF image .*: pip install --upgrade pillow (11.3 or newer"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1avif", "is an AVIF image"),
        (b"\0\0\0\x18ftypcrx \0\0\0\1crx isom", "is a raw photo of a camera"),
        (b"II*\0\x10\0\0\0CR\x02\0", "is a raw photo of a camera, .*rawpy.imread(path).postprocess()"),
        (b"FUJIFILMCCD-RAW 0201", "is a raw photo"),
        (b"\xff\x0a\xfa", "is a JPEG XL image: save it as JPEG or PNG, or import pillow_jxl"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "is a JPEG XL image"),
        (b"\0\0\0\x0cjP  \r\n\x87\n", "is a JPEG 2000 image that is damaged or"),
        (b"\x1aE\xdf\xa3\x9fB", "is a video"),
        (b"RIFF\0\0\0\0AVI LIST", "is a video: save its frames"),
        (b"\0\0\0\x08moov", "is a video"),
        (bytes(344) + b"n+1\0", "is a NIfTI file, a volume: read it with the package nibabel"),
        (
            gzip.compress(bytes(344) + b"n+1\0" + bytes(99), mtime=0),
            "is packed by gzip: unpack it. Its content is a NIfTI file",
        ),
        (gzip.compress(b"some text", mtime=0), "is packed by gzip: unpack it$"),
        (b"PK\x03\x04" + bytes(26) + b"arr_0.npy", "is an NPZ archive of NumPy arrays: read it, numpy.load"),
        (b"PK\x03\x04" + bytes(26) + b"a.png", "is a ZIP archive"),
        (bytes(257) + b"ustar", "is a tar archive: unpack it"),
        (b"NRRD0004", "is an NRRD file"),
        (b"PAR1", "is a Parquet table"),
        (b"\x93NUMPY\x01", "is a NumPy array: read it, numpy.load"),
        (b"\0" * 64, "begins with nothing but zeros"),
        (b"MZ\x90", r"begins with b'MZ\x90': save it as JPEG or PNG"),
    ],
)
def test_describe_file_type_names_type_and_remedy(start, words):
    pattern = re.escape(words).replace(r"\.\*", ".*").replace(r"\$", "$")
    assert re.match(pattern, describe_file_type(start[:SIGNATURE_LENGTH]))


def test_describe_file_type_recognizes_no_readable_image():
    for name, (content, _, _) in GOOD.items():
        assert describe_file_type(content[:SIGNATURE_LENGTH]).startswith("begins with b"), name


def test_read_signature_reads_the_first_bytes(tmp_path: Path):
    content = BAD["zeros.jpg"][0] + b"end"
    (tmp_path / "a").write_bytes(content)
    assert read_signature(str(tmp_path / "a")) == read_signature(content) == bytes(SIGNATURE_LENGTH)


def test_decode_rejects_the_preview_of_a_raw_photo(tmp_path: Path):
    pixels = np.full((12, 16, 3), 200, np.uint8)  # as IFD 0 of DNG, NEF and ARW files
    Image.fromarray(pixels).save(tmp_path / "photo.dng", "TIFF", tiffinfo={254: 1})
    with pytest.raises(InvalidSampleError, match=r"row 3: .*photo\.dng' is a raw photo .*rawpy"):
        decode(str(tmp_path / "photo.dng"), 3)
    Image.fromarray(pixels).save(tmp_path / "page.tif", "TIFF", tiffinfo={254: 2})  # a page, not a preview
    assert np.array_equal(np.asarray(decode(str(tmp_path / "page.tif"), 0)), pixels)
