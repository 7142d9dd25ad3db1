"""Odd and damaged image files, each with its expected pixels or error."""

from __future__ import annotations

import io
import os
import socket
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

RED, GREEN, BLUE, WHITE = (230, 20, 20), (20, 200, 20), (20, 20, 230), (250, 250, 250)


def picture(height=48, width=64):
    """Return a picture of four colours, one per corner, so that rotations and flips change it."""
    pixels = np.empty((height, width, 3), np.uint8)
    pixels[: height // 2, : width // 2], pixels[: height // 2, width // 2 :] = RED, GREEN
    pixels[height // 2 :, : width // 2], pixels[height // 2 :, width // 2 :] = BLUE, WHITE
    return pixels


PICTURE = picture()
GREY = np.linspace(0, 65535, 48 * 64).reshape(48, 64).astype(np.uint16)
FIRST, SECOND = Image.fromarray(PICTURE), Image.fromarray(np.ascontiguousarray(PICTURE[::-1]))
_STORED = {  # orientation -> the stored pixels
    1: lambda x: x,
    2: lambda x: x[:, ::-1],
    3: lambda x: x[::-1, ::-1],
    4: lambda x: x[::-1],
    5: lambda x: x.transpose(1, 0, 2),
    6: lambda x: np.rot90(x, 1),
    7: lambda x: np.rot90(x, 2).transpose(1, 0, 2),
    8: lambda x: np.rot90(x, -1),
}


def encoded(image, kind, **options):
    buffer = io.BytesIO()
    image = image.copy() if isinstance(image, Image.Image) else Image.fromarray(np.ascontiguousarray(image))
    image.save(buffer, kind, **options)  # of a copy, because some formats change the saved image
    return buffer.getvalue()


def turned(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(_STORED[orientation](PICTURE), "JPEG", quality=95, exif=exif)


def with_exif(block):
    """Return a JPEG with a given EXIF block."""
    content = encoded(FIRST, "JPEG", quality=95)
    segment = b"Exif\0\0" + block
    return content[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + content[2:]


def plain_cmyk():
    """Return a CMYK JPEG without the Adobe marker, with values that are not inverted."""
    inverted = bytes(255 - value for value in FIRST.convert("CMYK").tobytes())  # Pillow inverts on saving
    content = encoded(Image.frombytes("CMYK", FIRST.size, inverted), "JPEG", quality=95)
    start = content.index(b"\xff\xee")
    return content[:start] + content[start + 2 + struct.unpack(">H", content[start + 2 : start + 4])[0] :]


def palette(**options):
    return encoded(FIRST.quantize(8), "PNG", **options)


def header_png(width, height):
    """Return a PNG whose header declares a size, with the pixels of one row only."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(99))) + chunk(b"IEND", b"")
    )


ALPHA = np.tile(np.linspace(0, 255, 64), (48, 1)).astype(np.uint8)


def alpha(mode):
    image = FIRST.convert(mode)
    image.putalpha(Image.fromarray(ALPHA))
    return encoded(image, "PNG")


def on_white(pixels, opacity):
    """Return pixels on a white background, with an opacity per pixel from 0 to 255."""
    share = opacity[:, :, None] / 255
    return pixels * share + 255 * (1 - share)


def palette_opacity(*opacities):
    """Return the opacity of each pixel of `palette()`, whose first entries have these opacities."""
    return np.array([*opacities, *[255] * (256 - len(opacities))])[np.asarray(FIRST.quantize(8))]


def grey(pixels):
    return np.repeat(np.asarray(Image.fromarray(pixels).convert("L"))[:, :, None], 3, axis=2)


# name -> (content, or a function that creates the file; expected pixels; tolerance of the mean difference, of 255)
GOOD = {
    **{f"orientation{i}.jpg": (turned(i), PICTURE, 4) for i in _STORED},
    "cmyk_of_adobe.jpg": (encoded(FIRST.convert("CMYK"), "JPEG", quality=95), PICTURE, 4),
    "cmyk_plain.jpg": (plain_cmyk(), PICTURE, 4),
    "progressive.jpg": (encoded(FIRST, "JPEG", quality=95, progressive=True), PICTURE, 4),
    "grey.jpg": (encoded(FIRST.convert("L"), "JPEG", quality=95), grey(PICTURE), 4),
    "garbage_after_the_end.jpg": (encoded(FIRST, "JPEG", quality=95) + os.urandom(5000), PICTURE, 4),
    "damaged_exif.jpg": (with_exif(b"II*\0\xff\xff\xff\xff broken"), PICTURE, 4),
    "no_exif_at_all.png": (encoded(FIRST, "PNG", exif=b"Exif\0\0garbage that is no EXIF block"), PICTURE, 0),
    "no_exif_at_all.jpg": (with_exif(b"garbage that is no EXIF block"), PICTURE, 4),
    "cut_off_exif.jpg": (with_exif(b"MM\0*\0\0\0\x08\0\x09\x01\x12\0\x03"), PICTURE, 4),
    "several_pictures.mpo": (
        encoded(FIRST, "MPO", quality=95, save_all=True, append_images=[SECOND.copy()]),
        PICTURE,
        4,
    ),
    "palette.png": (palette(), PICTURE, 4),
    "palette_one_transparent.png": (palette(transparency=0), on_white(PICTURE, palette_opacity(0)), 4),
    "palette_several_transparent.png": (
        palette(transparency=bytes([0, 128, 255])),
        on_white(PICTURE, palette_opacity(0, 128)),
        4,
    ),
    "rgba.png": (alpha("RGB"), on_white(PICTURE, ALPHA), 1),
    "la.png": (alpha("L"), on_white(grey(PICTURE), ALPHA), 1),
    "1_bit.png": (encoded(Image.fromarray(PICTURE[:, :, 0] > 99), "PNG"), (PICTURE[:, :, [0, 0, 0]] > 99) * 255, 0),
    "16_bit.png": (encoded(GREY, "PNG"), GREY[:, :, None] / 257, 0.01),
    "16_bit.tif": (encoded(GREY, "TIFF"), GREY[:, :, None] / 257, 0.01),
    "float.tif": (encoded((GREY / 65535).astype(np.float32), "TIFF"), GREY[:, :, None] / 257, 0.01),
    "pages.tif": (encoded(FIRST, "TIFF", save_all=True, append_images=[SECOND.copy()]), PICTURE, 0),
    "animated.gif": (encoded(FIRST, "GIF", save_all=True, append_images=[SECOND.copy()]), PICTURE, 4),
    "animated.webp": (encoded(FIRST, "WEBP", lossless=True, save_all=True, append_images=[SECOND.copy()]), PICTURE, 0),
    "animated.png": (encoded(FIRST, "PNG", save_all=True, append_images=[SECOND.copy()]), PICTURE, 0),
    "a.bmp": (encoded(FIRST, "BMP"), PICTURE, 0),
    "a.ico": (encoded(FIRST.resize((32, 32)), "ICO"), np.asarray(FIRST.resize((32, 32))), 0),
    "one_pixel.png": (encoded(PICTURE[:1, :1], "PNG"), PICTURE[:1, :1], 0),
    "high_strip.png": (
        encoded(np.tile(PICTURE[:1, :1], (20000, 1, 1)), "PNG"),
        np.tile(PICTURE[:1, :1], (20000, 1, 1)),
        0,
    ),
    "wide_strip.png": (
        encoded(np.tile(PICTURE[:1, :1], (1, 20000, 1)), "PNG"),
        np.tile(PICTURE[:1, :1], (1, 20000, 1)),
        0,
    ),
    "a_png_named.jpg": (encoded(FIRST, "PNG"), PICTURE, 0),
    "no_suffix": (encoded(FIRST, "PNG"), PICTURE, 0),
    "Zürich 東京 🏔️ \u202eلغة.png": (encoded(FIRST, "PNG"), PICTURE, 0),
    "two\nlines.png": (encoded(FIRST, "PNG"), PICTURE, 0),
    "no \udcff\udcfe text.png": (encoded(FIRST, "PNG"), PICTURE, 0),
    "x" * 251 + ".png": (encoded(FIRST, "PNG"), PICTURE, 0),
}


def _pipe(path):
    os.mkfifo(path)


def _socket(path):
    here = Path.cwd()
    os.chdir(path.parent)  # socket paths have a length limit
    try:
        with socket.socket(socket.AF_UNIX) as one:
            one.bind(path.name)
    finally:
        os.chdir(here)


def _link(target):
    return lambda path: path.symlink_to(target)


_JPEG, _PNG = encoded(FIRST, "JPEG"), encoded(FIRST, "PNG")
_NOISE = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)

# name -> (content, or a function that creates the file, or None for a missing file; pattern of the reason)
BAD = {
    "empty.jpg": (b"", "has 0 bytes; get the file again"),
    "cut_off.jpg": (_JPEG[: len(_JPEG) // 2], r"is damaged or cut off .*Get the file again"),
    "cut_off.png": (encoded(_NOISE, "PNG")[:3000], r"is damaged or cut off .*Get the file again"),
    "cut_off.gif": (encoded(Image.fromarray(_NOISE), "GIF")[:1500], "is damaged or cut off"),
    "cut_off.webp": (encoded(_NOISE, "WEBP")[:500], "is damaged or cut off|is not an image"),
    "cut_off.tif": (encoded(_NOISE, "TIFF")[:4000], "is damaged or cut off"),
    "header_only.jpg": (_JPEG[:20], "is damaged or cut off|is not an image"),
    "damaged.png": (_PNG[:60] + bytes(40) + _PNG[100:], "is damaged or cut off"),
    "page.jpg": (b"\n<!DOCTYPE html><html>404</html>", "is HTML or XML .* a download that went wrong"),
    "drawing.svg": (
        b"<?xml version='1.0'?>\n<svg width='9'></svg>",
        "is an SVG, a vector drawing without pixels: save it",
    ),
    "answer.jpg": (b'{"error": "not found"}', "is JSON: if it is a server's response, get the image again"),
    "paper.pdf": (b"%PDF-1.7\n%...", "is a PDF: save its pages"),
    "office.png": (b"PK\x03\x04\x14\0\x06\0", "is a ZIP archive"),
    "packed.gz": (b"\x1f\x8b\x08\0\0\0\0\0", "is packed by gzip: unpack it"),
    "photo.heic": (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "is a HEIC or HEIF photo: save it .*pillow-heif"),
    "scan.dcm": (bytes(128) + b"DICM\x02\0\0\0", "is a DICOM file: read it with the package pydicom"),
    "photo.avif": (b"\0\0\0\x1cftypavif\0\0\0\0avifmif1miaf", "is an AVIF image that is damaged or"),
    "film.mp4": (b"\0\0\0\x18ftypisom\0\0\x02\0", "is a video: save its frames"),
    "drawing.eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "is PostScript, which is a program"),
    "zeros.jpg": (bytes(5000), "begins with nothing but zeros"),
    "notes.jpg": (b"some text", "begins with b'some text': save it as JPEG or PNG"),
    "pointer.jpg": (b"version https://git-lfs.github.com/spec/v1\n", "the pointer to a file in Git LFS: fetch"),
    "bomb.png": (header_png(10000, 10000), "is too large to be opened safely .*MAX_IMAGE_PIXELS"),
    "great_bomb.png": (header_png(60000, 60000), "is too large to be opened safely .*MAX_IMAGE_PIXELS"),
    "deep.tif": (encoded(np.array([[0, 70000]], np.int32), "TIFF"), "values from 0 to 70000; they must be from 0 to"),
    "float.tif": (encoded(np.array([[0, 9]], np.float32), "TIFF"), "values from 0 to 9; floats must be in"),
    "folder.jpg": (Path.mkdir, "is a folder; pass the images in it"),
    "dangling.jpg": (_link("nowhere/a.jpg"), "is a link to 'nowhere/a.jpg', which does not exist"),
    "circle.jpg": (_link("circle.jpg"), "is a link that leads back to itself"),
    "pipe.jpg": (_pipe, "is a named pipe, not a file"),
    "socket.jpg": (_socket, "is a socket, not a file"),
    "device.jpg": (_link("/dev/zero"), "is a device, not a file"),
    "missing.jpg": (None, "there is no such file"),
    "missing\nin two lines.jpg": (None, "there is no such file"),
    "missing 東京.jpg": (None, "there is no such file"),
    "y" * 300 + ".jpg": (None, "File name too long"),
    "null\0.jpg": (None, "null"),
}


def write(folder, name, content):
    """Write one of these files to a folder and return its path."""
    path = Path(folder, name)
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        content(path)
    return str(path)
