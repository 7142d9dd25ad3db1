"""Files of a folder that a user names."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from sktransfer.exceptions import WeightsError

__all__ = ["awd_vocabulary", "awd_weights", "elmo_options", "elmo_weights", "one_file"]

_OF_TRAINING = ("card.json", "checkpoint.pt")  # files that the training script writes as well


def awd_weights(folder: Path) -> Path:
    """Return the file of the weights of AWD-LSTM in a folder."""
    patterns = ("*.safetensors", "*.pth", "*.pt")
    return one_file(folder, patterns, "weights (.safetensors or .pth)", _OF_TRAINING)


def awd_vocabulary(folder: Path) -> Path:
    """Return the file of the vocabulary of AWD-LSTM in a folder."""
    return one_file(folder, ("*.json", "*.txt", "*.pkl"), "vocabulary (.json, .txt or .pkl)", _OF_TRAINING)


def elmo_options(folder: Path) -> Path:
    """Return the file of the options of ELMo in a folder."""
    return one_file(folder, ("*options.json",), "options")


def elmo_weights(folder: Path) -> Path:
    """Return the file of the weights of ELMo in a folder."""
    return one_file(folder, ("*weights.hdf5",), "weights")


def one_file(folder: Path, patterns: Sequence[str], what: str, without: Collection[str] = ()) -> Path:
    """Return the only file of a folder that matches the first pattern that any file matches.

    Parameters
    ----------
    folder : Path
        Folder.
    patterns : sequence of str
        Shell patterns, the preferred one first.
    what : str
        Content of the file, for messages.
    without : collection of str, default=()
        Names of files to leave out.

    Raises
    ------
    WeightsError
        If there is no such file, or there are several.
    """
    for pattern in patterns:
        found = sorted(path for path in folder.glob(pattern) if path.name not in without and path.is_file())
        if len(found) > 1:
            raise WeightsError(
                f"{folder}: has {len(found)} files {pattern}, {', '.join(path.name for path in found[:5])}; the "
                f"{what} must be the only one, so move the others"
            )
        if found:
            return found[0]
    raise WeightsError(f"{folder}: has no {what}; looked for {' and '.join(patterns)}")
