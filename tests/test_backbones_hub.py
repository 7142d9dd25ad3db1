"""Hub models: out of the cache, out of a server that speaks the hub's protocol, and out of reach."""

from __future__ import annotations

import hashlib
import json
import shutil
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_folders import make_folder

import sktransfer
from sktransfer.backbones.hub import hub_file, hub_tokenizer, split_revision
from sktransfer.exceptions import BackboneNotFoundError, SktransferWarning, WeightsError

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    """Give the hub's client an empty cache, and a hub that nobody answers for."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)
    use_hub(monkeypatch, "http://127.0.0.1:9")  # the port of "discard", which is closed
    return tmp_path / "cache"


def use_hub(monkeypatch, url: str) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", url)
    template = url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(huggingface_hub.hf_api.api, "endpoint", url)


def cached(cache: Path, model: str, source: Path) -> Path:
    """Lay a folder into the cache as the hub's client does."""
    place = cache / f"models--{model.replace('/', '--')}"
    (place / "refs").mkdir(parents=True)
    (place / "refs" / "main").write_text(COMMIT)
    return Path(shutil.copytree(source, place / "snapshots" / COMMIT))


@pytest.fixture
def model(tmp_path) -> Path:
    make_folder("bert", tmp_path / "model")
    return tmp_path / "model"


class Hub(BaseHTTPRequestHandler):
    """The part of the hub's protocol that fetching a model takes."""

    folder: Path
    asked: list[str]

    def log_message(self, *_: object) -> None: ...

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, body: bool) -> None:
        path = self.path.split("?")[0]
        self.asked.append(f"{self.command} {path}")
        names = sorted(file.name for file in self.folder.iterdir())
        content, headers, status = b"", {}, 200
        if path.startswith("/api/models/me/model/tree"):
            files = [self.folder / name for name in names]
            tree = [{"type": "file", "path": f.name, "size": f.stat().st_size, "oid": f.name} for f in files]
            content = json.dumps(tree).encode()
        elif path.startswith("/api/models/me/model"):
            siblings = [{"rfilename": name} for name in names]
            content = json.dumps({"id": "me/model", "sha": COMMIT, "siblings": siblings}).encode()
        elif path.startswith("/me/model/resolve/") and path.rsplit("/", 1)[-1] in names:
            content = (self.folder / path.rsplit("/", 1)[-1]).read_bytes()
            headers = {"ETag": f'"{hashlib.sha1(content).hexdigest()}"'}
        elif path != "/":
            status = 404
            headers = {"X-Error-Code": "EntryNotFound" if path.startswith("/me/model") else "RepoNotFound"}
        self.send_response(status)
        for name, value in ({"X-Repo-Commit": COMMIT, "Content-Length": str(len(content))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            self.wfile.write(content)


@pytest.fixture
def hub(cache, model, monkeypatch) -> Iterator[list[str]]:
    """Serve a model as `me/model`, and list what is asked for."""
    handler = type("Handler", (Hub,), {"folder": model, "asked": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    use_hub(monkeypatch, f"http://127.0.0.1:{server.server_port}")
    yield handler.asked
    server.shutdown()
    server.server_close()


def test_revisions_are_split_off():
    assert split_revision("owner/model@v1.2") == ("owner/model", "v1.2")
    assert split_revision("model") == ("model", None)


def test_a_cached_model_is_loaded_without_asking_anyone(cache, model):
    cached(cache, "me/model", model)
    with sktransfer.config_context(download="never"):
        backbone = sktransfer.load_backbone("hf/me/model")
        assert backbone.name == "hf/me/model"
        assert backbone.fingerprint() == sktransfer.load_backbone(f"hf/{model}").fingerprint()
        assert sktransfer.load_backbone("hf/me/model", weights="random").fingerprint() != backbone.fingerprint()


@pytest.mark.parametrize("weights", ["pretrained", "random"])
def test_without_network_the_error_comes_at_once_and_names_file_place_and_remedy(cache, weights):
    start = time.monotonic()
    with pytest.raises(WeightsError, match=r"looked for its config\.json in .*cache, .*failed .*'hf/\./folder'"):
        sktransfer.load_backbone("hf/me/model", weights=weights)
    assert time.monotonic() - start < 5  # the hub's own client alone would try for some twenty seconds


def test_without_network_missing_weights_beside_a_cached_configuration_are_an_error_at_once(cache, model):
    (model / "model.safetensors").unlink()
    cached(cache, "me/model", model)
    start = time.monotonic()
    with pytest.warns(SktransferWarning, match="fetching"), pytest.raises(WeightsError, match=r"fetching .* failed"):
        sktransfer.load_backbone("hf/me/model")
    assert time.monotonic() - start < 5


def test_where_downloads_are_forbidden_the_hub_is_not_asked(hub):
    with sktransfer.config_context(download="never"):
        with pytest.raises(WeightsError, match=r"config\.json .*download='never'"):
            sktransfer.load_backbone("hf/me/model")
        with pytest.raises(WeightsError, match=r"tokenizer\.json .*download='never'"):
            hub_tokenizer("me/model")
    assert hub == []


def test_a_model_is_fetched_once_and_announced(hub, model):
    with pytest.warns(SktransferWarning, match="fetching hub:me/model"):
        backbone = sktransfer.load_backbone("hf/me/model")
    assert backbone.fingerprint() == sktransfer.load_backbone(f"hf/{model}").fingerprint()
    n = len(hub)
    assert sktransfer.load_backbone("hf/me/model") is backbone
    assert len(hub) == n


def test_random_weights_fetch_the_tokenizer_and_not_the_weights(hub, model):
    make_folder("bert", model, hidden_act="relu")  # unlike those above, which this process keeps
    backbone = sktransfer.load_backbone("hf/me/model", weights="random")
    assert backbone.preprocess(["a dog"])[0].tolist()[0] == 0
    assert any("tokenizer.json" in line for line in hub)
    assert not any("safetensors" in line for line in hub)


def test_a_file_that_a_model_lacks_is_none_and_one_that_is_there_a_path(hub):
    assert hub_file("me/model", "preprocessor_config.json") is None
    assert hub_file("me/model", "preprocessor_config.json") is None  # known from the first time
    assert hub_file("me/model", "config.json").name == "config.json"


def test_a_model_without_configuration_is_an_error(hub, model):
    (model / "config.json").unlink()
    with pytest.raises(WeightsError, match=r"has no config\.json"):
        sktransfer.load_backbone("hf/me/model")


def test_a_model_that_no_hub_has_is_not_found(hub):
    with pytest.raises(BackboneNotFoundError, match="there is no hub model 'you/other'"):
        sktransfer.load_backbone("hf/you/other")


@pytest.mark.parametrize("name", ["a/b/c", "no such model", "-x"])
def test_a_name_that_no_model_can_have_is_not_found(cache, name):
    with pytest.raises(BackboneNotFoundError, match="neither a local folder nor the id of a hub model"):
        sktransfer.load_backbone(f"hf/{name}")
