"""Pipelines built from data."""

from __future__ import annotations

import io
import pickle
import warnings

import numpy as np
import pandas as pd
import polars as pl
import pytest
from PIL import Image
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.multiclass import OneVsRestClassifier
from sklearn.multioutput import MultiOutputClassifier
from sklearn.neighbors import KNeighborsClassifier

from sktransfer import ImageFeaturizer, TextFeaturizer, make_transfer_pipeline
from sktransfer.exceptions import DroppedColumnWarning, InvalidCellWarning, InvalidParameterError, InvalidSampleWarning

PIXELS, DIGITS = load_digits(return_X_y=True)
N = 48
PHOTOS = [*(PIXELS[:N].reshape(-1, 8, 8) * 15).astype(np.uint8)]
FILMS = ["a moving, funny film", "two hours of nothing", "a film to love", "a dull plot, badly told"]
TEXTS = [f"{film}, take {row // 4}" for row, film in enumerate(FILMS * (N // 4))]
MOODS = np.array(["up", "down"] * (N // 2))
NUMBERS = np.random.default_rng(0).normal(size=N)


def table():
    return pd.DataFrame(
        {
            "photo": PHOTOS,
            "review": TEXTS,
            "size": NUMBERS,
            "shop": ["a", "b", "c"] * (N // 3),
            "sold": pd.date_range("2024-05-31", periods=N),
        }
    )


def with_gaps():
    frame = table()
    for row, name in enumerate(frame.columns):
        frame.loc[row, name] = None
    return frame


def test_make_transfer_pipeline_of_texts_and_images():
    texts = make_transfer_pipeline(TEXTS, MOODS)
    assert list(texts.named_steps) == ["text", "model"]
    assert texts.fit(TEXTS, MOODS).score(TEXTS, MOODS) == 1
    images = make_transfer_pipeline(PHOTOS, DIGITS[:N])
    assert list(images.named_steps) == ["image", "model"]
    assert (type(images["image"]), type(images["model"])) == (ImageFeaturizer, LogisticRegression)
    more = [*(PIXELS[N : 2 * N].reshape(-1, 8, 8) * 15).astype(np.uint8)]
    assert images.fit(PHOTOS, DIGITS[:N]).score(more, DIGITS[N : 2 * N]) > 0.7


@pytest.mark.parametrize("to", [lambda frame: frame, pl.from_pandas], ids=["pandas", "polars"])
def test_make_transfer_pipeline_of_a_table(to):
    frame = with_gaps()
    frame["photo"] = frame["photo"].map(lambda image: None if image is None else _png(image))
    X = to(frame)
    pipeline = make_transfer_pipeline(X, MOODS)
    assert isinstance(pipeline["columns"], ColumnTransformer)
    assert [(name, columns) for name, _, columns in pipeline["columns"].transformers] == [
        ("image_photo", ["photo"]),
        ("text_review", ["review"]),
        ("categories", ["shop"]),
        ("numbers", ["size"]),
        ("dates", ["sold"]),
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # missing values are allowed
        predicted = pipeline.fit(X, MOODS).predict(X)
        assert (predicted == MOODS).mean() > 0.9
        again = pickle.loads(pickle.dumps(pipeline))
        np.testing.assert_array_equal(clone(again).fit(X, MOODS).predict(X), predicted)


def _png(image):
    file = io.BytesIO()
    Image.fromarray(image).save(file, "png")
    return file.getvalue()


def test_make_transfer_pipeline_fits_without_a_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make_transfer_pipeline(table(), MOODS).fit(table(), MOODS).predict(table())


def test_make_transfer_pipeline_of_a_row_without_values():
    pipeline = make_transfer_pipeline(table(), MOODS).fit(table(), MOODS)
    empty = pd.DataFrame([[None, None, np.nan, "unknown", pd.NaT]], columns=table().columns)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        features = pipeline[:-1].transform(empty)
    assert np.isfinite(features).all()


def test_make_transfer_pipeline_warns_of_unreadable_images_only():
    X = with_gaps()
    X["photo"] = X["photo"].map(lambda image: None if image is None else _png(image))
    X.at[7, "photo"] = b"no image"
    pipeline = make_transfer_pipeline(X, MOODS)
    with pytest.warns(
        InvalidSampleWarning, match=r"1 of 48 images cannot be used, so its features are missing:\n  row 7: "
    ) as caught:
        pipeline.fit(X, MOODS)
    assert [failure.row for failure in caught[0].message.failures] == [7]


@pytest.mark.parametrize("told", ["photo", "review", "size"])
def test_make_transfer_pipeline_finds_the_column_that_tells_y(told):
    # Other columns are noise. A block of hundreds of features does not outweigh a single number, nor the reverse.
    rng = np.random.default_rng(1)
    n = 240
    label = rng.integers(2, size=n)
    frame = pd.DataFrame(
        {
            "photo": [*(PIXELS[rng.integers(1000, size=n)].reshape(-1, 8, 8) * 15).astype(np.uint8)],
            "review": np.array(TEXTS)[rng.integers(N, size=n)],
            "size": rng.normal(size=n),
        }
    )
    if told == "size":
        frame["size"] = 2 * label + rng.normal(size=n) / 2
    elif told == "review":
        frame["review"] = np.where(label == 1, "a moving, funny film", "two hours of nothing")
    else:
        zeros, ones = (np.flatnonzero(digit == DIGITS) for digit in (0, 1))
        rows = np.where(label == 1, rng.choice(ones, n), rng.choice(zeros, n))
        frame["photo"] = [*(PIXELS[rows].reshape(-1, 8, 8) * 15).astype(np.uint8)]
    pipeline = make_transfer_pipeline(frame, label).fit(frame[:120], label[:120])
    assert pipeline.score(frame[120:], label[120:]) > 0.9


@pytest.mark.parametrize(
    ("y", "model"),
    [
        (MOODS, LogisticRegression),
        (DIGITS[:N], LogisticRegression),
        (2 * NUMBERS, Ridge),
        (np.arange(N), Ridge),
        (np.column_stack([NUMBERS, NUMBERS]), Ridge),
        (np.eye(3, dtype=int)[DIGITS[:N] % 3], OneVsRestClassifier),
        (np.column_stack([DIGITS[:N], DIGITS[:N] % 3]), MultiOutputClassifier),
    ],
    ids=["strings", "digits", "numbers", "counts", "several numbers", "indicators", "several labels"],
)
def test_make_transfer_pipeline_estimator_by_y(y, model):
    pipeline = make_transfer_pipeline(table()[["size"]], y)
    assert type(pipeline["model"]) is model
    assert pipeline.fit(table(), y).predict(table()).shape == np.shape(y)


def test_make_transfer_pipeline_estimator_given():
    X = table()[["size"]]
    assert type(make_transfer_pipeline(X, estimator="regressor")["model"]) is Ridge
    assert type(make_transfer_pipeline(X, estimator="classifier")["model"]) is LogisticRegression
    model = KNeighborsClassifier()
    assert make_transfer_pipeline(X, estimator=model)["model"] is model
    assert list(make_transfer_pipeline(X, estimator=None).named_steps) == ["columns"]


@pytest.mark.parametrize(
    ("estimator", "target"),
    [
        ("auto", "classes"),
        ("classifier", "classes"),
        ("regressor", "numbers"),
        (Ridge(), "numbers"),
        (GridSearchCV(Ridge(), {}), "numbers"),
        (KNeighborsClassifier(), "classes"),
        (None, "auto"),
    ],
    ids=str,
)
def test_make_transfer_pipeline_scales_features_for_the_estimator(estimator, target):
    stars = np.arange(N) % 5 + 1
    pipeline = make_transfer_pipeline(TEXTS, stars, estimator=estimator)
    assert pipeline["text"].target == target
    columns = make_transfer_pipeline(table(), stars, estimator=estimator).get_params()
    assert columns["columns__text_review__target"] == target
    assert columns["columns__image_photo__imagefeaturizer__target"] == target


def test_make_transfer_pipeline_regresses_whole_numbers_as_numbers_with_fractions():
    stars = np.arange(N) % 5 + 1
    whole = make_transfer_pipeline(TEXTS, stars, estimator="regressor").fit(TEXTS, stars)
    fractions = make_transfer_pipeline(TEXTS, stars / 3).fit(TEXTS, stars / 3)
    np.testing.assert_allclose(whole.predict(TEXTS) / 3, fractions.predict(TEXTS), rtol=1e-5)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({}, "y=None leaves open what is predicted"),
        ({"y": "shop"}, r"y='shop' is a str; pass the values: X.drop\(columns='shop'\) as X"),
        ({"y": MOODS, "estimator": "tree"}, r"estimator='tree' must be one of \('auto', 'classifier', 'regressor'\)"),
        ({"y": MOODS, "estimator": LogisticRegression}, r"is a class; pass an object, LogisticRegression\(\)"),
        ({"y": table()["shop"]}, r"y is the column 'shop' of X.*X.drop\(columns='shop'\)"),
        ({"y": with_gaps()["size"]}, "y is the column 'size' of X"),
    ],
    ids=["no y", "name of y", "tree", "class", "column", "column with gaps"],
)
def test_make_transfer_pipeline_parameters_that_are_not_allowed(parameters, message):
    X = with_gaps() if message.endswith("'size' of X") else table()
    with pytest.raises(InvalidParameterError, match=message):
        make_transfer_pipeline(X, **parameters)


def test_make_transfer_pipeline_y_of_another_length():
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        make_transfer_pipeline(TEXTS, MOODS[:5])


def test_make_transfer_pipeline_warns_of_columns_that_are_left_out():
    X = table()[["size"]].assign(id=np.random.default_rng(0).permutation(N), shop="x")
    with pytest.warns(
        DroppedColumnWarning, match=r"left out: 'id' \(.*an identifier\); 'shop' \(the same .*'x'\)"
    ) as told:
        pipeline = make_transfer_pipeline(X, MOODS)
    assert len(told) == 1
    assert [columns for *_, columns in pipeline["columns"].transformers] == [["size"]]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pipeline = make_transfer_pipeline(X, MOODS, kinds={"id": "number", "shop": "drop"})
    assert [columns for *_, columns in pipeline["columns"].transformers] == [["size", "id"]]


@pytest.mark.parametrize(
    ("cells", "advice"),
    [
        ([f"{row % 28 + 1:02}.12.{1960 + row}" for row in range(N)], r"To use them: X\['a'\] = pandas.to_datetime"),
        ([f"{row}%" for row in range(N)], r"To use them: X\['a'\] = X\['a'\].str.replace"),
        ([f"1,{row + 100}" for row in range(N)], r"To use them: X\['a'\] = X\['a'\].str.replace"),
        ([f"${row}.50" for row in range(N)], r"To use them: X\['a'\] = X\['a'\].str.replace"),
        (list(range(N)), "To use them: kinds={'a': 'number'}"),
        (["x"] * N, r"'x'\). The kind 'drop'"),
        ([[1.0]] * N, r"no step reads\). The kind 'drop'"),
    ],
    ids=["dates", "shares", "thousands", "prices", "rows", "constant", "lists"],
)
def test_make_transfer_pipeline_advises_how_to_use_a_column(cells, advice):
    X = pd.DataFrame({"size": NUMBERS, "a": cells})
    with pytest.warns(DroppedColumnWarning, match=advice):
        make_transfer_pipeline(X, MOODS)
    if "str.replace" in advice:
        X["a"] = X["a"].str.replace("[$€£%, ]", "", regex=True).astype(float)
        assert "a" in make_transfer_pipeline(X, MOODS, kinds={"a": "number"})["columns"].transformers[0][2]


@pytest.mark.parametrize(
    ("kind", "cells", "stray"),
    [
        ("number", [str(number) for number in NUMBERS], "?"),
        ("number", [str(number) for number in NUMBERS], " "),
        ("date", table()["sold"].dt.strftime("%Y-%m-%d").tolist(), "unknown"),
    ],
)
def test_make_transfer_pipeline_takes_a_few_other_cells_as_missing(kind, cells, stray):
    X = pd.DataFrame({"told": [*cells[:5], stray, *cells[6:]]})
    missing = pd.DataFrame({"told": [*cells[:5], None, *cells[6:]]})
    with pytest.warns(InvalidCellWarning, match=rf"'told' \(1 of 48 cells that is no {kind}, in row 5: .*kinds="):
        pipeline = make_transfer_pipeline(X, MOODS)
    with pytest.warns(InvalidCellWarning, match="1 of 48 in column 'told', the first in row 5"):
        features = pipeline[:-1].fit_transform(X)
    np.testing.assert_array_equal(features, make_transfer_pipeline(missing, MOODS)[:-1].fit_transform(missing))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make_transfer_pipeline(X, MOODS, kinds={"told": kind})


def test_make_transfer_pipeline_names_a_bad_number_at_predict():
    X = pd.DataFrame({"size": [str(number) for number in NUMBERS]})
    pipeline = make_transfer_pipeline(X, MOODS).fit(X, MOODS)
    with pytest.warns(InvalidCellWarning, match="1 of 2 in column 'size', the first in row 1: 'big'"):
        pipeline.predict(pd.DataFrame({"size": ["1.5", "big"]}))


def test_make_transfer_pipeline_without_a_column_to_use():
    with pytest.raises(InvalidParameterError, match=r"no column of X can be used: 'shop' \(.*kinds={'shop': 'text'}"):
        make_transfer_pipeline(pd.DataFrame({"shop": ["x"] * N}), MOODS)


def test_make_transfer_pipeline_kinds_of_samples():
    X = PIXELS[:N] / 16
    pipeline = make_transfer_pipeline(X, DIGITS[:N], kinds="image").fit(X, DIGITS[:N])
    assert pipeline["image"].n_features_in_ == 64
    with pytest.raises(InvalidParameterError, match=r"kinds='photo' must be one of \('image', 'text'\)"):
        make_transfer_pipeline(X, DIGITS[:N], kinds="photo")


def test_make_transfer_pipeline_backbones():
    pipeline = make_transfer_pipeline(
        table(), MOODS, image_backbone="torchvision/resnet18", text_backbone="hf/someone/model"
    )
    parameters = pipeline.get_params()
    assert parameters["columns__image_photo__imagefeaturizer__backbone"] == "torchvision/resnet18"
    assert parameters["columns__text_review__backbone"] == "hf/someone/model"


def test_make_transfer_pipeline_names_transformers_by_columns():
    frame = pd.DataFrame({"a__b": TEXTS, "a_b": TEXTS, "c_": TEXTS})
    pipeline = make_transfer_pipeline(frame, MOODS)
    assert [name for name, *_ in pipeline["columns"].transformers] == ["text_a_b", "text_a_b2", "text_c"]
    assert pipeline.fit(frame, MOODS).score(frame, MOODS) == 1


def test_make_transfer_pipeline_in_a_search_and_in_html():
    X = table()[["review", "size"]]
    search = GridSearchCV(
        make_transfer_pipeline(X, MOODS), {"columns__text_review__layer": [1, "auto"], "model__C": [0.1, 1]}, cv=2
    ).fit(X, MOODS)
    assert search.best_score_ > 0.9
    assert type(search.best_estimator_["columns"].named_transformers_["text_review"]) is TextFeaturizer
    assert "text_review" in search.best_estimator_._repr_html_()


def test_make_transfer_pipeline_reads_no_image(tmp_path):
    paths = [str(tmp_path / f"{row}.png") for row in range(N)]
    for path in paths:
        with open(path, "w") as file:  # noqa: PTH123
            file.write("no image")
    pipeline = make_transfer_pipeline(pd.DataFrame({"photo": paths}), MOODS)
    assert pipeline["columns"].transformers[0][0] == "image_photo"
