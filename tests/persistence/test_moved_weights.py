"""Estimators whose weights lie elsewhere when they are loaded than when they were saved or pickled."""

from __future__ import annotations

import json
import pickle
import shutil

import numpy as np
import pytest
from safetensors.torch import load_file, save_file
from sklearn.base import clone
from sklearn.pipeline import make_pipeline

from sktransfer import (
    FineTuneClassifier,
    ImageFeaturizer,
    NearestClassMean,
    PretrainedClassifier,
    TextFeaturizer,
    WordEmbedder,
    ZeroShotClassifier,
    config_context,
    load,
    save,
)
from sktransfer.exceptions import InvalidParameterError, LoadError, SktransferError
from tests.helpers import huggingface_folders
from tests.helpers.saved_estimators import MOODS, TEXTS, digits, weights_file


def file_of_images(path):
    weights_file(path)
    return ImageFeaturizer(weights=str(path)), digits()[0]


def trained_from_file(path):
    file_of_images(path)
    return FineTuneClassifier(weights=path, max_epochs=0, random_state=0), digits()[0]


def folder_of_texts(path):
    huggingface_folders.make_folder("albert", path)
    return TextFeaturizer(f"hf/{path}"), TEXTS


def zero_shot(path):
    huggingface_folders.make_folder("albert", path)
    return ZeroShotClassifier(f"hf/{path}", {"up": "a good film", "down": "a bad one"}), TEXTS


def pretrained(path):
    names = {"id2label": {0: "up", 1: "down"}, "label2id": {"up": 0, "down": 1}}
    huggingface_folders.make_folder("bert", path, head="ForSequenceClassification", **names)
    return PretrainedClassifier(f"hf/{path}"), TEXTS


def words(path):
    path.write_text("film 1 2\nhours 1 1\ndull 2 1\nminute 3 4\n")
    return WordEmbedder(str(path), oov="zero"), TEXTS


def in_pipeline(path):
    embedder, X = words(path)
    return make_pipeline(embedder, NearestClassMean()), X


def outputs(estimator, X):
    return estimator.transform(X) if hasattr(estimator, "transform") else estimator.predict_proba(X)


def change(path):
    """Replace weights by others of the same form."""
    if path.is_dir():
        path = path / "model.safetensors"
    if path.suffix == ".vec":
        path.write_text("film 1 2\nhours 1 1\ndull 2 1\nminute 3 5\n")
    else:
        save_file(
            {name: value + 1 if value.is_floating_point() else value for name, value in load_file(path).items()}, path
        )


@pytest.fixture(
    params=[file_of_images, trained_from_file, folder_of_texts, zero_shot, pretrained, words, in_pipeline],
    ids=lambda make: make.__name__,
)
def moved(request, tmp_path):
    """Saved and pickled estimator, its X and outputs, and the place to which its weights were moved."""
    folders = (folder_of_texts, zero_shot, pretrained)
    suffix = "" if request.param in folders else ".vec" if request.param in (words, in_pipeline) else ".safetensors"
    old, new = tmp_path / "old" / f"mine{suffix}", tmp_path / "new" / f"mine{suffix}"
    old.parent.mkdir()
    new.parent.mkdir()
    estimator, X = request.param(old)
    estimator.fit(X, MOODS if X is TEXTS else digits()[1])
    (tmp_path / "saved").mkdir()
    save(estimator, tmp_path / "saved" / "one.skt")
    pickled = pickle.dumps(estimator)
    expected = outputs(estimator, X)
    shutil.move(old, new)
    return tmp_path / "saved" / "one.skt", pickled, X, expected, new


def test_load_weights_finds_the_file_or_folder(moved):
    saved, _, X, expected, new = moved
    renamed = new.with_name("renamed" + new.suffix)
    for place in (new, new.parent, [saved, str(new)]):
        assert np.array_equal(outputs(load(saved, weights=place), X), expected)
    with config_context(weights_path=new.parent):
        assert np.array_equal(outputs(load(saved), X), expected)
    new.rename(renamed)
    again = load(saved, weights=renamed)
    assert np.array_equal(outputs(again, X), expected)
    save(again, saved)  # names the new place
    assert np.array_equal(outputs(load(saved), X), expected)
    assert np.array_equal(outputs(clone(again).fit(X, MOODS if X is TEXTS else digits()[1]), X), expected)


def test_load_finds_weights_beside_the_file(moved):
    saved, _, X, expected, new = moved
    beside = shutil.copy(saved, new.parent)
    assert np.array_equal(outputs(load(beside), X), expected)


def test_load_without_the_weights_names_file_hash_and_call(moved):
    saved, _, _, _, new = moved
    with pytest.raises(LoadError, match=rf"old/{new.name}.* with the hash [0-9a-f]{{40}}.*load\(path, weights="):
        load(saved)
    with pytest.raises(InvalidParameterError, match=r"weights=.*there is no file or folder"):
        load(saved, weights=new.with_name("none"))


def test_load_weights_refuses_others(moved):
    saved, pickled, X, _, new = moved
    change(new)
    with pytest.raises(LoadError, match=r"with the hash .*(its fingerprint is|has another hash)"):
        load(saved, weights=new)
    again = pickle.loads(pickled)
    with config_context(weights_path=new), pytest.raises(SktransferError, match="with the hash"):
        outputs(again, X)


def test_pickle_finds_weights_in_weights_path(moved):
    _, pickled, X, expected, new = moved
    again = pickle.loads(pickled)
    with pytest.raises(SktransferError, match=r"with the hash .*config_context\(weights_path="):
        outputs(again, X)
    with config_context(weights_path=new.parent):
        assert np.array_equal(outputs(again, X), expected)
    with config_context(weights_path=new.parent):
        again = pickle.loads(pickled)
    assert np.array_equal(outputs(again, X), expected)
    assert np.array_equal(outputs(pickle.loads(pickle.dumps(again)), X), expected)


def test_load_weights_keeps_other_parameters(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "new").mkdir()
    featurizer, X = file_of_images(tmp_path / "mine.safetensors")
    featurizer.set_params(weights="./mine.safetensors").fit(X)
    other = ImageFeaturizer(weights="other.safetensors")
    save(make_pipeline(featurizer, other), tmp_path / "one.skt")
    shutil.move("mine.safetensors", "new")
    again = load("one.skt", weights="new")
    assert again[0].weights == str(tmp_path / "new" / "mine.safetensors")
    assert again[1].weights == "other.safetensors"


def sentence_folder(path, *, pooling="mean", normalize=True, max_length=9):
    """Make a folder as sentence-transformers does."""
    huggingface_folders.make_folder("bert", path)
    kinds = ["Transformer", "Pooling", "Normalize"][: 3 if normalize else 2]
    files = {
        "modules.json": [
            {"type": f"sentence_transformers.models.{kind}", "path": f"{index}_{kind}" if index else ""}
            for index, kind in enumerate(kinds)
        ],
        "1_Pooling/config.json": {"pooling_mode": pooling},
        "sentence_bert_config.json": {"max_seq_length": max_length},
    }
    for name, content in files.items():
        (path / name).parent.mkdir(exist_ok=True)
        (path / name).write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pooling": "cls"}, "its pooling is class_token, expected mean"),
        ({"normalize": False}, "its unit_length is False, expected True"),
        ({"max_length": 20}, "its max_length is 20, expected 9"),
    ],
)
@pytest.mark.filterwarnings("ignore::sktransfer.exceptions.TruncatedTextWarning")
def test_load_refuses_other_settings_beside_the_same_weights(changes, message, tmp_path):
    sentence_folder(tmp_path / "mine")
    featurizer = TextFeaturizer(f"hf/{tmp_path / 'mine'}").fit(TEXTS)
    expected = featurizer.transform(TEXTS)
    save(featurizer, tmp_path / "one.skt")
    pickled = pickle.dumps(featurizer)
    assert np.array_equal(load(tmp_path / "one.skt").transform(TEXTS), expected)
    sentence_folder(tmp_path / "mine", **changes)
    with pytest.raises(LoadError, match=message):
        load(tmp_path / "one.skt")
    again = pickle.loads(pickled)
    with pytest.raises(SktransferError, match=message):
        again.transform(TEXTS)


def test_load_weights_finds_those_of_an_unfitted_estimator(tmp_path):
    folder, featurizer = tmp_path / "mine", folder_of_texts(tmp_path / "mine")[0]
    expected = clone(featurizer).fit(TEXTS).transform(TEXTS)
    save(featurizer, tmp_path / "one.skt")
    save(make_pipeline(featurizer, ImageFeaturizer(weights="./other.safetensors")), tmp_path / "two.skt")
    there = tmp_path / "there"
    folder.rename(there)
    again = load(tmp_path / "one.skt", weights=there)
    assert again.backbone == f"hf/{there}"
    assert np.array_equal(again.fit(TEXTS).transform(TEXTS), expected)
    pipe = load(tmp_path / "two.skt", weights=there)  # the folder may be of either
    assert (pipe[0].backbone, pipe[1].weights) == (f"hf/{folder}", "./other.safetensors")
    (tmp_path / "inside").mkdir()
    there.rename(tmp_path / "inside" / "mine")
    assert load(tmp_path / "two.skt", weights=tmp_path / "inside")[0].backbone == f"hf/{tmp_path / 'inside' / 'mine'}"
