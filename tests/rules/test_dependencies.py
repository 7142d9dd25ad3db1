"""Every third-party package that the library or a plugin imports is declared in its pyproject.toml."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROJECTS = [ROOT, *sorted(path.parent for path in (ROOT / "plugins").glob("*/pyproject.toml"))]
DISTRIBUTIONS = {"PIL": "pillow", "sklearn": "scikit-learn"}  # whose name differs from that of the module


def distribution(name: str) -> str:
    return DISTRIBUTIONS.get(name, name).lower().replace("_", "-")


def declared(requirements: list[str]) -> set[str]:
    return {distribution(re.match(r"[\w-]+", requirement).group()) for requirement in requirements}


def imports(tree: ast.AST) -> set[str]:
    """Return the top-level modules that a piece of code imports."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module)
    return {name.partition(".")[0] for name in names} - sys.stdlib_module_names


def unconditional(tree: ast.Module) -> ast.Module:
    """Return the import statements that run when the module is imported."""
    return ast.Module([node for node in tree.body if isinstance(node, (ast.Import, ast.ImportFrom))], [])


@pytest.mark.parametrize("project", PROJECTS, ids=lambda path: path.name)
def test_pyproject_declares_every_import(project):
    table = tomllib.loads((project / "pyproject.toml").read_text())["project"]
    required = declared(table["dependencies"])
    optional = declared([one for extra in table.get("optional-dependencies", {}).values() for one in extra])
    packages = [path for path in project.glob("sktransfer*") if path.is_dir()]
    own = {path.name for path in packages}
    undeclared = []
    for path in sorted(path for package in packages for path in package.rglob("*.py")):
        tree = ast.parse(path.read_text())
        always = imports(unconditional(tree)) - own
        undeclared += [f"{path}: {name}" for name in always if distribution(name) not in required]
        ever = imports(tree) - own
        undeclared += [f"{path}: {name}" for name in ever if distribution(name) not in required | optional]
    assert not undeclared, undeclared
