"""Stages made ready to be run, the backbone's own left as they are."""

from __future__ import annotations

import gc
import pickle
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from sktransfer.engine.compute import Compute
from sktransfer.engine.inference import BatchInvariantConv2d, has_convolutions, prepare_for_inference, prepare_head
from tests.helpers.toys import image_backbone, text_backbone

CPU = Compute(torch.device("cpu"))


def test_prepare_for_inference_shares_unchanged_weights():
    backbone = text_backbone()
    copied = zip(prepare_for_inference(backbone, CPU).parameters(), backbone.stages.parameters(), strict=True)
    assert all(one is other for one, other in copied)


def test_prepare_for_inference_copies_once_per_device_and_precision():
    backbone = text_backbone()
    packed = len(pickle.dumps(backbone))
    meta = prepare_for_inference(backbone, Compute(torch.device("meta")))
    half = prepare_for_inference(backbone, Compute(torch.device("cpu"), torch.bfloat16))
    assert {p.device.type for p in meta.parameters()} == {"meta"}
    assert {p.dtype for p in half.parameters()} == {torch.bfloat16}
    assert {(p.device.type, p.dtype) for p in backbone.stages.parameters()} == {("cpu", torch.float32)}
    assert prepare_for_inference(backbone, Compute(torch.device("meta"))) is meta
    assert len(pickle.dumps(backbone)) == packed  # copies are made anew where they are wanted


def test_prepare_for_inference_uses_channels_last_for_convolutions():
    backbone = image_backbone()
    assert has_convolutions(backbone.stages)
    assert not has_convolutions(text_backbone().stages)
    before = {name: tensor.clone() for name, tensor in backbone.stages.state_dict().items()}
    stages = prepare_for_inference(backbone, CPU)
    convolutions = [module for module in stages.modules() if isinstance(module, torch.nn.Conv2d)]
    assert all(one.weight.is_contiguous(memory_format=torch.channels_last) for one in convolutions)
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in stages.modules())
    assert all(torch.equal(tensor, before[name]) for name, tensor in backbone.stages.state_dict().items())
    assert not any(p.requires_grad for p in stages.parameters())


@pytest.mark.parametrize("groups", [1, 4])
def test_convolution_keeps_ordered_weights_from_the_second_single_image_on(groups):
    torch.manual_seed(0)
    layer = torch.nn.Conv2d(4, 8, 3, stride=2, padding=1, groups=groups).requires_grad_(False)
    convolution = BatchInvariantConv2d(layer.to(memory_format=torch.channels_last))
    images = torch.randn(5, 4, 9, 9).contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        together = convolution(images)
        assert convolution._alone == (None, None)
        for row, image in enumerate(images.split(1)):
            assert torch.equal(convolution(image)[0], together[row])
            assert (convolution._alone[1] is None) == (row == 0)
        assert not torch.is_tensor(convolution._alone[1]) or convolution._alone[1].is_mkldnn
        convolution(images[:1, :, :7])  # another size
        assert convolution._alone[1] is None


def test_convolution_keeps_no_ordered_weights_that_give_other_bits(monkeypatch):
    convolution = BatchInvariantConv2d(torch.nn.Conv2d(3, 8, 3).requires_grad_(False))
    image = torch.ones(1, 3, 9, 9)
    with torch.inference_mode():
        expected = convolution(image)
        monkeypatch.setattr(convolution, "_ordered", lambda values, ordered: expected + 1)
        for _ in range(2):
            assert torch.equal(convolution(image), expected)
    assert convolution._alone[1] is False


def test_prepare_for_inference_gives_all_threads_one_copy():
    backbone = image_backbone()
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda _: prepare_for_inference(backbone, CPU), range(32)))
    assert len(set(map(id, found))) == 1


def test_compiled_stages_give_equal_outputs(tmp_path, monkeypatch):
    # Kernels in the user's folder may have been compiled for another processor.
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    backbone = image_backbone()
    compiled = prepare_for_inference(backbone, Compute(torch.device("cpu"), compiled=True))
    assert compiled is not prepare_for_inference(backbone, CPU)
    values = torch.randn(2, 3, 8, 8)
    with torch.inference_mode():
        found, expected = compiled[0](values), prepare_for_inference(backbone, CPU)[0](values)
    assert compiled[0]._compiled_call_impl is not None
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_prepare_head_is_kept_until_a_weight_changes():
    head = torch.nn.Sequential(torch.nn.Linear(4, 3))
    values = torch.randn(2, 4)
    prepared = prepare_head(head)
    assert prepare_head(head) is prepared
    for change in (
        lambda: head[0].weight.add_(1),
        lambda: head.load_state_dict({name: 2 * one for name, one in head.state_dict().items()}),
        lambda: setattr(head[0], "bias", torch.nn.Parameter(torch.ones(3))),
        lambda: head.append(torch.nn.ReLU()),
    ):
        with torch.no_grad():
            change()
            assert prepare_head(head) is not prepared
            prepared = prepare_head(head)
            torch.testing.assert_close(prepared(values), head(values))


def test_prepare_head_is_forgotten_with_the_head():
    head = torch.nn.Linear(4, 3)
    prepared = weakref.ref(prepare_head(head))
    del head
    gc.collect()
    assert prepared() is None


def test_prepare_head_keeps_no_copy_of_weights_whose_changes_are_not_counted():
    with torch.inference_mode():
        head = torch.nn.Linear(4, 3)
        prepared = prepare_head(head)
        assert prepare_head(head) is not prepared
