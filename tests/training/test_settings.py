"""The numbers that shape a training are checked before anything is computed."""

from __future__ import annotations

import pytest
import torch
from sklearn.callback import ProgressBar
from skorch.callbacks import PrintLog

from sktransfer import EMA, FineTuneClassifier
from sktransfer.exceptions import InvalidParameterError
from sktransfer.testing.samples import make_samples
from sktransfer.training.settings import check_settings


def settings(**parameters):
    return check_settings(FineTuneClassifier(**parameters))


def test_optimizer_is_a_name_or_a_class():
    assert settings(optimizer="sgd").optimizer is torch.optim.SGD
    assert settings(optimizer=torch.optim.RMSprop).optimizer is torch.optim.RMSprop
    for wrong in ("lion", int, None):
        with pytest.raises(InvalidParameterError, match="adamw"):
            settings(optimizer=wrong)


def test_head_lr_default_is_higher_for_a_random_head():
    assert (settings().lr, settings().head_lr) == (1e-4, 1e-4)
    assert settings(head_init="random").head_lr == pytest.approx(1e-3)
    assert settings(head_init="random", lr=0.5).head_lr == pytest.approx(5.0)
    assert settings(head_init="random", head_lr=0.1).head_lr == 0.1


@pytest.mark.parametrize(
    ("n_rows", "batch_size", "n_epochs"), [(1, 32, 10), (3200, 32, 10), (3201, 32, 9), (9000, 32, 3), (9000, 128, 10)]
)
def test_max_epochs_auto_depends_on_steps(n_rows, batch_size, n_epochs):
    found = settings(max_epochs="auto", batch_size=batch_size).for_rows(n_rows)
    assert (found.max_epochs, found.finds_epochs) == (n_epochs, False)
    assert settings(max_epochs=7, batch_size=batch_size).for_rows(n_rows).max_epochs == 7


def test_max_epochs_auto_of_a_fit_counts_the_samples_to_train_on():
    X, y = make_samples("image", 24)
    options = {"freeze_depth": "all", "layer": -1, "batch_size": 1, "random_state": 0}
    X, y = [*X] * 6, [*y] * 6  # 144 samples
    auto = FineTuneClassifier(max_epochs="auto", **options).fit(X, y)
    assert auto.n_iter_ == 1000 // 144
    plain = FineTuneClassifier(max_epochs=6, **options).fit(X, y)
    assert (auto.predict_proba(X) == plain.predict_proba(X)).all()
    auto.partial_fit(X, y)
    assert auto.n_iter_ == 7


@pytest.mark.parametrize(
    ("parameters", "match"),
    [
        ({"max_epochs": -1}, "max_epochs=-1 must be an int of at least 0, or 'auto'"),
        ({"max_epochs": "find"}, "max_epochs='find' must be an int of at least 0, or 'auto'"),
        ({"max_epochs": True}, "max_epochs=True"),
        ({"batch_size": 0}, "batch_size=0 must be an int of at least 1"),
        ({"batch_size": 2.0}, "batch_size=2.0"),
        ({"lr": 0}, "lr=0 must be a number greater than 0"),
        ({"lr": "fast"}, "lr='fast'"),
        ({"lr": float("nan")}, "lr=nan"),
        ({"head_lr": -1.0}, "head_lr=-1.0"),
        ({"weight_decay": -0.1}, "weight_decay=-0.1 must be a number of at least 0"),
        ({"head_init": "zeros"}, r"head_init='zeros' must be one of \('probe', 'class_means', 'random'\)"),
        ({"head": "mlp"}, "head='mlp' must be 'linear', or the head_"),
        ({"lr_schedule": "step"}, "lr_schedule='step' must be one of"),
        ({"layer_lr_decay": 0.9}, "layer_lr_decay=0.9 must be a number of at least 1; it divides the rate"),
        ({"layer_lr_decay": float("inf")}, "layer_lr_decay=inf"),
        ({"unfreezing": "slow"}, "unfreezing='slow' must be one of"),
        ({"l2_sp": -1}, "l2_sp=-1 must be a number of at least 0"),
        ({"label_smoothing": 1.0}, "label_smoothing=1.0 must be a number from 0 to 1, less than 1"),
        ({"criterion": "huber"}, "criterion='huber' must be None, a function of"),
        ({"criterion": torch.nn.CrossEntropyLoss()}, r"give torch.nn.CrossEntropyLoss\(reduction='none'\), or the cl"),
        ({"criterion": torch.nn.Linear(1, 1)}, r"criterion=Linear\(...\) has weights"),
        ({"criterion": torch.nn.CrossEntropyLoss, "label_smoothing": 0.1}, "leave one of the two out"),
        ({"early_stopping": 1}, "early_stopping=1 must be True or False"),
        ({"validation_fraction": 0}, "validation_fraction=0 must be a number from 0 to 1, greater than 0"),
        ({"patience": 0}, "patience=0 must be an int of at least 1"),
        ({"warm_start": "yes"}, "warm_start='yes' must be True or False"),
        ({"verbose": "yes"}, "verbose='yes' must be an int of at least 0"),
        ({"lr": float("inf")}, "lr=inf must be a number greater than 0, 'auto' or 'find'"),
        ({"callbacks": EMA(0.9)}, r"callbacks=.*EMA.* must be None or a list: callbacks=\[...\]"),
        ({"callbacks": "EMA"}, "callbacks='EMA' must be None or a list"),
        ({"callbacks": [EMA(), "SWA"]}, r"callbacks\[1\]='SWA' is no callback of skorch .*; pass an object of that"),
        ({"callbacks": [EMA(), 3]}, r"callbacks\[1\]=3 is no callback of skorch .*; derive from that class"),
        ({"callbacks": ("ema", EMA())}, r"is one callback with its name; put it into a list: callbacks=\[\(name, "),
        ({"callbacks": [EMA, None]}, r"callbacks\[1\]=None is no callback"),
        ({"callbacks": [ProgressBar()]}, r"callbacks\[0\]=.*those of scikit-learn go to set_callbacks"),
    ],
)
def test_check_settings_names_invalid_and_allowed_values(parameters, match):
    with pytest.raises(InvalidParameterError, match=match):
        settings(**parameters)


def test_fit_checks_settings_before_reading_samples():
    with pytest.raises(InvalidParameterError, match="lr=-1"):
        FineTuneClassifier(lr=-1).fit(["no such file.jpg", "nor this.jpg"], [0, 1])


@pytest.mark.parametrize("callbacks", [None, [], (EMA(),), [EMA, ("log", PrintLog), ("off", None)]])
def test_callbacks_may_be_classes_and_have_names(callbacks):
    assert settings(callbacks=callbacks).max_epochs == 10


def test_verbose_may_be_a_bool():
    assert [settings(verbose=one).verbose for one in (True, 2, False)] == [1, 2, 0]
