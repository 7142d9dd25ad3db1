from __future__ import annotations

import doctest
import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from release import distributions, matrix
from release.distributions import expected_files, files_of, python_blocks

TRACKED = ["README.md", "pyproject.toml", "sktransfer/__init__.py", "sktransfer/py.typed", "tests/test_cli.py"]


@pytest.mark.parametrize("module", [distributions, matrix], ids=["distributions", "matrix"])
def test_docstring_examples_of_release_run(module):
    results = doctest.testmod(module)
    assert results.attempted > 0
    assert results.failed == 0


@pytest.fixture
def wheel(tmp_path):
    path = tmp_path / "sktransfer-0.1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("sktransfer/__init__.py", "sktransfer/py.typed"):
            archive.writestr(name, "")
        for name in ("METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE", "top_level.txt"):
            archive.writestr(f"sktransfer-0.1.0.dist-info/{name}", "")
    return path


@pytest.fixture
def sdist(tmp_path):
    path = tmp_path / "sktransfer-0.1.0.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for name in (*TRACKED, "PKG-INFO", "setup.cfg", "sktransfer.egg-info/SOURCES.txt"):
            info = tarfile.TarInfo(f"sktransfer-0.1.0/{name}")
            archive.addfile(info, io.BytesIO(b""))
    return path


def test_files_of_leaves_out_what_the_build_generates(wheel, sdist):
    assert files_of(wheel) == expected_files(wheel, TRACKED) == {"sktransfer/__init__.py", "sktransfer/py.typed"}
    assert files_of(sdist) == expected_files(sdist, TRACKED) == set(TRACKED)


def test_files_of_shows_a_file_too_many_and_one_that_is_missing(wheel):
    with zipfile.ZipFile(wheel, "a") as archive:
        archive.writestr("tests/test_cli.py", "")
    assert files_of(wheel) ^ expected_files(wheel, [*TRACKED, "sktransfer/cli.py"]) == {
        "tests/test_cli.py",
        "sktransfer/cli.py",
    }


def test_python_blocks_are_those_of_python():
    assert python_blocks("```python\na = 1\n```\n```\nmake\n```\n```python\nb = 2\n```\n") == ["a = 1\n", "b = 2\n"]


def test_schemas_name_files_of_the_repository():
    for files in distributions.SCHEMAS.values():
        assert all((Path(matrix.ROOT) / file).is_file() for file in files)
