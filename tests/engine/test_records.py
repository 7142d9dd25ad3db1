"""What a store knows is not computed again: passes go on from the highest stage that is known."""

from __future__ import annotations

import itertools
import os
import signal

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

import sktransfer
from sktransfer import FineTuneClassifier, ImageFeaturizer, TextFeaturizer
from sktransfer.cache.memory import MemoryStore
from sktransfer.engine.compute import Compute
from sktransfer.engine.forward import LayerOutput, _Pass
from tests.engine.test_forward import IMAGES, ask, assert_close, count_stages, one_by_one
from tests.helpers.toys import TEXTS, Listed, image_backbone, text_backbone

CPU = torch.device("cpu")


def backbone_and_samples(modality):
    if modality == "image":
        return image_backbone(), Listed(IMAGES.values), "average"
    return text_backbone(), Listed(list(dict.fromkeys(TEXTS))), "mean"


@pytest.mark.parametrize("modality", ["image", "text"])
def test_forward_resumes_from_the_highest_stored_stage(modality):
    backbone, samples, pooling = backbone_and_samples(modality)
    store = MemoryStore()
    ask(backbone, samples, [LayerOutput(1)], store=store)
    ask(backbone, samples, [LayerOutput(2)], store=store, rows=[0, 1])
    ran = count_stages(backbone)
    found = ask(backbone, samples, [LayerOutput(3, pooling)], store=store, batch_size=100)
    assert ran.count(0) == 0
    assert (ran.count(1), ran.count(2)) == (1, 2)  # one batch goes on from stage 1, one from stage 2
    assert_close(found, one_by_one(backbone, samples, [LayerOutput(3, pooling)]))


@pytest.mark.parametrize("modality", ["image", "text"])
def test_forward_computes_layers_below_the_stored_stage(modality):
    backbone, samples, pooling = backbone_and_samples(modality)
    store, taps = MemoryStore(), [LayerOutput(1, pooling), LayerOutput(3, pooling)]
    ask(backbone, samples, [LayerOutput(2)], store=store)
    assert_close(ask(backbone, samples, taps, store=store), one_by_one(backbone, samples, taps))


def test_forward_reads_a_lower_layer_and_resumes_from_a_higher_stage():
    backbone, store, taps = image_backbone(), MemoryStore(), [LayerOutput(1, "average"), LayerOutput(3, "average")]
    ask(backbone, IMAGES, [LayerOutput(1, "average"), LayerOutput(2)], store=store)
    ran = count_stages(backbone)
    found = ask(backbone, IMAGES, taps, store=store, batch_size=100)
    assert ran == [2]
    assert_close(found, one_by_one(backbone, IMAGES, taps))


def test_cacheable_stages_limits_which_stages_are_stored():
    backbone, store = image_backbone(), MemoryStore()
    ask(
        backbone,
        IMAGES,
        [LayerOutput(3, "average")],
        store=store,
        cacheable_stages=2,
        prefetch=[LayerOutput(2), LayerOutput(1)],
    )
    ran = count_stages(backbone)
    ask(backbone, IMAGES, [LayerOutput(3, "average")], store=store, cacheable_stages=2, batch_size=100)
    assert ran == [2]


def test_prefetch_fills_half_of_the_free_room_in_the_given_order():
    backbone = image_backbone()
    for limit, expected in ((10**9, [2, 1]), (15_000, [2]), (5_000, [])):
        store = MemoryStore(limit=limit)
        ask(backbone, IMAGES, [LayerOutput(3, "average")], store=store, prefetch=[LayerOutput(2), LayerOutput(1)])
        kept = [
            stop
            for stop in (2, 1)
            if store.get(LayerOutput(stop).namespace(backbone, Compute(CPU)), [IMAGES.key(0)])[0] is not None
        ]
        assert kept == expected


def test_prefetch_is_ignored_without_a_store(monkeypatch):
    taken = []
    pooled = _Pass._pooled
    monkeypatch.setattr(_Pass, "_pooled", lambda self, layer, *rest: taken.append(layer) or pooled(self, layer, *rest))
    prefetch = [LayerOutput(2, "average"), LayerOutput(2), LayerOutput(1)]
    for store, expected in (
        (None, {LayerOutput(3, "average")}),
        (MemoryStore(), {LayerOutput(3, "average"), *prefetch}),
    ):
        taken.clear()
        ask(image_backbone(), IMAGES, [LayerOutput(3, "average")], store=store, prefetch=prefetch)
        assert set(taken) == expected


def test_forward_computes_equal_samples_once():
    texts = text_backbone()
    ran = []
    texts.stages[0].register_forward_hook(lambda module, args, out: ran.append(len(args[0])))
    found = ask(texts, Listed(["a bb", "c", "a bb", "a bb"]), [LayerOutput(3, "mean")], batch_size=100)
    assert ran == [2]
    assert torch.equal(found[0][0], found[0][2])
    backbone, store = image_backbone(), MemoryStore()
    twice = Listed([*IMAGES.values, *IMAGES.values])
    backbone.stages[0].register_forward_hook(lambda module, args, out: ran.append(len(args[0])))
    ask(backbone, twice, [LayerOutput(3, "average")], store=store, batch_size=100)
    assert ran[1:] == [len(IMAGES)]


@pytest.mark.parametrize("setting", ["float16", "bfloat16"])
def test_cache_dtype_gives_equal_values_before_and_after_storing(setting):
    backbone, store = image_backbone(), MemoryStore()
    with sktransfer.config_context(cache_dtype=setting):
        first = ask(backbone, IMAGES, [LayerOutput(3, "average"), LayerOutput(1)], store=store)
        second = ask(backbone, IMAGES, [LayerOutput(3, "average"), LayerOutput(1)], store=store)
    exact = one_by_one(backbone, IMAGES, [LayerOutput(3, "average"), LayerOutput(1)])
    assert all(torch.equal(one, two) for a, b in zip(first, second) for one, two in zip(a, b))
    assert {one.dtype for tap in first for one in tap} == {torch.float32}
    assert_close(first, exact, atol=1e-2)
    assert not torch.equal(first[1][0], exact[1][0])
    assert store.info().n_bytes == sum(one.nbytes for tap in exact for one in tap) / 2


def runs(backbone):
    """Return a dict that counts the samples that go through each stage, but for the steps of a training."""
    counts = dict.fromkeys(range(len(backbone.stages)), 0)

    def count(number):
        def hook(module, args, out):
            counts[number] += 0 if torch.is_grad_enabled() else len(args[0])

        return hook

    for number, stage in enumerate(backbone.stages):  # copies take their hooks along
        stage.register_forward_hook(count(number))
    return counts


X = np.random.default_rng(0).random((24, 8, 8, 3)).astype(np.float32)
Y = np.arange(24) % 2


@pytest.mark.parametrize("order", list(itertools.permutations([0, 1, 2])))
def test_layer_search_runs_each_stage_once_per_sample(order):
    backbone = image_backbone(seed=sum(10**i * k for i, k in enumerate(order)))
    counts = runs(backbone)
    for layer in order:
        for fold in (slice(0, 16), slice(8, 24)):
            ImageFeaturizer(backbone, layer=layer).fit(X[fold]).transform(X)
    assert counts == {0: 24, 1: 24, 2: 24}


LAYERS = [(-1, 24), ("auto", 25)]  # number of passes: one image shows which stages have positions


@pytest.mark.parametrize(("layer", "n"), LAYERS)
@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 2, 1, 0), (2, 0, 3, 1)])
def test_freeze_depth_search_runs_each_frozen_stage_once_per_sample(order, layer, n):
    sktransfer.clear_cache()  # preprocessed samples belong to no backbone: other tests may have cached these
    backbone = image_backbone(seed=100 + n + sum(10**i * k for i, k in enumerate(order)))
    counts = runs(backbone)
    for depth in order:
        for fold in (slice(0, 16), slice(8, 24)):
            clf = FineTuneClassifier(backbone, layer=layer, freeze_depth=depth, max_epochs=2, random_state=0)
            clf.fit(X[fold], Y[fold])
    expected = dict.fromkeys(range(3), n)
    assert {stage: counts[stage] for stage in expected} == expected


@pytest.mark.parametrize(("layer", "n"), LAYERS)
def test_predict_reads_stored_values_at_the_freezing_boundary(layer, n):
    backbone = image_backbone(seed=999 + n)
    counts = runs(backbone)
    clf = FineTuneClassifier(backbone, layer=layer, freeze_depth=2, max_epochs=1, random_state=0)
    clf.fit(X[:16], Y[:16])
    clf.predict(X)
    clf.predict_proba(X)
    assert (counts[0], counts[1]) == (n, n)


def test_layer_search_of_texts_runs_each_stage_once_per_sample():
    backbone = text_backbone()
    counts = runs(backbone)
    texts = list(dict.fromkeys(TEXTS))
    for layer in (1, 0, 2):
        TextFeaturizer(backbone, layer=layer).fit_transform(texts)
    assert counts == dict.fromkeys(range(3), len(texts))


@pytest.mark.parametrize(("layer", "n"), LAYERS)
@pytest.mark.parametrize("n_threads", [1, 2])
def test_cache_folder_keeps_values_of_an_interrupted_search(n_threads, layer, n, tmp_path):
    backbone = image_backbone(seed=77 + n)
    counts, stages = runs(backbone), backbone.stages

    def interrupt(module, args, out):
        if counts[2] in (12, 13):
            os.kill(os.getpid(), signal.SIGINT)

    pipeline = make_pipeline(ImageFeaturizer(backbone, layer=layer, batch_size=2, cache=tmp_path), LogisticRegression())
    search = GridSearchCV(pipeline, {"logisticregression__C": [0.1, 1.0]}, cv=2)
    threads = torch.get_num_threads()
    torch.set_num_threads(n_threads)
    try:
        handle = stages[2].register_forward_hook(interrupt)
        backbone.copies.clear()  # copies have the hooks that there were when they were made
        with pytest.raises(KeyboardInterrupt):
            search.fit(X, Y)
        before = counts[2]
        handle.remove()
        backbone.copies.clear()
        search.fit(X, Y)
    finally:
        torch.set_num_threads(threads)
    assert before < 24
    assert n <= counts[2] <= n + 2 * n_threads  # what was in flight, a batch a thread
