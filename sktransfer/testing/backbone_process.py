"""Run a backbone in a new process without a network, and find the packages that listing it imports."""

from __future__ import annotations

import os
import pickle
import socket
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sktransfer.testing.processes import call

__all__ = ["HEAVY", "imported_by_listing", "in_fresh_process", "no_network", "run_job"]

# Packages that are slow to import, or load native libraries that may be broken.
HEAVY = (
    "accelerate",
    "cv2",
    "jax",
    "numpy",
    "onnxruntime",
    "pandas",
    "safetensors",
    "scipy",
    "sentence_transformers",
    "skimage",
    "sklearn",
    "skorch",
    "tensorflow",
    "timm",
    "tokenizers",
    "torch",
    "torchaudio",
    "torchvision",
    "transformers",
)

_LIST = """
import sys
before = set(sys.modules)
from sktransfer.backbones.registry import registry
registry().find(sys.argv[1])
print("imported", *sorted(name for name in sys.argv[2:] if name in set(sys.modules) - before))
"""


class _Refused(OSError):
    """A connection was attempted."""


@contextmanager
def no_network() -> Iterator[list[str]]:
    """Refuse all connections inside the block, and yield the list of requested addresses."""
    asked: list[str] = []

    def refuse(*args: Any, **kwargs: Any) -> Any:
        address = next((arg for arg in args if isinstance(arg, (tuple, str, bytes))), "?")
        asked.append(str(address))
        raise _Refused(f"there is no network in this check, but {address!r} was requested")

    originals = socket.socket.connect, socket.socket.connect_ex, socket.getaddrinfo
    socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = refuse  # type: ignore[assignment,method-assign]
    try:
        yield asked
    finally:
        socket.socket.connect, socket.socket.connect_ex, socket.getaddrinfo = originals  # type: ignore[method-assign]


def imported_by_listing(name: str) -> list[str]:
    """Return the heavy packages that a new process imports to find a backbone's spec.

    Parameters
    ----------
    name : str
        Name, as `load_backbone` takes it.

    Raises
    ------
    AssertionError
        If the new process does not find the spec.
    """
    # Other plugins may be heavy: load only this one and the built-in ones.
    path = os.pathsep.join(entry or "." for entry in sys.path)
    environment = {**os.environ, "PYTHONPATH": path, "SKTRANSFER_PLUGINS": name.partition("/")[0]}
    command = [sys.executable, "-c", _LIST, name, *HEAVY]
    process = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    last = process.stdout.strip().rpartition("\n")[2].split()
    if process.returncode != 0 or last[:1] != ["imported"]:
        raise AssertionError(f"{name} cannot be found in a new process: {process.stderr.strip()[-2000:]}")
    return last[1:]


def in_fresh_process(backbone: Any, weights: Sequence[str], samples: Sequence[Any]) -> dict[str, Any]:
    """Load and run a backbone in a new process without a network.

    Parameters
    ----------
    backbone : str or bytes
        Name, or pickled backbone.
    weights : sequence of str
        Weights to load in turn. The samples run through the last ones.
    samples : sequence
        Samples as users pass them.

    Returns
    -------
    result : dict
        `asked` (network addresses requested), `fingerprints` (one per entry of `weights`), `stages` (one array per
        sample, for each stage), or `error` if it failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        job, answer = Path(folder, "job"), Path(folder, "answer")
        job.write_bytes(pickle.dumps((backbone, list(weights), list(samples))))
        process = call(f"{__name__}:{run_job.__name__}", [str(job), str(answer)])
        if not answer.exists():
            said = process.stderr.decode(errors="replace").strip()[-2000:]
            return {"error": f"the process ended with {process.returncode}: {said}", "asked": []}
        result: dict[str, Any] = pickle.loads(answer.read_bytes())
        return result


def _load_and_run(backbone: Any, weights: Sequence[str], samples: Sequence[Any]) -> dict[str, Any]:
    from sktransfer.backbones.loading import load_backbone
    from sktransfer.config import config_context
    from sktransfer.testing.backbone_subject import run_stages, to_tensors

    result: dict[str, Any] = {"fingerprints": []}
    for name in weights:
        with config_context(download="never"):
            loaded = pickle.loads(backbone) if isinstance(backbone, bytes) else load_backbone(backbone, weights=name)
        result["fingerprints"].append(loaded.fingerprint())
    stages = run_stages(loaded, to_tensors(loaded, samples))
    result["stages"] = [[values.numpy() for values in stage] for stage in stages]
    return result


def run_job(job: str, answer: str) -> None:
    """Run a job of `in_fresh_process` in the new process.

    Parameters
    ----------
    job, answer : str
        Files with the pickled job, and for the pickled result.
    """
    backbone, weights, samples = pickle.loads(Path(job).read_bytes())
    with no_network() as asked:
        try:
            result = _load_and_run(backbone, weights, samples)
        except Exception:  # shown by the check that started the job
            result = {"error": traceback.format_exc()}
    Path(answer).write_bytes(pickle.dumps({**result, "asked": asked}))
