"""Paragraphs of English prose from web pages, manual pages, docstrings, dictionaries and package descriptions.

Each reader takes the folder of an unpacked package and yields paragraphs, without code, mark-up and references.
"""

from __future__ import annotations

import ast
import gzip
import html
import re
import warnings
from collections.abc import Iterator
from pathlib import Path

_OTHER_LANGUAGE = re.compile(r"/([a-z]{2}(-[A-Z]{2}|_[A-Z]{2})?)/")
_NO_PROSE = re.compile(r"(?is)<!--.*?-->|<(script|style|pre|head|nav|footer|code-block|screen|svg|math)\b.*?</\1\s*>")
_BLOCK = re.compile(
    r"(?i)</?(p|li|dd|dt|h\d|td|th|tr|div|br|section|ul|ol|dl|table|blockquote|item|title|note)\b[^>]*>"
)
_TAG = re.compile(r"<[^>]*>")
_FORMULA = re.compile(r"\\\(.*?\\\)|\\\[.*?\\\]|\$[^$]*\$|:math:`[^`]*`", re.DOTALL)
_ROLE = re.compile(r":[\w:+-]+:`~?([^`<]*?)\s*(<[^>]*>)?`")
_MACRO_END = re.compile(r"\\f(\(..|\[[^]]*\]|.)|\\s[+-]?\d")
_PARAGRAPH_MACROS = {"PP", "P", "LP", "TP", "IP", "SH", "SS", "TQ", "RS", "RE", "HP", "Pp", "It", "Sh", "Ss", "TH"}
_TEXT_MACROS = {"B", "I", "BR", "IR", "RB", "RI", "BI", "IB", "SM", "SB"}


def web_pages(folder: Path) -> Iterator[str]:
    """Yield the paragraphs of all English HTML and Mallard pages, without those of source code and indexes."""
    for path in sorted([*folder.rglob("*.html"), *folder.rglob("C/**/*.page")]):
        name = str(path.relative_to(folder))
        language = _OTHER_LANGUAGE.search(name.split("/html", 1)[-1])
        if "_modules" in name or "_sources" in name or "genindex" in name or "XREF" in name or not path.is_file():
            continue
        if language is None or language[1] in {"en", "en-US"}:
            yield from paragraphs_of_page(path.read_text(encoding="utf-8", errors="ignore"))


def paragraphs_of_page(page: str) -> list[str]:
    """Return the paragraphs of one page."""
    page = _FORMULA.sub(" ", _NO_PROSE.sub("\n\n", page))
    page = html.unescape(_TAG.sub("", _BLOCK.sub("\n\n", page))).replace("¶", "").replace("\N{LINK SYMBOL}", "")
    return _blocks(page)


def manual_pages(folder: Path) -> Iterator[str]:
    """Yield the paragraphs of all manual pages in English."""
    for path in sorted(folder.glob("usr/share/man/man*/*")):
        if path.is_file() and not path.is_symlink():
            data = path.read_bytes()
            text = gzip.decompress(data) if path.suffix == ".gz" else data
            yield from paragraphs_of_manual(text.decode("utf-8", errors="ignore"))


def paragraphs_of_manual(text: str) -> list[str]:
    """Return the paragraphs of one manual page in the macros of man or mdoc, without its displays and synopsis."""
    lines: list[str] = []
    is_display = is_synopsis = False
    for line in text.splitlines():
        macro, _, rest = line[1:].strip().partition(" ") if line[:1] in {".", "'"} else ("", "", line)
        if macro in {"SH", "Sh"}:
            is_synopsis = "SYNOPSIS" in rest
        if macro in {"nf", "EX", "Bd", "TS", "Vb"}:
            is_display = True
        elif macro in {"fi", "EE", "Ed", "TE", "Ve"}:
            is_display = False
        elif is_display or is_synopsis:
            continue
        elif macro in _PARAGRAPH_MACROS:
            lines.append("")
        elif macro in _TEXT_MACROS:
            parts = re.findall(r'"([^"]*)"|(\S+)', rest)
            lines.append(("" if len(macro) == 2 else " ").join(a or b for a, b in parts))
        elif not macro:
            lines.append("" if line.startswith((" ", "\t")) else line)
    text = _MACRO_END.sub("", "\n".join(lines))
    for old, new in (
        ("\\-", "-"),
        ("\\(aq", "'"),
        ("\\(dq", '"'),
        ("\\(bu", ""),
        ("\\&", ""),
        ("\\e", "\\"),
        ("\\ ", " "),
    ):
        text = text.replace(old, new)
    return _blocks(re.sub(r"\\\*?(\(..|\[[^]]*\])", "", text))


def docstrings(folder: Path) -> Iterator[str]:
    """Yield the paragraphs of all docstrings in the folder, without those of its tests."""
    for path in sorted(folder.rglob("*.py")):
        if "tests" not in path.relative_to(folder).parts:
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    tree = ast.parse(path.read_text(encoding="utf-8", errors="ignore"))
            except (SyntaxError, ValueError):
                continue  # templates and code of other versions of Python
            for node in ast.walk(tree):
                if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Module | ast.AsyncFunctionDef):
                    yield from paragraphs_of_docstring(ast.get_docstring(node) or "")


def paragraphs_of_docstring(docstring: str) -> list[str]:
    """Return paragraphs and descriptions of parameters, without examples, literal blocks, headings and names."""
    kept: list[str] = []
    margin = 0
    for line in docstring.splitlines():
        indent = len(line) - len(line.lstrip())
        is_code = line.lstrip().startswith((">>>", "...", ".. ", "|", "@")) or set(line.strip()) <= set("-=~^+*`")
        if indent != margin or is_code:
            kept.append("")
        margin = indent
        if not is_code:
            kept.append(re.sub(r"^\s*([-*]|:?(param|returns?|raises|type)\b[^:]*:)\s+", "\n", line))
    return _blocks(_FORMULA.sub(" ", _ROLE.sub(r"\1", "\n".join(kept))).replace("``", "").replace("`", ""))


def dictionary(folder: Path) -> Iterator[str]:
    """Yield each entry of the dictionaries in dictd's format: the word, a colon, and its first definitions."""
    for path in sorted(folder.glob("usr/share/dictd/*.dict.dz")):
        entry: list[str] = []
        for line in gzip.decompress(path.read_bytes()).decode("utf-8", errors="ignore").splitlines():
            if line[:1].strip() and entry and any(text[:1].isspace() for text in entry):
                yield from _definitions(entry)
                entry = []
            entry.append(line)
        yield from _definitions(entry)


def _definitions(entry: list[str]) -> Iterator[str]:
    word = re.split(r"\\|\[|,", entry[0])[0].strip()
    text = re.sub(r"\[[^]]*\]|\\[^\\]*\\|<[^>]*>|--[A-Z][^.]*\.|\((\d{4}-\d\d-\d\d)\)", " ", "\n".join(entry[1:]))
    text = re.sub(r"[{}]", "", text)
    for number, block in enumerate(_blocks(re.sub(r"(?m)^\s*(\d+\.|\([a-z]\)|Note:)\s", "\n\n", text))):
        if not block.startswith("Syn:"):
            yield f"{word}: {block}" if number < 2 else block


def sayings(folder: Path) -> Iterator[str]:
    """Yield the sayings of `fortune` without their authors."""
    for path in sorted(folder.glob("usr/share/games/fortunes/*")):
        if not path.suffix and "art" not in path.name.split("-"):
            for saying in path.read_text(encoding="utf-8", errors="ignore").split("\n%\n"):
                yield " ".join(re.sub(r"(?m)^\s+-- .*(\n\s+.*)*", "", saying).split())


def descriptions(folder: Path) -> Iterator[str]:
    """Yield the paragraphs of the descriptions of all packages in apt's lists of translations."""
    for path in sorted(folder.glob("*Translation-en*.txt")):
        for record in path.read_text(encoding="utf-8").split("\n\n"):
            _, _, text = record.partition("Description-en: ")
            title, _, rest = text.partition("\n")
            yield title
            yield from _blocks(re.sub(r"(?m)^ ( +[-*o]|\.)\s*", "\n", rest))


def _blocks(text: str) -> list[str]:
    """Return the paragraphs between blank lines, each on one line."""
    return [" ".join(block.split()) for block in re.split(r"\n\s*\n", text) if block.strip()]
