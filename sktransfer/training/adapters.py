"""Adapters of peft on the stages that are trained, in place of their weights."""

from __future__ import annotations

import copy
from typing import Any

from torch import nn

from sktransfer.exceptions import InvalidParameterError

__all__ = ["adapter_identity", "add_adapters", "check_adapter", "merge_adapters"]


def check_adapter(adapter: Any) -> None:
    """Raise unless `adapter` is a configuration that can be added to single stages.

    Parameters
    ----------
    adapter : anything
        What a user gave as `adapter=`.

    Raises
    ------
    InvalidParameterError
        If it is no such configuration, or peft is not installed.
    """
    try:
        from peft import PeftConfig
    except ImportError as error:
        raise InvalidParameterError(f"adapter={adapter!r} needs peft: pip install sktransfer[adapters]") from error
    if not isinstance(adapter, PeftConfig) or adapter.is_prompt_learning:
        raise InvalidParameterError(
            f"adapter={adapter!r} must be None or a configuration of peft that adds to layers, such as "
            "peft.LoraConfig(r=8, target_modules='all-linear')"
        )


def adapter_identity(adapter: Any) -> list[tuple[str, str]]:
    """Return what an adapter does, the same in all processes: a set of names has an order of its own in each.

    Parameters
    ----------
    adapter : peft.PeftConfig or None
        None for no adapter.

    Examples
    --------
    >>> import peft
    >>> from sktransfer.training.adapters import adapter_identity
    >>> dict(adapter_identity(peft.LoraConfig(r=4, target_modules=["value", "query"])))["target_modules"]
    "['query', 'value']"
    """
    if adapter is None:
        return []
    items = sorted(adapter.to_dict().items())
    return [(name, repr(sorted(value) if isinstance(value, (set, frozenset)) else value)) for name, value in items]


def add_adapters(stages: nn.ModuleList, adapter: Any) -> None:
    """Put adapters into stages; nothing but they can be trained then.

    Parameters
    ----------
    stages : nn.ModuleList
        The stages above the cut; changed.
    adapter : peft.PeftConfig
        Which adapters, and on which layers; not changed.

    Raises
    ------
    InvalidParameterError
        If there are no stages, or they have no such layers.
    """
    if not len(stages):
        raise InvalidParameterError(
            f"adapter={adapter!r} goes on trained stages, and no stage is trained; freeze fewer by freeze_depth"
        )
    from peft import inject_adapter_in_model

    frozen = {id(parameter) for parameter in stages.parameters() if not parameter.requires_grad}
    try:
        inject_adapter_in_model(copy.deepcopy(adapter), stages)
    except ValueError as error:
        raise InvalidParameterError(f"adapter={adapter!r} cannot be added to the trained stages: {error}") from error
    for parameter in stages.parameters():  # what belongs to a frozen stage stays frozen, whatever peft makes of it
        if id(parameter) in frozen:
            parameter.requires_grad_(False)


def merge_adapters(stages: nn.ModuleList) -> None:
    """Write what adapters have learnt into the weights, and take them out: the stages are as plain as before.

    Parameters
    ----------
    stages : nn.ModuleList
        Changed.
    """
    from peft.tuners.tuners_utils import BaseTunerLayer

    for name, layer in list(stages.named_modules()):
        if isinstance(layer, BaseTunerLayer):
            layer.merge()
            parent, _, child = name.rpartition(".")
            setattr(stages.get_submodule(parent), child, layer.get_base_layer())
