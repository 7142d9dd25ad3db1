"""Backbone: a pretrained network as an ordered list of stages."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sktransfer._deferred import Deferred, defer
from sktransfer.backbones.from_modules import backbone_arguments, has_statistics, is_own, misfit
from sktransfer.backbones.language import HeldHead, LanguageModelHead, rebind
from sktransfer.backbones.pooling import check_pooling
from sktransfer.backbones.preprocess import Preprocess
from sktransfer.backbones.stages import (
    OnlyTower,
    SharedSpace,
    count_frozen,
    digest,
    find_stage,
    n_changes,
    run_stages,
    watch,
    with_arrays,
    with_tensors,
)
from sktransfer.exceptions import InvalidParameterError, LoadError
from sktransfer.weights.reading import copy_state

__all__ = ["Backbone", "replace_stages", "restore_stages", "with_max_length", "with_preprocess"]


class Backbone(OnlyTower, Deferred):
    """A pretrained network as a list of stages, shared by all its users and never changed.

    A stage is a module called as `stage(values, mask)`. Its inputs are only the output of the stage before it and the
    mask (True where a token of a text is real, None for images), so that computation can stop and resume after every
    stage. `clone` and `copy.deepcopy` return the same object, because its weights do not change. A pickle refers to
    pretrained weights by name and hash. They are loaded and verified when the unpickled backbone is first used.

    Do not change weights in place: the fingerprint, which caches depend on, is taken at the first use, and taken anew
    only after changes that torch counts, not after those of `tensor.data`. To train a network yourself, train its own
    modules, then use `Backbone.from_modules`, or save the weights and use `load_backbone(name, weights=path)`.

    Parameters
    ----------
    name : str
        Name that `load_backbone` takes.
    modality : {"image", "text"}
        Kind of samples.
    stages : sequence of (str, nn.Module)
        Named stages in order from the input. A module that several stages share belongs to the first of them.
    preprocess : Preprocess
        Converts validated samples to the tensors that the first stage takes.
    pooling : str
        Pooling that `pooling="auto"` selects.
    head : nn.Module, default=None
        The network's own head, called as `head(values, mask)` on the last stage's values. Returns logits
        (n, n_categories).
    categories : sequence of str, default=()
        Names of the head's logits.
    prefix_tokens : int, default=0
        Number of tokens of an image sequence before the patches. The first of them is the class token.
    definition : str, default=""
        Distinguishes networks of equal structure and weights that compute different values, such as a configuration as
        JSON. It is part of the fingerprint.
    shared_space : SharedSpace, default=None
        Space that the last stage's vectors share with those of a backbone of texts, as in CLIP.
    unit_length : bool, default=False
        Whether the network scales the pooled values of its last stage to length 1, as many sentence encoders do.
    lm_head : LanguageModelHead or callable, default=None
        Head that predicts tokens, or a function without arguments that returns it (None if the weights have none). The
        function runs when `lm_head` is first read. Its draws are seeded.

    Examples
    --------
    >>> from sktransfer import load_backbone
    >>> backbone = load_backbone("tiny/cnn")
    >>> backbone.stage_names[:3]
    ('stem', 'block1', 'block2')
    """

    _ATTRIBUTES = frozenset(
        {"name", "modality", "stage_names", "stages", "preprocess", "pooling", "head", "categories", "prefix_tokens"}
        | {"definition", "shared_space", "unit_length", "pretrained", "origin", "copies"}
        | {"_lm_head", "_hashes", "_watched", "_version"}
    )

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
        unit_length: bool = False,
        lm_head: LanguageModelHead | Callable[[], LanguageModelHead | None] | None = None,
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
        self.unit_length = unit_length
        self._lm_head = None if lm_head is None else HeldHead(lm_head)
        self.pretrained = True  # False for random weights, whose BatchNorm statistics are not worth keeping
        self.origin: tuple[Callable[..., Backbone], tuple[Any, ...]] | None = (
            None  # callable and arguments for unpickling
        )
        self._hashes: list[bytes] = []
        self._watched, self._version = watch(self.stages)
        self.copies: dict[str, nn.ModuleList] = {}  # copies for other devices and precisions, kept by the engine

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
        lm_head: LanguageModelHead | None = None,
    ) -> Backbone:
        """Make a backbone of your own modules, for use as `backbone=`.

        The modules are copied (in float32, on the CPU, shared tensors stay shared). Training them further does not
        change the backbone. `clone` keeps the backbone, and pickling includes the weights. `sktransfer.save` refuses
        it, because a file without code cannot describe your modules: use joblib.dump, or offer the network as a plugin.
        Cache entries belong to this backbone and its pickles only, never to another one of the same modules.

        Images are not normalised unless `preprocess` says so. A network whose `forward` does more than run its children
        in order, such as the flattening before the last layer of a ResNet, needs a module for that, or its last layer
        as `head`.

        Parameters
        ----------
        modules : sequence of (str, nn.Module)
            Named stages in order from the input, such as `list(network.named_children())`. Stages for images are called
            as `module(values)`. Stages for texts, and those whose `forward` has `mask` as second parameter, are called
            as `module(values, mask)`.
        name : str, default=None
            Name in messages. None for "own/network".
        modality : {"image", "text"}, default="image"
            Kind of samples.
        input_size : (int, int), default=None
            (height, width) that images are resized to, without keeping their aspect ratio. None keeps their size.
        preprocess : Preprocess or mapping, default=None
            For images an `ImageTransform`, or settings of one. None makes float32 tensors (3, height, width) in [0, 1],
            of `input_size`, without subtracting a mean. A network trained on normalised images needs `{"mean": ...,
            "std": ...}`. Texts need a `TextPreprocess`.
        head : nn.Module, default=None
            Called on pooled values (n, n_features), or as `head(values, mask)` on the last stage's values if `mask` is
            the second parameter of its `forward`. Returns logits (n, n_categories).
        pooling : str, default="auto"
            Pooling that `pooling="auto"` of an estimator selects. "auto" here is "average" for images and "mean" for
            texts.
        categories : sequence of str, default=()
            Names of the head's logits.
        lm_head : LanguageModelHead, default=None
            Head that predicts tokens. A parameter that is also one of a stage stays tied to it.

        Returns
        -------
        backbone : Backbone

        Raises
        ------
        InvalidParameterError
            If a parameter is not valid.

        Examples
        --------
        >>> from torch import nn
        >>> from sktransfer import Backbone
        >>> network = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.ReLU(), nn.Conv2d(8, 16, 3, stride=2))
        >>> Backbone.from_modules([("stem", network[:2]), ("top", network[2])], input_size=(32, 32))
        Backbone('own/network', stages=['stem', 'top'])
        """
        arguments = backbone_arguments(
            modules, name, modality, input_size, preprocess, head, pooling, categories, lm_head
        )
        backbone = cls(**arguments)
        backbone.pretrained = all(has_statistics(part) for part in (backbone.stages, backbone.head) if part is not None)
        return backbone

    @classmethod
    def join(cls, towers: Mapping[str, Backbone | str], *, missing: str = "error") -> Backbone:
        """Join backbones of several columns to one backbone for rows, whose features meet in one head.

        Each backbone is a tower. A network under two names is shared. Its weights exist once, and the gradients of both
        columns are summed. `JoinedBackbone` describes rows, parameters of a tower, and rows without a part.

        Parameters
        ----------
        towers : dict of str to Backbone or str
            Backbone of each column, at least two. Names are loaded.
        missing : {"error", "zero"}, default="error"
            Treatment of a row in which a column is missing (None or NaN). "zero" gives a zero vector in place of the
            features, which is their mean after scaling. A row without any column is refused.

        Returns
        -------
        joined : JoinedBackbone

        Raises
        ------
        InvalidParameterError
            If a parameter is not valid.

        Examples
        --------
        >>> from sktransfer import Backbone, load_backbone
        >>> Backbone.join({"text": load_backbone("tiny/bert"), "image": load_backbone("tiny/cnn")}).name
        'join(text=tiny/bert, image=tiny/cnn)'
        """
        from sktransfer.backbones import JoinedBackbone  # a subclass

        return JoinedBackbone(towers, missing)

    @property
    def lm_head(self) -> LanguageModelHead | None:
        """Head that predicts tokens from the last stage's values, or None. Its `kind` is "masked" or "causal".

        It is read when it is first asked for. Fine-tuning for another task keeps it, tied to the trained stages, but
        does not train it.

        Raises
        ------
        WeightsError
            If its weights cannot be read.
        """
        return None if self._lm_head is None else self._lm_head.get(self.name, self._seed)

    def _seed(self) -> int:
        return int(self.fingerprint()[:8], 16)  # weights that are drawn late depend on those that were drawn before

    def run(
        self, values: Tensor, mask: Tensor | None = None, *, start: int = 0, stop: int | None = None
    ) -> Iterator[Tensor]:
        """Yield the output of each of `stages[start:stop]`, in order.

        Parameters
        ----------
        values : Tensor
            Input of stage `start`: preprocessed samples for 0, else the output of the stage before it.
        mask : Tensor of shape (n, tokens), default=None
            True where a token is real. None for images.
        start, stop : int
            Slice of the stages to run.
        """
        return run_stages(self.stages[start:stop], values, mask, self.explainer(start))

    def explainer(self, start: int = 0) -> Callable[[int, Tensor, Exception], Exception] | None:
        """Return what `run_stages` takes as `explain`: a message for a user's own modules, None for other networks.

        Parameters
        ----------
        start : int, default=0
            Index of the first stage that runs.
        """
        return (lambda index, *rest: self._explain(start + index, *rest)) if is_own(self.definition) else None

    def _explain(self, index: int, values: Tensor, error: Exception) -> Exception:
        if isinstance(error, torch.OutOfMemoryError) or "memory" in str(error):
            return error
        return misfit(self.stage_names[index], self.stages[index], values, error)

    def position(self, layer: int | str) -> int:
        """Return the index of a stage.

        Parameters
        ----------
        layer : int or str
            A Python index (-1 is the last), or a stage's name.

        Raises
        ------
        InvalidParameterError
            If there is no such stage.
        """
        return find_stage(layer, self.stage_names, self.name)

    def positions(self, layer: int | str | Sequence[int | str]) -> list[int]:
        """Return the indices of one stage, several stages, or "all".

        Parameters
        ----------
        layer : int, str or sequence of these
            Index or name of a stage, a list or array of these, or "all". A stage that is named twice is given twice.

        Raises
        ------
        InvalidParameterError
            If there is no such stage, or the list is empty.
        """
        if isinstance(layer, str) and layer == "all":
            return list(range(len(self.stages)))
        if isinstance(layer, np.ndarray):
            layer = layer.tolist()
        if isinstance(layer, (list, tuple)):
            if not layer:
                raise InvalidParameterError("layer=[] names no stage; give at least one, or 'all'")
            return [find_stage(stage, self.stage_names, self.name, several=True) for stage in layer]
        return [find_stage(layer, self.stage_names, self.name, several=True)]

    def n_frozen(self, freeze_depth: int | float | str, n_stages: int | None = None) -> int:
        """Return the number of frozen stages among the first `n_stages`.

        Parameters
        ----------
        freeze_depth : int, float or str
            An int for the slice `stages[:freeze_depth]`, a float in [0, 1] for a fraction of the stages, a stage's name
            for all stages up to and including it, or "all".
        n_stages : int, default=None
            Number of stages that are used. None for all.

        Raises
        ------
        InvalidParameterError
            If the depth is out of range or has another type.
        """
        n = len(self.stages) if n_stages is None else n_stages
        return count_frozen(freeze_depth, self.stage_names, n, self.name)

    def fingerprint(self, stop: int | None = None) -> str:
        """Return a hash of the order, structure and weights of `stages[:stop]`.

        Parameters
        ----------
        stop : int, default=None
            Number of stages. None for all.
        """
        self.forget_if_changed()
        stop = len(self.stages) if stop is None else stop
        hashes = list(self._hashes) or [hashlib.blake2b(self.definition.encode(), digest_size=20).digest()]
        for module in self.stages[len(hashes) - 1 : stop]:  # each hash continues the one before it
            hashes.append(digest(hashes[-1], module))
        self._hashes = hashes
        return hashes[stop].hex()

    def properties(self) -> dict[str, str]:
        """Return what results depend on apart from the stages and the preprocessing, which have hashes of their own.

        Some of it comes from files beside the weights, such as those of sentence-transformers. A saved or pickled
        estimator compares it when it loads the backbone again. The name of the property tells the user what differs.
        """
        space = self.shared_space  # its name of the encoder of texts is a path, which may change
        return {
            "max_length": str(getattr(self.preprocess, "limit", None)),
            "pooling": self.pooling,
            "unit_length": str(self.unit_length),
            "prefix_tokens": str(self.prefix_tokens),
            "head": "None" if self.head is None else digest(b"", self.head).hex(),
            "categories": hashlib.blake2b(repr(self.categories).encode(), digest_size=20).hexdigest(),
            "scale": "None" if space is None else repr(float(space.scale)),
        }

    def forget_if_changed(self) -> bool:
        """Forget hashes, copies and origin of weights that torch has changed in place. Return whether it has.

        Writes through `tensor.data` or numpy are not seen.
        """
        if n_changes(self._watched) == self._version:
            return False
        self._watched, self._version = watch(self.stages)
        self._hashes = []
        self.copies.clear()
        if self.origin is not None and self.origin[0] not in (
            replace_stages,
            with_max_length,
            with_preprocess,
        ):
            self.origin = None  # the name stands for other weights, so pickles include these
        return True

    def with_preprocess(self, preprocess: Preprocess) -> Backbone:
        """Return a backbone with the same stages and another preprocessing.

        Parameters
        ----------
        preprocess : Preprocess
            Converts validated samples to the tensors that the first stage takes.
        """
        origin: tuple[Callable[..., Backbone], tuple[Any, ...]] = (with_preprocess, (self, preprocess))
        truncate = getattr(self.preprocess, "with_max_length", None)
        limit = getattr(preprocess, "limit", None)
        if truncate is not None and limit is not None and truncate(limit).key == preprocess.key:
            origin = (with_max_length, (self, limit))  # the pickle then omits the tokenizer, which its source has
        return self._changed(preprocess=preprocess, origin=origin)

    def _changed(self, **attributes: Any) -> Backbone:
        other = Backbone.__new__(Backbone)
        other.__dict__.update(self._plain_state(), **attributes)
        return other

    def __sklearn_clone__(self) -> Backbone:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Backbone:
        return self

    def __copy__(self) -> Backbone:
        return self

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        if (reference := self._reference()) is not None:
            return reference
        self.forget_if_changed()
        if self.origin is not None:
            known = {name: getattr(self, name) for name in ("name", "modality", "stage_names")}
            return defer, (type(self), *self.origin, known)
        head = self.lm_head  # in the same pickle as the stages, so that tied parameters stay tied
        state = {**self._plain_state(), "copies": {}, "_lm_head": None if head is None else HeldHead(head)}
        del state["_watched"], state["_version"]
        return _restored, (state,)

    def __getstate__(self) -> dict[str, Any]:
        """Return what skops writes: the function and the arguments of `origin`, with weights as arrays.

        pickle and copy use `__reduce__`.
        """
        self.forget_if_changed()
        if self.origin is None:
            raise TypeError(
                f"{self!r} is made of modules that a file without code cannot describe, or its weights were changed in "
                "place: use joblib.dump, and load only files of your own, or offer the network as a plugin"
            )
        function, arguments = self.origin
        if function is replace_stages:
            source, first, modules, lm_state = arguments
            weights = nn.ModuleList(modules).state_dict()
            function, arguments = restore_stages, (source, first, first + len(modules), weights, lm_state)
        return {"function": function, "arguments": [with_arrays(one) for one in arguments]}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        restored: Backbone = state["function"](*map(with_tensors, state["arguments"]))
        self.__dict__.update(restored.__dict__)

    def __repr__(self) -> str:
        return f"Backbone({self.name!r}, stages={list(self.stage_names)})"


def _restored(state: dict[str, Any]) -> Backbone:
    backbone = Backbone.__new__(Backbone)
    backbone.__dict__.update(state)
    backbone._watched, backbone._version = watch(backbone.stages)
    return backbone


def replace_stages(
    source: Backbone, first: int, modules: Sequence[nn.Module], lm_state: Mapping[str, Tensor] | None = None
) -> Backbone:
    """Return a backbone with other stages from `first` on. It shares the stages below with the source.

    Parameters
    ----------
    source : Backbone
        Backbone that provides everything else.
    first : int
        Index of the first stage to replace.
    modules : sequence of nn.Module
        New stages. The backbone ends with the last of them. They are switched to `eval()`, without gradients.
    lm_state : mapping of str to Tensor, default=None
        Tensors of a trained `lm_head`, without those that are tied to stages. None keeps those of the source.

    Returns
    -------
    backbone : Backbone
        Without the heads if stages of the source are left out at the end. The `lm_head` is tied to the new stages, and
        left out if they lack the parameters that it is tied to.

    Raises
    ------
    InvalidParameterError
        If the source has no such stages.
    """
    stop, n = first + len(modules), len(source.stages)
    if not 0 <= first <= stop <= n:
        raise InvalidParameterError(f"stages {first} to {stop} cannot be replaced: {source.name} has {n} stages")
    changes: dict[str, Any] = (
        {}
        if stop == n
        else {"head": None, "categories": (), "shared_space": None, "unit_length": False, "_lm_head": None}
    )
    source.forget_if_changed()
    stages = nn.ModuleList([*source.stages[:first], *modules]).eval().requires_grad_(False)
    watched, version = watch(stages)
    origin = (replace_stages, _collapsed(source, first, list(modules), lm_state))
    if stop == n and source._lm_head is not None:
        changes["_lm_head"] = HeldHead(partial(_rebound, origin[1][0], stages, origin[1][3]))
    names = source.stage_names[:stop]
    hashes = source._hashes[: first + 1]
    changes |= {"_watched": watched, "_version": version, "_hashes": hashes, "copies": {}}
    return source._changed(stages=stages, stage_names=names, origin=origin, **changes)


def _rebound(
    source: Backbone, stages: nn.ModuleList, lm_state: Mapping[str, Tensor] | None
) -> LanguageModelHead | None:
    head = source.lm_head
    return None if head is None else rebind(head, source.stages, stages, lm_state)


def with_max_length(source: Backbone, max_length: int) -> Backbone:
    """Return a backbone that truncates texts to a number of tokens.

    Parameters
    ----------
    source : Backbone
        Backbone of texts.
    max_length : int
        Number of tokens, including special ones.
    """
    return source.with_preprocess(source.preprocess.with_max_length(max_length))  # type: ignore[attr-defined]


def with_preprocess(source: Backbone, preprocess: Preprocess) -> Backbone:
    """Return a backbone with another preprocessing. It is the `origin` of `Backbone.with_preprocess`.

    Parameters
    ----------
    source : Backbone
        Backbone that provides everything else.
    preprocess : Preprocess
        Converts validated samples to the tensors that the first stage takes.
    """
    return source.with_preprocess(preprocess)


def restore_stages(
    source: Backbone,
    first: int,
    stop: int,
    weights: Mapping[str, Tensor],
    lm_state: Mapping[str, Tensor] | None = None,
) -> Backbone:
    """Return a backbone whose stages have other weights, in the layout that training leaves.

    Parameters
    ----------
    source : Backbone
        Backbone that the stages were trained from.
    first, stop : int
        The first stage with other weights, and the one after the last. The backbone ends there.
    weights : mapping of str to Tensor
        `state_dict()` of these stages as a `nn.ModuleList`.
    lm_state : mapping of str to Tensor, default=None
        As in `replace_stages`.

    Raises
    ------
    LoadError
        If there are no such stages, or the weights are not theirs.
    """
    if not 0 <= first <= stop <= len(source.stages):
        raise LoadError(f"{source.name} has no stages {first} to {stop}")
    modules = copy.deepcopy(nn.ModuleList(source.stages[first:stop]))  # one call keeps shared parameters shared
    if any(isinstance(module, nn.Conv2d) for module in modules.modules()):
        modules = modules.to(memory_format=torch.channels_last)
    copy_state(modules.state_dict(), weights, source.name)
    return replace_stages(source, first, list(modules), lm_state)


def _collapsed(
    source: Backbone, first: int, modules: list[nn.Module], lm_state: Mapping[str, Tensor] | None
) -> tuple[Backbone, int, list[nn.Module], Mapping[str, Tensor] | None]:
    """Return arguments of `replace_stages` that start from a backbone without replaced stages.

    Repeated training replaces stages of trained backbones. Without this, each step would keep all earlier ones.
    """
    if source.origin is None or source.origin[0] is not replace_stages:
        return source, first, modules, lm_state
    base, lowest, replaced, earlier = source.origin[1]
    stages = [*replaced[: max(0, first - lowest)], *modules]
    return base, min(lowest, first), stages, earlier if lm_state is None else lm_state
