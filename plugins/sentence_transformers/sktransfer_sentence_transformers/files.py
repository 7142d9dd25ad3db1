"""JSON files of a model in a local folder or on the hub. Imports nothing heavy."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from sktransfer.backbones import hub_file, local_path
from sktransfer.exceptions import BackboneNotFoundError, WeightsError

__all__ = ["PROVIDER", "ModelFiles", "is_inside", "locate", "positive", "read_json"]

PROVIDER = "sentence-transformers"  # entry point, and default owner of hub models


@dataclass(frozen=True)
class ModelFiles:
    """Location of the files of a model.

    Parameters
    ----------
    name : str
        Name of the model in error messages.
    root : Path
        Folder of the model, or the local copy of a hub model, which may lack files.
    hub : str, default=""
        Hub id, or "" for a local folder.
    complete : bool, default=True
        Whether the folder has all files. If False, other files are looked up on the hub.
    """

    name: str
    root: Path
    hub: str = ""
    complete: bool = True

    @property
    def location(self) -> str:
        """Location for `WeightsSource`."""
        return f"hub:{self.hub}" if self.hub else f"file:{self.root}"

    def find(self, file: str) -> Path | None:
        """Return the path of a file of the model, downloaded first if necessary and allowed, or None.

        Parameters
        ----------
        file : str
            Path inside the model.

        Raises
        ------
        WeightsError
            If the file is not in the folder and may not, or cannot, be downloaded.
        """
        path = self.root / file
        if path.is_file():
            return path
        return None if self.complete else hub_file(self.hub, file, self.name)

    def read(self, file: str) -> dict[str, Any] | None:
        """Return the settings in a JSON file, or None if the model has no such file.

        Parameters
        ----------
        file : str
            Path inside the model.

        Raises
        ------
        WeightsError
            If it cannot be read, or contains no settings.
        """
        path = self.find(file)
        if path is None:
            return None
        settings = read_json(path)
        if not isinstance(settings, dict):
            raise WeightsError(f"{path}: contains a {type(settings).__name__}, not settings by name")
        return settings

    def state(self, folders: list[str]) -> tuple[tuple[str, int, int], ...]:
        """Return names, sizes and times of files, which reveal a file that was rewritten.

        Parameters
        ----------
        folders : list of str
            Folders inside the model.
        """
        if self.hub:
            return ()  # files of a hub do not change
        paths = [path for folder in folders for path in sorted((self.root / folder).glob("*")) if path.is_file()]
        stats = [(path.relative_to(self.root).as_posix(), path.stat()) for path in paths]
        return tuple((name, stat.st_size, stat.st_mtime_ns) for name, stat in stats)


def read_json(path: Path) -> Any:
    """Return the contents of a JSON file.

    Raises
    ------
    WeightsError
        If it cannot be read.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path}: cannot be read as JSON ({error})") from error


def positive(value: object, label: str) -> int:
    """Return an int of at least 1.

    Parameters
    ----------
    value : object
        Value in a file of a model.
    label : str
        File and setting, for the error message.

    Raises
    ------
    WeightsError
        If the value is not an int of at least 1.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise WeightsError(f"{label} is {value!r}; it must be an int of at least 1")
    return value


def is_inside(path: str) -> bool:
    """Return whether a path in a model's file stays inside the model's folder."""
    parts = PurePosixPath(path)
    return not parts.is_absolute() and ".." not in parts.parts and "\\" not in path and ":" not in path


def locate(model: str) -> ModelFiles:
    """Return the location of a model.

    Parameters
    ----------
    model : str
        A hub id (`owner/model`, `owner/model@revision`, or `model` alone if sentence-transformers is the owner) or a
        local folder.

    Raises
    ------
    BackboneNotFoundError
        If there is no such model or folder.
    WeightsError
        If it is not a model of sentence-transformers, or may not or cannot be downloaded.
    """
    folder = local_path(model)
    if model.startswith((".", "/", "~")) or folder.exists():
        return _local(model, folder)
    short = model.removeprefix(f"{PROVIDER}/")  # the same name with and without the default owner
    hub = short if "/" in short else f"{PROVIDER}/{short}"
    path = hub_file(hub, "modules.json", f"{PROVIDER}/{short}")
    if path is None:
        raise WeightsError(_no_modules(f"{PROVIDER}/{short}", "this hub model", hub))
    root = path.parent
    # A copy made by transformers has weights, but not the folders of the modules.
    complete = any(root.glob("*.safetensors")) and any(root.glob("*/config.json"))
    return ModelFiles(f"{PROVIDER}/{short}", root, hub, complete)


def _local(model: str, folder: Path) -> ModelFiles:
    if not folder.is_dir():
        raise BackboneNotFoundError(
            f"'{PROVIDER}/{model}' names a local folder, but {folder.absolute()} does not exist; hub ids have the "
            "form 'owner/model'"
        )
    folder = folder.resolve()  # unpickling may happen in another working directory
    if not (folder / "modules.json").is_file():
        names = sorted(path.name for path in folder.iterdir())[:8]
        raise WeightsError(_no_modules(f"{PROVIDER}/{model}", f"{folder} (it contains {names})", str(folder)))
    return ModelFiles(f"{PROVIDER}/{folder}", folder)


def _no_modules(name: str, where: str, plain: str) -> str:
    return (
        f"{name!r}: {where} has no modules.json, which every model of sentence-transformers has. Save one with "
        f"`SentenceTransformer(...).save(folder)`; a model of transformers without modules is named 'hf/{plain}'"
    )
