"""Whole models of a Hugging Face hub: which copy is here, what it lacks, and how it is completed and checked."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

from sktransfer.backbones.hub import check_network, failure
from sktransfer.exceptions import WeightsError

__all__ = ["cached_folder", "fetch_folder", "lacking"]

_PATTERNS = ["*.json", "*.txt", "*.model", "*.safetensors"]
_SHARD = re.compile(r"(.+)-\d+-of-\d+\.safetensors")


def cached_folder(model: str, revision: str | None) -> Path | None:
    """Return the folder of a model in this machine's cache, whole or not; None if there is none.

    Parameters
    ----------
    model : str
        `owner/model`.
    revision : str or None
        None for the main one.
    """
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(model, revision=revision, local_files_only=True))
    except (OSError, ValueError) as error:
        partial = getattr(error, "snapshot_path", None)  # of a copy that lacks any file of the hub's, needed or not
        return None if partial is None else Path(partial)


def lacking(folder: Path | None, tokenizer: bool) -> str:
    """Return the first file that a model's folder lacks to be loaded; "" if it is whole.

    An interrupted download leaves some of the files, and so does whoever fetches the configuration alone.

    Parameters
    ----------
    folder : Path or None
        The folder; None where there is none.
    tokenizer : bool
        Whether a tokenizer belongs to it.

    Raises
    ------
    WeightsError
        If an index of weights cannot be read.
    """
    from sktransfer.backbones.tokens import has_tokenizer

    if folder is None:
        return "model.safetensors"
    # A model of several modules has each in a folder of its own, and then no configuration beside these folders.
    places = [folder] if (folder / "config.json").is_file() else [folder, *_folders(folder)]
    files = [file for place in places for file in sorted(place.glob("*.safetensors"))]
    if not files:
        return "model.safetensors"
    for index in [index for place in places for index in sorted(place.glob("*.safetensors.index.json"))]:
        for name in _shards(index):
            if not (index.parent / name).is_file():
                return (index.parent / name).relative_to(folder).as_posix()
    for file in files:
        shard = _SHARD.fullmatch(file.name)
        index = file.with_name(f"{shard[1]}.safetensors.index.json") if shard else file
        if not index.is_file():
            return index.relative_to(folder).as_posix()
    return "" if not tokenizer or any(map(has_tokenizer, places)) else "tokenizer.json"


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir())


def _shards(index: Path) -> list[str]:
    """Return the files that an index names, if they lie beside it: elsewhere nothing is looked for."""
    try:
        names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        return sorted(name for name in names if Path(name).name == name)
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise WeightsError(
            f"{index}: cannot be read as an index of weights ({type(error).__name__}: {error}). Delete it to fetch it "
            "again."
        ) from error


def fetch_folder(model: str, revision: str | None) -> Path:
    """Fetch what is not here of a model, and return its folder.

    The hub's client does the fetching: it goes on after a broken connection, and files that are here already are not
    fetched again. `HF_ENDPOINT`, `HF_HOME`, `HF_TOKEN`, `HF_HUB_DOWNLOAD_TIMEOUT` and `HF_HUB_ETAG_TIMEOUT` are its.

    Parameters
    ----------
    model : str
        `owner/model`.
    revision : str or None
        None for the main one.

    Raises
    ------
    WeightsError
        If it cannot be fetched, has no weights that can be read without running code, or they arrive damaged.
    """
    from huggingface_hub import snapshot_download

    try:
        check_network()
        folder = Path(snapshot_download(model, revision=revision, allow_patterns=_PATTERNS))
    except Exception as error:  # what the hub's client raises ranges from OSError to its HTTP library's own kinds
        raise WeightsError(failure(error, model)) from error
    lacks = lacking(folder, tokenizer=False)
    if lacks:
        raise WeightsError(f"the hub's {model!r} has no {lacks}; weights in other formats could run code")
    _check_hashes(folder)
    return folder


def _check_hashes(folder: Path) -> None:
    """Compare weights with their hashes, which are their names in the cache; the client compares lengths alone."""
    for link in sorted(folder.rglob("*.safetensors")):
        blob = link.resolve()
        if not re.fullmatch("[0-9a-f]{64}", blob.name):
            continue  # a small file, kept under a hash of another kind, or a file system without links
        with blob.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != blob.name:
            link.unlink()
            blob.unlink()
            raise WeightsError(f"{link.name} arrived damaged: its sha256 is {found}, expected {blob.name}; try again")
