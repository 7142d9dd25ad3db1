"""Folders of sentence-transformers named `hf/...`, against the library's own vectors."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import transformers
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Dense, Normalize, Transformer
from sentence_transformers.sentence_transformer.modules import Pooling

import sktransfer
from sktransfer import TextFeaturizer
from sktransfer.exceptions import InvalidParameterError, UnreadPartWarning, WeightsError
from tests.helpers.huggingface_folders import TEXTS, make_folder

WIDTH = 32
pytestmark = pytest.mark.filterwarnings("ignore::sktransfer.exceptions.TruncatedTextWarning")


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("source")
    make_folder("bert", folder)
    return folder


def save(source: Path, folder: Path, *layers, pooling="mean", max_length=None, **settings) -> np.ndarray:
    """Save a model as sentence-transformers does, and return its vectors of TEXTS."""
    bars = transformers.utils.logging.is_progress_bar_enabled()
    transformers.utils.logging.disable_progress_bar()
    try:
        transformer = Transformer(str(source), max_seq_length=max_length)
        modules = [transformer, Pooling(WIDTH, pooling), *layers]
        SentenceTransformer(modules=modules, device="cpu", **settings).save(str(folder))
        return SentenceTransformer(str(folder), device="cpu", local_files_only=True).encode(TEXTS)
    finally:
        if bars:
            transformers.utils.logging.enable_progress_bar()


def change(path: Path, **changes) -> None:
    settings = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**settings, **changes}))


def features(folder: Path, **parameters) -> np.ndarray:
    return TextFeaturizer(f"hf/{folder}", **parameters).fit_transform(TEXTS)


@pytest.mark.parametrize("layers", [(), (Normalize(),)], ids=["as it is", "normalized"])
@pytest.mark.parametrize("pooling", ["mean", "max", "cls", "lasttoken"])
def test_pooling_auto_is_that_of_the_folder(pooling, layers, source, tmp_path):
    expected = save(source, tmp_path, *layers, pooling=pooling, max_length=9)
    found = features(tmp_path)
    assert np.abs(found - expected).max() <= 1e-5
    assert np.abs(expected - expected[0]).max() > 1e-2  # the texts do differ
    if layers:
        raw = features(tmp_path, normalize=False)
        assert np.abs(np.linalg.norm(raw, axis=1) - 1).min() > 1e-2
        np.testing.assert_array_equal(features(tmp_path, layer=2), features(tmp_path, layer=2, normalize=False))
        np.testing.assert_allclose(features(tmp_path, layer=2, normalize=True).std(), 32**-0.5, rtol=0.1)


def test_max_length_may_exceed_that_of_the_folder(source, tmp_path):
    save(source, tmp_path)
    change(tmp_path / "sentence_bert_config.json", max_seq_length=9)
    assert sktransfer.load_backbone(f"hf/{tmp_path}").preprocess.limit == 9
    assert sktransfer.load_backbone(f"hf/{tmp_path}", max_length=20).preprocess.limit == 20
    plain = features(source)
    np.testing.assert_allclose(features(tmp_path, max_length=64), plain, atol=1e-6)


def test_pooling_of_a_changed_folder_is_read_again(source, tmp_path):
    save(source, tmp_path)
    assert sktransfer.load_backbone(f"hf/{tmp_path}").pooling == "mean"
    change(tmp_path / "1_Pooling" / "config.json", pooling_mode="cls")
    assert sktransfer.load_backbone(f"hf/{tmp_path}").pooling == "class_token"


@pytest.mark.parametrize("weights", ["reference", "embed"])
def test_save_keeps_pooling_length_and_normalization_of_the_folder(weights, source, tmp_path):
    expected = save(source, tmp_path / "model", Normalize(), pooling="cls", max_length=9)
    fitted = TextFeaturizer(f"hf/{tmp_path / 'model'}").fit(TEXTS)
    sktransfer.save(fitted, tmp_path / "saved.skt", weights=weights)
    for copy in (sktransfer.load(tmp_path / "saved.skt"), pickle.loads(pickle.dumps(fitted))):
        assert np.abs(copy.transform(TEXTS) - expected).max() <= 1e-5


def old_flags(folder):
    (folder / "1_Pooling" / "config.json").write_text(
        '{"word_embedding_dimension": 32, "pooling_mode_cls_token": true}'
    )


def default_prompt(folder):
    change(folder / "config_sentence_transformers.json", prompts={"q": "query: "}, default_prompt_name="q")


def lowercase(folder):
    change(folder / "sentence_bert_config.json", do_lower_case=True)


def truncate(folder):
    change(folder / "config_sentence_transformers.json", truncate_dim=8)


def test_pooling_auto_reads_the_flags_of_older_folders(source, tmp_path):
    save(source, tmp_path)
    old_flags(tmp_path)
    expected = SentenceTransformer(str(tmp_path), device="cpu", local_files_only=True).encode(TEXTS)
    assert np.abs(features(tmp_path) - expected).max() <= 1e-5


@pytest.mark.parametrize(
    ("layers", "pooling", "alter", "told"),
    [
        ((Dense(WIDTH, 8),), "mean", None, "the module Dense of 2_Dense"),
        ((), ["mean", "max"], None, r"the pooling 'mean\+max' of 1_Pooling"),
        ((), "weightedmean", None, "the pooling 'weightedmean' of 1_Pooling"),
        ((), "mean", default_prompt, "the default prompt 'query: ' before each text"),
        ((), "mean", lowercase, "do_lower_case"),
        ((), "mean", truncate, "truncate_dim=8"),
    ],
)
def test_load_backbone_warns_of_parts_that_are_not_read(layers, pooling, alter, told, source, tmp_path):
    save(source, tmp_path, *layers, pooling=pooling)
    if alter is not None:
        alter(tmp_path)
    with pytest.warns(UnreadPartWarning, match=f"{told} is not read.*'sentence-transformers/{tmp_path}'") as caught:
        sktransfer.load_backbone(f"hf/{tmp_path}")
    assert len(caught) == 1


def test_load_backbone_is_silent_about_prompts_that_are_not_the_default(source, tmp_path):
    save(source, tmp_path, prompts={"query": "query: "})
    sktransfer.load_backbone(f"hf/{tmp_path}")


@pytest.mark.parametrize(
    ("file", "content", "match"),
    [
        ("modules.json", "[{}]", "not a list of modules"),
        ("modules.json", '[{"type": "a.Pooling", "path": "../other"}]', "inside the folder"),
        ("modules.json", '[{"type": "a.Pooling", "path": ".."}]', "inside the folder"),
        ("modules.json", "[", "cannot be read as JSON"),
        ("1_Pooling/config.json", "[]", "contains a list"),
        ("sentence_bert_config.json", '{"max_seq_length": "9"}', "max_seq_length is '9'"),
    ],
)
def test_load_backbone_reports_damaged_settings(file, content, match, source, tmp_path):
    save(source, tmp_path)
    (tmp_path / file).write_text(content)
    with pytest.raises(WeightsError, match=match):
        sktransfer.load_backbone(f"hf/{tmp_path}")


def test_load_backbone_names_the_plugin_for_a_folder_whose_transformer_lies_deeper(source, tmp_path):
    save(source, tmp_path)
    (tmp_path / "config.json").unlink()
    with pytest.raises(WeightsError, match=f"'sentence-transformers/{tmp_path}'"):
        sktransfer.load_backbone(f"hf/{tmp_path}")


def test_normalize_must_be_a_bool_or_auto():
    with pytest.raises(InvalidParameterError, match="normalize='l2' must be True, False or 'auto'"):
        TextFeaturizer("tiny/bert", normalize="l2").fit(TEXTS)
