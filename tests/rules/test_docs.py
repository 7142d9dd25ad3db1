"""Documentation that runs: docstring examples and the Python blocks of Markdown documents."""

from __future__ import annotations

import ast
import doctest
import importlib
import re
import warnings
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted((ROOT / "sktransfer").rglob("*.py"))
BLOCK = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)
PAGES = {str(path.relative_to(ROOT)): path.read_text() for path in sorted((ROOT / "docs").rglob("*.md"))}
LESSONS = [page for page in PAGES if page == "docs/start.md" or page.startswith(("docs/guide/", "docs/coming_from/"))]
DOCUMENTS = [page for page, text in PAGES.items() if page in LESSONS or BLOCK.search(text)]
LINKED = ["README.md", "CONTRIBUTING.md", "CHANGES.md", "SECURITY.md", "examples/README.md", "benchmarks/README.md"]


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
    blocks = BLOCK.findall((ROOT / document).read_text())
    assert blocks
    names: dict[str, object] = {"__name__": "__main__"}
    with warnings.catch_warnings():
        if document == "docs/guide/mlflow.md":
            require_mlflow()
        for block in blocks:
            exec(compile(block, document, "exec"), names)


@pytest.mark.parametrize("page", LESSONS)
def test_pages_of_the_guide_begin_with_code_and_end_with_links(page):
    first = PAGES[page].partition("\n## ")[0]
    assert BLOCK.search(first), "the first section has no code"
    last = PAGES[page].rpartition("\n## ")[2]
    assert last.startswith("What to read next\n")
    assert "](" in last


def anchors(text: str) -> set[str]:
    """Return the anchors of the headings of a Markdown document, as GitHub and MyST make them."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", [*LINKED, *PAGES])
def test_links_of_documents_lead_somewhere(document):
    text = re.sub(r"^```.*?^```|`[^`\n]*`", "", (ROOT / document).read_text(), flags=re.DOTALL | re.MULTILINE)
    dead = []
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in target or target.startswith("mailto:"):
            continue
        name, _, anchor = target.partition("#")
        path = (ROOT / document).parent / name if name else ROOT / document
        if not path.exists() or (anchor and anchor not in anchors(path.read_text())):
            dead.append(target)
    assert not dead, dead


def messages_of_the_code() -> list[str]:
    """Return the strings of the code, with "..." in place of values."""
    found = []
    for tree in (ast.parse(path.read_text()) for path in SOURCES):
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
            if isinstance(node, ast.JoinedStr):
                found.append("".join(one.value if isinstance(one, ast.Constant) else "..." for one in node.values))
    return found


TROUBLES = re.findall(r"^### `(.+)`$", PAGES["docs/guide/troubleshooting.md"], re.MULTILINE)


def test_quoted_messages_occur_in_the_code():
    code = messages_of_the_code()
    patterns = {message: re.compile(".*".join(map(re.escape, message.split("...")))) for message in TROUBLES}
    assert len(patterns) > 25
    missing = [message for message, pattern in patterns.items() if not any(map(pattern.search, code))]
    assert not missing, missing


def test_quoted_exceptions_exist():
    modules = [importlib.import_module(name) for name in ("sktransfer.exceptions", "sklearn.exceptions", "builtins")]
    quoted = {name for text in PAGES.values() for name in re.findall(r"`(\w+(?:Error|Warning))`", text)}
    missing = {name for name in quoted if not any(hasattr(module, name) for module in modules)}
    assert "ReducedImageWarning" in quoted
    assert not missing
