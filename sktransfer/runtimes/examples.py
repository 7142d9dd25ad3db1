"""Samples that scikit-learn ships, to convert, check and quantize stages with."""

from __future__ import annotations

import functools
import re
from importlib.resources import files
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sktransfer.backbones.batching import batching_of
from sktransfer.samples.images import check_images
from sktransfer.samples.texts import check_texts

__all__ = ["example_batch"]

_SIDE = 256  # pixels of a crop
_WORDS = range(3, 60)  # of a sentence


def example_batch(backbone: Any, n: int) -> tuple[Tensor, Tensor | None]:
    """Return a batch of samples as the first stage takes them, and their mask.

    They are crops of the two photos, or sentences of the descriptions of data sets, that scikit-learn ships. They are
    the same in every process of one version of scikit-learn, and do not depend on the samples of a user.

    Parameters
    ----------
    backbone : Backbone
        Backbone that is not joined.
    n : int
        Number of samples.

    Returns
    -------
    values : Tensor of shape (n, 3, height, width) or (n, tokens)
    mask : Tensor of shape (n, tokens) or None
        None for images.

    Examples
    --------
    >>> from sktransfer import load_backbone
    >>> from sktransfer.runtimes.examples import example_batch
    >>> example_batch(load_backbone("tiny/cnn"), 2)[0].shape
    torch.Size([2, 3, 32, 32])
    """
    preprocess = backbone.preprocess
    batching = batching_of(preprocess)
    samples = check_texts(_sentences(n)) if backbone.modality == "text" else check_images(_crops(n))
    prepared = batching.prepare(preprocess, samples)
    tensors, _ = batching.read(preprocess, [prepared.load(row) for row in range(n)])
    with torch.inference_mode(False):
        return batching.collate(tensors, preprocess.pad_value)


@functools.lru_cache(maxsize=2)
def _crops(n: int) -> np.ndarray:
    """Return crops of photos, (n, 256, 256, 3)."""
    from sklearn.datasets import load_sample_images

    photos = load_sample_images().images
    random = np.random.default_rng(0)
    crops = []
    for index in range(n):
        photo = photos[index % len(photos)]
        top, left = (int(random.integers(size - _SIDE + 1)) for size in photo.shape[:2])
        crops.append(photo[top : top + _SIDE, left : left + _SIDE])
    return np.stack(crops)  # (n, 256, 256, 3)


@functools.lru_cache(maxsize=2)
def _sentences(n: int) -> list[str]:
    """Return sentences of different lengths, of which the first two differ most."""
    folder = files("sklearn.datasets.descr")
    texts = [one.read_text(encoding="utf-8") for one in sorted(folder.iterdir(), key=lambda one: one.name)
             if one.name.endswith(".rst")]  # fmt: skip
    found = {" ".join(part.split()) for text in texts for part in re.split(r"(?<=[.!?])\s+|\n\n", text)}
    ordered = sorted((one for one in found if len(one.split()) in _WORDS), key=lambda one: (len(one.split()), one))
    rows = np.linspace(0, len(ordered) - 1, n).round().astype(int)
    return [ordered[row] for row in (rows[0], rows[-1], *rows[1:-1])][:n]
