"""`TextFeaturizer("sentence-transformers/...")` gives what `SentenceTransformer(...).encode` gives."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from sentence_transformers.base.modules import Normalize
from sentence_transformers.sentence_transformer.modules import Dropout, LayerNorm
from st_folders import POSITIONS, TEXTS, WIDTH, change, dense, distance, open_model, save_model
from torch import nn

from sktransfer import TextFeaturizer, load_backbone
from sktransfer.backbones.pooling import pool
from sktransfer.engine.inputs import collate
from sktransfer.exceptions import TruncatedTextWarning
from tests.helpers.huggingface_folders import minilm_folder

pytestmark = pytest.mark.filterwarnings("ignore::sktransfer.exceptions.TruncatedTextWarning")
MODES = ["cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken"]


def features(folder, texts=TEXTS, *, name="", **settings):
    featurizer = TextFeaturizer(f"sentence-transformers/{folder}{name}", device="cpu", cache=None, **settings)
    return featurizer.fit_transform(texts)


@pytest.mark.parametrize("pooling", [*MODES, ("mean", "cls"), ("lasttoken", "max", "weightedmean")], ids=str)
def test_pooling_modes_equal_encode(pooling, tmp_path):
    model = save_model(tmp_path, pooling=pooling)
    assert distance(features(tmp_path), model.encode(TEXTS)) <= 1e-5


@pytest.mark.parametrize("family", ["distilbert", "modernbert", "mpnet", "xlm-roberta"])
def test_textfeaturizer_of_each_family_equals_encode(family, tmp_path):
    model = save_model(tmp_path, [Normalize()], family=family)
    assert distance(features(tmp_path), model.encode(TEXTS)) <= 1e-5


def test_pooling_lasttoken_of_a_decoder_equals_encode(tmp_path):
    model = save_model(tmp_path, family="gpt2", pooling="lasttoken")
    texts = [text for text in TEXTS if text]  # it has no special tokens, so an empty text has no token at all there
    assert distance(features(tmp_path, texts), model.encode(texts)) <= 1e-5


LAYERS = {
    "tanh": lambda: [dense(WIDTH, 8)],
    "no activation, no bias": lambda: [dense(WIDTH, 8, bias=False, activation_function=nn.Identity())],
    "gelu, then another": lambda: [
        dense(WIDTH, 48, activation_function=nn.GELU()),
        dense(48, 16, activation_function=nn.ReLU()),
    ],
    "residual": lambda: [dense(WIDTH, WIDTH, use_residual=True)],
    "projected residual": lambda: [dense(WIDTH, 8, use_residual=True)],
    "normalize": lambda: [Normalize()],
    "norm and dropout": lambda: [LayerNorm(WIDTH), Dropout(0.5), dense(WIDTH, 8), Normalize()],
}


@pytest.mark.parametrize("layers", LAYERS)
def test_layers_after_the_pooling_equal_encode(layers, tmp_path):
    made = LAYERS[layers]()
    for module in made:
        if isinstance(module, LayerNorm):
            nn.init.normal_(module.norm.weight, generator=torch.Generator().manual_seed(0))
            nn.init.normal_(module.norm.bias, generator=torch.Generator().manual_seed(1))
    model = save_model(tmp_path, made)
    assert distance(features(tmp_path), model.encode(TEXTS)) <= 1e-5


def test_load_backbone_reads_layer_weights_of_the_older_format(tmp_path):
    model = save_model(tmp_path, [dense(WIDTH, 8)])
    folder = next(tmp_path.glob("*_Dense"))
    torch.save(model[2].state_dict(), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    assert distance(features(tmp_path), model.encode(TEXTS)) <= 1e-5


def test_load_backbone_reads_older_names_of_modules_and_poolings(tmp_path):
    expected = save_model(tmp_path, [Normalize()], pooling=["cls", "mean"]).encode(TEXTS)
    kinds = [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")]
    modules = ", ".join(f'{{"path": "{path}", "type": "sentence_transformers.models.{kind}"}}' for path, kind in kinds)
    (tmp_path / "modules.json").write_text(f"[{modules}]")
    flags = {"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": True, "pooling_mode_max_tokens": False}
    changes = {"pooling_mode": None, "embedding_dimension": None, "include_prompt": None}
    change(tmp_path / "1_Pooling/config.json", word_embedding_dimension=WIDTH, **flags, **changes)
    (tmp_path / "2_Normalize/config.json").unlink()
    assert distance(features(tmp_path), expected) <= 1e-5


def test_load_backbone_reads_a_transformer_in_a_subfolder(tmp_path):
    save_model(tmp_path, [dense(WIDTH, 8)])
    own = tmp_path / "0_Transformer"
    own.mkdir()
    for file in tmp_path.glob("*"):
        if file.is_file() and file.name not in ("modules.json", "config_sentence_transformers.json"):
            file.rename(own / file.name)
    change(own / "sentence_bert_config.json", max_seq_length=20)
    modules = json.loads((tmp_path / "modules.json").read_text())
    modules[0]["path"] = own.name
    (tmp_path / "modules.json").write_text(json.dumps(modules))
    assert distance(features(tmp_path), open_model(tmp_path).encode(TEXTS)) <= 1e-5
    assert load_backbone(f"sentence-transformers/{tmp_path}", weights="random").preprocess.limit == 20


def test_load_backbone_computes_float16_weights_in_float32(tmp_path):
    save_model(tmp_path / "whole", [dense(WIDTH, 8)]).half().save(str(tmp_path / "half"))
    model = open_model(tmp_path / "half")
    assert model.dtype == torch.float16
    found = features(tmp_path / "half")
    assert found.dtype == np.float32
    assert distance(found, model.float().encode(TEXTS)) <= 1e-5


def test_truncate_dim_equals_encode(tmp_path):
    model = save_model(tmp_path, [Normalize()], truncate_dim=5)
    expected = model.encode(TEXTS)
    assert expected.shape == (len(TEXTS), 5)
    assert distance(features(tmp_path), expected) <= 1e-5


@pytest.mark.parametrize("length", [6, 20, POSITIONS])
def test_max_seq_length_truncates_texts(length, tmp_path):
    save_model(tmp_path)
    change(tmp_path / "sentence_bert_config.json", max_seq_length=length)
    change(tmp_path / "tokenizer_config.json", model_max_length=12)  # the model's own word counts for more
    model = open_model(tmp_path)
    assert model.max_seq_length == length
    assert distance(features(tmp_path), model.encode(TEXTS)) <= 1e-5
    assert load_backbone(f"sentence-transformers/{tmp_path}").preprocess.limit == length


def test_max_length_may_exceed_max_seq_length(tmp_path):
    model = save_model(tmp_path)
    change(tmp_path / "sentence_bert_config.json", max_seq_length=6)
    assert distance(features(tmp_path, max_length=POSITIONS), model.encode(TEXTS)) <= 1e-5
    with pytest.warns(TruncatedTextWarning, match="longer than 6 tokens"):
        features(tmp_path)


def test_do_lower_case_equals_encode(tmp_path):
    cased = save_model(tmp_path)
    texts = ["The Film This was", "This film", "[SEP] Query Bad"]
    before = cased.encode(texts)
    change(tmp_path / "sentence_bert_config.json", do_lower_case=True)
    expected = open_model(tmp_path).encode(texts)
    assert np.abs(expected - before).max() > 0.1
    assert distance(features(tmp_path, texts), expected) <= 1e-5


PROMPTS = {"query": "Query : search for ", "title": "This text : ", "document": ""}


@pytest.mark.parametrize("include_prompt", [True, False])
@pytest.mark.parametrize("pooling", [*MODES, ["mean", "weightedmean"]], ids=str)
def test_prompts_and_include_prompt_equal_encode(pooling, include_prompt, tmp_path):
    model = save_model(
        tmp_path, pooling=pooling, include_prompt=include_prompt, prompts=PROMPTS, default_prompt_name="query"
    )
    assert distance(features(tmp_path), model.encode(TEXTS)) <= 1e-5  # the default prompt
    for name in PROMPTS:
        assert distance(features(tmp_path, name=f"#{name}"), model.encode(TEXTS, prompt_name=name)) <= 1e-5
    assert distance(features(tmp_path, name="#"), model.encode(TEXTS, prompt="")) <= 1e-5
    plain, prompted = features(tmp_path, name="#"), features(tmp_path)
    assert np.abs(plain - prompted).max() > 1e-2 * np.abs(plain).max()


def test_prompts_are_used_without_default_prompt_name(tmp_path):
    model = save_model(tmp_path, prompts=PROMPTS)
    assert distance(features(tmp_path), model.encode(TEXTS)) <= 1e-5
    assert distance(features(tmp_path, name="#title"), model.encode(TEXTS, prompt_name="title")) <= 1e-5


def test_include_prompt_false_leaves_out_the_whole_prompt_of_a_decoder(tmp_path):
    model = save_model(tmp_path, family="gpt2", pooling="mean", include_prompt=False, prompts=PROMPTS)
    texts = [text for text in TEXTS if text]
    expected = model.encode(texts, prompt_name="query")
    assert distance(features(tmp_path, texts, name="#query"), expected) <= 1e-5


@pytest.mark.filterwarnings("ignore::sktransfer.exceptions.UnreadPartWarning")  # hf/... does not read the Dense
def test_layer_values_below_the_last_stage_are_those_of_the_transformer(tmp_path):
    model = save_model(tmp_path, [dense(WIDTH, 8)])
    backbone = load_backbone(f"sentence-transformers/{tmp_path}")
    assert backbone.stage_names == ("embeddings", "layer1", "layer2", "layer3", "sentence")
    ids, mask = collate(backbone.preprocess(TEXTS), "text", backbone.preprocess.pad_value)
    expected = model[0].model(input_ids=ids, attention_mask=mask.long(), output_hidden_states=True).hidden_states
    for name, values in zip(backbone.stage_names, expected):
        found = features(tmp_path, layer=name)
        pooled = pool(values.detach(), mask, "mean").numpy()
        assert distance(found, pooled) <= 1e-5
    plain = load_backbone(f"hf/{tmp_path}")
    assert plain.fingerprint() == backbone.fingerprint(len(plain.stages))  # activations are stored for both at once


@pytest.mark.filterwarnings("ignore::sktransfer.exceptions.UnknownWordsWarning")
def test_textfeaturizer_of_all_minilm_equals_encode():
    folder = minilm_folder()
    texts = [*TEXTS, "Das ist kein Englisch.", "naïve café", "漢字 🦊", "word " * 400]
    expected = open_model(folder).encode(texts)
    found = features(folder, texts)
    assert np.abs(found - expected).max() <= 1e-5
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, rtol=1e-5)
    alone = np.concatenate([features(folder, [text]) for text in texts[-3:]])
    assert np.abs(alone - expected[-3:]).max() <= 1e-5
