"""Hashes of rows and of fitted transformers."""

from __future__ import annotations

import ast
import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.ensemble import RandomForestClassifier, RandomTreesEmbedding
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.feature_selection import SelectFromModel
from sklearn.pipeline import make_pipeline, make_union
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

from sktransfer import ImageFeaturizer, TextFeaturizer
from sktransfer.streaming.digests import digest_part, digest_rows, fingerprint
from sktransfer.testing.samples import make_samples
from tests.helpers.elsewhere import run_code

ROOT = Path(__file__).parents[2]


def digest(*values, files=False):
    return digest_rows([[value] for value in values], 1, files=files).tobytes()


GLOBAL = 2


def test_fingerprint_distinguishes_what_functions_use(monkeypatch):
    def function(factor, default=0, *, keyword=0):
        def inner(X, default=default, *, keyword=keyword):
            return [row for row in X if row] * factor * GLOBAL

        return inner

    functions = [function(2), function(3), function(2, 1), function(2, keyword=1)]
    functions += [lambda X: X[:, (0, 1)], lambda X: X[:, (0, 2)], lambda X: (1 for _ in X), lambda X: (2 for _ in X)]
    found = [fingerprint(FunctionTransformer(one)) for one in functions]
    assert fingerprint(FunctionTransformer(function(2))) == found[0]
    monkeypatch.setitem(globals(), "GLOBAL", 3)
    found.append(fingerprint(FunctionTransformer(function(2))))
    assert len(set(found)) == len(found)


def test_digest_rows_distinguishes_palettes():
    image = Image.new("P", (2, 3))
    other = image.copy()
    image.putpalette([255, 0, 0])
    other.putpalette([0, 255, 0])
    assert digest(image) != digest(other)
    assert digest(image) == digest(image.copy())


def test_digest_rows_distinguishes_values():
    image = Image.new("RGB", (2, 3))
    rows = [
        *(
            ("ab", "c"),
            ("a", "bc"),
            ("abc",),
            (b"ab", "c"),
            (None, "c"),
            ("None", "c"),
            (1, "c"),
            (1.5, "c"),
            (True,),
            (1,),
            (2**60,),
            (2**60 + 1,),
        ),
        *((np.float32(1.1),), (np.zeros((2, 3), np.uint8),), (np.zeros((3, 2), np.uint8),), (np.zeros(6, np.uint8),)),
        *((image,), (Image.new("RGB", (3, 2)),), (Image.new("L", (2, 3)),), (["ab", "c"],), (["ab", ["c"]],)),
        *(({"bytes": b"a", "path": None},), ({"bytes": None, "path": "a"},), (object,)),
    ]
    assert len({digest(*row) for row in rows}) == len(rows)
    assert digest(float("nan")) == digest(None)
    assert digest(1) == digest(1.0) == digest(np.float32(1)) == digest(np.int8(1))
    assert digest(Path("a.png")) == digest("a.png")


def test_digest_rows_hashes_the_state_of_files(tmp_path):
    path = tmp_path / "a.txt"
    absent = digest(str(path), files=True)
    path.write_text("one")
    first = digest(str(path), files=True)
    path.write_text("three")
    assert len({absent, first, digest(str(path), files=True)}) == 3
    assert digest(str(path)) == absent  # a text, not a path


def test_digest_part_depends_on_rows_and_order_alone():
    rows = digest_rows([["a", "b", "c"]], 3, files=False)
    assert digest_part(rows) == digest_part(np.concatenate([rows[:1], rows[1:]]))
    assert digest_part(rows) != digest_part(rows[::-1])


def transformers():
    images, labels = make_samples("image", 12)
    texts, classes = make_samples("text", 12)
    X = np.random.default_rng(0).normal(size=(12, 3))
    forest = RandomForestClassifier(n_estimators=2, random_state=0)
    columns = ColumnTransformer([("scale", StandardScaler(), [0, 1]), ("codes", OneHotEncoder(), [2])])
    return {
        "images": (ImageFeaturizer("tiny/cnn"), images, labels),
        "texts and pca": (make_pipeline(TextFeaturizer("tiny/bert", layer=0), PCA(2)), texts, classes),
        "words": (make_pipeline(TfidfVectorizer(), TruncatedSVD(2, random_state=0)), texts, None),
        "forest": (SelectFromModel(forest), X, classes),
        "trees": (RandomTreesEmbedding(n_estimators=2, random_state=0), X, None),
        "columns": (make_union(columns, PCA(1)), X, None),
    }


@pytest.mark.parametrize("name", transformers())
def test_fingerprint_is_that_of_the_fitted_values(name):
    transformer, X, y = transformers()[name]
    fitted = clone(transformer).fit(X, y)
    before = fingerprint(fitted)
    fitted.transform(X)
    assert fingerprint(fitted) == before
    assert fingerprint(pickle.loads(pickle.dumps(fitted))) == before
    assert fingerprint(clone(transformer).fit(X, y)) == before
    assert fingerprint(clone(transformer).fit(X[:9], None if y is None else y[:9])) != before


def fingerprints():
    """Return the fingerprints of those that are fitted soon in a new process."""
    return {name: fingerprint(one.fit(X, y)) for name, (one, X, y) in transformers().items() if "pca" not in name}


@pytest.mark.process
def test_fingerprint_is_the_same_in_another_process():
    code = "from tests.streaming.test_digests import fingerprints; print(fingerprints())"
    assert ast.literal_eval(run_code(code).stdout.splitlines()[-1]) == fingerprints()
