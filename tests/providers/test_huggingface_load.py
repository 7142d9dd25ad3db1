"""Loading: weights are whole, random ones are drawn by the seed, nothing foreign is run or changed."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from sktransfer import load_backbone
from sktransfer.exceptions import WeightsError
from sktransfer.providers.huggingface import FAMILIES
from tests.helpers.huggingface_folders import TEXTS, batch_of, build, distance, make_folder


@torch.no_grad()
def features(backbone, texts=TEXTS):
    ids, mask = batch_of(backbone, texts)
    *_, last = backbone.run(ids, mask)
    return last[mask]


@pytest.fixture
def folder(tmp_path):
    make_folder("bert", tmp_path)
    return tmp_path


def test_random_weights_are_drawn_by_the_seed_and_leave_global_state(folder):
    state = torch.random.get_rng_state()
    one, other = (load_backbone(f"hf/{folder}", weights="random", seed=seed) for seed in (0, 1))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert len({one.fingerprint(), other.fingerprint(), load_backbone(f"hf/{folder}").fingerprint()}) == 3
    assert features(one).isfinite().all()


def test_same_folder_gives_the_same_object_and_rewritten_weights_another(folder):
    name = f"hf/{folder}"
    before = load_backbone(name)
    assert load_backbone(name) is before
    build("bert", seed=5).save_pretrained(folder)
    after = load_backbone(name)
    assert after.fingerprint() != before.fingerprint()


def test_fingerprint_tells_configurations_apart_where_weights_are_equal(folder):
    before = load_backbone(f"hf/{folder}")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"hidden_act": "relu"}))
    after = load_backbone(f"hf/{folder}")
    assert after.fingerprint() != before.fingerprint()
    assert distance(features(after), features(before)) > 1e-3


def test_fingerprint_does_not_know_where_a_folder_lies_or_what_its_labels_are_called(tmp_path):
    make_folder("bert", tmp_path / "a", id2label={0: "x", 1: "y"}, label2id={"x": 0, "y": 1})
    make_folder("bert", tmp_path / "b")
    assert load_backbone(f"hf/{tmp_path / 'a'}").fingerprint() == load_backbone(f"hf/{tmp_path / 'b'}").fingerprint()


@pytest.mark.process
def test_pickles_by_name_and_notices_other_weights(folder):
    backbones = [load_backbone(f"hf/{folder}", weights=weights) for weights in ("pretrained", "random")]
    pickled = pickle.dumps(backbones)
    assert len(pickled) < 1000
    assert [one is other for one, other in zip(pickle.loads(pickled), backbones)] == [True, True]
    code = f"import pickle; print([one.fingerprint() for one in pickle.loads({pickled!r})])"
    anew = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert anew.stdout.strip() == str([backbone.fingerprint() for backbone in backbones])
    build("bert", seed=5).save_pretrained(folder)
    with pytest.raises(RuntimeError, match="has changed since it was pickled"):
        pickle.loads(pickled)


def test_pickles_with_its_weights_where_it_has_no_name(folder):
    backbone = load_backbone(f"hf/{folder}")
    backbone.origin, origin = None, backbone.origin
    try:
        again = pickle.loads(pickle.dumps(backbone))
    finally:
        backbone.origin = origin
    assert again is not backbone
    assert torch.equal(features(again), features(backbone))


def test_weights_come_from_a_file_that_is_named(folder, tmp_path):
    other = build("bert", seed=5)
    path = tmp_path / "other.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in other.state_dict().items()}, path)
    backbone = load_backbone(f"hf/{folder}", weights=path)
    ids, mask = batch_of(backbone, TEXTS)
    expected = other(input_ids=ids, attention_mask=mask.long()).last_hidden_state[mask].detach()
    assert distance(features(backbone), expected) <= 1e-5


def test_half_precision_weights_become_float32(tmp_path):
    model = make_folder("bert", tmp_path)
    model.half().save_pretrained(tmp_path)
    backbone = load_backbone(f"hf/{tmp_path}")
    assert {weight.dtype for weight in backbone.stages.parameters()} == {torch.float32}
    ids, mask = batch_of(backbone, TEXTS)
    expected = model.float()(input_ids=ids, attention_mask=mask.long()).last_hidden_state[mask].detach()
    assert distance(features(backbone), expected) <= 1e-5


def test_weights_of_a_task_serve_without_its_head(tmp_path):
    model = transformers.BertForMaskedLM(build("bert").config).eval()
    make_folder("bert", tmp_path)
    model.save_pretrained(tmp_path)
    backbone = load_backbone(f"hf/{tmp_path}")  # lacks the pooler, which no stage uses
    ids, mask = batch_of(backbone, TEXTS)
    expected = model.bert(input_ids=ids, attention_mask=mask.long()).last_hidden_state[mask].detach()
    assert distance(features(backbone), expected) <= 1e-5


def test_weights_that_lack_a_layer_are_an_error(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 5}))
    with pytest.raises(WeightsError, match=r"lack 16 tensors .*'encoder\.layer\.4\.attention"):
        load_backbone(f"hf/{folder}")


def test_weights_that_lack_the_head_of_a_classifier_are_an_error(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"architectures": ["BertForSequenceClassification"]}))
    with pytest.raises(WeightsError, match=r"lack 2 tensors .*'classifier\.bias'"):
        load_backbone(f"hf/{folder}")


def test_a_folder_without_weights_is_an_error(folder):
    (folder / "model.safetensors").unlink()
    with pytest.raises(WeightsError, match=f"hf/{folder}: {folder} cannot be read as a bert model .*model.safetensors"):
        load_backbone(f"hf/{folder}")


def test_damaged_weights_are_an_error(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(WeightsError, match="cannot be read as a bert model"):
        load_backbone(f"hf/{folder}")


def test_weights_of_another_shape_are_an_error(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"intermediate_size": 40}))
    with pytest.raises(WeightsError, match="cannot be read as a bert model"):
        load_backbone(f"hf/{folder}")


class Trap:
    """Would write a file if it were unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_a_pickle_in_the_place_of_weights_is_not_run(folder, tmp_path):
    state = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(state, folder / "pytorch_model.bin")
    assert load_backbone(f"hf/{folder}").fingerprint()  # a plain state dict is read
    torch.save({"x": Trap(tmp_path / "sprung")}, folder / "pytorch_model.bin")
    with pytest.raises(WeightsError):
        load_backbone(f"hf/{folder}")
    assert not (tmp_path / "sprung").exists()


def test_code_in_a_folder_is_not_run(folder):
    config = json.loads((folder / "config.json").read_text())
    remote = {"auto_map": {"AutoConfig": "evil.Config", "AutoModel": "evil.Model"}}
    (folder / "config.json").write_text(json.dumps(config | remote))
    (folder / "evil.py").write_text("raise SystemExit('it was run')")
    assert load_backbone(f"hf/{folder}").stage_names[0] == "embeddings"


def test_loading_is_silent_and_leaves_the_settings_of_transformers(folder, capfd):
    logging = transformers.utils.logging
    before = logging.get_verbosity(), logging.is_progress_bar_enabled()
    capfd.readouterr()
    load_backbone(f"hf/{folder}")
    assert capfd.readouterr() == ("", "")
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == before


def test_every_family_is_known_to_the_installed_transformers():
    assert set(FAMILIES) <= set(transformers.CONFIG_MAPPING)
