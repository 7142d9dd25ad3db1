"""Names of the tensors in fastai's files of AWD-LSTM, and their shapes. Imports nothing heavy."""

from __future__ import annotations

import functools
import json
import struct
from collections.abc import Collection, Mapping
from pathlib import Path

from sktransfer.exceptions import WeightsError

__all__ = ["BIAS", "DECODER", "TABLE", "in_file", "names_in_file", "shapes_of"]

DECODER, BIAS = "1.decoder.weight", "1.decoder.bias"  # of the softmax
TABLE = "0.table.weight"  # of our stages
_LSTM = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")


def names_in_file(names: Collection[str], path: Path) -> dict[str, str]:
    """Return the name in the file for each name of our stages, layer by layer.

    Parameters
    ----------
    names : collection of str
        Names in the file: those of a language model, of its encoder alone, or of a classifier.
    path : Path
        The file, for messages.

    Raises
    ------
    WeightsError
        If they are not the names of fastai's AWD_LSTM.
    """
    tables = [name for name in names if name.endswith("encoder.weight")]
    if not tables:
        raise WeightsError(
            f"{path}: has no tensor 'encoder.weight', so it is not the state dict of fastai's AWD_LSTM; it has "
            f"{', '.join(list(names)[:5])}"
        )
    prefix = min(tables, key=len).removesuffix("encoder.weight")
    rnns = f"{prefix}rnns."
    layers = {name.removeprefix(rnns).partition(".")[0] for name in names if name.startswith(rnns)}
    found = {TABLE: f"{prefix}encoder.weight"}
    for layer in range(len(layers)):
        # A copy with dropout, `module.weight_hh_l0`, may accompany the weights that were trained.
        raw = {name: f"{rnns}{layer}.{in_file(name)}" for name in _LSTM}
        missing = [name for name in raw.values() if name not in names]
        reverse = [name for name in names if name.startswith(f"{rnns}{layer}.") and "_reverse" in name]
        if missing or reverse:
            raise WeightsError(
                f"{path}: layer {layer} is not a forward LSTM layer of AWD_LSTM: {missing or reverse} is "
                f"{'missing' if missing else 'not expected'}"
            )
        found |= {f"{layer + 1}.lstm.{name}": file for name, file in raw.items()}
    if not layers:
        raise WeightsError(f"{path}: has no tensors '{rnns}...', the layers of fastai's AWD_LSTM")
    return found


def in_file(name: str) -> str:
    """Return the name of a tensor of a layer in fastai's files."""
    return "weight_hh_l0_raw" if name == "weight_hh_l0" else f"module.{name}"


def shapes_of(path: Path) -> Mapping[str, tuple[int, ...]]:
    """Return the shapes of the tensors of a file, which are read once.

    Parameters
    ----------
    path : Path
        File of weights.

    Raises
    ------
    WeightsError
        If it cannot be read.
    """
    stat = path.stat()
    return _shapes(path, stat.st_size, stat.st_mtime_ns)


@functools.lru_cache(maxsize=8)
def _shapes(path: Path, size: int, time: int) -> dict[str, tuple[int, ...]]:
    if path.suffix != ".safetensors":
        from sktransfer.backbones import read_state

        return {name: tuple(tensor.shape) for name, tensor in read_state(path).items()}
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(min(length, size)))
        return {name: tuple(one["shape"]) for name, one in header.items() if name != "__metadata__"}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, struct.error) as error:
        raise WeightsError(f"{path}: cannot be read as weights ({type(error).__name__}: {error})") from error
