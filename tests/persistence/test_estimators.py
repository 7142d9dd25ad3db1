from __future__ import annotations

import numpy as np
import peft
import pytest
from skorch.callbacks import EarlyStopping, EpochScoring, GradientNormClipping, LRScheduler

import sktransfer
from sktransfer import EMA, SWA, ImageFeaturizer, MicroBatches, Mixup, WiSEFT, load, save
from sktransfer.exceptions import LoadError, SaveError
from sktransfer.persistence.codecs import DECODERS, find_codec
from sktransfer.persistence.context import LoadContext, SaveContext
from tests.helpers.forged_files import forge, json_node, node_data
from tests.helpers.saved_estimators import fitted

LOADING = LoadContext({}, DECODERS)


def change_attributes(path, kind, **changes):
    def change(schema):
        content = node_data(schema, kind)[0]["attributes"]
        for name, value in changes.items():
            if name not in content["content"]:
                content["key_types"]["content"].append({**content["key_types"]["content"][0]})
            content["content"][name] = json_node(value)

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
def test_load_refuses_attributes_that_the_estimator_cannot_have(tmp_path, changes, message):
    save(ImageFeaturizer(), tmp_path / "one")
    change_attributes(tmp_path / "one", "ImageFeaturizer", **changes)
    with pytest.raises(LoadError, match=message):
        load(tmp_path / "one")


def test_load_refuses_state_without_restore_state(tmp_path):
    with pytest.raises(LoadError, match="ImageFeaturizer has no state other than its attributes"):
        LOADING.build("ImageFeaturizer", {"attributes": {}, "state": {"seed": 1}})


def test_save_refuses_attributes_that_hide_a_method(tmp_path):
    estimator = ImageFeaturizer()
    estimator.fit = None
    with pytest.raises(SaveError, match="cannot have an attribute 'fit'"):
        save(estimator, tmp_path / "one")


def test_attributes_added_by_the_user_are_kept(tmp_path):
    estimator = ImageFeaturizer()
    estimator.note = {"mine": {1: "a", None: "b"}}
    save(estimator, tmp_path / "one")
    assert load(tmp_path / "one").note == estimator.note


def test_parameter_missing_in_the_file_gets_its_default(tmp_path):
    save(ImageFeaturizer(), tmp_path / "one")

    def change(schema):
        content = node_data(schema, "ImageFeaturizer")[0]["attributes"]
        index = list(content["content"]).index("pooling")
        del content["content"]["pooling"], content["key_types"]["content"][index]

    forge(tmp_path / "one", schema=change)
    assert load(tmp_path / "one").pooling == "auto"


def test_parameter_in_the_file_that_this_version_lacks_is_refused(tmp_path):
    save(ImageFeaturizer(), tmp_path / "one")

    def change(schema):
        node_data(schema, "ImageFeaturizer")[0]["parameters"] = json_node("layer,colour")

    forge(tmp_path / "one", schema=change)
    with pytest.raises(
        LoadError, match=r"ImageFeaturizer has no parameter 'colour' in .* with the version that its man"
    ):
        load(tmp_path / "one")


def test_subclasses_do_not_use_the_codec_of_their_base(tmp_path):
    class Mine(ImageFeaturizer):
        pass

    with pytest.raises(SaveError, match=r"Can't (pickle|get) local object"):
        save(Mine(), tmp_path / "one")


def test_embedded_params_replace_the_name_by_the_backbone(tmp_path):
    save(fitted("PretrainedClassifier"), tmp_path / "one", weights="embed")
    loaded = load(tmp_path / "one")
    assert isinstance(loaded.backbone, sktransfer.Backbone)
    assert loaded.get_params()["weights"] == "pretrained"
    assert np.array_equal(loaded.classes_, fitted("PretrainedClassifier").classes_)


def round_trip(value):
    codec = find_codec(value)
    return LOADING.build(codec.kind, codec.encode(value, SaveContext(False)))


@pytest.mark.parametrize(
    "callback",
    [
        EMA(0.3),
        SWA(0.2),
        WiSEFT(0.1),
        MicroBatches(4),
        Mixup(0.3),
        EarlyStopping("train_loss", patience=7),
        EpochScoring("accuracy", lower_is_better=False, on_train=True),
        GradientNormClipping(2.0),
        LRScheduler("StepLR", step_size=3, gamma=0.5),
    ],
    ids=lambda callback: type(callback).__name__,
)
def test_callbacks_keep_their_parameters(callback):
    loaded = round_trip(callback)
    assert type(loaded) is type(callback)
    assert loaded.get_params(deep=False) == callback.get_params(deep=False)


@pytest.mark.parametrize(
    "config",
    [
        peft.LoraConfig(r=3, target_modules=["query", "value"], use_rslora=True),
        peft.LoraConfig(target_modules="all-linear", lora_dropout=0.1),
        peft.IA3Config(target_modules=["query"], feedforward_modules=[]),
    ],
)
def test_adapters_keep_their_settings(config):
    assert round_trip(config) == config


def test_callbacks_and_adapters_with_other_values_are_refused():
    with pytest.raises(SaveError, match=r"EarlyStopping has parameters.*sink.*set_params\(callbacks=None\)"):
        round_trip(EarlyStopping(sink=[].append))
    with pytest.raises(SaveError, match=r"set_params\(adapter=None\)"):
        round_trip(peft.LoraConfig(target_modules=["a"], rank_pattern={"a": 3}))


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("TrainEndCheckpoint", {"params": {}}),
        ("Checkpoint", {"params": {"folder": "/"}}),
        ("EMA", {"params": {"nonsense": 1}}),
        ("EMA", {"params": {"decay": object()}}),
        ("EMA", {}),
        ("PromptTuningConfig", {"params": {}}),
        ("LoraConfig", {"params": {"nonsense": 1}}),
        ("LoraConfig", {"params": {"r": {}}}),
    ],
)
def test_unlisted_callbacks_and_invalid_params_are_refused(kind, data):
    with pytest.raises(LoadError):
        LOADING.build(kind, data)
