"""`check_samples` and the columns of X."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.base import BaseEstimator

from sktransfer import Backbone, FineTuneClassifier, FineTuneRegressor, ImageFeaturizer, MultiTaskFineTuner
from sktransfer.samples.validation import check_samples, holds_samples
from sktransfer.testing.samples import make_samples


def test_check_samples_stores_and_compares_columns():
    estimator = BaseEstimator()
    check_samples(estimator, np.zeros((2, 9)), "image", reset=True)
    assert estimator.n_features_in_ == 9
    with pytest.raises(ValueError, match="expecting 9 features"):
        check_samples(estimator, np.zeros((2, 4)), "image", reset=False)


@pytest.mark.parametrize("frame", [pd.DataFrame, pl.DataFrame])
def test_check_samples_stores_the_column_name_of_a_frame(frame):
    estimator = BaseEstimator()
    samples = check_samples(estimator, frame({"text": ["a", "b"]}), "text", reset=True)
    assert [samples.load(0), samples.load(1)] == ["a", "b"]
    assert list(estimator.feature_names_in_) == ["text"]
    with pytest.raises(ValueError, match="feature names"):
        check_samples(estimator, frame({"other": ["a"]}), "text", reset=False)


def test_check_samples_of_a_list_removes_stored_columns():
    estimator = BaseEstimator()
    check_samples(estimator, pd.DataFrame({"text": ["a"]}), "text", reset=True)
    check_samples(estimator, ["a"], "text", reset=True)
    assert not hasattr(estimator, "feature_names_in_")
    assert not hasattr(estimator, "n_features_in_")


def test_check_samples_accepts_images_of_other_height():
    estimator = BaseEstimator()
    check_samples(estimator, np.zeros((2, 5, 5)), "image", reset=True)
    assert len(check_samples(estimator, np.zeros((2, 7, 7)), "image", reset=False)) == 2


@pytest.mark.parametrize("frame", [pd.DataFrame, pl.DataFrame])
@pytest.mark.parametrize("second", [["c.png", "d.png"], [None, "d.png"], [1, 2]])
def test_check_samples_of_several_columns_names_them(frame, second):
    X = frame({"front": ["a.png", "b.png"], "back": second})
    for call in (lambda: check_samples(BaseEstimator(), X, "image", reset=True), lambda: ImageFeaturizer().fit(X)):
        with pytest.raises(ValueError, match=r"2 columns, \['front', 'back'\].*X\[\['front'\]\].*Transformer"):
            call()


@pytest.mark.parametrize("dtype", [object, str])
def test_check_samples_of_an_array_of_several_columns_suggests_one(dtype):
    X = np.array([["a.png", "b.png"]] * 2, dtype=dtype)
    with pytest.raises(ValueError, match=r"X is an array of 2 columns; images .* Select it, X\[:, 0\]"):
        check_samples(BaseEstimator(), X, "image", reset=True)


@pytest.mark.parametrize("to", [str, Path])
def test_check_samples_of_a_folder_suggests_load_image_folder(tmp_path: Path, to):
    message = rf"X is a folder, '{tmp_path}', not .*: X, y = load_image_folder\('{tmp_path}'\); else list\(Path\("
    with pytest.raises(ValueError, match=message):
        check_samples(BaseEstimator(), to(tmp_path), "image", reset=True)
    with pytest.raises(ValueError, match=r"X is a pattern, '.*\*\.png', not a list .*sorted\(glob\.glob\(X\)\)"):
        check_samples(BaseEstimator(), to(tmp_path / "*.png"), "image", reset=True)
    with pytest.raises(ValueError, match=r"not a list of images: wrap it in a list, \[X\]"):
        check_samples(BaseEstimator(), to(tmp_path / ("long" * 99)), "image", reset=True)


def test_check_samples_of_one_image_after_a_fit_on_images():
    featurizer = ImageFeaturizer().fit(np.zeros((2, 8, 8), np.uint8))
    image = np.zeros((8, 8), np.uint8)
    with pytest.raises(ValueError, match=r"shape \(8, 8\).*not fitted on flat rows: pass X\[None\] for one image"):
        featurizer.transform(image)
    assert len(featurizer.transform(image[None])) == 1
    rows = ImageFeaturizer().fit(np.zeros((2, 64)))
    assert len(rows.transform(np.zeros((64, 64)))) == 64  # flat rows as in fit


PHOTOS, GRADES = make_samples("image", 12)
REVIEWS, _ = make_samples("text", 12)
JOINED = Backbone.join({"text": "tiny/bert", "title": "tiny/bert"})


@pytest.mark.parametrize(
    ("backbone", "X", "y", "kind"),
    [
        ("tiny/cnn", GRADES, PHOTOS, "images"),
        ("tiny/cnn", np.arange(12) % 2, np.stack([np.asarray(photo)[:8, :8] for photo in PHOTOS]), "images"),
        ("tiny/bert", np.arange(12) % 2, REVIEWS, "texts"),
        ("tiny/bert", np.arange(12) / 2, pd.Series([*REVIEWS[:11], "a film that is fine"]), "texts"),
        ("tiny/bert", np.arange(12) % 2, pd.DataFrame({"text": REVIEWS}), "texts"),
        (JOINED, GRADES, pl.DataFrame({"text": REVIEWS, "title": GRADES}), "joined rows"),
    ],
    ids=["photos", "arrays", "texts", "Series", "one column", "joined rows"],
)
def test_holds_samples_names_swapped_arguments(backbone, X, y, kind):
    make = FineTuneRegressor if isinstance(y, pd.Series) else FineTuneClassifier
    with pytest.raises(ValueError, match=f"y holds {kind} and X does not, .*: fit takes the {kind} first. About X: "):
        make(backbone, max_epochs=0).fit(X, y)


@pytest.mark.parametrize("frame", [pd.DataFrame, pl.DataFrame])
@pytest.mark.parametrize("backbone", ["tiny/bert", "tiny/cnn", JOINED], ids=["text", "image", "joined"])
def test_holds_samples_of_frames_of_targets_keeps_the_error_of_the_samples(frame, backbone):
    targets = frame({"genre": GRADES, "stars": list(range(12))})
    with pytest.raises(ValueError, match=r"X is (empty|a list)"):
        MultiTaskFineTuner(backbone, max_epochs=0).fit([], targets)


def test_holds_samples_of_paths(tmp_path: Path):
    path = tmp_path / "a.png"
    path.touch()
    assert holds_samples([path], "image")
    assert holds_samples(np.array([str(path)]), "image")
    assert not holds_samples(["no such file"], "image")


@pytest.mark.parametrize("y", [GRADES, np.arange(12), np.eye(3), [], {}, None, 3, {"a": 1}, np.empty((0, 3))], ids=repr)
@pytest.mark.parametrize("modality", ["image", "text"])
def test_holds_samples_is_false_for_targets(y, modality):
    assert not holds_samples(y, modality)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_check_samples_asks_in_fit_whether_three_maps_are_one_image(dtype):
    X = np.zeros((3, 32, 32), dtype)
    with pytest.raises(
        ValueError, match=r"one colour image with its channels first, or 3 grey images\? Pass np.moveaxis"
    ):
        ImageFeaturizer().fit(X)
    one, grey = np.moveaxis(X, 0, -1)[None], X[..., None]
    assert ImageFeaturizer().fit_transform(one).shape == (1, 512)
    assert ImageFeaturizer().fit(grey).transform(X).shape == (3, 512)  # a last batch of three
    assert ImageFeaturizer().fit_transform(np.zeros((3, 32, 32), np.uint8)).shape == (3, 512)
