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


def test_revisions_are_split_off():
    assert split_revision("owner/model@v1.2") == ("owner/model", "v1.2")
    assert split_revision("model") == ("model", None)


def test_a_cached_model_is_loaded_without_asking_anyone(cache, model):
    lay_into_cache(cache, "me/model", model)
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


def test_a_network_that_drops_packets_is_given_up_soon(cache, monkeypatch):
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


def test_a_look_up_that_takes_its_time_is_given_up_soon(cache, monkeypatch):
    lookup = socket.getaddrinfo
    monkeypatch.setattr(home, "_PROBE_SECONDS", 0.2)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **options: time.sleep(1.5) or lookup(*args, **options))
    use_hub(monkeypatch, "http://127.0.0.1:9")
    start = time.monotonic()
    with pytest.raises(ConnectionError, match=r"does not answer within 0\.2 seconds"):
        check_network()
    assert time.monotonic() - start < 1.4


def test_without_network_missing_weights_beside_a_cached_configuration_are_an_error_at_once(cache, model):
    (model / "model.safetensors").unlink()
    lay_into_cache(cache, "me/model", model)
    start = time.monotonic()
    with (
        pytest.warns(SktransferWarning, match="downloading"),
        pytest.raises(WeightsError, match=r"hf/me/model: looked for .*/model\.safetensors, .* downloading .* failed"),
    ):
        sktransfer.load_backbone("hf/me/model")
    assert time.monotonic() - start < 5


def test_offline_mode_is_kept_and_named(hub, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(WeightsError, match=r"config\.json .*HF_HUB_OFFLINE .*is set"):
        sktransfer.load_backbone("hf/me/model")
    assert hub.asked == []


def test_offline_mode_is_the_hubs_by_whatever_address(hub, monkeypatch):
    elsewhere = "https://download.pytorch.org/models/a.pth"
    places = ["hub:a/b", "https://huggingface.co/a/b/resolve/main/w", f"{hub.url}/w", elsewhere]
    assert [is_offline(place) for place in places] == [False] * 4
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert [is_offline(place) for place in places] == [True, True, True, False]


def test_where_downloads_are_forbidden_the_hub_is_not_asked(hub):
    with sktransfer.config_context(download="never"):
        with pytest.raises(WeightsError, match=r"'hf/me/model'.*config\.json .*download='never'.*'hf/\./folder'"):
            sktransfer.load_backbone("hf/me/model")
        with pytest.raises(WeightsError, match=r"tokenizer\.json .*download='never'"):
            hub_tokenizer("me/model")
    assert hub.asked == []


def test_messages_name_the_one_that_asks(hub):
    with sktransfer.config_context(download="never"):
        with pytest.raises(WeightsError, match=r"^'zoo/small': looked for its a\.json .*'zoo/\./folder'"):
            hub_file("me/model", "a.json", "zoo/small")
        with pytest.raises(WeightsError, match=r"^'zoo/small': looked for its tokenizer"):
            hub_tokenizer("me/model", "zoo/small")
    with pytest.raises(BackboneNotFoundError, match=r"^'zoo/small': there is no hub model 'you/other'"):
        hub_file("you/other", "a.json", "zoo/small")
    with pytest.raises(BackboneNotFoundError, match=r"^'zoo/a/b/c' is neither .*'zoo/\./folder'"):
        hub_file("a/b/c", "a.json", "zoo/a/b/c")


def test_a_proxy_is_asked_for_the_hub(cache, monkeypatch):
    with serving(b"", says(403)) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        huggingface_hub.close_session()  # its client reads the environment when it is made
        use_hub(monkeypatch, "http://hub.example")
        with pytest.raises(WeightsError):
            hub_file("me/model", "config.json")
    huggingface_hub.close_session()
    assert {path.partition("/me/")[0] for _, path, _ in proxy.asked} <= {"http://hub.example", "http://hub.example/"}
    assert len(proxy.asked) > 1


def test_random_weights_fetch_the_tokenizer_and_not_the_weights(hub, model):
    make_folder("bert", model, hidden_act="relu")  # unlike those above, which this process keeps
    backbone = sktransfer.load_backbone("hf/me/model", weights="random")
    assert backbone.preprocess(["a dog"])[0].tolist()[0] == 0
    assert any("tokenizer.json" in line for line in hub.lines)
    assert not any("safetensors" in line for line in hub.lines)


def test_a_tokenizer_that_was_fetched_alone_is_found_without_a_network(hub, monkeypatch):
    """The client calls such a folder incomplete: it knows that the hub has weights as well."""
    folder = hub_tokenizer("me/model")
    use_hub(monkeypatch, "http://127.0.0.1:9")
    assert hub_tokenizer("me/model") == folder


def test_a_file_that_a_model_lacks_is_none_and_one_that_is_there_a_path(hub, cache):
    assert hub_file("me/model", "preprocessor_config.json") is None
    assert hub_file("me/model", "preprocessor_config.json") is None  # known from the first time
    path = hub_file("me/model", "config.json")
    assert path.name == "config.json"
    assert hub_cache() == cache
    assert cache in path.parents


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
