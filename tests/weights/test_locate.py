"""Where weights are looked for, what is fetched, and what is refused."""

from __future__ import annotations

import hashlib
import os
import sys
from concurrent.futures import ThreadPoolExecutor

import huggingface_hub
import pytest
import torch
from safetensors.torch import save

from sktransfer import BackboneSpec, config_context
from sktransfer.exceptions import InvalidParameterError, SktransferWarning, WeightsError
from sktransfer.weights import download as downloads
from sktransfer.weights import locate as home
from sktransfer.weights.locate import is_here, locate
from sktransfer.weights.source import SCHEMES, WeightsSource
from tests.helpers.hub_server import lay_into_cache
from tests.helpers.misbehaving_server import drips, says, serving, well

pytest_plugins = ["tests.helpers.download_fixtures"]
pytestmark = pytest.mark.usefixtures("no_proxies")
STATE = {"a": torch.arange(6.0).view(2, 3), "b": torch.tensor([1.5])}
CONTENT = save(STATE)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


def spec(location=None, **source):
    given = None if location is None else WeightsSource(location=location, **source)
    return BackboneSpec(name="toy/a", loader="a:b", modality="image", stages={"s": 1}, weights=given)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "w.safetensors"
    path.write_bytes(CONTENT)
    return path


@pytest.fixture
def hub_dir(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return tmp_path / "torch" / "hub"


@pytest.fixture
def server():
    with serving(CONTENT) as made:
        yield made


def test_schemes_can_all_be_located():
    assert set(home._SCHEMES) == set(SCHEMES)


def test_locate_random_is_none():
    assert locate(spec(), "random") is None


def test_locate_returns_a_local_file_as_given(file, monkeypatch):
    assert locate(spec(), file) == locate(spec(), str(file)) == file
    monkeypatch.setenv("HOME", str(file.parent))
    assert locate(spec(), "~/w.safetensors") == file


def test_locate_names_the_allowed_values_for_an_absent_local_file():
    with pytest.raises(WeightsError, match=r"weights='pretraned': there is no such file.*'pretrained', or 'random'"):
        locate(spec(), "pretraned")


@pytest.mark.parametrize("given", [None, 3, True, {}])
def test_locate_refuses_weights_that_are_no_path(given):
    with pytest.raises(InvalidParameterError, match="weights="):
        locate(spec(), given)


def test_locate_reports_a_backbone_without_pretrained_weights():
    with pytest.raises(InvalidParameterError, match=r"toy/a has none.*weights='random'"):
        locate(spec(), "pretrained")


def test_locate_finds_a_file_address_of_the_spec(file):
    assert locate(spec(f"file:{file}", sha256=SHA256), "pretrained") == file
    with pytest.raises(WeightsError, match=r"toy/a: looked for .*absent"):
        locate(spec(f"file:{file.parent}/absent"), "pretrained")


def test_locate_finds_a_file_in_a_package(tmp_path, monkeypatch):
    (tmp_path / "toy_package" / "data").mkdir(parents=True)
    (tmp_path / "toy_package" / "__init__.py").touch()
    path = tmp_path / "toy_package" / "data" / "w.safetensors"
    path.write_bytes(CONTENT)
    monkeypatch.syspath_prepend(tmp_path)
    assert locate(spec("package:toy_package/data/w.safetensors", sha256=SHA256), "pretrained") == path
    with pytest.raises(WeightsError, match=r"data/x, which does not exist: install 'toy_package' again"):
        locate(spec("package:toy_package/data/x"), "pretrained")
    with pytest.raises(WeightsError, match=r"package 'toy_absent', which is not installed"):
        locate(spec("package:toy_absent/w"), "pretrained")


@pytest.mark.parametrize("sha256", [SHA256, SHA256[:8], SHA256.upper(), ""])
def test_locate_downloads_a_file_once_and_warns(sha256, server, hub_dir):
    one = spec(f"{server.url}/folder/w.safetensors?download=1", sha256=sha256, size=2_000_000)
    with pytest.warns(SktransferWarning, match=rf"toy/a: downloading {server.url}.*\(2 MB\)"):
        path = locate(one, "pretrained")
    assert path.read_bytes() == CONTENT
    assert path.name == "w.safetensors"
    assert hub_dir in path.parents
    assert locate(one, "pretrained") == path
    with config_context(download="never"):
        assert locate(one, "pretrained") == path
    assert len(server.asked) == 1


def test_locate_separates_files_of_one_name_at_two_addresses(server, hub_dir):
    with pytest.warns(SktransferWarning):
        paths = {locate(spec(f"{server.url}/{folder}/model.safetensors"), "pretrained") for folder in "ab"}
    assert len(paths) == 2
    assert [path for _, path, _ in server.asked] == ["/a/model.safetensors", "/b/model.safetensors"]


def test_locate_finds_files_fetched_by_torchvision(hub_dir):
    (hub_dir / "checkpoints").mkdir(parents=True)
    path = hub_dir / "checkpoints" / "net-12345678.pth"
    path.write_bytes(CONTENT)
    assert locate(spec("https://download.pytorch.org/models/net-12345678.pth", sha256=SHA256), "pretrained") == path


@pytest.mark.parametrize(
    ("behaviour", "sha256", "why"),
    [(well, "0" * 64, "its sha256 is"), (says(404), "", "the server answered 404 Not Found")],
)
def test_locate_failure_names_address_and_remedy_and_leaves_no_file(behaviour, sha256, why, server, hub_dir):
    server.usual = behaviour
    with pytest.warns(SktransferWarning, match="downloading"), pytest.raises(WeightsError, match=why) as caught:
        locate(spec(f"{server.url}/w", sha256=sha256), "pretrained")
    for words in ("toy/a", f"{server.url}/w", str(hub_dir), "weights=<path of a local file>"):
        assert words in str(caught.value)
    assert [one for one in hub_dir.rglob("*") if one.is_file() and one.suffix != ".lock"] == []


def test_locate_names_the_file_of_an_address_without_a_file_name(server, hub_dir):
    with pytest.warns(SktransferWarning, match="downloading"):
        assert locate(spec(f"{server.url}/", sha256=SHA256), "pretrained").name == "weights"


def test_locate_warns_when_it_waits_for_another_process(server, hub_dir, monkeypatch):
    monkeypatch.setattr(downloads, "WAIT_NOTICE_SECONDS", 0.05)
    server.usual = drips(0.1, len(CONTENT) // 5)
    one = spec(f"{server.url}/w", sha256=SHA256)
    with pytest.warns(SktransferWarning) as told, ThreadPoolExecutor(2) as pool:
        list(pool.map(locate, [one, one], ["pretrained"] * 2))
    messages = sorted(str(warning.message) for warning in told)
    assert messages[0] == f"toy/a: another process is downloading {server.url}/w; waiting for it"
    assert messages[1].startswith(f"toy/a: downloading {server.url}/w into")
    assert len(server.asked) == 1


def test_locate_obeys_hf_hub_offline_for_addresses_of_the_hub(hub_dir, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    place = "https://huggingface.co/me/model/resolve/main/w.safetensors"
    with pytest.raises(WeightsError, match=rf"looked for .*HF_HUB_OFFLINE .* forbids downloading {place}"):
        locate(spec(place), "pretrained")


def test_locate_fetches_nothing_with_download_never(server, hub_dir):
    with config_context(download="never"), pytest.raises(WeightsError) as caught:
        locate(spec(f"{server.url}/w", size=3_000_000), "pretrained")
    for words in ("toy/a", f"{server.url}/w", "(3 MB)", str(hub_dir), "download='never'", "weights=<path"):
        assert words in str(caught.value)
    assert server.asked == []


def test_locate_does_not_ask_the_hub_with_download_never(cache):
    with config_context(download="never"), pytest.raises(WeightsError) as caught:
        locate(spec("hub:someone/never-fetched"), "pretrained")
    for words in ("toy/a", str(cache), "hub:someone/never-fetched", "download='never'"):
        assert words in str(caught.value)


def test_locate_reports_an_unreachable_hub_at_once(cache):
    with pytest.warns(SktransferWarning, match="toy/a: downloading hub:"), pytest.raises(WeightsError, match="failed"):
        locate(spec("hub:someone/never-fetched"), "pretrained")


def test_locate_needs_no_tokenizer_for_image_models(cache, tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.safetensors").write_bytes(CONTENT)
    folder = lay_into_cache(cache, "me/images", tmp_path / "model")
    assert locate(spec("hub:me/images"), "pretrained") == folder


def test_locate_refuses_a_file_with_another_sha256(file, monkeypatch):
    one = spec(f"file:{file}", sha256=SHA256)
    assert locate(one, "pretrained") == file
    file.write_bytes(CONTENT[:-1] + b"x")
    os.utime(file, ns=(1, 1))
    with pytest.raises(WeightsError, match=f"{file} is not the file that the spec names.*expected {SHA256}"):
        locate(one, "pretrained")


def test_locate_hashes_an_unchanged_file_once(file, monkeypatch):
    one, hashed = spec(f"file:{file}", sha256=SHA256), []
    digest = hashlib.file_digest
    monkeypatch.setattr(hashlib, "file_digest", lambda *args: hashed.append(1) or digest(*args))
    for _ in range(3):
        locate(one, "pretrained")
    assert len(hashed) == 1
    file.write_bytes(CONTENT)
    os.utime(file, ns=(5, 5))
    locate(one, "pretrained")
    assert len(hashed) == 2


@pytest.mark.parametrize("revision", ["", "@main", "@0123abcd"])
def test_is_here_looks_for_the_weights_without_a_network(revision, tmp_path, monkeypatch):
    source = WeightsSource(location=f"hub:someone/model{revision}")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert not is_here(source)
    snapshot = tmp_path / "models--someone--model" / "snapshots" / "0123abcd"
    snapshot.mkdir(parents=True)
    (tmp_path / "models--someone--model" / "refs").mkdir()
    (tmp_path / "models--someone--model" / "refs" / "main").write_text("0123abcd")
    assert not is_here(source)
    (snapshot / "model.safetensors").write_bytes(b"")
    assert is_here(source)
    assert is_here(WeightsSource(location=f"file:{tmp_path}"))
    assert not is_here(WeightsSource(location=f"file:{tmp_path}/absent"))
    assert not is_here(WeightsSource(location="package:absent_module/weights"))
    assert not is_here(WeightsSource(location="package:absent_package.module/weights"))


@pytest.mark.parametrize("imported", [True, False])
@pytest.mark.parametrize("variable", ["TORCH_HOME", "XDG_CACHE_HOME"])
def test_is_here_looks_into_the_folder_of_torch_without_importing_it(imported, variable, tmp_path, monkeypatch):
    monkeypatch.delenv("TORCH_HOME", raising=False)
    monkeypatch.setenv(variable, str(tmp_path))
    folder = (tmp_path if variable == "TORCH_HOME" else tmp_path / "torch") / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    (folder / "a.pth").write_bytes(b"")
    if not imported:
        monkeypatch.delitem(sys.modules, "torch")
    assert is_here(WeightsSource(location="https://download.pytorch.org/models/a.pth"))
    assert ("torch" in sys.modules) == imported
    assert not is_here(WeightsSource(location="https://download.pytorch.org/models/b.pth"))
