"""Markers: a test that starts a process is marked `process`, so that `-m "not process"` is fast."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TESTS = sorted([*(ROOT / "tests").rglob("test_*.py"), *ROOT.glob("plugins/*/tests/test_*.py")])
MODULES = ("subprocess", "multiprocessing")
# Functions of the helpers and of sktransfer that start processes.
STARTERS = (
    "tests.helpers.plugin_zoo.python",
    "tests.helpers.elsewhere.run_code",
    "tests.helpers.saved_estimators.predictions_in_new_process",
    "tests.cache.test_faults.features_elsewhere",
    "sktransfer.testing.backbone_process.in_fresh_process",
    "sktransfer.testing.backbone_process.imported_by_listing",
)
SEARCHES = ("GridSearchCV", "RandomizedSearchCV", "cross_val_score", "cross_validate")
Function = ast.FunctionDef | ast.AsyncFunctionDef


def starting_names(tree: ast.Module) -> set[str]:
    """Return the names of a module whose use starts a process."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.asname or alias.name for alias in node.names if alias.name in MODULES}
        elif isinstance(node, ast.ImportFrom) and node.module:
            full = {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
            names |= {name for name, of in full.items() if of.startswith(MODULES) or of in STARTERS}
    return names


def searches_in_processes(node: ast.AST) -> bool:
    """Return whether a call is a search of scikit-learn with several jobs."""
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in SEARCHES):
        return False
    jobs = {keyword.arg: keyword.value for keyword in node.keywords}.get("n_jobs")
    return jobs is not None and not (isinstance(jobs, ast.Constant) and jobs.value in (None, 1))


def is_marker(node: ast.AST) -> bool:
    return any(isinstance(part, ast.Attribute) and part.attr == "process" for part in ast.walk(node))


def unmarked(code: str) -> list[str]:
    """Return the tests of a module that start a process, also by a helper or a fixture, and lack the marker."""
    tree = ast.parse(code)
    marks = [
        node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "pytestmark"
    ]
    if any(map(is_marker, marks)):
        return []
    functions = {node.name: node for node in tree.body if isinstance(node, Function)}
    uses = {}
    for name, function in functions.items():
        parts = list(ast.walk(function))
        uses[name] = {part.id for part in parts if isinstance(part, ast.Name)}
        uses[name] |= {part.arg for part in parts if isinstance(part, ast.arg)}
        if any(map(searches_in_processes, parts)):
            uses[name].add("<search>")
    starting = starting_names(tree) | {"<search>"}
    while more := {name for name, used in uses.items() if used & starting} - starting:
        starting |= more
    tests = [name for name in functions if name.startswith("test_") and name in starting]
    return [name for name in tests if not any(map(is_marker, functions[name].decorator_list))]


def test_tests_that_start_processes_are_marked():
    offenders = [f"{path.relative_to(ROOT)}::{name}" for path in TESTS for name in unmarked(path.read_text())]
    assert not offenders, offenders


@pytest.mark.parametrize(
    "body",
    [
        "import subprocess\ndef test_a():\n    subprocess.run([])",
        "from subprocess import run as go\ndef test_a():\n    go([])",
        "import subprocess\ndef helper(): subprocess.run([])\ndef test_a():\n    helper()",
        "import multiprocessing\n@pytest.fixture\ndef pool(): return multiprocessing.Pool()\ndef test_a(pool): ...",
        "from tests.helpers.plugin_zoo import python\ndef test_a():\n    python('-c', 'pass')",
        "def test_a():\n    GridSearchCV(model, {}, n_jobs=2)",
        "import subprocess\n@pytest.mark.gpu\ndef test_a():\n    subprocess.run([])",
    ],
)
def test_unmarked_finds_a_test_that_starts_a_process(body):
    assert unmarked(body) == ["test_a"]


@pytest.mark.parametrize(
    "body",
    [
        "def test_a():\n    GridSearchCV(model, {}, n_jobs=1)",
        "import subprocess\n@pytest.mark.process\ndef test_a():\n    subprocess.run([])",
        "import subprocess\npytestmark = pytest.mark.process\ndef test_a():\n    subprocess.run([])",
        "import subprocess\npytestmark = [pytest.mark.gpu, pytest.mark.process]\ndef test_a():\n    subprocess.run([])",
        "import subprocess\ndef test_a(): ...",
    ],
)
def test_unmarked_accepts_marked_tests(body):
    assert unmarked(body) == []
