"""Features of fitted classifiers, by which domains are compared."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse import csr_array
from sklearn.dummy import DummyClassifier
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.naive_bayes import MultinomialNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from sktransfer import FineTuneClassifier, ImageFeaturizer
from sktransfer.selection import domain_features
from sktransfer.selection.domain_features import innermost
from sktransfer.testing.samples import make_samples

IMAGES, Y = np.array(make_samples("image", 12)[0]), np.arange(12) % 3
TEXTS = make_samples("text", 12)[0]


def read_features(clf, X):
    return domain_features.read_features(clf, X, np.ones(len(X)))


@pytest.mark.parametrize(("backbone", "layer"), [("tiny/cnn", -1), ("tiny/bert", "mix"), ("tiny/bert", "auto")])
def test_read_features_of_a_tuner_are_what_its_linear_head_reads(backbone, layer):
    X = IMAGES if backbone == "tiny/cnn" else TEXTS
    clf = FineTuneClassifier(backbone, layer=layer, max_epochs=1, lr=1e-4, freeze_depth=1.0, random_state=0).fit(X, Y)
    linear = clf.net_.module_.heads["y"].linear
    outputs = read_features(clf, X) @ linear.weight.detach().numpy().T + linear.bias.detach().numpy()
    np.testing.assert_allclose(outputs, clf.decision_function(X), atol=1e-4)


def test_read_features_of_a_pipeline_with_a_tuner_passes_the_steps_before_it():
    steps = make_pipeline(FunctionTransformer(np.flip), FineTuneClassifier(max_epochs=0, freeze_depth="all"))
    fitted = steps.fit(IMAGES, Y)
    assert np.array_equal(read_features(fitted, IMAGES), read_features(fitted[-1], np.flip(IMAGES)))


def test_read_features_of_a_pipeline_are_what_the_last_step_reads():
    pipeline = make_pipeline(ImageFeaturizer(layer=-1), StandardScaler(), LogisticRegression())
    search = GridSearchCV(pipeline, {"logisticregression__C": [1]}, cv=2).fit(IMAGES, np.arange(12) % 2)
    best = search.best_estimator_
    expected = best[:-1].transform(IMAGES)
    assert np.array_equal(read_features(search, IMAGES), expected)
    assert np.array_equal(read_features(best[-1], expected), expected)
    assert innermost(search) is best[-1]


def test_read_features_of_sparse_columns():
    texts = ["a film", "a book", "a film book"]
    clf = make_pipeline(CountVectorizer(), MultinomialNB()).fit(texts, [0, 1, 0])
    assert read_features(clf, texts).tolist() == [[0, 1], [1, 0], [1, 1]]
    assert domain_features.read_features(clf[-1], csr_array(np.eye(2)), np.ones(2)).tolist() == [[1, 0], [0, 1]]


@pytest.mark.parametrize(
    ("X", "message"),
    [
        (["a", "b"], r"DummyClassifier reads an array of shape \(2,\) and type <U1, and domains .*TextFeaturizer\(\)"),
        (np.zeros((2, 8, 8)), r"of shape \(2, 8, 8\)"),
        (np.array([[1.0], [np.nan]]), "table of finite features"),
    ],
    ids=["texts", "images", "nan"],
)
def test_read_features_refuses_what_is_no_table_of_numbers(X, message):
    clf = DummyClassifier().fit([[0], [1]], [0, 1])
    with pytest.raises(ValueError, match=message):
        read_features(clf, X)
