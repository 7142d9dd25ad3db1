"""Image files of unusual or invalid types, from validation to features."""

from __future__ import annotations

import os
import re
import stat
import tempfile
from pathlib import Path

import numpy as np
import pytest

from sktransfer import ImageFeaturizer, find_bad_images
from sktransfer.backbones.preprocess import ImageTransform
from sktransfer.exceptions import InvalidSampleError, InvalidSampleWarning, short_path
from sktransfer.samples.images import check_images
from tests.helpers.dirty_images import BAD, GOOD, PICTURE, encoded, write
from tests.helpers.elsewhere import run_code

FEATURIZER = ImageFeaturizer(cache=None, batch_size=1)


@pytest.fixture
def good(tmp_path):
    return [write(tmp_path, f"good{i}.png", encoded(PICTURE[:, :: 1 - 2 * i], "PNG")) for i in range(2)]


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")  # from Pillow
@pytest.mark.parametrize("name", GOOD, ids=lambda name: ascii(name[:30]))
def test_load_reads_unusual_images(tmp_path, name):
    content, expected, tolerance = GOOD[name]
    path = write(tmp_path, name, content)
    image = np.asarray(check_images([path]).load(0))
    image = image * 255 if image.dtype == np.float32 else image.astype(float)
    assert image.shape == (*expected.shape[:2], 3)
    assert np.abs(image - expected).mean() <= tolerance
    assert np.isfinite(FEATURIZER.fit_transform([path])).all()
    assert find_bad_images([path]).empty


@pytest.mark.filterwarnings("ignore:Image size")  # from Pillow, about decompression bombs
@pytest.mark.parametrize("name", BAD, ids=lambda name: ascii(name[:30]))
def test_on_error_names_unusable_images_and_keeps_other_rows(tmp_path, good, name):
    content, reason = BAD[name]
    path = write(tmp_path, name, content)
    paths = [good[0], path, good[1]]
    with pytest.raises(InvalidSampleError, match=f"^row 1: {re.escape(short_path(path))} .*({reason})") as caught:
        FEATURIZER.fit_transform(paths)
    assert caught.value.row == 1
    assert "\n" not in str(caught.value)
    table = find_bad_images(paths)
    assert table[["row", "path"]].values.tolist() == [[1, path]]
    assert re.search(reason, table["reason"][0])
    assert short_path(path) not in table["reason"][0].partition("(")[0]
    with pytest.warns(InvalidSampleWarning, match=f"1 of 3 images .*\n  row 1: .*({reason})") as warned:
        features = ImageFeaturizer(cache=None, batch_size=1, on_error="warn").fit_transform(paths)
    assert [type(warning.message) for warning in warned].count(InvalidSampleWarning) == 1  # Pillow may warn as well
    assert np.isnan(features[1]).all()
    np.testing.assert_array_equal(features[[0, 2]], FEATURIZER.fit_transform(good))


AS_NOBODY = """
import os, sys
from sktransfer import find_bad_images
find_bad_images(sys.argv[1:])  # imports every module
if os.geteuid() == 0:  # root can read every file
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
print(*find_bad_images(sys.argv[1:])["reason"], sep="\\n")
"""


@pytest.mark.process
def test_check_images_names_missing_permissions():
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        Path(folder, "closed").mkdir()
        paths = [write(folder, name, encoded(PICTURE, "PNG")) for name in ("open.png", "closed.png", "closed/a.png")]
        Path(paths[1]).chmod(0)
        Path(folder, "closed").chmod(0)
        done = run_code(AS_NOBODY, *paths)
        Path(folder, "closed").chmod(stat.S_IRWXU)
    reason = "cannot be opened, you have no permission to read it; change the permissions of the file or its folder"
    assert done.stdout.splitlines() == [reason, reason]


def test_check_images_raises_os_error_if_too_many_files_are_open(good, monkeypatch):
    def too_many(*args, **kwargs):
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(os, "stat", too_many)
    with pytest.raises(OSError, match="Too many open files"):
        FEATURIZER.fit_transform(good)


def test_transform_accepts_strips(tmp_path):
    transform = ImageTransform(resize=256, crop=224)
    for name in ("high_strip.png", "wide_strip.png"):
        image = check_images([write(tmp_path, name, GOOD[name][0])]).load(0)
        for sample in (image, np.asarray(image, np.float32) / 255):
            (values,) = transform([sample])
            np.testing.assert_allclose(values.flatten(1).T * 255, np.tile(PICTURE[0, 0], (224 * 224, 1)), atol=1e-3)
