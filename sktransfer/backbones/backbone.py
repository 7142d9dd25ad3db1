"""The one idea: a backbone is an ordered list of stages."""

from __future__ import annotations

import hashlib
import math
import numbers
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sktransfer.backbones.pooling import check_pooling
from sktransfer.backbones.preprocess import Preprocess
from sktransfer.backbones.stages import SharedSpace, run_stages
from sktransfer.exceptions import InvalidParameterError, did_you_mean

__all__ = ["Backbone", "replace_stages", "with_max_length"]


class Backbone:
    """A pretrained network as a list of stages: shared by all who use it, and never changed.

    A stage is a module called as `stage(values, mask)`. It sees only what the stage before it gave, and the mask
    (True where a token of a text is real; None for images), so that computing can stop and start at every cut.
    `clone` and `copy.deepcopy` give back the same object, for its weights do not change.

    Parameters
    ----------
    name : str
        As given to `load_backbone`.
    modality : {"image", "text"}
        What its samples are.
    stages : sequence of (str, nn.Module)
        In order from the input. A module that several stages share stands in each; it belongs to the first.
    preprocess : Preprocess
        From validated samples to the tensors that the first stage takes.
    pooling : str
        What `pooling="auto"` means.
    head : nn.Module, default=None
        The network's own last part, called as `head(values, mask)` on the last stage's values; gives logits.
    categories : sequence of str, default=()
        What the head's logits stand for.
    prefix_tokens : int, default=0
        Tokens of an image sequence that stand before the patches; the first is the class token.
    definition : str, default=""
        What tells the stages' computing apart where their weights are equal (a configuration as JSON, say).
    shared_space : SharedSpace, default=None
        Where the last stage's vectors lie in a space with those of texts, as CLIP's do: who makes the latter.

    Examples
    --------
    >>> from sktransfer import load_backbone
    >>> backbone = load_backbone("tiny/cnn")
    >>> backbone.stage_names[:3]
    ('stem', 'block1', 'block2')
    """

    def __init__(
        self,
        *,
        name: str,
        modality: str,
        stages: Sequence[tuple[str, nn.Module]],
        preprocess: Preprocess,
        pooling: str,
        head: nn.Module | None = None,
        categories: Sequence[str] = (),
        prefix_tokens: int = 0,
        definition: str = "",
        shared_space: SharedSpace | None = None,
    ) -> None:
        self.name = name
        self.modality = modality
        self.stage_names = tuple(stage for stage, _ in stages)
        self.stages = nn.ModuleList(module for _, module in stages).eval().requires_grad_(False)
        self.preprocess = preprocess
        self.pooling = check_pooling(pooling, modality)
        self.head = None if head is None else head.eval().requires_grad_(False)
        self.categories = tuple(categories)
        self.prefix_tokens = prefix_tokens
        self.definition = definition
        self.shared_space = shared_space
        self.pretrained = True  # False where the weights are random: BatchNorm then has no statistics worth keeping
        self.origin: tuple[Callable[..., Backbone], tuple[Any, ...]] | None = None  # how unpickling gets it back
        self._hashes: list[bytes] = []
        self.copies: dict[str, nn.ModuleList] = {}  # made ready for other devices and precisions, kept by who runs them

    @classmethod
    def from_modules(
        cls,
        modules: Sequence[tuple[str, nn.Module]],
        *,
        name: str | None = None,
        modality: str = "image",
        input_size: tuple[int, int] | None = None,
        preprocess: Preprocess | Mapping[str, Any] | None = None,
        head: nn.Module | None = None,
        pooling: str = "auto",
        categories: Sequence[str] = (),
    ) -> Backbone:
        """Make a backbone of one's own modules, for use as `backbone=`.

        The modules are copied (in float32, on the CPU; what they share stays shared): they can be trained further, and
        the backbone does not change. `clone` keeps the backbone, pickling takes the weights along. Activations are
        stored for this backbone and its pickles alone, never for another one of the same modules.

        Parameters
        ----------
        modules : sequence of (str, nn.Module)
            The stages by name, in order from the input, such as `list(network.named_children())`. Those of images are
            called as `module(values)`, those of texts as `module(values, mask)`, as are those of images whose `forward`
            has `mask` as second parameter.
        name : str, default=None
            What messages call it; None for "own/network".
        modality : {"image", "text"}, default="image"
            What its samples are.
        input_size : (int, int), default=None
            (height, width) that images are resized to, whatever the ratio of their sides; None leaves their size.
        preprocess : Preprocess or mapping, default=None
            For images an `ImageTransform`, or settings of one. None makes float32 tensors (3, height, width) in [0, 1],
            of `input_size`, without subtracting a mean: a network trained on normalised images needs `{"mean": ...,
            "std": ...}`. Texts need a `TextPreprocess`.
        head : nn.Module, default=None
            Called on pooled values (n, n_features), or as `head(values, mask)` on the last stage's where its `forward`
            has `mask` as second parameter; gives logits.
        pooling : str, default="auto"
            What `pooling="auto"` of an estimator means; "auto" here: "average" for images, "mean" for texts.
        categories : sequence of str, default=()
            What the head's logits stand for.

        Raises
        ------
        InvalidParameterError
            If a parameter is not allowed.

        Examples
        --------
        >>> from torch import nn
        >>> from sktransfer import Backbone
        >>> network = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.ReLU(), nn.Conv2d(8, 16, 3, stride=2))
        >>> Backbone.from_modules([("stem", network[:2]), ("top", network[2])], input_size=(32, 32))
        Backbone('own/network', stages=['stem', 'top'])
        """
        from sktransfer.backbones.from_modules import backbone_of

        return backbone_of(modules, name, modality, input_size, preprocess, head, pooling, categories)

    def run(
        self, values: Tensor, mask: Tensor | None = None, *, start: int = 0, stop: int | None = None
    ) -> Iterator[Tensor]:
        """Yield what each of `stages[start:stop]` gives, in order.

        Parameters
        ----------
        values : Tensor
            What stage `start` takes: preprocessed samples for 0, else what the stage before it gave.
        mask : Tensor of shape (n, tokens), default=None
            True where a token is real; None for images.
        start, stop : int
            Which stages to run, as a slice.
        """
        return run_stages(self.stages[start:stop], values, mask)

    def position(self, layer: int | str) -> int:
        """Return the index of the stage that `layer` names.

        Parameters
        ----------
        layer : int or str
            A Python index (-1 is the last), or a stage's name.

        Raises
        ------
        InvalidParameterError
            If there is no such stage.
        """
        n = len(self.stages)
        if isinstance(layer, str):
            if layer not in self.stage_names:
                raise InvalidParameterError(
                    f"layer={layer!r} is no stage of {self.name}; its stages are {self.stage_names}."
                    + did_you_mean(layer, self.stage_names)
                )
            return self.stage_names.index(layer)
        if isinstance(layer, bool) or not isinstance(layer, numbers.Integral):
            raise InvalidParameterError(f"layer={layer!r} must be an int, a stage's name, 'all' or a list of these")
        if not -n <= layer < n:
            raise InvalidParameterError(
                f"layer={layer} is out of range: {self.name} has {n} stages, so {-n} to {n - 1}"
            )
        return int(layer) % n

    def positions(self, layer: int | str | Sequence[int | str]) -> list[int]:
        """Return the indices of the stages that `layer` names: one, several, or "all".

        Raises
        ------
        InvalidParameterError
            If there is no such stage, or the list is empty.
        """
        if isinstance(layer, str) and layer == "all":
            return list(range(len(self.stages)))
        if isinstance(layer, (list, tuple)):
            if not layer:
                raise InvalidParameterError("layer=[] names no stage; give at least one, or 'all'")
            return [self.position(one) for one in layer]
        return [self.position(layer)]  # type: ignore[arg-type]

    def n_frozen(self, freeze_depth: int | float | str, n_stages: int | None = None) -> int:
        """Return how many of the first `n_stages` stages a freezing depth freezes.

        Parameters
        ----------
        freeze_depth : int, float or str
            A Python slice `stages[:freeze_depth]`; a share in [0, 1]; a stage's name, frozen up to and with it; "all".
        n_stages : int, default=None
            The stages that are kept; None for all.

        Raises
        ------
        InvalidParameterError
            If the depth is out of range, or of no kind above.
        """
        n = len(self.stages) if n_stages is None else n_stages
        kinds = f"an int from {-n} to {n}, a float from 0 to 1, a stage's name or 'all'"
        if isinstance(freeze_depth, str):
            names = self.stage_names[:n]
            if freeze_depth == "all":
                return n
            if freeze_depth not in names:
                raise InvalidParameterError(
                    f"freeze_depth={freeze_depth!r} is no stage of {self.name}; its stages are {names}; give {kinds}."
                    + did_you_mean(freeze_depth, (*names, "all"))
                )
            return names.index(freeze_depth) + 1
        if isinstance(freeze_depth, bool) or not isinstance(freeze_depth, numbers.Real):
            raise InvalidParameterError(f"freeze_depth={freeze_depth!r} is not allowed; give {kinds}")
        if isinstance(freeze_depth, numbers.Integral):
            if not -n <= freeze_depth <= n:
                raise InvalidParameterError(f"freeze_depth={freeze_depth} is out of range for {n} stages; give {kinds}")
            return int(freeze_depth) if freeze_depth >= 0 else n + int(freeze_depth)
        if not 0 <= freeze_depth <= 1:
            raise InvalidParameterError(f"freeze_depth={freeze_depth} is out of range; give {kinds}")
        return math.floor(float(freeze_depth) * n + 1e-9)  # 15/22 of 22 stages is 15, though its product is 14.99…

    def fingerprint(self, stop: int | None = None) -> str:
        """Return a hash of what `stages[:stop]` compute: their order, structure and weights.

        Parameters
        ----------
        stop : int, default=None
            How many stages count; None for all.
        """
        stop = len(self.stages) if stop is None else stop
        hashes = list(self._hashes) or [hashlib.blake2b(self.definition.encode(), digest_size=20).digest()]
        for module in self.stages[len(hashes) - 1 : stop]:  # each goes on from the one before it
            running = hashlib.blake2b(hashes[-1], digest_size=20)
            running.update(repr(module).encode())
            for name, tensor in module.state_dict().items():
                running.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
                running.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
            hashes.append(running.digest())
        self._hashes = hashes
        return hashes[stop].hex()

    def with_preprocess(self, preprocess: Preprocess) -> Backbone:
        """Return a backbone of the same stages with another preprocessing."""
        origin: tuple[Callable[..., Backbone], tuple[Any, ...]] = (Backbone.with_preprocess, (self, preprocess))
        cut = getattr(self.preprocess, "with_max_length", None)
        limit = getattr(preprocess, "limit", None)
        if cut is not None and limit is not None and cut(limit).key == preprocess.key:
            origin = (with_max_length, (self, limit))  # a pickle need not hold a tokenizer that its source has
        return self._changed(preprocess=preprocess, origin=origin)

    def _changed(self, **attributes: Any) -> Backbone:
        other = Backbone.__new__(Backbone)
        other.__dict__.update(self.__dict__, **attributes)
        return other

    def __sklearn_clone__(self) -> Backbone:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Backbone:
        return self

    def __copy__(self) -> Backbone:
        return self

    def __reduce__(self) -> tuple[Callable[..., Backbone], tuple[Any, ...]]:
        if self.origin is not None:
            return self.origin
        return _restored, ({**self.__dict__, "copies": {}},)  # they are made anew when they are wanted

    def __repr__(self) -> str:
        return f"Backbone({self.name!r}, stages={list(self.stage_names)})"


def _restored(state: dict[str, Any]) -> Backbone:
    backbone = Backbone.__new__(Backbone)
    backbone.__dict__.update(state)
    return backbone


def replace_stages(source: Backbone, first: int, modules: Sequence[nn.Module]) -> Backbone:
    """Return a backbone whose stages from `first` on are others; the stages below are the source's own.

    Parameters
    ----------
    source : Backbone
        Where all the rest comes from.
    first : int
        The first stage that is replaced.
    modules : sequence of nn.Module
        The new stages; the backbone ends with the last of them. They are switched to `eval()` and without gradients.

    Raises
    ------
    InvalidParameterError
        If the source has no such stages.
    """
    stop, n = first + len(modules), len(source.stages)
    if not 0 <= first <= stop <= n:
        raise InvalidParameterError(f"stages {first} to {stop} cannot be replaced: {source.name} has {n} stages")
    changes: dict[str, Any] = {} if stop == n else {"head": None, "categories": (), "shared_space": None}
    stages = nn.ModuleList([*source.stages[:first], *modules]).eval().requires_grad_(False)
    origin = (replace_stages, _collapsed(source, first, list(modules)))
    names = source.stage_names[:stop]
    hashes = source._hashes[: first + 1]
    return source._changed(stages=stages, stage_names=names, origin=origin, _hashes=hashes, copies={}, **changes)


def with_max_length(source: Backbone, max_length: int) -> Backbone:
    """Return a backbone that reads no more than so many tokens of a text.

    Parameters
    ----------
    source : Backbone
        Of texts.
    max_length : int
        As its preprocessing takes it.
    """
    return source.with_preprocess(source.preprocess.with_max_length(max_length))  # type: ignore[attr-defined]


def _collapsed(source: Backbone, first: int, modules: list[nn.Module]) -> tuple[Backbone, int, list[nn.Module]]:
    """Return what makes the same backbone of one whose stages were never replaced.

    Training goes on from what training has left: each step would else keep all that came before it.
    """
    if source.origin is None or source.origin[0] is not replace_stages:
        return source, first, modules
    base, lowest, replaced = source.origin[1]
    return base, min(lowest, first), [*replaced[: max(0, first - lowest)], *modules]
