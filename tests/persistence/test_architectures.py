from __future__ import annotations

import json

import numpy as np
import pytest

from sktransfer import ImageFeaturizer, TextFeaturizer, load, save
from sktransfer.exceptions import LoadError
from tests.helpers import huggingface_folders
from tests.helpers.forged_files import forge, parts, plain
from tests.helpers.saved_estimators import TEXTS, digits


@pytest.fixture
def embedded(tmp_path):
    huggingface_folders.make_folder("bert", tmp_path / "model")
    save(TextFeaturizer(f"hf/{tmp_path / 'model'}").fit(TEXTS), tmp_path / "one", weights="embed")
    return tmp_path / "one"


def with_setting(path, name, value, entry="config"):
    def change(schema):
        recipe = parts(schema, "Backbone")[0]["recipe"]["content"]
        recipe[entry]["content"][name] = plain(value)

    forge(path, schema=change)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("hidden_size", 2**20, "must be"),
        ("intermediate_size", 2**30, "must be"),
        ("vocab_size", 2**30, "must be"),
        ("vocab_size", 2**40, "hold the number"),
        ("num_hidden_layers", 10**9, "ask for 1000000000 layers"),
        ("num_hidden_layers", -3, "cannot be rebuilt"),
        ("num_attention_heads", 0, "cannot be|ZeroDivision"),
        ("model_type", "llama", "not supported"),
        ("hidden_act", "os.system", "cannot be"),
        ("layer_norm_eps", 1.0, "fingerprint is"),
    ],
)
def test_settings_that_do_not_fit_the_weights_are_refused_before_they_take_memory(embedded, name, value, message):
    with_setting(embedded, name, value)
    with pytest.raises(LoadError, match=message):
        load(embedded)


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"version": "1.0", "model": {"type": "BPE"}}'])
def test_a_tokenizer_that_is_none_is_refused(embedded, text):
    with_setting(embedded, "tokenizer", text, "tokens")
    with pytest.raises(LoadError, match="tokenizer cannot be read"):
        load(embedded)


@pytest.mark.parametrize("case", ["bert", "convnext"])  # of the second nobody says how it attends
@pytest.mark.parametrize("setting", ["attn_implementation", "quantization_config", "auto_map"])
def test_settings_that_name_code_are_passed_by(case, setting, tmp_path):
    folder = tmp_path / "model"
    huggingface_folders.make_folder(case, folder)
    config = json.loads((folder / "config.json").read_text())
    config[setting] = {
        "attn_implementation": "owner/kernel",
        "quantization_config": {"quant_method": "owner"},
        "auto_map": {"AutoModel": "owner/model--code.Model"},
    }[setting]
    (folder / "config.json").write_text(json.dumps(config))
    featurizer = (TextFeaturizer if case == "bert" else ImageFeaturizer)(f"hf/{folder}", cache=None)
    X = TEXTS if case == "bert" else digits()[0][:3]
    save(featurizer.fit(X), tmp_path / "one", weights="embed")
    assert np.array_equal(load(tmp_path / "one").transform(X), featurizer.transform(X))
