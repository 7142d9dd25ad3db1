"""Precisions that a processor emulates."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest
import torch

from sktransfer.engine.compute import Compute
from sktransfer.machine.precision import emulation_factor, emulation_message, native_precision
from sktransfer.machine.processor import Processor

AVX2, BF16 = Processor(frozenset({"avx2"})), Processor(frozenset({"avx2", "avx512_bf16"}))


def test_native_precision_is_never_an_emulated_one():
    limited = Processor(BF16.flags, limit="AVX2")
    assert [native_precision(one) for one in (AVX2, BF16, limited)] == ["float32", "bfloat16", "float32"]


def test_emulation_message_names_the_figure_and_the_remedy():
    message = emulation_message(torch.bfloat16, AVX2, 9.12)
    assert "precision='bfloat16' is emulated" in message
    assert "9.1 times" in message
    assert "precision='float32', or 'auto'" in message
    assert "ONEDNN_MAX_CPU_ISA=AVX2 allows" in emulation_message(torch.float16, Processor(BF16.flags, limit="AVX2"), 5)


@pytest.mark.parametrize(
    ("dtype", "processor", "factor"),
    [(torch.bfloat16, BF16, 9.0), (torch.float32, AVX2, 9.0), (torch.bfloat16, AVX2, 1.1)],
    ids=["native", "float32", "not slow"],
)
def test_emulation_message_is_empty(dtype, processor, factor):
    assert emulation_message(dtype, processor, factor) == ""


def test_emulation_factor_is_measured():
    assert emulation_factor(torch.bfloat16) > 0
    assert emulation_factor(torch.bfloat16) is emulation_factor(torch.bfloat16)  # once


LIMITED = """
import warnings
import numpy as np, sktransfer
from sktransfer import ImageFeaturizer
images = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8)
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    exact = ImageFeaturizer(cache=None, precision="auto").fit_transform(images)
    print(len(caught))
    low = ImageFeaturizer(cache=None, precision="bfloat16").fit_transform(images)
    ImageFeaturizer(cache=None, precision="bfloat16").fit_transform(images)
print([one.category.__name__ for one in caught], "AVX2" in str(caught[0].message) if caught else "")
same = ImageFeaturizer(cache=None).fit_transform(images)
print(np.array_equal(exact, same), float(np.abs(low - same).max()) < 0.1 * float(np.abs(same).max()))
"""


@pytest.mark.process
@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="ONEDNN_MAX_CPU_ISA limits x86 only")
def test_precision_on_a_processor_that_emulates_it():
    environment = {**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX2"}
    done = subprocess.run([sys.executable, "-c", LIMITED], capture_output=True, text=True, env=environment, check=True)
    silent, warned, outputs = done.stdout.splitlines()
    assert silent == "0"  # "auto" is float32
    assert warned == "['EmulatedPrecisionWarning'] True"
    assert outputs == "True True"


def test_budget_follows_the_processor():
    compute = Compute(torch.device("cpu"))
    assert compute.budget("tokens") in (512, 1024, 2048, 4096)
    assert compute.budget("pixels") == compute.budget("tokens") * 784
