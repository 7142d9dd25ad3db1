"""Codecs, and the state that saving and loading share with them."""

from __future__ import annotations

import functools
import hashlib
import importlib
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sktransfer._validation import require_field
from sktransfer.exceptions import LoadError, SktransferError
from sktransfer.persistence.skops_bridge import CustomNode

__all__ = ["Codec", "LoadContext", "SaveContext", "import_class", "own_copy", "pack_strings", "unpack_strings"]

_LONG = 64  # a list of at least as many strings is written as one tensor of bytes
_LARGE = 4096  # bytes; an array of at least this size is written as a tensor
_ARRAY_DTYPES = ("bool", "float32", "float64", "int32", "int64", "uint8")

Decode = Callable[[dict[str, Any], "LoadContext"], Any]


def import_class(path: str) -> Any:
    """Return the class at "module:Class". Paths come from tables in the code, never from a file."""
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)


@dataclass(frozen=True)
class Codec:
    """Encoder and decoder of the objects of one kind.

    Parameters
    ----------
    kind : str
        Name of the kind in files.
    path : str
        "module:Class" of the objects, or "" for kinds that are not found by their class.
    encode : callable
        Maps an object and the `SaveContext` to a dict of values that `SaveContext.pack` takes.
    decode : callable
        Maps that dict and the `LoadContext` to an object. It checks all values of the dict.
    """

    kind: str
    path: str
    encode: Callable[[Any, SaveContext], dict[str, Any]]
    decode: Decode


@dataclass
class SaveContext:
    """Tensors and kinds collected while an estimator is saved.

    Parameters
    ----------
    embed : bool
        Whether to write the weights of pretrained backbones.
    """

    embed: bool
    tensors: dict[str, Tensor] = field(default_factory=dict)
    kinds: set[str] = field(default_factory=set)
    _n_groups: int = 0
    _names: dict[tuple[Any, ...], str] = field(default_factory=dict)

    def add_tensors(self, named: Mapping[str, Tensor]) -> dict[str, Any]:
        """Add tensors that share no memory with others, and return the data for `LoadContext.take_tensors`."""
        group = self._new_group()
        self.tensors |= {f"{group}/{name}": value for name, value in named.items()}
        return {"group": group}

    def add_state(self, named: Mapping[str, Tensor]) -> dict[str, Any]:
        """Add the weights of a network, and return the data for `LoadContext.take_state`.

        Weights of equal content are written once, such as those of a net and of the `head_` taken from it.
        """
        group = self._new_group()
        same: dict[str, str] = {}
        for name, tensor in named.items():
            value = tensor.detach().cpu().contiguous()
            if value.untyped_storage().nbytes() != value.nbytes:
                value = value.clone()  # a view would keep, and safetensors refuse, the rest of its storage
            content: Any = value.view(-1).view(torch.uint8).numpy() if value.numel() else b""
            key = (value.dtype, tuple(value.shape), hashlib.sha256(content).digest())
            if key in self._names:
                same[name] = self._names[key]
            else:
                self._names[key] = f"{group}/{name}"
                self.tensors[f"{group}/{name}"] = value
        return {"group": group, "same": same}

    def _new_group(self) -> str:
        self._n_groups += 1
        return str(self._n_groups - 1)

    def pack(self, value: Any) -> Any:
        """Return a value in which nodes replace what skops writes slowly, or not at all, in dicts and lists.

        These are dicts of tensors, large arrays, long lists of strings, and dicts with keys that are not strings. Other
        objects are left to their own codecs.
        """
        if type(value) is dict:
            if not all(type(key) is str for key in value):
                return self._node("Dict", {"keys": list(value), "values": [self.pack(item) for item in value.values()]})
            if value and all(type(item) is Tensor for item in value.values()):
                return self._node("Tensors", self.add_state(value))
            return {key: self.pack(item) for key, item in value.items()}
        if type(value) is list and len(value) >= _LONG and all(type(item) is str for item in value):
            return self._node("Strings", self.add_tensors(pack_strings(value)))
        if type(value) in (list, tuple):
            return type(value)(self.pack(item) for item in value)
        if type(value) is Tensor:
            return self._node("Tensor", self.add_tensors({"value": own_copy(value)}))
        if type(value) is np.ndarray and value.nbytes >= _LARGE and _fits_tensor(value):
            return self._node("Array", self.add_tensors({"value": torch.from_numpy(value.copy())}))
        return value

    def _node(self, kind: str, data: dict[str, Any]) -> CustomNode:
        self.kinds.add(kind)
        node: CustomNode = CustomNode(kind, data)
        return node


def _fits_tensor(array: np.ndarray) -> bool:
    return array.flags.c_contiguous and array.dtype.isnative and array.dtype.name in _ARRAY_DTYPES


@dataclass
class LoadContext:
    """Tensors of a file, and the decoders of its nodes.

    Parameters
    ----------
    tensors : dict of str to Tensor
        All tensors of the file.
    decoders : mapping of str to callable
        Decoders by kind. Nodes of other kinds are refused.
    estimators : list
        Estimators of sktransfer built so far.
    moved : dict of str to str
        New name or path of the weights that were found elsewhere than where they were saved.
    """

    tensors: dict[str, Tensor]
    decoders: Mapping[str, Decode]
    estimators: list[Any] = field(default_factory=list)
    moved: dict[str, str] = field(default_factory=dict)

    @functools.cached_property
    def _groups(self) -> dict[str, dict[str, Tensor]]:
        groups: dict[str, dict[str, Tensor]] = defaultdict(dict)
        for key, value in self.tensors.items():
            group, _, name = key.partition("/")
            groups[group][name] = value
        return dict(groups)

    def take_tensors(self, data: Any) -> dict[str, Tensor]:
        """Return the tensors that `SaveContext.add_tensors` has written.

        Each group can be taken once. A forged file could otherwise have the same bytes decoded again and again.
        """
        group = require_field(data, "group", str)
        if group not in self._groups:
            raise LoadError(f"its weights lack the tensors {group!r}, or several objects claim them")
        return self._groups.pop(group)

    def take_state(self, data: Any) -> dict[str, Tensor]:
        """Return the weights that `SaveContext.add_state` has written. Do not write to them: others may share them."""
        group, same = require_field(data, "group", str), require_field(data, "same", dict)
        missing = sorted(set(same.values()) - self.tensors.keys())
        if missing:
            raise LoadError(f"its weights lack the tensors {missing[:3]}")
        return self._groups.pop(group, {}) | {name: self.tensors[other] for name, other in same.items()}

    def build(self, kind: Any, data: Any) -> Any:
        """Return the object of a node.

        Raises
        ------
        LoadError
            If the kind is not known, or the data do not describe such an object.
        """
        if not isinstance(kind, str) or kind not in self.decoders or not isinstance(data, dict):
            raise LoadError(f"it holds a node of the kind {kind!r}, which this sktransfer does not know")
        try:
            return self.decoders[kind](data, self)
        except LoadError:
            raise
        except SktransferError as error:
            raise LoadError(f"its {kind} cannot be rebuilt: {error}") from error
        except Exception as error:
            raise LoadError(f"its {kind} cannot be rebuilt ({type(error).__name__}: {error})") from error


def own_copy(tensor: Tensor) -> Tensor:
    """Return a contiguous copy of a tensor on the CPU."""
    return tensor.detach().cpu().clone(memory_format=torch.contiguous_format)


def pack_strings(strings: list[str]) -> dict[str, Tensor]:
    """Return strings as one tensor of UTF-8 bytes and their end positions. A list of a million would load slowly."""
    encoded = [string.encode("utf-8", "surrogatepass") for string in strings]
    ends = np.cumsum([len(octets) for octets in encoded], dtype=np.int64)
    return {
        "text": torch.from_numpy(np.frombuffer(b"".join(encoded), np.uint8).copy()),
        "ends": torch.from_numpy(ends),
    }


def unpack_strings(text: Tensor, ends: Tensor) -> list[str]:
    """Return the strings that `pack_strings` has packed.

    Raises
    ------
    LoadError
        If the tensors do not fit each other.
    """
    stops = ends.numpy()
    if text.dtype != torch.uint8 or stops.dtype != np.int64 or stops.ndim != 1 or text.ndim != 1:
        raise LoadError("its strings are not bytes with end positions")
    if len(stops) and (stops[0] < 0 or (np.diff(stops) < 0).any() or stops[-1] != len(text)):
        raise LoadError("the end positions of its strings do not fit their bytes")
    octets = text.numpy().tobytes()
    starts = [0, *stops[:-1].tolist()]
    return [octets[start:stop].decode("utf-8", "surrogatepass") for start, stop in zip(starts, stops.tolist())]
