from __future__ import annotations

import hashlib
import io
import os
import pickle
import socket
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
import torch
from safetensors.torch import save, save_file
from torch import nn

from sktransfer import BackboneSpec, config_context
from sktransfer.backbones import weights as home
from sktransfer.backbones.spec import SCHEMES, WeightsSource
from sktransfer.backbones.weights import fill, locate, read_metadata, read_state
from sktransfer.exceptions import InvalidParameterError, SktransferWarning, WeightsError

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


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append(self.path)
        if "missing" in self.path:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        self.wfile.write(CONTENT)

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    made = HTTPServer(("127.0.0.1", 0), Handler)
    made.asked = []
    made.url = f"http://127.0.0.1:{made.server_port}"
    thread = threading.Thread(target=made.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield made
    made.shutdown()
    made.server_close()
    thread.join()


def test_every_scheme_that_a_spec_may_name_can_be_located():
    assert set(home._SCHEMES) == set(SCHEMES)


def test_random_weights_are_nowhere():
    assert locate(spec(), "random") is None


def test_a_local_file_is_taken_as_it_is(file, monkeypatch):
    assert locate(spec(), file) == locate(spec(), str(file)) == file
    monkeypatch.setenv("HOME", str(file.parent))
    assert locate(spec(), "~/w.safetensors") == file


def test_a_local_file_that_is_not_there_says_what_else_is_allowed():
    with pytest.raises(WeightsError, match=r"weights='pretraned': there is no such file.*'pretrained', or 'random'"):
        locate(spec(), "pretraned")


@pytest.mark.parametrize("given", [None, 3, True, {}])
def test_what_is_no_path_is_refused(given):
    with pytest.raises(InvalidParameterError, match="weights="):
        locate(spec(), given)


def test_a_backbone_without_pretrained_weights_says_so():
    with pytest.raises(InvalidParameterError, match=r"toy/a has none.*weights='random'"):
        locate(spec(), "pretrained")


def test_a_file_of_the_spec(file):
    assert locate(spec(f"file:{file}", sha256=SHA256), "pretrained") == file
    with pytest.raises(WeightsError, match=r"toy/a: looked for .*absent"):
        locate(spec(f"file:{file.parent}/absent"), "pretrained")


def test_a_file_inside_a_package(tmp_path, monkeypatch):
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
def test_a_file_is_fetched_once_and_announced(sha256, server, hub_dir):
    one = spec(f"{server.url}/folder/w.safetensors?download=1", sha256=sha256, size=2_000_000)
    with pytest.warns(SktransferWarning, match=rf"toy/a: fetching {server.url}.*\(2 MB\)"):
        path = locate(one, "pretrained")
    assert path.read_bytes() == CONTENT
    assert path.name == "w.safetensors"
    assert hub_dir in path.parents
    assert locate(one, "pretrained") == path
    with config_context(download="never"):
        assert locate(one, "pretrained") == path
    assert len(server.asked) == 1


def test_files_of_one_name_at_two_places_are_two_files(server, hub_dir):
    with pytest.warns(SktransferWarning):
        paths = {locate(spec(f"{server.url}/{folder}/model.safetensors"), "pretrained") for folder in "ab"}
    assert len(paths) == 2
    assert server.asked == ["/a/model.safetensors", "/b/model.safetensors"]


def test_what_torchvision_has_fetched_is_found(hub_dir):
    (hub_dir / "checkpoints").mkdir(parents=True)
    path = hub_dir / "checkpoints" / "net-12345678.pth"
    path.write_bytes(CONTENT)
    assert locate(spec("https://download.pytorch.org/models/net-12345678.pth", sha256=SHA256), "pretrained") == path


@pytest.mark.filterwarnings("ignore:toy/a. fetching")
@pytest.mark.parametrize(
    ("path", "sha256", "says"), [("/w", "0" * 64, "invalid hash value"), ("/missing", "", "HTTP Error 404")]
)
def test_a_fetch_that_fails_says_where_and_what_to_do_and_leaves_nothing(path, sha256, says, server, hub_dir):
    with pytest.raises(WeightsError, match=says) as caught:
        locate(spec(server.url + path, sha256=sha256), "pretrained")
    for words in ("toy/a", server.url + path, str(hub_dir), "weights=<path of a local file>"):
        assert words in str(caught.value)
    assert [one for one in hub_dir.rglob("*") if one.is_file()] == []
    answer = getattr(caught.value.__cause__, "fp", None)  # what the server said, where that is the cause
    assert answer is None or answer.closed
    assert (answer is not None) == ("404" in says)


@pytest.mark.filterwarnings("ignore:toy/a. fetching")
def test_nothing_that_listens_is_an_error_at_once(hub_dir):
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    with pytest.raises(WeightsError, match=r"fetching .* failed .*refused"):
        locate(spec(f"http://127.0.0.1:{port}/w"), "pretrained")


@pytest.mark.filterwarnings("ignore:toy/a. fetching")
def test_a_server_that_speaks_no_http_is_our_error(hub_dir):
    with socket.create_server(("127.0.0.1", 0)) as one:

        def answer():
            connection, _ = one.accept()
            connection.recv(4096)
            connection.sendall(b"what?\r\n\r\n")
            connection.close()

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(WeightsError, match="failed"):
            locate(spec(f"http://127.0.0.1:{one.getsockname()[1]}/w"), "pretrained")
        thread.join()


def test_without_leave_nothing_is_fetched(server, hub_dir):
    with config_context(download="never"), pytest.raises(WeightsError) as caught:
        locate(spec(f"{server.url}/w", size=3_000_000), "pretrained")
    for words in ("toy/a", f"{server.url}/w", "(3 MB)", str(hub_dir), "download='never'", "weights=<path"):
        assert words in str(caught.value)
    assert server.asked == []


def test_a_hub_is_not_asked_without_leave():
    with config_context(download="never"), pytest.raises(WeightsError) as caught:
        locate(spec("hub:someone/never-fetched"), "pretrained")
    for words in ("toy/a", "hub:someone/never-fetched", "download='never'"):
        assert words in str(caught.value)
    assert "~" not in str(caught.value)


def test_a_hub_that_cannot_be_reached_is_our_error_at_once():
    with pytest.warns(SktransferWarning, match="fetching hub:"), pytest.raises(WeightsError, match="failed"):
        locate(spec("hub:someone/never-fetched"), "pretrained")


def test_a_tampered_file_is_refused_before_it_is_parsed(file, monkeypatch):
    one = spec(f"file:{file}", sha256=SHA256)
    assert locate(one, "pretrained") == file
    file.write_bytes(CONTENT[:-1] + b"x")
    os.utime(file, ns=(1, 1))
    with pytest.raises(WeightsError, match=f"{file} is not the file that the spec names.*expected {SHA256}"):
        locate(one, "pretrained")


def test_an_unchanged_file_is_hashed_once(file, monkeypatch):
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


def test_metadata_is_json_where_it_can_be(tmp_path):
    path = tmp_path / "w.safetensors"
    save_file(STATE, path, {"preprocess": '{"resize": 4}', "note": "plain words", "n": "3"})
    assert read_metadata(path) == {"preprocess": {"resize": 4}, "note": "plain words", "n": 3}


def test_what_has_no_metadata_gives_none(file, tmp_path):
    assert read_metadata(file) == {}
    assert read_metadata(None) == {}
    assert read_metadata(tmp_path) == {}
    assert read_metadata(tmp_path / "w.pth") == {}


def test_metadata_of_a_damaged_file_is_an_error(file):
    file.write_bytes(CONTENT[:20])
    with pytest.raises(WeightsError, match=r"w\.safetensors: not a readable safetensors file"):
        read_metadata(file)


def same(state):
    return state.keys() == STATE.keys() and all(torch.equal(state[name], STATE[name]) for name in STATE)


def test_safetensors_and_state_dicts_are_read(file, tmp_path):
    assert same(read_state(file))
    torch.save(STATE, tmp_path / "w.pth")
    assert same(read_state(tmp_path / "w.pth"))
    torch.save({name: nn.Parameter(tensor) for name, tensor in STATE.items()}, tmp_path / "p.bin")
    assert same(read_state(tmp_path / "p.bin"))


class Code:
    ran = False

    def __reduce__(self):
        return setattr, (Code, "ran", True)


def dumped(what, protocol=2):
    buffer = io.BytesIO()
    torch.save(what, buffer, pickle_protocol=protocol)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "content",
    [dumped({"a": Code()}), pickle.dumps({"a": Code()}, 2), dumped(nn.Linear(1, 1))],
    ids=["zip", "pickle", "module"],
)
def test_code_in_a_file_is_not_run(content, tmp_path):
    path = tmp_path / "w.pth"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=r"w\.pth: is no file of tensors alone.*safetensors"):
        read_state(path)
    assert not Code.ran


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("w.safetensors", CONTENT[:-5]),
        ("w.safetensors", CONTENT[:5]),
        ("w.safetensors", b""),
        ("w.pth", dumped(STATE)[:300]),
        ("w.pth", b""),
        ("w.pth", b"hello"),
        ("w.pth", None),
    ],
)
def test_a_damaged_file_is_named(name, content, tmp_path):
    path = tmp_path / name
    path.mkdir() if content is None else path.write_bytes(content)
    with pytest.raises(WeightsError, match=rf"{name}: .*(cannot be read as weights \(\w+: .*\)|no file of tensors)"):
        read_state(path)


@pytest.mark.parametrize(
    "what", [torch.zeros(2), [torch.zeros(2)], {"state_dict": STATE}, {"a": 1}, {1: torch.zeros(2)}]
)
def test_what_is_no_state_dict_is_refused(what, tmp_path):
    torch.save(what, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match="is no state dict"):
        read_state(tmp_path / "w.pth")


class Network(nn.Module):
    def __init__(self, classes=3):
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Linear(2, 2)
        self.norm = nn.BatchNorm1d(2)
        self.head = nn.Linear(2, classes)


@pytest.fixture
def filled(tmp_path):
    """Write a changed state of the network to a file and fill a network with it."""
    generator = torch.random.get_rng_state()

    def do(change=lambda state: state, classes=3, **options):
        state = {name: tensor + 1 for name, tensor in Network().state_dict().items()}
        save_file(change(state), tmp_path / "w.safetensors")
        network = Network(classes)
        return network, state, fill(network, tmp_path / "w.safetensors", **options)

    yield do
    torch.random.set_rng_state(generator)


def without(*names):
    return lambda state: {name: tensor for name, tensor in state.items() if not name.startswith(names)}


def test_all_tensors_are_copied(filled):
    network, state, whole = filled()
    assert whole
    assert all(torch.equal(tensor, state[name]) for name, tensor in network.state_dict().items())


def test_without_a_file_the_network_stays():
    network = nn.Linear(2, 2)
    before = network.weight.clone()
    assert fill(network, None)
    assert torch.equal(network.weight, before)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_floats_become_float32(dtype, filled):
    def change(state):
        return {name: t.to(dtype) if t.is_floating_point() else t for name, t in state.items()}

    network, state, _ = filled(change)
    assert network.body.weight.dtype == torch.float32
    torch.testing.assert_close(network.body.weight.detach(), state["body.weight"].to(dtype).float())
    assert network.norm.num_batches_tracked.dtype == torch.int64


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (without("body.bias"), "1 tensors missing, 0 unknown, 0 of another shape, the first of them 'body.bias'"),
        (lambda state: state | {"extra": torch.zeros(1)}, "0 tensors missing, 1 unknown.*'extra'"),
        (lambda state: state | {"body.weight": torch.zeros(3, 2)}, "1 of another shape.*'body.weight'"),
        (without("head"), "2 tensors missing.*'head.weight'"),
    ],
)
def test_a_file_that_does_not_fit_says_how(change, says, filled):
    with pytest.raises(WeightsError, match=rf"w\.safetensors does not fit the network: .*{says}"):
        filled(change)


def test_a_norms_counter_may_be_missing(filled):
    *_, whole = filled(without("norm.num_batches_tracked"))
    assert whole


@pytest.mark.parametrize(
    ("change", "classes"),
    [
        (without("head"), 3),
        (without("head.bias"), 3),
        (lambda state: state, 7),
        (lambda state: without("head")(state) | {"head.other": torch.zeros(1)}, 3),
    ],
)
def test_a_head_may_be_missing_or_another(change, classes, filled):
    network, state, whole = filled(change, classes, head="head.")
    assert not whole
    assert torch.equal(network.body.weight, state["body.weight"])


def test_a_head_excuses_nothing_else(filled):
    with pytest.raises(WeightsError, match=r"the first of them 'body.bias'"):
        filled(without("head", "body.bias"), head="head.")


def test_names_can_be_translated_and_left_out(filled):
    names = {"x.weight": "body.weight", "spare": None}

    def change(state):
        return without("body.weight")(state) | {"x.weight": state["body.weight"], "spare": torch.zeros(1)}

    network, state, whole = filled(change, rename=lambda name: names.get(name, name))
    assert whole
    assert torch.equal(network.body.weight, state["body.weight"])
