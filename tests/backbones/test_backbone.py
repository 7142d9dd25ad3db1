from __future__ import annotations

import copy
import pickle
from fractions import Fraction

import numpy as np
import pytest
import torch
from sklearn.base import clone
from torch import nn

from sktransfer import ImageFeaturizer, load_backbone
from sktransfer.backbones.backbone import Backbone, replace_stages
from sktransfer.backbones.preprocess import ImageTransform
from sktransfer.backbones.stages import ImageStage
from sktransfer.engine.compute import Compute
from sktransfer.engine.inference import prepare_for_inference
from sktransfer.exceptions import InvalidParameterError
from tests.helpers.toys import STAGES, image_backbone, image_network, text_backbone

N = len(STAGES)


@pytest.fixture
def backbone():
    return image_backbone()


def of_n_stages(n):
    stages = [(f"s{k}", ImageStage(nn.Identity())) for k in range(n)]
    return Backbone(name="toy/deep", modality="image", stages=stages, preprocess=ImageTransform(), pooling="average")


def batch(n=2):
    return torch.rand(n, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def weights_of(backbone):
    return [tensor.clone() for stage in backbone.stages for tensor in stage.state_dict().values()]


def test_stages_are_frozen_and_in_eval_mode(backbone):
    modules = [module for part in (backbone.stages, backbone.head) for module in part.modules()]
    assert not any(module.training for module in modules)
    assert not any(parameter.requires_grad for module in modules for parameter in module.parameters())


def test_run_yields_the_output_of_each_stage_in_order(backbone):
    network = image_network().eval()
    values, expected = batch(), []
    for stage in network["stages"].values():
        values = stage(values)
        expected.append(values.clone())
    given = [one.clone() for one in backbone.run(batch())]
    assert [tuple(one.shape) for one in given] == [(2, 4, 8, 8), (2, 6, 4, 4), (2, 5, 2, 2)]
    # the second stage writes into the first one's output, so the clones of both sides are compared
    assert all(torch.equal(one, other) for one, other in zip(given, expected))


def test_run_can_stop_and_start_at_every_cut(backbone):
    *_, whole = backbone.run(batch())
    for cut in range(1, N):
        *_, lower = backbone.run(batch(), stop=cut)
        *_, upper = backbone.run(lower.clone(), start=cut)
        assert torch.equal(upper, whole)


def test_head_is_called_on_the_output_of_the_last_stage(backbone):
    *_, last = backbone.run(batch())
    expected = image_network()["head"](last.mean((2, 3)))
    assert torch.allclose(backbone.head(last), expected)


@pytest.mark.parametrize(
    ("layer", "index"),
    [
        (0, 0),
        (2, 2),
        (-1, 2),
        (-3, 0),
        ("stem", 0),
        ("top", 2),
        (np.int64(-1), 2),
        (np.uint8(1), 1),
        (np.str_("middle"), 1),
    ],
)
def test_position_takes_an_index_or_a_name(layer, index, backbone):
    assert backbone.position(layer) == index
    assert type(backbone.position(layer)) is int
    assert backbone.positions(layer) == [index]


@pytest.mark.parametrize(
    ("layer", "says"),
    [
        (3, "layer=3 is out of range.* 3 stages, so -3 to 2"),
        (-4, "layer=-4 is out of range"),
        ("botom", "'botom' is not a stage of toy/maps"),
        ("midle", "Did you mean 'middle'"),
        (True, "layer=True"),
        (np.bool_(True), "layer="),
        (1.0, "layer=1.0"),
        (np.float64(1), "layer="),
        (None, "layer=None"),
        ([], "names no stage"),
        ([0, 7], "layer=7"),
        ({0}, "layer="),
    ],
)
def test_positions_names_a_layer_that_is_not_allowed(layer, says, backbone):
    with pytest.raises(InvalidParameterError, match=says):
        backbone.positions(layer)


def test_positions_takes_all_or_several_layers(backbone):
    assert backbone.positions("all") == [0, 1, 2]
    assert backbone.positions([-1, "stem"]) == [2, 0]
    assert backbone.positions((0, np.int32(1))) == [0, 1]
    assert backbone.positions(np.array([-1, 0])) == [2, 0]
    assert backbone.positions(np.array(["top", "stem"])) == [2, 0]
    assert backbone.positions([-1, 2]) == [2, 2]


@pytest.mark.parametrize(
    ("depth", "n"),
    [
        *[(k, k) for k in range(N + 1)],
        *[(-k, N - k) for k in range(1, N + 1)],
        (np.int64(-1), N - 1),
        ("stem", 1),
        ("top", N),
        ("all", N),
        (0.0, 0),
        (1.0, N),
        (0.34, 1),
        (0.66, 1),
        (0.67, 2),
        (np.float32(1), N),
        (np.float64(0.5), 1),
        (Fraction(2, 3), 2),
    ],
)
def test_n_frozen_of_each_freeze_depth(depth, n, backbone):
    assert backbone.n_frozen(depth) == n
    assert type(backbone.n_frozen(depth)) is int


def test_n_frozen_of_int_1_is_one_stage_and_of_float_1_all(backbone):
    assert (backbone.n_frozen(1), backbone.n_frozen(1.0)) == (1, N)


def test_n_frozen_counts_within_n_stages(backbone):
    assert backbone.n_frozen("all", 2) == backbone.n_frozen(1.0, 2) == 2
    assert backbone.n_frozen(-1, 2) == backbone.n_frozen(0.5, 2) == 1
    with pytest.raises(InvalidParameterError, match="-2 to 2"):
        backbone.n_frozen(3, 2)
    with pytest.raises(InvalidParameterError, match="top"):
        backbone.n_frozen("top", 2)


def test_n_frozen_of_an_exact_fraction_is_exact():
    for n in range(1, 80):
        backbone = image_backbone() if n == N else of_n_stages(1)
        assert [backbone.n_frozen(k / n, n) for k in range(n + 1)] == list(range(n + 1))


@pytest.mark.parametrize(
    ("depth", "says"),
    [
        (True, "freeze_depth=True"),
        (False, "freeze_depth=False"),
        (np.bool_(True), "freeze_depth="),
        (N + 1, "out of range for 3 stages; give an int from -3 to 3"),
        (-N - 1, "out of range"),
        (1.01, "freeze_depth=1.01 is out of range.*float from 0 to 1"),
        (-0.5, "out of range"),
        (float("nan"), "out of range"),
        ("botom", "'botom' is not a stage"),
        ("al", "Did you mean 'all'"),
        (None, "freeze_depth=None"),
        ([1], "freeze_depth="),
    ],
)
def test_n_frozen_names_a_freeze_depth_that_is_not_allowed(depth, says, backbone):
    with pytest.raises(InvalidParameterError, match=says):
        backbone.n_frozen(depth)


def test_fingerprint_is_equal_only_for_equal_backbones():
    plain = image_backbone().fingerprint()
    assert image_backbone().fingerprint() == plain
    assert image_backbone(seed=1).fingerprint() != plain
    assert image_backbone(definition="other").fingerprint() != plain


@torch.no_grad()
def test_fingerprint_changes_with_a_single_weight_or_buffer():
    for name in image_network()["stages"].state_dict():
        network = image_network()
        tensor = network["stages"].state_dict()[name]
        tensor.view(-1)[-1] += 1
        assert image_backbone(network=network).fingerprint() != image_backbone().fingerprint(), name


def test_fingerprint_depends_on_order_and_structure():
    def made(*modules):
        stages = [(f"s{k}", ImageStage(module)) for k, module in enumerate(modules)]
        transform = ImageTransform()
        return Backbone(name="a/b", modality="image", stages=stages, preprocess=transform, pooling="average")

    relu, tanh = nn.ReLU(), nn.Tanh()
    found = [made(relu, tanh), made(tanh, relu), made(relu, relu), made(relu), made(nn.Sequential(relu), tanh)]
    assert len({one.fingerprint() for one in found}) == len(found)
    convolution = nn.Conv2d(4, 4, 3, padding=1)
    strided = nn.Conv2d(4, 4, 3, stride=2, padding=1)
    strided.load_state_dict(convolution.state_dict())
    assert made(convolution).fingerprint() != made(strided).fingerprint()


def test_fingerprint_depends_on_the_dtype():
    half = copy.deepcopy(image_network()).bfloat16()
    assert image_backbone(network=half).fingerprint() != image_backbone().fingerprint()


@torch.no_grad()
def test_fingerprint_with_stop_is_equal_below_the_first_differing_stage(backbone):
    network = image_network()
    network["stages"]["middle"][1].weight[0, 0, 0, 0] += 1
    other = image_backbone(network=network)
    same = [backbone.fingerprint(stop) == other.fingerprint(stop) for stop in range(N + 1)]
    assert same == [True, True, False, False]
    assert len({backbone.fingerprint(stop) for stop in range(N + 1)}) == N + 1
    assert backbone.fingerprint(N) == backbone.fingerprint()


def test_fingerprint_ignores_head_categories_and_name(backbone):
    assert image_backbone(head=None, categories=(), name="other/name").fingerprint() == backbone.fingerprint()


def test_replace_stages_keeps_the_source_and_shares_the_lower_stages(backbone):
    before, print_before = weights_of(backbone), backbone.fingerprint()
    new = [copy.deepcopy(backbone.stages[1]), copy.deepcopy(backbone.stages[2])]
    with torch.no_grad():
        new[0].body[0][1].weight += 1
    made = replace_stages(backbone, 1, new)
    assert made.stages[0] is backbone.stages[0]
    assert made.stages[1] is new[0]
    assert all(torch.equal(one, other) for one, other in zip(weights_of(backbone), before))
    assert backbone.fingerprint() == print_before
    assert [made.fingerprint(k) == backbone.fingerprint(k) for k in range(N + 1)] == [True, True, False, False]
    assert made.head is backbone.head
    assert not any(p.requires_grad for p in made.stages.parameters())
    assert not any(module.training for module in made.stages.modules())


def test_replace_stages_with_an_empty_list_removes_the_head(backbone):
    made = replace_stages(backbone, 2, [])
    assert (made.stage_names, made.head, made.categories) == (("stem", "middle"), None, ())
    assert made.fingerprint() == backbone.fingerprint(2)
    assert backbone.head is not None
    assert len(backbone.stages) == N


@pytest.mark.parametrize(("first", "n_new"), [(-1, 0), (N + 1, 0), (N, 1)])
def test_replace_stages_refuses_stages_out_of_range(first, n_new, backbone):
    with pytest.raises(InvalidParameterError, match="has 3 stages"):
        replace_stages(backbone, first, [nn.Identity()] * n_new)


def test_copy_and_clone_return_the_same_backbone(backbone):
    assert copy.copy(backbone) is backbone
    assert copy.deepcopy(backbone) is backbone
    assert copy.deepcopy([backbone])[0] is backbone
    assert clone(backbone) is backbone


def test_stages_keep_shared_modules_shared():
    shared = nn.Conv2d(3, 3, 3, padding=1)
    stages = [("first", ImageStage(shared)), ("second", ImageStage(nn.ReLU(), shared))]
    transform = ImageTransform()
    made = Backbone(name="a/b", modality="image", stages=stages, preprocess=transform, pooling="average")
    assert made.stages[0].body[0] is made.stages[1].body[1]
    assert sum(1 for _ in made.stages.parameters()) == 2
    back = pickle.loads(pickle.dumps(made))
    assert back.stages[0].body[0] is back.stages[1].body[1]
    assert back.fingerprint() == made.fingerprint()
    moved = prepare_for_inference(made, Compute(torch.device("meta")))
    assert moved[0].body[0] is moved[1].body[1]


def test_pickle_of_an_unregistered_backbone_contains_its_weights(backbone):
    back = pickle.loads(pickle.dumps(backbone))
    assert back is not backbone
    assert back.fingerprint() == backbone.fingerprint()
    assert torch.equal(list(back.run(batch()))[-1], list(backbone.run(batch()))[-1])
    assert (back.name, back.categories, back.preprocess) == (backbone.name, backbone.categories, backbone.preprocess)
    assert back.stage_names == backbone.stage_names


def test_pickle_after_replace_stages_contains_the_source(backbone):
    new = copy.deepcopy(backbone.stages[2])
    with torch.no_grad():
        new.body[0][1].weight += 1
    made = replace_stages(backbone, 2, [new]).with_preprocess(ImageTransform(resize=5))
    back = pickle.loads(pickle.dumps(made))
    assert back.fingerprint() == made.fingerprint() != backbone.fingerprint()
    assert back.preprocess == made.preprocess
    both = pickle.loads(pickle.dumps((backbone, made)))
    assert both[1].stages[0] is both[0].stages[0]  # the weights below are packed once


def test_with_preprocess_shares_everything_else(backbone):
    made = backbone.with_preprocess(ImageTransform(resize=5))
    assert (made.preprocess.resize, backbone.preprocess.resize) == (5, (8, 8))
    assert made.stages is backbone.stages
    assert made.fingerprint() == backbone.fingerprint()


def test_run_passes_the_mask_to_text_stages():
    backbone = text_backbone()
    values, mask = torch.tensor([[1, 2, 0]]), torch.tensor([[True, True, False]])
    *_, with_padding = backbone.run(values, mask)
    *_, without = backbone.run(values[:, :2], mask[:, :2])
    *_, unmasked = backbone.run(values, torch.ones_like(mask))
    assert torch.allclose(with_padding[:, :2], without, atol=1e-6)
    assert not torch.allclose(unmasked[:, :2], without, atol=1e-3)


def test_pooling_of_another_modality_is_refused():
    with pytest.raises(InvalidParameterError, match="pooling='last_token'"):
        image_backbone(pooling="last_token")


def test_repr_shows_name_and_stages(backbone):
    assert repr(backbone) == "Backbone('toy/maps', stages=['stem', 'middle', 'top'])"


def train_in_place(backbone):
    """Take an optimizer step on the last stage, as no user should."""
    parameters = list(backbone.stages[-1].parameters())
    for parameter in parameters:
        parameter.requires_grad_(True).grad = torch.ones_like(parameter)
    torch.optim.SGD(parameters, lr=0.1).step()
    for parameter in parameters:
        parameter.requires_grad_(False)


def multiply_in_place(backbone):
    with torch.no_grad():
        next(backbone.stages[-1].parameters()).mul_(2)


@pytest.mark.parametrize("change", [train_in_place, multiply_in_place])
@pytest.mark.parametrize("cache", ["memory", None])
def test_fingerprint_copies_and_cache_notice_a_change_in_place(change, cache, backbone):
    X = batch().numpy().transpose(0, 2, 3, 1)
    featurizer = ImageFeaturizer(backbone, cache=cache)
    other = backbone.with_preprocess(ImageTransform(resize=(4, 4)))
    first, smaller = featurizer.fit_transform(X), other.fingerprint()
    before = [backbone.fingerprint(stop) for stop in range(N + 1)]
    change(backbone)
    with torch.no_grad():
        *_, last = backbone.run(torch.stack(list(backbone.preprocess(list(X)))))
    changed = featurizer.fit_transform(X)
    assert np.allclose(changed, last.mean((2, 3)), atol=1e-6)
    assert not np.allclose(changed, first, atol=1e-3)
    after = [backbone.fingerprint(stop) for stop in range(N + 1)]
    assert [one == two for one, two in zip(before, after)] == [True] * N + [False]
    assert other.fingerprint() == after[-1] != smaller
    assert np.array_equal(ImageFeaturizer(image_backbone(), cache=cache).fit_transform(X), first)


def test_pickle_of_a_backbone_that_was_changed_in_place_keeps_the_change():
    backbone = load_backbone("tiny/cnn", weights="random", seed=91)
    expected = backbone.fingerprint()
    with torch.no_grad():
        next(backbone.stages.parameters()).mul_(2)
    restored = pickle.loads(pickle.dumps(backbone))
    assert restored.fingerprint() == backbone.fingerprint() != expected
    assert load_backbone("tiny/cnn", weights="random", seed=91).fingerprint() == expected


def test_fingerprint_of_weights_made_in_inference_mode():
    with torch.inference_mode():
        own = Backbone.from_modules([("stem", nn.Conv2d(3, 4, 3))])
    assert own.fingerprint() == own.fingerprint()
