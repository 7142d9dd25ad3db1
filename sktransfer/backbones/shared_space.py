"""What joins a backbone of images to one of texts, where the two were trained together. Imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["SharedSpace"]


@dataclass(frozen=True)
class SharedSpace:
    """A space of vectors in which the samples of a backbone are compared with texts, by the cosine.

    A network of two towers is two backbones, each a list of stages like any other; this is all that joins them.

    Parameters
    ----------
    texts : str
        Name of the backbone that puts texts there.
    scale : float
        What the network multiplies cosines by before a softmax.

    Examples
    --------
    >>> from sktransfer.backbones import SharedSpace
    >>> SharedSpace(texts="clip/openai/clip-vit-base-patch32#text", scale=100.0).scale
    100.0
    """

    texts: str
    scale: float
