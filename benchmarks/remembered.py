"""Figures that took minutes, kept as they come: a benchmark that was interrupted goes on where it stopped."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import common

__all__ = ["Remembered"]


class Remembered:
    """Figures by what they were measured of, a line each in `results/<name>.jsonl`.

    Parameters
    ----------
    name : str
        Of the file. Delete it to begin anew: a change of the library does not make figures unknown.
    """

    def __init__(self, name: str) -> None:
        self.path: Path = common.RESULTS / f"{name}.jsonl"
        self._known: dict[str, Any] = {}
        if self.path.is_file():
            for line in self.path.read_text().splitlines():
                try:
                    key, value = json.loads(line)
                except ValueError:  # torn in the middle of a write
                    continue
                self._known[key] = value

    def __call__(self, what: dict[str, Any], measure: Callable[[], Any]) -> Any:
        """Return the figure of `what`, measured if it is not known.

        Parameters
        ----------
        what : dict
            All that it depends on.
        measure : callable
            Gives the figure, as JSON takes it.
        """
        key = json.dumps(what, sort_keys=True, default=str)
        if key not in self._known:
            self._known[key] = measure()
            self.path.parent.mkdir(exist_ok=True)
            with self.path.open("a") as file:
                file.write("\n" * self._torn() + json.dumps([key, self._known[key]]) + "\n")
        return self._known[key]

    def _torn(self) -> bool:
        return self.path.is_file() and self.path.stat().st_size > 0 and not self.path.read_bytes().endswith(b"\n")
