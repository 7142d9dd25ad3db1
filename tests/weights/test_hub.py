"""Hub models: out of the cache, out of a server that speaks the hub's protocol, and out of reach."""

from __future__ import annotations

import socket
import time
from contextlib import ExitStack
from pathlib import Path

import huggingface_hub
import pytest

import sktransfer
from sktransfer.exceptions import BackboneNotFoundError, SktransferWarning, WeightsError
from sktransfer.weights import hub as home
from sktransfer.weights.hub import check_network, hub_cache, hub_file, hub_tokenizer, is_offline, split_revision
from tests.helpers.hub_server import lay_into_cache, use_hub
from tests.helpers.huggingface_folders import make_folder
from tests.helpers.misbehaving_server import says, serving

pytest_plugins = ["tests.helpers.download_fixtures"]
pytestmark = pytest.mark.usefixtures("no_proxies")


@pytest.fixture
def model(tmp_path) -> Path:
    make_folder("bert", tmp_path / "model")
    return tmp_path / "model"


def test_split_revision_separates_model_and_revision():
    assert split_revision("owner/model@v1.2") == ("owner/model", "v1.2")
    assert split_revision("model") == ("model", None)


def test_load_backbone_of_a_cached_hub_model_needs_no_network(cache, model):
    lay_into_cache(cache, "me/model", model)
    with sktransfer.config_context(download="never"):
        backbone = sktransfer.load_backbone("hf/me/model")
        assert backbone.name == "hf/me/model"
        assert backbone.fingerprint() == sktransfer.load_backbone(f"hf/{model}").fingerprint()
        assert sktransfer.load_backbone("hf/me/model", weights="random").fingerprint() != backbone.fingerprint()


@pytest.mark.parametrize("weights", ["pretrained", "random"])
def test_load_backbone_without_network_names_file_folder_and_remedy_at_once(cache, weights):
    start = time.monotonic()
    with pytest.raises(WeightsError, match=r"looked for its config\.json in .*cache, .*failed .*'hf/\./folder'"):
        sktransfer.load_backbone("hf/me/model", weights=weights)
    assert time.monotonic() - start < 5  # the hub's own client alone would try for some twenty seconds


def test_check_network_gives_up_soon_on_a_silent_host(cache, monkeypatch):
    monkeypatch.setattr(home, "_PROBE_SECONDS", 0.3)
    with socket.socket() as deaf, ExitStack() as stack:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        for _ in range(3):  # its queue is full: it answers nobody else
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(deaf.getsockname())
        use_hub(monkeypatch, f"http://127.0.0.1:{deaf.getsockname()[1]}")
        start = time.monotonic()
        with pytest.raises(ConnectionError, match="does not answer"):
            check_network()
        assert time.monotonic() - start < 3


def test_check_network_gives_up_soon_on_a_slow_name_lookup(cache, monkeypatch):
    lookup = socket.getaddrinfo
    monkeypatch.setattr(home, "_PROBE_SECONDS", 0.2)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **options: time.sleep(1.5) or lookup(*args, **options))
    use_hub(monkeypatch, "http://127.0.0.1:9")
    start = time.monotonic()
    with pytest.raises(ConnectionError, match=r"does not answer within 0\.2 seconds"):
        check_network()
    assert time.monotonic() - start < 1.4


def test_load_backbone_without_network_reports_missing_weights_at_once(cache, model):
    (model / "model.safetensors").unlink()
    lay_into_cache(cache, "me/model", model)
    start = time.monotonic()
    with (
        pytest.warns(SktransferWarning, match="downloading"),
        pytest.raises(WeightsError, match=r"hf/me/model: looked for .*/model\.safetensors, .* downloading .* failed"),
    ):
        sktransfer.load_backbone("hf/me/model")
    assert time.monotonic() - start < 5


def test_hf_hub_offline_prevents_requests_and_is_named(hub, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(WeightsError, match=r"config\.json .*HF_HUB_OFFLINE .*is set"):
        sktransfer.load_backbone("hf/me/model")
    assert hub.asked == []


def test_is_offline_covers_all_addresses_of_the_hub(hub, monkeypatch):
    elsewhere = "https://download.pytorch.org/models/a.pth"
    places = ["hub:a/b", "https://huggingface.co/a/b/resolve/main/w", f"{hub.url}/w", elsewhere]
    assert [is_offline(place) for place in places] == [False] * 4
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert [is_offline(place) for place in places] == [True, True, True, False]


def test_load_backbone_sends_no_request_with_download_never(hub):
    with sktransfer.config_context(download="never"):
        with pytest.raises(WeightsError, match=r"'hf/me/model'.*config\.json .*download='never'.*'hf/\./folder'"):
            sktransfer.load_backbone("hf/me/model")
        with pytest.raises(WeightsError, match=r"tokenizer\.json .*download='never'"):
            hub_tokenizer("me/model")
    assert hub.asked == []


def test_hub_file_and_hub_tokenizer_name_the_backbone_in_errors(hub):
    with sktransfer.config_context(download="never"):
        with pytest.raises(WeightsError, match=r"^'zoo/small': looked for its a\.json .*'zoo/\./folder'"):
            hub_file("me/model", "a.json", "zoo/small")
        with pytest.raises(WeightsError, match=r"^'zoo/small': looked for its tokenizer"):
            hub_tokenizer("me/model", "zoo/small")
    with pytest.raises(BackboneNotFoundError, match=r"^'zoo/small': there is no hub model 'you/other'"):
        hub_file("you/other", "a.json", "zoo/small")
    with pytest.raises(BackboneNotFoundError, match=r"^'zoo/a/b/c' is neither .*'zoo/\./folder'"):
        hub_file("a/b/c", "a.json", "zoo/a/b/c")


def test_hub_file_uses_http_proxy(cache, monkeypatch):
    with serving(b"", says(403)) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        huggingface_hub.close_session()  # its client reads the environment when it is made
        use_hub(monkeypatch, "http://hub.example")
        with pytest.raises(WeightsError):
            hub_file("me/model", "config.json")
    huggingface_hub.close_session()
    assert {path.partition("/me/")[0] for _, path, _ in proxy.asked} <= {"http://hub.example", "http://hub.example/"}
    assert len(proxy.asked) > 1


def test_load_backbone_random_fetches_the_tokenizer_and_not_the_weights(hub, model):
    make_folder("bert", model, hidden_act="relu")  # unlike those above, which this process keeps
    backbone = sktransfer.load_backbone("hf/me/model", weights="random")
    assert backbone.preprocess(["a dog"])[0].tolist()[0] == 0
    assert any("tokenizer.json" in line for line in hub.lines)
    assert not any("safetensors" in line for line in hub.lines)


def test_hub_tokenizer_is_found_without_network_once_fetched(hub, monkeypatch):
    """The client calls such a folder incomplete: it knows that the hub has weights as well."""
    folder = hub_tokenizer("me/model")
    use_hub(monkeypatch, "http://127.0.0.1:9")
    assert hub_tokenizer("me/model") == folder


def test_hub_file_returns_a_path_or_none_for_an_absent_file(hub, cache):
    assert hub_file("me/model", "preprocessor_config.json") is None
    assert hub_file("me/model", "preprocessor_config.json") is None  # known from the first time
    path = hub_file("me/model", "config.json")
    assert path.name == "config.json"
    assert hub_cache() == cache
    assert cache in path.parents


def test_load_backbone_reports_a_hub_model_without_config_json(hub, model):
    (model / "config.json").unlink()
    with pytest.raises(WeightsError, match=r"has no config\.json"):
        sktransfer.load_backbone("hf/me/model")


def test_load_backbone_does_not_find_a_model_the_hub_lacks(hub):
    with pytest.raises(BackboneNotFoundError, match="there is no hub model 'you/other'"):
        sktransfer.load_backbone("hf/you/other")


@pytest.mark.parametrize("name", ["a/b/c", "no such model", "-x"])
def test_load_backbone_does_not_find_an_impossible_hub_name(cache, name):
    with pytest.raises(BackboneNotFoundError, match="neither a local folder nor the id of a hub model"):
        sktransfer.load_backbone(f"hf/{name}")
