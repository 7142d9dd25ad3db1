"""A backbone in a fresh process, without a network: what it gives there, and what listing it imports."""

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

__all__ = ["HEAVY", "imported_by_listing", "in_fresh_process", "no_network", "run_job"]

# What takes long to import, or loads libraries that may be broken.
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

_RUN = "import sys; from sktransfer.testing.backbone_process import run_job; run_job(*sys.argv[1:])"
_LIST = """
import sys
before = set(sys.modules)
from sktransfer.backbones.registry import registry
registry().find(sys.argv[1])
print("imported", *sorted(name for name in sys.argv[2:] if name in set(sys.modules) - before))
"""


class _Refused(OSError):
    """The network was asked for."""


@contextmanager
def no_network() -> Iterator[list[str]]:
    """Refuse all sockets to other machines inside the block, and give a list of what was asked for."""
    asked: list[str] = []

    def refuse(*args: Any, **kwargs: Any) -> Any:
        address = next((arg for arg in args if isinstance(arg, (tuple, str, bytes))), "?")
        asked.append(str(address))
        raise _Refused(f"there is no network in this check, and {address!r} was asked for")

    kept = socket.socket.connect, socket.socket.connect_ex, socket.getaddrinfo
    socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = refuse  # type: ignore[assignment,method-assign]
    try:
        yield asked
    finally:
        socket.socket.connect, socket.socket.connect_ex, socket.getaddrinfo = kept  # type: ignore[method-assign]


def _python(arguments: Sequence[str], **variables: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join(entry or "." for entry in sys.path)
    environment = {**os.environ, "PYTHONPATH": path, **variables}
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, env=environment, check=False)


def imported_by_listing(name: str) -> list[str]:
    """Return which heavy packages a fresh process has imported once it knows a backbone's spec.

    Parameters
    ----------
    name : str
        As `load_backbone` takes it.

    Raises
    ------
    AssertionError
        If the spec cannot be found in a fresh process.
    """
    # Other plugins may be heavy: only this one is loaded beside the built-in ones.
    done = _python(["-c", _LIST, name, *HEAVY], SKTRANSFER_PLUGINS=name.partition("/")[0])
    last = done.stdout.strip().rpartition("\n")[2].split()
    if done.returncode != 0 or last[:1] != ["imported"]:
        raise AssertionError(f"{name} cannot be found in a fresh process: {done.stderr.strip()[-2000:]}")
    return last[1:]


def in_fresh_process(backbone: Any, weights: Sequence[str], samples: Sequence[Any]) -> dict[str, Any]:
    """Load a backbone in a fresh process that has no network, and run it.

    Parameters
    ----------
    backbone : str or bytes
        A name, or a pickled backbone.
    weights : sequence of str
        Loaded one after the other; the samples run through the last of them.
    samples : sequence
        As users pass them.

    Returns
    -------
    found : dict
        `asked` (addresses on the network), `fingerprints` (one for each of `weights`), `stages` (for each stage one
        array a sample), or `error` where it failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        job, answer = Path(folder, "job"), Path(folder, "answer")
        job.write_bytes(pickle.dumps((backbone, list(weights), list(samples))))
        done = _python(["-c", _RUN, str(job), str(answer)])
        if not answer.exists():
            return {"error": f"the process ended with {done.returncode}: {done.stderr.strip()[-2000:]}", "asked": []}
        found: dict[str, Any] = pickle.loads(answer.read_bytes())
        return found


def _load_and_run(backbone: Any, weights: Sequence[str], samples: Sequence[Any]) -> dict[str, Any]:
    from sktransfer.backbones.loading import load_backbone
    from sktransfer.config import config_context
    from sktransfer.testing.backbone_subject import run_stages, tensors_of

    found: dict[str, Any] = {"fingerprints": []}
    for one in weights:
        with config_context(download="never"):
            loaded = pickle.loads(backbone) if isinstance(backbone, bytes) else load_backbone(backbone, weights=one)
        found["fingerprints"].append(loaded.fingerprint())
    stages = run_stages(loaded, tensors_of(loaded, samples))
    found["stages"] = [[values.numpy() for values in stage] for stage in stages]
    return found


def run_job(job: str, answer: str) -> None:
    """Do in a fresh process what `in_fresh_process` asks for.

    Parameters
    ----------
    job, answer : str
        Files: what to load, and where to write what was found.
    """
    backbone, weights, samples = pickle.loads(Path(job).read_bytes())
    with no_network() as asked:
        try:
            found = _load_and_run(backbone, weights, samples)
        except Exception:  # whatever it is, the check that asked shows it
            found = {"error": traceback.format_exc()}
    Path(answer).write_bytes(pickle.dumps({**found, "asked": asked}))
