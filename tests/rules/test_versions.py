"""Versions: one number for the package and its documents, and what was deprecated is removed in time."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

import pytest
import yaml

import sktransfer
from release.matrix import ENVIRONMENTS, PLUGINS
from sktransfer._deprecation import removal

ROOT = Path(__file__).parents[2]
SOURCES = sorted([*(ROOT / "sktransfer").rglob("*.py"), *ROOT.glob("plugins/*/sktransfer_*/**/*.py")])
# A version in development, such as 0.2.0.dev0, is described by the number that it leads to.
VERSION = re.sub(r"\.?(dev|a|b|rc)\d+$", "", sktransfer.__version__)
DEPRECATIONS = ("deprecate", "renamed_name", "renamed_parameter")


def project(path=""):
    return tomllib.loads((ROOT / path / "pyproject.toml").read_text())["project"]


def as_numbers(version):
    return [int(part) for part in version.split(".")[:2]]


def deprecations(code):
    """Return the versions in which the calls of a module deprecate something, "?" for one that is not written out."""
    calls = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Call)]
    named = [call for call in calls if ast.unparse(call.func).rpartition(".")[2] in DEPRECATIONS]
    given = [{keyword.arg: keyword.value for keyword in call.keywords}.get("since") for call in named]
    return [value.value if isinstance(value, ast.Constant) else "?" for value in given]


def overdue(code, version):
    """Return the versions of deprecations that a version should have removed, and those that are not written out."""
    return [
        since
        for since in deprecations(code)
        if not re.fullmatch(r"\d+\.\d+", since) or as_numbers(removal(since)) <= as_numbers(version)
    ]


def test_changes_begin_with_the_version():
    heading = re.search(r"^## (\S+) \((unreleased|\d{4}-\d\d-\d\d)\)$", (ROOT / "CHANGES.md").read_text(), re.MULTILINE)
    assert heading, "the first section of CHANGES.md must be named as in '## 0.2.0 (unreleased)'"
    assert heading[1] == VERSION


def test_citation_names_the_version_and_describes_the_same_project():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    table = project()
    assert citation["version"] == VERSION
    assert citation["license"] == table["license"]
    assert [author["name"] for author in citation["authors"]] == [author["name"] for author in table["authors"]]
    assert set(citation["keywords"]) <= set(table["keywords"])


def test_version_is_stated_in_one_place_of_the_package():
    assert project()["dynamic"] == ["version"]
    stated = [path for path in SOURCES if re.search(r"__version__(: \w+)? = [\"']", path.read_text())]
    assert stated == [ROOT / "sktransfer" / "_version.py"]


def test_installation_words_state_the_oldest_versions_that_are_declared():
    declared = {one for group in project()["optional-dependencies"].values() for one in group}
    declared |= {one for path in ("", *PLUGINS) for one in project(path)["dependencies"]}
    stated = {
        (path.name, found)
        for path in [*SOURCES, *(ROOT / "docs").rglob("*.md"), *ROOT.glob("*.md")]
        for found in re.findall(r"pip install [\"']([\w\[\].-]+>=[\d.]*\d)", path.read_text())
    }
    assert len(stated) > 3
    false = sorted(one for one in stated if one[1] not in declared)
    assert not false, false


@pytest.mark.parametrize("path", PLUGINS)
def test_plugins_admit_the_version_and_carry_the_license(path):
    (required,) = [one for one in project(path)["dependencies"] if one.startswith("sktransfer")]
    assert as_numbers(required.removeprefix("sktransfer>=")) <= as_numbers(VERSION)
    assert (ROOT / path / "LICENSE").read_text() == (ROOT / "LICENSE").read_text()
    assert project(path)["requires-python"] == project()["requires-python"]


def test_classifiers_name_versions_of_python_that_are_tested():
    tested = {environment.python for environment in ENVIRONMENTS}
    oldest = project()["requires-python"].removeprefix(">=")
    for path in ("", *PLUGINS):
        found = re.findall(r"Python :: (3\.\d+)", "\n".join(project(path)["classifiers"]))
        assert found[0] == oldest == min(tested, key=as_numbers), path
        assert set(found) <= tested, path


def test_workflow_runs_all_environments_of_the_matrix():
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "tests.yml").read_text())
    assert workflow["jobs"]["tests"]["strategy"]["matrix"]["environment"] == [one.name for one in ENVIRONMENTS]


def test_makefile_installs_the_plugins_of_the_matrix():
    assert re.search(r"^PLUGINS := (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)[1].split() == [*PLUGINS]


def test_workflow_calls_targets_of_the_makefile():
    text = (ROOT / ".github" / "workflows" / "tests.yml").read_text()
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    called = set(re.findall(r"run: make ([\w-]+)", text))
    if not (ROOT / "docs" / "conf.py").exists():  # a checkout without the site cannot build it
        called -= {"docs"}
    assert {"lint", "release-check"} <= called <= set(targets)


def test_hooks_have_the_versions_of_the_extra():
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    pins = dict(one.split("==") for one in project()["optional-dependencies"]["test"] if "==" in one)
    versions = {repo["repo"].rpartition("/")[2]: repo["rev"].removeprefix("v") for repo in hooks}
    assert versions == {"ruff-pre-commit": pins["ruff"], "codespell": pins["codespell"]}


def test_deprecated_things_are_removed_in_time():
    late = [f"{path}: since {since}" for path in SOURCES for since in overdue(path.read_text(), VERSION)]
    late = [one for one in late if "/_deprecation.py" not in one]  # its functions pass `since` on
    assert not late, late


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("deprecate('x', since='0.2', instead='y')", []),
        ("_deprecation.renamed_name('x', y, since='0.1')", ["0.1"]),
        ("renamed_parameter(self, 'x', old='y', since='0.0')", ["0.0"]),
        ("deprecate('x', since=VERSION, instead='y')", ["?"]),
        ("deprecate('x', since='0.2.0', instead='y')", ["0.2.0"]),
    ],
)
def test_overdue_finds_what_version_0_3_should_not_have(code, expected):
    assert overdue(code, "0.3.1") == expected
