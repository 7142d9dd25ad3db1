"""Learning rate finder of an estimator."""

from __future__ import annotations

from typing import Any

from sklearn.base import clone
from sklearn.pipeline import Pipeline

from sktransfer._validation import check_float, check_int
from sktransfer.exceptions import InvalidParameterError
from sktransfer.finetuning.base import FineTuneBase
from sktransfer.training.lr_finder import LearningRates, step_callbacks
from sktransfer.training.run import LRRange

__all__ = ["find_lr"]


def find_lr(
    estimator: Any,
    X: Any,
    y: Any,
    sample_weight: Any = None,
    *,
    lowest: float = 1e-6,
    highest: float = 1.0,
    n_steps: int = 60,
) -> LearningRates:
    """Run a learning rate range test on a clone, and return the gain at each rate [1]_.

    The rate rises at each step. Losses of single batches differ far more than a step changes them, above all if the
    head starts as a probe. The loss of each batch is therefore compared with its loss under the initial weights. The
    rate of the head rises in proportion, and so do the rates that `layer_lr_decay` sets apart, but not the rate of the
    weights of mixed layers. All stages above the freezing boundary are trained from the first step. The estimator is
    not changed. With `lr="find"`, its `fit` runs the same test before the training.

    Parameters
    ----------
    estimator : FineTuneClassifier, FineTuneRegressor, MultiTaskFineTuner or ContrastiveFineTuner
        Estimator with the parameters of the training. Of its callbacks, those that change a step are used
        (`MicroBatches`, `Mixup`, `GradientNormClipping`).
    X : array-like, Series, one-column DataFrame or list of n_samples
        Images or texts.
    y : array-like of shape (n_samples,) or (n_samples, n_outputs)
        Targets, as `fit` takes them.
    sample_weight : array-like of shape (n_samples,), default=None
        Weight of each sample, as `fit` takes them. Only ratios of weights matter.
    lowest : float, default=1e-06
        Rate of the highest stage at the first step.
    highest : float, default=1.0
        Rate at the last step. The test stops earlier if the loss diverges.
    n_steps : int, default=60
        Largest number of batches.

    Returns
    -------
    result : LearningRates
        Rate to use, and the curve.

    Raises
    ------
    InvalidParameterError
        If a parameter of this function or of the estimator is not allowed.

    References
    ----------
    .. [1] L. Smith, "Cyclical Learning Rates for Training Neural Networks", WACV 2017, section 3.3.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sktransfer import FineTuneClassifier, find_lr
    >>> X, y = load_digits(return_X_y=True)
    >>> result = find_lr(FineTuneClassifier(random_state=0), X[:100] / 16, y[:100], n_steps=20)
    >>> bool(1e-6 < result.lr < 0.1), list(result.curve)
    (True, ['lr', 'loss', 'change', 'smoothed'])
    """
    _check_estimator(estimator)
    low = check_float("lowest", lowest, exclude_minimum=True)
    high = check_float("highest", highest, exclude_minimum=True)
    if not low < high:
        raise InvalidParameterError(f"lowest={lowest!r} must be less than highest={highest!r}")
    scope = LRRange(low, high, check_int("n_steps", n_steps, 2))
    trial: FineTuneBase = clone(estimator).set_params(max_epochs=0, callbacks=step_callbacks(estimator.callbacks))
    return trial._range_test(X, y, sample_weight, scope)


def _check_estimator(estimator: Any) -> None:
    if isinstance(estimator, FineTuneBase):
        return
    hint = ""
    if isinstance(estimator, Pipeline):
        hint = ". Of a pipeline pass the last step, estimator[-1], and X as the steps before it give it"
    elif hasattr(estimator, "estimator"):
        hint = ". Of a search pass its estimator"
    given = estimator.__name__ if isinstance(estimator, type) else type(estimator).__name__
    raise InvalidParameterError(
        f"estimator={given} must be an instance of an estimator that trains with a learning rate, such as "
        f"FineTuneClassifier{hint}"
    )
