from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest
import safetensors.torch
import torch

from sktransfer import load, save
from sktransfer.exceptions import InvalidParameterError, LoadError
from sktransfer.persistence.archive import WEIGHTS
from tests.helpers.forged_files import forge, json_node, node_data, unzip
from tests.helpers.saved_estimators import digits, fine_tuned, fitted


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    path = tmp_path_factory.mktemp("saved") / "one"
    save(fitted("FineTuneClassifier"), path)
    return load(path)


def test_net_is_built_around_the_stages_of_backbone_(loaded):
    net, before = loaded.net_, fitted("FineTuneClassifier").net_
    assert all(one is other for one, other in zip(net.module_.stages, loaded.backbone_.stages[-2:], strict=True))
    for name, value in before.module_.state_dict().items():
        assert torch.equal(net.module_.state_dict()[name], value), name
    assert not any(parameter.requires_grad for parameter in loaded.backbone_.stages.parameters())
    assert (net.seed, net.device, net.initialized_) == (before.seed, "cpu", True)
    assert len(net.optimizer_.param_groups) > 1


def test_history_keeps_epochs_and_drops_batches(loaded):
    before = fitted("FineTuneClassifier")
    assert loaded.net_.history[:, "train_loss"] == before.net_.history[:, "train_loss"]
    assert loaded.net_.history[0]["batches"] == []
    pd.testing.assert_frame_equal(loaded.history_, before.history_)
    pd.testing.assert_frame_equal(loaded.stages_, before.stages_)


def test_weights_shared_by_head_and_net_are_written_once(tmp_path):
    save(fitted("FineTuneClassifier"), tmp_path / "one")
    tensors = safetensors.torch.load(unzip((tmp_path / "one").read_bytes())[WEIGHTS])
    assert len([name for name in tensors if name.endswith("/linear.weight")]) == 1


def test_layer_weights_of_mixed_layers_are_kept(tmp_path):
    clf = fitted("FineTuneClassifier, adapter, mix")
    save(clf, tmp_path / "one")
    pd.testing.assert_series_equal(load(tmp_path / "one").layer_weights_, clf.layer_weights_)


def test_load_leaves_global_random_states_unchanged(tmp_path):
    save(fitted("FineTuneClassifier"), tmp_path / "one")
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002 - the test is about the global state
    expected = torch.rand(3), np.random.rand(3)  # noqa: NPY002
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002
    load(tmp_path / "one")
    assert torch.equal(torch.rand(3), expected[0])
    assert np.array_equal(np.random.rand(3), expected[1])  # noqa: NPY002


def test_save_checks_parameters_changed_after_fit(tmp_path):
    clf = fine_tuned(max_epochs=0).set_params(lr="fast")
    with pytest.raises(InvalidParameterError, match="lr='fast'"):
        save(clf, tmp_path / "one")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("freeze_depth_", 99, "freeze_depth_ is 99 of 7 stages"),
        ("freeze_depth_", -1, "freeze_depth_ is -1"),
        ("_layers", [], r"its heads read \[\]"),
        ("_layers", "x", "its heads read 'x'"),
        ("lr", "fast", "lr='fast'"),
        ("backbone_", None, "'backbone_' is of type NoneType"),
        ("head_", "x", "'head_' is of type str, not Head"),
    ],
)
def test_attributes_that_do_not_fit_the_net_are_refused(tmp_path, name, value, message):
    save(fitted("FineTuneClassifier"), tmp_path / "one")

    def change(schema):
        attributes = node_data(schema, "FineTuneClassifier")[0]["attributes"]["content"]
        empty = {"__class__": "list", "__module__": "builtins", "__loader__": "ListNode", "content": []}
        attributes[name] = empty if value == [] else json_node(value)

    forge(tmp_path / "one", schema=change)
    with pytest.raises(LoadError, match=message):
        load(tmp_path / "one")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("n_mixed", "1", "the head of task 'y' reads features"),
        ("widths", "x", "'widths' is of type str"),
        ("heads", "x", "'heads' is of type str"),
        ("tasks", "x", "'tasks' is of type str"),
        ("seed", "x", "'seed' is of type str"),
        ("history", "[3]", "history is not a list of epochs"),
    ],
)
def test_state_that_does_not_fit_the_net_is_refused(tmp_path, name, value, message):
    save(fitted("FineTuneClassifier"), tmp_path / "one")

    def change(schema):
        node_data(schema, "FineTuneClassifier")[0]["state"]["content"][name] = json_node(value)

    forge(tmp_path / "one", schema=change)
    with pytest.raises(LoadError, match=message):
        load(tmp_path / "one")


def test_pickle_holds_no_validation_samples():
    X, _ = digits()
    clf = fine_tuned(layer=-1, early_stopping=True, validation_fraction=0.5, freeze_depth="all")
    assert clf.net_.train_split is None
    written = pickle.dumps(clf)
    assert not any(row.tobytes() in written for row in X)
    assert len(written) < 100_000


def test_pickle_holds_trained_stages_once():
    again = pickle.loads(pickle.dumps(fitted("FineTuneClassifier")))
    assert again.net_.module_.stages[0] is again.backbone_.stages[-2]
