"""Which pages of the guide explain a name."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

DOCS = Path(__file__).parents[1]
FENCE = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)
CODE = re.compile(r"`([^`\n]+)`")
WORD = re.compile(r"[A-Za-z_]\w*")


@dataclass(frozen=True)
class Place:
    """A page of the guide, or a section of it."""

    page: str
    anchor: str = ""


def slug(heading: str) -> str:
    """Return the anchor of a heading, as MyST and Git hosts make it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


class Guide:
    """The pages of the user guide, searched for names."""

    def __init__(self) -> None:
        """Read the pages."""
        paths = [path for pattern in ("start.md", "paths.md", "guide/*.md") for path in sorted(DOCS.glob(pattern))]
        self.texts = {path.relative_to(DOCS).with_suffix("").as_posix(): path.read_text("utf-8") for path in paths}
        self.mentions = {page: self._count(text) for page, text in self.texts.items()}

    @staticmethod
    def _count(text: str) -> dict[str, int]:
        counts: dict[str, int] = {}
        for code in [*FENCE.findall(text), *CODE.findall(FENCE.sub("", text))]:
            for word in WORD.findall(code):
                counts[word] = counts.get(word, 0) + 1
        return counts

    def pages_on(self, name: str, n: int = 3) -> list[str]:
        """Return up to `n` pages that mention `name` in code, those with most mentions first."""
        pages = [page for page, counts in self.mentions.items() if name in counts]
        return sorted(pages, key=lambda page: -self.mentions[page][name])[:n]

    def place_of(self, parameter: str) -> Place | None:
        """Return the section whose heading has the parameter, or the page that mentions it most, at least twice."""
        for page, text in self.texts.items():
            for heading in re.findall(r"^##+ (.*)$", FENCE.sub("", text), re.MULTILINE):
                if parameter in CODE.findall(heading):
                    return Place(page, slug(heading))
        pages = self.pages_on(parameter, 1)
        return Place(pages[0]) if pages and self.mentions[pages[0]][parameter] > 1 else None
