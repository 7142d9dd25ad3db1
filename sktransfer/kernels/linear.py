"""Linear layers with prepacked weights."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

__all__ = ["PackedLinear", "is_close", "pack", "replace_modules", "with_spare_rows"]

_MAX_PACKED = 2 * 1024**3  # bytes of weights; above, the memory of a second copy costs more than it saves
_TYPES = (torch.float32, torch.bfloat16)


class PackedLinear(nn.Linear):
    """Linear layer with weights prepacked for oneDNN, for inference on the CPU.

    Parameters
    ----------
    linear : nn.Linear
        Layer to pack. Its weights stay available unchanged, for code that reads them.
    activation : {"none", "gelu"}, default="none"
        Activation fused into the layer.
    """

    def __init__(self, linear: nn.Linear, activation: str = "none") -> None:
        nn.Module.__init__(self)  # that of nn.Linear would draw weights
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.weight, self.bias = linear.weight, linear.bias
        self._activation = activation
        self._packed = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach(), None)

    @classmethod
    def joined(cls, linears: Sequence[nn.Linear]) -> PackedLinear:
        """Return one layer with the outputs of several layers side by side.

        Its weights are only packed, because a second copy of them would serve nothing.

        Parameters
        ----------
        linears : sequence of nn.Linear
            Layers with the same input and with biases.
        """
        joined = nn.Linear(linears[0].in_features, sum(linear.out_features for linear in linears), device="meta")
        joined.weight = nn.Parameter(torch.cat([linear.weight for linear in linears]), requires_grad=False)
        joined.bias = nn.Parameter(torch.cat([linear.bias for linear in linears]), requires_grad=False)
        packed = cls(joined)
        del packed.weight
        return packed

    def forward(self, values: Tensor) -> Tensor:
        """Return the output (..., out_features). It has the same bits for any number of rows."""
        out = self.product(with_spare_rows(values))  # (m, out_features)
        return out[: values.numel() // self.in_features].view(*values.shape[:-1], -1)  # (..., out_features)

    def product(self, rows: Tensor) -> Tensor:
        """Return the output for rows of `with_spare_rows`.

        Parameters
        ----------
        rows : Tensor of shape (m, in_features)

        Returns
        -------
        out : Tensor of shape (m, out_features)
        """
        # The overload is named, because torch takes as long to choose it as to multiply a few tokens.
        out: Tensor = torch.ops.mkldnn._linear_pointwise.default(
            rows, self._packed, self.bias, self._activation, [], "none"
        )
        return out


def with_spare_rows(values: Tensor) -> Tensor:
    """Return the rows of values, followed by others of any content, so that there are few numbers of rows.

    For each number of rows, oneDNN generates code, which takes a millisecond and half a megabyte that is never freed.
    Spare rows take time, so at most an eighth of the rows is spare, and three percent from 256 rows on. A single row
    gets another one, because oneDNN adds it up in another order.

    Parameters
    ----------
    values : Tensor of shape (..., channels)

    Returns
    -------
    rows : Tensor of shape (m, channels)
        A view if the memory of `values` has room for it, as outputs of `PackedLinear` do.
    """
    rows = values.reshape(-1, values.shape[-1])  # (n, channels)
    n, width = rows.shape  # len(rows) would pass through Python
    step = 1 << max(1, n.bit_length() - (4 if n < 256 else 6))
    m = -(-n // step) * step
    if m == n:
        return rows
    if (rows.storage_offset() + m * width) * rows.itemsize <= rows.untyped_storage().nbytes() and rows.is_contiguous():
        return rows.as_strided((m, width), (width, 1))  # (m, channels)
    return torch.constant_pad_nd(rows, (0, 0, 0, m - n), 0.0)  # (m, channels)


def pack(stages: nn.ModuleList) -> None:
    """Replace linear layers by packed ones, in place, if torch and the processor support it.

    Parameters
    ----------
    stages : nn.ModuleList
        Stages on the CPU, in `eval()`. They cannot be trained afterwards.

    Examples
    --------
    >>> from torch import nn
    >>> from sktransfer.kernels.linear import pack
    >>> stages = nn.ModuleList([nn.Linear(4, 8)]).eval()
    >>> pack(stages)
    """
    linears = [module for module in stages.modules() if type(module) is nn.Linear and module.weight.dtype in _TYPES]
    if not linears or sum(linear.weight.nbytes for linear in linears) > _MAX_PACKED or not _agrees(linears[0]):
        return
    activated = _with_gelu(stages)
    replace_modules(stages, {id(linear): PackedLinear(linear, activated.get(id(linear), "none")) for linear in linears})


def _with_gelu(stages: nn.ModuleList) -> dict[int, str]:
    """Replace each GELU after a linear layer by an identity, and return the ids of these layers with "gelu".

    The encoders of transformers compute `intermediate_act_fn(dense(values))`, and nothing between the two.
    """
    activations = {}
    for module in stages.modules():
        dense, activation = getattr(module, "dense", None), getattr(module, "intermediate_act_fn", None)
        ours = type(module).__module__.startswith("transformers.") and type(dense) is nn.Linear
        if (
            ours
            and type(activation).__name__ == "GELUActivation"
            and getattr(activation, "act", None) is nn.functional.gelu
        ):
            module.intermediate_act_fn = nn.Identity()
            activations[id(dense)] = "gelu"
    return activations


def _agrees(linear: nn.Linear) -> bool:
    """Return whether packing works and gives equal outputs. The operators are private to torch and may change."""
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    values = torch.linspace(-1, 1, 3 * linear.in_features, dtype=linear.weight.dtype).view(3, -1)  # (3, in_features)
    try:
        with torch.no_grad():
            expected, packed = linear(values), PackedLinear(linear)(values)  # (3, out_features)
    except (AttributeError, RuntimeError, TypeError):
        return False
    return is_close(packed, expected)


def is_close(found: Tensor, expected: Tensor) -> bool:
    """Return whether outputs are equal up to rounding, in the type of the expected ones.

    Parameters
    ----------
    found, expected : Tensor
        Outputs of the same input.
    """
    scale = float(expected.abs().max())
    if not math.isfinite(scale):  # weights that are not finite: outputs are checked where they are used
        return False
    return bool(torch.allclose(found.float(), expected.float(), atol=scale * 1e-2))


def replace_modules(stages: nn.Module, new: Mapping[int, nn.Module]) -> None:
    """Replace modules in every place where they are used, in place.

    Parameters
    ----------
    stages : nn.Module
        Stages, or any other module.
    new : mapping of int to nn.Module
        By the `id` of each module to replace, the module that takes its place.
    """
    for module in list(stages.modules()):
        for name, child in module._modules.items():  # every place; named_children would skip repeated ones
            if id(child) in new:
                setattr(module, name, new[id(child)])
