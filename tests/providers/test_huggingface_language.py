"""Language-model heads against transformers' own logits."""

from __future__ import annotations

import json
import pickle

import pytest
import torch
from safetensors.torch import load_file, save_file

from sktransfer import FineTuneClassifier, load, load_backbone, save
from sktransfer.backbones.language import own_state
from sktransfer.exceptions import WeightsError
from sktransfer.providers.huggingface_text import LM_HEADS
from tests.helpers.huggingface_folders import TEXT_MODELS, TEXTS, batch_of, distance, make_folder

MASKED = ["albert", "albert of two groups", "bert", "distilbert", "electra", "electra of one width", "modernbert"]
MASKED += ["mpnet", "roberta", "xlm-roberta"]
CASES = [(case, "ForMaskedLM", {}) for case in MASKED]
CASES += [(case, "ForCausalLM", {}) for case in ("bert as decoder", "gpt2", "openai-gpt")]
CASES += [("bert", "ForPreTraining", {}), ("bert", "ForMaskedLM", {"tie_word_embeddings": False})]
CASES += [("gpt2", "ForCausalLM", {"tie_word_embeddings": False})]
IDS = [f"{case} {'untied' if changes else head}" for case, head, changes in CASES]


def logits_of(backbone, texts=TEXTS):
    ids, mask = batch_of(backbone, texts)
    with torch.no_grad():
        *_, last = backbone.run(ids, mask)
        return backbone.lm_head(last, mask)[mask]  # (real tokens, vocabulary)


def table_of(backbone):
    """Return the table of token embeddings, the largest parameter of stage 0."""
    return max(backbone.stages[0].parameters(), key=lambda parameter: len(parameter))


def own(backbone):
    return own_state(backbone.lm_head, backbone.stages)


def test_lm_heads_cover_every_type_but_deberta():
    assert {kind for kind, _ in TEXT_MODELS.values()} - set(LM_HEADS) == {"deberta-v2"}
    assert {TEXT_MODELS[case][0] for case, *_ in CASES} == set(LM_HEADS)


@pytest.mark.parametrize(("case", "head", "changes"), CASES, ids=IDS)
def test_lm_head_equals_the_logits_of_transformers(case, head, changes, tmp_path):
    model = make_folder(case, tmp_path, head, **changes)
    backbone = load_backbone(f"hf/{tmp_path}")
    ids, mask = batch_of(backbone, TEXTS)
    with torch.no_grad():
        outputs = model(input_ids=ids, attention_mask=mask.long())
    expected = outputs.prediction_logits if head == "ForPreTraining" else outputs.logits
    assert distance(logits_of(backbone), expected[mask]) <= 1e-5
    assert backbone.lm_head.kind == ("causal" if head == "ForCausalLM" else "masked")
    assert any(one is table_of(backbone) for one in backbone.lm_head.parameters()) == (not changes)
    assert not any(one.requires_grad for one in backbone.lm_head.parameters())


@pytest.mark.parametrize(
    ("case", "head"),
    [("bert", ""), ("bert", "ForSequenceClassification"), ("electra", "ForPreTraining"), ("deberta-v2", "ForMaskedLM")],
)
def test_lm_head_is_none_for_a_model_that_predicts_no_tokens(case, head, tmp_path):
    make_folder(case, tmp_path, head)
    assert load_backbone(f"hf/{tmp_path}").lm_head is None


def test_lm_head_is_none_if_only_the_configuration_names_one(tmp_path):
    make_folder("bert", tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "architectures": ["BertForMaskedLM"]}))
    assert load_backbone(f"hf/{tmp_path}").lm_head is None


def test_lm_head_names_a_tensor_that_the_weights_lack(tmp_path):
    make_folder("bert", tmp_path, "ForMaskedLM")
    path = tmp_path / "model.safetensors"
    state = load_file(path)
    name = "cls.predictions.transform.dense.weight"
    save_file({key: value for key, value in state.items() if key != name}, path, {"format": "pt"})
    backbone = load_backbone(f"hf/{tmp_path}")
    with pytest.raises(WeightsError, match=name):
        backbone.lm_head  # noqa: B018


def test_lm_head_refuses_a_file_that_changed_since_the_stages_were_read(tmp_path):
    make_folder("bert", tmp_path, "ForMaskedLM")
    backbone = load_backbone(f"hf/{tmp_path}")
    (tmp_path / "model.safetensors").unlink()  # older versions of safetensors map the file that was read
    make_folder("bert", tmp_path, "ForMaskedLM", seed=1)
    with pytest.raises(WeightsError, match="has changed since"):
        backbone.lm_head  # noqa: B018


def test_load_backbone_reads_no_lm_head_and_draws_equal_stages(tmp_path):
    make_folder("bert", tmp_path / "plain")
    make_folder("bert", tmp_path / "lm", "ForMaskedLM")
    plain, lm = (load_backbone(f"hf/{tmp_path / name}", weights="random", seed=3) for name in ("plain", "lm"))
    assert plain.fingerprint() == lm.fingerprint()
    assert "_head" not in vars(lm._lm_head)
    state = torch.get_rng_state()
    head = lm.lm_head
    assert torch.equal(torch.get_rng_state(), state)
    assert lm.fingerprint() == plain.fingerprint()
    assert lm.lm_head is head


def test_lm_head_of_random_weights_depends_on_the_seed(tmp_path):
    make_folder("bert", tmp_path, "ForMaskedLM")
    states = [own(load_backbone(f"hf/{tmp_path}", weights="random", seed=seed)) for seed in (0, 1)]
    name = next(name for name in states[0] if name.endswith("dense.weight"))
    assert not torch.equal(states[0][name], states[1][name])


def test_lm_head_reads_a_single_file_of_weights(tmp_path):
    make_folder("bert", tmp_path / "one", "ForMaskedLM")
    make_folder("bert", tmp_path / "other", "ForMaskedLM", seed=1)
    file = tmp_path / "other" / "model.safetensors"
    backbone = load_backbone(f"hf/{tmp_path / 'one'}", weights=file)
    assert torch.equal(logits_of(backbone), logits_of(load_backbone(f"hf/{tmp_path / 'other'}")))


@pytest.mark.parametrize("weights", ["reference", "embed"])
@pytest.mark.parametrize("trained", [False, True])
def test_save_keeps_the_lm_head(weights, trained, tmp_path):
    make_folder("bert", tmp_path / "lm", "ForMaskedLM")
    backbone = load_backbone(f"hf/{tmp_path / 'lm'}")
    clf = FineTuneClassifier(backbone, max_epochs=1, freeze_depth=0 if trained else "all", lr=1e-3, random_state=0)
    clf.fit(TEXTS, [0, 1, 0, 1, 0, 1, 0])
    save(clf, tmp_path / "clf", weights=weights)
    loaded = load(tmp_path / "clf").backbone_
    assert torch.equal(logits_of(loaded), logits_of(clf.backbone_))
    assert any(one is table_of(loaded) for one in loaded.lm_head.parameters())


def test_pickle_keeps_the_lm_head_tied_and_writes_the_table_once(tmp_path):
    make_folder("bert", tmp_path, "ForMaskedLM", vocab_size=20_000)
    backbone = load_backbone(f"hf/{tmp_path}")
    clf = FineTuneClassifier(backbone, max_epochs=1, freeze_depth=0, lr=1e-3, random_state=0)
    trained = clf.fit(TEXTS, [0, 1, 0, 1, 0, 1, 0]).backbone_
    written = pickle.dumps(trained)
    assert table_of(trained).nbytes < len(written) < 1.2 * table_of(trained).nbytes
    copied = pickle.loads(written)
    assert torch.equal(logits_of(copied), logits_of(trained))
    assert any(one is table_of(copied) for one in copied.lm_head.parameters())
