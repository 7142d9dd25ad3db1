"""Checkpoints: the state of a training in a file, written after each epoch."""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from skorch import NeuralNet
from skorch.callbacks import Callback
from torch import Tensor

from sktransfer.exceptions import CheckpointWarning, InvalidParameterError, warn

__all__ = ["FORMAT", "Checkpoint", "Digest", "params_of", "set_state", "state_of"]

FORMAT = 3  # part of the names of files
_NAME = re.compile(r"[0-9a-f]{32,}(?:\.(\d+))?\.pt")


class Checkpoint(Callback):  # type: ignore[misc]
    """Write the state of a training to a folder after each epoch, and resume an interrupted fit from it.

    The name of a file is a hash of the fit: its parameters, samples, targets, weights and seed. One folder therefore
    serves a whole `GridSearchCV`. A resumed fit has the same result as an uninterrupted one, to the bit on a CPU. With
    `random_state=None`, the folder keeps the seed that a fit has drawn, and the next fit with the same parameters,
    samples and targets resumes with it. The attributes of other callbacks that end in "_" are saved if they
    are numbers, strings or tensors, or have a `state_dict`.

    A fit that is never resumed leaves its file. Delete the folder when its trainings are done.

    Parameters
    ----------
    folder : str or Path
        Folder of the files, created if it is missing.
    keep : bool, default=False
        Whether to keep the file after the training. The same fit then trains nothing, so that an interrupted search is
        soon back where it was. A file takes the size of the trained weights, three times that size with Adam.

    Warns
    -----
    CheckpointWarning
        If a file cannot be read, or the folder has files of another version of sktransfer, and the training starts from
        the beginning. If a file cannot be written, and the training continues without it.

    Examples
    --------
    >>> import tempfile
    >>> from sklearn.datasets import load_digits
    >>> from sktransfer import Checkpoint, FineTuneClassifier
    >>> X, y = load_digits(return_X_y=True)
    >>> clf = FineTuneClassifier(callbacks=[Checkpoint(tempfile.mkdtemp())], max_epochs=2, random_state=0)
    >>> clf.fit(X[:100] / 16, y[:100]).n_iter_  # if interrupted, the next call resumes
    2
    """

    def __init__(self, folder: str | os.PathLike[str], *, keep: bool = False) -> None:
        self.folder = folder
        self.keep = keep

    def recall_seed(self, drawn: int, *identity: Any) -> int:
        """Return the seed of an interrupted fit, or the drawn one, which is kept with the first epoch.

        Parameters
        ----------
        drawn : int
            Seed that this fit has drawn.
        *identity : anything
            What tells this fit from others of the folder, as `Digest.add` takes it.
        """
        self.seed_path_ = Path(self.folder) / f"{Digest().add(FORMAT, *identity).hex()}.seed"
        try:
            self.seed_ = int(self.seed_path_.read_text())
        except (OSError, ValueError):  # none is kept, or it is damaged
            self.seed_ = drawn
        return self.seed_

    def on_train_begin(self, net: NeuralNet, X: Any = None, **kwargs: Any) -> None:
        """Determine the file of this fit. The net reads it after `on_train_begin` of the other callbacks."""
        aggregation = getattr(net, "aggregation", None)
        if aggregation is not None and aggregation.has_memory:
            raise InvalidParameterError(
                f"aggregator={aggregation.aggregator!r} remembers earlier steps, which a Checkpoint does not hold; use "
                "another aggregator, or leave Checkpoint out"
            )
        folder = Path(self.folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError as error:
            raise InvalidParameterError(
                f"folder={str(self.folder)!r} of a Checkpoint cannot be written to: {error}; choose another folder"
            ) from error
        self.path_ = folder / f"{self._digest(net, X)}.{FORMAT}.pt"
        self.may_write_ = True
        if not self.path_.exists():
            _warn_of_other_formats(folder)
        net.checkpoint = self

    def on_train_end(self, net: NeuralNet, **kwargs: Any) -> None:
        """Delete the file, unless the training was interrupted or `keep` is True."""
        net.checkpoint = None
        if not self.keep and not net.interrupted:
            self.path_.unlink(missing_ok=True)
            if hasattr(self, "seed_path_"):
                self.seed_path_.unlink(missing_ok=True)

    def resume(self, net: NeuralNet) -> None:
        """Restore the state of a net from the file, if it exists.

        Parameters
        ----------
        net : NeuralNet
            Initialized net, after `on_train_begin` of its callbacks.
        """
        if not self.path_.exists():
            return
        try:
            state = torch.load(self.path_, map_location="cpu", weights_only=True)
            if Digest().add(state["parts"]).hex() != state["digest"]:
                raise ValueError("its checksum is wrong")
        except Exception as error:  # torch raises many types for a damaged file; nothing of it was used
            text = f"{self.path_} cannot be read ({error}): the training starts from the beginning"
            warn(text, CheckpointWarning)
            return
        parts = state["parts"]
        net.module_.load_state_dict(parts["module"])
        net.optimizer_.load_state_dict(parts["optimizer"])
        net.scaler_.load_state_dict(parts["scaler"])
        for name, callback in net.callbacks_:
            set_state(callback, parts["callbacks"].get(name, {}))
        net.history.extend(json.loads(parts["history"]))

    def write(self, net: NeuralNet) -> None:
        """Write the state of a net to a temporary file, then rename it.

        Parameters
        ----------
        net : NeuralNet
            Net at the end of an epoch.
        """
        if not self.may_write_:
            return
        parts = {
            "module": net.module_.state_dict(),
            "optimizer": net.optimizer_.state_dict(),
            "scaler": net.scaler_.state_dict(),
            "callbacks": {name: state_of(one) for name, one in net.callbacks_ if one is not self},
            "history": json.dumps([{**row, "batches": []} for row in net.history], default=float),
        }
        temporary = self.path_.with_suffix(f".{os.getpid()}")
        try:
            if hasattr(self, "seed_path_") and not self.seed_path_.exists():
                temporary.write_text(str(self.seed_))
                temporary.replace(self.seed_path_)
            torch.save({"parts": parts, "digest": Digest().add(parts).hex()}, temporary)
            temporary.replace(self.path_)
        except (OSError, RuntimeError) as error:  # torch raises RuntimeError if the disk is full
            self.may_write_ = False
            text = f"{self.path_} cannot be written ({error}): the training continues, but cannot be resumed"
            warn(text, CheckpointWarning)
        finally:
            temporary.unlink(missing_ok=True)

    def _digest(self, net: NeuralNet, dataset: Any) -> str:
        """Return a hash of everything that the result of this training depends on."""
        digest = Digest().add(FORMAT, torch.__version__, *net.identity, net.module_.state_dict())
        digest.add(net.optimizer_.state_dict(), dataset.identity())
        valid = net.get_split_datasets(dataset, None)[1]
        digest.add(None if valid is None else valid.identity())
        for name, callback in net.callbacks_:
            if callback is not self:
                digest.add(name, type(callback).__qualname__, params_of(callback))
        return digest.hex()


def _warn_of_other_formats(folder: Path) -> None:
    """Warn if a folder has checkpoints that another version of sktransfer has written in another format."""
    named = {name: _NAME.fullmatch(name) for name in sorted(os.listdir(folder))}  # noqa: PTH208, of many fits
    others = [name for name, match in named.items() if match and match[1] != str(FORMAT)]
    if others:
        warn(
            f"{folder} has {len(others)} checkpoints of another version of sktransfer, such as {others[0]}, which are "
            "not read: the training starts from the beginning. Complete their trainings with that version, or delete "
            "them",
            CheckpointWarning,
        )


def state_of(callback: Any) -> dict[str, Any]:
    """Return the attributes of a callback that end in "_" and are plain values or have a `state_dict`.

    Parameters
    ----------
    callback : skorch Callback
        Callback of a net.
    """
    state = {}
    for name, value in vars(callback).items():
        if not name.endswith("_") or name.endswith("__"):
            continue
        if hasattr(value, "state_dict") and not isinstance(value, type):
            state[name] = value.state_dict()
        elif _is_plain(value):
            state[name] = value.item() if isinstance(value, np.generic) else value
    return state


def params_of(callback: Any) -> dict[str, Any]:
    """Return the parameters of a callback. Objects are represented by their qualified name.

    Parameters
    ----------
    callback : skorch Callback
        Callback of a net.
    """
    params = callback.get_params(deep=False)
    return {
        name: value if _is_plain(value) else getattr(value, "__qualname__", type(value).__qualname__)
        for name, value in params.items()
    }


def set_state(callback: Any, state: Mapping[str, Any]) -> None:
    """Restore the state of a callback that `state_of` returned.

    Parameters
    ----------
    callback : skorch Callback
        Callback after `on_train_begin`, so that its objects with a `state_dict` exist.
    state : mapping
        Values by attribute name.
    """
    for name, value in state.items():
        held: Any = getattr(callback, name, None)
        if hasattr(held, "load_state_dict"):
            held.load_state_dict(value)
        else:
            setattr(callback, name, value)


def _is_plain(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(isinstance(name, str) and _is_plain(one) for name, one in value.items())
    if isinstance(value, (list, tuple)):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, (bool, int, float, str, Tensor, np.number))


class Digest:
    """Hash of numbers, strings, arrays and tensors, and of lists and mappings of them.

    Examples
    --------
    >>> from sktransfer.callbacks.checkpoint import Digest
    >>> len(Digest().add({"lr": 0.1}, [1, 2]).hex())
    40
    """

    def __init__(self) -> None:
        self._running = hashlib.blake2b(digest_size=20)

    def add(self, *parts: Any) -> Digest:
        """Update the hash.

        Parameters
        ----------
        *parts : anything
            Values to add. Objects that are no arrays, lists or mappings are represented by their `repr`.
        """
        for part in parts:
            if isinstance(part, Tensor):
                part = part.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy()  # (n_bytes,)
            if isinstance(part, Mapping):
                self._open("mapping", len(part)).add(*(one for item in part.items() for one in item))
            elif isinstance(part, (list, tuple)):
                self._open("list", len(part)).add(*part)
            elif isinstance(part, np.ndarray) and part.dtype != object:
                self._open(f"{part.dtype.str} {part.shape}", part.nbytes)
                self._running.update(np.ascontiguousarray(part).data.cast("B"))
            else:
                data = part if isinstance(part, bytes) else repr(part).encode()
                self._open(type(part).__name__, len(data))
                self._running.update(data)
        return self

    def _open(self, kind: str, size: int) -> Digest:
        self._running.update(f"{kind} {size}\n".encode())  # separates the parts
        return self

    def hex(self) -> str:
        """Return the hash as a hexadecimal string."""
        return self._running.hexdigest()
