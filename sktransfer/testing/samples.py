"""Small sets of samples of two separable classes, for checks."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["make_samples"]

_GOOD = ["a good film", "good", "good acting and a good plot, all good", "what a good and clever story", "so good"]
_BAD = ["a bad film", "bad", "bad acting and a bad plot, all bad", "what a bad and stupid story", "so bad"]


def make_samples(modality: str, n_samples: int = 20, *, random_state: int = 0) -> tuple[list[Any], np.ndarray]:
    """Return samples and string labels of two classes.

    Parameters
    ----------
    modality : {"image", "text"}
        Images are dark or bright float arrays (16, 16, 3). Texts are sentences of different length.
    n_samples : int, default=20
        Number of samples.
    random_state : int, default=0
        Seed of the images.

    Returns
    -------
    X : list of n_samples
        Images or texts.
    y : ndarray of shape (n_samples,), str
        Labels "good" and "bad" in turn.

    Examples
    --------
    >>> from sktransfer.testing.samples import make_samples
    >>> X, y = make_samples("text", 4)
    >>> X[0], str(y[0])
    ('a good film (0)', 'good')
    """
    rng = np.random.default_rng(random_state)
    y = np.array(["good", "bad"])[np.arange(n_samples) % 2]
    if modality == "text":
        return [f"{(_GOOD if label == 'good' else _BAD)[i // 2 % 5]} ({i})" for i, label in enumerate(y)], y
    images = rng.uniform(0, 0.5, (n_samples, 16, 16, 3)).astype(np.float32)
    images[y == "good"] += 0.5
    return list(images), y
