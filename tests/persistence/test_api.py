from __future__ import annotations

import pickle
import re

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from skorch.callbacks import Callback
from torch import nn

import sktransfer
from sktransfer import (
    Backbone,
    Checkpoint,
    FineTuneClassifier,
    ImageFeaturizer,
    TextFeaturizer,
    WordEmbedder,
    load,
    save,
)
from sktransfer.exceptions import InvalidParameterError, SaveError, SktransferWarning
from tests.helpers.saved_estimators import (
    MAKERS,
    MOODS,
    TEXTS,
    digits,
    fine_tuned,
    fitted,
    predictions,
    predictions_in_new_process,
)

# One of each kind of weights that a file can hold.
EMBEDDED = [
    "ImageFeaturizer",
    "JoinedFeaturizer",
    "TextFeaturizer",
    "FineTuneTagger",
    "untrained weights",
    "WordEmbedder of a file",
    "FineTuneClassifier",
    "FineTuneClassifier, adapter, mix",
    "FineTuneClassifier from a source",
    "DomainAdaptationClassifier, statistics",
    "FineTuneSegmenter, trained",
    "MultiTaskFineTuner, task",
    "SelfSupervisedTuner, new head",
    "PretrainedClassifier",
    "ZeroShotClassifier",
    "BestBackbone",
    "make_transfer_pipeline",
]


@pytest.mark.parametrize(
    ("name", "weights"), [*((name, "reference") for name in MAKERS), *((name, "embed") for name in EMBEDDED)]
)
def test_load_predicts_the_same_to_the_bit(name, weights, tmp_path):
    estimator = fitted(name)
    expected = predictions(estimator, name)
    save(estimator, tmp_path / "one.skt", weights=weights)
    again = load(tmp_path / "one.skt")
    assert type(again) is type(estimator)
    assert np.array_equal(predictions(again, name), expected)
    assert np.array_equal(predictions(estimator, name), expected)  # save does not change the estimator


@pytest.mark.process
def test_load_in_new_process_predicts_the_same_to_the_bit(tmp_path):
    jobs, expected = [], []
    embedded = (
        "FineTuneClassifier",
        "FineTuneClassifier, adapter, mix",
        "PretrainedClassifier",
        "WordEmbedder of a file",
    )
    for weights, names in (("reference", MAKERS), ("embed", embedded)):
        for name in names:
            jobs.append((name, str(tmp_path / f"{len(jobs)}.skt")))
            save(fitted(name), jobs[-1][1], weights=weights)
            expected.append(predictions(fitted(name), name))
    for job, one, other in zip(jobs, predictions_in_new_process(jobs, tmp_path), expected, strict=True):
        assert np.array_equal(one, other), job


@pytest.mark.parametrize("name", MAKERS)
def test_pickle_predicts_the_same_to_the_bit(name):
    again = pickle.loads(pickle.dumps(fitted(name)))
    assert np.array_equal(predictions(again, name), predictions(fitted(name), name))


def trained_bytes(clf):
    head = sum(value.nbytes for value in clf.head_.to_state()["state"].values()) if hasattr(clf, "head_") else 0
    return head + sum(p.nbytes for stage in clf.net_.module_.stages for p in stage.state_dict().values())


@pytest.mark.parametrize("name", ["FineTuneClassifier", "FineTuneClassifier, adapter, mix", "FineTuneRegressor"])
def test_files_and_pickles_hold_little_more_than_trained_weights(name, tmp_path):
    save(fitted(name), tmp_path / "one.skt")
    trained = trained_bytes(fitted(name))
    for size in ((tmp_path / "one.skt").stat().st_size, len(pickle.dumps(fitted(name)))):
        assert trained < size < 1.1 * trained + 40_000


@pytest.mark.parametrize("name", ["Pipeline", "ColumnTransformer", "GridSearchCV", "TextFeaturizer", "BestBackbone"])
def test_files_without_trained_network_take_a_few_kilobytes(name, tmp_path):
    save(fitted(name), tmp_path / "one.skt")
    assert (tmp_path / "one.skt").stat().st_size < 15_000
    assert len(pickle.dumps(fitted(name))) < 20_000


@pytest.mark.parametrize(
    "estimator",
    [
        ImageFeaturizer(layer=[0, "top"], image_shape=(8, 8), preprocess={"resize": 8}),
        TextFeaturizer("tiny/bert", max_length=9, device=torch.device("cpu")),
        WordEmbedder(min_count=2, random_state=np.random.RandomState(5)),
        FineTuneClassifier(class_weight={True: 2.0, False: 1.0}, optimizer=torch.optim.RMSprop, freeze_depth=0.5),
    ],
    ids=lambda one: type(one).__name__,
)
def test_load_keeps_parameters_of_unfitted_estimators(estimator, tmp_path):
    save(estimator, tmp_path / "one.skt")
    loaded, given = load(tmp_path / "one.skt").get_params(), estimator.get_params()
    if "random_state" in given and not isinstance(given["random_state"], (int, type(None))):
        one, other = loaded.pop("random_state"), given.pop("random_state")
        assert np.array_equal(one.randint(9, size=5), other.randint(9, size=5))
    assert loaded == given
    clone(load(tmp_path / "one.skt"))


def test_save_writes_equal_files_for_equal_estimators(tmp_path):
    for name in ("a", "b"):
        save(make_pipeline(TextFeaturizer(), LogisticRegression()).fit(TEXTS, MOODS), tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_loaded_estimator_trains_with_partial_fit_and_warm_start(tmp_path):
    X, y = digits()
    save(fine_tuned(), tmp_path / "one.skt")
    again = load(tmp_path / "one.skt")
    again.partial_fit(X, [f"digit {digit}" for digit in y])
    assert again.n_iter_ == 2
    again.set_params(warm_start=True).fit(X, [f"digit {digit}" for digit in y])
    assert FineTuneClassifier(again.backbone_, head=again.head_, max_epochs=0).fit(X, again.predict(X)).n_iter_ == 0


def test_loaded_estimator_can_be_saved_again(tmp_path):
    for weights in ("reference", "embed"):
        for name in ("FineTuneClassifier from a source", "TextFeaturizer", "PretrainedClassifier"):
            save(fitted(name), tmp_path / "one", weights="embed")
            save(load(tmp_path / "one"), tmp_path / "two", weights=weights)
            assert np.array_equal(predictions(load(tmp_path / "two"), name), predictions(fitted(name), name))


def test_save_leaves_out_cache_folder_and_checkpoint(tmp_path):
    clf = fine_tuned(
        cache=tmp_path / "cache",
        callbacks=[Checkpoint(tmp_path / "states"), ("again", Checkpoint(tmp_path / "states")), ("off", None)],
    )
    save(clf, tmp_path / "one.skt")
    again = load(tmp_path / "one.skt")
    assert (again.cache, again.callbacks) == ("memory", [("off", None)])
    assert clf.cache == tmp_path / "cache"
    assert len(clf.callbacks) == 3


def test_save_names_untrusted_types_that_trusted_loads(tmp_path):
    forest = make_pipeline(TextFeaturizer(), RandomForestClassifier(2, random_state=0)).fit(TEXTS, MOODS)
    with pytest.warns(SktransferWarning, match=re.escape("load(path, trusted=['sklearn.tree._tree.Tree'])")):
        save(forest, tmp_path / "one.skt")
    again = load(tmp_path / "one.skt", trusted=["sklearn.tree._tree.Tree"])
    assert np.array_equal(again.predict_proba(TEXTS), forest.predict_proba(TEXTS))


class OwnCallback(Callback):
    def __init__(self, call):
        self.call = call


def own_backbone():
    return Backbone.from_modules([("only", nn.Conv2d(3, 2, 3))], input_size=(8, 8))


@pytest.mark.parametrize(
    ("estimator", "message"),
    [
        (lambda: ImageFeaturizer(own_backbone()), "made of your own modules.*as a plugin.*joblib.dump"),
        (lambda: WordEmbedder(tokenizer=lambda text: [text]), "cannot be saved without pickle.*no lambda"),
        (
            lambda: FineTuneClassifier(callbacks=[("own", OwnCallback(lambda net: None))]),
            r"FineTuneClassifier\.callbacks\['own'\]\.call, a function, cannot be saved without pickle",
        ),
        (lambda: FineTuneClassifier(augment=nn.Identity()), "augment=Identity.*set_params\\(augment=None\\)"),
        (lambda: LogisticRegression(class_weight={True: 1}), "keys of type bool cannot be saved"),
        (lambda: LogisticRegression(random_state=np.random.PCG64(0)), "PCG64 cannot be saved"),
        (lambda: LogisticRegression, "is not an estimator"),
        (lambda: [1, 2], "is not an estimator"),
        (lambda: LogisticRegression(C=str.split), "cannot be read back"),
    ],
)
def test_save_error_names_the_part_and_keeps_the_old_file(estimator, message, tmp_path):
    save(ImageFeaturizer(), tmp_path / "one.skt")
    before = (tmp_path / "one.skt").read_bytes()
    with pytest.raises(SaveError, match=message):
        save(estimator(), tmp_path / "one.skt")
    assert (tmp_path / "one.skt").read_bytes() == before
    assert list(tmp_path.iterdir()) == [tmp_path / "one.skt"]


def test_save_weights_must_be_reference_or_embed(tmp_path):
    with pytest.raises(InvalidParameterError, match="weights='all' must be 'reference' or 'embed'"):
        save(ImageFeaturizer(), tmp_path / "one.skt", weights="all")


def test_load_with_cache_sets_it_in_all_estimators(tmp_path):
    inner = make_pipeline(TextFeaturizer("tiny/bert", layer=1), LogisticRegression()).fit(TEXTS, MOODS)
    save(inner, tmp_path / "one.skt")
    sktransfer.clear_cache()
    expected = inner.set_params(textfeaturizer__cache=None).predict_proba(TEXTS)
    for cache in (None, tmp_path / "features"):
        again = load(tmp_path / "one.skt", cache=cache)
        assert again[0].cache == cache
        assert np.array_equal(again.predict_proba(TEXTS), expected)
    assert sktransfer.cache_info().n_entries == 0
    assert sktransfer.cache_info(tmp_path / "features").n_entries > 0
    assert load(tmp_path / "one.skt")[0].cache == "memory"


def test_load_refuses_a_cache_that_is_none_of_the_allowed_ones(tmp_path):
    save(TextFeaturizer("tiny/bert"), tmp_path / "one.skt")
    with pytest.raises(InvalidParameterError, match="cache='disk' must be 'memory', a folder"):
        load(tmp_path / "one.skt", cache="disk")
