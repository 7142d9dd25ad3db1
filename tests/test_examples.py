"""The example scripts: each runs, leaves its pictures, and stands in the gallery with them."""

from __future__ import annotations

import io
import lzma
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import sktransfer

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
GALLERY = (EXAMPLES / "README.md").read_text(encoding="utf-8")
DATA = os.environ.get("SKTRANSFER_TEST_DATA")
# By script: the smallest sizes at which it still does all that it does.
SMALL = {
    "active_learning.py": ["--seeds", "1", "--rounds", "2"],
    "choose_a_backbone.py": ["--n", "150"],
    "digits.py": ["--seeds", "1"],
    "docstrings.py": ["--seeds", "1"],
    "freezing_depth.py": ["--labels", "20", "40", "--epochs", "1"],
    "grey_images.py": ["--n", "60", "--draws", "1"],
    "ready_model.py": [],
    "wildlife_photos.py": ["--draws", "1", "--sizes", "5"],
    "words.py": ["--seeds", "1", "--words", "50000"],
}
ON_REAL_DATA = ("active_learning.py", "ready_model.py", "wildlife_photos.py")


def run(script, folder, data=""):
    """Run a script at its smallest in a folder; return what it printed."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "SKTRANSFER_TEST_DATA": str(data)}
    command = [sys.executable, str(EXAMPLES / script), *SMALL[script], "--out", "out"]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    return done.stdout


def pictures(script):
    """Return the names of the pictures that a script saves."""
    return re.findall(r'args\.out / "(\w+\.png)"', (EXAMPLES / script).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def little(tmp_path_factory):
    """A folder like that of real data, with few of its samples."""
    if not DATA:
        pytest.skip("SKTRANSFER_TEST_DATA is not set: no real photos, texts and weights to run on")
    folder = tmp_path_factory.mktemp("data")
    for sub in ("weights", "text", "images"):
        (folder / sub).mkdir()
    weights = "weights/mobilenet_v2_imagenet1k.safetensors"
    (folder / weights).symlink_to(Path(DATA, weights))
    pd.read_csv(Path(DATA, "text", "mr.csv.gz")).sample(300, random_state=0).to_csv(folder / "text" / "mr.csv.gz")
    for part in ("train/ants", "train/bees", "val/ants", "val/bees"):
        target = folder / "images" / "hymenoptera" / part
        target.mkdir(parents=True)
        for path in sorted(Path(DATA, "images", "hymenoptera", part).iterdir())[:12]:
            shutil.copy(path, target)
    with lzma.open(Path(DATA, "images", "tiny_imagenet32.npz.xz")) as file:
        table = dict(np.load(io.BytesIO(file.read())))
    held_out = np.flatnonzero(table["split"] == 1)
    order = held_out[np.argsort(table["y"][held_out], kind="stable")]
    kept = order.reshape(200, -1)[:, :4].ravel()  # four photos of each category
    jpegs = [table["data"][table["off"][row] : table["off"][row + 1]] for row in kept]
    table |= {"data": np.concatenate(jpegs), "off": np.cumsum([0, *map(len, jpegs)])}
    table |= {"y": table["y"][kept], "split": table["split"][kept]}
    buffer = io.BytesIO()
    np.savez(buffer, **table)
    with lzma.open(folder / "images" / "tiny_imagenet32.npz.xz", "wb", preset=0) as file:
        file.write(buffer.getvalue())
    return folder


@pytest.mark.process
@pytest.mark.parametrize("script", SMALL)
def test_examples_run_without_any_data_and_leave_their_pictures(script, tmp_path):
    told = run(script, tmp_path)
    assert ("SKTRANSFER_TEST_DATA is not set" in told) == (script in ON_REAL_DATA)
    assert pictures(script)
    for name in pictures(script):
        assert (tmp_path / "out" / name).stat().st_size > 10_000, name


@pytest.mark.process
@pytest.mark.parametrize(
    ("script", "says"),
    [
        ("active_learning.py", ["digits: test", "ants and bees: test", "film reviews: test"]),
        ("ready_model.py", ["48 photos: exactly 'ant' or 'bee'", "tiny/cnn on 400 grey photos", "calibrated  0."]),
        ("wildlife_photos.py", ["accuracy on 24 test photos"]),
    ],
)
def test_examples_run_on_real_data(script, says, little, tmp_path):
    told = run(script, tmp_path, little)
    assert not [part for part in says if part not in told], told
    assert all((tmp_path / "out" / name).is_file() for name in pictures(script))


def test_every_example_is_run_and_stands_in_the_gallery_with_its_pictures():
    assert {path.name for path in EXAMPLES.glob("*.py")} == set(SMALL)
    for script in SMALL:
        assert f"[{script}]({script})" in GALLERY, script
        for name in pictures(script):
            assert f"](pictures/{name})" in GALLERY, name


def test_pictures_of_the_gallery_are_there_are_small_and_are_made_by_an_example():
    linked = set(re.findall(r"\]\(pictures/(\w+\.png)\)", GALLERY))
    assert {path.name for path in (EXAMPLES / "pictures").iterdir()} == linked
    assert {name for script in SMALL for name in pictures(script)} == linked
    for name in linked:
        assert (EXAMPLES / "pictures" / name).stat().st_size < 100_000, name


def test_every_display_is_in_the_gallery_and_drawn_by_an_example():
    scripts = "".join(path.read_text(encoding="utf-8") for path in EXAMPLES.glob("*.py"))
    displays = [name for name in sktransfer.__all__ if name.endswith("Display")]
    assert displays
    for name in displays:
        assert re.search(rf"{name}(\.from_\w+)?\(", scripts), name
        assert f"`{name}`" in GALLERY, name
