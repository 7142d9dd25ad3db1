"""Workers of joblib, Dask, Ray and Spark, as seen from a task that runs in one of them.

No engine is imported here: a task of an engine runs where the engine is imported already.
"""

from __future__ import annotations

import multiprocessing
import os
import re
import sys
from concurrent.futures import CancelledError
from contextlib import suppress
from typing import Any

__all__ = ["gpu_of_worker", "stop_if_cancelled"]


def gpu_of_worker(n_gpus: int) -> int:
    """Return the index of the GPU that belongs to this worker, 0 outside of a worker.

    Engines that assign GPUs are followed. Otherwise the worker with the number k takes the GPU with index k modulo the
    number of GPUs.

    Parameters
    ----------
    n_gpus : int
        Number of visible GPUs.

    Examples
    --------
    >>> from sktransfer._cluster import gpu_of_worker
    >>> gpu_of_worker(2)
    0
    """
    visible = [one for one in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if one.strip().isdigit()]
    if visible != sorted(visible, key=int):
        return 0  # rotated for this worker, as dask-cuda does
    for number in (_ray_gpu, _spark_gpu, _dask_number, _pool_number):
        found = number(bool(visible))
        if found is not None:
            return found % n_gpus
    return 0


def _ray_gpu(is_restricted: bool) -> int | None:
    ray: Any = sys.modules.get("ray")
    if ray is None or not hasattr(ray, "get_gpu_ids") or not ray.is_initialized():
        return None
    ids = ray.get_gpu_ids()
    return (0 if is_restricted else int(ids[0])) if ids else None  # Ray restricts the visible GPUs unless told not to


def _spark_gpu(is_restricted: bool) -> int | None:
    context: Any = getattr(sys.modules.get("pyspark"), "TaskContext", None)
    task = None if context is None else context.get()
    if task is None:
        return None
    gpus = task.resources().get("gpu")
    return int(task.partitionId()) if gpus is None else int(gpus.addresses[0])


def _dask_number(is_restricted: bool) -> int | None:
    distributed: Any = sys.modules.get("distributed")
    if distributed is None:
        return None
    with suppress(ValueError, AttributeError):  # not in a task
        return _last_number(str(distributed.get_worker().name))
    return None


def _pool_number(is_restricted: bool) -> int | None:
    name = multiprocessing.current_process().name
    return _last_number(name, -1) if re.search(r"(LokyProcess|PoolWorker)-\d+$", name) else None


def _last_number(name: str, offset: int = 0) -> int | None:
    numbers = re.findall(r"\d+", name)
    return int(numbers[-1]) + offset if numbers else None


def stop_if_cancelled() -> None:
    """Raise an error in a task of Dask that was cancelled, as by Ctrl-C in the process that waits for it.

    Dask drops the result of such a task, but cannot stop its thread.

    Raises
    ------
    CancelledError
        If the task was cancelled.
    """
    module: Any = sys.modules.get("distributed.worker")
    key = None if module is None else getattr(module.thread_state, "key", None)
    if key is None:
        return
    with suppress(ValueError, AttributeError):
        task = module.get_worker().state.tasks.get(key)
        if task is None or task.state in ("cancelled", "released", "forgotten"):
            raise CancelledError(f"the task {key} was cancelled")
