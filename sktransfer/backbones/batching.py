"""Batching per modality: reading samples, batch costs, and padding or stacking to a batch.

The engine asks these methods and knows no modality. A preprocessing of another kind of samples brings its own, as an
attribute `batching`.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from sktransfer.backbones.preprocess import ImageTransform, Preprocess, TextPreprocess
from sktransfer.exceptions import (
    DarkImageWarning,
    InvalidParameterError,
    ReducedImageWarning,
    SktransferWarning,
    UnknownWordsWarning,
)
from sktransfer.samples.images import ImageSamples

__all__ = ["BATCHING", "Batching", "ImageBatching", "TextBatching", "batching_of"]

# Photos, with a shorter side of more than 128 pixels, lose details if most of them are reduced more than 4 times to 64
# pixels or fewer. Backbones that read 224 pixels reduce large photos as much, and lose little.
_REDUCTION, _LARGE_SIDE, _SMALL_SIDE = 4, 128, 64
_DARK = 0.25  # share of the range of values below which all images together are almost black
_MOSTLY = 0.5  # share of unknown tokens from which a text counts as unknown
_UNKNOWN_SHARE = 0.01  # of the texts: fewer unknown ones, such as single emoji, are part of ordinary data
_USUAL_SIDE = 224  # pixels; images whose size the preprocessing leaves open are taken for this size


class Batching(Protocol):
    """Interface of the batching of one modality.

    Attributes
    ----------
    cost_unit : {"tokens", "pixels"}
        Unit of `batch_costs`.
    is_ragged : bool
        Whether samples differ in length, so that they are read and sorted before batches are formed.
    is_cheap : bool
        Whether reading and hashing a sample takes next to no time. Equal samples are then always computed once, and
        the preprocessed samples are neither cached nor looked up.
    """

    cost_unit: str
    is_ragged: bool
    is_cheap: bool

    def prepare(self, preprocess: Any, samples: Any) -> Any:
        """Return the samples as the preprocessing wants them to be loaded."""

    def read(self, preprocess: Any, samples: Sequence[Any]) -> tuple[list[Tensor], list[bool]]:
        """Return one tensor per sample, and whether the sample was truncated."""

    def observe(self, preprocess: Any, samples: Sequence[Any], tensors: Sequence[Tensor]) -> list[Any]:
        """Return what `remarks` needs to know of each sample, false if it is fine; an empty list for nothing."""

    def remarks(self, preprocess: Any, observed: Sequence[Any], n_samples: int) -> list[SktransferWarning]:
        """Return warnings about samples that are read with a loss which they as a whole reveal.

        Samples with cached outputs are not read, so `n_samples`, the number of all, may exceed that of `observed`.
        """

    def lengths(self, tensors: Sequence[Tensor]) -> list[int]:
        """Return the number of tokens per sample; 0 if samples have no length."""

    def batch_costs(self, preprocess: Any, tensors: Sequence[Tensor | None]) -> list[int]:
        """Return the cost per sample of a batch, in `cost_unit`."""

    def collate(self, tensors: Sequence[Tensor], pad_value: int = 0) -> tuple[Tensor, Tensor | None]:
        """Return a batch (n, ...) and its mask (n, tokens), or None for modalities without a mask."""

    def truncation_message(self, preprocess: Any, n_truncated: int, n_samples: int) -> str:
        """Return the message of the warning about truncated samples."""


class TextBatching:
    """Batches of texts: sorted by length, padded on the right, masked."""

    cost_unit = "tokens"
    is_ragged = True
    is_cheap = True  # tokenising takes less time than a lookup

    def prepare(self, preprocess: TextPreprocess, samples: Any) -> Any:
        """Return the samples unchanged."""
        return samples

    def read(self, preprocess: TextPreprocess, samples: Sequence[str]) -> tuple[list[Tensor], list[bool]]:
        """Return token ids (tokens,) per text, and whether the text was truncated."""
        return preprocess.tokenize(samples)

    def observe(self, preprocess: TextPreprocess, samples: Sequence[str], tensors: Sequence[Tensor]) -> list[Any]:
        """Return whether at least half of the tokens of each text are unknown to the model.

        A preprocessing without the method `unknown_share` knows all tokens. An empty text has no tokens.
        """
        share = getattr(preprocess, "unknown_share", None)
        if share is None:
            return []
        return [share(ids) >= _MOSTLY and self.has_words(text) for text, ids in zip(samples, tensors)]

    def has_words(self, sample: Any) -> bool:
        """Return whether a text holds anything that may be unknown."""
        return not sample.isspace() and sample != ""

    def remarks(self, preprocess: TextPreprocess, observed: Sequence[bool], n_samples: int) -> list[SktransferWarning]:
        """Return a warning about texts in a script that the model does not know."""
        n_unknown = sum(observed)
        if not n_unknown or n_unknown < _UNKNOWN_SHARE * n_samples:
            return []
        return [
            UnknownWordsWarning(
                f"{n_unknown} of {n_samples} texts consist mostly of tokens unknown to this model, as texts in "
                "another script do, and get nearly the same features. To read them, use a multilingual model such as "
                "'hf/sentence-transformers/paraphrase-multilingual-MiniLM-L12-v2', or train on these texts: "
                'WordEmbedder(model="fasttext"), or TfidfVectorizer(analyzer="char_wb") of scikit-learn.'
            )
        ]

    def lengths(self, tensors: Sequence[Tensor]) -> list[int]:
        """Return the number of tokens per text; 1 for texts that a stage has pooled to vectors."""
        return [1 if _is_vector(tensor) else tensor.shape[0] for tensor in tensors]  # len() would pass through Python

    def batch_costs(self, preprocess: TextPreprocess, tensors: Sequence[Tensor | None]) -> list[int]:
        """Return the number of tokens per text."""
        return self.lengths([tensor for tensor in tensors if tensor is not None])

    def collate(self, tensors: Sequence[Tensor], pad_value: int = 0) -> tuple[Tensor, Tensor | None]:
        """Pad the tensors of texts to a batch.

        Parameters
        ----------
        tensors : sequence of Tensor
            One per text: token ids (tokens,), values (tokens, channels), or vectors (channels,) after a stage that
            pools.
        pad_value : int, default=0
            Value that pads the shorter texts.

        Returns
        -------
        values : Tensor of shape (n, tokens, ...) or (n, channels)
        mask : Tensor of shape (n, tokens)
            True where a token is real. (n, 1) for vectors.
        """
        if _is_vector(tensors[0]):
            return torch.stack(list(tensors)), torch.ones(len(tensors), 1, dtype=torch.bool)  # (n, channels), (n, 1)
        lengths = [tensor.shape[0] for tensor in tensors]
        if min(lengths) == max(lengths):
            mask = torch.ones(len(lengths), lengths[0], dtype=torch.bool)  # (n, tokens)
            return torch.stack(list(tensors)), mask  # (n, tokens, ...), (n, tokens)
        values = pad_sequence(list(tensors), batch_first=True, padding_value=pad_value)  # (n, tokens, ...)
        return values, torch.arange(values.shape[1]) < torch.tensor(lengths)[:, None]  # (n, tokens)

    def truncation_message(self, preprocess: TextPreprocess, n_truncated: int, n_samples: int) -> str:
        """Return the message of the warning about truncated texts, with the remedies that this model allows."""
        limit, largest = preprocess.limit, preprocess.with_max_length(None).limit
        most, remedy = ", the most that this model reads", "Split the texts, or use a model that reads longer ones."
        if largest > limit:
            most, remedy = "", f"Set a larger max_length, up to {largest}, or split the texts."
        return (
            f"{n_truncated} of {n_samples} texts are longer than {limit} tokens{most}, and the rest of each is not "
            f"read. {remedy}"
        )


class ImageBatching:
    """Batches of images: stacked, all of one size."""

    cost_unit = "pixels"
    is_ragged = False
    is_cheap = False  # images are decoded by the workers, and hashed only for a store

    def prepare(self, preprocess: Preprocess, samples: Any) -> Any:
        """Return the samples on the background of the preprocessing, if it has one."""
        if isinstance(samples, ImageSamples) and hasattr(preprocess, "background"):
            return samples.with_background(preprocess.background)
        return samples

    def read(self, preprocess: Preprocess, samples: Sequence[Any]) -> tuple[list[Tensor], list[bool]]:
        """Return one tensor (3, height, width) per image. Images are never truncated."""
        return preprocess(samples), [False] * len(samples)

    def observe(
        self, preprocess: Preprocess, samples: Sequence[Image.Image | np.ndarray], tensors: Sequence[Tensor]
    ) -> list[tuple[float, float]]:
        """Return how many times each image is reduced, and the share of the range of values that it uses."""
        return [(_reduction(preprocess, image), _brightness(image)) for image in samples]

    def remarks(
        self, preprocess: Any, observed: Sequence[tuple[float, float]], n_samples: int
    ) -> list[SktransferWarning]:
        """Return warnings about photos that are reduced to very few pixels, and about almost black images.

        One image does not decide: the median of the reductions does, and the brightest pixel of all images.
        """
        found: list[SktransferWarning] = []
        if not observed:
            return found
        reductions, brightness = zip(*observed)
        if statistics.median(reductions) > _REDUCTION:
            found.append(ReducedImageWarning(_size_text(preprocess)))
        if 0 < max(brightness) < _DARK:  # 0: a black image can be of any range
            found.append(DarkImageWarning(len(observed), max(brightness)))
        return found

    def lengths(self, tensors: Sequence[Tensor]) -> list[int]:
        """Return 0 per image."""
        return [0] * len(tensors)

    def batch_costs(self, preprocess: Preprocess, tensors: Sequence[Tensor | None]) -> list[int]:
        """Return the number of pixels per image, the same for all."""
        size = getattr(preprocess, "crop", None) or getattr(preprocess, "resize", None) or _USUAL_SIDE
        height, width = size if isinstance(size, tuple) else (size, size)
        return [height * width] * len(tensors)

    def collate(self, tensors: Sequence[Tensor], pad_value: int = 0) -> tuple[Tensor, Tensor | None]:
        """Stack the tensors of images to a batch without a mask.

        Parameters
        ----------
        tensors : sequence of Tensor
            One per image, of any shape, the same for all.
        pad_value : int, default=0
            Not used.

        Returns
        -------
        values : Tensor of shape (n, ...)
        mask : None

        Raises
        ------
        InvalidParameterError
            If the images differ in size.
        """
        shapes = {tuple(tensor.shape) for tensor in tensors}
        if len(shapes) > 1:
            raise InvalidParameterError(
                f"images of one batch have different sizes {sorted(shapes)}. "
                "Set preprocess={'resize': (height, width)} so that all get the same size"
            )
        return torch.stack(list(tensors)), None  # (n, ...)

    def truncation_message(self, preprocess: Preprocess, n_truncated: int, n_samples: int) -> str:
        """Return no message, because images are never truncated."""
        return ""


BATCHING: dict[str, Batching] = {"image": ImageBatching(), "text": TextBatching()}


def batching_of(preprocess: Preprocess) -> Batching:
    """Return the batching of a preprocessing: its attribute `batching`, else that of texts or of images."""
    own: Batching | None = getattr(preprocess, "batching", None)
    if own is not None:
        return own
    # `isinstance` with a protocol takes as long as tokenizing a text.
    return BATCHING["text" if hasattr(preprocess, "tokenize") else "image"]


def _reduction(preprocess: Any, image: Image.Image | np.ndarray) -> float:
    """Return the ratio of the shorter sides before and after resizing; 1 unless a large image becomes very small."""
    if not isinstance(preprocess, ImageTransform):
        return 1.0
    height, width = (image.height, image.width) if isinstance(image, Image.Image) else image.shape[:2]
    side = min(preprocess.resized_size(height, width))
    return min(height, width) / side if side <= _SMALL_SIDE and min(height, width) > _LARGE_SIDE else 1.0


def _brightness(image: Image.Image | np.ndarray) -> float:
    """Return the largest value of an image as a share of the largest possible value; 1 if it is not dark."""
    if not isinstance(image, Image.Image):
        return float(image.max())
    centre: Any = image.getpixel((image.width // 2, image.height // 2))
    if max(centre) >= 255 * _DARK:
        return 1.0
    some = image.resize((8, 8), Image.Resampling.NEAREST)  # of a photo, these pixels suffice
    if _brightest(some) >= 255 * _DARK:
        return 1.0
    return _brightest(image) / 255


def _brightest(image: Image.Image) -> float:
    """Return the largest value of a PIL image in mode RGB."""
    ranges: Any = image.getextrema()  # of each colour
    return float(max(high for _, high in ranges))


def _size_text(preprocess: ImageTransform) -> str:
    size = preprocess.crop or preprocess.resize
    return f"{size[0]} x {size[1]} pixels" if isinstance(size, tuple) else f"a shorter side of {size} pixels"


def _is_vector(tensor: Tensor) -> bool:
    return tensor.ndim == 1 and tensor.is_floating_point()
