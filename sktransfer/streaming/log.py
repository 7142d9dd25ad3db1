"""Log of a stream: its settings, and a line for each part that is written."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sktransfer._version import __version__
from sktransfer.exceptions import ResumeError, SktransferError

__all__ = ["FORMAT", "Log"]

FORMAT = 1


class Log:
    """Lines of JSON in a file: settings, parts, and totals if the stream has ended.

    A part is logged when its values are on the disk. An interrupted line at the end is ignored, so that a kill at any
    time loses the part in progress only.

    Parameters
    ----------
    path : Path
        File of the log, which need not exist.

    Attributes
    ----------
    settings : dict or None
        None if nothing was logged.
    parts : list of dict
        For each part "rows", the number of input rows, "written", the number of output rows, "invalid", "digest" and
        "size", the bytes of its file or the end of its rows.
    totals : dict or None
        None if the stream has not ended.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.settings: dict[str, Any] | None = None
        self.parts: list[dict[str, Any]] = []
        self.totals: dict[str, Any] | None = None
        if path.is_file():
            self._read(path.read_bytes())

    def _read(self, content: bytes) -> None:
        for line in content.split(b"\n")[:-1]:  # what follows the last line break is incomplete
            try:
                item = json.loads(line)
            except ValueError:
                break
            if not isinstance(item, dict) or (self.settings is None and type(item.get("format")) is not int):
                break
            if self.settings is None:
                self.settings = item
            elif "total" in item:
                self.totals = item["total"]
            else:
                self.parts.append(item)

    @property
    def n_rows(self) -> int:
        """Number of input rows that are written."""
        return sum(part["rows"] for part in self.parts)

    def keep(self, n_parts: int) -> None:
        """Forget the parts after the first `n_parts`, and an incomplete line."""
        if n_parts < len(self.parts):
            self.parts, self.totals = self.parts[:n_parts], None
        content = _encoded(self.lines())
        if self.path.read_bytes() != content:
            temporary = self.path.with_name(f"{self.path.name}.tmp")
            temporary.write_bytes(content)
            temporary.replace(self.path)

    def lines(self) -> list[dict[str, Any]]:
        """Return the content."""
        total = [] if self.totals is None else [{"total": self.totals}]
        return [] if self.settings is None else [self.settings, *self.parts, *total]

    def start(self, settings: Mapping[str, Any]) -> None:
        """Write the settings into a new file."""
        self.settings, self.parts, self.totals = dict(settings), [], None
        self._write("wb", self.lines())

    def add(self, part: dict[str, Any]) -> None:
        """Log a part."""
        self.parts.append(part)
        self._write("ab", [part])

    def end(self, totals: dict[str, Any]) -> None:
        """Log the end of the stream."""
        if self.totals is None:
            self.totals = totals
            self._write("ab", [{"total": totals}])

    def _write(self, mode: str, items: Sequence[Mapping[str, Any]]) -> None:
        with self.path.open(mode) as file:
            file.write(_encoded(items))

    def check_format(self, out: str, error: type[SktransferError]) -> None:
        """Raise an error if a version of sktransfer has written the log that does so in another way.

        Parameters
        ----------
        out : str
            Path of the output in the message.
        error : type
            Class of the error.
        """
        if self.settings is None or self.settings["format"] == FORMAT:
            return
        found, versions = self.settings["format"], self.settings.get("versions")
        author = versions.get("sktransfer") if isinstance(versions, dict) else None
        older = "use the sktransfer that wrote it, or replace it by featurize(..., resume=False)"
        raise error(
            f"{out} has format {found}, written by sktransfer {author}, and this sktransfer {__version__} reads format "
            f"{FORMAT}: {'install a newer sktransfer' if found > FORMAT else older}"
        )

    def check(self, given: Mapping[str, Any], out: str) -> None:
        """Raise an error if the log is of another stream.

        Parameters
        ----------
        given : mapping
            Settings of this stream.
        out : str
            Path of the output in the error.

        Raises
        ------
        ResumeError
            If a setting differs.
        """
        assert self.settings is not None
        for name, value in given.items():
            written = self.settings.get(name)
            is_equal = written == value
            if name == "featurizer":  # the title has parameters that do not change values
                is_equal = (written or {}).get("fingerprint") == value["fingerprint"]
            if not is_equal:
                raise ResumeError(
                    f"out={out!r} was written with {_difference(name, written, value)}. Pass what it was written with "
                    "to continue it, resume=False to replace it, or another out"
                )


def _encoded(items: Sequence[Mapping[str, Any]]) -> bytes:
    return "".join(f"{json.dumps(item)}\n" for item in items).encode()


def _difference(name: str, written: Any, given: Any) -> str:
    if name == "featurizer":
        text = f"the featurizer {written['title']}"
        if written["title"] != given["title"]:
            return f"{text}, and this is {given['title']}"
        return f"{text} that was fitted to other samples or has other weights"
    if name == "versions":
        differ = [package for package in {*written, *given} if written.get(package) != given.get(package)]
        package = sorted(differ)[0]
        return f"{package} {written.get(package)}, and this is {given.get(package)}, whose values may differ"
    return f"{name}={written!r}, and {name}={given!r} is given"
