from __future__ import annotations

import pandas as pd
import pytest
from matplotlib import pyplot as plt

from sktransfer.displays.axes import COLOURS, MARKERS, check_ranking, resolve_axes, shorten_name, style_axes
from sktransfer.exceptions import InvalidParameterError


def test_resolve_axes_returns_the_given_axes_or_new_ones():
    _, ax = plt.subplots()
    assert resolve_axes(ax) is ax
    assert resolve_axes(None) is not ax
    style_axes(ax)
    assert not ax.spines["top"].get_visible()


def test_colours_have_distinct_markers():
    assert len(set(COLOURS)) == len(COLOURS) == len(set(MARKERS)) == len(MARKERS)


def test_shorten_name_cuts_the_middle():
    assert shorten_name("hf//a/b/c/model") == "hf/…/c/model"
    assert shorten_name("torchvision/mobilenet_v2") == "torchvision/mobilenet_v2"
    long = shorten_name("hf/" + "x" * 50 + "end")
    assert len(long) <= 32
    assert long.endswith("end")


def test_check_ranking_needs_its_columns():
    check_ranking(pd.DataFrame({"backbone": [], "layer": []}), "Display")
    for wrong in (pd.DataFrame({"a": []}), [1, 2]):
        with pytest.raises(InvalidParameterError, match="as rank_backbones returns it"):
            check_ranking(wrong, "Display")
