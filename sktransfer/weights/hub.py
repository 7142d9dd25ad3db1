"""Small files of a Hugging Face hub: from this machine's cache first, from the network where that is allowed."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from urllib.parse import urlsplit

from sktransfer.config import get_config
from sktransfer.exceptions import BackboneNotFoundError, WeightsError

__all__ = [
    "cached_folder",
    "check_network",
    "failure",
    "fetch_folder",
    "hub_cache",
    "hub_file",
    "hub_tokenizer",
    "is_offline",
    "lacking",
    "split_revision",
]

_PROBE_SECONDS = 5.0
_TOKENIZER_PATTERNS = ["*.json", "*.txt", "*.model"]


def split_revision(model: str) -> tuple[str, str | None]:
    """Split `owner/model@revision` into the repository and the revision, None for the main one.

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
    """Return the folder that the hub's client keeps models in (`HF_HUB_CACHE`, or `hub` in `HF_HOME`)."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def is_offline(location: str = "hub:") -> bool:
    """Return whether `HF_HUB_OFFLINE` forbids to fetch what is at a location: on the hub, by whatever address.

    Parameters
    ----------
    location : str, default="hub:"
        As in `WeightsSource`.
    """
    from huggingface_hub import constants

    hosts = (urlsplit(constants.ENDPOINT).hostname, "huggingface.co", "hf.co")
    at_hub = location.startswith("hub:") or urlsplit(location).hostname in hosts
    return at_hub and bool(constants.HF_HUB_OFFLINE)


def check_network() -> None:
    """Make sure that the hub answers at all.

    The hub's own client tries five times, with growing pauses, before it says that there is no network. One request
    beforehand gives the answer at once; it goes through the same client, so proxies and offline mode are honoured.

    Raises
    ------
    ConnectionError
        If nothing answers.
    """
    from huggingface_hub import constants, get_session

    from sktransfer.weights.download import within

    if is_offline():
        raise ConnectionError("HF_HUB_OFFLINE (or TRANSFORMERS_OFFLINE) is set, which forbids it")
    try:
        within(_PROBE_SECONDS, lambda: get_session().head(constants.ENDPOINT, timeout=_PROBE_SECONDS))
    except TimeoutError as error:
        raise ConnectionError(f"{constants.ENDPOINT} does not answer within {_PROBE_SECONDS:g} seconds") from error
    except Exception as error:  # the HTTP library behind the client, and with it its errors, has changed more than once
        raise ConnectionError(f"{constants.ENDPOINT} does not answer: {error}") from error


def hub_file(model: str, file: str, asker: str | None = None) -> Path | None:
    """Return one small file of a hub's model, fetched first where it is not here and that is allowed.

    Parameters
    ----------
    model : str
        `owner/model`, with `@revision` where it is not the main one.
    file : str
        Its path inside the model.
    asker : str, default=None
        The backbone that it is for, as messages name it; None for `hf/<model>`.

    Returns
    -------
    path : Path or None
        None if the model has no such file.

    Raises
    ------
    BackboneNotFoundError
        If no hub model can have, or has, that name.
    WeightsError
        If the file is not here and may not, or cannot, be fetched.
    """
    from huggingface_hub import hf_hub_download, try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    asker, (repository, revision) = asker or f"hf/{model}", split_revision(model)
    try:
        found = try_to_load_from_cache(repository, file, revision=revision)
    except HFValidationError as error:
        provider = asker.partition("/")[0]
        raise BackboneNotFoundError(
            f"{asker!r} is neither a local folder nor the id of a hub model ({error}). Ids have the form "
            f"'owner/model'; local folders are named '{provider}/./folder' or '{provider}//absolute/folder'."
        ) from error
    if found is not None:  # a path, or the knowledge from last time that the model has no such file
        return Path(found) if isinstance(found, str) else None
    _check_allowed(asker, file)
    try:
        check_network()
        return Path(hf_hub_download(repository, file, revision=revision))
    except Exception as error:  # sorted below: what the hub's client raises ranges from OSError to its own kinds
        if _is_absent(error):
            return None
        raise _explained(error, model, file, asker) from error


def _is_absent(error: Exception) -> bool:
    """Return whether an error says that the model is there, and has no such file."""
    from huggingface_hub.errors import LocalEntryNotFoundError, RemoteEntryNotFoundError

    return isinstance(error, RemoteEntryNotFoundError) and not isinstance(error, LocalEntryNotFoundError)


def failure(error: Exception, model: str) -> str:
    """Return what an error of the hub's client means to the user.

    Parameters
    ----------
    error : Exception
        As the client raised it.
    model : str
        `owner/model`.
    """
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    if isinstance(error, GatedRepoError):
        return (
            f"the owner of {model!r} gives it only to those who have asked: ask on its page, then log in with "
            "`hf auth login`"
        )
    if isinstance(error, (RepositoryNotFoundError, RevisionNotFoundError)):
        return (
            f"there is no hub model {model!r}, or it is private and you are not logged in (`hf auth login`); check its "
            "name on the hub's page"
        )
    return str(error) or type(error).__name__


def _explained(error: Exception, model: str, file: str, asker: str) -> BackboneNotFoundError | WeightsError:
    """Return our own error for one of the hub's client."""
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    why = failure(error, model)
    if isinstance(error, GatedRepoError):  # a kind of the next ones
        return WeightsError(f"{asker!r}: {why}")
    if isinstance(error, (RepositoryNotFoundError, RevisionNotFoundError)):
        return BackboneNotFoundError(f"{asker!r}: {why}")
    return WeightsError(
        f"{asker!r}: looked for its {file} in {hub_cache()}, where it is not, and fetching it failed ({why}). Without "
        f"a network, name a local folder ('{asker.partition('/')[0]}/./folder'), or one of 'tiny/*', which need none."
    )


def _check_allowed(asker: str, file: str) -> None:
    if get_config()["download"] == "never":
        raise WeightsError(
            f"{asker!r}: looked for its {file} in {hub_cache()}, where it is not, and set_config(download='never') "
            "forbids fetching it. Allow downloads, fetch the model there beforehand (`hf download`), or name a "
            f"local folder ('{asker.partition('/')[0]}/./folder')."
        )


def hub_tokenizer(model: str, asker: str | None = None) -> Path:
    """Return a local folder with the tokenizer's files of a hub's model, fetched where needed and allowed.

    Parameters
    ----------
    model : str
        `owner/model`, with `@revision` where it is not the main one.
    asker : str, default=None
        The backbone that it is for, as messages name it; None for `hf/<model>`.

    Raises
    ------
    BackboneNotFoundError
        If there is no such model.
    WeightsError
        If the files are not here and may not, or cannot, be fetched.
    """
    from huggingface_hub import snapshot_download

    from sktransfer.backbones.tokens import has_tokenizer

    asker, (repository, revision) = asker or f"hf/{model}", split_revision(model)
    folder = cached_folder(repository, revision)
    if folder is not None and has_tokenizer(folder):
        return folder
    _check_allowed(asker, "tokenizer.json")
    try:
        check_network()
        return Path(snapshot_download(repository, revision=revision, allow_patterns=_TOKENIZER_PATTERNS))
    except Exception as error:  # as in hub_file
        raise _explained(error, model, "tokenizer.json", asker) from error


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
