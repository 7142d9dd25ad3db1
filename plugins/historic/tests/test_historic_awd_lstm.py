"""AWD-LSTM against fastai's outputs, its files, its dropout, and ULMFiT with it."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from historic_folders import SIZES, VOCABULARY, awd_state, name, write_awd, write_safe_awd
from safetensors.torch import save_file

from sktransfer import FineTuneClassifier, SelfSupervisedTuner, TextFeaturizer, load_backbone, perplexity
from sktransfer import load as load_estimator
from sktransfer.backbones.registry import registry
from sktransfer.exceptions import BackboneNotFoundError, WeightsError
from sktransfer.testing.samples import make_samples
from sktransfer_historic.awd_layers import DROPOUT, RecurrentLayer, WordEmbedding, make_stages

FASTAI = json.loads(Path(__file__).with_name("fastai_outputs.json").read_text())
X, Y = make_samples("text", 12)


def numbers(words):
    return torch.tensor([[VOCABULARY.index(word) if word in VOCABULARY else 0 for word in words]])


@torch.no_grad()
@pytest.mark.parametrize("version", SIZES)
def test_load_backbone_equals_fastai(tmp_path, version):
    backbone = load_backbone(f"historic/awd_lstm/{write_awd(tmp_path, SIZES[version])}")
    assert backbone.stage_names == ("words", "lstm1", "lstm2", "lstm3")
    ids = numbers(FASTAI["words"][0])
    *_, last = backbone.run(ids, torch.ones_like(ids, dtype=torch.bool))
    # The recorded values are rounded to seven digits after the point.
    np.testing.assert_allclose(last[0], FASTAI["outputs"][version]["states"], rtol=0, atol=1e-6)
    np.testing.assert_allclose(backbone.lm_head(last)[0], FASTAI["outputs"][version]["logits"], rtol=0, atol=1e-6)


def test_load_backbone_ties_the_lm_head_to_the_words():
    backbone = load_backbone(name("awd_lstm"))
    (_, output), *_ = [(one, module) for one, module in backbone.lm_head.named_modules() if hasattr(module, "bias")]
    assert output.weight is backbone.stages[0].table.weight
    assert backbone.lm_head.kind == "causal"


def test_perplexity_equals_the_mean_log_likelihood():
    backbone = load_backbone(name("awd_lstm"))
    text = "a good film, and a bad plot."
    (ids,) = backbone.preprocess([text])
    with torch.no_grad():
        *_, last = backbone.run(ids[None], None)
        likelihood = backbone.lm_head(last)[0].log_softmax(-1)[torch.arange(len(ids) - 1), ids[1:]]  # (n_tokens - 1,)
    assert perplexity(backbone, [text])[0] == pytest.approx(float((-likelihood.mean()).exp()), rel=1e-5)


def test_find_backbone_reads_sizes_and_counts_from_the_files(tmp_path):
    for write in (write_awd, write_safe_awd):
        folder = write(tmp_path / write.__name__)
        spec = registry().find(f"historic/awd_lstm/{folder}")
        assert spec.stages == {"words": 8, "lstm1": 12, "lstm2": 12, "lstm3": 8}
        tensors = {id(tensor): tensor.numel() for tensor in awd_state(12).values()}
        assert spec.n_parameters == sum(tensors.values())
        assert spec.n_embedding_parameters == len(VOCABULARY) * 8


@pytest.mark.parametrize("prefix", ["", "0.module."], ids=["encoder", "classifier"])
def test_load_backbone_takes_weights_without_a_softmax(tmp_path, prefix):
    folder = write_safe_awd(tmp_path)
    state = {name.replace("0.", prefix, 1): one for name, one in awd_state(12).items() if name.startswith("0.")}
    save_file(state | {"1.layers.0.0.weight": torch.zeros(3)}, folder / "awd_lstm.safetensors")
    backbone = load_backbone(f"historic/awd_lstm/{folder}")
    assert backbone.lm_head is None
    assert backbone.stages[0].table.weight.equal(state[f"{prefix}encoder.weight"])
    assert backbone.stages[3].lstm.weight_hh_l0.equal(state[f"{prefix}rnns.2.weight_hh_l0_raw"])


@pytest.mark.parametrize("suffix", ["json", "txt", "pkl"])
def test_load_backbone_reads_each_form_of_a_vocabulary(tmp_path, suffix):
    folder = write_safe_awd(tmp_path)
    (folder / "vocabulary.json").unlink()
    content = {
        "json": json.dumps(VOCABULARY).encode(),
        "txt": "\n".join(word.replace("\n", "\\n") for word in VOCABULARY).encode(),
        "pkl": pickle.dumps(VOCABULARY, protocol=2),
    }
    (folder / f"itos.{suffix}").write_bytes(content[suffix])
    (ids,) = load_backbone(f"historic/awd_lstm/{folder}").preprocess(["A good\nfilm zebra"])
    assert [VOCABULARY[i] for i in ids] == ["xxbos", "a", "good", "\n", "film", "xxunk"]


class Harmful:
    def __reduce__(self):
        return (Path.touch, (Path("harm"),))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda folder: (folder / "vocabulary.json").unlink(), "has no vocabulary"),
        (lambda folder: (folder / "awd_lstm.safetensors").unlink(), "has no weights"),
        (lambda folder: (folder / "more.safetensors").touch(), "has 2 files .*must be the only one"),
        (lambda folder: (folder / "vocabulary.json").write_text("{}"), "is not a list of words"),
        (lambda folder: (folder / "vocabulary.json").write_text("[1"), "cannot be read as a vocabulary"),
        (lambda folder: (folder / "vocabulary.json").write_text('["a"]'), "has 1 words, and the network 42"),
        (
            lambda folder: (folder / "vocabulary.json").write_text(json.dumps([f"w{i}" for i in range(42)])),
            "lacks .'xxunk', 'xxpad', 'xxbos'.",
        ),
        (
            lambda folder: (
                (folder / "vocabulary.json").unlink(),
                (folder / "itos.pkl").write_bytes(pickle.dumps([Harmful()])),
            ),
            "more than a list of texts",
        ),
        (lambda folder: (folder / "awd_lstm.safetensors").write_bytes(b"12"), "cannot be read as weights"),
        (lambda folder: changed(folder, drop="encoder"), "has no tensor 'encoder.weight'"),
        (lambda folder: changed(folder, drop="rnns"), "has no tensors '0.rnns....'"),
        (lambda folder: changed(folder, drop="0.rnns.1.module.bias"), "layer 1 is not .*bias_ih_l0.* is missing"),
        (
            lambda folder: changed(folder, add={"0.rnns.0.module.weight_ih_l0_reverse": torch.zeros(1)}),
            "layer 0 is not .*reverse.* is not expected",
        ),
        (
            lambda folder: changed(folder, add={"1.decoder.weight": torch.zeros(42, 8)}),
            "differs from the table of words",
        ),
    ],
    ids=range(14),
)
def test_load_backbone_reports_files_that_do_not_fit(tmp_path, monkeypatch, change, message):
    monkeypatch.chdir(tmp_path)
    folder = write_safe_awd(tmp_path / "model")
    change(folder)
    with pytest.raises(WeightsError, match=message):
        load_backbone(f"historic/awd_lstm/{folder}")
    assert not Path("harm").exists()


def changed(folder, drop=None, add=None):
    state = awd_state(12)
    state = {name: tensor.clone() for name, tensor in state.items() if drop is None or drop not in name}
    save_file(state | (add or {}), folder / "awd_lstm.safetensors")


def test_load_backbone_reports_weights_of_another_network(tmp_path):
    folder = write_safe_awd(tmp_path / "small")
    other = write_safe_awd(tmp_path / "large", 14) / "awd_lstm.safetensors"
    with pytest.raises(WeightsError, match=r"another AWD-LSTM: .*bias_hh_l0 is \(56,\) and must be \(48,\)"):
        load_backbone(f"historic/awd_lstm/{folder}", weights=other)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("awd_lstm", "names no folder"),
        ("elmo/", "names no folder"),
        ("awd_lstm/no/such/place", "does not exist"),
        ("elmo/no/such/place", "does not exist; give one with weights and options"),
        ("gpt/place", "there is no backbone"),
        ("awd_lstm/place#dropout=much", "must be a number from 0 to 2"),
        ("awd_lstm/place#dropout=-1", "must be a number from 0 to 2"),
    ],
    ids=range(7),
)
def test_find_backbone_reports_other_names(given, message):
    with pytest.raises(BackboneNotFoundError, match=message):
        registry().find(f"historic/{given}")


def test_find_backbone_multiplies_the_rates_of_dropout():
    plain, strong = (load_backbone(name("awd_lstm") + suffix) for suffix in ("", "#dropout=1"))
    assert plain.stages[0].dropout == 0.5 * DROPOUT["words"]
    assert strong.stages[0].dropout == DROPOUT["words"]
    rates = [(one.input_dropout, one.weight_dropout, one.output_dropout) for one in strong.stages[1:]]
    assert rates == [(0.4, 0.5, 0.0), (0.3, 0.5, 0.0), (0.3, 0.5, 0.4)]
    ids = numbers(["xxbos", "a", "film"])
    values = [list(one.run(ids, None))[-1] for one in (plain, strong)]
    assert torch.equal(*values)  # outside of a training there is no dropout


def test_word_embedding_drops_whole_words():
    torch.manual_seed(0)
    stage = WordEmbedding(20, 4, padding=1, dropout=0.5).train()
    ids = torch.arange(2, 20).repeat(2, 1)  # (2, 18)
    vectors = stage(ids)  # (2, 18, 4)
    dropped = (vectors == 0).all(2)  # (2, 18)
    assert torch.equal(dropped[0], dropped[1])
    assert 0 < int(dropped[0].sum()) < 18
    assert torch.equal(vectors[~dropped], 2 * stage.table(ids)[~dropped])
    assert torch.equal(stage.eval()(ids), stage.table(ids))


def test_recurrent_layer_drops_channels_and_recurrent_weights():
    torch.manual_seed(0)
    values = torch.randn(3, 6, 5)
    layer = RecurrentLayer(5, 7, 0.0, 0.0, output_dropout=0.5).train()
    outputs = layer(values)  # (3, 6, 7)
    dropped = (outputs == 0).all(1)  # (3, 7)
    assert 0 < int(dropped.sum()) < 21
    assert torch.equal((outputs == 0), dropped[:, None].expand(3, 6, 7))

    layer = RecurrentLayer(5, 7, 0.0, 0.5).train()
    plain = layer.lstm(values)[0]
    outputs = layer(values)
    assert torch.equal(outputs[:, 0], plain[:, 0])  # no recurrent weight is used at the first token
    assert not torch.allclose(outputs[:, 1:], plain[:, 1:])
    outputs.sum().backward()
    assert 0 < int((layer.lstm.weight_hh_l0.grad == 0).sum()) < 196  # dropped weights have no gradient
    assert torch.equal(layer.eval()(values), plain)


def test_make_stages_draws_from_the_default_generator():
    torch.manual_seed(3)
    first = make_stages(30, [4, 6, 4], 1, 0.5)
    torch.manual_seed(3)
    second = make_stages(30, [4, 6, 4], 1, 0.5)
    for one, other in zip(first, second):
        assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values()))


def test_selfsupervisedtuner_adapts_by_the_next_word():
    texts = [f"a good film and {word} plot" for word in ("a good", "a bad", "all", "what a clever")] * 4
    settings = {"objective": "causal", "max_epochs": 6, "lr": 1e-3, "random_state": 0}
    tuner = SelfSupervisedTuner(f"{name('awd_lstm')}#dropout=0", **settings).fit(texts)
    losses = tuner.history_["train_loss"]
    assert losses.iloc[-1] < losses.iloc[0]
    assert perplexity(tuner.backbone_, texts).mean() < perplexity(name("awd_lstm"), texts).mean()


def test_finetuneclassifier_trains_as_ulmfit():
    recipe = {"unfreezing": "gradual", "layer_lr_decay": 2.6, "lr_schedule": "slanted_triangular"}
    tuner = SelfSupervisedTuner(name("awd_lstm"), objective="causal", max_epochs=1, lr=1e-3, random_state=0).fit(X)
    classifier = FineTuneClassifier(
        tuner.backbone_, freeze_depth=0, max_epochs=5, lr=1e-3, head_init="random", random_state=0, **recipe
    ).fit(X, Y)
    rates = classifier.stages_["lr"].to_numpy()
    np.testing.assert_allclose(rates[1:] / rates[:-1], 2.6, rtol=1e-6)
    assert classifier.stages_["trained"].all()


def test_load_restores_an_estimator_from_a_moved_folder(tmp_path):
    from sktransfer import save

    folder = write_safe_awd(tmp_path / "model")
    featurizer = TextFeaturizer(f"historic/awd_lstm/{folder}#dropout=0.3").fit(X)
    expected = featurizer.transform(X)
    save(featurizer, tmp_path / "saved.skt")
    folder.rename(tmp_path / "elsewhere")
    (tmp_path / "elsewhere").rename(tmp_path / "place")
    (tmp_path / "new").mkdir()
    (tmp_path / "place").rename(tmp_path / "new" / "model")
    again = load_estimator(tmp_path / "saved.skt", weights=tmp_path / "new")
    assert np.array_equal(again.transform(X), expected)
