from __future__ import annotations

import json
import pickle
import shutil

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from sktransfer import FineTuneClassifier, ImageFeaturizer, TextFeaturizer, clear_cache, load, load_backbone, save
from sktransfer.exceptions import LoadError
from tests.helpers import huggingface_folders
from tests.helpers.forged_files import forge, json_node, node_data
from tests.helpers.saved_estimators import TEXTS, digits, fitted, weights_file


def same(one, other):
    return one.fingerprint() == other.fingerprint() and one.preprocess.key == other.preprocess.key


def test_backbone_by_reference_is_the_shared_one(tmp_path):
    save(ImageFeaturizer().fit(digits()[0]), tmp_path / "one")
    assert load(tmp_path / "one").backbone_ is load_backbone("tiny/cnn")


def test_trained_stages_keep_their_memory_format(tmp_path):
    before = fitted("FineTuneClassifier").backbone_
    save(ImageFeaturizer(before), tmp_path / "one")
    after = load(tmp_path / "one").backbone
    assert same(before, after)
    for one, other in zip(before.stages.parameters(), after.stages.parameters(), strict=True):
        assert one.stride() == other.stride()
    assert not any(parameter.requires_grad for parameter in after.stages.parameters())


def test_stages_below_the_freezing_boundary_are_shared(tmp_path):
    save(fitted("FineTuneClassifier"), tmp_path / "one")
    below = load(tmp_path / "one").backbone_.stages[0]
    assert below is load_backbone("tiny/cnn").stages[0]


def test_backbone_named_twice_is_loaded_once(tmp_path):
    backbone = load_backbone("tiny/cnn", weights="random", seed=3)
    save(ImageFeaturizer(backbone).fit(digits()[0]), tmp_path / "one", weights="embed")
    again = load(tmp_path / "one")
    assert again.backbone is again.backbone_
    assert not again.backbone_.pretrained


def test_weights_of_local_file_are_saved_by_path_or_embedded(tmp_path):
    path = weights_file(tmp_path / "mine.safetensors")
    featurizer = ImageFeaturizer(weights=path, cache=None).fit(digits()[0])
    for weights in ("reference", "embed"):
        save(featurizer, tmp_path / weights, weights=weights)
    assert same(load(tmp_path / "reference").backbone_, featurizer.backbone_)
    path.unlink()
    with pytest.raises(LoadError, match=r"there is no such file.*A file saved with weights='embed' holds all"):
        load(tmp_path / "reference")
    again = load(tmp_path / "embed")
    assert np.array_equal(again.transform(digits()[0]), featurizer.transform(digits()[0]))


def test_weights_path_must_be_a_regular_file(tmp_path):
    path = weights_file(tmp_path / "mine.safetensors")
    save(ImageFeaturizer(weights=path).fit(digits()[0]), tmp_path / "one")

    def change(schema):
        node_data(schema, "Backbone")[0]["weights"] = json_node("/dev/zero")

    forge(tmp_path / "one", schema=change)
    with pytest.raises(LoadError, match="neither a file nor a folder"):
        load(tmp_path / "one")


@pytest.mark.parametrize("case", ["bert", "gpt2", "vit", "convnextv2"])
def test_embedded_huggingface_model_needs_no_other_file(case, tmp_path):
    folder = tmp_path / "model"
    huggingface_folders.make_folder(case, folder)
    backbone = load_backbone(f"hf/{folder}")
    featurizer = (TextFeaturizer if backbone.modality == "text" else ImageFeaturizer)(backbone, cache=None)
    X = TEXTS if backbone.modality == "text" else digits()[0][:4]
    expected = featurizer.fit(X).transform(X)
    save(featurizer, tmp_path / "one", weights="embed")
    shutil.rmtree(folder)
    again = load(tmp_path / "one")
    assert np.array_equal(again.transform(X), expected)
    assert same(again.backbone_, backbone)


def test_pickle_keeps_embedded_backbone(tmp_path):
    pipeline = make_pipeline(TextFeaturizer().fit(TEXTS), LogisticRegression())
    save(pipeline, tmp_path / "one", weights="embed")
    again = load(tmp_path / "one").set_params(textfeaturizer__backbone=load(tmp_path / "one")[0].backbone_)
    twin = pickle.loads(pickle.dumps(again))
    clear_cache()
    assert np.array_equal(twin[0].fit_transform(TEXTS), TextFeaturizer(cache=None).fit_transform(TEXTS))


def test_pickle_of_max_length_holds_no_tokenizer(tmp_path):
    backbone = load_backbone("tiny/bert", max_length=9)
    assert len(pickle.dumps(backbone)) < 1000
    assert same(pickle.loads(pickle.dumps(backbone)), backbone)


def test_origin_keeps_only_the_last_trained_stages():
    X, y = digits()
    clf = FineTuneClassifier("tiny/cnn", random_state=0)
    sizes = [len(pickle.dumps(clf.partial_fit(X, y, classes=range(10)))) for _ in range(4)]
    assert max(sizes) - min(sizes) < 1000
    other = FineTuneClassifier(clf.backbone_, freeze_depth=2, max_epochs=1, random_state=0).fit(X, y)
    base, first, modules, _ = other.backbone_.origin[1]
    assert (base, first, len(modules)) == (load_backbone("tiny/cnn"), 2, 5)
    upper = FineTuneClassifier(other.backbone_, freeze_depth=4, max_epochs=1, random_state=0).fit(X, y)
    assert upper.backbone_.origin[1][1] == 2
    again = pickle.loads(pickle.dumps(upper.backbone_))
    assert same(again, upper.backbone_)
    assert torch.equal(again.stages[3].body[0].conv1.weight, other.backbone_.stages[3].body[0].conv1.weight)


@pytest.fixture
def embedded(tmp_path):
    huggingface_folders.make_folder("bert", tmp_path / "model")
    save(TextFeaturizer(f"hf/{tmp_path / 'model'}").fit(TEXTS), tmp_path / "one", weights="embed")
    return tmp_path / "one"


def change_setting(path, name, value):
    def change(schema):
        config = node_data(schema, "Backbone")[0]["recipe"]["content"]["spec"]["content"]["config"]
        config["content"][name] = json_node(value)

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
def test_config_that_does_not_fit_the_weights_is_refused_before_allocation(embedded, name, value, message):
    change_setting(embedded, name, value)
    with pytest.raises(LoadError, match=message):
        load(embedded)


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"version": "1.0", "model": {"type": "BPE"}}'])
def test_invalid_tokenizer_is_refused(embedded, text):
    def change(schema):
        node_data(schema, "Tokens")[0]["tokenizer"] = json_node(text)

    forge(embedded, schema=change)
    with pytest.raises(LoadError, match="tokenizer cannot be read"):
        load(embedded)


@pytest.mark.parametrize("case", ["bert", "convnext"])  # the second has no setting of its attention
@pytest.mark.parametrize("setting", ["attn_implementation", "quantization_config", "auto_map"])
def test_config_settings_that_name_code_are_ignored(case, setting, tmp_path):
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
