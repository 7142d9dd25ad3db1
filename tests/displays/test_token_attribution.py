from __future__ import annotations

import functools
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline

from sktransfer import FineTuneClassifier, PretrainedClassifier, TextFeaturizer, TokenAttributionDisplay, as_module
from sktransfer.exceptions import InvalidParameterError
from sktransfer.testing.samples import make_samples
from tests.helpers.pictures import cut_labels
from tests.helpers.small_bert import small_bert

KNOWN = ["film", "plot", "story", "acting", "what", "very"]
TEXTS = [f"a {mood} {word} and {other}" for mood in ("good", "bad") for word in KNOWN for other in KNOWN[:2]]
MOODS = ["up"] * 12 + ["down"] * 12


@functools.cache
def classifier():
    return FineTuneClassifier(f"hf/{small_bert()}", freeze_depth=0, max_epochs=8, lr=3e-3, random_state=0).fit(
        TEXTS, MOODS
    )


def words_of(display, row=0):
    return display.words[row]["word"].tolist()


def test_from_estimator_adds_up_to_the_change_from_padding():
    texts = [TEXTS[0], "bad"]
    display = TokenAttributionDisplay.from_estimator(classifier(), texts, target="up", n_steps=200)
    module = as_module(classifier(), output="logits")
    ids, mask = module.preprocess(texts)
    padding = torch.where((ids == 2) | (ids == 3) | ~mask, ids, 0)  # all but [CLS] and [SEP]
    change = (module(ids, mask) - module(padding, mask))[:, 1].detach().numpy()
    sums = [table["value"].sum() for table in display.words]
    np.testing.assert_allclose(sums, change, atol=0.02)
    assert np.abs(change).max() > 0.5


@pytest.mark.parametrize("method", ["integrated_gradients", "gradient_x_input"])
def test_method_attributes_words_alike_in_any_batch(method):
    alone = TokenAttributionDisplay.from_estimator(classifier(), TEXTS[:1], target="up", method=method)
    together = TokenAttributionDisplay.from_estimator(classifier(), TEXTS[:5] + ["bad"], target="up", method=method)
    assert words_of(alone) == ["a", "good", "film", "and", "film"]
    np.testing.assert_allclose(alone.words[0]["value"], together.words[0]["value"], atol=1e-4)


def test_from_estimator_finds_the_word_that_decides():
    clf = make_pipeline(TextFeaturizer("tiny/bert", layer=1), LogisticRegression(max_iter=500)).fit(TEXTS, MOODS)
    display = TokenAttributionDisplay.from_estimator(clf, TEXTS, target=MOODS)
    strongest = [table["word"][table["value"].abs().idxmax()] for table in display.words]
    assert np.mean([word in ("good", "bad") for word in strongest]) > 0.9
    assert TokenAttributionDisplay.from_estimator(clf, TEXTS).targets == clf.predict(TEXTS).tolist()


def test_from_estimator_joins_the_tokens_of_a_word():
    texts, moods = make_samples("text", 8)
    clf = make_pipeline(TextFeaturizer("tiny/bert"), LogisticRegression()).fit(texts, moods)
    display = TokenAttributionDisplay.from_estimator(clf, ["Unfilmed  plot,\nunplayed!", ""])
    assert words_of(display) == ["Unfilmed", "plot", ",", "unplayed", "!"]
    assert words_of(display, 1) == []


def test_from_estimator_leaves_out_words_beyond_the_limit():
    clf = FineTuneClassifier(f"hf/{small_bert()}", max_length=5, max_epochs=0).fit(
        ["a good film", "bad"], ["up", "down"]
    )
    with pytest.warns(UserWarning, match="longer than 5 tokens"):
        display = TokenAttributionDisplay.from_estimator(clf, [TEXTS[0]])
    assert words_of(display) == ["a", "good", "film"]
    assert display.to_html().endswith("film</span> and film</p></div>")


def test_to_html_escapes_texts_and_classes():
    words = pd.DataFrame({"word": ["<b>", "&"], "start": [0, 4], "stop": [3, 5], "value": [1.0, -0.5]})
    display = TokenAttributionDisplay(["<b> & <script>"], [words], ["<i>"])
    html = display.to_html()
    assert display._repr_html_() == html
    assert "&lt;b&gt;" in html
    assert "&amp;" in html
    assert "&lt;script&gt;" in html
    assert "&lt;i&gt;" in html
    assert "<script" not in html
    assert "rgba(213, 94, 0, 0.75)" in html
    assert "rgba(0, 114, 178, 0.38)" in html


def test_plot_draws_a_bar_per_word_in_reading_order():
    display = TokenAttributionDisplay.from_estimator(classifier(), TEXTS[:2] + ["a bad $^ film"], target="up", row=1)
    bars = display.ax_.patches
    np.testing.assert_allclose([bar.get_width() for bar in bars], display.words[1]["value"])
    assert [label.get_text() for label in display.ax_.get_yticklabels()] == words_of(display, 1)
    assert display.ax_.yaxis_inverted()
    assert display.ax_.get_xlabel() == "evidence for up"
    assert cut_labels(display.figure_) == []
    display.plot(row=-1).figure_.canvas.draw()  # a dollar sign is no formula
    with pytest.raises(InvalidParameterError, match="row=3 must be the index of one of 3 texts"):
        display.plot(row=3)


def test_from_estimator_of_numbers_names_the_prediction():
    y = np.arange(24.0)
    number = make_pipeline(TextFeaturizer(), Ridge()).fit(TEXTS, y)
    display = TokenAttributionDisplay.from_estimator(number, TEXTS[:1], method="gradient_x_input")
    assert display.ax_.get_xlabel() == "evidence for the prediction"
    assert "<b>the prediction</b>" in display.to_html()
    numbers = make_pipeline(TextFeaturizer(), Ridge()).fit(TEXTS, np.stack([y, -y], 1))
    display = TokenAttributionDisplay.from_estimator(numbers, TEXTS[:1], target=1, method="gradient_x_input")
    assert display.ax_.get_xlabel() == "evidence for prediction 1"


def test_from_estimator_adds_up_with_default_layers():
    clf = make_pipeline(TextFeaturizer(), LogisticRegression(max_iter=500)).fit(TEXTS, MOODS)
    display = TokenAttributionDisplay.from_estimator(clf, TEXTS[:2], target="up", n_steps=200)
    module = as_module(clf, output="logits")
    ids, mask = module.preprocess(TEXTS[:2])
    words = torch.zeros_like(mask)
    for row, tokens in enumerate(map(module.backbone.preprocess.words, TEXTS[:2])):
        words[row, : len(tokens[1])] = torch.tensor([token is not None for token in tokens[1]])
    padding = ids.masked_fill(words, module.backbone.preprocess.pad_value)
    change = (module(ids, mask) - module(padding, mask))[:, 1].detach().numpy()
    np.testing.assert_allclose([table["value"].sum() for table in display.words], change, atol=0.02)


def test_from_estimator_refuses_images_and_unknown_methods():
    images, _ = make_samples("image", 4)
    with pytest.raises(InvalidParameterError, match=r"PretrainedClassifier reads images, and these .* of texts"):
        TokenAttributionDisplay.from_estimator(PretrainedClassifier(), images)
    with pytest.raises(InvalidParameterError, match="TextFeaturizer gives features"):
        TokenAttributionDisplay.from_estimator(TextFeaturizer().fit(TEXTS), TEXTS)
    with pytest.raises(InvalidParameterError, match="method='lime' must be one of"):
        TokenAttributionDisplay.from_estimator(classifier(), TEXTS, method="lime")
    with pytest.raises(InvalidParameterError, match="n_steps=0 must be an int of at least 1"):
        TokenAttributionDisplay.from_estimator(classifier(), TEXTS, n_steps=0)


def test_from_estimator_without_captum_names_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "captum", None)
    with pytest.raises(ImportError, match=r"attributions need captum: pip install 'captum>=0.9'"):
        TokenAttributionDisplay.from_estimator(classifier(), TEXTS)
