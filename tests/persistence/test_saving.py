from __future__ import annotations

import pickle
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from torch import nn

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
    ROOT,
    TEXTS,
    answer,
    answers_elsewhere,
    digits,
    fine_tuned,
    made,
)


@pytest.mark.parametrize("weights", ["reference", "embed"])
@pytest.mark.parametrize("name", MAKERS)
def test_what_is_loaded_says_the_same_to_the_bit(name, weights, tmp_path):
    estimator = made(name)
    expected = answer(estimator, name)
    save(estimator, tmp_path / "one.skt", weights=weights)
    again = load(tmp_path / "one.skt")
    assert type(again) is type(estimator)
    assert np.array_equal(answer(again, name), expected)
    assert np.array_equal(answer(estimator, name), expected)  # saving has changed nothing


@pytest.mark.process
def test_another_process_says_the_same_to_the_bit(tmp_path):
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
            save(made(name), jobs[-1][1], weights=weights)
            expected.append(answer(made(name), name))
    for job, one, other in zip(jobs, answers_elsewhere(jobs, tmp_path), expected, strict=True):
        assert np.array_equal(one, other), job


@pytest.mark.parametrize("name", MAKERS)
def test_a_pickle_says_the_same_to_the_bit(name):
    again = pickle.loads(pickle.dumps(made(name)))
    assert np.array_equal(answer(again, name), answer(made(name), name))


def trained_bytes(clf):
    head = sum(value.nbytes for value in clf.head_._state.values()) if hasattr(clf, "head_") else 0
    return head + sum(p.nbytes for stage in clf.net_.module_.stages for p in stage.state_dict().values())


@pytest.mark.parametrize("name", ["FineTuneClassifier", "FineTuneClassifier, adapter, mix", "FineTuneRegressor"])
def test_files_and_pickles_hold_what_was_trained_and_little_else(name, tmp_path):
    save(made(name), tmp_path / "one.skt")
    trained = trained_bytes(made(name))
    for size in ((tmp_path / "one.skt").stat().st_size, len(pickle.dumps(made(name)))):
        assert trained < size < 1.1 * trained + 40_000


@pytest.mark.parametrize("name", ["Pipeline", "ColumnTransformer", "GridSearchCV", "TextFeaturizer", "BestBackbone"])
def test_what_trains_no_network_takes_a_few_kilobytes(name, tmp_path):
    save(made(name), tmp_path / "one.skt")
    assert (tmp_path / "one.skt").stat().st_size < 10_000
    assert len(pickle.dumps(made(name))) < 20_000


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
def test_unfitted_estimators_keep_their_parameters(estimator, tmp_path):
    save(estimator, tmp_path / "one.skt")
    found, given = load(tmp_path / "one.skt").get_params(), estimator.get_params()
    if "random_state" in given and not isinstance(given["random_state"], (int, type(None))):
        one, other = found.pop("random_state"), given.pop("random_state")
        assert np.array_equal(one.randint(9, size=5), other.randint(9, size=5))
    assert found == given
    clone(load(tmp_path / "one.skt"))


def test_equal_estimators_give_equal_files(tmp_path):
    for name in ("a", "b"):
        save(make_pipeline(TextFeaturizer(), LogisticRegression()).fit(TEXTS, MOODS), tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_loaded_estimator_trains_on(tmp_path):
    X, y = digits()
    save(fine_tuned(), tmp_path / "one.skt")
    again = load(tmp_path / "one.skt")
    again.partial_fit(X, [f"digit {one}" for one in y])
    assert again.n_iter_ == 2
    again.set_params(warm_start=True).fit(X, [f"digit {one}" for one in y])
    assert FineTuneClassifier(again.backbone_, head=again.head_, max_epochs=0).fit(X, again.predict(X)).n_iter_ == 0


def test_a_loaded_estimator_is_saved_again_as_it_was(tmp_path):
    for weights in ("reference", "embed"):
        for name in ("FineTuneClassifier from a source", "TextFeaturizer", "PretrainedClassifier"):
            save(made(name), tmp_path / "one", weights="embed")
            save(load(tmp_path / "one"), tmp_path / "two", weights=weights)
            assert np.array_equal(answer(load(tmp_path / "two"), name), answer(made(name), name))


def test_a_folder_of_this_machine_is_left_out(tmp_path):
    clf = fine_tuned(cache=tmp_path / "cache", callbacks=[Checkpoint(tmp_path / "states")])
    save(clf, tmp_path / "one.skt")
    again = load(tmp_path / "one.skt")
    assert (again.cache, again.callbacks) == ("memory", [])
    assert clf.cache == tmp_path / "cache"
    assert len(clf.callbacks) == 1


def test_types_that_are_not_trusted_are_named_when_saving_and_loaded_when_trusted(tmp_path):
    forest = make_pipeline(TextFeaturizer(), RandomForestClassifier(2, random_state=0)).fit(TEXTS, MOODS)
    with pytest.warns(SktransferWarning, match=re.escape("load(path, trusted=['sklearn.tree._tree.Tree'])")):
        save(forest, tmp_path / "one.skt")
    again = load(tmp_path / "one.skt", trusted=["sklearn.tree._tree.Tree"])
    assert np.array_equal(again.predict_proba(TEXTS), forest.predict_proba(TEXTS))


def own_backbone():
    return Backbone.from_modules([("only", nn.Conv2d(3, 2, 3))], input_size=(8, 8))


@pytest.mark.parametrize(
    ("estimator", "message"),
    [
        (lambda: ImageFeaturizer(own_backbone()), "made of your own modules.*as a plugin.*joblib.dump"),
        (lambda: WordEmbedder(tokenizer=lambda text: [text]), "cannot be saved without pickle.*no lambda"),
        (lambda: FineTuneClassifier(augment=nn.Identity()), "augment=Identity.*set_params\\(augment=None\\)"),
        (lambda: LogisticRegression(class_weight={True: 1}), "keys of type bool cannot be saved"),
        (lambda: LogisticRegression(random_state=np.random.default_rng(0)), "Generator cannot be saved"),
        (lambda: LogisticRegression, "is no estimator"),
        (lambda: [1, 2], "is no estimator"),
        (lambda: LogisticRegression(C=str.split), "cannot be read back"),
    ],
)
def test_what_cannot_be_saved_is_said_so_and_the_old_file_stays(estimator, message, tmp_path):
    save(ImageFeaturizer(), tmp_path / "one.skt")
    before = (tmp_path / "one.skt").read_bytes()
    with pytest.raises(SaveError, match=message):
        save(estimator(), tmp_path / "one.skt")
    assert (tmp_path / "one.skt").read_bytes() == before
    assert list(tmp_path.iterdir()) == [tmp_path / "one.skt"]


def test_weights_are_reference_or_embed(tmp_path):
    with pytest.raises(InvalidParameterError, match="weights='all' must be 'reference' or 'embed'"):
        save(ImageFeaturizer(), tmp_path / "one.skt", weights="all")


@pytest.mark.process
def test_importing_saves_no_time_for_those_who_do_not_save():
    code = "import sys, sktransfer; from sktransfer import ImageFeaturizer; print('skops' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "False"
