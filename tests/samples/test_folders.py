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


def test_classes_and_paths_come_sorted_with_nested_folders(tmp_path: Path):
    write(tmp_path, "dog/2.png", "dog/1.JPG", "cat/z/1.jpeg", "cat/a.gif")
    paths, labels = load_image_folder(tmp_path)
    assert paths.tolist() == [str(tmp_path / name) for name in ("cat/a.gif", "cat/z/1.jpeg", "dog/1.JPG", "dog/2.png")]
    assert labels.tolist() == ["cat", "cat", "dog", "dog"]


def test_results_are_one_dimensional_arrays_of_str(tmp_path: Path):
    write(tmp_path, "a/1.png", "b/1.png")
    paths, labels = load_image_folder(str(tmp_path))
    assert (paths.dtype, paths.shape) == (np.dtype(object), (2,))
    assert labels.dtype.kind == "U"
    assert {type(path) for path in paths} == {str}


def test_all_suffixes_count_and_others_do_not(tmp_path: Path):
    suffixes = ["jpg", "jpeg", "jpe", "jfif", "png", "bmp", "gif", "webp", "avif", "tif", "ppm", "pgm", "TIFF"]
    write(tmp_path, *(f"a/1.{suffix}" for suffix in suffixes), "a/notes.txt", "a/jpg", "a/1.png.part")
    assert sorted(Path(path).suffix[1:] for path in load_image_folder(tmp_path)[0]) == sorted(suffixes)


def test_hidden_files_and_folders_are_passed_over(tmp_path: Path):
    write(tmp_path, "a/1.png", "a/.2.png", "a/.thumbs/3.png", ".git/4.png", ".5.png")
    paths, _ = load_image_folder(tmp_path)
    assert [Path(path).name for path in paths] == ["1.png"]


def test_a_folder_named_like_an_image_is_no_image(tmp_path: Path):
    write(tmp_path, "a/odd.png/1.png")
    assert load_image_folder(tmp_path)[0].tolist() == [str(tmp_path / "a" / "odd.png" / "1.png")]


def test_links_are_followed_but_not_in_circles(tmp_path: Path):
    write(tmp_path, "elsewhere/1.png", "data/a/2.png")
    (tmp_path / "data" / "a" / "more").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "data" / "a" / "circle").symlink_to(tmp_path / "data" / "a")
    paths, _ = load_image_folder(tmp_path / "data")
    assert [Path(path).name for path in paths] == ["2.png", "1.png"]


def test_the_result_goes_into_check_images(tmp_path: Path):
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        Image.new("RGB", (5, 4), "red").save(tmp_path / name / "1.png")
    samples = check_images(load_image_folder(tmp_path)[0])
    assert [samples.load(row).size for row in range(2)] == [(5, 4), (5, 4)]


def test_an_empty_class_is_named_in_a_warning(tmp_path: Path):
    write(tmp_path, "a/1.png", "b/notes.txt")
    (tmp_path / "c").mkdir()
    with pytest.warns(SktransferWarning, match=r"class folders \['b', 'c'\] contain no images .*jpg, jpeg.*ignored"):
        _, labels = load_image_folder(tmp_path)
    assert labels.tolist() == ["a"]


def test_images_outside_of_classes_are_counted_in_a_warning(tmp_path: Path):
    write(tmp_path, "a/1.png", "2.png", "3.png", "readme.txt")
    with pytest.warns(
        SktransferWarning, match=r"2 images are outside of class folders \(the first is '.*2\.png'\); they are ignored"
    ):
        load_image_folder(tmp_path)


def test_a_missing_folder_is_named(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=f"{re.escape(str(tmp_path))}/nowhere.*no such folder"):
        load_image_folder(tmp_path / "nowhere")


def test_a_file_is_no_folder(tmp_path: Path):
    write(tmp_path, "a.png")
    with pytest.raises(
        NotADirectoryError, match=r"a\.png' is a file; give the folder that contains one folder per class"
    ):
        load_image_folder(tmp_path / "a.png")


def test_no_class_folders_tell_how_to_lay_them_out(tmp_path: Path):
    write(tmp_path, "1.png")
    with pytest.raises(
        ValueError, match=r"contains no folders; put the images of each class in a folder of its own, as in"
    ):
        load_image_folder(tmp_path)


def test_no_images_tell_the_suffixes(tmp_path: Path):
    write(tmp_path, "a/1.txt", "b/2.md")
    with pytest.raises(
        ValueError, match=r"\['a', 'b'\] contains an image; files count as images by their suffix: jpg, .*pgm"
    ):
        load_image_folder(tmp_path)


def test_what_other_systems_leave_is_passed_over_without_a_word(tmp_path: Path):
    write(tmp_path, "a/1.png", "a/._1.png", "a/.DS_Store", "a/Thumbs.db", "a/desktop.ini", "a/@eaDir/1.png")
    write(tmp_path, "__MACOSX/a/._1.png", ".DS_Store", "Thumbs.db", "@eaDir/2.png", ".ipynb_checkpoints/1.png")
    paths, labels = load_image_folder(tmp_path)
    assert paths.tolist() == [str(tmp_path / "a" / "1.png")]
    assert labels.tolist() == ["a"]


def test_links_that_lead_nowhere_and_pictures_of_unknown_kind_are_counted_in_a_warning(tmp_path: Path):
    write(tmp_path, "a/1.png", "a/2.HEIC", "a/notes.txt")
    (tmp_path / "a" / "3.jpg").symlink_to("nowhere.jpg")
    (tmp_path / "a" / "notes").symlink_to("nowhere")
    with pytest.warns(SktransferWarning, match=r"2 images cannot be read, .*first is '.*2\.HEIC'\); they are ignored"):
        paths, _ = load_image_folder(tmp_path)
    assert [Path(path).name for path in paths] == ["1.png"]


def test_a_folder_that_cannot_be_read_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write(tmp_path, "a/1.png", "a/closed/2.png")
    scandir = os.scandir

    def denied(path):  # root may read every folder, and tests may run as root
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", denied)
    with pytest.raises(PermissionError, match="closed"):
        load_image_folder(tmp_path)
