from __future__ import annotations

import numpy as np
import pytest
from matplotlib.colors import to_hex

from sktransfer import FineTuneTagger, TagsDisplay
from sktransfer.exceptions import InvalidParameterError

WORDS = [["New", "York", "calls", "Anna"], ["she", "runs"]]
SPANS = [["B-LOC", "I-LOC", "O", "B-PER"], ["O", "O"]]


def drawn(display):
    return [text.get_text() for text in display.ax_.texts]


def test_y_pred_with_a_scheme_shows_spans():
    display = TagsDisplay(WORDS, SPANS)
    assert [(span.start, span.stop, span.type) for span in display.spans[0]] == [(0, 2, "LOC"), (3, 4, "PER")]
    assert drawn(display.plot()) == ["New York LOC", "calls", "Anna PER", "she", "runs"]
    box = display.ax_.texts[0].get_bbox_patch()
    assert to_hex(box.get_facecolor()).upper() == display.colours["LOC"]


def test_y_pred_without_a_scheme_shows_each_word():
    display = TagsDisplay(WORDS[1:], [["PRON", "VERB"]]).plot()
    assert drawn(display) == ["she PRON", "runs VERB"]
    assert drawn(TagsDisplay(WORDS[1:], [[1, 0]]).plot()) == ["she 1", "runs 0"]
    assert drawn(TagsDisplay(WORDS, SPANS, scheme="none").plot())[:2] == ["New B-LOC", "York I-LOC"]


def test_scheme_broken_spans_are_shown():
    assert drawn(TagsDisplay(WORDS[1:], [["I-PER", "I-LOC"]], scheme="IOB2").plot()) == ["she PER", "runs LOC"]


def test_y_true_marks_wrong_words():
    display = TagsDisplay(WORDS, SPANS, [["B-ORG", "I-LOC", None, "B-PER"], ["O", "O"]])
    assert drawn(display.plot())[:2] == ["New[B-ORG] York LOC", "calls"]
    assert display.to_html().count("color: #CC0000") == 1
    assert 'title="true: B-ORG">New</span>' in display.to_html()


def test_to_html_escapes_words_and_tags():
    display = TagsDisplay([["<script>", 'a"b']], [["<b>", "O"]], [['"x">', "O"]])
    html = display.to_html()
    assert "<script>" not in html
    assert "<b>" not in html
    assert 'title="true: &quot;x&quot;&gt;"' in html
    assert "&lt;script&gt;" in html
    assert display._repr_html_() == html


def test_plot_row_and_n_lines():
    long = TagsDisplay([["word"] * 60, ["end"]], [["O"] * 60, ["O"]])
    assert len({text.get_position()[1] for text in long.plot(n_lines=2).ax_.texts}) == 2
    assert drawn(long.plot(row=-1)) == ["end"]
    assert all(0 <= text.get_position()[0] < 104 for text in long.plot().ax_.texts)
    with pytest.raises(InvalidParameterError, match="row=2"):
        long.plot(row=2)


def test_from_estimator_uses_the_scheme_of_the_tagger():
    tagger = FineTuneTagger("tiny/bert", layer=1, freeze_depth="all", max_epochs=0, random_state=0).fit(WORDS, SPANS)
    display = TagsDisplay.from_estimator(tagger, WORDS, SPANS)
    assert display.scheme == "IOB2"
    assert display.y_pred == tagger.predict(WORDS)
    assert display.figure_ is display.ax_.figure


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((["New York"], SPANS), "split it into words"),
        ((WORDS, SPANS[:1]), "y_pred has 1 sentences"),
        ((WORDS, SPANS, [["O"], ["O", "O"]]), "y_true has 1 value"),
        ((WORDS, np.full((2, 4), "O")), r"shape \(2, 4\)"),
        ((WORDS, SPANS, None, "bio"), "scheme='bio'"),
    ],
)
def test_init_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        TagsDisplay(*arguments)
