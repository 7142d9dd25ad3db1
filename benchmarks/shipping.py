"""Ways to ship each kind of estimator: whether they work, the largest difference of predictions, and bytes.

    python -m benchmarks.shipping

The estimators are those that the tests save and load. Each is shipped in each way and read back in this process. Its
predictions are compared with those of the original. mlflow is measured if it is installed.
"""

from __future__ import annotations

import importlib.util
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import skops.io
import torch

from benchmarks.common import Report
from benchmarks.remembered import Remembered
from sktransfer import as_module, export_onnx, load, mlflow, save
from sktransfer.exceptions import InvalidParameterError, SktransferError
from tests.helpers.saved_estimators import MAKERS, TEXTS, digits, predictions

Result = tuple[np.ndarray, int | None]


def samples(kind: str) -> Any:
    """Return the samples that an estimator of the tests predicts from."""
    if kind not in ("images", "texts"):
        raise InvalidParameterError("a table of several columns has no input of one network")
    return digits()[0] if kind == "images" else TEXTS


def by_module(estimator: Any, name: str, folder: Path) -> Result:
    """Run the module of `as_module`."""
    module = as_module(estimator)
    batch = module.preprocess(samples(MAKERS[name][2]))
    with torch.no_grad():
        return module(*(batch if isinstance(batch, tuple) else (batch,))).numpy(), None


def by_onnx(estimator: Any, name: str, folder: Path) -> Result:
    """Run the graph of `export_onnx` in onnxruntime."""
    import onnxruntime

    module, X = as_module(estimator), samples(MAKERS[name][2])
    export = export_onnx(estimator, folder / "model.onnx", X=X[:2])
    batch = module.preprocess(X)
    session = onnxruntime.InferenceSession(str(export.path))
    names = [one.name for one in session.get_inputs()]
    inputs = dict(zip(names, [one.numpy() for one in (batch if isinstance(batch, tuple) else (batch,))]))
    return session.run(None, inputs)[0], sum(file.stat().st_size for file in export.files)


def by_skops(estimator: Any, name: str, folder: Path) -> Result:
    """Write and load by `skops.io`."""
    file = folder / "model.skops"
    skops.io.dump(estimator, file)
    loaded = skops.io.load(file, trusted=skops.io.get_untrusted_types(file=file))
    return predictions(loaded, name), file.stat().st_size


def by_joblib(estimator: Any, name: str, folder: Path) -> Result:
    """Write and load by joblib, which uses pickle."""
    file = folder / "model.joblib"
    joblib.dump(estimator, file)
    return predictions(joblib.load(file), name), file.stat().st_size


def by_save(estimator: Any, name: str, folder: Path, weights: str = "reference") -> Result:
    """Write and load by `save`, with pretrained weights by reference."""
    file = folder / f"{weights}.skt"
    save(estimator, file, weights=weights)
    return predictions(load(file), name), file.stat().st_size


def by_embedding(estimator: Any, name: str, folder: Path) -> Result:
    """Write and load by `save`, with all weights."""
    return by_save(estimator, name, folder, "embed")


def by_mlflow(estimator: Any, name: str, folder: Path) -> Result:
    """Write and load by `sktransfer.mlflow`."""
    mlflow.save_model(estimator, folder / "model", pyfunc_predict_fn=MAKERS[name][1])
    files = [file for file in (folder / "model").rglob("*") if file.is_file()]
    return predictions(mlflow.load_model(folder / "model"), name), sum(file.stat().st_size for file in files)


WAYS: dict[str, Callable[[Any, str, Path], Result]] = {
    "as_module": by_module,
    "ONNX": by_onnx,
    "skops": by_skops,
    "mlflow": by_mlflow,
    "joblib": by_joblib,
    "save": by_save,
    "save, embedded": by_embedding,
}


def ship(estimator: Any, name: str, way: str) -> dict[str, Any]:
    """Return the largest difference and the bytes of one way, or the error that refuses it."""
    expected = predictions(estimator, name)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            found, size = WAYS[way](estimator, name, Path(folder))
        except SktransferError as error:
            return {"error": f"{type(error).__name__}: {error}"}
    if found.size == expected.size:  # a module gives a column where `predict` gives a vector
        found = found.reshape(expected.shape)
    if expected.dtype == object or found.shape != expected.shape:
        return {"difference": None if np.array_equal(expected, found) else "other", "bytes": size}
    return {"difference": float(np.abs(found - expected).max()), "bytes": size}


def cell(result: dict[str, Any]) -> str:
    """Return a result as the table shows it."""
    if "error" in result:
        return "no"
    difference = result["difference"] or 0.0
    shown = "equal" if difference == 0 else difference if isinstance(difference, str) else f"{difference:.0e}"
    return shown if result["bytes"] is None else f"{shown}, {result['bytes'] / 1000:,.0f} kB"


def main() -> None:
    """Print the table as Markdown, and write `results/shipping.json`."""
    report, remembered = Report("how does an estimator ship, and what is lost?", "shipping"), Remembered("shipping")
    ways = [way for way in WAYS if way != "mlflow" or importlib.util.find_spec("mlflow")]
    table = [f"| estimator | {' | '.join(ways)} |", f"|---|{'---|' * len(ways)}"]
    for name, (make, *_) in MAKERS.items():
        made: list[Any] = []

        def measure(way: str, made: list[Any] = made, make: Any = make, name: str = name) -> dict[str, Any]:
            made[:] = made or [make()]
            return ship(made[0], name, way)

        results = {way: remembered({"name": name, "way": way}, lambda way=way: measure(way)) for way in ways}
        table.append(f"| {name} | {' | '.join(map(cell, results.values()))} |")
        report.row(name, [sum("error" not in result for result in results.values())], **results)
    report.write()
    print("\n" + "\n".join(table))


if __name__ == "__main__":
    main()
