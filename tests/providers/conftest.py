"""The script that writes the shipped tables of networks."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def spec_tables():
    spec = importlib.util.spec_from_file_location("spec_tables", ROOT / "benchmarks" / "spec_tables.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
