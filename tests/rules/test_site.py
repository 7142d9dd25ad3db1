"""Documentation site: contents, reference, and links between files of the repository."""

from __future__ import annotations

import os
import re
from collections import Counter
from importlib import import_module
from pathlib import Path

import pytest

import sktransfer
from docs.extensions.guide_pages import PAGE_OF, Guide
from docs.extensions.public_names import qualified
from docs.extensions.repository_links import INCLUDED, rewrite

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(path for path in DOCS.rglob("*.md") if path.relative_to(DOCS).parts[0] not in ("auto_examples",))
TOCTREE = re.compile(r"```\{toctree\}\n(.*?)```", re.DOTALL)
AUTOSUMMARY = re.compile(r"\.\. currentmodule:: ([\w.]+)|^   ([\w.]+)$|\.\. py:data:: ([\w.]+)", re.MULTILINE)


def listed_pages():
    """Return the pages in tables of contents, as often as they are listed."""
    pages = Counter()
    for path in PAGES:
        for entries in TOCTREE.findall(path.read_text()):
            for entry in entries.splitlines():
                if entry and not entry.startswith((":", "auto_examples")):
                    pages.update(sorted(path.parent.glob(f"{entry}.md")) or [path.parent / f"{entry}.md"])
    return pages


def documented_names():
    """Return the names in the reference, as often as they are listed."""
    names, module = Counter(), ""
    for current, member, data in AUTOSUMMARY.findall((DOCS / "reference.md").read_text()):
        module = current or module
        if not current:
            names[f"{module}.{member or data}"] += 1
    return names


def test_every_page_is_listed_once_in_a_table_of_contents():
    pages = listed_pages()
    assert pages == Counter(path for path in PAGES if path != DOCS / "index.md")


@pytest.mark.parametrize("module", ["sktransfer", "sktransfer.backbones", "sktransfer.exceptions", "sktransfer.mlflow"])
def test_every_public_name_is_in_the_reference_once(module):
    names = documented_names()
    public = set(import_module(module).__all__)
    if module != "sktransfer":
        public -= set(sktransfer.__all__)
    assert {name: names[f"{module}.{name}"] for name in public} == dict.fromkeys(public, 1)


def test_every_name_of_the_checks_is_in_the_reference_once():
    testing = import_module("sktransfer.testing")
    names = documented_names()
    assert all(names[f"sktransfer.testing.{name}"] == 1 for name in [*testing.__all__, "samples.make_samples"])


def test_every_name_in_the_reference_exists():
    for name in documented_names():
        module, _, member = name.rpartition(".")
        assert hasattr(import_module(module), member), name


def test_conf_takes_the_version_from_the_package():
    text = (DOCS / "conf.py").read_text()
    assert "from sktransfer._version import __version__" in text
    assert re.search(r"^version = release = __version__$", text, re.MULTILINE)


def test_pages_without_a_list_of_pages_have_none_below_them():
    names = re.search(r"html_sidebars = \{page: \[\] for page in \((.*)\)\}", (DOCS / "conf.py").read_text())[1]
    pages = re.findall(r'"(\w+)"', names)
    assert "glossary" in pages
    assert [name for name in pages if TOCTREE.search((DOCS / f"{name}.md").read_text())] == []


@pytest.mark.parametrize(("source", "page"), INCLUDED.items())
def test_included_files_exist_and_their_pages_include_them(source, page):
    assert (ROOT / source).is_file()
    target = re.search(r"```\{include\} (\S+)\n", (DOCS / page).read_text())[1]
    assert ((DOCS / page).parent / target).resolve() == ROOT / source


def test_rewrite_leads_links_to_pages_of_the_site():
    page = DOCS / "guide" / "photos.md"
    text = "[a](../../SECURITY.md#trusted) [b](../paths.md) [c](../../examples/digits.py) ![d](../../LICENSE)"
    expected = "[a](../security.md#trusted) [b](../paths.md) [c](../auto_examples/digits.rst) ![d](../../LICENSE)"
    assert rewrite(text, page.parent, page) == expected


def test_rewrite_makes_documents_that_no_page_includes_downloads(tmp_path):
    (tmp_path / "notes.md").touch()
    path = Path(os.path.relpath(tmp_path / "notes.md", DOCS))
    assert rewrite("[a](notes.md)", tmp_path, DOCS / "index.md") == f"[a](path:{path})"


def test_rewrite_leaves_links_to_nothing_and_to_the_web():
    text = "[a](https://example.org) [b](nothing.md) [c](#heading)"
    assert rewrite(text, DOCS, DOCS / "index.md") == text


def test_rewrite_makes_links_of_included_files_relative_to_their_page():
    assert rewrite("[a](../timm)", ROOT / "plugins" / "clip", DOCS / "plugins" / "clip.md") == "[a](timm.md)"
    assert (
        rewrite("![a](pictures/digits.png)", ROOT / "examples", DOCS / "examples.md")
        == "![a](../examples/pictures/digits.png)"
    )


def test_pages_mention_the_parameters_that_they_explain():
    words = Guide().words
    assert [name for name, page in PAGE_OF.items() if name not in words[page]] == []


def test_guide_lists_the_page_that_mentions_a_name_most_often_first(tmp_path):
    (tmp_path / "guide").mkdir()
    (tmp_path / "guide" / "a.md").write_text("`alpha`, `beta` and `beta`, alpha alpha alpha\n")
    (tmp_path / "guide" / "b.md").write_text("# B\n\n```python\nalpha = beta\n```\n")
    guide = Guide(tmp_path)
    assert guide.pages_on("beta") == ["guide/a", "guide/b"]
    assert guide.pages_on("alpha", 1) == ["guide/a"]
    assert guide.pages_on("gamma") == []


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("save()", "sktransfer.save"),
        ("sktransfer.save", "sktransfer.save"),
        ("Backbone", "sktransfer.Backbone"),
        ("InvalidSampleError", "sktransfer.exceptions.InvalidSampleError"),
        ("Tokens", "sktransfer.backbones.Tokens"),
        ("fill", ""),  # may be a parameter
        ("sktransfer.backbones.fill", "sktransfer.backbones.fill"),
        ("ValueError", ""),
        ("save(clf, path)", ""),
    ],
)
def test_qualified_finds_public_names_and_their_modules(text, name):
    assert qualified(text) == name
