"""Finding of models by name: light, offline, with their prompts."""

from __future__ import annotations

import json
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import huggingface_hub.constants
import pytest
import sentence_transformers
import torch
from st_folders import small_model, transformer_folder

import sktransfer
from sktransfer import load_backbone
from sktransfer.backbones.registry import registry
from sktransfer.exceptions import BackboneNotFoundError, InvalidParameterError, PluginError, WeightsError
from sktransfer_sentence_transformers.files import locate
from sktransfer_sentence_transformers.prompts import split_prompt
from tests.helpers.elsewhere import run_code

HEAVY = ["torch", "numpy", "transformers", "sentence_transformers", "sklearn"]
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def folder(tmp_path) -> Path:
    return Path(shutil.copytree(small_model(), tmp_path / "model"))


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    """Give the hub's client an empty cache, and forbid fetching."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    with sktransfer.config_context(download="never"):
        yield tmp_path / "cache"


def cached(cache: Path, model: str) -> Path:
    """Lay the small model into the cache as the hub's client does."""
    place = cache / f"models--{model.replace('/', '--')}"
    (place / "refs").mkdir(parents=True)
    (place / "refs" / "main").write_text(COMMIT)
    return Path(shutil.copytree(small_model(), place / "snapshots" / COMMIT))


def in_fresh_process(code):
    report = f"{code}\nimport sys; print([name for name in {HEAVY} if name in sys.modules])"
    return subprocess.run([sys.executable, "-c", report], capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.process
def test_find_and_list_plugins_import_nothing_heavy():
    name = f"sentence-transformers/{small_model()}"
    assert in_fresh_process(f"from sktransfer.backbones.registry import registry; registry().find({name!r})") == "[]"
    *table, heavy = in_fresh_process("from sktransfer.cli import main; main(['plugins', '--json'])").splitlines()
    assert heavy == "[]"
    (ours,) = [one for one in json.loads("\n".join(table)) if one["name"] == "sentence-transformers"]
    assert ours["status"] == "loaded", ours["error"]
    assert ours["open_family"]
    assert ours["distribution"] == "sktransfer-sentence-transformers"


@pytest.mark.process
def test_load_backbone_does_not_import_sentence_transformers():
    load = f"import sktransfer; sktransfer.load_backbone('sentence-transformers/{small_model()}')"
    done = run_code(f"{load}\nimport sys; print('torch' in sys.modules, 'sentence_transformers' in sys.modules)")
    assert done.stdout == "True False\n"


def test_find_gives_a_spec_that_describes_the_model():
    spec = registry().find(f"sentence-transformers/{small_model()}")
    assert dict(spec.stages) == {"embeddings": 32, "layer1": 32, "layer2": 32, "layer3": 32, "sentence": 24}
    assert (spec.modality, spec.input_size) == ("text", (40,))
    assert spec.name == f"sentence-transformers/{Path(small_model()).resolve()}"


@pytest.mark.parametrize(
    ("given", "hub", "name"),
    [
        ("some-model", "sentence-transformers/some-model", "sentence-transformers/some-model"),
        ("sentence-transformers/some-model", "sentence-transformers/some-model", "sentence-transformers/some-model"),
        ("someone/model", "someone/model", "sentence-transformers/someone/model"),
    ],
)
def test_find_and_load_backbone_take_a_cached_hub_model_under_one_name(given, hub, name, cache):
    root = cached(cache, hub)
    spec = registry().find(f"sentence-transformers/{given}")
    assert spec.name == name
    assert spec.weights.location == f"hub:{hub}"
    assert locate(given).root == root
    backbone = load_backbone(f"sentence-transformers/{given}#query")
    assert backbone.name == f"{name}#query"
    local = load_backbone(f"sentence-transformers/{small_model()}")
    assert backbone.fingerprint() == local.fingerprint()
    random = load_backbone(f"sentence-transformers/{given}", weights="random")
    assert random.preprocess.key == local.preprocess.key


def test_load_backbone_accepts_a_hub_copy_without_optional_files(cache):
    root = cached(cache, "someone/model")
    (root / "config_sentence_transformers.json").unlink()
    assert load_backbone("sentence-transformers/someone/model").preprocess.limit == 40
    (root / "modules.json").unlink()
    with pytest.raises(WeightsError, match=r"'sentence-transformers/someone/model': looked for its modules\.json"):
        load_backbone("sentence-transformers/someone/model")


def test_load_backbone_refuses_a_hub_copy_without_required_files(cache):
    root = cached(cache, "someone/model")
    for module in root.glob("*/config.json"):
        module.unlink()  # as transformers leaves it, which knows nothing of modules
    (root / "sentence_bert_config.json").unlink()
    with pytest.raises(WeightsError, match=r"looked for its 1_Pooling/config\.json.*forbids downloading it"):
        load_backbone("sentence-transformers/someone/model")


def test_load_backbone_asks_for_missing_weights_of_a_layer(cache):
    root = cached(cache, "someone/model")
    (root / "2_Dense" / "model.safetensors").unlink()
    asked = (
        r"^'sentence-transformers/someone/model': looked for its 2_Dense/model\.safetensors .*forbids downloading it"
    )
    with pytest.raises(WeightsError, match=asked):
        load_backbone("sentence-transformers/someone/model")


def test_load_backbone_names_a_missing_model_with_its_prefix(cache):
    with pytest.raises(WeightsError, match=r"'sentence-transformers/someone/other'.*'sentence-transformers/\./folder'"):
        load_backbone("sentence-transformers/someone/other")
    with pytest.raises(BackboneNotFoundError, match="neither a local folder nor the id of a hub model"):
        load_backbone("sentence-transformers/someone/other/one")


def test_load_backbone_lists_the_prompts_for_an_unknown_one():
    with pytest.raises(BackboneNotFoundError, match=r"has no prompt 'qery'; it has \['document', 'query'\].*'query'"):
        load_backbone(f"sentence-transformers/{small_model()}#qery")


def test_split_prompt_takes_a_folder_with_a_hash_in_its_name(tmp_path):
    folder = shutil.copytree(small_model(), tmp_path / "model#1")
    assert split_prompt(str(folder)) == (str(folder), None)
    assert split_prompt(f"{folder}#query") == (str(folder), "query")
    assert load_backbone(f"sentence-transformers/{folder}").name.endswith("model#1")


def test_load_backbone_reloads_a_layer_that_has_changed(folder):
    name = f"sentence-transformers/{folder}"
    before = load_backbone(name)
    assert load_backbone(name) is before
    weights = next(folder.glob("*_Dense")) / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 0b1  # of the last number
    weights.write_bytes(content)
    after = load_backbone(name)
    assert after is not before
    assert after.fingerprint() != before.fingerprint()
    assert after.fingerprint(4) == before.fingerprint(4)
    unpickled = pickle.loads(pickle.dumps(before))
    with pytest.raises(PluginError, match="has changed since it was pickled"):
        _ = unpickled.stages


def test_load_backbone_weights_may_be_another_folder(folder):
    state = torch.nn.Linear(32, 24)
    torch.save({f"linear.{name}": value for name, value in state.state_dict().items()}, folder / "two.bin")
    dense = next(folder.glob("*_Dense"))
    (dense / "model.safetensors").unlink()
    (folder / "two.bin").rename(dense / "pytorch_model.bin")
    backbone = load_backbone(f"sentence-transformers/{small_model()}", weights=folder)
    assert torch.equal(backbone.stages[-1].layers[0].linear.weight, state.weight)


def test_load_backbone_weights_of_a_single_file_are_refused_for_several(folder):
    with pytest.raises(WeightsError, match="is a single file, and this model has weights in several"):
        load_backbone(f"sentence-transformers/{folder}", weights=folder / "model.safetensors")


def test_load_backbone_random_depends_only_on_seed():
    name = f"sentence-transformers/{small_model()}"
    one, same, other = (load_backbone(name, weights="random", seed=seed) for seed in (0, 0, 1))
    assert one is same
    for first, second in zip(one.stages, other.stages):
        assert not torch.equal(next(first.parameters()), next(second.parameters()))


def test_max_length_is_limited_by_the_transformer():
    with pytest.raises(InvalidParameterError, match="to 40"):
        load_backbone(f"sentence-transformers/{small_model()}#query", max_length=41)


@pytest.mark.parametrize(
    ("kind", "provider"), [("SentenceTransformer", "sentence-transformers"), ("CrossEncoder", "hf")]
)
def test_load_backbone_names_the_folder_for_a_model_of_sentence_transformers(kind, provider, tmp_path, monkeypatch):
    model = getattr(sentence_transformers, kind)(transformer_folder())
    with pytest.raises(InvalidParameterError, match=rf"Save it, model\.save\(folder\), .*=f'{provider}/\{{folder\}}'"):
        load_backbone(model)
    monkeypatch.chdir(tmp_path)
    model.save("saved")
    assert load_backbone(f"{provider}/saved").modality == "text"
