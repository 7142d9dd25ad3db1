"""Classes of merged data sets: loss, weights, probe, choice of layers and predictions."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from torch.nn import functional

from sktransfer import FineTuneClassifier
from sktransfer.exceptions import ValidationWarning
from sktransfer.targets.table import read_tasks
from sktransfer.tasks.classification import Multiclass
from sktransfer.tasks.criterion import Criterion
from sktransfer.tasks.head_init import logistic_probe
from sktransfer.tasks.merged import SOURCE, MergedMulticlass, partial_probe, sources_of
from sktransfer.testing.samples import make_samples
from sktransfer.training.saved_net import net_from_state, net_to_state
from sktransfer.training.trainer import train
from tests.helpers.runs import fit_run


def by_source(**labels):
    pairs = [(source, row) for source, own in labels.items() for row in range(len(own))]
    index = pd.MultiIndex.from_tuples(pairs, names=[SOURCE, "row"])
    return pd.Series([label for own in labels.values() for label in own], index)


Y = by_source(a=["film", "book", "film", "book"], b=["film", "song", "film"])
X, _ = make_samples("image", 7)


def encoded(y=Y, weight=None, **options):
    task = MergedMulticlass(**options)
    return task, task.encode(task.check(y), np.ones(len(y)) if weight is None else weight)


def losses(task, targets, logits):
    return task.loss(logits, torch.from_numpy(targets.values), logits)


LOGITS = torch.randn(7, 3, generator=torch.Generator().manual_seed(0))  # of book, film, song


@pytest.mark.parametrize("label_smoothing", [0.0, 0.2])
def test_loss_is_a_softmax_over_the_known_classes(label_smoothing):
    task, targets = encoded(label_smoothing=label_smoothing)
    found = losses(task, targets, LOGITS)
    smooth = {"reduction": "none", "label_smoothing": label_smoothing}
    expected_a = functional.cross_entropy(LOGITS[:4, :2], torch.tensor([1, 0, 1, 0]), **smooth)
    expected_b = functional.cross_entropy(LOGITS[4:, 1:], torch.tensor([0, 1, 0]), **smooth)
    torch.testing.assert_close(found, torch.cat([expected_a, expected_b]))


@pytest.mark.parametrize("label_smoothing", [0.0, 0.2])
def test_loss_has_no_gradient_for_a_class_that_the_source_does_not_know(label_smoothing):
    task, targets = encoded(label_smoothing=label_smoothing)
    logits = LOGITS.clone().requires_grad_()
    losses(task, targets, logits).sum().backward()
    assert torch.equal(logits.grad[:4, 2], torch.zeros(4))
    assert torch.equal(logits.grad[4:, 0], torch.zeros(3))
    assert (logits.grad[:4, :2] != 0).all()


def test_loss_of_a_new_source_or_none_is_over_all_classes():
    task, _ = encoded()
    for y in (by_source(c=["film", "song"]), pd.Series(["film", "song"]), ["film", "song"]):
        targets = task.encode(task.check(y), np.ones(2))
        expected = functional.cross_entropy(LOGITS[:2], torch.tensor([1, 2]), reduction="none")
        torch.testing.assert_close(losses(task, targets, LOGITS[:2]), expected)


def test_loss_is_finite_for_a_class_that_its_source_did_not_have():
    task, _ = encoded()
    targets = task.encode(task.check(by_source(a=["song"])), np.ones(1))
    expected = functional.cross_entropy(LOGITS[:1], torch.tensor([2]), reduction="none")
    torch.testing.assert_close(losses(task, targets, LOGITS[:1]), expected)


def test_criterion_sees_small_logits_of_unknown_classes():
    task, targets = encoded(criterion=Criterion(torch.nn.CrossEntropyLoss))
    plain, _ = encoded()
    torch.testing.assert_close(losses(task, targets, LOGITS), losses(plain, targets, LOGITS))


def test_class_weight_is_balanced_within_each_source():
    _, targets = encoded(by_source(a=["x", "y", "y", "y"], b=["y", "z"]), class_weight="balanced")
    np.testing.assert_allclose(targets.weight, [2, 2 / 3, 2 / 3, 2 / 3, 1, 1])
    _, targets = encoded(class_weight={"song": 3.0})
    assert targets.weight.tolist() == [1, 1, 1, 1, 1, 3, 1]


def test_encode_warns_of_a_source_with_one_class():
    with pytest.warns(ValidationWarning, match="the data set 'b' has one class only, 'film', and a softmax"):
        encoded(by_source(a=["film", "book"], b=["film", "film"]))


def test_encode_warns_of_sources_without_a_common_class():
    with pytest.warns(ValidationWarning, match=r"the data sets 'a' and 'c' have no class in common.*y\.droplevel"):
        encoded(by_source(a=["u", "v"], b=["v", "w"], c=["x", "y"]))


def test_encode_takes_sources_with_a_common_class_through_others():
    task, _ = encoded(by_source(a=["u", "v"], b=["w", "x"], c=["v", "w"]))
    assert task.knows.sum() == 6


def test_classes_keep_their_dtype():
    task, _ = encoded(by_source(a=[1, 2], b=[2, 3]))
    assert task.classes.tolist() == [1, 2, 3]
    assert task.classes.dtype == np.int64
    assert task.decode(LOGITS.numpy()).dtype == np.int64


def test_decode_proba_is_over_all_classes():
    task, _ = encoded()
    assert task.decode_proba(LOGITS.numpy()).shape == (7, 3)
    assert (task.decode_proba(LOGITS.numpy()) > 0).all()


@pytest.mark.parametrize("C", [0.1, 75.0])
@pytest.mark.parametrize("n_classes", [3, 5])
def test_partial_probe_of_known_classes_is_the_logistic_probe(C, n_classes):
    rng = np.random.default_rng(0)
    y = rng.integers(0, n_classes, 60)
    features = rng.normal(size=(60, 4)) + y[:, None]
    features -= features.mean(0)
    weight = rng.uniform(0.5, 2, 60)
    mine = partial_probe(features, y, np.ones((60, n_classes), bool), weight, C)
    theirs = logistic_probe(features, y, weight, n_classes, C)
    for own, other in zip(mine, theirs):
        np.testing.assert_allclose(own - own.mean(0), other - other.mean(0), atol=5e-3)


def test_partial_probe_of_a_class_without_samples():
    known = np.ones((4, 3), bool)
    weight, bias = partial_probe(np.array([[-1.0], [1], [-1], [1]]), np.array([0, 1, 0, 1]), known, np.ones(4), 0.1)
    assert weight[2].tolist() == [0.0]
    assert bias[2] < bias[:2].min()


def test_init_head_probe_does_not_take_unknown_classes_as_absent():
    # Films and songs look alike. Only the set "b" knows songs, so films of "a" must not count against them.
    rng = np.random.default_rng(0)
    y = by_source(a=["film"] * 40 + ["book"] * 40, b=["song"] * 10 + ["book"] * 10)
    centre = y.map({"film": 1.0, "song": 1.0, "book": -1.0}).to_numpy()
    features = (centre[:, None] + 0.3 * rng.normal(size=(100, 2))).astype(np.float32)
    task, targets = encoded(y)
    head = task.make_head(2)
    task.init_head(head, features, targets, "probe")
    outputs = head(torch.ones(1, 2))[0].tolist()
    by_class = dict(zip(task.classes.tolist(), outputs))
    assert by_class["song"] > by_class["book"] + 1
    whole = MergedMulticlass()
    plain = whole.encode(whole.check(pd.Series(y.to_numpy())), np.ones(100))
    head_of_all = whole.make_head(2)
    whole.init_head(head_of_all, features, plain, "probe")
    all_classes = dict(zip(whole.classes.tolist(), head_of_all(torch.ones(1, 2))[0].tolist()))
    assert by_class["film"] - by_class["song"] < all_classes["film"] - all_classes["song"] - 0.5


def test_choice_targets_have_the_mean_of_an_unknown_class():
    task, targets = encoded()
    choice = task.choice_targets(targets)
    assert choice.n_classes == 3
    np.testing.assert_allclose(choice.values[:4], [[0, 1, 1 / 3], [1, 0, 1 / 3], [0, 1, 1 / 3], [1, 0, 1 / 3]])
    np.testing.assert_allclose(choice.values[4:], [[0.5, 1, 0], [0.5, 0, 1], [0.5, 1, 0]])


@pytest.mark.parametrize("head_init", ["probe", "class_means", "random"])
def test_train_and_net_to_state(head_init):
    task, targets = encoded()
    run = fit_run(X, "tiny/cnn", {"y": task}, {"y": targets}, head_init=head_init, freeze_depth="all", max_epochs=20)
    result = train(run)
    assert result.net.history[-1]["train_loss"] < result.net.history[0]["train_loss"]
    trunk = run.trunk
    layers = {reads: list(outputs) for reads, outputs in trunk.layers.items()}
    saved = net_to_state(result.net, FineTuneClassifier())
    loaded = net_from_state(saved, FineTuneClassifier(), result.backbone, layers, trunk.boundary).tasks["y"]
    assert loaded.sources == ["a", "b"]
    assert loaded.knows.tolist() == task.knows.tolist()
    assert torch.equal(losses(loaded, targets, LOGITS), losses(task, targets, LOGITS))


def test_strata_are_the_classes_of_each_source():
    task, targets = encoded(weight=np.array([1, 1, 1, 0, 1, 1, 1.0]))
    assert task.strata(targets).sum(0).tolist() == [1, 2, 2, 1]  # book of a, film of a and of b, song of b


def test_make_task_is_merged_if_the_sources_know_different_classes():
    frame = pd.DataFrame({"kind": Y, "same": by_source(a=["x", "y", "x", "y"], b=["x", "y", "y"]), "n": 0.5}, Y.index)
    columns = read_tasks(frame).columns
    kinds = {name: type(column.make_task()).__name__ for name, column in columns.items()}
    assert kinds == {"kind": "MergedMulticlass", "same": "Multiclass", "n": "Continuous"}
    assert type(read_tasks(frame.reset_index(drop=True)).columns["kind"].make_task()).__name__ == "Multiclass"


@pytest.mark.parametrize("name", ["source", "data_set", None])
def test_make_task_ignores_other_levels_of_the_index(name):
    frame = Y.to_frame("kind").rename_axis(index=[name, "row"])
    assert type(read_tasks(frame).columns["kind"].make_task()) is Multiclass


def test_check_keeps_the_sources_of_known_rows():
    y = Y.copy()
    y.iloc[[1, 4]] = None
    column = read_tasks(y.to_frame("kind")).columns["kind"]
    task = column.make_task()
    targets = task.encode_known(column.check(task), column.known, np.ones(7))
    assert targets.weight.tolist() == [1, 0, 1, 1, 0, 1, 1]
    assert targets.values[[0, 5]].tolist() == [[1, 0], [2, 1]]


def test_sources_of_names_without_a_level():
    assert sources_of(Y).tolist() == ["a"] * 4 + ["b"] * 3
    assert sources_of(Y.droplevel(SOURCE)) is None
    assert sources_of([1]) is None


def test_unknown_targets_have_the_shape_of_known_ones():
    task, targets = encoded()
    unknown = task.encode_known(task.check(Y)[:0], np.zeros(2, bool), np.ones(2))
    assert unknown.values.shape == (2, 2)
    assert unknown.values.dtype == targets.values.dtype
    assert losses(task, unknown, LOGITS[:2]).isfinite().all()
