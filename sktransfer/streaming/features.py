"""Features in files, and their batches."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from sktransfer._utils import local_path
from sktransfer.exceptions import InvalidParameterError, LoadError
from sktransfer.samples.columns import quoted
from sktransfer.streaming.sinks import ROW, Sink, sink_of

__all__ = ["StoredFeatures", "load_features"]


@dataclass(frozen=True)
class StoredFeatures:
    """Features that `featurize` has written.

    Attributes
    ----------
    path : Path
        The file or folder.
    n_rows : int
        Number of rows.
    n_features : int
        Number of features per row.
    n_invalid : int
        Number of samples that could not be used. Their rows are NaN, or left out with `invalid="drop"`.
    n_computed : int
        Number of samples whose features were computed by this call. The others were written before.
    feature_names : list of str
        Names of the features.
    columns : list of str
        Names of the kept columns.

    Examples
    --------
    >>> from sktransfer import TextFeaturizer, featurize
    >>> texts = ["a good film", "a bad one", "a dull plot"]
    >>> stored = featurize(texts, TextFeaturizer().fit(texts), "features", chunk_size=2)
    >>> [X.shape for X, rows in stored.batches()]
    [(2, 160), (1, 160)]
    """

    path: Path
    n_rows: int
    n_features: int
    n_invalid: int
    n_computed: int
    feature_names: list[str] = field(repr=False)
    columns: list[str]

    def __len__(self) -> int:
        return self.n_rows

    def batches(self, random_state: int | None = None) -> Iterator[tuple[np.ndarray, pd.DataFrame]]:
        """Yield the features of a part at a time, for `partial_fit`.

        Parameters
        ----------
        random_state : int, default=None
            Seed that shuffles the parts, and the rows within each. None keeps the order of the input. Rows that are
            sorted by label must be shuffled more than that before they are written.

        Yields
        ------
        X : ndarray of shape (n, n_features)
            Features.
        rows : DataFrame of n rows
            The column "row", the position in the input counted from 0, and the kept columns.

        Raises
        ------
        LoadError
            If a file was deleted or damaged since.
        """
        with _readable(self.path):
            sink = sink_of(self.path)
            if sink.log.totals is None or sink.log.totals["n_rows"] != self.n_rows:
                raise OSError(f"there are no complete features of {self.n_rows} rows any more")
        rng = None if random_state is None else np.random.default_rng(random_state)
        for number in sink.numbers() if rng is None else rng.permutation(sink.numbers()).tolist():
            with _readable(sink.out):
                rows, features, kept = sink.read(number)
            table = pd.DataFrame({ROW: rows}) if kept is None else kept.to_pandas()
            if ROW not in table:
                table.insert(0, ROW, rows)
            if rng is not None:
                order = rng.permutation(len(rows))
                features, table = features[order], table.iloc[order].reset_index(drop=True)
            yield features, table

    def to_numpy(self) -> np.ndarray:
        """Return all features. Those of a `.npy` file are mapped, not read.

        Returns
        -------
        features : ndarray of shape (n_rows, n_features)

        Raises
        ------
        LoadError
            If a file was deleted or damaged since.
        """
        if self.path.suffix.lower() == ".npy":
            with _readable(self.path):
                mapped: np.ndarray = np.load(self.path, mmap_mode="r")
            return mapped
        batches = [features for features, _ in self.batches()]
        return (
            np.concatenate(batches) if batches else np.empty((0, self.n_features), np.float32)
        )  # (n_rows, n_features)


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as error:  # errors of pyarrow are among them
        raise LoadError(
            f"features of {path} cannot be read, because a file was deleted or damaged "
            f"({' '.join(str(error).split())}). Delete a damaged file, and call featurize again with the same "
            "arguments, which computes what is missing"
        ) from error


def load_features(path: str | os.PathLike[str]) -> StoredFeatures:
    """Open features that `featurize` has written.

    Parameters
    ----------
    path : str or Path
        The file or folder, as it was given to `featurize` as `out`.

    Returns
    -------
    features : StoredFeatures
        Values are read when they are asked for.

    Raises
    ------
    LoadError
        If there are no features at the path, not all are written, or a version has written them in another format.
    InvalidParameterError
        If `path` is not a path.

    Examples
    --------
    >>> from sktransfer import TextFeaturizer, featurize, load_features
    >>> texts = ["a good film", "a bad one"]
    >>> stored = featurize(texts, TextFeaturizer().fit(texts), "features.npy")
    >>> load_features("features.npy").to_numpy().shape
    (2, 160)
    """
    if not isinstance(path, (str, os.PathLike)):
        raise InvalidParameterError(f"path={quoted(path, 80)} must be the path that featurize had as out")
    out = local_path(path)
    if not out.exists():
        raise LoadError(f"{out}: there is no such file or folder")
    sink = sink_of(out)
    sink.log.check_format(str(out), LoadError)
    if sink.log.totals is None:
        raise LoadError(
            f"{out} has no complete features of featurize. If it was interrupted, call it again with the same arguments"
        )
    return stored(sink, 0)


def stored(sink: Sink, n_computed: int) -> StoredFeatures:
    """Return the features of a complete output."""
    settings, totals = sink.log.settings, sink.log.totals
    assert settings is not None
    assert totals is not None
    return StoredFeatures(
        path=sink.out,
        n_rows=totals["n_rows"],
        n_features=settings["n_features"],
        n_invalid=totals["n_invalid"],
        n_computed=n_computed,
        feature_names=_names(settings),
        columns=[str(name) for name in settings["keep"]],
    )


def _names(settings: dict[str, Any]) -> list[str]:
    return settings["feature_names"] or [f"feature{i}" for i in range(settings["n_features"])]
