from __future__ import annotations

import re
from pathlib import Path

import pytest

from sktransfer.exceptions import FolderLayoutWarning
from sktransfer.samples.folders import load_image_folder


def write(root: Path, folders: str) -> None:
    for folder in folders.split():
        (root / folder).mkdir(parents=True, exist_ok=True)
        (root / folder / "1.png").write_bytes(b"x")


SUSPICIOUS = {  # folders with images -> words of the warning, and folders that it says to list
    "train and test": ("train/cat train/dog test/cat test/dog", r"same folders, \['cat', 'dog'\]", "test train"),
    "missing classes": ("a/cat a/cow a/dog b/cat b/dog b/ape", r"\['a', 'b'\] are read as classes", "a b"),
    "digits": (" ".join(f"{part}/{i}" for part in ("train", "test") for i in range(9)), "and 5 more", "test train"),
    "Training and Validation": ("Training/x Training/y Validation/x Validation/y", "same folders", "Training"),
    "folds": ("fold1/a fold1/b fold2/a fold2/b fold3/a fold3/b", "hold no images of their own", "fold1 fold2 fold3"),
    "styles": (
        " ".join(
            f"{style}/{name}" for style in ("photo", "sketch", "art", "cartoon") for name in ("dog", "cat", "elk")
        ),
        r"\['cat', 'dog', 'elk'\]",
        "art cartoon photo sketch",
    ),
    "wrapped parts": (
        "seg_train/seg_train/sea seg_train/seg_train/ice seg_test/seg_test/sea seg_test/seg_test/ice seg_pred/seg_pred",
        "same folders",
        "seg_train/seg_train seg_test/seg_test",
    ),
    "unlabelled test": ("train/cat train/dog test", "have the names of parts of a data set: list each part", "train"),
    "parts without classes": ("train2017 val2017", "names of parts .*sort the images of each part", ""),
    "wrapper": ("data/cat data/dog", r"the only folder with images, 'data', is read as one class", "data"),
    "two wrappers": ("a/b/cat a/b/dog", "the only folder with images", "a/b"),
    "wrapper of parts": ("a/train/cat a/train/dog a/test/cat a/test/dog", "the only folder", "a/test a/train"),
    "copy": ("cat dog more/cat more/dog", r"more' holds folders of the same names as \['cat', 'dog', 'more'\]", ""),
    "deep copy": ("cat dog elk old/data/cat old/data/dog", "old/data' holds folders of the same names", ""),
    "parts and a copy": ("train/a train/b val/a val/b x/train/a x/train/b x/val/a x/val/b", "Moreover, .*x' holds", ""),
}
USUAL = {
    "flat": "cat dog",
    "deep class": "cat/a/b dog",
    "class with and without own images": "cat cat/2019 cat/2020 dog dog/2019 dog/2020",
    "one class": "cat/a",
    "class of the same folder": "n01/images n02/images",
    "super-classes": "animal/cat animal/dog vehicle/car vehicle/bus",
    "shared rest": "animal/cat animal/dog animal/other animal/more vehicle/car vehicle/bus vehicle/other vehicle/more",
    "parts inside of classes": "cat/train cat/test dog/train dog/test",
    "two exceptions": "a/front a/back b/front b/back c d e f",
    "many classes": " ".join(f"{i}/{side}" for i in range(21) for side in ("front", "back")),
    "a vehicle": "bus train/steam train/diesel car",
    "part of a class in another": "cat dog cat/dog",
}


@pytest.mark.parametrize("name", SUSPICIOUS)
def test_load_image_folder_warns_of_folders_that_are_no_classes(tmp_path: Path, name: str):
    folders, words, listed = SUSPICIOUS[name]
    write(tmp_path, folders)
    with pytest.warns(FolderLayoutWarning, match=f"^{re.escape(str(tmp_path))}: .*{words}.*filter Folder") as caught:
        paths, labels = load_image_folder(tmp_path)
    assert len(caught) == 1
    assert len(paths) == len(labels) == len(folders.split())  # read as before
    for folder in listed.split():
        assert f"load_image_folder({str(tmp_path / folder)!r})" in str(caught[0].message)
        assert len(load_image_folder(tmp_path / folder)[0]) > 0  # and this call warns no more


@pytest.mark.parametrize("name", USUAL)
def test_load_image_folder_does_not_warn_of_nested_classes(tmp_path: Path, name: str):
    write(tmp_path, USUAL[name])
    paths, _ = load_image_folder(tmp_path)  # a warning would be an error here
    assert len(paths) == len(USUAL[name].split())


def test_load_image_folder_warning_names_empty_folders_separately(tmp_path: Path):
    write(tmp_path, "images/cat images/dog")
    (tmp_path / "annotations").mkdir()
    with (
        pytest.warns(FolderLayoutWarning, match="the only folder with images, 'images'"),
        pytest.warns(UserWarning, match=r"class folders \['annotations'\] contain no images"),
    ):
        load_image_folder(tmp_path)
