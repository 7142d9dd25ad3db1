"""Small files of a Hugging Face hub: from this machine's cache first, from the network where that is allowed."""

from __future__ import annotations

from pathlib import Path

from sktransfer.config import get_config
from sktransfer.exceptions import BackboneNotFoundError, WeightsError

__all__ = ["check_network", "hub_file", "hub_tokenizer", "split_revision"]

_PROBE_SECONDS = 5.0
_TOKENIZER_PATTERNS = ["*.json", "*.txt", "*.model"]


def split_revision(model: str) -> tuple[str, str | None]:
    """Split `owner/model@revision` into the repository and the revision, None for the main one.

    Examples
    --------
    >>> from sktransfer.backbones.hub import split_revision
    >>> split_revision("someone/model@v2")
    ('someone/model', 'v2')
    >>> split_revision("model")
    ('model', None)
    """
    repository, _, revision = model.partition("@")
    return repository, revision or None


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

    try:
        get_session().head(constants.ENDPOINT, timeout=_PROBE_SECONDS)
    except Exception as error:  # the HTTP library behind the client, and with it its errors, has changed more than once
        raise ConnectionError(f"{constants.ENDPOINT} does not answer: {error}") from error


def hub_file(model: str, file: str) -> Path | None:
    """Return one small file of a hub's model, fetched first where it is not here and that is allowed.

    Parameters
    ----------
    model : str
        `owner/model`, with `@revision` where it is not the main one.
    file : str
        Its path inside the model.

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

    repository, revision = split_revision(model)
    try:
        found = try_to_load_from_cache(repository, file, revision=revision)
    except HFValidationError as error:
        raise BackboneNotFoundError(
            f"'hf/{model}' is neither a local folder nor the id of a hub model ({error}). Ids have the form "
            "'owner/model'; local folders are named 'hf/./folder' or 'hf//absolute/folder'."
        ) from error
    if found is not None:  # a path, or the knowledge from last time that the model has no such file
        return Path(found) if isinstance(found, str) else None
    _may_fetch(model, file)
    try:
        check_network()
        return Path(hf_hub_download(repository, file, revision=revision))
    except Exception as error:  # sorted below: what the hub's client raises ranges from OSError to its own kinds
        _explain(error, model, file)
        return None


def _explain(error: Exception, model: str, file: str) -> None:
    """Raise our own error, unless the one given means that the model has no such file."""
    from huggingface_hub.errors import (
        GatedRepoError,
        LocalEntryNotFoundError,
        RemoteEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    if isinstance(error, RemoteEntryNotFoundError) and not isinstance(error, LocalEntryNotFoundError):
        return
    if isinstance(error, GatedRepoError):
        raise WeightsError(
            f"'hf/{model}': its owner gives it only to those who have asked: ask on its page, then log in with "
            "`hf auth login`"
        ) from error
    if isinstance(error, (RepositoryNotFoundError, RevisionNotFoundError)):
        raise BackboneNotFoundError(
            f"there is no hub model {model!r}, or it is private and you are not logged in (`hf auth login`); check its "
            "name on the hub's page"
        ) from error
    raise WeightsError(
        f"'hf/{model}': looked for its {file} in {_cache()}, where it is not, and fetching it failed ({error}). "
        "Without a network, name a local folder ('hf/./folder'), or one of 'tiny/*', which need none."
    ) from error


def _may_fetch(model: str, file: str) -> None:
    if get_config()["download"] == "never":
        raise WeightsError(
            f"'hf/{model}': looked for its {file} in {_cache()}, where it is not, and set_config(download='never') "
            "forbids fetching it. Allow downloads, fetch the model there beforehand (`hf download`), or name a "
            "local folder ('hf/./folder')."
        )


def _cache() -> str:
    from huggingface_hub import constants

    return str(constants.HF_HUB_CACHE)


def hub_tokenizer(model: str) -> Path:
    """Return a local folder with the tokenizer's files of a hub's model, fetched where needed and allowed.

    Raises
    ------
    BackboneNotFoundError
        If there is no such model.
    WeightsError
        If the files are not here and may not, or cannot, be fetched.
    """
    from huggingface_hub import snapshot_download

    from sktransfer.backbones.tokens import has_tokenizer

    repository, revision = split_revision(model)
    try:
        folder = Path(snapshot_download(repository, revision=revision, local_files_only=True))
        if has_tokenizer(folder):
            return folder
    except (OSError, ValueError):
        pass  # not here, or not whole: fetch it
    _may_fetch(model, "tokenizer.json")
    try:
        check_network()
        return Path(snapshot_download(repository, revision=revision, allow_patterns=_TOKENIZER_PATTERNS))
    except Exception as error:  # as in hub_file
        _explain(error, model, "tokenizer.json")
        raise WeightsError(f"'hf/{model}' has no tokenizer that could be fetched ({error})") from error
