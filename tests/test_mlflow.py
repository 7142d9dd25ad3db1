"""The flavour of mlflow, with a store of files in a folder."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from sktransfer import FineTuneClassifier, PretrainedClassifier, TextFeaturizer, cache_info, clear_cache
from sktransfer.exceptions import InvalidParameterError, LoadError, SktransferWarning
from sktransfer.mlflow import load_model, log_model, save_model
from sktransfer.testing.samples import make_samples

mlflow = pytest.importorskip("mlflow")
# mlflow imports its parts on first use, and some of them warn
KINDS = ("UserWarning", "FutureWarning", "DeprecationWarning")
pytestmark = [pytest.mark.filterwarnings(f"ignore::{kind}:mlflow.*") for kind in KINDS]

TEXTS, LABELS = make_samples("text", 12)
IMAGES, CLASSES = make_samples("image", 12)


@pytest.fixture(autouse=True)
def store(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri((tmp_path / "runs").as_uri())
    yield
    mlflow.set_tracking_uri(before)


@pytest.fixture(scope="module")
def texts_classifier():
    return make_pipeline(TextFeaturizer("tiny/bert"), LogisticRegression()).fit(TEXTS, LABELS)


def test_log_model_and_load_model(texts_classifier):
    with mlflow.start_run():
        info = log_model(texts_classifier, "moods")
    loaded = load_model(info.model_uri)
    np.testing.assert_array_equal(loaded.predict_proba(TEXTS), texts_classifier.predict_proba(TEXTS))
    assert sorted(info.flavors) == ["python_function", "sktransfer"]


def test_pyfunc_predicts_as_the_estimator(texts_classifier, tmp_path):
    save_model(texts_classifier, tmp_path / "moods")
    model = mlflow.pyfunc.load_model(str(tmp_path / "moods"))
    for given in (TEXTS, np.array(TEXTS)):
        np.testing.assert_array_equal(model.predict(given), texts_classifier.predict(TEXTS))


def test_cache_of_load_model_and_of_pyfunc(texts_classifier, tmp_path):
    save_model(texts_classifier, tmp_path / "moods")
    assert load_model(tmp_path / "moods")[0].cache == "memory"
    assert load_model(tmp_path / "moods", cache=None)[0].cache is None
    clear_cache()
    mlflow.pyfunc.load_model(str(tmp_path / "moods")).predict(TEXTS)
    assert cache_info().n_entries == 0


def test_save_model_of_a_tuner_with_embedded_weights_and_probabilities(tmp_path):
    clf = FineTuneClassifier("tiny/cnn", freeze_depth=-1, max_epochs=1, lr=1e-3, random_state=0).fit(IMAGES, CLASSES)
    save_model(clf, tmp_path / "photos", weights="embed", pyfunc_predict_fn="predict_proba", metadata={"made": "here"})
    model = mlflow.pyfunc.load_model(str(tmp_path / "photos"))
    np.testing.assert_array_equal(model.predict(np.stack(IMAGES)), clf.predict_proba(IMAGES))
    assert model.metadata.metadata == {"made": "here"}
    requirements = (tmp_path / "photos" / "requirements.txt").read_text()
    assert "sktransfer==" in requirements
    assert "mlflow==" in requirements
    assert not list((tmp_path / "photos").rglob("*.pkl"))


def test_pyfunc_predicts_tables_with_a_signature(tmp_path):
    table = pd.DataFrame({"text": TEXTS})
    clf = make_pipeline(TextFeaturizer("tiny/bert"), LogisticRegression()).fit(table, LABELS)
    signature = mlflow.models.infer_signature(table, clf.predict(table))
    save_model(clf, tmp_path / "moods", signature=signature, input_example=table.head(2))
    model = mlflow.pyfunc.load_model(str(tmp_path / "moods"))
    assert model.metadata.get_input_schema().input_names() == ["text"]
    np.testing.assert_array_equal(model.predict(table), clf.predict(table))


def test_load_model_of_types_that_need_trust(tmp_path):
    forest = RandomForestClassifier(2, random_state=0)
    clf = make_pipeline(TextFeaturizer("tiny/bert"), forest).fit(TEXTS, LABELS)
    with pytest.warns(SktransferWarning, match="trusted"):
        save_model(clf, tmp_path / "trees")
    with pytest.raises(LoadError, match=r"trusts no types; use sktransfer\.mlflow\.load_model"):
        mlflow.pyfunc.load_model(str(tmp_path / "trees"))
    with pytest.raises(LoadError, match="trusted"):
        load_model(tmp_path / "trees")
    loaded = load_model(tmp_path / "trees", trusted=["sklearn.tree._tree.Tree"])
    np.testing.assert_array_equal(loaded.predict(TEXTS), clf.predict(TEXTS))


def test_load_model_refuses_other_flavours_and_save_model_other_methods(tmp_path, texts_classifier):
    other = LogisticRegression().fit([[0], [1]], [0, 1])
    mlflow.sklearn.save_model(other, str(tmp_path / "other"), pip_requirements=[])  # else mlflow starts a process
    with pytest.raises(LoadError, match=r"flavours \['python_function', 'sklearn'\], and not 'sktransfer'"):
        load_model(tmp_path / "other")
    with pytest.raises(InvalidParameterError, match="pyfunc_predict_fn='transform' is no method of Pipeline"):
        save_model(texts_classifier, tmp_path / "moods", pyfunc_predict_fn="transform")
    save_model(PretrainedClassifier("tiny/cnn"), tmp_path / "unfitted")
    assert load_model(tmp_path / "unfitted").backbone == "tiny/cnn"


def test_sklearn_flavour_writes_and_loads_by_skops(texts_classifier):
    import skops.io

    skops.io.dump(texts_classifier, "moods.skops")
    trusted = skops.io.get_untrusted_types(file="moods.skops")
    with mlflow.start_run():
        options = {"skops_trusted_types": trusted, "pip_requirements": []}
        info = mlflow.sklearn.log_model(texts_classifier, name="moods", **options)
    loaded = mlflow.sklearn.load_model(info.model_uri)
    np.testing.assert_array_equal(loaded.predict_proba(TEXTS), texts_classifier.predict_proba(TEXTS))
