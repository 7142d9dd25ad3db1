"""Shared names of estimator tests: the small Bert, and estimators that train briefly."""

from __future__ import annotations

from sktransfer import FineTuneClassifier
from tests.helpers.small_bert import small_bert

BERT = "hf/" + small_bert()


def quick(*backbone, cls=FineTuneClassifier, **parameters):
    """Return an estimator with two epochs and a fixed seed, unless `parameters` say otherwise."""
    return cls(*backbone, **{"max_epochs": 2, "random_state": 0, **parameters})
