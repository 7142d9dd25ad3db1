"""What a training leaves to be read."""

from __future__ import annotations

import pandas as pd
import pytest
from skorch.callbacks import Callback

from sktransfer import FineTuneClassifier, MultiTaskFineTuner
from sktransfer.testing.samples import make_samples

IMAGES, LABELS = make_samples("image", 12)
TEXTS, _ = make_samples("text", 12)


class Extra(Callback):
    def on_epoch_end(self, net, **kwargs):
        net.history.record("mine", 7 + len(net.history))


def test_history_has_a_row_per_epoch():
    clf = FineTuneClassifier(max_epochs=3, callbacks=[Extra()], random_state=0).fit(IMAGES, LABELS)
    history = clf.history_
    assert list(history.index) == [1, 2, 3]
    assert history.index.name == "epoch"
    assert list(history["mine"]) == [8, 9, 10]
    assert list(history["train_loss"]) == clf.net_.history[:, "train_loss"]
    assert (history["seconds"] >= 0).all()
    assert list(history["lr"]) == pytest.approx([1e-4 * 2 / 3, 1e-4 / 3, 0])
    assert not [name for name in history if "batch" in name]
    assert clf.lr_ == 1e-4


@pytest.mark.parametrize("tuner", [FineTuneClassifier("tiny/bert", layer="mix"), MultiTaskFineTuner("tiny/bert")])
def test_history_has_no_rates_of_weights_of_layers_or_tasks(tuner):
    y = pd.DataFrame({"a": LABELS, "b": LABELS})
    options = {"task_weights": "uncertainty"} if isinstance(tuner, MultiTaskFineTuner) else {}
    tuner.set_params(**options, lr_schedule="constant", max_epochs=1, random_state=0)
    history = tuner.fit(TEXTS, y if options else LABELS).history_
    assert history["lr"].tolist() == [1e-4]


def test_history_is_empty_with_max_epochs_0():
    clf = FineTuneClassifier(max_epochs=0).fit(IMAGES, LABELS)
    assert len(clf.history_) == clf.n_iter_ == 0


def test_history_includes_the_epoch_in_which_a_callback_ends_training():
    class Stop:
        def setup(self, estimator, context): ...
        def teardown(self, estimator, context): ...
        def on_fit_task_begin(self, estimator, context): ...
        def on_fit_task_end(self, estimator, context):
            return context.task_name == "epoch" and context.task_id == 1

    clf = FineTuneClassifier(max_epochs=9, random_state=0).set_callbacks(Stop()).fit(IMAGES, LABELS)
    assert clf.history_["train_loss"].notna().sum() == 2


def test_stages_shows_what_was_trained():
    clf = FineTuneClassifier(freeze_depth="all", max_epochs=1, random_state=0).fit(IMAGES, LABELS)
    assert not clf.stages_["trained"].any()
    assert clf.stages_["n_trained"].sum() == 0
    clf = FineTuneClassifier(layer="block3", freeze_depth=2, max_epochs=1, random_state=0).fit(IMAGES, LABELS)
    assert list(clf.stages_.index) == ["stem", "block1", "block2", "block3"]
    assert list(clf.stages_["trained"]) == [False, False, True, True]
    assert clf.stages_["lr"].dropna().tolist() == [pytest.approx(1e-4)] * 2
