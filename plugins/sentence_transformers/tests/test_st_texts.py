"""Token ids behind a prompt, and lowercasing as sentence-transformers adds it."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path

import pytest
from st_folders import TEXTS, change, open_model, save_model, small_model, tokenizer
from tokenizers import normalizers

from sktransfer import load_backbone
from sktransfer.backbones.preprocess import TextPreprocess
from sktransfer_sentence_transformers.texts import PromptedTokens

NORMALIZERS = {
    "none": None,
    "one": normalizers.NFC(),
    "several": normalizers.Sequence([normalizers.NFKC(), normalizers.Strip()]),
    "lowercase": normalizers.Lowercase(),
    "several with lowercase": normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()]),
}


def load(folder):
    return load_backbone(f"sentence-transformers/{folder}").preprocess


@pytest.mark.parametrize("kind", NORMALIZERS)
def test_do_lower_case_gives_the_ids_of_sentence_transformers(kind, tmp_path):
    save_model(tmp_path)
    own = tokenizer()
    own.backend_tokenizer.normalizer = NORMALIZERS[kind]
    own.save_pretrained(tmp_path)
    change(tmp_path / "sentence_bert_config.json", do_lower_case=True)
    texts = [*TEXTS, "This FILM [SEP] was Ⓑad"]
    expected = [open_model(tmp_path)[0].preprocess([text])["input_ids"][0].tolist() for text in texts]
    assert [ids.tolist() for ids in load(tmp_path)(texts)] == expected


@pytest.fixture
def prompted(tmp_path) -> PromptedTokens:
    folder = Path(shutil.copytree(small_model(), tmp_path / "model"))
    change(folder / "config_sentence_transformers.json", prompts={"q": "query : "}, default_prompt_name="q")
    return load(folder)


def test_promptedtokens_tokenize_puts_the_prompt_first_within_the_limit(prompted):
    assert isinstance(prompted, TextPreprocess)
    plain = load(small_model())
    texts = ["a good film", "very " * 60]
    expected, cut = plain.tokenize([f"query : {text}" for text in texts])
    found, found_cut = prompted.tokenize(texts)
    assert [ids.tolist() for ids in found] == [ids.tolist() for ids in expected]
    assert found_cut == cut == [False, True]
    assert prompted.limit == plain.limit == 40
    short = prompted.with_max_length(6)
    assert [len(ids) for ids in short(texts)] == [6, 6]
    assert short.limit == 6
    assert short.prompt == prompted.prompt


def test_promptedtokens_key_differs_with_prompt_and_length(prompted):
    keys = {prompted.key, prompted.with_max_length(6).key, load(small_model()).key}
    assert len(keys) == 3
    assert pickle.loads(pickle.dumps(prompted)).key == prompted.key


def test_promptedtokens_unknown_share_leaves_out_the_prompt(prompted):
    texts = ["\u0e20\u0e32\u0e1e", "a \u0e20\u0e32\u0e1e", "a good film", ""]
    assert [prompted.unknown_share(ids) for ids in prompted(texts)] == [1.0, 0.5, 0.0, 0.0]
    assert [prompted.with_max_length(5).unknown_share(ids) for ids in prompted.with_max_length(5)(texts[:1])] == [1.0]
