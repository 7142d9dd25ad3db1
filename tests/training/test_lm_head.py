"""Training of the language-model head of a backbone, as a task of tokens."""

from __future__ import annotations

import dataclasses
import pickle

import numpy as np
import peft
import pytest
import torch
from torch import nn
from torch.nn import functional

from sktransfer import (
    EMA,
    Backbone,
    FineTuneClassifier,
    MicroBatches,
    TextFeaturizer,
    WiSEFT,
    load,
    load_backbone,
    pseudo_perplexity,
    save,
)
from sktransfer.backbones.language import own_state
from sktransfer.exceptions import InvalidParameterError, LoadError
from sktransfer.persistence.backbones import _decode_trained
from sktransfer.tasks.base import Targets, Task
from sktransfer.training.saved_net import net_from_state, net_to_state
from sktransfer.training.trainer import train
from tests.helpers.huggingface_folders import TEXTS, batch_of, make_folder
from tests.helpers.mutants import text_twin
from tests.helpers.runs import fit_run


class MaskedWords(Task):
    """Masked words: half of the tokens of a text are hidden, and its `lm_head` predicts them."""

    kind, reads, trains_lm_head = "masked-words", "tokens", True

    def __init__(self, mask_value, n_vocabulary=0):
        self.mask_value, self.n_vocabulary = mask_value, n_vocabulary

    def encode(self, y, weight):
        return Targets(np.zeros(len(weight)), weight)

    def make_head(self, n_features, n_mixed=None):
        return nn.Linear(n_features, self.n_vocabulary)

    def prepare(self, arguments, targets):
        ids, mask = arguments["values"], arguments["mask"]
        hidden = (torch.rand(ids.shape) < 0.5) & mask  # (n, n_tokens)
        return {**arguments, "values": ids.masked_fill(hidden, self.mask_value)}, ids.masked_fill(~hidden, -100)

    def loss(self, outputs, targets, features):
        losses = functional.cross_entropy(outputs.transpose(1, 2), targets, reduction="none")  # (n, n_tokens)
        return losses.sum(1) / (targets != -100).sum(1).clamp(min=1)  # (n,)


class NextWord(MaskedWords):
    """The next token at each position, from stages that may be frozen."""

    kind = "next-word"

    def encode(self, y, weight):
        return Targets([functional.pad(ids[1:], (0, 1), value=-100) for ids in y], weight)

    def prepare(self, arguments, targets):
        return arguments, targets


@pytest.fixture(scope="module")
def masked(tmp_path_factory):
    folder = tmp_path_factory.mktemp("masked")
    make_folder("electra", folder, "ForMaskedLM")  # with a table of another width than the stages
    return load_backbone(f"hf/{folder}")


@pytest.fixture(scope="module")
def causal(tmp_path_factory):
    folder = tmp_path_factory.mktemp("causal")
    make_folder("gpt2", folder, "ForCausalLM")
    return load_backbone(f"hf/{folder}")


def masked_run(backbone, **options):
    task = MaskedWords(backbone.preprocess.mask_value)
    options = {"freeze_depth": 0, "max_epochs": 2, "lr": 1e-3, **options}
    return fit_run(TEXTS, backbone, {"lm": task}, {"lm": task.encode(None, np.ones(len(TEXTS)))}, **options)


def causal_run(backbone, **options):
    task = NextWord(None)
    options = {"max_epochs": 2, "lr": 1e-3, **options}
    targets = task.encode(backbone.preprocess(TEXTS), np.ones(len(TEXTS)))
    return fit_run(TEXTS, backbone, {"lm": task}, {"lm": targets}, **options)


def table_of(backbone):
    return max(backbone.stages[0].parameters(), key=len)


def tensors(backbone):
    own = own_state(backbone.lm_head, backbone.stages)
    return {name: tensor.clone() for name, tensor in {**backbone.stages.state_dict(), **own}.items()}


def changed(one, other):
    return {name for name, tensor in one.items() if not torch.equal(tensor, other[name])}


def is_tied(backbone):
    return any(parameter is table_of(backbone) for parameter in backbone.lm_head.parameters())


def logits_of(backbone):
    ids, mask = batch_of(backbone, TEXTS)
    with torch.no_grad():
        *_, last = backbone.run(ids, mask)
        return backbone.lm_head(last)[mask]  # (real tokens, vocabulary)


def test_train_masked_words_moves_stages_and_lm_head_and_gives_a_backbone(masked):
    before = tensors(masked)
    result = train(masked_run(masked, max_epochs=30))
    losses = [row["train_loss"] for row in result.net.history]
    assert losses[-1] < 0.8 * losses[0]
    trained = result.backbone
    assert not changed(before, tensors(masked))  # the source is a backbone of others
    assert len(changed(before, tensors(trained))) > 0.9 * len(before)
    assert trained.lm_head.kind == "masked"
    assert is_tied(trained)
    assert pseudo_perplexity(trained, TEXTS, per="corpus") < 0.5 * pseudo_perplexity(masked, TEXTS, per="corpus")
    assert TextFeaturizer(trained).fit_transform(TEXTS).shape == (len(TEXTS), 32)


def test_train_counts_the_table_once(masked):
    net = train(masked_run(masked, max_epochs=1)).net
    names = [name for name, _ in net.module_.named_parameters()]
    assert "stages.0.embeddings.word_embeddings.weight" in names
    assert not [name for name in names if name.startswith("heads") and "generator_lm_head.weight" in name]
    ids = [id(parameter) for group in net.optimizer_.param_groups for parameter in group["params"]]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("freeze_depth", [0, 2])
def test_train_lm_head_on_frozen_stages_keeps_them(freeze_depth, causal):
    assert not own_state(causal.lm_head, causal.stages)  # all of its tensors are those of stage 0
    before = tensors(causal)
    trained = train(causal_run(causal, freeze_depth=freeze_depth)).backbone
    moved = {int(name.partition(".")[0]) for name in changed(before, tensors(trained))}
    assert moved == set(range(freeze_depth, 5))
    assert is_tied(trained)
    assert not changed(before, tensors(causal))


def test_train_lm_head_alone(masked):
    before = tensors(masked)
    trained = train(causal_run(masked, freeze_depth="all")).backbone
    assert changed(before, tensors(trained)) == own_state(masked.lm_head, masked.stages).keys()
    assert table_of(trained) is table_of(masked)
    assert is_tied(trained)
    assert torch.equal(logits_of(pickle.loads(pickle.dumps(trained))), logits_of(trained))


def test_train_refuses_a_tied_lm_head_on_frozen_stages(causal):
    with pytest.raises(InvalidParameterError, match="leaves nothing to train"):
        train(causal_run(causal, freeze_depth="all"))


@pytest.mark.parametrize("callback", [EMA(0.9), WiSEFT(0.5), MicroBatches(2)], ids=lambda one: type(one).__name__)
@pytest.mark.parametrize("freeze_depth", [0, 1])
def test_train_lm_head_with_callbacks_keeps_frozen_stages_and_ties(callback, freeze_depth, masked, causal):
    for backbone, run in ((masked, masked_run), (causal, causal_run)):
        if freeze_depth and run is masked_run:
            continue  # the input of the trained stages is not that of masked words
        before = tensors(backbone)
        trained = train(run(backbone, freeze_depth=freeze_depth, callbacks=[callback])).backbone
        assert not changed(before, tensors(backbone))
        moved = changed(before, tensors(trained))
        assert moved
        assert not {name for name in moved if freeze_depth and name.startswith("0.")}
        assert is_tied(trained)


def test_train_lm_head_with_adapter(masked):
    adapter = peft.LoraConfig(r=2, target_modules=["query", "word_embeddings"])
    trained = train(masked_run(masked, adapter=adapter)).backbone
    assert is_tied(trained)
    assert not torch.equal(table_of(trained), table_of(masked))
    assert repr(trained.stages) == repr(masked.stages)


def test_fine_tuning_keeps_the_lm_head_and_trains_it_not(masked):
    clf = FineTuneClassifier(masked, freeze_depth=0, max_epochs=1, lr=1e-3, random_state=0)
    tuned = clf.fit(TEXTS, [0, 1, 0, 1, 0, 1, 0]).backbone_
    before, after = (own_state(one.lm_head, one.stages) for one in (masked, tuned))
    assert not changed(before, after)
    assert is_tied(tuned)
    assert not torch.equal(table_of(tuned), table_of(masked))
    lower = FineTuneClassifier(masked, layer=2, max_epochs=1, random_state=0).fit(TEXTS, [0, 1, 0, 1, 0, 1, 0])
    assert lower.backbone_.lm_head is None  # it reads the last stage


@pytest.mark.parametrize("again", [masked_run, None], ids=["lm", "classifier"])
def test_pickle_after_two_trainings_keeps_the_trained_lm_head(again, masked):
    once = train(masked_run(masked)).backbone
    if again is not None:
        twice = train(again(once)).backbone
    else:
        clf = FineTuneClassifier(once, freeze_depth=-1, max_epochs=1, lr=1e-3, random_state=0)
        twice = clf.fit(TEXTS, [0, 1, 0, 1, 0, 1, 0]).backbone_
    assert twice.origin[1][0] is masked  # and not the one in between
    own = [own_state(one.lm_head, one.stages) for one in (once, twice)]
    assert bool(changed(*own)) == (again is not None)
    copied = pickle.loads(pickle.dumps(twice))
    assert torch.equal(logits_of(copied), logits_of(twice))
    assert is_tied(copied)


@pytest.mark.parametrize("weights", ["reference", "embed"])
def test_save_keeps_a_trained_lm_head(weights, masked, tmp_path):
    trained = train(masked_run(masked)).backbone
    save(TextFeaturizer(trained).fit(TEXTS), tmp_path / "featurizer", weights=weights)
    loaded = load(tmp_path / "featurizer").backbone_
    assert torch.equal(logits_of(loaded), logits_of(trained))
    assert is_tied(loaded)


def test_getstate_for_skops_keeps_a_trained_lm_head(masked):
    trained = train(masked_run(masked)).backbone
    restored = Backbone.__new__(Backbone)
    restored.__setstate__(trained.__getstate__())
    assert torch.equal(logits_of(restored), logits_of(trained))


def test_load_refuses_a_trained_lm_head_of_a_backbone_without_one():
    backbone = text_twin()
    with pytest.raises(LoadError, match="has no language-model head"):
        _decode_trained(
            {
                "source": backbone,
                "first": len(backbone.stages),
                "stop": len(backbone.stages),
                "state": {},
                "lm_state": {"body.0.bias": torch.zeros(3)},
                "fingerprint": backbone.fingerprint(),
            }
        )


def test_net_to_state_leaves_out_the_tied_table(masked):
    run = masked_run(masked)
    result = train(run)
    saved = net_to_state(result.net, FineTuneClassifier())
    assert max(tensor.numel() for tensor in saved["heads"]["lm"].values()) < table_of(masked).numel()
    layers = {reads: list(outputs) for reads, outputs in run.trunk.layers.items()}
    loaded = net_from_state(saved, FineTuneClassifier(), result.backbone, layers, run.trunk.boundary)
    for name, tensor in loaded.module_.heads["lm"].state_dict().items():
        assert torch.equal(tensor, result.net.module_.heads["lm"].state_dict()[name])


def test_make_head_is_called_for_a_backbone_without_lm_head(tmp_path):
    make_folder("bert", tmp_path)
    backbone = load_backbone(f"hf/{tmp_path}")
    run = masked_run(backbone)
    task = MaskedWords(4, n_vocabulary=200)
    result = train(dataclasses.replace(run, tasks={"lm": task}))
    assert isinstance(result.net.module_.heads["lm"], nn.Linear)
    assert result.backbone.lm_head is None
