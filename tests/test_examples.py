"""Example scripts: each runs, saves its pictures, and is listed in the gallery with them."""

from __future__ import annotations

import io
import lzma
import os
import re
import runpy
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import sktransfer

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
GALLERY = (EXAMPLES / "README.md").read_text(encoding="utf-8")
DATA = os.environ.get("SKTRANSFER_TEST_DATA")
# Options by script: the smallest sizes at which every line still runs.
SMALL = {
    "active_learning.py": ["--seeds", "1", "--rounds", "2"],
    "choose_a_backbone.py": ["--n", "150"],
    "digits.py": ["--seeds", "1"],
    "docstrings.py": ["--seeds", "1"],
    "explanations.py": ["--n", "60", "--epochs", "1"],
    "freezing_depth.py": ["--labels", "20", "40", "--epochs", "1"],
    "grey_images.py": ["--n", "60", "--draws", "1"],
    "paths/dataset_merging.py": ["--n", "40", "--tests", "40", "--draws", "1"],
    "paths/domain_adaptation.py": ["--n", "24", "--tests", "40", "--draws", "1"],
    "paths/grid.py": [],
    "paths/modality_transfer.py": ["--n", "40", "--tests", "40", "--draws", "1"],
    "paths/multi_task_learning.py": ["--n", "160", "--tests", "40", "--draws", "1"],
    "paths/parallel_training.py": ["--n", "30", "--tests", "40", "--draws", "1"],
    "paths/task_adaptation.py": ["--n", "40", "--tests", "40", "--draws", "1"],
    "paths/task_fine_tuning.py": ["--n", "60", "--tests", "40", "--draws", "1"],
    "paths/weight_sharing.py": ["--n", "30", "--tests", "40", "--draws", "1"],
    "ready_model.py": [],
    "segmentation.py": ["--sizes", "2", "--epochs", "1"],
    "shallow_adaptation.py": ["--n", "60"],
    "tagging.py": ["--n", "40", "--epochs", "1", "--draws", "1"],
    "wildlife_photos.py": ["--draws", "1", "--sizes", "5"],
    "words.py": ["--seeds", "1", "--words", "50000"],
}
ON_REAL_DATA = ("active_learning.py", "ready_model.py", "wildlife_photos.py")
ON_REAL_DATA += ("paths/domain_adaptation.py", "paths/weight_sharing.py")


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Return a function that runs a script at its smallest size in `tmp_path` and returns its output.

    Scripts run in the process of the tests, because importing torch takes longer than most of them.
    """

    def run_script(script, data=""):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("SKTRANSFER_TEST_DATA", str(data))
        monkeypatch.setattr(sys, "argv", [script, *SMALL[script], "--out", "out"])
        monkeypatch.syspath_prepend((EXAMPLES / script).parent)  # as `python script` does, for modules beside it
        with warnings.catch_warnings():  # scripts may ignore warnings; others are errors in tests
            runpy.run_path(str(EXAMPLES / script), run_name="__main__")
        return capsys.readouterr().out

    return run_script


def pictures(script):
    """Return the names of the pictures that a script saves."""
    return re.findall(r'args\.out / "(\w+\.png)"', (EXAMPLES / script).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def small_data(tmp_path_factory):
    """Return a folder with the layout of the real data and few of its samples."""
    if not DATA:
        pytest.skip("SKTRANSFER_TEST_DATA is not set, so there are no real photos, texts and weights")
    folder = tmp_path_factory.mktemp("data")
    for sub in ("weights", "text", "images"):
        (folder / sub).mkdir()
    weights = "weights/mobilenet_v2_imagenet1k.safetensors"
    (folder / weights).symlink_to(Path(DATA, weights))
    for digits in ("images/mnist_10k.npz", "images/usps.npz"):
        (folder / digits).symlink_to(Path(DATA, digits))
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


def assert_pictures(script, folder):
    assert pictures(script)
    for name in pictures(script):
        assert (folder / "out" / name).stat().st_size > 10_000, name


@pytest.mark.parametrize("script", SMALL)
def test_example_runs_without_data_and_saves_its_pictures(script, run, tmp_path):
    output = run(script)
    assert ("SKTRANSFER_TEST_DATA is not set" in output) == (script in ON_REAL_DATA)
    assert_pictures(script, tmp_path)


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("active_learning.py", ["digits: test", "ants and bees: test", "film reviews: test"]),
        (
            "ready_model.py",
            ["48 photos: exactly 'ant' or 'bee'", "tiny/cnn on 400 grey photos", "calibrated    mean confidence 0."],
        ),
        ("paths/domain_adaptation.py", ["From 24 digits of MNIST to USPS"]),
        ("wildlife_photos.py", ["accuracy on 24 test photos"]),
    ],
)
def test_example_runs_on_real_data(script, expected, run, small_data, tmp_path):
    output = run(script, small_data)
    assert not [part for part in expected if part not in output], output
    assert_pictures(script, tmp_path)


@pytest.mark.process
def test_example_runs_as_a_program_and_warns_of_nothing(tmp_path):
    pytest.importorskip("matplotlib")
    script = "ready_model.py"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "SKTRANSFER_TEST_DATA": ""}
    command = [sys.executable, str(EXAMPLES / script), *SMALL[script], "--out", "out"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    assert_pictures(script, tmp_path)


def test_gallery_lists_every_example_with_its_pictures():
    scripts = [*EXAMPLES.glob("*.py"), *EXAMPLES.glob("paths/[!_]*.py")]
    assert {path.relative_to(EXAMPLES).as_posix() for path in scripts} == set(SMALL)
    for script in SMALL:
        assert f"[{script}]({script})" in GALLERY, script
        for name in pictures(script):
            assert f"](pictures/{name})" in GALLERY, name


def test_gallery_pictures_exist_are_small_and_come_from_an_example():
    linked = set(re.findall(r"\]\(pictures/(\w+\.png)\)", GALLERY))
    assert {path.name for path in (EXAMPLES / "pictures").iterdir()} == linked
    assert {name for script in SMALL for name in pictures(script)} == linked
    for name in linked:
        assert (EXAMPLES / "pictures" / name).stat().st_size < 100_000, name


def test_gallery_shows_every_display():
    scripts = "".join(path.read_text(encoding="utf-8") for path in EXAMPLES.glob("*.py"))
    displays = [name for name in sktransfer.__all__ if name.endswith("Display")]
    assert displays
    for name in displays:
        assert re.search(rf"{name}(\.from_\w+)?\(", scripts), name
        assert f"`{name}`" in GALLERY, name
