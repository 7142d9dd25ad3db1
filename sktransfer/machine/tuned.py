"""Records of `sktransfer tune` about backbones on this processor, kept in the user's cache folder.

A record holds for one network, one machine and one version of torch. Any other is ignored.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import nn

from sktransfer._utils import cache_folder
from sktransfer._validation import is_int, is_real
from sktransfer.exceptions import StoreError, StoreWarning, warn
from sktransfer.machine.processor import processor

__all__ = [
    "Choice",
    "Record",
    "check_writable",
    "find_choices",
    "forget",
    "read_records",
    "structure_of",
    "tuned_folder",
    "write",
]

_LAYOUT = 1  # version of the files

_lock = threading.Lock()
_found: WeakKeyDictionary[Any, tuple[nn.Module, Mapping[str, Choice]]] = WeakKeyDictionary()


@dataclass(frozen=True)
class Choice:
    """Fastest way to run a network in one precision.

    Parameters
    ----------
    budget : int
        Cost of an automatic batch, in tokens or in bytes of pixels.
    workers : int
        Batches that are computed at once.
    per_second : float, default=0.0
        Samples per second that were measured.
    gain : float, default=1.0
        Ratio of this rate to that of the default.
    """

    budget: int
    workers: int
    per_second: float = 0.0
    gain: float = 1.0


@dataclass(frozen=True)
class Record:
    """Measurement of one backbone.

    Parameters
    ----------
    backbone : str
        Name of the backbone.
    structure : str
        Hash of its modules and the shapes of its parameters.
    machine : str
        Processor and version of torch.
    n_threads : int
        Threads of torch.
    measured : str
        Date and time.
    choices : mapping of str to Choice
        Fastest ways by precision. The fastest precision comes first.
    """

    backbone: str
    structure: str
    machine: str
    n_threads: int
    measured: str
    choices: Mapping[str, Choice] = field(default_factory=dict)

    def stale(self, structure: str | None = None) -> str:
        """Return the reason for which the record is ignored here, or an empty string if it is used.

        Parameters
        ----------
        structure : str, default=None
            Hash of the network that the backbone now is. None compares the machine only.
        """
        if structure not in (None, self.structure):
            return "the network of this name has changed"
        here = processor(torch.device("cpu"))
        if self.machine != here:
            before, now = self.machine.partition(" ")[0], here.partition(" ")[0]
            return f"torch was {before}, and is {now}" if before != now else "it was measured on another machine"
        n_threads = torch.get_num_threads()
        return "" if self.n_threads == n_threads else f"torch had {self.n_threads} threads, and has {n_threads}"


def structure_of(backbone: Any) -> str:
    """Return the hash of a backbone's modules and the shapes of its parameters, the same for any weights.

    Parameters
    ----------
    backbone : Backbone
        Backbone that is not joined.
    """
    parts = [f"{name} {type(module).__qualname__}" for name, module in backbone.stages.named_modules()]
    parts += [f"{name} {tuple(tensor.shape)}" for name, tensor in backbone.stages.named_parameters()]
    return hashlib.blake2b("\n".join([*backbone.stage_names, *parts]).encode(), digest_size=16).hexdigest()


def tuned_folder() -> Path:
    """Return the folder of the records."""
    return cache_folder() / "tuned"


def path_of(name: str) -> Path:
    """Return the file of the record of a backbone.

    Parameters
    ----------
    name : str
        Name of the backbone.
    """
    return tuned_folder() / f"{hashlib.blake2b(name.encode(), digest_size=8).hexdigest()}.json"


def find_choices(backbone: Any) -> Mapping[str, Choice]:
    """Return the fastest ways to run a backbone here by precision, or nothing if no record of it is used.

    A process reads the record of a backbone once.

    Parameters
    ----------
    backbone : Backbone
        Backbone that is not joined.
    """
    held = _found.get(backbone)
    if held is not None and held[0] is backbone.stages:
        return held[1]
    with _lock:
        choices: Mapping[str, Choice] = {}
        path = _readable(backbone.name)
        if path is not None:
            try:
                record = _read(path)
            except StoreError as error:
                warn(str(error), StoreWarning)
            else:
                choices = {} if record.stale(structure_of(backbone)) else record.choices
        _found[backbone] = backbone.stages, choices
        return choices


def _readable(name: str) -> Path | None:
    """Return the file of a record, None if there is none. A network runs without a cache folder as well."""
    try:
        path = path_of(name)
        return path if path.is_file() else None
    except (OSError, RuntimeError):  # a folder that may not be read, or a user without a home
        return None


def check_writable() -> None:
    """Check that a record can be written, before the time for its measurement is spent.

    Raises
    ------
    StoreError
        If no file can be written.
    """
    with _writing(tuned_folder()):
        pass


@contextmanager
def _writing(path: Path) -> Iterator[Path]:
    """Give an empty file in a folder, or in that of a file, which is deleted at the end if it is still there."""
    folder = path.parent if path.suffix else path
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=folder, suffix=".part")
        os.close(handle)
        try:
            yield Path(temporary)
        finally:
            Path(temporary).unlink(missing_ok=True)
    except OSError as error:
        raise StoreError(f"{path} cannot be written ({error}). SKTRANSFER_CACHE names another cache folder") from error


def write(record: Record) -> Path:
    """Write a record, in place of an earlier one of the backbone, and return its file.

    Parameters
    ----------
    record : Record
        Measurement.

    Raises
    ------
    StoreError
        If the file cannot be written.
    """
    path, text = path_of(record.backbone), json.dumps({"layout": _LAYOUT, **asdict(record)}, indent=1)
    with _writing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    _found.clear()
    return path


def read_records() -> dict[Path, Record | StoreError]:
    """Return all records by their files, or the error of a damaged file."""
    found: dict[Path, Record | StoreError] = {}
    for path in sorted(tuned_folder().glob("*.json")):
        try:
            found[path] = _read(path)
        except StoreError as error:
            found[path] = error
    return found


def forget(name: str | None = None) -> list[Path]:
    """Delete the record of a backbone, or all, and return the deleted files.

    Parameters
    ----------
    name : str, default=None
        Name of the backbone. None for all, also damaged files.

    Raises
    ------
    StoreError
        If there is none, or it cannot be deleted.
    """
    paths = sorted(tuned_folder().glob("*.json")) if name is None else [path_of(name)]
    for path in paths:
        try:
            path.unlink()
        except FileNotFoundError as error:
            raise StoreError(f"{name!r} is not tuned. `sktransfer tune --list` lists what is") from error
        except OSError as error:
            raise StoreError(f"{path} cannot be deleted ({error})") from error
    _found.clear()
    return paths


def _read(path: Path) -> Record:
    try:
        state = json.loads(path.read_text(encoding="utf-8"))
        layout = state.pop("layout")
        choices = {name: Choice(**choice) for name, choice in state.pop("choices").items()}
        record = Record(**state, choices=choices)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise _damaged(path, f"{type(error).__name__}: {error}") from error
    if layout != _LAYOUT:
        raise _damaged(path, f"layout {layout!r} is not {_LAYOUT}")
    for name in ("backbone", "structure", "machine", "measured"):
        if not isinstance(getattr(record, name), str):
            raise _damaged(path, f"{name} is no text")
    counts = [record.n_threads, *(n for choice in choices.values() for n in (choice.budget, choice.workers))]
    if not all(is_int(n) and n >= 1 for n in counts):
        raise _damaged(path, "n_threads, budget and workers must be ints of at least 1")
    if not all(map(is_real, (n for choice in choices.values() for n in (choice.per_second, choice.gain)))):
        raise _damaged(path, "per_second and gain must be numbers")
    return record


def _damaged(path: Path, reason: str) -> StoreError:
    return StoreError(
        f"{path} of `sktransfer tune` is damaged and not used ({reason}). `sktransfer tune --forget` deletes it and "
        "all others, and `sktransfer tune BACKBONE` replaces it"
    )
