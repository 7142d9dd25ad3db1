"""The network of `tiny/bert` is a Bert like any other."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from sktransfer import FineTuneClassifier, TextFeaturizer, fill_mask, load_backbone
from sktransfer.backbones.registry import registry
from sktransfer.engine.inputs import collate
from sktransfer.exceptions import InvalidParameterError, TruncatedTextWarning
from sktransfer.providers.tiny_bert import CONFIG, build_lm_head, build_model, in_file
from sktransfer.weights.reading import read_state

TEXTS = ["A good film.", "it broke after two weeks", "Naïve, überraschend — 東京!", "so-so", ""]


def ids_and_mask(backbone):
    return collate(backbone.preprocess(TEXTS), "text", backbone.preprocess.pad_value)


def test_config_of_tiny_bert_agrees_with_its_spec():
    spec = registry().find("tiny/bert")
    assert list(spec.stages.values()) == [CONFIG["hidden_size"]] * (1 + CONFIG["num_hidden_layers"])
    assert spec.input_size == (CONFIG["max_position_embeddings"],)
    assert load_backbone("tiny/bert").preprocess.limit == CONFIG["max_position_embeddings"]


def test_load_backbone_tiny_bert_stages_equal_transformers():
    from sktransfer.weights.locate import locate

    model = build_model().eval()
    state = read_state(locate(registry().find("tiny/bert"), "pretrained"))
    model.load_state_dict({name: tensor.float() for name, tensor in state.items() if not name.startswith("cls.")})
    backbone = load_backbone("tiny/bert")
    ids, mask = ids_and_mask(backbone)
    with torch.no_grad():
        expected = model(input_ids=ids, attention_mask=mask, output_hidden_states=True).hidden_states
        found = list(backbone.run(ids, mask))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one[mask], other[mask], atol=1e-5, rtol=1e-5)


def test_load_backbone_reads_the_lm_head_of_a_file_of_weights(tmp_path):
    torch.manual_seed(0)
    model = build_model().eval()
    transform, output = build_lm_head(model)
    torch.nn.init.normal_(output.bias)
    state = in_file(model, transform, output.bias).state_dict()
    assert sum(tensor.shape == (CONFIG["vocab_size"], CONFIG["hidden_size"]) for tensor in state.values()) == 1
    save_file(state, tmp_path / "with.safetensors")
    backbone = load_backbone("tiny/bert", weights=str(tmp_path / "with.safetensors"))
    ids, mask = ids_and_mask(backbone)
    with torch.no_grad():
        values = model(input_ids=ids, attention_mask=mask).last_hidden_state
        table = model.embeddings.word_embeddings.weight
        expected = transform(values) @ table.T + output.bias  # (n, tokens, vocabulary)
        *_, last = backbone.run(ids, mask)
        torch.testing.assert_close(backbone.lm_head(last)[mask], expected[mask], atol=1e-4, rtol=1e-4)
    tied = {id(p) for p in backbone.lm_head.parameters()} & {id(p) for p in backbone.stages[0].parameters()}
    assert len(tied) == 1


def test_load_backbone_without_an_lm_head_in_the_weights(tmp_path):
    save_file(build_model().state_dict(), tmp_path / "without.safetensors")
    assert load_backbone("tiny/bert", weights=str(tmp_path / "without.safetensors")).lm_head is None
    for weights in ("pretrained", "random"):
        assert load_backbone("tiny/bert", weights=weights).lm_head.kind == "masked"


def test_fill_mask_of_tiny_bert_names_likely_words():
    table = fill_mask("tiny/bert", ["this [MASK] has a great cast.", "return the inverse of a square [MASK]."])
    tokens = table.groupby("row")["token"].agg(set)
    assert {"film", "movie"} & tokens[0]
    assert "matrix" in tokens[1]


def test_preprocess_of_tiny_bert_lowercases_and_fills_the_vocabulary():
    tokenizer = load_backbone("tiny/bert").preprocess._tokenizer
    assert tokenizer.get_vocab_size() == CONFIG["vocab_size"]
    assert tokenizer.encode("The FILM, naïve!").tokens == ["[CLS]", "the", "film", ",", "naive", "!", "[SEP]"]
    assert tokenizer.token_to_id("[PAD]") == load_backbone("tiny/bert").preprocess.pad_value == 0


def test_max_length_of_tiny_bert_is_its_number_of_positions():
    with pytest.warns(TruncatedTextWarning, match="256 tokens"):
        features = TextFeaturizer().fit_transform(["word " * 300, "word " * 400])
    np.testing.assert_array_equal(features[0], features[1])
    with pytest.raises(InvalidParameterError, match="256"):
        TextFeaturizer(max_length=257).fit(TEXTS)


def test_build_model_takes_other_settings():
    model = build_model(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    assert {module.p for module in model.modules() if isinstance(module, torch.nn.Dropout)} == {0.0}
    assert max(module.p for module in build_model().modules() if isinstance(module, torch.nn.Dropout)) == 0.1


@pytest.mark.parametrize("depth", [0, 2, "layer4", "all"])
def test_freeze_depth_freezes_the_lower_stages_of_tiny_bert(depth):
    texts, y = ["good film", "great fun", "bad film", "awful bore"] * 3, ["up", "up", "down", "down"] * 3
    clf = FineTuneClassifier("tiny/bert", freeze_depth=depth, max_epochs=1, random_state=0).fit(texts, y)
    before, after = (
        [torch.cat([tensor.flatten() for tensor in stage.state_dict().values()]) for stage in backbone.stages]
        for backbone in (load_backbone("tiny/bert"), clf.backbone_)
    )
    same = [torch.equal(one, other) for one, other in zip(before, after, strict=True)]
    assert same == [i < clf.freeze_depth_ for i in range(5)]
