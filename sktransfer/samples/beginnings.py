"""What a file that is no image is instead, as its first bytes tell, and what to do about it."""

from __future__ import annotations

from pathlib import Path

__all__ = ["LENGTH", "kind_of_file", "read_beginning"]

LENGTH = 64  # bytes that are looked at

_SAVE_AS = "save it as JPEG or PNG"
_STARTS = (  # of many kinds of file; the first that fits counts
    (b"%PDF", "a PDF", "save its pages or pictures as JPEG or PNG"),
    (b"PK\x03\x04", "a ZIP archive (as .docx and .pptx are, too)", "unpack it"),
    (b"PK\x05\x06", "an empty ZIP archive", "get the image again"),
    (b"Rar!", "a RAR archive", "unpack it"),
    (b"7z\xbc\xaf", "a 7-Zip archive", "unpack it"),
    (b"\x1f\x8b", "packed by gzip", "unpack it"),
    (b"%!PS", "PostScript, which is a program and no picture", _SAVE_AS),
    (b"\xc5\xd0\xd3\xc6", "PostScript, which is a program and no picture", _SAVE_AS),
    (b"version https://git-lfs", "the pointer to a file in Git LFS", "fetch the file itself: git lfs pull"),
    (b"{", "JSON", "if it is a server's answer, get the image again"),
    (b"\x1aE\xdf\xa3", "a video", "save its frames as JPEG or PNG"),
    (b"\x89HDF", "an HDF5 file", "read it, and pass arrays"),
    (b"\x93NUMPY", "a NumPy array", "read it, numpy.load, and pass arrays"),
)
_HEIF = (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1")


def read_beginning(source: str | bytes) -> bytes:
    """Return the first bytes of a file, or of its content."""
    if isinstance(source, bytes):
        return source[:LENGTH]
    with Path(source).open("rb") as file:
        return file.read(LENGTH)


def kind_of_file(start: bytes) -> str:
    """Say what a file is that is no image that can be read, and what to do.

    Parameters
    ----------
    start : bytes
        Its first bytes.

    Returns
    -------
    words : str
        To follow upon "it ".

    Examples
    --------
    >>> from sktransfer.samples.beginnings import kind_of_file
    >>> kind_of_file(b"%PDF-1.7")
    'is a PDF: save its pages or pictures as JPEG or PNG'
    >>> kind_of_file(b"some text")
    "begins with b'some text': save it as JPEG or PNG"
    """
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip()
    if b"<svg" in text.lower():
        return f"is an SVG, a drawing that has no pixels: {_SAVE_AS}"
    if text[:1] == b"<":
        return f"is HTML or XML (it begins with {text[:24]!r}), a download that went wrong? Get the image again"
    for beginning, name, way_out in _STARTS:
        if text.startswith(beginning):
            return f"is {name}: {way_out}"
    if start[4:8] == b"ftyp":
        if start[8:12] in _HEIF:
            return f"is a HEIC or HEIF photo: {_SAVE_AS}, or let the package pillow-heif read it (register_heif_opener)"
        return "is a video: save its frames as JPEG or PNG"
    if not start.strip(b"\0"):
        return "begins with nothing but zeros, as a file does whose download or copy broke off: get the image again"
    return f"begins with {start[:24]!r}: {_SAVE_AS}"
