"""Several tasks on one trunk: weights of losses, ratio of draws, aggregated gradients, history."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from sktransfer import EMA, Checkpoint, FineTuneClassifier, MicroBatches, Mixup
from sktransfer.cache.memory import MemoryStore
from sktransfer.engine.compute import Compute
from sktransfer.exceptions import InvalidParameterError
from sktransfer.tasks.classification import Multiclass
from sktransfer.tasks.continuous import Continuous
from sktransfer.testing.samples import make_samples
from sktransfer.training.network import history_frame
from sktransfer.training.run import Validation
from sktransfer.training.saved_net import net_from_state, net_to_state
from sktransfer.training.trainer import train
from tests.helpers.runs import fit_run
from tests.helpers.small_bert import small_bert

aggregators = pytest.importorskip("torchjd.aggregation")

STORE = MemoryStore(10**8)
IMAGES, LABELS = make_samples("image", 16)
TEXTS, MOODS = make_samples("text", 16)
KNOWN = {"kind": np.arange(16) % 4 > 0, "size": np.arange(16) % 2 == 0, "other": np.arange(16) < 6}


def run_of(names=("kind", "size"), known=KNOWN, backbone="tiny/cnn", **options):
    """Return a run of a classification ("kind") and regressions, with targets that are missing in places."""
    X, y = (IMAGES, LABELS) if backbone == "tiny/cnn" else (TEXTS, MOODS)
    tasks = {name: Multiclass() if name == "kind" else Continuous() for name in names}
    values = {"kind": np.asarray(y), "size": np.arange(16.0), "other": np.arange(16.0)[::-1] ** 2}
    targets = {
        name: task.encode_known(task.check(values[name][known[name]]), known[name], np.ones(16))
        for name, task in tasks.items()
    }
    return fit_run(X, backbone, tasks, targets, store=STORE, **options)


def weights(net):
    return {name: value.clone() for name, value in net.module_.state_dict().items()}


def assert_equal_weights(one, other, names=None):
    first, second = weights(one), weights(other)
    for name in first if names is None else names:
        assert torch.equal(first[name], second[name]), name


def change(net, before):
    return {name: value - before[name] for name, value in weights(net).items() if value.is_floating_point()}


# Weights


def test_task_weights_scale_the_loss_of_a_task():
    """With SGD and frozen stages, a task's head moves by its weight."""
    options = {"freeze_depth": "all", "optimizer": "sgd", "max_epochs": 1, "batch_size": 16, "weight_decay": 0.0}
    starts = weights(train(run_of(**{**options, "max_epochs": 0})).net)
    moves = [change(train(run_of(task_weights=one, **options)).net, starts) for one in ("equal", {"size": 0.25})]
    size, kind = "heads.size.linear.weight", "heads.kind.linear.weight"
    assert moves[0][size].abs().max() > 0
    torch.testing.assert_close(0.25 * moves[0][size], moves[1][size])
    torch.testing.assert_close(moves[0][kind], moves[1][kind])


@pytest.mark.parametrize("sampling", ["proportional", "uniform", "sqrt", "joint", {"kind": 1, "size": 3}])
def test_task_weights_of_0_change_nothing(sampling):
    """A task of weight 0 has no influence on stages, other heads and history, and rows of it alone are not drawn."""
    both = train(run_of(("kind", "size"), task_sampling=sampling))
    shares = {**sampling, "other": 9} if isinstance(sampling, dict) else sampling
    names = ("kind", "size", "other")
    three = train(run_of(names, task_sampling=shares, task_weights={"other": 0.0}))
    assert_equal_weights(both.net, three.net, weights(both.net))
    frames = [history_frame(result.net.history).drop(columns="seconds") for result in (both, three)]
    assert frames[0].equals(frames[1])


def test_task_weights_names_unknown_tasks():
    with pytest.raises(InvalidParameterError, match=r"task_weights names the task 'kin'.*Did you mean 'kind'"):
        train(run_of(task_weights={"kin": 1.0}))
    with pytest.raises(InvalidParameterError, match="gives all tasks weight 0"):
        train(run_of(task_weights={"kind": 0, "size": 0}))
    with pytest.raises(InvalidParameterError, match="task_sampling names the task 'tall'"):
        train(run_of(task_sampling={"kind": 1, "tall": 1}))
    with pytest.raises(InvalidParameterError, match="has no share for the task 'size'; give it one, or 0"):
        train(run_of(task_sampling={"kind": 1}))


def test_task_weights_uncertainty_learns_variances():
    options = {"max_epochs": 20, "freeze_depth": "all", "head_init": "probe"}
    result = train(run_of(("kind", "size"), task_weights="uncertainty", **options))
    network = result.net.module_
    assert network.scaled == ("kind", "size")
    loss = {name: result.net.history[-1][f"train_loss_{name}"] for name in network.scaled}
    found = network.variances_by_task()
    for name, factor in (("kind", 2.0), ("size", 1.0)):
        assert np.log(factor * loss[name]) < found[name].item() < -0.1  # on its way to the lowest value
    learned = result.net.weight_by_task
    assert learned["kind"] == pytest.approx(np.exp(-found["kind"].item()))
    assert learned["size"] == pytest.approx(0.5 * np.exp(-found["size"].item()))
    (group,) = [one for one in result.net.optimizer_.param_groups if one["params"][0] is network.log_variances]
    assert group["weight_decay"] == 0


def test_task_weights_uncertainty_has_no_variances_with_one_task():
    for weight in ("equal", {"kind": 1.0}):
        assert train(run_of(task_weights=weight)).net.module_.log_variances is None
    known = {"kind": np.ones(16, bool)}
    one, other = (train(run_of(("kind",), known, task_weights=weight)).net for weight in ("equal", "uncertainty"))
    assert other.module_.log_variances is None
    assert_equal_weights(one, other)


@pytest.mark.parametrize("callbacks", [[MicroBatches(3)], [MicroBatches(16)]])
def test_task_weights_uncertainty_equals_the_whole_batch_in_micro_batches(callbacks):
    options = {"task_weights": "uncertainty", "max_epochs": 2, "optimizer": "sgd"}
    one, other = (train(run_of(callbacks=given, **options)).net for given in (None, callbacks))
    torch.testing.assert_close(weights(one), weights(other), atol=1e-5, rtol=1e-5)


def test_task_weights_uncertainty_freezes_variances_with_the_heads():
    run = run_of(task_weights="uncertainty", unfreezing="chain_thaw", freeze_depth=-2, max_epochs=4)
    seen = []

    def see():
        seen.append(train_net[0].module_.log_variances.detach().clone())
        return False

    train_net = []
    train(dataclasses.replace(run, on_start=train_net.append, on_epoch=see))
    assert torch.equal(seen[0], seen[1])  # the second and the third epoch train one stage each
    assert torch.equal(seen[1], seen[2])
    assert not torch.equal(seen[2], seen[3])


def test_task_weights_uncertainty_is_averaged_by_ema():
    options = {"task_weights": "uncertainty", "lr_schedule": "constant", "max_epochs": 4}
    plain, averaged = (train(run_of(callbacks=given, **options)).net for given in (None, [EMA(0.9)]))
    ratio = averaged.module_.log_variances / plain.module_.log_variances
    assert (ratio < 0.9).all()


def test_task_weights_uncertainty_is_saved_and_continued():
    run = run_of(task_weights="uncertainty")
    result = train(run)
    saved = net_to_state(result.net, FineTuneClassifier())
    layers = {reads: list(outputs) for reads, outputs in run.trunk.layers.items()}
    loaded = net_from_state(saved, FineTuneClassifier(), result.backbone, layers, run.trunk.boundary)
    assert torch.equal(loaded.module_.log_variances, result.net.module_.log_variances)
    assert loaded.weight_by_task == result.net.weight_by_task


# Draws


@pytest.mark.parametrize("sampling", ["uniform", "joint", {"kind": 1, "size": 4}])
def test_task_sampling_learns_and_repeats(sampling):
    nets = [train(run_of(task_sampling=sampling)).net for _ in range(2)]
    assert_equal_weights(*nets)
    losses = nets[0].history[:, "train_loss"]
    assert losses[-1] < losses[0]
    plain = weights(train(run_of()).net)
    assert not all(torch.equal(value, plain[name]) for name, value in weights(nets[0]).items())


@pytest.mark.parametrize(
    ("options", "n", "steps"),
    [
        ({"batch_size": 8}, 16, 2),
        ({"batch_size": 5}, 16, 3),  # a last batch of one joins the one before
        ({"batch_size": 5, "task_sampling": "joint"}, 16, 4),  # four batches of two rows of each of two tasks
        ({"batch_size": 5, "task_sampling": "uniform", "callbacks": [MicroBatches(2)]}, 16, 3),
    ],
)
def test_lr_schedule_ends_at_0_with_the_last_step(options, n, steps):
    net = train(run_of(known={name: np.ones(n, bool) for name in KNOWN}, max_epochs=3, **options)).net
    assert [len(row["batches"]) for row in net.history] == [steps] * 3
    assert net.history[:, "lr"] == pytest.approx([1e-2 * 2 / 3, 1e-2 / 3, 0], abs=1e-9)


@pytest.mark.parametrize("options", [{"task_sampling": "sqrt"}, {"task_weights": "uncertainty"}])
def test_checkpoint_resumes_several_tasks_to_the_bit(options, tmp_path):
    class Interrupt(Checkpoint):
        def write(self, net):
            super().write(net)
            if len(net.history) == 2:
                raise KeyboardInterrupt

    whole = train(run_of(max_epochs=4, **options)).net
    with pytest.raises(KeyboardInterrupt):
        train(run_of(max_epochs=4, callbacks=[Interrupt(tmp_path)], **options))
    (kept,) = tmp_path.glob("*.pt")
    train(run_of(max_epochs=4, callbacks=[Checkpoint(tmp_path)]))  # another fit
    assert kept.exists()
    resumed = train(run_of(max_epochs=4, callbacks=[Checkpoint(tmp_path)], **options)).net
    assert not kept.exists()
    assert_equal_weights(whole, resumed)


# Aggregators


@pytest.mark.parametrize("backbone", ["tiny/cnn", "hf/" + small_bert()])
@pytest.mark.parametrize("callbacks", [None, [MicroBatches(3)], [Mixup(0.4)]], ids=["plain", "micro", "mixup"])
def test_aggregator_sum_equals_plain_training(backbone, callbacks):
    options = {"backbone": backbone, "callbacks": callbacks, "task_weights": {"size": 0.3}, "max_epochs": 2}
    options |= {"optimizer": "sgd"}
    plain, summed = (train(run_of(aggregator=one, **options)).net for one in (None, aggregators.Sum()))
    torch.testing.assert_close(weights(plain), weights(summed), atol=1e-6, rtol=1e-5)
    np.testing.assert_allclose(summed.history[:, "train_loss"], plain.history[:, "train_loss"], rtol=1e-5)


def test_aggregator_mean_divides_the_gradients_of_stages_only():
    options = {"optimizer": "sgd", "max_epochs": 1, "batch_size": 16, "weight_decay": 0.0}
    before = weights(train(run_of(**{**options, "max_epochs": 0})).net)
    plain, mean = (change(train(run_of(aggregator=one, **options)).net, before) for one in (None, aggregators.Mean()))
    for name, moved in plain.items():
        torch.testing.assert_close(moved / (2 if name.startswith("stages") else 1), mean[name], atol=1e-6, rtol=1e-4)
    assert any(moved.abs().max() > 0 for name, moved in plain.items() if name.startswith("stages"))


@pytest.mark.parametrize("aggregator", [aggregators.UPGrad(), aggregators.MGDA(), aggregators.GradVac()], ids=str)
def test_aggregator_of_torchjd_trains_and_repeats(aggregator):
    names = ("kind", "size", "other")
    options = {"aggregator": aggregator, "max_epochs": 3}
    first, second = (train(run_of(names, **options)).net for _ in range(2))
    assert_equal_weights(first, second)
    losses = first.history[:, "train_loss"]
    assert losses[-1] < 0.9 * losses[0]
    assert first.aggregation is None  # a pickle of the net does not need TorchJD
    plain = train(run_of(names, **{**options, "aggregator": None})).net
    name = next(name for name in weights(plain) if name.startswith("stages"))
    assert not torch.equal(weights(plain)[name], weights(first)[name])


def test_aggregator_leaves_heads_their_own_gradient():
    options = {"optimizer": "sgd", "max_epochs": 1, "batch_size": 16}
    plain, other = (train(run_of(aggregator=one, **options)).net for one in (None, aggregators.MGDA()))
    for name, value in weights(plain).items():
        if name.startswith("heads"):
            torch.testing.assert_close(value, weights(other)[name], atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize(
    "options",
    [
        {"layer": "mix"},
        {"layer": [-2, -1]},
        {"unfreezing": "gradual", "freeze_depth": -2},
        {"unfreezing": "chain_thaw", "freeze_depth": -2},
        {"l2_sp": 0.1},
    ],
    ids=str,
)
def test_aggregator_works_with_recipes(options):
    backbone = "hf/" + small_bert()
    options = {"max_epochs": 4, "optimizer": "sgd", "lr": 1e-4, "backbone": backbone, **options}
    plain, summed = (train(run_of(aggregator=one, **options)).net for one in (None, aggregators.Sum()))
    torch.testing.assert_close(weights(plain), weights(summed), atol=1e-6, rtol=1e-5)


def test_aggregator_is_refused_where_it_cannot_work():
    with pytest.raises(InvalidParameterError, match="freeze_depth='all' leaves none to train; freeze fewer"):
        train(run_of(aggregator=aggregators.UPGrad(), freeze_depth="all"))
    with pytest.raises(InvalidParameterError, match="weighs losses, and aggregator their gradients"):
        run_of(aggregator=aggregators.UPGrad(), task_weights="uncertainty")
    half = dataclasses.replace(
        run_of(aggregator=aggregators.UPGrad()), compute=Compute(torch.device("cpu"), torch.float16)
    )
    with pytest.raises(InvalidParameterError, match="underflow in float16; set precision"):
        train(half)


def test_aggregator_changes_nothing_of_one_task():
    known = {"kind": np.ones(16, bool)}
    one, other = (train(run_of(("kind",), known, aggregator=a)).net for a in (None, aggregators.UPGrad()))
    assert_equal_weights(one, other)


def test_aggregator_with_a_memory_is_refused_by_checkpoint(tmp_path):
    with pytest.raises(InvalidParameterError, match=r"GradVac.* remembers earlier steps"):
        train(run_of(aggregator=aggregators.GradVac(), callbacks=[Checkpoint(tmp_path)]))


# History


def validated(names, **options):
    run = run_of(names, **options)
    return dataclasses.replace(run, validation=Validation(run.inputs, run.targets))


def test_history_has_loss_and_score_of_each_task():
    result = train(validated(("kind", "size"), task_weights={"size": 0.5}, max_epochs=3))
    history = history_frame(result.net.history)
    assert {"train_loss_kind", "train_loss_size", "valid_loss_kind", "valid_loss_size"} < set(history)
    assert {"valid_acc_kind", "valid_r2_size"} < set(history)
    assert "valid_acc" not in history
    net = result.net
    targets = net_targets(net, result)
    for name, score in (("kind", "valid_acc_kind"), ("size", "valid_r2_size")):
        outputs, y = targets[name]
        task = net.tasks[name]
        # The net has evaluated in batches, and float32 products of other sizes differ in the last bits.
        assert history[score].iloc[-1] == pytest.approx(task.score(y, task.output_predictions(outputs)), rel=1e-5)
        loss = task.loss(torch.as_tensor(outputs), torch.as_tensor(y), None).mean().item()
        assert history[f"valid_loss_{name}"].iloc[-1] == pytest.approx(loss, rel=1e-4)


def net_targets(net, result):
    """Return outputs and targets of the rows whose target is known, by task."""
    run = run_of(("kind", "size"))
    network = net.module_.eval()
    values = torch.stack(result.backbone.preprocess(IMAGES))
    with torch.no_grad():
        for stage in result.backbone.stages[: network.boundary]:
            values = stage(values, None)
        outputs, _ = network(values=values)
    return {
        name: (outputs[name].numpy()[KNOWN[name]], run.targets[name].values[KNOWN[name]]) for name in ("kind", "size")
    }


def test_history_of_one_task_has_the_columns_as_before():
    known = {"kind": np.ones(16, bool)}
    history = history_frame(train(validated(("kind",), known=known)).net.history)
    assert set(history) == {"train_loss", "valid_loss", "valid_acc", "seconds", "lr"}


def test_history_is_nan_for_a_task_without_known_validation_rows():
    run = validated(("kind", "size"))
    none = {**run.targets, "size": dataclasses.replace(run.targets["size"], weight=np.zeros(16))}
    history = history_frame(train(dataclasses.replace(run, validation=Validation(run.inputs, none))).net.history)
    assert history["valid_loss_size"].isna().all()
    assert history["valid_r2_size"].isna().all()
    assert history["valid_loss_kind"].notna().all()


def test_names_of_tasks_may_be_those_of_methods_of_modules(capsys):
    tasks = {name: Continuous() for name in ("type", "train", "a.b", "heads", "second_best")}
    targets = {name: task.encode(task.check(np.arange(16.0)), np.ones(16)) for name, task in tasks.items()}
    result = train(fit_run(IMAGES, "tiny/cnn", tasks, targets, verbose=1))
    assert set(result.net.module_.heads) == set(tasks)
    assert {f"train_loss_{name}" for name in tasks} < set(history_frame(result.net.history))
    lines = capsys.readouterr().out.splitlines()
    assert len(lines[0]) < 60
    assert sum(line.strip().startswith("second_best: train_loss ") for line in lines) == 3
