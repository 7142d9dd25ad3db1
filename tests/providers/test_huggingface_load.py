"""Loading: weights are whole, random ones are drawn by the seed, nothing foreign is run or changed."""

from __future__ import annotations

import json
import pickle

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from sktransfer import load_backbone
from sktransfer.exceptions import WeightsError
from sktransfer.providers.huggingface import FAMILIES
from tests.helpers.elsewhere import run_code
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


def test_load_backbone_random_depends_on_seed_and_keeps_global_state(folder):
    state = torch.random.get_rng_state()
    one, other = (load_backbone(f"hf/{folder}", weights="random", seed=seed) for seed in (0, 1))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert len({one.fingerprint(), other.fingerprint(), load_backbone(f"hf/{folder}").fingerprint()}) == 3
    assert features(one).isfinite().all()


def test_load_backbone_shares_a_folder_until_its_weights_change(folder):
    name = f"hf/{folder}"
    before = load_backbone(name)
    assert load_backbone(name) is before
    build("bert", seed=5).save_pretrained(folder)
    after = load_backbone(name)
    assert after.fingerprint() != before.fingerprint()


def test_fingerprint_differs_for_another_config_with_equal_weights(folder):
    before = load_backbone(f"hf/{folder}")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"hidden_act": "relu"}))
    after = load_backbone(f"hf/{folder}")
    assert after.fingerprint() != before.fingerprint()
    assert distance(features(after), features(before)) > 1e-3


def test_fingerprint_ignores_the_folder_and_the_label_names(tmp_path):
    make_folder("bert", tmp_path / "a", id2label={0: "x", 1: "y"}, label2id={"x": 0, "y": 1})
    make_folder("bert", tmp_path / "b")
    assert load_backbone(f"hf/{tmp_path / 'a'}").fingerprint() == load_backbone(f"hf/{tmp_path / 'b'}").fingerprint()


@pytest.mark.process
def test_pickle_by_name_detects_other_weights(folder):
    backbones = [load_backbone(f"hf/{folder}", weights=weights) for weights in ("pretrained", "random")]
    pickled = pickle.dumps(backbones)
    assert len(pickled) < 1000
    assert [one.stages is other.stages for one, other in zip(pickle.loads(pickled), backbones)] == [True, True]
    code = f"import pickle; print([one.fingerprint() for one in pickle.loads({pickled!r})])"
    assert run_code(code).stdout.strip() == str([backbone.fingerprint() for backbone in backbones])
    build("bert", seed=5).save_pretrained(folder)
    with pytest.raises(RuntimeError, match="has changed since it was pickled"):
        pickle.loads(pickled)[0].fingerprint()


def test_pickle_without_origin_contains_the_weights(folder):
    backbone = load_backbone(f"hf/{folder}")
    backbone.origin, origin = None, backbone.origin
    try:
        again = pickle.loads(pickle.dumps(backbone))
    finally:
        backbone.origin = origin
    assert again is not backbone
    assert torch.equal(features(again), features(backbone))


def test_load_backbone_weights_may_be_a_file(folder, tmp_path):
    other = build("bert", seed=5)
    path = tmp_path / "other.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in other.state_dict().items()}, path)
    backbone = load_backbone(f"hf/{folder}", weights=path)
    ids, mask = batch_of(backbone, TEXTS)
    expected = other(input_ids=ids, attention_mask=mask.long()).last_hidden_state[mask].detach()
    assert distance(features(backbone), expected) <= 1e-5


def test_load_backbone_converts_float16_weights_to_float32(tmp_path):
    model = make_folder("bert", tmp_path)
    model.half().save_pretrained(tmp_path)
    backbone = load_backbone(f"hf/{tmp_path}")
    assert {weight.dtype for weight in backbone.stages.parameters()} == {torch.float32}
    ids, mask = batch_of(backbone, TEXTS)
    expected = model.float()(input_ids=ids, attention_mask=mask.long()).last_hidden_state[mask].detach()
    assert distance(features(backbone), expected) <= 1e-5


def test_load_backbone_reads_weights_of_a_task_without_its_head(tmp_path):
    model = transformers.BertForMaskedLM(build("bert").config).eval()
    make_folder("bert", tmp_path)
    model.save_pretrained(tmp_path)
    backbone = load_backbone(f"hf/{tmp_path}")  # lacks the pooler, which no stage uses
    ids, mask = batch_of(backbone, TEXTS)
    expected = model.bert(input_ids=ids, attention_mask=mask.long()).last_hidden_state[mask].detach()
    assert distance(features(backbone), expected) <= 1e-5


def test_load_backbone_reports_weights_that_lack_a_layer(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 5}))
    with pytest.raises(WeightsError, match=r"lack 16 tensors .*'encoder\.layer\.4\.attention"):
        load_backbone(f"hf/{folder}")


def test_load_backbone_reports_weights_that_lack_the_head_of_a_classifier(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"architectures": ["BertForSequenceClassification"]}))
    with pytest.raises(WeightsError, match=r"lack 2 tensors .*'classifier\.bias'"):
        load_backbone(f"hf/{folder}")


def test_load_backbone_reports_a_folder_without_weights(folder):
    (folder / "model.safetensors").unlink()
    with pytest.raises(WeightsError, match=f"hf/{folder}: {folder} cannot be read as a bert model .*model.safetensors"):
        load_backbone(f"hf/{folder}")


def test_load_backbone_reports_damaged_weights(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(WeightsError, match="cannot be read as a bert model"):
        load_backbone(f"hf/{folder}")


def test_load_backbone_reports_weights_of_another_shape(folder):
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


def test_load_backbone_runs_no_pickle(folder, tmp_path):
    state = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(state, folder / "pytorch_model.bin")
    assert load_backbone(f"hf/{folder}").fingerprint()  # a plain state dict is read
    torch.save({"x": Trap(tmp_path / "sprung")}, folder / "pytorch_model.bin")
    with pytest.raises(WeightsError):
        load_backbone(f"hf/{folder}")
    assert not (tmp_path / "sprung").exists()


def test_load_backbone_runs_no_code_of_the_folder(folder):
    config = json.loads((folder / "config.json").read_text())
    remote = {"auto_map": {"AutoConfig": "evil.Config", "AutoModel": "evil.Model"}}
    (folder / "config.json").write_text(json.dumps(config | remote))
    (folder / "evil.py").write_text("raise SystemExit('it was run')")
    assert load_backbone(f"hf/{folder}").stage_names[0] == "embeddings"


def test_load_backbone_is_silent_and_keeps_the_settings_of_transformers(folder, capfd):
    logging = transformers.utils.logging
    before = logging.get_verbosity(), logging.is_progress_bar_enabled()
    capfd.readouterr()
    load_backbone(f"hf/{folder}")
    assert capfd.readouterr() == ("", "")
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == before


def test_families_are_known_to_the_installed_transformers():
    assert set(FAMILIES) <= set(transformers.CONFIG_MAPPING)
