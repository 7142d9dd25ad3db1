"""Classifiers without training: the weights that they keep, save and pickle."""

from __future__ import annotations

import pickle
import shutil

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from sktransfer import PretrainedClassifier, ZeroShotClassifier, load, load_backbone, save
from sktransfer.exceptions import LoadError, SktransferError
from tests.helpers.huggingface_folders import TEXTS, make_folder

LABELS = {"up": "a good film", "down": "a bad one"}


def zero_shot(folder):
    make_folder("albert", folder)
    return ZeroShotClassifier(f"hf/{folder}", LABELS, cache=None)


def two_encoders(folder):
    make_folder("bert", folder)
    return ZeroShotClassifier("tiny/bert", LABELS, text_backbone=f"hf/{folder}", pooling="mean", cache=None)


def pretrained(folder):
    make_folder("bert", folder, head="ForSequenceClassification", num_labels=3)
    return PretrainedClassifier(f"hf/{folder}", cache=None)


def changed(folder, part):
    """Triple the weights whose names hold `part`, in a new file of the same form.

    Older versions of safetensors write into the file itself, and so into the memory of all that have mapped it.
    """
    path = folder / "model.safetensors"
    state = load_file(path)
    assert any(part in name for name in state)
    state = {name: value * 3 if part in name else value for name, value in state.items()}
    save_file(state, folder / "new", {"format": "pt"})
    (folder / "new").replace(path)


@pytest.mark.parametrize("is_fitted", [False, True])
@pytest.mark.parametrize(
    ("make", "part", "message"),
    [
        (zero_shot, "word_embeddings", "its fingerprint is"),
        (pretrained, "word_embeddings", "its fingerprint is"),
        (pretrained, "classifier.weight", "its head is"),
    ],
)
def test_load_and_pickle_refuse_other_weights(make, part, message, is_fitted, tmp_path):
    clf = make(tmp_path / "mine")
    expected = clf.predict_proba(TEXTS)
    if is_fitted:
        clf.fit(TEXTS, clf.classes_[np.arange(len(TEXTS)) % 2])
    save(clf, tmp_path / "one.skt")
    pickled = pickle.dumps(clf)
    for again in (load(tmp_path / "one.skt"), pickle.loads(pickled)):
        assert np.array_equal(again.predict_proba(TEXTS), expected)
    changed(tmp_path / "mine", part)
    with pytest.raises(LoadError, match=message):
        load(tmp_path / "one.skt")
    again = pickle.loads(pickled)
    with pytest.raises(SktransferError, match=message):
        again.predict_proba(TEXTS)


@pytest.mark.parametrize("make", [zero_shot, pretrained])
def test_fitted_classifier_keeps_its_weights(make, tmp_path):
    folder = tmp_path / "mine"
    clf = make(folder)
    y = clf.classes_[np.arange(len(TEXTS)) % 2]
    expected = clf.fit(TEXTS, y).predict_proba(TEXTS)
    changed(folder, "word_embeddings")
    assert np.array_equal(clf.predict_proba(TEXTS), expected)
    assert not np.array_equal(clf.fit(TEXTS, y).predict_proba(TEXTS), expected)  # fit reads them again
    expected = clf.predict_proba(TEXTS)
    save(clf, tmp_path / "embedded.skt", weights="embed")
    shutil.rmtree(folder)
    assert np.array_equal(clf.predict_proba(TEXTS), expected)
    again = load(tmp_path / "embedded.skt")
    assert np.array_equal(again.predict_proba(TEXTS), expected)
    assert np.array_equal(again.fit(TEXTS, y).predict_proba(TEXTS), expected)


def test_text_backbone_is_kept_saved_and_pickled(tmp_path):
    clf = two_encoders(tmp_path / "mine").set_params(backbone=f"hf/{tmp_path / 'mine'}").fit(TEXTS)
    encoder, expected = clf.text_backbone_, clf.predict_proba(TEXTS)
    save(clf, tmp_path / "one.skt")
    pickled = pickle.dumps(clf)
    shutil.move(tmp_path / "mine", tmp_path / "there")
    assert clf.text_backbone_ is encoder
    again = load(tmp_path / "one.skt", weights=tmp_path / "there")
    assert np.array_equal(again.predict_proba(TEXTS), expected)
    assert again.text_backbone == again.backbone == f"hf/{tmp_path / 'there'}"
    again = pickle.loads(pickled)
    with pytest.raises(SktransferError, match="with the hash"):
        again.predict_proba(TEXTS)


def test_setting_a_parameter_that_names_a_backbone_drops_the_kept_one(tmp_path):
    clf = zero_shot(tmp_path / "mine").fit(TEXTS)
    again = pickle.loads(pickle.dumps(clf)).set_params(max_length=4)
    assert again.backbone_.preprocess.limit == 4
    assert again.set_params(backbone="tiny/bert", max_length=None).backbone_ is load_backbone("tiny/bert")
    clf.weights = "random"
    assert not clf.backbone_.pretrained


def test_classifier_that_cannot_predict_is_pickled(tmp_path):
    clf = ZeroShotClassifier(f"hf/{tmp_path / 'none'}", LABELS)
    assert pickle.loads(pickle.dumps(clf)).get_params() == clf.get_params()
