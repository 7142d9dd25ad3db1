"""Linear layers whose weights lie as the processor's matrix library wants them, instead of being sorted at each use."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["PackedLinear", "pack"]

_MOST = 2 * 1024**3  # bytes of weights: beyond, a second copy of them costs more than it saves
_TYPES = (torch.float32, torch.bfloat16)


class PackedLinear(nn.Linear):
    """What a linear layer gives, faster; on the CPU, for inference only.

    Parameters
    ----------
    linear : nn.Linear
        Whose weights are packed. They stay within reach as they are, for code that reads them.
    activation : {"none", "gelu"}, default="none"
        Applied to what comes out, in the same pass over it.
    """

    def __init__(self, linear: nn.Linear, activation: str = "none") -> None:
        nn.Module.__init__(self)  # nn.Linear's own would draw weights
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.weight, self.bias = linear.weight, linear.bias
        self._activation = activation
        self._packed = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach(), None)

    def forward(self, values: Tensor) -> Tensor:
        """Return (..., out_features)."""
        out: Tensor = torch.ops.mkldnn._linear_pointwise(values, self._packed, self.bias, self._activation, [], "none")
        return out


def pack(stages: nn.ModuleList) -> None:
    """Put packed linear layers in the place of plain ones, in place, where torch has what it takes.

    Parameters
    ----------
    stages : nn.ModuleList
        On the CPU, in `eval()`, of no use for training any more.

    Examples
    --------
    >>> from torch import nn
    >>> from sktransfer.engine.packing import pack
    >>> stages = nn.ModuleList([nn.Linear(4, 8)]).eval()
    >>> pack(stages)
    """
    linears = [module for module in stages.modules() if type(module) is nn.Linear and module.weight.dtype in _TYPES]
    if not linears or sum(one.weight.nbytes for one in linears) > _MOST or not _agrees(linears[0]):
        return
    activated = _with_gelu(stages)
    packed = {id(linear): PackedLinear(linear, activated.get(id(linear), "none")) for linear in linears}
    for module in list(stages.modules()):
        for name, child in module._modules.items():  # each place, where named_children would leave out repeated ones
            if id(child) in packed:
                setattr(module, name, packed[id(child)])


def _with_gelu(stages: nn.ModuleList) -> dict[int, str]:
    """Return the linear layers that do the work of the GELU behind them, which is taken out.

    So it stands in the encoders of transformers: `intermediate_act_fn(dense(values))`, and nothing else.
    """
    found = {}
    for module in stages.modules():
        dense, activation = getattr(module, "dense", None), getattr(module, "intermediate_act_fn", None)
        ours = type(module).__module__.startswith("transformers.") and type(dense) is nn.Linear
        if (
            ours
            and type(activation).__name__ == "GELUActivation"
            and getattr(activation, "act", None) is nn.functional.gelu
        ):
            module.intermediate_act_fn = nn.Identity()
            found[id(dense)] = "gelu"
    return found


def _agrees(linear: nn.Linear) -> bool:
    """Return whether torch packs as this code expects: what it calls is not promised to stay."""
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    values = torch.linspace(-1, 1, 3 * linear.in_features, dtype=linear.weight.dtype).view(3, -1)  # (3, in_features)
    try:
        with torch.no_grad():
            expected, found = linear(values), PackedLinear(linear)(values)  # (3, out_features)
    except (AttributeError, RuntimeError, TypeError):
        return False
    return bool(torch.allclose(found.float(), expected.float(), atol=float(expected.abs().max()) * 1e-2))
