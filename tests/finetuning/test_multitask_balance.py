"""`MultiTaskFineTuner`: learned weights and aggregators from call to call, and in copies."""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone

from sktransfer import MultiTaskFineTuner, load, save
from sktransfer.exceptions import SaveError
from sktransfer.testing.samples import make_samples

aggregators = pytest.importorskip("torchjd.aggregation")

IMAGES, LABELS = make_samples("image", 12)
Y = pd.DataFrame({"kind": LABELS, "size": np.where(np.arange(12) % 3 > 0, np.arange(12) / 7, np.nan)})


def tuner(**options):
    return MultiTaskFineTuner("tiny/cnn", layer=-1, max_epochs=1, random_state=0, **options)


def test_task_weights_uncertainty_continues_with_partial_fit(tmp_path):
    """Also after `save` and `load`."""
    one = tuner(task_weights="uncertainty")
    seen = []
    for _ in range(2):
        one.partial_fit(IMAGES, Y, classes={"kind": np.unique(LABELS)})
        seen.append(one.task_weights_["kind"])
    assert 1 < seen[0] < seen[1]
    save(one, tmp_path / "tuner")
    loaded = load(tmp_path / "tuner")
    assert loaded.task_weights_ == one.task_weights_
    loaded.partial_fit(IMAGES, Y)
    assert loaded.task_weights_["kind"] > seen[1]


def test_task_weights_uncertainty_leaves_the_validation_loss_plain():
    """It is the sum of the losses, so that epochs are comparable."""
    fitted = tuner(task_weights="uncertainty", early_stopping=True, validation_fraction=0.4).fit(IMAGES, Y)
    history = fitted.history_
    assert history["valid_loss"].iloc[0] == pytest.approx(
        history["valid_loss_kind"].iloc[0] + history["valid_loss_size"].iloc[0], rel=1e-5
    )


def test_aggregator_is_cloned_pickled_and_left_out_by_save(tmp_path):
    aggregator = aggregators.MGDA(epsilon=0.1)
    fitted = clone(tuner(aggregator=aggregator)).fit(IMAGES, Y)
    assert "aggregator=MGDA(epsilon=0.1" in repr(fitted)
    again = pickle.loads(pickle.dumps(fitted))
    assert again.predict(IMAGES).equals(fitted.predict(IMAGES))
    with pytest.raises(SaveError, match=r"set_params\(aggregator=None\)"):
        save(fitted, tmp_path / "tuner")
    save(fitted.set_params(aggregator=None), tmp_path / "tuner")
    assert load(tmp_path / "tuner").predict(IMAGES).equals(again.predict(IMAGES))
