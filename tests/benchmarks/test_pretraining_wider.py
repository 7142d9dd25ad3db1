"""The second edition of `tiny/bert`: readers, corpus, word pieces, and exact resumption of the training."""

from __future__ import annotations

import argparse
import gzip
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from tokenizers import Tokenizer

from benchmarks.pretraining import tiny_bert_corpus, tiny_bert_readers, tiny_bert_texts, tiny_bert_wider
from benchmarks.pretraining.common import SHIPPED
from benchmarks.pretraining.tiny_bert_texts import mixed
from sktransfer.providers.tiny_bert import CONFIG
from sktransfer.weights.reading import read_metadata, read_state

PAGE = """<html><head><title>No</title></head><body><nav>No <a>menu</a></nav>
<p>The <em>matrix</em> is sparse &amp; square.</p><pre>no.code()</pre><!-- no --><dl><dt>x</dt>
<dd>Values at \\(x_i\\) only.</dd></dl></body></html>"""
MANUAL = """.\\" no
.TH LS 1
.SH SYNOPSIS
.B ls no
.SH DESCRIPTION
List \\fIfiles\\fR,
.BR ls (1)
sorts them.
.nf
no code
.fi
.TP
.B \\-a
show all\\&."""
DOCSTRING = """Return the inverse of `x`.

Parameters
----------
x : array
    The values to be
    inverted.

>>> no
Use :func:`~numpy.linalg.inv` instead."""
DICTIONARY = """abacus \\A*ba*cus\\, n. [L. from Greek.]
   1. A table or tray
      for counting. --Milton.
      [1913 Webster]
   2. A drawing board {of} sand.
zebra
   <animal> A horse with stripes. (2020-01-01)
"""
WORDS = [
    "the",
    "a",
    "network",
    "matrix",
    "returns",
    "reads",
    "file",
    "value",
    "of",
    "and",
    "is",
    "good",
    "film",
    "text",
]
SAYINGS = "Be kind.\n\t\t-- Nobody\n%\nTwo lines\nof one.\n"


@pytest.mark.parametrize(
    ("function", "text", "expected"),
    [
        ("paragraphs_of_page", PAGE, ["The matrix is sparse & square.", "x", "Values at only."]),
        ("paragraphs_of_manual", MANUAL, ["List files, ls(1) sorts them.", "-a show all."]),
        (
            "paragraphs_of_docstring",
            DOCSTRING,
            [
                "Return the inverse of x.",
                "Parameters",
                "x : array",
                "The values to be inverted.",
                "Use numpy.linalg.inv instead.",
            ],
        ),
    ],
    ids=["page", "manual", "docstring"],
)
def test_paragraphs_of_page_manual_and_docstring_leave_out_code_and_markup(function, text, expected):
    assert getattr(tiny_bert_readers, function)(text) == expected


def test_readers_of_unpacked_packages(tmp_path):
    tmp_path /= "tests"  # folders above do not count
    for name, text in {
        "usr/share/doc/a/html/en/a.html": PAGE,
        "usr/share/doc/a/html/de/a.html": "<p>Deutsch</p>",
        "usr/share/doc/a/html/_modules/a.html": "<p>Code</p>",
        "usr/share/games/fortunes/wise": SAYINGS,
        "usr/share/games/fortunes/wise.dat": "index",
        "b_Translation-en.txt": "Package: x\nDescription-en: small editor\n It edits\n texts.\n .\n Quickly.\n",
        "pkg/a.py": f'def f():\n    r"""{DOCSTRING}"""\n',
        "pkg/tests/b.py": '"""No test."""\n',
        "pkg/c.py": "print 2\n",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    for name, text in {"dictd/a.dict.dz": DICTIONARY, "man/man1/ls.1.gz": MANUAL}.items():
        (tmp_path / "usr/share" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "usr/share" / name).write_bytes(gzip.compress(text.encode()))
    assert list(tiny_bert_readers.web_pages(tmp_path)) == tiny_bert_readers.paragraphs_of_page(PAGE)
    assert list(tiny_bert_readers.sayings(tmp_path)) == ["Be kind.", "Two lines of one."]
    assert list(tiny_bert_readers.descriptions(tmp_path)) == ["small editor", "It edits texts.", "Quickly."]
    assert list(tiny_bert_readers.docstrings(tmp_path)) == tiny_bert_readers.paragraphs_of_docstring(DOCSTRING)
    assert list(tiny_bert_readers.manual_pages(tmp_path)) == tiny_bert_readers.paragraphs_of_manual(MANUAL)
    assert list(tiny_bert_readers.dictionary(tmp_path)) == [
        "abacus: A table or tray for counting.",
        "abacus: A drawing board of sand.",
        "zebra: A horse with stripes.",
    ]


def test_build_drops_repeated_and_measured_passages_and_code():
    measured = tiny_bert_corpus.Measured(["One two three four five six seven eight nine.", "short measured text here"])
    texts = [
        "We saw that two three four five six, seven eight NINE came.",  # eight words of the measured text in a row
        "We saw that two three four five six seven ten.",
        "We saw that two three four five six seven ten!",
        "Short measured text here.",
        "x_1 = foo(bar) >>> 3 4 5",
        "Too short.",
    ]
    rows = tiny_bert_corpus.build(
        [("a", 10, iter(texts)), ("b", 1, iter(["A first text is here.", "Now the next text."]))], measured
    )
    assert sorted(name for name, _ in rows) == ["a", "b"]
    assert ("a", texts[1]) in rows


def test_passages_contain_all_words_in_short_groups_of_sentences():
    paragraph = " ".join(f"This is sentence {i} of many." for i in range(50))
    found = tiny_bert_corpus.passages(paragraph, np.random.default_rng(0))
    assert " ".join(found) == paragraph
    assert max(len(passage.split()) for passage in found) <= tiny_bert_corpus.MOST


def test_read_returns_the_passages_of_a_written_corpus(tmp_path):
    (tmp_path / "texts.tsv").write_text("a\tOne text.\nb\tTwo\ttabs.\n")
    assert tiny_bert_corpus.read(tmp_path / "texts.tsv") == ["One text.", "Two\ttabs."]


def test_widen_tokenizer_replaces_the_least_used_pieces_and_keeps_other_numbers(tmp_path):
    first, path = SHIPPED / tiny_bert_wider.TOKENIZER, tmp_path / "tokenizer.json"
    texts = ["an eigenvalue of the hyperplane", "the eigenvalue and a good film", "hyperplane and eigenvalue"] * 3
    tiny_bert_texts.widen_tokenizer(first, texts, path, replaced=2)
    old, new = (Tokenizer.from_file(str(file)) for file in (first, path))
    assert new.encode("the eigenvalue of a hyperplane").tokens == [
        "[CLS]",
        "the",
        "eigenvalue",
        "of",
        "a",
        "hyperplane",
        "[SEP]",
    ]
    assert new.get_vocab_size() == CONFIG["vocab_size"]
    assert sum(old.id_to_token(i) != new.id_to_token(i) for i in range(CONFIG["vocab_size"])) == 2
    assert new.encode("a good film").ids == old.encode("a good film").ids


def test_mixed_keeps_the_order_of_each_list_and_their_shares():
    many, few = [f"a{i}" for i in range(900)], [f"b{i}" for i in range(300)]
    texts = mixed(many, few, 0.25, np.random.default_rng(0))
    assert len(texts) > 1000
    assert [text for text in texts if text[0] == "a"] == many[: sum(text[0] == "a" for text in texts)]
    assert [text for text in texts if text[0] == "b"] == few[: sum(text[0] == "b" for text in texts)]
    assert sum(text[0] == "b" for text in texts) == pytest.approx(0.25 * len(texts), rel=0.1)


def test_hidden_masks_word_pieces_of_half_of_the_texts():
    ids, words = torch.full((400, 10), 7), torch.full((400, 10), 0)
    words[:, 0] = -1
    masked, where = tiny_bert_wider.hidden(ids, words, 4, torch.Generator().manual_seed(0), rate=0.5)
    assert not where[:, 0].any()
    assert torch.equal(masked == 4, where)
    assert 150 < where.any(1).sum() < 250
    torch.testing.assert_close(where.float().mean().item(), 0.5 * 0.5 * 0.9, atol=0.03, rtol=0)


def test_rate_at_rises_stays_and_falls_in_the_last_two_rounds():
    factors = [tiny_bert_wider.rate_at(*at) for at in ((0, 10, 99), (5, 10, 999), (9, 10, 999), (9.9, 10, 999))]
    np.testing.assert_allclose(factors, [0.5, 1.0, 0.5, 0.05])


def test_train_resumes_to_equal_weights_with_a_tied_head(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    lines = [f"a\t{' '.join(rng.choice(WORDS, size))}\n" for size in rng.integers(8, 12, 16 + 2 * 24)]
    (tmp_path / "texts.tsv").write_text("".join(lines))
    (tmp_path / "text").mkdir()
    reviews = pd.DataFrame({"text": [" ".join(rng.choice(WORDS, 40)) for _ in range(200)]})
    reviews.to_csv(tmp_path / "text" / "imdb_train.csv.gz")
    monkeypatch.setenv("SKTRANSFER_TEST_DATA", str(tmp_path))

    def settings(folder):
        places = {"corpus": tmp_path / "texts.tsv", "first": SHIPPED, "work": folder, "out": folder / "out"}
        numbers = {"rounds": 2, "held_out": 16, "part": 24, "budget": 64, "replaced": 3, "lr": 1e-3, "seed": 0}
        return argparse.Namespace(**places, **numbers, films=0.3, rate=0.5, masked_weight=0.3, minutes=0)

    steps, update = [], tiny_bert_wider.update_average

    def copied(*args):
        steps.append(args)
        if len(steps) == 14:  # in the second round, as if the run had been killed here
            shutil.copytree(tmp_path / "whole", tmp_path / "resumed")
            shutil.rmtree(tmp_path / "resumed" / "out")
        update(*args)

    with monkeypatch.context() as patch:
        patch.setattr(tiny_bert_wider, "update_average", copied)
        tiny_bert_wider.train(settings(tmp_path / "whole"))
    assert torch.load(tmp_path / "resumed" / "tiny_bert.pt")["steps"] == 13 < len(steps)
    tiny_bert_wider.train(settings(tmp_path / "resumed"))
    files = [tmp_path / name / "out" / "tiny_bert.safetensors" for name in ("whole", "resumed")]
    whole, resumed = map(read_state, files)
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    layers = ("transform.dense.weight", "transform.dense.bias", "transform.LayerNorm.weight", "bias")
    assert {f"cls.predictions.{name}" for name in layers} <= whole.keys()
    assert sum(tensor.shape[0] == CONFIG["vocab_size"] for tensor in whole.values()) == 2  # one table, and the bias
    assert 0 <= read_metadata(files[0])["figures"]["masked_words"] <= 1
