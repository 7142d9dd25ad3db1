"""peft adapters on the trained stages."""

from __future__ import annotations

import copy
from typing import Any

from torch import nn

from sktransfer.exceptions import InvalidParameterError

__all__ = ["adapter_identity", "add_adapters", "check_adapter", "merge_adapters"]


def check_adapter(adapter: Any) -> None:
    """Raise unless `adapter` is a peft configuration that can be added to single stages.

    Parameters
    ----------
    adapter : anything
        Value of the parameter.

    Raises
    ------
    InvalidParameterError
        If it is not, or peft is not installed.
    """
    try:
        from peft import PeftConfig
    except ImportError as error:
        raise InvalidParameterError(f"adapter={adapter!r} needs peft: pip install 'peft>=0.18'") from error
    if not isinstance(adapter, PeftConfig) or adapter.is_prompt_learning:
        raise InvalidParameterError(
            f"adapter={adapter!r} must be None or a configuration of peft that adds to layers, such as "
            "peft.LoraConfig(r=8, target_modules='all-linear')"
        )


def adapter_identity(adapter: Any) -> list[tuple[str, str]]:
    """Return the settings of an adapter, the same in all processes. The order of a set differs between processes.

    Parameters
    ----------
    adapter : peft.PeftConfig or None
        Configuration; None for no adapter.

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
    """Add adapters to stages. Only the adapters are trainable then.

    Parameters
    ----------
    stages : nn.ModuleList
        Trained stages, changed in place.
    adapter : peft.PeftConfig
        Configuration, not changed.

    Raises
    ------
    InvalidParameterError
        If there are no stages, or they lack the layers that it names.
    """
    if not len(stages):
        raise InvalidParameterError(
            f"adapter={type(adapter).__name__}(...) goes on trained stages, and none is trained; freeze fewer"
        )
    from peft import inject_adapter_in_model

    frozen = {id(parameter) for parameter in stages.parameters() if not parameter.requires_grad}
    try:
        inject_adapter_in_model(copy.deepcopy(adapter), stages)
    except ValueError as error:
        has_linear = any(isinstance(module, nn.Linear) for module in stages.modules())
        reason = str(error) if has_linear else "they have no linear layers, which an adapter changes"
        raise InvalidParameterError(
            f"adapter={type(adapter).__name__}(...) cannot be added to the trained stages: {reason}"
        ) from error
    for parameter in stages.parameters():  # parameters of frozen stages stay frozen
        if id(parameter) in frozen:
            parameter.requires_grad_(False)


def merge_adapters(stages: nn.ModuleList) -> None:
    """Merge adapters into the weights, and remove them.

    Parameters
    ----------
    stages : nn.ModuleList
        Stages, changed in place.
    """
    from peft.tuners.tuners_utils import BaseTunerLayer

    for name, layer in list(stages.named_modules()):
        if isinstance(layer, BaseTunerLayer):
            layer.merge()
            parent, _, child = name.rpartition(".")
            setattr(stages.get_submodule(parent), child, layer.get_base_layer())
