from __future__ import annotations

import pytest

from sktransfer._utils import progress


@pytest.mark.parametrize("verbose", [0, 1, 2])
def test_a_bar_counts_on_stderr_for_those_who_ask(verbose, capsys):
    with progress(10, "Featurizer", "image", verbose) as bar:
        bar.update(4)
        bar.update(6)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert bool(verbose) == ("Featurizer" in shown.err and "10/10" in shown.err and "image" in shown.err)
    assert verbose or not shown.err
