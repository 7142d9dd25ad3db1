"""Fuzz damaged images: decoding returns an RGB image or raises an error with a reason.

`python -m tests.fuzz.fuzz_images 180` tries random damage for 180 seconds and prints counts.
"""

from __future__ import annotations

import faulthandler
import random
import sys
import tempfile
import time
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image

from sktransfer.exceptions import InvalidSampleError
from sktransfer.samples.decoding import decode
from tests.helpers.dirty_images import FIRST, GREY, SECOND, encoded, palette, plain_cmyk, turned

_NOISE = np.random.default_rng(0).integers(0, 256, (24, 31, 4), dtype=np.uint8)


def _animated(kind, **options):
    return encoded(FIRST, kind, save_all=True, append_images=[SECOND.copy()], **options)


SEEDS = {
    "jpeg": encoded(FIRST, "JPEG"),
    "jpeg progressive": encoded(FIRST, "JPEG", progressive=True),
    "jpeg turned": turned(6),
    "jpeg cmyk": encoded(FIRST.convert("CMYK"), "JPEG"),
    "jpeg cmyk plain": plain_cmyk(),
    "mpo": _animated("MPO"),
    "png": encoded(FIRST, "PNG"),
    "png noise": encoded(_NOISE, "PNG"),
    "png palette": palette(transparency=bytes([0, 128, 255])),
    "png 16 bit": encoded(GREY, "PNG"),
    "png 1 bit": encoded(FIRST.convert("1"), "PNG"),
    "png animated": _animated("PNG"),
    "gif": encoded(FIRST, "GIF"),
    "gif animated": _animated("GIF"),
    "webp": encoded(FIRST, "WEBP"),
    "webp lossless": encoded(_NOISE, "WEBP", lossless=True),
    "webp animated": _animated("WEBP"),
    "tiff": encoded(FIRST, "TIFF"),
    "tiff lzw": encoded(FIRST, "TIFF", compression="tiff_lzw"),
    "tiff jpeg": encoded(FIRST, "TIFF", compression="jpeg"),
    "tiff deflate": encoded(_NOISE, "TIFF", compression="tiff_adobe_deflate"),
    "tiff 16 bit": encoded(GREY, "TIFF"),
    "tiff float": encoded((GREY / 65535).astype(np.float32), "TIFF"),
    "tiff pages": _animated("TIFF"),
    "bmp": encoded(FIRST, "BMP"),
    "bmp palette": encoded(FIRST.quantize(8), "BMP"),
    "ico": encoded(FIRST, "ICO"),
    "ppm": encoded(FIRST, "PPM"),
}
NAMES = list(SEEDS)
KINDS = ("set", "flip", "insert", "delete", "cut", "repeat", "number", "splice")
_NUMBERS = [0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF]


def damaged(content, edits):
    """Apply edits (kind, place in [0, 1), amount in [0, 1), number). Their meaning depends on the kind."""
    content = bytearray(content)
    for kind, place, amount, number in edits:
        at, length = int(place * len(content)), int(amount**3 * 200) + 1  # mostly few bytes
        if kind == "set" and content:
            content[at] = number % 256
        elif kind == "flip" and content:
            content[at] ^= 1 << number % 8
        elif kind == "insert":
            content[at:at] = bytes((number + i) % 256 for i in range(length))
        elif kind == "delete":
            del content[at : at + length]
        elif kind == "cut":
            del content[at:]
        elif kind == "repeat":
            content[at:at] = content[at : at + length] * (1 + number % 5)
        elif kind == "number":  # replaces a size or an offset by a small or the largest number
            value, size = _NUMBERS[number % len(_NUMBERS)], (1, 2, 4)[number % 3]
            content[at : at + size] = (value % 256**size).to_bytes(size, "big" if number % 2 else "little")
        elif kind == "splice":
            other = SEEDS[NAMES[number % len(NAMES)]]
            start = int(amount * len(other))
            content[at : at + length] = other[start : start + length]
    return bytes(content)


def outcome(content):
    """Return "ok" or "refused" for bytes or a path. Any other result of decoding raises."""
    image = refusal = None
    try:
        image = decode(content, 7)
    except InvalidSampleError as error:
        refusal = str(error)
    if refusal is not None:
        assert refusal.startswith("row 7: '" if isinstance(content, str) else "row 7: an image in ")
        return "refused"
    pixels = np.asarray(image)
    assert pixels.shape[2] == 3
    assert pixels.size > 0
    if isinstance(image, Image.Image):
        assert image.mode == "RGB"
    else:
        assert pixels.dtype == np.float32
        assert pixels.min() >= -1e-6
        assert pixels.max() <= 1 + 1e-6
    return "ok"


def random_edits(rng):
    kinds = rng.choices(KINDS, k=min(1 + int(rng.expovariate(0.4)), 12))
    # Half of the damage is in the first bytes, where headers are.
    places = [rng.random() ** rng.choice([1, 4]) for _ in kinds]
    return [(kind, place, rng.random(), rng.randrange(2**16)) for kind, place in zip(kinds, places)]


def main(seconds=600.0, seed=None):
    """Try random damage for some seconds, print counts, and return them."""
    seed = random.randrange(2**32) if seed is None else seed
    rng, counts, end = random.Random(seed), Counter(), time.monotonic() + seconds
    latest = Path(tempfile.mkdtemp(), "latest")  # the input of the last run, for crashes
    faulthandler.enable(sys.__stderr__)
    warnings.simplefilter("ignore")
    while time.monotonic() < end:
        content = damaged(SEEDS[rng.choice(NAMES)], random_edits(rng))
        latest.write_bytes(content)
        faulthandler.dump_traceback_later(300, exit=True, file=sys.__stderr__)
        start = time.monotonic()
        try:
            # Pillow maps files into memory, but not bytes.
            counts[outcome(content if rng.random() < 0.5 else str(latest))] += 1
        except BaseException as error:
            counts["wrong"] += 1
            kept = latest.with_name(f"wrong{counts['wrong']}")
            kept.write_bytes(content)
            print(f"{type(error).__name__}: {error!s:.300} ({kept})")
            if isinstance(error, KeyboardInterrupt):
                break
        if time.monotonic() - start > 5:
            counts["slow"] += 1
            kept = latest.with_name(f"slow{counts['slow']}")
            kept.write_bytes(content)
            print(f"{time.monotonic() - start:.0f} s ({kept})")
        faulthandler.cancel_dump_traceback_later()
        counts["tried"] += 1
    shown = ", ".join(f"{name} {counts[name]}" for name in ("tried", "ok", "refused", "wrong", "slow"))
    print(f"images, seed {seed}: {shown}")
    return counts


if __name__ == "__main__":
    found = main(*map(float, sys.argv[1:2]))
    sys.exit(found["wrong"] + found["slow"] > 0)
