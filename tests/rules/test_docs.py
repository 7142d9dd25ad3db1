"""Documentation that runs: docstring examples and the Python blocks of Markdown documents."""

from __future__ import annotations

import doctest
import importlib
import re
import warnings
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted((ROOT / "sktransfer").rglob("*.py"))
DOCUMENTS = sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def require_mlflow():
    """Skip a test if mlflow is not installed, and ignore warnings: its imports and its data base warn."""
    warnings.simplefilter("ignore")
    pytest.importorskip("mlflow")


@pytest.mark.parametrize("module", [module_name(path) for path in SOURCES if ">>> " in path.read_text()])
def test_docstring_examples_run(module, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        if module == "sktransfer.mlflow":
            require_mlflow()
        results = doctest.testmod(importlib.import_module(module), optionflags=doctest.ELLIPSIS)
    assert results.attempted > 0
    assert results.failed == 0


def test_every_module_imports_without_a_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for path in SOURCES:
            if path.name != "__main__.py":
                importlib.import_module(module_name(path))


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md", *DOCUMENTS])
def test_python_blocks_of_documents_run(document, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / document).read_text(), re.DOTALL)
    assert blocks
    names: dict[str, object] = {"__name__": "__main__"}
    with warnings.catch_warnings():
        if document == "docs/mlflow.md":
            require_mlflow()
        for block in blocks:
            exec(compile(block, document, "exec"), names)
