"""Local Hugging Face hub with the part of the protocol that downloads a model."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections import defaultdict, deque
from pathlib import Path

import pytest
from huggingface_hub import constants, hf_api

from tests.helpers.misbehaving_server import Behaviour, Handler, Server, well

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def use_hub(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """Point the hub's client to a URL. It reads `HF_ENDPOINT` only when it is imported."""
    monkeypatch.setattr(constants, "ENDPOINT", url)
    template = url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(hf_api.api, "endpoint", url)


def lay_into_cache(cache: Path, model: str, source: Path) -> Path:
    """Copy a folder into the cache in the layout of the hub's client."""
    place = cache / f"models--{model.replace('/', '--')}"
    (place / "refs").mkdir(parents=True)
    (place / "refs" / "main").write_text(COMMIT)
    return Path(shutil.copytree(source, place / "snapshots" / COMMIT))


class Hub(Server):
    """Server of a folder as the model `me/model`.

    `scripts` holds the behaviours for the next requests per file. `damaged` names files whose bytes do not match their
    hash.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(b"", well, HubHandler)
        self.folder = folder
        self.scripts: defaultdict[str, deque[Behaviour]] = defaultdict(deque)
        self.damaged: set[str] = set()

    @property
    def lines(self) -> list[str]:
        """Return the requests, one line per request."""
        return [f"{method} {path.split('?')[0]}" for method, path, _ in self.asked]

    def bodies(self, name: str) -> list[str | None]:
        """Return the ranges that a file's content was asked for in."""
        return [asked for method, path, asked in self.asked if method == "GET" and path.endswith(f"/{name}")]


class HubHandler(Handler):
    server: Hub

    @property
    def name(self) -> str:
        return self.path.split("?")[0].partition("/resolve/")[2].partition("/")[2]

    @property
    def content(self) -> bytes:
        content = (self.server.folder / self.name).read_bytes()
        return content[:-1] + bytes([content[-1] ^ 1]) if self.name in self.server.damaged else content

    @property
    def etag(self) -> str | None:
        if not (self.name and (self.server.folder / self.name).is_file()):
            return None
        content = (self.server.folder / self.name).read_bytes()
        return (hashlib.sha256 if self.name.endswith(".safetensors") else hashlib.sha1)(content).hexdigest()

    def do_GET(self) -> None:
        self.server.asked.append((self.command, self.path, self.headers["Range"]))
        path, names = self.path.split("?")[0], self.files()
        if path.startswith("/me/model/resolve/") and self.name in names:
            script = self.server.scripts[self.name]
            if self.command == "HEAD":
                self.head(200, len(self.content), X_Repo_Commit=COMMIT)
            else:
                (script.popleft() if script else well)(self)
        elif path.startswith("/api/models/me/model/tree"):
            self.json([{"type": "file", "path": name, "size": size, "oid": name} for name, size in names.items()])
        elif path.startswith("/api/models/me/model"):
            self.json({"id": "me/model", "sha": COMMIT, "siblings": [{"rfilename": name} for name in names]})
        elif path == "/":
            self.head(200, 0)
        else:
            known = path.startswith("/me/model")
            self.head(404, 0, X_Repo_Commit=COMMIT, X_Error_Code="EntryNotFound" if known else "RepoNotFound")

    do_HEAD = do_GET

    def files(self) -> dict[str, int]:
        folder = self.server.folder
        found = sorted(file for file in folder.rglob("*") if file.is_file())
        return {file.relative_to(folder).as_posix(): file.stat().st_size for file in found}

    def json(self, what: object) -> None:
        content = json.dumps(what).encode()
        self.head(200, len(content), Content_Type="application/json")
        self.body(content)

    def start(self, **headers: str) -> bytes:
        return super().start(**({"X_Repo_Commit": COMMIT} | headers))
