from __future__ import annotations

import io
import pickle

import pytest
import torch
from safetensors.torch import save, save_file
from torch import nn

from sktransfer.exceptions import WeightsError
from sktransfer.weights.reading import fill, read_metadata, read_state

STATE = {"a": torch.arange(6.0).view(2, 3), "b": torch.tensor([1.5])}
CONTENT = save(STATE)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "w.safetensors"
    path.write_bytes(CONTENT)
    return path


def test_read_metadata_decodes_json_values(tmp_path):
    path = tmp_path / "w.safetensors"
    save_file(STATE, path, {"preprocess": '{"resize": 4}', "note": "plain words", "n": "3"})
    assert read_metadata(path) == {"preprocess": {"resize": 4}, "note": "plain words", "n": 3}


def test_read_metadata_is_empty_without_metadata(file, tmp_path):
    assert read_metadata(file) == {}
    assert read_metadata(None) == {}
    assert read_metadata(tmp_path) == {}
    assert read_metadata(tmp_path / "w.pth") == {}


def test_read_metadata_reports_a_damaged_file(file):
    file.write_bytes(CONTENT[:20])
    with pytest.raises(WeightsError, match=r"w\.safetensors: not a readable safetensors file"):
        read_metadata(file)


def same(state):
    return state.keys() == STATE.keys() and all(torch.equal(state[name], STATE[name]) for name in STATE)


def test_read_state_reads_safetensors_and_state_dicts(file, tmp_path):
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
def test_read_state_runs_no_code_in_a_file(content, tmp_path):
    path = tmp_path / "w.pth"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=r"w\.pth: contains more than tensors.*safetensors"):
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
def test_read_state_names_a_damaged_file(name, content, tmp_path):
    path = tmp_path / name
    path.mkdir() if content is None else path.write_bytes(content)
    with pytest.raises(WeightsError, match=rf"{name}: .*(cannot be read as weights \(\w+: .*\)|no file of tensors)"):
        read_state(path)


@pytest.mark.parametrize(
    "checkpoint",
    [
        {"state_dict": STATE},
        {"model_state_dict": STATE, "optimizer_state_dict": {"state": {}, "param_groups": [{"lr": 0.1}]}, "epoch": 3},
        {"model": STATE, "model_ema": {"a": torch.zeros(1)}, "args": None},
        {"weights of mine": STATE, "loss": 0.1},
        {"pytorch-lightning_version": "2.0", "state_dict": STATE, "callbacks": {}, "hyper_parameters": {"lr": 0.1}},
    ],
)
def test_read_state_finds_the_state_dict_in_a_checkpoint(checkpoint, tmp_path):
    torch.save(checkpoint, tmp_path / "w.ckpt")
    assert same(read_state(tmp_path / "w.ckpt"))


def test_read_state_names_the_entries_of_a_checkpoint_without_a_known_one(tmp_path):
    torch.save({"student": STATE, "teacher": STATE, "epoch": 1}, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match="its entries are 'student', 'teacher', 'epoch'"):
        read_state(tmp_path / "w.pth")


@pytest.mark.parametrize("what", [torch.zeros(2), [torch.zeros(2)], {"a": 1}, {1: torch.zeros(2)}])
def test_read_state_refuses_a_file_that_is_no_state_dict(what, tmp_path):
    torch.save(what, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match="is not a state dict"):
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


def test_fill_copies_all_tensors(filled):
    network, state, whole = filled()
    assert whole
    assert all(torch.equal(tensor, state[name]) for name, tensor in network.state_dict().items())


def test_fill_without_a_file_keeps_the_network():
    network = nn.Linear(2, 2)
    before = network.weight.clone()
    assert fill(network, None)
    assert torch.equal(network.weight, before)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_fill_converts_other_floats_to_float32(dtype, filled):
    def change(state):
        return {name: t.to(dtype) if t.is_floating_point() else t for name, t in state.items()}

    network, state, _ = filled(change)
    assert network.body.weight.dtype == torch.float32
    torch.testing.assert_close(network.body.weight.detach(), state["body.weight"].to(dtype).float())
    assert network.norm.num_batches_tracked.dtype == torch.int64


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (without("body.bias"), "1 tensors missing, 0 unexpected, 0 of another shape, the first of them 'body.bias'"),
        (lambda state: state | {"extra": torch.zeros(1)}, "0 tensors missing, 1 unexpected.*'extra'"),
        (lambda state: state | {"body.weight": torch.zeros(3, 2)}, "1 of another shape.*'body.weight'"),
        (without("head"), "2 tensors missing.*'head.weight'"),
    ],
)
def test_fill_says_how_a_file_does_not_fit(change, says, filled):
    with pytest.raises(WeightsError, match=rf"w\.safetensors does not fit the network: .*{says}"):
        filled(change)


def test_fill_accepts_a_missing_num_batches_tracked(filled):
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
def test_fill_head_may_be_missing_or_of_another_shape(change, classes, filled):
    network, state, whole = filled(change, classes, head="head.")
    assert not whole
    assert torch.equal(network.body.weight, state["body.weight"])


def test_fill_head_excuses_no_other_missing_tensor(filled):
    with pytest.raises(WeightsError, match=r"the first of them 'body.bias'"):
        filled(without("head", "body.bias"), head="head.")


def test_fill_rename_translates_and_omits_names(filled):
    names = {"x.weight": "body.weight", "spare": None}

    def change(state):
        return without("body.weight")(state) | {"x.weight": state["body.weight"], "spare": torch.zeros(1)}

    network, state, whole = filled(change, rename=lambda name: names.get(name, name))
    assert whole
    assert torch.equal(network.body.weight, state["body.weight"])


PREFIXES = ["module.", "model.", "backbone.", "_orig_mod.", "module._orig_mod.", "model.net.", "body."]


@pytest.mark.parametrize("prefix", PREFIXES)
def test_fill_removes_the_prefix_of_a_wrapper(prefix, filled):
    network, state, whole = filled(lambda state: {f"{prefix}{name}": tensor for name, tensor in state.items()})
    assert whole
    assert all(torch.equal(tensor, state[name]) for name, tensor in network.state_dict().items())


def test_fill_leaves_out_the_modules_beside_the_network(filled):
    def change(state):
        return {f"backbone.{name}": t for name, t in without("head")(state).items()} | {"criterion.w": torch.ones(1)}

    network, state, whole = filled(change, head="head.")
    assert not whole
    assert torch.equal(network.body.weight, state["body.weight"])


def test_fill_names_two_prefixes_that_are_possible(filled):
    def change(state):
        return {f"{prefix}.{name}": tensor.clone() for prefix in ("online", "target") for name, tensor in state.items()}

    with pytest.raises(WeightsError, match=r"w\.safetensors: .*prefixes 'online\.', 'target\.'"):
        filled(change)


def test_fill_names_the_first_names_of_network_and_file(filled):
    with pytest.raises(WeightsError, match=r"The network has 'body\.weight', .*, \.\.\.; the file has 'a', 'b'"):
        filled(lambda state: {"a": torch.zeros(1), "b": torch.zeros(1)})
