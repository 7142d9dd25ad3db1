"""Damaged folders and parts that are not supported: each is refused with a word on what is wrong."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from st_folders import WIDTH, change, small_model

from sktransfer import load_backbone
from sktransfer.exceptions import BackboneNotFoundError, WeightsError

TRANSFORMER = "sentence_transformers.base.modules.transformer.Transformer"
POOLING = "sentence_transformers.sentence_transformer.modules.pooling.Pooling"


@pytest.fixture
def folder(tmp_path) -> Path:
    return Path(shutil.copytree(small_model(), tmp_path / "model"))


def load(folder):
    return load_backbone(f"sentence-transformers/{folder}")


def set_types(folder, *types):
    modules = [{"type": name, "path": f"{i}" if i else ""} for i, name in enumerate(types)]
    (folder / "modules.json").write_text(json.dumps(modules))


def test_load_backbone_reports_a_folder_without_modules_json(folder):
    (folder / "modules.json").unlink()
    with pytest.raises(WeightsError, match=r"has no modules\.json.*'hf/"):
        load(folder)


def test_load_backbone_reports_a_folder_that_does_not_exist(tmp_path):
    with pytest.raises(BackboneNotFoundError, match=r"names a local folder, but .* does not exist"):
        load(tmp_path / "nothing")
    (tmp_path / "file").touch()
    with pytest.raises(BackboneNotFoundError, match=r"names a local folder, but .* does not exist"):
        load(tmp_path / "file")


@pytest.mark.parametrize("text", ["{", "{}", "[1]", '[{"type": "x"}]', '[{"type": 1, "path": ""}]'])
def test_load_backbone_reports_a_damaged_modules_json(text, folder):
    (folder / "modules.json").write_text(text)
    with pytest.raises(WeightsError, match=r"modules\.json"):
        load(folder)


@pytest.mark.parametrize("path", ["../outside", "/outside", "1_Pooling/../../outside", "c:\\outside"])
def test_load_backbone_reads_no_module_outside_the_folder(path, folder):
    (folder / "modules.json").write_text(json.dumps([{"type": TRANSFORMER, "path": path}]))
    with pytest.raises(WeightsError, match=r"modules\.json"):
        load(folder)


@pytest.mark.parametrize(
    "name",
    [
        "sentence_transformers.models.StaticEmbedding",
        "sentence_transformers.models.WeightedLayerPooling",
        "sentence_transformers.models.CLIPModel",
        "sentence_transformers.models.TransformerX",
        "mine.sentence_transformers.models.Pooling",
        "modelling_mine.Transformer",
    ],
)
def test_load_backbone_refuses_an_unknown_module_without_importing_it(name, folder, tmp_path, monkeypatch):
    for package in ("mine", "modelling_mine"):
        (tmp_path / f"{package}.py").write_text("raise SystemError('imported')")
        (folder / f"{package}.py").write_text("raise SystemError('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    set_types(folder, name, POOLING)
    with pytest.raises(BackboneNotFoundError) as caught:
        load(folder)
    assert f"{name!r}, which is not supported; supported are Transformer, Pooling, Dense" in str(caught.value)


@pytest.mark.parametrize("types", [[TRANSFORMER], [POOLING, TRANSFORMER], [TRANSFORMER, POOLING, POOLING], []])
def test_load_backbone_refuses_modules_in_another_order(types, folder):
    set_types(folder, *types)
    with pytest.raises(BackboneNotFoundError, match="supported is a Transformer, then a Pooling, then any of"):
        load(folder)


DAMAGE = {
    "1_Pooling/config.json": [
        ({"embedding_dimension": None}, WeightsError, "embedding_dimension is None"),
        ({"embedding_dimension": 7}, WeightsError, "in_features is 32, and the layer before it gives 7 channels"),
        ({"pooling_mode": "median"}, BackboneNotFoundError, r"pooling_mode is \['median'\]; supported are"),
        ({"pooling_mode": {"mean": 1}}, BackboneNotFoundError, "pooling_mode is"),
    ],
    "2_Dense/config.json": [
        ({"in_features": 7}, WeightsError, "in_features is 7, and the layer before it gives 32 channels"),
        ({"out_features": "8"}, WeightsError, "out_features is '8'; it must be an int"),
        ({"out_features": 9}, WeightsError, "does not fit the network"),
        ({"activation_function": "mine.Tanh"}, BackboneNotFoundError, "activation_function is 'mine.Tanh'"),
        ({"activation_function": "torch.nn.Module"}, BackboneNotFoundError, "supported are ELU, GELU"),
        ({"activation_function": "torch.nnx.Tanh"}, BackboneNotFoundError, "activation_function is"),
        ({"module_input_name": "token_embeddings"}, BackboneNotFoundError, "only 'sentence_embedding' is supported"),
    ],
    "3_Normalize/config.json": [
        ({"module_output_name": "other"}, BackboneNotFoundError, "module_output_name is 'other'")
    ],
    "config_sentence_transformers.json": [
        ({"model_type": "SparseEncoder"}, BackboneNotFoundError, "is a SparseEncoder"),
        ({"prompts": ["query: "]}, WeightsError, "must be a mapping from names to texts"),
        ({"default_prompt_name": "other"}, WeightsError, "its default prompt 'other' is not one of its prompts"),
        ({"truncate_dim": 0}, WeightsError, "truncate_dim is 0"),
    ],
    "sentence_bert_config.json": [
        ({"max_seq_length": -1}, WeightsError, "max_seq_length is -1"),
        ({"transformer_task": "fill-mask"}, BackboneNotFoundError, "transformer_task='fill-mask' is not supported"),
        ({"modality_config": {"message": {}}}, BackboneNotFoundError, "modality_config=.* is not supported"),
        ({"processing_kwargs": {"text": {"max_length": 3}}}, BackboneNotFoundError, "processing_kwargs="),
        ({"unheard_of": 1}, BackboneNotFoundError, "unheard_of=1 is not supported"),
        ({"model_args": {"num_hidden_layers": 1}}, BackboneNotFoundError, r"model_args set \['num_hidden_layers'\]"),
        ({"tokenizer_args": {"do_lower_case": True}}, BackboneNotFoundError, "tokenizer_args set"),
    ],
    "config.json": [
        ({"model_type": "t5"}, BackboneNotFoundError, "its transformer cannot be used:.*model_type 't5'"),
        ({"hidden_size": 36}, WeightsError, "its pooling takes 32 channels, its transformer gives 36"),
        ({"num_hidden_layers": 4}, WeightsError, "its weights lack"),
    ],
    "adapter_config.json": [({"peft_type": "LORA"}, BackboneNotFoundError, "is an adapter of another model")],
}


@pytest.mark.parametrize(
    ("file", "changes", "error", "message"),
    [(file, *case) for file, cases in DAMAGE.items() for case in cases],
    ids=lambda value: "" if isinstance(value, type) else str(value)[:40],
)
def test_load_backbone_names_unsupported_settings(file, changes, error, message, folder):
    change(folder / file, **changes)
    if changes.get("embedding_dimension", 0) is None:
        assert "embedding_dimension" not in json.loads((folder / file).read_text())
    with pytest.raises(error, match=message):
        load(folder)


@pytest.mark.parametrize("text", ["{", "[]", "\x00"])
@pytest.mark.parametrize("file", ["1_Pooling/config.json", "2_Dense/config.json", "sentence_bert_config.json"])
def test_load_backbone_names_a_settings_file_that_cannot_be_read(file, text, folder):
    (folder / file).write_text(text)
    with pytest.raises(WeightsError, match=file):
        load(folder)


@pytest.mark.parametrize("file", ["1_Pooling/config.json", "2_Dense/config.json", "config.json", "tokenizer.json"])
def test_load_backbone_names_a_missing_file(file, folder):
    (folder / file).unlink()
    with pytest.raises(WeightsError, match=file):
        load(folder)


@pytest.mark.parametrize("file", ["2_Dense/model.safetensors", "model.safetensors"])
def test_load_backbone_reports_missing_or_damaged_weights(file, folder):
    (folder / file).write_bytes(b"no weights")
    with pytest.raises(WeightsError, match="cannot be read"):
        load(folder)
    (folder / file).unlink()
    with pytest.raises(WeightsError, match=r"lacks its weights|cannot be read"):
        load(folder)


def test_load_backbone_accepts_settings_without_effect(folder):
    idle = {"model_args": {"dtype": "float16"}, "unpad_inputs": False, "query_length": 9, "processing_kwargs": {}}
    change(folder / "sentence_bert_config.json", **idle)
    assert load(folder).stage_names[-1] == "sentence"
    assert load(folder).stages[-1].layers[0].linear.in_features == WIDTH
