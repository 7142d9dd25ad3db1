"""`on_error` of image estimators."""

from __future__ import annotations

import io
import pickle
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.utils import get_tags
from skorch.callbacks import Callback

from sktransfer import (
    FineTuneClassifier,
    ImageFeaturizer,
    TextFeaturizer,
    cache_info,
    clear_cache,
    find_bad_images,
)
from sktransfer.exceptions import InvalidParameterError, InvalidSampleError, InvalidSampleWarning
from tests.helpers.dirty_images import PICTURE, encoded
from tests.helpers.toys import image_backbone

N = 24
BAD = [0, 5, 6, 7, 17, 23]
GOOD = [row for row in range(N) if row not in BAD]


@pytest.fixture
def paths(tmp_path):
    """Two kinds of images, and six files that are not images."""
    rng = np.random.default_rng(0)
    found = []
    for row in range(N):
        pixels = (PICTURE * rng.uniform(0.6, 1)).astype(np.uint8)
        path = tmp_path / f"{row}.png"
        path.write_bytes(encoded(pixels if row % 2 else pixels[::-1], "PNG"))
        found.append(str(path))
    for row in BAD[:4]:
        Path(found[row]).write_bytes(Path(found[row]).read_bytes()[:100])
    Path(found[17]).unlink()
    Path(found[23]).write_bytes(b"")
    return found


Y = np.arange(N) % 2


@pytest.fixture(params=[1, 2], ids=["one thread", "two threads"])
def n_threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.mark.parametrize(("cache", "batch_size"), [(None, 1), (None, 4), ("memory", "auto"), ("folder", 1)])
def test_on_error_keeps_valid_rows_unchanged(paths, tmp_path, cache, batch_size, n_threads):
    clear_cache()
    cache = tmp_path / "cache" if cache == "folder" else cache
    alone = ImageFeaturizer(cache=None, batch_size=batch_size).fit_transform([paths[row] for row in GOOD])
    featurizer = ImageFeaturizer(cache=cache, batch_size=batch_size, on_error="nan")
    for features in (featurizer.fit_transform(paths), featurizer.transform(paths)):
        assert features.dtype == np.float32
        assert np.flatnonzero(np.isnan(features).all(axis=1)).tolist() == BAD
        if batch_size == 1:
            np.testing.assert_array_equal(features[GOOD], alone)
        else:  # other samples share a batch
            np.testing.assert_allclose(features[GOOD], alone, atol=1e-5 * np.abs(alone).max())


def test_on_error_warn_lists_all_rows_with_path_and_reason_once(paths):
    with pytest.warns(
        InvalidSampleWarning, match="^6 of 24 images cannot be used, so their features are missing:\n"
    ) as warned:
        ImageFeaturizer(on_error="warn").fit_transform(paths)
    (warning,) = [failure.message for failure in warned]
    assert warning.n_samples == N
    assert [(failure.row, failure.path) for failure in warning.failures] == [(row, paths[row]) for row in BAD]
    assert "damaged or cut off" in warning.failures[0].reason
    assert "no such file" in warning.failures[4].reason
    assert "0 bytes" in warning.failures[5].reason
    assert len(str(warning).splitlines()) == 7
    back = pickle.loads(pickle.dumps(warning))
    assert (str(back), back.failures) == (str(warning), warning.failures)
    table = find_bad_images(paths)
    assert table.to_numpy().tolist() == [list(failure[:3]) for failure in warning.failures]


def test_on_error_warn_lists_ten_and_counts_the_rest(tmp_path):
    with pytest.warns(InvalidSampleWarning, match=r"and 15 more\. .*find_bad_images") as warned:
        ImageFeaturizer(on_error="warn").fit_transform([str(tmp_path / f"{row}.png") for row in range(25)])
    assert len(str(warned[0].message).splitlines()) == 12
    assert len(warned[0].message.failures) == 25


def test_on_error_nan_does_not_warn(paths):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.isnan(ImageFeaturizer(on_error="nan").fit_transform(paths)).any()
        featurizer = ImageFeaturizer(on_error="warn").fit(paths)
        assert featurizer.transform([paths[1]]).shape == (1, 512)


def test_on_error_defaults_to_raise_and_is_validated(paths):
    for bad in BAD:
        with pytest.raises(InvalidSampleError, match=f"row 1: '{paths[bad]}'"):
            ImageFeaturizer().fit_transform([paths[1], paths[bad]])
    with pytest.raises(InvalidParameterError, match=r"on_error='ignore' must be one of \('raise', 'warn', 'nan'\)"):
        ImageFeaturizer(on_error="ignore").fit([paths[1]])


@pytest.mark.parametrize("pooling", ["auto", "grid2"])
def test_on_error_without_valid_samples_returns_nan(tmp_path, paths, pooling):
    bad = [paths[row] for row in BAD]
    featurizer = ImageFeaturizer(on_error="nan", pooling=pooling)
    width = ImageFeaturizer(pooling=pooling).fit_transform([paths[1]]).shape[1]
    for fitted in (clone(featurizer).fit(bad), clone(featurizer).fit([paths[1]])):
        features = fitted.transform(bad)
        assert features.shape == (len(BAD), width)
        assert np.isnan(features).all()
        assert len(fitted.get_feature_names_out()) == width
    assert np.isnan(clone(featurizer).fit_transform(bad)).all()


def test_on_error_without_valid_samples_keeps_the_fitted_width(paths):
    backbone = image_backbone()  # accepts images of any size
    featurizer = ImageFeaturizer(backbone, layer=0, pooling="flatten", on_error="nan")
    assert featurizer.fit_transform([paths[1]]).shape == featurizer.transform(["nowhere.png"]).shape


def test_on_error_names_each_of_equal_samples(paths):
    twice = [paths[5], paths[1], paths[5], paths[7]]
    with pytest.warns(InvalidSampleWarning) as warned:
        features = ImageFeaturizer(on_error="warn").fit_transform(twice)
    assert [failure.row for failure in warned[0].message.failures] == [0, 2, 3]
    assert all("damaged or cut off" in failure.reason for failure in warned[0].message.failures)
    assert np.isnan(features).all(axis=1).tolist() == [True, False, True, True]


@pytest.mark.parametrize("kind", ["bytes", "PIL images", "arrays", "one array", "flat rows", "a column"])
def test_on_error_covers_every_kind_of_sample(kind):
    content = encoded(PICTURE, "PNG")
    values = PICTURE[:48, :48, 0] / 255
    nan = np.where(values > 0.5, np.nan, values)
    closed = Image.open(io.BytesIO(content[: len(content) // 2]))
    X = {
        "bytes": [content, content[: len(content) // 2], b"", None, content],
        "PIL images": [Image.fromarray(PICTURE), closed, Image.new("L", (0, 9)), None, Image.fromarray(PICTURE)],
        "arrays": [values, values * 255, nan, np.zeros(5), values],
        "one array": np.stack([values, values * 255, nan, nan, values]),
        "flat rows": np.stack([values, nan, nan, nan, values]).reshape(5, -1),
        "a column": pd.DataFrame({"image": [content, b"no image", b"", None, content]}),
    }[kind]
    for cache in (None, "memory"):
        with pytest.warns(InvalidSampleWarning, match="3 of 5 images") as warned:
            features = ImageFeaturizer(on_error="warn", cache=cache).fit_transform(X)
        assert np.isnan(features).all(axis=1).tolist() == [False, True, True, True, False]
        assert [(failure.row, failure.path) for failure in warned[0].message.failures] == [
            (1, None),
            (2, None),
            (3, None),
        ]
    assert find_bad_images(X)["row"].tolist() == [1, 2, 3]


def test_on_error_treats_other_kinds_as_invalid(paths):
    with pytest.warns(InvalidSampleWarning, match="row 1: the sample is of kind bytes, row 0 of kind path"):
        features = ImageFeaturizer(on_error="warn").fit_transform([paths[1], encoded(PICTURE, "PNG"), paths[2]])
    assert np.isnan(features).all(axis=1).tolist() == [False, True, False]


def test_on_error_caches_no_invalid_sample_and_reads_repaired_files(paths, tmp_path):
    clear_cache()
    backbone = image_backbone(seed=31)
    featurizer = ImageFeaturizer(backbone, on_error="nan", cache=tmp_path / "cache")
    featurizer.fit_transform(paths)
    alone = ImageFeaturizer(backbone, cache=tmp_path / "other")
    alone.fit_transform([paths[row] for row in GOOD])
    assert cache_info(tmp_path / "cache").n_entries == cache_info(tmp_path / "other").n_entries
    Path(paths[5]).write_bytes(encoded(PICTURE, "PNG"))
    features = featurizer.transform(paths)
    assert np.flatnonzero(np.isnan(features).all(axis=1)).tolist() == [row for row in BAD if row != 5]


@pytest.mark.parametrize(
    "final", [make_pipeline(SimpleImputer(), LogisticRegression()), HistGradientBoostingClassifier(min_samples_leaf=2)]
)
def test_on_error_rows_of_nan_pass_through_a_pipeline(paths, final):
    pipeline = make_pipeline(ImageFeaturizer(on_error="nan"), final).fit(paths, Y)
    assert pipeline.score([paths[row] for row in GOOD], Y[GOOD]) == 1
    assert len(pipeline.predict(paths)) == N


@pytest.mark.process
@pytest.mark.loky
def test_on_error_in_grid_search_and_column_transformer(paths):
    frame = pd.DataFrame({"path": paths, "n": range(N)})
    columns = ColumnTransformer([("img", ImageFeaturizer(on_error="nan"), ["path"]), ("n", "passthrough", ["n"])])
    pipeline = make_pipeline(columns.set_output(transform="pandas"), SimpleImputer(), LogisticRegression(max_iter=2000))
    search = GridSearchCV(pipeline, {"logisticregression__C": [0.1, 1]}, cv=2, n_jobs=2, error_score="raise")
    assert search.fit(frame, Y).best_score_ > 0.6


def test_on_error_is_not_a_parameter_for_texts():
    assert "on_error" not in TextFeaturizer().get_params()


def test_fine_tuning_rejects_an_invalid_image_before_training(paths):
    trained = []

    class Listener(Callback):
        def on_train_begin(self, net, **kwargs):
            trained.append("training")

    order = [*GOOD, 5]  # the invalid file comes last
    for head_init in ("probe", "random"):
        classifier = FineTuneClassifier(callbacks=[("told", Listener())], head_init=head_init, random_state=0)
        with pytest.raises(InvalidSampleError, match=f"row {len(GOOD)}: .*5.png' is damaged or cut off"):
            classifier.fit([paths[row] for row in order], Y[order])
    assert trained == []


@pytest.mark.parametrize("on_error", ["raise", "warn", "nan"])
def test_on_error_decides_the_tag_allow_nan(on_error):
    allows = get_tags(ImageFeaturizer(on_error=on_error)).input_tags.allow_nan
    assert allows == (on_error != "raise")
    assert not get_tags(TextFeaturizer()).input_tags.allow_nan


@pytest.mark.parametrize(
    "X",
    [[None, np.ones((4, 4))], [np.nan, np.ones((4, 4))], [np.full((4, 4), np.nan), np.ones((4, 4))], [[np.nan], [1.0]]],
    ids=["None", "NaN", "image of NaN", "flat row of NaN"],
)
def test_on_error_nan_fills_the_rows_of_missing_samples(X):
    features = ImageFeaturizer(cache=None, on_error="nan").fit_transform(X)
    assert np.isnan(features).all(axis=1).tolist() == [True, False]
    assert np.isfinite(features[1]).all()


@pytest.mark.parametrize("on_error", ["raise", "warn", "nan"])
@pytest.mark.parametrize("gap", [None, np.nan, pd.NA], ids=["None", "NaN", "NA"])
def test_missing_nan_fills_rows_without_an_error_or_a_warning(paths, on_error, gap):
    X = pd.DataFrame({"photo": [gap, *(paths[row] for row in GOOD), gap]}, dtype=object)
    alone = ImageFeaturizer("tiny/cnn", layer=2).fit_transform(X[1:-1])
    featurizer = ImageFeaturizer("tiny/cnn", layer=2, on_error=on_error, missing="nan")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        features = featurizer.fit_transform(X)
        assert np.isnan(featurizer.transform(X[:1])).all()
        np.testing.assert_array_equal(featurizer.fit(X).transform(X), features)
    assert np.isnan(features[[0, -1]]).all()
    np.testing.assert_allclose(features[1:-1], alone, atol=1e-6)
    assert get_tags(featurizer).input_tags.allow_nan


def test_missing_nan_leaves_unreadable_images_to_on_error(paths):
    X = [None, *paths]
    with pytest.raises(InvalidSampleError, match=r"row 18: .*there is no such file"):
        ImageFeaturizer("tiny/cnn", layer=2, missing="nan").fit_transform(X)
    with pytest.warns(InvalidSampleWarning, match=f"{len(BAD)} of {N + 1} images") as caught:
        ImageFeaturizer("tiny/cnn", layer=2, on_error="warn", missing="nan").fit_transform(X)
    assert [failure.row for failure in caught[0].message.failures] == [row + 1 for row in BAD]


def test_missing_nan_chooses_layers_by_the_other_rows():
    images = [*np.random.default_rng(0).random((12, 8, 8))]
    images[3] = images[8] = None
    featurizer = ImageFeaturizer("tiny/cnn", missing="nan")
    features = featurizer.fit_transform(images, [0, 1] * 6)
    assert np.flatnonzero(np.isnan(features).all(axis=1)).tolist() == [3, 8]
    rest = [row for row in range(12) if row not in (3, 8)]
    alone = ImageFeaturizer("tiny/cnn").fit([images[row] for row in rest], [row % 2 for row in rest])
    pd.testing.assert_series_equal(featurizer.layer_, alone.layer_)


def test_missing_that_is_not_allowed():
    with pytest.raises(InvalidParameterError, match=r"missing='empty' must be one of \('on_error', 'nan'\)"):
        ImageFeaturizer("tiny/cnn", missing="empty").fit([PICTURE])
    with pytest.raises(InvalidSampleError, match="row 0: the image is missing"):
        ImageFeaturizer("tiny/cnn").fit([None, PICTURE])
