from __future__ import annotations

import inspect

import pluggy
import pytest

import sktransfer
from sktransfer.backbones import hooks


def manager():
    made = pluggy.PluginManager(hooks.GROUP)
    made.add_hookspecs(hooks)
    return made


def test_the_public_marker_is_the_one_that_is_read():
    assert sktransfer.hookimpl is hooks.hookimpl
    assert hooks.GROUP == "sktransfer"


def test_there_are_two_hooks_with_the_arguments_that_plugins_are_told_of():
    hook = manager().hook
    found = {name: list(inspect.signature(getattr(hooks, name)).parameters) for name in vars(hook) if name[0] != "_"}
    assert found == {"sktransfer_backbones": [], "sktransfer_find_backbone": ["name"]}


def test_a_marked_function_is_called_and_none_means_not_found():
    class Plugin:
        @hooks.hookimpl
        def sktransfer_find_backbone(self, name):
            return None if name == "absent" else name.upper()

    made = manager()
    made.register(Plugin())
    assert made.hook.sktransfer_find_backbone(name="absent") == []
    assert made.hook.sktransfer_find_backbone(name="x") == ["X"]


def test_an_argument_that_the_contract_does_not_have_is_refused():
    class Plugin:
        @hooks.hookimpl
        def sktransfer_backbones(self, colour):
            return []

    with pytest.raises(pluggy.PluginValidationError, match="colour"):
        manager().register(Plugin())
