"""Scores of how well features suit labels, or a pretrained head's probabilities do: arrays in, a float out.

None of them trains anything. All are larger where the features suit the labels better, but a score is no accuracy: it
compares layers and backbones on the same samples, and nothing else.
"""

from __future__ import annotations

from sktransfer.selection.h_score import h_score
from sktransfer.selection.head_scores import leep, nce
from sktransfer.selection.logme import logme
from sktransfer.selection.neighbours import knn

__all__ = ["h_score", "knn", "leep", "logme", "nce"]
