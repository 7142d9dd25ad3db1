"""Names to specs: what a folder's JSON says, and what is said where it is missing. And a real model, end to end."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
import torch
import transformers
from sentence_transformers import SentenceTransformer

import sktransfer
from sktransfer.backbones.pooling import pool
from sktransfer.backbones.registry import registry
from sktransfer.engine.inputs import collate
from sktransfer.exceptions import BackboneNotFoundError, WeightsError
from sktransfer.providers.huggingface import FAMILIES, TABLE, sktransfer_backbones, sktransfer_find_backbone
from tests.helpers.huggingface_folders import IMAGE_MODELS, TEXT_MODELS, link_all_minilm, make_folder, minilm_folder


def write_config(folder: Path, **settings) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(settings))
    return folder


@pytest.mark.process
def test_sktransfer_find_backbone_imports_nothing_heavy(tmp_path):
    write_config(tmp_path, model_type="bert")
    code = (
        "import sys; from sktransfer.backbones.registry import registry; "
        f"print(registry().find('hf/{tmp_path}').modality, [n for n in ('torch', 'transformers') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "text []"


def test_sktransfer_backbones_are_summaries_with_facts():
    specs = {spec.name: spec for spec in sktransfer_backbones()}
    assert len(specs) == 12
    for name, spec in specs.items():
        assert spec.summary
        assert spec.weights.location == f"hub:{name.removeprefix('hf/')}"
        # The files hold float32, a header, and in part a head for masked words.
        assert 1 < spec.weights.size / (4 * spec.n_parameters) < 1.01
        assert spec.licence in ("Apache-2.0", "MIT")
        assert spec.language in ("en", "multilingual")
    small = specs["hf/BAAI/bge-small-en-v1.5"]
    assert (small.accuracy, small.n_parameters, small.input_size) == (0.7414, 33_360_000, (512,))


def test_table_agrees_with_transformers_and_names_sources(spec_tables):
    table = json.loads(TABLE.read_text())
    rows = {name: spec_tables.encoder_row(name, row) for name, row in table.items()}
    assert spec_tables.differences(table, rows) == []
    for row in table.values():
        assert (row["accuracy"] is None) == (row["accuracy_source"] is None)
    with torch.device("meta"):
        model = transformers.BertModel(transformers.BertConfig())
    assert table["google-bert/bert-base-uncased"]["n_parameters"] == sum(one.numel() for one in model.parameters())


def test_sktransfer_find_backbone_completes_a_listed_model(tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(link_all_minilm(tmp_path)))
    name = "hf/sentence-transformers/all-MiniLM-L6-v2"
    with sktransfer.config_context(download="never"):
        listed, found = registry().specs[name], registry().find(name)
        backbone = sktransfer.load_backbone(name)
    assert replace(found, options={}, summary=True) == listed
    assert found.options["config"]["model_type"] == "bert"
    assert backbone.stage_names == tuple(listed.stages)
    assert sktransfer.list_backbones(pattern=name)["available"].tolist() == ["here"]


@pytest.mark.parametrize("case", list(TEXT_MODELS | IMAGE_MODELS))
def test_sktransfer_find_backbone_spec_agrees_with_the_backbone(case, tmp_path):
    make_folder(case, tmp_path)
    spec = registry().find(f"hf/{tmp_path}")
    backbone = sktransfer.load_backbone(f"hf/{tmp_path}")
    assert tuple(spec.stages) == backbone.stage_names
    assert spec.modality == backbone.modality
    assert spec.weights.location == f"file:{tmp_path}"
    if spec.modality == "text":
        assert spec.input_size == (
            64 if case.split()[0] in ("mpnet", "roberta", "xlm-roberta") or "gpt" in case else 66,
        )
        values, mask = collate(
            [torch.randint(3, 90, (spec.input_size[0],))], "text"
        )  # as long as the spec says it takes
        axis = 2
    else:
        values, mask = torch.zeros(1, 3, *(spec.input_size or (32, 32))), None
        axis = 1 if "convnext" in case else 2
    with torch.no_grad():
        widths = [out.shape[axis] for out in backbone.run(values, mask)]
    assert widths == list(spec.stages.values())


@pytest.mark.parametrize("kind", list(FAMILIES))
def test_sktransfer_find_backbone_uses_the_defaults_of_transformers(kind, tmp_path):
    spec = sktransfer_find_backbone(str(write_config(tmp_path, model_type=kind)))
    config, family = transformers.CONFIG_MAPPING[kind](), FAMILIES[kind]
    layers, width = getattr(config, family.layers[0]), getattr(config, family.width[0])
    assert list(spec.stages.values())[1:] == (list(width) if isinstance(layers, (list, tuple)) else [width] * layers)
    size = None if family.size is None else getattr(config, family.size[0])
    if family.modality == "image":
        assert spec.input_size == (None if size is None else (size, size))
    else:
        assert spec.input_size == (size - family.reserved,)


def test_sktransfer_find_backbone_widths_of_convnext_are_those_of_its_stages(tmp_path):
    spec = sktransfer_find_backbone(str(write_config(tmp_path, model_type="convnext", hidden_sizes=[8, 16, 24, 32])))
    assert dict(spec.stages) == {"embeddings": 8, "stage1": 8, "stage2": 16, "stage3": 24, "stage4": 32}


def test_load_backbone_takes_relative_folders(tmp_path, monkeypatch):
    make_folder("bert", tmp_path / "model")
    monkeypatch.chdir(tmp_path)
    dotted, bare = (sktransfer.load_backbone(f"hf/{name}") for name in ("./model", "model"))
    assert dotted is bare
    assert dotted.name == f"hf/{tmp_path / 'model'}"
    monkeypatch.setenv("HOME", str(tmp_path))
    assert sktransfer.load_backbone("hf/~/model") is dotted


@pytest.mark.parametrize("name", ["./nowhere", "/nowhere/at/all", "~/nowhere"])
def test_load_backbone_names_a_folder_that_does_not_exist(name):
    with pytest.raises(BackboneNotFoundError, match=r"but /.*nowhere.* does not exist"):
        sktransfer.load_backbone(f"hf/{name}")


def test_load_backbone_names_the_folder_of_a_file(tmp_path):
    make_folder("bert", tmp_path)
    with pytest.raises(BackboneNotFoundError, match=rf"names a file, .* 'hf/{tmp_path}'"):
        sktransfer.load_backbone(f"hf/{tmp_path}/model.safetensors")
    assert sktransfer.load_backbone(f"hf/{tmp_path}").modality == "text"


def test_load_backbone_with_more_tokens_than_embeddings_names_the_token(tmp_path):
    from transformers import AutoTokenizer

    model = make_folder("bert", tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    model.resize_token_embeddings(len(tokenizer))
    model.save_pretrained(tmp_path)
    tokenizer.add_tokens(["sktransfer"])
    tokenizer.add_special_tokens({"pad_token": "[OTHER]"})
    tokenizer.save_pretrained(tmp_path)
    featurizer = sktransfer.TextFeaturizer(f"hf/{tmp_path}")
    assert featurizer.fit_transform(["good", "a good film"]).shape[0] == 2
    with pytest.raises(WeightsError, match=r"token 'sktransfer' .*resize_token_embeddings\(len\(tokenizer\)\)"):
        featurizer.transform(["good sktransfer"])
    model.resize_token_embeddings(len(tokenizer))
    model.save_pretrained(tmp_path)
    assert sktransfer.TextFeaturizer(f"hf/{tmp_path}").fit_transform(["good sktransfer"]).shape[0] == 1


def test_load_backbone_lists_files_of_a_folder_without_config_json(tmp_path):
    (tmp_path / "weights.pt").touch()
    with pytest.raises(WeightsError, match=r"lacks config.json .*this one contains \['weights.pt'\]"):
        sktransfer.load_backbone(f"hf/{tmp_path}")


@pytest.mark.parametrize("text", ["{", "[1]", '{"model_type": "bert", "num_hidden_layers": "many"}'])
def test_load_backbone_names_the_folder_of_a_damaged_config_json(text, tmp_path):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(WeightsError, match=str(tmp_path)):
        sktransfer.load_backbone(f"hf/{tmp_path}")


@pytest.mark.parametrize("settings", [{"model_type": "llama"}, {}])
def test_load_backbone_lists_supported_types_for_an_unknown_model_type(settings, tmp_path):
    write_config(tmp_path, **settings)
    with pytest.raises(BackboneNotFoundError, match=r"not supported; supported are albert, bert, .* xlm-roberta"):
        sktransfer.load_backbone(f"hf/{tmp_path}")


def test_load_backbone_refuses_an_unsupported_position_embedding_type(tmp_path):
    write_config(tmp_path, model_type="bert", position_embedding_type="relative_key")
    with pytest.raises(BackboneNotFoundError, match="position_embedding_type='relative_key'"):
        sktransfer.load_backbone(f"hf/{tmp_path}")


def test_load_backbone_preprocess_of_vit_resizes_to_its_image_size(tmp_path):
    make_folder("vit", tmp_path)
    settings = json.loads((tmp_path / "preprocessor_config.json").read_text())
    settings |= {"size": {"height": 20, "width": 20}}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(settings))
    backbone = sktransfer.load_backbone(f"hf/{tmp_path}")
    assert backbone.preprocess([np.zeros((30, 40, 3), dtype=np.float32)])[0].shape == (3, 16, 16)


def test_load_backbone_reports_an_image_model_without_preprocessor_config(tmp_path):
    make_folder("vit", tmp_path)
    (tmp_path / "preprocessor_config.json").unlink()
    with pytest.raises(WeightsError, match=r"lacks preprocessor_config\.json"):
        sktransfer.load_backbone(f"hf/{tmp_path}")


def test_load_backbone_reports_a_text_model_without_tokenizer(tmp_path):
    make_folder("bert", tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    with pytest.raises(WeightsError, match="has no tokenizer"):
        sktransfer.load_backbone(f"hf/{tmp_path}")


def test_load_backbone_of_all_minilm_equals_sentence_transformers():
    folder = minilm_folder()
    text = "the price of bread rose again last week while the river froze and nobody in the village was surprised "
    texts = [text[7 * (i % 7) :] * (1 + i * i // 5) for i in range(12)]  # the longest has some 400 tokens
    expected = SentenceTransformer(str(folder), device="cpu").encode(texts, normalize_embeddings=False)
    backbone = sktransfer.load_backbone(f"hf/{folder}")
    tokens = backbone.preprocess.with_max_length(256)  # as sentence_bert_config.json says
    ids, mask = collate(tokens(texts), "text", tokens.pad_value)
    assert tokens.tokenize(texts)[1][-1]
    with torch.no_grad():
        *_, last = backbone.run(ids, mask)
    pooled = pool(last, mask, backbone.pooling).numpy()
    ours, theirs = (values / np.linalg.norm(values, axis=1, keepdims=True) for values in (pooled, expected))
    assert np.abs(ours - theirs).max() <= 1e-5
    assert np.abs(theirs @ theirs.T - 1).max() > 0.01  # the texts do differ


@pytest.mark.parametrize("base", ["bert.", ""])
@pytest.mark.parametrize("prefix", ["", "module.", "model.encoder."])
def test_load_backbone_weights_may_be_a_checkpoint_of_a_training(prefix, base, tmp_path):
    model = make_folder("bert", tmp_path / "model")
    state = {f"{prefix}{base}{name}": tensor for name, tensor in model.state_dict().items()}
    torch.save({"state_dict": state | {"loss.weight": torch.zeros(2)}, "epoch": 3}, tmp_path / "w.ckpt")
    make_folder("bert", tmp_path / "model", seed=1)
    name = f"hf/{tmp_path / 'model'}"
    loaded = sktransfer.load_backbone(name, weights=tmp_path / "w.ckpt").stages.state_dict()
    expected = {tensor.sum().item() for name, tensor in model.state_dict().items() if "pooler" not in name}
    assert {tensor.sum().item() for tensor in loaded.values()} == expected


def test_load_backbone_names_the_names_of_a_checkpoint_that_does_not_fit(tmp_path):
    make_folder("bert", tmp_path)
    torch.save({"conv1.weight": torch.zeros(1)}, tmp_path / "w.pth")
    with pytest.raises(
        WeightsError, match=r"does not fit .* The network has 'embeddings.*the file has 'conv1\.weight'"
    ):
        sktransfer.load_backbone(f"hf/{tmp_path}", weights=tmp_path / "w.pth")
