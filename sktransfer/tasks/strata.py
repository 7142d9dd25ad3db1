"""Folds and held-out parts that keep the ratio of several strata, such as the classes of several tasks."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from sktransfer.exceptions import ValidationWarning, warn

__all__ = ["assign_folds", "hold_out_tasks"]


def assign_folds(
    strata: np.ndarray, shares: np.ndarray, rng: np.random.RandomState | None, groups: np.ndarray | None = None
) -> np.ndarray:
    """Return the fold of each row (n_samples,), so that each stratum is spread over the folds by their shares [1]_.

    The rarest stratum comes first. Each of its rows goes to the fold that lacks most of the stratum, then to the fold
    that lacks most rows.

    Parameters
    ----------
    strata : ndarray of shape (n_samples, n_strata), bool
        Whether each row is in each stratum. A row may be in several strata or in none.
    shares : ndarray of shape (n_folds,)
        Share of the rows of each fold, summing to one.
    rng : RandomState or None
        Draws the order of rows and folds; None for their order.
    groups : ndarray of shape (n_samples,), default=None
        Group of each row. The rows of a group are in one fold.

    References
    ----------
    .. [1] K. Sechidis, G. Tsoumakas, I. Vlahavas, "On the Stratification of Multi-Label Data", ECML PKDD 2011.

    Examples
    --------
    >>> import numpy as np
    >>> from sktransfer.tasks.strata import assign_folds
    >>> strata = np.array([[1, 0], [1, 1], [0, 1], [0, 1], [1, 0], [0, 0]], dtype=bool)
    >>> assign_folds(strata, np.array([0.5, 0.5]), None).tolist()
    [0, 1, 0, 1, 0, 1]
    """
    unit = np.arange(len(strata)) if groups is None else np.unique(groups, return_inverse=True)[1]  # (n_samples,)
    sizes = np.bincount(unit)  # (n_units,)
    counts = strata.astype(np.int64)  # (n_samples, n_strata)
    if groups is not None:
        counts = np.zeros((len(sizes), strata.shape[1]), dtype=np.int64)  # (n_units, n_strata)
        np.add.at(counts, unit, strata)
    order = np.arange(len(sizes)) if rng is None else rng.permutation(len(sizes))  # (n_units,)
    draws = (
        np.tile(-np.arange(len(shares)), (len(sizes), 1))
        if rng is None
        else rng.uniform(size=(len(sizes), len(shares)))
    )
    folds = _assign(counts[order], sizes[order], shares, draws)  # (n_units,)
    if np.ptp(shares) == 0:
        _spread(folds, counts[order] > 0, len(shares))
    by_unit = np.empty(len(sizes), dtype=np.int64)  # (n_units,)
    by_unit[order] = folds
    fold: np.ndarray = by_unit[unit]  # (n_samples,)
    return fold


def _assign(counts: np.ndarray, sizes: np.ndarray, shares: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """Return the fold of each unit (n_units,), of which (n_units, n_strata) rows are in each stratum."""
    lacking = np.outer(shares, counts.sum(0))  # (n_folds, n_strata)
    room = shares * sizes.sum()  # (n_folds,)
    folds = np.full(len(counts), -1)  # (n_units,)
    member = counts > 0  # (n_units, n_strata)
    remaining = member.sum(0)  # (n_strata,)

    def place(unit: int, wanted: np.ndarray) -> None:
        best = int(np.lexsort([draws[unit], room.round(6), wanted.round(6)])[-1])  # the last key counts most
        folds[unit] = best
        lacking[best] -= counts[unit]
        room[best] -= sizes[unit]

    while remaining.any():
        stratum = int(np.argmin(np.where(remaining > 0, remaining, np.iinfo(np.int64).max)))
        units = np.flatnonzero(member[:, stratum] & (folds < 0))
        for unit in units[np.argsort(-sizes[units], kind="stable")].tolist():  # large groups are hard to place later
            place(unit, lacking[:, stratum])
        remaining -= member[units].sum(0)
    rest = np.flatnonzero(folds < 0)
    for unit in rest[np.argsort(-sizes[rest], kind="stable")].tolist():
        place(unit, room)
    return folds


def _spread(folds: np.ndarray, member: np.ndarray, n_folds: int) -> None:
    """Move units so that each fold has each stratum of at least as many units as there are folds, if it can."""
    wide = member[:, member.sum(0) >= n_folds]  # (n_units, n_wide)
    present = np.stack([wide[folds == fold].sum(0) for fold in range(n_folds)])  # (n_folds, n_wide)
    for fold, stratum in np.argwhere(present == 0).tolist():
        if present[fold, stratum]:
            continue  # an earlier move brought it
        for unit in np.flatnonzero(wide[:, stratum]).tolist():
            if (present[folds[unit], wide[unit]] > 1).all():  # its own fold keeps all strata
                present[folds[unit]] -= wide[unit]
                present[fold] += wide[unit]
                folds[unit] = fold
                break


def hold_out_tasks(
    strata: Mapping[str, np.ndarray], groups: np.ndarray | None, fraction: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows of the training and of the validation split of several tasks.

    Both parts keep the ratio of the strata. A stratum in one sample or one group only stays in the training part, which
    has all strata. The validation split has each task that two samples or groups know.

    Parameters
    ----------
    strata : mapping of str to ndarray of shape (n_samples, n_strata), bool
        Strata of each task, as `Task.strata` returns them.
    groups : ndarray of shape (n_samples,) or None
        Group of each sample. Groups are not split.
    fraction : float
        Share of the validation split, approximate.
    seed : int
        Seed of the split.

    Raises
    ------
    ValueError
        If a part would be empty.

    Warns
    -----
    ValidationWarning
        If the validation split cannot have a task.

    Examples
    --------
    >>> import numpy as np
    >>> from sktransfer.tasks.strata import hold_out_tasks
    >>> strata = {"topic": np.eye(2, dtype=bool)[[0, 1] * 50], "stars": np.arange(100)[:, None] < 10}
    >>> train, valid = hold_out_tasks(strata, None, 0.2, 0)
    >>> len(train), len(valid), (valid < 10).sum().item()
    (80, 20, 2)
    """
    members = np.concatenate(list(strata.values()), axis=1)  # (n_samples, n_strata)
    known = {name: np.asarray(of_task.any(1)) for name, of_task in strata.items()}  # (n_samples,) each
    n = len(members)
    unit = np.arange(n) if groups is None else np.unique(groups, return_inverse=True)[1]  # (n_samples,)
    n_units = np.array([len(np.unique(unit[of_stratum])) for of_stratum in members.T])  # (n_strata,)
    pinned = np.isin(unit, unit[members[:, n_units == 1].any(1)])  # (n_samples,)
    free = np.flatnonzero(~pinned)
    valid = np.zeros(n, dtype=bool)  # (n_samples,)
    if len(free):
        share = min(0.5 + 0.5 * fraction, fraction * n / len(free))
        shares = np.array([1 - share, share])
        rng = np.random.RandomState(seed)
        folds = assign_folds(members[free], shares, rng, None if groups is None else groups[free])
        valid[free] = folds == 1
    _restore(valid, members, unit, known)
    without = [name for name, rows in known.items() if rows.any() and not (rows & valid).any()]
    if not valid.any() or valid.all():
        raise ValueError(
            f"early_stopping sets aside {fraction:g} of {n} samples, which is not possible here: each class is in one "
            "sample or one group only, or there is one sample or group. Give more samples, groups or another "
            "validation_fraction, pass X_val and y_val to fit, or set early_stopping=False"
        )
    if without:
        warn(
            f"the validation split of early_stopping has no target of {'tasks' if len(without) > 1 else 'the task'} "
            f"{', '.join(map(repr, without))}: too few samples or groups know them. Pass X_val and y_val to fit to "
            "validate all tasks",
            ValidationWarning,
        )
    return np.flatnonzero(~valid), np.flatnonzero(valid)


def _restore(valid: np.ndarray, members: np.ndarray, unit: np.ndarray, known: Mapping[str, np.ndarray]) -> None:
    """Move units so that the training part has all strata, and then the validation part each task if it can."""
    for stratum in members.T:
        if stratum.any() and not (stratum & ~valid).any():
            valid[unit == unit[stratum][0]] = False
    for rows in known.values():
        if (rows & valid).any():
            continue
        for one in np.unique(unit[rows]):
            moved = valid | (unit == one)  # (n_samples,)
            if not (members.any(0) & ~members[~moved].any(0)).any():
                valid[:] = _without_one(moved, members, unit, one)
                break


def _without_one(valid: np.ndarray, members: np.ndarray, unit: np.ndarray, kept: int) -> np.ndarray:
    """Return the validation rows without a unit whose strata others have, if there is such a unit."""
    for other in np.unique(unit[valid & (unit != kept)]):
        fewer: np.ndarray = valid & (unit != other)  # (n_samples,)
        if (members[fewer].any(0) == members[valid].any(0)).all():
            return fewer
    return valid
