"""State of the simulated devices: memory, copies, random numbers, and counts."""

from __future__ import annotations

import os
import threading
import weakref
from collections import Counter

import torch
from torch import Tensor

CPU = torch.device("cpu")
BLOCK = 512  # bytes that the allocator of CUDA rounds up to
lock = threading.RLock()
_thread = threading.local()  # each thread has a current device
_generators = weakref.WeakValueDictionary()  # by the address that C++ knows them by
_active: list[Simulation] = []


class Simulation:
    """Devices, their memory and random numbers, and counts of what they were asked for.

    Parameters
    ----------
    n_devices : int, default=2
        Number of devices.
    memory : int, default=16 GiB
        Bytes of each device.
    capability : tuple of int, default=(9, 0)
        Compute capability.
    has_float64 : bool, default=True
        Whether tensors may be float64, which those of MPS cannot be.
    """

    def __init__(self, n_devices=2, memory=16 * 2**30, capability=(9, 0), has_float64=True):
        self.n_devices, self.memory, self.capability, self.pid = n_devices, memory, capability, os.getpid()
        self.has_float64 = has_float64
        self.used, self.most = [0] * n_devices, [0] * n_devices
        self.generators = tuple(CudaGenerator(index) for index in range(n_devices))
        self.launches = self.uploads = self.uploaded = self.downloads = self.pickled = 0
        self.syncs, self.hazards = Counter(), []
        self.is_asked = self.is_initialized = False
        self._downloads = []  # targets of unfinished copies to the CPU, with their values
        self._sources = []  # pinned memory that is being read, with its content when the copy began

    def reset(self):
        """Set all counts to 0."""
        self.launches = self.uploads = self.uploaded = self.downloads = self.pickled = 0
        self.syncs, self.hazards = Counter(), []

    def index(self, device=None):
        """Return the index of a device, or that of the thread's current device."""
        device = torch.device("cuda", device) if isinstance(device, int) else torch.device(device or "cuda")
        index = getattr(_thread, "index", 0) if device.index is None else device.index
        if device.type != "cuda" or not 0 <= index < self.n_devices:
            raise torch.AcceleratorError(f"CUDA error: invalid device ordinal ({device})")
        return index

    def set_device(self, device):
        """Set the thread's current device, unless it is -1, and return the one before."""
        before, _thread.index = self.index(), self.index() if device == -1 else self.index(device)
        return before

    def is_available(self):
        """Return whether this process may use the devices. A fork of a process that used them may not."""
        self.is_asked |= self.pid == os.getpid()
        return self.pid == os.getpid() or not self.is_asked

    def wait(self, reason):
        """Finish all copies, as a CPU that waits for the device finds them."""
        with lock:
            self.syncs[reason] += 1
            downloads, self._downloads = self._downloads, []
            sources, self._sources = self._sources, []
        for target, value in downloads:
            with torch.inference_mode():
                target.copy_(value)
        self.hazards += [f"pinned {tuple(a.shape)} was changed too early" for a, b in sources if not torch.equal(a, b)]

    def copy(self, source, target, non_blocking=False):
        """Copy between two tensors, at least one of which is on a device."""
        from_cpu, to_cpu = not hasattr(source, "behind"), not hasattr(target, "behind")
        self.uploads += from_cpu
        self.uploaded += source.nbytes if from_cpu else 0
        self.downloads += to_cpu
        value = source if from_cpu else source.behind
        if to_cpu and non_blocking:
            target.fill_(float("nan") if target.is_floating_point() else 1)
            self._downloads.append((target, value.detach().clone()))
            return
        if from_cpu and non_blocking and is_pinned(source):
            self._sources.append((source, source.detach().clone()))
        elif from_cpu or to_cpu:
            self.wait("copy from the CPU" if from_cpu else "copy to the CPU")
        (target if to_cpu else target.behind).copy_(value)


def running():
    """Return the simulation, or raise what torch raises if this process may not use its devices."""
    if not _active:
        raise RuntimeError("Found no NVIDIA driver on your system: the block of simulated_cuda has ended")
    gpu = _active[-1]
    if not gpu.is_available():
        raise RuntimeError(
            "Cannot re-initialize CUDA in forked subprocess. To use CUDA with multiprocessing, you must use the "
            "'spawn' start method"
        )
    if not gpu.is_initialized:  # torch has no generators of devices before
        gpu.is_initialized, torch.cuda.default_generators = True, gpu.generators
    return gpu


def activate(gpu):
    """Make a simulation the running one."""
    _active.append(gpu)


def deactivate():
    """End the running simulation."""
    _active.clear()


class Memory:
    """Bytes of a device, reserved while the storage lives that holds this object."""

    def __init__(self, gpu, index, n_bytes):
        self.gpu, self.index, self.n_bytes = gpu, index, 0
        needed = -(-n_bytes // BLOCK) * BLOCK
        with lock:
            if gpu.used[index] + needed > gpu.memory:
                raise torch.OutOfMemoryError(
                    f"CUDA out of memory. Tried to allocate {n_bytes} bytes. GPU {index} has a total capacity of "
                    f"{gpu.memory} bytes of which {gpu.memory - gpu.used[index]} are free."
                )
            self.n_bytes = needed
            gpu.used[index] += needed
            gpu.most[index] = max(gpu.most[index], gpu.used[index])

    def __del__(self):
        with lock:
            self.gpu.used[self.index] -= self.n_bytes


class CudaGenerator(torch.Generator):
    """Random numbers of a device. A seed gives other numbers than on the CPU."""

    device = property(lambda self: torch.device("cuda", self.number))

    def __new__(cls, number):
        made = super().__new__(cls)
        made.number, _generators[made._cdata] = number, made
        return made.manual_seed(67280421310721)

    def manual_seed(self, seed):
        self.given = seed
        super().manual_seed((seed + 0x9E3779B9) % 2**63)
        return self

    def initial_seed(self):
        return self.given


def check_generator(generator, index):
    """Raise if a generator belongs to another device."""
    device = None if generator is None else _generators.get(generator._cdata, generator).device
    if device is not None and device != torch.device("cuda", index):
        raise RuntimeError(f"Expected a 'cuda:{index}' device type for generator but found '{device}'")


def is_pinned(tensor, device=None):
    """Return whether a tensor lies in pinned memory."""
    return isinstance(tensor, Tensor) and not hasattr(tensor, "behind") and hasattr(tensor.untyped_storage(), "pinned")
