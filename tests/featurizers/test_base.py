"""Behaviour that the image and text featurizers share."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from sklearn.callback import ProgressBar
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

from sktransfer import ImageFeaturizer, TextFeaturizer, clear_cache, load_backbone
from sktransfer.backbones.pooling import POOLINGS, Pooling
from sktransfer.exceptions import InvalidParameterError
from sktransfer.testing.samples import make_samples
from tests.helpers.small_bert import small_bert

IMAGES, LABELS = make_samples("image", 12)
TEXTS, _ = make_samples("text", 12)


def by_hand(backbone, images, stop):
    values = torch.stack(backbone.preprocess(images))
    with torch.no_grad():
        return list(backbone.run(values, stop=stop))[-1]


def test_layer_and_pooling_give_the_pooled_output_of_the_stage():
    features = ImageFeaturizer(layer="block3", pooling="max").fit_transform(IMAGES)
    expected = by_hand(load_backbone("tiny/cnn"), IMAGES, 4).amax((2, 3)).numpy()
    np.testing.assert_allclose(features, expected, atol=1e-5 * np.abs(expected).max())


def test_layer_list_concatenates_in_the_order_given():
    one = ImageFeaturizer(layer=0).fit_transform(IMAGES)
    other = ImageFeaturizer(layer="top").fit_transform(IMAGES)
    both = ImageFeaturizer(layer=["top", 0]).fit_transform(IMAGES)
    np.testing.assert_array_equal(both, np.concatenate([other, one], axis=1))
    assert ImageFeaturizer(layer="all").fit_transform(IMAGES).shape == (12, 32 + 64 + 64 + 128 + 128 + 192 + 512)


def test_cache_computes_each_sample_once_in_a_grid_search():
    backbone = load_backbone("tiny/cnn", weights="random", seed=12345)
    seen = []
    hook = backbone.stages[0].register_forward_hook(lambda module, args, out: seen.append(len(out)))
    pipeline = make_pipeline(ImageFeaturizer(backbone), LogisticRegression())
    GridSearchCV(pipeline, {"logisticregression__C": [0.1, 1, 10]}, cv=3).fit(IMAGES, LABELS)
    cached = sum(seen)
    ImageFeaturizer(backbone, cache=None).fit_transform(IMAGES)
    hook.remove()
    assert cached <= len(IMAGES) + 1  # one blank image counts the features
    assert sum(seen) - cached >= len(IMAGES)


def change_array(images):
    images[3, 0, 0, 0] = 1 - images[3, 0, 0, 0]


def change_picture(images):
    images[3].putpixel((0, 0), (1, 2, 3))


def change_arrays(images):
    images[3][0, 0, 0] = 1 - images[3][0, 0, 0]


def change_text(texts):
    texts[3] = texts[3] + " not"


CHANGES = {
    "array": (ImageFeaturizer, lambda: np.stack(IMAGES), change_array),
    "arrays": (ImageFeaturizer, lambda: [np.array(image) for image in IMAGES], change_arrays),
    "pictures": (ImageFeaturizer, lambda: [Image.fromarray(np.uint8(255 * image)) for image in IMAGES], change_picture),
    "texts": (TextFeaturizer, lambda: list(TEXTS), change_text),
    "texts in an array": (TextFeaturizer, lambda: np.array(TEXTS, dtype=object), change_text),
}


@pytest.mark.parametrize("name", CHANGES)
def test_transform_sees_samples_that_change_in_place(name):
    kind, make, change = CHANGES[name]
    X = make()
    featurizer = kind(layer=1).fit(X)
    before = [featurizer.transform(X) for _ in range(2)][1]
    change(X)
    after = featurizer.transform(X)
    np.testing.assert_array_equal(after, kind(layer=1, cache=None).fit_transform(X))
    assert [row for row in range(len(X)) if not np.array_equal(before[row], after[row])] == [3]


def test_transform_is_equal_with_and_without_cache():
    plain = ImageFeaturizer(cache=None).fit_transform(IMAGES)
    stored = ImageFeaturizer().fit(IMAGES[:5]).transform(IMAGES)
    np.testing.assert_allclose(stored, plain, atol=1e-5 * np.abs(plain).max())


@pytest.mark.parametrize(
    ("parameters", "match"),
    [
        ({"backbone": "tiny/cmm"}, "tiny/cnn"),
        ({"layer": 7}, "7 stages"),
        ({"layer": "block7"}, "block5"),
        ({"layer": []}, "at least one"),
        ({"pooling": "last_token"}, "average"),
        ({"pooling": "class_token"}, "class token"),
        ({"batch_size": 0}, "batch_size"),
        ({"device": "gpu"}, "device"),
        ({"cache": 5}, "cache=5 must be 'memory', a folder"),
        ({"cache": "None"}, "cache='None'"),
        ({"precision": "double"}, "precision='double' must be one of"),
        ({"weights": "imagenet"}, "imagenet"),
        ({"preprocess": {"size": 3}}, "resize"),
        ({"backbone": 3}, "backbone"),
    ],
)
def test_fit_names_invalid_parameters_and_allowed_values(parameters, match):
    with pytest.raises((ValueError, LookupError, OSError), match=match):
        ImageFeaturizer(**parameters).fit(IMAGES)


def test_fit_names_the_wrong_modality_of_backbone():
    with pytest.raises(InvalidParameterError, match="takes texts, ImageFeaturizer featurizes images"):
        ImageFeaturizer("hf/" + small_bert()).fit(IMAGES)
    with pytest.raises(InvalidParameterError, match="takes images, TextFeaturizer featurizes texts"):
        TextFeaturizer("tiny/cnn").fit(TEXTS)


def test_fit_with_an_estimator_as_backbone_points_to_backbone_():
    with pytest.raises(InvalidParameterError, match="backbone_"):
        ImageFeaturizer(ImageFeaturizer().fit(IMAGES)).fit(IMAGES)


@pytest.mark.process
@pytest.mark.loky
def test_grid_search_over_backbone_layer_and_pooling():
    pipeline = make_pipeline(ImageFeaturizer(), LogisticRegression(max_iter=500))
    grid = {
        "imagefeaturizer__backbone": ["tiny/cnn", load_backbone("tiny/cnn", weights="random")],
        "imagefeaturizer__layer": [0, "block3", -1],
        "imagefeaturizer__pooling": ["average", "grid2"],
    }
    search = GridSearchCV(pipeline, grid, cv=2, n_jobs=2, error_score="raise").fit(IMAGES, LABELS)
    assert len(search.cv_results_["params"]) == 12
    assert search.best_score_ > 0.9


def test_progress_bar_callback_nests_through_grid_search_and_pipeline():
    pipeline = make_pipeline(ImageFeaturizer(), LogisticRegression())
    search = GridSearchCV(pipeline, {"logisticregression__C": [1, 10]}, cv=2).set_callbacks(ProgressBar())
    assert search.fit(IMAGES, LABELS).best_score_ > 0.9


def test_fit_transform_reports_batches_to_callbacks():
    class Listener:
        max_propagation_depth = None
        tasks: ClassVar[list[str]] = []

        def setup(self, estimator, context): ...
        def teardown(self, estimator, context): ...
        def on_fit_task_begin(self, estimator, context): ...
        def on_fit_task_end(self, estimator, context):
            self.tasks.append(context.task_name)

    ImageFeaturizer(cache=None, batch_size=4).set_callbacks(Listener()).fit_transform(IMAGES)
    assert Listener.tasks.count("batch") == 3
    assert Listener.tasks[-1] == "fit"


def test_verbose_shows_a_progress_bar(capfd):
    ImageFeaturizer(verbose=1).fit_transform(IMAGES)
    assert "12/12" in capfd.readouterr().err


def test_fit_transform_of_a_path_column_in_column_transformer(tmp_path):
    from PIL import Image

    paths = []
    for i, image in enumerate(IMAGES):
        paths.append(tmp_path / f"{i}.png")
        Image.fromarray((image * 255).astype(np.uint8)).save(paths[-1])
    frame = pd.DataFrame({"path": [str(path) for path in paths], "n": range(12)})
    columns = ColumnTransformer([("img", ImageFeaturizer(), ["path"]), ("n", "passthrough", ["n"])])
    assert make_pipeline(columns, LogisticRegression(max_iter=1000)).fit(frame, LABELS).score(frame, LABELS) == 1
    assert columns.fit_transform(frame).shape == (12, 513)


def test_fit_transform_with_default_parameters():
    assert ImageFeaturizer().fit_transform(IMAGES).shape == (12, 512)
    assert TextFeaturizer().fit_transform(TEXTS).shape == (12, 160)


@pytest.mark.parametrize(("cache", "n_pooled"), [(None, 1), ("memory", 5)])
def test_transform_without_a_cache_pools_only_the_layer_that_is_asked_for(cache, n_pooled, monkeypatch):
    pooled = []

    def first(values, mask, prefix_tokens):
        pooled.append(len(values))
        return values[:, 0]  # (n, channels)

    counting = Pooling(name="counting", function=first, modalities=("text",), cheap=True)
    monkeypatch.setitem(POOLINGS, "counting", counting)
    featurizer = TextFeaturizer(layer=-1, pooling="counting", cache=cache).fit(["one text"])
    pooled.clear()
    clear_cache()
    featurizer.transform(["a good film", "a bad film"])
    assert pooled == [2] * n_pooled
