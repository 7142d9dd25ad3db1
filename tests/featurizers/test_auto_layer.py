"""`layer="auto"` of the image and text featurizers."""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest
from joblib import parallel_config
from PIL import Image
from sklearn.base import clone
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_digits
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline

from sktransfer import ImageFeaturizer, TextFeaturizer, clear_cache, load, load_backbone, save
from sktransfer.exceptions import InvalidParameterError, InvalidSampleWarning
from sktransfer.testing.samples import make_samples
from tests.helpers import toys

rng = np.random.default_rng(0)
IMAGES = rng.random((40, 8, 8, 3)).astype(np.float32)
LABELS = np.where(np.arange(40) % 2, "light", "dark")
IMAGES[LABELS == "dark"] *= 0.5
NUMBERS = IMAGES.mean((1, 2, 3))
TEXTS, MOODS = make_samples("text", 12)
LAYERS = [(stage, pooling) for stage in toys.STAGES for pooling in ("average", "grid2")]


def toy(**parameters):
    return ImageFeaturizer(toys.image_backbone(), layer="auto", **parameters)


def test_fit_chooses_by_y():
    featurizer = toy().fit(IMAGES, LABELS)
    assert featurizer.layer_.index.names == ["layer", "pooling"]
    assert set(featurizer.layer_.index) <= set(LAYERS)
    assert featurizer.layer_.sum() == pytest.approx(1)
    assert 1 <= featurizer.strength_ <= 1000
    assert "the targets of 40 samples" in featurizer.report_
    assert make_pipeline(toy(), LogisticRegression()).fit(IMAGES, LABELS).score(IMAGES, LABELS) > 0.9


@pytest.mark.parametrize("made", [toy, lambda: TextFeaturizer(normalize=True)], ids=["images", "texts"])
def test_fit_without_y_is_the_last_layer(made):
    X = IMAGES if isinstance(made(), ImageFeaturizer) else TEXTS
    featurizer, last = made().fit(X), made().set_params(layer=-1).fit(X)
    np.testing.assert_array_equal(featurizer.transform(X), last.transform(X))
    np.testing.assert_array_equal(made().fit_transform(X), last.transform(X))
    assert list(featurizer.get_feature_names_out()) == list(last.get_feature_names_out())
    assert not hasattr(featurizer, "layer_")
    assert not hasattr(featurizer, "strength_")
    assert featurizer.report_ == (
        "layer='auto' is the last layer, as the network gives it, because fit was called without y"
    )
    assert last.report_ == "layer=-1 is fixed"


def test_fit_with_and_without_y_in_turn():
    featurizer = toy().fit(IMAGES, LABELS)
    assert hasattr(featurizer, "layer_")
    assert not hasattr(featurizer.fit(IMAGES), "layer_")
    assert featurizer.transform(IMAGES).shape == (40, len(featurizer.get_feature_names_out()))
    np.testing.assert_array_equal(featurizer.fit_transform(IMAGES, LABELS), toy().fit(IMAGES, LABELS).transform(IMAGES))


def test_fit_with_one_label_weighs_by_depth():
    featurizer = toy().fit(IMAGES, ["a"] * 40)
    assert featurizer.layer_.to_dict() == pytest.approx(
        {("stem", "average"): 1 / 9, ("middle", "average"): 2 / 9, ("top", "average"): 6 / 9}
    )
    assert featurizer.strength_ == 30
    assert featurizer.transform(IMAGES).var(0).sum() == pytest.approx(30, rel=1e-4)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_fit_of_few_samples(n):
    features = toy().fit_transform(IMAGES[:n], LABELS[:n])
    assert features.shape[0] == n
    assert np.isfinite(features).all()


def test_transform_is_the_scaled_output_of_the_layers():
    featurizer = toy().fit(IMAGES, LABELS)
    parts = []
    for (layer, pooling), weight in featurizer.layer_.items():
        one = ImageFeaturizer(toys.image_backbone(), layer=layer, pooling=pooling).fit_transform(IMAGES)
        one = one - one.mean(0)
        parts.append(one * np.sqrt(weight * featurizer.strength_ / (one**2).sum(1).mean()))
    np.testing.assert_allclose(featurizer.transform(IMAGES), np.concatenate(parts, 1), rtol=1e-3, atol=1e-4)


def test_ridge_at_strength_1_is_at_the_found_strength():
    featurizer = toy().fit(IMAGES, NUMBERS)
    features = featurizer.transform(IMAGES)
    one = features * np.sqrt(featurizer.strength_)
    assert (one**2).sum(1).mean() == pytest.approx(1, rel=1e-4)
    expected = Ridge(alpha=featurizer.strength_).fit(one, NUMBERS).predict(one)
    np.testing.assert_allclose(Ridge().fit(features, NUMBERS).predict(features), expected, rtol=1e-3)


@pytest.mark.parametrize("cache", ["memory", None])
def test_fit_transform_is_fit_and_transform(cache):
    clear_cache()
    both = toy(cache=cache).fit_transform(IMAGES, LABELS)
    fitted = toy(cache=cache).fit(IMAGES, LABELS)
    np.testing.assert_array_equal(both, fitted.transform(IMAGES))
    np.testing.assert_array_equal(both, fitted.fit(IMAGES, LABELS).transform(IMAGES))


def test_fit_transform_runs_each_sample_once_without_a_cache():
    backbone = toys.image_backbone(seed=5)
    seen = []
    hook = backbone.stages[0].register_forward_hook(lambda module, args, out: seen.append(len(out)))
    ImageFeaturizer(backbone, layer="auto", cache=None).fit_transform(IMAGES, LABELS)
    hook.remove()
    assert sum(seen) == len(IMAGES) + 1  # one shows which stages have positions


def test_fit_transform_of_more_rows_than_layers_are_chosen_by(monkeypatch):
    monkeypatch.setattr("sktransfer.engine.choose_layers.MOST_ROWS", 10)
    clear_cache()
    both = toy(cache=None).fit_transform(IMAGES, LABELS)
    fitted = toy(cache=None).fit(IMAGES, LABELS)
    np.testing.assert_array_equal(both, fitted.transform(IMAGES))
    few = np.linspace(0, 39, 10).round().astype(int)
    pd.testing.assert_series_equal(toy().fit(IMAGES[few], LABELS[few]).layer_, fitted.layer_)


def test_grid_search_shares_the_pass_and_chooses_inside_each_fold():
    backbone = toys.image_backbone(seed=6)
    seen = []
    hook = backbone.stages[0].register_forward_hook(lambda module, args, out: seen.append(len(out)))
    pipeline = make_pipeline(ImageFeaturizer(backbone, layer="auto"), LogisticRegression())
    search = GridSearchCV(pipeline, {"logisticregression__C": [0.1, 1, 10]}, cv=3).fit(IMAGES, LABELS)
    hook.remove()
    assert sum(seen) == len(IMAGES) + 1  # one shows which stages have positions
    assert search.best_score_ > 0.8
    grid = {"imagefeaturizer__layer": [-1, "auto"]}
    assert len(GridSearchCV(pipeline, grid, cv=2).fit(IMAGES, LABELS).cv_results_["params"]) == 2


def test_cross_val_score_in_threads():
    pipeline = make_pipeline(toy(), LogisticRegression())
    one = cross_val_score(pipeline, IMAGES, LABELS, cv=2)
    with parallel_config("threading", n_jobs=2):
        two = cross_val_score(pipeline, IMAGES, LABELS, cv=2)
    np.testing.assert_array_equal(one, two)


def test_get_feature_names_out():
    featurizer = toy().set_output(transform="pandas").fit(IMAGES, LABELS)
    names = featurizer.get_feature_names_out()
    assert len(set(names)) == len(names) == featurizer.transform(IMAGES).shape[1]
    stage, pooling = featurizer.layer_.index[0]
    assert names[0] == f"imagefeaturizer_{stage}_{pooling}_0"
    assert list(featurizer.transform(IMAGES).columns) == list(names)


def test_layer_and_strength_only_with_auto():
    featurizer = ImageFeaturizer(toys.image_backbone(), layer=-1).fit(IMAGES, LABELS)
    assert not hasattr(featurizer, "layer_")
    assert not hasattr(featurizer, "strength_")
    assert hasattr(featurizer.set_params(layer="auto").fit(IMAGES, LABELS), "strength_")
    assert not hasattr(featurizer.set_params(layer=-1).fit(IMAGES, LABELS), "layer_")
    assert featurizer.get_feature_names_out()[0] == "imagefeaturizer0"


def test_clone_pickle_save(tmp_path):
    featurizer = ImageFeaturizer(layer="auto").fit(IMAGES, LABELS)
    features = featurizer.transform(IMAGES)
    assert not hasattr(clone(featurizer), "layer_")
    save(featurizer, tmp_path / "featurizer")
    for other in (pickle.loads(pickle.dumps(featurizer)), load(tmp_path / "featurizer")):
        np.testing.assert_array_equal(other.transform(IMAGES), features)
        pd.testing.assert_series_equal(other.layer_, featurizer.layer_)
        assert other.strength_ == featurizer.strength_
        assert list(other.get_feature_names_out()) == list(featurizer.get_feature_names_out())


def test_frozen_estimator():
    featurizer = toy().fit(IMAGES, LABELS)
    frozen = make_pipeline(FrozenEstimator(featurizer), LogisticRegression()).fit(IMAGES[:20], LABELS[:20])
    pd.testing.assert_series_equal(frozen[0].layer_, featurizer.layer_)


def test_on_error_leaves_unreadable_images_out_of_the_choice(tmp_path):
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no image")
    images = [str(tmp_path / f"{i}.png") for i in range(40)] + [str(bad)]
    for path, image in zip(images, (IMAGES * 255).astype(np.uint8), strict=False):
        Image.fromarray(image).save(path)
    labels = [*LABELS, "dark"]
    featurizer = toy(on_error="warn")
    with pytest.warns(InvalidSampleWarning, match="bad.png"):
        features = featurizer.fit_transform(images, labels)
    assert np.isnan(features[-1]).all()
    assert np.isfinite(features[:-1]).all()
    expected = toy().fit(images[:-1], LABELS)
    pd.testing.assert_series_equal(featurizer.layer_, expected.layer_)
    np.testing.assert_array_equal(features[:-1], expected.transform(images[:-1]))
    assert np.isnan(toy(on_error="nan").fit(images, labels).transform(images)[-1]).all()
    with pytest.raises(ValueError, match="none of 2 images could be read"):
        toy(on_error="nan").fit([str(bad)] * 2, ["a", "b"])


def test_text_featurizer_in_a_column_transformer():
    frame = pd.DataFrame({"text": TEXTS, "length": [float(len(text)) for text in TEXTS]})
    columns = make_column_transformer((TextFeaturizer(layer="auto"), "text"), ("passthrough", ["length"]))
    model = make_pipeline(columns, LogisticRegression(max_iter=1000)).fit(frame, MOODS)
    assert set(model[0].named_transformers_["textfeaturizer"].layer_.index.get_level_values("pooling")) == {"mean"}


def test_normalize_is_refused_with_y():
    with pytest.raises(InvalidParameterError, match=r"normalize=True .* if y is given"):
        TextFeaturizer(normalize=True).fit(TEXTS, MOODS)
    with pytest.raises(InvalidParameterError, match=r"normalize=True .* if y is given"):
        TextFeaturizer(normalize=True).fit_transform(TEXTS, MOODS)
    TextFeaturizer(layer="auto", normalize=False).fit(TEXTS, MOODS)


@pytest.mark.parametrize(
    ("y", "match"),
    [
        (LABELS[:30], "inconsistent numbers"),
        ([*LABELS[:39], None], "row 39 is missing"),
        (np.zeros((40, 2, 2)), "shape"),
    ],
)
def test_fit_refuses_y(y, match):
    with pytest.raises(ValueError, match=match):
        toy().fit(IMAGES, y)
    ImageFeaturizer(toys.image_backbone(), layer=-1).fit(IMAGES, y)  # ignored


def test_layer_message_names_auto():
    for layer in ("automatic", 1.5):
        with pytest.raises(InvalidParameterError, match="'auto'"):
            ImageFeaturizer(layer=layer).fit(IMAGES)
    with pytest.raises(InvalidParameterError, match="'auto' is not a stage"):
        load_backbone("tiny/cnn").positions(["auto"])


def test_pooling_is_respected():
    assert set(toy(pooling="max").fit(IMAGES, LABELS).layer_.index.get_level_values("pooling")) == {"max"}
    with pytest.raises(InvalidParameterError, match="class token"):
        toy(pooling="class_token").fit(IMAGES, LABELS)


def test_tags_do_not_require_y():
    assert not toy().__sklearn_tags__().target_tags.required


def test_auto_is_more_accurate_than_the_last_layer():
    X, y = load_digits(return_X_y=True)
    X, y = X[:500] / 16, y[:500]
    last, auto = (
        make_pipeline(ImageFeaturizer(layer=layer), LogisticRegression(max_iter=1000))
        .fit(X[:100], y[:100])
        .score(X[100:], y[100:])
        for layer in (-1, "auto")
    )
    assert auto > last + 0.05
