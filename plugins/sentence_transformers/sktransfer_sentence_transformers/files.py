"""The JSON files of a model: in a local folder, or on the hub. Imports nothing heavy."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from sktransfer._utils import local_path
from sktransfer.exceptions import BackboneNotFoundError, WeightsError
from sktransfer.weights.hub import hub_file

__all__ = ["PROVIDER", "ModelFiles", "is_inside", "locate", "positive", "read_json"]

PROVIDER = "sentence-transformers"  # the entry point's name, and the owner on the hub of models named without one


@dataclass(frozen=True)
class ModelFiles:
    """Where the files of a model are.

    Parameters
    ----------
    name : str
        What messages call the model.
    root : Path
        Its folder; of a hub's model the local copy, which may lack files.
    hub : str, default=""
        The hub id; "" for a local folder.
    whole : bool, default=True
        Whether what is not in the folder is nowhere.
    """

    name: str
    root: Path
    hub: str = ""
    whole: bool = True

    @property
    def location(self) -> str:
        """What `WeightsSource` takes."""
        return f"hub:{self.hub}" if self.hub else f"file:{self.root}"

    def find(self, file: str) -> Path | None:
        """Return a file of the model, fetched first where it is not here and that is allowed; None if it has none.

        Raises
        ------
        WeightsError
            If it is not here and may not, or cannot, be fetched.
        """
        path = self.root / file
        if path.is_file():
            return path
        return None if self.whole else hub_file(self.hub, file, self.name)

    def read(self, file: str) -> dict[str, Any] | None:
        """Return the settings in a JSON file; None if the model has no such file.

        Raises
        ------
        WeightsError
            If it cannot be read, or holds no settings.
        """
        path = self.find(file)
        if path is None:
            return None
        settings = read_json(path)
        if not isinstance(settings, dict):
            raise WeightsError(f"{path}: holds a {type(settings).__name__}, not settings by name")
        return settings

    def state(self, folders: list[str]) -> tuple[tuple[str, int, int], ...]:
        """Return names, sizes and times of the files in folders inside the model, to tell when one is written anew."""
        if self.hub:
            return ()  # what comes from a hub does not change
        found = [path for one in folders for path in sorted((self.root / one).glob("*")) if path.is_file()]
        stats = [(path.relative_to(self.root).as_posix(), path.stat()) for path in found]
        return tuple((name, stat.st_size, stat.st_mtime_ns) for name, stat in stats)


def read_json(path: Path) -> Any:
    """Return what a JSON file holds.

    Raises
    ------
    WeightsError
        If it cannot be read.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path}: cannot be read as JSON ({error})") from error


def positive(value: object, what: str) -> int:
    """Return a whole number of at least 1.

    Raises
    ------
    WeightsError
        If the value is none.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise WeightsError(f"{what} is {value!r}; it must be a whole number of at least 1")
    return value


def is_inside(path: str) -> bool:
    """Return whether a path from a model's file stays inside the model's folder."""
    parts = PurePosixPath(path)
    return not parts.is_absolute() and ".." not in parts.parts and "\\" not in path and ":" not in path


def locate(model: str) -> ModelFiles:
    """Find the folder of a model.

    Parameters
    ----------
    model : str
        A hub id (`owner/model`, `owner/model@revision`; `model` alone for one of the owner sentence-transformers), or a
        local folder.

    Raises
    ------
    BackboneNotFoundError
        If there is no such model or folder.
    WeightsError
        If it is none of sentence-transformers, or may not or cannot be fetched.
    """
    folder = local_path(model)
    if model.startswith((".", "/", "~")) or folder.exists():
        return _local(model, folder)
    short = model.removeprefix(f"{PROVIDER}/")  # one name a model: with and without its owner
    hub = short if "/" in short else f"{PROVIDER}/{short}"
    path = hub_file(hub, "modules.json", f"{PROVIDER}/{short}")
    if path is None:
        raise WeightsError(_no_modules(f"{PROVIDER}/{short}", "this hub model", hub))
    root = path.parent
    # A copy that transformers has made has weights as well, but none of the modules' folders.
    whole = any(root.glob("*.safetensors")) and any(root.glob("*/config.json"))
    return ModelFiles(f"{PROVIDER}/{short}", root, hub, whole)


def _local(model: str, folder: Path) -> ModelFiles:
    if not folder.is_dir():
        raise BackboneNotFoundError(
            f"'{PROVIDER}/{model}' names a local folder, and there is none at {folder.absolute()}; hub ids have the "
            "form 'owner/model'"
        )
    folder = folder.resolve()  # what is pickled by name is found again from another working directory
    if not (folder / "modules.json").is_file():
        found = sorted(path.name for path in folder.iterdir())[:8]
        raise WeightsError(_no_modules(f"{PROVIDER}/{model}", f"{folder} (it holds {found})", str(folder)))
    return ModelFiles(f"{PROVIDER}/{folder}", folder)


def _no_modules(name: str, where: str, plain: str) -> str:
    return (
        f"{name!r}: {where} has no modules.json, which every model of sentence-transformers has. Save one with "
        f"`SentenceTransformer(...).save(folder)`; a model of transformers alone is named 'hf/{plain}'"
    )
