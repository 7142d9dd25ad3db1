"""Checks of the `callbacks` parameter: instances or classes of skorch callbacks, named or not."""

from __future__ import annotations

import copy
import dis
import signal
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from sklearn.callback import FitCallback
from skorch.callbacks import (
    Callback,
    Checkpoint,
    EarlyStopping,
    EpochScoring,
    LRScheduler,
    PassthroughScoring,
    TrainEndCheckpoint,
)
from skorch.callbacks.scoring import ScoringBase
from torch.optim.lr_scheduler import ReduceLROnPlateau

from sktransfer.exceptions import InvalidParameterError, ValidationWarning, warn
from sktransfer.tasks.base import Task
from sktransfer.training.epochs.history import recorded_columns

__all__ = [
    "check_callbacks",
    "check_monitors",
    "check_scoring",
    "copied",
    "is_callback_type",
    "named",
    "raised_by_statement",
    "reads_batch_losses",
    "unnamed",
]

_RAISE = dis.opmap["RAISE_VARARGS"]


def unnamed(callbacks: Sequence[Any] | None) -> list[Any]:
    """Return callbacks without their names.

    Parameters
    ----------
    callbacks : sequence or None
        Callbacks of skorch, its classes, or pairs of a name and one of these.
    """
    return [item[1] if isinstance(item, (tuple, list)) and len(item) == 2 else item for item in callbacks or []]


def named(callbacks: Any) -> dict[str, int]:
    """Return the index of each callback by its name: the given one, else that of its class, as skorch names it.

    Several callbacks of one class have "_1", "_2" and so on appended. Values that are no callbacks are left out.

    Parameters
    ----------
    callbacks : anything
        Value of the parameter, checked or not.

    Examples
    --------
    >>> from skorch.callbacks import EarlyStopping, EpochTimer
    >>> from sktransfer.training.callback_list import named
    >>> named([("es", EarlyStopping()), EpochTimer, EpochTimer()])
    {'es': 0, 'EpochTimer_1': 1, 'EpochTimer_2': 2}
    """
    by_name: dict[str, list[int]] = {}
    for index, item in enumerate(callbacks if isinstance(callbacks, (list, tuple)) else []):
        callback = unnamed([item])[0]
        if item is not callback and isinstance(item[0], str):
            by_name.setdefault(item[0], []).append(index)
        elif is_callback_type(callback, Callback):
            cls = callback if isinstance(callback, type) else type(callback)
            by_name.setdefault(cls.__name__, []).append(index)
    return {
        name if len(indices) == 1 else f"{name}_{number}": index
        for name, indices in by_name.items()
        for number, index in enumerate(indices, start=1)
    }


def copied(callbacks: Sequence[Any] | None) -> list[Any]:
    """Return callbacks that a training may change, without those that are None.

    Callbacks that hold each other do so as copies. Lists and dicts that they hold are copied. Other objects are shared,
    such as the writer of a log, which may not be copyable.

    Parameters
    ----------
    callbacks : sequence or None
        Callbacks of skorch, its classes, or pairs of a name and one of these or None.
    """
    memo: dict[int, Any] = {}
    return [_copied(item, memo) for item in callbacks or [] if unnamed([item])[0] is not None]


def _copied(value: Any, memo: dict[int, Any]) -> Any:
    if id(value) in memo:
        return memo[id(value)]
    if isinstance(value, Callback):
        memo[id(value)] = new = copy.copy(value)
        vars(new).update({name: _copied(one, memo) for name, one in vars(new).items()})
    elif isinstance(value, dict):
        memo[id(value)] = new = copy.copy(value)
        new.update({name: _copied(one, memo) for name, one in value.items()})
    elif isinstance(value, list):
        memo[id(value)] = new = copy.copy(value)
        new[:] = [_copied(one, memo) for one in value]
    elif isinstance(value, set):
        memo[id(value)] = new = copy.copy(value)
    elif type(value) is tuple:
        memo[id(value)] = new = tuple(_copied(one, memo) for one in value)
    else:
        return value
    return new


def is_callback_type(callback: Any, *kinds: type) -> bool:
    """Return whether a callback is an instance or a subclass of some classes. skorch instantiates classes.

    Parameters
    ----------
    callback : anything
        Item of a list of callbacks.
    *kinds : type
        Classes to compare with.
    """
    return issubclass(callback, kinds) if isinstance(callback, type) else isinstance(callback, kinds)


def check_callbacks(callbacks: Any) -> None:
    """Raise unless a `callbacks` parameter is None or a list of skorch callbacks.

    Parameters
    ----------
    callbacks : anything
        Value of the parameter.

    Raises
    ------
    InvalidParameterError
        If it is not. The message names the index.
    """
    if callbacks is None:
        return
    if isinstance(callbacks, tuple) and len(callbacks) == 2 and isinstance(callbacks[0], str):
        raise InvalidParameterError(
            f"callbacks={callbacks!r} is one callback with its name; put it into a list: callbacks=[(name, callback)]"
        )
    if not isinstance(callbacks, (list, tuple)):
        raise InvalidParameterError(f"callbacks={callbacks!r} must be None or a list: callbacks=[...]")
    for index, (item, callback) in enumerate(zip(callbacks, unnamed(callbacks))):
        is_named = item is not callback and isinstance(item[0], str)
        if is_named and callback is None:
            continue  # switched off, as in skorch
        if is_callback_type(callback, Callback) and (item is callback or is_named):
            continue
        is_sklearns = isinstance(callback, FitCallback)
        hint = "those of scikit-learn go to set_callbacks" if is_sklearns else "derive from that class"
        hint = "pass an object of that class, and not its name" if isinstance(callback, str) else hint
        raise InvalidParameterError(
            f"callbacks[{index}]={callback!r} is no callback of skorch (skorch.callbacks.Callback), with or without a "
            f"name (name, callback); {hint}"
        )


def check_monitors(
    callbacks: Sequence[Any] | None,
    tasks: Mapping[str, Task],
    *,
    validates: bool,
    remedy: str,
    idle: Collection[str] = (),
) -> None:
    """Raise if a callback of skorch monitors a score that is not recorded, and warn if one scores nothing.

    Parameters
    ----------
    callbacks : sequence of skorch callbacks or None
        Value of the parameter, checked by `check_callbacks`.
    tasks : mapping of str to Task
        Tasks of the training by name. The columns of the history follow from them.
    validates : bool
        Whether the training has validation data.
    remedy : str
        What to do to have validation data, for messages.
    idle : collection of str, default=()
        Names of tasks of weight 0.

    Raises
    ------
    InvalidParameterError
        If `EarlyStopping`, `LRScheduler("ReduceLROnPlateau")` or `Checkpoint` would fail at the end of the first epoch.

    Warns
    -----
    ValidationWarning
        If a score of validation data is asked for, and there are none.
    """
    given = [callback() if isinstance(callback, type) else callback for callback in unnamed(callbacks)]
    others = [one for one in given if one is not None]
    knows_all = all(type(callback).__module__.startswith(("skorch.", "sktransfer.")) for callback in others)
    columns = recorded_columns(tasks, idle)
    missing = set() if validates else {name for name in columns if name.startswith("valid_")}
    recorded = columns - missing
    later = {name for callback in given for name in _recorded_by(callback)}
    for index, callback in enumerate(given):
        names, what = _recorded_by(callback), f"callbacks[{index}]: {type(callback).__name__}"
        if names and not (validates or callback.on_train):
            missing |= names
            warn(
                f"{what} records {min(names, key=len)!r} of validation data, and this training has none: {remedy}, or "
                "set on_train=True to score the training samples",
                ValidationWarning,
            )
        else:
            recorded |= names
        monitor = _monitor_of(callback)
        if not isinstance(monitor, str) or monitor in recorded:
            continue
        if monitor in missing:
            raise InvalidParameterError(
                f"{what} monitors {monitor!r}, which is computed on validation data, and this training has none: "
                f"{remedy}, or set monitor='train_loss{'_best' if monitor.endswith('_best') else ''}'"
            )
        if monitor in later:
            raise InvalidParameterError(
                f"{what} monitors {monitor!r}, which a later callback records; put that callback before it"
            )
        if knows_all:
            scoring = f"EpochScoring({monitor.removesuffix('_best')!r}{'' if validates else ', on_train=True'})"
            remedies = f". Put {scoring} before it, if that is the name of a metric" if _are_scored(tasks) else ""
            raise InvalidParameterError(
                f"{what} monitors {monitor!r}, which no callback records; recorded are {sorted(recorded)}{remedies}"
            )


def check_scoring(callbacks: Sequence[Any] | None, tasks: Mapping[str, Task]) -> None:
    """Raise if a callback of skorch scores predictions, and there is not one prediction per sample.

    A function of (net, X, y) is allowed: as `BatchScoring`, or as `EpochScoring` without kept predictions.

    Parameters
    ----------
    callbacks : sequence of skorch callbacks or None
        Value of the parameter, checked by `check_callbacks`.
    tasks : mapping of str to Task
        Tasks of the training by name.

    Raises
    ------
    InvalidParameterError
        If `EpochScoring` or `BatchScoring` would fail.
    """
    if _are_scored(tasks):
        return
    task = next(iter(tasks.values()))
    if len(tasks) > 1:
        here = f"the predictions of one task, and there are {len(tasks)} tasks, {list(tasks)}"
    elif task.score_name:
        here = f"one prediction per sample, and here there is one per {task.scored_unit}"
    else:
        here = "predictions, and this training makes none"
    columns = sorted(name for name in recorded_columns(tasks) if not name.endswith("_best") and name != "train_loss")
    for index, callback in _scores_of_predictions(callbacks):
        raise InvalidParameterError(
            f"callbacks[{index}]: {type(callback).__name__} scores {here}. history_ has the columns {columns}, which "
            "callbacks may monitor; those that begin with valid_ need validation data. For another score, use "
            "set_callbacks with a callback of scikit-learn"
        )


def _are_scored(tasks: Mapping[str, Task]) -> bool:
    """Return whether a net of some tasks makes one prediction per sample, which skorch can score."""
    return len(tasks) == 1 and all(task.score_name and task.scored_unit == "sample" for task in tasks.values())


def _scores_of_predictions(callbacks: Sequence[Any] | None) -> Iterator[tuple[int, Any]]:
    """Yield the callbacks of skorch that score predictions, with their positions."""
    for index, item in enumerate(unnamed(callbacks)):
        callback = item() if isinstance(item, type) else item
        if not isinstance(callback, ScoringBase):
            continue
        is_function = callable(callback.scoring) and not str(callback.scoring.__module__).startswith("sklearn.")
        if not is_function or (isinstance(callback, EpochScoring) and callback.use_caching):
            yield index, callback


def reads_batch_losses(callback: Any) -> bool:
    """Return whether a callback may read the loss of a batch when the batch ends.

    Parameters
    ----------
    callback : skorch Callback
        Callback of a net. A class whose `on_batch_end` reads none has `reads_batch_losses = False`.
    """
    if isinstance(callback, LRScheduler):
        return callback.policy_ is ReduceLROnPlateau
    owner = next(one for one in type(callback).__mro__ if "on_batch_end" in vars(one))
    return owner is not Callback and vars(owner).get("reads_batch_losses", True)


def raised_by_statement(error: BaseException) -> bool:
    """Return whether a `raise` statement raised an exception. Ctrl-C interrupts any other instruction.

    A handler of SIGINT that is written in Python raises by a statement too. It is recognized by its code.

    Parameters
    ----------
    error : BaseException
        Exception that a callback's method raised.
    """
    handler = getattr(signal.getsignal(signal.SIGINT), "__code__", None)
    traceback = error.__traceback__
    while traceback is not None:
        code, offset = traceback.tb_frame.f_code, traceback.tb_lasti
        if code is handler:
            return False
        traceback = traceback.tb_next
        if traceback is None:
            return code.co_code[offset] == _RAISE
    return False


def _recorded_by(callback: Any) -> set[str]:
    """Return the columns of the history that a scoring callback records."""
    if isinstance(callback, PassthroughScoring):
        name = callback.name
    elif isinstance(callback, ScoringBase):
        name = copy.copy(callback).initialize().name_
    else:
        return set()
    return {name} if callback.lower_is_better is None else {name, f"{name}_best"}


def _monitor_of(callback: Any) -> Any:
    """Return what a callback monitors at the end of an epoch; None if nothing."""
    if isinstance(callback, LRScheduler):
        policy = callback.policy
        return callback.monitor if getattr(policy, "__name__", policy) == "ReduceLROnPlateau" else None
    monitors = isinstance(callback, (EarlyStopping, Checkpoint)) and not isinstance(callback, TrainEndCheckpoint)
    return callback.monitor if monitors else None
