"""Facts about the processor: model, instructions and caches."""

from __future__ import annotations

import functools
import os
import platform
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

__all__ = ["Processor", "core_cache", "processor", "this_processor"]

# Lines of /proc/cpuinfo, instructions and environment variables by which torch, oneDNN and MKL choose algorithms.
_FACTS = ("vendor_id", "cpu family", "model", "CPU implementer", "CPU architecture", "CPU part")
_FLAGS = ("amx", "asimd", "avx", "bf16", "f16c", "fma", "i8mm", "sse4", "sve")
_LIMITS = ("DNNL_MAX_CPU_ISA", "MKL_CBWR", "MKL_ENABLE_INSTRUCTIONS", "ONEDNN_MAX_CPU_ISA")

# Instructions that multiply numbers of a type, on x86 and on ARM.
_PRODUCTS = {
    torch.bfloat16: ("avx512_bf16", "amx_bf16", "bf16"),
    torch.float16: ("avx512_fp16", "amx_fp16", "asimdhp"),
}
_AMX_LIMITS = ("ALL", "DEFAULT", "AVX512_CORE_AMX", "AVX512_CORE_AMX_FP16", "AVX10_2_512_AMX_2")
# By instruction, the values of ONEDNN_MAX_CPU_ISA that allow oneDNN to use it.
_ALLOWED_BY = {
    "avx512_bf16": (*_AMX_LIMITS, "AVX512_CORE_BF16", "AVX512_CORE_FP16", "AVX10_1_512", "AVX10_2_512"),
    "avx512_fp16": (*_AMX_LIMITS, "AVX512_CORE_FP16", "AVX10_1_512", "AVX10_2_512"),
    "amx_bf16": _AMX_LIMITS,
    "amx_fp16": ("ALL", "DEFAULT", "AVX512_CORE_AMX_FP16", "AVX10_2_512_AMX_2"),
}

_USUAL_CACHE = 16 * 2**20  # bytes, of one core, for a processor whose caches are unknown


@dataclass(frozen=True)
class Processor:
    """Facts that decide how a network is best run on a processor.

    Parameters
    ----------
    flags : iterable of str
        Instructions, as Linux names them.
    cache : int, default=16 MiB
        Bytes of the caches of one core: of those that it shares with others, its part.
    limit : str, default="DEFAULT"
        Value of `ONEDNN_MAX_CPU_ISA`, which keeps oneDNN from using instructions.
    """

    flags: frozenset[str]
    cache: int = _USUAL_CACHE
    limit: str = "DEFAULT"

    def multiplies(self, dtype: torch.dtype) -> bool:
        """Return whether there are instructions for products of a type. Others are emulated.

        Parameters
        ----------
        dtype : torch.dtype
            Type of the factors.

        Examples
        --------
        >>> import torch
        >>> from sktransfer.machine.processor import Processor
        >>> [Processor(flags).multiplies(torch.bfloat16) for flags in (frozenset({"avx2"}), frozenset({"amx_bf16"}))]
        [False, True]
        """
        return dtype not in _PRODUCTS or any(
            flag in self.flags and self.limit in _ALLOWED_BY.get(flag, (self.limit,)) for flag in _PRODUCTS[dtype]
        )

    @property
    def scale(self) -> float:
        """Size of a batch that fills the caches of one core, relative to one for 16 MiB: 0.5, 1, 2 or 4."""
        return next((scale for scale in (4.0, 2.0, 1.0) if self.cache >= scale * _USUAL_CACHE), 0.5)


@functools.cache
def this_processor() -> Processor:
    """Return the processor of this machine.

    Examples
    --------
    >>> from sktransfer.machine.processor import this_processor
    >>> this_processor().cache > 0
    True
    """
    limit = os.environ.get("ONEDNN_MAX_CPU_ISA") or os.environ.get("DNNL_MAX_CPU_ISA") or "DEFAULT"
    caches = Path("/sys/devices/system/cpu/cpu0/cache")
    return Processor(_flags(_cpuinfo()), core_cache(caches) or _USUAL_CACHE, limit.upper())


def core_cache(folder: Path) -> int:
    """Return the bytes of the caches of one core from the second level on, of shared caches its part, or 0 if unknown.

    Parameters
    ----------
    folder : Path
        Folder in which Linux describes the caches of a core.
    """
    total, per_core = 0, 1
    with suppress(OSError, ValueError, KeyError):
        for cache in sorted(folder.glob("index*")):
            level, size, shared = ((cache / name).read_text().strip() for name in ("level", "size", "shared_cpu_list"))
            if int(level) == 1:
                per_core = _n_listed(shared)  # threads of a core share its first level
            else:
                total += int(size[:-1]) * {"K": 2**10, "M": 2**20}[size[-1]] * per_core // _n_listed(shared)
    return total


def _n_listed(text: str) -> int:
    """Return the number of processors of a list such as 0-3,8."""
    ends = (part.partition("-") for part in text.split(","))
    return sum(int(last or first) - int(first) + 1 for first, _, last in ends)


def processor(device: torch.device) -> str:
    """Return the processor or GPU that computes on a device, and the version of torch.

    The last bits of results depend on them: libraries choose their algorithms by vendor, model and instructions.

    Parameters
    ----------
    device : torch.device

    Examples
    --------
    >>> import torch
    >>> from sktransfer.machine.processor import processor
    >>> torch.__version__ in processor(torch.device("cpu"))
    True
    """
    if device.type == "cuda" and torch.cuda.is_available():
        model = [torch.cuda.get_device_name(device.index), str(torch.cuda.get_device_capability(device.index))]
    else:
        model = [platform.machine(), torch.backends.cpu.get_cpu_capability(), *_cpu_model()]
        model += [f"{name}={os.environ[name]}" for name in _LIMITS if name in os.environ]
    return " ".join([torch.__version__, *model])


@functools.cache
def _cpu_model() -> list[str]:
    """Return vendor, model and vector instructions."""
    facts = _cpuinfo()
    if not facts:
        return [platform.processor()]
    flags = (facts.get("flags") or facts.get("Features") or "").split()
    return [
        *(facts[name] for name in _FACTS if name in facts),
        *sorted(flag for flag in flags if flag.startswith(_FLAGS)),
    ]


@functools.cache
def _cpuinfo() -> Mapping[str, str]:
    """Return what Linux tells of the first processor; nothing on other systems."""
    with suppress(OSError):
        first = Path("/proc/cpuinfo").read_text(encoding="utf-8").partition("\n\n")[0]
        return dict(re.findall(r"^([\w ]+?)\s*:[ \t]*(.*)$", first, re.MULTILINE))
    return {}


def _flags(facts: Mapping[str, str]) -> frozenset[str]:
    flags: Iterable[str] = (facts.get("flags") or facts.get("Features") or "").split()
    if not flags:  # not Linux
        known: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()  # since torch 2.9
        flags = [name for name, value in known.items() if value is True]
    return frozenset(flags)
