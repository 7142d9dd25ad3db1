"""Small helpers: paths, restoring estimators after a failed fit, progress."""

from __future__ import annotations

import functools
import multiprocessing
import os
import re
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from time import perf_counter
from typing import Any, Self, TypeVar

from tqdm import tqdm

__all__ = ["after_fit", "all_or_nothing", "cache_folder", "in_process", "local_path", "progress", "title_of"]

_fits = threading.local()  # `waiting`: functions that run at the end of the outermost fit of a thread
_LINE_SECONDS = 10.0  # between two lines of progress where no bar can be drawn


def local_path(given: str | os.PathLike[str]) -> Path:
    """Return a path with a leading "~" or "~user" expanded if the user exists.

    Parameters
    ----------
    given : str or path
        Path as given by a user.

    Examples
    --------
    >>> from sktransfer._utils import local_path
    >>> str(local_path("~unknown user/model"))
    '~unknown user/model'
    """
    path = Path(given)
    with suppress(RuntimeError, ValueError):  # unknown user, or not a valid name
        return path.expanduser()
    return path


def cache_folder() -> Path:
    """Return the cache folder, `$SKTRANSFER_CACHE` or `sktransfer` in the user's cache folder."""
    configured = os.environ.get("SKTRANSFER_CACHE")
    if configured:
        return local_path(configured)
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "sktransfer"


Method = TypeVar("Method", bound=Callable[..., Any])


def all_or_nothing(method: Method) -> Method:
    """Decorate a `fit` method to restore the estimator's attributes if it raises, also by Ctrl-C.

    The estimator is then fitted as before the call, or not fitted. Attribute values are not copied, because `fit`
    replaces them by new objects. At the end of the outermost `fit` of a thread, functions passed to `after_fit` run.

    Parameters
    ----------
    method : callable
        Method of an estimator.

    Examples
    --------
    >>> from sktransfer._utils import all_or_nothing
    >>> class Model:
    ...     @all_or_nothing
    ...     def fit(self, X):
    ...         self.n_ = len(X)
    ...         self.mean_ = sum(X) / self.n_
    ...         return self
    >>> model = Model().fit([1, 2, 3])
    >>> try:
    ...     model.fit([])
    ... except ZeroDivisionError:
    ...     print(vars(model))
    {'n_': 3, 'mean_': 2.0}
    """

    @functools.wraps(method)
    def fit(self: Any, *args: Any, **kwargs: Any) -> Any:
        before = dict(vars(self))
        with _one_fit():
            try:
                return method(self, *args, **kwargs)
            except BaseException:
                vars(self).clear()
                vars(self).update(before)
                raise

    return fit  # type: ignore[return-value]


@contextmanager
def _one_fit() -> Iterator[None]:
    if hasattr(_fits, "waiting"):  # within another fit
        yield
        return
    _fits.waiting = {}
    try:
        yield
    finally:
        waiting = _fits.waiting
        del _fits.waiting
        for function in waiting:
            function()


def after_fit(function: Callable[[], None]) -> None:
    """Call a function once at the end of the outermost `fit` of this thread, or at once outside of a `fit`.

    Parameters
    ----------
    function : callable
        Called without arguments, also if the `fit` raises.

    Examples
    --------
    >>> from sktransfer._utils import after_fit
    >>> after_fit(lambda: print("written"))
    written
    """
    if hasattr(_fits, "waiting"):
        _fits.waiting[function] = None
    else:
        function()


def title_of(estimator: Any, length: int = 120) -> str:
    """Return an estimator with the parameters that were set, in one line.

    Parameters
    ----------
    estimator : estimator
        Estimator whose progress is shown.
    length : int, default=120
        Maximum number of characters.

    Examples
    --------
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sktransfer._utils import title_of
    >>> title_of(LogisticRegression(C=0.1, max_iter=500)), title_of(LogisticRegression(C=0.1), 20)
    ('LogisticRegression(C=0.1, max_iter=500)', 'LogisticRegression(…)')
    """
    text = re.sub(r"<[\w.]*?(\w+) object at 0x\w+>", r"\1", " ".join(repr(estimator).split()))
    if len(text) <= length:
        return text
    return f"{text[: max(length - 2, text.find('(') + 1)]}…)"


def in_process(text: str) -> str:
    """Return a line of progress, with the process id before it in a worker process: lines of several processes mix.

    Parameters
    ----------
    text : str
        Line of progress.

    Examples
    --------
    >>> from sktransfer._utils import in_process
    >>> in_process("ImageFeaturizer(): 100/1000 images")
    'ImageFeaturizer(): 100/1000 images'
    """
    return text if multiprocessing.parent_process() is None else f"[process {os.getpid()}] {text}"


def progress(n: int | None, of: Any, unit: str, verbose: int) -> Any:
    """Return a progress bar on stderr, as a context manager with an `update` method.

    In a file or a pipe, and in a worker process, it is a line each ten seconds and at the end. A bar would fill logs
    with carriage returns, and bars of several processes would overwrite each other.

    Parameters
    ----------
    n : int or None
        Number of samples. None if it is not known.
    of : str or estimator
        Text before the bar, or estimator that it describes.
    unit : str
        Unit of the samples.
    verbose : int
        Verbosity of the estimator. 0 shows no progress.
    """
    if not verbose:
        return _Silence()
    title = of if isinstance(of, str) else title_of(of)
    draws = sys.stderr.isatty() or "ipykernel" in sys.modules
    if not draws or multiprocessing.parent_process() is not None:
        return _Lines(n, title, unit)
    return tqdm(total=n, desc=title, unit=unit, file=sys.stderr)


class _Silence(AbstractContextManager[Any]):
    """Progress that is not shown. A bar that is switched off takes as long to make as a small image to read."""

    def __exit__(self, *exception: object) -> None:
        """Return None, so that errors are raised."""

    def update(self, n: int) -> None:
        """Ignore what is done."""


class _Lines:
    """Progress as lines of their own, written at once."""

    def __init__(self, n: int | None, title: str, unit: str) -> None:
        self.n, self.title, self.unit = n, title, unit
        self.done, self.written = 0, -1
        self.started = self.last = perf_counter()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        if self.written < self.done:
            self._write()

    def update(self, n: int) -> None:
        """Add n to what is done."""
        self.done += n
        if perf_counter() - self.last >= _LINE_SECONDS:
            self._write()

    def _write(self) -> None:
        self.last, self.written = perf_counter(), self.done
        unit = self.unit if self.unit == "%" else f" {self.unit}s"
        done = self.done if self.n is None else f"{self.done}/{self.n}"
        line = f"{self.title}: {done}{unit}, {self.last - self.started:.1f} s"
        print(in_process(line), file=sys.stderr, flush=True)
