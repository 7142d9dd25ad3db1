"""Stages as programs of `torch.export`, and modules as ONNX files."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

__all__ = ["export_stages", "first_line", "write_onnx"]


class _ImageStages(nn.Module):
    """Stages without a mask."""

    def __init__(self, stages: Iterable[nn.Module]) -> None:
        super().__init__()
        self.stages = nn.ModuleList(stages)

    def forward(self, values: Tensor) -> Tensor:
        for stage in self.stages:
            values = stage(values, None)
        return values


class _TextStages(_ImageStages):
    """Stages with a mask."""

    def forward(self, values: Tensor, mask: Tensor) -> Tensor:  # type: ignore[override]
        for stage in self.stages:
            values = stage(values, mask)
        return values


def export_stages(
    stages: Iterable[nn.Module], values: Tensor, mask: Tensor | None, *, free_size: bool = False
) -> ExportedProgram:
    """Return stages as a program of `torch.export` with the inputs `values` and, for texts, `mask`.

    Parameters
    ----------
    stages : iterable of nn.Module
        Consecutive stages in `eval()`, on the CPU. Their weights are shared with the program.
    values : Tensor of shape (n, ...)
        Input of the first stage for at least two samples, because torch takes a batch of one for a fixed size.
    mask : Tensor of shape (n, tokens) or None
        True where a token is real. None for images.
    free_size : bool, default=False
        Whether height and width of images are free.

    Raises
    ------
    Exception
        Of any type, if torch cannot express the stages.

    Examples
    --------
    >>> import torch
    >>> from sktransfer import load_backbone
    >>> from sktransfer.runtimes.export import export_stages
    >>> program = export_stages(load_backbone("tiny/cnn").stages[:1], torch.rand(2, 3, 32, 32), None)
    >>> program.module()(torch.rand(5, 3, 32, 32)).shape
    torch.Size([5, 32, 32, 32])
    """
    free = {0: Dim.DYNAMIC}
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # of torch, about its own deprecated functions
        if mask is None:
            free |= {axis: Dim.DYNAMIC for axis in range(2, values.ndim) if free_size}
            return torch.export.export(_ImageStages(stages).eval(), (values,), dynamic_shapes=(free,), strict=False)
        has_tokens = values.shape[1 : mask.ndim] == mask.shape[1:]
        axes = ({**free, 1: Dim.DYNAMIC} if has_tokens else free, {0: Dim.DYNAMIC, 1: Dim.DYNAMIC})
        return torch.export.export(_TextStages(stages).eval(), (values, mask), dynamic_shapes=axes, strict=False)


def write_onnx(
    module: nn.Module | ExportedProgram,
    inputs: tuple[Tensor, ...],
    path: Path,
    *,
    input_names: Sequence[str],
    output_name: str,
    opset: int,
) -> None:
    """Write a module as an ONNX file, with a free number of samples and of tokens.

    Parameters
    ----------
    module : nn.Module or ExportedProgram
        Module in `eval()`, or a program, whose own free axes are kept.
    inputs : tuple of Tensor
        Inputs of the module for at least two samples: images, or token ids and mask. Not used for a program.
    path : Path
        File to write.
    input_names : sequence of str
        Names of the inputs.
    output_name : str
        Name of the output.
    opset : int
        Version of ONNX's operators.

    Raises
    ------
    Exception
        Of any type, if torch cannot express the module in ONNX.
    """
    is_program = isinstance(module, ExportedProgram)
    axes = {0: "batch"} if len(inputs) == 1 else {0: "batch", 1: "tokens"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch, about names of axes and its own deprecated functions
        program = torch.onnx.export(
            module,
            () if is_program else inputs,
            dynamo=True,
            dynamic_shapes=None if is_program else tuple(axes for _ in inputs),
            input_names=list(input_names),
            output_names=[output_name],
            opset_version=opset,
            verbose=False,
        )
    assert program is not None
    program.save(path)


def first_line(error: Exception) -> str:
    """Return the type of an error and the first line of its message.

    Parameters
    ----------
    error : Exception
        Error of another library.
    """
    return f"{type(error).__name__}: {next(iter(str(error).strip().splitlines()), '')[:200]}".rstrip(": ")
