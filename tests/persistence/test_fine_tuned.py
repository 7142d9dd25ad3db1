from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import safetensors.torch
import torch

from sktransfer import load, save
from sktransfer.exceptions import InvalidParameterError, LoadError
from sktransfer.persistence.archive import WEIGHTS
from tests.helpers.forged_files import forge, members_of, parts, plain
from tests.helpers.saved_estimators import digits, fine_tuned, made


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    path = tmp_path_factory.mktemp("saved") / "one"
    save(made("FineTuneClassifier"), path)
    return load(path)


def test_the_net_is_made_anew_around_the_backbones_own_stages(loaded):
    net, before = loaded.net_, made("FineTuneClassifier").net_
    assert all(one is other for one, other in zip(net.module_.stages, loaded.backbone_.stages[-2:], strict=True))
    for name, value in before.module_.state_dict().items():
        assert torch.equal(net.module_.state_dict()[name], value), name
    assert not any(parameter.requires_grad for parameter in loaded.backbone_.stages.parameters())
    assert (net.seed, net.device, net.initialized_) == (before.seed, "cpu", True)
    assert len(net.optimizer_.param_groups) > 1


def test_what_was_recorded_of_epochs_is_there_and_that_of_batches_is_not(loaded):
    before = made("FineTuneClassifier")
    assert loaded.net_.history[:, "train_loss"] == before.net_.history[:, "train_loss"]
    assert loaded.net_.history[0]["batches"] == []
    pd.testing.assert_frame_equal(loaded.history_, before.history_)
    pd.testing.assert_frame_equal(loaded.stages_, before.stages_)


def test_what_head_and_net_have_in_common_is_written_once(tmp_path):
    save(made("FineTuneClassifier"), tmp_path / "one")
    tensors = safetensors.torch.load(members_of((tmp_path / "one").read_bytes())[WEIGHTS])
    assert len([name for name in tensors if name.endswith("/head.weight")]) == 1


def test_mixed_layers_have_their_weights(tmp_path):
    clf = made("FineTuneClassifier, adapter, mix")
    save(clf, tmp_path / "one")
    pd.testing.assert_series_equal(load(tmp_path / "one").layer_weights_, clf.layer_weights_)


def test_loading_draws_no_random_numbers(tmp_path):
    save(made("FineTuneClassifier"), tmp_path / "one")
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002 - the global state is what the test is about
    expected = torch.rand(3), np.random.rand(3)  # noqa: NPY002
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002
    load(tmp_path / "one")
    assert torch.equal(torch.rand(3), expected[0])
    assert np.array_equal(np.random.rand(3), expected[1])  # noqa: NPY002


def test_parameters_that_were_spoilt_since_are_told_when_saving(tmp_path):
    clf = fine_tuned(max_epochs=0).set_params(lr="fast")
    with pytest.raises(InvalidParameterError, match="lr='fast'"):
        save(clf, tmp_path / "one")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("freeze_depth_", 99, "freeze_depth_ is 99 of 7 stages"),
        ("freeze_depth_", -1, "freeze_depth_ is -1"),
        ("_taps", [], r"its head sees \[\]"),
        ("_taps", "x", "its head sees 'x'"),
        ("_mixed", 1, "layers are mixed: 1"),
        ("lr", "fast", "lr='fast'"),
        ("backbone_", None, "'backbone_' is of type NoneType"),
    ],
)
def test_attributes_that_make_no_net_are_refused(tmp_path, name, value, message):
    save(made("FineTuneClassifier"), tmp_path / "one")

    def change(schema):
        attributes = parts(schema, "FineTuneClassifier")[0]["attributes"]["content"]
        empty = {"__class__": "list", "__module__": "builtins", "__loader__": "ListNode", "content": []}
        attributes[name] = empty if value == [] else plain(value)

    forge(tmp_path / "one", schema=change)
    with pytest.raises(LoadError, match=message):
        load(tmp_path / "one")


def test_a_history_that_is_none_is_refused(tmp_path):
    save(made("FineTuneClassifier"), tmp_path / "one")

    def change(schema):
        parts(schema, "FineTuneClassifier")[0]["net"]["content"]["history"] = plain("[3]")

    forge(tmp_path / "one", schema=change)
    with pytest.raises(LoadError, match="history is no list of epochs"):
        load(tmp_path / "one")


def test_a_pickle_holds_no_samples_that_were_set_aside():
    import pickle

    X, _ = digits()
    clf = fine_tuned(early_stopping=True, validation_fraction=0.5, freeze_depth="all")
    assert clf.net_.train_split is None
    written = pickle.dumps(clf)
    assert not any(row.tobytes() in written for row in X)
    assert len(written) < 100_000


def test_a_pickle_holds_trained_stages_once():
    import pickle

    again = pickle.loads(pickle.dumps(made("FineTuneClassifier")))
    assert again.net_.module_.stages[0] is again.backbone_.stages[-2]
