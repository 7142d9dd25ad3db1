"""New processes that start fast, because a process that has loaded the libraries forks them.

This file is also the program of the process that forks. It imports no module of sktransfer, so that a new process
begins without any state of it. The fork server of multiprocessing would run the main program again in each process, so
that a script could only check a backbone under `if __name__ == "__main__"`.
"""

from __future__ import annotations

import atexit
import importlib
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

__all__ = ["LIBRARIES", "call"]

# Modules that take seconds to import. Those that the calling process has loaded are loaded once for all new processes.
LIBRARIES = ("pandas", "sklearn.pipeline", "skorch", "torch", "transformers.masking_utils")

_ONCE = "--once"  # runs one job without a fork

_lock = threading.Lock()
_servers: dict[int, subprocess.Popen[bytes]] = {}  # by the process that has started it


def call(
    function: str,
    arguments: Sequence[str] = (),
    *,
    environment: Mapping[str, str] | None = None,
    folder: str | os.PathLike[str] = ".",
) -> subprocess.CompletedProcess[bytes]:
    r"""Call a function in a new process.

    Libraries of `LIBRARIES` may be loaded there. Variables of the environment that they read while they are imported,
    such as `OMP_NUM_THREADS`, have the values of the first call in this process.

    Parameters
    ----------
    function : str
        Its module and its name, as in "package.module:name". `sys.path` is that of this process.
    arguments : sequence of str, default=()
        Arguments of the function.
    environment : mapping of str to str, default=None
        Variables of the new process. None is a copy of those of this process.
    folder : path, default="."
        Current folder of the new process.

    Returns
    -------
    done : subprocess.CompletedProcess
        The exit status, and what the process printed as bytes.

    Examples
    --------
    >>> from sktransfer.testing.processes import call
    >>> call("builtins:print", ["from", "elsewhere"]).stdout
    b'from elsewhere\n'
    """
    with tempfile.TemporaryDirectory() as place, _lock:
        printed = Path(place, "stdout"), Path(place, "stderr")
        job = {
            "function": function,
            "arguments": list(arguments),
            "streams": [os.devnull, *map(str, printed)],
            "environment": dict(os.environ if environment is None else environment),
            "folder": str(Path(folder).resolve()),
            "path": [entry or str(Path.cwd()) for entry in sys.path],
        }
        status = _ask(json.dumps(job))
        return subprocess.CompletedProcess(function, status, *(stream.read_bytes() for stream in printed))


def _ask(job: str) -> int:
    if not hasattr(os, "fork"):  # Windows
        return subprocess.run([sys.executable, "-P", __file__, _ONCE], input=job.encode(), check=False).returncode
    server = _servers.get(os.getpid())
    if server is None or server.poll() is not None:
        _end()
        command = [sys.executable, "-P", __file__, *(name for name in LIBRARIES if name in sys.modules)]
        server = _servers[os.getpid()] = subprocess.Popen(
            command, bufsize=0, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
    assert server.stdin is not None
    assert server.stdout is not None
    server.stdin.write(job.encode() + b"\n")
    return int(server.stdout.readline())


@atexit.register
def _end() -> None:
    """End the process that forks."""
    server = _servers.pop(os.getpid(), None)
    if server is not None:
        with server:  # closes the pipes, which ends it, and waits for it
            pass


def _serve(libraries: Sequence[str]) -> dict[str, Any] | None:
    """Fork a process for each job that arrives. Return its job in that process, and None after the last one."""
    jobs, answers = os.fdopen(os.dup(0), "rb"), os.dup(1)
    os.dup2(2, 1)  # libraries may print
    for name in libraries:
        importlib.import_module(name)
    for line in jobs:
        child = os.fork()
        if child == 0:
            os.close(answers)
            job: dict[str, Any] = json.loads(line)
            return job
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        os.write(answers, b"%d\n" % status)
    return None  # the process that has started this one has ended


def _run(job: Mapping[str, Any]) -> None:
    """Make this process that of a job, and call its function."""
    for number, stream in enumerate(job["streams"]):
        file = os.open(stream, os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_CREAT)
        os.dup2(file, number)
        os.close(file)
    os.environ.clear()
    os.environ.update(job["environment"])
    os.chdir(job["folder"])
    sys.argv, sys.path[:] = job["arguments"], job["path"]
    module, _, name = job["function"].partition(":")
    getattr(importlib.import_module(module), name)(*job["arguments"])


if __name__ == "__main__":
    _job = json.loads(sys.stdin.buffer.readline()) if sys.argv[1:] == [_ONCE] else _serve(sys.argv[1:])
    if _job is not None:
        _run(_job)
