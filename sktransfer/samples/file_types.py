"""Types of files that are not readable images, recognized by their first bytes, and what reads them."""

from __future__ import annotations

import zlib
from pathlib import Path

__all__ = ["RAW_PHOTO", "SIGNATURE_LENGTH", "describe_file_type", "read_signature"]

SIGNATURE_LENGTH = 512  # bytes read to recognize a file type; that of NIfTI is at 344, that of tar at 257

_SAVE_AS = "save it as JPEG or PNG"
_FRAMES = "save its frames as JPEG or PNG"
_PICTURES = "save its pages or pictures as JPEG or PNG"
_ARRAYS = "and pass arrays, float in [0, 1]"
RAW_PHOTO = (
    f"is a raw photo of a camera, or holds only a preview that Pillow can read: {_SAVE_AS}, or read it with the "
    f"package rawpy, rawpy.imread(path).postprocess(), and pass arrays"
)
_DICOM = f"is a DICOM file: read it with the package pydicom, pydicom.dcmread(path).pixel_array, {_ARRAYS}"
_NIFTI = (
    "is a NIfTI file, a volume: read it with the package nibabel, nibabel.load(path).get_fdata(), and pass its slices "
    "as arrays, float in [0, 1]"
)
_AVIF = (
    "is an AVIF image that is damaged or that this Pillow cannot read: pip install --upgrade pillow (11.3 or newer "
    f"reads AVIF), or {_SAVE_AS}"
)
_JPEG_2000 = f"is a JPEG 2000 image that is damaged or that this build of Pillow cannot read: {_SAVE_AS}"
_JPEG_XL = f"is a JPEG XL image: {_SAVE_AS}, or import pillow_jxl of the package pillow-jxl-plugin"
_HEIC = f"is a HEIC or HEIF photo: {_SAVE_AS}, or let the package pillow-heif read it (register_heif_opener)"
_VIDEO = f"is a video: {_FRAMES}"

_SIGNATURES = (  # offset, bytes and description of file types; the first match counts
    (128, b"DICM", _DICOM),
    (344, b"n+1\0", _NIFTI),
    (344, b"ni1\0", _NIFTI),
    (4, b"n+2\0\r\n", _NIFTI),
    (8, b"CR\x02\0", RAW_PHOTO),  # Canon
    (0, b"FUJIFILMCCD-RAW", RAW_PHOTO),
    (0, b"IIRO", RAW_PHOTO),  # Olympus
    (0, b"IIRS", RAW_PHOTO),
    (0, b"MMOR", RAW_PHOTO),
    (0, b"IIU\0", RAW_PHOTO),  # Panasonic
    (0, b"FOVb", RAW_PHOTO),  # Sigma
    (0, b"\xff\x0a", _JPEG_XL),
    (4, b"JXL ", _JPEG_XL),
    (4, b"jP  ", _JPEG_2000),
    (0, b"\xff\x4f\xff\x51", _JPEG_2000),
    (8, b"AVI ", _VIDEO),
    (4, b"moov", _VIDEO),
    (4, b"mdat", _VIDEO),
    (0, b"\x1aE\xdf\xa3", _VIDEO),
    (0, b"\0\0\x01\xba", _VIDEO),
    (0, b"FLV\x01", _VIDEO),
    (0, b"\x89HDF", "is an HDF5 file: read it, and pass arrays"),
    (0, b"\x93NUMPY", "is a NumPy array: read it, numpy.load, and pass arrays"),
    (0, b"NRRD", f"is an NRRD file, a volume: read it with the package pynrrd, {_ARRAYS}"),
    (0, b"\x76\x2f\x31\x01", f"is an OpenEXR image: read it with the package imageio, {_ARRAYS}"),
    (0, b"#?RADIANCE", f"is an HDR image: read it with the package imageio, {_ARRAYS}"),
    (0, b"PAR1", "is a Parquet table: read it, pandas.read_parquet, and pass a column"),
    (257, b"ustar", "is a tar archive: unpack it"),
    (0, b"Rar!", "is a RAR archive: unpack it"),
    (0, b"7z\xbc\xaf", "is a 7-Zip archive: unpack it"),
    (0, b"BZh", "is packed by bzip2: unpack it"),
    (0, b"\xfd7zXZ", "is packed by xz: unpack it"),
    (0, b"\x28\xb5\x2f\xfd", "is packed by Zstandard: unpack it"),
    (0, b"PK\x05\x06", "is an empty ZIP archive: get the image again"),
    (0, b"\xc5\xd0\xd3\xc6", f"is PostScript, which is a program and not an image: {_SAVE_AS}"),
)
_TEXT_SIGNATURES = (  # after a byte order mark and white space
    (b"%PDF", f"is a PDF: {_PICTURES}"),
    (b"%!PS", f"is PostScript, which is a program and not an image: {_SAVE_AS}"),
    (b"version https://git-lfs", "is the pointer to a file in Git LFS: fetch the file itself: git lfs pull"),
    (b"{", "is JSON: if it is a server's response, get the image again"),
)
_ARCHIVES = (  # names near the start of a ZIP archive, and what it is
    (b".npy", "is an NPZ archive of NumPy arrays: read it, numpy.load, and pass arrays"),
    (b"word/", f"is a Word document: {_PICTURES}"),
    (b"ppt/", f"is a PowerPoint presentation: {_PICTURES}"),
)
_BRANDS = (  # of the container that HEIF, AVIF and videos share; the first one listed anywhere counts
    ((b"crx ",), RAW_PHOTO),  # Canon
    ((b"avif", b"avis"), _AVIF),
    ((b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1"), _HEIC),
)


def read_signature(source: str | bytes) -> bytes:
    """Return the first 512 bytes of a file, given its path or its content."""
    if isinstance(source, bytes):
        return source[:SIGNATURE_LENGTH]
    with Path(source).open("rb") as file:
        return file.read(SIGNATURE_LENGTH)


def describe_file_type(start: bytes) -> str:
    """Describe the type of a file that is not a readable image, with a remedy.

    Parameters
    ----------
    start : bytes
        First bytes of the file.

    Returns
    -------
    description : str
        Continuation of a sentence that starts with "it".

    Examples
    --------
    >>> from sktransfer.samples.file_types import describe_file_type
    >>> describe_file_type(b"%PDF-1.7")
    'is a PDF: save its pages or pictures as JPEG or PNG'
    >>> describe_file_type(b"some text")
    "begins with b'some text': save it as JPEG or PNG"
    """
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip()
    if b"<svg" in text.lower():
        return f"is an SVG, a vector drawing without pixels: {_SAVE_AS}"
    if text[:1] == b"<":
        return f"is HTML or XML (it begins with {text[:24]!r}), a download that went wrong? Get the image again"
    for signature, description in _TEXT_SIGNATURES:
        if text.startswith(signature):
            return description
    for offset, signature, description in _SIGNATURES:
        if start.startswith(signature, offset):
            return description
    if start[4:8] == b"ftyp":
        return _describe_container(start)
    if start.startswith(b"PK\x03\x04"):
        of_names = (description for name, description in _ARCHIVES if name in start)
        return next(of_names, "is a ZIP archive (.docx and .pptx are also ZIP archives): unpack it")
    if start.startswith(b"\x1f\x8b"):
        return _describe_packed(start)
    if not start.strip(b"\0"):
        return "begins with nothing but zeros, like a file whose download or copy was interrupted: get the image again"
    return f"begins with {start[:24]!r}: {_SAVE_AS}"


def _describe_container(start: bytes) -> str:
    length = int.from_bytes(start[:4], "big")
    listed = start[8 : max(length, 12)]
    brands = [listed[place : place + 4] for place in range(0, len(listed), 4)]
    return next((description for names, description in _BRANDS if any(name in brands for name in names)), _VIDEO)


def _describe_packed(start: bytes) -> str:
    """Describe a file packed by gzip, by the first bytes of its content if these can be unpacked."""
    try:
        content = zlib.decompressobj(wbits=31).decompress(start, SIGNATURE_LENGTH)
    except zlib.error:
        content = b""
    inner = describe_file_type(content) if content else "begins with"
    return "is packed by gzip: unpack it" + ("" if inner.startswith("begins with") else f". Its content {inner}")
