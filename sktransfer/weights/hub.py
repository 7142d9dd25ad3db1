"""Files of a Hugging Face hub, from the local cache or, if allowed, from the network."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from urllib.parse import urlsplit

from sktransfer.config import get_config
from sktransfer.exceptions import BackboneNotFoundError, WeightsError

__all__ = [
    "VOCABULARIES",
    "cached_folder",
    "check_network",
    "failure",
    "fetch_folder",
    "has_tokenizer",
    "hub_cache",
    "hub_file",
    "hub_tokenizer",
    "is_offline",
    "missing_file",
    "split_revision",
]

_PROBE_SECONDS = 5.0
_TOKENIZER_PATTERNS = ["*.json", "*.txt", "*.model"]
_PATTERNS = [*_TOKENIZER_PATTERNS, "*.safetensors"]
_SHARD = re.compile(r"(.+)-\d+-of-\d+\.safetensors")

# Each of these files holds a vocabulary. tokenizer_config.json only describes how to read it.
VOCABULARIES = (
    "tokenizer.json",
    "vocab.txt",
    "vocab.json",
    "spm.model",
    "spiece.model",
    "sentencepiece.bpe.model",
    "tokenizer.model",
)


def has_tokenizer(folder: Path) -> bool:
    """Return whether a folder contains a tokenizer's vocabulary.

    Parameters
    ----------
    folder : Path
        Folder of a model.
    """
    return any((folder / name).is_file() for name in VOCABULARIES)


def split_revision(model: str) -> tuple[str, str | None]:
    """Split `owner/model@revision` into the repository and the revision.

    Parameters
    ----------
    model : str
        Hub id.

    Returns
    -------
    repository : str
        `owner/model`.
    revision : str or None
        None for the main revision.

    Examples
    --------
    >>> from sktransfer.weights.hub import split_revision
    >>> split_revision("someone/model@v2")
    ('someone/model', 'v2')
    >>> split_revision("model")
    ('model', None)
    """
    repository, _, revision = model.partition("@")
    return repository, revision or None


def hub_cache() -> Path:
    """Return the cache folder of the hub's client (`HF_HUB_CACHE`, or `hub` in `HF_HOME`)."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def is_offline(location: str = "hub:") -> bool:
    """Return whether `HF_HUB_OFFLINE` forbids downloading from a location, given as a hub id or as a URL of the hub.

    Parameters
    ----------
    location : str, default="hub:"
        Location of a `WeightsSource`.
    """
    from huggingface_hub import constants

    hosts = (urlsplit(constants.ENDPOINT).hostname, "huggingface.co", "hf.co")
    at_hub = location.startswith("hub:") or urlsplit(location).hostname in hosts
    return at_hub and bool(constants.HF_HUB_OFFLINE)


def check_network() -> None:
    """Raise if the hub does not answer.

    The hub's own client makes five attempts, with growing pauses, before it reports that there is no network. One
    request beforehand fails at once. It uses the same client, so proxies and the offline mode are respected.

    Raises
    ------
    ConnectionError
        If there is no answer.
    """
    from huggingface_hub import constants, get_session

    from sktransfer.weights.download import within

    if is_offline():
        raise ConnectionError("HF_HUB_OFFLINE (or TRANSFORMERS_OFFLINE) is set, which forbids downloading")
    try:
        within(_PROBE_SECONDS, lambda: get_session().head(constants.ENDPOINT, timeout=_PROBE_SECONDS))
    except TimeoutError as error:
        raise ConnectionError(f"{constants.ENDPOINT} does not answer within {_PROBE_SECONDS:g} seconds") from error
    except Exception as error:  # the client has changed its HTTP library, and so its errors, more than once
        raise ConnectionError(f"{constants.ENDPOINT} does not answer: {error}") from error


def hub_file(model: str, file: str, backbone: str | None = None) -> Path | None:
    """Return one small file of a hub's model, downloaded first if it is not cached and downloads are allowed.

    Parameters
    ----------
    model : str
        `owner/model`, followed by `@revision` unless it is the main revision.
    file : str
        Path of the file inside the model.
    backbone : str, default=None
        Name of the backbone in error messages. None for `hf/<model>`.

    Returns
    -------
    path : Path or None
        None if the model has no such file.

    Raises
    ------
    BackboneNotFoundError
        If there is no hub model of that name, or the name is not valid.
    WeightsError
        If the file is not cached and may not, or cannot, be downloaded.
    """
    from huggingface_hub import hf_hub_download, try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    backbone, (repository, revision) = backbone or f"hf/{model}", split_revision(model)
    try:
        cached = try_to_load_from_cache(repository, file, revision=revision)
    except HFValidationError as error:
        provider = backbone.partition("/")[0]
        raise BackboneNotFoundError(
            f"{backbone!r} is neither a local folder nor the id of a hub model ({error}). Ids have the form "
            f"'owner/model'; local folders are named '{provider}/./folder' or '{provider}//absolute/folder'."
        ) from error
    if cached is not None:  # a path, or the cached knowledge that the model has no such file
        return Path(cached) if isinstance(cached, str) else None
    _check_allowed(backbone, file)
    try:
        check_network()
        return Path(hf_hub_download(repository, file, revision=revision))
    except Exception as error:  # the client raises anything from OSError to types of its own; sorted below
        if _is_absent(error):
            return None
        raise _explained(error, model, file, backbone) from error


def _is_absent(error: Exception) -> bool:
    """Return whether an error means that the model exists but has no such file."""
    from huggingface_hub.errors import LocalEntryNotFoundError, RemoteEntryNotFoundError

    return isinstance(error, RemoteEntryNotFoundError) and not isinstance(error, LocalEntryNotFoundError)


def failure(error: Exception, model: str) -> str:
    """Return a message for an error of the hub's client.

    Parameters
    ----------
    error : Exception
        Error that the client raised.
    model : str
        `owner/model`.
    """
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    if isinstance(error, GatedRepoError):
        return (
            f"the owner of {model!r} grants access on request: request it on the model's page, then log in with "
            "`hf auth login`"
        )
    if isinstance(error, (RepositoryNotFoundError, RevisionNotFoundError)):
        return (
            f"there is no hub model {model!r}, or it is private and you are not logged in (`hf auth login`); check its "
            "name on the hub"
        )
    return str(error) or type(error).__name__


def _explained(error: Exception, model: str, file: str, backbone: str) -> BackboneNotFoundError | WeightsError:
    """Return the sktransfer error for an error of the hub's client."""
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    why = failure(error, model)
    if isinstance(error, GatedRepoError):  # a subclass of RepositoryNotFoundError
        return WeightsError(f"{backbone!r}: {why}")
    if isinstance(error, (RepositoryNotFoundError, RevisionNotFoundError)):
        return BackboneNotFoundError(f"{backbone!r}: {why}")
    return WeightsError(
        f"{backbone!r}: looked for its {file} in {hub_cache()}, which lacks it, and downloading it failed ({why}). "
        f"Without a network, name a local folder ('{backbone.partition('/')[0]}/./folder') or one of 'tiny/*'."
    )


def _check_allowed(backbone: str, file: str) -> None:
    if get_config()["download"] == "never":
        raise WeightsError(
            f"{backbone!r}: looked for its {file} in {hub_cache()}, which lacks it, and set_config(download='never') "
            "forbids downloading it. Allow downloads, download the model beforehand (`hf download`), or name a "
            f"local folder ('{backbone.partition('/')[0]}/./folder')."
        )


def hub_tokenizer(model: str, backbone: str | None = None) -> Path:
    """Return a local folder with the tokenizer files of a hub's model, downloaded if necessary and allowed.

    Parameters
    ----------
    model : str
        `owner/model`, followed by `@revision` unless it is the main revision.
    backbone : str, default=None
        Name of the backbone in error messages. None for `hf/<model>`.

    Returns
    -------
    folder : Path
        Local folder of the model, possibly without its weights.

    Raises
    ------
    BackboneNotFoundError
        If there is no such model.
    WeightsError
        If the files are not cached and may not, or cannot, be downloaded.
    """
    from huggingface_hub import snapshot_download

    backbone, (repository, revision) = backbone or f"hf/{model}", split_revision(model)
    folder = cached_folder(repository, revision)
    if folder is not None and has_tokenizer(folder):
        return folder
    _check_allowed(backbone, "tokenizer.json")
    try:
        check_network()
        return Path(snapshot_download(repository, revision=revision, allow_patterns=_TOKENIZER_PATTERNS))
    except Exception as error:  # as in hub_file
        raise _explained(error, model, "tokenizer.json", backbone) from error


def cached_folder(model: str, revision: str | None) -> Path | None:
    """Return the cached folder of a model, complete or not, or None.

    Parameters
    ----------
    model : str
        `owner/model`.
    revision : str or None
        None for the main revision.
    """
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(model, revision=revision, local_files_only=True))
    except (OSError, ValueError) as error:
        partial = getattr(error, "snapshot_path", None)  # folder of a copy that lacks any file, needed or not
        return None if partial is None else Path(partial)


def missing_file(folder: Path | None, tokenizer: bool) -> str:
    """Return the first missing file of a model's folder, or "" if it is complete.

    Interrupted downloads and downloads of the configuration alone leave incomplete folders.

    Parameters
    ----------
    folder : Path or None
        Folder of the model, if any.
    tokenizer : bool
        Whether the model needs a tokenizer.

    Raises
    ------
    WeightsError
        If an index of weights cannot be read.
    """
    if folder is None:
        return "model.safetensors"
    # A model of several modules keeps each in a subfolder, and then has no configuration in its own folder.
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
    """Return the files that an index names, except those in other folders."""
    try:
        names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        return sorted(name for name in names if Path(name).name == name)
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise WeightsError(
            f"{index}: cannot be read as an index of weights ({type(error).__name__}: {error}). Delete it to "
            "download it again."
        ) from error


def fetch_folder(model: str, revision: str | None) -> Path:
    """Download the missing files of a model and return its folder.

    The hub's client resumes broken downloads and skips cached files. It reads `HF_ENDPOINT`, `HF_HOME`, `HF_TOKEN`,
    `HF_HUB_DOWNLOAD_TIMEOUT` and `HF_HUB_ETAG_TIMEOUT`.

    Parameters
    ----------
    model : str
        `owner/model`.
    revision : str or None
        None for the main revision.

    Raises
    ------
    WeightsError
        If the model cannot be downloaded, has no weights that are readable without running code, or arrives damaged.
    """
    from huggingface_hub import snapshot_download

    try:
        check_network()
        folder = Path(snapshot_download(model, revision=revision, allow_patterns=_PATTERNS))
    except Exception as error:  # the client raises anything from OSError to the types of its HTTP library
        raise WeightsError(failure(error, model)) from error
    missing = missing_file(folder, tokenizer=False)
    if missing:
        raise WeightsError(f"the hub's {model!r} has no {missing}; weights in other formats could run code")
    _check_hashes(folder)
    return folder


def _check_hashes(folder: Path) -> None:
    """Compare weights with their hashes, which name them in the cache. The client compares only lengths."""
    for link in sorted(folder.rglob("*.safetensors")):
        blob = link.resolve()
        if not re.fullmatch("[0-9a-f]{64}", blob.name):
            continue  # a small file, named by another kind of hash, or a file system without links
        with blob.open("rb") as file:
            actual = hashlib.file_digest(file, "sha256").hexdigest()
        if actual != blob.name:
            link.unlink()
            blob.unlink()
            raise WeightsError(f"{link.name} arrived damaged: its sha256 is {actual}, expected {blob.name}; try again")
