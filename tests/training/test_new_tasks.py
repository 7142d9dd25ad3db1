"""Tasks of coming kinds, written only here: trainer, cache, checkpoint and persistence take them unchanged."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from sktransfer import Checkpoint, FineTuneClassifier, FineTuneRegressor, load_backbone
from sktransfer.cache.memory import MemoryStore
from sktransfer.engine.inputs import PreprocessedSamples
from sktransfer.samples.texts import check_texts
from sktransfer.tasks.base import Targets, Task
from sktransfer.tasks.classification import Multiclass
from sktransfer.tasks.continuous import Continuous
from sktransfer.testing.samples import make_samples
from sktransfer.training.saved_net import net_from_state, net_to_state
from sktransfer.training.trainer import train
from tests.helpers.runs import fit_run
from tests.helpers.small_bert import small_bert

BERT = "hf/" + small_bert()


class TokenHead(nn.Module):
    """Linear layer per token."""

    def __init__(self, n_features, n_outputs):
        super().__init__()
        self.linear = nn.Linear(n_features, n_outputs)

    def forward(self, tokens):
        return self.linear(tokens)  # (n, n_tokens, n_outputs)


class TagPerToken(Task):
    """A tag per token: ragged targets, -100 for padding."""

    kind, reads = "multiclass-per-token", "tokens"

    def __init__(self, n_tags=2):
        self.n_tags = n_tags

    def encode(self, y, weight):
        return Targets([torch.as_tensor(tags) for tags in y], weight)

    def make_head(self, n_features, n_mixed=None):
        return TokenHead(n_features, self.n_tags)

    def loss(self, outputs, targets, features):
        losses = functional.cross_entropy(outputs.transpose(1, 2), targets, reduction="none")  # (n, n_tokens)
        return losses.sum(1) / (targets != -100).sum(1).clamp(min=1)  # (n,)


class MaskedToken(TagPerToken):
    """Masked language model: targets come from the samples, and there is no y."""

    kind = "masked-token"

    def encode(self, y, weight):
        return Targets(np.zeros(len(weight)), weight)

    def prepare(self, arguments, targets):
        ids, mask = arguments["values"], arguments["mask"]
        hidden = (torch.rand(ids.shape) < 0.5) & mask  # (n, n_tokens)
        return {**arguments, "values": ids.masked_fill(hidden, 1)}, ids.masked_fill(~hidden, -100)


class Alignment(Task):
    """Squared distance of the mean features of two domains: no head, and a loss on features."""

    kind = "domain"

    def encode(self, y, weight):
        return Targets(np.asarray(y, dtype=np.int64), weight)

    def make_head(self, n_features, n_mixed=None):
        return None

    def loss(self, outputs, targets, features):
        assert outputs is None
        distance = ((features[targets > 0].mean(0) - features[targets < 0].mean(0)) ** 2).sum()
        return distance.expand(len(features))  # (n,)


class ClassPerPixel(Task):
    """A class per pixel of the finest map."""

    kind, reads = "multiclass-per-pixel", "maps"

    def encode(self, y, weight):
        return Targets(np.asarray(y), weight)

    def make_head(self, n_features, n_mixed=None):
        return nn.Conv2d(n_features, 2, 1)

    def loss(self, outputs, targets, features):
        return functional.cross_entropy(outputs, targets, reduction="none").mean((1, 2))  # (n,)


def parity_tags(X):
    """Return a tag per token: the parity of its id."""
    preprocess = load_backbone(BERT).preprocess
    inputs = PreprocessedSamples(check_texts(X), preprocess)
    return [(ids % 2).long() for ids in inputs.tensors(range(len(X)))]


def weights(net):
    return {name: value.clone() for name, value in net.module_.state_dict().items()}


def assert_equal_weights(one, other):
    first, second = weights(one), weights(other)
    assert first.keys() == second.keys()
    assert all(torch.equal(value, second[name]) for name, value in first.items())


TEXTS, MOODS = make_samples("text", 16)
IMAGES, LABELS = make_samples("image", 16)


@pytest.mark.parametrize("freeze_depth", [0, 2, "all"])
def test_train_tag_per_token(freeze_depth):
    def run(**options):
        task = TagPerToken()
        targets = {"tags": task.encode(parity_tags(TEXTS), np.ones(16))}
        options = {"max_epochs": 30, "lr": 1e-3 if freeze_depth == 0 else 1e-2, **options}
        return fit_run(TEXTS, BERT, {"tags": task}, targets, freeze_depth=freeze_depth, **options)

    result = train(run())
    losses = [row["train_loss"] for row in result.net.history]
    assert losses[-1] < 0.5 * losses[0]
    short, cached = (train(run(max_epochs=2, lr=1e-4, store=store)).net for store in (None, MemoryStore(10**8)))
    torch.testing.assert_close(weights(short), weights(cached), atol=1e-4, rtol=1e-3)


def test_train_tag_per_token_reads_several_layers():
    nets = []
    for layer in (2, [0, 1, 2]):
        task = TagPerToken()
        targets = {"tags": task.encode(parity_tags(TEXTS), np.ones(16))}
        nets.append(train(fit_run(TEXTS, BERT, {"tags": task}, targets, freeze_depth=2, layer=layer)).net)
    one, three = (net.module_.heads["tags"].linear.in_features for net in nets)
    assert three == 3 * one


def test_train_masked_token_without_y():
    task = MaskedToken(n_tags=load_backbone(BERT).stages[0].state_dict()[_vocabulary()].shape[0])
    run = fit_run(TEXTS, BERT, {"lm": task}, {"lm": task.encode(None, np.ones(16))}, freeze_depth=0, max_epochs=30)
    history = train(run).net.history
    assert history[-1]["train_loss"] < 0.8 * history[0]["train_loss"]


def _vocabulary():
    names = load_backbone(BERT).stages[0].state_dict()
    return next(name for name in names if "word_embeddings" in name)


def test_train_maps():
    task = ClassPerPixel()
    run = fit_run(IMAGES, "tiny/cnn", {"pixels": task}, {}, layer=["block1", "block3"], freeze_depth="block2")
    side = run.trunk.backbone  # the finest of the two maps has the size of block1's
    with torch.no_grad():
        values = torch.stack(side.preprocess(IMAGES))
        size = list(side.run(values, None))[side.stage_names.index("block1")].shape[2:]
    masks = np.zeros((16, *size), np.int64)
    masks[:, : size[0] // 2] = 1
    run = dataclasses.replace(run, targets={"pixels": task.encode(masks, np.ones(16))})
    history = train(dataclasses.replace(run, settings=dataclasses.replace(run.settings, max_epochs=10))).net.history
    assert history[-1]["train_loss"] < 0.8 * history[0]["train_loss"]


def two_tasks(known, y=LABELS, garbage=0.0, **options):
    kind, size = Multiclass(), Continuous()
    numbers = np.where(known, np.arange(16.0), garbage)
    encoded = size.encode_known(numbers[known], known, np.ones(16))
    encoded.values[~known] = garbage
    targets = {"kind": kind.encode(kind.check(y), np.ones(16)), "size": encoded}
    return fit_run(IMAGES, "tiny/cnn", {"kind": kind, "size": size}, targets, **options)


def test_train_two_tasks_with_missing_labels():
    known = np.arange(16) % 4 == 0
    result = train(two_tasks(known, head_init="probe", early_stopping=True, validation_fraction=0.25))
    assert set(result.net.module_.heads) == {"kind", "size"}
    assert np.isfinite([row["train_loss"] for row in result.net.history]).all()
    assert "valid_loss" in result.net.history[-1]


def test_train_ignores_missing_targets():
    known = np.arange(16) % 4 == 0
    one, other = (train(two_tasks(known, garbage=garbage)).net for garbage in (0.0, 1e6))
    assert_equal_weights(one, other)


def test_train_ignores_a_task_of_weight_zero():
    known = np.ones(16, bool)
    both = train(two_tasks(known, task_weights={"size": 0.0})).net
    task = Multiclass()
    alone = fit_run(IMAGES, "tiny/cnn", {"kind": task}, {"kind": task.encode(task.check(LABELS), np.ones(16))})
    single = train(alone).net
    for name, value in weights(single).items():
        assert torch.equal(value, weights(both)[name]), name


def test_train_one_task_equals_the_single_task_estimator():
    task = Multiclass()
    targets = {"y": task.encode(task.check(LABELS), np.ones(16))}
    options = {"max_epochs": 2, "head_init": "probe", "batch_size": 8}
    clf = FineTuneClassifier("tiny/cnn", layer=-1, lr=1e-3, random_state=0, cache=None, **options).fit(IMAGES, LABELS)
    run = fit_run(IMAGES, "tiny/cnn", {"y": task}, targets, **options)
    net = train(dataclasses.replace(run, seed=clf._seed)).net
    assert_equal_weights(net, clf.net_)


def test_train_aligns_two_domains_with_unlabelled_targets():
    domain = np.where(np.arange(16) < 8, 1, -1)
    shifted = [image if d > 0 else np.asarray(image) // 2 for image, d in zip(IMAGES, domain)]
    task, alignment = Multiclass(), Alignment()
    labels = task.encode_known(task.check(LABELS[:8]), domain > 0, np.ones(16))
    targets = {"y": labels, "domain": alignment.encode(domain, np.ones(16))}
    distances = []
    for weight in (0.0, 1.0):
        run = fit_run(
            shifted,
            "tiny/cnn",
            {"y": task, "domain": alignment},
            targets,
            freeze_depth=-2,
            task_sampling="joint",
            max_epochs=5,
            lr=1e-3,
            task_weights={"domain": weight},
        )
        result = train(dataclasses.replace(run, sources={"labelled": domain > 0, "unlabelled": domain < 0}))
        assert set(result.net.module_.heads) == {"y"}
        values = torch.stack(result.backbone.preprocess(shifted))
        with torch.no_grad():
            features = list(result.backbone.run(values, None))[-1].mean((2, 3))
        gap = features[domain > 0].mean(0) - features[domain < 0].mean(0)
        distances.append(float((gap**2).sum() / features.var(0).sum()))
    assert distances[1] < 0.8 * distances[0]


@pytest.mark.parametrize("kind", ["tags", "masked", "domain", "two"])
def test_checkpoint_and_net_to_state_take_new_tasks(kind, tmp_path):
    def run(callbacks=None, max_epochs=4):
        options = {"callbacks": callbacks, "max_epochs": max_epochs, "lr_schedule": "constant"}
        if kind == "two":
            return two_tasks(np.arange(16) % 2 == 0, **options)
        if kind == "domain":
            task, alignment = Multiclass(), Alignment()
            targets = {
                "y": task.encode(task.check(LABELS), np.ones(16)),
                "domain": alignment.encode([1, -1] * 8, np.ones(16)),
            }
            return fit_run(IMAGES, "tiny/cnn", {"y": task, "domain": alignment}, targets, **options)
        task = TagPerToken() if kind == "tags" else MaskedToken(2000)
        targets = {"t": task.encode(parity_tags(TEXTS), np.ones(16))}
        return fit_run(TEXTS, BERT, {"t": task}, targets, freeze_depth=0, **options)

    class Interrupt(Checkpoint):
        def write(self, net):
            super().write(net)
            if len(net.history) == 2:
                raise KeyboardInterrupt

    whole = train(run()).net
    with pytest.raises(KeyboardInterrupt):
        train(run([Interrupt(tmp_path)]))
    assert len(list(tmp_path.glob("*.pt"))) == 1
    interrupted = run([Checkpoint(tmp_path)])
    resumed = train(interrupted)
    assert not list(tmp_path.glob("*.pt"))
    assert len(resumed.net.history) == 4
    assert_equal_weights(whole, resumed.net)
    saved = net_to_state(resumed.net, FineTuneClassifier())
    trunk = interrupted.trunk
    layers = {reads: list(outputs) for reads, outputs in trunk.layers.items()}
    loaded = net_from_state(saved, FineTuneClassifier(), resumed.backbone, layers, trunk.boundary)
    for name, head in loaded.module_.heads.items():
        for key, value in head.state_dict().items():
            assert torch.equal(value, resumed.net.module_.heads[name].state_dict()[key])
    assert {name: vars(task).keys() for name, task in loaded.tasks.items()} == {
        name: vars(task).keys() for name, task in resumed.net.tasks.items()
    }


def test_by_name_of_task_holds_the_tasks_of_estimators():
    assert Task.by_name["Multiclass"] is Multiclass
    assert FineTuneRegressor().fit(IMAGES, np.arange(16.0)).head_.task == "continuous"
