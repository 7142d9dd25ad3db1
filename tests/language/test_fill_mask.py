"""The most probable tokens at the place of a mask token."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
import transformers
from torch import nn

from sktransfer import Backbone, FineTuneClassifier, fill_mask, load_backbone
from sktransfer.backbones import LanguageModelHead
from sktransfer.exceptions import InvalidParameterError, InvalidSampleError, NotFiniteError, TruncatedTextWarning
from tests.helpers.huggingface_folders import link_all_minilm, make_folder, save_tokenizer
from tests.helpers.mutants import text_twin

TEXTS = ["the quick <mask> fox jumps", "a <mask>", "<mask> of black quartz judge my vow"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("masked")
    make_folder("bert", folder, "ForMaskedLM")
    return folder


@pytest.fixture(scope="module")
def backbone(folder):
    return load_backbone(f"hf/{folder}")


def test_fill_mask_equals_the_pipeline_of_transformers(folder, backbone):
    model = transformers.AutoModelForMaskedLM.from_pretrained(folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    own = transformers.pipeline("fill-mask", model=model, tokenizer=tokenizer, top_k=4)(TEXTS)
    table = fill_mask(backbone, TEXTS, top=4)
    assert table.columns.tolist() == ["row", "rank", "token", "probability"]
    assert table["row"].tolist() == np.repeat([0, 1, 2], 4).tolist()
    assert table["rank"].tolist() == [1, 2, 3, 4] * 3
    expected = [one for of_text in own for one in of_text]
    assert table["token"].tolist() == [one["token_str"].strip() for one in expected]
    np.testing.assert_allclose(table["probability"], [one["score"] for one in expected], rtol=1e-4)


def test_fill_mask_of_a_text_does_not_depend_on_the_others(backbone):
    together = fill_mask(backbone, [*TEXTS, TEXTS[1]], top=3)
    for row, text in enumerate([*TEXTS, TEXTS[1]]):
        alone = fill_mask(backbone, text, top=3).drop(columns="row")
        pd.testing.assert_frame_equal(
            together[together["row"] == row].drop(columns="row").reset_index(drop=True), alone
        )


def test_fill_mask_takes_a_name_and_a_series(folder, backbone):
    series = pd.Series(TEXTS, index=["a", "b", "c"], name="text")
    pd.testing.assert_frame_equal(fill_mask(f"hf/{folder}", series), fill_mask(backbone, TEXTS))


def test_fill_mask_top_is_checked(backbone):
    for top in (0, 1.5, "all"):
        with pytest.raises(InvalidParameterError, match="top"):
            fill_mask(backbone, TEXTS, top)
    with pytest.raises(InvalidParameterError, match=r"top=201 is more than the 200 tokens"):
        fill_mask(backbone, TEXTS, 201)
    assert fill_mask(backbone, TEXTS[0], 200)["probability"].sum() == pytest.approx(1)


@pytest.mark.parametrize("backbone", [text_twin(), load_backbone("tiny/cnn")], ids=["text", "image"])
def test_fill_mask_refuses_a_backbone_without_lm_head(backbone):
    with pytest.raises(InvalidParameterError, match=rf"{backbone.name} has no language-model head.*ForMaskedLM"):
        fill_mask(backbone, TEXTS)


def test_fill_mask_refuses_a_backbone_that_ends_below_its_lm_head(backbone):
    classifier = FineTuneClassifier(backbone, layer=1, freeze_depth="all", max_epochs=0).fit(TEXTS, ["a", "b", "a"])
    message = r"ends at 'layer1', the highest stage that its estimator reads.*reads 'layer4'.*layer=-1"
    with pytest.raises(InvalidParameterError, match=message):
        fill_mask(classifier.backbone_, TEXTS)
    with pytest.raises(InvalidParameterError, match=message):
        fill_mask(classifier.backbone_, TEXTS[0])


def test_fill_mask_refuses_all_minilm(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(link_all_minilm(tmp_path)))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    backbone = load_backbone("hf/sentence-transformers/all-MiniLM-L6-v2")
    assert backbone.lm_head is None
    with pytest.raises(InvalidParameterError, match="has no language-model head"):
        fill_mask(backbone, TEXTS)


def test_fill_mask_refuses_a_causal_language_model(tmp_path):
    make_folder("gpt2", tmp_path, "ForCausalLM")
    with pytest.raises(InvalidParameterError, match=r"is a causal language model, and a masked one .* use perplexity"):
        fill_mask(f"hf/{tmp_path}", TEXTS)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a quick fox", "row 1.*does not contain <mask>, the mask token of"),
        ("a [MASK] fox", "row 1.*does not contain <mask>"),
        ("a <mask> <mask> fox", "row 1.*contains <mask> 2 times; hide one token per text"),
    ],
)
def test_fill_mask_names_the_row_of_a_text_without_one_mask(text, message, backbone):
    with pytest.raises(InvalidSampleError, match=message):
        fill_mask(backbone, [TEXTS[0], text])
    with pytest.raises(InvalidSampleError, match="second"):
        fill_mask(backbone, pd.Series([TEXTS[0], text], index=["first", "second"]))


def test_fill_mask_names_a_mask_beyond_max_length(backbone):
    text = "the quick brown fox jumps over the lazy dog <mask>"
    with pytest.raises(
        InvalidSampleError, match=r"<mask> is not among the 6 tokens .* raise max_length, to at most 64"
    ):
        fill_mask(backbone, text, max_length=6)
    with pytest.warns(TruncatedTextWarning):
        fill_mask(backbone, f"{TEXTS[0]} over the lazy dog and the river", max_length=12)


def test_fill_mask_names_a_tokenizer_without_mask_token(tmp_path):
    make_folder("bert", tmp_path, "ForMaskedLM")
    save_tokenizer(tmp_path)
    with pytest.raises(InvalidParameterError, match="names no mask token"):
        fill_mask(f"hf/{tmp_path}", TEXTS)


def test_fill_mask_refuses_outputs_that_are_not_finite(backbone):
    output = nn.Linear(32, 200)
    with torch.no_grad():
        output.bias[3] = float("nan")
    parts = list(zip(backbone.stage_names, backbone.stages))
    head = LanguageModelHead("masked", output)
    broken = Backbone.from_modules(parts, modality="text", preprocess=backbone.preprocess, lm_head=head)
    with pytest.raises(NotFiniteError):
        fill_mask(broken, TEXTS)
