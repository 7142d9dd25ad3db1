"""Files that are not whole yet: kept beside the one to be, and gone on with by one process alone.

The name of a part says what it is a part of: `<file>.<mark>.part`, where the mark stands for the content that the
server had at the time. Whoever goes on with it first renames it to a name of his own, which only one can: a lock is not
enough, for some network file systems give the same one to everybody.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
import uuid
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["Part", "claim", "mark_of"]

# A part in use is written to every few seconds, or its process gives up. One of this age was left by a process that had
# no time to give its part back.
ABANDONED_SECONDS = 300.0
_UNKNOWN = "0" * 16  # the mark of a content that the server tells apart from no other


def mark_of(validator: str | None) -> str:
    """Return what stands in a part's name for a server's word (ETag, or the date) for the content."""
    return hashlib.sha256(validator.encode()).hexdigest()[:16] if validator else _UNKNOWN


@dataclass
class Part:
    """The part of a file that is here.

    Parameters
    ----------
    target : Path
        The file to be.
    mark : str, default="0000000000000000"
        What it is a part of.
    """

    target: Path
    mark: str = _UNKNOWN
    _owner: str = field(default_factory=lambda: uuid.uuid4().hex[:8])

    @property
    def file(self) -> Path:
        """Where it is, as long as it is claimed."""
        return self.target.with_name(f"{self.target.name}.{self.mark}.{self._owner}.part")

    @property
    def size(self) -> int:
        """How many bytes are here."""
        return self.file.stat().st_size if self.file.is_file() else 0

    @property
    def resumable(self) -> bool:
        """Whether another try can go on from here."""
        return self.mark != _UNKNOWN and self.size > 0

    def begin(self, mark: str) -> None:
        """Begin anew, with an empty part of another content."""
        self.drop()
        self.mark = mark
        self.file.touch()

    def drop(self) -> None:
        """Delete it."""
        self.file.unlink(missing_ok=True)

    def release(self) -> None:
        """Leave it to whoever comes next, or delete it where nobody could go on with it."""
        with suppress(OSError):  # nothing depends on it: an abandoned part is found all the same, later
            if self.resumable:
                self.file.replace(self.target.with_name(f"{self.target.name}.{self.mark}.part"))
            else:
                self.drop()

    def finish(self) -> None:
        """Make it the whole file, in one step, and delete what others have left."""
        self.file.replace(self.target)
        for other in _left(self.target):
            with suppress(OSError):
                other.unlink()


def claim(target: Path) -> Part:
    """Return the part that is left of a file, for this caller alone; an empty one where there is none.

    Parameters
    ----------
    target : Path
        The file to be.
    """
    for file in _left(target):
        part = Part(target, mark=file.name.removeprefix(f"{target.name}.").partition(".")[0])
        with suppress(OSError):  # another was faster
            os.utime(file)  # first: else it would look abandoned under its new name
            file.rename(part.file)
            return part
    return Part(target)


def _left(target: Path) -> list[Path]:
    """Return the parts that nobody holds."""
    pattern = re.compile(re.escape(target.name) + r"\.[0-9a-f]{16}(\.[0-9a-f]{8})?\.part")
    found = [(file, pattern.fullmatch(file.name)) for file in target.parent.iterdir()]
    return [file for file, name in found if name and (name[1] is None or _is_abandoned(file))]


def _is_abandoned(file: Path) -> bool:
    try:
        return time.time() - file.stat().st_mtime > ABANDONED_SECONDS
    except OSError:  # gone meanwhile
        return False
