"""`load`: an estimator from a file of `save`, or a plain error."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from sktransfer.exceptions import InvalidParameterError, LoadError, SktransferWarning
from sktransfer.persistence.archive import ESTIMATOR, WEIGHTS, read_archive
from sktransfer.persistence.codecs import CODECS
from sktransfer.persistence.parts import Loading
from sktransfer.persistence.tree import read_tree

__all__ = ["load", "read"]


def load(path: str | os.PathLike[str], *, trusted: Iterable[str] = ()) -> Any:
    """Return the estimator that `save` has written.

    No code comes out of the file: it names kinds of objects, and those that are known are made, of values that are
    looked at first. Known are sktransfer's own, those that skops trusts, and plain types of scikit-learn (splitters,
    scorers); all others are refused by name, before anything is made.

    Hashes in the file find damage, not malice: who changes a file can write new hashes. What a stranger's file can do
    is to predict nonsense, or with `trusted` whatever those types do; have it signed where that matters. Backbones that
    it names are found, and where `set_config(download="auto")` allows it fetched, as if you had named them.

    Parameters
    ----------
    path : str or path
        A file of `save`.
    trusted : iterable of str, default=()
        Names of further types that may be made, such as "sklearn.tree._tree.Tree": forged trees can make the process
        read memory that is not theirs, so this takes trust in who made the file.

    Returns
    -------
    estimator : estimator
        As it was saved, but for what `save` says that it leaves out.

    Raises
    ------
    LoadError
        If the file is missing, damaged, of a newer format, holds what is not known, or names a backbone that is not to
        be had here as it was; says what to do.
    InvalidParameterError
        If `trusted` holds no names.

    Warns
    -----
    SktransferWarning
        If it was saved with another version of scikit-learn.

    See Also
    --------
    save : Writes the file.

    Examples
    --------
    >>> from sktransfer import ImageFeaturizer, load, save
    >>> save(ImageFeaturizer(layer=2), "featurizer.skt")
    >>> load("featurizer.skt")
    ImageFeaturizer(layer=2)
    """
    names = [trusted] if isinstance(trusted, str) else list(trusted)
    if not all(isinstance(name, str) for name in names):
        raise InvalidParameterError(f"trusted={trusted!r} must be names of types, such as 'sklearn.tree._tree.Tree'")
    return read(Path(path), names)


def read(path: Path, trusted: Sequence[str]) -> Any:
    """Do what `load` promises.

    Raises
    ------
    LoadError
        As `load` does; names the path.
    """
    try:
        manifest, members = read_archive(path)
        _warn_of_versions(manifest)
        loading = Loading(_tensors(members[WEIGHTS]), CODECS)
        estimator = read_tree(members[ESTIMATOR], loading, trusted)
        if not hasattr(estimator, "get_params") or isinstance(estimator, type):
            raise LoadError(f"it holds a {type(estimator).__name__}, which is no estimator")
    except LoadError as error:
        raise LoadError(f"{path}: {error}") from error.__cause__
    except MemoryError as error:
        raise LoadError(f"{path}: there is not enough memory for what it holds ({error})") from error
    return estimator


def _tensors(content: bytes) -> dict[str, Any]:
    from safetensors.torch import load as of_safetensors

    try:
        return of_safetensors(content)
    except Exception as error:  # SafetensorError, and what torch says of shapes and types
        raise LoadError(f"its {WEIGHTS} cannot be read ({type(error).__name__}: {error})") from error


def _warn_of_versions(manifest: Mapping[str, Any]) -> None:
    versions = manifest.get("versions")
    then = versions.get("scikit-learn") if isinstance(versions, dict) else None
    now = version("scikit-learn")
    if then != now:
        warnings.warn(
            f"the estimator was saved with scikit-learn {then}, and this is {now}: what it predicts may differ",
            SktransferWarning,
            stacklevel=4,
        )
