"""What stands in a saved tree for an object of ours, and what saving and loading know beside the tree."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from sktransfer.exceptions import LoadError, SktransferError

__all__ = ["PART", "Codec", "Loading", "Part", "Saving", "entry"]


@dataclass(frozen=True)
class Codec:
    """How objects of one kind are written down as plain data, and made of it again.

    Parameters
    ----------
    kind : str
        What the file calls them.
    encode : callable
        From an object and the `Saving` to a dict of plain values, and of objects that are encoded in turn.
    decode : callable
        From that dict and the `Loading` to the object; checks all that it takes from the dict.
    """

    kind: str
    encode: Callable[[Any, Saving], dict[str, Any]]
    decode: Callable[[dict[str, Any], Loading], Any]


@dataclass
class Saving:
    """What is written beside the tree.

    Parameters
    ----------
    embed : bool
        Whether the weights of pretrained backbones are written, too.
    """

    embed: bool
    tensors: dict[str, Tensor] = field(default_factory=dict)
    kinds: set[str] = field(default_factory=set)
    _n_states: int = 0
    _seen: dict[tuple[Any, ...], str] = field(default_factory=dict)
    _alive: list[Tensor] = field(default_factory=list)  # or another tensor might come to lie in the same place

    def state(self, named: Mapping[str, Tensor]) -> dict[str, Any]:
        """Write tensors, and return what `Loading.state` finds them by; one that stands in several is written once."""
        prefix = str(self._n_states)
        self._n_states += 1
        same: dict[str, str] = {}
        for name, tensor in named.items():
            value = tensor.detach().cpu()
            place = (value.data_ptr(), value.dtype, tuple(value.shape), value.stride())
            if value.numel() and place in self._seen:
                same[name] = self._seen[place]
                continue
            key = self._seen[place] = f"{prefix}/{name}"
            self._alive.append(value)
            is_all = value.untyped_storage().nbytes() == value.nbytes
            self.tensors[key] = value.contiguous() if is_all else value.clone(memory_format=torch.contiguous_format)
        return {"prefix": prefix, "same": same}


@dataclass
class Loading:
    """What a tree is rebuilt with.

    Parameters
    ----------
    tensors : dict of str to Tensor
        All that the file holds.
    codecs : mapping of str to Codec
        The kinds that may be rebuilt; there are no others.
    """

    tensors: dict[str, Tensor]
    codecs: Mapping[str, Codec]

    def state(self, data: Any) -> dict[str, Tensor]:
        """Return the tensors that `Saving.state` has written."""
        prefix, same = entry(data, "prefix", str) + "/", entry(data, "same", dict)
        found = {name.removeprefix(prefix): value for name, value in self.tensors.items() if name.startswith(prefix)}
        return found | {name: self.tensors[other] for name, other in same.items()}

    def build(self, kind: Any, data: Any) -> Any:
        """Return the object that a part stands for.

        Raises
        ------
        LoadError
            If there is no such kind, or the data do not make one.
        """
        if not isinstance(kind, str) or kind not in self.codecs or not isinstance(data, dict):
            raise LoadError(f"it holds a part of the kind {kind!r}, which this sktransfer does not know")
        try:
            return self.codecs[kind].decode(data, self)
        except LoadError:
            raise
        except SktransferError as error:
            raise LoadError(f"its {kind} cannot be rebuilt: {error}") from error
        except Exception as error:
            raise LoadError(f"its {kind} cannot be rebuilt ({type(error).__name__}: {error})") from error

    @contextmanager
    def active(self) -> Iterator[None]:
        """Have parts that are called in this block give the objects that they stand for."""
        token = _loading.set(self)
        try:
            yield
        finally:
            _loading.reset(token)


_loading: ContextVar[Loading | None] = ContextVar("loading", default=None)


class Part:
    """An object of ours in a tree of scikit-learn's: its kind and its data.

    While a file is loaded, calling the class gives the object itself.

    Parameters
    ----------
    kind : str
        Which `Codec` knows it.
    data : dict
        What the codec made of it.
    """

    kind: str
    data: dict[str, Any]

    def __new__(cls, kind: str, data: dict[str, Any]) -> Any:
        """Return the part, or what it stands for."""
        loading = _loading.get()
        return super().__new__(cls) if loading is None else loading.build(kind, data)

    def __init__(self, kind: str, data: dict[str, Any]) -> None:
        self.kind, self.data = kind, data

    def __reduce__(self) -> tuple[type[Part], tuple[str, dict[str, Any]]]:
        return Part, (self.kind, self.data)


PART = f"{Part.__module__}.{Part.__qualname__}"


def entry(data: Mapping[str, Any], name: str, kind: type | tuple[type, ...], among: Sequence[Any] | None = None) -> Any:
    """Return an entry of a part's data, of the type that it must have.

    Parameters
    ----------
    data : mapping
        What stood in the file.
    name : str
        Which entry.
    kind : type or tuple of types
        What it must be; a bool is no int.
    among : sequence, default=None
        The values that are allowed.

    Raises
    ------
    LoadError
        If there is none, or it is of another type or value.
    """
    if not isinstance(data, Mapping) or name not in data:
        raise LoadError(f"the entry {name!r} is missing")
    value = data[name]
    kinds = kind if isinstance(kind, tuple) else (kind,)
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        expected = " or ".join(one.__name__ for one in kinds)
        raise LoadError(f"the entry {name!r} is of type {type(value).__name__}, not {expected}")
    if among is not None and value not in among:
        raise LoadError(f"the entry {name!r} is {value!r}, and must be one of {tuple(among)}")
    return value
