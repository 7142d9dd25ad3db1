"""How long a value that nobody asks for stays, while others want its place."""

from __future__ import annotations

__all__ = ["Patience"]


class Patience:
    """Learn after how many asks a sample is asked for again, and from it, when one can be given up.

    Training asks for its samples in rounds. Where they do not all fit, throwing out the least recently used is the
    worst choice: it always throws out what the round comes to next, and nothing is found. So, while samples return,
    a value stays for `FACTOR` times the mean interval between two asks for the same sample: rounds, in order or
    shuffled, find their kept share each time (in shuffled rounds a sample waits two rounds at most). Samples never seen
    before count as an interval of 0: a new data set soon brings the mean down, and with no patience left, it displaces
    the abandoned one, least recently used first.

    Intervals are seen on misses too. To bound what is remembered, it is every sample at first, then those whose hash is
    a multiple of 2, 4, 8, ... (spatial sampling: Waldspurger et al., "Efficient MRC construction with SHARDS", 2015).
    """

    FACTOR = 2
    RETURNING, NEW = 1 / 32, 1 / 8  # weights of one more interval in the mean
    REMEMBERED = 2**16

    def __init__(self) -> None:
        self.clock = 0  # asks so far
        self._mean = 0.0
        self._last: dict[int, int] = {}
        self._every = 1

    @property
    def asks(self) -> float:
        """Asks for which a value stays."""
        return self.FACTOR * self._mean

    def see(self, key: object) -> None:
        """Count one ask."""
        self.clock += 1
        number = hash(key)
        if number % self._every:
            return
        before = self._last.pop(number, None)
        self._last[number] = self.clock  # at the end: the dict is in order of the last ask
        if before is None:
            self._move_mean(0, self.NEW)
            self._forget()
        else:
            self._move_mean(self.clock - before, self.RETURNING)

    def _move_mean(self, interval: int, weight: float) -> None:
        # One sample that is remembered speaks for all those between it and the next one.
        self._mean += (interval - self._mean) * (1 - (1 - weight) ** self._every)

    def _forget(self) -> None:
        while len(self._last) > self.REMEMBERED:
            self._every *= 2
            self._last = {number: when for number, when in self._last.items() if number % self._every == 0}
