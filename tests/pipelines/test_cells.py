"""Kinds of columns, recognized from their cells."""

from __future__ import annotations

import datetime
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from PIL import Image

from sktransfer.exceptions import InvalidParameterError, InvalidSampleError
from sktransfer.pipelines.cells import Cells, default_backbone, recognize, recognize_samples

N = 40
WORDS = ["good", "bad", "film", "plot", "long", "dull", "great"]
TEXTS = [" ".join(np.random.default_rng(row).choice(WORDS, 5)) for row in range(N)]
PIXELS = np.zeros((4, 4), np.uint8)


def kind_of(values, name="column"):
    return recognize(Cells.of(values, name))[0]


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("text", TEXTS),
        ("text", [None, *TEXTS]),
        ("text", ["a moving film", "a dull, long film"]),
        ("text", [f"Anna{row} Smith{row}" for row in range(N)]),
        ("text", ["这部电影非常好看", "这部电影很无聊啊", "我喜欢这个故事"]),
        ("category", ["Rome", "Oslo", None, "Bern"] * 10),
        ("category", ["master of arts", "bachelor of science"] * 20),
        ("category", ["Rome", "Oslo"]),
        ("category", [True, False, None]),
        ("category", ["yes", None]),
        ("category", [f"01{row % 7}67" for row in range(N)]),
        ("number", [0.5, None, 2.0]),
        ("number", [3, 4, 3]),
        ("number", [Decimal("0.5"), Decimal(1)]),
        ("number", ["1.5", "-2", "1e3"]),
        ("number", [float("inf"), 1.0]),
        ("number", list(range(5))),
        ("number", [5.0, None]),
        ("date", [datetime.date(2024, 5, 31), datetime.date(2024, 6, 1)]),
        ("date", [pd.Timestamp("2024-05-31"), None, pd.Timestamp("2025-05-31")]),
        ("date", ["2024-05-31", "2024-06-01 12:00:05"]),
        ("image", [PIXELS, None, PIXELS]),
        ("image", [np.zeros((2, 3, 3)), np.zeros((5, 5, 3))]),
        ("image", [torch.zeros(3, 4, 4)]),
        ("image", [Image.new("L", (4, 4))] * 2),
        ("image", [b"\x89PNG"] * 2),
        ("image", [{"bytes": b"\x89PNG", "path": None}] * 2),
        ("number", [*(str(row / 7) for row in range(N)), "?"]),
        ("number", ["", *(str(row / 7) for row in range(9))]),
        ("category", ["?", "?", *(str(row / 7) for row in range(9))]),
        ("category", [f"{9 - row % 9 + row % 2}1067" for row in range(N)] + ["01067"]),
        ("date", [*(f"2024-05-{row:02}" for row in range(1, 32)), "unknown", "01.06.2024"]),
        ("drop", [None, float("nan"), pd.NA]),
        ("drop", ["x"] * 5),
        ("drop", [2.0] * 5),
        ("drop", [True] * 5),
        ("drop", [datetime.date(2024, 5, 31)] * 3),
        ("drop", [f"id-{row}" for row in range(N)]),
        ("drop", list(range(N))),
        ("drop", list(range(1, N + 1))),
        ("drop", [f"https://example.org/{row}.jpg" for row in range(N)]),
        ("drop", [[1.0, 2.0]] * 3),
        ("drop", [{"a": 1}] * 3),
        ("drop", [datetime.timedelta(1)] * 3),
    ],
)
def test_recognize_kinds_of_cells(kind, values):
    assert kind_of(values) == kind


def test_recognize_names_cells_that_count_as_missing():
    numbers = [str(row / 7) for row in range(N)]
    assert recognize(Cells.of([*numbers, None, "n/a"], "size")) == (
        "number",
        f"numbers, and 1 of {N + 1} cells that is no number, in row {N + 1}: 'n/a'",
    )


@pytest.mark.parametrize("name", ["id", "customer_id", "customerId", "Unnamed: 0", "order-id", "UUID"])
def test_recognize_identifiers_by_name(name):
    numbers = np.random.default_rng(0).permutation(1000)[:N].tolist()
    assert kind_of(numbers, name) == "drop"
    assert kind_of([*numbers, numbers[0]], name) == "number"  # repeated
    assert kind_of(numbers, "width") == "number"
    assert kind_of(numbers, "humidity") == "number"


def test_recognize_paths_that_exist(tmp_path):
    paths = [tmp_path / f"{row}.PNG" for row in range(3)]
    paths[1].touch()
    assert kind_of(paths) == kind_of(list(map(str, paths))) == "image"
    (tmp_path / "a.txt").touch()
    kind, reason = recognize(Cells.of([str(tmp_path / "a.txt")] * 2))
    assert kind == "drop"
    assert "without the suffix of an image" in reason


@pytest.mark.parametrize("to", [str, Path])
def test_recognize_names_paths_that_do_not_exist(to):
    with pytest.raises(
        InvalidSampleError, match=r"row 1: column 'photo' .*'photos/0.jpg' is no existing file"
    ) as caught:
        kind_of([None, *(to(f"photos/{row}.jpg") for row in range(3))], "photo")
    assert "[os.path.join(folder, path) for path in X['photo']]" in str(caught.value)


def test_recognize_names_a_cell_that_is_no_path_among_paths():
    with pytest.raises(
        InvalidSampleError, match=r"row 1: column 'photo' holds 'n/a', .* row 0 .*'a.jpg': 2 of 4 cells"
    ):
        kind_of(["a.jpg", "n/a", "n/a", "b.jpg"], "photo")
    assert kind_of([*TEXTS, "see photo.jpg"]) == "text"  # a few texts that end with a path are texts


def test_recognize_names_cells_of_other_types():
    with pytest.raises(
        InvalidSampleError, match=r"row 2: column 'size' holds a text, 'big', and in row 0 a number, 1.5"
    ):
        kind_of([1.5, None, "big"], "size")


def test_cells_of_a_long_column_are_a_sample_at_equal_distances():
    cells = Cells.of([None, *range(10_000)], "size")
    assert len(cells.values) == 500
    assert (cells.values[0], cells.rows[0], cells.rows[-1]) == (0, 1, 10_000)
    assert (cells.n_rows, cells.n_missing) == (10_001, 1)


@pytest.mark.parametrize(
    ("modality", "X"),
    [
        ("text", ["yes", "no"]),
        ("text", pd.Series(["2024-05-31", None])),
        ("text", np.array(["a", "b"])),
        ("image", np.zeros((2, 4, 4))),
        ("image", torch.zeros(2, 3, 4, 4)),
        ("image", [PIXELS] * 2),
        ("image", pd.Series([PIXELS] * 2)),
    ],
    ids=str,
)
def test_recognize_samples_of_containers(modality, X):
    assert recognize_samples(X, "kinds") == modality


@pytest.mark.parametrize(
    ("X", "error", "message"),
    [
        (np.zeros((5, 64)), InvalidParameterError, "flat rows of pixels, or columns of numbers.*modality='image'"),
        ([1, 2], InvalidParameterError, "table of numbers"),
        ([None, None], InvalidParameterError, "neither images nor texts: all of its 2 values are missing"),
        ([{"a": 1}], InvalidParameterError, "neither images nor texts: cells of type dict"),
        ([], ValueError, r"0 sample\(s\)"),
        ("a film", ValueError, "X is one str"),
        (".", ValueError, "X is a folder"),
        ({"a": [1]}, ValueError, r"pass pandas.DataFrame\(X\)"),
        (np.array([["a", 1]], dtype=object), ValueError, "pass a DataFrame"),
    ],
    ids=str,
)
def test_recognize_samples_explains_what_it_does_not_take(X, error, message):
    with pytest.raises(error, match=message):
        recognize_samples(X, "modality")


@pytest.mark.parametrize(
    "X", [np.zeros((5, 64)), [1, 2], [None], [], "a film", {"a": [1]}, None, 3, ["a.jpg", "no path"]]
)
def test_default_backbone_of_what_is_no_text_is_that_of_images(X):
    assert default_backbone(X) == "tiny/cnn"
    assert default_backbone(TEXTS) == default_backbone(pd.DataFrame({"review": [None, *TEXTS]})) == "tiny/bert"


def test_default_backbone_of_several_columns_is_that_of_the_first_with_samples():
    frame = pd.DataFrame({"size": range(N), "review": TEXTS, "reply": TEXTS})
    assert default_backbone(frame) == default_backbone(pl.from_pandas(frame)) == "tiny/bert"
    assert default_backbone(pd.DataFrame({"size": range(N), "photo": [PIXELS] * N})) == "tiny/cnn"


def test_recognize_samples_refuses_addresses_of_images():
    with pytest.raises(InvalidSampleError, match=r"row 0: 'https://example.org/0.jpg' .*download the files"):
        recognize_samples([f"https://example.org/{row}.jpg" for row in range(N)], "kinds")
    assert recognize_samples([f"https://example.org/{row}.html" for row in range(N)], "kinds") == "text"
