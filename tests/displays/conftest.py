"""Fixtures of all displays."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _close_figures():
    from tests.helpers.pictures import close  # imports matplotlib, without which tests of displays are skipped

    yield
    close()
