"""Providers and first-party plugins import nothing of sktransfer but the plugin API."""

from __future__ import annotations

import ast
from pathlib import Path

import sktransfer.backbones

ROOT = Path(__file__).parents[2]
PROVIDERS = sorted((ROOT / "sktransfer" / "providers").glob("*.py"))
PLUGINS = sorted((ROOT / "plugins").glob("*/sktransfer_*/*.py"))
ALLOWED = ("sktransfer.exceptions", "sktransfer.config")


def test_plugins_import_only_the_plugin_api():
    assert PROVIDERS
    assert PLUGINS
    forbidden = []
    for path in [*PROVIDERS, *PLUGINS]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module == "sktransfer.backbones":
                private = [alias.name for alias in node.names if alias.name not in sktransfer.backbones.__all__]
                names = [f"sktransfer.backbones.{name}" for name in private]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or "."]
            else:
                continue
            own = ("sktransfer.providers",) if path in PROVIDERS else ()
            ours = [name for name in names if name == "sktransfer" or name.startswith(("sktransfer.", "."))]
            forbidden += [f"{path}: {name}" for name in ours if not name.startswith((*ALLOWED, *own))]
    assert not forbidden, forbidden


def test_plugin_api_names_have_docstrings():
    assert sktransfer.backbones.__all__ == sorted(sktransfer.backbones.__all__)
    undocumented = [
        name
        for name in sktransfer.backbones.__all__
        if name != "hookimpl" and not getattr(sktransfer.backbones, name).__doc__
    ]
    assert not undocumented
