"""Augmentation of images and texts, before the first stage."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image

from sktransfer.backbones.stages import naming_tower
from sktransfer.engine.rng import derive_seed
from sktransfer.exceptions import InvalidParameterError
from sktransfer.samples.base import Samples

__all__ = ["Augmentation", "Augmented", "JoinedAugmentation", "check_augment", "make_augmentation"]

DROPPED = 0.1  # share of the words of a text
IMAGES, TEXTS = ("light", "strong"), ("word_dropout",)


class Augmentation:
    """Augmentation with random numbers that depend only on the seed, the epoch and the row.

    Parameters
    ----------
    change : callable
        Function from a sample to an augmented one. It may draw from torch's CPU generator, which is seeded before and
        restored after.
    seed : int
        Seed of all views.
    """

    def __init__(self, change: Callable[[Any], Any], seed: int) -> None:
        self.change, self.seed = change, seed

    def identity(self) -> list[Any]:
        """Return everything that the views depend on, apart from sample, epoch and row."""
        return [getattr(self.change, "__qualname__", repr(self.change)), self.seed]

    def views(self, samples: Samples, rows: Sequence[int], epoch: int) -> Augmented:
        """Return augmented views of some samples for one epoch.

        Parameters
        ----------
        samples : Samples
            Original samples.
        rows : sequence of int
            Rows to augment.
        epoch : int
            Epoch, counted from 0.
        """
        changed = []
        with torch.random.fork_rng(devices=[]):  # in a training, whose thread owns the generator and waits
            for row in rows:
                torch.default_generator.manual_seed(derive_seed(self.seed, epoch, row))
                changed.append(self.change(samples.load(row)))
        return Augmented(changed)


class JoinedAugmentation:
    """Augmentation of some columns of rows.

    Parameters
    ----------
    columns : mapping of str to Augmentation
        Augmentation by column. The others are not augmented.
    """

    def __init__(self, columns: Mapping[str, Augmentation]) -> None:
        self.columns = dict(columns)

    def identity(self) -> list[Any]:
        """Return everything that the views depend on, apart from sample, epoch and row."""
        return [[name, *one.identity()] for name, one in self.columns.items()]

    def of_column(self, name: str) -> Augmentation | None:
        """Return the augmentation of a column, or None.

        Parameters
        ----------
        name : str
            Name of the column.
        """
        return self.columns.get(name)


class Augmented:
    """Augmented samples of one batch. They equal no other samples.

    Parameters
    ----------
    samples : list
        Images or texts, as preprocessing takes them.
    """

    def __init__(self, samples: list[Any]) -> None:
        self.samples = samples

    def __len__(self) -> int:
        return len(self.samples)

    def load(self, row: int) -> Any:
        """Return one sample."""
        return self.samples[row]

    def key(self, row: int) -> bytes:
        """Return a key that is unique in the batch."""
        return row.to_bytes(20, "big")

    def keys(self, rows: Sequence[int]) -> list[bytes]:
        """Return keys that are unique in the batch."""
        return list(map(self.key, rows))

    def take(self, rows: Sequence[int] | np.ndarray) -> Augmented:
        """Return some of the rows."""
        return Augmented([self.samples[row] for row in rows])


def check_augment(augment: Any, takes: Any) -> Any:
    """Return the function that an `augment` parameter stands for, or None. Those of some columns are a dict.

    Parameters
    ----------
    augment : anything
        Value of the parameter. For rows of columns a dict by column.
    takes : {"image", "text"} or Columns
        Samples of the backbone: its `takes`.

    Raises
    ------
    InvalidParameterError
        If it is no augmentation for these samples.
    """
    if augment is None:
        return None
    if isinstance(takes, str):
        return _BY_MODALITY[takes](augment)
    if not isinstance(augment, Mapping) or not set(augment) <= set(takes.modalities):
        raise InvalidParameterError(
            f"augment={augment!r} must be None or a dict with an augmentation of some of the columns "
            f"{list(takes.modalities)}, such as {{'image': 'light'}}"
        )
    changes = {}
    for name, one in augment.items():
        with naming_tower(name):
            changes[name] = check_augment(one, takes.modalities[name])
    return {name: change for name, change in changes.items() if change is not None}


def make_augmentation(change: Any, seed: int) -> Augmentation | JoinedAugmentation | None:
    """Return the augmentation of a training.

    Parameters
    ----------
    change : callable, dict of str to callable, or None
        Result of `check_augment`.
    seed : int
        Seed of all views.
    """
    if not change:
        return None
    if isinstance(change, Mapping):
        return JoinedAugmentation({name: Augmentation(one, seed) for name, one in change.items()})
    return Augmentation(change, seed)


def _text_augmentation(augment: Any) -> Callable[[Any], Any]:
    if isinstance(augment, str) and augment in TEXTS:
        return drop_words
    raise InvalidParameterError(f"augment={augment!r} must be None or one of {TEXTS}, because X holds texts")


def _image_augmentation(augment: Any) -> Callable[[Any], Any]:
    from torchvision.transforms import v2

    if isinstance(augment, v2.Transform):
        return _OnImages(augment)
    if isinstance(augment, str) and augment in IMAGES:
        shift = v2.RandomAffine(0, translate=(0.1, 0.1), scale=(0.9, 1.1), interpolation=v2.InterpolationMode.BILINEAR)
        steps = [v2.RandomHorizontalFlip(), shift]
        return _OnImages(v2.Compose(steps if augment == "light" else [*steps, v2.RandAugment(), v2.RandomErasing()]))
    raise InvalidParameterError(
        f"augment={augment!r} must be None, one of {IMAGES} or a transform of torchvision.transforms.v2, because X "
        "holds images"
    )


_BY_MODALITY = {"image": _image_augmentation, "text": _text_augmentation}


def drop_words(text: str) -> str:
    """Return a text without about a tenth of its words. At least one word is kept.

    Parameters
    ----------
    text : str
        Text. Words are separated by white space.

    Examples
    --------
    >>> import torch
    >>> from sktransfer.training.augmentation import drop_words
    >>> _ = torch.manual_seed(0)
    >>> drop_words("one two three four five six seven eight nine ten")
    'one two four five six seven eight nine ten'
    """
    words = text.split()
    keep = torch.rand(len(words)) >= DROPPED  # (n_words,)
    if not keep.any() and words:
        keep[int(torch.randint(len(words), ()))] = True
    return " ".join(word for word, kept in zip(words, keep.tolist()) if kept)


class _OnImages:
    """torchvision transform of an image as preprocessing takes it."""

    def __init__(self, transform: Any) -> None:
        self.transform = transform

    def __repr__(self) -> str:
        return repr(self.transform)

    def __call__(self, image: Image.Image | np.ndarray) -> np.ndarray:
        values = np.asarray(image)
        pixels = torch.from_numpy(np.array(values, dtype=np.float32)).permute(2, 0, 1)  # (3, height, width)
        pixels = pixels / 255 if values.dtype == np.uint8 else pixels
        changed = self.transform(pixels)
        if not isinstance(changed, torch.Tensor) or changed.shape[0] != 3 or changed.ndim != 3:
            raise InvalidParameterError(
                f"augment={self.transform!r} must return a tensor (3, height, width), and returned "
                f"{tuple(changed.shape) if isinstance(changed, torch.Tensor) else type(changed).__name__}"
            )
        changed = changed.float() / 255 if changed.dtype == torch.uint8 else changed
        pixels_last: np.ndarray = changed.permute(1, 2, 0).contiguous().numpy()  # (height, width, 3)
        return pixels_last
