"""Flavour of mlflow: models as files of `save`, without pickle."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from sktransfer._validation import require_estimator
from sktransfer._version import __version__
from sktransfer.cache.types import Cache
from sktransfer.config import Places
from sktransfer.exceptions import InvalidParameterError, LoadError
from sktransfer.persistence.api import load, save

__all__ = ["load_model", "log_model", "save_model"]

FLAVOR_NAME = "sktransfer"
_FILE = "model.skt"
_PINNED = ("mlflow", "scikit-learn", "torch")
_METHOD = "pyfunc_predict_fn"


def save_model(
    estimator: Any,
    path: str | os.PathLike[str],
    *,
    weights: str = "reference",
    pyfunc_predict_fn: str = "predict",
    pip_requirements: Sequence[str] | None = None,
    mlflow_model: Any = None,
    **options: Any,
) -> None:
    """Write an estimator as a folder of mlflow, with the flavours `sktransfer` and `python_function`.

    Parameters
    ----------
    estimator : estimator
        Estimator of scikit-learn or sktransfer that `save` takes.
    path : str or path
        Folder to write, which must not exist or be empty.
    weights : {"reference", "embed"}, default="reference"
        As in `save`. "embed" writes all weights, so that a server needs no others.
    pyfunc_predict_fn : str, default="predict"
        Method that `mlflow.pyfunc` calls, such as "predict_proba" or "transform".
    pip_requirements : sequence of str, default=None
        Requirements of an environment that loads the model. None for the installed versions of mlflow, scikit-learn,
        sktransfer and torch.
    mlflow_model : mlflow.models.Model, default=None
        Description to add the flavours to, as `mlflow.models.Model.log` gives it.
    **options
        As `mlflow.pyfunc.save_model` takes them, such as `signature`, `input_example`, `metadata` and `code_paths`.

    Raises
    ------
    ImportError
        If mlflow is not installed.
    InvalidParameterError
        If a parameter is not allowed, or the estimator lacks the method.
    SaveError
        If a part of the estimator cannot be written without pickle.

    See Also
    --------
    log_model : Write to a run of mlflow.

    Examples
    --------
    >>> from sktransfer import PretrainedClassifier
    >>> from sktransfer.mlflow import load_model, save_model
    >>> save_model(PretrainedClassifier("tiny/cnn"), "photos")
    >>> load_model("photos")
    PretrainedClassifier()
    """
    mlflow = _import_mlflow()
    require_estimator(estimator)
    if not callable(getattr(estimator, str(pyfunc_predict_fn), None)):
        raise InvalidParameterError(
            f"pyfunc_predict_fn={pyfunc_predict_fn!r} is no method of {type(estimator).__name__}; name one that takes "
            "samples, such as 'predict', 'predict_proba' or 'transform'"
        )
    model = mlflow.models.Model() if mlflow_model is None else mlflow_model
    model.add_flavor(FLAVOR_NAME, data=f"data/{_FILE}", sktransfer_version=__version__)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / _FILE
        save(estimator, file, weights=weights)
        mlflow.pyfunc.save_model(
            os.fspath(path),
            loader_module=__name__,
            data_path=str(file),
            mlflow_model=model,
            model_config={_METHOD: pyfunc_predict_fn},
            pip_requirements=_requirements() if pip_requirements is None else list(pip_requirements),
            **options,
        )


def log_model(estimator: Any, name: str, *, registered_model_name: str | None = None, **options: Any) -> Any:
    """Write an estimator to the active run of mlflow, or to a new one.

    Parameters
    ----------
    estimator : estimator
        Estimator of scikit-learn or sktransfer that `save` takes.
    name : str
        Name of the model.
    registered_model_name : str, default=None
        Name under which a version of the model is registered. None registers none.
    **options
        As `save_model` takes them.

    Returns
    -------
    info : mlflow.models.model.ModelInfo
        Description of the model. `info.model_uri` is its address.

    Raises
    ------
    ImportError
        If mlflow is not installed.
    InvalidParameterError
        If a parameter is not allowed, or the estimator lacks the method.
    SaveError
        If a part of the estimator cannot be written without pickle.

    See Also
    --------
    load_model : Load the model.
    """
    import sktransfer.mlflow as flavor

    return _import_mlflow().models.Model.log(
        artifact_path=None,
        name=name,
        flavor=flavor,
        registered_model_name=registered_model_name,
        estimator=estimator,
        **options,
    )


def load_model(
    model_uri: str | os.PathLike[str],
    *,
    trusted: Iterable[str] = (),
    weights: Places = (),
    cache: Cache = "saved",
) -> Any:
    """Load an estimator that `log_model` or `save_model` has written.

    Parameters
    ----------
    model_uri : str or path
        Address of the model, such as `info.model_uri`, "runs:/.../name" or "models:/name/1", or a folder.
    trusted, weights, cache
        As in `sktransfer.load`. `mlflow.pyfunc`, by which mlflow serves a model, loads with `cache=None`.

    Returns
    -------
    estimator : estimator
        The estimator.

    Raises
    ------
    ImportError
        If mlflow is not installed.
    LoadError
        If the model was not written by this flavour, is damaged, or needs `trusted`.

    See Also
    --------
    sktransfer.load : Load a file, with the same guarantees.
    """
    mlflow = _import_mlflow()
    folder = Path(mlflow.artifacts.download_artifacts(artifact_uri=os.fspath(model_uri)))
    flavors = mlflow.models.Model.load(str(folder)).flavors
    if FLAVOR_NAME not in flavors:
        raise LoadError(
            f"{model_uri} has the flavours {sorted(flavors)}, and not {FLAVOR_NAME!r}; load it by one of these, or "
            "write it by sktransfer.mlflow.log_model"
        )
    return load(folder / "data" / _FILE, trusted=trusted, weights=weights, cache=cache)


class _PyFunc:
    """Model of `mlflow.pyfunc`."""

    def __init__(self, estimator: Any, method: str) -> None:
        self.estimator, self.method = estimator, method

    def predict(self, model_input: Any, params: Mapping[str, Any] | None = None) -> Any:
        """Return what the method returns for samples: an array, a list or a table of one column."""
        return getattr(self.estimator, self.method)(model_input)


def _load_pyfunc(path: str, model_config: Mapping[str, Any]) -> _PyFunc:
    """Return the model of `mlflow.pyfunc`, for a service: without a cache, which would grow with every sample.

    It trusts no types, because the list in a file may be forged as well.
    """
    method = str(model_config[_METHOD])
    if method.startswith("_"):
        raise LoadError(f"{path}: {_METHOD}={method!r} is no public method")
    try:
        return _PyFunc(load(path, cache=None), method)
    except LoadError as error:
        if "trusted" not in str(error):
            raise
        raise LoadError(f"{error}. mlflow.pyfunc trusts no types; use sktransfer.mlflow.load_model") from error


def _requirements() -> list[str]:
    return [f"sktransfer=={__version__}", *(f"{name}=={version(name).partition('+')[0]}" for name in _PINNED)]


def _import_mlflow() -> Any:
    try:
        import mlflow
    except ImportError as error:
        raise ImportError(
            "models of mlflow need the package mlflow: pip install mlflow, or the extra mlflow"
        ) from error
    return mlflow
