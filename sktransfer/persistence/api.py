"""`save` and `load`: estimators in files without pickle."""

from __future__ import annotations

import functools
import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from sktransfer._version import __version__
from sktransfer.cache.resolve import resolve_store
from sktransfer.cache.types import Cache
from sktransfer.config import Places, check_places, config_context, get_config
from sktransfer.exceptions import InvalidParameterError, LoadError, SaveError, warn
from sktransfer.persistence.archive import ESTIMATOR, WEIGHTS, read_archive, write_archive
from sktransfer.persistence.codecs import DECODERS, find_codec
from sktransfer.persistence.context import LoadContext, SaveContext
from sktransfer.persistence.estimators import follow_moved
from sktransfer.persistence.parts import find_part_of_type
from sktransfer.persistence.skops_bridge import read_tree, untrusted_types, write_tree

__all__ = ["load", "save"]

_VERSIONED = ("numpy", "scikit-learn", "skops", "skorch", "torch", "transformers")


def save(estimator: Any, path: str | os.PathLike[str], *, weights: str = "reference") -> None:
    """Write an estimator to a file without pickle: JSON, arrays and safetensors in a zip.

    The estimator may be fitted or not, alone or in a `Pipeline`, a `ColumnTransformer` or a grid search. Objects of
    scikit-learn are written by skops. The loaded estimator predicts the same, to the bit, in any process. The file is
    replaced at once, after the new one was read back. If an error occurs, the old file stays.

    Not saved, because predicting does not need it: the optimizer's momenta, which `partial_fit` would use; the
    callbacks inside `net_`, and the batches in its history; callbacks of scikit-learn; the folder named by `cache`
    ("memory" replaces it) and `Checkpoint`, which belong to this machine.

    Parameters
    ----------
    estimator : estimator
        Estimator of scikit-learn or sktransfer. Backbones of your own modules (`Backbone.from_modules`), functions
        without a name in a module, and scikit-learn's `Birch` cannot be saved. Trees and forests, neighbour trees
        (`KNeighborsClassifier` on few features) and `SplineTransformer` are saved, and `load` requires them in
        `trusted=`.
    path : str or path
        File to write. An existing file is replaced.
    weights : {"reference", "embed"}, default="reference"
        "reference" writes trained weights, and only name and hash of pretrained backbones. The same weights must be
        available, or be fetched, when the file is loaded. "embed" writes all weights. The same holds for word vectors
        read from a file, whose path and hash are written. `load(path, weights=...)` finds files that were moved.

    Raises
    ------
    SaveError
        If a part of the estimator cannot be written without pickle, or the file cannot be written.
    InvalidParameterError
        If a parameter is not allowed.

    Warns
    -----
    SktransferWarning
        If the estimator holds types that `load` requires in `trusted=`.

    See Also
    --------
    load : Load the file.

    Examples
    --------
    >>> import os
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.pipeline import make_pipeline
    >>> from sktransfer import TextFeaturizer, load, save
    >>> texts = ["a moving, funny film", "two hours of nothing", "I loved every minute", "dull from start to end"]
    >>> clf = make_pipeline(TextFeaturizer("tiny/bert"), LogisticRegression()).fit(texts, [1, 0, 1, 0])
    >>> save(clf, "film.skt")
    >>> os.path.getsize("film.skt") < 15_000
    True
    >>> (load("film.skt").predict_proba(texts) == clf.predict_proba(texts)).all()
    np.True_
    """
    if weights not in ("reference", "embed"):
        raise InvalidParameterError(f"weights={weights!r} must be 'reference' or 'embed'")
    if not hasattr(estimator, "get_params") or isinstance(estimator, type):
        raise SaveError(f"{estimator!r} is not an estimator; give an instance of one")
    from safetensors.torch import save as to_safetensors

    context = SaveContext(weights == "embed")
    tree = write_tree(estimator, lambda obj: _encode(obj, context))
    untrusted = untrusted_types(tree)
    manifest = {
        "sktransfer": __version__,
        "versions": {"python": platform.python_version(), **_versions()},
        "estimator": f"{type(estimator).__module__}.{type(estimator).__qualname__}",
        "weights": weights,
        "kinds": sorted(context.kinds),
    }

    def check(written: Path) -> None:
        try:
            _read(written, untrusted)
        except LoadError as error:
            raise SaveError(
                f"{type(estimator).__name__} was written, but cannot be read back: {error}. Nothing was changed"
            ) from error

    write_archive(Path(path), manifest, {ESTIMATOR: tree, WEIGHTS: to_safetensors(context.tensors)}, check)
    if untrusted:
        part = find_part_of_type(estimator, set(untrusted)) or type(estimator).__name__
        warn(
            f"{part} holds values of a type that sktransfer.load only accepts if it is told to trust them: "
            f"load(path, trusted={untrusted})",
        )


@functools.cache
def _versions() -> dict[str, str]:
    return {name: version(name) for name in _VERSIONED}


def _encode(obj: Any, context: SaveContext) -> tuple[str, dict[str, Any]] | None:
    codec = find_codec(obj)
    if codec is None:
        return None
    context.kinds.add(codec.kind)
    data = codec.encode(obj, context)
    return codec.kind, {name: context.pack(value) for name, value in data.items()}


def load(
    path: str | os.PathLike[str],
    *,
    trusted: Iterable[str] = (),
    weights: Places = (),
    cache: Cache = "saved",
) -> Any:
    """Load an estimator from a file of `save`.

    No code comes from the file. The file names kinds of objects. Objects of known kinds are built from values that are
    checked first. Known are the kinds of sktransfer, the types that skops trusts, and plain types of scikit-learn such
    as splitters and scorers. All others are refused by name before anything is built.

    The hashes in the file detect damage. They do not detect forgery, because the author of a forged file can compute
    new hashes. A forged file can make the estimator predict nonsense, or with `trusted` do what those types allow. Use
    signatures if that matters. Backbones named in the file are located, and fetched if `set_config(download="auto")`
    allows it, in the same way as if you had named them.

    Parameters
    ----------
    path : str or path
        File of `save`.
    trusted : iterable of str, default=()
        Names of further types that may be built, such as "sklearn.tree._tree.Tree". Forged trees can make the process
        read outside its memory, so trust in the author of the file is required.
    weights : path or list of paths, default=()
        Where weights lie now that were saved by a path of another machine: files, or folders that hold them under
        the same name. They are also looked for beside `path`, and in the `weights_path` of `set_config`. Weights whose
        hash is not that of the saved ones are refused. Unlike the path, the hash is always compared. There is no hash
        in the file of an unfitted featurizer: its weights are those of the same name, or the only ones given.
    cache : "saved", "memory", path, URL, list or None, default="saved"
        The parameter `cache` of all estimators in the file. "saved" leaves it as it was saved. A service that sees
        every sample once should give None: it needs no features again, and the cache in memory would grow to its limit,
        2 GiB unless `set_config(cache_memory=...)` sets another.

    Returns
    -------
    estimator : estimator
        The estimator without the parts that `save` does not write.

    Raises
    ------
    LoadError
        If the file is missing, damaged or of another format, holds an unknown kind or type, or names a backbone that
        cannot be loaded here unchanged. The message says what to do.
    InvalidParameterError
        If `trusted` does not hold names, `weights` no existing paths, or `cache` is not allowed.

    Warns
    -----
    SktransferWarning
        If the file was saved with another version of scikit-learn.

    See Also
    --------
    save : Write the file.

    Examples
    --------
    >>> from sktransfer import ImageFeaturizer, load, save
    >>> save(ImageFeaturizer(layer=2), "featurizer.skt")
    >>> load("featurizer.skt")
    ImageFeaturizer(layer=2)
    >>> load("featurizer.skt", cache=None)
    ImageFeaturizer(cache=None, layer=2)
    """
    is_saved = isinstance(cache, str) and cache == "saved"
    if not is_saved:
        resolve_store(cache)  # raises if it is not allowed
    names = [trusted] if isinstance(trusted, str) else list(trusted)
    if not all(isinstance(name, str) for name in names):
        raise InvalidParameterError(f"trusted={trusted!r} must be names of types, such as 'sklearn.tree._tree.Tree'")
    folder = Path(path).parent
    places = (*check_places("weights", weights), *get_config()["weights_path"], *([folder] if folder.is_dir() else []))
    with config_context(weights_path=places):
        estimator, context = _read(Path(path), names)
    for one in [] if is_saved else context.estimators:
        if "cache" in vars(one):
            one.cache = cache
    return estimator


def _read(path: Path, trusted: Sequence[str]) -> tuple[Any, LoadContext]:
    try:
        manifest, members = read_archive(path)
        _warn_of_versions(manifest)
        context = LoadContext(_tensors(members[WEIGHTS]), DECODERS)
        estimator = read_tree(members[ESTIMATOR], context.build, DECODERS.keys(), trusted)
        follow_moved(context)
        if not hasattr(estimator, "get_params") or isinstance(estimator, type):
            raise LoadError(f"it holds a {type(estimator).__name__}, which is not an estimator")
    except LoadError as error:
        raise LoadError(f"{path}: {error}") from error.__cause__
    except MemoryError as error:
        raise LoadError(f"{path}: not enough memory for its content ({error})") from error
    return estimator, context


def _tensors(content: bytes) -> dict[str, Any]:
    from safetensors.torch import load as from_safetensors

    try:
        return from_safetensors(content)
    except Exception as error:  # SafetensorError, and errors of torch about shapes and dtypes
        raise LoadError(f"its {WEIGHTS} cannot be read ({type(error).__name__}: {error})") from error


def _warn_of_versions(manifest: Mapping[str, Any]) -> None:
    versions = manifest.get("versions")
    saved_with = versions.get("scikit-learn") if isinstance(versions, dict) else None
    installed = _versions()["scikit-learn"]
    if saved_with != installed:
        warn(
            f"the estimator was saved with scikit-learn {saved_with}, and this is {installed}: its predictions may "
            "differ",
        )
