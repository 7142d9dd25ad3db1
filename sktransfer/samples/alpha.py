"""Transparent pixels: composite images with alpha on a background."""

from __future__ import annotations

import numpy as np
from PIL import Image

__all__ = ["WHITE", "Background", "blend", "flatten", "flatten_pil"]

Background = tuple[float, float, float] | None
# Pictures with transparency are cut out of photos or drawn, mostly in dark colours, to be shown on white pages.
WHITE: Background = (1.0, 1.0, 1.0)


def flatten_pil(image: Image.Image, background: Background = WHITE) -> Image.Image:
    """Return a PIL image in mode RGB, with transparent pixels composited on a background.

    Parameters
    ----------
    image : PIL image
        Image of any mode of 8 bits. It may have alpha, or name a transparent colour.
    background : (float, float, float) or None, default=(1.0, 1.0, 1.0)
        Colour in [0, 1]. None keeps the colours that transparent pixels hide.

    Returns
    -------
    image : PIL image in mode RGB
        For an opaque image, the same pixels as without alpha.

    Examples
    --------
    >>> from PIL import Image
    >>> from sktransfer.samples.alpha import flatten_pil
    >>> image = Image.new("RGBA", (1, 1), (255, 0, 0, 0))  # red that is invisible
    >>> flatten_pil(image).getpixel((0, 0)), flatten_pil(image, None).getpixel((0, 0))
    ((255, 255, 255), (255, 0, 0))
    """
    named = image.info.get("transparency")  # a colour or palette entries of PNG and GIF
    if named is None and image.mode[-1] not in "Aa":
        return image if image.mode == "RGB" else image.convert("RGB")
    if image.mode == "La":
        image = image.convert("LA")
    elif isinstance(named, tuple) and max(named) > 255:  # of a file of 16 bits, whose upper 8 bits are read
        image.info["transparency"] = tuple(value >> 8 for value in named)
    with_alpha = image.convert("RGBA")
    if background is None or with_alpha.getchannel("A").getextrema() == (255, 255):
        return with_alpha.convert("RGB")
    colour = tuple(round(255 * value) for value in background)
    return Image.alpha_composite(Image.new("RGBA", image.size, (*colour, 255)), with_alpha).convert("RGB")


def flatten(values: np.ndarray, background: Background = WHITE) -> np.ndarray:
    """Return the colours of an RGBA image of floats, composited on a background.

    Parameters
    ----------
    values : float32 ndarray of shape (height, width, 4)
        Colours and alpha. Alpha is clipped to [0, 1].
    background : (float, float, float) or None, default=(1.0, 1.0, 1.0)
        Colour in [0, 1]. None keeps the colours that transparent pixels hide.

    Returns
    -------
    colours : float32 ndarray of shape (height, width, 3)
    """
    colours, alpha = values[:, :, :3], np.clip(values[:, :, 3:], 0, 1)  # (height, width, 3), (height, width, 1)
    return np.ascontiguousarray(colours) if background is None else blend(colours, alpha, background)


def blend(colours: np.ndarray, alpha: np.ndarray, background: tuple[float, float, float]) -> np.ndarray:
    """Return colours (height, width, 3) on a background, given alpha (height, width, 1) in [0, 1].

    Opaque pixels keep their colours to the last bit.
    """
    return np.where(alpha == 1, colours, colours * alpha + np.array(background, np.float32) * (1 - alpha))
