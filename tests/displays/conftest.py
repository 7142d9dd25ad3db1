"""Fixtures of all displays."""

from __future__ import annotations

import pytest

from tests.helpers.pictures import close


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    close()
