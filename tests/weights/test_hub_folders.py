"""Copies of hub models: whole, interrupted, damaged on the way, and what is asked for to make them whole."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path

import huggingface_hub
import pytest
from safetensors.torch import load_file, save_file

import sktransfer
from sktransfer.exceptions import SktransferWarning, WeightsError
from sktransfer.weights.hub import cached_folder, fetch_folder, missing_file
from tests.helpers.hub_server import COMMIT, lay_into_cache, use_hub
from tests.helpers.huggingface_folders import make_folder
from tests.helpers.misbehaving_server import breaks_off, claims_length, says, stalls

pytest_plugins = ["tests.helpers.download_fixtures"]
pytestmark = pytest.mark.usefixtures("no_proxies")
INDEX = "model.safetensors.index.json"
SHARDS = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]


@pytest.fixture
def model(tmp_path) -> Path:
    make_folder("bert", tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def in_shards(model) -> Path:
    """Split the model's weights over two files."""
    state = load_file(model / "model.safetensors")
    (model / "model.safetensors").unlink()
    halves = [sorted(state)[::2], sorted(state)[1::2]]
    for shard, names in zip(SHARDS, halves, strict=True):
        save_file({name: state[name] for name in names}, model / shard, {"format": "pt"})
    weight_map = {name: shard for shard, names in zip(SHARDS, halves, strict=True) for name in names}
    (model / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return model


@pytest.fixture(autouse=True)
def quick_and_quiet(monkeypatch):
    """Leave out the client's pauses, and keep its warnings of retries out of the report."""
    monkeypatch.setattr("time.sleep", lambda _: None)
    logger = logging.getLogger("huggingface_hub")
    monkeypatch.setattr(logger, "disabled", True)


@pytest.fixture
def stalls_are_short(monkeypatch):
    """As `HF_HUB_DOWNLOAD_TIMEOUT` in the environment does, which the client has read already."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.5)


def test_missing_file_is_empty_for_a_whole_folder(model):
    assert missing_file(model, tokenizer=True) == ""


def test_missing_file_of_no_folder_is_the_weights():
    assert missing_file(None, tokenizer=False) == "model.safetensors"


@pytest.mark.parametrize("gone", [*SHARDS, INDEX])
def test_missing_file_names_each_missing_shard(gone, in_shards):
    assert missing_file(in_shards, tokenizer=True) == ""
    (in_shards / gone).unlink()
    assert missing_file(in_shards, tokenizer=True) == gone


def test_missing_file_names_the_tokenizer_only_where_it_is_needed(model):
    for file in model.glob("tokenizer*"):
        file.unlink()
    assert missing_file(model, tokenizer=True) == "tokenizer.json"
    assert missing_file(model, tokenizer=False) == ""


def test_missing_file_finds_weights_of_modules_in_subfolders(tmp_path, model):
    root = tmp_path / "modules"
    shutil.copytree(model, root / "0_Transformer")
    (root / "modules.json").write_text("[]")
    assert missing_file(root, tokenizer=True) == ""
    (root / "0_Transformer" / "model.safetensors").unlink()
    assert missing_file(root, tokenizer=True) == "model.safetensors"
    (root / "0_Transformer" / INDEX).write_text('{"weight_map": {"a": "b.safetensors"}}')
    (root / "0_Transformer" / "a.safetensors").touch()
    assert missing_file(root, tokenizer=True) == "0_Transformer/b.safetensors"


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"weight_map": 3}', '{"weight_map": {"a": 1}}', "\x00"])
def test_missing_file_names_an_index_that_cannot_be_read(text, model):
    (model / INDEX).write_text(text)
    with pytest.raises(WeightsError, match=rf"{INDEX}: cannot be read as an index of weights .*Delete it"):
        missing_file(model, tokenizer=True)


def test_missing_file_follows_an_index_to_no_other_folder(model):
    (model / INDEX).write_text('{"weight_map": {"a": "../../../etc/passwd", "b": "/etc/passwd"}}')
    assert missing_file(model, tokenizer=True) == ""


@pytest.mark.parametrize("gone", ["model.safetensors", "tokenizer.json"])
def test_load_backbone_completes_an_interrupted_copy(gone, hub, cache, model):
    folder = lay_into_cache(cache, "me/model", model)
    (folder / gone).unlink()
    with pytest.warns(SktransferWarning, match="hf/me/model: downloading hub:me/model into"):
        backbone = sktransfer.load_backbone("hf/me/model")
    assert (folder / gone).is_file()
    assert backbone.fingerprint() == sktransfer.load_backbone(f"hf/{model}").fingerprint()


def test_load_backbone_fetches_only_the_missing_shard(hub, cache, in_shards):
    folder = lay_into_cache(cache, "me/model", in_shards)
    (folder / SHARDS[1]).unlink()
    with pytest.warns(SktransferWarning, match="downloading"):
        backbone = sktransfer.load_backbone("hf/me/model")
    assert backbone.fingerprint() == sktransfer.load_backbone(f"hf/{in_shards}").fingerprint()
    assert hub.bodies(SHARDS[1]) == [None]
    assert hub.bodies(SHARDS[0]) == []


@pytest.mark.parametrize("gone", [*SHARDS, "tokenizer.json"])
def test_load_backbone_refuses_an_interrupted_copy_it_cannot_complete(gone, cache, in_shards, monkeypatch):
    folder = lay_into_cache(cache, "me/model", in_shards)
    (folder / gone).unlink()
    with (
        sktransfer.config_context(download="never"),
        pytest.raises(
            WeightsError, match=rf"hf/me/model: looked for {folder / gone}, which does not exist, and set_conf"
        ),
    ):
        sktransfer.load_backbone("hf/me/model")
    with (
        pytest.warns(SktransferWarning, match="downloading"),
        pytest.raises(WeightsError, match=rf"hf/me/model: looked for {folder / gone}, .*failed .*does not answer"),
    ):
        sktransfer.load_backbone("hf/me/model")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(WeightsError, match=rf"looked for {folder / gone}, .*HF_HUB_OFFLINE .*forbids"):
        sktransfer.load_backbone("hf/me/model")


def test_cached_folder_accepts_a_copy_that_lacks_only_unneeded_files(hub, cache, model, monkeypatch):
    """The client calls it incomplete: it knows that the hub has more."""
    (model / "onnx").mkdir()
    (model / "onnx" / "config.json").write_text("{}")
    folder = fetch_folder("me/model", None)
    (folder / "onnx" / "config.json").unlink()
    use_hub(monkeypatch, "http://127.0.0.1:9")
    assert cached_folder("me/model", None) == folder
    assert sktransfer.load_backbone("hf/me/model").name == "hf/me/model"


def test_load_backbone_fetches_a_hub_model_once_and_warns(hub, model):
    with pytest.warns(SktransferWarning, match="downloading hub:me/model"):
        backbone = sktransfer.load_backbone("hf/me/model")
    assert backbone.fingerprint() == sktransfer.load_backbone(f"hf/{model}").fingerprint()
    n = len(hub.asked)
    assert sktransfer.load_backbone("hf/me/model") is backbone
    assert len(hub.asked) == n


@pytest.mark.parametrize("behaviour", [breaks_off(1000), stalls(1000)], ids=["breaks off", "stalls"])
def test_fetch_folder_resumes_after_a_broken_connection(behaviour, hub, model, monkeypatch, stalls_are_short):
    monkeypatch.setattr(huggingface_hub.constants, "DOWNLOAD_CHUNK_SIZE", 500)  # it keeps whole chunks alone
    hub.scripts["model.safetensors"].append(behaviour)
    folder = fetch_folder("me/model", None)
    assert (folder / "model.safetensors").read_bytes() == (model / "model.safetensors").read_bytes()
    assert hub.bodies("model.safetensors") == [None, "bytes=1000-"]


def test_fetch_folder_keeps_files_fetched_before_a_failure(hub, in_shards):
    hub.scripts[SHARDS[1]].extend([says(404)])
    with pytest.raises(WeightsError):
        fetch_folder("me/model", None)
    assert missing_file(cached_folder("me/model", None), tokenizer=True) == SHARDS[1]
    fetch_folder("me/model", None)
    assert missing_file(cached_folder("me/model", None), tokenizer=True) == ""
    assert hub.bodies(SHARDS[0]) == [None]


def test_fetch_folder_refuses_and_deletes_damaged_files(hub, model):
    hub.damaged.add("model.safetensors")
    with pytest.raises(WeightsError, match=r"model\.safetensors arrived damaged: its sha256 is .*; try again"):
        fetch_folder("me/model", None)
    assert missing_file(cached_folder("me/model", None), tokenizer=True) == "model.safetensors"
    hub.damaged.clear()
    folder = fetch_folder("me/model", None)
    assert (folder / "model.safetensors").read_bytes() == (model / "model.safetensors").read_bytes()


@pytest.mark.parametrize("behaviour", [stalls(0), says(403), says(500), claims_length(10, b"abc")])
def test_fetch_folder_failure_leaves_missing_file_nonempty(behaviour, hub, stalls_are_short):
    hub.scripts["model.safetensors"].extend([behaviour] * 10)
    with pytest.raises(WeightsError):
        fetch_folder("me/model", None)
    assert missing_file(cached_folder("me/model", None), tokenizer=False) == "model.safetensors"


def test_fetch_folder_reports_weights_in_other_formats_only(hub, model):
    (model / "model.safetensors").rename(model / "pytorch_model.bin")
    with pytest.raises(WeightsError, match=r"the hub's 'me/model' has no model\.safetensors; weights in other formats"):
        fetch_folder("me/model", None)
    assert not any("pytorch_model.bin" in line for line in hub.lines)


def test_fetch_folder_reports_a_model_the_hub_lacks(hub):
    with pytest.raises(WeightsError, match="there is no hub model 'you/other'"):
        fetch_folder("you/other", None)


def test_fetch_folder_asks_for_the_revision(hub, cache):
    fetch_folder("me/model", "v2")
    assert any(line.endswith("/revision/v2") for line in hub.lines)
    assert cached_folder("me/model", "v2").name == COMMIT
    assert cached_folder("me/model", None) is None
