"""Files of tagged words: columns, documents, comments, CoNLL-U, messages, and both directions."""

from __future__ import annotations

import gzip

import numpy as np
import pytest

from sktransfer import load_conll, save_conll
from sktransfer.exceptions import InvalidParameterError

CONLL = """-DOCSTART- -X- O O

EU NNP I-NP B-ORG
# SYM I-NP O

Peter NNP I-NP B-PER
-DOCSTART- -X- O O

left VBD I-VP O
"""
CONLLU = """# newdoc id = one
# sent_id = 1
# text = I don't know
1\tI\tI\tPRON\tPRP\t_\t4\tnsubj\t_\t_
2-3\tdon't\t_\t_\t_\t_\t_\t_\t_\t_
2\tdo\tdo\tAUX\tVBP\t_\t4\taux\t_\t_
3\tn't\tnot\tPART\tRB\t_\t4\tadvmod\t_\t_
3.1\tgone\tgo\tVERB\tVBN\t_\t_\t_\t_\t_
4\tknow\tknow\t_\tVB\t_\t0\troot\t_\t_

1\t#\t#\tSYM\tNN\t_\t0\troot\t_\t_
2\t10 000\t10 000\tNUM\tCD\t_\t1\tdep\t_\t_
# newdoc
1\t_\t_\tSYM\tNFP\t_\t0\troot\t_\t_
"""


@pytest.fixture
def write(tmp_path):
    def to_file(text, name="a.conll", encoding="utf-8"):
        path = tmp_path / name
        path.write_bytes(text.encode(encoding))
        return path

    return to_file


def test_load_conll(write):
    path = write(CONLL)
    X, y, groups = load_conll(path, return_groups=True)
    assert X == [["EU", "#"], ["Peter"], ["left"]]
    assert y == [["B-ORG", "O"], ["B-PER"], ["O"]]
    assert groups.tolist() == [0, 0, 1]
    assert load_conll(path, tags=1)[1] == [["NNP", "SYM"], ["NNP"], ["VBD"]]
    names = ["word", "pos", "chunk", "entity"]
    assert load_conll(path, columns=names, words="pos", tags="word") == load_conll(path, words=1, tags=-4)


@pytest.mark.parametrize("name", ["a.conllu", "a.CONLLU.gz", "a.txt"])
def test_load_conll_of_conllu_reads_words_alone(write, tmp_path, name):
    path = tmp_path / name
    content = CONLLU.encode()
    path.write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    X, y, groups = load_conll(path, format="conllu" if name == "a.txt" else "auto", return_groups=True)
    assert X == [["I", "do", "n't", "know"], ["#", "10 000"], ["_"]]
    assert y == [["PRON", "AUX", "PART", None], ["SYM", "NUM"], ["SYM"]]
    assert groups.tolist() == [0, 0, 1]
    assert load_conll(path, tags="XPOS", format="conllu")[1][2] == ["NFP"]


def test_load_conll_comment(write):
    tabbed = write("# sent_id 1\n#\tSYM\n#tag\tX\n\n# sent_id 2\nDr. Who\tPROPN\n")
    assert load_conll(tabbed)[0] == [["#", "#tag"], ["Dr. Who"]]
    with pytest.raises(ValueError, match="line 2: has 2 columns, and line 1 has 3"):
        load_conll(tabbed, comment=None)
    assert load_conll(write("%% a\n#a O\n%% b\n"), comment="%%")[0] == [["#a"]]
    assert load_conll(write("% a\n#a O\n"), comment="#")[0] == [["%"]]


def test_load_conll_keeps_characters_that_python_takes_for_spaces_or_line_ends(write):
    words = ["a\u00a0b", "c\u2028d", "e\x85f", "\u200e", "g\x0ch"]
    for separator in (" ", "\t", "  "):
        path = write("".join(f"{word}{separator}O\r\n" for word in words))
        assert load_conll(path)[0] == [words]


def test_load_conll_encoding(write):
    assert load_conll(write("\ufeffcafé O\n"))[0] == [["café"]]
    path = write("a O\ncafé O\n", encoding="latin-1")
    with pytest.raises(ValueError, match=r"a.conll', line 2: the byte 0xe9 is not utf-8; pass the encoding"):
        load_conll(path)
    assert load_conll(path, encoding="latin-1")[0] == [["a", "café"]]


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("a B O\nb O\n", {}, r"a.conll', line 2: has 2 columns, and line 1 has 3"),
        ("a\nb\n", {}, "line 1: has one column, and tags need another one"),
        ("a O\n", {"tags": 2}, r"tags=2 must be a position of a column or its name; line 1 of '.*a.conll' has 2"),
        ("a O\n", {"tags": "upos"}, "tags='upos' is not the name of a column; name all columns by columns="),
        ("a O\n", {"columns": ["form", "tag"], "tags": "tags"}, "which are 'form', 'tag'. Did you mean 'tag'"),
        ("a O\n", {"columns": ["form"]}, "line 1: has 2 columns, and columns names 1"),
        ("\n\n# a\n", {"comment": "#"}, "contains no words"),
        ("a O\n", {"return_groups": True}, "does not say where documents begin, which a line -DOCSTART- would do"),
        ("a\t\t\n", {"tags": 1}, "tags=1 must be a position of a column or its name; line 1"),
        ("a\t\tb\n", {"tags": 1}, "line 1: the tag is empty"),
        ("a O\n", {"encoding": "utf-9"}, "encoding='utf-9' is not an encoding"),
        ("a O\n", {"comment": ""}, "comment='' must be the beginning of lines"),
        ("1\ta\n", {"format": "conllu"}, "line 1: has 2 columns, and CoNLL-U has 10, separated by tabs"),
        (CONLLU.replace("4\tknow", "5\tknow"), {"format": "conllu"}, "line 9: the id is '5', .* has the id 4"),
        (CONLLU.replace("\n\n1\t#", "\n1\t#"), {"format": "conllu"}, "line 10: the id is '1', .* has the id 5"),
        (CONLLU, {"format": "conllu", "columns": ["a"]}, "CoNLL-U has its own names of columns"),
        (CONLLU.replace("# newdoc", "\n# new"), {"format": "conllu", "return_groups": True}, "begins with '# newdoc'"),
    ],
)
def test_load_conll_refuses(write, text, options, message):
    with pytest.raises(ValueError, match=message):
        load_conll(write(text), **options)


def test_load_conll_of_a_file_that_cannot_be_read(write, tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no such file"):
        load_conll(tmp_path / "b.conll")
    with pytest.raises(IsADirectoryError, match="give one of its files"):
        load_conll(tmp_path)
    for name in ("a.conll.gz", "a.conll.xz", "a.conll.bz2"):
        with pytest.raises(ValueError, match=f"{name}' is not a complete"):
            load_conll(write("a O\n", name))
    content = gzip.compress(b"".join(b"%d O\n" % i for i in range(1000)))
    for name, damaged in (("cut.gz", content[:-9]), ("torn.gz", content[:500] + b"xyz" * 9 + content[527:])):
        (tmp_path / name).write_bytes(damaged)
        with pytest.raises(ValueError, match=f"{name}' is not a complete"):
            load_conll(tmp_path / name)


X = [["a", "#b", "", "c d"], ["é\u2028"], ["e"]]
Y = [["O", "B-X", "I-X", "O"], [None], ["X"]]


@pytest.mark.parametrize("name", ["a.conll", "a.conll.gz", "a.conll.bz2", "a.txt.xz", "a.conllu"])
def test_save_conll_and_load_conll(tmp_path, name):
    words = [[word or "-" for word in row] for row in X] if name.endswith("u") else X
    for groups in (None, ["n", "n", "m"]):
        save_conll(tmp_path / name, words, Y, groups=groups)
        loaded = load_conll(tmp_path / name, return_groups=groups is not None)
        assert loaded[:2] == (words, Y)
        assert groups is None or loaded[2].tolist() == [0, 0, 1]


def test_save_conll_more_columns(tmp_path):
    path = tmp_path / "a.conll"
    save_conll(path, [["a"], ["b", "c"]], [["O"], ["X", "O"]], [np.array(["O"]), ("O", "X")], groups=[1, 2])
    assert load_conll(path, tags=1)[1] == [["O"], ["X", "O"]]
    assert load_conll(path)[1] == [["O"], ["O", "X"]]
    assert path.read_text().startswith("-DOCSTART-\tO\tO\n\na\tO\tO\n\n-DOCSTART-")


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((["a b"], [["O"]]), {}, r"X\[0\] is 'a b', and must be a list of words; for a single sentence pass \[X\]"),
        (([["a"]], []), {}, "X has 1 sentences and y has 0"),
        (([["a"], ["b"]], [["O"], []]), {}, r"X\[1\] has 1 words and y\[1\] has 0 tags"),
        (([["a"]], [["O"]], [["O", "O"]]), {}, r"X\[0\] has 1 words and more\[0\]\[0\] has 2 tags"),
        (([["a"], []], [["O"], []]), {}, r"X\[1\] has no words"),
        (([["a", "b\tc"]], [["O", "O"]]), {}, r"X\[0\], position 1: 'b\\tc' cannot be written"),
        (([["-DOCSTART-"]], [["O"]]), {}, "'-DOCSTART-' cannot be written"),
        (([["a"]], [[""]]), {}, r"y\[0\], position 0: '' is empty; give a tag, or None"),
        (([[1]], [["O"]]), {}, r"X\[0\], position 0: 1 is not a word"),
        (([["a"]], [["O"]]), {"groups": [1, 2]}, "groups has 2 values for 1 sentences"),
        (([["a"]] * 3, [["O"]] * 3), {"groups": [1, 2, 1]}, r"groups\[2\]: the document 1 has earlier sentences"),
    ],
)
def test_save_conll_refuses(tmp_path, arguments, options, message):
    with pytest.raises(ValueError, match=message):
        save_conll(tmp_path / "a.conll", *arguments, **options)
    assert not (tmp_path / "a.conll").exists()


def test_save_conll_of_conllu_refuses(tmp_path):
    with pytest.raises(ValueError, match="CoNLL-U has no empty words"):
        save_conll(tmp_path / "a.conllu", [[""]], [["X"]])
    with pytest.raises(ValueError, match="one column of tags, and 2 are given"):
        save_conll(tmp_path / "a.conllu", [["a"]], [["X"]], [["X"]])


def test_load_conll_format_refuses(write):
    with pytest.raises(InvalidParameterError, match="format='conllx' must be one of"):
        load_conll(write("a O\n"), format="conllx")
