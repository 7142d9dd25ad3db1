"""Weights read into a network: all that it has, and nothing that it has not."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from sktransfer.backbones.backbone import Backbone
from sktransfer.exceptions import LoadError

__all__ = ["check_fingerprint", "fill"]


@torch.no_grad()
def fill(own: Mapping[str, Tensor], state: Mapping[str, Tensor], name: str) -> None:
    """Copy weights into a network.

    Parameters
    ----------
    own : mapping of str to Tensor
        The network's `state_dict()`; its tensors are changed.
    state : mapping of str to Tensor
        By the network's own names.
    name : str
        What messages call it.

    Raises
    ------
    LoadError
        If names, shapes or types are not the network's.
    """
    missing, strange = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
    if missing or strange:
        raise LoadError(f"the weights of {name} lack {missing[:3]} and hold {strange[:3]}, which it has not")
    for key, value in own.items():
        if value.shape != state[key].shape or value.dtype != state[key].dtype:
            raise LoadError(
                f"the weights of {name}: {key} is {tuple(state[key].shape)} of {state[key].dtype}, and must be "
                f"{tuple(value.shape)} of {value.dtype}"
            )
    for key, value in own.items():
        value.copy_(state[key])


def check_fingerprint(backbone: Backbone, expected: str) -> None:
    """Raise unless a backbone is the one that was saved.

    Raises
    ------
    LoadError
        If its stages or weights are others.
    """
    found = backbone.fingerprint()
    if found != expected:
        raise LoadError(
            f"{backbone.name} is not what was saved: its fingerprint is {found}, and was {expected}. Install the "
            "versions that its manifest.json names"
        )
