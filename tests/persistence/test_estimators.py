from __future__ import annotations

import importlib

import numpy as np
import pytest
from sklearn.base import BaseEstimator
from skorch.callbacks import Callback

import sktransfer
from sktransfer import ImageFeaturizer, load, save
from sktransfer.exceptions import LoadError, SaveError
from sktransfer.persistence.callbacks import CALLBACKS, LEFT_OUT
from sktransfer.persistence.estimators import ESTIMATORS
from tests.helpers.forged_files import forge, parts, plain
from tests.helpers.saved_estimators import made


def public(kind):
    found = (getattr(sktransfer, name) for name in sktransfer.__all__)
    return {one.__name__ for one in found if isinstance(one, type) and issubclass(one, kind)}


def test_each_public_estimator_and_callback_can_be_saved():
    assert public(BaseEstimator) == set(ESTIMATORS)
    assert public(Callback) <= {*CALLBACKS, *LEFT_OUT}
    for name, module in ESTIMATORS.items():
        assert getattr(importlib.import_module(module), name) is getattr(sktransfer, name)


def with_attribute(path, kind, **changes):
    def change(schema):
        content = parts(schema, kind)[0]["attributes"]
        for name, value in changes.items():
            if name not in content["content"]:
                content["key_types"]["content"].append({**content["key_types"]["content"][0]})
            content["content"][name] = plain(value)

    forge(path, schema=change)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"transform": "x"}, "cannot have an attribute 'transform'"),
        ({"__class__": "x"}, "cannot have an attribute '__class__'"),
        ({"no name": "x"}, "cannot have an attribute 'no name'"),
        ({"backbone_": "x"}, "'backbone_' is of type str, not Backbone"),
        ({"n_features_in_": True}, "'n_features_in_' is of type bool, not int"),
        ({"cache": "/home/folder"}, "'cache' is '/home/folder', and must be one of"),
        ({"weights": [1]}, "is neither a name nor a path"),
    ],
)
def test_attributes_that_an_estimator_cannot_have_are_refused(tmp_path, changes, message):
    save(ImageFeaturizer(), tmp_path / "one")
    with_attribute(tmp_path / "one", "ImageFeaturizer", **changes)
    with pytest.raises(LoadError, match=message):
        load(tmp_path / "one")


def test_attributes_that_hide_a_method_are_not_saved(tmp_path):
    estimator = ImageFeaturizer()
    estimator.fit = None
    with pytest.raises(SaveError, match="cannot have an attribute 'fit'"):
        save(estimator, tmp_path / "one")


def test_what_a_user_has_added_is_kept(tmp_path):
    estimator = ImageFeaturizer()
    estimator.note = "mine"
    save(estimator, tmp_path / "one")
    assert load(tmp_path / "one").note == "mine"


def test_a_parameter_that_a_file_does_not_know_yet_has_its_default(tmp_path):
    save(ImageFeaturizer(), tmp_path / "one")

    def change(schema):
        content = parts(schema, "ImageFeaturizer")[0]["attributes"]
        place = list(content["content"]).index("pooling")
        del content["content"]["pooling"], content["key_types"]["content"][place]

    forge(tmp_path / "one", schema=change)
    assert load(tmp_path / "one").pooling == "auto"


def test_subclasses_are_the_users_own_types(tmp_path):
    class Mine(ImageFeaturizer):
        pass

    with pytest.raises(SaveError, match="Can't pickle local object"):
        save(Mine(), tmp_path / "one")


def test_embedding_puts_the_backbone_in_the_place_of_its_name(tmp_path):
    save(made("PretrainedClassifier"), tmp_path / "one", weights="embed")
    again = load(tmp_path / "one")
    assert isinstance(again.backbone, sktransfer.Backbone)
    assert again.get_params()["weights"] == "pretrained"
    assert np.array_equal(again.classes_, made("PretrainedClassifier").classes_)
