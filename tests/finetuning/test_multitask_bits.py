"""Several tasks on one trunk change no bit that they must not change."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from sktransfer import FineTuneClassifier, FineTuneRegressor, MultiTaskFineTuner
from sktransfer.exceptions import ValidationWarning
from sktransfer.testing.samples import make_samples
from tests.finetuning.test_recipes import RECIPES
from tests.helpers.small_bert import small_bert

BERT = "hf/" + small_bert()
N = 16
TEXTS, MOODS = make_samples("text", N)
IMAGES, _ = make_samples("image", N)
STARS = np.random.default_rng(0).normal(size=N)
LABELS = np.random.default_rng(1).integers(0, 2, (N, 3))
OPTIONS = {"freeze_depth": 2, "layer": -1, "max_epochs": 2, "batch_size": 8, "lr": 1e-4, "random_state": 0}
LIKE_OTHERS = ("ULMFiT", "one cycle", "cosine", "SWA", "WiSE-FT", "SGD")  # change what others change as well
OF_CLASSES = [name for name in RECIPES if name not in LIKE_OTHERS]
OF_NUMBERS = ["plain", "random head", "early stopping", "mixup"]
ON_IMAGES = {**OPTIONS, "freeze_depth": -1}
KNOWN = np.arange(N) % 3 > 0
ignore_left_out = pytest.mark.filterwarnings("ignore:.* known target.*, and the training leaves them out")
pytestmark = pytest.mark.filterwarnings("ignore::sktransfer.exceptions.FreezingWarning", "ignore:the training loss was")


def weights(estimator):
    return {name.replace("heads.y.", "heads.mood."): one for name, one in estimator.net_.module_.state_dict().items()}


def assert_equal_bits(one, other, *, but=()):
    first, second = (
        {name: value for name, value in weights(each).items() if not any(f"heads.{task}." in name for task in but)}
        for each in (one, other)
    )
    assert first.keys() == second.keys()
    assert [name for name, value in first.items() if not torch.equal(value, second[name])] == []


def without_times(estimator):
    return estimator.history_.drop(columns="seconds")


def by_task(recipe):
    return {**recipe, **({"criterion": {"mood": recipe["criterion"]}} if "criterion" in recipe else {})}


@pytest.mark.parametrize("name", OF_CLASSES)
def test_one_task_equals_the_classifier(name):
    options = {**OPTIONS, **RECIPES[name], "max_epochs": 2 if name in ("early stopping", "gradual") else 1}
    single = FineTuneClassifier(BERT, **options).fit(TEXTS, MOODS)
    joint = MultiTaskFineTuner(BERT, **by_task(options)).fit(TEXTS, pd.DataFrame({"mood": MOODS}))
    assert_equal_bits(single, joint)
    pd.testing.assert_frame_equal(without_times(single), without_times(joint))
    np.testing.assert_array_equal(single.predict_proba(TEXTS), joint.predict_proba(TEXTS)[0])
    assert single.n_iter_ == joint.n_iter_


@pytest.mark.parametrize("name", OF_NUMBERS)
def test_one_task_equals_the_regressor(name):
    options = {**OPTIONS, **RECIPES[name], "max_epochs": 1}
    single = FineTuneRegressor(BERT, **options).fit(TEXTS, STARS)
    joint = MultiTaskFineTuner(BERT, **options).fit(TEXTS, {"mood": STARS})
    assert_equal_bits(single, joint)
    pd.testing.assert_frame_equal(without_times(single), without_times(joint))
    np.testing.assert_array_equal(single.predict(TEXTS), joint.predict(TEXTS)["mood"])


@pytest.mark.parametrize(
    "change", [{}, {"layer": "auto"}, {"layer": "auto", "cache": None}, {"class_weight": "balanced"}]
)
def test_one_task_on_images_equals_the_classifier(change):
    options = {**ON_IMAGES, **change}
    single = FineTuneClassifier("tiny/cnn", **options).fit(IMAGES, MOODS)
    joint = MultiTaskFineTuner("tiny/cnn", **options).fit(IMAGES, {"mood": MOODS})
    assert_equal_bits(single, joint)
    if "layer" in change:
        pd.testing.assert_series_equal(single.layer_, joint.layer_)
        assert joint.task("mood").report_ == single.report_


def test_one_task_with_several_labels_equals_the_classifier():
    options = {**ON_IMAGES, "class_weight": "balanced"}
    single = FineTuneClassifier("tiny/cnn", **options).fit(IMAGES, LABELS)
    assert_equal_bits(single, MultiTaskFineTuner("tiny/cnn", **options).fit(IMAGES, {"mood": LABELS}))


@ignore_left_out
@pytest.mark.parametrize(
    ("change", "missing"),
    [({}, np.nan), ({"early_stopping": True, "validation_fraction": 0.25}, pd.NA), ({"layer": "auto"}, None)],
)
def test_rows_without_a_target_equal_rows_left_out(change, missing):
    options = {**ON_IMAGES, **change}
    Y = pd.DataFrame({"mood": pd.Series(MOODS, dtype=object).where(KNOWN, missing)})
    joint = MultiTaskFineTuner("tiny/cnn", **options).fit(IMAGES, Y)
    kept = np.flatnonzero(KNOWN)
    single = FineTuneClassifier("tiny/cnn", **options).fit([IMAGES[row] for row in kept], np.array(MOODS)[kept])
    assert_equal_bits(single, joint)
    assert joint.n_left_out_ == N - len(kept)


@ignore_left_out
@pytest.mark.parametrize("column", ["mood", "stars"])
def test_values_of_rows_without_weight_change_nothing(column):
    values = {"mood": np.array(MOODS, dtype=object), "stars": STARS.astype(object)}
    others = {**values, column: values[column].copy()}
    others[column][~KNOWN] = "good" if column == "mood" else 1e6
    values[column][~KNOWN] = None
    weight = {column: KNOWN.astype(float)}
    fits = [
        MultiTaskFineTuner("tiny/cnn", tasks={"stars": "continuous"}, **ON_IMAGES).fit(IMAGES, one, sample_weight=given)
        for one, given in ((values, None), (others, weight))
    ]
    assert_equal_bits(*fits)


@ignore_left_out
@pytest.mark.parametrize("layer", [-1, "auto", "mix"])
@pytest.mark.parametrize("head_init", ["probe", "random"])
def test_task_weights_of_zero_change_nothing_of_the_others(head_init, layer):
    # The task comes first, is known in rows that no other task knows, and its values are large.
    options = {**OPTIONS, "layer": layer, "head_init": head_init, "early_stopping": True, "validation_fraction": 0.25}
    Y = pd.DataFrame({"mood": pd.Series(MOODS).where(KNOWN), "stars": pd.Series(STARS).where(np.arange(N) % 3 > 1)})
    alone = MultiTaskFineTuner(BERT, **options).fit(TEXTS, Y)
    Y.insert(0, "extra", pd.Series(1e6 * STARS).where(np.arange(N) % 2 > 0))
    joint = MultiTaskFineTuner(BERT, task_weights={"extra": 0}, **options).fit(TEXTS, Y)
    assert list(joint.heads_) == ["extra", "mood", "stars"]
    assert_equal_bits(alone, joint, but=["extra"])
    assert joint.n_left_out_ == alone.n_left_out_ == N - int(KNOWN.sum())
    shared = ["train_loss", "valid_loss", "valid_acc_mood", "valid_r2_stars"]
    pd.testing.assert_frame_equal(alone.history_[shared], joint.history_[shared])
    np.testing.assert_array_equal(alone.predict(TEXTS)["mood"], joint.predict(TEXTS)["mood"])


@pytest.mark.filterwarnings("ignore:.* known target.*, and the training leaves them out")
def test_task_weights_of_zero_for_all_but_one_equal_the_single_task():
    options = {**ON_IMAGES, "early_stopping": True, "validation_fraction": 0.25}
    Y = pd.DataFrame({"stars": pd.Series(STARS).where(~KNOWN), "mood": MOODS})
    joint = MultiTaskFineTuner("tiny/cnn", task_weights={"stars": 0}, **options).fit(IMAGES, Y)
    single = FineTuneClassifier("tiny/cnn", **options).fit(IMAGES, MOODS)
    assert_equal_bits(single, joint, but=["stars"])


def test_order_of_equal_fits_gives_equal_bits():
    Y = {"mood": MOODS, "stars": STARS}
    one, other = (MultiTaskFineTuner(BERT, **OPTIONS).fit(TEXTS, Y) for _ in range(2))
    assert_equal_bits(one, other)
    assert_equal_bits(one, other.fit(TEXTS[::-1], {"stars": STARS[::-1], "mood": MOODS[::-1]}).fit(TEXTS, Y))


@pytest.mark.filterwarnings("error::sktransfer.exceptions.SktransferWarning")
def test_rows_with_a_target_in_any_task_are_kept_without_a_warning():
    Y = pd.DataFrame({"mood": pd.Series(MOODS).where(KNOWN), "stars": pd.Series(STARS).where(~KNOWN)})
    assert MultiTaskFineTuner("tiny/cnn", **ON_IMAGES).fit(IMAGES, Y).n_left_out_ == 0


def test_rows_without_a_target_are_counted_and_named_once():
    Y = pd.DataFrame({"mood": pd.Series(MOODS), "stars": pd.Series(STARS)}).set_index(pd.Index(range(100, 100 + N)))
    Y.loc[[103, 110]] = None
    with pytest.warns(ValidationWarning, match=r"2 of 16 rows have no known target.*103") as caught:
        tuner = MultiTaskFineTuner("tiny/cnn", **ON_IMAGES).fit(IMAGES, Y, sample_weight=(np.arange(N) > 0) * 1.0)
    assert len(caught) == 1
    assert tuner.n_left_out_ == 3


def test_rows_known_only_in_tasks_of_weight_0_are_named():
    Y = pd.DataFrame({"mood": pd.Series(MOODS).where(KNOWN), "stars": pd.Series(STARS)})
    match = r"6 of 16 rows have no known target in a task that is learned \(of weight greater than 0\)"
    with pytest.warns(ValidationWarning, match=match):
        MultiTaskFineTuner("tiny/cnn", task_weights={"stars": 0}, **ON_IMAGES).fit(IMAGES, Y)
