"""`export_onnx`: a fitted estimator as an ONNX file, for inference without sktransfer."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from sktransfer._utils import local_path
from sktransfer._validation import is_int
from sktransfer._version import __version__
from sktransfer.backbones.preprocess import ImageTransform
from sktransfer.backbones.tokens import Tokens
from sktransfer.exceptions import InvalidParameterError, SaveError
from sktransfer.explain.as_module import EstimatorModule, as_module
from sktransfer.runtimes.export import first_line, write_onnx

__all__ = ["OnnxExport", "export_onnx"]

_OLDEST = 18  # opset that torch's exporter writes without a conversion
_TOLERANCE = 1e-3  # of the largest output; rounding stays far below
_INSTALL = "pip install onnx onnxscript onnxruntime"
_NAMES = {"image": ("pixels",), "text": ("ids", "mask")}
_TEXTS = ("one", "two or three words, and then a few more of them")
_SIDE = 64  # pixels of a made-up image


@dataclass(frozen=True)
class OnnxExport:
    """Files of an exported estimator.

    Attributes
    ----------
    path : Path
        ONNX file.
    files : tuple of Path
        All files: that one, the description (`.json`), and the tokenizer (`.tokenizer.json`) of texts.
    output : str
        Kind of the output, such as "probabilities".
    opset : int
        Version of ONNX's operators.
    difference : float or None
        Largest difference between the outputs of onnxruntime and of torch. None if onnxruntime is not installed.
    """

    path: Path
    files: tuple[Path, ...]
    output: str
    opset: int
    difference: float | None

    def __str__(self) -> str:
        size = sum(file.stat().st_size for file in self.files)
        names = ", ".join(file.name for file in self.files)
        checked = f"not checked, because onnxruntime is not installed ({_INSTALL})"
        if self.difference is not None:
            checked = f"largest difference of {self.output} between onnxruntime and torch {self.difference:.1e}"
        return f"{names}: {size:,} bytes, opset {self.opset}; {checked}"


def export_onnx(
    estimator: Any,
    path: str | os.PathLike[str],
    *,
    output: str = "auto",
    X: Any = None,
    opset_version: int = 20,
) -> OnnxExport:
    """Write a fitted estimator as an ONNX file, and the files that inference without sktransfer needs.

    The graph is that of `as_module`. The size of the batch is free, and for texts the number of tokens. The file
    `model.json` next to `model.onnx` has the classes and the settings of the preprocessing. For texts,
    `model.tokenizer.json` is a tokenizer of the package tokenizers that truncates and pads. If onnxruntime is
    installed, its outputs are compared with those of torch before the files are moved to their place.

    Parameters
    ----------
    estimator : estimator
        Fitted estimator that `as_module` takes.
    path : str or path
        File to write, with the suffix ".onnx". Existing files are replaced.
    output : {"auto", "features", "logits", "predictions", "probabilities"}, default="auto"
        Output of the graph, as in `as_module`.
    X : array-like, Series, one-column DataFrame or list of n_samples, default=None
        Samples to trace and to check with. None for made-up ones, of which the size is that of the preprocessing.
    opset_version : int, default=20
        Version of ONNX's operators, from 18 to the newest that the installed onnx knows.

    Returns
    -------
    export : OnnxExport
        Files, and the largest difference. `print(export)` tells it in one line.

    Raises
    ------
    ImportError
        If onnx or onnxscript is not installed.
    InvalidParameterError
        If a parameter is not allowed, a step has no module, or the size of images is free and X is None.
    NotFittedError
        If the estimator is not fitted.
    SaveError
        If torch cannot express the network in ONNX, its outputs there are others, or the files cannot be written.

    See Also
    --------
    as_module : The estimator as a module of torch.
    save : Write the estimator for sktransfer.

    Notes
    -----
    The preprocessing of images is outside the graph: Pillow resizes, with the interpolation that the description names.
    Other libraries resize otherwise, and give other probabilities.

    Examples
    --------
    >>> from sktransfer import PretrainedClassifier, export_onnx
    >>> export = export_onnx(PretrainedClassifier("tiny/cnn"), "tiny.onnx")
    >>> [file.name for file in export.files], export.difference < 1e-5
    (['tiny.onnx', 'tiny.json'], True)
    """
    file = local_path(path)
    if file.suffix != ".onnx":
        raise InvalidParameterError(
            f"path={str(path)!r} must end in .onnx, because its description has the same name and ends in .json"
        )
    _check_replaced(file.with_suffix(".json"))
    newest = _newest_opset()
    if not is_int(opset_version) or not _OLDEST <= opset_version <= newest:
        raise InvalidParameterError(
            f"opset_version={opset_version!r} must be an int from {_OLDEST} to {newest}, the newest of onnx here"
        )
    if not file.parent.is_dir():
        raise SaveError(f"{file} cannot be written, because the folder {file.parent} does not exist: create it")
    module = as_module(estimator, output=output)
    batch = _batch(module, X)
    try:
        with tempfile.TemporaryDirectory(dir=file.parent, prefix=".export-") as folder:
            written = Path(folder) / file.name
            _write_graph(module, batch, written, int(opset_version))
            difference = _largest_difference(module, batch, written)
            _write_description(module, written, int(opset_version), difference)
            files = tuple(sorted(Path(folder).iterdir(), key=lambda one: (one.suffix != ".onnx", len(one.name))))
            for one in files:
                one.replace(file.parent / one.name)
    except OSError as error:
        raise SaveError(f"{file} cannot be written: {error}") from error
    return OnnxExport(
        file, tuple(file.parent / one.name for one in files), module.output, int(opset_version), difference
    )


def _newest_opset() -> int:
    """Return the newest version of ONNX's operators that the installed onnx knows."""
    try:
        import onnx
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ImportError(f"export_onnx needs onnx and onnxscript: {_INSTALL}") from error
    return int(onnx.defs.onnx_opset_version())


def _batch(module: EstimatorModule, X: Any) -> tuple[Tensor, ...]:
    """Return inputs of the module for at least two samples, because torch takes a batch of one for a fixed size."""
    preprocess = module.backbone.preprocess
    if X is not None:
        given = module.preprocess(X)
        batch = given if isinstance(given, tuple) else (given,)
        return tuple(torch.cat([one, one]) if len(one) == 1 else one for one in batch)  # (2, ...) for one sample
    if module.backbone.modality == "image":
        if getattr(preprocess, "crop", None) is None and not isinstance(getattr(preprocess, "resize", None), tuple):
            raise InvalidParameterError(
                f"the preprocessing of {module.backbone.name} does not set the size of images: pass X, a few images of "
                "the size that the file is for"
            )
        noise = np.random.default_rng(0).integers(0, 256, (2, _SIDE, _SIDE, 3), np.uint8)
        return (torch.stack(preprocess([Image.fromarray(one) for one in noise])),)  # (2, 3, height, width)
    from sktransfer.engine.inputs import collate

    values, mask = collate(preprocess(list(_TEXTS)), "text", preprocess.pad_value)
    assert mask is not None
    return values, mask


def _write_graph(module: EstimatorModule, batch: tuple[Tensor, ...], path: Path, opset: int) -> None:
    names = _NAMES[module.backbone.modality]
    try:
        write_onnx(module, batch, path, input_names=names, output_name=module.output, opset=opset)
    except OSError:
        raise
    except Exception as error:  # torch raises errors of many types
        raise SaveError(f"torch cannot express {module.backbone.name} in ONNX ({first_line(error)})") from error


def _largest_difference(module: EstimatorModule, batch: tuple[Tensor, ...], path: Path) -> float | None:
    """Return the largest difference for the batch and for its first sample alone; None without onnxruntime."""
    try:
        import onnxruntime
    except ImportError:
        return None
    try:
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    except Exception as error:  # of types that onnxruntime does not export
        raise SaveError(
            f"onnxruntime cannot run the file, and nothing was written ({first_line(error)}). Choose an older "
            "opset_version, or install a newer onnxruntime"
        ) from error
    names = [one.name for one in session.get_inputs()]
    largest = 0.0
    for inputs in (batch, _first(batch)):
        with torch.no_grad():
            expected = module(*inputs).numpy()
        (found,) = session.run(None, {name: one.numpy() for name, one in zip(names, inputs, strict=True)})
        largest = max(largest, float(np.abs(found - expected).max()))
        if not largest <= _TOLERANCE * max(1.0, float(np.abs(expected).max())):
            raise SaveError(
                f"the outputs of onnxruntime differ by up to {largest:.2g} from those of torch: nothing was written"
            )
    return largest


def _first(batch: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Return the first sample of a batch, without the padding of texts."""
    values, *mask = batch
    if not mask:
        return (values[:1],)
    n_tokens = int(mask[0][0].sum())
    return values[:1, :n_tokens], mask[0][:1, :n_tokens]


def _check_replaced(path: Path) -> None:
    """Raise if a file that is no description of an export would be replaced."""
    if not path.is_file():
        return
    with suppress(ValueError, OSError):
        content = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(content, dict) and {"sktransfer", "backbone"} <= content.keys():
            return
    raise InvalidParameterError(
        f"{path} exists and is no description of an exported network, which this file would become; give another path"
    )


def _write_description(module: EstimatorModule, path: Path, opset: int, difference: float | None) -> None:
    backbone, preprocess = module.backbone, module.backbone.preprocess
    settings: Any = preprocess.key
    if isinstance(preprocess, ImageTransform):
        settings = preprocess.to_state()
    elif isinstance(preprocess, Tokens):
        tokenizer = preprocess.padded_tokenizer()
        path.with_suffix(".tokenizer.json").write_text(tokenizer.to_str(), encoding="utf-8")
        settings = {"tokenizer": path.with_suffix(".tokenizer.json").name, "max_length": preprocess.limit}
        settings |= {} if preprocess.rules is None else {"rules": preprocess.rules.key}  # apply them to texts first
    description = {
        "sktransfer": __version__,
        "backbone": backbone.name,
        "modality": backbone.modality,
        "inputs": list(_NAMES[backbone.modality]),
        "output": module.output,
        "classes": None if module.classes_ is None else np.asarray(module.classes_).tolist(),
        "preprocess": settings,
        "opset": opset,
        "largest_difference": difference,
    }
    text = json.dumps(description, indent=2, ensure_ascii=False, default=str)
    path.with_suffix(".json").write_text(text + "\n", encoding="utf-8")
