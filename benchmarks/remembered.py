"""Results stored as they are measured, so that an interrupted benchmark resumes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import common

__all__ = ["Remembered"]


class Remembered:
    """Results by settings, one line per result in `results/<name>.jsonl`.

    Parameters
    ----------
    name : str
        Name of the file. Delete the file after a change of the library, because old results stay valid.
    """

    def __init__(self, name: str) -> None:
        self.path: Path = common.RESULTS / f"{name}.jsonl"
        self._known: dict[str, Any] = {}
        if self.path.is_file():
            for line in self.path.read_text().splitlines():
                try:
                    key, value = json.loads(line)
                except ValueError:  # an interrupted write
                    continue
                self._known[key] = value

    def __call__(self, what: dict[str, Any], measure: Callable[[], Any]) -> Any:
        """Return the result for some settings, measured if it is not stored.

        Parameters
        ----------
        what : dict
            All settings that the result depends on.
        measure : callable
            Returns the result as a JSON value.
        """
        key = json.dumps(what, sort_keys=True, default=str)
        if key not in self._known:
            self._known[key] = measure()
            self.path.parent.mkdir(exist_ok=True)
            with self.path.open("a") as file:
                file.write("\n" * self._ends_in_partial_line() + json.dumps([key, self._known[key]]) + "\n")
        return self._known[key]

    def _ends_in_partial_line(self) -> bool:
        return self.path.is_file() and self.path.stat().st_size > 0 and not self.path.read_bytes().endswith(b"\n")
