"""Replacements of functions of torch while devices are simulated."""

from __future__ import annotations

import contextlib
import functools
import sys
import warnings
from types import SimpleNamespace
from unittest import mock

import torch
from torch import Tensor
from torch.overrides import _get_current_function_mode_stack
from torch.utils._device import DeviceContext, _device_constructors

from tests.helpers.simulated_cuda.device import (
    CPU,
    CudaGenerator,
    Simulation,
    activate,
    check_generator,
    deactivate,
    is_pinned,
    running,
)
from tests.helpers.simulated_cuda.gradients import backward
from tests.helpers.simulated_cuda.tensors import CudaTensor, aten, compute, like

_rebuild_plain = torch._utils._rebuild_tensor


@contextlib.contextmanager
def simulated_cuda(n_devices=2, **options):
    """Simulate CUDA devices in a block, in all threads.

    Parameters
    ----------
    n_devices : int, default=2
        Number of devices.
    **options
        `memory`, `capability` and `has_float64` of `Simulation`.

    Yields
    ------
    gpu : Simulation
    """
    if torch.cuda.is_available():
        raise RuntimeError("there is a CUDA device already")
    torch._C._ensureCUDADeviceGuardSet()  # autograd asks it about devices. It remains, and does nothing
    _device_constructors()  # torch keeps this set for `with torch.device(...)`, and must not find the replacements
    gpu, registry, entry = Simulation(n_devices, **options), torch.serialization._package_registry, (5, _tag, _restore)
    with contextlib.ExitStack() as stack:
        for owner, name, value in list(_replacements(gpu)):
            stack.enter_context(mock.patch.object(owner, name, value))
        library = stack.enter_context(torch.library._scoped_library("aten", "IMPL"))
        with warnings.catch_warnings(action="ignore"):
            for op in _factories():
                library.impl(op, _factory(op), "CUDA", allow_override=True)
        registry.insert(0, entry)
        stack.callback(registry.remove, entry)
        activate(gpu)
        try:
            yield gpu
        finally:
            deactivate()


_block = functools.cache(simulated_cuda)  # kept, because a block that is collected ends


def install(n_devices=2):
    """Simulate CUDA devices until the process ends."""
    return _block(n_devices).__enter__()


def _functions_of_cuda(gpu):
    """Return the replacements of functions of `torch.cuda` by name."""
    properties = SimpleNamespace(name="simulated", major=gpu.capability[0], minor=gpu.capability[1])
    properties.total_memory, properties.multi_processor_count, properties.L2_cache_size = gpu.memory, 132, 50 * 2**20
    by_device = {
        "get_device_properties": lambda i: properties,
        "get_device_name": lambda i: properties.name,
        "get_device_capability": lambda i: gpu.capability,
        "current_device": lambda i: i,
        "memory_allocated": lambda i: gpu.used[i],
        "memory_reserved": lambda i: gpu.used[i],
        "max_memory_allocated": lambda i: gpu.most[i],
        "mem_get_info": lambda i: (gpu.memory - gpu.used[i], gpu.memory),
        "reset_peak_memory_stats": lambda i: gpu.most.__setitem__(i, gpu.used[i]),
        "synchronize": lambda i: gpu.wait("synchronize"),
        "current_stream": Stream,
        "default_stream": Stream,
    }
    found = {name: lambda device=None, do=do: do(running().index(device)) for name, do in by_device.items()}
    return found | {
        "_exchange_device": gpu.set_device,
        "_maybe_exchange_device": gpu.set_device,
        "init": running,
        "set_device": lambda device: gpu.set_device(device) and None,
        "_lazy_init": running,
        "default_generators": (),
        "_lazy_call": lambda call, **kwargs: call() if running() else None,
        "Stream": Stream,
        "Event": Stream,
        "_is_in_bad_fork": lambda: not gpu.is_available(),
        "stream": contextlib.nullcontext,
        "empty_cache": lambda: None,
        "is_available": gpu.is_available,
        "is_initialized": lambda: gpu.is_initialized,
        "device_count": lambda: gpu.n_devices,
        "is_bf16_supported": lambda including_emulation=True: including_emulation or gpu.capability[0] >= 8,
        "is_current_stream_capturing": lambda: False,
    }


def _replacements(gpu):
    """Yield (owner, name, replacement)."""
    modules = [module for name, module in list(sys.modules.items()) if name.split(".")[:2] == ["torch", "cuda"]]
    for name, value in _functions_of_cuda(gpu).items():
        original = getattr(torch.cuda, name)
        yield from ((one, name, value) for one in modules if one is torch.cuda or getattr(one, name, None) is original)
    for name in ("is_available", "device_count", "synchronize"):
        yield torch.accelerator, name, lambda *args, name=name, **kwargs: getattr(torch.cuda, name)(*args)
    yield torch.accelerator, "current_device_index", gpu.index
    yield torch.accelerator, "current_accelerator", lambda check_available=False: torch.device("cuda")
    yield Tensor, "data", property(torch._C.TensorBase.data.__get__, _set_data)
    yield Tensor, "pin_memory", _pin_memory
    yield Tensor, "is_pinned", is_pinned
    yield torch.autograd, "_engine_run_backward", backward
    yield torch.autograd.graph, "_engine_run_backward", backward
    yield torch.utils, "swap_tensors", _swap
    yield torch._utils, "_rebuild_tensor", _rebuild
    yield torch, "Generator", AnyGenerator("Generator", (), {})
    yield torch, "tensor", functools.partial(_tensor, torch.tensor)
    for name in ("rand", "randn", "randint", "randperm", "multinomial", "bernoulli", "normal"):
        yield torch, name, functools.partial(_checked, getattr(torch, name))


def _factories():
    """Yield the operations that take no tensor and return one."""
    for full in torch._C._dispatch_get_all_op_names():
        name, _, overload = full.removeprefix("aten::").partition(".")
        if full.startswith("aten::") and not name.startswith(("_", "sparse", "from_file")):
            op = getattr(getattr(aten, name), overload or "default")
            types = [str(argument.type) for argument in op._schema.arguments]
            if "Optional[Device]" in types and not any("Tensor" in one for one in types):
                yield op


def _factory(op):
    """Return the device's kernel of an operation that takes no tensor, such as `torch.zeros`."""
    name = op._schema.name.removeprefix("aten::")

    def make(*args, device=None, pin_memory=None, **kwargs):
        gpu = running()
        index = gpu.index(device)
        gpu.launches += not name.startswith("empty")
        check_generator(kwargs.get("generator"), index)
        return CudaTensor(compute(gpu, op, name, index, list(args), {**kwargs, "device": CPU}), index)

    return make


def _swap(tensor, other):
    """Exchange two tensors for all who hold them."""
    tensor.__class__, other.__class__ = other.__class__, tensor.__class__
    tensor.__dict__, other.__dict__ = other.__dict__, tensor.__dict__
    torch._C._swap_tensor_impl(tensor, other)


def _set_data(tensor, value):
    """Set `tensor.data`."""
    if not isinstance(tensor, CudaTensor) and not isinstance(value, CudaTensor):
        torch._C.TensorBase.data.__set__(tensor, value)
        return
    with torch.no_grad():
        value = like(tensor, value.detach())
        value.grad = None if tensor.grad is None else tensor.grad.to(value.device, value.dtype)
        _swap(tensor, value)


def _pin_memory(tensor, device=None):
    if isinstance(tensor, CudaTensor):
        raise RuntimeError(f"cannot pin '{tensor.type()}' only dense CPU tensors can be pinned")
    copied = tensor if is_pinned(tensor) else tensor.clone()
    copied.untyped_storage().pinned = running()
    return copied


def _tensor(make, data, *, device=None, requires_grad=False, **kwargs):
    """Return `torch.tensor` of data without asking the driver."""
    contexts = [one for one in _get_current_function_mode_stack() if isinstance(one, DeviceContext)]
    device = contexts[-1].device if device is None and contexts else device
    on_gpu = device is not None and torch.device(device).type == "cuda"
    made = make(data, device=CPU if on_gpu else device, **kwargs)
    return (made.to(device) if on_gpu else made).requires_grad_(requires_grad)


def _checked(draw, *args, **kwargs):
    """Call a function of torch, unless a device's generator is given for tensors of the CPU."""
    there = any(isinstance(one, CudaTensor) for one in args) or torch.device(kwargs.get("device") or CPU) != CPU
    if isinstance(kwargs.get("generator"), CudaGenerator) and not there:
        raise RuntimeError("Expected a 'cpu' device type for generator but found 'cuda'")
    return draw(*args, **kwargs)


class AnyGenerator(type):
    """Type of `torch.Generator`, which makes generators of the CPU and of devices."""

    def __instancecheck__(cls, one):
        return isinstance(one, torch._C.Generator)

    def __call__(cls, device="cpu"):
        return torch._C.Generator() if torch.device(device) == CPU else CudaGenerator(running().index(device))


class Stream(mock.MagicMock):
    """Stream or event. There is one order of work, so only waiting has an effect."""

    def synchronize(self):
        running().wait("synchronize")


def _tag(storage):
    """Return the device of a storage, for `torch.save`."""
    memory = getattr(getattr(storage, "_untyped_storage", storage), "of_device", None)
    return None if memory is None else f"cuda:{memory.index}"


def _restore(storage, location):
    """Note the device of a storage that `torch.load` reads."""
    if not location.startswith("cuda"):
        return None
    getattr(storage, "_untyped_storage", storage).restored_to = running().index(location)
    return storage


def _rebuild(storage, *layout):
    index, rebuilt = getattr(storage._untyped_storage, "restored_to", None), _rebuild_plain(storage, *layout)
    return rebuilt if index is None else CudaTensor(rebuilt, index)
