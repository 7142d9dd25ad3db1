from __future__ import annotations

import pandas as pd
import pytest
from matplotlib import pyplot as plt

from sktransfer.displays.axes import COLOURS, MARKERS, axes_for, check_columns, finish, short
from sktransfer.exceptions import InvalidParameterError


def test_axes_are_those_given_or_new_ones():
    _, ax = plt.subplots()
    assert axes_for(ax) is ax
    assert axes_for(None) is not ax
    finish(ax)
    assert not ax.spines["top"].get_visible()
    plt.close("all")


def test_every_colour_has_a_marker_of_its_own():
    assert len(set(COLOURS)) == len(COLOURS) == len(set(MARKERS)) == len(MARKERS)


def test_names_are_shortened_in_the_middle():
    assert short("hf//a/b/c/model") == "hf/…/c/model"
    assert short("torchvision/mobilenet_v2") == "torchvision/mobilenet_v2"
    long = short("hf/" + "x" * 50 + "end")
    assert len(long) <= 32
    assert long.endswith("end")


def test_what_is_no_ranking_is_an_error():
    check_columns(pd.DataFrame({"layer": []}), ["layer"], "Display")
    for wrong in (pd.DataFrame({"a": []}), [1, 2]):
        with pytest.raises(InvalidParameterError, match="as rank_backbones returns it"):
            check_columns(wrong, ["layer"], "Display")
