"""Language-model heads: ties to stages, reading on demand, other stages."""

from __future__ import annotations

import copy
import pickle
import threading

import pytest
import torch
from torch import nn

from sktransfer import Backbone, load_backbone
from sktransfer.backbones import LanguageModelHead, replace_stages
from sktransfer.backbones.language import own_state
from sktransfer.exceptions import InvalidParameterError, LoadError, PluginError
from tests.helpers.toys import Attend, Embed, Words


def make_stages(seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return [("embed", Embed(4)), ("attend1", Attend(4)), ("attend2", Attend(4))]


def make_head(stages, kind="masked"):
    """Return a head with a norm of its own, tied to the table of stage 0."""
    output = nn.Linear(4, 10, bias=False)
    output.weight = stages[0][1].table.weight
    return LanguageModelHead(kind, nn.LayerNorm(4), output)


def make_backbone(stages, lm_head):
    return Backbone(
        name="mine/words", modality="text", stages=stages, preprocess=Words(), pooling="mean", lm_head=lm_head
    )


@pytest.fixture
def backbone():
    stages = make_stages()
    return make_backbone(stages, make_head(stages))


def table_of(backbone):
    return backbone.stages[0].table.weight


def is_tied(backbone):
    return any(parameter is table_of(backbone) for parameter in backbone.lm_head.parameters())


def test_language_model_head_refuses_kind():
    with pytest.raises(InvalidParameterError, match=r"kind='mlm' must be one of \('masked', 'causal'\)"):
        LanguageModelHead("mlm", nn.Linear(4, 10))


def test_lm_head_is_frozen_in_evaluation_mode(backbone):
    assert backbone.lm_head.kind == "masked"
    assert not backbone.lm_head.training
    assert not any(parameter.requires_grad for parameter in backbone.lm_head.parameters())


def test_lm_head_calls_a_function_once_when_first_read():
    stages, calls = make_stages(), []

    def read():
        calls.append(1)
        return make_head(stages)

    made = make_backbone(stages, read)
    twin = made.with_preprocess(Words(5))
    assert not calls
    assert made.lm_head is twin.lm_head is made.lm_head
    assert calls == [1]


def test_lm_head_of_a_function_may_be_none():
    assert make_backbone(make_stages(), lambda: None).lm_head is None


def test_lm_head_refuses_another_type():
    with pytest.raises(PluginError, match="mine/words: lm_head must be a LanguageModelHead or None, not Linear"):
        make_backbone(make_stages(), lambda: nn.Linear(4, 10)).lm_head  # noqa: B018


def test_lm_head_draws_by_the_weights_of_the_stages_and_leaves_the_global_generator():
    biases = []
    for seed in (0, 0, 1):
        made = make_backbone(make_stages(seed), lambda: LanguageModelHead("causal", nn.Linear(4, 10)))
        state = torch.get_rng_state()
        biases.append(made.lm_head.body[0].bias)
        assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(biases[0], biases[1])
    assert not torch.equal(biases[0], biases[2])


def test_lm_head_is_one_object_for_threads_that_read_it_at_once():
    stages, barrier, found = make_stages(), threading.Barrier(2), []

    def read():
        barrier.wait()  # both threads are in here before either has a head
        return make_head(stages)

    made = make_backbone(stages, read)
    threads = [threading.Thread(target=lambda: found.append(made.lm_head)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found[0] is found[1]


def test_own_state_leaves_out_tied_parameters(backbone):
    assert list(own_state(backbone.lm_head, backbone.stages)) == ["body.0.weight", "body.0.bias"]


def test_fingerprint_does_not_depend_on_the_lm_head(backbone):
    assert backbone.fingerprint() == make_backbone(make_stages(), None).fingerprint()


def test_pickle_of_own_modules_keeps_the_tie(backbone):
    copied = pickle.loads(pickle.dumps(backbone))
    assert copied is not backbone
    assert is_tied(copied)
    assert torch.equal(copied.lm_head.body[0].weight, backbone.lm_head.body[0].weight)


def test_replace_stages_ties_the_lm_head_to_the_new_stages(backbone):
    new = [module for _, module in make_stages(seed=1)]
    lower, upper = replace_stages(backbone, 0, new), replace_stages(backbone, 2, new[2:])
    assert table_of(lower) is new[0].table.weight
    assert is_tied(lower)
    assert table_of(upper) is table_of(backbone)
    assert is_tied(upper)
    assert lower.lm_head.body[0].weight is backbone.lm_head.body[0].weight  # its own parameters are shared
    assert is_tied(backbone)


def test_replace_stages_takes_the_state_of_a_trained_lm_head(backbone):
    state = {name: tensor + 1 for name, tensor in own_state(backbone.lm_head, backbone.stages).items()}
    trained = replace_stages(backbone, 3, [], state)
    assert torch.equal(trained.lm_head.body[0].bias, backbone.lm_head.body[0].bias + 1)
    again = replace_stages(trained, 2, [copy.deepcopy(backbone.stages[2])])
    assert torch.equal(again.lm_head.body[0].bias, trained.lm_head.body[0].bias)
    assert again.origin[1][0] is backbone
    restored = pickle.loads(pickle.dumps(again))
    assert torch.equal(restored.lm_head.body[0].bias, trained.lm_head.body[0].bias)
    assert is_tied(restored)


def test_replace_stages_refuses_a_state_that_does_not_fit(backbone):
    with pytest.raises(LoadError, match="the language-model head lack"):
        replace_stages(backbone, 3, [], {"body.0.weight": torch.ones(4)}).lm_head  # noqa: B018


def test_replace_stages_drops_the_lm_head_of_a_last_stage_that_is_left_out(backbone):
    cut = replace_stages(backbone, 2, [])
    assert cut.lm_head is None
    assert replace_stages(cut, 1, [backbone.stages[1]]).lm_head is None


@pytest.mark.parametrize("new", [nn.Embedding(10, 4), Embed(5)], ids=["no such name", "another shape"])
def test_replace_stages_drops_the_lm_head_of_stages_without_its_table(new, backbone):
    assert replace_stages(backbone, 0, [new, *backbone.stages[1:]]).lm_head is None


def test_from_modules_copies_the_lm_head_with_its_tie():
    stages = make_stages()
    head = make_head(stages)
    made = Backbone.from_modules(
        stages, modality="text", preprocess=load_backbone("tiny/bert").preprocess, lm_head=head
    )
    assert is_tied(made)
    assert table_of(made) is not stages[0][1].table.weight
    assert head.training  # the user's own stays as it is


@pytest.mark.parametrize(("head", "modality"), [(nn.Linear(4, 10), "text"), (make_head(make_stages()), "image")])
def test_from_modules_refuses_lm_head(head, modality):
    with pytest.raises(InvalidParameterError, match=r"lm_head=.* must be a LanguageModelHead"):
        Backbone.from_modules(make_stages(), modality=modality, preprocess=None, lm_head=head)
