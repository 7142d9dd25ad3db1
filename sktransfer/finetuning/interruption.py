"""Ctrl-C told from the exception of the same name by which skorch's callbacks end a training."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["noticed_interrupts"]


@contextmanager
def noticed_interrupts() -> Iterator[Callable[[], bool]]:
    """Yield a function that returns whether a user has asked to stop since the block began.

    A callback of skorch ends a training by raising KeyboardInterrupt, and skorch takes every one for that: an
    interrupted search would go on with its next candidate. Only in the main thread does Python act on the signal, and
    its handler does all that it did before.
    """
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield lambda: False
        return
    seen: list[int] = []

    def notice(number: int, frame: Any) -> Any:
        seen.append(number)
        return before(number, frame)

    signal.signal(signal.SIGINT, notice)
    try:
        yield lambda: bool(seen)
    finally:
        if signal.getsignal(signal.SIGINT) is notice:
            signal.signal(signal.SIGINT, before)
