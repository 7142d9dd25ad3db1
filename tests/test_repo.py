"""The rules of the house, held against the code."""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import sktransfer

ROOT = Path(__file__).parents[1]
SOURCES = sorted(path for path in (ROOT / "sktransfer").rglob("*.py"))
# Rooms from the bottom up: each imports from itself and from those before it. The list is DESIGN's, in code.
ROOMS = ["exceptions", "config", "html", "paths", "rollback", "samples", "backbones", "engine", "words", "featurizers"]
ROOMS += ["finetuning", "classifiers", "selection", "displays", "persistence", "testing", "cli", "__main__"]


def room(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return {name for name in names if name.startswith("sktransfer.")}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_downwards(path):
    module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    if module == "sktransfer.__init__":
        return  # the front door names every room
    own = ROOMS.index(room(module))
    upwards = [name for name in imported(path) if ROOMS.index(room(name)) > own]
    assert not upwards, f"{module} imports from above: {upwards}"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_are_small(path):
    assert len(path.read_text().splitlines()) <= 400


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_source_has_a_test_of_its_name(path):
    if path.name in ("__init__.py", "__main__.py"):
        return
    parts = path.relative_to(ROOT / "sktransfer").with_suffix("").parts
    assert (ROOT / "tests" / f"test_{'_'.join(parts)}.py").is_file()


def test_public_names_are_sorted_and_exist():
    assert sktransfer.__all__ == sorted(sktransfer.__all__)
    for name in sktransfer.__all__:
        assert getattr(sktransfer, name).__doc__, f"{name} has no docstring"
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        sktransfer.nonsense  # noqa: B018


@pytest.mark.parametrize(
    ("code", "heavy"),
    [
        ("import sktransfer", ["torch", "sklearn", "transformers", "pandas", "numpy"]),
        ("import sktransfer; sktransfer.list_backbones()", ["torch", "torchvision", "transformers", "sklearn"]),
        (
            "import numpy, sktransfer; sktransfer.ImageFeaturizer().fit_transform(numpy.zeros((1, 8, 8)))",
            ["torchvision", "transformers"],
        ),
    ],
)
def test_nothing_heavy_is_imported_before_it_is_needed(code, heavy):
    report = f"{code}\nimport sys; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", report], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"


def documented() -> list[tuple[str, object]]:
    return [
        (name, getattr(sktransfer, name))
        for name in sktransfer.__all__
        if callable(getattr(sktransfer, name)) and inspect.isfunction(getattr(sktransfer, name))
    ] + [
        (name, getattr(sktransfer, name))
        for name in (
            "ImageFeaturizer",
            "TextFeaturizer",
            "WordEmbedder",
            "FineTuneClassifier",
            "FineTuneRegressor",
            "PretrainedClassifier",
            "BestBackbone",
            "ContrastiveFineTuner",
            "NearestClassMean",
            "ZeroShotClassifier",
        )
    ]


@pytest.mark.parametrize(("name", "thing"), documented(), ids=lambda value: value if isinstance(value, str) else "")
def test_docstrings_state_every_parameter_and_its_default(name, thing):
    documentation = inspect.getdoc(thing)
    for parameter in inspect.signature(thing).parameters.values():
        found = re.search(rf"^(?:\w+, )*{parameter.name}(?:, \w+)* : (.+)$", documentation, re.MULTILINE)
        assert found, f"{name}: {parameter.name} is not documented"
        if parameter.default is not inspect.Parameter.empty:
            stated = found.group(1).partition("default=")[2].replace('"', "'")
            assert stated == repr(parameter.default), f"{name}: {parameter.name} is stated as {stated!r}"


def test_nothing_names_a_machine():
    # Spelled in pieces, so that this file does not find itself.
    paths = ["/" + "work/", "/" + "tmp/lab", "../" + "shared", "/" + "farm/"]
    tracked = subprocess.run(["git", "ls-files"], capture_output=True, text=True, cwd=ROOT, check=False).stdout.split()
    for name in tracked or [str(path.relative_to(ROOT)) for path in SOURCES]:
        if name.endswith((".py", ".md", ".toml", "Makefile")):
            text = (ROOT / name).read_text()
            assert not [path for path in paths if path in text], name
