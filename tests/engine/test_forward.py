from __future__ import annotations

import threading

import numpy as np
import pytest
import torch

import sktransfer
from sktransfer.backbones.backbone import Backbone, replace_stages
from sktransfer.backbones.pooling import pool
from sktransfer.backbones.preprocess import ImageTransform
from sktransfer.backbones.stages import ImageStage
from sktransfer.cache.memory import MemoryStore
from sktransfer.engine.compute import Compute
from sktransfer.engine.forward import LayerOutput, forward
from sktransfer.engine.inputs import PreprocessedSamples, collate
from sktransfer.exceptions import InvalidSampleError
from tests.helpers.toys import TEXTS, Listed, image_backbone, images, text_backbone, token_backbone

CPU = torch.device("cpu")
IMAGES = images(7)
MODALITIES = {
    "image": (
        image_backbone,
        IMAGES,
        [LayerOutput(1, "average"), LayerOutput(3, "flatten"), LayerOutput(2), LayerOutput(0)],
    ),
    "tokens": (
        token_backbone,
        IMAGES,
        [LayerOutput(2, "class_token"), LayerOutput(2, "average"), LayerOutput(1, "grid2")],
    ),
    "text": (
        text_backbone,
        Listed(TEXTS),
        [LayerOutput(1, "mean"), LayerOutput(3, "mean"), LayerOutput(3, "last_token"), LayerOutput(2), LayerOutput(0)],
    ),
}


@pytest.fixture(params=MODALITIES)
def case(request):
    build, samples, taps = MODALITIES[request.param]
    return build(), Listed(samples.values), taps


def ask(backbone, samples, taps, *, batch_size=3, **options):
    """Return for each tap one tensor a row, in the order of the rows asked for."""
    found = {}
    inputs = PreprocessedSamples(samples, backbone.preprocess)
    options.setdefault("compute", Compute(CPU, batch_size=batch_size))
    for rows, outputs in forward(backbone, inputs, taps, **options):
        assert not set(rows) & set(found)
        assert all(len(tap) == len(rows) for tap in outputs)
        found |= {row: [tap[k] for tap in outputs] for k, row in enumerate(rows)}
    rows = options.get("rows")
    order = range(len(samples)) if rows is None else rows
    assert sorted(found) == sorted(order)
    return [[found[row][k] for row in order] for k in range(len(taps))]


def one_by_one(backbone, samples, taps):
    """Return the same by hand: each sample alone, each tap by itself."""
    results = []
    for tap in taps:
        outputs = []
        for value in samples.values:
            values, mask = collate(backbone.preprocess([value]), backbone.modality)
            for stage in backbone.stages[: tap.stop]:
                values = stage(values, mask)
            if tap.pooling is not None:
                values = pool(values, mask, tap.pooling, prefix_tokens=backbone.prefix_tokens)
            outputs.append(values[0])
        results.append(outputs)
    return results


def assert_close(found, expected, atol=1e-5):
    for tap, other in zip(found, expected, strict=True):
        largest = max(float(one.abs().max()) for one in other)
        for one, two in zip(tap, other, strict=True):
            torch.testing.assert_close(one, two, rtol=0, atol=atol * max(largest, 1e-12))


def count_stages(backbone):
    """Return a list that grows by a stage's number each time that it, or a copy of it, runs."""
    ran = []
    for stages in (backbone.stages, *backbone.copies.values()):
        for number, stage in enumerate(stages):
            stage.register_forward_hook(lambda *_, number=number: ran.append(number))
    return ran


@pytest.mark.parametrize("batch_size", [1, 2, 3, 100])
@pytest.mark.parametrize("kept", [False, True])
def test_forward_gives_each_row_the_output_of_its_sample_alone(case, batch_size, kept):
    backbone, samples, taps = case
    store = MemoryStore() if kept else None
    found = ask(backbone, samples, taps, batch_size=batch_size, store=store)
    assert_close(found, one_by_one(backbone, samples, taps))


def test_forward_gives_different_features_for_different_samples(case):
    """Else no test here could tell one row from another."""
    backbone, samples, taps = case
    unlike = samples.values if backbone.modality == "image" else list(dict.fromkeys(samples.values))
    for tap in ask(backbone, Listed(unlike), taps[:2]):
        values = torch.stack(tap)
        distances = torch.cdist(values, values).fill_diagonal_(torch.inf)
        assert distances.min() > 1e-3 * values.abs().max()


def test_forward_reads_all_values_from_the_store_the_second_time(case):
    backbone, samples, taps = case
    store = MemoryStore()
    first = ask(backbone, samples, taps, store=store)
    ran = count_stages(backbone)
    second = ask(backbone, samples, taps, store=store, batch_size=2)
    assert ran == []
    assert all(torch.equal(one, two) for a, b in zip(first, second) for one, two in zip(a, b))


def test_forward_computes_only_rows_missing_from_the_store(case):
    backbone, samples, taps = case
    store = MemoryStore()
    ask(backbone, samples, taps, store=store, rows=[0, 2])
    samples.loaded.clear()
    ran = count_stages(backbone)
    found = ask(backbone, samples, taps, store=store, rows=[2, 3, 0], batch_size=10)
    assert set(samples.loaded) == {3} or backbone.modality == "text"  # whose ids are made again, as cheaply
    assert ran == list(range(max(tap.stop for tap in taps)))
    assert_close(found, [[tap[row] for row in (2, 3, 0)] for tap in one_by_one(backbone, samples, taps)])


@pytest.mark.parametrize("setting", ["auto", "float16"])
@pytest.mark.parametrize("n_layers", [1, 2, 5])
def test_forward_gives_cached_vectors_of_many_rows_as_one_tensor(n_layers, setting):
    backbone, store = text_backbone(), MemoryStore()
    layers = [LayerOutput(1, "mean"), LayerOutput(3, "mean"), LayerOutput(3, "last_token"), LayerOutput(2, "max")][
        :n_layers
    ]
    many = Listed(TEXTS * 300)  # more rows than one lookup has, most of them equal to another
    with sktransfer.config_context(cache_dtype=setting):
        first = ask(backbone, many, layers, store=store)
        ran, hits = count_stages(backbone), store.info().hits
        again = ask(backbone, many, layers, store=store)
        inputs = PreprocessedSamples(many, backbone.preprocess)
        kinds = {type(one) for _, parts in forward(backbone, inputs, layers, compute=Compute(CPU), store=store)
                 for one in parts}  # fmt: skip
    assert ran == []
    assert kinds == {torch.Tensor}
    assert store.info().hits > hits
    for tap, other in zip(first, again, strict=True):
        assert all(one.dtype == two.dtype == torch.float32 and torch.equal(one, two) for one, two in zip(tap, other))


def test_forward_gives_cached_vectors_that_may_be_changed():
    backbone, store, layers = text_backbone(), MemoryStore(), [LayerOutput(3, "mean")]
    first = torch.stack(ask(backbone, Listed(TEXTS), layers, store=store)[0])
    inputs = PreprocessedSamples(Listed(TEXTS), backbone.preprocess)
    for _, (vectors,) in forward(backbone, inputs, layers, compute=Compute(CPU), store=store):
        vectors.zero_()
    assert torch.equal(torch.stack(ask(backbone, Listed(TEXTS), layers, store=store)[0]), first)


def test_forward_shares_stored_values_of_equal_samples():
    backbone, store = image_backbone(), MemoryStore()
    ask(backbone, images(2), [LayerOutput(3, "average")], store=store)
    ran = count_stages(backbone)
    values = images(2).values
    ask(backbone, Listed([values[1], values[0], values[1].copy()]), [LayerOutput(3, "average")], store=store)
    assert ran == []


def test_forward_computes_all_layers_in_one_pass(case):
    backbone, samples, taps = case
    ran = count_stages(backbone)
    ask(backbone, samples, taps, batch_size=100)
    assert ran == list(range(max(tap.stop for tap in taps)))


def test_forward_skips_stages_above_the_highest_layer():
    backbone = image_backbone()
    ran = count_stages(backbone)
    ask(backbone, IMAGES, [LayerOutput(1, "average")], batch_size=100)
    assert ran == [0]


def test_forward_computes_again_without_a_store():
    backbone = image_backbone()
    ran = count_stages(backbone)
    for _ in range(2):
        ask(backbone, IMAGES, [LayerOutput(1, "average")], batch_size=100)
    assert ran == [0, 0]


def test_forward_takes_rows_in_any_order(case):
    backbone, samples, taps = case
    rows = [5, 0, 3]
    expected = one_by_one(backbone, samples, taps)
    assert_close(ask(backbone, samples, taps, rows=rows), [[tap[row] for row in rows] for tap in expected])
    assert (
        list(forward(backbone, PreprocessedSamples(samples, backbone.preprocess), taps, rows=[], compute=Compute(CPU)))
        == []
    )


def test_forward_of_a_text_does_not_depend_on_longer_texts_in_its_batch():
    backbone, taps = text_backbone(), [LayerOutput(3, "mean"), LayerOutput(3, "max"), LayerOutput(3)]
    alone = ask(backbone, Listed(["bb ccc"]), taps)
    beside = ask(backbone, Listed(["bb ccc", "a bb ccc dddd eeeee f"]), taps, batch_size=2)
    assert_close([tap[:1] for tap in beside], alone)


def test_forward_puts_texts_of_similar_length_into_one_batch():
    backbone, shapes = text_backbone(), []
    backbone.stages[0].register_forward_hook(lambda module, args, out: shapes.append(tuple(out.shape[:2])))
    ask(backbone, Listed(["a", "a b c d", "a b", "a b c d e"]), [LayerOutput(1, "mean")], batch_size=2)
    assert shapes == [(2, 5), (2, 2)]


def test_forward_returns_texts_without_padding():
    backbone = text_backbone()
    ids, values = ask(backbone, Listed(["a", "bb ccc dddd"]), [LayerOutput(0), LayerOutput(2)], batch_size=2)
    assert [one.tolist() for one in ids] == [[1], [2, 3, 4]]
    assert [tuple(one.shape) for one in values] == [(1, 4), (3, 4)]


def test_forward_keeps_outputs_below_an_in_place_stage():
    backbone = image_backbone()  # its second stage begins with an in-place ReLU
    (stem,) = ask(backbone, IMAGES, [LayerOutput(1)])
    together = ask(backbone, IMAGES, [LayerOutput(1), LayerOutput(2), LayerOutput(3)])
    assert min(float(one.min()) for one in stem) < 0
    assert_close(together[:1], [stem])


def test_forward_returns_tensors_that_own_their_memory(case):
    backbone, samples, taps = case
    store = MemoryStore()
    outputs = ask(backbone, samples, taps, store=store, batch_size=100)
    cached = {entry.value.untyped_storage().data_ptr() for entry in store._entries.values()}
    assert cached
    for layer, tap in zip(taps, outputs):
        for one in tap:
            n_together = len(samples) if layer.pooling else 1  # the vectors of a batch share a copy
            assert one.nbytes <= one.untyped_storage().nbytes() <= n_together * one.nbytes
            assert one.untyped_storage().data_ptr() not in cached


def test_forward_returns_float32_on_the_cpu_without_gradient(case):
    backbone, samples, taps = case
    backbone.stages.requires_grad_(True)  # as someone who trains them elsewhere may have done
    for tap, outputs in zip(taps, ask(backbone, samples, taps)):
        ids = tap.stop == 0 and backbone.modality == "text"
        assert {one.dtype for one in outputs} == {torch.int64 if ids else torch.float32}
        assert not any(one.requires_grad for one in outputs)
        assert {one.device for one in outputs} == {CPU}


def test_forward_restores_the_gradient_mode_of_the_caller():
    backbone = image_backbone()
    inputs = PreprocessedSamples(IMAGES, backbone.preprocess)
    for _ in forward(backbone, inputs, [LayerOutput(1)], compute=Compute(CPU)):
        assert torch.is_grad_enabled()


def test_forward_leaves_parameters_and_buffers_unchanged(case):
    backbone, samples, taps = case
    before = {name: tensor.clone() for name, tensor in backbone.stages.state_dict().items()}
    ask(backbone, samples, taps, store=MemoryStore())
    assert all(torch.equal(tensor, before[name]) for name, tensor in backbone.stages.state_dict().items())


def test_replace_stages_keeps_stored_values_of_lower_stages():
    plain, store = image_backbone(), MemoryStore()
    other = replace_stages(plain, 2, [image_backbone(seed=1).stages[2]])
    ask(plain, IMAGES, [LayerOutput(2), LayerOutput(3, "average")], store=store)
    ran = count_stages(plain)
    (below,) = ask(other, IMAGES, [LayerOutput(2)], store=store)
    assert ran == []
    (above,) = ask(other, IMAGES, [LayerOutput(3, "average")], store=store)
    assert_close([below, above], one_by_one(other, IMAGES, [LayerOutput(2), LayerOutput(3, "average")]))


def test_forward_gives_right_values_with_a_store_that_is_too_small(case):
    backbone, samples, taps = case
    store = MemoryStore(limit=6000)
    for _ in range(2):
        assert_close(ask(backbone, samples, taps, store=store), one_by_one(backbone, samples, taps))
    assert store.info().n_bytes <= 6000


def test_forward_is_thread_safe():
    from concurrent.futures import ThreadPoolExecutor

    backbone, store, taps = image_backbone(), MemoryStore(), [LayerOutput(1, "average"), LayerOutput(3, "average")]
    expected = one_by_one(backbone, IMAGES, taps)
    with ThreadPoolExecutor(4) as threads:
        for found in threads.map(lambda _: ask(backbone, Listed(IMAGES.values), taps, store=store), range(12)):
            assert_close(found, expected)


def test_forward_rejects_images_of_different_sizes():
    from sktransfer.exceptions import InvalidParameterError

    backbone = image_backbone(preprocess=ImageTransform())
    samples = Listed([np.zeros((8, 8, 3), np.float32), np.zeros((8, 9, 3), np.float32)])
    with pytest.raises(InvalidParameterError, match="resize"):
        ask(backbone, samples, [LayerOutput(1, "average")])


@pytest.fixture
def three_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("setting", ["auto", "float16"])
def test_forward_gives_equal_values_with_several_threads(case, three_threads, setting):
    backbone, samples, taps = case
    many = Listed(samples.values * 30)
    expected = one_by_one(backbone, samples, taps)
    store, ran = MemoryStore(), set()
    backbone.stages[0].register_forward_hook(lambda *_: ran.add(threading.get_ident()))
    with sktransfer.config_context(cache_dtype=setting):  # holds for the threads that work for this one
        for _ in range(2):
            found = ask(backbone, many, taps, store=store, batch_size=1)
            assert_close([tap[: len(samples)] for tap in found], expected, atol=1e-5 if setting == "auto" else 1e-2)
            assert_close([tap[-len(samples) :] for tap in found], expected, atol=1e-5 if setting == "auto" else 1e-2)
    assert threading.get_ident() not in ran


def test_forward_names_the_row_of_a_damaged_sample_from_any_thread(three_threads):
    from sktransfer.exceptions import InvalidSampleError

    class Damaged(Listed):
        def load(self, row):
            if row == 37:
                raise InvalidSampleError(row, "is damaged")
            return super().load(row)

    with pytest.raises(InvalidSampleError, match="row 37: is damaged"):
        ask(image_backbone(), Damaged(images(50).values), [LayerOutput(3, "average")], batch_size=1)


class Pooled(torch.nn.Module):
    """Texts become vectors here, as behind the pooling of a sentence encoder."""

    def forward(self, values, mask):
        return pool(values, mask, "mean")


def test_forward_resumes_from_a_stage_that_pools_texts_into_vectors():
    plain, store = text_backbone(), MemoryStore()
    stages = [*zip(plain.stage_names, plain.stages), ("pooled", Pooled()), ("dense", ImageStage(torch.nn.Linear(4, 5)))]
    options = {"modality": "text", "preprocess": plain.preprocess, "pooling": "mean"}
    backbone = Backbone(name="toy/vectors", stages=stages, **options)
    samples = Listed(TEXTS)
    expected = one_by_one(backbone, samples, [LayerOutput(5, "mean"), LayerOutput(4)])
    assert_close(ask(backbone, samples, [LayerOutput(5, "mean"), LayerOutput(4)]), expected)
    ask(backbone, samples, [LayerOutput(4)], store=store)
    ran = count_stages(backbone)
    assert_close(ask(backbone, samples, [LayerOutput(5, "mean")], store=store), expected[:1])
    assert set(ran) == {4}


class Gaps(Listed):
    def load(self, row):
        if self.values[row] is None:
            raise InvalidSampleError(row, "missing")
        return super().load(row)

    def key(self, row):
        return b"gap" if self.values[row] is None else super().key(row)

    def path(self, row):
        return None


@pytest.mark.parametrize("n_gaps", [0, 1, 3, 6])
@pytest.mark.parametrize("stored", [False, True])
def test_leave_out_skips_unreadable_samples_and_stores_nothing_for_them(n_gaps, stored):
    backbone, images = image_backbone(), list(IMAGES.values)[:6]
    images[:n_gaps] = [None] * n_gaps
    store = MemoryStore() if stored else None
    inputs = PreprocessedSamples(Gaps(images), backbone.preprocess, leave_out=True)
    compute = Compute(CPU, batch_size=2)
    found = {}
    for rows, (tap,) in (
        one for one in forward(backbone, inputs, [LayerOutput(2)], compute=compute, store=store) if one[0]
    ):
        found.update(zip(rows, tap))
    assert sorted(found) == list(range(n_gaps, 6))
    left_out = set(range(n_gaps)) if not stored else {0} if n_gaps else set()  # equal samples are tried once
    assert set(inputs.left_out) == left_out
    if stored:
        assert store.info().n_entries == 6 - n_gaps
