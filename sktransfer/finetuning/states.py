"""What of a net and its callbacks can be written down, and a digest of it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = ["Digest", "params_of", "set_state", "state_of"]


def state_of(callback: Any) -> dict[str, Any]:
    """Return the attributes of a callback that end in "_", as far as they are plain or have a `state_dict`.

    Parameters
    ----------
    callback : skorch Callback
        Others' state is not known to be worth keeping.
    """
    state = {}
    for name, value in vars(callback).items():
        if not name.endswith("_") or name.endswith("__"):
            continue
        if hasattr(value, "state_dict") and not isinstance(value, type):
            state[name] = value.state_dict()
        elif _is_plain(value):
            state[name] = value.item() if isinstance(value, np.generic) else value
    return state


def params_of(callback: Any) -> dict[str, Any]:
    """Return the parameters of a callback; of what is not plain, what it is called in all processes.

    Parameters
    ----------
    callback : skorch Callback
        Any.
    """
    params = callback.get_params(deep=False)
    return {
        name: value if _is_plain(value) else getattr(value, "__qualname__", type(value).__qualname__)
        for name, value in params.items()
    }


def set_state(callback: Any, state: Mapping[str, Any]) -> None:
    """Give a callback back what `state_of` returned.

    Parameters
    ----------
    callback : skorch Callback
        That has begun, so that what has a `state_dict` is there.
    state : mapping
        By name of attribute.
    """
    for name, value in state.items():
        held: Any = getattr(callback, name, None)
        if hasattr(held, "load_state_dict"):
            held.load_state_dict(value)
        else:
            setattr(callback, name, value)


def _is_plain(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(isinstance(name, str) and _is_plain(one) for name, one in value.items())
    if isinstance(value, (list, tuple)):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, (bool, int, float, str, Tensor, np.number))


class Digest:
    """A hash of numbers, names, arrays and tensors, and of lists and mappings of them.

    Examples
    --------
    >>> from sktransfer.finetuning.states import Digest
    >>> len(Digest().add({"lr": 0.1}, [1, 2]).hex())
    40
    """

    def __init__(self) -> None:
        self._running = hashlib.blake2b(digest_size=20)

    def add(self, *parts: Any) -> Digest:
        """Take in some more.

        Parameters
        ----------
        *parts : anything
            What is neither an array nor a list or mapping goes by its `repr`.
        """
        for part in parts:
            if isinstance(part, Tensor):
                part = part.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy()  # (n_bytes,)
            if isinstance(part, Mapping):
                self._open("mapping", len(part)).add(*(one for item in part.items() for one in item))
            elif isinstance(part, (list, tuple)):
                self._open("list", len(part)).add(*part)
            elif isinstance(part, np.ndarray) and part.dtype != object:
                self._open(f"{part.dtype.str} {part.shape}", part.nbytes)
                self._running.update(np.ascontiguousarray(part).data.cast("B"))
            else:
                data = part if isinstance(part, bytes) else repr(part).encode()
                self._open(type(part).__name__, len(data))
                self._running.update(data)
        return self

    def _open(self, kind: str, size: int) -> Digest:
        self._running.update(f"{kind} {size}\n".encode())  # parts cannot run into one another
        return self

    def hex(self) -> str:
        """Return the digest of all that was taken in."""
        return self._running.hexdigest()
