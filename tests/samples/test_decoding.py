from __future__ import annotations

import io
import re
import struct
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFile

from sktransfer import ImageFeaturizer
from sktransfer.exceptions import InvalidSampleError
from sktransfer.samples.decoding import decode, decode_pil

RNG = np.random.default_rng(0)
NOISE = RNG.integers(0, 256, (40, 60, 3), dtype=np.uint8)
SMOOTH = np.dstack([*np.meshgrid(np.linspace(0, 255, 60), np.linspace(255, 0, 40)), np.full((40, 60), 90)]).astype(
    np.uint8
)


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def pixels(source: Any) -> np.ndarray:
    image = decode(source, 0)
    assert isinstance(image, Image.Image)
    assert image.mode == "RGB"
    return np.asarray(image)


def deep_png(values: np.ndarray, colour_type: int) -> bytes:
    """Return a PNG of 16 bits per channel, which Pillow reads but cannot write."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], 16, colour_type, 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM"])
def test_decode_returns_the_pixels_of_lossless_files(tmp_path: Path, kind: str):
    path = tmp_path / "image"
    path.write_bytes(encoded(Image.fromarray(NOISE), kind))
    assert np.array_equal(pixels(str(path)), NOISE)
    assert np.array_equal(pixels(path.read_bytes()), NOISE)


@pytest.mark.parametrize("kind", ["JPEG", "WEBP"])
def test_decode_approximates_the_pixels_of_lossy_files(kind: str):
    decoded = pixels(encoded(Image.fromarray(SMOOTH), kind, quality=95))
    assert np.abs(decoded.astype(int) - SMOOTH).mean() < 4


@pytest.mark.parametrize(
    ("orientation", "stored"),
    [
        (1, lambda x: x),
        (2, lambda x: x[:, ::-1]),
        (3, lambda x: x[::-1, ::-1]),
        (4, lambda x: x[::-1]),
        (5, lambda x: x.transpose(1, 0, 2)),
        (6, lambda x: np.rot90(x, 1)),
        (7, lambda x: np.rot90(x, 2).transpose(1, 0, 2)),
        (8, lambda x: np.rot90(x, -1)),
    ],
)
@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_decode_applies_the_exif_orientation(orientation: int, stored: Any, kind: str):
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encoded(Image.fromarray(np.ascontiguousarray(stored(SMOOTH))), kind, exif=exif)
    decoded = pixels(content)
    assert decoded.shape == SMOOTH.shape
    assert np.abs(decoded.astype(int) - SMOOTH).mean() < 4
    opened = Image.open(io.BytesIO(content))
    assert np.array_equal(np.asarray(decode_pil(opened, 0)), decoded)


def test_decode_repeats_grey():
    assert np.array_equal(
        pixels(encoded(Image.fromarray(NOISE[:, :, 0]), "PNG")), np.repeat(NOISE[:, :, :1], 3, axis=2)
    )


def test_decode_of_one_bit_is_black_and_white():
    bits = NOISE[:, :, 0] > 127
    assert np.array_equal(pixels(encoded(Image.fromarray(bits), "PNG"))[:, :, 1], bits * np.uint8(255))


@pytest.mark.parametrize(("mode", "channels"), [("LA", [0, 0, 0]), ("RGBA", [0, 1, 2])])
def test_decode_without_background_keeps_transparent_colours(mode: str, channels: list[int]):
    values = RNG.integers(0, 256, (4, 6, len(mode)), dtype=np.uint8)
    values[0, 0, -1] = 0
    content = encoded(Image.fromarray(values), "PNG")
    assert np.array_equal(np.asarray(decode(content, 0, background=None)), values[:, :, channels])


@pytest.mark.parametrize("transparency", [None, 1, bytes([255, 128, 0])], ids=["opaque", "one", "several"])
def test_decode_of_palettes_does_not_warn(transparency: Any):
    image = Image.new("P", (3, 1))
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    image.putdata([0, 1, 2])
    options = {} if transparency is None else {"transparency": transparency}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        decoded = np.asarray(decode(encoded(image, "PNG", **options), 0, background=None))
    assert decoded[0].tolist() == [[255, 0, 0], [0, 255, 0], [0, 0, 255]]


def test_decode_of_cmyk_jpeg_inverts_adobe_files_only():
    content = encoded(Image.fromarray(SMOOTH).convert("CMYK"), "JPEG", quality=95)
    assert Image.open(io.BytesIO(content)).mode == "CMYK"
    assert np.abs(pixels(content).astype(int) - SMOOTH).mean() < 6


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "WEBP", "PNG"])
def test_decode_of_animations_returns_the_first_frame(kind: str):
    first, second = Image.new("RGB", (6, 4), (255, 0, 0)), Image.new("RGB", (6, 4), (0, 0, 255))
    options = {"lossless": True} if kind == "WEBP" else {}
    decoded = pixels(encoded(first, kind, save_all=True, append_images=[second], **options))
    assert np.array_equal(decoded, np.asarray(first))


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_decode_scales_16_bit_grey(kind: str):
    values = np.array([[0, 300, 32768, 65535]], dtype=np.uint16)
    decoded = decode(encoded(Image.fromarray(values), kind), 0)
    assert (decoded.dtype, decoded.shape) == (np.float32, (1, 4, 3))
    assert np.allclose(decoded, values[:, :, None] / 65535, atol=1e-7)


def test_decode_applies_the_orientation_of_16_bit_grey():
    values = RNG.integers(0, 65536, (3, 5), dtype=np.uint16)
    exif = Image.Exif()
    exif[0x0112] = 3
    decoded = decode(encoded(Image.fromarray(values), "PNG", exif=exif), 0)
    assert np.allclose(decoded[:, :, 0], values[::-1, ::-1] / 65535, atol=1e-7)


@pytest.mark.parametrize(("colour_type", "channels"), [(2, 3), (6, 4), (4, 2)])
def test_decode_of_16_bit_colours_keeps_the_upper_8_bits(colour_type: int, channels: int):
    values = RNG.integers(0, 65536, (2, 5, channels), dtype=np.uint16)
    colours = values[:, :, :3] if channels > 2 else values[:, :, [0, 0, 0]]
    decoded = np.asarray(decode(deep_png(values, colour_type), 0, background=None))
    assert np.abs(decoded.astype(float) - colours / 257).max() <= 1


def test_decode_does_not_rescale_float_files():
    values = RNG.random((4, 6)).astype(np.float32)
    decoded = decode(encoded(Image.fromarray(values), "TIFF"), 0)
    assert np.array_equal(decoded, np.repeat(values[:, :, None], 3, axis=2))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.array([[0, 255]], np.float32), "row 7: .*mode F is a float image with values from 0 to 255; .*Divide"),
        (np.array([[0, np.nan]], np.float32), "row 7: .*mode F holds NaN"),
        (np.array([[-5, 255]], np.int32), "row 7: .*mode I has values from -5 to 255; .*0 to 65535.*pass an array"),
        (np.array([[0, 70000]], np.int32), "row 7: .*mode I has values from 0 to 70000"),
    ],
)
def test_decode_rejects_values_out_of_range(values: np.ndarray, message: str):
    with pytest.raises(InvalidSampleError, match=message):
        decode(encoded(Image.fromarray(values), "TIFF"), 7)
    with pytest.raises(InvalidSampleError, match=message):
        decode_pil(Image.fromarray(values), 7)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV", "RGBa"])
def test_decode_pil_accepts_any_mode_and_does_not_change_its_input(mode: str):
    image = Image.new(mode, (6, 4))
    decoded = decode_pil(image, 0)
    assert (decoded.mode, decoded.size, image.mode) == ("RGB", (6, 4), mode)
    assert decoded is not image


def test_decode_pil_returns_a_copy():
    image = Image.new("RGB", (2, 2))
    decode_pil(image, 0).putpixel((0, 0), (255, 0, 0))
    assert image.getpixel((0, 0)) == (0, 0, 0)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_decode_of_truncated_files_names_row_and_path(tmp_path: Path, kind: str, share: float):
    content = encoded(Image.fromarray(NOISE), kind)
    path = tmp_path / f"cut.{kind.lower()}"
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(InvalidSampleError, match=rf"row 7: '{re.escape(str(path))}' .*(drop this row|Get the image)"):
        decode(str(path), 7)
    assert ImageFile.LOAD_TRUNCATED_IMAGES is False


def test_decode_of_damaged_png_names_row_and_remedy():
    content = bytearray(encoded(Image.fromarray(NOISE), "PNG"))
    content[200:220] = bytes(20)
    with pytest.raises(InvalidSampleError, match=r"row 7: an image in \d+ bytes is damaged or cut off .*drop this row"):
        decode(bytes(content), 7)


def test_decode_recognizes_html(tmp_path: Path):
    path = tmp_path / "cat.jpg"
    path.write_text("\n<!DOCTYPE html><html>404</html>")
    with pytest.raises(InvalidSampleError, match=r"row 7: .*cat\.jpg' is not an image .*HTML.*Get the image again"):
        decode(str(path), 7)


def test_decode_of_other_bytes_shows_their_start():
    with pytest.raises(InvalidSampleError, match=r"row 7: an image in 9 bytes .*begins with b'some text'.*JPEG or PNG"):
        decode(b"some text", 7)


def test_decode_of_a_deleted_file_names_it(tmp_path: Path):
    with pytest.raises(
        InvalidSampleError, match=r"row 7: .*gone\.png' cannot be opened, there is no such file .*check the path"
    ):
        decode(str(tmp_path / "gone.png"), 7)


@pytest.mark.parametrize("limit", [2399, 1000], ids=["warning", "error"])
@pytest.mark.parametrize("action", ["error", "ignore"])
def test_decode_rejects_decompression_bombs_under_any_warning_filter(
    monkeypatch: pytest.MonkeyPatch, limit: int, action: str
):
    content = encoded(Image.new("RGB", (60, 40)), "PNG")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    with warnings.catch_warnings():
        warnings.simplefilter(action)
        with pytest.raises(InvalidSampleError, match=r"row 7: .*too large to be opened safely.*MAX_IMAGE_PIXELS"):
            decode(content, 7)


def test_decode_follows_max_image_pixels(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    assert pixels(encoded(Image.new("RGB", (60, 40)), "PNG")).shape == (40, 60, 3)


def test_decode_pil_of_a_closed_file_suggests_load(tmp_path: Path):
    path = tmp_path / "a.png"
    Image.fromarray(NOISE).save(path)
    with Image.open(path) as image:
        pass
    with pytest.raises(
        InvalidSampleError, match=r"row 7: the PIL image cannot be decoded .*load\(\).*or pass the path"
    ):
        decode_pil(image, 7)


def test_decode_closes_files(tmp_path: Path):
    path = tmp_path / "a.gif"
    Image.fromarray(NOISE).save(path, save_all=True, append_images=[Image.fromarray(NOISE[::-1])])
    with warnings.catch_warnings():
        warnings.simplefilter("error", ResourceWarning)
        for _ in range(50):
            decode(str(path), 0)
    open_files = [link.readlink() for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
    assert path not in open_files


def test_an_empty_path_is_named():
    with pytest.raises(InvalidSampleError, match="row 0: '' is an empty path"):
        ImageFeaturizer("tiny/cnn").fit([""])
