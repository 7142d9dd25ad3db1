from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sktransfer.exceptions import SktransferWarning
from sktransfer.samples.folders import load_image_folder
from sktransfer.samples.images import check_images


def write(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")


def test_load_image_folder_sorts_classes_and_paths(tmp_path: Path):
    write(tmp_path, "dog/2.png", "dog/1.JPG", "cat/z/1.jpeg", "cat/a.gif")
    paths, labels = load_image_folder(tmp_path)
    assert paths.tolist() == [str(tmp_path / name) for name in ("cat/a.gif", "cat/z/1.jpeg", "dog/1.JPG", "dog/2.png")]
    assert labels.tolist() == ["cat", "cat", "dog", "dog"]


def test_load_image_folder_returns_arrays_of_str(tmp_path: Path):
    write(tmp_path, "a/1.png", "b/1.png")
    paths, labels = load_image_folder(str(tmp_path))
    assert (paths.dtype, paths.shape) == (np.dtype(object), (2,))
    assert labels.dtype.kind == "U"
    assert {type(path) for path in paths} == {str}


def test_load_image_folder_selects_by_suffix(tmp_path: Path):
    suffixes = ["jpg", "jpeg", "jpe", "jfif", "png", "bmp", "gif", "webp", "avif", "tif", "ppm", "pgm", "TIFF"]
    write(tmp_path, *(f"a/1.{suffix}" for suffix in suffixes), "a/notes.txt", "a/jpg", "a/1.png.part")
    assert sorted(Path(path).suffix[1:] for path in load_image_folder(tmp_path)[0]) == sorted(suffixes)


def test_load_image_folder_ignores_hidden_files_and_folders(tmp_path: Path):
    write(tmp_path, "a/1.png", "a/.2.png", "a/.thumbs/3.png", ".git/4.png", ".5.png")
    paths, _ = load_image_folder(tmp_path)
    assert [Path(path).name for path in paths] == ["1.png"]


def test_load_image_folder_ignores_folders_named_like_images(tmp_path: Path):
    write(tmp_path, "a/odd.png/1.png")
    assert load_image_folder(tmp_path)[0].tolist() == [str(tmp_path / "a" / "odd.png" / "1.png")]


def test_load_image_folder_follows_links_without_cycles(tmp_path: Path):
    write(tmp_path, "elsewhere/1.png", "data/a/2.png")
    (tmp_path / "data" / "a" / "more").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "data" / "a" / "circle").symlink_to(tmp_path / "data" / "a")
    paths, _ = load_image_folder(tmp_path / "data")
    assert [Path(path).name for path in paths] == ["2.png", "1.png"]


def test_load_image_folder_result_is_valid_for_check_images(tmp_path: Path):
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        Image.new("RGB", (5, 4), "red").save(tmp_path / name / "1.png")
    samples = check_images(load_image_folder(tmp_path)[0])
    assert [samples.load(row).size for row in range(2)] == [(5, 4), (5, 4)]


def test_load_image_folder_warns_of_an_empty_class(tmp_path: Path):
    write(tmp_path, "a/1.png", "b/notes.txt")
    (tmp_path / "c").mkdir()
    with pytest.warns(SktransferWarning, match=r"class folders \['b', 'c'\] contain no images .*jpg, jpeg.*ignored"):
        _, labels = load_image_folder(tmp_path)
    assert labels.tolist() == ["a"]


def test_load_image_folder_warns_of_images_outside_of_classes(tmp_path: Path):
    write(tmp_path, "a/1.png", "2.png", "3.png", "readme.txt")
    with pytest.warns(
        SktransferWarning, match=r"2 images are outside of class folders \(the first is '.*2\.png'\); they are ignored"
    ):
        load_image_folder(tmp_path)


def test_load_image_folder_rejects_a_missing_folder(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=f"{re.escape(str(tmp_path))}/nowhere.*no such folder"):
        load_image_folder(tmp_path / "nowhere")


def test_load_image_folder_rejects_a_file(tmp_path: Path):
    write(tmp_path, "a.png")
    with pytest.raises(NotADirectoryError, match=r"a\.png' is a file; give the folder that contains one"):
        load_image_folder(tmp_path / "a.png")


def test_load_image_folder_without_classes_shows_the_layout(tmp_path: Path):
    write(tmp_path, "1.png")
    with pytest.raises(
        ValueError, match=r"contains no folders; put the images of each class in a folder of its own, as in"
    ):
        load_image_folder(tmp_path)


def test_load_image_folder_without_images_lists_suffixes(tmp_path: Path):
    write(tmp_path, "a/1.txt", "b/2.md")
    with pytest.raises(
        ValueError, match=r"\['a', 'b'\] contains an image; files count as images by their suffix: jpg, .*pgm"
    ):
        load_image_folder(tmp_path)


def test_load_image_folder_ignores_system_folders_silently(tmp_path: Path):
    write(tmp_path, "a/1.png", "a/._1.png", "a/.DS_Store", "a/Thumbs.db", "a/desktop.ini", "a/@eaDir/1.png")
    write(tmp_path, "__MACOSX/a/._1.png", ".DS_Store", "Thumbs.db", "@eaDir/2.png", ".ipynb_checkpoints/1.png")
    paths, labels = load_image_folder(tmp_path)
    assert paths.tolist() == [str(tmp_path / "a" / "1.png")]
    assert labels.tolist() == ["a"]


def test_load_image_folder_warns_of_broken_links_and_unreadable_types(tmp_path: Path):
    write(tmp_path, "a/1.png", "a/2.HEIC", "a/notes.txt")
    (tmp_path / "a" / "3.jpg").symlink_to("nowhere.jpg")
    (tmp_path / "a" / "notes").symlink_to("nowhere")
    with pytest.warns(SktransferWarning, match=r"2 images cannot be read, .*first is '.*2\.HEIC'\); they are ignored"):
        paths, _ = load_image_folder(tmp_path)
    assert [Path(path).name for path in paths] == ["1.png"]


def test_load_image_folder_rejects_a_folder_without_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write(tmp_path, "a/1.png", "a/closed/2.png")
    scandir = os.scandir

    def denied(path):  # root may read every folder, and tests may run as root
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", denied)
    with pytest.raises(PermissionError, match="closed"):
        load_image_folder(tmp_path)
