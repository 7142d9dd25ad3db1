"""A simulated CUDA device for tests on machines without a GPU.

Inside `with simulated_cuda(n_devices=2) as gpu`, `torch.cuda.is_available()` is true, and tensors can be created on and
moved to "cuda" and "cuda:1". Each wraps a CPU tensor, so values are real numbers. Errors of a GPU are raised:
operations across devices, `numpy` of a device tensor, a generator of another device, use after a fork, out of memory.
Silent errors of a GPU become visible. A copy to the CPU with `non_blocking=True` holds NaN until something waits for
the device. Pinned memory that is changed before its copy is known to be complete is recorded in `gpu.hazards`.

`gpu` counts `launches` (operations except views), `syncs` (by reason), `uploads`, `downloads` and `pickled` tensors,
and `uploaded` bytes. `gpu.used` and `gpu.most` are bytes per device. `install()` simulates devices until a worker
process ends.

Not simulated: several streams, timing, rounding of kernels (TF32, cuDNN, attention), the threads in which gradients are
computed, the early release of saved tensors, CUDA graphs, `torch.compile`, hooks of tensors that are no leaves,
operations that change a shape in place, pinned memory except by `pin_memory`.
"""

import torch

from tests.helpers.simulated_cuda.device import Simulation
from tests.helpers.simulated_cuda.patches import install, simulated_cuda

__all__ = ["CAN_SIMULATE", "Simulation", "install", "simulated_cuda"]

CAN_SIMULATE = hasattr(torch._C, "_ensureCUDADeviceGuardSet")  # older versions of torch have no such function
