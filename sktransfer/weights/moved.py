"""Files and folders of weights that lie elsewhere than when an estimator was saved."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PureWindowsPath

from sktransfer.config import get_config
from sktransfer.exceptions import SktransferError

__all__ = ["advice", "is_path", "iter_names", "iter_paths"]


def iter_paths(saved: str) -> Iterator[str]:
    """Yield a saved path, and then the paths of `weights_path` at which the file or folder may lie now.

    These are the paths of the same name in the folders of `weights_path`, and then its files, and folders of a model,
    themselves. The caller compares hashes.

    Parameters
    ----------
    saved : str
        Absolute path on this or another machine.
    """
    yield saved
    name = PureWindowsPath(saved).name  # splits at "/" as well
    places = [Path(place) for place in get_config()["weights_path"]]
    inside = [place / name for place in places if place.is_dir()] if name not in ("", ".", "..") else []
    whole = [place for place in places if place.is_file() or (place / "config.json").is_file()]
    for path in (*inside, *whole):
        if (path.is_file() or path.is_dir()) and str(path) != saved:
            yield str(path)


def iter_names(name: str, weights: str) -> Iterator[tuple[str, str]]:
    """Yield the name and weights of a saved backbone, and then those that may be the same backbone.

    Parameters
    ----------
    name, weights : str
        Arguments of `load_backbone`.
    """
    provider, model = _split(name)
    if weights not in ("pretrained", "random"):
        yield from ((name, path) for path in iter_paths(weights))
    elif is_path(name, weights):  # a folder
        yield from ((f"{provider}/{path}", weights) for path in iter_paths(model))
        folder, mark, part = model.rpartition("#")  # "#text" names a part of the model in the folder
        if mark:
            yield from ((f"{provider}/{path}#{part}", weights) for path in iter_paths(folder) if path != folder)
    else:
        yield name, weights


def is_path(name: str, weights: str) -> bool:
    """Return whether the weights of a saved backbone are a file or folder of the user.

    Parameters
    ----------
    name : str
        Name of the backbone. That of a folder is "provider//absolute/path" or "provider/kind//absolute/path".
    weights : str
        "pretrained", "random" or an absolute path.
    """
    return weights != "random" and (weights != "pretrained" or bool(PureWindowsPath(_split(name)[1]).root))


def _split(name: str) -> tuple[str, str]:
    """Return the prefix of a name, and the folder or model after it."""
    prefix, mark, place = name.partition("//")
    if mark:
        return prefix, f"/{place}"
    provider, _, model = name.partition("/")
    return provider, model


def advice(saved: str, digest: str, errors: list[SktransferError]) -> str:
    """Return what to do if weights are at none of the paths.

    Parameters
    ----------
    saved : str
        Saved name or path.
    digest : str
        Hash that they must have.
    errors : list of SktransferError
        One error per path.
    """
    reasons = "; ".join(str(error).rstrip(".") for error in errors[:4])
    return (
        f"{saved} with the hash {digest} cannot be used: {reasons}. Say where it lies now: sktransfer.load(path, "
        "weights=<the file, or a folder that holds it>), or for a pickle `with sktransfer.config_context("
        "weights_path=<the same>)`"
    )
