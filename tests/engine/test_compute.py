"""How a network is run: parameters to devices, precisions and batches."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from sktransfer.backbones.batching import BATCHING
from sktransfer.backbones.preprocess import ImageTransform
from sktransfer.engine.compute import Compute, resolve_compute
from sktransfer.exceptions import InvalidParameterError

CPU, GPU = Compute(torch.device("cpu")), Compute(torch.device("cuda", 0))


@pytest.mark.parametrize("name", ["float32", "bfloat16", "float16"])
def test_precision_names_a_torch_dtype(name):
    assert resolve_compute("cpu", name).dtype == getattr(torch, name)


def test_precision_auto_is_bfloat16_if_the_processor_supports_it():
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    flags = next(line for line in lines if line.startswith("flags")).split()
    native = {"avx512_bf16", "amx_tile"} & set(flags)
    assert resolve_compute("cpu", "auto").dtype == (torch.bfloat16 if native else torch.float32)


@pytest.mark.parametrize("wrong", ["double", "float64", None, torch.float32, "Auto"])
def test_precision_rejects_other_values(wrong):
    with pytest.raises(InvalidParameterError, match=r"precision=.*'float32', 'bfloat16', 'float16', 'auto'"):
        resolve_compute("cpu", wrong)


@pytest.mark.parametrize("size", [1, 7, np.int64(7)])
def test_batch_size_is_converted_to_int(size):
    assert type(resolve_compute("cpu", batch_size=size).batch_size) is int


@pytest.mark.parametrize("size", [0, -1, True, 2.0, "8", "Auto", None])
def test_batch_size_rejects_other_values(size):
    with pytest.raises(InvalidParameterError, match=r"batch_size=.* must be 'auto' or an int of at least 1"):
        resolve_compute("cpu", batch_size=size)


def test_batches_group_texts_by_length_up_to_a_number_of_tokens():
    lengths = [3, 400, 5, 400, 400, 1200]
    batches = CPU.batches(lengths)
    assert sorted(place for batch in batches for place in batch) == list(range(6))
    assert batches[0] == [5]  # alone, though it is longer than the budget
    assert all(len(batch) * max(lengths[place] for place in batch) <= 1024 for batch in batches[1:])
    ordered = [lengths[place] for batch in batches for place in batch]
    assert ordered == sorted(lengths, reverse=True)
    assert len(GPU.batches(lengths)) == 1


def test_batches_follow_batch_size_whatever_the_lengths():
    assert Compute(torch.device("cpu"), batch_size=2).batches([1, 5000, 3]) == [[1, 2], [0]]


def test_batches_take_texts_without_tokens():
    assert CPU.batches([0, 0]) == [[0, 1]]
    assert CPU.batches([]) == []


def n_images(compute, **settings):
    (cost,) = BATCHING["image"].batch_costs(ImageTransform(**settings), [None])
    return compute.samples_per_batch(cost, "pixels")


def test_samples_per_batch_falls_with_image_size():
    def size(pixels, compute=CPU):
        return n_images(compute, crop=pixels)

    assert [size(224), size(32), size(1000)] == [4, 64, 1]
    assert size(224, Compute(torch.device("cpu"), torch.bfloat16)) == 8
    assert n_images(CPU, resize=(112, 112)) == 16
    assert n_images(CPU, resize=224) == 4
    assert n_images(CPU) == 4  # of any size: taken for the usual one
    assert size(224, GPU) == 64
    assert size(1000, Compute(torch.device("cpu"), batch_size=5)) == 5
