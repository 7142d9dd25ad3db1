from __future__ import annotations

import inspect
import subprocess
import sys
from importlib import import_module

import pluggy
import pytest

import sktransfer
import sktransfer.backbones as surface
from sktransfer.backbones import hooks


def manager():
    made = pluggy.PluginManager(hooks.GROUP)
    made.add_hookspecs(hooks)
    return made


def test_hookimpl_is_the_marker_that_is_read():
    assert sktransfer.hookimpl is hooks.hookimpl
    assert hooks.GROUP == "sktransfer"


def test_hooks_have_the_documented_arguments():
    hook = manager().hook
    found = {name: list(inspect.signature(getattr(hooks, name)).parameters) for name in vars(hook) if name[0] != "_"}
    expected = {
        "sktransfer_backbones": [],
        "sktransfer_find_backbone": ["name"],
        "sktransfer_transferability_scores": [],
        "sktransfer_runtimes": [],
    }
    assert found == expected


def test_sktransfer_find_backbone_is_called_and_none_means_not_found():
    class Plugin:
        @hooks.hookimpl
        def sktransfer_find_backbone(self, name):
            return None if name == "absent" else name.upper()

    made = manager()
    made.register(Plugin())
    assert made.hook.sktransfer_find_backbone(name="absent") == []
    assert made.hook.sktransfer_find_backbone(name="x") == ["X"]


def test_sktransfer_backbones_with_an_unknown_argument_is_refused():
    class Plugin:
        @hooks.hookimpl
        def sktransfer_backbones(self, colour):
            return []

    with pytest.raises(pluggy.PluginValidationError, match="colour"):
        manager().register(Plugin())


def test_backbones_module_exports_what_plugin_authors_need():
    assert surface.__all__ == sorted(surface.__all__)
    assert {"Backbone", "BackboneSpec", "ImageStage", "ImageTransform", "Tokens", "fill"} < set(surface.__all__)
    for name in surface.__all__:
        assert getattr(surface, name) is getattr(import_module(surface._HOME[name]), name)
        assert name in dir(surface)
    assert surface.Backbone is sktransfer.Backbone
    assert surface.hookimpl is hooks.hookimpl
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        surface.nonsense  # noqa: B018


@pytest.mark.process
def test_backbones_module_imports_no_heavy_package():
    code = "import sys; from sktransfer.backbones import BackboneSpec, WeightsSource, hookimpl; "
    code += "print(sorted({'torch', 'numpy', 'sklearn', 'PIL', 'transformers'} & set(sys.modules)))"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    )
