"""Fixtures for plugins in the process of the tests: modules, and a registry that finds them."""

from __future__ import annotations

import sys
import textwrap
from importlib.metadata import EntryPoint

import pytest

import sktransfer.backbones.loading as loading
import sktransfer.backbones.registry as home
from sktransfer.backbones.registry import Registry
from tests.helpers.plugin_zoo import offers, toy_spec


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    """Return a function that writes a plugin's module and returns its entry point."""
    monkeypatch.syspath_prepend(tmp_path)
    modules = []

    def write(name, source, module=None):
        module = f"sktransfer_toy_{name}" if module is None else module
        modules.append(module)
        (tmp_path / f"{module}.py").write_text(textwrap.dedent(source))
        return EntryPoint(name, module, "sktransfer")

    yield write
    for module in modules:
        sys.modules.pop(module, None)


@pytest.fixture
def use(monkeypatch):
    """Return a function that installs entry points in the process."""

    def put(*entries):
        made = Registry(entry_points=lambda: entries, environ={})
        monkeypatch.setattr(home, "_registry", made)
        monkeypatch.setattr(loading, "_loaded", type(loading._loaded)())
        monkeypatch.setattr(loading, "_recent", type(loading._recent)())
        return made

    return put


@pytest.fixture
def good(plugin, use):
    return use(plugin("good", offers(toy_spec("good/small"), toy_spec("good/other"))))
