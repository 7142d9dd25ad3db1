"""Estimators within those of scikit-learn: saved and loaded, and pickled into a process that has not imported us."""

from __future__ import annotations

import copy
import io
import pickle

import cloudpickle
import joblib
import numpy as np
import pandas as pd
import pytest
import skops.io
from scipy.stats import loguniform
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import make_column_transformer
from sklearn.ensemble import BaggingClassifier, StackingClassifier, VotingClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, RandomizedSearchCV
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import Pipeline, make_pipeline, make_union
from sklearn.preprocessing import StandardScaler
from torch import nn

from sktransfer import (
    Backbone,
    FineTuneClassifier,
    ImageFeaturizer,
    NearestClassMean,
    TextFeaturizer,
    WordEmbedder,
    load,
    save,
)
from tests.helpers.elsewhere import run_code
from tests.helpers.saved_estimators import MAKERS, MOODS, TEXTS, digits, fitted, frame, predictions


def tuned():
    return FineTuneClassifier("tiny/bert", freeze_depth="all", max_epochs=1, random_state=0)


def words():
    return WordEmbedder("word2vec", vector_size=4, min_count=1, random_state=0)


def featurized(layer=1):
    return make_pipeline(TextFeaturizer(layer=layer), LogisticRegression())


def columns():
    parts = (TextFeaturizer(layer=1), ["text"]), (words(), ["text"]), (StandardScaler(), ["length"])
    return make_pipeline(make_column_transformer(*parts), LogisticRegression()).set_output(transform="pandas")


COMPOSITIONS = {
    "ColumnTransformer": columns,
    "FeatureUnion": lambda: make_pipeline(make_union(TextFeaturizer(layer=1), words()), LogisticRegression()),
    "FeatureUnion, pandas": lambda: make_pipeline(
        make_union(TextFeaturizer(layer=1), words()).set_output(transform="pandas"), LogisticRegression()
    ),
    "StackingClassifier": lambda: StackingClassifier([("frozen", featurized()), ("tuned", tuned())], cv=2),
    "VotingClassifier": lambda: VotingClassifier([("one", featurized()), ("other", tuned())], voting="soft"),
    "CalibratedClassifierCV": lambda: CalibratedClassifierCV(tuned(), cv=2),
    "CalibratedClassifierCV, frozen": lambda: CalibratedClassifierCV(FrozenEstimator(tuned().fit(TEXTS, MOODS))),
    "GridSearchCV": lambda: GridSearchCV(
        Pipeline([("features", TextFeaturizer()), ("last", LogisticRegression())]),
        {"features": [TextFeaturizer(layer=1), words()], "last": [LogisticRegression(), NearestClassMean()]},
        scoring={"accuracy": "accuracy", "area": "roc_auc"},
        refit="area",
        cv=2,
    ),
    "RandomizedSearchCV": lambda: RandomizedSearchCV(
        tuned(), {"lr": loguniform(1e-4, 1e-2)}, n_iter=2, cv=2, random_state=0
    ),
    "BaggingClassifier": lambda: make_pipeline(
        TextFeaturizer(layer=1), BaggingClassifier(NearestClassMean(), n_estimators=2, random_state=0)
    ),
    "OneVsRestClassifier": lambda: OneVsRestClassifier(tuned()),
}


@pytest.mark.parametrize("name", COMPOSITIONS)
def test_save_and_load_of_compositions(name, tmp_path):
    X = frame() if name == "ColumnTransformer" else TEXTS
    estimator = COMPOSITIONS[name]().fit(X, MOODS)
    save(estimator, tmp_path / "one.skt")
    again = load(tmp_path / "one.skt")
    assert np.array_equal(again.predict_proba(X), estimator.predict_proba(X))
    save(again, tmp_path / "two.skt")
    assert np.array_equal(load(tmp_path / "two.skt").predict_proba(X), estimator.predict_proba(X))


_NEW_PROCESS = """
import io, pickle, sys, warnings
from pathlib import Path
import joblib
warnings.simplefilter("ignore")
dumps = pickle.loads(Path(sys.argv[1]).read_bytes())
assert "sktransfer" not in sys.modules
estimators = [joblib.load(io.BytesIO(dump)) for dump in dumps]
from tests.helpers.saved_estimators import MAKERS, predictions
outputs = [predictions(estimator, name) for estimator, name in zip(estimators, MAKERS)]
Path(sys.argv[2]).write_bytes(pickle.dumps(outputs))
"""


def dumped(estimator, library):
    file = io.BytesIO()
    library.dump(estimator, file)
    return file.getvalue()


@pytest.mark.process
def test_pickle_joblib_and_cloudpickle_load_in_a_process_that_has_not_imported_sktransfer(tmp_path):
    libraries = [pickle, joblib, cloudpickle] * len(MAKERS)  # one of them per estimator
    dumps = [dumped(fitted(name), library) for name, library in zip(MAKERS, libraries)]
    (tmp_path / "dumps").write_bytes(pickle.dumps(dumps))
    run_code(_NEW_PROCESS, tmp_path / "dumps", tmp_path / "outputs")
    outputs = pickle.loads((tmp_path / "outputs").read_bytes())
    for name, output in zip(MAKERS, outputs, strict=True):
        assert np.array_equal(output, predictions(fitted(name), name)), name


def through_skops(estimator):
    dump = skops.io.dumps(estimator)
    return skops.io.loads(dump, trusted=skops.io.get_untrusted_types(data=dump))


@pytest.mark.parametrize("name", MAKERS)
def test_skops_dump_and_load_keep_predictions(name):
    loaded = through_skops(fitted(name))
    assert np.array_equal(predictions(loaded, name), predictions(fitted(name), name))


def test_skops_dump_keeps_the_attributes_of_a_tuner():
    tuner = fitted("FineTuneClassifier from a source")
    loaded = through_skops(tuner)
    pd.testing.assert_frame_equal(loaded.history_, tuner.history_)
    pd.testing.assert_frame_equal(loaded.stages_, tuner.stages_)
    assert repr(loaded.head_) == repr(tuner.head_)
    assert loaded.get_params().keys() == tuner.get_params().keys()
    assert loaded.partial_fit(digits()[0], tuner.predict(digits()[0])).n_iter_ == 2
    assert through_skops(tuned()).get_params() == tuned().get_params()


def test_pickle_of_a_tuner_keeps_its_optimizer():
    tuner = FineTuneClassifier("tiny/bert", freeze_depth=-1, random_state=0).partial_fit(TEXTS, MOODS, ["down", "up"])
    again = pickle.loads(pickle.dumps(tuner))
    assert again.net_.optimizer_.state
    copied = copy.copy(tuner)
    assert copied.net_ is tuner.net_
    expected = tuner.partial_fit(TEXTS, MOODS).predict_proba(TEXTS)
    assert np.array_equal(again.partial_fit(TEXTS, MOODS).predict_proba(TEXTS), expected)


def test_skops_dump_holds_the_weights_of_trained_stages_only():
    source = fitted("FineTuneClassifier").backbone_
    featurizer = ImageFeaturizer(source).fit(digits()[0])
    loaded = through_skops(featurizer)
    assert loaded.backbone_.fingerprint() == source.fingerprint()
    assert np.array_equal(loaded.transform(digits()[0]), featurizer.transform(digits()[0]))
    stages = source.stages[fitted("FineTuneClassifier").freeze_depth_ :]
    trained = sum(parameter.nbytes for parameter in stages.parameters())
    assert trained < len(skops.io.dumps(featurizer)) < 2.2 * trained  # as parameter and as attribute


def test_skops_dump_of_a_file_of_save_with_embedded_weights(tmp_path):
    save(ImageFeaturizer().fit(digits()[0]), tmp_path / "embedded.skt", weights="embed")
    featurizer = load(tmp_path / "embedded.skt")
    assert np.array_equal(through_skops(featurizer).transform(digits()[0]), featurizer.transform(digits()[0]))


def test_skops_dump_of_own_modules_names_joblib():
    backbone = Backbone.from_modules([("stem", nn.Conv2d(3, 4, 3))])
    with pytest.raises(TypeError, match=r"Backbone\(.*a file without code cannot describe.*use joblib.dump"):
        skops.io.dumps(ImageFeaturizer(backbone).fit(digits()[0]))
