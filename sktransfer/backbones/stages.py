"""Building blocks of backbones: stages, heads and shared spaces, and helpers for them."""

from __future__ import annotations

import contextlib
import hashlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sktransfer._validation import is_int, is_real
from sktransfer.backbones.pooling import pool
from sktransfer.exceptions import InvalidParameterError, SktransferError, did_you_mean

__all__ = [
    "ImageStage",
    "OnlyTower",
    "PooledHead",
    "SharedSpace",
    "count_frozen",
    "digest",
    "find_stage",
    "n_changes",
    "naming_tower",
    "of_tower",
    "run_stages",
    "watch",
    "with_arrays",
    "with_tensors",
]


class ImageStage(nn.Module):
    """Modules run one after the other on values alone, because images have no mask.

    Parameters
    ----------
    *modules : nn.Module
        Modules of a pretrained network that belong to the stage, in order.
    """

    def __init__(self, *modules: nn.Module) -> None:
        super().__init__()
        self.body = nn.Sequential(*modules)

    def forward(self, values: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the output of the last module."""
        out: Tensor = self.body(values)
        return out


class PooledHead(nn.Module):
    """The network's own head on the pooled last stage.

    Parameters
    ----------
    layers : nn.Module
        Layers from pooled values (n, n_features) to logits (n, n_categories).
    pooling : str
        Pooling of the last stage.
    prefix_tokens : int, default=0
        Number of tokens of an image sequence before the patches.
    """

    def __init__(self, layers: nn.Module, pooling: str, prefix_tokens: int = 0) -> None:
        super().__init__()
        self.layers, self.pooling, self.prefix_tokens = layers, pooling, prefix_tokens

    def forward(self, values: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return logits (n, n_categories)."""
        logits: Tensor = self.layers(pool(values, mask, self.pooling, prefix_tokens=self.prefix_tokens))
        return logits


def run_stages(
    stages: Iterable[nn.Module],
    values: Tensor,
    mask: Tensor | None,
    explain: Callable[[int, Tensor, Exception], Exception] | None = None,
) -> Iterator[Tensor]:
    """Yield the output of each stage, in order.

    Parameters
    ----------
    stages : iterable of nn.Module
        Stages of a backbone, or a copy of them.
    values : Tensor
        Input of the first stage.
    mask : Tensor of shape (n, tokens) or None
        True where a token is real. None for images.
    explain : callable, default=None
        Called with the index of a stage that failed, its input and its error. Returns the error to raise. None raises
        errors as they are.
    """
    for index, stage in enumerate(stages):
        try:
            output = stage(values, mask)
        except (RuntimeError, TypeError, ValueError, IndexError) as error:
            if explain is None or isinstance(error, SktransferError):
                raise
            explained = explain(index, values, error)
            raise explained from (None if explained is error else error)
        if explain is not None:
            _check_output(stage, values, output)
        values = output
        yield values


def _check_output(stage: nn.Module, values: Tensor, output: Any) -> None:
    """Raise unless the output of a stage is one tensor with a row per sample."""
    if isinstance(output, Tensor):
        if output.ndim in (2, 3, 4) and len(output) == len(values):
            return
        given = f"a tensor of shape {tuple(output.shape)} for {len(values)} samples"
    else:
        given = f"a {type(output).__name__}"
    own = stage.body[0] if isinstance(stage, ImageStage) else stage
    raise InvalidParameterError(
        f"the stage {type(own).__name__} returns {given}. A stage returns one tensor with a row per sample: features "
        "(n, channels), tokens (n, tokens, channels) or maps (n, channels, height, width)"
    )


@dataclass(frozen=True)
class SharedSpace:
    """Vector space in which the samples of a backbone are compared with texts by the cosine.

    A network of two towers is two backbones, each with its own stages. Only their shared space joins them.

    Parameters
    ----------
    texts : str
        Name of the backbone that maps texts into the space.
    scale : float
        Factor of the cosines before a softmax.

    Examples
    --------
    >>> from sktransfer.backbones import SharedSpace
    >>> SharedSpace(texts="clip/openai/clip-vit-base-patch32#text", scale=100.0).scale
    100.0
    """

    texts: str
    scale: float


class OnlyTower:
    """Towers of a backbone that is not joined. It is its only tower, named None, so that code loops over towers."""

    modality: str
    stages: nn.ModuleList

    @property
    def towers(self) -> Mapping[Any, Any]:
        """Backbone of each column by its name."""
        return {None: self}

    @property
    def networks(self) -> Sequence[tuple[tuple[Any, ...], Any]]:
        """Networks in the order of `stages`, each with the names of the towers that share it."""
        return [((None,), self)]

    @property
    def takes(self) -> Any:
        """Samples that `check_samples` validates: "image", "text", or the `Columns` of a joined backbone."""
        return self.modality

    def by_tower(self, name: str, value: Any) -> Mapping[Any, Any]:
        """Return the value of a parameter for each tower.

        Parameters
        ----------
        name : str
            Name of the parameter, for messages.
        value : object
            Its value. For a joined backbone one value for all towers, or a dict by tower.
        """
        return {None: value}

    def trains(self, boundary: Any) -> list[bool]:
        """Return whether each of `stages` is above a freezing boundary.

        Parameters
        ----------
        boundary : int or dict of str to int
            Number of frozen stages, of a joined backbone by tower.
        """
        return [
            index >= of_tower(boundary, names[0])
            for names, network in self.networks
            for index in range(len(network.stages))
        ]

    def with_networks(self, networks: Sequence[Any]) -> Any:
        """Return a backbone of changed networks.

        Parameters
        ----------
        networks : sequence of Backbone
            In the order of `networks`.
        """
        (network,) = networks
        return network


def count_frozen(freeze_depth: Any, stage_names: Sequence[str], n: int, name: str) -> int:
    """Return the number of frozen stages, for `Backbone.n_frozen`.

    Parameters
    ----------
    freeze_depth : int, float or str
        As users give it.
    stage_names : sequence of str
        Names of all stages.
    n : int
        Number of first stages that are used.
    name : str
        Name of the backbone, for messages.

    Raises
    ------
    InvalidParameterError
        If the depth is out of range or has another type.
    """
    kinds = f"an int from {-n} to {n}, a float from 0 to 1, a stage's name or 'all'"
    if isinstance(freeze_depth, str):
        names = stage_names[:n]
        if freeze_depth == "all":
            return n
        if freeze_depth in stage_names and freeze_depth not in names:
            raise InvalidParameterError(
                f"freeze_depth={freeze_depth!r} is above the last stage that is used, {names[-1]!r}, because "
                f"`layer` leaves out the stages above; give a stage of {names}, or a higher layer"
            )
        if freeze_depth not in names:
            raise InvalidParameterError(
                f"freeze_depth={freeze_depth!r} is not a stage of {name}, which has {names}; give {kinds}."
                + did_you_mean(freeze_depth, (*names, "all"))
            )
        return names.index(freeze_depth) + 1
    if not is_real(freeze_depth):
        raise InvalidParameterError(f"freeze_depth={freeze_depth!r} is not allowed; give {kinds}")
    if is_int(freeze_depth):
        if not -n <= freeze_depth <= n:
            raise InvalidParameterError(f"freeze_depth={freeze_depth} is out of range for {n} stages; give {kinds}")
        return int(freeze_depth) if freeze_depth >= 0 else n + int(freeze_depth)
    if not 0 <= freeze_depth <= 1:
        raise InvalidParameterError(f"freeze_depth={freeze_depth} is out of range; give {kinds}")
    return math.floor(float(freeze_depth) * n + 1e-9)  # 15/22 of 22 stages is 15, though the product is 14.99…


def find_stage(layer: Any, stage_names: Sequence[str], name: str, *, several: bool = False) -> int:
    """Return the index of a stage, for `Backbone.position`.

    Parameters
    ----------
    layer : int or str
        As users give it.
    stage_names : sequence of str
        Names of all stages.
    name : str
        Name of the backbone, for messages.
    several : bool, default=False
        Whether several layers are allowed as well, for messages.

    Raises
    ------
    InvalidParameterError
        If there is no such stage.
    """
    n = len(stage_names)
    if isinstance(layer, str):
        if layer not in stage_names:
            raise InvalidParameterError(
                f"layer={layer!r} is not a stage of {name}; its stages are {tuple(stage_names)}."
                + " 'all' is all of them, and 'auto' lets a featurizer or tuner choose." * several
                + did_you_mean(layer, stage_names)
            )
        return stage_names.index(layer)
    if not is_int(layer):
        raise InvalidParameterError(
            f"layer={layer!r} must be an int or a stage's name"
            + ", a list of these, 'all', or 'auto' if an estimator chooses" * several
        )
    if not -n <= layer < n:
        raise InvalidParameterError(f"layer={layer} is out of range: {name} has {n} stages, so {-n} to {n - 1}")
    return int(layer) % n


@contextlib.contextmanager
def naming_tower(tower: str | None) -> Iterator[None]:
    """Name the tower of a joined backbone in errors about parameters that are raised in this context.

    Parameters
    ----------
    tower : str or None
        Name of the tower. None for a backbone that is not joined.
    """
    try:
        yield
    except InvalidParameterError as error:
        if tower is None:
            raise
        raise InvalidParameterError(f"tower {tower!r}: {error}") from error


def of_tower(value: Any, tower: str | None) -> Any:
    """Return the value for one tower: that of a dict by tower, or else the same for all.

    Parameters
    ----------
    value : object
        Value of a parameter, or freezing boundary.
    tower : str or None
        Name of the tower. None for a backbone that is not joined.

    Examples
    --------
    >>> from sktransfer.backbones.stages import of_tower
    >>> of_tower({"text": 2, "image": 5}, "image"), of_tower(3, None)
    (5, 3)
    """
    return value[tower] if isinstance(value, Mapping) else value


def digest(start: bytes, module: nn.Module) -> bytes:
    """Return a hash of structure and weights of a module that continues another hash.

    Parameters
    ----------
    start : bytes
        The other hash, or b"".
    module : nn.Module
        Module on any device.
    """
    running = hashlib.blake2b(start, digest_size=20)
    running.update(repr(module).encode())
    for name, tensor in module.state_dict().items():
        running.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        running.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return running.digest()


_VERSION = attrgetter("_version")  # number of changes in place, which torch counts per tensor


def n_changes(tensors: Iterable[Tensor]) -> int:
    """Return the sum of the numbers of changes in place of tensors."""
    return sum(map(_VERSION, tensors))


def watch(stages: nn.Module) -> tuple[list[Tensor], int]:
    """Return the tensors of stages, and the sum of the numbers of their changes in place."""
    tensors = [one for one in (*stages.parameters(), *stages.buffers()) if not one.is_inference()]
    return tensors, n_changes(tensors)


def with_arrays(value: Any) -> Any:
    """Return a value with its tensors as arrays, because skops does not write tensors."""
    if isinstance(value, Mapping):
        return {name: with_arrays(one) for name, one in value.items()}
    return value.detach().cpu().contiguous().numpy() if isinstance(value, Tensor) else value


def with_tensors(value: Any) -> Any:
    """Return a value with its arrays as tensors."""
    if isinstance(value, Mapping):
        return {name: with_tensors(one) for name, one in value.items()}
    return torch.from_numpy(value) if isinstance(value, np.ndarray) else value
