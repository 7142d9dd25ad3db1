"""Tensors that report a simulated device and compute on the CPU."""

from __future__ import annotations

import functools

import torch
from torch import Tensor, nn

from tests.helpers.simulated_cuda.device import CPU, Memory, check_generator, lock, running

aten = torch.ops.aten
# Arguments that may be on the CPU while the others are on a device.
ON_CPU = dict.fromkeys(("index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index"), "indices")
ON_CPU["_pack_padded_sequence"] = "lengths"
TAKES_NUMBERS = {"fill_", "fill", "masked_fill", "masked_fill_", "index_put", "index_put_", "_index_put_impl_"}
# Operations that give the CPU a number, or tensors whose size depends on numbers.
WAITS = {"nonzero", "masked_select", "unique_dim", "_unique2", "unique_consecutive", "equal", "is_nonzero", "bincount"}
WAITS |= {"_local_scalar_dense"}
_is_composite = functools.cache(lambda func: func._can_decompose())
_is_view = functools.cache(lambda func: any(r.alias_info and not r.alias_info.is_write for r in func._schema.returns))


class CudaTensor(Tensor):
    """Tensor that reports a device.

    Parameters
    ----------
    behind : Tensor
        CPU tensor with its values.
    index : int
        Index of the device.
    """

    __tensor_flatten__ = __tensor_unflatten__ = None  # if these exist, `Module.to` swaps parameters

    def __new__(cls, behind, index):
        storage, device = behind.untyped_storage(), torch.device("cuda", index)
        if behind.dtype in (torch.float64, torch.complex128) and not running().has_float64:
            raise TypeError("Cannot convert a MPS Tensor to float64 dtype as the MPS framework doesn't support float64")
        if not hasattr(storage, "of_device"):
            storage.of_device = Memory(running(), index, storage.nbytes())
        layout = {"strides": behind.stride(), "storage_offset": behind.storage_offset(), "layout": behind.layout}
        made = Tensor._make_wrapper_subclass(cls, behind.size(), dtype=behind.dtype, device=device, **layout)
        made.behind = behind
        return made

    def __init__(self, *args): ...

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return _run(func, args, kwargs or {})

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        self = args[0] if args else None
        if func in (Tensor.numpy, Tensor.__array__):
            how = "Use Tensor.cpu() to copy the tensor to host memory first."
            raise TypeError(f"can't convert {self.device} device type tensor to numpy. {how}")
        if func in (Tensor.register_hook, Tensor.retain_grad) and not self.is_leaf:
            raise NotImplementedError("the simulated backward has no hooks of tensors that are no leaves")
        if func in (Tensor.data_ptr, Tensor.untyped_storage):
            return func(self.behind)
        if func is Tensor.tolist or (func is Tensor.__format__ and not self.ndim):
            return func(self.cpu(), *args[1:])
        if func is Tensor.__repr__:
            return f"{repr(self.cpu())[:-1]}, device='{self.device}')"
        with torch._C.DisableTorchFunctionSubclass():
            return func(*args, **(kwargs or {}))

    def __deepcopy__(self, memo):
        if not self.is_leaf:
            raise RuntimeError("Only Tensors created explicitly by the user support the deepcopy protocol")
        if id(self) not in memo:
            memo[id(self)] = like(self, self.detach().clone())
            memo[id(self)].grad = None if self.grad is None else self.grad.__deepcopy__(memo)
        return memo[id(self)]

    def __reduce_ex__(self, protocol):
        running().pickled += 1
        running().wait("pickled")
        return like(self, self.behind.detach()).__reduce_ex__(protocol)  # the tag of its storage names the device


def like(tensor, value):
    """Return a value as a parameter if a tensor is one, with the same `requires_grad`."""
    made = nn.Parameter(value, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else value
    return made.requires_grad_(tensor.requires_grad)


def _run(func, args, kwargs):
    """Run an operation on the CPU, after the checks that a device makes."""
    if _is_composite(func):  # in inference mode these are not decomposed yet
        return func.decompose(*args, **kwargs)
    gpu, name = running(), func._schema.name.removeprefix("aten::")
    index = _common_device(func, name, args, kwargs)
    gpu.launches += not _is_view(func)
    if name == "copy_":
        gpu.copy(args[1], args[0], args[2] if len(args) > 2 else kwargs.get("non_blocking", False))
        return args[0]
    if name in ("record_stream", "is_pinned"):
        return None if name == "record_stream" else False
    if _waits(name, args):
        gpu.wait(name)
    given = {}  # tensors that change in place are returned as the objects that were given

    def plain(value):
        if not isinstance(value, CudaTensor):
            return value
        given[id(value.behind)] = value
        return value.behind

    def back(value):
        before = given.get(id(value))
        if before is not None and before.shape != value.shape:
            raise NotImplementedError(f"the simulation cannot change a shape in place, as {name} does")
        return CudaTensor(value, index) if before is None else before

    device, options = kwargs.get("device"), {key: _each(plain, value) for key, value in kwargs.items()}
    non_blocking, is_pinned = options.pop("non_blocking", False), options.pop("pin_memory", False)
    options |= {} if device is None else {"device": CPU}
    found = compute(gpu, func, name, index, [_each(plain, value) for value in args], options)
    if device is not None and device.type != "cuda":
        return _on_cpu(gpu, name, index, found, non_blocking, is_pinned)
    index = index if device is None else gpu.index(device)
    if torch.is_inference_mode_enabled() and _is_view(func) and not args[0].is_inference():
        with torch.inference_mode(False):  # a view of a tensor from outside of the mode is no inference tensor
            return _each(back, found)
    return _each(back, found)


def _on_cpu(gpu, name, index, found, non_blocking, is_pinned):
    """Return a result that was asked for on the CPU."""
    if is_pinned:
        found.untyped_storage().pinned = gpu
    if name == "_to_copy":
        found, value = torch.empty_like(found), found
        gpu.copy(CudaTensor(value, index), found, non_blocking)
    return found


def _waits(name, args):
    """Return whether the CPU waits for the result of an operation."""
    by_mask = name in ON_CPU and any(one is not None and one.dtype == torch.bool for one in args[1])
    return name in WAITS or by_mask


def _each(change, value):
    """Change a tensor, or those of a list. A closure that calls itself would keep tensors alive."""
    if isinstance(value, Tensor):
        return change(value)
    return type(value)(_each(change, one) for one in value) if type(value) in (list, tuple) else value


def _common_device(func, name, args, kwargs):
    """Return the device of all tensors, or raise what torch raises if there are several."""
    takes_numbers = torch.Tag.pointwise in func.tags or name in TAKES_NUMBERS or name.startswith("_foreach_")
    devices, generator = [], None
    for place, argument in enumerate(func._schema.arguments):
        value = args[place] if place < len(args) else kwargs.get(argument.name)
        for one in value if isinstance(value, (list, tuple)) else (value,):
            generator = one if isinstance(one, torch._C.Generator) else generator
            if isinstance(one, CudaTensor):
                devices.append(one.device)
            elif isinstance(one, Tensor):
                may = ON_CPU.get(name) == argument.name and isinstance(args[0], CudaTensor)
                written = argument.alias_info is not None and argument.alias_info.is_write
                if not may and not (takes_numbers and one.ndim == 0 and not written):
                    devices.append(CPU)
    different = list(dict.fromkeys(devices))
    if len(different) > 1 and name != "copy_":
        if name in ON_CPU and different[0] == CPU:
            raise RuntimeError("indices should be either on cpu or on the same device as the indexed tensor (cpu)")
        two = f"found at least two devices, {different[0]} and {different[1]}! (in {name})"
        raise RuntimeError(f"Expected all tensors to be on the same device, but {two}")
    index = next(device.index for device in devices if device != CPU)
    check_generator(generator, index)
    return index


def compute(gpu, func, name, index, args, kwargs):
    """Compute on the CPU, with the random numbers of the device, and operations of devices by those of the CPU."""
    if torch.Tag.nondeterministic_seeded in func.tags:
        generator = gpu.generators[index]
        if any(argument.name == "generator" for argument in func._schema.arguments):
            return func(*args, **{**kwargs, "generator": kwargs.get("generator") or generator})
        if name == "native_dropout":
            kept = torch.empty_like(args[0], dtype=torch.bool).bernoulli_(1 - args[1], generator=generator)
            return args[0] * kept / (1 - args[1]), kept
        with lock:
            state = torch.default_generator.get_state()
            torch.default_generator.set_state(generator.get_state())
            try:
                return func(*args, **kwargs)
            finally:
                generator.set_state(torch.default_generator.get_state())
                torch.default_generator.set_state(state)
    if name in ("_softmax", "_log_softmax") and args[2]:  # of halves, to floats in one operation
        return func(args[0].float(), args[1], False)
    if name in ("_softmax_backward_data", "_log_softmax_backward_data") and args[3] != args[0].dtype:
        return func(*args[:3], args[0].dtype).to(args[3])
    if name == "cudnn_batch_norm":
        return *aten.native_batch_norm(*args), torch.empty(0, dtype=torch.uint8)
    if name == "cudnn_batch_norm_backward":
        values, grad, weight, *saved, epsilon = args[:8]
        return aten.native_batch_norm_backward(grad, values, weight, *saved, True, epsilon, [True] * 3)
    return func(*args, **kwargs)
