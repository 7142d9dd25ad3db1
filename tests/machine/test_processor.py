"""Instructions and caches of processors, as Linux describes them."""

from __future__ import annotations

import pytest
import torch

from sktransfer.machine.processor import Processor, core_cache, processor, this_processor

AVX2, BF16 = frozenset({"avx2", "fma"}), frozenset({"avx2", "avx512_bf16"})
AMX, ARM = frozenset({"amx_bf16", "avx512_bf16", "amx_fp16"}), frozenset({"asimd", "asimdhp", "bf16"})


@pytest.mark.parametrize(
    ("flags", "native"),
    [
        (AVX2, ["float32"]),
        (BF16, ["float32", "bfloat16"]),
        (AMX, ["float32", "bfloat16", "float16"]),
        (ARM, ["float32", "bfloat16", "float16"]),
    ],
    ids=["avx2", "avx512_bf16", "amx", "arm"],
)
def test_multiplies_follows_the_flags(flags, native):
    found = [name for name in ("float32", "bfloat16", "float16") if Processor(flags).multiplies(getattr(torch, name))]
    assert found == native


@pytest.mark.parametrize("limit", ["AVX2", "AVX512_CORE", "AVX2_VNNI"])
def test_multiplies_follows_a_limit_of_onednn(limit):
    assert not Processor(AMX, limit=limit).multiplies(torch.bfloat16)
    assert Processor(AMX, limit=limit).multiplies(torch.float32)
    assert Processor(BF16, limit="AVX512_CORE_BF16").multiplies(torch.bfloat16)


@pytest.mark.parametrize(("mib", "scale"), [(3, 0.5), (16, 1), (17, 1), (40, 2), (100, 4), (500, 4)])
def test_scale_follows_the_cache(mib, scale):
    assert Processor(AVX2, mib * 2**20).scale == scale


def describe(folder, caches):
    for number, (level, size, shared) in enumerate(caches):
        index = folder / f"index{number}"
        index.mkdir()
        for name, value in (("level", level), ("size", size), ("shared_cpu_list", shared)):
            (index / name).write_text(f"{value}\n")


@pytest.mark.parametrize(
    ("caches", "kib"),
    [
        ([(1, "32K", "0"), (1, "32K", "0"), (2, "1024K", "0"), (3, "32768K", "0-1")], 1024 + 16384),
        ([(1, "48K", "0,8"), (2, "2048K", "0,8"), (3, "32M", "0-15")], 2048 + 4096),  # two threads per core
        ([(1, "64K", "0"), (2, "4M", "0-3")], 1024),
        ([], 0),
        ([(1, "32K", "0"), (2, "unknown", "0")], 0),
    ],
    ids=["own and shared", "two threads a core", "no third level", "none", "damaged"],
)
def test_core_cache_is_the_part_of_one_core(caches, kib, tmp_path):
    describe(tmp_path, caches)
    assert core_cache(tmp_path) == kib * 1024


def test_processor_names_torch_and_the_instructions():
    name = processor(torch.device("cpu"))
    assert name.startswith(torch.__version__)
    assert {flag for flag in this_processor().flags if flag.startswith("avx")} <= set(name.split())
