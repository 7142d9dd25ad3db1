"""`save`: an estimator into a file that holds no code."""

from __future__ import annotations

import os
import platform
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any

from sktransfer.exceptions import InvalidParameterError, LoadError, SaveError, SktransferWarning
from sktransfer.persistence.archive import ESTIMATOR, WEIGHTS, write_archive
from sktransfer.persistence.codecs import find_codec
from sktransfer.persistence.loading import read
from sktransfer.persistence.parts import Saving
from sktransfer.persistence.tree import untrusted, write_tree

__all__ = ["save"]

_VERSIONED = ("numpy", "scikit-learn", "skops", "skorch", "torch", "transformers")


def save(estimator: Any, path: str | os.PathLike[str], *, weights: str = "reference") -> None:
    """Write an estimator to a file without pickle: JSON, arrays and safetensors in a zip.

    Fitted or not, alone or in a `Pipeline`, a `ColumnTransformer` or a grid search; what is scikit-learn's goes through
    skops. What is loaded predicts the same, to the bit, in any process. The file takes its place at once, when it is
    whole and was read back: an error leaves the old one.

    What is left out, for predicting does not need it: the optimizer's momenta, with which `partial_fit` would go on;
    the callbacks inside `net_`, and the details of batches in its history; callbacks of scikit-learn; a folder named by
    `cache` ("memory" stands in its place) and `Checkpoint`, which belong to this machine.

    Parameters
    ----------
    estimator : estimator
        Any of scikit-learn or sktransfer. Backbones of your own modules (`Backbone.from_modules`) cannot be saved.
    path : str or path
        The file; it is replaced.
    weights : {"reference", "embed"}, default="reference"
        "reference" writes what was trained, and of pretrained backbones name and hash: the same weights must be found,
        or fetched, where the file is loaded. "embed" writes all weights. So are vectors of words that were read from a
        file: by its path and hash, or all.

    Raises
    ------
    SaveError
        If something in the estimator cannot be written without pickle, or the place cannot be written to.
    InvalidParameterError
        If a parameter is not allowed.

    Warns
    -----
    SktransferWarning
        If the estimator holds types that `load` asks for by `trusted=`.

    See Also
    --------
    load : The way back.

    Examples
    --------
    >>> import os
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.pipeline import make_pipeline
    >>> from sktransfer import TextFeaturizer, load, save
    >>> texts = ["a moving, funny film", "two hours of nothing", "I loved every minute", "dull from start to end"]
    >>> clf = make_pipeline(TextFeaturizer("tiny/bert"), LogisticRegression()).fit(texts, [1, 0, 1, 0])
    >>> save(clf, "film.skt")
    >>> os.path.getsize("film.skt") < 10_000
    True
    >>> (load("film.skt").predict_proba(texts) == clf.predict_proba(texts)).all()
    np.True_
    """
    if weights not in ("reference", "embed"):
        raise InvalidParameterError(f"weights={weights!r} must be 'reference' or 'embed'")
    if not hasattr(estimator, "get_params") or isinstance(estimator, type):
        raise SaveError(f"{estimator!r} is no estimator; give an instance of one")
    from safetensors.torch import save as as_safetensors

    saving = Saving(weights == "embed")
    tree = write_tree(estimator, saving, find_codec)
    strange = untrusted(tree)
    manifest = {
        "sktransfer": _own_version(),
        "versions": {"python": platform.python_version(), **{name: version(name) for name in _VERSIONED}},
        "estimator": f"{type(estimator).__module__}.{type(estimator).__qualname__}",
        "weights": weights,
        "parts": sorted(saving.kinds),
    }

    def check(written: Path) -> None:
        try:
            read(written, strange)
        except LoadError as error:
            raise SaveError(
                f"{type(estimator).__name__} was written, but cannot be read back: {error}. Nothing was changed"
            ) from error

    write_archive(Path(path), manifest, {ESTIMATOR: tree, WEIGHTS: as_safetensors(saving.tensors)}, check)
    if strange:
        warnings.warn(
            f"the estimator holds {strange}, which sktransfer.load does not take without being told to: "
            f"load(path, trusted={strange})",
            SktransferWarning,
            stacklevel=2,
        )


def _own_version() -> str:
    from sktransfer._version import __version__

    return __version__
