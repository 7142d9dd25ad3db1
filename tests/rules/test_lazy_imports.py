"""The lazily loaded names of a package are the same at run time and for type checkers."""

from __future__ import annotations

import ast
import inspect

import pytest

import sktransfer
import sktransfer.backbones
import sktransfer.testing


@pytest.mark.parametrize(
    "package", [sktransfer, sktransfer.backbones, sktransfer.testing], ids=lambda one: one.__name__
)
def test_home_and_type_checking_imports_agree(package):
    (block,) = [node for node in ast.parse(inspect.getsource(package)).body if isinstance(node, ast.If)]
    typed = {alias.asname: node.module for node in block.body for alias in node.names}
    assert typed == package._HOME
    assert set(package.__all__) <= set(dir(package))
