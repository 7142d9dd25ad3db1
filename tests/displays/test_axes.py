from __future__ import annotations

import sys

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib import pyplot as plt
from sklearn.linear_model import LogisticRegression

from sktransfer import MaskDisplay, TrainingHistoryDisplay, load_backbone
from sktransfer.displays.axes import COLOURS, MARKERS, check_ranking, labels_of, resolve_axes, shorten_name, style_axes
from sktransfer.exceptions import InvalidParameterError


def test_resolve_axes_returns_the_given_axes_or_new_ones():
    _, ax = plt.subplots()
    assert resolve_axes(ax) is ax
    assert resolve_axes(None) is not ax
    style_axes(ax)
    assert not ax.spines["top"].get_visible()


@pytest.mark.parametrize(
    "display",
    [
        MaskDisplay(np.zeros((1, 8, 8, 3)), {"mask": [np.eye(8, dtype=int)]}),
        TrainingHistoryDisplay({"train_loss": [1]}),
    ],
    ids=["mask", "history"],
)
def test_plot_without_matplotlib_says_what_to_install(display, monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match="displays need matplotlib: pip install"):
        display.plot()


def test_colours_have_distinct_markers():
    assert len(set(COLOURS)) == len(COLOURS) == len(set(MARKERS)) == len(MARKERS)


def test_shorten_name_cuts_the_middle():
    assert shorten_name("hf//a/b/c/model") == "hf/…/c/model"
    assert shorten_name("torchvision/mobilenet_v2") == "torchvision/mobilenet_v2"
    long = shorten_name("hf/" + "x" * 50 + "end")
    assert len(long) <= 32
    assert long.endswith("end")


def test_labels_of_are_short_in_one_line_and_distinct():
    network = torch.nn.Sequential(*[torch.nn.Linear(2, 2)] * 9)
    values = [np.float64(0.1 + 0.2), np.int64(3), True, 1e-5, "a\nb", "None", LogisticRegression(C=2), network, len]
    expected = ["0.3", "3", "True", "1e-05", "a b", "'None'", "LogisticRegression(C=2)", "Sequential", "len"]
    assert labels_of(values) == expected
    backbones = [load_backbone("tiny/cnn", weights=weights) for weights in ("pretrained", "random")]
    assert labels_of([*backbones, "x" * 99]) == ["tiny/cnn", "tiny/cnn #2", "x" * 15 + "…" + "x" * 16]
    assert labels_of([("all", 1.0), ["all", 1]]) == ["(all, 1.0)", "[all, 1]"]


def test_check_ranking_needs_its_columns():
    check_ranking(pd.DataFrame({"backbone": [], "layer": []}), "Display")
    for wrong in (pd.DataFrame({"a": []}), [1, 2]):
        with pytest.raises(InvalidParameterError, match="as rank_backbones returns it"):
            check_ranking(wrong, "Display")
