"""Files of tagged words: columns (CoNLL) and CoNLL-U."""

from __future__ import annotations

import bz2
import dataclasses
import gzip
import lzma
import os
import re
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np

from sktransfer._validation import check_bool, check_option, is_int
from sktransfer.exceptions import InvalidParameterError, did_you_mean, short_path
from sktransfer.tagging.sequences import check_tags

__all__ = ["load_conll", "save_conll"]

_CONLLU = ("id", "form", "lemma", "upos", "xpos", "feats", "head", "deprel", "deps", "misc")
_OPENERS: dict[str, Any] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
_BLANKS = re.compile(r"[ \t]+")  # str.split() would also cut words at other spaces of Unicode
_MARK = "-DOCSTART-"


@overload
def load_conll(
    path: str | os.PathLike[str],
    *,
    words: int | str = ...,
    tags: int | str = ...,
    columns: Sequence[str] | None = ...,
    format: str = ...,
    comment: str | None = ...,
    encoding: str = ...,
    return_groups: Literal[False] = ...,
) -> tuple[list[list[str]], list[list[str | None]]]: ...


@overload
def load_conll(
    path: str | os.PathLike[str],
    *,
    words: int | str = ...,
    tags: int | str = ...,
    columns: Sequence[str] | None = ...,
    format: str = ...,
    comment: str | None = ...,
    encoding: str = ...,
    return_groups: Literal[True],
) -> tuple[list[list[str]], list[list[str | None]], np.ndarray]: ...


def load_conll(
    path: str | os.PathLike[str],
    *,
    words: int | str = "auto",
    tags: int | str = "auto",
    columns: Sequence[str] | None = None,
    format: str = "auto",
    comment: str | None = "auto",
    encoding: str = "utf-8",
    return_groups: bool = False,
) -> Any:
    r"""Read sentences and tags from a file that has a word per line and a blank line between sentences.

    Columns are separated by tabs, or by blanks in lines without a tab. `-DOCSTART-` begins a document. Of CoNLL-U, only
    words are read: multiword tokens ("don't" in the line 2-3) and empty nodes (8.1) are left out, because their words
    have lines of their own.

    Parameters
    ----------
    path : str or path
        File, possibly compressed (.gz, .bz2, .xz).
    words, tags : int or str, default="auto"
        Columns of the words and of the tags: positions from 0, or negative ones from the end, or names. "auto" is the
        first and the last column, and in CoNLL-U the columns "form" and "upos".
    columns : sequence of str, default=None
        Names of all columns. CoNLL-U has its own names.
    format : {"auto", "conll", "conllu"}, default="auto"
        "auto" reads files that end in .conllu, possibly compressed, as CoNLL-U.
    comment : str or None, default="auto"
        Beginning of lines that are skipped. None skips no line. "auto" skips lines that begin with "#" in CoNLL-U. In
        other files it skips them if they have no tab and other lines have, because "#" can be a word.
    encoding : str, default="utf-8"
        Encoding of the file. A byte order mark of UTF-8 is left out.
    return_groups : bool, default=False
        Whether to return the documents, which `GroupKFold` keeps together.

    Returns
    -------
    X : list of n_sentences lists of str
        Words of each sentence.
    y : list of n_sentences lists of str
        Tags of each sentence, one per word. The tag "_" means that it is not known and is None.
    groups : ndarray of shape (n_sentences,), int
        Number of each sentence's document, from 0. Only if `return_groups` is True.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If lines differ in their number of columns, a column does not exist, a tag is empty, the encoding is another
        one, or there are no words. With `return_groups=True`, also if no line begins a document. The message names
        path and line.

    See Also
    --------
    save_conll : Write such a file.
    convert_scheme : Write tags of a file in another scheme.

    References
    ----------
    CoNLL-U: https://universaldependencies.org/format.html

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from sktransfer import load_conll
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "train.conll")
    ...     _ = path.write_text("EU NNP B-ORG\nrejects VBZ O\n\nPeter NNP B-PER\n")
    ...     X, y = load_conll(path)
    ...     _, parts_of_speech = load_conll(path, tags=1)
    >>> X, y
    ([['EU', 'rejects'], ['Peter']], [['B-ORG', 'O'], ['B-PER']])
    >>> parts_of_speech
    [['NNP', 'VBZ'], ['NNP']]
    """
    check_option("format", format, ("auto", "conll", "conllu"))
    check_bool("return_groups", return_groups)
    if comment is not None and (not isinstance(comment, str) or not comment):
        raise InvalidParameterError(f"comment={comment!r} must be the beginning of lines to skip, 'auto' or None")
    is_conllu = format == "conllu" or (format == "auto" and _is_conllu(path))
    if is_conllu and columns is not None:
        raise InvalidParameterError(f"columns={columns!r}: CoNLL-U has its own names of columns; pass format='conll'")
    names = list(_CONLLU) if is_conllu else None if columns is None else list(columns)
    first, last = ("form", "upos") if is_conllu else (0, -1)
    file = _File(
        path=str(path),
        is_conllu=is_conllu,
        names=names,
        words=first if words == "auto" else words,
        tags=last if tags == "auto" else tags,
        comment=comment,
    )
    file.read(_read_text(path, encoding))
    if not file.X:
        raise ValueError(f"{short_path(str(path))} contains no words")
    if not return_groups:
        return file.X, file.y
    if not file.has_documents:
        mark = "a line that begins with '# newdoc'" if is_conllu else f"a line {_MARK}"
        raise ValueError(
            f"{short_path(str(path))} does not say where documents begin, which {mark} would do; pass "
            "return_groups=False"
        )
    return file.X, file.y, np.unique(file.documents, return_inverse=True)[1]


def _is_conllu(path: str | os.PathLike[str]) -> bool:
    suffixes = [suffix.lower() for suffix in Path(path).suffixes]
    return suffixes[-1:] == [".conllu"] or (suffixes[-2:-1] == [".conllu"] and suffixes[-1] in _OPENERS)


def _opener(path: Path) -> Any:
    return _OPENERS.get(path.suffix.lower(), open)


def _read_text(path: str | os.PathLike[str], encoding: str) -> str:
    file = Path(path)
    if not file.exists():
        raise FileNotFoundError(f"path={str(path)!r}: there is no such file (looked for {file.absolute()})")
    if file.is_dir():
        raise IsADirectoryError(f"path={str(path)!r} is a folder; give one of its files")
    try:
        with _opener(file)(file, "rb") as stream:
            content: bytes = stream.read()
    except (EOFError, OSError, lzma.LZMAError, zlib.error) as error:
        if isinstance(error, OSError) and error.errno is not None:  # of the system, such as a missing permission
            raise
        raise ValueError(f"{short_path(str(path))} is not a complete {file.suffix} file: {error}") from error
    try:
        return content.decode("utf-8-sig" if encoding.lower().replace("_", "-") in ("utf-8", "utf8") else encoding)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ValueError(
            f"{short_path(str(path))}, line {line}: the byte 0x{content[error.start]:02x} is not {encoding}; pass the "
            "encoding of the file, such as encoding='latin-1'"
        ) from error
    except LookupError as error:
        raise InvalidParameterError(f"encoding={encoding!r} is not an encoding that Python knows") from error


@dataclasses.dataclass
class _File:
    """Sentences of a file, and the line that is being read."""

    path: str
    is_conllu: bool
    names: list[str] | None
    words: int | str
    tags: int | str
    comment: str | None
    X: list[list[str]] = dataclasses.field(default_factory=list)
    y: list[list[str | None]] = dataclasses.field(default_factory=list)
    documents: list[int] = dataclasses.field(default_factory=list)
    has_documents: bool = False
    line: int = 0

    def read(self, text: str) -> None:
        """Fill X, y and the documents."""
        sentence: list[tuple[str, str | None]] = []
        document = n_columns = first_line = of_word = of_tag = 0
        for fields in self._lines(text):
            if not fields or fields[0] == _MARK:
                self._end(sentence, document)
                sentence = []
                if fields:
                    document, self.has_documents = document + 1, True
                continue
            if not n_columns:
                n_columns, first_line = len(fields), self.line
                of_word = self._position("words", self.words, n_columns)
                of_tag = self._position("tags", self.tags, n_columns)
            if len(fields) != n_columns:
                self._fail(f"has {len(fields)} columns, and line {first_line} has {n_columns}")
            if self.is_conllu and not self._is_word(fields[0], len(sentence)):
                continue
            if not fields[of_tag]:
                self._fail("the tag is empty")
            sentence.append((fields[of_word], None if fields[of_tag] == "_" else fields[of_tag]))
        self._end(sentence, document)

    def _lines(self, text: str) -> Iterator[list[str]]:
        """Yield the fields of each line that is no comment. A blank line has none."""
        is_tabbed = "\t" in text
        for self.line, raw in enumerate(text.split("\n"), 1):  # splitlines() would also cut at other characters
            line = raw.rstrip(" \t\r")
            if self.is_conllu and re.match(r"#\s*newdoc\b", line):
                yield [_MARK]
            elif not self._is_comment(line, is_tabbed):
                has_tabs = self.is_conllu or "\t" in line
                yield [] if not line else line.split("\t") if has_tabs else _BLANKS.split(line.lstrip(" "))

    def _is_comment(self, line: str, is_tabbed: bool) -> bool:
        if self.comment != "auto":
            return self.comment is not None and line.startswith(self.comment)
        return line.startswith("#") and (self.is_conllu or (is_tabbed and "\t" not in line))

    def _end(self, sentence: list[tuple[str, str | None]], document: int) -> None:
        if sentence:
            self.X.append([word for word, _ in sentence])
            self.y.append([tag for _, tag in sentence])
            self.documents.append(document)

    def _is_word(self, number: str, n_words: int) -> bool:
        """Return whether a line of CoNLL-U is a word: no multiword token (2-3) and no empty node (8.1)."""
        if re.fullmatch(r"\d+[-.]\d+", number):
            return False
        if number != str(n_words + 1):
            self._fail(f"the id is {number!r}, and the next word of the sentence has the id {n_words + 1}")
        return True

    def _position(self, name: str, column: Any, n_columns: int) -> int:
        """Return the position of a column, counted from 0."""
        if self.names is not None and len(self.names) != n_columns:
            named = "CoNLL-U has 10, separated by tabs" if self.is_conllu else f"columns names {len(self.names)}"
            self._fail(f"has {n_columns} columns, and {named}")
        if isinstance(column, str):
            names = [one if not self.is_conllu else one.lower() for one in self.names or ()]
            wanted = column.lower() if self.is_conllu else column
            if wanted in names:
                return names.index(wanted)
            hint = did_you_mean(column, names) if names else "; name all columns by columns=[...], or give a position"
            raise InvalidParameterError(f"{name}={column!r} is not the name of a column{_among(names)}{hint}")
        if n_columns == 1 and column == -1:
            self._fail("has one column, and tags need another one; tags=0 reads a file of tags alone")
        if not is_int(column) or not -n_columns <= column < n_columns:
            raise InvalidParameterError(
                f"{name}={column!r} must be a position of a column or its name; line {self.line} of "
                f"{short_path(self.path)} has {n_columns} columns"
            )
        return int(column) % n_columns

    def _fail(self, problem: str) -> None:
        raise ValueError(f"{short_path(self.path)}, line {self.line}: {problem}")


def _among(names: Sequence[str]) -> str:
    return f", which are {', '.join(map(repr, names))}." if names else ""


def save_conll(
    path: str | os.PathLike[str],
    X: Any,
    y: Any,
    *more: Any,
    groups: Any = None,
    encoding: str = "utf-8",
) -> None:
    """Write sentences and tags to a file that has a word per line and a blank line between sentences.

    Columns are separated by tabs. The columns are the word, its tag, and the tags of `more`, such as predictions. A
    path that ends in .conllu makes a file of CoNLL-U with the columns id, form and upos.

    Parameters
    ----------
    path : str or path
        File that is written or replaced, compressed if it ends in .gz, .bz2 or .xz.
    X : list of n_sentences lists of str
        Words of each sentence.
    y : list of n_sentences lists of n_words tags
        Tags of each sentence. A tag that is not known (None) is written as "_".
    more : list of n_sentences lists of n_words tags
        Further columns of tags.
    groups : array-like of shape (n_sentences,), default=None
        Document of each sentence. A line `-DOCSTART-` begins each document, and "# newdoc" in CoNLL-U.
    encoding : str, default="utf-8"
        Encoding of the file.

    Raises
    ------
    ValueError
        If lengths differ, or a sentence, a word or a tag cannot be written: a sentence without words, a tab, a line
        break, an empty tag. The message names row and position.

    See Also
    --------
    load_conll : Read such a file.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from sktransfer import load_conll, save_conll
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "predicted.conll")
    ...     save_conll(path, [["Peter", "left"]], [["B-PER", "O"]], [["B-PER", "O"]])
    ...     print(path.read_text().expandtabs(8))
    Peter   B-PER   B-PER
    left    O       O
    <BLANKLINE>
    """
    columns = [("X", check_tags(X, "X", noun="word"))]
    columns += [(name, check_tags(tags, name)) for name, tags in zip(_names(more), (y, *more), strict=True)]
    is_conllu = _is_conllu(path)
    if is_conllu and more:
        raise ValueError(
            f"a file of CoNLL-U has one column of tags, and {1 + len(more)} are given; write a .conll file"
        )
    for name, rows in columns[1:]:
        if len(rows) != len(columns[0][1]):
            raise ValueError(f"X has {len(columns[0][1])} sentences and {name} has {len(rows)}")
    marks = _document_marks(groups, len(columns[0][1]), len(columns) - 1, is_conllu)
    blocks = []
    for row, sentence in enumerate(columns[0][1]):
        if not sentence:
            raise ValueError(f"X[{row}] has no words, and a file cannot hold a sentence without words; leave it out")
        lines = []
        for name, rows in columns[1:]:
            if len(rows[row]) != len(sentence):
                raise ValueError(f"X[{row}] has {len(sentence)} words and {name}[{row}] has {len(rows[row])} tags")
        for position in range(len(sentence)):
            fields = [
                _field(rows[row][position], name, row, position, is_word=name == "X", is_conllu=is_conllu)
                for name, rows in columns
            ]
            if is_conllu:
                fields = [str(position + 1), fields[0], "_", fields[1], *["_"] * 6]
            lines.append("\t".join(fields))
        blocks.append(marks[row] + "\n".join(lines) + "\n")
    content = "\n".join(blocks).encode(encoding)
    file = Path(path)
    with _opener(file)(file, "wb") as stream:
        stream.write(content)


def _names(more: Sequence[Any]) -> list[str]:
    return ["y", *(f"more[{i}]" for i in range(len(more)))]


def _field(value: Any, name: str, row: int, position: int, *, is_word: bool, is_conllu: bool) -> str:
    """Return a word or a tag as text of the file."""
    where = f"{name}[{row}], position {position}: "
    if is_word and not isinstance(value, str):
        raise ValueError(f"{where}{value!r} is not a word; words are strings")
    text = "_" if value is None else str(value)
    if re.search(r"[\t\n\r]", text) or (is_word and text == _MARK):
        raise ValueError(f"{where}{text!r} cannot be written to a file of columns; replace it")
    if not text.strip() and (not is_word or is_conllu):
        raise ValueError(
            f"{where}{text!r} is empty; {'CoNLL-U has no empty words' if is_word else 'give a tag, or None'}"
        )
    return text


def _document_marks(groups: Any, n_sentences: int, n_tags: int, is_conllu: bool) -> list[str]:
    """Return the lines in front of each sentence."""
    if groups is None:
        return [""] * n_sentences
    documents = list(groups)
    if len(documents) != n_sentences:
        raise ValueError(f"groups has {len(documents)} values for {n_sentences} sentences; give one per sentence")
    marks, seen = [""] * n_sentences, set()
    for row, document in enumerate(documents):
        if row and document == documents[row - 1]:
            continue
        if document in seen:
            raise ValueError(
                f"groups[{row}]: the document {document!r} has earlier sentences, and another document lies between; "
                "sort the sentences by document"
            )
        seen.add(document)
        marks[row] = "# newdoc\n" if is_conllu else _MARK + "\tO" * n_tags + "\n\n"
    return marks
