from __future__ import annotations

import json
import pickle
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from sktransfer import FineTuneClassifier, ImageFeaturizer, TextFeaturizer, clear_cache, load, load_backbone, save
from sktransfer.exceptions import LoadError
from tests.helpers import huggingface_folders
from tests.helpers.forged_files import forge, parts, plain
from tests.helpers.saved_estimators import TEXTS, digits, made


def same(one, other):
    return one.fingerprint() == other.fingerprint() and one.preprocess.key == other.preprocess.key


def test_a_backbone_by_name_is_the_one_that_the_process_shares(tmp_path):
    save(ImageFeaturizer().fit(digits()[0]), tmp_path / "one")
    assert load(tmp_path / "one").backbone_ is load_backbone("tiny/cnn")


def test_trained_stages_are_laid_out_as_training_leaves_them(tmp_path):
    before = made("FineTuneClassifier").backbone_
    save(ImageFeaturizer(before), tmp_path / "one")
    after = load(tmp_path / "one").backbone
    assert same(before, after)
    for one, other in zip(before.stages.parameters(), after.stages.parameters(), strict=True):
        assert one.stride() == other.stride()
    assert not any(parameter.requires_grad for parameter in after.stages.parameters())


def test_stages_below_the_cut_are_shared(tmp_path):
    save(made("FineTuneClassifier"), tmp_path / "one")
    below = load(tmp_path / "one").backbone_.stages[0]
    assert below is load_backbone("tiny/cnn").stages[0]


def test_an_estimator_holds_one_backbone_however_often_it_names_it(tmp_path):
    backbone = load_backbone("tiny/cnn", weights="random", seed=3)
    save(ImageFeaturizer(backbone).fit(digits()[0]), tmp_path / "one", weights="embed")
    again = load(tmp_path / "one")
    assert again.backbone is again.backbone_
    assert not again.backbone_.pretrained


def weights_file(path):
    backbone = load_backbone("tiny/cnn")
    state = {
        f"stages.{name}.{key}": value
        for name, stage in zip(backbone.stage_names, backbone.stages)
        for key, value in stage.body[0].state_dict().items()
    }
    save_file(state, path, metadata={"preprocess": json.dumps({"resize": 32, "crop": 32, "mean": [0.1, 0.2, 0.3]})})
    return path


def test_a_local_file_is_named_and_looked_at_again(tmp_path):
    path = weights_file(tmp_path / "mine.safetensors")
    featurizer = ImageFeaturizer(weights=path, cache=None).fit(digits()[0])
    for weights in ("reference", "embed"):
        save(featurizer, tmp_path / weights, weights=weights)
    assert same(load(tmp_path / "reference").backbone_, featurizer.backbone_)
    path.unlink()
    with pytest.raises(LoadError, match=r"there is no such file.*weights='embed', a file holds all"):
        load(tmp_path / "reference")
    again = load(tmp_path / "embed")
    assert np.array_equal(again.transform(digits()[0]), featurizer.transform(digits()[0]))


def test_a_path_that_is_no_file_is_not_opened(tmp_path):
    path = weights_file(tmp_path / "mine.safetensors")
    save(ImageFeaturizer(weights=path).fit(digits()[0]), tmp_path / "one")

    def change(schema):
        parts(schema, "Backbone")[0]["weights"] = plain("/dev/zero")

    forge(tmp_path / "one", schema=change)
    with pytest.raises(LoadError, match="neither a file nor a folder"):
        load(tmp_path / "one")


@pytest.mark.parametrize("case", ["bert", "gpt2", "vit", "convnextv2"])
def test_embedded_models_of_transformers_need_nothing_else(case, tmp_path):
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


def test_a_search_in_processes_uses_what_was_embedded(tmp_path):
    pipeline = make_pipeline(TextFeaturizer().fit(TEXTS), LogisticRegression())
    save(pipeline, tmp_path / "one", weights="embed")
    again = load(tmp_path / "one").set_params(textfeaturizer__backbone=load(tmp_path / "one")[0].backbone_)
    twin = pickle.loads(pickle.dumps(again))
    clear_cache()
    assert np.array_equal(twin[0].fit_transform(TEXTS), TextFeaturizer(cache=None).fit_transform(TEXTS))


def test_text_limits_take_no_tokenizer_along(tmp_path):
    backbone = load_backbone("tiny/bert", max_length=9)
    assert len(pickle.dumps(backbone)) < 1000
    assert same(pickle.loads(pickle.dumps(backbone)), backbone)


def test_going_on_keeps_no_more_than_the_last_stages():
    X, y = digits()
    clf = FineTuneClassifier("tiny/cnn", random_state=0)
    sizes = [len(pickle.dumps(clf.partial_fit(X, y, classes=range(10)))) for _ in range(4)]
    assert max(sizes) - min(sizes) < 1000
    other = FineTuneClassifier(clf.backbone_, freeze_depth=2, max_epochs=1, random_state=0).fit(X, y)
    base, first, modules = other.backbone_.origin[1]
    assert (base, first, len(modules)) == (load_backbone("tiny/cnn"), 2, 5)
    upper = FineTuneClassifier(other.backbone_, freeze_depth=4, max_epochs=1, random_state=0).fit(X, y)
    assert upper.backbone_.origin[1][1] == 2
    again = pickle.loads(pickle.dumps(upper.backbone_))
    assert same(again, upper.backbone_)
    assert torch.equal(again.stages[3].body[0].conv1.weight, other.backbone_.stages[3].body[0].conv1.weight)
