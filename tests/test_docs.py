"""What the documentation shows is run: docstring examples, the README's blocks, the example scripts."""

from __future__ import annotations

import doctest
import importlib
import os
import re
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MODULES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for path in (ROOT / "sktransfer").rglob("*.py")
    if path.name != "__init__.py"
)


@pytest.mark.parametrize("module", MODULES)
def test_docstring_examples_print_what_they_say(module, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        results = doctest.testmod(importlib.import_module(module), optionflags=doctest.ELLIPSIS)
    assert results.failed == 0


def test_readme_python_blocks_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert blocks
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, "README.md", "exec"), names)


@pytest.mark.parametrize(
    ("script", "arguments", "leaves"),
    [
        ("choose_a_backbone.py", ["--n", "150", "--out", "out"], "out/choose_a_backbone.png"),
        ("digits.py", ["--seeds", "1", "--out", "out"], "out/freeze_depth.png"),
        ("docstrings.py", ["--seeds", "1", "--out", "out"], "out/docstrings.png"),
        ("words.py", ["--seeds", "1", "--words", "50000", "--out", "out"], "out/words.png"),
    ],
)
def test_examples_run_and_leave_their_picture(script, arguments, leaves, tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(ROOT / "examples" / script), *arguments]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / leaves).stat().st_size > 10_000


def test_every_example_is_run():
    known = {"choose_a_backbone.py", "digits.py", "docstrings.py", "words.py"}
    assert {path.name for path in (ROOT / "examples").glob("*.py")} == known
